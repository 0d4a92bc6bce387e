"""Models of transformers, built from a config, are healthy: no error, whatever they leave unused."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from semalign.audit.liveness import audit

transformers = pytest.importorskip("transformers", reason="transformers is not installed (extra 'hf')")

pytestmark = pytest.mark.filterwarnings("ignore")

VISION = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "image_size": 32,
    "patch_size": 8,
}
TEXT = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "vocab_size": 99,
    "max_position_embeddings": 16,
    "bos_token_id": 97,
    "eos_token_id": 98,
    "pad_token_id": 1,
}


def pixels(side: int = 32) -> torch.Tensor:
    """Return two random images."""
    return torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(0))


def pair() -> dict[str, torch.Tensor]:
    """Return two images with two texts of 7 tokens."""
    ids = torch.randint(2, 90, (2, 7), generator=torch.Generator().manual_seed(1))
    ids[:, -1] = 98
    return {"pixel_values": pixels(), "input_ids": ids, "attention_mask": torch.ones_like(ids)}


def vit() -> tuple[Any, Any]:
    """ViT with its pooler."""
    return transformers.ViTModel(transformers.ViTConfig(**VISION)), {"pixel_values": pixels()}


def swin_v2() -> tuple[Any, Any]:
    """Swin-v2 with its clamped log scales."""
    config = transformers.Swinv2Config(
        image_size=64, patch_size=4, embed_dim=16, depths=[2, 2], num_heads=[2, 4], window_size=4
    )
    return transformers.Swinv2Model(config), {"pixel_values": pixels(64)}


def clipseg() -> tuple[Any, Any]:
    """CLIPSeg, which leaves CLIP's logit scale unused."""
    config = transformers.CLIPSegConfig(
        text_config=TEXT,
        vision_config={**VISION, "num_hidden_layers": 4},
        projection_dim=32,
        extract_layers=[1, 2, 3],
        reduce_dim=16,
        decoder_num_attention_heads=2,
        decoder_intermediate_size=32,
    )
    return transformers.CLIPSegForImageSegmentation(config), pair()


def groupvit() -> tuple[Any, Any]:
    """GroupViT with its hard assignment."""
    stages = {"depths": [2, 1, 1], "num_group_tokens": [8, 4, 0], "num_output_groups": [8, 4, 0]}
    config = transformers.GroupViTConfig(
        text_config=TEXT,
        vision_config={**VISION, "num_hidden_layers": 4, **stages},
        projection_dim=32,
        projection_intermediate_dim=64,
    )
    return transformers.GroupViTModel(config), pair()


def clip() -> tuple[Any, Any]:
    """CLIP."""
    config = transformers.CLIPConfig(text_config=TEXT, vision_config=VISION, projection_dim=32)
    return transformers.CLIPModel(config), pair()


def beit() -> tuple[Any, Any]:
    """BEiT with layer scales and a mask token that nothing uses."""
    config = transformers.BeitConfig(**VISION, use_mask_token=True, use_relative_position_bias=True)
    return transformers.BeitModel(config), {"pixel_values": pixels()}


@pytest.mark.parametrize("make", [vit, swin_v2, clipseg, groupvit, clip, beit])
def test_no_error(make: Any) -> None:
    """No finding is an error; what the batch does not reach is at most a warning."""
    torch.manual_seed(0)

    report = audit(*make())

    assert not report.errors, str(report)
    warned = {item.code for item in report.findings if item.severity == "warning"}
    assert warned <= {"not-reached", "unused-weights"}, str(report)
