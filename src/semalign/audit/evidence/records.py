"""What a trace notes of one forward, as plain records, and which tensors it looks at."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

SMALL = 4096
"""Most entries of a temperature or a gate, per head or per channel."""
HALF_MAX = 65504.0
"""Largest number of float16."""

How: TypeAlias = Literal["attached", "detached", "no-grad", "number", "comparison", "decision"]
"""How a value is used: in autograd's graph, cut off it, where gradients are off, read as a Python number, compared, or
in a Python choice that depends on a comparison."""


@dataclasses.dataclass(frozen=True)
class Use:
    """One operation that takes a watched tensor, or something made from it.

    Attributes:
        names: watched tensors by bit.
        op: the operation.
        path: the module whose forward runs.
        how: see `How`.
        on_data: whether any operand depends on the batch.
    """

    names: int
    op: str
    path: str
    how: How
    on_data: bool


@dataclasses.dataclass(frozen=True)
class Squash:
    """A bound or a bounded curve that a tensor made from parameters alone goes through.

    Attributes:
        names: watched tensors by bit.
        op: the operation.
        value: its input, a copy.
        out: its output, a copy.
        bounds: lowest and highest input that has a gradient, -inf and inf where there is none.
        attached: whether a gradient can come back.
        limits: the other tensors of a bound that consists of tensors.
        beta: what a softplus multiplies its input with.
    """

    names: int
    op: str
    value: Tensor
    out: Tensor
    bounds: tuple[float, float]
    attached: bool
    limits: tuple[Tensor, ...] = ()
    beta: float = 1.0

    @property
    def outside(self) -> Tensor:
        """Which entries have gradient exactly 0."""
        if self.limits:
            return self.out != self.value
        low, high = self.bounds
        if self.op.startswith(("relu", "threshold", "hardtanh", "hardsigmoid")):
            # These have no gradient on their bound either.
            return (self.value <= low) | (self.value >= high)
        return (self.value < low) | (self.value > high)

    @property
    def on_edge(self) -> Tensor:
        """Which entries are on a clamp's bound, but for rounding."""
        on = torch.zeros_like(self.value, dtype=torch.bool)
        for bound in (*self.bounds, *self.limits):
            wide = torch.as_tensor(bound, dtype=self.value.dtype, device=self.value.device)
            if not bool(wide.isinf().all()):
                # An exp on the way there may miss the bound by rounding.
                on |= (self.value - wide).abs() <= 32 * torch.finfo(self.value.dtype).eps * wide.abs()
        return on

    @property
    def slope(self) -> Tensor:
        """The derivative of a curve's output by its input, in float64."""
        x = self.value.double()
        if self.op.startswith("sigmoid"):
            return torch.sigmoid(x) * torch.sigmoid(-x)
        if self.op.startswith("tanh"):
            return torch.cosh(x.clamp(-300, 300)).pow(-2)
        if self.op.startswith("exp"):
            return x.exp()
        return torch.sigmoid(self.beta * x if self.op == "softplus" else -x)

    @property
    def is_flat(self) -> bool:
        """Whether it is a curve whose slope is next to nothing at every entry."""
        limit = FLAT_SLOPE.get(self.op.rstrip("_"))
        return limit is not None and float(self.slope.max()) < limit


FLAT_SLOPE: Mapping[str, float] = {
    "sigmoid": 1e-6,
    "tanh": 1e-6,
    "exp": 1e-12,
    "softplus": 1e-12,
    "log_sigmoid_forward": 1e-6,
}
"""By name of a curve, the slope below which it is flat."""


@dataclasses.dataclass
class Site:
    """One softmax.

    Attributes:
        path: the module whose forward runs.
        tokens: length of the axis.
        entropy: mean over rows of entropy / log(tokens that are not masked); NaN below two tokens.
        empty_rows: rows with every token masked.
        largest: largest finite score that is not masked.
        knobs: watched tensors, by bit, that multiply the scores.
        reach: largest mean |q||k| times all factors of a head; NaN where unknown.
        is_cosine: whether all rows of q and of k have one length, so that ``reach`` bounds the scores.
        is_attention: whether the weights multiply values.
        rows: rows in all.
        lowest: lowest finite score, but for the lowest number of its dtype.
        is_mixture: whether the weights multiply something entry by entry, as those of a router do.
    """

    path: str
    tokens: int
    entropy: float
    empty_rows: int
    largest: float
    knobs: int
    reach: float
    is_cosine: bool
    is_attention: bool
    rows: int
    lowest: float = math.nan
    is_mixture: bool = False


@dataclasses.dataclass(frozen=True)
class Branch:
    """One residual addition x + g·a.

    Attributes:
        path: the module whose forward runs.
        knobs: watched tensors, by bit, that multiply a.
        strength: |g·a| / |x| over all entries.
    """

    path: str
    knobs: int
    strength: float


def words(text: str) -> frozenset[str]:
    """Return the words of a text, such as the names of operations."""
    return frozenset(text.split())


def storage_key(tensor: Tensor) -> int | None:
    """Return what tensors over the same memory have in common; None for tensors without memory of their own."""
    try:
        return None if is_lazy(tensor) else int(tensor.untyped_storage()._cdata)
    except (NotImplementedError, RuntimeError):
        return None


def tensors_in(value: Any) -> Iterator[Tensor]:
    """Yield the tensors in nested lists, tuples and mappings."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from tensors_in(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from tensors_in(item)


def tensors_within(value: Any, _seen: frozenset[int] = frozenset()) -> Iterator[Tensor]:
    """Yield the tensors of a batch or an output: in containers, dataclasses and objects with attributes."""
    if isinstance(value, Tensor):
        yield value
    elif id(value) not in _seen:
        for item in _items(value):
            yield from tensors_within(item, _seen | {id(value)})


def _items(value: Any) -> list[Any]:
    if isinstance(value, Mapping):
        return list(value.values())
    if isinstance(value, (list, tuple, set, frozenset)):
        return list(value)
    if isinstance(value, (nn.Module, type)) or callable(value):
        return []
    # A dataclass with slots has no dictionary.
    names = vars(value) if hasattr(value, "__dict__") else getattr(value, "__dataclass_fields__", ())
    return [getattr(value, name, None) for name in names]


def map_batch(batch: Any, change: Callable[[Any], Any]) -> Any:
    """Return a batch of nested mappings, lists and tuples with everything else in it changed."""
    if isinstance(batch, Mapping):
        return {key: map_batch(value, change) for key, value in batch.items()}
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*(map_batch(value, change) for value in batch))
    if isinstance(batch, (list, tuple)):
        return type(batch)(map_batch(value, change) for value in batch)
    return change(batch)


def is_small(tensor: Tensor) -> bool:
    """Whether a tensor could be a temperature or a gate: one number, or one axis of numbers."""
    return tensor.numel() <= SMALL and sum(side > 1 for side in tensor.shape) <= 1
