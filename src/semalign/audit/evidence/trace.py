"""What one forward does, operation by operation: who is read, written and cut off.

A `Trace` listens below autograd, so that it sees every operation of any model, functional calls and fused kernels
included, under no_grad too.  It identifies tensors by their storage, which views share.  What is made from the batch is
followed by `semalign.audit.evidence.flow.Flow`.  It does not depend on optimizers and judges nothing.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from semalign.audit.evidence.flow import Call, Flow
from semalign.audit.evidence.records import How, Squash, Use, is_small, tensors_in, tensors_within, words

_BOUNDS = words(
    "clamp clamp_ clamp_max clamp_max_ clamp_min clamp_min_ hardsigmoid hardtanh relu relu6 relu_ threshold fmax fmin "
    "maximum minimum"
)
_CHOICES = words("minimum maximum fmin fmax")
_CURVES = words("sigmoid tanh exp softplus sigmoid_ tanh_ exp_ log_sigmoid_forward")
_IN_PLACE = words("clamp_ clamp_min_ clamp_max_ sigmoid_ tanh_ exp_ relu_")
_INPUTS = words("bernoulli lift_fresh multinomial normal rand randint randn randperm")
_COMPARISONS = words("argmax argmin bucketize eq ge gt isclose le lt ne searchsorted sort topk")


class Trace(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Listens to one forward.

    Args:
        watched: tensors by name; the bit of a name is its place in ``names``.
        batch: what the model is called with.
        elsewhere: storages that the forward should not touch.

    Attributes:
        reached: those of ``elsewhere`` that it touched.
        nulled: watched tensors, by bit, that are multiplied with a single 0 which the batch or chance made.
        names: the watched names.
        uses: every different use of a watched tensor or of what is made from it.
        writes: by operation the watched tensors, by bit, that it changes in place.
        squashes: bounds and curves on tensors made from parameters alone.
        flow: what is made from the batch: softmaxes, residual additions, products.
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
        self.writes: dict[str, int] = {}
        self.squashes: list[Squash] = []
        self.flow = Flow()
        self.foreign: dict[int, tuple[str, Tensor]] = {}
        self.ran: dict[str, bool] = {}
        self.passed: dict[str, int] = {}
        self.nulled: int = 0
        self._path: list[str] = [""]
        self._objects = {id(tensor) for tensor in watched.values()}
        self._keep: list[Any] = []
        self._bits: dict[int, int] = {}
        self._direct: dict[int, int] = {}
        self._drawn: set[int] = set()
        self._choices: dict[int, int] = {}
        for index, tensor in enumerate(watched.values()):
            key = self._key(tensor)
            if key:
                self._bits[key] = self._direct[key] = self._bits.get(key, 0) | 1 << index
        self._batch_keys = set(self._keys_of(tensors_within(batch)))
        # A generator makes its own input, by chance or from what is not a tensor.
        self._makes_input = not self._batch_keys
        self._data: set[int] = self._batch_keys - self._direct.keys()

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
            handles.append(module.register_forward_pre_hook(functools.partial(self._enter, path), prepend=True))
            handles.append(module.register_forward_hook(functools.partial(self._leave, path), always_call=True))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _enter(self, path: str, _module: nn.Module, _args: object) -> None:
        self._path.append(path)
        self.ran[path] = self.ran.get(path, False) or torch.is_grad_enabled()

    def _leave(self, path: str, _module: nn.Module, _args: object, out: object) -> None:
        if len(self._path) > 1:
            self._path.pop()
        for key in self._keys_of(tensors_within(out)):
            self.passed[path] = self.passed.get(path, 0) | self._bits.get(key, 0)

    def _key(self, tensor: Tensor) -> int:
        """Return what tensors over the same memory have in common, 0 for tensors without memory of their own."""
        try:
            storage = tensor.untyped_storage()
            key = int(storage._cdata)
        except (NotImplementedError, RuntimeError):
            return 0
        # An address is used again when its storage is gone.
        self._keep.append(storage)
        return key

    def _keys_of(self, tensors: Iterable[Tensor]) -> Iterator[int]:
        return (key for tensor in tensors if (key := self._key(tensor)))

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        op = func._schema.name.partition("::")[2]
        before = args[0].detach().clone() if op in _IN_PLACE and is_small(args[0]) else None
        out = func(*args, **kwargs)
        self._note(func, op, args, kwargs, out, before)
        return out

    def _note(self, func: Any, op: str, args: Any, kwargs: Any, out: Any, before: Tensor | None) -> None:
        ins = [*tensors_in(args), *tensors_in(kwargs)]
        outs = [tensor for tensor in tensors_in(out) if self._key(tensor)]
        keys = [self._key(tensor) for tensor in ins]
        self._note_chance(func, op, keys, outs)
        if not ins:
            return
        is_data = any(key in self._data for key in keys)
        bits, decided = self._note_reads(op, ins, keys, list(tensors_in(out)), is_data)
        self._note_writes(func, op, args)
        if op in ("mul", "mul_") and len(ins) == 2:
            self._note_nulls(op, ins, keys)
        if op == "_local_scalar_dense" and decided:
            self.uses.add(Use(decided, op, self._path[-1], "decision", is_data))
        out_keys = list(self._keys_of(outs))
        self._mark(outs, out_keys, bits, decided, is_data)
        if not outs:
            return
        if bits and not is_data and is_small(ins[0]) and op in (_BOUNDS | _CURVES):
            value = next(t for t, key in zip(ins, keys, strict=True) if self._bits.get(key))
            attached = torch.is_grad_enabled() and any(t.requires_grad for t in tensors_in(args))
            value = value if before is None else before
            self.squashes.append(_squash(op, args, kwargs, value, outs[0], bits, attached))
            if op.startswith("exp"):
                self.flow.check_size(self._path[-1], outs[0])
        if is_data:
            own = [self._bits.get(key, 0) for key in keys]
            data = [key in self._data for key in keys]
            self.flow.follow(Call(op, args, kwargs, ins, keys, own, data, outs[0], out_keys, self._path[-1]))

    def _note_chance(self, func: Any, op: str, keys: list[int], outs: list[Tensor]) -> None:
        """Note what is made by chance, which is the input of a model without a batch."""
        if self._makes_input and op in _INPUTS:
            self._data |= set(self._keys_of(t for t in outs if t.numel() > 1)) - self._direct.keys()
        if torch.Tag.nondeterministic_seeded in func.tags or any(key in self._drawn for key in keys):
            self._drawn |= set(self._keys_of(outs)) - self._direct.keys()

    def _note_reads(
        self, op: str, ins: list[Tensor], keys: list[int], outs: list[Tensor], is_data: bool
    ) -> tuple[int, int]:
        """Note who is read; return the watched tensors, by bit, and those whose comparison is read."""
        bits, decided = 0, 0
        grad = torch.is_grad_enabled()
        is_flat = op in _COMPARISONS or (
            bool(outs) and not any(t.dtype.is_floating_point or t.is_complex() for t in outs)
        )
        for tensor, key in zip(ins, keys, strict=True):
            if key in self._elsewhere:
                self.reached.add(key)
            own = self._bits.get(key, 0)
            bits |= own
            decided |= self._choices.get(key, 0)
            is_learning_leaf = tensor.requires_grad and tensor.is_leaf and key not in self._batch_keys
            if own:
                is_new_leaf = is_learning_leaf and id(tensor) not in self._objects
                how = self._how(op, tensor, is_flat, tensor.requires_grad and not is_new_leaf)
                if how is not None:
                    self.uses.add(Use(own, op, self._path[-1], how, is_data))
            elif key and is_learning_leaf and tensor.numel() and grad and key not in self._data:
                self.foreign.setdefault(key, (self._path[-1], tensor))
        return bits, decided

    @staticmethod
    def _how(op: str, tensor: Tensor, is_flat: bool, attached: bool) -> How | None:
        """Return how an operation uses what is made from a watched tensor, None where it does not matter."""
        if op == "detach":
            return None  # Autograd detaches what it saves; whether a value is cut shows where it is used.
        if op == "_local_scalar_dense":
            return "number"
        if not tensor.dtype.is_floating_point:
            return None
        if is_flat:
            return "comparison"
        if not torch.is_grad_enabled():
            return "no-grad"
        # A parameter made from another one, as nn.Parameter(x.clamp(...)), begins a graph of its own.
        return "attached" if attached else "detached"

    def _note_writes(self, func: Any, op: str, args: Any) -> None:
        for argument, value in zip(func._schema.arguments, args, strict=False):
            if argument.alias_info is not None and argument.alias_info.is_write and isinstance(value, Tensor):
                key = self._key(value)
                if key in self._direct and op != "requires_grad_":
                    self.writes[op] = self.writes.get(op, 0) | self._direct[key]

    def _note_nulls(self, op: str, ins: list[Tensor], keys: list[int]) -> None:
        # In place, the first operand is the product by now.
        for place in (0, 1) if op == "mul" else (1,):
            key, other = keys[place], keys[1 - place]
            by_batch = key in self._data or key in self._drawn
            if by_batch and ins[place].numel() == 1 and not bool(torch.count_nonzero(ins[place])):
                self.nulled |= self._bits.get(other, 0)

    def _mark(self, outs: list[Tensor], out_keys: list[int], bits: int, decided: int, is_data: bool) -> None:
        """Remember what results are made from."""
        for tensor, key in zip(outs, out_keys, strict=True):
            if (bits or decided) and not (tensor.dtype.is_floating_point or tensor.is_complex()):
                # What comes after a comparison is no longer made from the tensor; what is chosen by it may be.
                self._choices[key] = self._choices.get(key, 0) | bits | decided
            elif bits:
                self._bits[key] = self._bits.get(key, 0) | bits
            if is_data:
                self._data.add(key)


def _squash(op: str, args: Any, kwargs: Any, value: Tensor, out: Tensor, bits: int, attached: bool) -> Squash:
    """Return the record of a bound or curve; bounds come as numbers, tensors of one number, or one for each entry."""
    sides = [*args[1:3], None, None][:2]
    sides = [kwargs.get("min", sides[0]), kwargs.get("max", sides[1])]
    limits: tuple[Tensor, ...] = ()
    if op in _CHOICES:
        limits = tuple(t for t in tensors_in(args) if t is not value)
    elif op.startswith("clamp"):
        limits = tuple(t for t in sides if isinstance(t, Tensor) and t.numel() > 1)
    first, second = (
        float(t) if isinstance(t, (int, float)) or (isinstance(t, Tensor) and t.numel() == 1) else None for t in sides
    )
    # A clamp compares in the dtype of its input.
    low, high = torch.tensor(_bounds(op, first, second, len(args)), dtype=value.dtype).tolist()
    value = value.detach().clone()
    if limits:
        limits = tuple(t.detach().clone() for t in limits)
        value = value.expand(out.shape)
    beta = float(kwargs.get("beta", args[1] if len(args) > 1 else 1.0)) if op == "softplus" else 1.0
    return Squash(bits, op, value, out.detach().clone(), (low, high), attached, limits, beta)


def _bounds(op: str, first: float | None, second: float | None, given: int) -> tuple[float, float]:
    """Return the lowest and the highest input that has a gradient, from an operation's ``given`` arguments."""
    low = -math.inf if first is None else first
    high = math.inf if second is None else second
    if op == "hardtanh" and given == 1:
        return -1.0, 1.0
    if op in ("clamp", "clamp_", "hardtanh"):
        return low, high
    if op.startswith("clamp_min") or op == "threshold":
        return low, math.inf
    if op.startswith("clamp_max"):
        # Its only argument may be where clamp has its lower bound, or be called max.
        return -math.inf, high if first is None else first
    if op.startswith("relu"):
        return 0.0, 6.0 if op == "relu6" else math.inf
    return (-3.0, 3.0) if op == "hardsigmoid" else (-math.inf, math.inf)
