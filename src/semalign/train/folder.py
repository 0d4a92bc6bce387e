"""A run's folder: what it holds before, during and after training.

config.yaml and command.txt before a run starts, state.safetensors while it runs, weights.safetensors and result.json
when it has finished.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from semalign.config import Options, flatten, read_yaml, to_dict, validate
from semalign.errors import OutputError, SemalignError
from semalign.files import make_folder, remove_strays, write_text
from semalign.layout import COMMAND, CONFIG, LOCK, RESULT, STUDY, WEIGHTS
from semalign.locks import folder_lock

__all__ = ["claim_run_folder", "claimed", "is_finished", "release_run_folder"]


def is_finished(folder: Path) -> bool:
    """Return whether ``folder`` holds the result of a run."""
    return (folder / RESULT).exists()


@contextlib.contextmanager
def claimed(folder: Path, options: Options, command: str, *, resume: bool) -> Iterator[bool]:
    """Hold ``folder`` for this run while it is trained; yield whether the run has finished before.

    A new claim is taken back where the training ends with an error of ours before anything is saved.

    Raises:
        OutputError: as `claim_run_folder`, or another process holds the folder.
    """
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"the output folder {folder} is a file, name a folder with --out")
    is_new = not (folder / CONFIG).exists()
    with folder_lock(folder):
        has_finished = claim_run_folder(folder, options, command, resume=resume)
        if not has_finished:
            remove_strays(folder)
        try:
            yield has_finished
        except SemalignError:
            if is_new:
                release_run_folder(folder)
            raise


def claim_run_folder(folder: Path, options: Options, command: str, *, resume: bool) -> bool:
    """Make ``folder`` this run's own and return whether it has finished before.

    Raises:
        OutputError: the folder holds a study, another run, or this run without ``resume``; or it cannot be written.
    """
    if (folder / STUDY).exists():
        raise OutputError(f"the output folder {folder} holds a study, expected an empty one: name another with --out")
    config = folder / CONFIG
    if config.exists():
        _check_same(config, options)
        if not resume:
            raise OutputError(
                f"the output folder {folder} holds this run already: add --resume to go on with it, or name another "
                "with --out"
            )
        return is_finished(folder)
    if is_finished(folder) or (folder / WEIGHTS).exists():
        raise OutputError(f"the output folder {folder} holds another run, name another with --out")
    make_folder(folder)
    try:
        write_text(folder / COMMAND, command + "\n")
        write_text(config, yaml.safe_dump(to_dict(options), sort_keys=False, allow_unicode=True))
    except OutputError:
        release_run_folder(folder)
        raise
    return False


def release_run_folder(folder: Path) -> None:
    """Take back a claim that came to nothing: remove its files, and the folder with them if nothing else is there."""
    if not {entry.name for entry in folder.iterdir()} - {COMMAND, CONFIG, LOCK}:
        for name in (COMMAND, CONFIG):
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
