"""What the alignments of a model cost: sites, parameters and operations an image, by side.

The formula as written is counted, not the form that computes it.  This module does not depend on training.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from semalign.model.alignment import Alignment, alignment_sites
from semalign.model.segmenter import Segmenter

__all__ = ["alignment_cost"]


def alignment_cost(
    model: Segmenter, size: tuple[int, int], tokens: int, text_dim: int, class_features: Tensor | None = None
) -> dict[str, dict[str, Any]]:
    """Return by side ("encoder", "decoder") its sites, parameters, and operations of one image; empty without text.

    Operations are the multiplications and additions of all matrix products of the plain form, the decoder's
    feed-forward layers among them.

    Args:
        model: the segmenter; it is left as it was.
        size: height and width of the image.
        tokens: T.
        text_dim: Ct.
        class_features: class sentences of the `text` classifier.
    """
    sites = {path: site for path, site in alignment_sites(model).items() if isinstance(site, Alignment)}
    if not sites:
        return {}
    image = torch.zeros(1, 3, *size)
    depth = torch.zeros(1, 1, *size) if getattr(model.visual_encoder, "depth_stem", None) is not None else None
    counter = FlopCounterMode(display=False)
    device = next(model.parameters()).device
    with _as_reference(model, sites.values()), counter, torch.no_grad():
        model(
            image.to(device),
            torch.zeros(tokens, text_dim, device=device),
            depth=None if depth is None else depth.to(device),
            class_features=class_features,
        )
    counts = counter.get_flop_counts()
    found: dict[str, dict[str, Any]] = {}
    for path, site in sites.items():
        side = found.setdefault(site.side, {"sites": 0, "parameters": 0, "operations": 0})
        side["sites"] += 1
        side["parameters"] += sum(parameter.numel() for parameter in site.parameters())
        side["operations"] += sum(counts.get(f"{type(model).__name__}.{path}", {}).values())
    return found


@contextlib.contextmanager
def _as_reference(model: nn.Module, sites: Any) -> Iterator[None]:
    """Let the sites compute the plain form, and the model be in evaluation mode, for a while."""
    forms = [(site, site.form) for site in sites]
    training = {name: module.training for name, module in model.named_modules()}
    model.eval()
    for site, _ in forms:
        site.form = "reference"
    try:
        yield
    finally:
        for site, form in forms:
            site.form = form
        for name, module in model.named_modules():
            module.training = training[name]
