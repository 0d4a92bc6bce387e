"""DFormerv2: its recorded behaviour where that is at hand, and laws that hold without it."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from semalign.errors import ConfigError
from semalign.model.dformerv2 import SIZES, DFormerV2, GeometryPrior, stage_distances

GOLDEN = Path(__file__).parents[3] / "shared" / "golden" / "dformerv2"
recorded = pytest.mark.skipif(not GOLDEN.is_dir(), reason="the recordings of DFormerv2 are not at hand")

TINY: dict[str, Any] = {
    "embed_dims": (8, 12, 20, 28),
    "depths": (1, 2, 1, 1),
    "num_heads": (2, 3, 5, 7),
    "heads_ranges": (4, 4, 6, 6),
    "layerscales": (False, True, False, True),
    "drop_path_rate": 0.0,
}


def recording(name: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return configuration and tensors of a recording."""
    with safe_open(GOLDEN / f"{name}.safetensors", "pt") as handle:
        return json.loads(handle.metadata()["config"]), {key: handle.get_tensor(key) for key in handle.keys()}  # noqa: SIM118


def tiny() -> DFormerV2:
    """Return a small encoder with seeded weights, its normalisation warmed by one batch."""
    torch.manual_seed(3)
    model = DFormerV2(**TINY).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.3)
        model(torch.randn(5, 3, 64, 96, dtype=torch.float64), torch.rand(5, 1, 64, 96, dtype=torch.float64))
    return model.eval()


@recorded
def test_recorded_outputs_and_gradients() -> None:
    """In float64, relative to the largest value, all agree to 1e-9."""
    config, tensors = recording("dformerv2_tiny")
    model = DFormerV2(**config).double().eval()
    model.load_state_dict({key.removeprefix("state."): value for key, value in tensors.items() if key[:6] == "state."})
    image = tensors["image"].clone().requires_grad_()
    levels = model(image, tensors["depth"])
    torch.stack([(level * tensors[f"upstream{i}"]).sum() for i, level in enumerate(levels)]).sum().backward()  # type: ignore[no-untyped-call]
    gradients = {"image": image.grad, **{name: parameter.grad for name, parameter in model.named_parameters()}}

    def assert_same(got: Tensor | None, name: str) -> None:
        assert got is not None, name
        torch.testing.assert_close(got, tensors[name], rtol=0, atol=1e-9 * tensors[name].abs().max().item(), msg=name)

    for number, level in enumerate(levels):
        assert_same(level, f"level{number}")
    for name in tensors:
        # A key's bias shifts all logits of a row alike: its gradient is rounding noise.
        if name.startswith("grad.") and not name.endswith("k_proj.bias"):
            assert_same(gradients[name.removeprefix("grad.")], name)


@recorded
@pytest.mark.parametrize("size", SIZES)
def test_published_sizes(size: str) -> None:
    """Names, shapes and the number of parameters are those of the official checkpoints."""
    expected = json.loads((GOLDEN / "dformerv2_shapes.json").read_text())[size.upper()]
    with torch.device("meta"):
        model = DFormerV2(**dataclasses.asdict(SIZES[size]))

    assert {name: list(tensor.shape) for name, tensor in model.state_dict().items()} == expected["state"]
    assert sum(parameter.numel() for parameter in model.parameters()) == expected["parameters"]


@pytest.mark.parametrize(("size", "millions"), [("s", 25.41673), ("b", 52.60461), ("l", 93.784146)])
def test_number_of_parameters(size: str, millions: float) -> None:
    """Each published size has the paper's number of parameters."""
    with torch.device("meta"):
        model = DFormerV2(**dataclasses.asdict(SIZES[size]))

    assert sum(parameter.numel() for parameter in model.parameters()) == round(millions * 1e6)


def test_levels() -> None:
    """Four levels of strides 4 to 32, for sides that are no multiple of them."""
    levels = tiny()(torch.zeros(2, 3, 67, 101, dtype=torch.float64), torch.zeros(2, 1, 67, 101, dtype=torch.float64))

    assert [tuple(level.shape) for level in levels] == [(2, 8, 17, 26), (2, 12, 9, 13), (2, 20, 5, 7), (2, 28, 3, 4)]


