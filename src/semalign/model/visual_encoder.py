"""The visual encoder: four stages of residual blocks, and each block may be aligned with text.

Sizes are in `semalign.model.build`; what an alignment does with the text is up to the alignment.
Plain 3 x 3 convolutions, because on CPUs they run several times more operations per second than depthwise ones.
"""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Bool, Float
from torch import Tensor, nn

from semalign.errors import DataError

__all__ = ["Block", "ConvNorm", "ResidualNorm", "Stage", "VisualEncoder"]


class ConvNorm(nn.Sequential):
    """k x k convolution without bias, batch norm, ReLU."""

    def __init__(self, channels_in: int, channels_out: int, kernel: int = 3, stride: int = 1) -> None:
        super().__init__(
            nn.Conv2d(channels_in, channels_out, kernel, stride, kernel // 2, bias=False),
            nn.BatchNorm2d(channels_out),
            nn.ReLU(inplace=True),
        )


class ResidualNorm(nn.BatchNorm2d):
    """Batch norm at the end of a residual branch; its weight starts at 0, so that a block starts as the identity.

    Goyal et al. 2017, "Accurate, Large Minibatch SGD", section 5.1.
    """

    def reset_parameters(self) -> None:
        """Set weight and bias to 0 and the running statistics to those of a unit normal."""
        super().reset_parameters()
        nn.init.zeros_(self.weight)


class Block(nn.Module):
    """relu(x + feed_forward(alignment(token_mixing(x), text))).

    Args:
        channels: C.
        alignment: module called with (B x H x W x C, text, is_padding), or None.
    """

    def __init__(self, channels: int, alignment: nn.Module | None = None) -> None:
        super().__init__()
        self.token_mixing = ConvNorm(channels, channels)
        self.alignment = alignment
        self.feed_forward = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, bias=False), ResidualNorm(channels)
        )
        self.activation = nn.ReLU(inplace=True)

    def forward(
        self,
        x: Float[Tensor, "b c h w"],
        text: Float[Tensor, ...] | None = None,
        is_padding: Bool[Tensor, ...] | None = None,
    ) -> Float[Tensor, "b c h w"]:
        """Return the block's output; ``text`` is needed where there is an alignment."""
        branch = self.token_mixing(x)
        if self.alignment is not None:
            # Channels-last memory makes both moves views.
            branch = self.alignment(branch.movedim(1, -1), text, is_padding).movedim(-1, 1)
        y: Tensor = self.activation(x + self.feed_forward(branch))
        return y


class Stage(nn.Module):
    """A strided convolution, then blocks."""

    def __init__(self, downsample: nn.Module, blocks: Sequence[Block]) -> None:
        super().__init__()
        self.downsample = downsample
        self.blocks = nn.ModuleList(blocks)

    def forward(
        self,
        x: Float[Tensor, "b c_in h_in w_in"],
        text: Float[Tensor, ...] | None = None,
        is_padding: Bool[Tensor, ...] | None = None,
    ) -> Float[Tensor, "b c h w"]:
        """Return features at half the height and width (rounded up)."""
        x = self.downsample(x)
        for block in self.blocks:
            x = block(x, text, is_padding)
        return x


class VisualEncoder(nn.Module):
    """Image (and depth) to four feature maps.

    Args:
        stem: image to features at stride 2.
        stages: four stages, each of stride 2.
        channels: the stages' channels.
        depth_stem: depth (B x 1 x H x W) to features that are added to the stem's, or None.
    """

    def __init__(
        self, stem: nn.Module, stages: Sequence[Stage], channels: Sequence[int], depth_stem: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.stem = stem
        self.depth_stem = depth_stem
        self.stages = nn.ModuleList(stages)
        self.channels = tuple(channels)
        self.strides = tuple(4 * 2**index for index in range(len(stages)))

    def forward(
        self,
        image: Float[Tensor, "b 3 h w"],
        text: Float[Tensor, ...] | None = None,
        is_padding: Bool[Tensor, ...] | None = None,
        depth: Float[Tensor, "b 1 h w"] | None = None,
    ) -> list[Float[Tensor, "b _ _ _"]]:
        """Return features of `channels` at `strides`, finest first.

        Raises:
            DataError: depth is given to an encoder without a depth stem, or the reverse.
        """
        if (depth is None) != (self.depth_stem is None):
            got, built = ("no depth", "with it") if depth is None else ("depth", "without it")
            raise DataError(f"the visual encoder got {got}, expected what it was built for: it was built {built}")
        x = self.stem(image)
        if self.depth_stem is not None:
            x = x + self.depth_stem(depth)
        features = []
        for stage in self.stages:
            x = stage(x, text, is_padding)
            features.append(x)
        return features
