"""Text banks: encoded sentences as a table of vectors, their cache on disk, and the index of each image's texts.

A row is a sentence, or, in a bank of tokens, one token of a sentence; `rows_by_text` tells which rows a text has.  A
bank shared by all images carries no information about any one image; only `token_index` of per-image texts does.
This module knows nothing of how sentences become vectors (an encoder is anything that fulfils `TextEncoder`), nor of
where texts come from.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar, runtime_checkable

import numpy as np
import safetensors.torch
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from torch import Tensor

from semalign.errors import TextError, first_line
from semalign.files import make_folder, write_bytes
from semalign.seeds import derive_seed
from semalign.text.sentences import check_sentences, class_sentences, nearest_sentence, resolve_templates
from semalign.wording import Message, say

__all__ = [
    "FORMAT_VERSION",
    "SentenceTokens",
    "TextBank",
    "TextEncoder",
    "class_bank",
    "class_token_bank",
    "encode_bank",
    "fingerprint",
    "gather",
    "hashed_directions",
    "load_bank",
    "permuted_bank",
    "random_bank",
    "rows_by_text",
    "save_bank",
    "shuffled_index",
    "token_bank",
    "token_index",
    "unit_rows",
]

# History of the format (of saved banks and of the cache):
# 1: first.
# 2: banks of tokens (owners), and notes; format 1 is read as it was.
FORMAT_VERSION = 2
READ_VERSIONS = (1, 2)

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
    """Anything that turns sentences into vectors."""

    @property
    def name(self) -> str:
        """Identifies the vectors (model and its version, or recipe, size and seed); the cache trusts it."""
        ...

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
        repeated = _first_repeated(self.sentences)
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


def _first_repeated(items: Iterable[Item]) -> Item | None:
    """Return the first item that stood before, or None."""
    seen: set[Item] = set()
    for item in items:
        if item in seen:
            return item
        seen.add(item)
    return None


def unit_rows(features: Float[Tensor, "rows dim"], where: str) -> Float[Tensor, "rows dim"]:
    """Return the rows as float32 divided by their norms, computed in float64.

    Raises:
        TextError: a row is not finite or has norm 0; ``where`` says whose rows these are.
    """
    wide = features.double()
    norms = torch.linalg.vector_norm(wide, dim=1, keepdim=True)
    is_bad = ~norms.isfinite() | (norms == 0)
    if is_bad.any():
        row = int(is_bad.nonzero()[0, 0])
        raise TextError(f"{where}: row {row} has norm {float(norms[row])}, expected a finite norm above 0")
    unit: Tensor = wide / norms
    return unit.float()


def hashed_directions(sentences: Sequence[str], dim: int, seed: int) -> Float[Tensor, "sentences dim"]:
    """Return one unit vector per sentence that depends on the sentence, ``dim`` and ``seed`` alone.

    Every bit is the same on every machine and with every version of NumPy and torch, by construction: SHAKE-256 of
    seed and sentence gives 6 bytes per entry; an entry is the sum of three unsigned 16-bit numbers, doubled, minus
    3 * 65535 (bell-shaped, symmetric, and odd, hence never 0); the sum of squares is a sum of integers; what remains
    are a square root, a division and a rounding, which IEEE 754 defines to the last bit.  A library's normal generator
    may change between its versions, Box-Muller needs a logarithm and a cosine whose last bit depends on the C library,
    and plain signs would give different sentences the same vector in small dimensions.

    Args:
        sentences: S strings.
        dim: Ct, at least 1.
        seed: the stream's seed.
    """
    entries = np.empty((len(sentences), dim), dtype=np.int64)
    for row, sentence in enumerate(sentences):
        key = derive_seed(seed, "hashed_directions", sentence).to_bytes(8, "little")
        words = np.frombuffer(hashlib.shake_256(key).digest(6 * dim), dtype="<u2")
        entries[row] = 2 * words.reshape(dim, 3).sum(axis=1, dtype=np.int64) - 3 * 65535
    norms = np.sqrt((entries * entries).sum(axis=1, keepdims=True).astype(np.float64))
    directions: NDArray[np.float32] = (entries / norms).astype(np.float32)
    return torch.from_numpy(directions)


# ---- Making banks ----


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
    repeated = _first_repeated(sentence for sentences in by_class for sentence in dict.fromkeys(sentences))
    if repeated is not None:
        raise TextError(
            f"two classes have the sentence {repeated!r}, expected different ones: rename one in text.names"
        )
    bank = token_bank(encoder, [sentence for sentences in by_class for sentence in sentences], cache_dir)
    class_of = {sentence: name for name, own in zip(class_names, by_class, strict=True) for sentence in own}
    assert bank.owners is not None
    label = f"{encoder.name}, tokens of template {json.dumps(chosen, ensure_ascii=False)}"
    return dataclasses.replace(bank, encoder=label, owners=tuple(class_of[sentence] for sentence in bank.owners))


# ---- Controls and counterfactuals ----


def random_bank(bank: TextBank, seed: int) -> TextBank:
    """Return the bank with each row replaced by a random vector of the same norm: identity without meaning.

    The rows are `hashed_directions` of the sentences, hence different for different sentences, and equal on every
    machine up to the rounding of the norms.
    """
    directions = hashed_directions(bank.sentences, bank.dim, derive_seed(seed, "random_bank")).double()
    norms = torch.linalg.vector_norm(bank.features.double().cpu(), dim=1, keepdim=True)
    features = (directions * norms).float().to(bank.features.device)
    label = f"random vectors, seed {seed}, with the norms of {bank.encoder}"
    return TextBank(features, bank.sentences, label, bank.owners)


def permuted_bank(bank: TextBank, seed: int) -> TextBank:
    """Return the bank with its rows moved so that no sentence keeps its own row (one random cycle through all rows).

    Raises:
        TextError: the bank has a single row, which cannot be moved.
    """
    if len(bank.sentences) < 2:
        raise TextError(f"the text bank of {bank.encoder} has 1 row, expected at least 2 to permute")
    source = _random_cycle(list(bank.sentences), seed, "permuted_bank")
    features = bank.features[torch.tensor(source, device=bank.features.device)]
    return TextBank(features, bank.sentences, f"permuted rows, seed {seed}, of {bank.encoder}", bank.owners)


def shuffled_index(index: Int[Tensor, "images tokens"], seed: int) -> Int[Tensor, "images tokens"]:
    """Return the index with its rows moved so that every image gets the texts of another image.

    Images whose texts are equal word for word can receive what they had; compare with ``index`` to count them.

    Raises:
        TextError: there is a single image.
    """
    if len(index) < 2:
        raise TextError(f"got the texts of {len(index)} images, expected at least 2 to shuffle between images")
    return index[torch.tensor(_random_cycle(list(range(len(index))), seed, "shuffled_index"), device=index.device)]


def _random_cycle(items: Sequence[str | int], seed: int, purpose: str) -> list[int]:
    """Return, per place, the place to take from: a uniformly random cycle through all places.

    The order comes from hashes, so that it is the same with every version of every library.
    """
    order = sorted(range(len(items)), key=lambda place: derive_seed(seed, purpose, items[place]))
    source = [0] * len(items)
    for here, there in zip(order, order[1:] + order[:1], strict=True):
        source[here] = there
    return source


# ---- Texts by image ----


def token_index(texts_by_image: Sequence[Sequence[str]], bank: TextBank) -> Int[Tensor, "images tokens"]:
    """Return each image's texts as rows of the bank, int64, padded at the end with -1.

    ``tokens`` is the largest number of rows that an image's texts have, at least 1; an image without text gets a row of
    -1.  In a bank of tokens the tokens of an image's texts stand one text after the other.

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


