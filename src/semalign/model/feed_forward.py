"""The feed-forward part of a decoder level, called the fast way where its modules are as they were built.

Nothing here owns parameters: the norm and the FFN are modules of the level, under its names.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from semalign.align.cpu.feed_forward import feed_forward, is_worth_blocks, runs_in_blocks
from semalign.model.projection import is_listened_to
from semalign.presets import Residual

__all__ = ["add_feed_forward", "feed_forward_of", "with_feed_forward"]

_EXPANSION = 4


def feed_forward_of(channels: int) -> nn.Sequential:
    """Return a new FFN, four times as wide as its features, with GELU."""
    return nn.Sequential(
        nn.Linear(channels, _EXPANSION * channels), nn.GELU(), nn.Linear(_EXPANSION * channels, channels)
    )


def with_feed_forward(y: Tensor, residual: Residual, norm: nn.Module, ffn: nn.Module) -> Tensor:
    """Return y + FFN(norm y) for the residual "pre-norm", z + FFN(z) with z = norm y for "normalized"."""
    return add_feed_forward(y, norm, ffn) if residual == "pre-norm" else add_feed_forward(norm(y), None, ffn)


def add_feed_forward(x: Tensor, norm: nn.Module | None, ffn: nn.Module) -> Tensor:
    """Return x + ffn(norm(x)) (x + ffn(x) without a norm), features last.

    In blocks where ``ffn`` is Linear, GELU, Linear after a LayerNorm, none of them has hooks and there are many
    positions; else by calling them.
    """
    if runs_in_blocks(x) and (norm is None or _is_plain(norm, nn.LayerNorm)) and _is_plain(ffn, nn.Sequential):
        layers = list(ffn.children())
        if len(layers) == 3 and all(map(_is_plain, layers, (nn.Linear, nn.GELU, nn.Linear))):
            first, act, last = layers
            tensors = [first.weight, first.bias, last.weight, last.bias]
            about = None if norm is None else (norm.weight, norm.bias, norm.eps)
            tensors += [] if about is None else about[:2]
            hidden: int = first.out_features  # type: ignore[assignment]
            wide = is_worth_blocks(x, hidden, training=torch.is_grad_enabled())
            if wide and act.approximate == "none" and all(isinstance(tensor, Tensor) for tensor in tensors):
                return feed_forward(x, about, first.weight, first.bias, last.weight, last.bias)  # type: ignore[arg-type]
    y: Tensor = x + ffn(x if norm is None else norm(x))
    return y


def _is_plain(module: nn.Module, kind: type[nn.Module]) -> bool:
    # A parametrization or an adapter changes a module's class.
    return type(module) is kind and not is_listened_to(module)
