"""A run's folder: what it holds before, during and after training.

config.yaml and command.txt before a run starts, state.safetensors while it runs, weights.safetensors and result.json
when it has finished.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import yaml

from semalign.config import Options, flatten, read_yaml, to_dict, validate
from semalign.errors import OutputError, SemalignError
from semalign.files import make_folder, write_text
from semalign.locks import LOCK_FILE

__all__ = ["COMMAND_FILE", "CONFIG_FILE", "RESULT_FILE", "STATE_FILE", "claim_run_folder", "release_run_folder"]

CONFIG_FILE = "config.yaml"
COMMAND_FILE = "command.txt"
RESULT_FILE = "result.json"
STATE_FILE = "state.safetensors"
STUDY_FILE = "study.yaml"


def claim_run_folder(folder: Path, options: Options, command: str, *, resume: bool) -> bool:
    """Make ``folder`` this run's own and return whether it has finished before.

    Raises:
        OutputError: the folder holds a study, another run, or this run without ``resume``; or it cannot be written.
    """
    if (folder / STUDY_FILE).exists():
        raise OutputError(f"the output folder {folder} holds a study, expected an empty one: name another with --out")
    config = folder / CONFIG_FILE
    if config.exists():
        _check_same(config, options)
        if not resume:
            raise OutputError(
                f"the output folder {folder} holds this run already: add --resume to go on with it, or name another "
                "with --out"
            )
        return (folder / RESULT_FILE).exists()
    if (folder / RESULT_FILE).exists() or (folder / "weights.safetensors").exists():
        raise OutputError(f"the output folder {folder} holds another run, name another with --out")
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"the output folder {folder} is a file, name a folder with --out")
    make_folder(folder)
    try:
        write_text(folder / COMMAND_FILE, command + "\n")
        write_text(config, yaml.safe_dump(to_dict(options), sort_keys=False, allow_unicode=True))
    except OutputError:
        release_run_folder(folder)
        raise
    return False


def release_run_folder(folder: Path) -> None:
    """Take back a claim that came to nothing: remove its files, and the folder with them if nothing else is there."""
    if not {entry.name for entry in folder.iterdir()} - {COMMAND_FILE, CONFIG_FILE, LOCK_FILE}:
        for name in (COMMAND_FILE, CONFIG_FILE):
            (folder / name).unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            folder.rmdir()


def _check_same(config: Path, options: Options) -> None:
    try:
        found: dict[str, Any] = flatten(to_dict(validate(Options, read_yaml(config), str(config))))
    except SemalignError as error:
        raise OutputError(
            f"the output folder {config.parent} holds an unreadable run ({error}), name another"
        ) from error
    asked = flatten(to_dict(options))
    for part in (found, asked):
        part.pop("train.tracker")
    different = sorted(name for name in found.keys() | asked.keys() if found.get(name) != asked.get(name))
    if different:
        name = different[0]
        more = f" and {len(different) - 1} more" if len(different) > 1 else ""
        raise OutputError(
            f"the output folder {config.parent} holds another run ({name} is {found.get(name)!r} there and "
            f"{asked.get(name)!r} here{more}), name another with --out"
        )
