"""What the logits of a step are compared with: labels, class weights and the loss of a part of a batch."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from semalign.config import Options
from semalign.data.batches import ImageSet
from semalign.metrics import IGNORE
from semalign.train.inputs import Inputs
from semalign.train.vocabulary import compact_labels, seen_places

__all__ = ["Objective", "class_weights", "make_objective"]


@dataclasses.dataclass(frozen=True)
class Objective:
    """Weighted cross entropy over the labelled pixels.

    Attributes:
        weights: weights of the K classes that are trained on; None: all 1.
        class_features: class sentences of the `text` classifier for these classes, else None.
        labels: by mask value the position among these classes, 255 elsewhere; None where all classes are trained on.
        stride: every n-th mask pixel of every n-th row is compared.
        size: H, W of the logits, that of the masks seen with the stride.
        label_smoothing: share of each target that is spread evenly over the classes, in [0, 1).
    """

    weights: Float[Tensor, " k"] | None
    class_features: Float[Tensor, "k ct"] | None
    labels: Int[Tensor, " values"] | None
    stride: int
    size: tuple[int, int]
    label_smoothing: float

    def target(self, mask: Int[Tensor, "b H W"]) -> Int[Tensor, "b h w"]:
        """Return what a batch's logits are compared with."""
        if self.stride > 1:
            mask = mask[:, :: self.stride, :: self.stride]
        return mask if self.labels is None else self.labels[mask]

    def loss(
        self, logits: Float[Tensor, "b k h w"], target: Int[Tensor, "b h w"], whole: Float[Tensor, ""] | None = None
    ) -> Float[Tensor, ""]:
        """Return the mean over the labelled pixels, 0 without any.

        Args:
            logits: of a batch, or of a part of it.
            target: from `target`, of the same images.
            whole: what the loss of all parts together is divided by; None divides by the part's own weight.
        """
        is_empty = float(whole) == 0 if whole is not None else not bool((target != IGNORE).any())
        if is_empty:
            # The mean over no pixel would be NaN.
            return 0 * logits.sum()
        loss = F.cross_entropy(
            logits,
            target,
            weight=self.weights,
            ignore_index=IGNORE,
            label_smoothing=self.label_smoothing,
            reduction="mean" if whole is None else "sum",
        )
        return loss if whole is None else loss / whole


def make_objective(inputs: Inputs, options: Options, device: torch.device) -> Objective:
    """Return the objective of a run; classes of ``data.unseen`` take no part in it."""
    loss, data = options.train.loss, options.data
    assert data.size is not None
    weights = class_weights(inputs.images, len(inputs.class_names), loss.class_weights)
    weights = None if weights is None else weights.to(device)
    class_features = None if inputs.text.classes is None else inputs.text.classes.features.to(device)
    labels = None
    if data.unseen:
        places = seen_places(inputs.class_names, data.unseen).to(device)
        labels = compact_labels(places)
        weights = None if weights is None else weights[places]
        class_features = None if class_features is None else class_features[places]
    height, width = (-(-side // loss.stride) for side in data.size)
    return Objective(weights, class_features, labels, loss.stride, (height, width), loss.label_smoothing)


def class_weights(images: ImageSet, n_classes: int, power: float) -> Float[Tensor, " classes"] | None:
    """Return weights frequency^-power, scaled so that a pixel's mean weight is 1; absent classes weigh 0.

    Args:
        images: the training split.
        n_classes: C.
        power: in [0, 1]; 0 gives None, which weighs all classes alike.
    """
    if power == 0:
        return None
    frequency = images.class_frequency(n_classes)
    weights = np.zeros(n_classes)
    seen = frequency > 0
    weights[seen] = frequency[seen] ** -power
    return torch.tensor(weights / (weights * frequency).sum(), dtype=torch.float32)
