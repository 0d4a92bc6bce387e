"""Runs that a command line of the user's makes: its words, its process, and the score.json that it leaves.

A study with ``command:`` is planned, paired, judged and reported as any other; only the making of a run stands here.
This module knows nothing of what the command does, of judging, and never imports torch.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import shlex
import shutil
import string
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from semalign.config.options import Frozen
from semalign.config.reader import flatten, merge, nested
from semalign.config.study import StudyOptions
from semalign.errors import ConfigError, DataError, StudyError, nearest
from semalign.files import make_folder, read_json, write_text
from semalign.judge.table import MOST_PIXELS
from semalign.results import Curve, RunResult, Score, write_result
from semalign.study import guard

__all__ = [
    "LOG_FILE",
    "SCORE_FILE",
    "CommandFailed",
    "CommandOptions",
    "check_command",
    "check_program",
    "command_facts",
    "command_options",
    "read_score",
    "run_command",
]

SCORE_FILE = "score.json"
LOG_FILE = "log.txt"
COMMAND_FILE = "command.txt"
OUT_FOLDER = "out"

TAIL_LINES = 6
TAIL_CHARACTERS = 600
SAME_MIOU = 1e-4
"""How far a given mIoU may be from that of the given counts: what single precision and rounding can do, not more."""
MOST_STEPS = 2**53
"""Greater whole numbers are not all numbers of floating point."""

_CONTROL = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|[\x00-\x08\x0e-\x1f\x7f-\x9f]")
_LARGEST_HASHED = 1 << 26
_FIXED = ("seed", "arm", "out", "data")
_KEYS = ("miou", "iou", "counts", "images", "classes", "split", "curves", "failed")

Outcome = tuple[str, float | None, float, list[tuple[str, type[Warning]]]]
"""Of one run: status, mIoU in [0, 1] or None, seconds, and warnings, as `semalign.study.runner` has it."""


class CommandFailed(StudyError):  # noqa: N818 (named for what happened)
    """A command crashed or left no score: nothing is known of its run, and the same study command tries it again."""


class CommandOptions(Frozen):
    """What makes one run of a study with a command."""

    command: tuple[str, ...]
    """The words of the command line; {out} alone is still open, other braces are doubled."""
    values: dict[str, Any]
    """The arm's values by dotted name, over those that all arms share."""


# --- the command line -----------------------------------------------------------------------------


def command_options(study: StudyOptions, arm: str, seed: int) -> CommandOptions:
    """Return the command line of one run.

    Raises:
        ConfigError: the command is no command line, has an unknown placeholder, or the arm lacks a value it uses.
    """
    values = _values(study, arm)
    known = {"arm": arm, "seed": str(seed)} | ({} if study.data is None else {"data": study.data})
    words = []
    for word in _words(study):
        filled = ""
        for text, name in _parts(study, word):
            filled += _doubled(text)
            if name == "out":
                filled += "{out}"
            elif name is not None:
                filled += _doubled(known[name] if name in known else _text(study, arm, name, values))
        words.append(filled)
    return CommandOptions(command=tuple(words), values=values)


def check_command(study: StudyOptions) -> None:
    """Refuse a command that cannot make the study's runs, before any is made.

    Raises:
        ConfigError: the command is no command line; it has an unknown placeholder; it does not use the seed, the folder
            or the data; an arm lacks a value that it uses or has one that it does not use; or two arms give the same
            command line.
    """
    used = {name for word in _words(study) for _, name in _parts(study, word) if name is not None}
    where = f"the command of study {study.name}"
    for name, why in (
        ("seed", "so that all blocks would be the same run"),
        ("out", f"the folder in which it is to leave {SCORE_FILE}"),
    ):
        if name not in used:
            raise ConfigError(f"{where} never uses {{{name}}}, {why}: add it, such as --{name} {{{name}}}")
    if "data" in used and study.data is None:
        raise ConfigError(f"{where} uses {{data}} and the study names no data, add --data DATA or data: to the study")
    if study.data is not None and "data" not in used:
        raise ConfigError(
            f"{where} never uses {{data}}, so that data={study.data} could have no effect: add {{data}} to it, or "
            "leave the data out"
        )
    lines: dict[tuple[str, ...], str] = {}
    for arm in study.arms:
        filled = command_options(study, arm, 0)
        for name in filled.values:
            if f"arm.{name}" not in used:
                asked = sorted(name.removeprefix("arm.") for name in used if name.startswith("arm."))
                close = nearest(name, asked) if asked else ""
                raise ConfigError(
                    f"arm {arm} of study {study.name} sets {name}, which the command never uses, so that it could have "
                    f"no effect: add {{arm.{name}}} to the command{close}"
                )
        other = lines.setdefault(filled.command, arm)
        if other != arm:
            raise ConfigError(
                f"the arms '{other}' and '{arm}' of study {study.name} give the same command line, so that no run can "
                "tell them apart, expected a difference: use {arm} or a value in which they differ"
            )


