"""The audit's dynamic findings over a real training, for anybody's own loop.

    watch = Watch(model, optimizer)
    for batch in loader:
        loss = ...
        optimizer.zero_grad()
        loss.backward()
        watch.after_backward()
        optimizer.step()
        watch.after_step()
    print(watch.report())

It looks at learnable tensors of at most 4096 numbers in one axis, and costs a few small kernels per step; for one that
does not move it takes an optimizer step on a copy.  What only a traced forward can show is left to
`semalign.audit.liveness`.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from semalign.audit.evidence.experiment import optimizer_alike
from semalign.audit.evidence.names import is_builtin, is_hint, split_owner
from semalign.audit.evidence.records import is_small
from semalign.audit.findings import AuditReport, Finding, make_report
from semalign.errors import ConfigError
from semalign.wording import say

__all__ = ["Watch"]

SAME_STEPS = 5
"""Steps in a row that could have moved a value and did not, after which it counts as pinned."""
RESOLVED = 4
"""Times the resolution of a value by which a step must move it to count as one that could."""


@dataclasses.dataclass
class _Seen:
    start: Tensor
    last: Tensor
    decayed: Tensor | None
    gradients: int = 0
    zero: int = 0
    still: int = 0
    held: int = 0
    moved: int = 0
    alive_after: int = -1
    gradient: Tensor | None = None


class Watch:
    """Watches the knobs of a model while it is trained.

    Args:
        model: the model; temperatures, gates and other small factors are found by their names, scalars in any case.
        optimizer: the optimizer that trains it.

    Raises:
        ConfigError: ``model`` is not a module or ``optimizer`` not an optimizer.
    """

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        if not isinstance(model, nn.Module) or not isinstance(optimizer, torch.optim.Optimizer):
            raise ConfigError(
                f"Watch got {type(model).__name__} and {type(optimizer).__name__}, expected a torch.nn.Module and a "
                "torch.optim.Optimizer"
            )
        self.model, self.optimizer = model, optimizer
        self.steps = 0
        self._bad_gradient: tuple[str, int] | None = None
        self._seen: dict[str, _Seen] = {}
        self._known: dict[str, Tensor] = {}
        for name, parameter in model.named_parameters():
            if parameter.requires_grad and _is_knob(model, name, parameter):
                value = parameter.detach().clone()
                self._seen[name] = _Seen(value, value.clone(), value.clone())
                self._known[name] = parameter

    @torch.no_grad()
    def after_backward(self) -> None:
        """Look at the gradients; to be called between ``backward`` and the optimizer's step."""
        for name, seen in self._seen.items():
            grad = seen.gradient = self._known[name].grad
            if grad is None:
                continue
            seen.gradients += 1
            if not bool(grad.isfinite().all()):
                self._bad_gradient = self._bad_gradient or (name, self.steps)
            elif not bool(torch.count_nonzero(grad)):
                seen.zero += 1
            elif seen.alive_after < 0:
                seen.alive_after = self.steps

    @torch.no_grad()
    def after_step(self) -> None:
        """Look at the values; to be called after the optimizer's step and after any projection into bounds."""
        rates = {id(p): group for group in self.optimizer.param_groups for p in group["params"]}
        for name, seen in self._seen.items():
            parameter = self._known[name]
            group = rates.get(id(parameter), {})
            if seen.decayed is not None:
                seen.decayed *= 1 - float(group.get("lr", 0.0)) * float(group.get("weight_decay", 0.0))
            if torch.equal(parameter, seen.last):
                seen.still += 1
                # Beyond SAME_STEPS there is nothing more to know.
                if seen.held < SAME_STEPS and group and self._would_move(parameter, seen.gradient, group):
                    seen.held += 1
            else:
                seen.moved += 1
                seen.still = seen.held = 0
                seen.last = parameter.detach().clone()
        self.steps += 1

    def _would_move(self, parameter: Tensor, gradient: Tensor | None, group: dict[str, Any]) -> bool:
        """Whether the optimizer's next step with this gradient would change a value by what its dtype resolves."""
        if gradient is None or not bool(gradient.isfinite().all()) or not float(group.get("lr", 1.0)):
            return False
        free = parameter.detach().clone().requires_grad_()
        free.grad = gradient.detach().clone()
        try:
            twin = optimizer_alike(self.optimizer, group, free)
            twin.state[free] = copy.deepcopy(self.optimizer.state.get(parameter, {}))
            twin.step()
            way = free.detach() - parameter
        except Exception:
            # Somebody's own optimizer may need other arguments; a watch must not stop a training.
            way = float(group.get("lr", 1.0)) * gradient
        return bool((way.abs() > RESOLVED * torch.finfo(parameter.dtype).eps * parameter.abs()).any())

    def report(self) -> AuditReport:
        """Return what the steps so far have shown, in the audit's terms."""
        return make_report(self._findings(), {"steps": self.steps, "knobs": sorted(self._seen)})

    def _findings(self) -> Iterator[Finding]:
        groups = {id(p): group for group in self.optimizer.param_groups for p in group["params"]}
        now = dict(self.model.named_parameters())
        if self._bad_gradient is not None:
            name, step = self._bad_gradient
            yield Finding("non-finite", (name,), say("audit.watch.non-finite", step=step))
        for name, other in now.items():
            if other.requires_grad and name not in self._known and id(other) not in groups:
                yield Finding("created-after-optimizer", (name,), say("audit.watch.new"))
        for name, seen in self._seen.items() if self.steps else ():
            if now.get(name) is self._known[name]:
                yield from self._findings_of(name, seen, groups.get(id(self._known[name])))
            else:
                yield Finding("created-after-optimizer", (name,), say("audit.watch.replaced"))

    def _findings_of(self, name: str, seen: _Seen, group: dict[str, Any] | None) -> Iterator[Finding]:
        """Yield what is wrong with one knob that the optimizer holds in ``group``."""
        first = float(self._known[name].detach().flatten()[0])
        numbers = {"steps": float(self.steps), "value": first}
        value = say("audit.value.one", value=first)
        alive = seen.gradients - seen.zero

        def found(code: str, key: str, **values: Any) -> Finding:
            return Finding(code, (name,), say(f"audit.watch.{key}", value=value, **values), numbers)

        if alive == 0:
            how = say("audit.dead.zero" if seen.gradients else "audit.dead.absent", n=self.steps)
            yield found("zero-gradient", "no-gradient", gradient=how)
            is_decayed = seen.decayed is not None and torch.allclose(seen.last, seen.decayed, rtol=1e-3)
            if seen.moved and is_decayed and not torch.equal(seen.start, seen.last):
                yield found("decay-only", "decayed", start=float(seen.start.flatten()[0]))
        elif group is None:
            yield found("not-in-optimizer", "not-held", n=alive)
        elif seen.held >= SAME_STEPS:
            yield found("pinned-at-bound", "pinned", still=seen.still, n=self.steps)
        elif not seen.moved and seen.still >= SAME_STEPS and not group.get("initial_lr"):
            yield found("idle-group", "unmoved", rate=float(group.get("lr", 1.0)), n=self.steps)
        elif seen.alive_after > 0:
            yield found("wakes-up", "woke-up", step=seen.alive_after)


def _is_knob(model: nn.Module, name: str, parameter: Tensor) -> bool:
    _, owner, attribute = split_owner(model, name)
    if not is_small(parameter) or is_builtin(owner) or "norm" in type(owner).__name__.lower():
        return False
    return parameter.numel() == 1 or (
        parameter.numel() > 1 and is_hint(attribute) and attribute not in ("weight", "bias")
    )
