"""Errors that a user can mend."""

from __future__ import annotations

import pytest

from semalign import errors
from semalign.errors import SemalignError, nearest


def test_nearest_by_hand() -> None:
    """The closest known name is named; with none close enough all are listed, sorted."""
    assert nearest("epocs", ["seed", "epochs"]) == ", did you mean 'epochs'?"
    assert nearest("zzz", ["seed", "epochs"]) == ", known: epochs, seed"


def test_nearest_takes_any_iterable_once() -> None:
    """A generator of names serves, and the known name itself is its own nearest."""
    assert nearest("b", (name for name in "cab")) == ", did you mean 'b'?"
    assert nearest("x", {"one": 1, "two": 2}) == ", known: one, two"


@pytest.mark.parametrize("name", [name for name in errors.__all__ if name.endswith("Error")])
def test_every_error_is_one_of_ours(name: str) -> None:
    """The command line catches one base, and callers who know nothing of us can catch Python's own kinds."""
    kind = getattr(errors, name)

    assert issubclass(kind, SemalignError)
    if kind is not SemalignError:
        assert issubclass(kind, OSError if name == "OutputError" else ValueError)
        assert str(kind("one sentence")) == "one sentence"
