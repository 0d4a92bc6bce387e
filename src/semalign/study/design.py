"""From the name of a study or its file to its arms, seeds and margin."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from semalign.config import Options, merge, read_yaml, resolve_defaults, to_dict, validate
from semalign.config.reader import nested, settings
from semalign.config.study import StudyOptions, arm_options
from semalign.errors import ConfigError, StudyError, nearest
from semalign.judge.contrasts import contrasts_of
from semalign.judge.verdict import Contrast

__all__ = [
    "PILOT_ARMS",
    "PlannedRun",
    "builtin_studies",
    "pilot_runs",
    "planned_runs",
    "read_study",
    "slug",
    "study_contrasts",
]

PILOT_ARMS = ("recipe", "recipe again")
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
        options: resolved options.
        folder: where the run lives, relative to the study's folder.
        after: the folder of a run that must have finished before, or None.
    """

    arm: str
    seed: int
    options: Options
    folder: str
    after: str | None = None


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
    known = builtin_studies()
    path = known.get(spec)
    if path is None:
        path = Path(spec)
        if path.suffix not in (".yaml", ".yml"):
            raise StudyError(f"unknown study '{spec}'{nearest(spec, known)} (or a YAML file)")
        if not path.is_file():
            raise StudyError(f"no study file at {spec}{nearest(path.stem, known)}")
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
        validate(Options, rest, "--set")
        value |= own
        if "looks" in own and seeds is None:
            value.pop("seeds", None)
        value["options"] = merge(nested(_mapping(value.get("options"), path)), rest)
    study = validate(StudyOptions, value, str(path))
    if study.data is None:
        raise StudyError(f"the study {study.name} names no data, add --data DATA (a folder, or scenes)")
    for arm in study.arms:
        arm_options(study, arm)
    return study


def _mapping(value: Any, path: Path) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise ConfigError(f"options in {path} hold {type(value).__name__}, expected a mapping of option names")
    return value


def slug(arm: str) -> str:
    """Return an arm's name as a folder's.

    >>> slug("no text"), slug("A/B ü")
    ('no-text', 'a-b-ü')
    """
    return re.sub(r"[\W_]+", "-", arm.lower()).strip("-") or "arm"


def planned_runs(study: StudyOptions) -> list[PlannedRun]:
    """Return all runs, block by block, so that a stopped study has whole blocks.

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
    options = run_options(study, arm, seed)
    source = study.matched.get(arm)
    folder = f"runs/{slug(arm)}/seed-{seed}"
    if source is None:
        return PlannedRun(arm, seed, options, folder)
    after = f"runs/{slug(source)}/seed-{seed}"
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

    The first are the study's own runs of the baseline, so they cost nothing more.
    """
    second = PILOT_ARMS[1]
    runs = []
    for seed in range(min(study.pilot_blocks, study.blocks)):
        options = run_options(study, study.baseline, seed)
        runs.append(PlannedRun(study.baseline, seed, options, f"runs/{slug(study.baseline)}/seed-{seed}"))
        changed = validate(Options, merge(to_dict(options), {"train": {"nudge": NUDGE}}), "the pilot")
        runs.append(PlannedRun(second, seed, changed, f"pilot/{slug(second)}/seed-{seed}"))
    return runs


def run_options(study: StudyOptions, arm: str, seed: int) -> Options:
    """Return the resolved options of one run."""
    kind = "scenes" if study.data == "scenes" else "folder"
    options = resolve_defaults(arm_options(study, arm), kind)
    return validate(Options, merge(to_dict(options), {"train": {"seed": seed}}), f"arm {arm} of study {study.name}")
