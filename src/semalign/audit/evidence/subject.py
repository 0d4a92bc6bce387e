"""A model, its batch, optimizer and loss to experiment with, such that the caller's stay as they are, to the bit.

A deep copy where one can be had.  Some models cannot be copied (an attribute without a copy) or reach back to the
original (a hook or a lambda that closes over it); these are borrowed and put back afterwards.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import random
import types
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from semalign.audit.evidence.records import map_batch, storage_key

_DEPTH = 4


@dataclasses.dataclass(frozen=True)
class Loose:
    """A floating-point tensor that a module holds, registered neither as a parameter nor as a buffer.

    Attributes:
        path: dotted path, list places and keys in brackets.
        home: path of the loose module that holds it, where it is in a module kept in a plain list; else "".
        tensor: the tensor.
        kind: "parameter" (a learnable leaf), "derived" (made by an operation) or "plain".
    """

    path: str
    home: str
    tensor: Tensor
    kind: str


@dataclasses.dataclass(frozen=True)
class Subject:
    """What the audit experiments with.

    Attributes:
        model: the model.
        batch: its input.
        optimizer: the caller's optimizer over this model's parameters, or None.
        loss: the caller's loss, or None.
        copies: by id of an original tensor, its copy here; empty where this is the original itself.
    """

    model: nn.Module
    batch: Any
    optimizer: torch.optim.Optimizer | None
    loss: Callable[..., Tensor] | None
    copies: Mapping[int, Tensor] = dataclasses.field(default_factory=dict)

    @property
    def modules(self) -> list[nn.Module]:
        """The model, and the loss where it is a module."""
        return [part for part in (self.model, self.loss) if isinstance(part, nn.Module)]

    def standing_for(self, tensor: Tensor) -> Tensor:
        """Return the tensor of the subject that stands for an original one."""
        return self.copies.get(id(tensor), tensor)


def loose_tensors(model: nn.Module) -> list[Loose]:
    """Return the floating-point tensors in the modules' attributes that are not parameters or buffers."""
    # A buffer that learns, or was made from what learns, is not a parameter either.
    buffers = [(name, t) for name, t in model.named_buffers() if t.requires_grad and t.is_floating_point()]
    search = _LooseSearch(model, {id(t) for _, t in buffers})
    for name, buffer in buffers:
        search.visit(buffer, name, "", 0)
    for name, module in model.named_modules():
        for key, value in vars(module).items():
            is_torchs = key in ("_parameters", "_buffers", "_modules") or key.endswith(("_hooks", "_hooks_with_kwargs"))
            if not is_torchs:
                search.visit(value, f"{name}.{key}" if name else key, "", 0)
    return search.found


class _LooseSearch:
    """Walks through attributes, containers and plain objects."""

    def __init__(self, model: nn.Module, wanted: set[int]) -> None:
        self.found: list[Loose] = []
        self._known = {id(t) for t in (*model.parameters(), *model.buffers())} - wanted
        self._modules = {id(module) for module in model.modules()}
        self._seen: set[int] = set()

    def visit(self, value: Any, path: str, home: str, depth: int) -> None:
        """Look at one value and at what it holds."""
        if isinstance(value, Tensor):
            self._take(value, path, home)
            return
        if depth > _DEPTH or id(value) in self._seen:
            return
        children = self._children(value, path)
        if children is None:
            return
        self._seen.add(id(value))
        if isinstance(value, nn.Module):
            home = home or path
        for item, below in children:
            self.visit(item, below, home, depth + 1)

    def _take(self, tensor: Tensor, path: str, home: str) -> None:
        if id(tensor) in self._known or id(tensor) in self._seen or not tensor.is_floating_point():
            return
        self._seen.add(id(tensor))
        kind = "derived" if tensor.grad_fn is not None else "parameter" if tensor.requires_grad else "plain"
        self.found.append(Loose(path, home, tensor, kind))

    def _children(self, value: Any, path: str) -> list[tuple[Any, str]] | None:
        """Return what a value holds with the paths, None for what is not walked through."""
        if isinstance(value, nn.Module):
            if id(value) in self._modules:
                return None
            return [
                (parameter, f"{path}.{name}.{key}" if name else f"{path}.{key}")
                for name, module in value.named_modules()
                for key, parameter in module._parameters.items()
                if parameter is not None
            ]
        if isinstance(value, Mapping):
            return [(item, f"{path}[{key}]") for key, item in value.items()]
        if isinstance(value, (list, tuple, set)):
            return [(item, f"{path}[{index}]") for index, item in enumerate(value)]
        if not hasattr(value, "__dict__") or isinstance(value, (type, types.ModuleType, types.FunctionType)):
            return None
        if type(value).__module__.partition(".")[0] in ("torch", "transformers", "numpy", "builtins"):
            return None
        return [(item, f"{path}.{key}") for key, item in vars(value).items()]


