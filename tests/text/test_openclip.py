"""Text towers of open_clip, in an environment that has it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from semalign.errors import TextError
from semalign.text.encoders import make_encoder
from tests.text.models import OPEN_CLIP, save_open_clip

open_clip: Any = pytest.importorskip("open_clip", reason="open_clip is not installed (an environment of its own)")

SENTENCES = ["a photo of a car.", "天空", "the sky"]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """Return a folder in open_clip's layout and the model in it."""
    folder = tmp_path_factory.mktemp("open_clip") / "small"
    return folder, save_open_clip(folder)


def test_vectors_are_those_of_open_clip(saved: tuple[Path, Any], caplog: pytest.LogCaptureFixture) -> None:
    """By folder, with and without the prefix: encode_text at unit norm; nothing is said of weights that are missing."""
    folder, model = saved
    tokens = open_clip.get_tokenizer(f"local-dir:{folder}")(SENTENCES)
    with torch.no_grad():
        expected = model.encode_text(tokens, normalize=True)
    encoder = make_encoder(str(folder))
    caplog.clear()

    torch.testing.assert_close(encoder.encode(SENTENCES), expected, atol=1e-6, rtol=0)
    assert make_encoder(f"open_clip:{folder}").name == encoder.name
    assert encoder.dim == 7
    assert [record for record in caplog.records if record.levelname == "WARNING"] == []


def test_an_architecture_with_a_file(saved: tuple[Path, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An architecture that open_clip knows by name, with weights from a file."""
    folder, _ = saved
    (tmp_path / "small-arch.json").write_text(json.dumps(OPEN_CLIP))
    monkeypatch.setattr(open_clip.factory, "_MODEL_CONFIG_PATHS", list(open_clip.factory._MODEL_CONFIG_PATHS))
    monkeypatch.setattr(open_clip.factory, "_MODEL_CONFIGS", dict(open_clip.factory._MODEL_CONFIGS))
    open_clip.add_model_config(tmp_path / "small-arch.json")

    encoder = make_encoder(f"open_clip:small-arch:{folder / 'open_clip_model.safetensors'}")

    torch.testing.assert_close(encoder.encode(SENTENCES), make_encoder(str(folder)).encode(SENTENCES))
    assert encoder.name.startswith("open_clip-small-arch@")


def test_long_texts_and_tokens(saved: tuple[Path, Any]) -> None:
    """What does not fit is split and noted; tokens are refused with what to do."""
    encoder = make_encoder(str(saved[0]))
    long = "a red bus " * 9

    assert "was split" in str(encoder.remarks([long, "a bus"])[0])
    assert encoder.encode([long]).isfinite().all()
    with pytest.raises(TextError, match=r"of open_clip gives no vectors of tokens, expected text.level=sentence"):
        encoder.encode_tokens(["a bus"])


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("open_clip:ViT-B-17:x", r"names the architecture 'ViT-B-17', did you mean 'ViT-B-16'\?"),
        ("open_clip:ViT-B-16", r"names no weights, expected open_clip:ViT-B-16:FILE.safetensors or one of the tags"),
        ("open_clip:ViT-B-16:w.pt", r"names the weights 'w.pt', expected a file \*.safetensors \(pickles can run"),
        ("open_clip:ViT-B-16:w.safetensors", "names weights that are not there, expected a file"),
    ],
)
def test_what_open_clip_does_not_have(spec: str, message: str) -> None:
    """Architecture, tag and file are each checked before anything is loaded."""
    with pytest.raises(TextError, match=message):
        make_encoder(spec)


def test_a_folder_with_a_pickle_alone(saved: tuple[Path, Any], tmp_path: Path) -> None:
    """open_clip's own loader would read it; here it is refused."""
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": OPEN_CLIP}))
    torch.save(saved[1].state_dict(), tmp_path / "open_clip_pytorch_model.bin")

    with pytest.raises(TextError, match=r"holds no open_clip_model.safetensors, expected .* \(pickles can run code"):
        make_encoder(str(tmp_path))
