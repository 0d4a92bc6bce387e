from __future__ import annotations

from pathlib import Path

import pytest

from semalign.errors import ConfigError, StudyError
from semalign.layout import slug
from semalign.presets import PILOT_ARMS
from semalign.study.design import (
    DEMO_FILE,
    NUDGE,
    builtin_studies,
    pilot_runs,
    planned_runs,
    read_study,
)

MINE = """
name: mine
question: Which?
data: scenes
baseline: plain
options: {train: {epochs: 3}, train.lr: 0.01}
arms:
  plain: {}
  faster: {train.lr: 0.02}
seeds: 3
"""


def write(folder: Path, text: str) -> str:
    """Write a study file and return its path."""
    (folder / "mine.yaml").write_text(text)
    return str(folder / "mine.yaml")


def test_built_in_studies_are_there_and_read() -> None:
    """The contract's names are known, each names its question and source, and their arms resolve."""
    known = builtin_studies()

    assert {"ablation-1", "ablation-2", "ablations", "demo"} <= known.keys()
    for name in known:
        study = read_study(name, data="scenes")
        assert str(study.question).endswith("?")
        assert study.source
        assert planned_runs(study)
    assert known["demo"] == DEMO_FILE


def test_ablations_are_the_documents() -> None:
    """Baseline, A, B, C as the document's tables say, and three controls."""
    study = read_study("ablations", data="scenes")
    runs = {run.arm: run.training for run in planned_runs(study)[: len(study.arms)]}

    assert list(runs) == ["Baseline", "A", "B", "C", "no text", "random vectors", "mask texts"]
    learnable = {
        arm: (
            runs[arm].align.encoder.temperature.learnable,
            runs[arm].align.encoder.gate.learnable,
            runs[arm].align.decoder.gate.learnable,
        )
        for arm in ("Baseline", "A", "B", "C")
    }
    assert learnable == {
        "Baseline": (None, None, None),
        "A": (True, None, None),
        "B": (None, False, False),
        "C": (True, False, False),
    }
    assert [runs[arm].data.text for arm in ("no text", "random vectors", "mask texts")] == ["none", "random", "masks"]


def test_both_ablations_share_their_arms() -> None:
    """ablation-1 and ablation-2 are parts of ablations."""
    whole = read_study("ablations", data="scenes").arms

    for name in ("ablation-1", "ablation-2"):
        part = read_study(name, data="scenes").arms
        assert {arm: whole[arm] for arm in part} == part


def test_runs_come_block_by_block(tmp_path: Path) -> None:
    """Seeds are blocks: all arms of seed 0, then of seed 1; a run's options hold its seed and the kind's defaults."""
    study = read_study(write(tmp_path, MINE), seeds=2)
    runs = planned_runs(study)

    assert [(run.arm, run.seed, run.folder) for run in runs] == [
        ("plain", 0, "runs/plain/seed-0"),
        ("faster", 0, "runs/faster/seed-0"),
        ("plain", 1, "runs/plain/seed-1"),
        ("faster", 1, "runs/faster/seed-1"),
    ]
    assert [(run.training.train.seed, run.training.train.lr, run.training.train.epochs) for run in runs[:3]] == [
        (0, 0.01, 3),
        (0, 0.02, 3),
        (1, 0.01, 3),
    ]
    assert runs[0].training.data.size == (48, 64)
    assert runs[0].training.data.text == "images"


def test_settings_reach_arms_or_the_study(tmp_path: Path) -> None:
    """margin, alpha and pilot_blocks are the study's own; all else is an option of every arm, below the arm's own."""
    study = read_study(
        write(tmp_path, MINE), assignments=["margin=0.5", "pilot_blocks=1", "train.epochs=7", "train.lr=0.5"]
    )
    runs = planned_runs(study)

    assert (study.margin, study.pilot_blocks) == (0.5, 1)
    assert [(run.training.train.epochs, run.training.train.lr) for run in runs[:2]] == [(7, 0.5), (7, 0.02)]


