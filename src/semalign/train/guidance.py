"""The text of a run: which sentences each image is guided by, encoded.

It joins a source of images with a text encoder; it knows nothing of models and training.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from semalign.data.cache import cache_folder
from semalign.data.sample import DataSource, texts_from_masks
from semalign.errors import OutputError, TextError, nearest
from semalign.files import make_folder
from semalign.text.bank import TextBank, class_bank, encode_bank, gather, random_bank, token_index
from semalign.text.encoders import BankEncoder, make_encoder

__all__ = ["KINDS", "Guidance", "encode_classes", "prepare_guidance", "text_cache", "without_text"]

KINDS = {
    "none": "no text: the model is built without it",
    "classes": "one sentence per class, the same for every image",
    "images": "each image's own texts",
    "masks": "names of the classes in each image's mask (leaks the answer)",
    "random": "random vectors of equal norm in place of the class sentences",
}


@dataclasses.dataclass(frozen=True)
class Guidance:
    """Encoded text of the images of some splits.

    Attributes:
        kind: one of `KINDS`.
        bank: the encoded sentences; None for kind "none".
        index: by split, images x tokens rows of the bank with -1 for padding; None where every image gets the whole
            bank.
    """

    kind: str
    bank: TextBank | None
    index: Mapping[str, Int[Tensor, "images tokens"]] | None

    @property
    def is_shared(self) -> bool:
        """Whether all images get the same text, which then carries no information about any one of them."""
        return self.bank is not None and self.index is None

    @property
    def is_leaking(self) -> bool:
        """Whether the text is made from the masks that are scored."""
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
        if self.bank is None:
            return {"kind": self.kind, "meaning": KINDS[self.kind], "shared": False, "leaking": False}
        tokens = len(self.bank.sentences)
        if self.index is not None:
            tokens = max(table.shape[1] for table in self.index.values())
        return {
            "kind": self.kind,
            "meaning": KINDS[self.kind],
            "encoder": self.bank.encoder,
            "tokens": tokens,
            "sentences": len(self.bank.sentences),
            "shared": self.is_shared,
            "leaking": self.is_leaking,
        }


def prepare_guidance(
    source: DataSource,
    splits: Sequence[str],
    *,
    kind: str,
    encoder: str,
    templates: str = "photo",
    names: Mapping[str, str] | None = None,
    random_seed: int = 0,
) -> Guidance:
    """Encode the text of ``splits``; encoded banks are cached by encoder and sentences.

    Raises:
        TextError: images' own texts are asked for where the data have none, or the encoder cannot be had.
    """
    if kind == "none":
        return Guidance(kind, None, None)
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
        bank = encode_bank(make_encoder(encoder), sentences, text_cache())
        index = {split: token_index([by_split[split][name] for name in source.names(split)], bank) for split in splits}
        return Guidance(kind, bank, index)
    bank = encode_classes(encoder, source.class_names, templates, names)
    if kind == "random":
        return Guidance(kind, random_bank(bank, random_seed), None)
    if kind == "masks":
        present = {split: texts_from_masks(source, split) for split in splits}
        index = {split: token_index([present[split][name] for name in source.names(split)], bank) for split in splits}
        return Guidance(kind, bank, index)
    assert kind == "classes", kind
    return Guidance(kind, bank, None)


def encode_classes(
    encoder: str, class_names: Sequence[str], templates: str, names: Mapping[str, str] | None = None
) -> TextBank:
    """Return one token per class, made by the encoder that ``encoder`` names, cached; the bank's rows are the classes.

    A precomputed bank holds names and no sentences: its rows are looked up by the bare names, without a template.

    Args:
        encoder: see `semalign.text.encoders.make_encoder`.
        class_names: the classes.
        templates: a set of sentence templates.
        names: by class, what it is called in the text instead.

    Raises:
        TextError: the encoder cannot be had, a bank lacks a name, or ``names`` names an unknown class.
    """
    called = dict(names or {})
    for name in called:
        if name not in class_names:
            raise TextError(f"text.names renames '{name}', which is no class of the data{nearest(name, class_names)}")
    made = make_encoder(encoder)
    said = [called.get(name, name) for name in class_names]
    bank = class_bank(made, said, "plain" if isinstance(made, BankEncoder) else templates, text_cache())
    return dataclasses.replace(bank, sentences=tuple(class_names))


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
