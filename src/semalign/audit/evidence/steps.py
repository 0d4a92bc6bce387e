"""A few optimizer steps of a model, and what was seen in them: plain data.

It judges nothing.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

from semalign.audit.evidence.experiment import Experiment, dense_gradient, needs_closure, uncallable
from semalign.audit.evidence.records import is_small
from semalign.audit.evidence.subject import loose_tensors, seed_all
from semalign.audit.evidence.trace import Trace
from semalign.errors import ConfigError, kind_and_line

Gradient: TypeAlias = Literal["none", "zero", "live", "nan"]


class ReachesBackError(Exception):
    """The copy works with tensors of the original."""


@dataclasses.dataclass(frozen=True)
class Life:
    """What became of one learnable tensor.

    Attributes:
        gradients: what it had at each step.
        largest: largest gradient of all steps, by magnitude.
        sizes: largest gradient of each entry, by magnitude; kept for small tensors alone.
        start: value before the first step, kept for small tensors alone.
        end: value after the last step, likewise.
    """

    gradients: tuple[Gradient, ...] = ()
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
        return self.gradients[:1] == ("zero",) and "live" in self.gradients

    def after(self, grad: Tensor | None) -> Life:
        """Return the life with one more step."""
        if grad is None:
            return dataclasses.replace(self, gradients=(*self.gradients, "none"))
        size = float(grad.abs().amax()) if grad.numel() else 0.0
        kind: Gradient = "zero" if size == 0 else "live" if math.isfinite(size) else "nan"
        largest = max(self.largest, size) if math.isfinite(size) else self.largest
        sizes = self.sizes
        if self.start is not None:
            sizes = grad.abs() if sizes is None else torch.maximum(sizes, grad.abs())
        return dataclasses.replace(self, gradients=(*self.gradients, kind), largest=largest, sizes=sizes)


@dataclasses.dataclass(frozen=True)
class Created:
    """A parameter that the first forward made.

    Attributes:
        tensor: the parameter.
        was_there: whether its name had another parameter before.
        is_made_anew: whether the second forward made it again.
        has_gradient: whether it had one at the last step.
    """

    tensor: nn.Parameter
    was_there: bool
    is_made_anew: bool = False
    has_gradient: bool = False

    @property
    def replaces_weights(self) -> bool:
        """Whether it took the place of another parameter and is too large for a temperature or a gate."""
        return self.was_there and not is_small(self.tensor)


@dataclasses.dataclass(frozen=True)
class LocalLeaf:
    """A learnable tensor that the forward reads and no module holds.

    Attributes:
        path: the module whose forward reads it.
        tensor: the tensor.
        persists: whether the second forward reads the same one.
        has_gradient: whether it had one.
    """

    path: str
    tensor: Tensor
    persists: bool = False
    has_gradient: bool = False


@dataclasses.dataclass(frozen=True)
class Steps:
    """What was seen in the steps.

    Attributes:
        trace: of the first forward.
        created: parameters that the first forward made, by name.
        local_leaves: in the order of the first forward.
        changed_by_forward: names of small parameters that have another value after the first forward than before it.
        replaced: paths of loose tensors whose attribute holds another object after the first forward.
        lives: by name of a learnable tensor.
        loss_values: per step.
        unmoved: names of parameters that had a gradient at all steps and the same bits after the last as at the start.
    """

    trace: Trace
    created: Mapping[str, Created]
    local_leaves: tuple[LocalLeaf, ...]
    changed_by_forward: frozenset[str]
    replaced: frozenset[str]
    lives: Mapping[str, Life] = dataclasses.field(default_factory=dict)
    loss_values: tuple[float, ...] = ()
    unmoved: frozenset[str] = frozenset()


def take_steps(x: Experiment, steps: int) -> Steps:
    """Train for a few steps and return what was seen.

    Raises:
        ConfigError: the model cannot be called with the batch.
        ReachesBackError: the copy reads tensors of the original.
    """
    was_training = x.model.training
    if not was_training:
        x.model.train()
    lives = {name: Life(start=t.detach().clone() if is_small(t) else None) for name, t in x.parameters.items()}
    losses: list[float] = []
    seed_all(x.seed)
    x.zero()
    loss, seen = _first_forward(x, was_training)
    for step in range(steps):
        if step:
            x.zero()
            for item in seen.created.values():
                item.tensor.grad = None
            seed_all(x.seed + step)
            loss, seen = _second_forward(x, seen) if step == 1 else (x.loss_of(x.call()), seen)
        losses.append(float(loss.detach()))
        x.backward(loss)
        lives = {name: life.after(dense_gradient(x.parameters[name])) for name, life in lives.items()}
        if not math.isfinite(losses[-1]) or any(life.gradients[-1] == "nan" for life in lives.values()):
            break  # One more step would make everything NaN.
        if x.optimizer is not None and loss.requires_grad:
            _step(x, x.optimizer, step)
    ends = {name: x.parameters[name].detach() for name in lives}
    return dataclasses.replace(
        seen,
        lives={
            name: life if life.start is None else dataclasses.replace(life, end=ends[name].clone())
            for name, life in lives.items()
        },
        created={
            name: dataclasses.replace(item, has_gradient=item.tensor.grad is not None)
            for name, item in seen.created.items()
        },
        local_leaves=tuple(
            dataclasses.replace(leaf, has_gradient=leaf.tensor.grad is not None) for leaf in seen.local_leaves
        ),
        loss_values=tuple(losses),
        unmoved=frozenset(
            name
            for name, life in lives.items()
            if set(life.gradients) == {"live"} and torch.equal(ends[name], x.initial[name])
        ),
    )


def _first_forward(x: Experiment, was_training: bool) -> tuple[Tensor, Steps]:
    """Return the loss, and what the first forward showed."""
    before = {name: id(parameter) for name, parameter in x.named_parameters().items()}
    holders = {item.path: id(x.subject.standing_for(item.tensor)) for item in x.loose}
    trace = Trace(x.watched, x.subject.batch, x.elsewhere)
    has_output = False
    try:
        with trace.following(x.modules), trace:
            output = x.call()
            has_output = True
            loss = x.loss_of(output) if x.subject.loss is not None else None
    except Exception as error:
        if trace.reached:
            raise ReachesBackError from error
        if x.model.training and not was_training:
            # Given in evaluation mode, and training mode does not work (batch norm over one value).
            x.model.eval()
            return _first_forward(x, True)
        if isinstance(error, ConfigError):
            raise
        if has_output:
            raise ConfigError(
                f"the loss cannot be called with the model's output ({kind_and_line(error)}), expected a function of "
                "the output, or of the output and the batch"
            ) from error
        raise uncallable(error) from error
    if trace.reached:
        raise ReachesBackError
    created = {
        name: Created(parameter, was_there=name in before)
        for name, parameter in x.named_parameters().items()
        if before.get(name) != id(parameter) and parameter.requires_grad and parameter.numel()
    }
    changed = {
        name
        for name, parameter in x.parameters.items()
        if is_small(parameter) and not torch.equal(parameter.detach(), x.initial[name])
    }
    still = {item.path: id(item.tensor) for item in loose_tensors(x.model)} if x.loose else {}
    replaced = {path for path, key in holders.items() if still.get(path, key) != key}
    known = {id(item.tensor) for item in created.values()} | {id(t) for t in x.watched.values()}
    leaves = tuple(LocalLeaf(path, leaf) for path, leaf in trace.foreign.values() if id(leaf) not in known)
    seen = Steps(trace, created, leaves, frozenset(changed), frozenset(replaced))
    return x.loss_of(output) if loss is None else loss, seen


def _second_forward(x: Experiment, seen: Steps) -> tuple[Tensor, Steps]:
    """Return the loss, and what was seen with whether the second forward makes or reads the same tensors."""
    if not seen.local_leaves and not seen.created:
        return x.loss_of(x.call()), seen
    again = Trace(x.watched, x.subject.batch)
    with again.following(x.modules), again:
        output = x.call()
    now, read = x.named_parameters(), {id(leaf) for _, leaf in again.foreign.values()}
    created = {
        name: dataclasses.replace(item, is_made_anew=now.get(name) is not item.tensor)
        for name, item in seen.created.items()
    }
    leaves = tuple(dataclasses.replace(leaf, persists=id(leaf.tensor) in read) for leaf in seen.local_leaves)
    return x.loss_of(output), dataclasses.replace(seen, created=created, local_leaves=leaves)


def _step(x: Experiment, optimizer: torch.optim.Optimizer, step: int) -> None:
    if x.is_own_optimizer:
        for parameter in x.parameters.values():
            parameter.grad = dense_gradient(parameter)
    if not needs_closure(optimizer):
        optimizer.step()
        return

    def closure() -> Tensor:
        x.zero()
        seed_all(x.seed + step)
        loss = x.loss_of(x.call())
        x.backward(loss)
        return loss

    optimizer.step(closure)  # type: ignore[arg-type]
