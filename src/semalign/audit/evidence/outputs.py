"""A model's output as tensors, and the loss that an audit takes where the caller gives none."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from semalign.audit.evidence.records import tensors_within
from semalign.errors import ConfigError


def flatten_outputs(value: Any) -> Iterator[Tensor]:
    """Yield the floating-point tensors in a model's output: nested containers, dataclasses, model outputs."""
    return (tensor for tensor in tensors_within(value) if tensor.is_floating_point() or tensor.is_complex())


def projection_loss(output: Any, seed: int = 0) -> Tensor:
    """Return sum over the output's tensors of <r, y> / (sqrt(n) rms(y)) with seeded normal r.

    A loss that prefers nothing: its gradient in y is a random direction, so that what has no gradient here has none
    under any loss.  Entries of ±inf, which models use to mask, are left out; NaN is not.

    Raises:
        ConfigError: the output holds no floating-point tensor.
    """
    total: Tensor | None = None
    seen: set[int] = set()
    for index, y in enumerate(flatten_outputs(output)):
        if id(y) in seen or y.numel() == 0:
            continue
        seen.add(id(y))
        if y.is_complex():
            y = torch.view_as_real(y)
        generator = torch.Generator().manual_seed(seed * 1000003 + index)
        direction = torch.randn(y.shape, generator=generator).to(device=y.device, dtype=torch.float32)
        wide = y if y.dtype.itemsize >= 4 else y.float()
        unbounded = y.detach().isinf()
        if bool(unbounded.any()):
            wide, direction = wide[~unbounded], direction[~unbounded]
        size = wide.detach().float().pow(2).mean().sqrt().clamp(min=1e-12)
        term = (wide * (direction / (size * math.sqrt(max(1, wide.numel())))).to(wide.dtype)).sum()
        total = term if total is None else total + term.to(total.dtype)
    if total is None:
        raise ConfigError("the model's output holds no floating-point tensor, expected one: give the audit a loss")
    return total


def takes_two(loss: Callable[..., Any]) -> bool:
    """Whether a loss is called with the output and the batch."""
    target = loss.forward if isinstance(loss, nn.Module) else loss
    try:
        parameters = inspect.signature(target).parameters.values()
    except (TypeError, ValueError):
        return False
    needed = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) and p.default is p.empty]
    return len(needed) >= 2
