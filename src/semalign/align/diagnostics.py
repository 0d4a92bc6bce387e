"""What an alignment does: how far its attention is from uniform, how strong its branch is, how large its logits are.

Free functions of tensors, meant to be called without gradients.  A quantity that is undefined is NaN or None and is
left out of means; it is never 0.
"""

from __future__ import annotations

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor

from semalign.align.attention import has_text

__all__ = ["attention_entropy", "branch_strength", "logit_size", "mean_defined"]


def attention_entropy(
    weights: Float[Tensor, "batch heads positions tokens"], is_padding: Bool[Tensor, "#batch tokens"] | None = None
) -> Float[Tensor, " batch"]:
    """Return the mean entropy of each image's attention over log(number of its tokens), in [0, 1].

    1 is uniform over the tokens that are not padding, 0 is one token alone; the mean is over heads and positions.  With
    fewer than two tokens it is undefined: NaN, to be left out (`mean_defined`), not 0.

    >>> attention_entropy(torch.full((1, 1, 1, 4), 0.25))
    tensor([1.])
    """
    batch, tokens = weights.shape[0], weights.shape[-1]
    entropy: Tensor = torch.special.entr(weights.double()).sum(dim=-1).mean(dim=(1, 2))  # (batch)
    if is_padding is None:
        count = torch.full((batch,), tokens, device=weights.device)
    else:
        count = (~is_padding).sum(dim=-1).expand(batch)
    normalised: Tensor = entropy / count.clamp(min=2).double().log()
    return normalised.masked_fill(count < 2, torch.nan).to(torch.promote_types(weights.dtype, torch.float32))


def branch_strength(
    x: Float[Tensor, "batch positions channels"],
    branch: Float[Tensor, "batch positions channels"],
    is_padding: Bool[Tensor, "#batch tokens"] | None = None,
) -> Float[Tensor, " batch"]:
    """Return |g a| / |x| of each image, the ratio of root mean squares over positions and channels.

    Undefined, NaN, for an image without text, and where x is 0 throughout.

    Args:
        x: the stream to which the branch is added.
        branch: g a, gate and output bias included.
        is_padding: which tokens are padding.
    """
    ratio: Tensor = branch.double().flatten(1).norm(dim=1) / x.double().flatten(1).norm(dim=1)
    ratio = ratio.masked_fill(~ratio.isfinite(), torch.nan)
    if is_padding is not None:
        ratio = ratio.masked_fill(~has_text(is_padding).expand(x.shape[0]), torch.nan)
    return ratio.to(torch.promote_types(x.dtype, torch.float32))


def logit_size(
    query: Float[Tensor, "batch positions dim"],
    key: Float[Tensor, "#batch tokens dim"],
    scale: Float[Tensor, "*per_head"],
    *,
    heads: int,
    is_padding: Bool[Tensor, "#batch tokens"] | None = None,
) -> Float[Tensor, " heads"]:
    """Return scale * mean|q_h| * mean|k_h| of each head: the logits' reach under dot similarity.

    The scale alone does not tell how sharp an attention is, because a projection that grows does the same; this number
    holds both.  Under cosine similarity the reach is the scale itself.  NaN where no token is left.

    Args:
        query: q.
        key: k; padded rows may hold anything.
        scale: inverse temperature of shape () or (heads,).
        heads: number of heads.
        is_padding: which tokens are padding.
    """
    q: Tensor = rearrange(query, "b n (h d) -> b n h d", h=heads).norm(dim=-1).mean(dim=(0, 1))  # (heads)
    k: Tensor = rearrange(key, "b t (h d) -> b t h d", h=heads).norm(dim=-1)  # (batch or 1, tokens, heads)
    if is_padding is None:
        k = k.mean(dim=(0, 1))
    else:
        shape = (max(k.shape[0], is_padding.shape[0]), -1)
        k = k.expand(*shape, -1)[~is_padding.expand(*shape)].mean(dim=0)
    return scale * q * k


def mean_defined(values: Float[Tensor, " n"]) -> float | None:
    """Return the mean of the entries that are defined (not NaN), or None where none is.

    >>> mean_defined(torch.tensor([1.0, torch.nan, 3.0]))
    2.0
    """
    defined = values[~values.isnan()]
    return defined.mean().item() if defined.numel() else None
