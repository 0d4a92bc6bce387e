from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from semalign.config.study import StudyOptions
from semalign.errors import ConfigError, OutputError, ResultsError, StudyError
from semalign.execution import Execution
from semalign.files import write_json
from semalign.judge import judge_pilot
from semalign.judge.statistics import blocks_needed, resolvable_margin
from semalign.study import plan
from semalign.study.design import planned_runs, read_study
from semalign.study.folder import claim_study_folder
from semalign.study.plan import plan_study
from semalign.study.probe import probe_seconds
from tests.report.study_folder import StudyFolder
from tests.small import TINY


@pytest.fixture
def probed(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Let every probe say 90 seconds, and keep what it was asked."""
    asked: list[Any] = []

    def probe(*args: Any) -> float:
        asked.append(args)
        return 90.0

    monkeypatch.setattr(plan, "probe_seconds", probe)
    return asked


def test_runs_and_hours_by_hand(small_study: StudyOptions, probed: list[Any]) -> None:
    """Two arms and two blocks, and one more run per block of the pilot: six runs of 90 s by three workers."""
    value = plan_study(small_study, None, Execution(workers=3)).to_dict()

    assert (value["runs"], value["missing"], value["blocks"], value["workers"]) == (6, 6, 2, 3)
    assert value["hours"] == pytest.approx(6 * 90 / 3 / 3600)
    assert value["arms"] == ["Baseline", "A"]
    assert value["families"] == {"primary": 1}
    assert probed[0][1] == planned_runs(small_study)[0].training
    json.dumps(value, allow_nan=False)


def test_precision_is_that_of_the_judge(data: Path, probed: list[Any]) -> None:
    """Without a pilot three spreads are shown; with one, its own; the figures are the statistics' own."""
    study = read_study("ablations", data=str(data), seeds=8, assignments=TINY)

    assumed = plan_study(study, None, Execution(workers=1)).to_dict()
    piloted = plan_study(study, None, Execution(workers=1), pilot_sd=1.3).to_dict()

    assert assumed["families"] == {"primary": 4, "controls": 3}
    plain = [row for row in assumed["precision"] if "A - Baseline" in row["effects"]]
    assert [row["sd"] for row in plain] == [0.5, 1.0, 2.0]
    assert [row["effects"] for row in assumed["precision"][:3]] == [
        ["A - Baseline", "B - Baseline", "C - Baseline"],
        ["competition: (A - Baseline) - (C - B)"],
        ["no text - Baseline", "random vectors - Baseline", "mask texts - Baseline"],
    ]
    assert assumed["sd_from"] == "assumed"
    row, competition, _ = piloted["precision"]
    assert competition["sd"] == pytest.approx(1.3 * 2**0.5)
    assert piloted["sd_from"] == "pilot"
    assert row["resolvable_margin"] == pytest.approx(resolvable_margin(1.3, 8, 0.05, 4))
    assert row["blocks_for_margin"] == blocks_needed(1.3, 1.0, 0.05, 4)
    margins = [row["resolvable_margin"] for row in plain]
    assert margins == sorted(margins)


def test_what_cannot_answer_is_refused(tmp_path: Path, data: Path, probed: list[Any]) -> None:
    """One block has no interval, and two arms alike cannot differ; nothing is probed for them."""
    study = read_study("ablation-1", data=str(data), seeds=1, assignments=TINY)
    with pytest.raises(StudyError, match="has 1 block, which gives no interval, expected at least 2: add --seeds"):
        plan_study(study, None, Execution(workers=1))

    (tmp_path / "same.yaml").write_text(
        "name: x\nquestion: q?\nbaseline: a\narms: {a: {}, b: {train.average: 0.995}, c: {train.lr: 0.1}}\n"
    )
    study = read_study(str(tmp_path / "same.yaml"), data=str(data), seeds=2, assignments=TINY)
    with pytest.raises(StudyError, match="the arms 'a' and 'b' have the same options"):
        plan_study(study, None, Execution(workers=1))
    assert probed == []


def write_pilot(folder: Path, **changes: Any) -> None:
    """Write the figures of a pilot."""
    pilot = judge_pilot([0.50, 0.52, 0.51, 0.49], [0.505, 0.52, 0.507, 0.493]).to_dict() | changes
    write_json(folder / "pilot.json", pilot)


def test_the_plan_uses_the_pilot(tmp_path: Path, data: Path, probed: list[Any]) -> None:
    """The folder's pilot gives the noise, scaled to each effect's weights; a noise too large refuses the design."""
    study = read_study("factorial", data=str(data), assignments=TINY)
    claim_study_folder(tmp_path, study, {})
    write_pilot(tmp_path, sd_paired=1.6, sd_paired_low=0.9)

    value = plan_study(study, tmp_path, Execution(workers=1)).to_dict()

    assert value["sd_from"] == "pilot"
    assert [(row["family"], len(row["effects"])) for row in value["precision"]] == [("primary", 4), ("interactions", 6)]
    assert [row["sd"] for row in value["precision"]] == pytest.approx([1.6 / 8**0.5] * 2)
    assert value["looks"] == [5, 8, 12]
    write_pilot(tmp_path, sd_paired=16.0, sd_paired_low=9.0)
    with pytest.raises(
        StudyError, match=r"12 blocks cannot decide 'encoder temperature: learnable - fixed' at a margin"
    ):
        plan_study(study, tmp_path, Execution(workers=1))
    with pytest.raises(StudyError, match=r"the least that the pilot leaves possible; plan more blocks \(--seeds\)"):
        plan_study(study, tmp_path, Execution(workers=1))
    (tmp_path / "pilot.json").write_text("{}")
    with pytest.raises(ResultsError, match="expected what `study pilot` wrote"):
        plan_study(study, tmp_path, Execution(workers=1))


def test_assumed_noise_is_no_reason_to_refuse(data: Path, probed: list[Any]) -> None:
    """Without a pilot a design that decides at none of the assumed spreads is planned, and the plan says so."""
    hopeless = plan_study(
        read_study("ablation-1", data=str(data), seeds=2, assignments=TINY), None, Execution(workers=1)
    ).to_dict()
    sound = plan_study(
        read_study("ablation-1", data=str(data), seeds=8, assignments=TINY), None, Execution(workers=1)
    ).to_dict()

    (note,) = hopeless["notes"]
    assert note.startswith("2 blocks cannot decide 'A - Baseline' at a margin of 1 points: even at a noise of sd 0.50")
    assert note.endswith("this noise is assumed, `study pilot` measures it")
    assert sound["notes"] == []


def test_aliases_are_planned_openly(data: Path, probed: list[Any]) -> None:
    """The plan of a half fraction names which two-factor effects share an estimate."""
    value = plan_study(
        read_study("half-fraction", data=str(data), assignments=TINY), None, Execution(workers=1)
    ).to_dict()

    assert value["aliases"]["encoder temperature x encoder gate"] == "decoder temperature x decoder gate"
    assert len(value["aliases"]) == 4 + 3


def test_finished_runs_are_not_planned_again(tmp_path: Path, small_study: StudyOptions, probed: list[Any]) -> None:
    """A folder that was begun lacks what has no result."""
    claim_study_folder(tmp_path, small_study, {})
    StudyFolder(tmp_path).run("baseline", 0, ["1/2", "1/3", "1/4"])

    value = plan_study(small_study, tmp_path, Execution(workers=1)).to_dict()

    assert (value["runs"], value["missing"]) == (6, 5)
    assert plan_study(small_study, tmp_path / "new", Execution(workers=1)).missing == 6
    assert not (tmp_path / "new").exists()


def test_a_folder_of_another_study(tmp_path: Path, small_study: StudyOptions, probed: list[Any]) -> None:
    """The plan is for this study alone."""
    claim_study_folder(tmp_path, small_study.model_copy(update={"seeds": 7}), {})

    with pytest.raises(OutputError, match="holds another study"):
        plan_study(small_study, tmp_path)
    with pytest.raises(StudyError, match="--workers got 0"):
        plan_study(small_study, None, Execution(workers=0))


def test_the_probe_measures(small_study: StudyOptions) -> None:
    """A few real steps give a plausible time, leave the thread count as it was, and an unknown device is refused."""
    import torch

    threads = torch.get_num_threads()
    options = planned_runs(small_study)[0].training

    seconds = probe_seconds(str(small_study.data), options, Execution("cpu", threads=1))

    assert 0 < seconds < 600
    assert torch.get_num_threads() == threads
    with pytest.raises(ConfigError, match="--device got 'foo'"):
        probe_seconds(str(small_study.data), options, Execution("foo", threads=1))
