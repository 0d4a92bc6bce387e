"""What a study's file says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from semalign.config import read_yaml, resolve_defaults, validate
from semalign.config.study import StudyOptions, arm_options
from semalign.errors import ConfigError, StudyError
from semalign.model.build import build_segmenter
from semalign.study.design import builtin_studies, read_study
from semalign.train.run import build_model

EXAMPLES = Path(__file__).parents[2] / "examples" / "studies"


def study(**changes: Any) -> dict[str, Any]:
    """Return a small sound study as plain values."""
    value: dict[str, Any] = {
        "name": "small",
        "question": "Does it?",
        "data": "scenes",
        "baseline": "x",
        "arms": {"x": {}, "y": {"train.lr": "1e-3"}},
        "options": {"train": {"epochs": 3}, "train.lr": 0.5},
    }
    return value | changes


def write(path: Path, value: dict[str, Any]) -> str:
    """Write a study's file and return its name."""
    path.write_text(yaml.safe_dump(value, sort_keys=False, allow_unicode=True))
    return str(path)


def test_a_study_by_hand(tmp_path: Path) -> None:
    """An arm's options lie over the study's; defaults are five blocks and a margin of one point."""
    read = read_study(write(tmp_path / "study.yaml", study()))

    assert (read.seeds, read.margin, read.alpha, read.pilot_blocks) == (5, 1.0, 0.05, 3)
    assert list(read.arms) == ["x", "y"]
    assert (arm_options(read, "x").train.lr, arm_options(read, "x").train.epochs) == (0.5, 3)
    assert (arm_options(read, "y").train.lr, arm_options(read, "y").train.epochs) == (1e-3, 3)


def test_seeds_data_and_settings_from_outside(tmp_path: Path) -> None:
    """The command line fixes blocks, data, margin and options of all arms; an arm's own option still wins."""
    spec = write(tmp_path / "study.yaml", study())

    read = read_study(spec, data="here", seeds=7, assignments=["margin=0.5", "train.lr=0.25", "data.size=[48, 64]"])

    assert (read.data, read.seeds, read.margin) == ("here", 7, 0.5)
    assert arm_options(read, "x").train.lr == 0.25
    assert arm_options(read, "y").train.lr == 1e-3
    assert arm_options(read, "y").data.size == (48, 64)


@pytest.mark.parametrize("name", sorted(builtin_studies()))
def test_built_in_studies(name: str) -> None:
    """Every built-in study is sound: its head says question, source, time and command, and every arm can be built."""
    read = read_study(name, data="scenes")
    head = builtin_studies()[name].read_text(encoding="utf-8").split("name:")[0]

    assert read.name == name
    assert [line.split(":")[0] for line in head.splitlines() if re.match(r"# \w+:", line)] == [
        "# Question",
        "# Source",
        "# Time",
        "# Command",
    ]
    assert {row.arm for table in read.tables for row in table.rows} == set(read.arms)
    for arm in read.arms:
        options = resolve_defaults(arm_options(read, arm), "scenes")
        text_dim = None if options.data.text == "none" else 5
        build_model(options, 3, text_dim, text_dim, seed=0)


def test_the_documents_arms() -> None:
    """The four arms of the document flip encoder temperature and both gates, and nothing else."""
    read = read_study("ablations", data="scenes")

    def learnable(arm: str) -> tuple[bool, bool, bool, bool]:
        align = arm_options(read, arm).align
        model = build_segmenter(
            2,
            text_dim=5,
            encoder_knobs=align.encoder.model_dump(exclude_none=True, include={"temperature", "gate"}),
            decoder_knobs=align.decoder.model_dump(exclude_none=True, include={"temperature", "gate"}),
        )
        names = {name for name, _ in model.named_parameters()}
        encoder = "visual_encoder.stages.1.blocks.0.alignment"
        decoder = "decoder.alignments.0"
        return tuple(  # type: ignore[return-value]
            f"{site}.{knob}" in names for site in (encoder, decoder) for knob in ("temperature.log_scale", "gate.theta")
        )

    assert {arm: learnable(arm) for arm in ("Baseline", "A", "B", "C")} == {
        "Baseline": (False, True, True, True),
        "A": (True, True, True, True),
        "B": (False, False, True, False),
        "C": (True, False, True, False),
    }
    for arm, kind in (("no text", "none"), ("random vectors", "random"), ("mask texts", "masks")):
        assert read.arms[arm] == {"data.text": kind}


@pytest.mark.parametrize("name", ["ablation-1", "ablation-2"])
def test_the_two_ablations_are_parts_of_both(name: str) -> None:
    """`ablations` holds the arms of both under the same names and options, so that runs can be shared."""
    whole, part = read_study("ablations", data="scenes"), read_study(name, data="scenes")

    assert part.arms.items() <= whole.arms.items()
    assert part.contrasts == whole.contrasts == "ablations"


