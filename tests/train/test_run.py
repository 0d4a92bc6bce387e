from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from semalign.errors import CheckpointError, ConfigError
from semalign.tensors_file import read_tensors, write_tensors
from semalign.train.run import build_model, load_run, parameter_count, save_run, take_values
from tests.small import CLASSES, tiny_options


def test_round_trip(trained: Path, tmp_path: Path) -> None:
    """A loaded run answers as the saved one: weights, options, classes, text; saved again it has the same bytes."""
    run = load_run(trained)

    save_run(tmp_path / "again.safetensors", run, run.model.state_dict())

    assert (tmp_path / "again.safetensors").read_bytes() == (trained / "weights.safetensors").read_bytes()
    assert run.class_names == CLASSES
    assert run.size == (32, 43)
    assert run.bank is not None
    assert run.bank.sentences == CLASSES
    assert run.class_bank is None
    assert run.class_features is None
    assert not run.model.training


def test_a_file_or_its_folder(trained: Path) -> None:
    """Both name the same run."""
    one, other = load_run(trained), load_run(trained / "weights.safetensors")

    assert all(torch.equal(tensor, other.model.state_dict()[name]) for name, tensor in one.model.state_dict().items())


def test_the_text_classifier_keeps_its_classes(open_vocabulary: Path) -> None:
    """A run without guiding text still holds the sentences that its classifier compares with."""
    run = load_run(open_vocabulary)

    assert run.bank is None
    assert run.class_bank is not None
    assert run.class_features is run.class_bank.features
    assert run.class_bank.sentences == CLASSES


def change(trained: Path, path: Path, tensors: dict[str, Tensor | None], **facts: Any) -> Path:
    """Write the run's file with some tensors or facts changed; None removes."""
    old, old_facts = read_tensors(trained / "weights.safetensors")
    new = {name: tensor for name, tensor in {**old, **tensors}.items() if tensor is not None}
    write_tensors(path, new, {**old_facts, **facts})
    return path


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"options": {"model": {"size": "vast"}}}, r"does not describe a run \(ConfigError: option model\.size"),
        ({"options": {}}, "data.size or data.text is open"),
        ({"options": None}, "does not describe a run"),
        ({"class_names": None}, "does not describe a run"),
        ({"bank": {"sentences": ["a"], "encoder": "x"}}, "3 rows for 1 sentences"),
        ({"depth_scale": {"mean": 1.0}}, "does not describe a run"),
        ({"facts": 3}, "does not describe a run"),
        ({"class_names": ["sky", "road"]}, "has decoder.classifier.* of shape .*was it made with other options"),
    ],
)
def test_facts_that_fit_nothing(trained: Path, tmp_path: Path, facts: dict[str, Any], message: str) -> None:
    """A file of the right format that is no run is refused with what is wrong in it."""
    with pytest.raises(CheckpointError, match=message):
        load_run(change(trained, tmp_path / "x.safetensors", {}, **facts))


def test_tensors_that_fit_nothing(trained: Path, tmp_path: Path) -> None:
    """A missing tensor and one too many are named."""
    name = "model.visual_encoder.stem.0.weight"

    with pytest.raises(CheckpointError, match=r"lacks the tensor visual_encoder\.stem\.0\.weight"):
        load_run(change(trained, tmp_path / "less.safetensors", {name: None}))
    with pytest.raises(CheckpointError, match="has the tensor extra that the model lacks"):
        load_run(change(trained, tmp_path / "more.safetensors", {"model.extra": torch.ones(2)}))


def test_a_missing_run(tmp_path: Path) -> None:
    """No folder, and a folder without a finished run."""
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(CheckpointError, match=r"no checkpoint at .*has the run finished"):
            load_run(path)


def test_the_published_presets_build(trained: Path) -> None:
    """Presets that are dead as published are built with a warning; without text there is no alignment to be dead."""
    with pytest.warns(UserWarning, match="never learns"):
        with_text = build_model(tiny_options(model__preset="seed"), 3, 5, None, seed=0)
    without = build_model(tiny_options(model__preset="seed"), 3, None, None, seed=0)

    assert parameter_count(with_text) > parameter_count(without)


def test_values_of_another_run(trained: Path, tmp_path: Path) -> None:
    """Fixed temperatures and gates take the other run's values, one by one; learnable ones keep their start."""
    tensors, _ = read_tensors(trained / "weights.safetensors")
    names = [name.removeprefix("model.") for name in tensors if name.endswith(("encoder.temperature.log_scale", "x"))]
    names += [name.removeprefix("model.") for name in tensors if name.endswith("alignment.temperature.log_scale")]
    path = change(trained, tmp_path / "moved.safetensors", {f"model.{n}": torch.tensor(0.25) for n in names})
    run = load_run(trained)
    before = {name: value.clone() for name, value in run.model.state_dict().items()}

    taken = take_values(run.model, path)

    assert taken == dict.fromkeys(names, 0.25)
    assert names
    for name, value in run.model.state_dict().items():
        assert torch.equal(value, torch.tensor(0.25) if name in names else before[name])


def test_values_that_cannot_be_taken(trained: Path, tmp_path: Path) -> None:
    """A knob that the other run lacks, or has in another shape, and a model without fixed knobs, are refused."""
    run = load_run(trained)
    tensors, _ = read_tensors(trained / "weights.safetensors")
    name = next(name for name in tensors if name.endswith("alignment.temperature.log_scale"))
    for value, message in (
        (None, "has none in the place of"),
        (torch.zeros(4), r"has one of shape \(4,\) in the place"),
    ):
        path = change(trained, tmp_path / "lame.safetensors", {name: value})
        with pytest.raises(CheckpointError, match=message):
            take_values(run.model, path)
    with pytest.raises(CheckpointError, match="no checkpoint at"):
        take_values(run.model, tmp_path / "none")
    options = tiny_options(align__encoder__temperature__learnable=True)
    free = build_model(options, 3, 5, None, seed=1)
    with pytest.raises(ConfigError, match="no temperature or gate of the model is fixed"):
        take_values(free, trained)