def test_the_pilot_is_the_baseline_twice(tmp_path: Path) -> None:
    """Its first runs are the study's own of the baseline; the second differ by the nudge alone."""
    study = read_study(write(tmp_path, MINE), assignments=["pilot_blocks=2"])
    own = {run.folder: run for run in planned_runs(study)}
    runs = pilot_runs(study)

    assert [run.folder for run in runs] == [
        "runs/plain/seed-0",
        "pilot/recipe-again/seed-0",
        "runs/plain/seed-1",
        "pilot/recipe-again/seed-1",
    ]
    assert runs[1].arm == PILOT_ARMS[1]
    assert runs[0] == own["runs/plain/seed-0"]
    for first, second in ((runs[0], runs[1]), (runs[2], runs[3])):
        assert second.training.train.nudge == NUDGE
        train = second.training.train.model_copy(update={"nudge": 0.0})
        assert second.training.model_copy(update={"train": train}) == first.options


def test_folders_of_arms() -> None:
    """Names become folders, Chinese ones too; nothing leads out of the study's folder."""
    assert slug("基线") == "基线"
    assert [slug(name) for name in ("no text", "A/B ü", "../..", "C")] == ["no-text", "a-b-ü", "arm", "c"]


@pytest.mark.parametrize(
    ("spec", "options", "error", "message"),
    [
        (
            "ablation-3",
            {},
            StudyError,
            r"unknown study 'ablation-3', did you mean 'ablation-[12]'\? \(or a YAML file\)",
        ),
        ("nothing.yaml", {}, StudyError, r"no study file at nothing\.yaml"),
        ("ablation-1", {"data": None}, StudyError, "names no data, add --data DATA"),
        ("ablation-1", {"seeds": 0}, StudyError, "--seeds got 0, expected at least 1, and at least 2"),
        ("ablation-1", {"seeds": -1}, StudyError, "--seeds got -1"),
        ("ablation-1", {"seeds": 10_001}, ConfigError, "seeds"),
        ("ablation-1", {"assignments": ["train.epocs=3"]}, ConfigError, r"did you mean 'train\.epochs'"),
        ("ablation-1", {"assignments": ["margin=-1"]}, ConfigError, "margin"),
        ("ablation-1", {"assignments": ["alpha=1"]}, ConfigError, "alpha"),
    ],
)
def test_studies_that_cannot_be(spec: str, options: dict[str, object], error: type[Exception], message: str) -> None:
    """An unknown study, no data, no seeds and bad options are refused by name."""
    with pytest.raises(error, match=message):
        read_study(spec, **{"data": "scenes", **options})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (("  faster: {train.lr: 0.02}", "  faster: {train.lr: -1}"), ConfigError, r"train\.lr in arm faster"),
        (
            ("  faster: {train.lr: 0.02}", "  faster: {train.rl: 1}"),
            ConfigError,
            r"unknown option train\.rl in arm fas",
        ),
        (("  faster: {train.lr: 0.02}", "  faster:"), ConfigError, "arms.faster"),
        (("  faster: {train.lr: 0.02}", ""), ConfigError, "single arm 'plain', expected at least two"),
        (
            ("baseline: plain", "baseline: simple"),
            ConfigError,
            "'simple' is not an arm, known arms: plain",
        ),
        (("options: {train", "options: [1, {train"), ConfigError, "YAML"),
        (("options: {train: {epochs: 3}, train.lr: 0.01}", "options: 3"), ConfigError, "options"),
        (("seeds: 3", "seed: 3"), ConfigError, "unknown option seed .*did you mean 'seeds'"),
    ],
)
def test_files_that_are_no_study(tmp_path: Path, change: tuple[str, str], error: type[Exception], message: str) -> None:
    """What is wrong in a study's file is named with its place."""
    assert change[0] in MINE
    with pytest.raises(error, match=message):
        read_study(write(tmp_path, MINE.replace(*change)))


def test_arms_of_one_folder(tmp_path: Path) -> None:
    """Two arms cannot share a folder."""
    study = read_study(write(tmp_path, MINE.replace("faster:", "PLAIN!:")))

    with pytest.raises(StudyError, match="the arms 'plain' and 'PLAIN!' would share the folder 'plain', rename one"):
        planned_runs(study)


def test_no_file_at_all(tmp_path: Path) -> None:
    """An empty file lacks everything, a folder is no file."""
    with pytest.raises(ConfigError, match="name"):
        read_study(write(tmp_path, ""), data="scenes")
    (tmp_path / "folder.yaml").mkdir()
    with pytest.raises(StudyError, match="no study file at"):
        read_study(str(tmp_path / "folder.yaml"), data="scenes")
