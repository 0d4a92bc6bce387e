from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from semalign.errors import ConfigError, ResultsError, StudyError
from semalign.judge import judge, read_results_csv
from semalign.report.arms import class_means, cost_of
from semalign.report.curves import curve_band, group_of, site_band, site_groups
from semalign.report.needs import needs_of
from semalign.report.numbers import findings, load_study
from semalign.report.runs_csv import results_csv, timings_csv
from semalign.report.text_use import _answer, text_use
from tests.report.study_folder import StudyFolder, paired


def test_results_csv_by_hand(tmp_path: Path) -> None:
    """Rows stand in planned order; an absent class and a failed run have empty cells, a missing run has no row."""
    folder = StudyFolder(tmp_path / "study")
    folder.study({"Baseline": {}, "A, wide": {}}, seeds=2)
    folder.run("A, wide", 0, None)
    folder.run("Baseline", 1, ["1/4", "3/4", None])
    folder.run("Baseline", 0, ["1/2", "1/4", None])

    assert results_csv(load_study(folder.path)) == (
        'arm,seed,miou,road,car,sky\nBaseline,0,0.375,0.5,0.25,\nBaseline,1,0.5,0.25,0.75,\n"A, wide",0,,,,\n'
    )


def test_results_csv_gives_the_same_judgement(tmp_path: Path) -> None:
    """Whoever judges results.csv finds what the report says, failed and missing runs included."""
    folder = paired(tmp_path / "study", ("1", "2", "3", "2"))
    folder.run("A", 2, None)
    numbers = load_study(folder.path)
    path = tmp_path / "results.csv"
    path.write_text(results_csv(numbers))
    again = judge(read_results_csv(path), baseline="Baseline", margin=1.0, planned_blocks=4)

    assert again.verdicts == numbers.judgement.verdicts
    assert again.arms == numbers.judgement.arms


def test_a_class_called_like_a_column_gets_a_prefix(tmp_path: Path) -> None:
    """A class named 'seed' does not make a second column 'seed'."""
    folder = StudyFolder(tmp_path / "study")
    folder.study({"Baseline": {}, "A": {}}, seeds=1)
    folder.run("Baseline", 0, ["1/2"], names=["seed"])

    assert results_csv(load_study(folder.path)).splitlines()[0] == "arm,seed,miou,iou seed"


def test_timings_csv_by_hand(tmp_path: Path) -> None:
    """Seconds by part, parts in alphabetical order, a part that a run lacks is empty."""
    folder = StudyFolder(tmp_path / "study")
    folder.study({"Baseline": {}, "A": {}}, seeds=1)
    folder.run("Baseline", 0, ["1/2", "1/2", "1/2"], timings={"train": 2.5, "evaluate": 0.5})
    folder.run("A", 0, None, timings={"train": 1.25})

    assert timings_csv(load_study(folder.path)) == "arm,seed,evaluate,train\nBaseline,0,0.5,2.5\nA,0,,1.25\n"


def test_missing_and_failed_runs_are_told_apart(tmp_path: Path) -> None:
    """A run without a file is missing; a run whose status is 'failed' is an outcome."""
    folder = paired(tmp_path / "study")
    folder.run("A", 1, None)
    (folder.path / "runs/A/seed-2/result.json").unlink()
    numbers = load_study(folder.path)

    assert list(numbers.failed) == [("A", 1)]
    assert numbers.missing == (("A", 2),)
    assert list(numbers.finished) == [("Baseline", 0), ("Baseline", 1), ("Baseline", 2), ("A", 0)]


def test_class_means_by_hand(tmp_path: Path) -> None:
    """30, 40, 50 points: mean 40, sd 10, half width t(.975, 2) 10 / sqrt(3) = 24.841; the absent class is left out."""
    means = class_means(load_study(paired(tmp_path / "study").path), "Baseline")

    assert list(means) == ["road", "car"]
    assert means["car"].mean == pytest.approx(40)
    assert means["car"].half == pytest.approx(4.302652729696142 * 10 / 3**0.5)


def test_cost_by_hand(tmp_path: Path) -> None:
    """Median of the sums 11, 12 and 13 s; the gap is taken run by run."""
    folder = paired(tmp_path / "study")
    for seed, score in ((0, 0.50), (1, 0.58)):
        iou = [f"{50 + 10 * seed}/100", f"{30 + 10 * seed}/100", None]
        stored = {"miou": score, "images": 5} if seed else score
        facts = {"parameters": 17, "steps": 23, "train_score": stored}
        folder.run("Baseline", seed, iou, facts=facts, timings={"train": 10.0 + seed, "evaluate": 1.0})
    cost = cost_of(load_study(folder.path), "Baseline")

    assert (cost.parameters, cost.steps, cost.seconds) == ((17,), (23,), 12.0)
    assert cost.train is not None
    assert cost.train.mean == pytest.approx(54)
    assert cost.gap is not None
    assert cost.gap.mean == pytest.approx((10 + 8) / 2)


