"""What is known of one tensor: where it is, how the forward uses it, and what became of it."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Iterable
from typing import TypeVar

from torch import Tensor, nn

from semalign.audit.evidence.experiment import Experiment
from semalign.audit.evidence.names import is_builtin, is_hint, split_owner
from semalign.audit.evidence.records import Site, Squash, Use, is_small
from semalign.audit.evidence.steps import Life, Steps
from semalign.audit.evidence.trace import Trace

T = TypeVar("T")


@dataclasses.dataclass(frozen=True, eq=False)
class Watched:
    """One tensor that the trace knows.

    Attributes:
        name: dotted path.
        tensor: the tensor.
        start: its value at the start, a copy.
        path: of the lowest module around it that is not a container.
        owner: that module.
        attribute: its name there.
        uses: by the first forward.
        squashes: bounds and curves on its way.
        sites: softmaxes whose scores it multiplies.
        is_gate: whether it multiplies the branch of a residual addition.
        multiplies: whether it multiplies something that is made from the batch.
        learns: whether it is learnable.
        life: what became of it in the steps.
    """

    name: str
    tensor: Tensor
    start: Tensor
    path: str
    owner: nn.Module
    attribute: str
    uses: tuple[Use, ...]
    squashes: tuple[Squash, ...]
    sites: tuple[Site, ...]
    is_gate: bool
    multiplies: bool
    learns: bool
    life: Life

    @property
    def is_dead(self) -> bool:
        """Whether it learns and had no gradient at any step."""
        return self.life.is_dead

    @property
    def is_knob(self) -> bool:
        """Whether it is a temperature, gate or other scalar factor, by role first and by name second."""
        if not is_small(self.tensor) or is_builtin(self.owner):
            return False
        if self.tensor.numel() == 1:
            return True
        if self._is_in_norm or (self.attribute in ("bias", "weight") and not self.sites):
            return False
        return bool(self.sites) or self.is_gate or is_hint(self.attribute)

    @property
    def is_factor(self) -> bool:
        """Whether it is a knob, or any other vector that multiplies what is made from the batch."""
        if self.is_knob:
            return True
        return (
            self.multiplies
            and is_small(self.tensor)
            and not is_builtin(self.owner)
            and not self._is_in_norm
            and self.attribute not in ("bias", "weight")
        )

    @property
    def _is_in_norm(self) -> bool:
        return "norm" in type(self.owner).__name__.lower()

    @property
    def role(self) -> str:
        """What it was seen to be: "temperature", "gate" or "factor"."""
        if any(site.is_attention for site in self.sites):
            return "temperature"
        return "gate" if self.is_gate else "factor"

    @property
    def is_zero(self) -> bool:
        """Whether every entry is 0 at the start."""
        return not bool(self.start.count_nonzero())


def watched_tensors(x: Experiment, steps: Steps) -> dict[str, Watched]:
    """Return all watched tensors by name, in the model's order."""
    trace, flow = steps.trace, steps.trace.flow
    uses = _by_name(trace, ((use.names, use) for use in trace.uses))
    squashes = _by_name(trace, ((squash.names, squash) for squash in trace.squashes))
    sites = _by_name(trace, ((site.knobs, site) for site in flow.sites))
    gates = _by_name(trace, ((branch.knobs, branch) for branch in flow.branches))
    factors = set(trace.names_of(flow.multiplies))
    found = {}
    for name, tensor in x.watched.items():
        found[name] = Watched(
            *(name, tensor, x.initial[name], *_owner(x, name)),
            *(tuple(uses[name]), tuple(squashes[name]), tuple(sites[name])),
            is_gate=bool(gates[name]),
            multiplies=name in factors,
            learns=name in steps.lives,
            life=steps.lives.get(name, Life()),
        )
    return found


def _by_name(trace: Trace, records: Iterable[tuple[int, T]]) -> dict[str, list[T]]:
    """Return by name of a watched tensor the records that its bit is in."""
    found: dict[str, list[T]] = defaultdict(list)
    for bits, record in records:
        for name in trace.names_of(bits):
            found[name].append(record)
    return found


def _owner(x: Experiment, name: str) -> tuple[str, nn.Module, str]:
    """Return path and module of a tensor's owner, in the model or in the loss, and its name there."""
    loss = x.subject.loss
    if name.startswith("loss.") and isinstance(loss, nn.Module) and "loss" not in x.model._modules:
        path, owner, attribute = split_owner(loss, name.removeprefix("loss."))
        return f"loss.{path}".rstrip("."), owner, attribute
    return split_owner(x.model, name)
