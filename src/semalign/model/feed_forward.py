"""Calls the feed-forward part of a decoder level the fast way where its modules are as they were built.

It owns nothing: norm and FFN stay modules of the level, under its names.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from semalign.align.feed_forward import feed_forward, is_worth_blocks, runs_in_blocks

__all__ = ["add_feed_forward"]


def add_feed_forward(x: Tensor, norm: nn.Module | None, ffn: nn.Module) -> Tensor:
    """Return x + ffn(norm(x)) (x + ffn(x) without a norm), features last.

    In blocks where ``ffn`` is Linear, GELU, Linear after a LayerNorm, nothing listens to them and there are many
    positions; else by calling them.
    """
    if runs_in_blocks(x) and (norm is None or _is_own(norm, nn.LayerNorm)) and _is_own(ffn, nn.Sequential):
        layers = list(ffn.children())
        if len(layers) == 3 and all(map(_is_own, layers, (nn.Linear, nn.GELU, nn.Linear))):
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


def _is_own(module: nn.Module, kind: type[nn.Module]) -> bool:
    # A parametrization or an adapter changes a module's class.
    return type(module) is kind and not is_listened_to(module)


def is_listened_to(module: nn.Module) -> bool:
    """Return whether somebody asks for what goes in or out of the module, so that it has to be called."""
    hooks = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks)
    return any(hooks)
