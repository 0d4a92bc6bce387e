"""Runs as ONNX files, compared with torch in onnxruntime."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from semalign.errors import ConfigError, OutputError, TextError
from semalign.share import onnx as export
from semalign.share.onnx import ExportedSegmenter, Parity, export_onnx
from semalign.train.run import TrainedRun, load_run
from tests.small import TINY

SIZES = ((32, 43), (53, 97))


def runtime(path: Path) -> Any:
    """Open the file as another program does; skips where the extra is not installed."""
    return pytest.importorskip("onnxruntime").InferenceSession(str(path))


@pytest.fixture(autouse=True)
def _packages_there(request: pytest.FixtureRequest) -> None:
    if "without_packages" not in request.fixturenames:
        for name in ("onnx", "onnxscript", "onnxruntime"):
            pytest.importorskip(name, reason="the extra `onnx` is not installed")


def expected(run: TrainedRun, image: torch.Tensor, bank: torch.Tensor | None, **inputs: Any) -> np.ndarray[Any, Any]:
    """Return what torch computes."""
    scale = None if run.depth_scale is None else (run.depth_scale.mean, run.depth_scale.std)
    with torch.no_grad():
        logits: torch.Tensor = ExportedSegmenter(run.model, bank, run.class_features, scale)(image, **inputs)
    return logits.numpy()


@pytest.mark.parametrize("size", SIZES)
def test_text_folded_in(trained: Path, tmp_path: Path, size: tuple[int, int]) -> None:
    """The file needs the image alone and answers as torch does, at a size that it was not exported at too."""
    run = load_run(trained)
    assert run.bank is not None
    facts = export_onnx(run, tmp_path / "deep" / "run.onnx")
    session = runtime(tmp_path / "deep" / "run.onnx")
    image = 255 * torch.rand(3, 3, *size, generator=torch.Generator().manual_seed(0))

    (logits,) = session.run(None, {"image": image.numpy()})

    assert [(item.name, item.shape) for item in session.get_inputs()] == [("image", ["batch", 3, "height", "width"])]
    assert facts.text == "folded"
    assert [found.size for found in facts.parity] == [(1, 32, 43), (2, 53, 56)]
    assert all(found.is_close and found.largest > 0 for found in facts.parity)
    np.testing.assert_allclose(logits, expected(run, image, run.bank.features), atol=1e-4, rtol=1e-4)
    assert logits.shape == (3, 3, *size)


@pytest.mark.parametrize("size", SIZES)
def test_text_as_an_input(captioned: Path, tmp_path: Path, size: tuple[int, int]) -> None:
    """Any number of tokens guides, and those that are padding do not."""
    run = load_run(captioned)
    assert run.bank is not None
    export_onnx(run, tmp_path / "run.onnx", text="input")
    session = runtime(tmp_path / "run.onnx")
    generator = torch.Generator().manual_seed(0)
    image = 255 * torch.rand(1, 3, *size, generator=generator)
    text = torch.randn(7, run.bank.dim, generator=generator)
    is_padding = torch.tensor([False, True, False, False, True, False, False])
    other = torch.where(is_padding[:, None], torch.full_like(text, 9.0), text)

    (logits,) = session.run(None, {"image": image.numpy(), "text": text.numpy(), "is_padding": is_padding.numpy()})
    (same,) = session.run(None, {"image": image.numpy(), "text": other.numpy(), "is_padding": is_padding.numpy()})

    np.testing.assert_allclose(
        logits, expected(run, image, None, text=text, is_padding=is_padding), atol=1e-4, rtol=1e-4
    )
    np.testing.assert_array_equal(logits, same)
    assert not np.allclose(logits, expected(run, image, None, text=text), atol=1e-4)


def test_what_the_file_says_of_itself(open_vocabulary: Path, tmp_path: Path) -> None:
    """Classes, size and inputs stand in the file; a run without text takes an image alone."""
    run = load_run(open_vocabulary)
    export_onnx(run, tmp_path / "run.onnx")
    session = runtime(tmp_path / "run.onnx")

    said = json.loads(session.get_modelmeta().custom_metadata_map["semalign"])
    image = 255 * torch.rand(2, 3, 37, 53, generator=torch.Generator().manual_seed(1))
    (logits,) = session.run(None, {"image": image.numpy()})

    assert said["classes"] == list(run.class_names)
    assert said["size"] == list(run.size)
    assert said["text"] == "none"
    np.testing.assert_allclose(logits, expected(run, image, None), atol=1e-4, rtol=1e-4)


def test_what_cannot_be_exported(captioned: Path, open_vocabulary: Path, tmp_path: Path) -> None:
    """Texts of single images cannot be folded in, and a model without text takes none; nothing is written."""
    with pytest.raises(
        TextError, match=r"each image's own text \(data.text=images\), so that there is none to fold in"
    ):
        export_onnx(load_run(captioned), tmp_path / "x.onnx")
    with pytest.raises(TextError, match="was trained without text, so that its file cannot take any"):
        export_onnx(load_run(open_vocabulary), tmp_path / "x.onnx", text="input")
    with pytest.raises(ConfigError, match="--text got 'both', expected folded or input"):
        export_onnx(load_run(open_vocabulary), tmp_path / "x.onnx", text="both")  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_answers_otherwise(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is refused before it is written, unless the check is left out."""
    run = load_run(trained)
    monkeypatch.setattr(export, "MOST_DIFFERENCE", 0.0)
    with pytest.raises(
        OutputError, match=r"differs from torch by .* on 1 images of 32 x 43, expected at most 0: update"
    ):
        export_onnx(run, tmp_path / "run.onnx")
    assert list(tmp_path.iterdir()) == []


