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
from semalign.study.design import builtin_studies, planned_runs, read_study, study_contrasts
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
    """An arm's options lie over the study's; defaults are looks at 5, 8 and 12 blocks and a margin of one point."""
    read = read_study(write(tmp_path / "study.yaml", study()))

    assert (read.seeds, read.looks, read.blocks) == (None, (5, 8, 12), 12)
    assert (read.margin, read.alpha, read.pilot_blocks, read.futility) == (1.0, 0.05, 3, False)
    assert list(read.arms) == ["x", "y"]
    assert (arm_options(read, "x").train.lr, arm_options(read, "x").train.epochs) == (0.5, 3)
    assert (arm_options(read, "y").train.lr, arm_options(read, "y").train.epochs) == (1e-3, 3)


def test_seeds_data_and_settings_from_outside(tmp_path: Path) -> None:
    """The command line fixes blocks, data, margin and options of all arms; an arm's own option still wins."""
    spec = write(tmp_path / "study.yaml", study())

    read = read_study(spec, data="here", seeds=7, assignments=["margin=0.5", "train.lr=0.25", "data.size=[48, 64]"])

    assert (read.data, read.seeds, read.looks, read.blocks, read.margin) == ("here", 7, None, 7, 0.5)
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
    if read.tables:
        assert {row.arm for table in read.tables for row in table.rows} == set(read.arms)
    assert study_contrasts(read)
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
        decoder = "decoder.alignments.3"
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
        ({"baseline": "z"}, "the baseline 'z' is not an arm, known arms: x, y"),
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
        ({"contrasts": "all"}, "input should be 'ablations', 'against-baseline' or 'factors'"),
        ({"seed": 3}, r"unknown option seed in .*study\.yaml, did you mean 'seeds'\?"),
        ({"zzz": 3}, "unknown option zzz in .*, known: alpha, arms, baseline, command, contrasts, data, factors,"),
        ({"question": None}, "option question in .* got null: expected a text"),
    ],
)
def test_bad_studies(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    """What does not fit is named, with the arm or the file it stands in."""
    with pytest.raises(ConfigError, match=message):
        read_study(write(tmp_path / "study.yaml", study(**changes)))


FACTORS = {"f": {"0": {}, "1": {"train.lr": 0.1}}, "g": {"0": {}, "1": {"train.clip_norm": 1.0}, "2": {}}}
TWO = {name: {"a": {}, "b": {option: 0.25}} for name, option in (("p", "train.lr"), ("q", "train.average"))}
THREE = TWO | {"r": {"a": {}, "b": {"train.scalar_lr": 0.5}}}


def with_factors(**changes: Any) -> dict[str, Any]:
    """Return a study whose arms are made from factors."""
    value = {"name": "small", "question": "Does it?", "data": "scenes", "factors": FACTORS}
    return value | changes


def test_factors_by_hand(tmp_path: Path) -> None:
    """Every combination of levels is an arm, named for what differs from the first levels."""
    read = read_study(write(tmp_path / "study.yaml", with_factors()))

    assert read.arms == {
        "Baseline": {},
        "g 1": {"train": {"clip_norm": 1.0}},
        "g 2": {},
        "f 1": {"train": {"lr": 0.1}},
        "f 1 + g 1": {"train": {"lr": 0.1, "clip_norm": 1.0}},
        "f 1 + g 2": {"train": {"lr": 0.1}},
    }
    assert read.levels["f 1 + g 2"] == {"f": "1", "g": "2"}
    assert read.contrasts == "factors"
    assert [contrast.name for contrast in study_contrasts(read)] == ["f: 1 - 0", "g: 1 - 0", "g: 2 - 0"]
    assert arm_options(read, "f 1 + g 1").train.lr == 0.1


def test_half_of_a_design(tmp_path: Path) -> None:
    """The half that holds the baseline has the arms that differ from it in an even number of factors."""
    read = read_study(write(tmp_path / "study.yaml", with_factors(factors=THREE, fraction="half")))

    assert list(read.arms) == ["Baseline", "q b + r b", "p b + r b", "p b + q b"]
    assert [contrast.name for contrast in study_contrasts(read)] == ["p: b - a", "q: b - a", "r: b - a"]


def test_factors_written_are_read_again(tmp_path: Path) -> None:
    """A study with factors keeps its arms beside them, and both are read as the same study."""
    read = read_study(write(tmp_path / "study.yaml", with_factors(factors=THREE, fraction="half")))
    spec = write(tmp_path / "again.yaml", read.model_dump(mode="json", exclude_none=True))

    assert read_study(spec) == read


def test_listed_effects(tmp_path: Path) -> None:
    """Effects may be listed with weights of their own."""
    effect = {"name": "e", "weights": {"y": 2, "x": -2}, "question": "Twice?", "above": "more"}
    read = read_study(write(tmp_path / "study.yaml", study(contrasts=[effect])))

    (contrast,) = study_contrasts(read)
    assert (contrast.name, dict(contrast.weights), contrast.above) == ("e", {"y": 2.0, "x": -2.0}, "more")
    lame = study(contrasts=[effect | {"weights": {"y": 1, "x": 1}}])
    with pytest.raises(StudyError, match="expected at least two arms with finite weights that add up to 0"):
        study_contrasts(read_study(write(tmp_path / "lame.yaml", lame)))


def test_a_matched_run_waits_for_its_source(tmp_path: Path) -> None:
    """The run of a matched arm takes the values of the same seed's run of the other."""
    read = read_study(write(tmp_path / "study.yaml", study(arms={"x": {}, "y y": {}}, matched={"y y": "x"}, seeds=2)))
    runs = {(run.arm, run.seed): run for run in planned_runs(read)}

    assert runs["y y", 1].after == "runs/x/seed-1"
    assert runs["y y", 1].training.align.values_from == "runs/x/seed-1"
    assert runs["x", 1].after is None
    assert runs["x", 1].training.align.values_from is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seeds": 3, "looks": [5, 8]}, r"both seeds 3 and looks \[5, 8\] are given, expected one of them"),
        ({"looks": [5, 5]}, r"the looks \[5, 5\] do not grow"),
        (
            {"looks": [2, 1000]},
            "look at 2 of 1000 blocks could decide nothing, expected the first one at 50 blocks",
        ),
        ({"margin": 100}, "option margin.* got 100"),
        (
            {"contrasts": [{"name": "e", "weights": {"y": sign, "x": -sign}} for sign in (1, -1)]},
            "two contrasts are called 'e', expected names that differ: rename one",
        ),
        ({"looks": []}, "option looks in .*at least 1 item"),
        ({"looks": [1, 3]}, "option looks.* got 1: input should be greater than or equal to 2"),
        ({"seeds": 3, "futility": True}, "futility is true and the study has a fixed number of seeds"),
        ({"fraction": "half"}, "fraction is given without factors"),
        ({"contrasts": "factors"}, "contrasts are 'factors' and there are none"),
        ({"factors": {"f": {"0": {}}}, "arms": {}}, "the factor 'f' has 1 level, expected at least two"),
        ({"factors": TWO, "fraction": "half", "arms": {}}, "fraction 'half' needs at least three factors"),
        ({"factors": TWO, "baseline": "x"}, "both arms and factors are given, expected one of them"),
        ({"matched": {"z": "x"}}, "matched names the unknown arm 'z'"),
        ({"matched": {"y": "z"}}, "matched names the unknown arm 'z'"),
        ({"matched": {"y": "y"}}, "expected an arm that is not matched itself"),
        ({"matched": {"y": "x", "x": "y"}}, "expected an arm that is not matched itself"),
        ({"contrasts": [{"name": "e", "weights": {"z": 1, "x": -1}}]}, "contrast 'e' names the unknown arm 'z'"),
    ],
)
def test_bad_designs(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    """A design that contradicts itself is refused when it is read."""
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
    with pytest.raises(
        StudyError, match=r"unknown study 'zzz', known: ablation-1, ablation-2, ablations, demo, factorial,"
    ):
        read_study("zzz")
    with pytest.raises(StudyError, match=r"no study file at .*none\.yaml"):
        read_study(str(tmp_path / "none.yaml"))
    with pytest.raises(StudyError, match="--seeds got 0, expected at least 1"):
        read_study("ablations", seeds=0)
    with pytest.raises(StudyError, match="the study ablations names no data, add --data DATA"):
        read_study("ablations")
