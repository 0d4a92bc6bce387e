"""The families of backbones of Hugging Face's transformers: one table, one entry each.

An entry says how the blocks of a family are recognised and read, where its levels lie, and which sizes are built from
scratch.  Blocks are recognised by the names of their classes, so that transformers need not be imported.
"""

from __future__ import annotations

import dataclasses
import itertools
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from torch import nn

__all__ = ["FAMILIES", "STAGES", "Family", "Geometry", "Layout", "family_of", "family_of_block"]

Layout = Literal["auto", "channels-first", "channels-last", "tokens"]
Output = Literal["feature_maps", "hidden_states", "list", "channels-last list"]

STAGES = 4
"""Levels of every backbone.  The blocks of a plain transformer, which has no stages, are counted as the quarters of its
depth."""


class Geometry(NamedTuple):
    """Where the feature maps of a backbone lie.

    Attributes:
        channels: of its four feature maps, finest first.
        strides: of its four feature maps; all the same for a plain transformer.
        multiple: what both sides of its input must be divisible by.
    """

    channels: tuple[int, ...]
    strides: tuple[int, ...]
    multiple: int = 1


@dataclasses.dataclass(frozen=True)
class Family:
    """A family of backbones.

    Attributes:
        title: its name in messages.
        types: the model types of transformers' configurations: the first is what is built from scratch, a folder may
            hold each.
        blocks: class names of its blocks.
        layout: of their outputs.
        width: block to its channels.
        geometry: transformers' configuration to the place of its levels.
        sizes: by model size, the fields of a configuration that is built from scratch.
        output: what the forward returns: an object with "feature_maps" or with "hidden_states".
        is_plain: the blocks form one row without stages.
    """

    title: str
    types: tuple[str, ...]
    blocks: tuple[str, ...]
    layout: Layout
    width: Callable[[nn.Module], int]
    geometry: Callable[[Any], Geometry]
    sizes: Mapping[str, Mapping[str, Any]]
    output: Output = "feature_maps"
    is_plain: bool = False


# ---- the width of a block ----


def _norm_width(*names: str) -> Callable[[nn.Module], int]:
    def width(block: nn.Module) -> int:
        norm = next(getattr(block, name) for name in names if hasattr(block, name))
        return int(norm.normalized_shape[-1])

    return width


def _residual_width(block: nn.Module) -> int:
    last = list(block.get_submodule("layer").children())[-1]
    return int(last.get_submodule("convolution").out_channels)  # type: ignore[arg-type]


# ---- where the levels lie ----


def _doubling(factor: int) -> tuple[int, ...]:
    return tuple(factor * 2**stage for stage in range(STAGES))


def _windows_geometry(config: Any) -> Geometry:
    return Geometry(_doubling(config.embed_dim), _doubling(config.patch_size))


def _strided_geometry(config: Any) -> Geometry:
    # Its strided convolutions do not pad: what does not fill a patch would be cut off.
    strides = _doubling(config.patch_size)
    return Geometry(tuple(config.hidden_sizes), strides, strides[-1])


def _mixed_geometry(config: Any) -> Geometry:
    return Geometry(tuple(config.hidden_sizes), tuple(itertools.accumulate(config.strides, operator.mul)))


def _plain_geometry(config: Any) -> Geometry:
    return Geometry((config.hidden_size,) * STAGES, (config.patch_size,) * STAGES, config.patch_size)


def _resnet_geometry(config: Any) -> Geometry:
    return Geometry(tuple(config.hidden_sizes), _doubling(8 if config.downsample_in_first_stage else 4))


# ---- sizes from scratch ----


def _windows(embed_dim: int, depths: Sequence[int], heads: int) -> dict[str, Any]:
    return {"embed_dim": embed_dim, "depths": depths, "num_heads": _doubling(heads)}


def _pyramid(widths: Sequence[int], depths: Sequence[int], **more: Any) -> dict[str, Any]:
    return {"hidden_sizes": widths, "depths": depths, **more}


def _plain(dim: int, depth: int, heads: int, patch: int) -> dict[str, Any]:
    sizes = {"hidden_size": dim, "num_hidden_layers": depth, "num_attention_heads": heads, "patch_size": patch}
    return {**sizes, "image_size": 224, "use_mask_token": False}


def _basic(widths: Sequence[int], depths: Sequence[int]) -> dict[str, Any]:
    return _pyramid(widths, depths, layer_type="basic", embedding_size=widths[0])


def _each(sizes: Mapping[str, Mapping[str, Any]], **more: Any) -> dict[str, Mapping[str, Any]]:
    return {name: {**fields, **more} for name, fields in sizes.items()}


