"""Activation checkpointing: what a block computes in the forward is computed again in the backward instead of kept.

The numbers are the same to the bit, for about a third more computing (Chen et al. 2016, "Training Deep Nets with
Sublinear Memory Cost").  It does not depend on steps, data and losses.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from semalign.errors import ConfigError
from semalign.model.backbones import BackboneEncoder
from semalign.model.families import STAGES
from semalign.model.places import find_places
from semalign.model.segmenter import Segmenter
from semalign.model.text_guidance import TextGuided

__all__ = ["recomputed_parts", "recomputing"]


def recomputed_parts(model: Segmenter) -> list[nn.Module]:
    """Return the modules of which only the inputs are kept: the encoder's blocks, the decoder's levels and fusions.

    Of transformers' backbones there is none, which recompute by themselves.
    """
    encoder, decoder = model.visual_encoder, model.decoder
    parts: list[nn.Module] = []
    if isinstance(encoder, BackboneEncoder):
        if not _by_itself(encoder):
            places = find_places(encoder.original, range(STAGES), "block")
            parts += [encoder.original.get_submodule(path) for path in places]
            # A block's alignment runs in its hook, after what is recomputed of the block, and takes its text as input.
            if isinstance(encoder.backbone, TextGuided):
                parts += [encoder.backbone.guidance.get_submodule(site) for site in encoder.backbone.places.values()]
    else:
        parts += [module for module in (encoder.stem, encoder.depth_stem) if module is not None]
        for stage in encoder.stages:
            assert isinstance(stage.blocks, nn.ModuleList)
            parts += [stage.downsample, *stage.blocks]  # type: ignore[list-item]
    return [*parts, *decoder.laterals, *decoder.alignments, *decoder.fusions]


@contextlib.contextmanager
def recomputing(model: Segmenter) -> Iterator[None]:
    """Compute the parts of ``model`` again in each backward of a forward inside the ``with``.

    A backbone of transformers does it its own way.

    Raises:
        ConfigError: the backbone cannot.
    """
    with contextlib.ExitStack() as stack:
        if isinstance(model.visual_encoder, BackboneEncoder) and _by_itself(model.visual_encoder):
            stack.enter_context(_recomputing_backbone(model.visual_encoder.original))
        for part in recomputed_parts(model):
            # An attribute of the instance takes precedence over the class's method; names and values are unchanged.
            part.forward = _recomputed(part)
            stack.callback(part.__dict__.pop, "forward")
        yield


def _by_itself(encoder: BackboneEncoder) -> bool:
    """Return whether the backbone's own library recomputes; timm's way would lose the text of the first forward."""
    return bool(encoder.facts["library"] != "timm")


def _recomputed(part: nn.Module) -> Callable[..., Any]:
    forward = part.forward
    norms = [module for module in part.modules() if isinstance(module, _BatchNorm)]

    def contexts() -> tuple[contextlib.AbstractContextManager[Any], contextlib.AbstractContextManager[Any]]:
        return contextlib.nullcontext(), _untracked(norms)

    def recomputed(*args: Any, **kwargs: Any) -> Any:
        if not (part.training and torch.is_grad_enabled()):
            return forward(*args, **kwargs)
        return checkpoint(forward, *args, use_reentrant=False, context_fn=contexts, **kwargs)

    return recomputed


@contextlib.contextmanager
def _untracked(norms: list[_BatchNorm]) -> Iterator[None]:
    """Keep running statistics as they are in the second forward, which would count a batch twice."""
    counters = [norm.num_batches_tracked for norm in norms]
    before = [(norm.momentum, None if n is None else n.clone()) for norm, n in zip(norms, counters, strict=True)]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, counter, (momentum, count) in zip(norms, counters, before, strict=True):
            norm.momentum = momentum
            if counter is not None and count is not None:
                counter.copy_(count)


@contextlib.contextmanager
def _recomputing_backbone(backbone: nn.Module) -> Iterator[None]:
    name = type(backbone).__name__
    advice = "leave train.checkpointing out or take another model.backbone"
    if any(isinstance(module, _BatchNorm) for module in backbone.modules()):
        raise ConfigError(
            f"train.checkpointing=true with the backbone {name}, whose batch norms would count each batch twice, "
            f"expected a backbone without batch norm: {advice}"
        )
    # The first is transformers' name, the second its older one.
    enable: Any = getattr(backbone, "activation_checkpointing_enable", None)
    if callable(enable):
        disable: Any = backbone.activation_checkpointing_disable
    elif callable(enable := getattr(backbone, "gradient_checkpointing_enable", None)):
        disable = backbone.gradient_checkpointing_disable
    else:
        raise ConfigError(f"train.checkpointing=true, but the backbone {name} does not offer it: {advice}")
    try:
        # The non-reentrant kind is the default.
        enable()
    except ValueError as error:
        raise ConfigError(
            f"train.checkpointing=true, but the backbone {name} does not offer it ({error}): {advice}"
        ) from error
    try:
        yield
    finally:
        disable()
