"""Mutates inputs and gives them to a target: what it takes, what it refuses, and where it has faults.

With atheris (libFuzzer) new inputs grow out of those that reached new code; without it all grow out of the seeds.
"""

from __future__ import annotations

import dataclasses
import random
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from tests.fuzz.targets import TARGETS, WORDS, is_accepted, seeds_of

__all__ = ["Count", "Fault", "Fuzzer", "mutate", "plain_loop"]


@dataclasses.dataclass(frozen=True)
class Fault:
    """An input on which a target raised what is not ours, or took too long.

    Attributes:
        data: the input.
        where: last lines of the traceback.
    """

    data: bytes
    where: str


@dataclasses.dataclass
class Count:
    """What became of the inputs of a target."""

    inputs: int = 0
    accepted: int = 0
    rejected: int = 0
    slowest: float = 0.0
    faults: dict[str, Fault] = dataclasses.field(default_factory=dict)


class Fuzzer:
    """Gives inputs to a target and counts; equal faults are kept once, with the shortest input.

    Args:
        name: of the target.
        folder: to write files in.
        patience: seconds after which an input is a fault.
    """

    def __init__(self, name: str, folder: Path, *, patience: float = 20.0) -> None:
        self.target, self.folder, self.patience = TARGETS[name], folder, patience
        self.count = Count()

    def __call__(self, data: bytes) -> None:
        """Try one input."""
        began = time.process_time()
        self.count.inputs += 1
        try:
            accepted = is_accepted(self.target, data, self.folder)
        except Exception as error:
            self._keep(data, _place(error), "".join(traceback.format_exception(error)[-3:]))
        else:
            self.count.accepted += accepted
            self.count.rejected += not accepted
        seconds = time.process_time() - began
        self.count.slowest = max(self.count.slowest, seconds)
        if seconds > self.patience:
            self._keep(data, "slow", f"took {seconds:.1f} s")

    def _keep(self, data: bytes, key: str, where: str) -> None:
        known = self.count.faults.get(key)
        if known is None or len(data) < len(known.data):
            self.count.faults[key] = Fault(data, where)


def _place(error: Exception) -> str:
    """Return the kind of an error and the last line of ours that it came through."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "semalign" in frame.filename]
    last = frames[-1] if frames else traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} at {Path(last.filename).name}:{last.lineno}"


def mutate(data: bytes, rng: random.Random, words: tuple[bytes, ...], others: list[bytes]) -> bytes:
    """Return ``data`` with one to four changes: bytes, pieces, words, another input's tail."""
    found = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(found) + 1)
        match rng.randrange(7):
            case 0 if at < len(found):
                found[at] ^= 1 << rng.randrange(8)
            case 1 if at < len(found):
                found[at] = rng.choice(b"\x00\xff\x7f \n\"'{}[]:,-09.eE")
            case 2:
                del found[at : at + rng.choice((1, 2, 7, 40))]
            case 3:
                found[at:at] = rng.choice(words)
            case 4:
                piece = found[at : at + rng.randint(1, 30)]
                found[at:at] = piece * rng.choice((1, 2, 50))
            case 5:
                other = rng.choice(others)
                found[at:] = other[rng.randrange(len(other) + 1) :]
            case _:
                found[at:at] = bytes(rng.randrange(256) for _ in range(rng.randint(1, 4)))
    return bytes(found[:20000])


def plain_loop(name: str, inputs: int, seed: int, *, told: Callable[[Count], None] = lambda count: None) -> Count:
    """Give a target that many inputs, each a mutation of a seed or of one that was accepted."""
    rng = random.Random(f"{name} {seed}")
    seeds = seeds_of(name)
    pool = list(seeds)
    with tempfile.TemporaryDirectory() as folder:
        fuzzer = Fuzzer(name, Path(folder))
        for data in seeds:
            fuzzer(data)
        if fuzzer.count.accepted != len(seeds):
            raise AssertionError(f"a seed of {name} is refused")
        while fuzzer.count.inputs < inputs:
            before = fuzzer.count.accepted
            data = mutate(rng.choice(pool), rng, WORDS[name], seeds)
            fuzzer(data)
            if fuzzer.count.accepted > before and len(pool) < 500:
                pool.append(data)
            if fuzzer.count.inputs % 1000 == 0:
                told(fuzzer.count)
    return fuzzer.count
