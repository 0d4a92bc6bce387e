from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from semalign.bench.counting import count
from semalign.data.open import open_data
from semalign.errors import ConfigError
from semalign.model.build import build_segmenter
from semalign.train.loop import fit, make_fabric, prepare_inputs
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


def test_backbones_of_other_libraries() -> None:
    """Transformers' own way is used, with the same gradients; a backbone that has none is refused by name."""
    pytest.importorskip("transformers")
    from semalign.model.backbones import make_backbone

    def built(name: str) -> nn.Module:
        backbone = make_backbone(name, size="nano", options=None, seed=0)
        return build_segmenter(3, text_dim=8, backbone=backbone).train()

    image, text = torch.randn(2, 3, 64, 96), torch.randn(5, 8)
    model = built("hf:swin")
    grads = []
    for on in (False, True):
        model.zero_grad(set_to_none=True)
        torch.manual_seed(0)
        if on:
            with recomputing(model):  # type: ignore[arg-type]
                model(image, text).square().mean().backward()
        else:
            model(image, text).square().mean().backward()
        grads.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})

    assert grads[0].keys() == grads[1].keys()
    for name, grad in grads[0].items():
        torch.testing.assert_close(grads[1][name], grad, msg=name)
    with (
        pytest.raises(ConfigError, match="whose batch norms would count each batch twice"),
        recomputing(built("hf:resnet")),  # type: ignore[arg-type]
    ):
        pass
