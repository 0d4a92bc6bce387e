"""The folded form of the alignment: a text bank turned into two thin matrices, and two products per position.

With X the N x C positions, E the T x Ct tokens and, per head h, q_h = X Wq_h + bq_h, k_h and v_h, the branch

    g * (concat_h(softmax(scale * q_h k_h^T) v_h) Wo + bo)

is softmax_h(X M + b) U with M_h = scale * Wq_h k_h^T (C x T), b_h = scale * bq_h k_h^T, U_h = g * (v_h Wo_h + bo / H).
M, b and U depend on weights and text alone, so the work per position falls from C * (2 C + 2 T) to 2 C * H * T
multiplications.  Each head's weights sum to 1, which is why gate and output bias may stand in U.  Under cosine
similarity queries are divided by their own length, which M cannot hold: there only the output side is folded.

`fold` makes the matrices, `attend_folded` applies them.  On CPUs that is one hand-written autograd function: it walks
over blocks of positions that stay in cache, keeps nothing for the backward but its inputs, and holds the weights as
heads x tokens x positions, where a softmax over few tokens runs along the vector unit.  Elsewhere, and while a graph is
being captured, the same formula is written in plain operations.  Knows nothing of modules, caches or which form is
fastest (`semalign.align.cost`).
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from semalign.align.attention import has_text
from semalign.align.gate import add_branch
from semalign.presets import Similarity

__all__ = [
    "FoldedText",
    "SiteWeights",
    "align_folded",
    "attend_folded",
    "fold",
    "present_tokens",
    "product_dtype",
    "runs_in_blocks",
    "without_autocast",
]

# Smallest norm a cosine divides by, as in `semalign.align.attention`.
_EPS = 1e-6
# What one block touches: measured best between 2 and 6 MB on cores with 1 MB of own and 32 MB of shared cache.
_BLOCK_BYTES = 4 << 20
_SMALLEST_BLOCK = 128


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


def present_tokens(is_padding: Bool[Tensor, "#batch tokens"]) -> tuple[Tensor | None, list[bool] | None]:
    """Read a mask on the host: which tokens are worth keeping, and which images have text.

    Returns:
        The indices of the tokens that some image has, or None where all are; and one entry per row of the mask, whether
        it has text, or None where every row has.
    """
    dropped, absent = is_padding.all(dim=0).tolist(), is_padding.all(dim=1).tolist()
    kept = None
    if any(dropped):
        # A text that nobody has keeps one token, which nobody will read.
        indices = [index for index, gone in enumerate(dropped) if not gone] or [0]
        kept = torch.tensor(indices, device=is_padding.device)
    return kept, [not gone for gone in absent] if any(absent) else None


def fold(
    key: Float[Tensor, "texts tokens dim"],
    value: Float[Tensor, "texts tokens dim"],
    scale: Float[Tensor, "*per_head"],
    gate: Float[Tensor, "*per_channel"],
    *,
    query_weight: Float[Tensor, "dim channels"],
    query_bias: Float[Tensor, " dim"],
    out_weight: Float[Tensor, "channels dim"],
    out_bias: Float[Tensor, " channels"],
    heads: int,
    similarity: Similarity = "dot",
    is_padding: Bool[Tensor, "#texts tokens"] | None = None,
) -> FoldedText:
    """Return the matrices of the folded form, in the dtype of ``key`` and with their gradients.

    Args:
        key: k, unscaled; padded rows finite (`semalign.align.attention.silence_padding`).
        value: v, likewise.
        scale: inverse temperature of shape () or (heads,).
        gate: g of shape () or (channels,).
        query_weight: Wq in the layout of `torch.nn.Linear`.
        query_bias: bq.
        out_weight: Wo in the layout of `torch.nn.Linear`.
        out_bias: bo.
        heads: number of heads; divides dim.
        similarity: as in `semalign.align.attention.attention_weights`.
        is_padding: true for tokens that are not there; may have a row per image while the text is shared.
    """
    tensors = (key, value, scale, gate, query_weight, query_bias, out_weight, out_bias)
    if runs_in_blocks(key):
        keys, offset, output = _Fold.apply(*tensors, heads, similarity)  # type: ignore[no-untyped-call]
    else:
        keys, offset, output = _folded(*tensors, heads, similarity)[:3]
    if is_padding is not None:
        offset = _masked(offset, is_padding, heads, keys.dtype)
    folded = similarity == "dot"
    return FoldedText(
        keys,
        offset,
        output,
        None if folded else query_weight,
        None if folded else query_bias,
        heads,
        similarity == "cosine-full",
    )


def _masked(offset: Tensor | None, is_padding: Tensor, heads: int, dtype: torch.dtype) -> Tensor:
    """Return the offset with -inf at padding."""
    # A text of padding alone stays unmasked, for a row of -inf would give NaN; its branch is dropped later.
    away = is_padding & has_text(is_padding)[:, None]
    away = away.repeat(1, heads)  # (texts or images, heads tokens)
    base = torch.zeros_like(away, dtype=dtype) if offset is None else offset
    return base.masked_fill(away, -torch.inf)


def _by_text(columns: Float[Tensor, "heads rows channels"], texts: int) -> Float[Tensor, "texts heads_tokens channels"]:
    """Turn h (g t) c into g (h t) c."""
    heads, rows, channels = columns.shape
    if texts == 1:
        return columns.view(1, heads * rows, channels)
    return columns.view(heads, texts, -1, channels).transpose(0, 1).reshape(texts, -1, channels)


def _by_head(columns: Float[Tensor, "texts heads_tokens channels"], heads: int) -> Float[Tensor, "heads rows channels"]:
    """Turn g (h t) c into h (g t) c."""
    texts, _, channels = columns.shape
    return columns.view(texts, heads, -1, channels).transpose(0, 1).reshape(heads, -1, channels)


def _folded(
    key: Tensor,
    value: Tensor,
    scale: Tensor,
    gate: Tensor,
    query_weight: Tensor,
    query_bias: Tensor,
    out_weight: Tensor,
    out_bias: Tensor,
    heads: int,
    similarity: Similarity,
) -> tuple[Tensor, Tensor | None, Tensor, Tensor, Tensor]:
    """Return keys, offset and output of `FoldedText`; the scaled keys and U / g, both with heads first."""
    texts, tokens, dim = key.shape
    # Plain views: at small sites rearrange itself would be a tenth of the time.
    rows = (texts * tokens, heads, dim // heads)
    if similarity == "cosine-full":
        key = F.normalize(key, dim=-1, eps=_EPS)
    k = key.view(rows).transpose(0, 1)  # (heads, texts tokens, d)
    if similarity == "cosine":
        k = F.normalize(k, dim=-1, eps=_EPS)
    k = k * scale.to(key.dtype).reshape(-1, 1, 1)
    offset = None
    if similarity == "dot":
        keys = _by_text(torch.bmm(k, query_weight.view(heads, rows[2], -1)), texts)
        offset = _by_text(torch.bmm(k, query_bias.view(heads, rows[2], 1)), texts).squeeze(-1)
    else:
        keys = k.view(heads, texts, tokens, -1).transpose(0, 1)
    v = value.view(rows).transpose(0, 1)
    # Each head's weights sum to 1, so a bias spread over the heads comes out whole.
    ungated = torch.baddbmm(out_bias, v, _out_columns(out_weight, heads), beta=1 / heads)
    return keys, offset, _by_text(ungated, texts) * gate, k, ungated


def _out_columns(out_weight: Float[Tensor, "channels dim"], heads: int) -> Float[Tensor, "heads d channels"]:
    return out_weight.view(len(out_weight), heads, -1).permute(1, 2, 0)


def _normalize_backward(grad: Tensor, rows: Tensor) -> Tensor:
    """Return the gradient of the rows from that of the rows divided by their lengths."""
    length = rows.norm(dim=-1, keepdim=True)
    # Below the smallest norm the divisor is a constant.
    along = (grad * rows).sum(dim=-1, keepdim=True).div_(length.square()).masked_fill_(length < _EPS, 0.0)
    return (grad - rows * along).div_(length.clamp_(min=_EPS))


class _Fold(torch.autograd.Function):
    """`_folded` as one node of the graph: a bank is so small that what counts is the number of calls."""

    @staticmethod
    def forward(
        ctx: Any,
        key: Tensor,
        value: Tensor,
        scale: Tensor,
        gate: Tensor,
        query_weight: Tensor,
        query_bias: Tensor,
        out_weight: Tensor,
        out_bias: Tensor,
        heads: int,
        similarity: Similarity,
    ) -> tuple[Tensor, Tensor | None, Tensor]:
        keys, offset, output, k, ungated = _folded(
            key, value, scale, gate, query_weight, query_bias, out_weight, out_bias, heads, similarity
        )
        ctx.save_for_backward(key, value, scale, gate, query_weight, query_bias, out_weight, k, ungated)
        ctx.heads, ctx.similarity = heads, similarity
        return keys, offset, output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_keys: Tensor, d_offset: Tensor | None, d_output: Tensor) -> tuple[Tensor | None, ...]:
        key, value, scale, gate, query_weight, query_bias, out_weight, k, ungated = ctx.saved_tensors
        heads, similarity, needed = ctx.heads, ctx.similarity, ctx.needs_input_grad
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
        if needed[2]:
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
        if needed[3]:
            along_gate = d_rows * ungated
            d_gate = (along_gate.sum() if gate.ndim == 0 else along_gate.sum(dim=(0, 1))).to(gate.dtype)
        d_rows = d_rows * gate
        v = value.view(rows).transpose(0, 1)
        d_value = torch.bmm(d_rows, _out_columns(out_weight, heads).mT).transpose(0, 1).reshape(value.shape)
        d_out_weight = torch.bmm(d_rows.mT, v).transpose(0, 1).reshape(out_weight.shape)
        d_out_bias = d_rows.sum(dim=(0, 1)).div_(heads)
        gradients = (d_key, d_value, d_scale, d_gate, d_query_weight, d_query_bias, d_out_weight, d_out_bias)
        return (*gradients, None, None)


def runs_in_blocks(x: Tensor) -> bool:
    """Say whether `attend_folded` runs its hand-written function here: on a CPU, and not while a graph is captured."""
    captured = torch.compiler.is_compiling() or torch.jit.is_tracing()  # type: ignore[attr-defined,no-untyped-call]
    return x.device.type == "cpu" and not captured


def product_dtype(x: Tensor) -> torch.dtype:
    """Return the dtype in which products with ``x`` are computed here: autocast's where it is on."""
    device = x.device.type
    if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
        return torch.get_autocast_dtype(device)
    return x.dtype


