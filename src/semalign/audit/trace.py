"""What one forward does, operation by operation: who is read, written, cut off, and what multiplies attention scores.

A `Trace` listens below autograd, so that it sees every operation of any model, functional calls and fused kernels
included, under no_grad too.  It knows tensors by their storage, which views share.  It knows nothing of optimizers and
judges nothing.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.utils._python_dispatch import TorchDispatchMode

__all__ = [
    "Branch",
    "Site",
    "Squash",
    "Trace",
    "Use",
    "Write",
    "batch_tensors",
    "is_small",
    "storage_key",
    "tensors_in",
]

SMALL = 4096
"""Most entries of a temperature or a gate, per head or per channel."""
MASKED = -1e4
"""Attention scores from here down are masked; nothing else is as low."""
HALF_MAX = 65504.0

_ROWS = 512


def _words(text: str) -> list[str]:
    return text.split()


# Operations by what becomes of a factor that was multiplied into their input.
_KEEPS_FACTOR = frozenset(
    _words(
        "_to_copy _unsafe_view add add_ cat clamp clamp_ clamp_max clamp_min clone constant_pad_nd copy_ div div_ "
        "gather index index_put index_put_ masked_fill masked_fill_ maximum minimum mul mul_ native_dropout neg repeat "
        "roll rsub slice_scatter stack sub sub_ where"
    )
)
_PRODUCTS = frozenset(("bmm", "mm", "baddbmm", "addmm", "dot", "mv", "addmv"))
_KEEPS_ATTENTION = frozenset(
    _words("_to_copy _unsafe_view add clone div div_ masked_fill mul mul_ native_dropout where")
)
_BOUNDS = frozenset(
    _words(
        "clamp clamp_ clamp_max clamp_max_ clamp_min clamp_min_ hardsigmoid hardtanh relu relu6 relu_ threshold "
        "fmax fmin maximum minimum"
    )
)
_CHOICES = frozenset(("minimum", "maximum", "fmin", "fmax"))
_CURVES = frozenset(("sigmoid", "tanh", "exp", "softplus", "sigmoid_", "tanh_", "exp_", "log_sigmoid_forward"))
_INPUTS = frozenset(_words("bernoulli lift_fresh multinomial normal rand randint randn randperm"))
_COMPARISONS = frozenset(_words("argmax argmin bucketize eq ge gt isclose le lt ne searchsorted sort topk"))


@dataclasses.dataclass(frozen=True)
class Use:
    """One operation that takes a watched tensor, or something made from it.

    Attributes:
        names: watched tensors by bit.
        op: the operation.
        path: the module whose forward runs.
        how: "attached", "detached", "no-grad", "number" (read as one), "comparison" or "decision" (a Python choice that
            hangs on one).
        direct: whether the operation takes the watched tensor itself.
        on_data: whether any operand depends on the batch.
    """

    names: int
    op: str
    path: str
    how: str
    direct: bool
    on_data: bool


@dataclasses.dataclass(frozen=True)
class Squash:
    """A bound or a bounded curve on the way of a tensor made from parameters alone.

    Attributes:
        names: watched tensors by bit.
        op: the operation.
        path: the module whose forward runs.
        value: its input, a copy.
        out: its output, a copy.
        bounds: lowest and highest input that has a gradient, -inf and inf where there is none.
        attached: whether a gradient can come back.
        limits: the other tensors of a bound that consists of tensors.
        beta: what a softplus multiplies its input with.
    """

    names: int
    op: str
    path: str
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
        """Which entries stand on a clamp's bound, but for rounding."""
        on = torch.zeros_like(self.value, dtype=torch.bool)
        for bound in (*self.bounds, *self.limits):
            wide = torch.as_tensor(bound, dtype=self.value.dtype, device=self.value.device)
            if not bool(wide.isinf().all()):
                # An exp on the way there may miss the bound by rounding.
                on |= (self.value - wide).abs() <= 32 * torch.finfo(self.value.dtype).eps * wide.abs()
        return on

    @property
    def slope(self) -> Tensor:
        """D out / d value of a curve."""
        x = self.value.double()
        if self.op.startswith("sigmoid"):
            return torch.sigmoid(x) * torch.sigmoid(-x)
        if self.op.startswith("tanh"):
            return torch.cosh(x.clamp(-300, 300)).pow(-2)
        if self.op.startswith("exp"):
            return x.exp()
        return torch.sigmoid(self.beta * x if self.op == "softplus" else -x)


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


