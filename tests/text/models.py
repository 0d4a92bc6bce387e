"""Small text models with random weights and a tokenizer made here, saved as their libraries save them."""

from __future__ import annotations

import importlib
import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

__all__ = [
    "LIMIT",
    "OPEN_CLIP",
    "needs_sentence_transformers",
    "needs_transformers",
    "save_open_clip",
    "save_sentence_model",
    "save_tower",
    "tokenizer",
]

LIMIT = 16
"""Tokens that the models read, marks included."""

CHINESE = "天空道路行人自行车建筑物汽轿一张的照片。图中有场景背前近远处这部分是"
CORPUS = ("a photo of a car.", "a photo of the sky.", *CHINESE)
"""What the tokenizer's merges are learned from: English words, and single Chinese letters."""

needs_transformers = pytest.mark.skipif(
    importlib.util.find_spec("transformers") is None, reason="transformers is not installed (extra hf)"
)
needs_sentence_transformers = pytest.mark.skipif(
    importlib.util.find_spec("sentence_transformers") is None,
    reason="sentence-transformers is not installed (extra minilm)",
)


def tokenizer(*, bytes_known: bool = True) -> Any:
    """Return a byte-level BPE, which reads every script, or a list of six English words beside an unknown one."""
    tokenizers: Any = importlib.import_module("tokenizers")
    transformers: Any = importlib.import_module("transformers")
    if bytes_known:
        made = tokenizers.Tokenizer(tokenizers.models.BPE())
        made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
        made.decoder = tokenizers.decoders.ByteLevel()
        trainer = tokenizers.trainers.BpeTrainer(
            vocab_size=500,
            special_tokens=["<s>", "</s>"],
            initial_alphabet=sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        )
        made.train_from_iterator(CORPUS, trainer)
    else:
        words = ["<s>", "</s>", "[UNK]", "a", "photo", "of", "car", "sky", "."]
        vocabulary = {word: number for number, word in enumerate(words)}
        made = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="[UNK]"))
        made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    made.post_processor = tokenizers.processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    unknown = {} if bytes_known else {"unk_token": "[UNK]"}
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=made,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="</s>",
        model_max_length=LIMIT,
        **unknown,
    )


def letter_tokenizer() -> Any:
    """Return SigLIP 2's own kind of tokenizer, which the library insists on, with letters for tokens."""
    transformers: Any = importlib.import_module("transformers")
    marks = ("<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "▁")
    letters = dict.fromkeys((*marks, *"abcdefghijklmnopqrstuvwxyz.0123456789", *CHINESE))
    vocabulary = {letter: number for number, letter in enumerate(letters)}
    return transformers.Siglip2Tokenizer(vocab=vocabulary, merges=[], model_max_length=2 * LIMIT)


def save_tower(folder: Path, kind: str, *, seed: int = 0, bytes_known: bool = True, alone: bool = False) -> Any:
    """Save a whole model of ``kind`` (a model_type), or its text tower ``alone``, and return the whole model."""
    transformers: Any = importlib.import_module("transformers")
    read = letter_tokenizer() if kind == "siglip2" else tokenizer(bytes_known=bytes_known)
    text: dict[str, Any] = {
        "vocab_size": len(read),
        "hidden_size": 12,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 20,
        "max_position_embeddings": 2 * LIMIT if kind == "siglip2" else LIMIT,
        "bos_token_id": 0,
        "eos_token_id": 1,
        "pad_token_id": 1,
    }
    image: dict[str, Any] = {
        "hidden_size": 12,
        "num_hidden_layers": 1,
        "num_attention_heads": 1,
        "intermediate_size": 8,
        "image_size": 8,
        "patch_size": 4,
    }
    more: dict[str, Any] = {"projection_dim": 7}
    if kind.startswith("siglip"):
        text["projection_size"], more = 12, {}
    if kind == "siglip2":
        image = {**image, "num_patches": 4}
        del image["image_size"]
    name = {"clip": "CLIP", "metaclip_2": "MetaClip2", "chinese_clip": "ChineseCLIP"}.get(kind, kind.capitalize())
    config = getattr(transformers, f"{name}Config")(text_config=text, vision_config=image, **more)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = getattr(transformers, f"{name}Model")(config).eval()
        for parameter in model.parameters():
            # As the libraries draw them, small models give all sentences nearly one vector.
            torch.nn.init.normal_(parameter, std=0.5)
        for module in model.modules():
            # As trained models have it, and as the library puts it back when it loads.
            if isinstance(module, torch.nn.Embedding) and module.padding_idx is not None:
                torch.nn.init.zeros_(module.weight[module.padding_idx])
    saved = model
    if alone:
        own = {**config.text_config.to_dict(), "projection_dim": 7}
        saved = getattr(transformers, f"{name}TextModelWithProjection")(type(config.text_config)(**own))
        saved.load_state_dict(model.state_dict(), strict=False)
    _save(saved, folder)
    read.save_pretrained(str(folder))
    return model


def save_sentence_model(folder: Path, *, seed: int = 0, bytes_known: bool = True) -> Path:
    """Save a sentence-transformers model: a small BERT, averaged over its tokens."""
    transformers: Any = importlib.import_module("transformers")
    modules: Any = importlib.import_module("sentence_transformers.sentence_transformer.modules")
    library: Any = importlib.import_module("sentence_transformers")
    read = tokenizer(bytes_known=bytes_known)
    config = transformers.BertConfig(
        vocab_size=len(read),
        hidden_size=10,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=LIMIT,
        pad_token_id=1,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = transformers.BertModel(config).eval()
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.5)
    plain = folder.with_name(f"{folder.name}-bert")
    _save(model, plain)
    read.save_pretrained(str(plain))
    parts = [modules.Transformer(str(plain)), modules.Pooling(10)]
    library.SentenceTransformer(modules=parts, device="cpu").save(str(folder), create_model_card=False)
    return plain


OPEN_CLIP = {
    "embed_dim": 7,
    "vision_cfg": {"image_size": 8, "layers": 1, "width": 64, "patch_size": 4, "head_width": 32},
    "text_cfg": {"context_length": LIMIT, "vocab_size": 49408, "width": 12, "heads": 2, "layers": 1},
}
"""A small model of open_clip; the vocabulary is that of its tokenizer."""


def save_open_clip(folder: Path) -> Any:
    """Save a model in open_clip's layout and return it."""
    open_clip: Any = importlib.import_module("open_clip")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = open_clip.CLIP(**OPEN_CLIP).eval()
    folder.mkdir()
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": OPEN_CLIP, "preprocess_cfg": {}}))
    safetensors.torch.save_model(model, str(folder / "open_clip_model.safetensors"))
    return model


def _save(model: Any, folder: Path) -> None:
    """Save without the library's progress bar, which would stand in the tests' output."""
    logging: Any = importlib.import_module("transformers.utils.logging")
    logging.disable_progress_bar()
    try:
        model.save_pretrained(str(folder))
    finally:
        logging.enable_progress_bar()
