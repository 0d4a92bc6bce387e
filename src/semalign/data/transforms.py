"""Random crops, mirrors and colors of training images, and the plain resizing of scored ones.

Tensors in, tensors out; every random step takes a generator.  It does not depend on files and data sets.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional as F

from semalign.metrics import IGNORE
from semalign.presets import IMAGE_MEAN, IMAGE_STD

__all__ = [
    "Augmentation",
    "normalize_image",
    "normalize_jittered",
    "random_view",
    "resize_depth",
    "resize_image",
    "resize_mask",
    "skip_view",
]

# Mid-grey on both sides of a mean: one constant for all data keeps a model usable on any of them.
MEAN, STD = IMAGE_MEAN, IMAGE_STD
PAD_VALUE = round(255 * MEAN)


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """How training images are varied.

    Attributes:
        zoom: lowest and highest zoom, drawn log-uniformly; at 1 the whole image is seen, above it a crop, below it the
            image with a border of ignored pixels.
        flip: mirror half of the images.
        color: strength of brightness, contrast, saturation and channel shifts; 0 leaves colors alone.
    """

    zoom: tuple[float, float] = (0.75, 1.75)
    flip: bool = True
    color: float = 0.3


def resize_image(image: UInt8[Tensor, "h w 3"], size: tuple[int, int]) -> UInt8[Tensor, "3 H W"]:
    """Return the image at ``size`` (H, W), antialiased."""
    if image.shape[:2] == size:
        return rearrange(image, "h w c -> c h w")
    batch = rearrange(image, "h w c -> 1 c h w")
    return F.interpolate(batch, size=size, mode="bilinear", antialias=True, align_corners=False)[0]


def resize_mask(mask: UInt8[Tensor, "h w"], size: tuple[int, int]) -> UInt8[Tensor, "H W"]:
    """Return the mask at ``size`` (H, W); each pixel takes the class at its centre."""
    return F.interpolate(rearrange(mask, "h w -> 1 1 h w"), size=size, mode="nearest-exact")[0, 0]


def resize_depth(depth: Float[Tensor, "h w"], size: tuple[int, int]) -> Float[Tensor, "H W"]:
    """Return the depth at ``size`` (H, W); no averaging, so that holes stay holes and edges stay edges."""
    return F.interpolate(rearrange(depth, "h w -> 1 1 h w"), size=size, mode="nearest-exact")[0, 0]


def random_view(
    image: UInt8[Tensor, "h w 3"],
    mask: UInt8[Tensor, "h w"],
    depth: Float[Tensor, "h w"] | None,
    size: tuple[int, int],
    augmentation: Augmentation,
    generator: np.random.Generator,
) -> tuple[UInt8[Tensor, "3 H W"], UInt8[Tensor, "H W"], Float[Tensor, "H W"] | None]:
    """Return a zoomed, shifted and perhaps mirrored view of an image, its mask and its depth at ``size``.

    Always draws four numbers, so that the stream does not depend on what was drawn.
    """
    low, high = (math.log(value) for value in augmentation.zoom)
    zoom = math.exp(generator.uniform(low, high))
    top, left, mirror = generator.random(3)
    height, width = image.shape[:2]
    crop = (min(height, max(1, round(height / zoom))), min(width, max(1, round(width / zoom))))
    # Below zoom 1 the whole image fills a part of the view.
    inside = (
        min(size[0], max(1, round(size[0] * zoom))) if zoom < 1 else size[0],
        min(size[1], max(1, round(size[1] * zoom))) if zoom < 1 else size[1],
    )
    y, x = math.floor(top * (height - crop[0] + 1)), math.floor(left * (width - crop[1] + 1))
    rows, columns = slice(y, y + crop[0]), slice(x, x + crop[1])
    view = resize_image(image[rows, columns], inside)
    labels = resize_mask(mask[rows, columns], inside)
    distances = None if depth is None else resize_depth(depth[rows, columns], inside)
    if inside != size:
        free = (size[0] - inside[0], size[1] - inside[1])
        above, before = math.floor(top * (free[0] + 1)), math.floor(left * (free[1] + 1))
        border = (before, free[1] - before, above, free[0] - above)
        view = F.pad(view, border, value=PAD_VALUE)
        labels = F.pad(labels, border, value=IGNORE)
        distances = None if distances is None else F.pad(distances, border, value=0.0)
    if augmentation.flip and mirror < 0.5:
        view, labels = view.flip(-1), labels.flip(-1)
        distances = None if distances is None else distances.flip(-1)
    return view, labels, distances


def skip_view(generator: np.random.Generator) -> None:
    """Draw what `random_view` draws, for a view that is made elsewhere."""
    generator.random(4)


def normalize_image(image: UInt8[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
    """Return (image / 255 - 0.45) / 0.25 in channels-last memory."""
    return ((image.float() - 255 * MEAN) / (255 * STD)).contiguous(memory_format=torch.channels_last)


def normalize_jittered(
    image: UInt8[Tensor, "b 3 h w"],
    strength: float,
    generator: np.random.Generator,
    *,
    of: tuple[int, int] | None = None,
) -> Float[Tensor, "b 3 h w"]:
    """Return images normalised as by `normalize_image`, with random colors of ``strength``, channels-last.

    With x the normalised image and c, b, s, d drawn for each image, uniform in ±strength (d: per channel, ±strength/4):
    z = x (1 + c) + b, then grey + (z - grey) (1 + s) + d with grey the mean of the three channels of z.  Strength 0
    draws nothing.  With ``of`` = (n, first) the images are those from ``first`` on of a batch of n, and get the colors
    that they get there.
    """
    if strength == 0:
        return normalize_image(image)
    count, _, height, width = image.shape
    total, first = of or (count, 0)

    def draw(reach: float, channels: int = 1) -> Tensor:
        values = generator.uniform(-reach, reach, (total, channels, 1, 1))[first : first + count]
        return torch.from_numpy(values.astype(np.float32)).to(image.device)

    contrast, brightness, saturation, shift = draw(strength), draw(strength), draw(strength), draw(strength / 4, 3)
    result = torch.empty(
        (count, 3, height, width), device=image.device, memory_format=torch.channels_last, dtype=torch.float32
    )
    # One image at a time, plane by plane: it stays in the processor's cache, and grey repeated along the innermost axis
    # of channels-last memory would forbid vector instructions.  The order of operations fixes the bits.
    planes = torch.empty((3, height, width), device=image.device)
    for i in range(count):
        planes.copy_(image[i]).sub_(255 * MEAN).div_(255 * STD).mul_(1 + contrast[i]).add_(brightness[i])
        grey = (planes[0] + planes[1]).add_(planes[2]).div_(3)
        planes.sub_(grey).mul_(1 + saturation[i]).add_(grey).add_(shift[i])
        result[i].copy_(planes)
    return result
