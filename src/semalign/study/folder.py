"""A study's folder: who may use it, which study and data it belongs to, and which of its runs are missing."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from semalign import layout
from semalign.config import read_yaml, to_dict
from semalign.config.study import StudyOptions
from semalign.errors import OutputError, ResultsError, StudyError
from semalign.files import make_folder, read_json, write_json, write_text
from semalign.results import read_result
from semalign.study.design import PlannedRun

__all__ = ["check_study_folder", "claim_study_folder", "unfinished"]


def check_study_folder(folder: Path, study: StudyOptions) -> bool:
    """Return whether ``folder`` holds this study already; False where it can become its own.

    Raises:
        OutputError: the folder holds a run or another study, or is not a folder.
    """
    file = folder / layout.STUDY
    value = to_dict(study)
    if file.exists():
        found = read_yaml(file)
        different = [name for name in [*value, *found] if found.get(name) != value.get(name)]
        if different:
            name = different[0]
            raise OutputError(
                f"the output folder {folder} holds another study ({name} is {_short(found.get(name))} there and "
                f"{_short(value.get(name))} here): name another with --out"
            )
        return True
    if (folder / layout.CONFIG).exists() or (folder / layout.RESULT).exists():
        raise OutputError(f"the output folder {folder} holds a run, expected an empty one: name another with --out")
    if (folder / layout.RESULTS_TABLE).exists() or (folder / layout.RUNS).exists():
        raise OutputError(f"the output folder {folder} holds other results, name another with --out")
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"the output folder {folder} is a file, name a folder with --out")
    return False


def claim_study_folder(folder: Path, study: StudyOptions, facts: dict[str, Any]) -> None:
    """Make ``folder`` this study's own; continuing the same study on the same data is allowed.

    Raises:
        OutputError: the folder holds a run or another study, or cannot be written.
        StudyError: the data have changed since the study was begun.
    """
    if check_study_folder(folder, study):
        _check_same_data(folder / layout.FACTS, facts)
        return
    is_new = not folder.exists()
    make_folder(folder)
    try:
        write_json(folder / layout.FACTS, facts)
        write_text(folder / layout.STUDY, yaml.safe_dump(to_dict(study), sort_keys=False, allow_unicode=True))
    except OutputError:
        (folder / layout.FACTS).unlink(missing_ok=True)
        if is_new:
            folder.rmdir()
        raise


def _check_same_data(file: Path, facts: dict[str, Any]) -> None:
    """Refuse to mix runs on different images under one name."""
    try:
        before = read_json(file)["data"]["fingerprints"]
    except FileNotFoundError:
        return
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise StudyError(
            f"cannot read {file} ({type(error).__name__}), in which the study's data are described: restore the file, "
            "or begin the study in another folder with --out"
        ) from error
    for split, now in facts.get("data", {}).get("fingerprints", {}).items():
        if before.get(split) != now:
            raise StudyError(
                f"the split '{split}' of the data has changed since the study in {file.parent} was begun, expected the "
                "same files: restore them, or begin the study anew in another folder with --out"
            )


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."


def unfinished(folder: Path, runs: Iterable[PlannedRun]) -> list[PlannedRun]:
    """Return the runs without a result, each folder once; a damaged result raises rather than being run over."""
    lacking = {}
    for run in runs:
        file = folder / run.folder / layout.RESULT
        if file.exists():
            try:
                read_result(file)
            except ResultsError as error:
                raise ResultsError(f"{error}; remove {file} to have it run again") from error
        else:
            lacking[run.folder] = run
    return list(lacking.values())
