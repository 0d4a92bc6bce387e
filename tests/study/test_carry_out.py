from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from semalign.audit.findings import Finding, make_report
from semalign.config.study import StudyOptions
from semalign.errors import AuditError, ConfigError, DataError, OutputError, StudyError
from semalign.execution import Events, Execution
from semalign.inspection import options as inspected
from semalign.report import write_report
from semalign.results import RunResult, Score, read_result
from semalign.study.carry_out import carry_out
from semalign.study.checks import check_models
from semalign.study.design import planned_runs, read_study
from semalign.tensors_file import read_tensors
from semalign.train import loop
from semalign.train.step import TrainingDiverged
from semalign.wording import say
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
    carry_out(
        small_study,
        folder,
        Execution(workers=1, events=Events(run_done=progress)),
        command="semalign study run ablation-1",
    )
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
    carry_out(small_study, folder, Execution(workers=1, events=Events(run_done=progress)))
    write_report(folder, lang="en")
    assert told == []
    assert files(folder) == first

    gone = folder / "runs" / "a" / "seed-1" / "result.json"
    gone.unlink()
    carry_out(small_study, folder, Execution(workers=1, events=Events(run_done=progress)))
    write_report(folder, lang="en")
    assert told == [("A", 1, "finished")]
    again = files(folder)
    assert again["results.csv"] == first["results.csv"]
    # Wall times are new, all else is as it was.
    assert {name for name in first if first[name] != again[name]} <= {
        "runs/a/seed-1/result.json",
        "timings.csv",
        "tables.md",
        "tables.tex",
        "report.html",
    }


@pytest.mark.usefixtures("in_this_process")
def test_the_pilot_alone(tmp_path: Path, small_study: StudyOptions) -> None:
    """Identical recipes first; the study goes on from there without running them again."""
    carry_out(small_study, tmp_path, Execution(workers=1), pilot_only=True)

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
            raise TrainingDiverged("the loss is nan at step 0 of 2")
        return _fit(inputs, options, **kwargs)

    monkeypatch.setattr(loop, "fit", fit)
    carry_out(small_study, tmp_path, Execution(workers=1))

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
        carry_out(study, tmp_path / "study", Execution(**options))
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
    carry_out(study, tmp_path / "study", Execution(workers=1))
    mask = root / "masks" / "train" / "train-0.png"
    mask.write_bytes((root / "masks" / "train" / "train-1.png").read_bytes())

    with pytest.raises(StudyError, match="the split 'train' of the data has changed"):
        carry_out(study, tmp_path / "study", Execution(workers=1))
    with pytest.raises(OutputError, match="holds another study"):
        carry_out(study.model_copy(update={"margin": 0.3}), tmp_path / "study", Execution(workers=1))


def scripted(monkeypatch: pytest.MonkeyPatch, effect: list[float]) -> None:
    """Let runs take no time: arm A scores ``effect[seed]`` points above the Baseline."""

    def fit(inputs: Any, options: Any, *, arm: str, **kwargs: Any) -> Any:
        seed = options.train.seed
        score = 0.5 + seed / 1000 + (effect[seed] / 100 if arm == "A" else 0.0)
        counts = np.array([[[round(score * 10**6), 10**6 - round(score * 10**6), 0]] * 3])
        result = RunResult(
            arm=arm,
            seed=seed,
            status="finished",
            score=Score("val", ("sky", "road", "tree"), ("val-0",), counts, np.diag(counts[0, :, 0])),
            curves={},
            facts={},
            timings={},
        )
        return None, result

    monkeypatch.setattr(loop, "fit", fit)


@pytest.mark.usefixtures("in_this_process")
@pytest.mark.parametrize(
    ("effects", "futility", "blocks", "word"),
    [
        # Decided at the first look, at the second, and never.
        ([3.0, 3.1, 2.9] * 3, False, 3, "better"),
        ([3.0, 5.0, 2.5, 3.0, 4.0, 5.0, 4.0], False, 5, "better"),
        ([9.0, -9.0, 8.0, -8.0, 9.0, -7.0, 2.0], False, 7, "inconclusive"),
        ([9.0, -9.0, 8.0, -8.0, 9.0, -7.0, 2.0], True, 3, "inconclusive"),
    ],
)
def test_a_study_grows_until_it_is_decided(
    tmp_path: Path,
    data: Path,
    monkeypatch: pytest.MonkeyPatch,
    effects: list[float],
    futility: bool,
    blocks: int,
    word: str,
) -> None:
    """Blocks are added up to the look that decides, or at which no chance is left; started again it stays there."""
    scripted(monkeypatch, effects)
    changes = [*SHORT, "pilot_blocks=0", "looks=[3, 5, 7]", f"futility={str(futility).lower()}"]
    study = read_study("ablation-1", data=str(data), assignments=changes)
    folder = tmp_path / "study"

    for _ in range(2):
        carry_out(study, folder, Execution(workers=1))
        write_report(folder, lang="en")
        judgement = json.loads((folder / "judgement.json").read_text())

        assert len(list(folder.glob("runs/*/seed-*/result.json"))) == 2 * blocks
        assert judgement["verdicts"][0]["word"] == word
        assert len(judgement["seeds"]) == blocks
        assert len((folder / "results.csv").read_text().splitlines()) == 1 + 2 * blocks


