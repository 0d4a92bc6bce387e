"""From sentences and class names to banks: encoded once, and cached on disk by encoder and sentences.

This module does not depend on how sentences become vectors: an encoder is anything that fulfils `TextEncoder`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from semalign.errors import TextError
from semalign.files import make_folder
from semalign.text.bank import TextBank, TextEncoder, first_repeated
from semalign.text.bank_file import FORMAT_VERSION, load_bank, save_bank
from semalign.text.sentences import check_sentences, class_sentences, resolve_templates
from semalign.text.vectors import unit_rows
from semalign.wording import Message, say

__all__ = ["class_bank", "class_token_bank", "encode_bank", "token_bank"]


def encode_bank(encoder: TextEncoder, sentences: Sequence[str], cache_dir: Path | None = None) -> TextBank:
    """Return the bank of the different sentences, in order of first appearance.

    Args:
        encoder: makes the vectors.
        sentences: any number of sentences, at least one; repetitions are encoded once.
        cache_dir: folder of the cache, made when missing; None: no cache.  A cache file is found by encoder name and
            sentences, and trusted only if its checksum, encoder and sentences are right; otherwise it is made again.

    Raises:
        TextError: no sentence, a blank one, or an encoder that breaks its contract.
        OutputError: the cache cannot be written.
    """
    return _cached(encoder, sentences, cache_dir, "sentences", _encode)


def token_bank(encoder: TextEncoder, sentences: Sequence[str], cache_dir: Path | None = None) -> TextBank:
    """Return the tokens of the different sentences as rows, sentence by sentence; owners are the sentences.

    Args:
        encoder: makes the vectors.
        sentences: any number of sentences, at least one; repetitions are encoded once.
        cache_dir: as in `encode_bank`.

    Raises:
        TextError: no sentence, a blank one, or an encoder without tokens or that breaks its contract.
        OutputError: the cache cannot be written.
    """
    return _cached(encoder, sentences, cache_dir, "tokens", _encode_tokens)


def _cached(
    encoder: TextEncoder,
    sentences: Sequence[str],
    cache_dir: Path | None,
    level: str,
    make: Callable[[TextEncoder, tuple[str, ...]], TextBank],
) -> TextBank:
    check_sentences(sentences, "sentences to encode")
    unique = tuple(dict.fromkeys(sentences))
    if cache_dir is None:
        return make(encoder, unique)
    key = json.dumps([FORMAT_VERSION, level, encoder.name, unique], ensure_ascii=False)
    path = cache_dir / f"{hashlib.sha256(key.encode()).hexdigest()}.safetensors"
    if path.exists():
        try:
            cached = load_bank(path)
        except TextError:
            pass  # Damaged: made again below, which costs time and nothing else.
        else:
            is_tokens = cached.owners is not None
            if (cached.encoder, cached.texts, is_tokens) == (encoder.name, unique, level == "tokens"):
                return cached
    bank = make(encoder, unique)
    make_folder(cache_dir)
    save_bank(path, bank)
    return bank


def _encode(encoder: TextEncoder, sentences: tuple[str, ...]) -> TextBank:
    bank = TextBank(encoder.encode(sentences), sentences, encoder.name, notes=encoder.remarks(sentences))
    return _checked_norms(bank)


def _encode_tokens(encoder: TextEncoder, sentences: tuple[str, ...]) -> TextBank:
    found = encoder.encode_tokens(sentences)
    pairs = list(zip(sentences, found, strict=True))
    bank = TextBank(
        torch.cat([tokens.features for tokens in found]),
        tuple(
            f"{piece} [{place}] {sentence}"
            for sentence, tokens in pairs
            for place, piece in enumerate(tokens.pieces, start=1)
        ),
        encoder.name,
        tuple(sentence for sentence, tokens in pairs for _ in tokens.pieces),
        encoder.remarks(sentences),
    )
    return _checked_norms(bank)


def _checked_norms(bank: TextBank) -> TextBank:
    norms = torch.linalg.vector_norm(bank.features, dim=1)
    worst = int((norms - 1).abs().argmax())
    if abs(float(norms[worst]) - 1) > 1e-3:
        raise TextError(
            f"the text encoder {bank.encoder} gave {bank.sentences[worst]!r} norm {float(norms[worst]):.6g}, "
            "expected 1: divide each row by its norm"
        )
    return bank


def class_bank(
    encoder: TextEncoder,
    class_names: Sequence[str],
    templates: str | Sequence[str] = "plain",
    cache_dir: Path | None = None,
) -> TextBank:
    """Return one token per class: the mean over its sentences' unit vectors, brought back to unit norm.

    This is the zero-shot classifier of CLIP (Radford et al. 2021, https://arxiv.org/abs/2103.00020, section 3.1.4).
    The bank's sentences are the class names as given.

    Args:
        encoder: makes the vectors.
        class_names: C different names; aliases are separated by ``|`` and averaged like templates.
        templates: the name of a set in `semalign.text.sentences.TEMPLATES`, or templates that hold ``{}`` once.
        cache_dir: as in `encode_bank`.

    Raises:
        TextError: as `encode_bank`, or repeated names, or unknown templates.
        OutputError: the cache cannot be written.
    """
    by_class = class_sentences(class_names, templates)
    bank = encode_bank(encoder, [sentence for sentences in by_class for sentence in sentences], cache_dir)
    row_of = {sentence: row for row, sentence in enumerate(bank.sentences)}
    means = torch.stack([bank.features[[row_of[s] for s in sentences]].double().mean(dim=0) for sentences in by_class])
    label = f"{encoder.name}, mean over templates {json.dumps(resolve_templates(templates), ensure_ascii=False)}"
    features = unit_rows(means, f"class vectors of {label}")
    return TextBank(features, tuple(class_names), label, notes=(*bank.notes, *_twins(features, class_names)))


def _twins(features: Float[Tensor, "classes dim"], class_names: Sequence[str]) -> tuple[Message, ...]:
    """Return a note for the classes that nothing tells apart."""
    different, group = torch.unique(features, dim=0, return_inverse=True)
    if len(different) == len(features):
        return ()
    members: dict[int, list[str]] = {}
    for name, number in zip(class_names, group.tolist(), strict=True):
        members.setdefault(number, []).append(name)
    alike = tuple(say("text.group", names=tuple(map(repr, names))) for names in members.values() if len(names) > 1)
    return (say("text.same_vectors", alike=alike),)


def class_token_bank(
    encoder: TextEncoder,
    class_names: Sequence[str],
    templates: str | Sequence[str] = "photo",
    cache_dir: Path | None = None,
) -> TextBank:
    """Return the tokens of each class's sentence; owners are the class names as given.

    Tokens of different sentences do not correspond, so that there is no mean over templates: one template is taken.
    Aliases have their tokens side by side.

    Args:
        encoder: makes the vectors.
        class_names: C different names; aliases are separated by ``|``.
        templates: the name of a set with a single template, or a single template that holds ``{}`` once.
        cache_dir: as in `encode_bank`.

    Raises:
        TextError: as `token_bank`, or several templates, or two classes with one sentence.
        OutputError: the cache cannot be written.
    """
    chosen = resolve_templates(templates)
    if len(chosen) > 1:
        raise TextError(
            f"text.level=token got {len(chosen)} templates, expected one, for the tokens of different sentences cannot "
            "be averaged: set text.templates to plain, photo or a single template of your own"
        )
    by_class = class_sentences(class_names, chosen)
    repeated = first_repeated(sentence for sentences in by_class for sentence in dict.fromkeys(sentences))
    if repeated is not None:
        raise TextError(
            f"two classes have the sentence {repeated!r}, expected different ones: rename one in text.names"
        )
    bank = token_bank(encoder, [sentence for sentences in by_class for sentence in sentences], cache_dir)
    class_of = {sentence: name for name, own in zip(class_names, by_class, strict=True) for sentence in own}
    assert bank.owners is not None
    label = f"{encoder.name}, tokens of template {json.dumps(chosen, ensure_ascii=False)}"
    return dataclasses.replace(bank, encoder=label, owners=tuple(class_of[sentence] for sentence in bank.owners))
