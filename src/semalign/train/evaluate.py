"""Scores a model: counts per image at each mask's own size.

It does not depend on how the model was trained.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from semalign.data.batches import DepthScale, ScoredImages
from semalign.errors import ConfigError
from semalign.metrics import confusion, counts_of_confusion
from semalign.results import Score
from semalign.train.run_text import RunText

__all__ = ["Predictor", "score_images"]

Progress = Callable[[int, int], None]


class Predictor:
    """Logits of whole images by one forward, by mirrored images, or by windows.

    Args:
        model: a segmenter in evaluation mode.
        size: H, W that images are resized to; with ``window`` images keep their own size.
        flip: also predict the mirrored image and average the probabilities.
        window: H, W of windows that cover the image at its own size with half overlap; probabilities are averaged.
        class_features: encoded class sentences for the `text` classifier.
    """

    def __init__(
        self,
        model: nn.Module,
        size: tuple[int, int],
        *,
        flip: bool = False,
        window: tuple[int, int] | None = None,
        class_features: Float[Tensor, "classes ct"] | None = None,
    ) -> None:
        self.model = model
        self.size = None if window is not None else size
        self.flip = flip
        self.window = window
        self.class_features = class_features
        self.device = next(model.parameters()).device

    @torch.no_grad()
    def scores(
        self,
        image: Float[Tensor, "b 3 h w"],
        text: Float[Tensor, ...] | None,
        is_padding: Bool[Tensor, ...] | None,
        depth: Float[Tensor, "b 1 h w"] | None,
        size: tuple[int, int],
    ) -> Float[Tensor, "b classes H W"]:
        """Return values at ``size`` whose argmax is the prediction (logits, or probabilities of joined views)."""
        image = image.to(self.device)
        text, is_padding, depth = (None if part is None else part.to(self.device) for part in (text, is_padding, depth))
        if self.window is None:
            return self._forward(image, text, is_padding, depth, size)
        height, width = image.shape[2:]
        total: Tensor | None = None
        weight = torch.zeros(1, 1, height, width, device=self.device)
        for rows, columns in windows((height, width), self.window):
            part = self._forward(
                image[:, :, rows, columns],
                text,
                is_padding,
                None if depth is None else depth[:, :, rows, columns],
                (rows.stop - rows.start, columns.stop - columns.start),
            )
            part = part if self.flip else part.softmax(dim=1)
            if total is None:
                total = part.new_zeros(part.shape[0], part.shape[1], height, width)
            total[:, :, rows, columns] += part
            weight[:, :, rows, columns] += 1
        assert total is not None
        return F.interpolate(total / weight, size=size, mode="bilinear", align_corners=False)

    def _forward(
        self,
        image: Tensor,
        text: Tensor | None,
        is_padding: Tensor | None,
        depth: Tensor | None,
        size: tuple[int, int],
    ) -> Tensor:
        features = None if self.class_features is None else self.class_features.to(self.device)

        def forward(image: Tensor, depth: Tensor | None) -> Tensor:
            logits: Tensor = self.model(
                image.contiguous(memory_format=torch.channels_last),
                text,
                is_padding,
                depth=depth,
                class_features=features,
                size=size,
            )
            return logits.float()

        logits = forward(image, depth)
        if not self.flip:
            return logits
        mirrored = forward(image.flip(-1), None if depth is None else depth.flip(-1)).flip(-1)
        return (logits.softmax(dim=1) + mirrored.softmax(dim=1)) / 2


def windows(size: tuple[int, int], window: tuple[int, int]) -> list[tuple[slice, slice]]:
    """Return windows of at most ``window`` that cover ``size``, neighbours overlapping by at least half.

    >>> windows((4, 6), (4, 4))
    [(slice(0, 4, None), slice(0, 4, None)), (slice(0, 4, None), slice(2, 6, None))]
    """

    def spans(length: int, reach: int) -> list[slice]:
        reach = min(length, reach)
        count = 1 if reach == length else 1 + -(-(length - reach) // max(1, reach // 2))
        starts = [round(i * (length - reach) / max(1, count - 1)) for i in range(count)]
        return [slice(start, start + reach) for start in starts]

    return [(rows, columns) for rows in spans(size[0], window[0]) for columns in spans(size[1], window[1])]


def score_images(
    predictor: Predictor,
    images: ScoredImages,
    text: RunText,
    *,
    depth_scale: DepthScale | None,
    batch_size: int = 8,
    progress: Progress = lambda done, images: None,
) -> Score:
    """Return the counts of ``images`` at each mask's own size.

    Args:
        predictor: gives the logits.
        images: what is scored.
        text: holds the text of the images' split.
        depth_scale: how depth is standardised; None without depth.
        batch_size: images of a forward.
        progress: called with (images done, images) after each batch.

    Raises:
        ConfigError: the model has other classes than the data.
        DataError: a file is broken.
    """
    n_classes = len(images.class_names)
    counts: list[np.ndarray] = []
    total = np.zeros((n_classes, n_classes), dtype=np.int64)
    places = images.places
    for batch, masks in images.batches(predictor.size, depth_scale, batch_size):
        rows_of: dict[tuple[int, ...], list[int]] = {}
        for row, mask in enumerate(masks):
            rows_of.setdefault(mask.shape, []).append(row)
        predictions: dict[int, np.ndarray] = {}
        # Scores are resized once, to the mask's own size, so that no image's depends on which others are beside it.
        for shape, rows in rows_of.items():
            features, is_padding = text.batch(images.split, places[batch.index[rows]])
            image, depth = batch.image, batch.depth
            if len(rows) < len(masks):
                image, depth = image[rows], None if depth is None else depth[rows]
            scores = predictor.scores(image, features, is_padding, depth, (shape[0], shape[1]))
            if scores.shape[1] != n_classes:
                raise ConfigError(
                    f"the model answers for {scores.shape[1]} classes and the data have {n_classes}, "
                    "expected the classes it was trained with"
                )
            predictions |= zip(rows, scores.argmax(dim=1).cpu().numpy(), strict=True)
        for row, mask in enumerate(masks):
            matrix = confusion(mask, predictions[row], n_classes)
            counts.append(counts_of_confusion(matrix))
            total += matrix
        progress(len(counts), len(images.names))
    return Score(images.split, images.class_names, images.names, np.stack(counts), total)