def check_program(study: StudyOptions) -> None:
    """Refuse a command whose program is not there.

    Raises:
        ConfigError: no such program.
    """
    for arm in study.arms:
        program = command_options(study, arm, 0).command[0].format(out="out")
        if shutil.which(program) is None:
            raise ConfigError(
                f"the command of study {study.name} starts with '{program}', and there is no such program here "
                f"({Path.cwd()}) or on the search path: activate the environment that it is in, or write its path"
            )


def _words(study: StudyOptions) -> list[str]:
    assert study.command is not None
    try:
        words = shlex.split(study.command)
    except ValueError as error:
        raise ConfigError(
            f"the command of study {study.name} is no command line ({error}), expected words with closed quotes, got "
            f"{study.command!r}"
        ) from error
    if not words:
        raise ConfigError(f"the command of study {study.name} is empty, expected a program and its arguments")
    return words


def _parts(study: StudyOptions, word: str) -> list[tuple[str, str | None]]:
    """Return a word as (text, placeholder after it or None), with all placeholders known."""
    try:
        parsed = list(string.Formatter().parse(word))
    except ValueError as error:
        raise ConfigError(
            f"the command of study {study.name} has an open brace in '{word}' ({error}), expected placeholders such as "
            "{seed}: double a brace that is meant as such"
        ) from error
    known = {*_FIXED, *(f"arm.{name}" for arm in study.arms for name in _values(study, arm))}
    parts: list[tuple[str, str | None]] = []
    for text, name, form, conversion in parsed:
        if name is not None and (name not in known or form or conversion):
            shown = name + (f"!{conversion}" if conversion else "") + (f":{form}" if form else "")
            close = nearest(name, known) if name not in known else ", expected the name alone"
            raise ConfigError(
                f"the command of study {study.name} has the unknown placeholder {{{shown}}}{close} (double a brace "
                "that is meant as such)"
            )
        parts.append((text, name))
    return parts


def _values(study: StudyOptions, arm: str) -> dict[str, Any]:
    return flatten(merge(nested(study.options), nested(study.arms[arm])))


def _text(study: StudyOptions, arm: str, placeholder: str, values: Mapping[str, Any]) -> str:
    """Return a value as a word of the command line: numbers as Python writes them, true and false in small letters."""
    name = placeholder.removeprefix("arm.")
    if name not in values:
        raise ConfigError(
            f"arm {arm} of study {study.name} has no value '{name}', which the command uses as {{{placeholder}}}: add "
            f"{name} to the arm, or to the options of all arms"
        )
    value = values[name]
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (str, int, float)):
        return str(value)
    raise ConfigError(
        f"arm {arm} of study {study.name} sets {name} to {value!r}, expected text, a number, true or false: a command "
        "line has words only"
    )