def test_total_seconds_are_not_counted_twice(tmp_path: Path) -> None:
    """Where a run recorded a total, its parts are not added to it."""
    folder = StudyFolder(tmp_path / "study")
    folder.study({"Baseline": {}, "A": {}}, seeds=1)
    folder.run("Baseline", 0, ["1/2", "1/2", "1/2"], timings={"total": 7.0, "train": 5.0})

    assert cost_of(load_study(folder.path), "Baseline").seconds == 7.0


def test_needs_by_hand(tmp_path: Path) -> None:
    """At sd 1 and margin 1: 15 < (t.975 + t.95)^2 = 15.26 at 15 blocks, 16 > 15.09 at 16; a block takes 12 + 21 s."""
    (need,) = needs_of(load_study(paired(tmp_path / "study").path))

    assert need.sd == pytest.approx(1)
    blocks, hours = need.margins[1.0]
    assert blocks == 16
    assert hours == pytest.approx(16 * 33 / 3600)
    assert need.margins[0.5][0] > 4 * 12


# --- curves ---------------------------------------------------------------------------------------


def test_band_by_hand(tmp_path: Path) -> None:
    """Mean, lowest and highest over runs at every step; a run that lacks a step takes no part there."""
    folder = StudyFolder(tmp_path / "study")
    folder.study({"Baseline": {}, "A": {}}, seeds=2)
    folder.run("Baseline", 0, ["1/2"] * 3, curves={"train/loss": [(0, 3.0), (5, 1.0)]})
    folder.run("Baseline", 1, ["1/2"] * 3, curves={"train/loss": [(0, 5.0)]})
    band = curve_band(load_study(folder.path), "Baseline", "train/loss")

    assert band is not None
    np.testing.assert_array_equal(band.steps, [0, 5])
    np.testing.assert_array_equal(band.mean, [4, 1])
    np.testing.assert_array_equal(band.low, [3, 1])
    np.testing.assert_array_equal(band.high, [5, 1])


def test_long_curves_are_averaged_in_windows(tmp_path: Path) -> None:
    """A straight line of 1009 points stays one, with fewer points."""
    folder = StudyFolder(tmp_path / "study")
    folder.study({"Baseline": {}, "A": {}}, seeds=1)
    folder.run("Baseline", 0, ["1/2"] * 3, curves={"train/loss": [(step, 2.0 * step) for step in range(1009)]})
    band = curve_band(load_study(folder.path), "Baseline", "train/loss")

    assert band is not None
    assert len(band.steps) == 80
    np.testing.assert_allclose(band.mean, 2 * band.steps, atol=12)


def test_sites_are_grouped_by_stage_and_level(tmp_path: Path) -> None:
    """Blocks of a stage are averaged within a run; levels stand alone; unknown sites keep their name."""
    folder = StudyFolder(tmp_path / "study")
    folder.study({"Baseline": {}, "A": {}}, seeds=1)
    curves = {
        "decoder.alignments.2/gate": [(0, 0.5)],
        "visual_encoder.stages.1.blocks.0.alignment/gate": [(0, 1.0)],
        "visual_encoder.stages.1.blocks.1.alignment/gate": [(0, 3.0)],
        "fusion.cross/gate": [(0, 7.0)],
        "val/miou": [(0, 0.1)],
    }
    folder.run("Baseline", 0, ["1/2"] * 3, curves=curves)
    numbers = load_study(folder.path)
    groups = site_groups(numbers, "gate")
    band = site_band(numbers, "Baseline", groups[0], "gate")

    assert [(group.side, group.index, group.site) for group in groups] == [
        ("encoder", 1, ""),
        ("decoder", 2, ""),
        ("other", 0, "fusion.cross"),
    ]
    assert band is not None
    assert band.mean.tolist() == [2.0]
    assert site_groups(numbers, "scale") == ()
    assert group_of("alignments.3").index == 3


# --- use of text ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("branch", "meaning", "answer"),
    [
        # The control with random vectors speaks of meaning, and comes first.
        ("inconclusive", "better", "yes"),
        ("worse", "better", "yes"),
        ("better", "worse", "harm of meaning"),
        ("better", "equivalent", "branch only"),
        ("equivalent", "equivalent", "no"),
        ("inconclusive", "equivalent", "not its meaning"),
        (None, "equivalent", "not its meaning"),
        # Where it is open or absent, the control without text speaks.
        ("better", "inconclusive", "branch, open"),
        ("better", None, "branch, no control"),
        ("equivalent", "inconclusive", "no gain"),
        ("equivalent", None, "no gain"),
        ("worse", "equivalent", "harm"),
        ("worse", None, "harm"),
        ("inconclusive", "inconclusive", "unknown"),
        ("inconclusive", None, "unknown"),
        (None, "inconclusive", "unknown"),
        (None, None, "no control"),
    ],
)
def test_answer_table(branch: str | None, meaning: str | None, answer: str) -> None:
    """The answer on the use of text follows from two verdicts."""
    assert _answer(branch, meaning) == answer


