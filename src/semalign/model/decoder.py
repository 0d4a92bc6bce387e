"""The decoder: project each level, align it with the text, fuse from coarse to fine, classify.

It holds no sizes and does not depend on the source of the features.  The fusion is that of a feature pyramid network
(Lin et al. 2017).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from semalign.errors import TextError
from semalign.model.feed_forward import feed_forward_of, with_feed_forward
from semalign.presets import Residual

__all__ = ["Decoder", "LinearClassifier", "TextClassifier", "TextFreeLevel"]


class TextFreeLevel(nn.Module):
    """What is left of a `DecoderAlignment` without its text branch, under the same names.

    By ``residual``: "pre-norm" y = x + FFN(LN x), "normalized" z = LN(LN x), y = z + FFN(z), "plain" y = x.  A model
    trained without text thus differs from a guided one by the branch alone.  A level that no text is meant for is
    "plain".
    """

    def __init__(self, channels: int, residual: Residual) -> None:
        super().__init__()
        self.residual = residual
        if residual != "plain":
            if residual == "normalized":
                self.norm1 = nn.LayerNorm(channels)
            self.norm2 = nn.LayerNorm(channels)
            self.ffn = feed_forward_of(channels)

    def forward(
        self,
        x: Float[Tensor, "b h w c"],
        text: Float[Tensor, ...] | None = None,
        is_padding: Bool[Tensor, ...] | None = None,
    ) -> Float[Tensor, "b h w c"]:
        """Return the level's features; ``text`` is not used."""
        if self.residual == "plain":
            return x
        x = self.norm1(x) if self.residual == "normalized" else x
        return with_feed_forward(x, self.residual, self.norm2, self.ffn)


class LinearClassifier(nn.Module):
    """1 x 1 convolution from features to class logits."""

    def __init__(self, channels: int, n_classes: int) -> None:
        super().__init__()
        self.project = nn.Conv2d(channels, n_classes, 1)

    def forward(
        self, x: Float[Tensor, "b c h w"], class_features: Float[Tensor, "classes ct"] | None = None
    ) -> Float[Tensor, "b classes h w"]:
        """Return logits; ``class_features`` are not used."""
        y: Tensor = self.project(x)
        return y


class TextClassifier(nn.Module):
    """Cosine between pixel features and class sentences, times a learnable scale.

    logits = exp(l) cos(W x, e_k); l starts at log(1/0.07) and is put back into [0, log 100] after each step (Radford et
    al. 2021, CLIP).  The classes are an input, so that a trained model answers for names it was not trained with.
    """

    bounds = (0.0, math.log(100))

    def __init__(self, channels: int, text_dim: int) -> None:
        super().__init__()
        self.project = nn.Conv2d(channels, text_dim, 1)
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def project_parameters(self) -> None:
        """Put l back inside its bounds."""
        with torch.no_grad():
            self.log_scale.clamp_(*self.bounds)

    def forward(
        self, x: Float[Tensor, "b c h w"], class_features: Float[Tensor, "classes ct"] | None = None
    ) -> Float[Tensor, "b classes h w"]:
        """Return logits for the classes whose sentences ``class_features`` encodes.

        Raises:
            TextError: there are no class sentences, or their width does not fit.
        """
        dim = self.project.out_channels
        if class_features is None or class_features.ndim != 2 or class_features.shape[1] != dim:
            got = "none" if class_features is None else f"features of shape {tuple(class_features.shape)}"
            raise TextError(f"the text classifier needs class sentences and got {got}, expected classes x {dim}")
        pixels = F.normalize(self.project(x), dim=1)
        # A 1 x 1 convolution whose weights are the class vectors.
        weight = rearrange(F.normalize(class_features.to(pixels.dtype), dim=-1), "k c -> k c 1 1")
        return self.log_scale.exp() * F.conv2d(pixels, weight)


class Decoder(nn.Module):
    """Feature levels to logits at the finest level's stride.

    Args:
        laterals: one projection per level, finest first, all to the same channels.
        alignments: one module per level called with (B x H x W x C, text, is_padding).
        fusions: one per level but the coarsest.
        context: coarsest level's features to a vector B x C x 1 x 1 that is added to it.
        classifier: called with (features, class_features).
    """

    def __init__(
        self,
        laterals: Sequence[nn.Module],
        alignments: Sequence[nn.Module],
        fusions: Sequence[nn.Module],
        context: nn.Module,
        classifier: nn.Module,
    ) -> None:
        super().__init__()
        self.laterals = nn.ModuleList(laterals)
        self.alignments = nn.ModuleList(alignments)
        self.fusions = nn.ModuleList(fusions)
        self.context = context
        self.classifier = classifier

    def forward(
        self,
        features: Sequence[Float[Tensor, "b _ _ _"]],
        text: Float[Tensor, ...] | None = None,
        is_padding: Bool[Tensor, ...] | None = None,
        class_features: Float[Tensor, "classes ct"] | None = None,
    ) -> Float[Tensor, "b classes h w"]:
        """Return logits at the stride of ``features[0]``."""
        levels = []
        for feature, lateral, alignment in zip(features, self.laterals, self.alignments, strict=True):
            level = lateral(feature)
            levels.append(alignment(level.movedim(1, -1), text, is_padding).movedim(-1, 1))
        y = levels[-1] + self.context(features[-1])
        for level, fusion in zip(levels[-2::-1], reversed(self.fusions), strict=True):
            y = fusion(level + F.interpolate(y, size=level.shape[2:], mode="bilinear", align_corners=False))
        logits: Tensor = self.classifier(y, class_features)
        return logits
