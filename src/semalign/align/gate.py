"""The gate: g = act(theta), and the residual that adds a gated branch.

Free functions of tensors and numbers.  They do not depend on attention or modules.
"""

from __future__ import annotations

import math

from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from semalign.errors import ConfigError
from semalign.presets import Activation

__all__ = ["add_branch", "gate_parameter", "gate_value", "gated_projection"]


def gate_value(theta: Float[Tensor, "*channels"], activation: Activation) -> Float[Tensor, "*channels"]:
    """Return g = act(theta), of shape () or (channels,)."""
    if activation == "tanh":
        return theta.tanh()
    return theta.sigmoid() if activation == "sigmoid" else theta


def gate_parameter(value: float, activation: Activation) -> float:
    """Return the theta whose gate is ``value``.

    Raises:
        ConfigError: ``value`` is not inside the activation's open range.

    >>> gate_parameter(0.5, "sigmoid")
    0.0
    """
    if activation == "none" and math.isfinite(value):
        return value
    if activation == "tanh" and -1.0 < value < 1.0:
        return math.atanh(value)
    if activation == "sigmoid" and 0.0 < value < 1.0:
        return math.log(value) - math.log1p(-value)
    expected = {"none": "a finite number", "tanh": "a value in (-1, 1)", "sigmoid": "a value in (0, 1)"}[activation]
    raise ConfigError(f"gate init {value:.4g} is outside the range of activation '{activation}', expected {expected}")


def gated_projection(
    mixed: Float[Tensor, "batch positions dim"],
    weight: Float[Tensor, "channels dim"],
    bias: Float[Tensor, " channels"],
    gate: Float[Tensor, "*per_channel"],
) -> Float[Tensor, "batch positions channels"]:
    """Return g * (mixed Wo + bo), bias included.

    The gate multiplies the small matrix rather than the large features: g * (m Wo + bo) = m (g * Wo) + g * bo, with one
    g or one per output channel.  At g = 0 the result is exactly 0 for finite input and still has its gradient in g.

    Args:
        mixed: the attention's output.
        weight: Wo in the layout of `torch.nn.Linear`.
        bias: bo.
        gate: g of shape () or (channels,).
    """
    columns = gate if gate.ndim == 0 else gate[:, None]
    return F.linear(mixed, columns * weight, gate * bias)


def add_branch(
    x: Float[Tensor, "batch positions channels"],
    branch: Float[Tensor, "batch positions channels"],
    has_text: Bool[Tensor, " #batch"] | None = None,
) -> Float[Tensor, "batch positions channels"]:
    """Return x + has_text * branch in the dtype of x; x itself, to the bit, for an image without text.

    The choice is a selection, not a product, so that nothing of such an image's branch reaches values or gradients.

    Args:
        x: the stream.
        branch: what is added, gate and output bias included.
        has_text: which images have any text (one entry may stand for all); None for all of them.
    """
    branch = branch.to(x.dtype)
    if has_text is not None:
        # Minus zero, the one number that leaves every x as it is: -0.0 + 0.0 would be 0.0.
        branch = branch.masked_fill(~has_text[:, None, None], -0.0)
    return x + branch
