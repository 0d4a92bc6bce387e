"""Texts that are longer than an encoder reads."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from semalign.errors import TextError
from semalign.text.lengths import fit


def by_letters(texts: Sequence[str]) -> list[int]:
    """Measure a text by its letters, two marks included."""
    return [len(text) + 2 for text in texts]


def test_parts_by_hand() -> None:
    """Five letters fit: words stay whole where they can, and one of seven letters is broken."""
    parts = fit(["ab cd", "ab cd  efghijk l"], 7, by_letters, "split", "x")

    assert parts.parts == ["ab cd", "ab cd", "efghi", "jk l"]
    assert parts.owner == [0, 1, 1, 1]
    assert parts.long == ("ab cd  efghijk l",)


def test_what_fits_stays_as_it_is() -> None:
    """Blanks are changed in no text that fits, and no limit fits all."""
    assert fit(["a  b "], 7, by_letters, "split", "x").parts == ["a  b "]
    assert fit(["a  b " * 99], None, by_letters, "refuse", "x").parts == ["a  b " * 99]


def test_cut_keeps_the_first_part() -> None:
    """One part, and the text is still said to be long."""
    parts = fit(["ab cd ef"], 7, by_letters, "cut", "x")

    assert parts.parts == ["ab cd"]
    assert parts.long == ("ab cd ef",)


def test_refuse_and_no_room() -> None:
    """The message has the length, the limit and the fix; a limit that takes no letter is said so."""
    with pytest.raises(
        TextError, match=r"the text 'ab cd ef'... has 10 word pieces, but the text encoder x reads 7: spl"
    ):
        fit(["ab", "ab cd ef"], 7, by_letters, "refuse", "x")
    with pytest.raises(TextError, match="reads 2 word pieces, which is too few for 'a' alone"):
        fit(["ab"], 2, by_letters, "split", "x")


@given(st.lists(st.text(alphabet="abcd天 ", min_size=1).filter(str.strip), min_size=1), st.integers(3, 9))
def test_nothing_is_lost(texts: list[str], limit: int) -> None:
    """Every part fits, and the parts of a text hold its letters in order."""
    parts = fit(texts, limit, by_letters, "split", "x")

    for position, text in enumerate(texts):
        own = [part for part, owner in zip(parts.parts, parts.owner, strict=True) if owner == position]
        assert "".join("".join(own).split()) == "".join(text.split())
        assert max(by_letters(own)) <= limit