def _doubled(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")


# --- facts ----------------------------------------------------------------------------------------


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
    """Return the SHA-256 of a script or a config; None for what is no file, is large or cannot be read."""
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


def _changed_files(study_folder: Path) -> list[str]:
    """Return sentences on files of the command that are no longer as they were when the study was begun."""
    try:
        before = read_json(study_folder / "facts.json")["files"]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return [
        f"{name} has changed since the study was begun, so that runs before and after may differ in more than their "
        "arm and seed"
        for name, sha in before.items()
        if _small_file_sha(Path(name)) != sha
    ]


# --- one run --------------------------------------------------------------------------------------


def run_command(
    study_folder: str, arm: str, seed: int, options: Mapping[str, Any], run_folder: str, threads: int
) -> Outcome:
    """Make one run: start the command, wait for it, read its score.json and write the run's result.

    The command starts in the current folder, without a shell; what it prints is added to log.txt in the run's folder,
    beside its private folder out.  It ends with this process, whatever ends that.

    Args:
        study_folder: the study's folder.
        arm: the arm's name.
        seed: the run's seed.
        options: plain values of `CommandOptions`.
        run_folder: the run's folder below the study's.
        threads: processors' share of this run, told to the command as OMP_NUM_THREADS and MKL_NUM_THREADS.

    Raises:
        CommandFailed: the command ended with another exit code than 0, or left no score.json that can be read;
            nothing is recorded.
    """
    folder = make_folder(Path(study_folder) / run_folder)
    out = make_folder(folder / OUT_FOLDER).resolve()
    words = [word.format(out=out) for word in options["command"]]
    write_text(folder / COMMAND_FILE, shlex.join(words) + "\n")
    notes = _changed_files(Path(study_folder))
    score_file = out / SCORE_FILE
    # What an attempt left that was cut off is not what this one will have scored.
    score_file.unlink(missing_ok=True)
    started = time.monotonic()
    code, tail = _execute(words, folder / LOG_FILE, threads)
    seconds = time.monotonic() - started

    who = f"arm {arm}, seed {seed}"
    again = "nothing is recorded: mend it and start the same command again"
    said = (
        f"the last lines of {folder / LOG_FILE} are: {tail}" if tail else f"it printed nothing to {folder / LOG_FILE}"
    )
    if not score_file.exists():
        if code == 0:
            raise CommandFailed(f"{who}: the command ended well and left no {SCORE_FILE} in {out}, {again}; {said}")
        raise CommandFailed(f"{who}: the command {_ending(code)}, expected exit code 0, {again}; {said}")
    try:
        score, curves, failure = read_score(score_file)
    except ConfigError as error:
        raise CommandFailed(f"{who}: {error}, {again}; {said}") from error
    # A script that says that its run has failed may well say so to its shell too.
    if code != 0 and failure is None:
        raise CommandFailed(f"{who}: the command left a score and {_ending(code)}, expected 0, {again}; {said}")

    config = {"command": list(options["command"]), "values": options["values"]}
    facts: dict[str, Any] = {"config": config, "threads": threads, "notes": notes}
    if failure is not None:
        facts["failure"] = failure
    status = "finished" if failure is None else "failed"
    write_result(folder / "result.json", RunResult(arm, seed, status, score, curves, facts, {"total": seconds}))
    return status, None if score is None else score.miou, seconds, [(note, UserWarning) for note in notes]


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


# --- score.json -----------------------------------------------------------------------------------


def read_score(path: Path) -> tuple[Score | None, dict[str, Curve], str | None]:
    """Return what a score.json says: the score, the curves, and why the run failed.

    Either ``failed``, a sentence, and then no score; or ``miou`` in [0, 1], with ``iou`` by class name (null where the
    scored masks have no pixel of the class), or with ``counts`` (images x classes x 3 pixel counts TP, FP, FN) and the
    names of its ``images`` and ``classes``, from which the mIoU is then made, as for our own runs.  Any of them may
    have ``split``, the name of what was scored, and ``curves``, by name lists of (step, value).

    Raises:
        ConfigError: the file is no JSON, has an unknown name, lacks the score, has both a score and a failure, a value
            out of range, counts that do not fit, or a mIoU that is not that of its counts.
    """
    value = _json(path)
    for name in value:
        if name not in _KEYS:
            raise ConfigError(f"{path} has the unknown name '{name}'{nearest(name.lower(), _KEYS)}")
    curves = _curves(path, value.get("curves", {}))
    scored = [name for name in ("miou", "iou", "counts", "images", "classes") if name in value]
    if "failed" in value:
        failure = value["failed"]
        if not isinstance(failure, str) or not failure.strip():
            raise ConfigError(f"{path} has failed={failure!r}, expected a sentence that says why")
        if scored:
            raise ConfigError(f"{path} has both '{scored[0]}' and 'failed', expected a score or a failure")
        return None, curves, " ".join(failure.split())
    split = value.get("split", "val")
    if not isinstance(split, str) or not split:
        raise ConfigError(f"{path} has split={split!r}, expected a name")
    if "counts" in value:
        return _score_of_counts(path, value, split), curves, None
    for name in ("images", "classes"):
        if name in value:
            raise ConfigError(f"{path} has '{name}' without 'counts', to which it belongs: add them, or remove it")
    if "miou" not in value:
        raise ConfigError(f"{path} has no 'miou', expected a number in [0, 1], or 'failed' with the reason")
    iou = value.get("iou", {})
    if not isinstance(iou, dict):
        raise ConfigError(f"{path} has 'iou' as {type(iou).__name__}, expected a value in [0, 1] by class name")
    checked = {name: None if one is None else _fraction(path, f"iou of '{name}'", one) for name, one in iou.items()}
    return Score.of_figures(_fraction(path, "miou", value["miou"]), checked, split=split), curves, None


def _json(path: Path) -> dict[str, Any]:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            names = [name for name, _ in pairs]
            raise ValueError(f"'{next(name for name in names if names.count(name) > 1)}' stands there twice")
        return found

    try:
        value = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=once)
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f'cannot read {path}: {error}, expected JSON such as {{"miou": 0.531}}') from error
    if not isinstance(value, dict):
        raise ConfigError(f'{path} holds {type(value).__name__}, expected a JSON object such as {{"miou": 0.531}}')
    return value


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _fraction(path: Path, name: str, value: Any) -> float:
    # Not of whole numbers, which may be too long to be one of floating point.
    if not _is_number(value) or (isinstance(value, float) and math.isnan(value)):
        raise ConfigError(f"{path} has {name} = {value!r}, expected a number in [0, 1]")
    if not 0 <= value <= 1:
        fix = ": divide percent by 100" if 1 < value <= 100 else ""
        raise ConfigError(f"{path} has {name} = {value!r}, expected a fraction in [0, 1]{fix}")
    return float(value)


