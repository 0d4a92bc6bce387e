"""The text of a run: which sentences each image is given, and the class sentences of a text classifier, encoded.

At the level of sentences each text is one token; at the level of tokens each token of a text is one.  This module joins
a source of images with a text encoder.  It does not depend on models and training.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, get_args

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from semalign.config.options import TextKind, TextOptions
from semalign.data.cache import cache_folder
from semalign.data.leaking import texts_from_masks
from semalign.data.sample import DataSource
from semalign.data.scenes import Scenes
from semalign.errors import OutputError, TextError, nearest
from semalign.files import make_folder
from semalign.presets import LongText, TextLevel
from semalign.text.bank import TextBank, gather, token_index
from semalign.text.controls import random_bank
from semalign.text.encoders import BankEncoder, make_encoder
from semalign.text.encoding import class_bank, class_token_bank, encode_bank, token_bank
from semalign.wording import Message, say

__all__ = [
    "KINDS",
    "RunText",
    "encode_classes",
    "encode_texts",
    "names_among",
    "prepare_run_text",
    "text_cache",
    "text_keywords",
    "without_text",
]


KINDS: Final = get_args(TextKind)


@dataclasses.dataclass(frozen=True)
class RunText:
    """Encoded text of the images of some splits.

    Attributes:
        kind: one of `KINDS`.
        bank: the encoded sentences; None for kind "none".
        index: by split, images x tokens rows of the bank with -1 for padding; None where every image gets the whole
            bank.
        classes: the class sentences of the `text` classifier; None with the linear one.
        own: by split and image, the texts that the data give; empty unless the kind is "images".
        is_rendered: whether the data's texts are captions of the built-in scenes, which name each class of the mask.
    """

    kind: str
    bank: TextBank | None
    index: Mapping[str, Int[Tensor, "images tokens"]] | None
    classes: TextBank | None = None
    own: Mapping[str, Mapping[str, tuple[str, ...]]] = dataclasses.field(default_factory=dict)
    is_rendered: bool = False

    @property
    def is_shared(self) -> bool:
        """Whether all images get the same text, which then carries no information about any one of them."""
        return self.bank is not None and self.index is None

    @property
    def notes(self) -> tuple[Message, ...]:
        """What a reader must know of the vectors, each note once."""
        banks = [bank for bank in (self.bank, self.classes) if bank is not None]
        return tuple({str(note): note for bank in banks for note in bank.notes}.values())

    @property
    def dim(self) -> int | None:
        """Width of the text features; None without text."""
        return None if self.bank is None else self.bank.dim

    @property
    def class_dim(self) -> int | None:
        """Width of the class sentences' features; None with the linear classifier."""
        return None if self.classes is None else self.classes.dim

    @property
    def is_leaking(self) -> bool:
        """Whether the text is declared to be made from the masks that are scored."""
        return self.kind == "masks"

    def batch(self, split: str, index: Int[Tensor, " b"]) -> tuple[Float[Tensor, ...] | None, Bool[Tensor, ...] | None]:
        """Return the features (T x Ct or B x T x Ct) and padding of the images at ``index`` of ``split``."""
        if self.bank is None:
            return None, None
        if self.index is None:
            return self.bank.features, None
        features, is_padding = gather(self.bank.features, self.index[split][index])
        return features, is_padding

    def facts(self) -> dict[str, Any]:
        """Return plain facts for the run's result."""
        meaning = str(say(f"common.text {self.kind}"))
        if self.bank is None:
            return {"kind": self.kind, "meaning": meaning, "shared": False, "leaking": False}
        tokens = len(self.bank.sentences)
        if self.index is not None:
            tokens = max(table.shape[1] for table in self.index.values())
        return {
            "kind": self.kind,
            "meaning": meaning,
            "encoder": self.bank.encoder,
            "level": "sentence" if self.bank.owners is None else "token",
            "tokens": tokens,
            "sentences": len(self.bank.texts),
            "shared": self.is_shared,
            "leaking": self.is_leaking,
        }


