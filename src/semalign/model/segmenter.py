"""The whole model: image, text and depth in, class logits out.

A part receives its parts already built; it does not depend on sizes, data sets or training.
"""

from __future__ import annotations

from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from semalign.errors import TextError
from semalign.model.alignment import alignment_sites
from semalign.model.backbones import BackboneEncoder
from semalign.model.decoder import Decoder
from semalign.model.visual_encoder import VisualEncoder

__all__ = ["Segmenter"]


class Segmenter(nn.Module):
    """Text-guided semantic segmentation.

    Args:
        visual_encoder: image (and depth) to four levels; our own, or one around another library's backbone.
        decoder: four levels to logits.
    """

    def __init__(self, visual_encoder: VisualEncoder | BackboneEncoder, decoder: Decoder) -> None:
        super().__init__()
        self.visual_encoder = visual_encoder
        self.decoder = decoder

    def forward(
        self,
        image: Float[Tensor, "b 3 h w"],
        text: Float[Tensor, ...] | None = None,
        is_padding: Bool[Tensor, ...] | None = None,
        *,
        depth: Float[Tensor, "b 1 h w"] | None = None,
        class_features: Float[Tensor, "classes ct"] | None = None,
        size: tuple[int, int] | None = None,
    ) -> Float[Tensor, "b classes H W"]:
        """Return class logits at ``size`` (by default the image's).

        Args:
            image: normalised RGB.
            text: T x Ct (shared by all images) or B x T x Ct token features; needed by a model built with text.
            is_padding: T or B x T, True where a token is padding.
            depth: standardised depth; needed by a model built with depth.
            class_features: K x Ct encoded class sentences; needed by the `text` classifier alone.
            size: height and width of the logits.

        Raises:
            TextError: text or class sentences are needed and not given, or their shapes do not fit.
            DataError: depth is needed and not given, or the reverse.
        """
        if text is None and alignment_sites(self):
            raise TextError(
                "the segmenter was built with text and got none, expected token features T x Ct or B x T x Ct: for an "
                "image without text mark every token in is_padding"
            )
        features = self.visual_encoder(image, text, is_padding, depth)
        logits = self.decoder(features, text, is_padding, class_features)
        return F.interpolate(logits, size=size or image.shape[2:], mode="bilinear", align_corners=False)