def test_gain_is_the_contrast_turned(tmp_path: Path) -> None:
    """An arm without text that scores 20 points less means that the text gives 20 points."""
    folder = StudyFolder(tmp_path / "study")
    folder.study({"Baseline": {}, "no text": {"data.text": "none"}}, seeds=3)
    shared = {"text": {"kind": "classes", "shared": True, "sentences": 3, "leaking": False}}
    for seed, (guided, bare) in enumerate((("70/100", "50/100"), ("71/100", "52/100"), ("72/100", "51/100"))):
        folder.run("Baseline", seed, [guided] * 3, facts=shared)
        folder.run("no text", seed, [bare] * 3, facts={"text": {"kind": "none", "shared": False}})
    use = text_use(load_study(folder.path))

    assert (use.answer, use.arm, use.shared) == ("branch, no control", "Baseline", True)
    (gain,) = use.gains
    assert gain.mean == pytest.approx(20)
    assert gain.low is not None
    assert gain.high is not None
    assert 15 < gain.low < 20 < gain.high < 25


def test_baseline_without_text_is_the_control(tmp_path: Path) -> None:
    """Where the baseline is trained without text, the arm that adds nothing but text is compared with it."""
    folder = StudyFolder(tmp_path / "study")
    folder.study({"bare": {}, "guided": {"data.text": "images"}}, options={"data.text": "none"}, seeds=3)
    for seed, (bare, guided) in enumerate((("50/100", "70/100"), ("52/100", "71/100"), ("51/100", "72/100"))):
        folder.run("bare", seed, [bare] * 3)
        folder.run("guided", seed, [guided] * 3)
    use = text_use(load_study(folder.path))

    assert (use.answer, use.arm) == ("branch, no control", "guided")
    assert use.gains[0].mean == pytest.approx(20)


def test_no_control_means_it_cannot_be_told(tmp_path: Path) -> None:
    """An arm that differs in more than its text is no control."""
    folder = paired(tmp_path / "study")
    folder.study({"Baseline": {}, "A": {"data.text": "none", "train.lr": 0.1}}, seeds=3)

    assert text_use(load_study(folder.path)).answer == "no control"


# --- notes and pilot ------------------------------------------------------------------------------


def test_findings_stand_once_with_their_arms(tmp_path: Path) -> None:
    """Notes and audit findings of many runs are one sentence with the arms in planned order."""
    folder = StudyFolder(tmp_path / "study")
    folder.study({"Baseline": {}, "A": {}}, seeds=2)
    dead = {"code": "dead", "where": "decoder", "evidence": "gradient 0", "fix": "set the init to 0"}
    for seed in range(2):
        folder.run("A", seed, ["1/2"] * 3, facts={"notes": ["one", "two"]})
        folder.run("Baseline", seed, ["1/2"] * 3, facts={"notes": ["two"], "audit": {"findings": [dead]}})

    assert dict(findings(load_study(folder.path))) == {
        "decoder: gradient 0; set the init to 0": ("Baseline",),
        "two": ("Baseline", "A"),
        "one": ("A",),
    }


def test_pilot_by_hand(tmp_path: Path) -> None:
    """Differences -1, 0 and +1 points have mean 0 and sd 1."""
    folder = paired(tmp_path / "study")
    for seed, other in enumerate(("49/100", "50/100", "51/100")):
        folder.run("recipe", seed, ["1/2"] * 3, folder="pilot")
        folder.run("recipe again", seed, [other] * 3, folder="pilot")
    pilot = load_study(folder.path).pilot

    assert pilot is not None
    assert pilot.n == 3
    assert pilot.mean_difference == pytest.approx(0)
    assert pilot.sd_paired == pytest.approx(1)
    assert set(pilot.margins) == {3, 5, 8, 12}


def test_the_studys_own_baseline_is_the_pilots_first_run(tmp_path: Path) -> None:
    """Where only the second runs were made, they are paired with the baseline's: 40, 50, 60 against 41, 50, 59."""
    folder = paired(tmp_path / "study")
    for seed, (road, car) in enumerate((("52/100", "30/100"), ("6/10", "4/10"), ("68/100", "5/10"))):
        folder.run("recipe again", seed, [road, car, None], folder="pilot")
    numbers = load_study(folder.path)

    assert numbers.pilot_blocks == (3, 3)
    assert numbers.pilot is not None
    assert numbers.pilot.mean_difference == pytest.approx(0)
    assert numbers.pilot.sd_paired == pytest.approx(1)


