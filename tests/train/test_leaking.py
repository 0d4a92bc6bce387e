"""Texts made from masks are found out, whatever they were declared as."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from semalign.data.open import open_data
from semalign.data.sample import DataSource
from semalign.results import Score
from semalign.train.leaking import NOT_LEAKING, find_leaking
from semalign.train.run_text import prepare_run_text
from tests.small import scenes


def score_of(source: DataSource) -> Score:
    """Return a score of the masks as they are, with nothing predicted."""
    names = source.names("val")
    counts = np.zeros((len(names), len(source.class_names), 3), dtype=np.int64)
    for place, name in enumerate(names):
        counts[place, list(source.mask_classes("val", name)), 2] = 1
    return Score("val", source.class_names, names, counts, np.zeros((3, 3), dtype=np.int64))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return 7 validation images of changing classes, and as many for training."""
    folder = tmp_path / "set"
    for split in ("train", "val"):
        for kind in ("images", "masks"):
            (folder / kind / split).mkdir(parents=True)
        for number in range(7):
            mask = np.zeros((32, 43), dtype=np.uint8)
            mask[: 3 * (number % 2), :] = 1
            mask[20:, : 5 * (number % 3)] = 2
            image = np.random.default_rng(number).integers(256, size=(32, 43, 3), dtype=np.uint8)
            Image.fromarray(mask).save(folder / "masks" / split / f"{number}.png")
            Image.fromarray(image).save(folder / "images" / split / f"{number}.png")
    (folder / "classes.txt").write_text("sky\nroad\ntree\n")
    return folder


def write(root: Path, honest: bool) -> None:
    """Write texts that name the masks' classes, or that name trees by the image's number."""
    names = ("sky", "road", "tree")
    lines = []
    for split in ("train", "val"):
        for number in range(7):
            mask = np.array(Image.open(root / "masks" / split / f"{number}.png"))
            texts = [f"there is a {names[value]}" for value in np.unique(mask)]
            lines.append(
                {"image": f"{split}/{number}", "texts": ["sky and trees"[: 3 + number % 5]] if honest else texts}
            )
    (root / "texts.jsonl").write_text("\n".join(map(json.dumps, lines)))


def test_declared_and_shared(root: Path) -> None:
    """Texts that are declared as made from masks leak; shared ones cannot."""
    source = open_data(root)
    declared = find_leaking(prepare_run_text(source, ["val"], kind="masks", encoder="table"), score_of(source))
    shared = find_leaking(prepare_run_text(source, ["val"], kind="classes", encoder="table"), score_of(source))

    assert declared.is_leaking
    assert tuple(map(str, declared.notes)) == ("the text is made from the masks that are scored (leaking)",)
    assert shared == NOT_LEAKING


def test_declared_honest(root: Path) -> None:
    """data.text=images is believed only where the texts do not agree with the masks as nobody's could."""
    for honest in (False, True):
        write(root, honest)
        source = open_data(root)
        found = find_leaking(prepare_run_text(source, ["val"], kind="images", encoder="table"), score_of(source))

        assert found.is_leaking is not honest
        assert found.agreement is not None
        assert bool(found.notes) is not honest
        if not honest:
            assert "'val' seem to be made from the masks that are scored (leaking): over 7 images 100" in str(
                found.notes[0]
            )


def test_scenes_are_not_called_leaking() -> None:
    """Their captions name the masks' classes on purpose; the agreement is told all the same."""
    source = scenes(n_val=11)
    guidance = prepare_run_text(source, ["val"], kind="images", encoder="table")
    found = find_leaking(guidance, score_of(source))

    assert not found.is_leaking
    assert found.agreement is not None
    assert found.agreement.leaks


def test_a_run_and_its_evaluation_say_so(root: Path) -> None:
    """The facts of a run on leaking texts, and its evaluation as JSON, are marked."""
    import semalign
    from semalign import api

    write(root, honest=False)
    settings = ["data.size=[32,43]", "train.epochs=1", "train.batch_size=3", "data.text=images"]
    run, result = api.train(root, settings=settings)
    value = api.evaluate(run, root, counterfactuals=True).to_dict()

    assert result.facts["text"]["kind"] == "images"
    assert result.facts["text"]["leaking"] is True
    assert result.facts["text"]["agreement"]["f1"] == 1.0
    assert any("seem to be made from the masks" in note for note in result.notes)
    assert value["leaking"] is True
    assert value["text_agreement"]["leaks"] is True
    assert any("seem to be made from the masks" in note for note in value["notes"])
    assert value["text_use"]["word"] in ("cannot be told", "ignores")
    assert value["counterfactuals"]["removed"]["interval"] is None
    assert semalign.evaluate(run, root).to_dict()["leaking"] is True
