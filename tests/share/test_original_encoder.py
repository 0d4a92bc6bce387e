"""The document's text-guided encoder, from configuration and state dict."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

import semalign
from semalign.errors import CheckpointError, ConfigError, TextError
from semalign.model.dformerv2 import DFormerV2, DFormerV2Size
from semalign.share.original_encoder import OriginalEncoder, original_encoder

RECORDING = Path(__file__).parents[3] / "shared" / "golden" / "dformerv2" / "dformerv2_text_tiny.safetensors"
CONFIG: dict[str, Any] = {
    "embed_dims": [8, 12, 20, 28],
    "depths": [1, 2, 3, 1],
    "num_heads": [2, 3, 5, 7],
    "heads_ranges": [4, 4, 6, 6],
    "layerscales": [False, True, False, True],
    "layer_init_values": 0.5,
    "drop_path_rate": 0.0,
    "text_dim": 11,
    "sam_enc_stages": [1, 2],
}


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    """Return a state dict of the original's names, with seeded values in float64."""
    size = DFormerV2Size(
        (8, 12, 20, 28), (1, 2, 3, 1), (2, 3, 5, 7), (4, 4, 6, 6), (False, True, False, True), 0.5, 0.0
    )
    torch.manual_seed(7)
    model = OriginalEncoder(size, 11, {1: 1, 2: 2}).double()
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


@pytest.fixture
def batch() -> dict[str, Tensor]:
    """Return image, depth and text of three images; the last token of the second one is padding."""
    torch.manual_seed(11)
    text = torch.randn(3, 5, 11, dtype=torch.float64)
    text[1, 4] = 0
    image = torch.randn(3, 3, 67, 101, dtype=torch.float64)
    return {"image": image, "depth": torch.rand(3, 1, 67, 101, dtype=torch.float64), "text": text}


@pytest.mark.skipif(not RECORDING.exists(), reason="the recording of the document's encoder is not at hand")
def test_recorded_outputs_and_gradients() -> None:
    """With its text and without, outputs agree to 1e-9 of the largest value, and so do all gradients."""
    with safe_open(RECORDING, "pt") as handle:
        config = json.loads(handle.metadata()["config"])
        tensors = {key: handle.get_tensor(key) for key in handle.keys()}  # noqa: SIM118 (no mapping)
    model = original_encoder(config, {key[6:]: value for key, value in tensors.items() if key[:6] == "state."}).eval()
    image = tensors["image"].clone().requires_grad_()
    levels = model(image, tensors["depth"], tensors["text"])
    total = torch.stack([(level * tensors[f"upstream{i}"]).sum() for i, level in enumerate(levels)]).sum()
    total.backward()  # type: ignore[no-untyped-call]
    gradients = {"image": image.grad, **{name: parameter.grad for name, parameter in model.named_parameters()}}
    found = {f"level{i}": level for i, level in enumerate(levels)}
    found |= {f"level{i}.without_text": level for i, level in enumerate(model(image, tensors["depth"]))}

    for name, level in found.items():
        torch.testing.assert_close(level, tensors[name], rtol=0, atol=1e-9 * tensors[name].abs().max().item())
    for key, value in tensors.items():
        # A key's bias shifts all logits of a row alike: its gradient is rounding noise.
        if key.startswith("grad.") and not key.endswith("k_proj.bias"):
            gradient = gradients[key.removeprefix("grad.")]
            assert gradient is not None, key
            torch.testing.assert_close(gradient, value, rtol=0, atol=1e-9 * value.abs().max().item(), msg=key)


@pytest.mark.parametrize("prefix", ["", "backbone.", "model.backbone.", "module."])
def test_names_of_checkpoints(prefix: str, state: dict[str, Tensor], batch: dict[str, Tensor]) -> None:
    """Prefixes, a dictionary around the tensors and other parts of the system do not matter."""
    plain = original_encoder(CONFIG, state).eval()
    wrapped = {f"{prefix}{name}": tensor for name, tensor in state.items()} | {"decode_head.weight": torch.zeros(2)}
    loaded = original_encoder(CONFIG, {"state_dict": wrapped}).eval()  # type: ignore[dict-item]

    for one, other in zip(plain(**batch), loaded(**batch), strict=True):
        assert torch.equal(one, other)
    assert semalign.original_encoder is original_encoder


def test_text_and_padding(state: dict[str, Tensor], batch: dict[str, Tensor]) -> None:
    """Without text it is the plain encoder; a row named as padding equals an all-zero one; text reaches stage 1."""
    model = original_encoder(CONFIG, state).eval()
    plain = DFormerV2(**{name: value for name, value in CONFIG.items() if "text" not in name and "sam" not in name})
    plain.double().eval().load_state_dict({k: v for k, v in state.items() if not k.startswith("encoder_sam")})
    guided, bare = model(**batch), model(batch["image"], batch["depth"])
    filled = batch["text"].clone()
    filled[1, 4] = 3
    is_padding = torch.zeros(3, 5, dtype=torch.bool)
    is_padding[1, 4] = True

    for one, other in zip(bare, plain(batch["image"], batch["depth"]), strict=True):
        assert torch.equal(one, other)
    for one, other in zip(guided, model(batch["image"], batch["depth"], filled, is_padding), strict=True):
        assert torch.equal(one, other)
    assert [torch.equal(one, other) for one, other in zip(guided, bare, strict=True)] == [True, False, False, False]
    with pytest.raises(TextError, match=r"is_padding has the shape \(3, 4\)"):
        model(**batch, is_padding=is_padding[:, 1:])


def test_what_does_not_fit(state: dict[str, Tensor]) -> None:
    """Each message names what is missing or of another shape."""
    with pytest.raises(ConfigError, match="the encoder's configuration has 'text_dims', did you mean 'text_dim'"):
        original_encoder({**CONFIG, "text_dims": 3}, state)
    with pytest.raises(ConfigError, match="lacks text_dim"):
        original_encoder({name: value for name, value in CONFIG.items() if name != "text_dim"}, state)
    with pytest.raises(CheckpointError, match="no alignment of stage 3"):
        original_encoder({**CONFIG, "sam_enc_stages": [1, 3]}, state)
    with pytest.raises(CheckpointError, match=r"encoder_sam_blocks\.1\.0\.k_proj\.weight of shape \(12, 11\)"):
        original_encoder({**CONFIG, "text_dim": 13}, state)
    with pytest.raises(CheckpointError, match=r"has no patch_embed\.proj\.0\.weight"):
        original_encoder(CONFIG, {"weight": torch.zeros(2)})
    with pytest.raises(CheckpointError, match=r"lacks extra_norms\.0\.bias"):
        original_encoder(CONFIG, {name: tensor for name, tensor in state.items() if name != "extra_norms.0.bias"})