def test_pilot_of_one_block_is_none(tmp_path: Path) -> None:
    """A single complete block gives no spread, and a failed run no complete block."""
    folder = paired(tmp_path / "study")
    for seed in range(2):
        folder.run("recipe", seed, ["1/2"] * 3, folder="pilot")
        folder.run("recipe again", seed, ["1/2"] * 3 if seed else None, folder="pilot")
    numbers = load_study(folder.path)

    assert numbers.pilot is None
    assert numbers.pilot_blocks == (1, 2)


# --- errors ---------------------------------------------------------------------------------------


def test_folder_that_is_no_study(tmp_path: Path) -> None:
    """A missing folder and one without study.yaml are told apart."""
    with pytest.raises(StudyError, match="is not a study's folder: there is no folder"):
        load_study(tmp_path / "none")
    with pytest.raises(StudyError, match=r"is not a study's folder: there is no study\.yaml"):
        load_study(tmp_path)


def test_study_without_a_finished_run(tmp_path: Path) -> None:
    """The error counts what failed and what is missing."""
    folder = StudyFolder(tmp_path / "study")
    folder.study({"Baseline": {}, "A": {}}, seeds=3)
    folder.run("A", 0, None)
    with pytest.raises(StudyError, match=r"has no finished run \(1 failed, 5 of 6 not run\)"):
        load_study(folder.path)


def test_study_whose_baseline_has_no_run(tmp_path: Path) -> None:
    """There is nothing to compare with yet."""
    folder = StudyFolder(tmp_path / "study")
    folder.study({"Baseline": {}, "A": {}}, seeds=3)
    folder.run("A", 0, ["1/2"] * 3)
    with pytest.raises(StudyError, match="no run of the baseline 'Baseline'"):
        load_study(folder.path)


@pytest.mark.parametrize("text", ["", "{", '{"format": 99}', "[1]"])
def test_damaged_result(tmp_path: Path, text: str) -> None:
    """A damaged result is one sentence that names the file."""
    folder = paired(tmp_path / "study")
    (folder.path / "runs/A/seed-1/result.json").write_text(text)
    with pytest.raises(ResultsError, match=r"runs/A/seed-1/result\.json"):
        load_study(folder.path)


def test_run_that_was_not_planned(tmp_path: Path) -> None:
    """A run of another arm or seed is refused, so that no block slips in after a look."""
    folder = paired(tmp_path / "study")
    folder.run("A", 3, ["1/2"] * 3)
    with pytest.raises(ResultsError, match=r"holds a run of arm 'A' with seed 3, expected one that study\.yaml plans"):
        load_study(folder.path)


def test_run_that_is_there_twice(tmp_path: Path) -> None:
    """Two folders with the same arm and seed are refused."""
    folder = paired(tmp_path / "study")
    copy = folder.path / "runs/copy/seed-0"
    copy.mkdir(parents=True)
    (copy / "result.json").write_bytes((folder.path / "runs/A/seed-0/result.json").read_bytes())
    with pytest.raises(ResultsError, match="holds a second run of arm 'A' with seed 0"):
        load_study(folder.path)


def test_runs_scored_otherwise(tmp_path: Path) -> None:
    """Runs with other classes or other absent classes are not compared."""
    folder = paired(tmp_path / "study")
    folder.run("A", 1, ["1/2", "1/2", "1/2"])
    with pytest.raises(ResultsError, match=r"with the absent classes \(0\) .* expected the same for all runs"):
        load_study(folder.path)
    folder.run("A", 1, ["1/2", "1/2", None], names=("road", "bus", "sky"))
    with pytest.raises(ResultsError, match=r"with the classes \(3\) road, bus, sky"):
        load_study(folder.path)


def test_damaged_facts_and_study(tmp_path: Path) -> None:
    """Both name the file."""
    folder = paired(tmp_path / "study")
    (folder.path / "facts.json").write_text("[]")
    with pytest.raises(ResultsError, match=r"facts\.json holds list, expected a JSON object"):
        load_study(folder.path)
    (folder.path / "study.yaml").write_text("name: 3")
    with pytest.raises(ConfigError, match=r"study\.yaml"):
        load_study(folder.path)


def test_report_needs_no_torch(tmp_path: Path) -> None:
    """A report is rebuilt from its folder without importing torch."""
    folder = paired(tmp_path / "study").path
    code = (
        "import pathlib, sys; from semalign.report import write_report; "
        "write_report(pathlib.Path(sys.argv[1])); sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, str(folder)], check=True)
