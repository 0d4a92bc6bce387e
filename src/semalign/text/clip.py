"""The text towers of CLIP and SigLIP, as transformers saves them.

Both give sentences in the space that they share with images.  A token's vector goes through the same projection as the
sentence's: it lies in the same space and has the same width.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from semalign.errors import TextError
from semalign.presets import LongText
from semalign.text.bank import SentenceTokens
from semalign.text.folders import INSTALL_HF, folder_digest, loading, model_type, require_safetensors
from semalign.text.towers import Pieces, Tower, batches_of, check_tokenizer, mark_ids, pieces_of, tower_name

__all__ = ["TOWERS", "TextTower", "family_of"]

_EXPECTED = "a complete CLIP or SigLIP model with its tokenizer: copy it there again"


class Family(NamedTuple):
    """How the text tower of one type of model is read.

    Attributes:
        kind: "clip" or "siglip", the word before the colon in ``text.encoder``.
        model: transformers' class.
        head: its module from hidden states to the shared space.
        whole: whether the class holds the image tower too.
    """

    kind: str
    model: str
    head: str
    whole: bool = False


TOWERS: dict[str, Family] = {
    "clip": Family("clip", "CLIPTextModelWithProjection", "text_projection"),
    "metaclip_2": Family("clip", "MetaClip2TextModelWithProjection", "text_projection"),
    "chinese_clip": Family("clip", "ChineseCLIPModel", "text_projection", whole=True),
    "siglip": Family("siglip", "SiglipTextModel", "head"),
    "siglip2": Family("siglip", "Siglip2TextModel", "head"),
}
"""By the model_type of a folder's config.json."""


def family_of(kind: str | None) -> Family | None:
    """Return the family of a model_type, also of a text tower that was saved alone; None for others."""
    return None if kind is None else TOWERS.get(kind.removesuffix("_text_model"))


class TextTower(Tower):
    """A text tower of CLIP (CLIP, MetaCLIP 2, Chinese-CLIP) or SigLIP (SigLIP, SigLIP 2), on the CPU in float32.

    The model is loaded at the first use, so that a bank found in the cache does not wait for it; the tokenizer alone
    measures texts.  The company a sentence is encoded in may change its vector by rounding (about 1e-7).

    Args:
        folder: holds ``config.json``, weights as safetensors, and the tokenizer, as save_pretrained writes them.
        long: what is done with texts that are longer than the tower reads.

    Raises:
        TextError: transformers is not installed, or the folder holds another model, or weights only as pickles.
    """

    def __init__(self, folder: Path, long: LongText = "split") -> None:
        if importlib.util.find_spec("transformers") is None:
            raise TextError(f"the text encoder in {folder} needs transformers, which is missing: {INSTALL_HF}")
        family = family_of(model_type(folder))
        if family is None:
            raise TextError(
                f"the folder {folder} holds a model of the type {model_type(folder)!r}, expected one of "
                f"{', '.join(TOWERS)}: name the folder of a CLIP or SigLIP model"
            )
        require_safetensors(folder)
        self._folder = folder
        self._family = family
        super().__init__(tower_name(folder.resolve().name, folder_digest(folder), long), long)

    @property
    def limit(self) -> int:
        """The tower's positions, or fewer where the tokenizer says so."""
        return int(min(self._text_config.max_position_embeddings, self._tokenizer.model_max_length))

    def read(self, texts: Sequence[str]) -> list[Pieces]:
        """Return how the tokenizer reads whole texts."""
        return pieces_of(self._tokenizer, texts)

    @torch.no_grad()
    def vectors(self, parts: list[str]) -> Float[Tensor, "parts dim"]:
        """Return the vectors of the shared space."""
        return torch.cat([vectors for _, vectors, _ in self._run(parts)])

    @torch.no_grad()
    def token_vectors(self, parts: list[str]) -> list[SentenceTokens]:
        """Return each token's last hidden state, taken to the shared space as the sentence's is."""
        marks = mark_ids(self._tokenizer)
        found = []
        for given, _, hidden in self._run(parts):
            projected = getattr(self._model, self._family.head)(hidden)
            for ids, is_text, row in zip(given["input_ids"], given["attention_mask"].bool(), projected, strict=True):
                is_word = is_text & torch.tensor([number not in marks for number in ids.tolist()])
                found.append(SentenceTokens(self._write(ids[is_word].tolist()), row[is_word]))
        return found

    def _write(self, numbers: list[int]) -> tuple[str, ...]:
        """Return the tokens as people write them; a piece of a letter's bytes is written as the tokenizer has it."""
        raw = self._tokenizer.convert_ids_to_tokens(numbers)
        plain = [self._tokenizer.decode([number]).strip() for number in numbers]
        return tuple(
            text if text and "\ufffd" not in text else str(piece) for text, piece in zip(plain, raw, strict=True)
        )

    def _run(self, parts: list[str]) -> Iterator[tuple[Any, Tensor, Tensor]]:
        """Yield batches as the tokenizer gives them, with their sentence vectors and last hidden states."""
        is_siglip, is_whole = self._family.kind == "siglip", self._family.whole
        encode = self._model.get_text_features if is_whole else self._model
        for some in batches_of(parts):
            given = self._tokenizer(
                some,
                # SigLIP was trained on texts of full length: it reads its sentence off the last place, padding or not.
                padding="max_length" if is_siglip else "longest",
                max_length=self.limit,
                truncation=True,
                return_attention_mask=True,
                return_tensors="pt",
            )
            names = ("input_ids",) if is_siglip else ("input_ids", "attention_mask")
            out = encode(**{name: given[name] for name in names})
            yield given, out.pooler_output if is_siglip or is_whole else out.text_embeds, out.last_hidden_state

    @functools.cached_property
    def _config(self) -> Any:
        with loading(self._folder, _EXPECTED):
            return _transformers().AutoConfig.from_pretrained(str(self._folder), local_files_only=True)

    @property
    def _text_config(self) -> Any:
        return getattr(self._config, "text_config", self._config)

    @functools.cached_property
    def _tokenizer(self) -> Any:
        with loading(self._folder, _EXPECTED):
            tokenizer = _transformers().AutoTokenizer.from_pretrained(
                str(self._folder), local_files_only=True, trust_remote_code=False
            )
            check_tokenizer(tokenizer, self._folder)
            return tokenizer

    @functools.cached_property
    def _model(self) -> Any:
        config = self._config
        if not self._family.whole:
            # A whole CLIP's own width replaces its text tower's, which may still be the default.
            width = getattr(config, "projection_dim", None)
            config = self._text_config
            if width is not None:
                config.projection_dim = width
        with loading(self._folder, _EXPECTED):
            model, about = getattr(_transformers(), self._family.model).from_pretrained(
                str(self._folder),
                config=config,
                local_files_only=True,
                use_safetensors=True,
                output_loading_info=True,
                dtype=torch.float32,
            )
        missing = sorted(name for name in about["missing_keys"] if "position_ids" not in name)
        if missing:
            raise TextError(
                f"the weights in {self._folder} lack {missing[0]}"
                f"{f' and {len(missing) - 1} more' if len(missing) > 1 else ''}, expected the whole text tower: copy "
                "the model there again"
            )
        return model.eval()


def _transformers() -> Any:
    return importlib.import_module("transformers")