@pytest.mark.skipif(not EXAMPLES.is_dir(), reason="the examples are not part of the installed package")
def test_examples() -> None:
    """The example studies are sound."""
    files = sorted(EXAMPLES.glob("*.yaml"))

    assert files
    for file in files:
        read_study(str(file), data="scenes")


def test_what_a_study_writes_it_reads(tmp_path: Path) -> None:
    """A study as plain values and back is the same study, whatever its arms are called."""
    arms = {name: {"train.seed": 1} for name in ("1e-3", "no", "7", "2025-01-01", "名: #1", "x")}
    read = validate(StudyOptions, study(arms=arms), "the test")
    spec = write(tmp_path / "study.yaml", read.model_dump(mode="json", exclude_none=True))

    assert read_study(spec) == read
    assert read_yaml(Path(spec)) == read.model_dump(mode="json", exclude_none=True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"baseline": "z"}, "the baseline 'z' is no arm, known arms: x, y"),
        ({"arms": {"x": {}}}, "got the single arm 'x', expected at least two to compare"),
        ({"arms": {"x": {}, "y": None}}, r"option arms\.y in .* got null: input should be an object"),
        ({"arms": {"x": {}, "y": {"train.epoch": 3}}}, r"unknown option train\.epoch in arm y of study small, did you"),
        ({"arms": {"x": {}, "y": {"train.epochs": 0}}}, r"option train\.epochs in arm y of study small got 0"),
        ({"options": {"train": {"epoch": 3}}}, r"unknown option train\.epoch in the options of study small, did you"),
        ({"options": [1]}, r"option options in .* got \[1\]: input should be an object"),
        ({"seeds": 0}, "option seeds in .* got 0: input should be greater than or equal to 1"),
        ({"seeds": 2.5}, "option seeds in .* got 2.5: input should be a valid integer"),
        ({"margin": 0}, "option margin in .* got 0: input should be greater than 0"),
        ({"margin": float("nan")}, "option margin in .* got NaN: input should be a finite number"),
        ({"alpha": 1.0}, "option alpha in .* got 1.0: input should be less than 1"),
        ({"contrasts": "all"}, "input should be 'ablations' or 'against-baseline'"),
        ({"seed": 3}, r"unknown option seed in .*study\.yaml, did you mean 'seeds'\?"),
        ({"zzz": 3}, "unknown option zzz in .*, known: alpha, arms, baseline, contrasts, data, margin, name, options,"),
        ({"question": None}, "option question in .* got null: input should be a valid string"),
    ],
)
def test_bad_studies(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    """What does not fit is named, with the arm or the file it stands in."""
    with pytest.raises(ConfigError, match=message):
        read_study(write(tmp_path / "study.yaml", study(**changes)))


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (
            {"title": "T", "columns": ["a"], "rows": [{"arm": "z", "cells": ["1"]}]},
            "table 'T' names the unknown arm 'z'",
        ),
        ({"title": "T", "columns": ["a", "b"], "rows": [{"arm": "x", "cells": ["1"]}]}, "2 columns and x 1 cells"),
        (
            {"title": "T", "columns": ["a"], "rows": [{"arm": "x", "cells": ["1"], "cel": []}]},
            r"unknown option tables\.0\.rows\.0\.cel in .*, did you mean 'tables\.rows\.cells'\?",
        ),
        (
            {"title": "T", "columns": ["a"], "rows": [{"arm": "x", "cell": ["1"]}]},
            r"option tables\.0\.rows\.0\.cells in .*: field required \(and 1 more\)",
        ),
    ],
)
def test_bad_tables(tmp_path: Path, table: dict[str, Any], message: str) -> None:
    """A table whose rows do not fit its columns or the arms is refused before any run."""
    with pytest.raises(ConfigError, match=message):
        read_study(write(tmp_path / "study.yaml", study(tables=[table])))


def test_no_such_study(tmp_path: Path) -> None:
    """An unknown name lists the built-in ones or names the nearest; no seeds and no data are refused."""
    with pytest.raises(StudyError, match=r"unknown study 'ablation', did you mean 'ablation"):
        read_study("ablation")
    with pytest.raises(StudyError, match=r"unknown study 'zzz', known: ablation-1, ablation-2, ablations, demo \(or a"):
        read_study("zzz")
    with pytest.raises(StudyError, match=r"no study file at .*none\.yaml"):
        read_study(str(tmp_path / "none.yaml"))
    with pytest.raises(StudyError, match="--seeds got 0, expected at least 1"):
        read_study("ablations", seeds=0)
    with pytest.raises(StudyError, match="the study ablations names no data, add --data DATA"):
        read_study("ablations")
