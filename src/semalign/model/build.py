"""Builds a segmenter from plain keywords; the only module that holds sizes.

Initial values are drawn per module from a stream named after the module's path, so that two models share the initial
values of all modules they have in common, also where other modules differ.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import nn

from semalign.align.knobs import resolve_knobs
from semalign.errors import ConfigError, nearest
from semalign.model.alignment import DecoderAlignment, EncoderAlignment
from semalign.model.backbones import Backbone, BackboneEncoder
from semalign.model.decoder import Decoder, LinearClassifier, TextClassifier, TextFreeLevel
from semalign.model.places import Per
from semalign.model.segmenter import Segmenter
from semalign.model.text_guidance import TextGuided, add_text_guidance
from semalign.model.visual_encoder import Block, ConvNorm, Stage, VisualEncoder
from semalign.presets import AlignmentForm
from semalign.seeds import derive_seed

__all__ = ["SIZES", "Size", "build_segmenter", "initialize", "nudge"]


@dataclasses.dataclass(frozen=True)
class Size:
    """Widths and depths of a model.

    Attributes:
        stem: channels at stride 2.
        channels: channels of the four stages.
        blocks: blocks of the four stages.
        decoder: channels of the decoder.
    """

    stem: int
    channels: tuple[int, int, int, int]
    blocks: tuple[int, int, int, int]
    decoder: int


SIZES: dict[str, Size] = {
    "nano": Size(24, (48, 64, 96, 128), (3, 1, 2, 1), 64),
    "tiny": Size(32, (48, 96, 160, 256), (2, 2, 3, 2), 96),
    "small": Size(48, (64, 128, 256, 384), (3, 2, 4, 2), 128),
    "base": Size(64, (96, 192, 384, 512), (3, 4, 6, 3), 192),
}


def build_segmenter(
    n_classes: int,
    *,
    size: str = "nano",
    text_dim: int | None = None,
    classifier: str = "linear",
    depth: bool = False,
    preset: str = "recommended",
    form: AlignmentForm = "auto",
    allow_dead: bool = False,
    backbone: Backbone | None = None,
    encoder_stages: Sequence[int] = (1, 2, 3),
    encoder_per: Per = "block",
    encoder_heads: int = 4,
    encoder_knobs: Mapping[str, Any] | None = None,
    decoder_levels: Sequence[int] = (2, 3),
    decoder_feed_forward: Literal["aligned", "all"] = "aligned",
    decoder_heads: int = 4,
    decoder_knobs: Mapping[str, Any] | None = None,
    class_dim: int | None = None,
    seed: int = 0,
) -> Segmenter:
    """Build a segmenter with the initial values of ``seed``.

    Args:
        n_classes: classes of the `linear` classifier, at least 1.
        size: one of `SIZES`.
        text_dim: width of the text features; None builds the same model without any text branch, the decoder keeping
            its feed-forward parts where it has them with text.
        classifier: "linear" or "text".
        depth: take a depth image as a further input.
        preset: alignment preset, see `semalign.presets`.
        form: how the alignment is computed, "auto", "folded", "sdpa" or "reference".
        allow_dead: accept a learnable temperature that cannot learn.
        backbone: a backbone of another library (`semalign.model.backbones`) in place of our own visual encoder; its
            values are kept as they are, and ``size`` is the decoder's alone.
        encoder_stages: stages, 0 to 3, whose blocks are aligned.
        encoder_per: "block" aligns every block of those stages, "stage" the last block of each.
        encoder_heads: heads of the encoder alignment.
        encoder_knobs: knobs that differ from the preset's on the encoder side.
        decoder_levels: levels, 0 to 3, that are aligned.
        decoder_feed_forward: which levels have the feed-forward part, those of ``decoder_levels`` or all four.
        decoder_heads: heads of the decoder alignment.
        decoder_knobs: knobs that differ from the preset's on the decoder side.
        class_dim: width of the class sentences' features; needed by the `text` classifier.
        seed: the run's seed.

    Raises:
        ConfigError: an unknown size, stage or level, heads that do not divide a width, a dead temperature, depth for a
            backbone of RGB images, and the like.
    """
    if size not in SIZES:
        raise ConfigError(f"model.size got '{size}'{nearest(size, SIZES)}")
    if n_classes < 1:
        raise ConfigError(f"the segmenter got n_classes={n_classes}, expected at least 1")
    for name, places in (("align.encoder.stages", encoder_stages), ("align.decoder.levels", decoder_levels)):
        if not set(places) <= set(range(4)):
            raise ConfigError(f"{name} got {list(places)}, expected some of 0, 1, 2, 3")
    if backbone is not None and depth:
        raise ConfigError(
            "data.depth=true with model.backbone, whose models take RGB images alone, expected one of the two: leave "
            "model.backbone out to use depth"
        )
    widths = SIZES[size]
    common: dict[str, Any] = {"preset": preset, "form": form, "allow_dead": allow_dead}
    encoder_settings = {**common, **(encoder_knobs or {})}

    def encoder_alignment(stage: int, width: int, is_last: bool) -> nn.Module | None:
        if text_dim is None or stage not in encoder_stages or (encoder_per == "stage" and not is_last):
            return None
        return EncoderAlignment(width, text_dim, encoder_heads, **encoder_settings)

    def decoder_alignment(level: int) -> nn.Module:
        if level not in decoder_levels and decoder_feed_forward == "aligned":
            return TextFreeLevel(widths.decoder, "plain")
        if text_dim is None or level not in decoder_levels:
            return TextFreeLevel(widths.decoder, resolve_knobs(preset, "decoder", **(decoder_knobs or {})).residual)
        return DecoderAlignment(widths.decoder, text_dim, decoder_heads, **common, **(decoder_knobs or {}))

    def guide(module: nn.Module) -> TextGuided:
        assert text_dim is not None
        return add_text_guidance(
            module,
            text_dim=text_dim,
            stages=encoder_stages,
            heads=encoder_heads,
            per=encoder_per,
            **encoder_settings,
        )

    encoder: VisualEncoder | BackboneEncoder
    if backbone is None:
        encoder = _visual_encoder(widths, encoder_alignment, depth=depth)
    else:
        encoder = BackboneEncoder(backbone, guide if text_dim is not None and encoder_stages else None)
    decoder = Decoder(
        [ConvNorm(channels, widths.decoder, 1) for channels in encoder.channels],
        [decoder_alignment(level) for level in range(4)],
        [ConvNorm(widths.decoder, widths.decoder) for _ in range(3)],
        nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(encoder.channels[-1], widths.decoder, 1)),
        _classifier(classifier, widths.decoder, n_classes, class_dim),
    )
    model = Segmenter(encoder, decoder)
    initialize(model, seed, but=None if backbone is None else backbone.module)
    return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def _visual_encoder(
    widths: Size, alignment: Callable[[int, int, bool], nn.Module | None], *, depth: bool
) -> VisualEncoder:
    """Return our own encoder; ``alignment`` gives a block's, by its stage, width and whether it is the last there."""
    before = (widths.stem, *widths.channels[:-1])
    stages = [
        Stage(
            ConvNorm(channels_in, channels, 3, 2),
            [Block(channels, alignment(stage, channels, i == blocks - 1)) for i in range(blocks)],
        )
        for stage, (channels_in, channels, blocks) in enumerate(
            zip(before, widths.channels, widths.blocks, strict=True)
        )
    ]
    depth_stem = ConvNorm(1, widths.stem, 3, 2) if depth else None
    return VisualEncoder(ConvNorm(3, widths.stem, 3, 2), stages, widths.channels, depth_stem)


def _classifier(name: str, channels: int, n_classes: int, class_dim: int | None) -> nn.Module:
    if name == "linear":
        return LinearClassifier(channels, n_classes)
    if name != "text":
        raise ConfigError(f"model.classifier got '{name}', known: linear, text")
    if class_dim is None:
        raise ConfigError(
            "model.classifier=text needs class sentences, got data without an encoder for them: set text.encoder"
        )
    return TextClassifier(channels, class_dim)


def initialize(model: nn.Module, seed: int, *, but: nn.Module | None = None) -> None:
    """Reset every module that can be reset, each from its own stream named after its path; ``but`` stays as it is."""
    kept = set() if but is None else set(but.modules())
    for path, module in model.named_modules():
        reset = getattr(module, "reset_parameters", None)
        if callable(reset) and module not in kept:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(derive_seed(seed, "init", path))
                reset()


def nudge(model: nn.Module, size: float, seed: int) -> None:
    """Multiply every weight by 1 + ``size`` times a unit normal number: chance alone, far below any real change."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            generator = torch.Generator().manual_seed(derive_seed(seed, "nudge", name))
            noise = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
            parameter.mul_(1 + size * noise.to(parameter.device))
