from __future__ import annotations

import copy
import importlib.util
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from semalign.bench.counting import count
from semalign.data.open import open_data
from semalign.errors import ConfigError
from semalign.model.build import build_segmenter
from semalign.model.text_guidance import TextGuided
from semalign.train.inputs import prepare_inputs
from semalign.train.loop import fit
from semalign.train.parallel import make_fabric
from semalign.train.recompute import recomputed_parts, recomputing
from tests.small import tiny_options

CPU = make_fabric("cpu")


def test_the_same_bits(data: Path) -> None:
    """Weights, running statistics, curves and counts do not know that activations were computed twice."""
    inputs = prepare_inputs(open_data(data), tiny_options())

    plain, again = (fit(inputs, tiny_options(train__checkpointing=on), fabric=CPU) for on in (False, True))

    for name, tensor in plain[0].model.state_dict().items():
        assert torch.equal(again[0].model.state_dict()[name], tensor), name
    assert again[1].curves == plain[1].curves
    assert again[1].facts["config"]["train"]["checkpointing"] is True
    assert all("forward" not in module.__dict__ for module in again[0].model.modules())


def test_less_memory() -> None:
    """The most bytes that are allocated at once in a step, gradients among them, are counted: little over a half."""
    model = build_segmenter(5, text_dim=8).train()
    image, text = torch.randn(2, 3, 192, 320), torch.randn(7, 8)

    def step() -> None:
        model.zero_grad(set_to_none=True)
        model(image, text, size=(96, 160)).square().mean().backward()

    plain = count(step).peak_bytes
    with recomputing(model):
        again = count(step).peak_bytes

    assert again < 0.55 * plain, again / plain


def test_what_is_recomputed() -> None:
    """Stem, downsamplings, blocks, and the decoder's laterals, levels and fusions: all but the context and the end."""
    model = build_segmenter(5, text_dim=8, depth=True)

    parts = recomputed_parts(model)

    assert len(parts) == 2 + 4 + 7 + 4 + 4 + 3
    inside = {parameter for part in parts for parameter in part.parameters()}
    outside = [name for name, parameter in model.named_parameters() if parameter not in inside]
    assert {name.split(".")[1] for name in outside} == {"context", "classifier"}


def _gradients(model: nn.Module, image: Tensor, text: Tensor, *, again: bool) -> dict[str, Tensor]:
    """Return the gradients of a step by name, with activations kept or computed again."""
    model.zero_grad(set_to_none=True)
    torch.manual_seed(0)
    if again:
        with recomputing(model):  # type: ignore[arg-type]
            model(image, text).square().mean().backward()
    else:
        model(image, text).square().mean().backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def test_backbones_of_transformers() -> None:
    """Transformers' own way is used, with the same gradients; a backbone that has none is refused by name."""
    pytest.importorskip("transformers")
    from semalign.model.backbones import make_backbone

    def built(name: str) -> nn.Module:
        backbone = make_backbone(name, size="nano", options=None, seed=0)
        return build_segmenter(3, text_dim=8, backbone=backbone).train()

    image, text = torch.randn(2, 3, 64, 96), torch.randn(5, 8)
    model = built("hf:swin")

    kept, again = (_gradients(model, image, text, again=on) for on in (False, True))

    assert kept.keys() == again.keys()
    for name, grad in kept.items():
        torch.testing.assert_close(again[name], grad, msg=name)
    with (
        pytest.raises(ConfigError, match="whose batch norms would count each batch twice"),
        recomputing(built("hf:resnet")),  # type: ignore[arg-type]
    ):
        pass


@pytest.mark.skipif(importlib.util.find_spec("timm") is None, reason="timm is not installed (extra timm)")
@pytest.mark.filterwarnings("ignore")  # timm's own, when it is imported
@pytest.mark.parametrize(
    ("name", "options", "blocks"),
    [
        ("resnet18", {}, 8),
        ("convnext_atto", {"drop_path_rate": 0.3}, 12),
        ("swin_tiny_patch4_window7_224", {"img_size": [64, 96], "drop_path_rate": 0.3}, 12),
        ("vit_tiny_patch16_224", {"img_size": [64, 96]}, 12),
    ],
)
def test_backbones_of_timm(name: str, options: dict[str, object], blocks: int) -> None:
    """A guided block is computed again with its text and its random numbers, and its batch norms count once."""
    from semalign.model.backbones import make_backbone

    backbone = make_backbone(f"timm:{name}", size="nano", options=options, seed=0)
    model = build_segmenter(3, text_dim=8, backbone=backbone).train()
    image, text = torch.randn(2, 3, 64, 96), torch.randn(5, 8)
    state = copy.deepcopy(model.state_dict())
    guided = model.visual_encoder.backbone
    assert isinstance(guided, TextGuided)
    found = []

    for on in (False, True):
        model.load_state_dict(state)
        found.append((_gradients(model, image, text, again=on), copy.deepcopy(model.state_dict())))

    (kept, buffers), (again, buffers_again) = found
    assert len(recomputed_parts(model)) == blocks + len(guided.places) + 4 + 4 + 3
    assert kept.keys() == again.keys()
    assert any("guidance" in key for key in kept)
    for key, grad in kept.items():
        assert torch.equal(again[key], grad), key
    for key, tensor in buffers.items():
        assert torch.equal(buffers_again[key], tensor), key
    assert all("forward" not in module.__dict__ for module in model.modules())
