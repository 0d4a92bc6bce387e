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
from semalign.align.presets import Similarity

__all__ = [
    "FoldedText",
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
_BLOCK_BYTES = 3 << 20
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
    texts, tokens, dim = key.shape
    d = dim // heads
    if similarity == "cosine-full":
        key = F.normalize(key, dim=-1, eps=_EPS)
    k = key.view(texts, tokens, heads, d)
    if similarity == "cosine":
        k = F.normalize(k, dim=-1, eps=_EPS)
    k = k * scale.to(key.dtype).reshape(-1, 1)
    # Plain views: at small sites rearrange itself would be a tenth of the time.
    offset = None
    if similarity == "dot":
        rows = k.permute(2, 0, 1, 3).reshape(heads, texts * tokens, d)
        keys = _by_text(torch.bmm(rows, query_weight.view(heads, d, -1)), texts)
        offset = _by_text(torch.bmm(rows, query_bias.view(heads, d, 1)), texts).squeeze(-1)
    else:
        keys = k.transpose(1, 2)
    rows = value.view(texts * tokens, heads, d).transpose(0, 1)
    columns = out_weight.view(-1, heads, d).permute(1, 2, 0)  # (heads, d, channels)
    # Each head's weights sum to 1, so a bias spread over the heads comes out whole.
    output = _by_text(torch.baddbmm(out_bias, rows, columns, beta=1 / heads), texts) * gate
    if is_padding is not None:
        # A text of padding alone stays unmasked, for a row of -inf would give NaN; its branch is dropped later.
        away = is_padding & has_text(is_padding)[:, None]
        away = away.repeat(1, heads)  # (texts or images, heads tokens)
        base = torch.zeros_like(away, dtype=key.dtype) if offset is None else offset
        offset = base.masked_fill(away, -torch.inf)
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


def _by_text(columns: Float[Tensor, "heads rows channels"], texts: int) -> Float[Tensor, "texts heads_tokens channels"]:
    """Turn h (g t) c into g (h t) c."""
    heads, _, channels = columns.shape
    return columns.view(heads, texts, -1, channels).transpose(0, 1).reshape(texts, -1, channels)


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
    if top_k is not None and top_k >= text.output.shape[1] // text.heads:
        top_k = None
    if not runs_in_blocks(source):
        return _plain(stream, source, text, is_padding, top_k, dtype)
    batch, _, channels = source.shape
    shared = all(t is None or t.shape[0] == 1 for t in (text.keys, text.offset, text.output))
    same = stream is source
    if shared and (present is None or len(present) == 1):
        # One text for all images: their positions are one long list.
        source = source.reshape(1, -1, channels)
    elif present is not None and len(present) == 1:
        present = None if present[0] else [False] * batch
    source = source.contiguous()
    base = None if same else stream.reshape(source.shape).contiguous()
    keys, output = text.keys.to(dtype), text.output.to(dtype)
    settings = _Settings(text.heads, text.whole, top_k, None if present is None else tuple(present), dtype)
    with without_autocast("cpu"):
        if text.query_weight is None:
            assert text.offset is not None
            y: Tensor = _Dot.apply(source, base, keys, text.offset, output, settings)  # type: ignore[no-untyped-call]
        else:
            assert text.query_bias is not None
            weight, bias = text.query_weight.to(dtype), text.query_bias
            y = _Cosine.apply(source, base, keys, text.offset, output, weight, bias, settings)  # type: ignore[no-untyped-call]
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


def _blocks(shape: torch.Size, numbers_per_row: int, itemsize: int, present: tuple[bool, ...] | None) -> list[_Block]:
    """Cut images x positions into blocks of about `_BLOCK_BYTES`, leaving out images without text."""
    images, rows = shape[0], shape[1]
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
    if total.shape[0] > 1:
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

    def __init__(self, like: Tensor, dtype: torch.dtype, blocks: list[_Block], heights: Sequence[int]) -> None:
        largest = max((b.last - b.first) * (b.stop - b.start) for b in blocks) if blocks else 0
        self._parts = [like.new_empty(largest * height, dtype=dtype) for height in heights]
        self._heights = heights

    def cut(self, block: _Block) -> list[Tensor]:
        """Return each part as images x height x positions."""
        images, rows = block.last - block.first, block.stop - block.start
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


class _Dot(torch.autograd.Function):
    """Both sides folded.  The backward computes the weights again rather than keep N x H T of them."""

    @staticmethod
    def forward(
        ctx: Any, source: Tensor, stream: Tensor | None, keys: Tensor, offset: Tensor, output: Tensor, to: _Settings
    ) -> Tensor:
        base = source if stream is None else stream
        y = torch.empty_like(base)
        blocks = _blocks(source.shape, 2 * source.shape[2] + keys.shape[1], source.itemsize, to.present)
        space = _Space(source, _wide(to.dtype), blocks, [keys.shape[1]])
        for block in blocks:
            (weights,) = space.cut(block)
            x = block.of(source).to(to.dtype)
            _product(weights, block.text(keys), x.mT, add=block.text(offset).unsqueeze(-1))
            _softmax_(weights, weights, to)
            _product(block.of(y), weights.to(to.dtype).mT, block.text(output), add=block.of(base))
        _keep_absent(y, base, to.present)
        ctx.save_for_backward(source, keys, offset, output)
        ctx.settings, ctx.own = to, stream is None
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        source, keys, offset, output = ctx.saved_tensors
        to: _Settings = ctx.settings
        grad = grad.contiguous()
        d_source = torch.empty_like(source) if ctx.needs_input_grad[0] else None
        d_keys = torch.zeros_like(keys, dtype=_wide(to.dtype))
        d_offset = torch.zeros_like(offset)
        d_output = torch.zeros_like(output, dtype=_wide(to.dtype))
        blocks = _blocks(source.shape, 3 * source.shape[2] + 2 * keys.shape[1], source.itemsize, to.present)
        space = _Space(source, _wide(to.dtype), blocks, [keys.shape[1]] * 2)
        for block in blocks:
            weights, d_logits = space.cut(block)
            x, dy = block.of(source).to(to.dtype), block.of(grad).to(to.dtype)
            _product(weights, block.text(keys), x.mT, add=block.text(offset).unsqueeze(-1))
            _softmax_(weights, weights, to)
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
        base = source if stream is None else stream
        y = torch.empty_like(base)
        channels, height = source.shape[2], output.shape[1]
        blocks = _blocks(source.shape, 3 * channels + height, source.itemsize, to.present)
        space = _Space(source, _wide(to.dtype), blocks, [channels, height])
        for block in blocks:
            query, weights = space.cut(block)
            _Cosine._logits(block, block.of(source).to(to.dtype), query, weights, keys, weight, bias, to)
            _Cosine._weights(block, weights, offset, weights, to)
            _product(block.of(y), weights.to(to.dtype).mT, block.text(output), add=block.of(base))
        _keep_absent(y, base, to.present)
        ctx.save_for_backward(source, keys, offset, output, weight, bias)
        ctx.settings, ctx.own = to, stream is None
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        source, keys, offset, output, weight, bias = ctx.saved_tensors
        to: _Settings = ctx.settings
        heads = to.heads
        grad = grad.contiguous()
        wide = _wide(to.dtype)
        d_source = torch.empty_like(source) if ctx.needs_input_grad[0] else None
        d_keys, d_output = torch.zeros_like(keys, dtype=wide), torch.zeros_like(output, dtype=wide)
        d_weight, d_bias = torch.zeros_like(weight, dtype=wide).unsqueeze(0), torch.zeros_like(bias, dtype=wide)
        channels, height = source.shape[2], output.shape[1]
        blocks = _blocks(source.shape, 5 * channels + 3 * height, source.itemsize, to.present)
        space = _Space(source, wide, blocks, [channels, channels, height, height, height])
        for block in blocks:
            query, d_query, logits, weights, d_logits = space.cut(block)
            images, rows = block.last - block.first, block.stop - block.start
            x, dy = block.of(source).to(to.dtype), block.of(grad).to(to.dtype)
            inverse = _Cosine._logits(block, x, query, logits, keys, weight, bias, to)
            _Cosine._weights(block, logits, offset, weights, to)
            _accumulate(d_output, block, weights.to(to.dtype), dy)
            _product(d_logits, block.text(output), dy.mT)
            _softmax_backward_(d_logits, weights, to)
            # d|q|: with dl the logits' gradient, dq = L k^T dl - L^2 q sum(dl * l), the sum over a norm's own logits.
            torch.mul(d_logits, logits, out=logits)
            through_norm = logits.view(images, 1 if to.whole else heads, -1, rows).sum(dim=2, keepdim=True)
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