@dataclasses.dataclass(frozen=True)
class Write:
    """An operation that changes a watched tensor in place."""

    names: int
    op: str
    path: str


@dataclasses.dataclass(frozen=True)
class _Scores:
    """A product of queries and keys on its way to a softmax."""

    reach: float
    is_cosine: bool


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


def batch_tensors(value: Any, _depth: int = 0) -> Iterator[Tensor]:
    """Yield the tensors of a batch: in containers, dataclasses and objects with attributes."""
    if isinstance(value, Tensor):
        yield value
    elif _depth > 6 or isinstance(value, (nn.Module, type, str, bytes)):
        return
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from batch_tensors(item, _depth + 1)
    elif isinstance(value, (list, tuple, set, frozenset)):
        for item in value:
            yield from batch_tensors(item, _depth + 1)
    elif hasattr(value, "__dict__"):
        for item in vars(value).values():
            yield from batch_tensors(item, _depth + 1)
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            yield from batch_tensors(getattr(value, field.name, None), _depth + 1)


def is_small(tensor: Tensor) -> bool:
    """Whether a tensor could be a temperature or a gate: one number, or one axis of numbers."""
    return tensor.numel() <= SMALL and sum(side > 1 for side in tensor.shape) <= 1


class Trace(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Listens to one forward.

    Args:
        watched: tensors by name; the bit of a name is its place in ``names``.
        batch: what the model is called with.
        elsewhere: storages that the forward should not touch.

    Attributes:
        reached: those of ``elsewhere`` that it touched.
        multiplies: watched tensors, by bit, that multiply something made from the batch.
        nulled: watched tensors, by bit, that are multiplied with a single 0 which the batch or chance made.
        names: the watched names.
        uses: every different use of a watched tensor or of what is made from it.
        writes: in-place changes of watched tensors.
        squashes: bounds and curves on tensors made from parameters alone.
        sites: softmaxes in order.
        branches: residual additions of something that a watched tensor multiplies.
        masked_products: watched tensors, by bit, that multiply scores which are masked already, with the paths.
        overflow: (path, number) of numbers beyond float16 on the way into a softmax or out of an exp.
        foreign: storages of leaves that are read, learn, and are not watched, with the path where they are read.
        ran: paths of the modules whose forward ran, with whether gradients were on when it began.
        passed: by path of a module, the watched tensors, by bit, that what its forward returns is made from.
    """

    def __init__(self, watched: Mapping[str, Tensor], batch: Any, elsewhere: frozenset[int] = frozenset()) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._elsewhere = elsewhere
        self.reached: set[int] = set()
        self.names = list(watched)
        self.uses: set[Use] = set()
        self.writes: set[Write] = set()
        self.squashes: list[Squash] = []
        self.sites: list[Site] = []
        self.branches: list[Branch] = []
        self.masked_products: list[tuple[int, str, float]] = []
        self.overflow: list[tuple[str, float]] = []
        self.foreign: dict[int, tuple[str, Tensor]] = {}
        self.ran: dict[str, bool] = {}
        self.passed: dict[str, int] = {}
        self.multiplies: int = 0
        self.nulled: int = 0
        self._path: list[str] = [""]
        self._objects = {id(tensor) for tensor in watched.values()}
        self._keep: list[Any] = []
        self._bits: dict[int, int] = {}
        self._direct: dict[int, int] = {}
        self._data: set[int] = set()
        self._drawn: set[int] = set()
        self._factors: dict[int, int] = {}
        self._gates: dict[int, int] = {}
        self._choices: dict[int, int] = {}
        self._scores: dict[int, _Scores] = {}
        self._weights: dict[int, Site] = {}
        self._emptied = 0
        self._pairs: dict[int, tuple[Tensor, Tensor]] = {}
        for index, tensor in enumerate(watched.values()):
            key = self._key(tensor)
            if key is not None:
                self._bits[key] = self._bits.get(key, 0) | 1 << index
                self._direct[key] = self._bits[key]
        self._batch_keys = {key for tensor in batch_tensors(batch) if (key := self._key(tensor)) is not None}
        # A generator makes its own input, by chance or from what is no tensor.
        self._makes_input = not self._batch_keys
        self._data |= self._batch_keys - self._direct.keys()

    def bit(self, name: str) -> int:
        """Return the bit of a watched name."""
        return 1 << self.names.index(name)

    def names_of(self, bits: int) -> list[str]:
        """Return the watched names of ``bits``."""
        return [name for index, name in enumerate(self.names) if bits >> index & 1]

    @contextmanager
    def following(self, modules: Mapping[str, nn.Module]) -> Iterator[None]:
        """Know, within this context, which of ``modules`` runs."""
        handles = []
        for path, module in modules.items():
            if isinstance(module, torch.jit.ScriptModule):
                continue  # It takes no hooks of this kind.
            handles.append(module.register_forward_pre_hook(self._entering(path), prepend=True))
            handles.append(module.register_forward_hook(self._leaving(path), always_call=True))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _entering(self, path: str) -> Any:
        def enter(_module: nn.Module, _args: object) -> None:
            self._path.append(path)
            self.ran[path] = self.ran.get(path, False) or torch.is_grad_enabled()

        return enter

    def _leaving(self, path: str) -> Any:
        def leave(_module: nn.Module, _args: object, out: object) -> None:
            if len(self._path) > 1:
                self._path.pop()
            for tensor in batch_tensors(out):
                self.passed[path] = self.passed.get(path, 0) | self._bits.get(self._key(tensor) or 0, 0)

        return leave

    def _key(self, tensor: Tensor) -> int | None:
        try:
            storage = tensor.untyped_storage()
            key = int(storage._cdata)
        except (NotImplementedError, RuntimeError):
            return None
        # An address is used again when its storage is gone.
        self._keep.append(storage)
        return key

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func._schema.name.partition("::")[2]
        before = None
        if name in ("clamp_", "clamp_min_", "clamp_max_", "sigmoid_", "tanh_", "exp_", "relu_") and is_small(args[0]):
            before = args[0].detach().clone()
        out = func(*args, **kwargs)
        self._note(func, name, args, kwargs, out, before)
        return out

    def _note(self, func: Any, op: str, args: Any, kwargs: Any, out: Any, before: Tensor | None) -> None:
        ins = [*tensors_in(args), *tensors_in(kwargs)]
        outs = list(tensors_in(out))
        if self._makes_input and op in _INPUTS:
            self._data |= {
                key for t in outs if t.numel() > 1 and (key := self._key(t)) is not None and key not in self._direct
            }
        keys = [self._key(tensor) for tensor in ins]
        if torch.Tag.nondeterministic_seeded in func.tags or any(key in self._drawn for key in keys):
            self._drawn |= {key for t in outs if (key := self._key(t)) is not None and key not in self._direct}
        if not ins:
            return
        path, grad = self._path[-1], torch.is_grad_enabled()
        bits, decided = 0, 0
        is_data = any(key in self._data for key in keys if key is not None)
        for tensor, key in zip(ins, keys, strict=True):
            if key is None:
                continue
            if key in self._elsewhere:
                self.reached.add(key)
            own, on_data = self._bits.get(key, 0), key in self._data
            bits |= own
            decided |= self._choices.get(key, 0)
            if own:
                flat = op in _COMPARISONS or (
                    bool(outs) and not any(t.dtype.is_floating_point or t.is_complex() for t in outs)
                )
                is_new_leaf = tensor.requires_grad and tensor.is_leaf and id(tensor) not in self._objects
                attached = tensor.requires_grad and not (is_new_leaf and key not in self._batch_keys)
                self._used(tensor, own, op, path, grad, key in self._direct, is_data, flat, attached)
            elif (
                tensor.requires_grad
                and tensor.is_leaf
                and tensor.numel()
                and grad
                and not on_data
                and key not in self._batch_keys
            ):
                self.foreign.setdefault(key, (path, tensor))
        for argument, value in zip(func._schema.arguments, args, strict=False):
            if argument.alias_info is not None and argument.alias_info.is_write and isinstance(value, Tensor):
                key = self._key(value)
                if key in self._direct and op not in ("requires_grad_",):
                    self.writes.add(Write(self._direct[key], op, path))
        if op in ("mul", "mul_") and len(ins) == 2:
            self._nulls(op, ins, keys)
        if op == "_local_scalar_dense" and decided:
            self.uses.add(Use(decided, op, path, "decision", False, is_data))
        out_keys = [key for tensor in outs if (key := self._key(tensor)) is not None]
        for tensor, key in zip((t for t in outs if self._key(t) is not None), out_keys, strict=True):
            if (bits or decided) and not (tensor.dtype.is_floating_point or tensor.is_complex()):
                # What comes after a comparison is no longer made from the tensor; what is chosen by it may be.
                self._choices[key] = self._choices.get(key, 0) | bits | decided
            elif bits:
                self._bits[key] = self._bits.get(key, 0) | bits
            if is_data:
                self._data.add(key)
        if not outs or not out_keys:
            return
        if bits and not is_data and is_small(ins[0]) and op in (_BOUNDS | _CURVES):
            value = next(t for t, key in zip(ins, keys, strict=True) if self._bits.get(key or 0))
            self._squashed(op, args, kwargs, value if before is None else before, outs[0], bits, path, grad)
        if is_data:
            self._flow(op, args, kwargs, ins, keys, outs, out_keys, path)

    def _used(
        self,
        tensor: Tensor,
        own: int,
        op: str,
        path: str,
        grad: bool,
        direct: bool,
        on_data: bool,
        flat: bool,
        attached: bool,
    ) -> None:
        if op == "detach":
            return  # Autograd detaches what it saves; whether a value is cut shows where it is used.
        if op == "_local_scalar_dense":
            how = "number"
        elif not tensor.dtype.is_floating_point:
            return
        elif flat:
            how = "comparison"
        elif not grad:
            how = "no-grad"
        else:
            # A parameter made from another one, as nn.Parameter(x.clamp(...)), begins a graph of its own.
            how = "attached" if attached else "detached"
        self.uses.add(Use(own, op, path, how, direct, on_data))

    def _nulls(self, op: str, ins: list[Tensor], keys: list[int | None]) -> None:
        # In place, the first operand is the product by now.
        for place in (0, 1) if op == "mul" else (1,):
            key, other = keys[place], keys[1 - place]
            by_batch = key in self._data or key in self._drawn
            if by_batch and other is not None and ins[place].numel() == 1 and not bool(torch.count_nonzero(ins[place])):
                self.nulled |= self._bits.get(other, 0)

    # ---- tensors made from parameters alone ----

    def _squashed(
        self, op: str, args: Any, kwargs: Any, value: Tensor, out: Tensor, bits: int, path: str, grad: bool
    ) -> None:
        low, high = -math.inf, math.inf
        # Bounds come as numbers, as tensors of one number, or as tensors with a bound for each entry.
        sides = [*args[1:3], None, None][:2]
        sides = [kwargs.get("min", sides[0]), kwargs.get("max", sides[1])]
        limits: tuple[Tensor, ...] = ()
        if op in _CHOICES:
            limits = tuple(t for t in tensors_in(args) if t is not value)
        elif op.startswith("clamp"):
            limits = tuple(t for t in sides if isinstance(t, Tensor) and t.numel() > 1)
        first, second = (
            float(t) if isinstance(t, (int, float)) or (isinstance(t, Tensor) and t.numel() == 1) else None
            for t in sides
        )
        if op in ("clamp", "clamp_", "hardtanh"):
            low, high = (-math.inf if first is None else first), (math.inf if second is None else second)
            if op == "hardtanh" and len(args) == 1:
                low, high = -1.0, 1.0
        elif op.startswith("clamp_min"):
            low = -math.inf if first is None else first
        elif op.startswith("clamp_max"):
            # Its only argument may stand where clamp has its lower bound, or be called max.
            bound = second if first is None else first
            high = math.inf if bound is None else bound
        elif op.startswith("relu"):
            low = 0.0
            high = 6.0 if op == "relu6" else math.inf
        elif op == "threshold":
            low = float(args[1])
        elif op == "hardsigmoid":
            low, high = -3.0, 3.0
        attached = grad and any(t.requires_grad for t in tensors_in(args))
        # A clamp compares in the dtype of its input.
        low, high = torch.tensor([low, high], dtype=value.dtype).tolist()
        value = value.detach().clone()
        if limits:
            limits = tuple(t.detach().clone() for t in limits)
            value = value.expand(out.shape)
        beta = float(kwargs.get("beta", args[1] if len(args) > 1 else 1.0)) if op == "softplus" else 1.0
        self.squashes.append(Squash(bits, op, path, value, out.detach().clone(), (low, high), attached, limits, beta))
        if op.startswith("exp"):
            self._check_size(path, out)

    def _check_size(self, path: str, tensor: Tensor) -> None:
        if tensor.dtype == torch.float16 and bool((tensor == math.inf).any()):
            self.overflow.append((path, math.inf))
            return
        finite = tensor[tensor.isfinite()] if tensor.numel() <= SMALL else tensor
        if finite.numel():
            largest = float(finite.abs().amax())
            if HALF_MAX < largest < math.inf:
                self.overflow.append((path, largest))

    # ---- tensors made from the batch ----

    def _flow(
        self,
        op: str,
        args: Any,
        kwargs: Any,
        ins: list[Tensor],
        keys: list[int | None],
        outs: list[Tensor],
        out_keys: list[int],
        path: str,
    ) -> None:
        """Carry factors, scores and attention weights along."""
        data = [key in self._data for key in keys]
        factors = 0
        if op in ("mul", "mul_", "div", "div_", "addcmul", "lerp"):
            factors = self._multiplied(op, ins, keys, data, out_keys[0], path)
        if op in ("add", "add_", "sub", "sub_") and len(ins) >= 2:
            self._added(ins, keys, data, path)
        is_product = op in _PRODUCTS and sum(data) >= 2
        # (q * k).sum(-1) is a product of queries and keys as well.
        is_summed = op == "sum" and keys[0] in self._pairs
        gates = factors
        if op in _KEEPS_FACTOR or is_product or is_summed:
            # A sum of two streams starts afresh as a branch; scores keep their factors when a mask is added.
            is_sum = op in ("add", "add_", "sub", "sub_") and sum(data) >= 2
            for key in keys:
                if key is not None:
                    factors |= self._factors.get(key, 0)
                    gates |= 0 if is_sum else self._gates.get(key, 0)
        for key in out_keys:
            if factors:
                self._factors[key] = self._factors.get(key, 0) | factors
            if gates or key in self._gates:
                self._gates[key] = gates
        if "scaled_dot_product" in op or op.startswith(("_flash_attention", "_efficient_attention")):
            self._fused(args, kwargs, ins, keys, path)
        elif op in ("_softmax", "_log_softmax", "_safe_softmax"):
            site = self._softmaxed(op, args, ins[0], keys[0], outs[0], path)
            self._weights[out_keys[0]] = site
        elif is_product:
            self._product(ins, keys, outs[0], out_keys[0], path)
        elif is_summed:
            self._summed(args, kwargs, keys[0], outs[0], out_keys[0], path)
        elif op == "exp" and keys[0] in self._scores and ins[0].ndim >= 2:
            # exp(s - max) / sum is a softmax by hand.
            site = self._softmaxed("_softmax", (ins[0], -1), ins[0], keys[0], outs[0], path)
            site.empty_rows = max(site.empty_rows, self._emptied)
            self._weights[out_keys[0]] = site
        elif op in ("amax", "max") and keys[0] in self._scores and outs[0].is_floating_point():
            self._emptied = int((outs[0] == -math.inf).sum())
        else:
            self._carried(op, args, ins, keys, out_keys)

    def _multiplied(
        self, op: str, ins: list[Tensor], keys: list[int | None], data: list[bool], out_key: int, path: str
    ) -> int:
        """Return the watched tensors that this product brings in as a factor."""
        factors = 0
        if op == "mul" and len(ins) == 2 and all(data) and all(t.is_floating_point() and t.ndim >= 3 for t in ins):
            self._pairs[out_key] = (ins[0].detach(), ins[1].detach())
        for key in keys:
            if key in self._weights and len({k for k in keys if k is not None}) > 1:
                self._weights[key].is_mixture = True
        for tensor, key, on_data in zip(ins, keys, data, strict=True):
            if key is None or on_data or not is_small(tensor):
                continue
            own = self._bits.get(key, 0)
            factors |= own
            if own and tensor.requires_grad and op.startswith(("mul", "div")):
                other = next((t for t, d in zip(ins, data, strict=True) if d), None)
                if other is not None and other.dtype.is_floating_point and other.ndim >= 2:
                    low = float(other.amin())
                    if low <= MASKED:
                        self.masked_products.append((own, path, low))
        self.multiplies |= factors
        return factors

    def _added(self, ins: list[Tensor], keys: list[int | None], data: list[bool], path: str) -> None:
        """Note x + g·a: two tensors of one shape that depend on the batch, of which a factor multiplies one."""
        a, b = ins[0], ins[1]
        if not (data[0] and data[1]) or a.shape != b.shape or a.numel() <= 1 or not a.dtype.is_floating_point:
            return
        own = [self._gates.get(key, 0) if key is not None else 0 for key in keys[:2]]
        for branch, stream, gates in ((b, a, own[1] & ~own[0]), (a, b, own[0] & ~own[1])):
            if gates:
                below = float(stream.detach().float().norm())
                strength = float(branch.detach().float().norm()) / below if below > 0 else math.nan
                self.branches.append(Branch(path, gates, strength))

    def _product(self, ins: list[Tensor], keys: list[int | None], out: Tensor, out_key: int, path: str) -> None:
        """Note a product of two tensors that depend on the batch: attention over values, or scores of q and k."""
        pair = [(t, k) for t, k in zip(ins, keys, strict=True) if k is not None][-2:]
        for _, key in pair:
            site = self._weights.get(key)
            if site is not None:
                site.is_attention = True
                return
        q, k = pair[0][0], pair[1][0]
        if q.ndim < 2 or k.ndim < 2 or not q.dtype.is_floating_point:
            return
        self._scores[out_key] = _measure(q, k.transpose(-1, -2), 1.0)
        self._check_size(path, out.detach())

    def _summed(self, args: Any, kwargs: Any, key: int | None, out: Tensor, out_key: int, path: str) -> None:
        """Note scores of q and k that are multiplied entry by entry and summed over one axis."""
        assert key is not None
        q, k = self._pairs[key]
        axes = kwargs.get("dim", args[1] if len(args) > 1 else None)
        axes = [axes] if isinstance(axes, int) else axes
        if not axes or len(axes) != 1 or q.ndim != k.ndim:
            return
        lengths = [t.float().norm(dim=axes[0]).flatten() for t in (q, k)]
        reach = float(lengths[0].mean() * lengths[1].mean())
        self._scores[out_key] = _Scores(reach, all(_one_length(length) for length in lengths))
        self._check_size(path, out.detach())

    def _carried(self, op: str, args: Any, ins: list[Tensor], keys: list[int | None], out_keys: list[int]) -> None:
        for key in keys:
            if key is None:
                continue
            if key in self._weights and op in _KEEPS_ATTENTION:
                self._weights[out_keys[0]] = self._weights[key]
            if key in self._scores and op in _KEEPS_FACTOR:
                scores = self._scores[key]
                factor = 1.0
                if op.startswith(("mul", "div")) and len(args) > 1:
                    other = args[1] if ins[0] is args[0] and keys[0] == key else args[0]
                    if isinstance(other, Tensor):
                        factor = float(other.detach().abs().double().mean()) if is_small(other) else math.nan
                    elif isinstance(other, (int, float)):
                        factor = abs(float(other))
                    if op.startswith("div"):
                        factor = 1 / factor if factor else math.nan
                self._scores[out_keys[0]] = _Scores(scores.reach * factor, scores.is_cosine)

    def _softmaxed(self, op: str, args: Any, scores: Tensor, key: int | None, out: Tensor, path: str) -> Site:
        axis = int(args[1]) if len(args) > 1 else -1
        rows = (
            scores.detach().movedim(axis, -1).reshape(-1, scores.shape[axis]) if scores.ndim else scores.reshape(1, 1)
        )
        known = self._scores.get(key, _Scores(math.nan, False)) if key is not None else _Scores(math.nan, False)
        knobs = self._factors.get(key, 0) if key is not None else 0
        site = _site(path, rows, knobs, known)
        self.sites.append(site)
        if not op.startswith("_log"):
            self._check_size(path, rows[rows > MASKED] if rows.numel() <= SMALL else rows.clamp(min=MASKED))
        return site

    def _fused(self, args: Any, kwargs: Any, ins: list[Tensor], keys: list[int | None], path: str) -> None:
        q, k = ins[0], ins[1]
        scale = kwargs.get("scale")
        scale = 1 / math.sqrt(q.shape[-1]) if scale is None else float(scale)
        knobs = 0
        for key in keys[:2]:
            knobs |= self._factors.get(key, 0) if key is not None else 0
        mask = kwargs.get("attn_mask", kwargs.get("attn_bias"))
        if mask is None and len(ins) > 3 and ins[3].dtype.is_floating_point:
            mask = ins[3]
        step = max(1, q.shape[-2] // _ROWS)
        scores = q[..., ::step, :].detach().float() @ k.detach().float().transpose(-1, -2) * scale
        if isinstance(mask, Tensor):
            if mask.shape[-2] > 1:
                mask = mask[..., ::step, :]
            scores = scores.masked_fill(~mask, -math.inf) if mask.dtype == torch.bool else scores + mask
        site = _site(path, scores.reshape(-1, scores.shape[-1]), knobs, _measure(q, k, scale))
        site.is_attention = True
        self.sites.append(site)
        self._check_size(path, scores.clamp(min=MASKED))


def _measure(q: Tensor, k: Tensor, factor: float) -> _Scores:
    """Return |q||k| of the largest head, and whether all rows have one length, within a head or over all heads."""
    q, k = q.detach(), k.detach()
    step = max(1, q.shape[-2] // _ROWS)
    lengths = [t.float().norm(dim=-1) for t in (q[..., ::step, :], k)]  # (..., rows)
    reach = (lengths[0].mean(dim=-1) * lengths[1].mean(dim=-1)).max() if lengths[0].ndim == lengths[1].ndim else None
    if reach is None:
        return _Scores(math.nan, False)
    return _Scores(float(reach) * factor, all(_one_length(length) for length in lengths))


def _one_length(lengths: Tensor) -> bool:
    whole = [lengths]
    if lengths.ndim >= 3:
        whole.append(lengths.pow(2).sum(dim=-2).sqrt())
    for rows in whole:
        kept = rows[..., (rows > 0).reshape(-1, rows.shape[-1]).any(dim=0)]
        if kept.numel() == 0 or kept.shape[-1] < 2:
            continue
        spread = kept.std(dim=-1) / kept.mean(dim=-1).clamp(min=1e-30)
        if float(spread.max()) < 1e-3:
            return True
    return False


def _site(path: str, rows: Tensor, knobs: int, scores: _Scores) -> Site:
    """Measure softmax rows (rows x tokens, before the softmax)."""
    tokens = rows.shape[-1]
    masked = rows <= MASKED
    empty = int(masked.all(dim=-1).sum()) if tokens else 0
    step = max(1, rows.shape[0] // (8 * _ROWS))
    chosen, hidden = rows[::step].double(), masked[::step]
    count = (~hidden).sum(dim=-1)
    keep = count >= 2
    entropy = math.nan
    if bool(keep.any()):
        weights = chosen[keep].masked_fill(hidden[keep], -math.inf).softmax(dim=-1)
        entropy = float((torch.special.entr(weights).sum(dim=-1) / count[keep].double().log()).mean())
    shown = rows[~masked] if rows.numel() <= SMALL else rows
    largest = float(shown.abs().amax()) if shown.numel() else math.nan
    site = Site(path, tokens, entropy, empty, largest, knobs, scores.reach, scores.is_cosine, False, rows.shape[0])
    # -inf and the lowest number of the dtype are how a mask is written that fits any dtype.
    fits = ~rows.isfinite() | (rows < 0.5 * torch.finfo(rows.dtype).min)
    if not bool(fits.all()):
        site.lowest = float(rows[~fits].amin()) if bool(fits.any()) else float(rows.amin())
    return site