def without_autocast(device: str) -> contextlib.AbstractContextManager[object]:
    """Return a context in which products keep the dtype of their factors; nothing where they do already."""
    on = torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)
    return torch.autocast(device, enabled=False) if on else contextlib.nullcontext()


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
    """Return stream + softmax_h(source M + b) U, and the stream itself for an image without text.

    Args:
        stream: what the branch is added to; may be ``source`` itself.
        source: what queries are made of.
        text: the folded bank; one text for all images, or one each.
        is_padding: as given to `fold`; used where the plain operations run (`runs_in_blocks`).
        present: which images (or one entry for all) have text, None for all; used where the function runs.
        top_k: attend to the k highest logits of each row; None or k >= tokens keeps all.
        dtype: what the products are computed in, by default the dtype of ``source``; softmax and sums over positions
            run in float32 or wider.

    Returns:
        Features in the shape and dtype of ``stream``.
    """
    dtype = dtype or source.dtype
    if not runs_in_blocks(source):
        if top_k is not None and top_k >= text.output.shape[1] // text.heads:
            top_k = None
        return _plain(stream, source, text, is_padding, top_k, dtype)
    shared = all(t is None or t.shape[0] == 1 for t in (text.keys, text.offset, text.output))
    tokens = text.output.shape[1] // text.heads
    source, base, settings = _prepare(stream, source, text.heads, text.whole, tokens, shared, present, top_k, dtype)
    tensors: list[Tensor | None] = [source, base, text.keys.to(dtype), text.offset, text.output.to(dtype)]
    function: Any = _Dot
    if text.query_weight is not None:
        assert text.query_bias is not None
        function = _Cosine
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
) -> tuple[Tensor, Tensor | None, _Settings]:
    """Return source and stream (None where it is the source) as the functions take them, and their settings."""
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
    return source, base, _Settings(heads, whole, top_k, None if present is None else tuple(present), dtype)


