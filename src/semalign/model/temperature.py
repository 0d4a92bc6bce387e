"""The temperature of an attention as a module, and what keeps temperatures inside their bounds in training."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from semalign.align.temperature import Liveness, attention_scale, base_value, check_live, project_log_scale_
from semalign.presets import TemperatureKnobs

__all__ = ["Temperature", "project_temperatures", "projection_hook", "taking_what_was_learned"]


class Temperature(nn.Module):
    """The inverse temperature of an attention, scale = base * exp(l).

    l is named ``log_scale``: a parameter where it is learnable, else a buffer, so that state dicts agree.  A learnable
    l that a clamp has made dead is refused here and after a state dict is loaded.

    Args:
        knobs: base, start, bounds, and whether l is learnable and per head.
        heads: number of heads.
        head_dim: width d of one head, for the base 1/sqrt(d).
        where: names the owner in messages.
        allow_dead: warn of a dead l instead of refusing it.

    Raises:
        ConfigError: l is learnable and dead, and ``allow_dead`` is false.
    """

    log_scale: Tensor

    def __init__(
        self,
        knobs: TemperatureKnobs,
        *,
        heads: int,
        head_dim: int,
        where: str = "temperature",
        allow_dead: bool = False,
    ) -> None:
        super().__init__()
        self.knobs = knobs
        self.base = base_value(knobs.base, head_dim)
        self.where = where
        self.allow_dead = allow_dead
        self._state: Liveness = "live"
        start = torch.empty((heads,) if knobs.per_head else ())
        if knobs.learnable:
            self.log_scale = nn.Parameter(start)
        else:
            self.register_buffer("log_scale", start)
        self.reset_parameters()
        self.check_live()
        self.register_load_state_dict_post_hook(_check_after_load)  # type: ignore[no-untyped-call]

    @property
    def liveness(self) -> Liveness:
        """Whether l can learn: "live", "edge" (on a clamp's bound) or "dead"; a fixed l is "live"."""
        return self._state

    def reset_parameters(self) -> None:
        """Set l to its start; draws nothing."""
        nn.init.constant_(self.log_scale, self.knobs.init)

    def forward(self) -> Float[Tensor, "*per_head"]:
        """Return the scale, of shape () or (heads,)."""
        return attention_scale(self.log_scale, self.base, self.knobs.bound, self.knobs.bounds)

    def check_live(self) -> None:
        """Raise ConfigError where l is learnable and dead; warn where it has become one step from that, or allowed."""
        if self.knobs.learnable and not self.log_scale.is_meta:
            self._state = check_live(
                self.log_scale.detach(),
                self.knobs.bound,
                self.knobs.bounds,
                where=self.where,
                fix="set temperature.init to a value inside, choose temperature.bound 'project' with wider bounds",
                allow_dead=self.allow_dead,
                known=self._state,
            )

    def project_parameters(self) -> None:
        """Put a learnable l back inside its bounds where these are of the kind ``"project"``."""
        if self.knobs.learnable and self.knobs.bound == "project" and self.knobs.bounds is not None:
            project_log_scale_(self.log_scale, self.knobs.bounds)


def _check_after_load(module: nn.Module, _incompatible: object) -> None:
    # A function of the module, not a lambda: hooks are copied and pickled with it.
    assert isinstance(module, Temperature)
    module.check_live()


@contextmanager
def taking_what_was_learned(model: nn.Module) -> Iterator[None]:
    """Let ``model`` load what a training has come to: a temperature that left its clamp is warned of, not refused.

    Where it starts is the user's choice and can be corrected; what was trained must not be lost for it.
    """
    temperatures = [module for module in model.modules() if isinstance(module, Temperature)]
    before = [temperature.allow_dead for temperature in temperatures]
    for temperature in temperatures:
        temperature.allow_dead = True
    try:
        yield
    finally:
        for temperature, allowed in zip(temperatures, before, strict=True):
            temperature.allow_dead = allowed


def project_temperatures(module: nn.Module) -> None:
    """Put every projected temperature in ``module`` back inside its bounds.

    Any submodule takes part that has a method ``project_parameters()`` without arguments.
    """
    for submodule in module.modules():
        project = getattr(submodule, "project_parameters", None)
        if callable(project):
            project()


def projection_hook(module: nn.Module) -> Callable[[Any, Any, Any], None]:
    """Return `project_temperatures` as a hook for ``optimizer.register_step_post_hook``.

    >>> module = EncoderAlignment(8, 4, 2, temperature_learnable=True)
    >>> optimizer = torch.optim.SGD(module.parameters(), lr=1e-3)
    >>> handle = optimizer.register_step_post_hook(projection_hook(module))
    """

    def hook(_optimizer: Any, _args: Any, _kwargs: Any) -> None:
        project_temperatures(module)

    return hook
