"""What text towers with a tokenizer share: texts that do not fit, words that are not known, tokens, averages.

A tower says how it measures, encodes and names; this module does not depend on any library's models.
"""

from __future__ import annotations

import abc
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from semalign.errors import TextError
from semalign.presets import LongText
from semalign.text.bank import SentenceTokens
from semalign.text.lengths import Parts, fit
from semalign.text.sentences import check_sentences
from semalign.text.vectors import unit_rows
from semalign.wording import Message, say

__all__ = ["Pieces", "Tower", "batches_of", "check_tokenizer", "mark_ids", "pieces_of", "tower_name"]

BATCH = 64
"""Texts that are encoded at a time."""


class Pieces(NamedTuple):
    """How a tokenizer reads one text.

    Attributes:
        ids: the tokens' numbers, marks included.
        is_mark: True where a token only says where the text begins or ends.
        is_unknown: True where the tokenizer has no token for the text there.
    """

    ids: list[int]
    is_mark: list[bool]
    is_unknown: list[bool]


def check_tokenizer(tokenizer: Any, where: Path) -> None:
    """Refuse a tokenizer that knows no word: where a folder has none, transformers makes an empty one without a word.

    Raises:
        TextError: all of its tokens are special ones.
    """
    if not set(tokenizer.get_vocab()) - set(tokenizer.all_special_tokens):
        raise TextError(
            f"the tokenizer in {where} knows no word, every text would be the same, expected the tokenizer's files "
            "(tokenizer.json, or vocab.json and merges.txt) beside the weights: copy them there"
        )


def tower_name(label: str, digest: str, long: LongText) -> str:
    """Return the name that the cache trusts; only how long texts are read can change a vector beside the weights."""
    return f"{label}@{digest}" + ("" if long == "split" else f",long={long}")