def duplicate(original: Subject, loose: list[Loose]) -> Subject:
    """Return a deep copy of everything, aliases kept.

    Args:
        original: what is copied.
        loose: the loose tensors of its model.

    Raises:
        Exception: whatever an attribute without a copy raises.
    """
    if any(isinstance(module, torch.jit.ScriptModule) for part in original.modules for module in part.modules()):
        raise TypeError("a scripted module copies its parameters in its own way")
    memo: dict[int, Any] = {}
    _copy_tensors(original.model, loose, memo)
    model, loss = copy.deepcopy(original.model, memo), copy.deepcopy(original.loss, memo)
    for part in Subject(model, None, None, loss).modules:
        for module in part.modules():
            for hooks in (module._forward_pre_hooks, module._forward_hooks):
                # A hook that keeps features in somebody's list is to keep the copy's in a copy.
                for number, hook in hooks.items():
                    hooks[number] = _rebound(hook, memo)
    optimizer = _copy_optimizer(original.optimizer, memo)
    for parameter in {id(p): p for part in original.modules for p in part.parameters()}.values():
        twin = memo[id(parameter)]
        for hook in (getattr(parameter, "_backward_hooks", None) or {}).values():
            twin.register_hook(_rebound(hook, memo))
        for hook in (getattr(parameter, "_post_accumulate_grad_hooks", None) or {}).values():
            twin.register_post_accumulate_grad_hook(_on_gradient_alone(_rebound(hook, memo)))
    copies = {key: value for key, value in memo.items() if isinstance(value, Tensor)}
    return Subject(model, map_batch(original.batch, _copied), optimizer, loss, copies)


def _copy_tensors(model: nn.Module, loose: list[Loose], memo: dict[int, Any]) -> None:
    """Put the copies of parameters, and of tensors that torch refuses to copy, into the memo of a deep copy."""
    by_storage: dict[int, Tensor] = {}
    for parameter in model.parameters():
        twin = copy.deepcopy(parameter, memo)
        key = storage_key(parameter)
        if key is not None:
            by_storage[key] = twin
    for tensor in (item.tensor for item in loose):
        if tensor.grad_fn is None or id(tensor) in memo:
            continue
        key = storage_key(tensor)
        base = by_storage.get(key) if key is not None else None
        if base is not None and base.is_leaf:
            # A view of a parameter lives on with it.
            memo[id(tensor)] = base.as_strided(tensor.size(), tensor.stride(), tensor.storage_offset())
        else:
            # torch refuses to copy the result of an operation.
            memo[id(tensor)] = tensor.detach().clone().requires_grad_()


def _copy_optimizer(optimizer: torch.optim.Optimizer | None, memo: dict[int, Any]) -> torch.optim.Optimizer | None:
    twin = copy.deepcopy(optimizer, memo)
    if optimizer is None or twin is None:
        return None
    # torch copies an optimizer's groups and state alone; what a class of its own adds goes along.
    for attribute, value in vars(optimizer).items():
        if attribute not in vars(twin) and not callable(value):
            setattr(twin, attribute, copy.deepcopy(value, memo))
    for name in ("_optimizer_step_pre_hooks", "_optimizer_step_post_hooks"):
        for key, hook in getattr(optimizer, name).items():
            getattr(twin, name)[key] = _rebound(hook, memo)
    return twin


