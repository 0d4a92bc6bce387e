"""Attention to a folded text on CPUs: autograd functions that walk over blocks of positions.

They keep nothing for the backward but their inputs and, where these are no larger than the features, the attention
weights.  Layouts and names are those of `semalign.align.fold`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from semalign.align.attention import EPS
from semalign.align.cpu.blocks import (
    Block,
    Settings,
    Space,
    accumulate,
    add_rows,
    cut_into_blocks,
    keep_absent,
    product,
    softmax_,
    softmax_backward_,
    wide_dtype,
)

__all__ = ["Cosine", "Dot"]


class Dot(torch.autograd.Function):
    """Both sides folded.  Many weights (N x H T) are computed again in the backward rather than kept."""

    @staticmethod
    def run(
        source: Tensor,
        stream: Tensor | None,
        keys: Tensor,
        offset: Tensor,
        output: Tensor,
        to: Settings,
        kept: list[Tensor] | None,
    ) -> Tensor:
        """Return the result; the weights of each block go into ``kept``."""
        base = source if stream is None else stream
        y = torch.empty_like(base)
        blocks = Dot._blocks(source, keys, to)
        space = Space(source, wide_dtype(to.dtype), blocks, [keys.shape[1]], fresh=kept is not None)
        for block in blocks:
            (weights,) = space.cut(block)
            Dot._weights(block, block.of(source).to(to.dtype), keys, offset, weights, to)
            product(block.of(y), weights.to(to.dtype).mT, block.text(output), add=block.of(base))
            if kept is not None:
                kept.append(weights)
        keep_absent(y, base, to.present)
        return y

    @staticmethod
    def _blocks(source: Tensor, keys: Tensor, to: Settings) -> list[Block]:
        images, rows, channels = source.shape
        return cut_into_blocks(images, rows, 3 * channels + 2 * keys.shape[1], source.itemsize, to.present)

    @staticmethod
    def _weights(block: Block, x: Tensor, keys: Tensor, offset: Tensor, out: Tensor, to: Settings) -> None:
        product(out, block.text(keys), x.mT, add=block.text(offset).unsqueeze(-1))
        softmax_(out, out, to)

    @staticmethod
    def forward(
        ctx: Any, source: Tensor, stream: Tensor | None, keys: Tensor, offset: Tensor, output: Tensor, to: Settings
    ) -> Tensor:
        """Return the result, and save what the backward needs."""
        kept: list[Tensor] | None = [] if keys.shape[1] <= source.shape[2] else None
        y = Dot.run(source, stream, keys, offset, output, to, kept)
        ctx.save_for_backward(source, keys, offset, output, *(kept or ()))
        ctx.settings, ctx.own = to, stream is None
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of all arguments, None for the settings."""
        source, keys, offset, output, *kept = ctx.saved_tensors
        to: Settings = ctx.settings
        grad = grad.contiguous()
        d_source = torch.empty_like(source) if ctx.needs_input_grad[0] else None
        d_keys = torch.zeros_like(keys, dtype=wide_dtype(to.dtype))
        d_offset = torch.zeros_like(offset)
        d_output = torch.zeros_like(output, dtype=wide_dtype(to.dtype))
        blocks = Dot._blocks(source, keys, to)
        space = Space(source, wide_dtype(to.dtype), blocks, [keys.shape[1]] * (1 if kept else 2))
        for index, block in enumerate(blocks):
            d_logits, *more = space.cut(block)
            x, dy = block.of(source).to(to.dtype), block.of(grad).to(to.dtype)
            if kept:
                weights = kept[index]
            else:
                (weights,) = more
                Dot._weights(block, x, keys, offset, weights, to)
            accumulate(d_output, block, weights.to(to.dtype), dy)
            product(d_logits, block.text(output), dy.mT)
            softmax_backward_(d_logits, weights, to)
            add_rows(d_offset, block, d_logits.sum(dim=-1))
            d_logits = d_logits.to(to.dtype)
            accumulate(d_keys, block, d_logits, x)
            if d_source is not None:
                own = block.of(grad) if ctx.own else None
                product(block.of(d_source), d_logits.mT, block.text(keys), add=own)
        if d_source is not None:
            keep_absent(d_source, grad if ctx.own else None, to.present)
        d_stream = None if ctx.own else grad
        return d_source, d_stream, d_keys.to(keys.dtype), d_offset, d_output.to(output.dtype), None


