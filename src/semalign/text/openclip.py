"""The text towers of open_clip: a model's folder, a model on the hub, or an architecture with a file of weights.

open_clip brings torchvision, which has no CPU build for every version of torch: it lives in an environment of its own,
and is imported when one of its models is asked for.  Its own loader reads pickles as well; it is never shown one here.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import importlib.util
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from semalign.errors import TextError, nearest
from semalign.presets import LongText
from semalign.text.bank import SentenceTokens
from semalign.text.folders import find_folder, folder_digest, loading
from semalign.text.towers import Pieces, Tower, batches_of, pieces_of, tower_name

__all__ = ["CONFIG_FILE", "OpenClipTower", "make_open_clip"]

CONFIG_FILE = "open_clip_config.json"
WEIGHTS_FILE = "open_clip_model.safetensors"
INSTALL = "pip install open_clip_torch"
_EXPECTED = "an open_clip model with whole weights that fit its architecture: copy it there again"


def make_open_clip(rest: str, spec: str, long: LongText) -> OpenClipTower:
    """Return the tower that the part after "open_clip:" names.

    Args:
        rest: "FOLDER", "OWNER/NAME" on the hub, "ARCHITECTURE:FILE.safetensors", or "ARCHITECTURE:TAG", where TAG names
            published weights that are on the hub.
        spec: what the user wrote, for messages.
        long: what is done with texts that are longer than the tower reads.

    Raises:
        TextError: open_clip is missing, or there is no such architecture, tag or file.
    """
    library = _open_clip(spec)
    name, colon, weights = rest.partition(":")
    known = library.list_models()
    if not colon and name not in known:
        return OpenClipTower(find_folder(name, spec), long)
    if name not in known:
        raise TextError(f"the text encoder {spec!r} names the architecture {name!r}{_nearest(name, known)}")
    tags = library.list_pretrained_tags_by_model(name)
    if not weights:
        raise TextError(
            f"the text encoder {spec!r} names no weights, expected open_clip:{name}:FILE.safetensors or one of the "
            f"tags {', '.join(tags) or '(none)'}: add one"
        )
    if weights in tags:
        return OpenClipTower(_of_tag(library, name, weights, spec), long)
    file = Path(weights)
    if file.suffix != ".safetensors":
        raise TextError(
            f"the text encoder {spec!r} names the weights {weights!r}, expected a file *.safetensors (pickles can run "
            f"code and are never read), or one of the tags {', '.join(tags) or '(none)'}"
        )
    if not file.is_file():
        raise TextError(
            f"the text encoder {spec!r} names weights that are not there, expected a file: correct the path"
        )
    return OpenClipTower(file, long, architecture=name)


def _of_tag(library: Any, name: str, tag: str, spec: str) -> Path:
    """Return the folder of published weights, from the hub's cache or the hub."""
    about = library.get_pretrained_cfg(name, tag)
    place, _, file = str(about.get("hf_hub") or "").rpartition("/")
    if not place or (file and not file.endswith(".safetensors")):
        raise TextError(
            f"the text encoder {spec!r} names weights that are published as a pickle alone, which can run code and is "
            f"never read, expected safetensors: give open_clip:{name}:FILE.safetensors"
        )
    return find_folder(place, spec)


class OpenClipTower(Tower):
    """A text tower of open_clip, on the CPU in float32; the model is built at the first use.

    Args:
        source: a folder with open_clip_config.json and safetensors, or a file of weights of ``architecture``.
        long: what is done with texts that are longer than the tower reads.
        architecture: one of open_clip's names, for a file.

    Raises:
        TextError: open_clip is not installed, or the folder holds no such model or weights only as pickles.
    """

    def __init__(self, source: Path, long: LongText = "split", architecture: str | None = None) -> None:
        _open_clip(str(source))
        self._folder = None if architecture is not None else source
        self._architecture = architecture or f"local-dir:{source}"
        if architecture is not None:
            self._weights = source
            with source.open("rb") as handle:
                digest = hashlib.file_digest(handle, "sha256").hexdigest()[:12]
            label = f"open_clip-{architecture}"
        else:
            self._weights = source / WEIGHTS_FILE
            if not (source / CONFIG_FILE).is_file() or not self._weights.is_file():
                missing = CONFIG_FILE if not (source / CONFIG_FILE).is_file() else WEIGHTS_FILE
                raise TextError(
                    f"the folder {source} holds no {missing}, expected an open_clip model with weights as safetensors "
                    "(pickles can run code and are never read): save it again with open_clip.push_to_hf_hub's layout"
                )
            digest, label = folder_digest(source), source.resolve().name
        super().__init__(tower_name(label, digest, long), long)

    @property
    def limit(self) -> int:
        """The tower's context length."""
        return int(self._model.context_length)

    def read(self, texts: Sequence[str]) -> list[Pieces]:
        """Return how the tokenizer reads whole texts, with the two marks around each."""
        inner = getattr(self._tokenizer, "tokenizer", None)
        if inner is not None and hasattr(inner, "all_special_ids"):
            return pieces_of(inner, list(map(self._tokenizer.clean_fn, texts)))
        found = []
        for text in texts:
            ids = [self._tokenizer.sot_token_id, *self._tokenizer.encode(text), self._tokenizer.eot_token_id]
            marks = [True, *[False] * (len(ids) - 2), True]
            found.append(Pieces(ids, marks, [False] * len(ids)))
        return found

    @torch.no_grad()
    def vectors(self, parts: list[str]) -> Float[Tensor, "parts dim"]:
        """Return the vectors of the shared space."""
        return torch.cat([self._model.encode_text(self._tokenizer(some)) for some in batches_of(parts)])

    def token_vectors(self, parts: list[str]) -> list[SentenceTokens]:
        """Refuse: open_clip's models do not give them all in one way.

        Raises:
            TextError: always.
        """
        raise TextError(
            f"the text encoder {self.name} of open_clip gives no vectors of tokens, expected text.level=sentence, or "
            "the same model as transformers saves it (clip:MODEL)"
        )

    @functools.cached_property
    def _tokenizer(self) -> Any:
        with loading(self._weights, _EXPECTED):
            return _open_clip(self.name).get_tokenizer(self._architecture)

    @functools.cached_property
    def _model(self) -> Any:
        library = _open_clip(self.name)
        with loading(self._weights, _EXPECTED):
            # It would warn that the model has no weights, which are put in below.
            logger = logging.getLogger()
            level = logger.level
            logger.setLevel(logging.ERROR)
            try:
                model = library.create_model(self._architecture, load_weights=False, pretrained_hf=False)
            finally:
                logger.setLevel(level)
            # Its ending is .safetensors, by which that loader chooses how to read.
            library.factory.load_checkpoint(model, str(self._weights))
            return model.eval()


def _open_clip(spec: str) -> Any:
    if importlib.util.find_spec("open_clip") is None:
        raise TextError(
            f"the text encoder {spec!r} needs open_clip, which is missing, expected it in this environment (it brings "
            f"torchvision): {INSTALL}"
        )
    return importlib.import_module("open_clip")


def _nearest(name: str, known: Sequence[str]) -> str:
    meant = nearest(name, known)
    # All names would be more than a hundred.
    return meant if "did you mean" in meant else f", which open_clip does not have (it has {len(known)})"
