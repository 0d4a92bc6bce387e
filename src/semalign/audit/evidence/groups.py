"""What the caller's optimizer holds, and what it does not."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from semalign.audit.evidence.watched import Watched


@dataclasses.dataclass(frozen=True)
class Group:
    """A parameter group of an optimizer.

    Attributes:
        index: its place.
        options: torch's mapping, with ``params``.
        members: those of its tensors that are the model's.
    """

    index: int
    options: Mapping[str, Any]
    members: tuple[Watched, ...]

    @property
    def rate(self) -> float:
        """Its learning rate, 1 where it has none."""
        return float(self.options.get("lr", 1.0))

    @property
    def decay(self) -> float:
        """Its weight decay, 0 where it has none."""
        return float(self.options.get("weight_decay") or 0.0)

    @property
    def is_scheduled(self) -> bool:
        """Whether a schedule sets its rate, which may begin at 0."""
        return bool(self.options.get("initial_lr"))


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


def find_left_out(groups: Sequence[Group], live: Sequence[Watched], known: Collection[int]) -> Iterator[LeftOut]:
    """Yield what an optimizer leaves out.

    Args:
        groups: of the optimizer.
        live: the model's tensors with a gradient.
        known: ids of all of the model's tensors.
    """
    held = [parameter for group in groups for parameter in group.options["params"]]
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