# ---- Files ----


def fingerprint(bank: TextBank) -> str:
    """Return 64 hexadecimal digits that change with any bit of the features and any letter of the sentences."""
    owners = [] if bank.owners is None else [bank.owners]
    whole = hashlib.sha256(json.dumps([list(bank.features.shape), bank.sentences, *owners]).encode())
    whole.update(bank.features.detach().cpu().contiguous().numpy().tobytes())
    return whole.hexdigest()


def save_bank(path: Path, bank: TextBank) -> None:
    """Write the bank as safetensors: tensor "features", and sentences, encoder and checksum as JSON in the metadata.

    Equal banks give equal bytes.

    Raises:
        TextError: the path does not end in .safetensors.
        OutputError: the file cannot be written.
    """
    _require_safetensors_ending(path)
    features = bank.features.detach().cpu().contiguous()
    facts = {
        "format": FORMAT_VERSION,
        "encoder": bank.encoder,
        "sentences": bank.sentences,
        "owners": bank.owners,
        "notes": [note.to_dict() for note in bank.notes],
        "sha256": fingerprint(bank),
    }
    # One key: safetensors writes several in an order that changes from call to call.
    metadata = {"semalign": json.dumps(facts, ensure_ascii=False)}
    write_bytes(path, safetensors.torch.save({"features": features}, metadata=metadata))