class SiteWeights(NamedTuple):
    """What a site owns: projections in the layout of `torch.nn.Linear`, scale and gate as in `fold`."""

    key_weight: Tensor
    key_bias: Tensor | None
    value_weight: Tensor
    value_bias: Tensor
    scale: Tensor
    gate: Tensor
    query_weight: Tensor
    query_bias: Tensor
    out_weight: Tensor
    out_bias: Tensor


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
    """Return `attend_folded` of `fold` of the projected text, as one node of the graph, where it `runs_in_blocks`.

    What it saves is calls: two projections, the fold and their backwards cost a small site more than its products.
    All tensors share one dtype; padded rows of ``text`` are finite.
    """
    texts, tokens, _ = text.shape
    shared = texts == 1 and (is_padding is None or is_padding.shape[0] == 1)
    whole = similarity == "cosine-full"
    source, base, settings = _prepare(stream, source, heads, whole, tokens, shared, present, top_k, source.dtype)
    y: Tensor = _Site.apply(source, base, text, *weights, similarity, is_padding, settings)  # type: ignore[no-untyped-call]
    return y.view(stream.shape)


def _plain(
    stream: Tensor,
    source: Tensor,
    text: FoldedText,
    is_padding: Tensor | None,
    top_k: int | None,
    dtype: torch.dtype,
) -> Tensor:
    """Write the formula in plain operations, for graphs and accelerators; nothing is read back to the host."""
    heads = text.heads
    with without_autocast(source.device.type):
        x = source.to(dtype)
        if text.query_weight is None:
            logits = rearrange(text.keys.to(dtype) @ x.mT, "b (h t) n -> b h t n", h=heads)
        else:
            assert text.query_bias is not None
            query = F.linear(x, text.query_weight.to(dtype), text.query_bias.to(dtype))
            query = query.to(torch.promote_types(dtype, torch.float32))
            split = rearrange(query, "b n (h d) -> b h d n", h=heads)
            length = query.norm(dim=-1)[:, None, None] if text.whole else split.norm(dim=2, keepdim=True)
            logits = text.keys.to(dtype) @ (split / length.clamp(min=_EPS)).to(dtype)
        logits = logits.to(torch.promote_types(dtype, torch.float32))
        if text.offset is not None:
            logits = logits + rearrange(text.offset, "b (h t) -> b h t 1", h=heads)
        if top_k is not None:
            logits = logits.masked_fill(_dropped(logits.detach(), top_k), -torch.inf)
        weights = rearrange(logits.softmax(dim=2).to(dtype), "b h t n -> b n (h t)")
        branch = weights @ text.output.to(dtype)
    return add_branch(stream, branch, None if is_padding is None else has_text(is_padding))


