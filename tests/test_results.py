"""The hinge: one file of plain numbers per run."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from semalign.errors import OutputError, ResultsError
from semalign.layout import RESULT_FORMAT
from semalign.results import RunResult, Score, read_result, write_result
from semalign.wording import Message, say

SCORE = Score(
    split="val",
    class_names=("sky", "road", "Straße"),
    images=("a", "b"),
    counts=np.array([[[4, 1, 0], [2, 0, 1], [0, 0, 0]], [[1, 0, 1], [3, 0, 0], [0, 1, 0]]]),
    confusion=np.array([[5, 0, 1], [1, 5, 0], [0, 0, 0]]),
)
RESULT = RunResult(
    arm="no text",
    seed=3,
    status="finished",
    score=SCORE,
    curves={"train/loss": [(0, 2.5), (7, 0.125)], "decoder.alignments.0/scale": [(0, 10.0)]},
    facts={"parameters": 7, "notes": ["leaking"], "text": {"kind": "masks"}},
    timings={"train": 1.5},
)


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """Return the file of `RESULT`."""
    write_result(tmp_path / "result.json", RESULT)
    return tmp_path / "result.json"


def test_scores_by_hand() -> None:
    """IoU by name from summed counts, the absent class left out and listed."""
    assert SCORE.iou == {"sky": 5 / 7, "road": 5 / 6}
    assert SCORE.absent == ("Straße",)
    assert SCORE.miou == pytest.approx((5 / 7 + 5 / 6) / 2)


def test_the_file_by_hand(written: Path) -> None:
    """The file is plain JSON with a format version."""
    value = json.loads(written.read_text(encoding="utf-8"))

    assert value["format"] == RESULT_FORMAT
    assert value["score"]["counts"][0] == [[4, 1, 0], [2, 0, 1], [0, 0, 0]]
    assert value["score"]["given"] is None
    assert value["curves"]["train/loss"] == [[0, 2.5], [7, 0.125]]


def test_round_trip(written: Path) -> None:
    """What is read is what was written, to the type."""
    result = read_result(written)

    assert result.score is not None
    for name in ("counts", "confusion"):
        array = getattr(result.score, name)
        assert array.dtype == np.int64
        np.testing.assert_array_equal(array, getattr(SCORE, name))
    assert (result.score.split, result.score.class_names, result.score.images) == ("val", SCORE.class_names, ("a", "b"))
    for name in ("arm", "seed", "status", "curves", "facts", "timings"):
        assert getattr(result, name) == getattr(RESULT, name)
    assert isinstance(result.curves["train/loss"][0], tuple)


def test_notes_are_kept_as_keys_and_values() -> None:
    """A note of ours is read back from its key; a note of another program is a string."""
    note = say("train.chosen_weights", split="val")
    result = dataclasses.replace(RESULT, facts={"notes": [note.to_dict(), "by hand"]})

    assert result.notes == (str(note), "by hand")
    assert Message.from_dict(result.facts["notes"][0]) == note


def test_figures_of_another_program(tmp_path: Path) -> None:
    """A mean IoU without counts is a score like any other, with the classes that the program names."""
    score = Score.of_figures(0.531, {"sky": 0.7, "road": 0.0, "car": None}, split="test")
    plain = Score.of_figures(1)

    assert (score.miou, score.iou, score.absent) == (0.531, {"sky": 0.7, "road": 0.0}, ("car",))
    assert (score.class_names, score.images, score.counts.shape) == (("sky", "road", "car"), (), (0, 3, 3))
    assert (plain.miou, plain.iou, plain.absent, plain.counts.shape) == (1, {}, (), (0, 0, 3))
    for one in (score, plain):
        write_result(tmp_path / "result.json", RunResult("A", 0, "finished", one, {}, {}, {}))
        read = read_result(tmp_path / "result.json").score
        assert read is not None
        assert (read.given, read.split, read.class_names) == (one.given, one.split, one.class_names)
        assert read.counts.shape == one.counts.shape


@pytest.mark.parametrize(("miou", "iou"), [(53.1, {}), (float("nan"), {}), (0.5, {"sky": -0.1})])
def test_figures_out_of_range(miou: float, iou: dict[str, float | None]) -> None:
    """Percent and NaN are no fractions."""
    with pytest.raises(ResultsError, match=r"expected a fraction in \[0, 1\]"):
        Score.of_figures(miou, iou)


def test_counts_without_a_confusion(tmp_path: Path) -> None:
    """Another program may know counts by image and not which class was taken for which."""
    score = Score("val", SCORE.class_names, SCORE.images, SCORE.counts, np.zeros((0, 0), dtype=np.int64))
    write_result(tmp_path / "result.json", RunResult("A", 0, "finished", score, {}, {}, {}))

    read = read_result(tmp_path / "result.json").score
    assert read is not None
    assert read.confusion.shape == (0, 0)
    assert read.miou == SCORE.miou


def test_a_failed_run_has_no_score(tmp_path: Path) -> None:
    """A failure is an outcome and is kept."""
    path = tmp_path / "result.json"
    write_result(path, RunResult("A", 0, "failed", None, {}, {"failure": "the loss is nan"}, {}))

    assert read_result(path) == RunResult("A", 0, "failed", None, {}, {"failure": "the loss is nan"}, {})


def test_a_number_that_is_none_is_not_written(written: Path) -> None:
    """NaN in a curve is refused, and the result that stood there stands there still."""
    before = written.read_bytes()
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_result(written, RunResult("A", 0, "finished", SCORE, {"train/loss": [(0, float("nan"))]}, {}, {}))

    assert written.read_bytes() == before


def test_no_folder(tmp_path: Path) -> None:
    """A folder that is not there is said in one sentence."""
    with pytest.raises(OutputError, match="cannot write"):
        write_result(tmp_path / "gone" / "result.json", RESULT)


def test_missing(tmp_path: Path) -> None:
    """A result that is not there asks whether the run has finished."""
    with pytest.raises(ResultsError, match=r"no result at .*result\.json.*has the run finished\?"):
        read_result(tmp_path / "result.json")


@pytest.mark.parametrize("version", [0, 1, 3, "2", None])
def test_another_format_version(written: Path, version: Any) -> None:
    """A result of another version is refused with both versions, not half understood."""
    value = json.loads(written.read_text())
    value["format"] = version
    written.write_text(json.dumps(value))

    with pytest.raises(ResultsError, match=rf"has format {version!r}, expected 2: read it with the version"):
        read_result(written)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cannot read the result"),
        (b'{"format": 2, "score"', "cannot read the result"),
        (b"\x80\x04\x95\x00.", "cannot read the result"),
        (b"[" * 100_000, "cannot read the result"),
        (b"[1]", "has format 'list', expected 2"),
        (b"{}", "has format None, expected 2"),
    ],
    ids=["empty", "truncated", "pickle", "deep", "a list", "another JSON"],
)
def test_no_result_at_all(written: Path, content: bytes, message: str) -> None:
    """What is no result is named as such."""
    written.write_bytes(content)

    with pytest.raises(ResultsError, match=message):
        read_result(written)


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (("score", "counts"), [[[1, 0, 0]]], r"counts of shape \(1, 1, 3\) for 2 images and 3 classes"),
        (("score", "confusion"), [[1, 0], [0, 1]], "for 2 images and 3 classes"),
        (("score", "images"), ["a"], "for 1 images and 3 classes"),
        (("score", "counts"), [[1], [1, 2]], "inhomogeneous"),
        (("score", "counts"), [[["x", 0, 0]]], "invalid literal"),
        (("score",), {}, "KeyError: 'counts'"),
        (("score", "given"), {"miou": 53.1, "iou": {}}, "ResultsError: the score of mIoU is 53.1"),
        (("score", "given"), {"miou": 0.5}, "KeyError: 'iou'"),
        (("curves",), [1], "AttributeError"),
        (("curves",), {"a": [1]}, "TypeError"),
        (("seed",), None, "TypeError"),
        (("facts",), 3, "TypeError"),
        (("timings",), {"train": "long"}, "could not convert"),
    ],
)
def test_damaged(written: Path, place: tuple[str, ...], value: Any, message: str) -> None:
    """A part that does not fit names the file and what does not fit."""
    content = json.loads(written.read_text())
    part = content
    for name in place[:-1]:
        part = part[name]
    part[place[-1]] = value
    written.write_text(json.dumps(content))

    with pytest.raises(
        ResultsError, match=rf"result\.json is not shaped as one \(.*{message}.*\), write the run again"
    ):
        read_result(written)


@pytest.mark.parametrize("name", ["arm", "seed", "status", "score", "curves", "facts", "timings"])
def test_a_part_is_missing(written: Path, name: str) -> None:
    """Every part is needed."""
    content = json.loads(written.read_text())
    del content[name]
    written.write_text(json.dumps(content))

    with pytest.raises(ResultsError, match=f"KeyError: '{name}'"):
        read_result(written)
