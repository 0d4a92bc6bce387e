"""Errors that a user can cause and mend.

Every message is one sentence (it may hold commas and a colon) that says what is wrong, where, what was found, what was
expected and, when known, how to mend it.  The command line prints the sentence and exits with 2 (1 where an audit found
errors); any other exception keeps its traceback, because it is a fault of ours.
"""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable
from typing import ClassVar

__all__ = [
    "AuditError",
    "CheckpointError",
    "ConfigError",
    "DataError",
    "OutputError",
    "ResultsError",
    "SemalignError",
    "StudyError",
    "TextError",
    "first_line",
    "is_out_of_memory",
    "kind_and_line",
    "nearest",
]


class SemalignError(Exception):
    """Base of all errors that say what the user can change."""

    exit_code: ClassVar[int] = 2
    """What the command line exits with."""


class ConfigError(SemalignError, ValueError):
    """An option is unknown, of the wrong type, out of range, or two options contradict each other."""


class DataError(SemalignError, ValueError):
    """Images, masks, depth or class names do not fit the contract of a data set."""


class TextError(SemalignError, ValueError):
    """Texts or text features do not fit the images or the model."""


class CheckpointError(SemalignError, ValueError):
    """A saved run or state dict cannot be read as what it claims to be."""


class OutputError(SemalignError, OSError):
    """An output folder or file cannot be written, or holds something else."""


class ResultsError(SemalignError, ValueError):
    """A results file cannot be read as what it claims to be."""


class StudyError(SemalignError, ValueError):
    """A study cannot be planned, run or judged as asked."""


class AuditError(SemalignError, ValueError):
    """The audit found that something in a model cannot do what its name says."""

    exit_code = 1


def first_line(error: BaseException) -> str:
    """Return the first line of the error's message without its full stop, its kind where it has no message.

    >>> first_line(OSError("no such file.")), first_line(ConnectionError())
    ('no such file', 'ConnectionError')
    """
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


def kind_and_line(error: BaseException) -> str:
    """Return the error's kind and the first line of its message, for errors of other libraries.

    >>> kind_and_line(OSError("no such file."))
    'OSError: no such file'
    """
    return f"{type(error).__name__}: {first_line(error)}"


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether ``error``, of Python, torch or the system, says that there is no memory left.

    >>> is_out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory"))
    True
    """
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    # On a processor torch raises a plain RuntimeError.
    said = str(error).lower()
    return isinstance(error, RuntimeError) and any(
        text in said for text in ("can't allocate memory", "cannot allocate memory", "bad_alloc", "out of memory")
    )


def nearest(name: str, known: Iterable[str]) -> str:
    """Return ``", did you mean 'x'?"`` for the known name closest to ``name``, or all known names.

    >>> nearest("epocs", ["epochs", "seed"])
    ", did you mean 'epochs'?"
    >>> nearest("zzz", ["epochs", "seed"])
    ', known: epochs, seed'
    """
    choices = sorted(known)
    close = difflib.get_close_matches(name, choices, n=1, cutoff=0.6)
    if close:
        return f", did you mean '{close[0]}'?"
    return f", known: {', '.join(choices)}"
