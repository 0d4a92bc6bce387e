"""Values and places as parts of a sentence."""

from __future__ import annotations

from torch import Tensor

from semalign.audit.evidence.records import Squash
from semalign.audit.evidence.rewriting import Rewriting
from semalign.wording import Message, say

__all__ = ["place", "value_of", "where_outside", "written_over"]


def value_of(tensor: Tensor) -> Message:
    """Return a tensor's value, or how many it has and their range."""
    flat = tensor.detach().flatten()
    if flat.numel() == 0:
        return say("audit.value.none")
    low, high = float(flat.min()), float(flat.max())
    if flat.numel() == 1:
        return say("audit.value.one", value=low)
    return say("audit.value.same" if low == high else "audit.value.range", count=flat.numel(), low=low, high=high)


def place(path: str) -> Message | str:
    """Return a module's path, or words for the model itself."""
    return path or say("audit.value.model")


def where_outside(squash: Squash) -> Message:
    """Return by how much the input of a bound is outside."""
    value = value_of(squash.value)
    if squash.limits:
        return say("audit.ending.replaced", op=squash.op, taken=value_of(squash.out), value=value)
    low, high = squash.bounds
    return say("audit.ending.outside", op=squash.op, value=value, low=low, high=high)


def written_over(item: Rewriting) -> Message:
    """Return what writes over a parameter, with what."""
    how = say("audit.overwritten.by", ops=item.ops) if item.ops else say("audit.overwritten.hook")
    return say("audit.overwritten.replaced", how=how, value=value_of(item.high))
