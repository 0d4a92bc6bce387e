"""Runs as shared folders."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
import yaml

from semalign import api
from semalign.errors import CheckpointError, ConfigError, OutputError
from semalign.results import read_result
from semalign.share.hub import from_pretrained, model_card, save_pretrained
from semalign.train.run import load_run
from tests.small import TINY


def test_a_shared_model_is_the_scored_one(trained: Path, tmp_path: Path) -> None:
    """The folder holds the scored weights to the byte, and what is loaded from it answers alike."""
    folder = save_pretrained(trained, tmp_path / "shared")
    run, shared = load_run(trained), from_pretrained(folder)
    image = torch.randn(2, 3, 37, 53, generator=torch.Generator().manual_seed(0))

    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    assert (folder / "model.safetensors").read_bytes() == (trained / "weights.safetensors").read_bytes()
    assert run.bank is not None
    with torch.no_grad():
        assert torch.equal(shared.model(image, run.bank.features), run.model(image, run.bank.features))
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    assert config["id2label"] == {"0": "sky", "1": "road", "2": "tree"}
    assert config["options"]["train"]["epochs"] == 2


def test_the_card_says_what_was_measured(trained: Path) -> None:
    """Its head is YAML for the hub; its figures are the result's; what weakens them is said."""
    result = read_result(trained / "result.json")
    assert result.score is not None

    card = model_card(load_run(trained), result, license_name="cc-by-4.0")
    head = yaml.safe_load(card.split("---")[1])

    assert head["library_name"] == "semalign"
    assert head["license"] == "cc-by-4.0"
    assert f"| **mean** | **{100 * result.score.miou:.1f}** |" in card
    assert f"| road | {100 * result.score.iou['road']:.1f} |" in card
    assert "the text is the same for all images and carries no information about any one of them" in card
    assert "License of the weights: not stated." in model_card(load_run(trained), None)


@pytest.mark.parametrize(("backbone", "shown"), [("hf:swin", "hf:swin"), ("/home/me/private/my-swin", "my-swin")])
def test_the_card_names_the_backbone(trained: Path, backbone: str, shown: str) -> None:
    """Another library's backbone by its name, a folder without its path."""
    run = load_run(trained)
    options = run.options.model_copy(update={"model": run.options.model.model_copy(update={"backbone": backbone})})

    card = model_card(dataclasses.replace(run, options=options), None)

    assert f"A semalign `nano` segmenter on the backbone `{shown}`, " in card
    assert "/home" not in card


def test_the_same_command_again(trained: Path, tmp_path: Path) -> None:
    """A folder that holds this very model is left as it is and is no obstacle; any other one is."""
    out = save_pretrained(trained, tmp_path / "model")
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in out.iterdir()}

    assert save_pretrained(trained, out) == out
    assert {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in out.iterdir()} == before
    with pytest.raises(OutputError, match="is not empty"):
        save_pretrained(trained, out, license_name="mit")
    (out / "README.md").write_text("mine")
    with pytest.raises(OutputError, match="is not empty"):
        save_pretrained(trained, out)


def test_a_weights_file_is_shared_too(data: Path, tmp_path: Path) -> None:
    """A chosen checkpoint has no score of its own, and its card says how it was chosen."""
    api.train(data, out=tmp_path / "run", settings=[*TINY, "train.select_split=train", "train.val_every=1"])

    whole = save_pretrained(tmp_path / "run" / "weights.safetensors", tmp_path / "whole")
    best = save_pretrained(tmp_path / "run" / "best.safetensors", tmp_path / "best")

    assert (best / "model.safetensors").read_bytes() == (tmp_path / "run" / "best.safetensors").read_bytes()
    assert (whole / "README.md").read_text() == (
        save_pretrained(tmp_path / "run", tmp_path / "same") / "README.md"
    ).read_text()
    assert "| **mean** |" in (whole / "README.md").read_text()
    card = (best / "README.md").read_text()
    assert "These weights have no score" in card
    assert "were chosen by their mIoU on the split train, " in card


def test_the_card_of_an_open_vocabulary(data: Path, tmp_path: Path) -> None:
    """A text classifier answers for other names too; what it was not trained on is told, with its score."""
    settings = [*TINY, "model.classifier=text", "data.unseen=[sky]"]
    run, result = api.train(data, out=tmp_path / "run", settings=settings)
    among = result.facts["open_vocabulary"]

    card = model_card(run, result)

    assert "alone" not in card
    assert "- It was trained on these classes: road, tree; it answers for other names too" in card
    assert "- It was not trained on: sky." in card
    assert (
        f"Classes that were not trained on: sky. Mean IoU by that: seen {100 * among['seen']:.1f}, "
        f"unseen {100 * among['unseen']:.1f}, harmonic {100 * among['harmonic']:.1f}."
    ) in card
    assert "- It answers for these classes alone: road, tree." in model_card(
        dataclasses.replace(run, class_bank=None), None
    )


def test_nothing_is_overwritten(trained: Path, tmp_path: Path) -> None:
    """A folder that holds something is left as it is; a folder without a run gives nothing."""
    (tmp_path / "mine").write_text("x")
    with pytest.raises(OutputError, match="is not empty, expected a new or an empty one"):
        save_pretrained(trained, tmp_path)
    with pytest.raises(CheckpointError, match="no checkpoint at"):
        save_pretrained(tmp_path, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_what_is_no_shared_model(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run's own folder, a missing folder without the hub's package, and a name that the hub cannot give."""
    with pytest.raises(CheckpointError, match=r"has no model.safetensors.*a run's own folder is read by semalign.load"):
        from_pretrained(trained)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ConfigError, match=r"there is no folder .*nobody/nothing.*pip install 'semalign\[hf\]'"):
        from_pretrained("nobody/nothing")


def test_an_error_of_the_hub_without_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception that says nothing is told by its kind."""

    def fail(*_: object, **__: object) -> None:
        raise ConnectionError

    hub = ModuleType("huggingface_hub")
    hub.snapshot_download = fail  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    with pytest.raises(CheckpointError, match=r"from the hub \(ConnectionError: ConnectionError\), expected a folder"):
        from_pretrained("nobody/nothing")


def test_the_hub_without_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the hub's library raises becomes one sentence."""
    hub = pytest.importorskip("huggingface_hub", reason="the extra `hf` is not installed")

    with pytest.raises(CheckpointError, match="cannot get the model nobody/nothing from the hub"):
        from_pretrained("nobody/nothing", local_files_only=True)
    assert hub is not None
