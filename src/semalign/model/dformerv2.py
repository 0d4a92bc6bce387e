"""DFormerv2, the RGB-D encoder of the source document's system (Yin et al. 2025, https://arxiv.org/abs/2504.04701).

Four stages of blocks: conditional position encoding, geometry self-attention, feed-forward part with a depthwise
convolution.  Depth does not pass through layers of its own.  It enters the logits of the attention as a prior: with
grid positions p and depth z, head h adds

    decay_h * (w_0 * |p_i - p_j| + w_1 * |z_i - z_j|)

where decay_h < 0 is fixed and w is learned by each block.  In the first three stages columns are attended after rows,
in the last stage all positions at once.  The names of parameters and buffers are those of official checkpoints.

Written from the paper's formulas, those of its base RMT (Fan et al. 2024, https://arxiv.org/abs/2309.11523), and
recorded outputs.  This module does not depend on text or files.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from semalign.errors import ConfigError

__all__ = ["SIZES", "DFormerV2", "DFormerV2Size", "GeometryPrior"]

Item = TypeVar("Item")
AfterAttention = Callable[[int, int, Tensor], Tensor]
"""Called with (stage, block, attention output B x H x W x C); returns what takes the output's place."""


@dataclasses.dataclass(frozen=True)
class DFormerV2Size:
    """The arguments of `DFormerV2` for one published size.

    Attributes:
        embed_dims: channels of the four stages.
        depths: blocks of each stage.
        num_heads: attention heads of each stage.
        heads_ranges: how far the decays of a stage's heads are apart.
        layerscales: whether the branches of a stage's blocks have a learned scale per channel.
        layer_init_values: where that scale starts.
        drop_path_rate: of the last block; it rises linearly from 0.
    """

    embed_dims: tuple[int, int, int, int]
    depths: tuple[int, int, int, int]
    num_heads: tuple[int, int, int, int]
    heads_ranges: tuple[int, int, int, int]
    layerscales: tuple[bool, bool, bool, bool] = (False, False, False, False)
    layer_init_values: float = 1e-6
    drop_path_rate: float = 0.1


SIZES: Final = {
    "s": DFormerV2Size((64, 128, 256, 512), (3, 4, 18, 4), (4, 4, 8, 16), (4, 4, 6, 6)),
    "b": DFormerV2Size((80, 160, 320, 512), (4, 8, 25, 8), (5, 5, 10, 16), (5, 5, 6, 6), (False, False, True, True)),
    "l": DFormerV2Size((112, 224, 448, 640), (4, 8, 25, 8), (7, 7, 14, 20), (6, 6, 6, 6), (False, False, True, True)),
}
"""The published sizes, with 25.4, 52.6 and 93.8 million parameters."""

_FEED_FORWARD_RATIOS: Final = (4, 4, 3, 3)
_FIRST_DECAY: Final = 2.0


