"""Classes kept out of training, and scores of seen and unseen ones."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from semalign import api
from semalign.data.batches import ImageSet
from semalign.errors import ConfigError
from semalign.metrics import IGNORE
from semalign.results import Score, read_result
from semalign.train.inputs import prepare_inputs
from semalign.train.run import load_run
from semalign.train.vocabulary import OpenScore, check_unseen, compact_labels, hide_classes, open_score, seen_places
from tests.small import CLASSES, TINY, tiny_options

OPEN = [*TINY, "model.classifier=text", "data.unseen=[sky]"]


def score(**iou: float | None) -> Score:
    """Return a score of classes with these IoUs."""
    return Score.of_figures(0.5, iou)


def test_the_harmonic_mean_by_hand() -> None:
    """2 x .6 x .2 / .8 = .3; a class without a pixel is left out of its side."""
    found = open_score(score(sky=0.5, road=0.7, tree=0.2, car=None), {"sky", "road"})

    assert found is not None
    assert found.to_dict() == pytest.approx({"seen": 0.6, "unseen": 0.2, "harmonic": 0.3})
    assert open_score(score(sky=0.0, tree=0.0), {"sky"}) == OpenScore(0.0, 0.0, 0.0)
    assert open_score(score(sky=0.4, tree=None), {"sky"}) == OpenScore(0.4, None, None)
    assert open_score(score(sky=0.4, tree=0.6), {"sky", "tree", "car"}) is None
    assert json.loads(json.dumps(OpenScore(0.4, None, None).to_dict())) == {
        "seen": 0.4,
        "unseen": None,
        "harmonic": None,
    }


def test_hidden_classes_by_hand() -> None:
    """Pixels of hidden classes are ignored, the others keep their index until they are made compact."""
    mask = torch.tensor([[0, 1, 2], [3, IGNORE, 1]], dtype=torch.uint8)
    images = ImageSet(("a",), [torch.zeros(2, 3, 3, dtype=torch.uint8)], [mask], None)

    hidden = hide_classes(images, ("a", "b", "c", "d"), {"b", "d"})
    places = seen_places(("a", "b", "c", "d"), {"b", "d"})

    assert hidden.masks[0].tolist() == [[0, IGNORE, 2], [IGNORE, IGNORE, IGNORE]]
    assert mask[0, 1] == 1
    assert places.tolist() == [0, 2]
    assert compact_labels(places)[hidden.masks[0].long()].tolist() == [[0, IGNORE, 1], [IGNORE] * 3]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"data__unseen": ["skye"]},
            r"data.unseen names 'skye', which is not a class of the data, did you mean 'sky'\?",
        ),
        ({"data__unseen": ["sky", "sky"]}, "data.unseen names 'sky' twice"),
        ({"data__unseen": list(CLASSES)}, "data.unseen names all classes, expected at least one to train on"),
        (
            {"data__unseen": ["sky"], "model__classifier": "linear"},
            "expected the text classifier: set model.classifier",
        ),
        ({"data__unseen": ["sky"], "data__text": "masks"}, "whose texts name the unseen classes"),
    ],
)
def test_what_cannot_be_left_out_is_refused(changes: dict[str, Any], message: str) -> None:
    """Each with the option that would mend it."""
    with pytest.raises(ConfigError, match=message):
        check_unseen(tiny_options(**{"model__classifier": "text", **changes}), CLASSES)


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run that was never shown the sky, guided by class sentences."""
    folder = tmp_path_factory.mktemp("unseen") / "run"
    api.train(data, out=folder, settings=OPEN)
    return folder


def test_training_is_that_on_data_without_the_class(run: Path, data: Path, tmp_path: Path) -> None:
    """The very weights of a run on data whose masks and class list lack the sky: nothing of it is in the training."""
    without = Path(shutil.copytree(data, tmp_path / "without"))
    (without / "classes.txt").write_text("\n".join(CLASSES[1:]) + "\n")
    table = np.array([IGNORE, 0, 1, *[IGNORE] * 253], dtype=np.uint8)
    for file in (without / "masks").rglob("*.png"):
        with Image.open(file) as picture:
            pixels = table[np.array(picture)]
        Image.fromarray(pixels).save(file)

    same, _ = api.train(without, settings=[*TINY, "model.classifier=text"])

    own = load_run(run)
    assert own.bank is not None
    assert own.bank.sentences == CLASSES[1:]
    for name, tensor in same.model.state_dict().items():
        assert torch.equal(tensor, own.model.state_dict()[name]), name


def test_evaluation_tells_seen_from_unseen(run: Path, data: Path) -> None:
    """The contract's keys and three more; all classes compete for every pixel, as in the run's own score."""
    evaluation = api.evaluate(run, data)
    value = evaluation.to_dict()
    result = read_result(run / "result.json")

    assert {"format", "split", "miou", "iou", "n_images", "absent", "seen", "unseen", "harmonic"} <= set(value)
    assert set(value["iou"]) == set(CLASSES)
    assert value["unseen"] == value["iou"]["sky"]
    assert value["seen"] == pytest.approx((value["iou"]["road"] + value["iou"]["tree"]) / 2)
    assert result.score is not None
    assert np.array_equal(result.score.counts, evaluation.score.counts)
    among = {name: value[name] for name in ("seen", "unseen", "harmonic")}
    assert result.facts["open_vocabulary"] == {"unseen_names": ["sky"], **among}
    assert "left out of training (data.unseen): sky" in result.notes
    # With the encoder `table` the unseen class's sentence says nothing, which run and evaluation tell.
    for notes in (result.notes, evaluation.notes):
        assert sum("the vector of 'sky' has no meaning" in str(note) for note in notes) == 1


def test_a_run_on_all_classes_gives_no_such_scores(open_vocabulary: Path, data: Path) -> None:
    """Without unseen classes the keys are those of the contract."""
    evaluation = api.evaluate(open_vocabulary, data)

    assert "unseen" not in evaluation.to_dict()
    assert not any("no meaning" in str(note) for note in evaluation.notes)


def test_data_with_names_that_were_never_seen(open_vocabulary: Path, data: Path, tmp_path: Path) -> None:
    """Evaluated on data with other classes, those that the run was trained on are the seen ones."""
    other = Path(shutil.copytree(data, tmp_path / "other"))
    (other / "classes.txt").write_text("sky\nstreet\ntree\n")

    evaluation = api.evaluate(open_vocabulary, other)
    value = evaluation.to_dict()

    assert sum("the vector of 'street' has no meaning" in str(note) for note in evaluation.notes) == 1
    assert value["unseen"] == value["iou"]["street"]
    assert value["seen"] == pytest.approx((value["iou"]["sky"] + value["iou"]["tree"]) / 2)


def test_the_class_bank_holds_all_names(data: Path) -> None:
    """What guides lacks the unseen class, what classifies at evaluation has it; masks of training hide it."""
    options = tiny_options(model__classifier="text", data__unseen=["sky"])
    inputs = prepare_inputs(api.open_source(data, options), options)

    assert inputs.text.classes is not None
    assert inputs.text.classes.sentences == CLASSES
    assert inputs.text.bank is not None
    assert inputs.text.bank.sentences == CLASSES[1:]
    assert all(set(torch.unique(mask).tolist()) <= {1, 2, IGNORE} for mask in inputs.images.masks)
