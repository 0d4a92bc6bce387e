"""Text banks: encoded sentences as a table of vectors, and the index of each image's texts.

A row is a sentence, or, in a bank of tokens, one token of a sentence; `rows_by_text` gives the rows of each text.  A
bank that all images share carries no information about any one image; only `token_index` of per-image texts does.
This module does not depend on how sentences become vectors, nor on where texts come from.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol, TypeVar, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from semalign.errors import TextError
from semalign.text.sentences import nearest_sentence
from semalign.wording import Message

__all__ = [
    "PADDING",
    "SentenceTokens",
    "TextBank",
    "TextEncoder",
    "fingerprint",
    "first_repeated",
    "gather",
    "rows_by_text",
    "token_index",
]

PADDING = -1

Item = TypeVar("Item")


class SentenceTokens(NamedTuple):
    """The tokens of one sentence, without the marks that only say where it begins and ends.

    Attributes:
        pieces: what each token is written as.
        features: L x Ct, one float32 row of unit norm per token, at least one.
    """

    pieces: tuple[str, ...]
    features: Float[Tensor, "tokens dim"]


@runtime_checkable  # so that type checkers at run time can take it
class TextEncoder(Protocol):
    """Anything that turns sentences into vectors.

    Attributes:
        name: identifies the vectors (model and its version, or recipe, size and seed); the cache trusts it.
    """

    name: str

    @property
    def dim(self) -> int:
        """Ct, the length of each vector."""
        ...

    def encode(self, sentences: Sequence[str]) -> Float[Tensor, "sentences dim"]:
        """Return one float32 row of unit norm per sentence (at least one), on the CPU."""
        ...

    def encode_tokens(self, sentences: Sequence[str]) -> list[SentenceTokens]:
        """Return the tokens of each sentence, of width `dim`; refused by an encoder that has none."""
        ...

    def remarks(self, sentences: Sequence[str]) -> tuple[Message, ...]:
        """Return sentences that a reader must know of these vectors, such as that long texts were split."""
        ...


@dataclasses.dataclass(frozen=True, eq=False)
class TextBank:
    """Encoded sentences.

    Attributes:
        features: S x Ct, float32, finite, no row all zeros.
        sentences: the S different sentences (or class names), in row order; in a bank of tokens, what each row is: the
            token, its place and its sentence.
        encoder: how the features were made.
        owners: in a bank of tokens, the text (sentence or class name) that each row belongs to; None where every row is
            a text of its own.
        notes: what a reader must know of the features.

    Raises:
        TextError: the features do not fit the sentences, or a row is not finite or all zeros.
    """

    features: Float[Tensor, "sentences dim"]
    sentences: tuple[str, ...]
    encoder: str
    owners: tuple[str, ...] | None = None
    notes: tuple[Message, ...] = ()

    def __post_init__(self) -> None:
        where = f"the text bank of {self.encoder}"
        features = self.features
        if features.ndim != 2 or features.dtype != torch.float32 or 0 in features.shape:
            raise TextError(
                f"{where} has features of shape {tuple(features.shape)} and type {features.dtype}, "
                "expected sentences x dim of torch.float32, neither of them 0"
            )
        if len(features) != len(self.sentences):
            raise TextError(
                f"{where} has {len(features)} rows for {len(self.sentences)} sentences, expected one row per sentence"
            )
        if self.owners is not None and len(self.owners) != len(self.sentences):
            raise TextError(
                f"{where} has {len(self.sentences)} rows and says for {len(self.owners)} to which text they belong, "
                "expected one text per row"
            )
        repeated = first_repeated(self.sentences)
        if repeated is not None:
            raise TextError(f"{where} holds {repeated!r} twice, expected different sentences: remove one")
        for is_bad, what in (
            (~features.isfinite().all(dim=1), "not finite"),
            ((features == 0).all(dim=1), "all zeros"),
        ):
            if is_bad.any():
                row = int(is_bad.nonzero()[0])
                raise TextError(
                    f"{where} has a row that is {what}, row {row} ({self.sentences[row]!r}), "
                    "expected finite numbers that are not all 0: encode it again"
                )

    @property
    def dim(self) -> int:
        """Ct, the length of each row."""
        return self.features.shape[1]

    @property
    def texts(self) -> tuple[str, ...]:
        """The different texts: the rows' own, or in a bank of tokens those that the rows belong to."""
        return self.sentences if self.owners is None else tuple(dict.fromkeys(self.owners))


def rows_by_text(bank: TextBank) -> dict[str, list[int]]:
    """Return by text the rows that it has, in their order: one, or in a bank of tokens one for each token."""
    rows: dict[str, list[int]] = {}
    for row, text in enumerate(bank.owners or bank.sentences):
        rows.setdefault(text, []).append(row)
    return rows


def first_repeated(items: Iterable[Item]) -> Item | None:
    """Return the first item that occurs twice, or None."""
    seen: set[Item] = set()
    for item in items:
        if item in seen:
            return item
        seen.add(item)
    return None


# ---- Texts by image ----


def token_index(texts_by_image: Sequence[Sequence[str]], bank: TextBank) -> Int[Tensor, "images tokens"]:
    """Return each image's texts as rows of the bank, int64, padded at the end with -1.

    ``tokens`` is the largest number of rows that an image's texts have, at least 1; an image without text gets a row of
    -1.  In a bank of tokens the tokens of an image's texts follow each other, text by text.

    Raises:
        TextError: a text is not in the bank.
    """
    rows_of = rows_by_text(bank)
    rows_by_image: list[list[int]] = []
    for image, texts in enumerate(texts_by_image):
        rows_by_image.append([])
        for position, text in enumerate(texts):
            if text not in rows_of:
                raise TextError(
                    f"text {position} of image {image} is {text!r}, which the text bank of {bank.encoder} does not "
                    f"hold, nearest {nearest_sentence(text, bank.texts)!r}: encode all texts into one bank"
                )
            rows_by_image[-1] += rows_of[text]
    n_tokens = max([1, *map(len, rows_by_image)])
    index = torch.full((len(rows_by_image), n_tokens), PADDING, dtype=torch.int64)
    for image, rows in enumerate(rows_by_image):
        index[image, : len(rows)] = torch.tensor(rows, dtype=torch.int64)
    return index


def gather(
    bank_features: Float[Tensor, "sentences dim"], index: Int[Tensor, "images tokens"]
) -> tuple[Float[Tensor, "images tokens dim"], Bool[Tensor, "images tokens"]]:
    """Return the texts' features (B x T x Ct, zeros where padded) and which are padding (B x T).

    Args:
        bank_features: S x Ct, a bank's features, on the index's device.
        index: B x T rows of the bank, -1 for padding, as from `token_index`.
    """
    is_padding = index == PADDING
    features = bank_features[index.clamp(min=0)]  # (B, T, Ct)
    return features.masked_fill(is_padding[..., None], 0.0), is_padding


def fingerprint(bank: TextBank) -> str:
    """Return 64 hexadecimal digits that change with any bit of the features and any letter of the sentences."""
    owners = [] if bank.owners is None else [bank.owners]
    whole = hashlib.sha256(json.dumps([list(bank.features.shape), bank.sentences, *owners]).encode())
    whole.update(bank.features.detach().cpu().contiguous().numpy().tobytes())
    return whole.hexdigest()
