"""From the name of a study or its file to its arms, seeds and margin."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

from semalign.config import Options, kind_of, merge, read_yaml, resolve_defaults, to_dict, validate
from semalign.config.reader import nested, settings
from semalign.config.study import StudyOptions, arm_options
from semalign.errors import ConfigError, StudyError, nearest
from semalign.judge.contrasts import contrasts_of
from semalign.judge.types import Contrast
from semalign.layout import PILOT_RUNS, run_folder, slug
from semalign.presets import PILOT_ARMS
from semalign.study.command import CommandOptions, check_command, command_options

__all__ = [
    "Outcome",
    "PlannedRun",
    "builtin_studies",
    "pilot_runs",
    "planned_runs",
    "read_protocol",
    "read_study",
    "study_contrasts",
]

DEMO_FILE = Path(str(resources.files("semalign.study") / "designs" / "demo.yaml"))

OWN_OPTIONS = ("margin", "alpha", "pilot_blocks", "looks", "futility")
"""What --set changes in the study itself."""

NUDGE = 1e-6
"""Relative size of the change of initial weights that makes the pilot's second run another draw of the same recipe."""


@dataclasses.dataclass(frozen=True)
class PlannedRun:
    """One arm of one block.

    Attributes:
        arm: the arm's name.
        seed: the run's seed, which is its block.
        options: resolved options; of a study with a command what makes its runs.
        folder: where the run lives, relative to the study's folder.
        after: the folder of a run that must have finished before, or None.
    """

    arm: str
    seed: int
    options: Options | CommandOptions
    folder: str
    after: str | None = None

    @property
    def training(self) -> Options:
        """The options of a run that we train ourselves."""
        assert isinstance(self.options, Options), "a study without a command trains its runs"
        return self.options


class Outcome(NamedTuple):
    """What became of one run, as its process tells it.

    Attributes:
        status: "finished" or "failed".
        miou: the score in [0, 1], None for a failed run.
        seconds: wall time in this process.
        warned: each warning of the process with its category.
    """

    status: str
    miou: float | None
    seconds: float
    warned: tuple[tuple[str, type[Warning]], ...]


def builtin_studies() -> dict[str, Path]:
    """Return the built-in study files by name."""
    folder = Path(str(resources.files("semalign.study") / "designs"))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def read_study(
    spec: str,
    *,
    data: str | None = None,
    seeds: int | None = None,
    assignments: Iterable[str] = (),
) -> StudyOptions:
    """Return the study that ``spec`` names: a built-in name or a YAML file.

    Args:
        spec: the name or the file.
        data: overrides the study's data.
        seeds: overrides the number of blocks, fixed before any run.
        assignments: options of all arms as "a.b=c".

    Raises:
        StudyError: an unknown study, no seeds, or no data.
        ConfigError: the file or an option in it is wrong.
    """
    path = _study_file(spec)
    value = read_yaml(path)
    if seeds is not None:
        if seeds < 1:
            raise StudyError(f"--seeds got {seeds}, expected at least 1, and at least 2 for an interval")
        # Fixed beforehand and judged once: there are no looks then.
        value = {name: item for name, item in value.items() if name not in ("looks", "futility")} | {"seeds": seeds}
    if data is not None:
        value["data"] = data
    changes = settings(assignments)
    if changes:
        # A study's own options can be set too; all others are options of the arms.
        own = {name: item for name, item in changes.items() if name in OWN_OPTIONS}
        rest = {name: item for name, item in changes.items() if name not in own}
        if value.get("command") is None:
            validate(Options, rest, "--set")
        value |= own
        if "looks" in own and seeds is None:
            value.pop("seeds", None)
        value["options"] = merge(nested(_mapping(value.get("options"), path)), rest)
    if value.get("command") is not None:
        # A script of the user's gives the same score for the same seed, or should: its pilot is run when asked for.
        value = {"pilot_blocks": 0} | value
        study = validate(StudyOptions, value, str(path))
        check_command(study)
        return study
    study = validate(StudyOptions, value, str(path))
    if study.data is None:
        raise StudyError(f"the study {study.name} names no data, add --data DATA (a folder, or scenes)")
    for arm in study.arms:
        arm_options(study, arm)
    return study


