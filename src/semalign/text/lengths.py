"""Texts that are longer than an encoder reads: split, cut or refused, and never cut in silence.

Strings and numbers in, strings out: what measures a text is given.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, get_args

from semalign.errors import TextError
from semalign.presets import LongText

__all__ = ["LONG", "Measure", "Parts", "fit"]

LONG: Final[tuple[LongText, ...]] = get_args(LongText)

Measure = Callable[[Sequence[str]], list[int]]
"""From texts to their lengths in tokens, marks at both ends included."""


class Parts(NamedTuple):
    """Texts that fit.

    Attributes:
        parts: what is to be encoded; the parts of a text follow each other.
        owner: of each part, the position of its text.
        long: the texts that did not fit.
    """

    parts: list[str]
    owner: list[int]
    long: tuple[str, ...]


def fit(texts: Sequence[str], limit: int | None, measure: Measure, how: LongText, reader: str) -> Parts:
    """Return the texts in parts of at most ``limit`` tokens.

    A text that fits is a part of its own, letter by letter; one that does not is broken between words, or within a word
    that does not fit alone (Chinese is written without spaces), and its parts' words are joined by single spaces.

    Args:
        texts: any texts.
        limit: the longest text that is read; None reads any.
        measure: tells lengths.
        how: "split" keeps all parts, "cut" the first, "refuse" raises.
        reader: who reads, for the message.

    Raises:
        TextError: a text does not fit and ``how`` is "refuse", or nothing fits.

    >>> fit(["a b", "c d e"], 2, lambda texts: [len(text.split()) for text in texts], "split", "x")
    Parts(parts=['a b', 'c d', 'e'], owner=[0, 1, 1], long=('c d e',))
    """
    lengths = [0] * len(texts) if limit is None else measure(texts)
    parts: list[str] = []
    owner: list[int] = []
    long: list[str] = []
    for position, (text, length) in enumerate(zip(texts, lengths, strict=True)):
        if limit is None or length <= limit:
            own = [text]
        else:
            if how == "refuse":
                raise TextError(
                    f"the text {text[:40]!r}... has {length} word pieces, but the text encoder {reader} reads {limit}: "
                    "split it into several texts, or set text.long to split or cut"
                )
            long.append(text)
            own = _split(text, limit, measure, reader)
            own = own[:1] if how == "cut" else own
        parts += own
        owner += [position] * len(own)
    return Parts(parts, owner, tuple(long))


def _split(text: str, limit: int, measure: Measure, reader: str) -> list[str]:
    parts = []
    words = text.split()
    while words:
        count = _longest(words, " ", limit, measure)
        if count:
            parts.append(" ".join(words[:count]))
            words = words[count:]
            continue
        letters = _longest(words[0], "", limit, measure)
        if not letters:
            raise TextError(
                f"the text encoder {reader} reads {limit} word pieces, which is too few for {words[0][:1]!r} alone, "
                "expected room for one letter: take another text.encoder"
            )
        parts.append(words[0][:letters])
        words[0] = words[0][letters:]
        if not words[0]:
            words = words[1:]
    return parts


def _longest(pieces: Sequence[str], between: str, limit: int, measure: Measure) -> int:
    """Return how many of the first pieces fit together, by halving."""
    # No piece is shorter than a token, but a tokenizer may join letters: twelve to a token is more than any does.
    most = min(len(pieces), 12 * limit)
    return bisect.bisect_left(
        range(1, most + 1), True, key=lambda count: measure([between.join(pieces[:count])])[0] > limit
    )