_SWIN = {
    "nano": _windows(24, (2, 2, 2, 2), 1),
    "tiny": _windows(48, (2, 2, 4, 2), 2),
    "small": _windows(64, (2, 2, 6, 2), 2),
    "base": _windows(96, (2, 2, 6, 2), 3),
}
_MIXED = {
    "nano": _pyramid((32, 64, 96, 128), (2, 2, 2, 2), num_attention_heads=(1, 2, 3, 4)),
    "tiny": _pyramid((32, 64, 160, 256), (2, 2, 2, 2), num_attention_heads=(1, 2, 5, 8)),
    "small": _pyramid((64, 128, 320, 512), (2, 2, 2, 2), num_attention_heads=(1, 2, 5, 8)),
    "base": _pyramid((64, 128, 320, 512), (3, 4, 6, 3), num_attention_heads=(1, 2, 5, 8)),
}

# The published sizes are the largest here: Swin-T, ConvNeXt-T, PVT-v2-B2, MiT-B2, ViT-B, ResNet-50.
FAMILIES: dict[str, Family] = {
    "swin": Family(
        "Swin",
        ("swin",),
        ("SwinLayer",),
        "tokens",
        _norm_width("layernorm_before"),
        _windows_geometry,
        _each(_SWIN, window_size=7),
    ),
    "swinv2": Family(
        "Swin-v2",
        ("swinv2",),
        ("Swinv2Layer",),
        "tokens",
        _norm_width("layernorm_before"),
        _windows_geometry,
        # Its windows are fixed at construction, from the grid that image_size leaves at each stage.
        _each(_SWIN, window_size=8, image_size=256),
    ),
    "convnextv2": Family(
        "ConvNeXt",
        ("convnextv2", "convnext"),
        ("ConvNextLayer", "ConvNextV2Layer"),
        "channels-first",
        lambda block: int(block.get_submodule("dwconv").out_channels),  # type: ignore[arg-type]
        _strided_geometry,
        {
            "nano": _pyramid((32, 64, 96, 128), (1, 2, 2, 1)),
            "tiny": _pyramid((48, 96, 160, 256), (2, 2, 4, 2)),
            "small": _pyramid((64, 128, 256, 512), (2, 2, 6, 2)),
            "base": _pyramid((96, 192, 384, 768), (3, 3, 9, 3)),
        },
    ),
    "pvtv2": Family(
        "PVT-v2", ("pvt_v2",), ("PvtV2BlockLayer",), "tokens", _norm_width("layer_norm_1"), _mixed_geometry, _MIXED
    ),
    "segformer": Family(
        "SegFormer",
        ("segformer",),
        ("SegformerLayer",),
        "tokens",
        _norm_width("layernorm_before", "layer_norm_1"),
        _mixed_geometry,
        _MIXED,
        output="hidden_states",
    ),
    "dinov2": Family(
        "DINOv2",
        ("dinov2", "dinov2_with_registers"),
        ("Dinov2Layer", "Dinov2WithRegistersLayer"),
        "tokens",
        _norm_width("norm1"),
        _plain_geometry,
        {
            "nano": _plain(128, 8, 4, 8),
            "tiny": _plain(192, 12, 4, 8),
            "small": _plain(384, 12, 6, 14),
            "base": _plain(768, 12, 12, 14),
        },
        is_plain=True,
    ),
    "resnet": Family(
        "ResNet",
        ("resnet",),
        ("ResNetBasicLayer", "ResNetBottleNeckLayer"),
        "channels-first",
        _residual_width,
        _resnet_geometry,
        {
            "nano": _basic((32, 64, 96, 128), (1, 2, 2, 1)),
            "tiny": _basic((48, 96, 160, 256), (2, 2, 2, 2)),
            "small": _basic((64, 128, 256, 512), (2, 2, 2, 2)),
            "base": _pyramid((256, 512, 1024, 2048), (3, 4, 6, 3), layer_type="bottleneck", embedding_size=64),
        },
    ),
}
"""By the name after "hf:"."""


def family_of(model_type: str) -> Family | None:
    """Return the family of a configuration's model type, None for an unknown one."""
    return next((family for family in FAMILIES.values() if model_type in family.types), None)


def family_of_block(module: nn.Module) -> Family | None:
    """Return the family that a module is a block of, None for other modules."""
    # Subclasses too, such as those that sharding makes.
    classes = {kind.__name__ for kind in type(module).__mro__}
    return next((family for family in FAMILIES.values() if classes & set(family.blocks)), None)
