from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from semalign.config.study import StudyOptions
from semalign.errors import ConfigError, DataError, OutputError, StudyError
from semalign.report import write_report
from semalign.results import read_result
from semalign.study.carry_out import carry_out, check_models
from semalign.study.design import planned_runs, read_study
from semalign.train import loop
from tests.small import TINY, make_data

SHORT = (*TINY, "train.epochs=1", "train.val_every=0")


def files(folder: Path) -> dict[str, bytes]:
    """Return the bytes of every file below."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.usefixtures("in_this_process")
def test_a_whole_study(tmp_path: Path, small_study: StudyOptions) -> None:
    """Pilot, runs and report of ablation-1; started again nothing is run; what is lost is made again, to the byte."""
    told: list[tuple[str, int, str]] = []

    def progress(arm: str, seed: int, status: str, miou: float | None, done: int, total: int) -> None:
        told.append((arm, seed, status))

    folder = tmp_path / "study"
    carry_out(small_study, folder, workers=1, command="semalign study run ablation-1", progress=progress)
    write_report(folder, lang="en")
    first = files(folder)

    # The pilot first; what a pool has finished at one time comes in any order.
    assert sorted(arm for arm, _, _ in told[:4]) == ["Baseline", "Baseline", "recipe again", "recipe again"]
    assert sorted(told[4:]) == [("A", 0, "finished"), ("A", 1, "finished")]
    facts = json.loads(first["facts.json"])
    assert facts["command"] == "semalign study run ablation-1"
    assert facts["data"]["fingerprints"].keys() == {"train", "val"}
    assert facts["machine"]["workers"] == 1
    assert json.loads(first["pilot.json"])["n"] == 2
    assert first["results.csv"].splitlines()[0].startswith(b"arm,seed,miou")
    assert len(first["results.csv"].splitlines()) == 1 + 4
    assert {"study.yaml", "tables.md", "report.html", "timings.csv", "judgement.json"} <= first.keys()

    told.clear()
    carry_out(small_study, folder, workers=1, progress=progress)
    write_report(folder, lang="en")
    assert told == []
    assert files(folder) == first

    gone = folder / "runs" / "a" / "seed-1" / "result.json"
    gone.unlink()
    carry_out(small_study, folder, workers=1, progress=progress)
    write_report(folder, lang="en")
    assert told == [("A", 1, "finished")]
    again = files(folder)
    assert again["results.csv"] == first["results.csv"]
    # Wall times are new, all else is as it was.
    assert {name for name in first if first[name] != again[name]} <= {
        "runs/a/seed-1/result.json",
        "timings.csv",
        "tables.md",
        "report.html",
    }


@pytest.mark.usefixtures("in_this_process")
def test_the_pilot_alone(tmp_path: Path, small_study: StudyOptions) -> None:
    """Identical recipes first; the study goes on from there without running them again."""
    carry_out(small_study, tmp_path, workers=1, pilot_only=True)

    assert (tmp_path / "pilot.json").exists()
    assert not (tmp_path / "runs" / "a").exists()
    first, second = (
        read_result(tmp_path / name / "seed-0" / "result.json") for name in ("runs/baseline", "pilot/recipe-again")
    )
    assert (first.arm, second.arm) == ("Baseline", "recipe again")
    assert second.facts["config"]["train"]["nudge"] > 0


@pytest.mark.parametrize(("seeds", "blocks"), [(1, 3), (5, 1), (5, 0)])
def test_a_pilot_of_one_block_says_nothing(tmp_path: Path, data: Path, seeds: int, blocks: int) -> None:
    """Two blocks are the least, and that is known before anything is run."""
    study = read_study("ablation-1", data=str(data), seeds=seeds, assignments=[*SHORT, f"pilot_blocks={blocks}"])

    with pytest.raises(
        StudyError, match=rf"has {min(seeds, blocks)} blocks .*expected at least 2: add --seeds or --set"
    ):
        carry_out(study, tmp_path / "study", pilot_only=True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("in_this_process")
def test_a_study_with_a_failed_run_is_reported(
    tmp_path: Path, small_study: StudyOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An arm that always diverges is an outcome: the others finish and the report is written."""

    def fit(inputs: Any, options: Any, **kwargs: Any) -> Any:
        if kwargs["arm"] == "A":
            raise loop.TrainingDiverged("the loss is nan at step 0 of 2")
        return _fit(inputs, options, **kwargs)

    monkeypatch.setattr(loop, "fit", fit)
    carry_out(small_study, tmp_path, workers=1)

    write_report(tmp_path, lang="en")

    assert read_result(tmp_path / "runs/a/seed-0/result.json").facts["failure"] == "the loss is nan at step 0 of 2"
    judgement = json.loads((tmp_path / "judgement.json").read_text())
    assert {verdict["word"] for verdict in judgement["verdicts"]} <= {"worse", "inconclusive", "undecided"}