class Tower(abc.ABC):
    """A text encoder with a tokenizer and a longest text.

    A text that does not fit is split and the mean of its parts' unit vectors, brought back to unit norm, stands for it
    (or it is cut, or refused).  Its tokens are the tokens of its parts, one after the other.

    Args:
        name: see `tower_name`.
        long: what is done with a text that does not fit.
    """

    def __init__(self, name: str, long: LongText) -> None:
        self.name = name
        self.long = long

    # ---- What a tower of its own says ----

    @property
    @abc.abstractmethod
    def limit(self) -> int | None:
        """The longest text in tokens, marks included; None: any."""

    @abc.abstractmethod
    def read(self, texts: Sequence[str]) -> list[Pieces]:
        """Return how the tokenizer reads whole texts, without cutting any."""

    @abc.abstractmethod
    def vectors(self, parts: list[str]) -> Float[Tensor, "parts dim"]:
        """Return the vectors of texts that fit, of any norm."""

    @abc.abstractmethod
    def token_vectors(self, parts: list[str]) -> list[SentenceTokens]:
        """Return the tokens of texts that fit, of any norm."""

    # ---- What every encoder offers ----

    @functools.cached_property
    def dim(self) -> int:
        """Ct, the length of each vector; loads the model."""
        return self.encode(["dim"]).shape[1]

    def encode(self, sentences: Sequence[str]) -> Float[Tensor, "sentences dim"]:
        """Return one vector of unit norm per sentence.

        Raises:
            TextError: the model cannot be loaded, a sentence is too long and that is refused, or none of its words is
                known.
        """
        fitted = self._fit(sentences)
        # Some models give inference tensors, which autograd refuses to save; dividing out here makes ordinary ones.
        rows = unit_rows(self.vectors(fitted.parts), f"the text encoder {self.name}")
        if not fitted.long:
            return rows
        owner = torch.tensor(fitted.owner)
        sums = torch.zeros(len(sentences), rows.shape[1], dtype=torch.float64).index_add_(0, owner, rows.double())
        is_split = torch.bincount(owner, minlength=len(sentences)) > 1
        means = unit_rows(sums, f"the text encoder {self.name}")
        # What fits keeps its bits.
        means[owner[~is_split[owner]]] = rows[~is_split[owner]]
        return means

    def encode_tokens(self, sentences: Sequence[str]) -> list[SentenceTokens]:
        """Return the vectors of each sentence's tokens, each of unit norm.

        Raises:
            TextError: as `encode`, or the model gives no vectors of tokens.
        """
        fitted = self._fit(sentences)
        found = self.token_vectors(fitted.parts)
        pieces: list[tuple[str, ...]] = [()] * len(sentences)
        rows: list[list[Tensor]] = [[] for _ in sentences]
        for owner, tokens in zip(fitted.owner, found, strict=True):
            pieces[owner] += tokens.pieces
            rows[owner].append(tokens.features)
        for sentence, own in zip(sentences, pieces, strict=True):
            if not own:
                raise TextError(
                    f"the text encoder {self.name} has no token for {sentence!r}, expected at least one: use other "
                    "words"
                )
        return [
            SentenceTokens(own, unit_rows(torch.cat(parts), f"tokens of the text encoder {self.name}"))
            for own, parts in zip(pieces, rows, strict=True)
        ]

    def remarks(self, sentences: Sequence[str]) -> tuple[Message, ...]:
        """Return notes on texts that were split or cut, and on words that the tower does not know."""
        notes = []
        long = self._fit(sentences).long
        if long:
            key = "text.long_texts_split" if self.long == "split" else "text.long_texts_cut"
            said = {"n": len(long), "total": len(sentences), "limit": self.limit, "encoder": self.name}
            notes.append(say(key, **said, example=_short(long[0])))
        strange = [
            sentence for sentence, pieces in zip(sentences, self.read(sentences), strict=True) if any(pieces.is_unknown)
        ]
        if strange:
            said = {"n": len(strange), "total": len(sentences), "encoder": self.name}
            notes.append(say("text.unknown_words", **said, example=_short(strange[0])))
        return tuple(notes)

    def _fit(self, sentences: Sequence[str]) -> Parts:
        check_sentences(sentences, f"sentences for {self.name}")
        for sentence, pieces in zip(sentences, self.read(sentences), strict=True):
            known = [not mark and not unknown for mark, unknown in zip(pieces.is_mark, pieces.is_unknown, strict=True)]
            if any(pieces.is_unknown) and not any(known):
                raise TextError(
                    f"the text encoder {self.name} knows no word of {_short(sentence)}, expected a language that it "
                    "was trained on: take a multilingual text.encoder"
                )
        return fit(sentences, self.limit, self._measure, self.long, self.name)

    def _measure(self, texts: Sequence[str]) -> list[int]:
        return [len(pieces.ids) for pieces in self.read(texts)]


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:40]}...")


def batches_of(parts: Sequence[str]) -> list[Sequence[str]]:
    """Return texts in the groups in which they are encoded."""
    return [parts[start : start + BATCH] for start in range(0, len(parts), BATCH)]


def mark_ids(tokenizer: Any) -> set[int]:
    """Return the numbers of a tokenizer's marks and padding; the token of unknown words is none of them."""
    marks = set(tokenizer.all_special_ids)
    return marks - {_unknown_id(tokenizer)}


def _unknown_id(tokenizer: Any) -> int | None:
    # CLIP's tokenizer names its end mark as its unknown token, because it knows every byte.
    ends = {tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id}
    unknown: int | None = tokenizer.unk_token_id
    return None if unknown in ends else unknown


def pieces_of(tokenizer: Any, texts: Sequence[str]) -> list[Pieces]:
    """Return how a tokenizer of transformers reads texts."""
    read = tokenizer(list(texts), truncation=False, verbose=False)
    marks, unknown = mark_ids(tokenizer), _unknown_id(tokenizer)
    return [
        Pieces(ids, [number in marks for number in ids], [number == unknown for number in ids])
        for ids in read["input_ids"]
    ]
