"""Blocks of positions that stay in a processor's cache, and what the folded kernels do with each block.

Weights are held as heads x tokens x positions, where a softmax over few tokens runs along the vector unit.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from semalign.align.attention import not_in_top_k

# What one block touches: measured best between 2 and 6 MB on cores with 1 MB of own and 32 MB of shared cache.
BLOCK_BYTES = 4 << 20
SMALLEST_BLOCK = 128


def is_captured() -> bool:
    """Return whether a graph is being captured, by `torch.compile` or by tracing."""
    return torch.compiler.is_compiling() or torch.jit.is_tracing()  # type: ignore[attr-defined,no-untyped-call]


class Settings(NamedTuple):
    """How a kernel attends.

    Attributes:
        heads: number of heads.
        whole: cosine over the full width before the head split.
        top_k: tokens that each row attends to; None for all.
        present: which images have text; None for all of them.
        dtype: of the products.
    """

    heads: int
    whole: bool
    top_k: int | None
    present: tuple[bool, ...] | None
    dtype: torch.dtype


class Block(NamedTuple):
    """Images ``first`` to ``last``, positions ``start`` to ``stop``; several images only with all of theirs."""

    first: int
    last: int
    start: int
    stop: int
    whole: bool
    """Whether the block is everything: then nothing has to be cut."""

    def of(self, rows: Tensor) -> Tensor:
        """Return the block's part of images x positions x channels."""
        return rows if self.whole else rows[self.first : self.last, self.start : self.stop]

    def text(self, rows: Tensor) -> Tensor:
        """Return the images' own matrices, or the shared one once per image."""
        images = self.last - self.first
        if rows.shape[0] == 1:
            return rows if images == 1 else rows.expand(images, *rows.shape[1:])
        return rows if self.whole else rows[self.first : self.last]


@functools.lru_cache(maxsize=1024)
def cut_into_blocks(
    images: int, rows: int, numbers_per_row: int, itemsize: int, present: tuple[bool, ...] | None
) -> list[Block]:
    """Cut images x positions into blocks of about `BLOCK_BYTES`, leaving out images without text."""
    fit = max(SMALLEST_BLOCK, BLOCK_BYTES // (itemsize * numbers_per_row))
    if images * rows == 0:
        return []
    if present is None and images * rows <= fit:
        return [Block(0, images, 0, rows, True)]
    blocks: list[Block] = []
    for first, last in _spans(images, present):
        if rows * 2 <= fit:
            step = fit // rows
            blocks += [Block(a, min(a + step, last), 0, rows, False) for a in range(first, last, step)]
            continue
        # Parts of nearly the same size, so that none is too small to be worth its calls.
        step = -(-rows // -(-rows // fit))
        for image in range(first, last):
            blocks += [Block(image, image + 1, r, min(r + step, rows), False) for r in range(0, rows, step)]
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


def keep_absent(out: Tensor, rows: Tensor | None, present: tuple[bool, ...] | None) -> None:
    """Give the images without text their rows as they are, or zeros."""
    for index, here in enumerate(present or ()):
        if not here:
            if rows is None:
                out[index].zero_()
            else:
                out[index].copy_(rows[index])


def product(out: Tensor, a: Tensor, b: Tensor, add: Tensor | None = None) -> None:
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


def accumulate(total: Tensor, block: Block, a: Tensor, b: Tensor) -> None:
    """Add a b to the images' own sums, or over the images to the shared one."""
    images = block.last - block.first
    if total.shape[0] == images:
        # The first and only block writes; sums begin at 0.
        product(total, a, b, add=None if block.whole else total)
    elif total.shape[0] > 1:
        part = total[block.first : block.last]
        product(part, a, b, add=part)
    elif images == 1:
        product(total, a, b, add=total)
    else:
        total += torch.bmm(a, b).sum(dim=0, keepdim=True)


def add_rows(total: Tensor, block: Block, rows: Tensor) -> None:
    """Add rows (images x n) to the images' own sums, or over the images to the shared one."""
    if total.shape[0] > 1:
        total[block.first : block.last] += rows
    else:
        total += rows.sum(dim=0, keepdim=True)


class Space:
    """Working memory that every block uses again."""

    def __init__(
        self, like: Tensor, dtype: torch.dtype, blocks: list[Block], heights: Sequence[int], *, fresh: bool = False
    ) -> None:
        self._like, self._dtype, self._heights = like, dtype, heights
        self._parts: list[Tensor] | None = None
        # What is used but once, or to be kept, is made to measure.
        if len(blocks) > 1 and not fresh:
            largest = max((b.last - b.first) * (b.stop - b.start) for b in blocks)
            self._parts = [like.new_empty(largest * height, dtype=dtype) for height in heights]

    def cut(self, block: Block) -> list[Tensor]:
        """Return each part as images x height x positions."""
        images, rows = block.last - block.first, block.stop - block.start
        if self._parts is None:
            return [self._like.new_empty((images, height, rows), dtype=self._dtype) for height in self._heights]
        return [
            part[: images * height * rows].view(images, height, rows)
            for part, height in zip(self._parts, self._heights, strict=True)
        ]


def softmax_(logits: Tensor, out: Tensor, settings: Settings) -> None:
    """Softmax over tokens of images x (heads tokens) x positions."""
    images, height, rows = logits.shape
    shape = (images, settings.heads, height // settings.heads, rows)
    logits, out = logits.view(shape), out.view(shape)
    if settings.top_k is not None:
        logits = logits.masked_fill(not_in_top_k(logits, settings.top_k, dim=2), -torch.inf)
    torch.softmax(logits, 2, out=out)


def softmax_backward_(grad: Tensor, weights: Tensor, settings: Settings) -> None:
    """Turn the gradient of the weights into that of the logits, in place."""
    images, height, rows = weights.shape
    shape = (images, settings.heads, height // settings.heads, rows)
    grad, weights = grad.view(shape), weights.view(shape)
    torch.ops.aten._softmax_backward_data.out(grad, weights, 2, weights.dtype, grad_input=grad)


def wide_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return float32 or the given dtype, whichever is wider: what softmax and sums over positions run in."""
    return torch.promote_types(dtype, torch.float32)