class _Depthwise(nn.Module):
    """A depthwise convolution of a map whose channels are last."""

    def __init__(self, dim: int, kernel: int) -> None:
        super().__init__()
        self.dwconv = nn.Conv2d(dim, dim, kernel, padding=kernel // 2, groups=dim)

    def forward(self, x: Float[Tensor, "b h w c"]) -> Float[Tensor, "b h w c"]:
        convolved: Tensor = self.dwconv(x.movedim(-1, 1))
        return convolved.movedim(1, -1)


class _PatchEmbedding(nn.Module):
    """Four 3 x 3 convolutions, two of them with stride 2."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        half = dim // 2
        self.proj = nn.Sequential(
            *(nn.Conv2d(3, half, 3, 2, 1), nn.BatchNorm2d(half), nn.GELU()),
            *(nn.Conv2d(half, half, 3, 1, 1), nn.BatchNorm2d(half), nn.GELU()),
            *(nn.Conv2d(half, dim, 3, 2, 1), nn.BatchNorm2d(dim), nn.GELU()),
            *(nn.Conv2d(dim, dim, 3, 1, 1), nn.BatchNorm2d(dim)),
        )

    def forward(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b h4 w4 c"]:
        embedded: Tensor = self.proj(image)
        return embedded.movedim(1, -1)


class _Downsampling(nn.Module):
    """A 3 x 3 convolution with stride 2 between stages."""

    def __init__(self, dim: int, out_dim: int) -> None:
        super().__init__()
        self.reduction = nn.Conv2d(dim, out_dim, 3, 2, 1)
        self.norm = nn.BatchNorm2d(out_dim)

    def forward(self, x: Float[Tensor, "b h w c"]) -> Float[Tensor, "b h2 w2 c2"]:
        reduced: Tensor = self.norm(self.reduction(x.movedim(-1, 1)))
        return reduced.movedim(1, -1)


# ---- the prior ----


@dataclasses.dataclass(frozen=True)
class Distances:
    """Distances between positions of one stage, for one batch; every block of the stage uses the same.

    Attributes:
        grid: by axis of attention, 1 x 1 x 1 x n x n, in steps of the grid.
        depth: the same, B x 1 x lines x n x n, in the depth map's unit.
        positions: H x W, the running number of each position.
    """

    grid: tuple[Tensor, ...]
    depth: tuple[Tensor, ...]
    positions: Float[Tensor, "h w"]


def _line_distances(lines: Float[Tensor, "b 1 lines n"]) -> Float[Tensor, "b 1 lines n n"]:
    return (lines[..., :, None] - lines[..., None, :]).abs()


def stage_distances(depth: Float[Tensor, "b 1 height width"], size: tuple[int, int], *, by_axes: bool) -> Distances:
    """Return the distances between the positions of a stage.

    Args:
        depth: the depth map at any size.
        size: H x W of the stage.
        by_axes: between positions of one row and of one column (rows first) instead of between all positions.
    """
    rows, columns = size
    resized = F.interpolate(depth, size=size, mode="bilinear", align_corners=False)
    y = torch.arange(rows, dtype=depth.dtype, device=depth.device)
    x = torch.arange(columns, dtype=depth.dtype, device=depth.device)
    positions = torch.arange(rows * columns, dtype=depth.dtype, device=depth.device).reshape(rows, columns)
    if by_axes:
        grid = tuple(_line_distances(axis[None, None, None]) for axis in (x, y))
        return Distances(grid, (_line_distances(resized), _line_distances(resized.transpose(-2, -1))), positions)
    # Of all positions: city-block distance.
    along_y = _line_distances(y.repeat_interleave(columns)[None, None, None])
    along_x = _line_distances(x.repeat(rows)[None, None, None])
    return Distances((along_y + along_x,), (_line_distances(resized.flatten(2)[:, :, None]),), positions)


class GeometryPrior(nn.Module):
    """Weights of the two terms of the prior, decay per head, and rotary angles."""

    angle: Tensor
    decay: Tensor

    def __init__(self, dim: int, heads: int, heads_range: int) -> None:
        super().__init__()
        frequencies = 1.0 / (10000 ** torch.linspace(0, 1, dim // heads // 2))
        decay = torch.log(1 - 2 ** (-_FIRST_DECAY - heads_range * torch.arange(heads, dtype=torch.float) / heads))
        self.weight = nn.Parameter(torch.ones(2, 1, 1, 1))
        self.register_buffer("angle", frequencies.repeat_interleave(2))
        self.register_buffer("decay", decay)

    def forward(self, distances: Distances) -> tuple[Tensor, ...]:
        """Return what is added to the logits by axis of attention, B x heads x lines x n x n."""
        decay = self.decay[:, None, None, None]
        on_grid, on_depth = self.weight[0] * decay, self.weight[1] * decay
        return tuple(
            on_grid * grid + on_depth * depth for grid, depth in zip(distances.grid, distances.depth, strict=True)
        )

    def rotation(self, positions: Float[Tensor, "h w"]) -> tuple[Tensor, Tensor]:
        """Return cosine and sine of the rotary angles, H x W x d each."""
        phase = positions[..., None] * self.angle
        return phase.cos(), phase.sin()


def _rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Return each pair (a, b) of the last axis, rotated by its angle: (a cos - b sin, b cos + a sin)."""
    turned = torch.stack([-x[..., 1::2], x[..., ::2]], dim=-1).flatten(-2)
    return x * cos + turned * sin


class _Attention(nn.Module):
    """Geometry self-attention of a map whose channels are last."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj = nn.Linear(dim, dim)
        self.k_proj = nn.Linear(dim, dim)
        self.v_proj = nn.Linear(dim, dim)
        self.lepe = _Depthwise(dim, 5)
        self.out_proj = nn.Linear(dim, dim)

    def forward(
        self, x: Float[Tensor, "b h w c"], prior: tuple[Tensor, ...], rotation: tuple[Tensor, Tensor]
    ) -> Float[Tensor, "b h w c"]:
        value = self.v_proj(x)
        query = _rotated(self._by_head(self.q_proj(x)), *rotation)
        key = _rotated(self._by_head(self.k_proj(x)), *rotation)
        mixed = self._by_head(value)  # B x heads x H x W x d
        if len(prior) == 1:
            query, key, mixed = (part.flatten(2, 3)[:, :, None] for part in (query, key, mixed))
            mixed = _attend(query, key, mixed, prior[0]).reshape(*self._by_head(value).shape)
        else:
            along_rows, along_columns = prior
            mixed = _attend(query, key, mixed, along_rows)
            query, key, mixed = (part.transpose(2, 3) for part in (query, key, mixed))
            mixed = _attend(query, key, mixed, along_columns).transpose(2, 3)
        joined = mixed.movedim(1, 3).flatten(3)
        projected: Tensor = self.out_proj(joined + self.lepe(value))
        return projected

    def _by_head(self, x: Float[Tensor, "b h w c"]) -> Float[Tensor, "b heads h w d"]:
        b, h, w, c = x.shape
        return x.reshape(b, h, w, self.heads, c // self.heads).movedim(3, 1)


def _attend(query: Tensor, key: Tensor, value: Tensor, prior: Tensor) -> Tensor:
    """Return attention along the last but one axis with the prior added to its logits."""
    return F.scaled_dot_product_attention(query, key, value, attn_mask=prior)


class _FeedForward(nn.Module):
    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim)
        self.dwconv = _Depthwise(hidden, 3)

    def forward(self, x: Float[Tensor, "b h w c"]) -> Float[Tensor, "b h w c"]:
        hidden = F.gelu(self.fc1(x))
        projected: Tensor = self.fc2(hidden + self.dwconv(hidden))
        return projected


class _Block(nn.Module):
    gamma_1: Tensor | None
    gamma_2: Tensor | None

    def __init__(self, size: DFormerV2Size, stage: int, drop_path: float) -> None:
        super().__init__()
        dim, heads = size.embed_dims[stage], size.num_heads[stage]
        self.layer_norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.layer_norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.Attention = _Attention(dim, heads)
        self.ffn = _FeedForward(dim, _FEED_FORWARD_RATIOS[stage] * dim)
        self.cnn_pos_encode = _Depthwise(dim, 3)
        self.Geo = GeometryPrior(dim, heads, size.heads_ranges[stage])
        self.drop_path = drop_path
        for name in ("gamma_1", "gamma_2"):
            start = torch.full((1, 1, 1, dim), size.layer_init_values)
            self.register_parameter(name, nn.Parameter(start) if size.layerscales[stage] else None)

    def forward(
        self, x: Float[Tensor, "b h w c"], distances: Distances, after: Callable[[Tensor], Tensor]
    ) -> Float[Tensor, "b h w c"]:
        x = x + self.cnn_pos_encode(x)
        rotation = self.Geo.rotation(distances.positions)
        attended = after(self.Attention(self.layer_norm1(x), self.Geo(distances), rotation))
        x = x + self._branch(attended, self.gamma_1)
        return x + self._branch(self.ffn(self.layer_norm2(x)), self.gamma_2)

    def _branch(self, branch: Tensor, gamma: Tensor | None) -> Tensor:
        if gamma is not None:
            branch = gamma * branch
        if self.training and self.drop_path > 0:
            # Stochastic depth (Huang et al. 2016): a sample's branch is left out, others are scaled up.
            keep = 1 - self.drop_path
            branch = branch * branch.new_empty(len(branch), 1, 1, 1).bernoulli_(keep) / keep
        return branch


class _Stage(nn.Module):
    def __init__(self, size: DFormerV2Size, stage: int) -> None:
        super().__init__()
        before, total = sum(size.depths[:stage]), sum(size.depths)
        rates = [size.drop_path_rate * (before + block) / max(1, total - 1) for block in range(size.depths[stage])]
        self.by_axes = stage < 3
        self.blocks = nn.ModuleList([_Block(size, stage, rate) for rate in rates])
        dims = size.embed_dims
        self.downsample = _Downsampling(dims[stage], dims[stage + 1]) if stage < 3 else None


def _four(values: Sequence[Item]) -> tuple[Item, Item, Item, Item]:
    first, second, third, fourth = values
    return first, second, third, fourth


class DFormerV2(nn.Module):
    """The encoder: image and depth to four levels of strides 4, 8, 16 and 32.

    Args:
        embed_dims: channels of the four stages.
        depths: blocks of each stage.
        num_heads: attention heads of each stage; they divide its channels.
        heads_ranges: how far the decays of a stage's heads are apart.
        layerscales: whether the branches of a stage's blocks have a learned scale per channel.
        layer_init_values: where that scale starts.
        drop_path_rate: of the last block; it rises linearly from 0.

    Raises:
        ConfigError: the heads of a stage do not divide its channels.
    """

    def __init__(
        self,
        embed_dims: Sequence[int] = SIZES["s"].embed_dims,
        depths: Sequence[int] = SIZES["s"].depths,
        num_heads: Sequence[int] = SIZES["s"].num_heads,
        heads_ranges: Sequence[int] = SIZES["s"].heads_ranges,
        layerscales: Sequence[bool] = SIZES["s"].layerscales,
        layer_init_values: float = SIZES["s"].layer_init_values,
        drop_path_rate: float = SIZES["s"].drop_path_rate,
    ) -> None:
        super().__init__()
        size = DFormerV2Size(
            _four(embed_dims),
            _four(depths),
            _four(num_heads),
            _four(heads_ranges),
            _four(layerscales),
            layer_init_values,
            drop_path_rate,
        )
        for dim, heads in zip(size.embed_dims, size.num_heads, strict=True):
            if dim % (2 * heads):
                raise ConfigError(
                    f"DFormerv2 with {dim} channels and {heads} heads in a stage, expected channels that are a "
                    "multiple of twice the heads"
                )
        self.patch_embed = _PatchEmbedding(size.embed_dims[0])
        self.layers = nn.ModuleList([_Stage(size, stage) for stage in range(4)])
        self.extra_norms = nn.ModuleList([nn.LayerNorm(dim) for dim in size.embed_dims[1:]])

    def forward(
        self,
        image: Float[Tensor, "b 3 h w"],
        depth: Float[Tensor, "b 1 h w"],
        after_attention: AfterAttention = lambda stage, block, attended: attended,
    ) -> list[Float[Tensor, "b c h w"]]:
        """Return the levels, the finest first.

        Args:
            image: normalised RGB.
            depth: of the same size, in the unit that the weights were trained with.
            after_attention: what is done with the output of a block's attention before it is added to the stream.
        """
        x = self.patch_embed(image)
        levels = []
        for stage, layer in enumerate(self.layers):
            assert isinstance(layer, _Stage)
            distances = stage_distances(depth, (x.shape[1], x.shape[2]), by_axes=layer.by_axes)
            for number, block in enumerate(layer.blocks):
                x = block(x, distances, functools.partial(after_attention, stage, number))
            level = x if stage == 0 else self.extra_norms[stage - 1](x)
            levels.append(level.movedim(-1, 1).contiguous())
            if layer.downsample is not None:
                x = layer.downsample(x)
        return levels
