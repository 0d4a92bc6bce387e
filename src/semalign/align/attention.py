"""Cross attention from visual positions to text tokens.

Free functions of projected queries, keys and values, with explicit padding.  They do not depend on projections, gates
or residuals.  Two forms of one function: ``reference`` computes the weights plainly in float64, ``sdpa`` calls torch's
fused kernel and never holds the weights.

A batch axis written ``#batch`` is the batch or 1: a text shared by all images has its keys and values once.
"""

from __future__ import annotations

from typing import Literal

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from semalign.presets import Similarity

__all__ = [
    "EPS",
    "AttentionForm",
    "attend",
    "attention_weights",
    "has_text",
    "mix_values",
    "not_in_top_k",
    "silence_padding",
]

AttentionForm = Literal["reference", "sdpa"]

EPS = 1e-6
"""Smallest norm that a cosine divides by; only a vector of zeros is nearer to zero in practice."""


def has_text(is_padding: Bool[Tensor, "#batch tokens"]) -> Bool[Tensor, " #batch"]:
    """Return which images have at least one token that is not padding."""
    return ~is_padding.all(dim=-1)


def silence_padding(
    rows: Float[Tensor, "#batch tokens dim"], is_padding: Bool[Tensor, "#batch tokens"]
) -> Float[Tensor, "#batch tokens dim"]:
    """Return ``rows`` with padded rows set to 0, also where they hold NaN or infinities.

    A product with the mask is not enough: 0 * NaN is NaN, in the values and in the gradients of a projection.
    Rows shared by all images (batch 1) under a mask per image become 0 where they are padding for every image.
    """
    if rows.shape[0] == 1 and is_padding.shape[0] > 1:
        is_padding = is_padding.all(dim=0, keepdim=True)
    return rows.masked_fill(is_padding.unsqueeze(-1), 0.0)


def not_in_top_k(logits: Float[Tensor, "*axes"], top_k: int, dim: int) -> Bool[Tensor, "*axes"]:
    """Return which entries are not among the ``top_k`` highest along ``dim``."""
    chosen = logits.topk(top_k, dim=dim).indices
    return torch.ones_like(logits, dtype=torch.bool).scatter_(dim, chosen, False)


def attention_weights(
    query: Float[Tensor, "batch positions dim"],
    key: Float[Tensor, "#batch tokens dim"],
    scale: Float[Tensor, "*per_head"],
    *,
    heads: int,
    similarity: Similarity = "dot",
    is_padding: Bool[Tensor, "#batch tokens"] | None = None,
    top_k: int | None = None,
) -> Float[Tensor, "batch heads positions tokens"]:
    """Return softmax over tokens of scale * s(q_h, k_h) for each head h.

    Padding is masked after the scaling and before ``top_k``.  The softmax runs in float32 or wider and is cast back.  A
    row sums to 1, or is 0 throughout where the image has no text.

    Args:
        query: q; head h owns columns h * d to (h + 1) * d with d = dim / heads.
        key: k, its padded rows may hold anything.
        scale: inverse temperature of shape () or (heads,).
        heads: number of heads; divides dim.
        similarity: ``"dot"``; ``"cosine"`` within each head; ``"cosine-full"``: q and k are normalised over all of dim,
            then split, so that a head's product lies in [-1, 1] and the heads' sum is the cosine.
        is_padding: true for tokens that are not there, anywhere in the text.
        top_k: keep the k highest logits of each row; None or k >= tokens keeps all.

    >>> q, k = torch.tensor([[[2.0, 0.0]]]), torch.tensor([[[1.0, 0.0], [0.0, 1.0], [5.0, 5.0]]])
    >>> attention_weights(q, k, torch.tensor(0.5), heads=1, is_padding=torch.tensor([[False, False, True]]))
    tensor([[[[0.7311, 0.2689, 0.0000]]]])
    """
    if is_padding is not None:
        key = silence_padding(_per_image(key, is_padding), is_padding)
    q, k = _comparable(query, key, scale, heads, similarity)
    logits = q @ k.transpose(-2, -1)  # (batch, heads, positions, tokens)
    if logits.dtype.itemsize < 4:
        logits = logits.float()
    absent = None
    if is_padding is not None:
        present = has_text(is_padding)
        # A row of -inf would give NaN; an image without text is masked after the softmax instead.
        logits = logits.masked_fill((is_padding & present[:, None])[:, None, None], -torch.inf)
        absent = ~present[:, None, None, None]
    if top_k is not None and top_k < logits.shape[-1]:
        logits = logits.masked_fill(not_in_top_k(logits.detach(), top_k, dim=-1), -torch.inf)
    weights = logits.softmax(dim=-1)
    if absent is not None:
        weights = weights.masked_fill(absent, 0.0)
    return weights.to(query.dtype)


