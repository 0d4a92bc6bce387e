"""A model with its tensors by name, to be called, changed and put back: what would happen if a value were another.

It judges nothing.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from semalign.audit.evidence.outputs import flatten_outputs, projection_loss, takes_two
from semalign.audit.evidence.records import storage_key
from semalign.audit.evidence.subject import Loose, Subject, random_states, seed_all
from semalign.audit.evidence.trace import Trace
from semalign.errors import ConfigError, kind_and_line

DEFAULT_LR = 1e-3


class Experiment:
    """A subject under observation.

    Args:
        subject: model, batch, optimizer, loss.
        loose: tensors of the original that its modules hold beside parameters and buffers.
        original: the caller's model, None where the subject is that itself.
        seed: of the random projection and of whatever the model draws.

    Attributes:
        parameters: learnable tensors by name: the model's, the loss's (below "loss."), loose learnable ones.
        registered: names of those that the model or the loss registers as parameters.
        watched: all tensors by name that the trace knows: parameters, frozen ones, buffers, loose ones.
        frozen: names of registered tensors and buffers that do not learn.
        initial: the values of ``watched`` at the start.
        optimizer: the caller's, or AdamW over all registered parameters; None where there are none.
        group_of: by id of a tensor the optimizer's group that holds it.
        elsewhere: storages of the original that the subject should not touch.
    """

    def __init__(self, subject: Subject, loose: Sequence[Loose], original: nn.Module | None, seed: int) -> None:
        # A tensor without numbers cannot learn, and nothing is wrong with that.
        self.loose = [item for item in loose if item.tensor.numel()]
        self.subject, self.model, self.seed = subject, subject.model, seed
        self._fill_lazy()
        self.modules: dict[str, nn.Module] = {}
        self.watched: dict[str, Tensor] = {}
        for prefix, part in self.parts():
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
        self.registered, registered = set(self.parameters), list(self.parameters.values())
        for item in self.loose:
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
        self.is_own_optimizer = subject.optimizer is None
        self.optimizer = subject.optimizer or _default_optimizer(registered)
        groups = self.optimizer.param_groups if self.optimizer is not None else []
        self.group_of: dict[int, dict[str, Any]] = {id(p): group for group in groups for p in group["params"]}

    def parts(self) -> list[tuple[str, nn.Module]]:
        """Return the model, and the loss where it is a module, with the prefixes of their names."""
        loss = self.subject.loss
        return [("", self.model), *([("loss.", loss)] if isinstance(loss, nn.Module) else [])]

    def named_parameters(self) -> dict[str, nn.Parameter]:
        """Return what the model and the loss register at present."""
        return {prefix + name: p for prefix, part in self.parts() for name, p in part.named_parameters()}

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
            raise uncallable(error) from error

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
        value = loss(output, self.subject.batch) if takes_two(loss) else loss(output)
        if not isinstance(value, Tensor) or value.numel() != 1:
            got = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
            raise ConfigError(f"the loss returned {got}, expected a tensor with one number")
        return value.reshape(())

    def backward(self, loss: Tensor) -> None:
        """Run backward where anything learns; a borrowed model may hold a graph that is needed again."""
        if loss.requires_grad:
            loss.backward(retain_graph=not self.subject.copies)  # type: ignore[no-untyped-call]

    def zero(self) -> None:
        """Take all gradients away."""
        for tensor in self.watched.values():
            tensor.grad = None

    # ---- what would happen ----

    def restore(self) -> None:
        """Put all watched values back to the start."""
        with torch.no_grad():
            for name, value in self.initial.items():
                tensor = self.watched[name]
                if tensor.shape == value.shape:
                    tensor.detach().copy_(value)

    def loss_at_start(self) -> Tensor:
        """Return the loss at the starting values, with no gradients yet and the same draws each time."""
        self.restore()
        self.zero()
        seed_all(self.seed)
        return self.loss_of(self.call())

    @contextmanager
    def changed(self, values: Mapping[str, Tensor]) -> Iterator[None]:
        """Set tensors to other values within this context."""
        own = {name: self.watched[name].detach().clone() for name in values}
        self._set(values)
        try:
            yield
        finally:
            self._set(own)

    def _set(self, values: Mapping[str, Tensor]) -> None:
        with torch.no_grad():
            for name, value in values.items():
                self.watched[name].detach().copy_(value)

    def output(self) -> list[Tensor]:
        """Return the output's tensors, with the same draws each time; the caller's loss counts as output too."""
        seed_all(self.seed)
        # With gradients on: without them a model may take another path, such as one that keeps folded weights.
        output = self.call()
        if self.subject.loss is not None:
            return [self.loss_of(output).detach().double().reshape(1)]
        return [t.detach().double().clone() for t in flatten_outputs(output)]

    def value_after_forward(self, name: str, value: Tensor) -> Tensor:
        """Return what a forward leaves of a value that a tensor is given."""
        with self.changed({name: value}):
            self.output()
            return self.watched[name].detach().clone()

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

    def gradients_after(self, values: Mapping[str, Tensor], names: Sequence[str]) -> dict[str, float]:
        """Return the largest gradient of each of ``names`` when tensors take other values, 0 for none."""
        with self.changed(values):
            self.zero()
            seed_all(self.seed)
            self.backward(self.loss_of(self.call()))
            found = {}
            for name in names:
                grad = dense_gradient(self.parameters[name])
                found[name] = 0.0 if grad is None else float(grad.abs().max())
            self.zero()
        return found

    def is_read_at_other_draws(self, name: str) -> bool:
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

    def value_after_step(self, name: str, value: Tensor) -> Tensor:
        """Return what an optimizer step, without gradient, rate and decay, leaves of a value: what its hooks do."""
        assert self.optimizer is not None
        with self.changed({name: value}):
            self.zero()
            self.watched[name].grad = torch.zeros_like(self.watched[name])
            own = [dict(group) for group in self.optimizer.param_groups]
            for group in self.optimizer.param_groups:
                group.update({key: 0.0 for key in ("lr", "weight_decay") if group.get(key) is not None})
            try:
                if needs_closure(self.optimizer):
                    self.optimizer.step(lambda: 0.0)
                else:
                    self.optimizer.step()
            finally:
                for group, before in zip(self.optimizer.param_groups, own, strict=True):
                    group.update({key: before[key] for key in ("lr", "weight_decay") if key in before})
                self.zero()
            return self.watched[name].detach().clone()

    def decay_alone(self, name: str, start: Tensor, steps: int) -> Tensor | None:
        """Return where a tensor would be after ``steps`` without gradient; None where no such optimizer can be made."""
        assert self.optimizer is not None
        group = self.group_of[id(self.parameters[name])]
        twin = start.clone().requires_grad_()
        try:
            optimizer = optimizer_alike(self.optimizer, group, twin)
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


def _default_optimizer(learnable: list[Tensor]) -> torch.optim.Optimizer | None:
    # The usual epsilon is 0 in float16.
    eps = 1e-4 if any(p.dtype == torch.float16 for p in learnable) else 1e-8
    return torch.optim.AdamW(learnable, lr=DEFAULT_LR, eps=eps) if learnable else None


def dense_gradient(tensor: Tensor) -> Tensor | None:
    """Return a tensor's gradient with all its entries, None where it has none."""
    grad = tensor.grad
    return grad.to_dense() if grad is not None and grad.layout != torch.strided else grad


def optimizer_alike(optimizer: torch.optim.Optimizer, group: dict[str, Any], tensor: Tensor) -> torch.optim.Optimizer:
    """Return a new optimizer of the same class, with the options of ``group``, over one tensor."""
    options = {key: value for key, value in group.items() if key in optimizer.defaults}
    return type(optimizer)([{"params": [tensor], **options}])  # type: ignore[call-arg]


def needs_closure(optimizer: torch.optim.Optimizer) -> bool:
    """Whether an optimizer's step must be given a function that computes the loss anew, as LBFGS's must."""
    try:
        parameters = inspect.signature(type(optimizer).step).parameters
    except (TypeError, ValueError):
        return False
    return "closure" in parameters and parameters["closure"].default is inspect.Parameter.empty


def uncallable(error: Exception) -> ConfigError:
    """Return the error that says that the model cannot be called."""
    return ConfigError(
        f"the model cannot be called with the batch ({kind_and_line(error)}), expected a tuple for model(*batch), a "
        "mapping for model(**batch) or one argument"
    )
