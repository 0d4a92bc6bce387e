"""The temperature: scale = base * exp(l), its bounds and whether it can learn.

Free functions of tensors and numbers.  They do not depend on modules, optimizers or the site of a temperature.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from semalign.errors import ConfigError
from semalign.presets import Base, Bound

__all__ = [
    "DeadKnobWarning",
    "Liveness",
    "attention_scale",
    "base_value",
    "check_live",
    "liveness",
    "project_log_scale_",
]

Liveness = Literal["live", "edge", "dead"]


class DeadKnobWarning(UserWarning):
    """A learnable temperature that cannot learn, or is one step from it."""


def base_value(base: Base, head_dim: int) -> float:
    """Return the scale at l = 0: 1, or 1/sqrt(d) for heads of width ``head_dim`` (Vaswani et al. 2017).

    >>> base_value("1/sqrt(d)", 16)
    0.25
    """
    return 1.0 if base == "1" else 1.0 / math.sqrt(head_dim)


def attention_scale(
    log_scale: Float[Tensor, "*per_head"], base: float, bound: Bound, bounds: tuple[float, float] | None
) -> Float[Tensor, "*per_head"]:
    """Return the scale base * exp(l), with l clamped into ``bounds`` where ``bound`` is ``"clamp"``.

    ``"project"`` does nothing here: it acts after an optimizer step, see `project_log_scale_`.

    Args:
        log_scale: l, of shape () or (heads,).
        base: the scale at l = 0, above 0.
        bound: the kind of bound.
        bounds: lowest and highest l; not None for ``"clamp"``.

    Returns:
        The scale, above 0, in the shape of ``log_scale``.
    """
    if bound == "clamp" and bounds is not None:
        log_scale = log_scale.clamp(*bounds)
    return base * log_scale.exp()


@torch.no_grad()
def project_log_scale_(log_scale: Float[Tensor, "*per_head"], bounds: tuple[float, float]) -> None:
    """Put l back into ``bounds`` in place, outside the graph, as CLIP does after each step (Radford et al. 2021)."""
    log_scale.clamp_(*bounds)


def liveness(log_scale: Sequence[float], bound: Bound, bounds: tuple[float, float] | None) -> Liveness:
    """Say whether a learnable l can learn.

    Only a clamp in the forward can kill it: `torch.clamp` passes the gradient inside and on its bounds and gives
    exactly 0 outside.  So outside is ``"dead"``, and a value on the bound is ``"edge"``: one step further is dead.  The
    worst head counts.

    >>> [liveness([l], "clamp", (-2.0, 2.0)) for l in (0.0, 2.0, 2.659)]
    ['live', 'edge', 'dead']
    """
    if bound != "clamp" or bounds is None:
        return "live"
    low, high = bounds
    if any(value < low or value > high for value in log_scale):
        return "dead"
    return "edge" if any(value in bounds for value in log_scale) else "live"


def check_live(
    log_scale: Float[Tensor, "*per_head"],
    bound: Bound,
    bounds: tuple[float, float] | None,
    *,
    where: str,
    fix: str,
    allow_dead: bool = False,
    known: Liveness = "live",
) -> Liveness:
    """Refuse a learnable temperature that cannot learn; warn where it is one step from that.

    Args:
        log_scale: l, one per head or one.
        bound: the kind of bound.
        bounds: lowest and highest l, or None.
        where: names the temperature in the message.
        fix: what to change, a clause that begins with a verb.
        allow_dead: warn (`DeadKnobWarning`) instead of refusing.
        known: the state that was warned of before; it is not warned of again.

    Returns:
        The state, as by `liveness`.

    Raises:
        ConfigError: l is outside a clamp bound and ``allow_dead`` is false.
    """
    if bounds is None:
        return "live"
    # A clamp compares in the dtype of l, in which a bound such as log 10 is another number than in float64.
    low, high = torch.tensor(bounds, dtype=log_scale.dtype).tolist()
    values = log_scale.flatten().tolist()
    state = liveness(values, bound, (low, high))
    if state == "live" or (state == known and (state == "edge" or allow_dead)):
        return state
    span = f"[{low:.4g}, {high:.4g}]"
    if state == "edge":
        value = next(value for value in values if value in (low, high))
        warnings.warn(
            f"{where} is learnable and l = {value:.4g} lies on its clamp bounds {span}, one step from a gradient of "
            "exactly 0",
            DeadKnobWarning,
            stacklevel=3,
        )
        return state
    value = next(value for value in values if not low <= value <= high)
    live = high if value > high else low
    message = (
        f"{where} is learnable and l = {value:.4g} lies outside its clamp bounds {span}, so its gradient is exactly 0 "
        f"and it never learns; the nearest live init is {live:.4g}"
    )
    if not allow_dead:
        raise ConfigError(f"{message}: {fix}, or pass allow_dead=True to reproduce it as it is")
    warnings.warn(f"{message} (allow_dead=True)", DeadKnobWarning, stacklevel=3)
    return state