def mix_values(
    weights: Float[Tensor, "batch heads positions tokens"],
    value: Float[Tensor, "#batch tokens dim"],
    is_padding: Bool[Tensor, "#batch tokens"] | None = None,
) -> Float[Tensor, "batch positions dim"]:
    """Return concat_h(weights_h v_h); a padded row of ``value`` counts as 0, also where it holds NaN."""
    if is_padding is not None:
        value = silence_padding(_per_image(value, is_padding), is_padding)
    mixed = weights @ _split(value, weights.shape[1])
    return rearrange(mixed, "b h n d -> b n (h d)")


def attend(
    query: Float[Tensor, "batch positions dim"],
    key: Float[Tensor, "#batch tokens dim"],
    value: Float[Tensor, "#batch tokens dim"],
    scale: Float[Tensor, "*per_head"],
    *,
    heads: int,
    similarity: Similarity = "dot",
    is_padding: Bool[Tensor, "#batch tokens"] | None = None,
    top_k: int | None = None,
    form: AttentionForm = "sdpa",
) -> Float[Tensor, "batch positions dim"]:
    """Return concat_h(weights_h v_h), the weights being those of `attention_weights`.

    Padded rows of ``key`` and ``value`` may hold anything; an image without text gets 0.

    Args:
        query: q, as in `attention_weights`.
        key: k, likewise.
        value: v.
        scale: inverse temperature of shape () or (heads,).
        heads: number of heads; divides dim.
        similarity: as in `attention_weights`.
        is_padding: true for tokens that are not there.
        top_k: as in `attention_weights`.
        form: ``"reference"`` computes and returns float64; ``"sdpa"`` uses torch's fused kernel in the dtype of the
            query, except that ``top_k`` needs the logits and so holds the weights.
    """
    if form == "reference":
        query, key, value, scale = query.double(), key.double(), value.double(), scale.double()
    if form == "reference" or (top_k is not None and top_k < key.shape[1]):
        weights = attention_weights(
            query, key, scale, heads=heads, similarity=similarity, is_padding=is_padding, top_k=top_k
        )
        return mix_values(weights, value, is_padding)

    keep = None
    if is_padding is not None:
        key, value = (silence_padding(_per_image(rows, is_padding), is_padding) for rows in (key, value))
        keep = ~(is_padding & has_text(is_padding)[:, None])[:, None, None]  # (batch or 1, 1, 1, tokens)
    batch = query.shape[0]
    if key.shape[0] == 1:
        # One text for all images: their positions are one long list, and keys and values are not repeated per image.
        query = rearrange(query, "b n c -> 1 (b n) c")
    q, k = _comparable(query, key, scale, heads, similarity)
    mixed = F.scaled_dot_product_attention(q, k, _split(value, heads), attn_mask=keep, scale=1.0)
    return rearrange(mixed, "a h (b n) d -> (a b) n (h d)", b=batch // key.shape[0])


def _per_image(
    rows: Float[Tensor, "#batch tokens dim"], is_padding: Bool[Tensor, "#batch tokens"]
) -> Float[Tensor, "#batch tokens dim"]:
    """Repeat shared rows for a mask that differs between images, so that each image's padding can be silenced."""
    return rows.expand(max(rows.shape[0], is_padding.shape[0]), -1, -1)


def _split(x: Float[Tensor, "batch rows dim"], heads: int) -> Float[Tensor, "batch heads rows d"]:
    return rearrange(x, "b n (h d) -> b h n d", h=heads)


def _unit(x: Float[Tensor, "*rows d"]) -> Float[Tensor, "*rows d"]:
    wide = x.float() if x.dtype.itemsize < 4 else x
    return F.normalize(wide, dim=-1, eps=EPS).to(x.dtype)


def _comparable(
    query: Float[Tensor, "batch positions dim"],
    key: Float[Tensor, "#batch tokens dim"],
    scale: Float[Tensor, "*per_head"],
    heads: int,
    similarity: Similarity,
) -> tuple[Float[Tensor, "batch heads positions d"], Float[Tensor, "#batch heads tokens d"]]:
    """Return q_h and scale * k_h, whose products are the logits."""
    if similarity == "cosine-full":
        query, key = _unit(query), _unit(key)
    q, k = _split(query, heads), _split(key, heads)
    if similarity == "cosine":
        q, k = _unit(q), _unit(k)
    # The scale goes to the keys, the smaller side by far.
    per_head = scale.reshape(-1, 1, 1)
    wide = torch.promote_types(k.dtype, torch.float32)
    return q, (k.to(wide) * per_head).to(k.dtype)