def test_models_that_cannot_be_traced(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For any size: a size is proposed; for one size too: the reason and the other format; nothing is written."""

    def fail(*args: object, **kwargs: object) -> None:
        raise torch.onnx.OnnxExporterError("step 1/3") from ValueError("no such operation")

    monkeypatch.setattr(torch.onnx, "export", fail)
    run = load_run(trained)
    with pytest.raises(ConfigError, match=r"cannot be traced for images of any size: name .* such as --size 32x43"):
        export_onnx(run, tmp_path / "run.onnx")
    with pytest.raises(ConfigError, match=r"cannot be written as ONNX .*\(no such operation\): use --format hub"):
        export_onnx(run, tmp_path / "run.onnx", size=(64, 96))
    assert list(tmp_path.iterdir()) == []


def test_a_backbone_of_transformers_at_one_size(tmp_path: Path) -> None:
    """Its file is for images of the size that is named, any number of them."""
    pytest.importorskip("transformers", reason="the extra `hf` is not installed")
    from semalign.api import train

    shape = "hidden_sizes: [16, 32, 40, 64], depths: [1, 1, 1, 1], num_attention_heads: [1, 2, 4, 4]"
    backbone = ["model.backbone=hf:segformer", f"model.backbone_options={{{shape}}}"]
    settings = [*TINY, "train.epochs=1", "data.n_train=3", "data.n_val=1", "data.text=classes", *backbone]
    run, _ = train("scenes", settings=settings, audit=False)
    facts = export_onnx(run, tmp_path / "run.onnx", size=(64, 96))

    assert facts.inputs == {"image": ("batch", 3, 64, 96)}
    assert [found.size for found in facts.parity] == [(1, 64, 96), (2, 64, 96)]
    assert all(found.is_close for found in facts.parity)


def test_what_is_close() -> None:
    """1e-4 in logits up to 1, and of the largest above; what is no number is not close."""
    assert Parity((1, 2, 3), 1e-4, 0.5).is_close
    assert not Parity((1, 2, 3), 1.1e-4, 1.0).is_close
    assert Parity((1, 2, 3), 9e-4, 9.0).is_close
    assert not Parity((1, 2, 3), float("nan"), 1.0).is_close


@pytest.fixture
def without_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the packages of the extra be missing."""
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)


@pytest.mark.usefixtures("without_packages")
def test_missing_packages_are_named(trained: Path, tmp_path: Path) -> None:
    """Without the extra the error names it."""
    with pytest.raises(ConfigError, match=r"the format onnx needs the package onnx.*pip install 'semalign\[onnx\]'"):
        export.export_onnx(load_run(trained), tmp_path / "x.onnx")