def prepare_run_text(
    source: DataSource,
    splits: Sequence[str],
    *,
    kind: str,
    encoder: str,
    templates: str | Sequence[str] = "photo",
    names: Mapping[str, str] | None = None,
    level: TextLevel = "sentence",
    long: LongText = "split",
    random_seed: int = 0,
    unseen: Collection[str] = (),
) -> RunText:
    """Encode the text of ``splits``; encoded banks are cached by encoder and sentences.

    Args:
        source: the data.
        splits: splits whose texts are encoded.
        kind: one of `KINDS`.
        encoder: see `semalign.text.encoders.make_encoder`.
        templates: sentence templates of class names.
        names: by class, what it is called in the text instead.
        level: a vector per sentence, or per token of each sentence.
        long: what is done with texts that are longer than the encoder reads.
        random_seed: of the vectors of kind "random".
        unseen: classes that no sentence may name.

    Raises:
        TextError: images' own texts are asked for where the data have none, or the encoder cannot be had.
    """
    if kind == "none":
        return RunText(kind, None, None)
    if kind == "images":
        if not source.has_texts:
            raise TextError(
                f"data.text=images, but the {source.kind} data have no texts, expected texts.jsonl beside classes.txt: "
                "write one or set data.text=classes"
            )
        by_split = {split: source.texts(split) for split in splits}
        sentences = [text for texts in by_split.values() for own in texts.values() for text in own]
        if not sentences:
            raise TextError(
                f"data.text=images, but no image of {', '.join(splits)} has a text, "
                "expected lines for these splits in texts.jsonl"
            )
        bank = encode_texts(encoder, sentences, level=level, long=long)
        index = {split: token_index([by_split[split][name] for name in source.names(split)], bank) for split in splits}
        return RunText(kind, bank, index, own=by_split, is_rendered=isinstance(source, Scenes))
    _check_names(names, source.class_names)
    seen = [name for name in source.class_names if name not in unseen]
    bank = encode_classes(encoder, seen, templates, names_among(names, seen), level=level, long=long)
    if kind == "random":
        return RunText(kind, random_bank(bank, random_seed), None)
    if kind == "masks":
        present = {split: texts_from_masks(source, split) for split in splits}
        index = {split: token_index([present[split][name] for name in source.names(split)], bank) for split in splits}
        return RunText(kind, bank, index)
    assert kind == "classes", kind
    return RunText(kind, bank, None)


def text_keywords(text: TextOptions) -> dict[str, Any]:
    """Return what `prepare_run_text` and `encode_classes` take of the options of a run's text."""
    return {name: getattr(text, name) for name in ("encoder", "templates", "names", "level", "long")}


def names_among(names: Mapping[str, str] | None, class_names: Sequence[str]) -> dict[str, str]:
    """Return the entries of ``names`` that are for one of ``class_names``."""
    return {name: said for name, said in (names or {}).items() if name in class_names}


def encode_texts(
    encoder: str, texts: Sequence[str], *, level: TextLevel = "sentence", long: LongText = "split"
) -> TextBank:
    """Return the vectors of texts, or of their tokens, cached.

    Raises:
        TextError: the encoder cannot be had or refuses a text.
    """
    made = make_encoder(encoder, long)
    return (token_bank if level == "token" else encode_bank)(made, texts, text_cache())


def encode_classes(
    encoder: str,
    class_names: Sequence[str],
    templates: str | Sequence[str],
    names: Mapping[str, str] | None = None,
    *,
    level: TextLevel = "sentence",
    long: LongText = "split",
) -> TextBank:
    """Return one row per class, made by the encoder that ``encoder`` names, cached; the bank's texts are the classes.

    At the level of tokens a class has a row for each token of its sentence.  A precomputed bank holds names and no
    sentences: its rows are looked up by the bare names, without a template.

    Args:
        encoder: see `semalign.text.encoders.make_encoder`.
        class_names: the classes.
        templates: a set of sentence templates.
        names: by class, what it is called in the text instead.
        level: a vector per class, or per token of its sentence.
        long: what is done with sentences that are longer than the encoder reads.

    Raises:
        TextError: the encoder cannot be had, a bank lacks a name, or ``names`` names an unknown class.
    """
    _check_names(names, class_names)
    called = dict(names or {})
    made = make_encoder(encoder, long)
    said = [called.get(name, name) for name in class_names]
    make = class_token_bank if level == "token" else class_bank
    bank = make(made, said, "plain" if isinstance(made, BankEncoder) else templates, text_cache())
    if bank.owners is None:
        return dataclasses.replace(bank, sentences=tuple(class_names))
    class_of = dict(zip(said, class_names, strict=True))
    return dataclasses.replace(bank, owners=tuple(class_of[name] for name in bank.owners))


def _check_names(names: Mapping[str, str] | None, class_names: Sequence[str]) -> None:
    for name in names or {}:
        if name not in class_names:
            raise TextError(
                f"text.names renames '{name}', which is not a class of the data{nearest(name, class_names)}"
            )


def without_text(count: int, dim: int) -> tuple[Float[Tensor, "b 2 dim"], Bool[Tensor, "b 2"]]:
    """Return text input that says: none of these ``count`` images has a text."""
    return torch.zeros(count, 2, dim), torch.ones(count, 2, dtype=torch.bool)


def text_cache() -> Path | None:
    """Return the folder that encoded text is cached in, None where none can be made: a cache never costs a run."""
    folder = cache_folder("text")
    try:
        return None if folder is None else make_folder(folder)
    except OutputError:
        return None