def read_protocol(spec: str) -> StudyOptions:
    """Return what a study has fixed beforehand, for judging: its data and the options of its arms are not read.

    Raises:
        StudyError: an unknown study.
        ConfigError: the file is not a study.
    """
    path = _study_file(spec)
    return validate(StudyOptions, read_yaml(path), str(path))


def _study_file(spec: str) -> Path:
    known = builtin_studies()
    if spec in known:
        return known[spec]
    path = Path(spec)
    if path.suffix not in (".yaml", ".yml"):
        raise StudyError(f"unknown study '{spec}'{nearest(spec, known)} (or a YAML file)")
    if not path.is_file():
        raise StudyError(f"no study file at {spec}{nearest(path.stem, known)}")
    return path


def _mapping(value: Any, path: Path) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise ConfigError(f"options in {path} hold {type(value).__name__}, expected a mapping of option names")
    return value


def planned_runs(study: StudyOptions) -> list[PlannedRun]:
    """Return all runs, block by block, so that an interrupted study has whole blocks.

    Raises:
        StudyError: two arms whose names make the same folder.
    """
    folders: dict[str, str] = {}
    for arm in study.arms:
        other = folders.setdefault(slug(arm), arm)
        if other != arm:
            raise StudyError(f"the arms '{other}' and '{arm}' would share the folder '{slug(arm)}', rename one")
    return [planned_run(study, arm, seed) for seed in range(study.blocks) for arm in study.arms]


def planned_run(study: StudyOptions, arm: str, seed: int) -> PlannedRun:
    """Return one run; that of a matched arm waits for the run whose learned values it takes."""
    folder = run_folder(arm, seed)
    if study.command is not None:
        return PlannedRun(arm, seed, command_options(study, arm, seed), folder)
    options = run_options(study, arm, seed)
    source = study.matched.get(arm)
    if source is None:
        return PlannedRun(arm, seed, options, folder)
    after = run_folder(source, seed)
    options = validate(Options, merge(to_dict(options), {"align": {"values_from": after}}), f"arm {arm}")
    return PlannedRun(arm, seed, options, folder, after)


def study_contrasts(study: StudyOptions) -> tuple[Contrast, ...]:
    """Return the effects that the study judges.

    Raises:
        StudyError: there is none, or one has weights that do not add up to 0.
    """
    return contrasts_of(study.effects, study.arms, study.baseline, study.levels)


def pilot_runs(study: StudyOptions) -> list[PlannedRun]:
    """Return the pilot's runs: the baseline's recipe, and the same with initial weights changed by chance alone.

    The first are the study's own runs of the baseline, so they cost nothing more.  What chance means to a command is
    unknown: its second runs repeat the same command line, and show the noise of a script that is not deterministic.
    """
    second = PILOT_ARMS[1]
    runs = []
    for seed in range(min(study.pilot_blocks, study.blocks)):
        if study.command is not None:
            first = planned_run(study, study.baseline, seed)
            runs += [first, PlannedRun(second, seed, first.options, run_folder(second, seed, PILOT_RUNS))]
            continue
        options = run_options(study, study.baseline, seed)
        runs.append(PlannedRun(study.baseline, seed, options, run_folder(study.baseline, seed)))
        changed = validate(Options, merge(to_dict(options), {"train": {"nudge": NUDGE}}), "the pilot")
        runs.append(PlannedRun(second, seed, changed, run_folder(second, seed, PILOT_RUNS)))
    return runs


def run_options(study: StudyOptions, arm: str, seed: int) -> Options:
    """Return the resolved options of one run."""
    options = resolve_defaults(arm_options(study, arm), kind_of(study.data))
    return validate(Options, merge(to_dict(options), {"train": {"seed": seed}}), f"arm {arm} of study {study.name}")