def _copied(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().clone().requires_grad_(value.requires_grad)
    return copy.deepcopy(value)


def _rebound(function: Any, memo: dict[int, Any]) -> Any:
    """Return a function that closes over the copies of what the given one closes over."""
    if isinstance(function, functools.partial):
        return functools.partial(
            _rebound(function.func, memo), *(memo.get(id(a), a) for a in function.args), **function.keywords
        )
    if isinstance(function, types.MethodType):
        return types.MethodType(function.__func__, memo.get(id(function.__self__), function.__self__))
    if not isinstance(function, types.FunctionType):
        return function
    if function.__closure__ is None and not function.__defaults__ and not function.__kwdefaults__:
        return function
    cells = tuple(types.CellType(copy.deepcopy(cell.cell_contents, memo)) for cell in function.__closure__ or ())
    rebound = types.FunctionType(
        function.__code__, function.__globals__, function.__name__, copy.deepcopy(function.__defaults__, memo), cells
    )
    rebound.__kwdefaults__ = copy.deepcopy(function.__kwdefaults__, memo)
    return rebound


def _on_gradient_alone(hook: Callable[[Tensor], object]) -> Callable[[Tensor], None]:
    """Return a hook that may change a parameter's gradient, and neither take it away nor change the parameter."""

    def run(parameter: Tensor) -> None:
        grad = parameter.grad
        if grad is None:
            hook(parameter)
            return
        value, kept = parameter.detach().clone(), grad.clone()
        try:
            hook(parameter)
        except Exception:
            # It may look the parameter up among the originals.
            parameter.grad = kept
        # One that takes the step itself would leave no gradient to look at, and step in every trial.
        if parameter.grad is None or not torch.equal(parameter.detach(), value):
            parameter.grad = kept
            with torch.no_grad():
                parameter.copy_(value)

    return run


@contextmanager
def borrow(original: Subject) -> Iterator[Subject]:
    """Give the model itself, and put everything back on leaving: values, gradients, attributes, optimizer state."""
    parts, optimizer = original.modules, original.optimizer
    modules = {id(module): module for part in parts for module in part.modules()}.values()
    attributes = [(module, {key: _shallow(value) for key, value in vars(module).items()}) for module in modules]
    tensors = {id(t): t for part in parts for t in (*part.parameters(), *part.buffers())}
    tensors |= {id(item.tensor): item.tensor for item in loose_tensors(original.model) if item.tensor.is_leaf}
    tensors = {key: t for key, t in tensors.items() if not is_lazy(t)}
    values = [
        (t, t.data, t.detach().clone(), t.grad, None if t.grad is None else t.grad.clone(), t.requires_grad)
        for t in tensors.values()
    ]
    put_back: Callable[[], None] = (lambda: None) if optimizer is None else _remember(optimizer)
    for t in tensors.values():
        t.grad = None
    try:
        # A graph that the caller has not run backward yet stays good: its tensors keep their versions.
        with _same_versions(tuple(tensors.values())):
            yield dataclasses.replace(original, batch=map_batch(original.batch, _copied))
    finally:
        with torch.no_grad(), _same_versions((*tensors.values(), *(g for *_, g, _, _ in values if g is not None))):
            for t, data, value, grad, grad_value, learns in values:
                t.data = data
                t.copy_(value)
                if grad is not None and grad_value is not None:
                    grad.copy_(grad_value)
                t.grad = grad
                if t.is_leaf:
                    t.requires_grad_(learns)
        for module, before in attributes:
            vars(module).clear()
            vars(module).update(before)
        put_back()


def _same_versions(tensors: tuple[Tensor, ...]) -> AbstractContextManager[None]:
    keep: Callable[..., AbstractContextManager[None]] | None
    keep = getattr(torch.autograd, "_unsafe_preserve_version_counter", None)
    return nullcontext() if keep is None or not tensors else keep(tensors)


def _remember(optimizer: torch.optim.Optimizer) -> Callable[[], None]:
    """Return what puts an optimizer's groups and state back, the same tensors with the same values."""
    groups = [dict(group) for group in optimizer.param_groups]
    state = {key: dict(value) for key, value in optimizer.state.items()}
    values = [(t, t.clone()) for part in state.values() for t in part.values() if isinstance(t, Tensor)]

    def put_back() -> None:
        with torch.no_grad(), _same_versions(tuple(t for t, _ in values)):
            for t, value in values:
                t.copy_(value)
        optimizer.state.clear()
        optimizer.state.update(state)
        for group, before in zip(optimizer.param_groups, groups, strict=True):
            group.clear()
            group.update(before)

    return put_back


def _shallow(value: Any) -> Any:
    if type(value) in (dict, list, set) or type(value).__name__ == "OrderedDict":
        return copy.copy(value)
    return value


def seed_all(seed: int) -> None:
    """Seed the random streams that a forward may draw from: torch's, numpy's and Python's."""
    torch.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)


def random_states() -> tuple[Any, ...]:
    """Return the states of the same streams, to compare."""
    numpy: Any = np.random.get_state()
    return torch.random.get_rng_state().tolist(), numpy[1].tolist(), numpy[2], random.getstate()


@contextmanager
def untouched() -> Iterator[None]:
    """Leave the random streams and the gradient mode as they were."""
    devices = range(torch.cuda.device_count()) if torch.cuda.is_available() else []
    python, numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=list(devices)), torch.inference_mode(False), torch.enable_grad():
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
