"""The command line of the user's that makes a run: its placeholders, and what is refused before any run is made.

This module does not depend on what the command does, on judging or on torch.
"""

from __future__ import annotations

import shlex
import shutil
import string
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from semalign.config.options import Frozen
from semalign.config.reader import flatten, merge, nested
from semalign.config.study import StudyOptions
from semalign.errors import ConfigError, nearest
from semalign.layout import SCORE

__all__ = ["CommandOptions", "check_command", "check_program", "command_options"]

_FIXED = ("seed", "arm", "out", "data")


class CommandOptions(Frozen):
    """How a command makes one run of a study."""

    command: tuple[str, ...]
    """The words of the command line; {out} alone is still open, other braces are doubled."""
    values: dict[str, Any]
    """The arm's values by dotted name, over those that all arms share."""


def command_options(study: StudyOptions, arm: str, seed: int) -> CommandOptions:
    """Return the command line of one run.

    Raises:
        ConfigError: the command is not a command line, has an unknown placeholder, or uses a value that the arm lacks.
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
        ConfigError: the command is not a command line; it has an unknown placeholder; it does not use the seed, the
            folder or the data; an arm lacks a value that it uses or has one that it does not use; or two arms give
            the same command line.
    """
    used = {name for word in _words(study) for _, name in _parts(study, word) if name is not None}
    where = f"the command of study {study.name}"
    for name, why in (
        ("seed", "so that all blocks would be the same run"),
        ("out", f"the folder in which it is to leave {SCORE}"),
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
                f"the command of study {study.name} starts with '{program}', and no such program was found here "
                f"({Path.cwd()}) or on the search path: activate the environment that it is in, or write its path"
            )


def _words(study: StudyOptions) -> list[str]:
    assert study.command is not None
    try:
        words = shlex.split(study.command)
    except ValueError as error:
        raise ConfigError(
            f"the command of study {study.name} is not a command line ({error}), expected words with closed quotes, "
            f"got {study.command!r}"
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