def _score_of_counts(path: Path, value: Mapping[str, Any], split: str) -> Score:
    if "iou" in value:
        raise ConfigError(f"{path} has both 'iou' and 'counts', expected one of them: counts say what the IoU is")
    images, classes = (_names(path, value.get(name), name) for name in ("images", "classes"))
    try:
        raw = np.asarray(value["counts"])
    except ValueError:
        raw = np.asarray(None)
    if raw.dtype.kind != "i" or raw.shape != (len(images), len(classes), 3):
        got = f"shape {raw.shape}" if raw.dtype.kind in "iuf" else "rows of different lengths or no numbers"
        raise ConfigError(
            f"{path} has counts of {got}, expected whole numbers of pixels TP, FP, FN for each of {len(images)} images "
            f"and {len(classes)} classes"
        )
    for count in (raw.min(), raw.max()):
        if not 0 <= count <= MOST_PIXELS:
            raise ConfigError(f"{path} has a count of {count}, expected numbers of pixels from 0 to {MOST_PIXELS}")
    counts = raw.astype(np.int64)
    score = Score(split, classes, images, counts, np.zeros((0, 0), dtype=np.int64))
    try:
        miou = score.miou
    except DataError as error:
        raise ConfigError(f"{path} has no pixel of any class in its counts (TP + FN), expected at least one") from error
    if "miou" in value and abs(_fraction(path, "miou", value["miou"]) - miou) > SAME_MIOU:
        raise ConfigError(
            f"{path} has miou = {value['miou']!r} and counts whose mIoU is {miou:.6f}, expected the same: the mean "
            "over classes with a pixel in the scored masks of TP / (TP + FP + FN), each summed over all images"
        )
    return score


def _names(path: Path, value: Any, what: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not value or not all(isinstance(name, str) and name for name in value):
        raise ConfigError(f"{path} has counts and {what}={_short(value)}, expected a list of names")
    if len(set(value)) != len(value):
        raise ConfigError(f"{path} names one of its {what} twice, expected names that differ")
    return tuple(value)


def _curves(path: Path, value: Any) -> dict[str, Curve]:
    if not isinstance(value, dict):
        raise ConfigError(f"{path} has 'curves' as {type(value).__name__}, expected lists of [step, value] by name")
    return {name: _curve(path, name, points) for name, points in value.items()}


def _curve(path: Path, name: str, points: Any) -> Curve:
    where = f"{path} has in the curve '{name}'"
    if not isinstance(points, list):
        raise ConfigError(f"{where} {_short(points)}, expected a list of [step, value]")
    curve: Curve = []
    for point in points:
        if not isinstance(point, list) or len(point) != 2 or not all(_is_number(part) for part in point):
            raise ConfigError(f"{where} the point {_short(point)}, expected [step, value], two numbers")
        step, number = point
        if isinstance(step, float) or not 0 <= step <= MOST_STEPS or (curve and step <= curve[-1][0]):
            raise ConfigError(f"{where} the step {step!r}, expected whole numbers that grow")
        if not -sys.float_info.max <= number <= sys.float_info.max:
            raise ConfigError(
                f"{where} {number!r} at step {step}, expected a finite number: leave such points out, or say that the "
                "run failed"
            )
        curve.append((step, float(number)))
    return curve


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
