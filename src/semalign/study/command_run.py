"""One run that the user's command makes: its process, its log, the facts of its files, and its result.

This module does not depend on what the command does, on judging or on torch.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from semalign import layout
from semalign.config.study import StudyOptions
from semalign.errors import ConfigError, DataError, StudyError
from semalign.files import make_folder, read_json, write_text
from semalign.results import RunResult, write_result
from semalign.study import guard
from semalign.study.command import CommandOptions, command_options
from semalign.study.design import Outcome, PlannedRun
from semalign.study.score_file import read_score
from semalign.wording import Message, say

__all__ = ["CommandFailed", "command_facts", "run_command"]

TAIL_LINES = 6
TAIL_CHARACTERS = 600

_CONTROL = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|[\x00-\x08\x0e-\x1f\x7f-\x9f]")
_LARGEST_HASHED = 1 << 26


class CommandFailed(StudyError):  # noqa: N818 (named for what happened)
    """A command crashed or left no score: its run has no result, and the same study command tries it again."""


def command_facts(study: StudyOptions) -> dict[str, Any]:
    """Return what is known of the study's data and of the files that its command names.

    The fingerprint of a folder of data covers the names and sizes of its files, not what is in them, which would take
    as long as reading all of it; that of a single file covers its bytes.

    Raises:
        DataError: the data cannot be read.
    """
    prints: dict[str, str] = {}
    data: dict[str, Any] = {"fingerprints": prints}
    path = None if study.data is None else Path(study.data)
    if path is not None and path.exists():
        data["root"] = study.data
        try:
            prints["all"] = _folder_sha(path) if path.is_dir() else _sha(path)
        except OSError as error:
            raise DataError(
                f"cannot read the data {path}: {error.strerror}, expected files that can be read"
            ) from error
    elif path is not None:
        data["kind"] = study.data
    return {"data": data, "files": _named_files(study)}


def _named_files(study: StudyOptions) -> dict[str, str]:
    """Return SHA-256 (hex) by name of the files among the words of the command, data left out."""
    found = {}
    for arm in study.arms:
        for word in command_options(study, arm, 0).command:
            name = word.format(out="")
            if name != study.data and name not in found and (sha := _small_file_sha(Path(name))) is not None:
                found[name] = sha
    return found


def _small_file_sha(path: Path) -> str | None:
    """Return the SHA-256 of a script or a config; None for what is not a file, is large or cannot be read."""
    try:
        return _sha(path) if path.is_file() and path.stat().st_size <= _LARGEST_HASHED else None
    except OSError:
        return None


def _sha(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _folder_sha(root: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(path for path in root.rglob("*") if path.is_file()):
        digest.update(json.dumps([path.relative_to(root).as_posix(), path.stat().st_size]).encode() + b"\n")
    return digest.hexdigest()


def _changed_files(study_folder: Path) -> list[Message]:
    """Return notes on files of the command that are no longer as they were when the study was begun."""
    try:
        before = read_json(study_folder / layout.FACTS)["files"]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return [say("study.file-changed", file=name) for name, sha in before.items() if _small_file_sha(Path(name)) != sha]


def run_command(run: PlannedRun, study_folder: Path, threads: int) -> Outcome:
    """Make one run: start the command, wait for it, read its score.json and write the run's result.

    The command starts in the current folder, without a shell; what it prints is added to log.txt in the run's folder,
    beside its private folder out.  It ends when this process ends, for any reason.

    Args:
        run: a run whose options are `CommandOptions`.
        study_folder: the study's folder.
        threads: threads of this run, passed to the command as OMP_NUM_THREADS and MKL_NUM_THREADS.

    Raises:
        CommandFailed: the command ended with another exit code than 0, or left no score.json that can be read;
            nothing is recorded.
    """
    assert isinstance(run.options, CommandOptions)
    folder = make_folder(study_folder / run.folder)
    out = make_folder(folder / layout.COMMAND_OUT).resolve()
    words = [word.format(out=out) for word in run.options.command]
    write_text(folder / layout.COMMAND, shlex.join(words) + "\n")
    notes = _changed_files(study_folder)
    score_file = out / layout.SCORE
    # A file of an interrupted attempt is not the score of this one.
    score_file.unlink(missing_ok=True)
    started = time.monotonic()
    code, tail = _execute(words, folder / layout.LOG, threads)
    seconds = time.monotonic() - started

    who = f"arm {run.arm}, seed {run.seed}"
    again = "nothing is recorded: fix it and start the same command again"
    said = (
        f"the last lines of {folder / layout.LOG} are: {tail}"
        if tail
        else f"it printed nothing to {folder / layout.LOG}"
    )
    if not score_file.exists():
        if code == 0:
            raise CommandFailed(f"{who}: the command succeeded and left no {layout.SCORE} in {out}, {again}; {said}")
        raise CommandFailed(f"{who}: the command {_ending(code)}, expected exit code 0, {again}; {said}")
    try:
        score, curves, failure = read_score(score_file)
    except ConfigError as error:
        raise CommandFailed(f"{who}: {error}, {again}; {said}") from error
    # A script may report a failed run to its shell too.
    if code != 0 and failure is None:
        raise CommandFailed(f"{who}: the command left a score and {_ending(code)}, expected 0, {again}; {said}")

    config = {"command": list(run.options.command), "values": run.options.values}
    facts: dict[str, Any] = {"config": config, "threads": threads, "notes": [note.to_dict() for note in notes]}
    if failure is not None:
        facts["failure"] = failure
    status = "finished" if failure is None else "failed"
    write_result(folder / layout.RESULT, RunResult(run.arm, run.seed, status, score, curves, facts, {"total": seconds}))
    return Outcome(
        status, None if score is None else score.miou, seconds, tuple((str(note), UserWarning) for note in notes)
    )


def _execute(words: Sequence[str], log: Path, threads: int) -> tuple[int, str]:
    """Run the command and return its exit code and the last that it printed, as one line."""
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    with log.open("ab") as stream:
        stream.write(f"$ {shlex.join(words)}\n".encode(errors="replace"))
        stream.flush()
        begin = stream.tell()
        process = subprocess.Popen(
            [sys.executable, "-I", str(guard.__file__), *words],
            stdin=subprocess.PIPE,
            stdout=stream,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )
        assert process.stdin is not None
        try:
            code = process.wait()
        finally:
            # The guard kills the command when its input ends; where it has left already this does nothing.
            process.stdin.close()
            process.wait()
    return code, _tail(log, begin)


def _tail(log: Path, begin: int) -> str:
    with log.open("rb") as stream:
        stream.seek(max(begin, stream.seek(0, os.SEEK_END) - 8 * TAIL_CHARACTERS))
        lines = stream.read().decode(errors="replace").splitlines()
    # Colours and other control characters would reach the terminal of whoever reads the error.
    plain = (_CONTROL.sub(" ", line) for line in lines)
    kept = [" ".join(line.split()) for line in plain if line.strip()][-TAIL_LINES:]
    return " | ".join(kept)[-TAIL_CHARACTERS:]


def _ending(code: int) -> str:
    if code == 128 + 9:
        return "was killed (out of memory?)"
    return f"ended with exit code {code}"