def test_images_of_a_batch_do_not_meet() -> None:
    """An image's levels are the same alone and among others."""
    model = tiny()
    torch.manual_seed(5)
    image, depth = torch.randn(3, 3, 64, 96, dtype=torch.float64), torch.rand(3, 1, 64, 96, dtype=torch.float64)

    for together, alone in zip(model(image, depth), model(image[1:2], depth[1:2]), strict=True):
        torch.testing.assert_close(together[1:2], alone)


def test_only_differences_of_depth_count() -> None:
    """A constant added to the depth changes nothing; another depth does."""
    model = tiny()
    torch.manual_seed(5)
    image, depth = torch.randn(1, 3, 64, 96, dtype=torch.float64), torch.rand(1, 1, 64, 96, dtype=torch.float64)
    levels = model(image, depth)

    torch.testing.assert_close(model(image, depth + 7), levels)
    assert not torch.allclose(model(image, 3 * depth)[3], levels[3])


def test_distances_by_hand() -> None:
    """Two rows and three columns: city-block distance of the grid, absolute difference of the depth."""
    depth = torch.tensor([[[[1.0, 4.0, 2.0], [7.0, 3.0, 3.0]]]])
    whole = stage_distances(depth, (2, 3), by_axes=False)
    axes = stage_distances(depth, (2, 3), by_axes=True)

    assert whole.grid[0][0, 0, 0, 0].tolist() == [0, 1, 2, 1, 2, 3]
    assert whole.depth[0][0, 0, 0, 0].tolist() == [0, 3, 1, 6, 2, 2]
    assert axes.grid[0][0, 0, 0].tolist() == [[0, 1, 2], [1, 0, 1], [2, 1, 0]]
    assert axes.depth[0][0, 0, 1].tolist() == [[0, 4, 4], [4, 0, 0], [4, 0, 0]]
    assert axes.depth[1][0, 0, 2].tolist() == [[0, 1], [1, 0]]


def test_prior_by_hand() -> None:
    """Head h adds decay_h * (w_0 * grid + w_1 * depth) with decay_h = log(1 - 2^(-2 - range * h / heads))."""
    prior = GeometryPrior(12, 3, 4)
    with torch.no_grad():
        prior.weight.copy_(torch.tensor([0.5, 2.0])[:, None, None, None])
    depth = torch.tensor([[[[1.0, 4.0, 2.0]]]])
    (added,) = prior(stage_distances(depth, (1, 3), by_axes=False))

    for head in range(3):
        decay = math.log(1 - 2 ** (-2 - 4 * head / 3))
        assert added[0, head, 0, 0].tolist() == pytest.approx([0, decay * (0.5 + 2 * 3), decay * (1 + 2 * 1)])


def test_distances_are_computed_once_a_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    """The prior's distances do not depend on the block: four stages ask for them, five blocks use them."""
    asked: list[tuple[int, int]] = []

    def counted(depth: Tensor, size: tuple[int, int], *, by_axes: bool) -> Any:
        asked.append(size)
        return stage_distances(depth, size, by_axes=by_axes)

    monkeypatch.setattr("semalign.model.dformerv2.stage_distances", counted)
    tiny()(torch.zeros(1, 3, 64, 96, dtype=torch.float64), torch.zeros(1, 1, 64, 96, dtype=torch.float64))

    assert asked[-4:] == [(16, 24), (8, 12), (4, 6), (2, 3)]


def test_stochastic_depth() -> None:
    """In training branches are left out; in evaluation and at rate 0 nothing is drawn."""
    torch.manual_seed(0)
    model = DFormerV2(**{**TINY, "drop_path_rate": 0.5}).double()
    image, depth = torch.randn(2, 3, 64, 96, dtype=torch.float64), torch.rand(2, 1, 64, 96, dtype=torch.float64)

    assert not torch.equal(model(image, depth)[3], model(image, depth)[3])
    model.eval()
    assert torch.equal(model(image, depth)[3], model(image, depth)[3])


def test_heads_that_do_not_fit() -> None:
    """Rotary angles turn pairs of channels: a head needs an even number."""
    with pytest.raises(ConfigError, match="DFormerv2 with 12 channels and 4 heads in a stage"):
        DFormerV2(**{**TINY, "num_heads": (2, 4, 5, 7)})
