"""The folded form as a module calls it: in the CPU's kernels where these run, else as `semalign.align.fold` writes it.

The kernels are autograd functions: `Fold` for the bank, `Dot` or `Cosine` for the positions, and here one node of the
graph that holds both and the projections of the text.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from semalign.align import fold as plain
from semalign.align.cpu.attend import Cosine, Dot
from semalign.align.cpu.blocks import Settings, is_captured
from semalign.align.cpu.fold import Fold
from semalign.align.fold import FoldedText, FoldWeights, folded_text, without_autocast
from semalign.presets import Similarity

__all__ = ["SiteWeights", "align_folded", "attend_folded", "fold", "present_tokens", "runs_in_blocks"]


def runs_in_blocks(x: Tensor) -> bool:
    """Return whether the kernels run here: on a CPU, and not while a graph is captured."""
    return x.device.type == "cpu" and not is_captured()


def present_tokens(is_padding: Bool[Tensor, "#batch tokens"]) -> tuple[Tensor | None, list[bool] | None]:
    """Read a mask on the host: which tokens are worth keeping, and which images have text.

    Returns:
        The indices of the tokens that some image has, or None where all are; and one entry per row of the mask, whether
        it has text, or None where every row has.
    """
    dropped, absent = is_padding.all(dim=0).tolist(), is_padding.all(dim=1).tolist()
    kept = None
    if any(dropped):
        # A text that no image has keeps one token, which is not read.
        indices = [index for index, gone in enumerate(dropped) if not gone] or [0]
        kept = torch.tensor(indices, device=is_padding.device)
    return kept, [not gone for gone in absent] if any(absent) else None


def fold(
    key: Float[Tensor, "texts tokens dim"],
    value: Float[Tensor, "texts tokens dim"],
    weights: FoldWeights,
    *,
    heads: int,
    similarity: Similarity = "dot",
    is_padding: Bool[Tensor, "#texts tokens"] | None = None,
) -> FoldedText:
    """Return `semalign.align.fold.fold` of the arguments, as one node of the graph where it `runs_in_blocks`."""
    if not runs_in_blocks(key):
        return plain.fold(key, value, weights, heads=heads, similarity=similarity, is_padding=is_padding)
    keys, offset, output = Fold.apply(key, value, heads, similarity, *weights)  # type: ignore[no-untyped-call]
    return folded_text(keys, offset, output, weights, heads, similarity, is_padding)


def attend_folded(
    stream: Float[Tensor, "batch positions channels"],
    source: Float[Tensor, "batch positions channels"],
    text: FoldedText,
    *,
    is_padding: Bool[Tensor, "#batch tokens"] | None = None,
    present: Sequence[bool] | None = None,
    top_k: int | None = None,
    dtype: torch.dtype | None = None,
) -> Float[Tensor, "batch positions channels"]:
    """Return `semalign.align.fold.attend_folded` of the arguments, by a kernel where it `runs_in_blocks`.

    Args:
        stream: as there.
        source: as there.
        text: as there.
        is_padding: as there; used where the plain operations run.
        present: which images (or one entry for all) have text, None for all (`present_tokens`); used by the kernels.
        top_k: as there.
        dtype: as there.
    """
    dtype = dtype or source.dtype
    if not runs_in_blocks(source):
        return plain.attend_folded(stream, source, text, is_padding=is_padding, top_k=top_k, dtype=dtype)
    shared = all(t is None or t.shape[0] == 1 for t in (text.keys, text.offset, text.output))
    tokens = text.output.shape[1] // text.heads
    source, base, settings = _prepare(stream, source, text.heads, text.whole, tokens, shared, present, top_k, dtype)
    tensors: list[Tensor | None] = [source, base, text.keys.to(dtype), text.offset, text.output.to(dtype)]
    function: Any = Dot
    if text.query_weight is not None:
        function = Cosine
        tensors += [text.query_weight.to(dtype), text.query_bias]
    with without_autocast("cpu"):
        # A node of the graph costs as much as a small site's products.
        grad = torch.is_grad_enabled()
        y: Tensor = function.apply(*tensors, settings) if grad else function.run(*tensors, settings, None)
    return y.view(stream.shape)


def _prepare(
    stream: Tensor,
    source: Tensor,
    heads: int,
    whole: bool,
    tokens: int,
    shared: bool,
    present: Sequence[bool] | None,
    top_k: int | None,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor | None, Settings]:
    """Return source and stream (None where it is the source) as the kernels take them, and their settings."""
    if top_k is not None and top_k >= tokens:
        top_k = None
    batch, _, channels = source.shape
    same = stream is source
    if shared and (present is None or len(present) == 1):
        # One text for all images: their positions are one long list.
        source = source.reshape(1, -1, channels)
    elif present is not None and len(present) == 1:
        present = None if present[0] else [False] * batch
    source = source.contiguous()
    base = None if same else stream.reshape(source.shape).contiguous()
    return source, base, Settings(heads, whole, top_k, None if present is None else tuple(present), dtype)


class SiteWeights(NamedTuple):
    """What a site owns: the projections of its text in the layout of `torch.nn.Linear`, and what it folds them into."""

    key_weight: Tensor
    key_bias: Tensor | None
    value_weight: Tensor
    value_bias: Tensor
    fold: FoldWeights


def align_folded(
    stream: Float[Tensor, "batch positions channels"],
    source: Float[Tensor, "batch positions channels"],
    text: Float[Tensor, "#batch tokens text_dim"],
    weights: SiteWeights,
    *,
    heads: int,
    similarity: Similarity = "dot",
    is_padding: Bool[Tensor, "#batch tokens"] | None = None,
    present: Sequence[bool] | None = None,
    top_k: int | None = None,
) -> Float[Tensor, "batch positions channels"]:
    """Return `attend_folded` of `fold` of the projected text as one node of the graph, where it `runs_in_blocks`.

    What it saves is calls: two projections, the fold and their backwards cost a small site more than its products.
    All tensors share one dtype; padded rows of ``text`` are finite.
    """
    texts, tokens, _ = text.shape
    shared = texts == 1 and (is_padding is None or is_padding.shape[0] == 1)
    whole = similarity == "cosine-full"
    source, base, settings = _prepare(stream, source, heads, whole, tokens, shared, present, top_k, source.dtype)
    y: Tensor = _Site.apply(source, base, text, similarity, is_padding, settings, *weights[:4], *weights.fold)  # type: ignore[no-untyped-call]
    return y.view(stream.shape)


class _Tape:
    """Takes the place of the context of a function that is a part of another."""

    def __init__(self, needs_input_grad: tuple[bool, ...]) -> None:
        self.needs_input_grad = needs_input_grad
        self.saved_tensors: tuple[Any, ...] = ()

    def save_for_backward(self, *tensors: Any) -> None:
        self.saved_tensors = tensors


class _Site(torch.autograd.Function):
    """Projections of the text, `Fold`, then `Dot` or `Cosine`."""

    @staticmethod
    def forward(
        ctx: Any,
        source: Tensor,
        stream: Tensor | None,
        text: Tensor,
        similarity: Similarity,
        is_padding: Tensor | None,
        to: Settings,
        key_weight: Tensor,
        key_bias: Tensor | None,
        value_weight: Tensor,
        value_bias: Tensor,
        *fold_tensors: Tensor,
    ) -> Tensor:
        needed, weights = ctx.needs_input_grad, FoldWeights(*fold_tensors)
        folding, attending = _Tape((True, True, False, False, *needed[10:])), _Tape((needed[0],))
        key, value = F.linear(text, key_weight, key_bias), F.linear(text, value_weight, value_bias)
        keys, offset, output = Fold.forward(folding, key, value, to.heads, similarity, *weights)
        bank = folded_text(keys, offset, output, weights, to.heads, similarity, is_padding)
        if similarity == "dot":
            assert bank.offset is not None
            y = Dot.forward(attending, source, stream, bank.keys, bank.offset, bank.output, to)
        else:
            query = (weights.query_weight, weights.query_bias)
            y = Cosine.forward(attending, source, stream, bank.keys, bank.offset, bank.output, *query, to)
        ctx.parts = (len(folding.saved_tensors), folding, attending)
        ctx.save_for_backward(text, key_weight, value_weight, *folding.saved_tensors, *attending.saved_tensors)
        # The graph alone holds them, and lets them go after the backward.
        folding.saved_tensors = attending.saved_tensors = ()
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        text, key_weight, value_weight, *saved = ctx.saved_tensors
        count, folding, attending = ctx.parts
        found: Any
        folding.saved_tensors, attending.saved_tensors = tuple(saved[:count]), tuple(saved[count:])
        d_query = None
        if folding.similarity == "dot":
            found = Dot.backward(attending, grad)
        else:
            *found, d_query_weight, d_query_bias, _ = Cosine.backward(attending, grad)
            d_query = (d_query_weight, d_query_bias)
        d_source, d_stream, d_keys, d_offset, d_output = found[:5]
        if d_offset is not None and len(d_offset) > len(text):
            d_offset = d_offset.sum(dim=0, keepdim=True)
        folded: Any = Fold.backward(folding, d_keys, d_offset, d_output)
        d_key, d_value, _, _, d_scale, d_gate, *d_weights = folded
        if d_query is not None:
            d_weights[:2] = d_query
        folding.saved_tensors = attending.saved_tensors = ()
        rows, columns = text.flatten(0, 1), (d_key.flatten(0, 1), d_value.flatten(0, 1))
        d_text = None
        if ctx.needs_input_grad[2]:
            d_text = torch.addmm(columns[0] @ key_weight, columns[1], value_weight).view(text.shape)
        d_key_weight, d_value_weight = (part.t() @ rows for part in columns)
        d_key_bias = columns[0].sum(dim=0) if ctx.needs_input_grad[7] else None
        d_projections = (d_key_weight, d_key_bias, d_value_weight, columns[1].sum(dim=0))
        return d_source, d_stream, d_text, None, None, None, *d_projections, d_scale, d_gate, *d_weights
