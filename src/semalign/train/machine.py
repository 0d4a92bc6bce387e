"""What the bits of a training depend on beside its options, its data and its seed.

Sums of floating-point numbers depend on their order.  The order depends on the number of threads, on the kind of
processor or GPU, and on the versions of the libraries that compute.  With all of these equal, two trainings of the same
options, data and seed are equal to the bit; otherwise they differ by rounding, which grows from step to step.
"""

from __future__ import annotations

import importlib.metadata
import platform
from typing import Any

import numpy as np
import torch

import semalign

__all__ = ["computed_with", "versions"]


def versions() -> dict[str, str]:
    """Return the versions of the libraries that compute."""
    return {
        "semalign": semalign.__version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "lightning-fabric": importlib.metadata.version("lightning-fabric"),
    }


def computed_with(device: torch.device) -> dict[str, Any]:
    """Return what the bits of a computation on ``device`` depend on: threads, device, processor, machine, versions."""
    processor = device.type
    if device.type == "cpu":
        processor = torch.backends.cpu.get_cpu_capability()
    elif device.type == "cuda":
        processor = torch.cuda.get_device_name(device)
    return {
        "threads": torch.get_num_threads(),
        "device": device.type,
        "processor": processor,
        "machine": platform.machine(),
        **versions(),
    }