_fit = loop.fit


@pytest.mark.parametrize(
    ("changes", "options", "error", "message"),
    [
        (["align.encoder.heads=5"], {}, ConfigError, "heads=5, which does not divide"),
        (["data.val_split=x"], {}, DataError, "has no split 'x'"),
        (["train.select_split=x"], {}, DataError, "has no split 'x'"),
        (["data.depth=true"], {}, DataError, r"data\.depth=true"),
        ([], {"workers": 0}, StudyError, "--workers got 0"),
        ([], {"workers": -1}, StudyError, "--workers got -1"),
        ([], {"device": "foo"}, ConfigError, "--device got 'foo'"),
    ],
)
def test_nothing_is_written_for_what_cannot_be(
    tmp_path: Path,
    data: Path,
    changes: list[str],
    options: dict[str, Any],
    error: type[Exception],
    message: str,
) -> None:
    """Options, data, workers and devices that do not fit are found before the folder is made."""
    study = read_study("ablation-1", data=str(data), seeds=2, assignments=[*SHORT, *changes])

    with pytest.raises(error, match=message):
        carry_out(study, tmp_path / "study", **options)
    assert list(tmp_path.iterdir()) == []


def test_a_fault_of_one_arm_is_found_first(tmp_path: Path, data: Path) -> None:
    """The last arm's depth is asked for before the first arm is trained; so is a study that judges nothing."""
    text = "name: x\nquestion: q?\nbaseline: a\ncontrasts: {}\narms: {{a: {{}}, b: {{{}}}}}\n"
    for contrasts, arm, error, message in (
        ("against-baseline", "data.depth: true", DataError, "no depth"),
        ("against-baseline", "data.text: images", Exception, "no texts"),
        ("ablations", "train.lr: 0.1", StudyError, "judges no effect"),
    ):
        (tmp_path / "x.yaml").write_text(text.format(contrasts, arm))
        study = read_study(str(tmp_path / "x.yaml"), data=str(data), assignments=SHORT)
        with pytest.raises(error, match=message):
            carry_out(study, tmp_path / "study")
    assert not (tmp_path / "study").exists()


def test_a_text_classifier_needs_no_guiding_text(data: Path) -> None:
    """An arm without text may still compare pixels with class sentences."""
    study = read_study("ablations", data=str(data), seeds=1, assignments=[*SHORT, "model.classifier=text"])

    check_models(study, planned_runs(study), True)


@pytest.mark.usefixtures("in_this_process")
def test_changed_data_stop_a_study(tmp_path: Path) -> None:
    """A study that was begun on other masks is not gone on with."""
    root = make_data(tmp_path / "set")
    study = read_study("ablation-1", data=str(root), seeds=1, assignments=[*SHORT, "pilot_blocks=0"])
    carry_out(study, tmp_path / "study", workers=1)
    mask = root / "masks" / "train" / "train-0.png"
    mask.write_bytes((root / "masks" / "train" / "train-1.png").read_bytes())

    with pytest.raises(StudyError, match="the split 'train' of the data has changed"):
        carry_out(study, tmp_path / "study", workers=1)
    with pytest.raises(OutputError, match="holds another study"):
        carry_out(study.model_copy(update={"margin": 0.3}), tmp_path / "study", workers=1)
