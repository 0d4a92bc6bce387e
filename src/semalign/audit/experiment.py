"""Runs a model for a few optimizer steps and keeps what happened; changes values and asks what would happen then.

It judges nothing: see `semalign.audit.diagnosis`.
"""

from __future__ import annotations

import dataclasses
import inspect
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from semalign.audit.copying import Loose, Subject, random_states, seed_all
from semalign.audit.trace import Trace, is_small, storage_key
from semalign.errors import ConfigError

__all__ = ["Experiment", "Life", "ReachesBackError", "flatten_outputs", "projection_loss"]

DEFAULT_LR = 1e-3


class ReachesBackError(Exception):
    """The copy works with tensors of the original."""


@dataclasses.dataclass
class Life:
    """What became of one learnable tensor.

    Attributes:
        gradients: per step "none", "zero", "live" or "nan".
        largest: largest gradient of all steps, by magnitude.
        sizes: largest gradient of each entry, by magnitude; kept for small tensors alone.
        start: value before the first step, kept for small tensors alone.
        end: value after the last step, likewise.
    """

    gradients: list[str] = dataclasses.field(default_factory=list)
    largest: float = 0.0
    sizes: Tensor | None = None
    start: Tensor | None = None
    end: Tensor | None = None

    @property
    def is_dead(self) -> bool:
        """Whether it had no gradient at any step."""
        return bool(self.gradients) and all(g in ("none", "zero") for g in self.gradients)

    @property
    def woke_up(self) -> bool:
        """Whether its gradient was 0 at first and not later."""
        return self.gradients[:1] == ["zero"] and "live" in self.gradients


def flatten_outputs(value: Any, _seen: frozenset[int] = frozenset()) -> Iterator[Tensor]:
    """Yield the floating-point tensors in a model's output: nested containers, dataclasses, model outputs."""
    if isinstance(value, Tensor):
        if value.is_floating_point() or value.is_complex():
            yield value
        return
    if id(value) in _seen:
        return
    seen = _seen | {id(value)}
    if isinstance(value, Mapping):
        for item in value.values():
            yield from flatten_outputs(item, seen)
    elif isinstance(value, (list, tuple, set)):
        for item in value:
            yield from flatten_outputs(item, seen)
    elif hasattr(value, "__dict__") and not isinstance(value, (nn.Module, type)) and not callable(value):
        for item in vars(value).values():
            yield from flatten_outputs(item, seen)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            yield from flatten_outputs(getattr(value, field.name), seen)


def projection_loss(output: Any, seed: int = 0) -> Tensor:
    """Return sum over the output's tensors of <r, y> / (sqrt(n) rms(y)) with seeded normal r.

    A loss that prefers nothing: its gradient in y is a random direction, so that what has no gradient here has none
    under any loss.  Entries of ±inf, which models use to mask, are left out; NaN is not.

    Raises:
        ConfigError: the output holds no floating-point tensor.
    """
    total: Tensor | None = None
    seen: set[int] = set()
    for index, y in enumerate(flatten_outputs(output)):
        if id(y) in seen or y.numel() == 0:
            continue
        seen.add(id(y))
        if y.is_complex():
            y = torch.view_as_real(y)
        generator = torch.Generator().manual_seed(seed * 1000003 + index)
        direction = torch.randn(y.shape, generator=generator).to(device=y.device, dtype=torch.float32)
        wide = y if y.dtype.itemsize >= 4 else y.float()
        unbounded = y.detach().isinf()
        if bool(unbounded.any()):
            wide, direction = wide[~unbounded], direction[~unbounded]
        size = wide.detach().float().pow(2).mean().sqrt().clamp(min=1e-12)
        term = (wide * (direction / (size * math.sqrt(max(1, wide.numel())))).to(wide.dtype)).sum()
        total = term if total is None else total + term.to(total.dtype)
    if total is None:
        raise ConfigError("the model's output holds no floating-point tensor, expected one: give the audit a loss")
    return total


