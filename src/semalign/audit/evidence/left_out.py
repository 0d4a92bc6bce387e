"""What the caller's optimizer does not hold."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Sequence

import torch

from semalign.audit.evidence.watched import Watched

__all__ = ["LeftOut", "find_left_out"]


@dataclasses.dataclass(frozen=True)
class LeftOut:
    """Tensors with a gradient that the optimizer does not hold.

    Attributes:
        path: the highest module all of whose tensors with a gradient are left out, "" where there is none.
        members: the tensors.
        numbers: their entries.
        total: entries of all tensors with a gradient.
        strangers: how many tensors of the optimizer are not the model's.
    """

    path: str
    members: tuple[Watched, ...]
    numbers: int
    total: int
    strangers: int

    @property
    def is_on_purpose(self) -> bool:
        """Whether it is so large a part that it is probably not to be trained."""
        is_large = self.numbers >= 0.5 * self.total
        return bool(self.path) and not self.strangers and is_large and len(self.members) > 1


def find_left_out(
    optimizer: torch.optim.Optimizer, live: Sequence[Watched], known: Collection[int]
) -> Iterator[LeftOut]:
    """Yield what an optimizer leaves out.

    Args:
        optimizer: the caller's.
        live: the model's tensors with a gradient.
        known: ids of all of the model's tensors.
    """
    held = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    ids = {id(parameter) for parameter in held}
    strangers = sum(id(parameter) not in known and parameter.numel() > 0 for parameter in held)
    missing = [tensor for tensor in live if id(tensor.tensor) not in ids]
    inside = [tensor.name for tensor in live if id(tensor.tensor) in ids]
    parts: dict[str, list[Watched]] = {}
    for tensor in missing:
        parts.setdefault(_highest_left_out(tensor.name, inside), []).append(tensor)
    total = sum(tensor.tensor.numel() for tensor in live)
    for path, members in parts.items():
        yield LeftOut(path, tuple(members), sum(t.tensor.numel() for t in members), total, strangers)


def _highest_left_out(name: str, inside: list[str]) -> str:
    """Return the highest module around ``name`` that none of ``inside`` is in, "" where there is none."""
    best, path = "", name.rpartition(".")[0]
    while path:
        if not any(other.startswith(path + ".") for other in inside):
            best = path
        path = path.rpartition(".")[0]
    return best
