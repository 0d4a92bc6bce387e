"""The fold of a text bank as one node of the graph, with its backward written out.

A bank is so small that what counts is the number of calls.  Layouts and names are those of `semalign.align.fold`.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from semalign.align.attention import EPS
from semalign.align.fold import FoldWeights, fold_matrices, output_columns
from semalign.presets import Similarity

__all__ = ["Fold"]


class Fold(torch.autograd.Function):
    """`semalign.align.fold.fold_matrices`: returns keys, offset and output."""

    @staticmethod
    def forward(
        ctx: Any, key: Tensor, value: Tensor, heads: int, similarity: Similarity, *tensors: Tensor
    ) -> tuple[Tensor, Tensor | None, Tensor]:
        """Return the matrices; ``tensors`` are those of `FoldWeights`."""
        weights = FoldWeights(*tensors)
        keys, offset, output, k, ungated = fold_matrices(key, value, weights, heads, similarity)
        ctx.save_for_backward(key, value, *weights[:5], k, ungated)
        ctx.heads, ctx.similarity = heads, similarity
        return keys, offset, output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_keys: Tensor, d_offset: Tensor | None, d_output: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of key, value and the six tensors."""
        key, value, scale, gate, query_weight, query_bias, out_weight, k, ungated = ctx.saved_tensors
        heads, similarity = ctx.heads, ctx.similarity
        needs_scale, needs_gate = ctx.needs_input_grad[4:6]
        texts, tokens, dim = key.shape
        rows = (texts * tokens, heads, dim // heads)
        d_query_weight = d_query_bias = d_scale = d_gate = None
        if similarity == "dot":
            assert d_offset is not None
            d_product = _by_head(d_keys, heads)
            d_bias = _by_head(d_offset.unsqueeze(-1), heads)
            weight = query_weight.view(heads, rows[2], -1)
            d_k = torch.bmm(d_product, weight.mT).addcmul_(d_bias, query_bias.view(heads, 1, -1))
            d_query_weight = torch.bmm(k.mT, d_product).view(query_weight.shape)
            d_query_bias = torch.bmm(k.mT, d_bias).view(query_bias.shape)
        else:
            d_k = d_keys.transpose(0, 1).reshape(heads, *rows[::2])
        factor = scale.to(key.dtype).reshape(-1, 1, 1)
        if needs_scale:
            # k holds the scale, which is above 0.
            d_scale = (d_k * k).sum(dim=(1, 2), keepdim=True).div_(factor)
            d_scale = (d_scale.sum() if scale.numel() == 1 else d_scale).reshape(scale.shape).to(scale.dtype)
        d_k = d_k * factor
        if similarity == "cosine":
            d_k = _normalize_backward(d_k, key.view(rows).transpose(0, 1))
        d_key = d_k.transpose(0, 1).reshape(key.shape)
        if similarity == "cosine-full":
            d_key = _normalize_backward(d_key, key)
        d_rows = _by_head(d_output, heads)
        if needs_gate:
            along_gate = d_rows * ungated
            d_gate = (along_gate.sum() if gate.ndim == 0 else along_gate.sum(dim=(0, 1))).to(gate.dtype)
        d_rows = d_rows * gate
        v = value.view(rows).transpose(0, 1)
        d_value = torch.bmm(d_rows, output_columns(out_weight, heads).mT).transpose(0, 1).reshape(value.shape)
        d_out_weight = torch.bmm(d_rows.mT, v).transpose(0, 1).reshape(out_weight.shape)
        d_out_bias = d_rows.sum(dim=(0, 1)).div_(heads)
        d_weights = (d_scale, d_gate, d_query_weight, d_query_bias, d_out_weight, d_out_bias)
        return d_key, d_value, None, None, *d_weights


def _by_head(columns: Float[Tensor, "texts heads_tokens channels"], heads: int) -> Float[Tensor, "heads rows channels"]:
    """Turn g (h t) c into h (g t) c."""
    texts, _, channels = columns.shape
    return columns.view(texts, heads, -1, channels).transpose(0, 1).reshape(heads, -1, channels)


def _normalize_backward(grad: Tensor, rows: Tensor) -> Tensor:
    """Return the gradient of the rows from that of the rows divided by their lengths."""
    length = rows.norm(dim=-1, keepdim=True)
    # Below the smallest norm the divisor is a constant.
    along = (grad * rows).sum(dim=-1, keepdim=True).div_(length.square()).masked_fill_(length < EPS, 0.0)
    return (grad - rows * along).div_(length.clamp_(min=EPS))
