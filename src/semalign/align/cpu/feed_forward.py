"""The feed-forward part of a decoder level, y = x + W2 gelu(W1 norm(x) + b1) + b2, in blocks of positions.

The hidden layer is four times as wide as the features: as a whole it is written to and read from main memory several
times over, in blocks it never leaves the processor's cache.  The products over positions are oneDNN's, which on some
processors are twice as fast as the library that `torch.nn.functional.linear` calls; those of the weights' gradients are
that library's, which is the faster one there.  The backward keeps x alone and computes the hidden layer again, which
costs more than it saves at few positions (`is_worth_blocks`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from semalign.align.cpu.blocks import is_captured

__all__ = ["feed_forward", "is_worth_blocks", "runs_in_blocks"]

BLOCK_BYTES = 1 << 20
"""Of the hidden layer, per thread: what stays in a processor's second-level cache."""


POSITIONS_PER_CHANNEL = 96
"""With gradients blocks are faster above this many positions per channel: what they save grows with the positions,
and the product that they compute again with the channels too (measured between 64 and 192 channels)."""
LEAST_BYTES = 2 << 20
"""Without gradients: of the hidden layer; one of up to this size stays in the cache as a whole."""


def is_worth_blocks(x: Float[Tensor, "... channels"], hidden: int, *, training: bool) -> bool:
    """Say whether `feed_forward` is faster here than the plain modules, which keep the hidden layer for the backward.

    Args:
        x: features.
        hidden: width of the hidden layer.
        training: whether there will be a backward.
    """
    channels = x.shape[-1]
    rows = x.numel() // channels
    return rows > POSITIONS_PER_CHANNEL * channels if training else rows * hidden * x.itemsize > LEAST_BYTES


def runs_in_blocks(x: Tensor) -> bool:
    """Say whether `feed_forward` can be called here: float32 on a CPU, no graph captured, no autocast."""
    return (
        x.device.type == "cpu"
        and x.dtype == torch.float32
        and not is_captured()
        and not torch.is_autocast_enabled("cpu")
        and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    )


def feed_forward(
    x: Float[Tensor, "... channels"],
    norm: tuple[Float[Tensor, " channels"], Float[Tensor, " channels"], float] | None,
    w1: Float[Tensor, "hidden channels"],
    b1: Float[Tensor, " hidden"],
    w2: Float[Tensor, "channels hidden"],
    b2: Float[Tensor, " channels"],
) -> Float[Tensor, "... channels"]:
    """Return x + W2 gelu(W1 norm(x) + b1) + b2 with the exact (erf) GELU, float32 on a CPU.

    Args:
        x: features.
        norm: weight, bias and epsilon of a layer norm; None: the features themselves go into W1.
        w1: W1 in the layout of `torch.nn.Linear`.
        b1: its bias.
        w2: W2, likewise.
        b2: its bias.
    """
    rows = x.reshape(-1, x.shape[-1]).contiguous()
    weight, bias, eps = (None, None, 0.0) if norm is None else norm
    y: Tensor = _FeedForward.apply(rows, weight, bias, w1, b1, w2, b2, eps)  # type: ignore[no-untyped-call]
    return y.view(x.shape)


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None = None, gelu: bool = False) -> Tensor:
    """Return x W^T + b, perhaps through GELU, by oneDNN."""
    result: Tensor = torch.ops.mkldnn._linear_pointwise(
        x, weight, bias, "gelu" if gelu else "none", [], "none" if gelu else ""
    )
    return result


def _blocks(hidden: int, *arrays: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Yield the same rows of each array, so many that their hidden layer stays in the cache."""
    size = max(64, BLOCK_BYTES * torch.get_num_threads() // (4 * hidden))
    for start in range(0, len(arrays[0]), size):
        yield tuple(array[start : start + size] for array in arrays)


class _FeedForward(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        w1: Tensor,
        b1: Tensor,
        w2: Tensor,
        b2: Tensor,
        eps: float,
    ) -> Tensor:
        y = torch.empty_like(x)
        for piece, out in _blocks(len(b1), x, y):
            h = piece if weight is None else F.layer_norm(piece, weight.shape, weight, bias, eps)
            torch.add(piece, _linear(_linear(h, w1, b1, gelu=True), w2, b2), out=out)
        ctx.save_for_backward(x, weight, bias, w1, b1, w2)
        ctx.eps = eps
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias, w1, b1, w2 = ctx.saved_tensors
        grad = grad.contiguous()
        dx = torch.empty_like(x)
        sums = [torch.zeros_like(t) for t in (w1, b1, w2)]
        norms = None if weight is None else (torch.zeros_like(weight), torch.zeros_like(bias))
        w1_t, w2_t = w1.t().contiguous(), w2.t().contiguous()
        for piece, dy, out in _blocks(len(b1), x, grad, dx):
            h = piece
            if weight is not None:
                h, mean, rstd = torch.native_layer_norm(piece, weight.shape, weight, bias, ctx.eps)
            hidden = _linear(h, w1, b1)
            # Not addmm_, which torch's counter of operations does not know.
            torch.addmm(sums[2], dy.t(), F.gelu(hidden), out=sums[2])
            dhidden = torch.ops.aten.gelu_backward(_linear(dy, w2_t), hidden)
            torch.addmm(sums[0], dhidden.t(), h, out=sums[0])
            sums[1] += dhidden.sum(dim=0)
            dh = _linear(dhidden, w1_t)
            if weight is not None and norms is not None:
                dh, dweight, dbias = torch.ops.aten.native_layer_norm_backward(
                    dh, piece, weight.shape, mean, rstd, weight, bias, [True, True, True]
                )
                norms[0].add_(dweight)
                norms[1].add_(dbias)
            torch.add(dh, dy, out=out)
        dweight, dbias = (None, None) if norms is None else norms
        return dx, dweight, dbias, *sums, grad.sum(dim=0), None
