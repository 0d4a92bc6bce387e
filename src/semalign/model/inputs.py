"""The inputs of an alignment, checked and brought to one shape."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from semalign.errors import TextError

__all__ = ["flat_inputs", "spatial_shape"]


def flat_inputs(
    where: str,
    x: Float[Tensor, "batch *space dim"],
    text: Float[Tensor, "*batch tokens text_dim"],
    dim: int,
    text_dim: int,
) -> tuple[Float[Tensor, "batch positions dim"], Float[Tensor, "#batch tokens text_dim"]]:
    """Return visual features as B x N x C, and the text in their dtype with a batch axis (1 where shared).

    Args:
        where: names the alignment in messages.
        x: B x H x W x C or B x N x C.
        text: B x T x Ct, or T x Ct shared by all images.
        dim: C.
        text_dim: Ct.

    Raises:
        TextError: the shapes do not fit.
    """
    if x.ndim not in (3, 4) or x.shape[-1] != dim:
        raise TextError(
            f"{where} got visual features of shape {tuple(x.shape)}, expected batch x positions x {dim} or batch x "
            f"height x width x {dim}"
        )
    fits = text.ndim in (2, 3) and text.shape[-1] == text_dim and text.shape[-2] > 0
    if not fits or (text.ndim == 3 and text.shape[0] != x.shape[0]):
        raise TextError(
            f"{where} got text of shape {tuple(text.shape)} for {x.shape[0]} images, expected {x.shape[0]} x tokens x "
            f"{text_dim} or tokens x {text_dim}, with at least one token"
        )
    return x.flatten(1, -2), text.to(x.dtype).reshape(-1, *text.shape[-2:])


def spatial_shape(x: Float[Tensor, "batch *space dim"]) -> tuple[int, int] | None:
    """Return (height, width) of B x H x W x C, None for B x N x C."""
    return (x.shape[1], x.shape[2]) if x.ndim == 4 else None