class Experiment:
    """A subject under observation.

    Args:
        subject: model, batch, optimizer, loss.
        loose: tensors of the original that its modules hold beside parameters and buffers.
        original: the caller's model, None where the subject is that itself.
        steps: optimizer steps.
        seed: of the random projection and of whatever the model draws.

    Attributes:
        parameters: learnable tensors by name: the model's, the loss's (below "loss."), loose learnable ones.
        registered: names of those that the model or the loss knows as parameters.
        watched: all tensors by name that the trace knows: parameters, frozen ones, buffers, loose ones.
        lives: by name of ``parameters``.
        trace: of the first forward.
        created: parameters by name that the first forward made, with whether the name was there before.
        made_anew: names among them that the second forward made again.
        loss_values: per step.
        changed_by_forward: names of small parameters that have another value after the first forward than before it.
        unmoved: names of parameters that had a gradient at all steps and the same bits after the last as at the start.
        replaced: paths of loose tensors whose attribute holds another object after the first forward.
    """

    def __init__(self, subject: Subject, loose: list[Loose], original: nn.Module | None, steps: int, seed: int) -> None:
        # A tensor without numbers cannot learn, and nothing is wrong with that.
        loose = [item for item in loose if item.tensor.numel()]
        self.subject, self.loose, self.steps, self.seed = subject, loose, steps, seed
        self.model = subject.model
        self.was_training = self.model.training
        self.is_own_optimizer = subject.optimizer is None
        parts: list[tuple[str, nn.Module]] = [("", self.model)]
        if isinstance(subject.loss, nn.Module):
            parts.append(("loss.", subject.loss))
        self._fill_lazy()
        self.modules: dict[str, nn.Module] = {}
        self.watched: dict[str, Tensor] = {}
        self.parameters: dict[str, Tensor] = {}
        for prefix, part in parts:
            for name, module in part.named_modules():
                self.modules[(prefix + name).rstrip(".")] = module
            for name, parameter in part.named_parameters():
                if not is_lazy(parameter) and parameter.numel():
                    self.watched[prefix + name] = parameter
            for name, buffer in part.named_buffers():
                if buffer.is_floating_point() and not is_lazy(buffer) and buffer.numel():
                    self.watched[prefix + name] = buffer
        self.frozen = {name for name, t in self.watched.items() if not t.requires_grad}
        self.parameters = {name: t for name, t in self.watched.items() if t.requires_grad}
        self.registered = set(self.parameters)
        for item in loose:
            twin = subject.standing_for(item.tensor)
            self.watched[item.path] = twin
            if twin.requires_grad:
                self.parameters[item.path] = twin
        self.elsewhere: frozenset[int] = frozenset()
        if original is not None:
            own = {storage_key(t) for t in self.watched.values()}
            keys = {storage_key(t) for t in (*original.parameters(), *original.buffers())}
            self.elsewhere = frozenset(key for key in keys - own if key is not None)
        self.initial = {name: t.detach().clone() for name, t in self.watched.items()}
        self.addresses = {name: t.data_ptr() for name, t in self.parameters.items()}
        self.lives: dict[str, Life] = {}
        self.created: dict[str, tuple[Tensor, bool]] = {}
        self.made_anew: set[str] = set()
        self.loss_values: list[float] = []
        self.changed_by_forward: set[str] = set()
        self.unmoved: set[str] = set()
        self.replaced: set[str] = set()
        self.local_leaves: list[tuple[str, Tensor, bool]] = []
        self.trace: Trace
        self.optimizer = subject.optimizer
        self.group_of: dict[int, dict[str, Any]] = {}

    def _fill_lazy(self) -> None:
        """Call a model with lazy parameters once, so that they have a shape."""
        if not any(is_lazy(t) for t in (*self.model.parameters(), *self.model.buffers())):
            return
        if not self.subject.copies:
            raise ConfigError(
                "the model has lazy parameters and cannot be copied, expected parameters with a shape: call it once "
                "before the audit"
            )
        seed_all(self.seed)
        try:
            with torch.no_grad():
                self.call()
        except Exception as error:
            raise self._uncallable(error) from error

    # ---- one forward ----

    def call(self) -> Any:
        """Call the model with its batch."""
        batch = self.subject.batch
        if isinstance(batch, Mapping):
            return self.model(**batch)
        return self.model(*batch) if isinstance(batch, tuple) else self.model(batch)

    def loss_of(self, output: Any) -> Tensor:
        """Return the caller's loss of an output, or the random projection."""
        loss = self.subject.loss
        if loss is None:
            return projection_loss(output, self.seed)
        value = loss(output, self.subject.batch) if _takes_two(loss) else loss(output)
        if not isinstance(value, Tensor) or value.numel() != 1:
            got = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
            raise ConfigError(f"the loss returned {got}, expected a tensor with one number")
        return value.reshape(())

    def zero(self) -> None:
        """Take all gradients away."""
        for tensor in (*self.watched.values(), *(t for t, _ in self.created.values())):
            tensor.grad = None

    # ---- the steps ----

    def run(self) -> None:
        """Train for a few steps and keep what happens.

        Raises:
            ConfigError: the model cannot be called with the batch.
            ReachesBackError: the copy reads tensors of the original.
        """
        if not self.was_training:
            self.model.train()
        if self.optimizer is None:
            learnable = [self.parameters[name] for name in self.parameters if name in self.registered]
            # The usual epsilon is 0 in float16.
            eps = 1e-4 if any(p.dtype == torch.float16 for p in learnable) else 1e-8
            self.optimizer = torch.optim.AdamW(learnable, lr=DEFAULT_LR, eps=eps) if learnable else None
        for group in self.optimizer.param_groups if self.optimizer is not None else []:
            for parameter in group["params"]:
                self.group_of[id(parameter)] = group
        for name, tensor in self.parameters.items():
            self.lives[name] = Life(start=tensor.detach().clone() if is_small(tensor) else None)
        for step in range(self.steps):
            self.zero()
            seed_all(self.seed + step)
            loss = self._first() if step == 0 else self._next(step)
            self.loss_values.append(float(loss.detach()))
            if loss.requires_grad:
                loss.backward(retain_graph=not self.subject.copies)  # type: ignore[no-untyped-call]
            self._record()
            if not math.isfinite(self.loss_values[-1]) or any(
                life.gradients[-1] == "nan" for life in self.lives.values()
            ):
                break  # One more step would make everything NaN.
            if self.optimizer is not None and loss.requires_grad:
                self._step(self.optimizer, step)
        for name, life in self.lives.items():
            if life.start is not None:
                life.end = self.parameters[name].detach().clone()
        self.unmoved = {
            name
            for name, life in self.lives.items()
            if life.gradients
            and set(life.gradients) == {"live"}
            and torch.equal(self.parameters[name].detach(), self.initial[name])
        }

    def _step(self, optimizer: torch.optim.Optimizer, step: int) -> None:
        if self.is_own_optimizer:
            for parameter in self.parameters.values():
                if parameter.grad is not None and parameter.grad.layout != torch.strided:
                    parameter.grad = parameter.grad.to_dense()
        if not _needs_closure(optimizer):
            optimizer.step()
            return

        def closure() -> Tensor:
            self.zero()
            seed_all(self.seed + step)
            loss = self.loss_of(self.call())
            loss.backward(retain_graph=not self.subject.copies)  # type: ignore[no-untyped-call]
            return loss

        optimizer.step(closure)  # type: ignore[arg-type]

    def _first(self) -> Tensor:
        before = {prefix + name: id(p) for prefix, part in self._parts() for name, p in part.named_parameters()}
        holders = {item.path: id(self.subject.standing_for(item.tensor)) for item in self.loose}
        self.trace = Trace(self.watched, self.subject.batch, self.elsewhere)
        has_output = False
        try:
            with self.trace.following(self.modules), self.trace:
                output = self.call()
                has_output = True
                loss = self.loss_of(output) if self.subject.loss is not None else None
        except Exception as error:
            if self.trace.reached:
                raise ReachesBackError from error
            if self.model.training and not self.was_training:
                # Given in evaluation mode, and training mode does not work (batch norm over one value).
                self.model.eval()
                self.was_training = True
                return self._first()
            if isinstance(error, ConfigError):
                raise
            said = str(error).strip().splitlines()
            if has_output:
                raise ConfigError(
                    f"the loss cannot be called with the model's output ({type(error).__name__}: "
                    f"{said[0] if said else ''}), expected a function of the output, or of the output and the batch"
                ) from error
            raise self._uncallable(error) from error
        if self.trace.reached:
            raise ReachesBackError
        if loss is None:
            loss = self.loss_of(output)
        for prefix, part in self._parts():
            for name, parameter in part.named_parameters():
                full = prefix + name
                if before.get(full) != id(parameter) and parameter.requires_grad and parameter.numel():
                    self.created[full] = (parameter, full in before)
        self.changed_by_forward = {
            name
            for name, parameter in self.parameters.items()
            if is_small(parameter) and not torch.equal(parameter.detach(), self.initial[name])
        }
        still = {item.path: id(item.tensor) for item in _loose_now(self.model, self.loose)}
        self.replaced = {path for path, key in holders.items() if still.get(path, key) != key}
        known = {id(t) for t, _ in self.created.values()} | {id(t) for t in self.watched.values()}
        self.local_leaves = [(path, leaf, False) for path, leaf in self.trace.foreign.values() if id(leaf) not in known]
        return loss

    @staticmethod
    def _uncallable(error: Exception) -> ConfigError:
        said = str(error).strip().splitlines()
        return ConfigError(
            f"the model cannot be called with the batch ({type(error).__name__}: {said[0] if said else ''}), "
            "expected a tuple for model(*batch), a mapping for model(**batch) or one argument"
        )

    def _next(self, step: int) -> Tensor:
        if step == 1 and (self.local_leaves or self.created):
            again = Trace(self.watched, self.subject.batch)
            with again.following(self.modules), again:
                output = self.call()
            keys = {id(leaf) for _, leaf in again.foreign.values()}
            self.local_leaves = [(path, leaf, id(leaf) in keys) for path, leaf, _ in self.local_leaves]
            now = {prefix + n: p for prefix, part in self._parts() for n, p in part.named_parameters()}
            self.made_anew = {name for name, (t, _) in self.created.items() if now.get(name) is not t}
        else:
            output = self.call()
        return self.loss_of(output)

    def _parts(self) -> list[tuple[str, nn.Module]]:
        parts: list[tuple[str, nn.Module]] = [("", self.model)]
        if isinstance(self.subject.loss, nn.Module):
            parts.append(("loss.", self.subject.loss))
        return parts

    def _record(self) -> None:
        names = [name for name, tensor in self.parameters.items() if tensor.grad is not None]
        grads = [self._dense(self.parameters[name]) for name in names]
        sizes = (
            dict(zip(names, (float(n) for n in torch._foreach_norm(grads, torch.inf)), strict=True)) if grads else {}
        )
        for name, life in self.lives.items():
            size = sizes.get(name)
            if size is None:
                life.gradients.append("none")
                continue
            life.gradients.append("zero" if size == 0 else "live" if math.isfinite(size) else "nan")
            if math.isfinite(size):
                life.largest = max(life.largest, size)
            if life.start is not None:
                now = self._dense(self.parameters[name]).abs()
                life.sizes = now if life.sizes is None else torch.maximum(life.sizes, now)

    @staticmethod
    def _dense(tensor: Tensor) -> Tensor:
        grad = tensor.grad
        assert grad is not None
        return grad.to_dense() if grad.layout != torch.strided else grad

    # ---- what would happen ----

    def restore(self) -> None:
        """Put all watched values back to the start."""
        with torch.no_grad():
            for name, value in self.initial.items():
                tensor = self.watched[name]
                if tensor.shape == value.shape:
                    tensor.detach().copy_(value)

    @contextmanager
    def changed(self, values: Mapping[str, Tensor]) -> Iterator[None]:
        """Set tensors to other values within this context."""
        own = {name: self.watched[name].detach().clone() for name in values}
        with torch.no_grad():
            for name, value in values.items():
                self.watched[name].detach().copy_(value)
        try:
            yield
        finally:
            with torch.no_grad():
                for name, value in own.items():
                    self.watched[name].detach().copy_(value)

    def output(self) -> list[Tensor]:
        """Return the output's tensors, with the same draws each time; the caller's loss counts as output too."""
        seed_all(self.seed)
        # With gradients on: without them a model may take another path, such as one that keeps folded weights.
        output = self.call()
        if self.subject.loss is not None:
            return [self.loss_of(output).detach().double().reshape(1)]
        return [t.detach().double().clone() for t in flatten_outputs(output)]

    def output_change(self, values: Mapping[str, Tensor], base: list[Tensor]) -> float:
        """Return the largest relative change of an output tensor when tensors take other values."""
        with self.changed(values):
            now = self.output()
        worst = 0.0
        for a, b in zip(base, now, strict=False):
            if a.shape != b.shape:
                return math.inf
            keep = a.isfinite()
            size = float(a[keep].abs().mean()) if bool(keep.any()) else 0.0
            difference = (a - b)[keep & b.isfinite()]
            if bool((keep != b.isfinite()).any()):
                return math.inf
            if difference.numel():
                worst = max(worst, float(difference.abs().max()) / max(size, 1e-30))
        return worst

    def gradients_after(self, values: Mapping[str, Tensor], names: list[str]) -> dict[str, float]:
        """Return the largest gradient of each of ``names`` when tensors take other values, 0 for none."""
        with self.changed(values):
            self.zero()
            seed_all(self.seed)
            loss = self.loss_of(self.call())
            if loss.requires_grad:
                loss.backward(retain_graph=not self.subject.copies)  # type: ignore[no-untyped-call]
            found = {}
            for name in names:
                has = self.parameters[name].grad is not None
                found[name] = float(self._dense(self.parameters[name]).abs().max()) if has else 0.0
            self.zero()
        return found

    def read_elsewhere(self, name: str) -> bool:
        """Whether other draws of the model's own random numbers make it read a tensor that the first forward left."""
        bit = 1 << list(self.watched).index(name)
        before = random_states()
        self.call()
        if random_states() == before:
            return False
        was_training = self.model.training
        try:
            for seed in range(1, 6):
                self.model.train(was_training and seed < 5)
                seed_all(self.seed + 100 + seed)
                trace = Trace(self.watched, self.subject.batch)
                with trace:
                    self.call()
                if any(use.names & bit for use in trace.uses):
                    return True
        finally:
            self.model.train(was_training)
        return False

    def step_without_gradient(self, name: str) -> None:
        """Take an optimizer step in which nothing but ``name`` has a gradient, of 0, for what hooks do after it."""
        assert self.optimizer is not None
        self.zero()
        self.watched[name].grad = torch.zeros_like(self.watched[name])
        decays = [(group, group.get("weight_decay")) for group in self.optimizer.param_groups]
        for group, decay in decays:
            if decay is not None:
                group["weight_decay"] = 0.0
        rates = [(group, group["lr"]) for group in self.optimizer.param_groups if "lr" in group]
        for group, _ in rates:
            group["lr"] = 0.0
        try:
            if _needs_closure(self.optimizer):
                self.optimizer.step(lambda: 0.0)
            else:
                self.optimizer.step()
        finally:
            for group, decay in decays:
                if decay is not None:
                    group["weight_decay"] = decay
            for group, rate in rates:
                group["lr"] = rate
            self.zero()

    def decay_alone(self, name: str, start: Tensor, steps: int) -> Tensor | None:
        """Return where a tensor would be after ``steps`` without any gradient; None where the optimizer cannot tell."""
        assert self.optimizer is not None
        group = self.group_of[id(self.parameters[name])]
        twin = start.clone().requires_grad_()
        options = {key: value for key, value in group.items() if key in self.optimizer.defaults}
        try:
            optimizer = type(self.optimizer)([{"params": [twin], **options}])  # type: ignore[call-arg]
            for _ in range(steps):
                twin.grad = torch.zeros_like(twin)
                optimizer.step()
        except (TypeError, ValueError, RuntimeError):
            return None
        return twin.detach()

    def retrace(self, values: Mapping[str, Tensor]) -> Trace:
        """Return the trace of a forward with other values."""
        with self.changed(values):
            trace = Trace(self.watched, self.subject.batch)
            seed_all(self.seed)
            with trace.following(self.modules), trace:
                self.call()
        return trace


def _needs_closure(optimizer: torch.optim.Optimizer) -> bool:
    """Whether an optimizer's step must be given a function that computes the loss anew, as LBFGS's must."""
    try:
        parameters = inspect.signature(type(optimizer).step).parameters
    except (TypeError, ValueError):
        return False
    return "closure" in parameters and parameters["closure"].default is inspect.Parameter.empty


def _takes_two(loss: Callable[..., Any]) -> bool:
    """Whether a loss is called with the output and the batch."""
    target = loss.forward if isinstance(loss, nn.Module) else loss
    try:
        parameters = inspect.signature(target).parameters.values()
    except (TypeError, ValueError):
        return False
    needed = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) and p.default is p.empty]
    return len(needed) >= 2


def _loose_now(model: nn.Module, loose: list[Loose]) -> list[Loose]:
    from semalign.audit.copying import loose_tensors

    return loose_tensors(model) if loose else []
