"""What this machine can do at most, measured: products per second and bytes per second.

It does not depend on alignments.
"""

from __future__ import annotations

import dataclasses
import platform
import time

import torch

from semalign.bench.timing import take_turns

__all__ = ["Machine", "measure_machine"]

_SIDE = 1536
_BYTES = 256 << 20


@dataclasses.dataclass(frozen=True)
class Machine:
    """Measured peaks.

    Attributes:
        processor: its name as the system gives it.
        threads: threads that torch computes with.
        torch: its version.
        gemm_gflops: float32 operations per second of a square matrix product, in 1e9.
        copy_gb_per_s: bytes read plus bytes written per second by a copy larger than the caches, in 1e9.
    """

    processor: str
    threads: int
    torch: str
    gemm_gflops: float
    copy_gb_per_s: float


def measure_machine(*, rounds: int = 15) -> Machine:
    """Measure the peaks with the threads torch has now; the best round counts, for a peak is what can be reached."""
    a, b, out = (torch.randn(_SIDE, _SIDE) for _ in range(3))
    source = torch.ones(_BYTES // 4)
    target = torch.empty_like(source)
    times = take_turns(
        {"gemm": lambda: torch.mm(a, b, out=out), "copy": lambda: target.copy_(source)},
        rounds=rounds,
        clock=time.thread_time if torch.get_num_threads() == 1 else None,
    )
    return Machine(
        processor=_processor(),
        threads=torch.get_num_threads(),
        torch=torch.__version__,
        gemm_gflops=2 * _SIDE**3 / min(times["gemm"]) / 1e9,
        copy_gb_per_s=2 * _BYTES / min(times["copy"]) / 1e9,
    )


def _processor() -> str:
    """Return the processor's name; Linux hides it in a file."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:  # noqa: PTH123 - no file of ours
            for row in lines:
                if row.startswith("model name"):
                    return row.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
