"""EfficientNet-Lite, a light visual encoder with ImageNet weights.

The convolutional network of Tan & Le (2019, https://arxiv.org/abs/1905.11946) in its Lite variant: no
squeeze-excitation, ReLU6 in place of Swish, stem and head not widened, first and last stage not deepened.  Padding is
TensorFlow's "same": of an odd total the larger part is at the bottom and right, and the total depends on the size of
the input.  The names of parameters and buffers are those of the PyTorch conversion whose weights are used.

This module does not depend on files, text or training.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Final

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["CLASSIFIER", "SIZES", "EfficientNetLite", "LiteSize"]

BATCH_NORM_EPS: Final = 1e-3
BATCH_NORM_MOMENTUM: Final = 0.01
CLASSES: Final = 1000
CLASSIFIER: Final = ("_conv_head.", "_bn1.", "_fc.")
"""Beginnings of the names of the tensors that only the classifier has."""


@dataclasses.dataclass(frozen=True)
class LiteSize:
    """How one published size is derived from the base network.

    Attributes:
        width: factor of the channels of all stages.
        depth: factor of the blocks of the inner stages.
        resolution: side of the images it was trained with, pixels.
    """

    width: float
    depth: float
    resolution: int


SIZES: Final = {
    "lite0": LiteSize(1.0, 1.0, 224),
    "lite1": LiteSize(1.0, 1.1, 240),
    "lite2": LiteSize(1.1, 1.2, 260),
}

# (blocks, kernel, stride, expansion, channels) of the base network's stages, table 1 of the paper.
_STAGES: Final = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
_STEM: Final = 32
_HEAD: Final = 1280
_LEVEL_STAGES: Final = (1, 2, 4, 6)
"""The last stages of strides 4, 8, 16 and 32."""


def _rounded(channels: float) -> int:
    """Return the nearest multiple of 8 that is at most a tenth below ``channels``."""
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * channels else nearest


class _SameConv2d(nn.Conv2d):
    """A convolution without bias and with TensorFlow's "same" padding."""

    def __init__(self, channels: int, out_channels: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(channels, out_channels, kernel, stride, groups=groups, bias=False)

    def forward(self, input: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h2 w2"]:
        total = [
            max((math.ceil(side / step) - 1) * step + kernel - side, 0)
            for side, step, kernel in zip(input.shape[-2:], self.stride, self.kernel_size, strict=True)
        ]
        if any(total):
            (top, left) = (part // 2 for part in total)
            input = F.pad(input, (left, total[1] - left, top, total[0] - top))
        return super().forward(input)


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=BATCH_NORM_EPS, momentum=BATCH_NORM_MOMENTUM)


class _Block(nn.Module):
    """Inverted residual (Sandler et al. 2018): expansion, depthwise convolution, projection."""

    def __init__(self, channels: int, out_channels: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = channels * expansion
        self.expands, self.is_residual = expansion > 1, stride == 1 and channels == out_channels
        self.out_channels = out_channels
        if self.expands:
            self._expand_conv = _SameConv2d(channels, inner, 1)
            self._bn0 = _norm(inner)
        self._depthwise_conv = _SameConv2d(inner, inner, kernel, stride, groups=inner)
        self._bn1 = _norm(inner)
        self._project_conv = _SameConv2d(inner, out_channels, 1)
        self._bn2 = _norm(out_channels)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h2 w2"]:
        branch = F.relu6(self._bn0(self._expand_conv(x))) if self.expands else x
        branch = F.relu6(self._bn1(self._depthwise_conv(branch)))
        branch = self._bn2(self._project_conv(branch))
        joined: Tensor = x + branch if self.is_residual else branch
        return joined


class EfficientNetLite(nn.Module):
    """The network: an image to four levels of strides 4, 8, 16 and 32.

    Args:
        size: a name in `SIZES`.
        with_classifier: also has the ImageNet head, for `classify`.

    Attributes:
        channels: of the four levels.
        stage_blocks: by stage 0 to 3 the path and the channels of each block whose output has the stage's stride.
    """

    def __init__(self, size: str = "lite0", *, with_classifier: bool = False) -> None:
        super().__init__()
        factors = SIZES[size]
        self._conv_stem = _SameConv2d(3, _STEM, 3, 2)
        self._bn0 = _norm(_STEM)
        blocks: list[_Block] = []
        ends, channels, widths = [], _STEM, []
        for index, (count, kernel, stride, expansion, width) in enumerate(_STAGES):
            is_inner = 0 < index < len(_STAGES) - 1
            out_channels = _rounded(factors.width * width)
            for number in range(math.ceil(factors.depth * count) if is_inner else count):
                blocks.append(_Block(channels, out_channels, kernel, stride if number == 0 else 1, expansion))
                channels = out_channels
            ends.append(len(blocks))
            widths.append(out_channels)
        self._blocks = nn.ModuleList(blocks)
        self._level_ends = tuple(ends[stage] for stage in _LEVEL_STAGES)
        self.channels = tuple(widths[stage] for stage in _LEVEL_STAGES)
        first = ends[0]  # before it the stride is 2
        self.stage_blocks = {
            stage: [(f"_blocks.{number}", blocks[number].out_channels) for number in range(start, end)]
            for stage, (start, end) in enumerate(zip((first, *self._level_ends), self._level_ends, strict=False))
        }
        if with_classifier:
            self._conv_head = _SameConv2d(channels, _HEAD, 1)
            self._bn1 = _norm(_HEAD)
            self._fc = nn.Linear(_HEAD, CLASSES)

    def forward(self, image: Float[Tensor, "b 3 h w"]) -> list[Float[Tensor, "b c h w"]]:
        """Return the levels, the finest first."""
        x = F.relu6(self._bn0(self._conv_stem(image)))
        levels = []
        for number, block in enumerate(self._blocks, start=1):
            x = block(x)
            if number in self._level_ends:
                levels.append(x)
        return levels

    def classify(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 1000"]:
        """Return the logits of ImageNet's classes; needs ``with_classifier``."""
        features = F.relu6(self._bn1(self._conv_head(self(image)[-1])))
        logits: Tensor = self._fc(features.mean(dim=(-2, -1)))
        return logits
