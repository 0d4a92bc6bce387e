"""A folded bank that is kept from call to call, and how it is recognised as still valid."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.optim.optimizer import register_optimizer_step_post_hook

from semalign.align.fold import FoldedText

__all__ = ["CachedFold"]

_steps = 0


def _count_step(_optimizer: object, _args: object, _kwargs: object) -> None:
    global _steps
    _steps += 1


# Fused optimizers change weights without raising their versions.
register_optimizer_step_post_hook(_count_step)


class CachedFold(NamedTuple):
    """A folded bank and what it was made of.

    Weights are recognised by address, by version, which every in-place change raises, under `no_grad` too, and by the
    number of optimizer steps in this process; only writing in place through ``.data`` is not noticed.  The aliases keep
    the addresses from being used again.  Text and mask are compared by value: they are small, and often new tensors
    with the old content.
    """

    stamps: list[tuple[int, int]]
    aliases: list[Tensor]
    text: Tensor
    is_padding: Tensor | None
    folded: FoldedText

    @classmethod
    def of(cls, weights: Sequence[Tensor], text: Tensor, is_padding: Tensor | None, folded: FoldedText) -> CachedFold:
        """Return a fold with the marks of what it was made of."""
        mask = None if is_padding is None else is_padding.clone()
        aliases = [weight.detach() for weight in weights]
        return cls(cls.stamp(weights), aliases, text.detach().clone(), mask, folded)

    @staticmethod
    def stamp(weights: Sequence[Tensor]) -> list[tuple[int, int]]:
        """Return the marks of the weights as they are now."""
        return [(_steps, 0), *((weight.data_ptr(), weight._version) for weight in weights)]

    def holds_for(self, weights: Sequence[Tensor], text: Tensor, is_padding: Tensor | None) -> bool:
        """Return whether the fold is that of these weights, this text and this mask."""
        if self.stamps != self.stamp(weights) or text.dtype != self.text.dtype:
            return False
        if (is_padding is None) != (self.is_padding is None):
            return False
        same = is_padding is None or self.is_padding is None or torch.equal(is_padding, self.is_padding)
        return same and torch.equal(text, self.text)
