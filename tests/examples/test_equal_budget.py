from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tests.examples.scripts import load_script


@pytest.fixture(scope="module")
def script() -> ModuleType:
    """Return the script as a module."""
    return load_script("equal_budget")


def test_models_get_the_same_time_once(
    script: ModuleType, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ours and another are trained by the same loop; the same command again repeats neither and prints the same."""
    monkeypatch.setitem(script.MODELS, "unet-resnet18", lambda n: script.Foreign(nn.Conv2d(3, n, 3, padding=1), 32))
    command = ["--data", str(data), "--minutes", "0.01", "--probe", "0.01", "--threads", "1", "--out", str(tmp_path)]
    command += ["--models", "semalign", "unet-resnet18", "--markdown", str(tmp_path / "page.md")]
    command += ["--json", str(tmp_path / "found.json"), "--set", "data.size=[32,43]", "--set", "train.batch_size=3"]
    script.main(command)
    page, found = (tmp_path / "page.md").read_text(), json.loads((tmp_path / "found.json").read_text())

    assert [row["model"] for row in found["rows"]] == ["semalign", "unet-resnet18"]
    for row in found["rows"]:
        assert row["steps"] == 2 * row["epochs"]
        assert row["epochs"] <= max(1, int(script.PLANNED * 0.6 / (2 * row["step_seconds"])))
        assert row["epochs"] == 1 or row["seconds"] <= script.OVER * 0.6
        assert 0 <= row["miou"] <= 1
        assert 0 <= row["miou_at_size"] <= 1
    assert found["rows"][1]["parameters"] == 3 * 3 * 3 * 3 + 3
    assert "| U-Net, ResNet-18 encoder (segmentation-models-pytorch) | 0.00 M | 0.002 |" in page
    assert not list(tmp_path.glob("*/state.safetensors"))

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(script, "fit", refuse)
    script.main(command)
    assert (tmp_path / "page.md").read_text() == page
    with pytest.raises(SystemExit) as ended:
        script.main([*command, "--minutes", "0.02"])
    assert ended.value.code == 2


def test_a_model_over_its_time_is_trained_again(
    script: ModuleType, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the start, with fewer epochs, and the page has the last training alone."""
    # Three epochs of two steps within 6 ms, which none can do.
    monkeypatch.setattr(script, "probe", lambda *_: 0.0009)
    fit, epochs = script.fit, []

    def noted(inputs: Any, options: Any, **known: Any) -> Any:
        epochs.append(options.train.epochs)
        return fit(inputs, options, **known)

    monkeypatch.setattr(script, "fit", noted)
    command = ["--data", str(data), "--minutes", "0.0001", "--threads", "1", "--out", str(tmp_path)]
    command += ["--models", "semalign", "--json", str(tmp_path / "found.json")]
    script.main([*command, "--set", "data.size=[32,43]", "--set", "train.batch_size=3"])

    assert epochs == [3, 1]
    assert json.loads((tmp_path / "found.json").read_text())["rows"][0]["steps"] == 2


def test_another_library_is_called_as_ours_is(script: ModuleType) -> None:
    """The image is padded to the multiple, and logits of any stride are cut and resized to what is asked for."""
    seen: list[tuple[int, ...]] = []

    class Net(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.append(tuple(x.shape))
            return F.avg_pool2d(x, 2)

    image = torch.randn(2, 3, 40, 72)
    logits = script.Foreign(Net(), 32)(image, size=(20, 36))

    assert seen == [(2, 3, 64, 96)]
    torch.testing.assert_close(logits, F.avg_pool2d(image, 2))
    assert script.Foreign(Net(), 32)(image).shape == image.shape


def test_segformer_b0(script: ModuleType) -> None:
    """Transformers' default is B0: 3.7 million parameters, logits of every class at the image's size."""
    pytest.importorskip("transformers")
    model = script.segformer_b0(11).eval()

    assert 3.6e6 < sum(parameter.numel() for parameter in model.parameters()) < 3.8e6
    with torch.no_grad():
        assert model(torch.randn(1, 3, 144, 192)).shape == (1, 11, 144, 192)