def load_bank(path: Path) -> TextBank:
    """Read a bank written by `save_bank`, or a plain S x Ct tensor with its S names, one a line, in a .txt beside it.

    Features are returned as stored (not brought to unit norm), as float32.  A plain bank's encoder is named
    "bank:STEM@DIGEST".

    Raises:
        TextError: the file is missing, no safetensors, damaged, of another format version, holds no or several 2-D
            tensors, or its names are missing, repeated, blank or of another number than its rows.
    """
    _require_safetensors_ending(path)
    if not path.is_file():
        raise TextError(f"no text bank at {path}, expected a .safetensors file: check the path")
    try:
        with safe_open(path, framework="pt") as handle:
            facts = (handle.metadata() or {}).get("semalign")
            shapes = {name: handle.get_slice(name).get_shape() for name in sorted(handle.keys())}
            tables = [name for name, shape in shapes.items() if len(shape) == 2]
            if len(tables) != 1:
                held = ", ".join(f"{name!r} {tuple(shape)}" for name, shape in shapes.items()) or "no tensor"
                raise TextError(
                    f"the text bank {path} holds {len(tables)} 2-D tensors ({held}), "
                    "expected exactly one of sentences x dim: save the features alone"
                )
            stored = handle.get_tensor(tables[0])
    except (OSError, SafetensorError) as error:
        raise TextError(
            f"cannot read the text bank {path} as safetensors ({first_line(error)}): it is damaged or of another "
            "kind, write it again with safetensors"
        ) from error
    if not stored.is_floating_point():
        raise TextError(f"the text bank {path} holds numbers of type {stored.dtype}, expected floating point")
    features = stored.float()
    if facts is not None:
        return _with_facts(path, features, facts)
    names = _read_names(path.with_suffix(".txt"), path)
    if len(names) != len(features):
        raise TextError(
            f"the text bank {path} has {len(features)} rows, but {path.with_suffix('.txt').name} beside it names "
            f"{len(names)}, expected one line per row in row order"
        )
    bank = TextBank(features, names, str(path))
    return dataclasses.replace(bank, encoder=f"bank:{path.stem}@{fingerprint(bank)[:12]}")


def _with_facts(path: Path, features: Tensor, facts: str) -> TextBank:
    """Return the bank of a file written by `save_bank`, checked against its metadata."""
    again = "encode the sentences again"
    try:
        value: Any = json.loads(facts)
        version, encoder, sentences, digest = (value[key] for key in ("format", "encoder", "sentences", "sha256"))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise TextError(
            f"the text bank {path} has metadata that cannot be read ({type(error).__name__}: {error}), {again}"
        ) from error
    if version not in READ_VERSIONS:
        known = " or ".join(map(str, READ_VERSIONS))
        raise TextError(f"the text bank {path} has format {version!r}, expected {known}: {again}")
    owners = value.get("owners")
    if not isinstance(encoder, str) or not all(map(_is_strings, (sentences, owners or []))):
        raise TextError(f"the text bank {path} has metadata without an encoder's name or sentences, {again}")
    try:
        notes = tuple(Message.from_dict(note) for note in value.get("notes") or [])
    except (KeyError, TypeError) as error:
        raise TextError(f"the text bank {path} has notes that cannot be read ({error}), {again}") from error
    check_sentences(sentences, f"sentences of the text bank {path}")
    bank = TextBank(features, tuple(sentences), encoder, None if owners is None else tuple(owners), notes)
    if fingerprint(bank) != digest:
        raise TextError(f"the text bank {path} does not match its own checksum, it is damaged: {again}")
    return bank


def _is_strings(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _read_names(path: Path, bank_path: Path) -> tuple[str, ...]:
    try:
        # utf-8-sig: editors of some systems put a byte order mark before the first name.
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise TextError(
            f"the text bank {bank_path} carries no sentences and there is no {path.name} beside it, "
            "expected one name per row, one a line"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise TextError(f"cannot read the names {path} ({error}), expected UTF-8 text, one name a line") from error
    # Not splitlines(), which also cuts at characters that may stand in a sentence.
    names = text.removesuffix("\n").split("\n")
    check_sentences(names, f"names in {path}")
    repeated = _first_repeated(names)
    if repeated is not None:
        raise TextError(f"the names {path} hold {repeated!r} twice, expected different names: rows are found by name")
    return tuple(names)


def _require_safetensors_ending(path: Path) -> None:
    if path.suffix != ".safetensors":
        raise TextError(
            f"the text bank {path} ends in {path.suffix!r}, expected '.safetensors': pickled tensors can run code and "
            "are never read, convert them with safetensors.torch.save_file"
        )