@pytest.mark.usefixtures("in_this_process")
def test_learned_values_without_learning(tmp_path: Path, data: Path) -> None:
    """The matched arm has, from its first step to its last, what the learnable run of its seed ended with."""
    study = read_study("value-matched", data=str(data), seeds=2, assignments=[*SHORT, "pilot_blocks=0"])
    carry_out(study, tmp_path, Execution(workers=1))

    for seed in range(2):
        learned, _ = read_tensors(tmp_path / f"runs/learnable/seed-{seed}" / "weights.safetensors")
        matched, _ = read_tensors(tmp_path / f"runs/fixed-at-the-learned-value/seed-{seed}" / "weights.safetensors")
        names = [name for name in learned if name.endswith("alignment.temperature.log_scale")]
        assert names
        assert all(learned[name].shape == (4,) and torch.equal(learned[name], matched[name]) for name in names)
        assert any(bool(learned[name].any()) for name in names)
        taken = read_result(tmp_path / f"runs/fixed-at-the-learned-value/seed-{seed}/result.json").facts["values"]
        assert taken == {name.removeprefix("model."): learned[name].tolist() for name in names}


@pytest.mark.usefixtures("in_this_process")
def test_a_run_whose_source_failed_is_failed(tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without learned values there is nothing to match: the run is an outcome that says so, and is not tried again."""

    def fit(inputs: Any, options: Any, **kwargs: Any) -> Any:
        if kwargs["arm"] == "learnable":
            raise TrainingDiverged("the loss is nan at step 0 of 2")
        return _fit(inputs, options, **kwargs)

    monkeypatch.setattr(loop, "fit", fit)
    study = read_study("value-matched", data=str(data), seeds=1, assignments=[*SHORT, "pilot_blocks=0"])
    carry_out(study, tmp_path, Execution(workers=1))

    result = read_result(tmp_path / "runs/fixed-at-the-learned-value/seed-0/result.json")
    assert result.status == "failed"
    assert result.facts["failure"] == "the run runs/learnable/seed-0 failed, whose learned values this run takes"


def test_arms_alike_are_refused(tmp_path: Path, data: Path) -> None:
    """Two arms with the same options are found before anything is run."""
    (tmp_path / "x.yaml").write_text("name: x\nquestion: q?\nbaseline: a\narms: {a: {}, b: {train.lr: 2.0e-3}}\n")
    study = read_study(str(tmp_path / "x.yaml"), data=str(data), assignments=SHORT)

    with pytest.raises(StudyError, match="the arms 'a' and 'b' have the same options"):
        carry_out(study, tmp_path / "study")
    assert not (tmp_path / "study").exists()


@pytest.mark.usefixtures("in_this_process")
def test_every_arm_is_audited_first(tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the audit found of each arm stands in audit.json; an undeclared error stops before anything is written."""
    study = read_study("ablation-1", data=str(data), seeds=1, assignments=[*SHORT, "pilot_blocks=0"])
    carry_out(study, tmp_path / "one", Execution(workers=1))
    found = json.loads((tmp_path / "one" / "audit.json").read_text())

    assert found.keys() == {"Baseline", "A"}
    assert all(finding["severity"] != "error" for arm in found.values() for finding in arm["findings"])

    stuck = make_report([Finding("zero-gradient", ("decoder.x",), say("audit.ending.no-path"))])
    monkeypatch.setattr(inspected, "audit_options", lambda options: stuck)
    with pytest.raises(AuditError, match=r"the audit of arm 'Baseline' found zero-gradient at decoder\.x"):
        carry_out(study, tmp_path / "two", Execution(workers=1))
    assert not (tmp_path / "two").exists()
    carry_out(study, tmp_path / "two", Execution(workers=1, audit=False))
    assert not (tmp_path / "two" / "audit.json").exists()
