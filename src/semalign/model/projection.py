"""Linear maps whose weights others multiply, and whether that equals calling them."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from semalign.align.gate import gated_projection

__all__ = ["Projection", "gated_output", "is_its_weight", "is_listened_to", "projected"]


class Projection(nn.Linear):
    """A linear map that starts as the original's do: Xavier-uniform weight, zero bias."""

    def reset_parameters(self) -> None:
        """Draw the weight from the global generator (Glorot and Bengio 2010) and set the bias to 0."""
        nn.init.xavier_uniform_(self.weight)
        if self.bias is not None:
            nn.init.zeros_(self.bias)


def is_listened_to(module: nn.Module) -> bool:
    """Return whether the module has hooks, so that it must be called."""
    hooks = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks)
    return any(hooks)


def is_its_weight(layer: nn.Linear) -> bool:
    """Return whether the layer is a product with its weight and no more: without adapter or hooks."""
    return type(layer).forward is nn.Linear.forward and "forward" not in vars(layer) and not is_listened_to(layer)


def gated_output(
    layer: nn.Linear, mixed: Float[Tensor, "batch positions dim"], gate: Float[Tensor, "*per_channel"]
) -> Float[Tensor, "batch positions channels"]:
    """Return g * layer(mixed): by the small matrix where the layer is its weight, else by calling it."""
    if is_its_weight(layer):
        return gated_projection(mixed, layer.weight, layer.bias, gate)
    y: Tensor = layer(mixed)
    return gate.to(y.dtype) * y


def projected(linear: nn.Linear, x: Tensor, *, exact: bool) -> Tensor:
    """Return the linear map of ``x``, in float64 where ``exact``."""
    if not exact or not is_its_weight(linear):
        y: Tensor = linear(x.to(linear.weight.dtype) if exact else x)
        return y.double() if exact else y
    return F.linear(x.double(), linear.weight.double(), None if linear.bias is None else linear.bias.double())
