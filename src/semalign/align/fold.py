"""The folded form of the alignment: a text bank turned into two thin matrices, and two products per position.

With X the N x C positions, E the T x Ct tokens and, per head h, q_h = X Wq_h + bq_h, k_h and v_h, the branch

    g * (concat_h(softmax(scale * q_h k_h^T) v_h) Wo + bo)

is softmax_h(X M + b) U with M_h = scale * Wq_h k_h^T (C x T), b_h = scale * bq_h k_h^T, U_h = g * (v_h Wo_h + bo / H).
M, b and U depend on weights and text alone, so the work per position falls from C * (2 C + 2 T) to 2 C * H * T
multiplications.  The weights of each head sum to 1, which is why U can hold the gate and the output bias.  Under cosine
similarity queries are divided by their own length, which M cannot hold: there only the output side is folded.

`fold` makes the matrices and `attend_folded` applies them, in plain operations for any device and for captured graphs.
`semalign.align.cpu.folded` computes the same on CPUs in kernels of its own.  This module does not depend on modules,
caches, or the choice between forms.
"""

from __future__ import annotations

import contextlib
from typing import NamedTuple

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from semalign.align.attention import EPS, has_text, not_in_top_k
from semalign.align.gate import add_branch
from semalign.presets import Similarity

__all__ = [
    "FoldWeights",
    "FoldedText",
    "Matrices",
    "attend_folded",
    "fold",
    "fold_matrices",
    "folded_text",
    "output_columns",
    "product_dtype",
    "without_autocast",
]


class FoldWeights(NamedTuple):
    """What a text is folded into.

    Attributes:
        scale: inverse temperature of shape () or (heads,).
        gate: g of shape () or (channels,).
        query_weight: Wq (dim x channels) in the layout of `torch.nn.Linear`.
        query_bias: bq (dim).
        out_weight: Wo (channels x dim) in the layout of `torch.nn.Linear`.
        out_bias: bo (channels).
    """

    scale: Tensor
    gate: Tensor
    query_weight: Tensor
    query_bias: Tensor
    out_weight: Tensor
    out_bias: Tensor


class FoldedText(NamedTuple):
    """A text bank folded into the weights.

    Attributes:
        keys: dot similarity: M^T, texts x (heads tokens) x C.  Cosine: scale * k_h / |k_h|, texts x heads x tokens x d.
        offset: what is added to the logits, texts x (heads tokens): b, and -inf at padding; None for nothing.
        output: U, texts x (heads tokens) x C.
        query_weight: Wq in the layout of `torch.nn.Linear`; None under dot similarity, where ``keys`` holds it.
        query_bias: bq, likewise.
        heads: number of heads.
        whole: cosine over the full width before the head split.
    """

    keys: Tensor
    offset: Tensor | None
    output: Tensor
    query_weight: Tensor | None
    query_bias: Tensor | None
    heads: int
    whole: bool


class Matrices(NamedTuple):
    """``keys``, ``offset`` and ``output`` of `FoldedText`, and what they were made of.

    Attributes:
        keys: see `FoldedText`.
        offset: b, without padding; None under cosine similarity.
        output: see `FoldedText`.
        scaled_keys: scale * k_h, heads x (texts tokens) x d.
        ungated: U / g, heads x (texts tokens) x C.
    """

    keys: Tensor
    offset: Tensor | None
    output: Tensor
    scaled_keys: Tensor
    ungated: Tensor


def fold(
    key: Float[Tensor, "texts tokens dim"],
    value: Float[Tensor, "texts tokens dim"],
    weights: FoldWeights,
    *,
    heads: int,
    similarity: Similarity = "dot",
    is_padding: Bool[Tensor, "#texts tokens"] | None = None,
) -> FoldedText:
    """Return the matrices of the folded form, in the dtype of ``key`` and with their gradients.

    Args:
        key: k, unscaled; padded rows finite (`semalign.align.attention.silence_padding`).
        value: v, likewise.
        weights: what the text is folded into.
        heads: number of heads; divides dim.
        similarity: as in `semalign.align.attention.attention_weights`.
        is_padding: true for tokens that are not there; may have a row per image while the text is shared.
    """
    keys, offset, output, _, _ = fold_matrices(key, value, weights, heads, similarity)
    return folded_text(keys, offset, output, weights, heads, similarity, is_padding)


def folded_text(
    keys: Tensor,
    offset: Tensor | None,
    output: Tensor,
    weights: FoldWeights,
    heads: int,
    similarity: Similarity,
    is_padding: Tensor | None,
) -> FoldedText:
    """Return the matrices as a `FoldedText`, with -inf in the offset at padding."""
    if is_padding is not None:
        # A text of padding alone stays unmasked, for a row of -inf would give NaN; its branch is dropped later.
        away = is_padding & has_text(is_padding)[:, None]
        away = away.repeat(1, heads)  # (texts or images, heads tokens)
        base = torch.zeros_like(away, dtype=keys.dtype) if offset is None else offset
        offset = base.masked_fill(away, -torch.inf)
    query_weight, query_bias = (None, None) if similarity == "dot" else (weights.query_weight, weights.query_bias)
    return FoldedText(keys, offset, output, query_weight, query_bias, heads, similarity == "cosine-full")