class Cosine(torch.autograd.Function):
    """The output side folded; queries are made and measured block by block, and made again in the backward.

    logits = L raw with raw = scale * k_h q_h / |k_h| and L = 1 / |q_h|, so that the division runs over T numbers per
    head instead of d.
    """

    @staticmethod
    def _logits(
        block: Block,
        x: Tensor,
        query: Tensor,
        logits: Tensor,
        keys: Tensor,
        weight: Tensor,
        bias: Tensor,
        to: Settings,
    ) -> Tensor:
        """Fill ``query`` (images x C x n) and ``logits``; return 1 / |q| (images x heads or 1 x 1 x n)."""
        images, channels, rows = query.shape
        heads = to.heads
        shared = weight.expand(images, -1, -1)
        product(query, shared, x.mT, add=bias.to(query.dtype)[:, None].expand(images, -1, 1))
        split = query.view(images, 1 if to.whole else heads, -1, rows)
        # Squares and a sum: torch's norm over an inner axis takes 25 times as long.
        inverse = (split * split).sum(dim=2, keepdim=True).sqrt_().clamp_(min=EPS).reciprocal_()
        per_head = (images * heads, -1, rows)
        own = block.text(keys).reshape(images * heads, keys.shape[2], keys.shape[3])
        product(logits.view(per_head), own, query.view(images * heads, channels // heads, rows).to(to.dtype))
        logits.view(images, heads, -1, rows).mul_(inverse)
        return inverse

    @staticmethod
    def _weights(block: Block, logits: Tensor, offset: Tensor | None, out: Tensor, to: Settings) -> None:
        if offset is not None:
            logits = torch.add(logits, block.text(offset).unsqueeze(-1), out=out)
        softmax_(logits, out, to)

    @staticmethod
    def run(
        source: Tensor,
        stream: Tensor | None,
        keys: Tensor,
        offset: Tensor | None,
        output: Tensor,
        weight: Tensor,
        bias: Tensor,
        to: Settings,
        kept: list[Tensor] | None,
    ) -> Tensor:
        """Return the result; what the backward needs goes into ``kept``, where there is but one block."""
        base = source if stream is None else stream
        y = torch.empty_like(base)
        channels, height = source.shape[2], output.shape[1]
        numbers = 3 * channels + height if kept is None else 5 * channels + 3 * height
        blocks = cut_into_blocks(*source.shape[:2], numbers, source.itemsize, to.present)
        keeps = kept is not None and len(blocks) == 1
        space = Space(source, wide_dtype(to.dtype), blocks, [channels, height, height] if keeps else [channels, height])
        for block in blocks:
            query, logits, *more = space.cut(block)
            weights = more[0] if keeps else logits
            inverse = Cosine._logits(block, block.of(source).to(to.dtype), query, logits, keys, weight, bias, to)
            Cosine._weights(block, logits, offset, weights, to)
            product(block.of(y), weights.to(to.dtype).mT, block.text(output), add=block.of(base))
            if kept is not None and keeps:
                kept += [query, logits, weights, inverse]
        keep_absent(y, base, to.present)
        return y

    @staticmethod
    def forward(
        ctx: Any,
        source: Tensor,
        stream: Tensor | None,
        keys: Tensor,
        offset: Tensor | None,
        output: Tensor,
        weight: Tensor,
        bias: Tensor,
        to: Settings,
    ) -> Tensor:
        """Return the result, and save what the backward needs."""
        kept: list[Tensor] = []
        y = Cosine.run(source, stream, keys, offset, output, weight, bias, to, kept)
        ctx.save_for_backward(source, keys, offset, output, weight, bias, *kept)
        ctx.settings, ctx.own = to, stream is None
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of all arguments, None for the settings."""
        source, keys, offset, output, weight, bias, *kept = ctx.saved_tensors
        to: Settings = ctx.settings
        heads = to.heads
        grad = grad.contiguous()
        wide = wide_dtype(to.dtype)
        d_source = torch.empty_like(source) if ctx.needs_input_grad[0] else None
        d_keys, d_output = torch.zeros_like(keys, dtype=wide), torch.zeros_like(output, dtype=wide)
        d_weight, d_bias = torch.zeros_like(weight, dtype=wide).unsqueeze(0), torch.zeros_like(bias, dtype=wide)
        channels, height = source.shape[2], output.shape[1]
        blocks = cut_into_blocks(*source.shape[:2], 5 * channels + 3 * height, source.itemsize, to.present)
        again = [] if kept else [channels, height, height]
        space = Space(source, wide, blocks, [channels, height, *again])
        for block in blocks:
            d_query, d_logits, *more = space.cut(block)
            images, rows = block.last - block.first, block.stop - block.start
            x, dy = block.of(source).to(to.dtype), block.of(grad).to(to.dtype)
            if kept:
                query, logits, weights, inverse = kept
            else:
                query, logits, weights = more
                inverse = Cosine._logits(block, x, query, logits, keys, weight, bias, to)
                Cosine._weights(block, logits, offset, weights, to)
            accumulate(d_output, block, weights.to(to.dtype), dy)
            product(d_logits, block.text(output), dy.mT)
            softmax_backward_(d_logits, weights, to)
            # d|q|: with dl the logits' gradient, dq = L k^T dl - L^2 q sum(dl * l), the sum over a norm's own logits.
            through_norm = (d_logits * logits).view(images, 1 if to.whole else heads, -1, rows).sum(dim=2, keepdim=True)
            through_norm.mul_(inverse.square()).neg_()
            # Below the smallest norm the divisor is a constant.
            through_norm.masked_fill_(inverse >= 1 / EPS, 0.0)
            d_logits.view(images, heads, -1, rows).mul_(inverse)
            d_raw = d_logits.view(images * heads, -1, rows).to(to.dtype)
            d = channels // heads
            own = block.text(keys).reshape(images * heads, -1, d)
            product(d_query.view(images * heads, d, rows), own.mT, d_raw)
            per_norm = (images, 1 if to.whole else heads, -1, rows)
            d_query.view(per_norm).addcmul_(query.view(per_norm), through_norm)
            d_key = torch.bmm(d_raw, query.view(images * heads, d, rows).to(to.dtype).mT).view(images, *keys.shape[1:])
            if keys.shape[0] > 1:
                d_keys[block.first : block.last] += d_key
            else:
                d_keys += d_key.sum(dim=0, keepdim=True)
            d_bias += d_query.sum(dim=(0, 2))
            d_query = d_query.to(to.dtype)
            accumulate(d_weight, block, d_query, x)
            if d_source is not None:
                add = block.of(grad) if ctx.own else None
                product(block.of(d_source), d_query.mT, weight.expand(images, -1, -1), add=add)
        if d_source is not None:
            keep_absent(d_source, grad if ctx.own else None, to.present)
        return (
            d_source,
            None if ctx.own else grad,
            d_keys.to(keys.dtype),
            None,
            d_output.to(output.dtype),
            d_weight[0].to(weight.dtype),
            d_bias.to(bias.dtype),
            None,
        )