def _dropped(logits: Tensor, top_k: int) -> Tensor:
    """Return which of batch x heads x tokens x positions are not among the ``top_k`` highest over tokens."""
    chosen = logits.topk(top_k, dim=2).indices
    return torch.ones_like(logits, dtype=torch.bool).scatter_(2, chosen, False)


class _Settings(NamedTuple):
    heads: int
    whole: bool
    top_k: int | None
    present: tuple[bool, ...] | None
    dtype: torch.dtype


class _Block(NamedTuple):
    """Images ``first`` to ``last``, positions ``start`` to ``stop``; several images only with all of theirs."""

    first: int
    last: int
    start: int
    stop: int
    whole: bool
    """Whether it is everything there is: then nothing has to be cut."""

    def of(self, rows: Tensor) -> Tensor:
        return rows if self.whole else rows[self.first : self.last, self.start : self.stop]

    def text(self, rows: Tensor) -> Tensor:
        """Return the images' own matrices, or the shared one once per image."""
        images = self.last - self.first
        if rows.shape[0] == 1:
            return rows if images == 1 else rows.expand(images, *rows.shape[1:])
        return rows if self.whole else rows[self.first : self.last]


@functools.lru_cache(maxsize=1024)
def _blocks(
    images: int, rows: int, numbers_per_row: int, itemsize: int, present: tuple[bool, ...] | None
) -> list[_Block]:
    """Cut images x positions into blocks of about `_BLOCK_BYTES`, leaving out images without text."""
    fit = max(_SMALLEST_BLOCK, _BLOCK_BYTES // (itemsize * numbers_per_row))
    if images * rows == 0:
        return []
    if present is None and images * rows <= fit:
        return [_Block(0, images, 0, rows, True)]
    blocks: list[_Block] = []
    for first, last in _spans(images, present):
        if rows * 2 <= fit:
            step = fit // rows
            blocks += [_Block(a, min(a + step, last), 0, rows, False) for a in range(first, last, step)]
            continue
        # Parts of nearly the same size, so that none is too small to be worth its calls.
        step = -(-rows // -(-rows // fit))
        for image in range(first, last):
            blocks += [_Block(image, image + 1, r, min(r + step, rows), False) for r in range(0, rows, step)]
    return blocks


def _spans(images: int, present: tuple[bool, ...] | None) -> Iterator[tuple[int, int]]:
    """Yield the runs of neighbouring images that have text."""
    if present is None:
        yield 0, images
        return
    start = None
    for index, here in enumerate((*present, False)):
        if here and start is None:
            start = index
        elif not here and start is not None:
            yield start, index
            start = None


def _keep_absent(out: Tensor, rows: Tensor | None, present: tuple[bool, ...] | None) -> None:
    """Give the images without text their rows as they are, or zeros."""
    for index, here in enumerate(present or ()):
        if not here:
            if rows is None:
                out[index].zero_()
            else:
                out[index].copy_(rows[index])


def _product(out: Tensor, a: Tensor, b: Tensor, add: Tensor | None = None) -> None:
    """Set out = add + a b over a leading batch axis, in one call where the dtypes agree; ``add`` may be ``out``."""
    if out.dtype != a.dtype:
        found = torch.bmm(a, b)
        if add is None:
            out.copy_(found)
        else:
            torch.add(add, found, out=out)
    elif add is None:
        torch.bmm(a, b, out=out)
    else:
        torch.baddbmm(add, a, b, out=out)


def _accumulate(total: Tensor, block: _Block, a: Tensor, b: Tensor) -> None:
    """Add a b to the images' own sums, or over the images to the shared one."""
    images = block.last - block.first
    if total.shape[0] == images:
        # The first and only block writes; sums begin at 0.
        _product(total, a, b, add=None if block.whole else total)
    elif total.shape[0] > 1:
        part = total[block.first : block.last]
        _product(part, a, b, add=part)
    elif images == 1:
        _product(total, a, b, add=total)
    else:
        total += torch.bmm(a, b).sum(dim=0, keepdim=True)


def _add_rows(total: Tensor, block: _Block, rows: Tensor) -> None:
    """Add rows (images x n) to the images' own sums, or over the images to the shared one."""
    if total.shape[0] > 1:
        total[block.first : block.last] += rows
    else:
        total += rows.sum(dim=0, keepdim=True)


class _Space:
    """Working memory that every block uses again."""

    def __init__(
        self, like: Tensor, dtype: torch.dtype, blocks: list[_Block], heights: Sequence[int], *, fresh: bool = False
    ) -> None:
        self._like, self._dtype, self._heights = like, dtype, heights
        self._parts: list[Tensor] | None = None
        # What is used but once, or to be kept, is made to measure.
        if len(blocks) > 1 and not fresh:
            largest = max((b.last - b.first) * (b.stop - b.start) for b in blocks)
            self._parts = [like.new_empty(largest * height, dtype=dtype) for height in heights]

    def cut(self, block: _Block) -> list[Tensor]:
        """Return each part as images x height x positions."""
        images, rows = block.last - block.first, block.stop - block.start
        if self._parts is None:
            return [self._like.new_empty((images, height, rows), dtype=self._dtype) for height in self._heights]
        return [
            part[: images * height * rows].view(images, height, rows)
            for part, height in zip(self._parts, self._heights, strict=True)
        ]


def _softmax_(logits: Tensor, out: Tensor, settings: _Settings) -> None:
    """Softmax over tokens of images x (heads tokens) x positions."""
    images, height, rows = logits.shape
    shape = (images, settings.heads, height // settings.heads, rows)
    logits, out = logits.view(shape), out.view(shape)
    if settings.top_k is not None:
        logits = logits.masked_fill(_dropped(logits, settings.top_k), -torch.inf)
    torch.softmax(logits, 2, out=out)


def _softmax_backward_(grad: Tensor, weights: Tensor, settings: _Settings) -> None:
    """Turn the gradient of the weights into that of the logits, in place."""
    images, height, rows = weights.shape
    shape = (images, settings.heads, height // settings.heads, rows)
    grad, weights = grad.view(shape), weights.view(shape)
    torch.ops.aten._softmax_backward_data.out(grad, weights, 2, weights.dtype, grad_input=grad)


def _wide(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)


def _keeps_weights(channels: int, height: int) -> bool:
    """Say whether the backward is given the attention weights: where they are no larger than the features."""
    return height <= channels


class _Dot(torch.autograd.Function):
    """Both sides folded.  Many weights (N x H T) are computed again in the backward rather than kept."""

    @staticmethod
    def run(
        source: Tensor,
        stream: Tensor | None,
        keys: Tensor,
        offset: Tensor,
        output: Tensor,
        to: _Settings,
        kept: list[Tensor] | None,
    ) -> Tensor:
        """Return the result; the weights of each block go into ``kept``."""
        base = source if stream is None else stream
        y = torch.empty_like(base)
        blocks = _Dot.blocks(source, keys, to)
        space = _Space(source, _wide(to.dtype), blocks, [keys.shape[1]], fresh=kept is not None)
        for block in blocks:
            (weights,) = space.cut(block)
            _Dot.weights(block, block.of(source).to(to.dtype), keys, offset, weights, to)
            _product(block.of(y), weights.to(to.dtype).mT, block.text(output), add=block.of(base))
            if kept is not None:
                kept.append(weights)
        _keep_absent(y, base, to.present)
        return y

    @staticmethod
    def blocks(source: Tensor, keys: Tensor, to: _Settings) -> list[_Block]:
        images, rows, channels = source.shape
        return _blocks(images, rows, 3 * channels + 2 * keys.shape[1], source.itemsize, to.present)

    @staticmethod
    def weights(block: _Block, x: Tensor, keys: Tensor, offset: Tensor, out: Tensor, to: _Settings) -> None:
        _product(out, block.text(keys), x.mT, add=block.text(offset).unsqueeze(-1))
        _softmax_(out, out, to)

    @staticmethod
    def forward(
        ctx: Any, source: Tensor, stream: Tensor | None, keys: Tensor, offset: Tensor, output: Tensor, to: _Settings
    ) -> Tensor:
        kept: list[Tensor] | None = [] if _keeps_weights(source.shape[2], keys.shape[1]) else None
        y = _Dot.run(source, stream, keys, offset, output, to, kept)
        ctx.save_for_backward(source, keys, offset, output, *(kept or ()))
        ctx.settings, ctx.own = to, stream is None
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        source, keys, offset, output, *kept = ctx.saved_tensors
        to: _Settings = ctx.settings
        grad = grad.contiguous()
        d_source = torch.empty_like(source) if ctx.needs_input_grad[0] else None
        d_keys = torch.zeros_like(keys, dtype=_wide(to.dtype))
        d_offset = torch.zeros_like(offset)
        d_output = torch.zeros_like(output, dtype=_wide(to.dtype))
        blocks = _Dot.blocks(source, keys, to)
        space = _Space(source, _wide(to.dtype), blocks, [keys.shape[1]] * (1 if kept else 2))
        for index, block in enumerate(blocks):
            d_logits, *more = space.cut(block)
            x, dy = block.of(source).to(to.dtype), block.of(grad).to(to.dtype)
            if kept:
                weights = kept[index]
            else:
                (weights,) = more
                _Dot.weights(block, x, keys, offset, weights, to)
            _accumulate(d_output, block, weights.to(to.dtype), dy)
            _product(d_logits, block.text(output), dy.mT)
            _softmax_backward_(d_logits, weights, to)
            _add_rows(d_offset, block, d_logits.sum(dim=-1))
            d_logits = d_logits.to(to.dtype)
            _accumulate(d_keys, block, d_logits, x)
            if d_source is not None:
                own = block.of(grad) if ctx.own else None
                _product(block.of(d_source), d_logits.mT, block.text(keys), add=own)
        if d_source is not None:
            _keep_absent(d_source, grad if ctx.own else None, to.present)
        d_stream = None if ctx.own else grad
        return d_source, d_stream, d_keys.to(keys.dtype), d_offset, d_output.to(output.dtype), None


class _Cosine(torch.autograd.Function):
    """The output side folded; queries are made and measured block by block, and made again in the backward.

    logits = L raw with raw = scale * k_h q_h / |k_h| and L = 1 / |q_h|, so that the division runs over T numbers per
    head instead of d.
    """

    @staticmethod
    def _logits(
        block: _Block,
        x: Tensor,
        query: Tensor,
        logits: Tensor,
        keys: Tensor,
        weight: Tensor,
        bias: Tensor,
        to: _Settings,
    ) -> Tensor:
        """Fill ``query`` (images x C x n) and ``logits``; return 1 / |q| (images x heads or 1 x 1 x n)."""
        images, channels, rows = query.shape
        heads = to.heads
        shared = weight.expand(images, -1, -1)
        _product(query, shared, x.mT, add=bias.to(query.dtype)[:, None].expand(images, -1, 1))
        split = query.view(images, 1 if to.whole else heads, -1, rows)
        # Squares and a sum: torch's norm over an inner axis takes 25 times as long.
        inverse = (split * split).sum(dim=2, keepdim=True).sqrt_().clamp_(min=_EPS).reciprocal_()
        per_head = (images * heads, -1, rows)
        own = block.text(keys).reshape(images * heads, keys.shape[2], keys.shape[3])
        _product(logits.view(per_head), own, query.view(images * heads, channels // heads, rows).to(to.dtype))
        logits.view(images, heads, -1, rows).mul_(inverse)
        return inverse

    @staticmethod
    def _weights(block: _Block, logits: Tensor, offset: Tensor | None, out: Tensor, to: _Settings) -> None:
        if offset is not None:
            logits = torch.add(logits, block.text(offset).unsqueeze(-1), out=out)
        _softmax_(logits, out, to)

    @staticmethod
    def run(
        source: Tensor,
        stream: Tensor | None,
        keys: Tensor,
        offset: Tensor | None,
        output: Tensor,
        weight: Tensor,
        bias: Tensor,
        to: _Settings,
        kept: list[Tensor] | None,
    ) -> Tensor:
        """Return the result; what the backward needs goes into ``kept``, where there is but one block."""
        base = source if stream is None else stream
        y = torch.empty_like(base)
        channels, height = source.shape[2], output.shape[1]
        numbers = 3 * channels + height if kept is None else 5 * channels + 3 * height
        blocks = _blocks(*source.shape[:2], numbers, source.itemsize, to.present)
        keeps = kept is not None and len(blocks) == 1
        space = _Space(source, _wide(to.dtype), blocks, [channels, height, height] if keeps else [channels, height])
        for block in blocks:
            query, logits, *more = space.cut(block)
            weights = more[0] if keeps else logits
            inverse = _Cosine._logits(block, block.of(source).to(to.dtype), query, logits, keys, weight, bias, to)
            _Cosine._weights(block, logits, offset, weights, to)
            _product(block.of(y), weights.to(to.dtype).mT, block.text(output), add=block.of(base))
            if kept is not None and keeps:
                kept += [query, logits, weights, inverse]
        _keep_absent(y, base, to.present)
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
        to: _Settings,
    ) -> Tensor:
        kept: list[Tensor] = []
        y = _Cosine.run(source, stream, keys, offset, output, weight, bias, to, kept)
        ctx.save_for_backward(source, keys, offset, output, weight, bias, *kept)
        ctx.settings, ctx.own = to, stream is None
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        source, keys, offset, output, weight, bias, *kept = ctx.saved_tensors
        to: _Settings = ctx.settings
        heads = to.heads
        grad = grad.contiguous()
        wide = _wide(to.dtype)
        d_source = torch.empty_like(source) if ctx.needs_input_grad[0] else None
        d_keys, d_output = torch.zeros_like(keys, dtype=wide), torch.zeros_like(output, dtype=wide)
        d_weight, d_bias = torch.zeros_like(weight, dtype=wide).unsqueeze(0), torch.zeros_like(bias, dtype=wide)
        channels, height = source.shape[2], output.shape[1]
        blocks = _blocks(*source.shape[:2], 5 * channels + 3 * height, source.itemsize, to.present)
        again = [] if kept else [channels, height, height]
        space = _Space(source, wide, blocks, [channels, height, *again])
        for block in blocks:
            d_query, d_logits, *more = space.cut(block)
            images, rows = block.last - block.first, block.stop - block.start
            x, dy = block.of(source).to(to.dtype), block.of(grad).to(to.dtype)
            if kept:
                query, logits, weights, inverse = kept
            else:
                query, logits, weights = more
                inverse = _Cosine._logits(block, x, query, logits, keys, weight, bias, to)
                _Cosine._weights(block, logits, offset, weights, to)
            _accumulate(d_output, block, weights.to(to.dtype), dy)
            _product(d_logits, block.text(output), dy.mT)
            _softmax_backward_(d_logits, weights, to)
            # d|q|: with dl the logits' gradient, dq = L k^T dl - L^2 q sum(dl * l), the sum over a norm's own logits.
            product = d_logits * logits
            through_norm = product.view(images, 1 if to.whole else heads, -1, rows).sum(dim=2, keepdim=True)
            through_norm.mul_(inverse.square()).neg_()
            # Below the smallest norm the divisor is a constant.
            through_norm.masked_fill_(inverse >= 1 / _EPS, 0.0)
            d_logits.view(images, heads, -1, rows).mul_(inverse)
            d_raw = d_logits.view(images * heads, -1, rows).to(to.dtype)
            d = channels // heads
            own = block.text(keys).reshape(images * heads, -1, d)
            _product(d_query.view(images * heads, d, rows), own.mT, d_raw)
            per_norm = (images, 1 if to.whole else heads, -1, rows)
            d_query.view(per_norm).addcmul_(query.view(per_norm), through_norm)
            d_key = torch.bmm(d_raw, query.view(images * heads, d, rows).to(to.dtype).mT).view(images, *keys.shape[1:])
            if keys.shape[0] > 1:
                d_keys[block.first : block.last] += d_key
            else:
                d_keys += d_key.sum(dim=0, keepdim=True)
            d_bias += d_query.sum(dim=(0, 2))
            d_query = d_query.to(to.dtype)
            _accumulate(d_weight, block, d_query, x)
            if d_source is not None:
                add = block.of(grad) if ctx.own else None
                _product(block.of(d_source), d_query.mT, weight.expand(images, -1, -1), add=add)
        if d_source is not None:
            _keep_absent(d_source, grad if ctx.own else None, to.present)
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


class _Tape:
    """Stands in for the context of a function that is a part of another."""

    def __init__(self, needs_input_grad: tuple[bool, ...]) -> None:
        self.needs_input_grad = needs_input_grad
        self.saved_tensors: tuple[Any, ...] = ()

    def save_for_backward(self, *tensors: Any) -> None:
        self.saved_tensors = tensors


class _Site(torch.autograd.Function):
    """Projections of the text, `_Fold`, then `_Dot` or `_Cosine`."""

    @staticmethod
    def forward(
        ctx: Any,
        source: Tensor,
        stream: Tensor | None,
        text: Tensor,
        key_weight: Tensor,
        key_bias: Tensor | None,
        value_weight: Tensor,
        value_bias: Tensor,
        scale: Tensor,
        gate: Tensor,
        query_weight: Tensor,
        query_bias: Tensor,
        out_weight: Tensor,
        out_bias: Tensor,
        similarity: Similarity,
        is_padding: Tensor | None,
        to: _Settings,
    ) -> Tensor:
        needed = ctx.needs_input_grad
        folding, attending = _Tape((True, True, *needed[7:13])), _Tape((needed[0],))
        key, value = F.linear(text, key_weight, key_bias), F.linear(text, value_weight, value_bias)
        keys, offset, output = _Fold.forward(
            folding, key, value, scale, gate, query_weight, query_bias, out_weight, out_bias, to.heads, similarity
        )
        if is_padding is not None:
            offset = _masked(offset, is_padding, to.heads, keys.dtype)
        if similarity == "dot":
            assert offset is not None
            y = _Dot.forward(attending, source, stream, keys, offset, output, to)
        else:
            y = _Cosine.forward(attending, source, stream, keys, offset, output, query_weight, query_bias, to)
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
        d_query_weight = d_query_bias = None
        if folding.similarity == "dot":
            found = _Dot.backward(attending, grad)
        else:
            *found, d_query_weight, d_query_bias, _ = _Cosine.backward(attending, grad)
        d_source, d_stream, d_keys, d_offset, d_output = found[:5]
        if d_offset is not None and len(d_offset) > len(text):
            d_offset = d_offset.sum(dim=0, keepdim=True)
        folded: Any = _Fold.backward(folding, d_keys, d_offset, d_output)
        d_key, d_value, d_scale, d_gate, *d_weights = folded[:8]
        if d_query_weight is not None:
            d_weights[:2] = d_query_weight, d_query_bias
        folding.saved_tensors = attending.saved_tensors = ()
        rows, columns = text.flatten(0, 1), (d_key.flatten(0, 1), d_value.flatten(0, 1))
        d_text = None
        if ctx.needs_input_grad[2]:
            d_text = torch.addmm(columns[0] @ key_weight, columns[1], value_weight).view(text.shape)
        d_key_weight, d_value_weight = (part.t() @ rows for part in columns)
        d_key_bias = columns[0].sum(dim=0) if ctx.needs_input_grad[4] else None
        d_projections = (d_key_weight, d_key_bias, d_value_weight, columns[1].sum(dim=0))
        return (d_source, d_stream, d_text, *d_projections, d_scale, d_gate, *d_weights, None, None, None)