def fold_matrices(key: Tensor, value: Tensor, weights: FoldWeights, heads: int, similarity: Similarity) -> Matrices:
    """Return the matrices of `fold`, without padding, and what they were made of; arguments as there."""
    texts, tokens, dim = key.shape
    # Plain views: at small sites rearrange itself would be a tenth of the time.
    rows = (texts * tokens, heads, dim // heads)
    if similarity == "cosine-full":
        key = F.normalize(key, dim=-1, eps=EPS)
    k = key.view(rows).transpose(0, 1)  # (heads, texts tokens, d)
    if similarity == "cosine":
        k = F.normalize(k, dim=-1, eps=EPS)
    k = k * weights.scale.to(key.dtype).reshape(-1, 1, 1)
    offset = None
    if similarity == "dot":
        keys = _by_text(torch.bmm(k, weights.query_weight.view(heads, rows[2], -1)), texts)
        offset = _by_text(torch.bmm(k, weights.query_bias.view(heads, rows[2], 1)), texts).squeeze(-1)
    else:
        keys = k.view(heads, texts, tokens, -1).transpose(0, 1)
    v = value.view(rows).transpose(0, 1)
    # The weights of each head sum to 1, so a bias spread over the heads comes out whole.
    ungated = torch.baddbmm(weights.out_bias, v, output_columns(weights.out_weight, heads), beta=1 / heads)
    return Matrices(keys, offset, _by_text(ungated, texts) * weights.gate, k, ungated)


def _by_text(columns: Float[Tensor, "heads rows channels"], texts: int) -> Float[Tensor, "texts heads_tokens channels"]:
    """Turn h (g t) c into g (h t) c."""
    heads, rows, channels = columns.shape
    if texts == 1:
        return columns.view(1, heads * rows, channels)
    return columns.view(heads, texts, -1, channels).transpose(0, 1).reshape(texts, -1, channels)


def output_columns(out_weight: Float[Tensor, "channels dim"], heads: int) -> Float[Tensor, "heads d channels"]:
    """Return Wo_h of each head."""
    return out_weight.view(len(out_weight), heads, -1).permute(1, 2, 0)


def attend_folded(
    stream: Float[Tensor, "batch positions channels"],
    source: Float[Tensor, "batch positions channels"],
    text: FoldedText,
    *,
    is_padding: Bool[Tensor, "#batch tokens"] | None = None,
    top_k: int | None = None,
    dtype: torch.dtype | None = None,
) -> Float[Tensor, "batch positions channels"]:
    """Return stream + softmax_h(source M + b) U, and the stream itself for an image without text.

    Nothing is read back to the host.

    Args:
        stream: what the branch is added to; may be ``source`` itself.
        source: what queries are made of.
        text: the folded bank; one text for all images, or one each.
        is_padding: as given to `fold`.
        top_k: attend to the k highest logits of each row; None or k >= tokens keeps all.
        dtype: what the products are computed in, by default the dtype of ``source``; the softmax runs in float32 or
            wider.

    Returns:
        Features in the shape and dtype of ``stream``.
    """
    heads, dtype = text.heads, dtype or source.dtype
    wide = torch.promote_types(dtype, torch.float32)
    with without_autocast(source.device.type):
        x = source.to(dtype)
        if text.query_weight is None:
            logits = rearrange(text.keys.to(dtype) @ x.mT, "b (h t) n -> b h t n", h=heads)
        else:
            assert text.query_bias is not None
            query = F.linear(x, text.query_weight.to(dtype), text.query_bias.to(dtype)).to(wide)
            split = rearrange(query, "b n (h d) -> b h d n", h=heads)
            length = query.norm(dim=-1)[:, None, None] if text.whole else split.norm(dim=2, keepdim=True)
            logits = text.keys.to(dtype) @ (split / length.clamp(min=EPS)).to(dtype)
        logits = logits.to(wide)
        if text.offset is not None:
            logits = logits + rearrange(text.offset, "b (h t) -> b h t 1", h=heads)
        if top_k is not None and top_k < logits.shape[2]:
            logits = logits.masked_fill(not_in_top_k(logits.detach(), top_k, dim=2), -torch.inf)
        weights = rearrange(logits.softmax(dim=2).to(dtype), "b h t n -> b n (h t)")
        branch = weights @ text.output.to(dtype)
    return add_branch(stream, branch, None if is_padding is None else has_text(is_padding))


def product_dtype(x: Tensor) -> torch.dtype:
    """Return the dtype in which products with ``x`` are computed here: that of autocast where it is on."""
    device = x.device.type
    if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
        return torch.get_autocast_dtype(device)
    return x.dtype


def without_autocast(device: str) -> contextlib.AbstractContextManager[object]:
    """Return a context in which products keep the dtype of their factors; one without effect where they do already."""
    on = torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)
    return torch.autocast(device, enabled=False) if on else contextlib.nullcontext()
