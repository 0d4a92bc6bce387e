"""Text towers of CLIP, SigLIP and sentence-transformers, read from folders as their libraries save them."""

from __future__ import annotations

import importlib
import json
import shutil
import socket
from pathlib import Path
from typing import Any, NoReturn

import pytest
import safetensors.torch
import torch
from torch import Tensor
from torch.nn import functional as F

from semalign.errors import TextError
from semalign.text.bank import SentenceTokens, TextEncoder
from semalign.text.clip import TOWERS
from semalign.text.encoders import make_encoder
from semalign.text.encoding import class_bank, class_token_bank, encode_bank, token_bank
from semalign.text.folders import find_folder, offline
from tests.text.models import LIMIT, needs_sentence_transformers, needs_transformers, save_sentence_model, save_tower

SENTENCES = ["a photo of a car.", "天空", "the sky"]
CHINESE = ("天空", "道路", "行人", "自行车", "建筑物")
needs_all = [needs_transformers, needs_sentence_transformers]


@pytest.fixture(scope="module")
def towers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Any]]:
    """Return by model_type a folder and the whole model in it."""
    root = tmp_path_factory.mktemp("towers")
    return {kind: (root / kind, save_tower(root / kind, kind)) for kind in TOWERS}


@pytest.fixture(scope="module")
def clip(towers: dict[str, tuple[Path, Any]]) -> Path:
    """Return the folder of the small CLIP."""
    return towers["clip"][0]


@pytest.fixture(scope="module")
def sentence(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the small sentence model; its BERT alone lies beside it."""
    folder = tmp_path_factory.mktemp("sentence") / "small"
    save_sentence_model(folder)
    return folder


def by_library(model: Any, folder: Path, sentences: list[str]) -> Tensor:
    """Return the text features as the library's own model gives them."""
    transformers: Any = importlib.import_module("transformers")
    read = transformers.AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    limit = model.config.text_config.max_position_embeddings
    if model.config.model_type.startswith("siglip"):
        given = {"input_ids": read(sentences, padding="max_length", max_length=limit, return_tensors="pt")["input_ids"]}
    else:
        found = read(sentences, padding=True, return_tensors="pt")
        given = {name: found[name] for name in ("input_ids", "attention_mask")}
    with torch.no_grad():
        out = model.get_text_features(**given)
    return out if isinstance(out, Tensor) else out.pooler_output


# ---- CLIP and SigLIP ----


@needs_transformers
@pytest.mark.parametrize("kind", TOWERS)
def test_vectors_are_those_of_the_whole_model(kind: str, towers: dict[str, tuple[Path, Any]]) -> None:
    """The tower alone gives what the whole model's get_text_features gives, at unit norm; its width is the space's."""
    folder, model = towers[kind]
    encoder = make_encoder(f"{TOWERS[kind].kind}:{folder}")

    vectors = encoder.encode(SENTENCES)

    assert isinstance(encoder, TextEncoder)
    torch.testing.assert_close(vectors, F.normalize(by_library(model, folder, SENTENCES), dim=1), atol=1e-5, rtol=0)
    assert vectors.dtype == torch.float32
    assert encoder.dim == vectors.shape[1] == (12 if kind.startswith("siglip") else 7)
    assert (vectors[0] - vectors[1]).norm() > 0.01
    assert make_encoder(str(folder)).name == encoder.name
    assert encoder.name.startswith(f"{folder.name}@")


@needs_transformers
@pytest.mark.parametrize("kind", [kind for kind in TOWERS if kind != "siglip2"])
def test_tokens_lie_in_the_space_of_sentences(kind: str, towers: dict[str, tuple[Path, Any]]) -> None:
    """A token is its last hidden state through the head that makes sentences, without marks and padding."""
    folder, model = towers[kind]
    encoder = make_encoder(str(folder))
    transformers: Any = importlib.import_module("transformers")
    read = transformers.AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    is_siglip = kind.startswith("siglip")
    ids = read(SENTENCES[1], padding="max_length" if is_siglip else False, max_length=LIMIT, return_tensors="pt")
    text = model.text_model
    with torch.no_grad():
        hidden = text(input_ids=ids["input_ids"]).last_hidden_state
        projected = text.head(hidden) if is_siglip else model.text_projection(hidden)

    long, short = encoder.encode_tokens(SENTENCES[:2])

    assert long.pieces[:2] == ("a", "photo")
    assert short.pieces == ("天", "空")
    torch.testing.assert_close(short.features, F.normalize(projected[0, 1:3], dim=1), atol=1e-5, rtol=0)
    assert long.features.shape == (len(long.pieces), encoder.dim)


@needs_transformers
def test_a_tower_saved_alone(tmp_path: Path) -> None:
    """A folder with nothing but the text tower gives the whole model's vectors."""
    model = save_tower(tmp_path / "alone", "clip", alone=True)
    save_tower(tmp_path / "whole", "clip")

    encoder = make_encoder(f"clip:{tmp_path / 'alone'}")

    assert json.loads((tmp_path / "alone" / "config.json").read_text())["model_type"] == "clip_text_model"
    torch.testing.assert_close(
        encoder.encode(SENTENCES),
        F.normalize(by_library(model, tmp_path / "whole", SENTENCES), dim=1),
        atol=1e-5,
        rtol=0,
    )


@needs_transformers
def test_company_and_order_do_not_matter(clip: Path) -> None:
    """More sentences than a batch holds, in another order, give the same vectors up to rounding."""
    encoder = make_encoder(str(clip))
    many = [f"a car {number}" for number in range(67)]

    vectors = encoder.encode(many)

    torch.testing.assert_close(encoder.encode(many[::-1]).flip(0), vectors, atol=1e-5, rtol=0)
    torch.testing.assert_close(encoder.encode(many[5:6])[0], vectors[5], atol=1e-5, rtol=0)


# ---- Sentence models ----


@needs_transformers
@needs_sentence_transformers
def test_a_sentence_model_is_the_mean_of_its_tokens(sentence: Path) -> None:
    """Outside check: transformers' BERT, mean over real tokens; the tokens are its last hidden states without marks."""
    transformers: Any = importlib.import_module("transformers")
    plain = str(sentence.with_name("small-bert"))
    encoder = make_encoder(f"sentence:{sentence}")
    read = transformers.AutoTokenizer.from_pretrained(plain, local_files_only=True)
    tokens = read(SENTENCES, padding=True, return_tensors="pt")
    with offline(), torch.no_grad():
        model = transformers.BertModel.from_pretrained(plain, local_files_only=True)
        hidden = model(input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"]).last_hidden_state
    weight = tokens["attention_mask"][..., None]
    mean = (hidden * weight).sum(dim=1) / weight.sum(dim=1)

    vectors, (_, short, _) = encoder.encode(SENTENCES), encoder.encode_tokens(SENTENCES)

    torch.testing.assert_close(vectors, F.normalize(mean, dim=1), atol=1e-5, rtol=0)
    torch.testing.assert_close(short.features, F.normalize(hidden[1, 1:3], dim=1), atol=1e-5, rtol=0)
    assert len(short.pieces) == 2
    assert make_encoder(str(sentence)).name == encoder.name
    assert encoder.dim == 10


# ---- Chinese class names ----


@needs_transformers
@needs_sentence_transformers
@pytest.mark.parametrize("kind", ["clip", "siglip", "chinese_clip", "sentence"])
def test_chinese_class_names(kind: str, towers: dict[str, tuple[Path, Any]], sentence: Path, tmp_path: Path) -> None:
    """A tower whose tokenizer reads every byte tells Chinese names apart; the Chinese templates are averaged."""
    encoder = make_encoder(str(sentence if kind == "sentence" else towers[kind][0]))

    bank = class_bank(encoder, [*CHINESE, "汽车|轿车"], "chinese", tmp_path)
    plain = encoder.encode(["一张天空的照片。", "图中有天空。"])

    distances = torch.cdist(bank.features, bank.features) + 9 * torch.eye(6)
    assert distances.min() > 1e-3
    assert bank.sentences[-1] == "汽车|轿车"
    assert bank.notes == ()
    by_hand = F.normalize(plain.mean(dim=0), dim=0)
    two = class_bank(encoder, ["天空"], ["一张{}的照片。", "图中有{}。"])
    torch.testing.assert_close(two.features[0], by_hand, atol=1e-5, rtol=0)


@needs_transformers
def test_words_that_are_not_known_are_told(tmp_path: Path) -> None:
    """A tower without any of a text's words is refused; one that lacks some is noted."""
    save_tower(tmp_path / "english", "clip", bytes_known=False)
    encoder = make_encoder(str(tmp_path / "english"))

    assert encode_bank(encoder, ["a photo of a car."]).notes == ()
    (note,) = encode_bank(encoder, ["a car", "a photo of a 天空"]).notes
    assert "does not know all words of 1 of 2 texts, such as 'a photo of a 天空'" in str(note)
    with pytest.raises(TextError, match=r"knows no word of '天空', expected .*: take a multilingual text.encoder"):
        encoder.encode(["a car", "天空"])
    twins = class_bank(encoder, ["car", "天空", "道路"], "photo")
    assert any(
        "these classes have the same text vector" in str(note) and "'天空', '道路'" in str(note) for note in twins.notes
    )


# ---- Long texts ----

LONG = "the sky a car the sky a car the sky a car the sky a car the sky a car the sky a car the sky a car 天空"


def reads(encoder: Any, text: str) -> int:
    """Return how many tokens a text has."""
    (pieces,) = encoder.read([text])
    return len(pieces.ids)


@needs_transformers
@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_a_long_text_is_split_and_averaged(kind: str, towers: dict[str, tuple[Path, Any]]) -> None:
    """Its vector is the mean of its parts' unit vectors; what fits keeps its bits; the note says so."""
    encoder: Any = make_encoder(str(towers[kind][0]))
    parts = []
    words = LONG.split()
    while words:
        count = next(n for n in range(len(words), 0, -1) if reads(encoder, " ".join(words[:n])) <= LIMIT)
        parts.append(" ".join(words[:count]))
        words = words[count:]
    assert len(parts) == 3

    vectors = encoder.encode(["天空", LONG, "a car"])
    bank = encode_bank(encoder, ["天空", LONG])

    torch.testing.assert_close(vectors[1], F.normalize(encoder.encode(parts).mean(dim=0), dim=0), atol=1e-5, rtol=0)
    torch.testing.assert_close(vectors[[0, 2]], encoder.encode(["天空", "a car"]), atol=1e-5, rtol=0)
    assert tuple(map(str, bank.notes)) == (
        f"1 of 2 texts is longer than the 16 word pieces that the text encoder {encoder.name} reads; it was split and "
        f"its parts were averaged (text.long=split): '{LONG[:40]}...'",
    )
    tokens = encoder.encode_tokens([LONG])[0]
    assert tokens.pieces == tuple(piece for own in encoder.encode_tokens(parts) for piece in own.pieces)


@needs_transformers
def test_a_long_text_is_cut_or_refused_as_asked(clip: Path, tmp_path: Path) -> None:
    """Cut reads the first part and says so, also from the cache; refuse names the text and the option."""
    cut, refuse = make_encoder(str(clip), "cut"), make_encoder(str(clip), "refuse")
    split = make_encoder(str(clip))
    first = " ".join(LONG.split()[:14])
    assert reads(cut, first) == LIMIT < reads(cut, f"{first} car")

    bank = encode_bank(cut, [LONG], tmp_path)

    torch.testing.assert_close(bank.features, cut.encode([first]))
    assert "was cut (text.long=cut)" in str(bank.notes[0])
    assert encode_bank(cut, [LONG], tmp_path).notes == bank.notes
    # How long texts are read is part of the name, so that no cached vector answers for another reading.
    assert len({cut.name, refuse.name, split.name}) == 3
    assert not torch.allclose(encode_bank(split, [LONG], tmp_path).features, bank.features, atol=1e-3)
    with pytest.raises(TextError, match=r"has 33 word pieces, .* reads 16: split it .* set text.long to split or cut"):
        encode_bank(refuse, ["a car", LONG], tmp_path)
    with pytest.raises(TextError, match=r"text.long got 'half', known: split, cut, refuse"):
        make_encoder(str(clip), "half")  # type: ignore[arg-type]


@needs_transformers
def test_a_word_longer_than_the_tower_reads_is_broken(clip: Path) -> None:
    """Chinese has no spaces: a long sentence is broken between letters, and all of it is read."""
    encoder = make_encoder(str(clip))
    sentence = "天空道路" * 6

    (tokens,) = encoder.encode_tokens([sentence])

    assert "".join(tokens.pieces) == sentence
    assert encoder.encode([sentence]).isfinite().all()


# ---- Folders ----


@needs_transformers
def test_a_name_that_says_another_kind_is_refused(towers: dict[str, tuple[Path, Any]], tmp_path: Path) -> None:
    """What the prefix says must be in the folder; the message writes the right one."""
    clip, siglip = towers["clip"][0], towers["siglip"][0]

    with pytest.raises(TextError, match=rf"kind 'clip' \(model_type clip\), expected siglip: write clip:{clip}"):
        make_encoder(f"siglip:{clip}")
    with pytest.raises(TextError, match=r"kind 'siglip' \(model_type siglip\), expected sentence: write siglip:"):
        make_encoder(f"sentence:{siglip}")
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    with pytest.raises(TextError, match=r"kind 'unknown' \(model_type gpt2\), expected clip: name the folder of such"):
        make_encoder(f"clip:{tmp_path}")
    with pytest.raises(
        TextError, match=r"holds no modules.json and a model of the type 'gpt2', which is not a known text tower"
    ):
        make_encoder(str(tmp_path))
    (tmp_path / "config.json").write_text("[1]")
    with pytest.raises(TextError, match=r"cannot read .*config.json \(TypeError.*expected the config.json of a model"):
        make_encoder(f"clip:{tmp_path}")
    with pytest.raises(TextError, match=r"'clap:x' is neither .*, did you mean 'clip'\?, expected table, "):
        make_encoder("clap:x")


@needs_transformers
def test_pickled_weights_are_refused(clip: Path, tmp_path: Path) -> None:
    """A folder with pytorch_model.bin alone names it and the fix; so does one without any weights."""
    folder = tmp_path / "m"
    shutil.copytree(clip, folder, ignore=shutil.ignore_patterns("*.safetensors"))

    with pytest.raises(TextError, match=r"holds no weights, expected \*.safetensors"):
        make_encoder(str(folder))
    torch.save({}, folder / "pytorch_model.bin")
    with pytest.raises(TextError, match=r"pytorch_model.bin are a pickle, .* save the model again with safe_serial"):
        make_encoder(str(folder))


@needs_transformers
def test_weights_that_do_not_fit_are_refused(clip: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Missing tensors, damage and a missing tokenizer are one sentence each, and the library prints nothing."""
    folder = tmp_path / "m"
    shutil.copytree(clip, folder)
    weights = safetensors.torch.load_file(folder / "model.safetensors")
    kept = {name: tensor for name, tensor in weights.items() if "final_layer_norm" not in name}
    safetensors.torch.save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(TextError, match=r"lack text_model.*final_layer_norm.* and 1 more, expected the whole text tow"):
        make_encoder(str(folder)).encode(["a car"])
    (folder / "model.safetensors").write_bytes(b"nonsense")
    with pytest.raises(
        TextError, match=r"cannot load the text encoder in .*expected a complete CLIP or SigLIP"
    ) as caught:
        make_encoder(str(folder)).encode(["a car"])
    assert "\n" not in str(caught.value)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    shutil.copyfile(clip / "model.safetensors", folder / "model.safetensors")
    with pytest.raises(TextError, match=r"the tokenizer in .* knows no word, every text would be the same, expected"):
        make_encoder(str(folder)).encode(["a car"])
    make_encoder(str(clip)).encode(["a car"])

    said = capfd.readouterr()
    assert said.out == said.err == ""


@needs_transformers
def test_the_name_changes_with_the_weights(clip: Path, tmp_path: Path) -> None:
    """Another model in the same folder has another name, so that the cache does not answer for it."""
    folder = tmp_path / "clip"
    shutil.copytree(clip, folder)
    before = make_encoder(str(folder))
    cached = encode_bank(before, ["a car"], tmp_path / "cache")

    save_tower(folder, "clip", seed=1)
    after = make_encoder(str(folder))

    assert before.name == make_encoder(str(clip)).name != after.name
    assert not torch.allclose(encode_bank(after, ["a car"], tmp_path / "cache").features, cached.features, atol=1e-3)


# ---- The hub ----


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[object]:
    """Refuse every look-up of a host, record it, and keep the hub's cache in a folder of the test."""
    attempts: list[object] = []

    def refuse(*arguments: object, **_: object) -> NoReturn:
        attempts.append(arguments)
        raise OSError("no network in tests")

    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    constants: Any = importlib.import_module("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return attempts


@needs_transformers
@pytest.mark.parametrize("switched_off", [False, True])
def test_a_name_on_the_hub_without_network(
    switched_off: bool, no_network: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What, why and what to do in one sentence, whether the network fails or is switched off."""
    constants: Any = importlib.import_module("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", switched_off)

    with pytest.raises(
        TextError, match=r"cannot get the text encoder 'clip:some/model' from the hub \(.*go online, or"
    ) as caught:
        make_encoder("clip:some/model")

    assert "\n" not in str(caught.value)
    assert bool(no_network) is not switched_off


@needs_transformers
def test_a_model_in_the_hubs_cache_is_read_without_network(
    clip: Path, no_network: list[object], tmp_path: Path
) -> None:
    """OWNER/NAME and OWNER/NAME@REVISION are found where the hub's client keeps them."""
    store = tmp_path / "hub" / "models--some--model"
    shutil.copytree(clip, store / "snapshots" / ("a" * 40))
    (store / "refs").mkdir()
    (store / "refs" / "main").write_text("a" * 40)

    encoder = make_encoder("clip:some/model")

    assert encoder.name.split("@")[1] == make_encoder(str(clip)).name.split("@")[1]
    torch.testing.assert_close(encoder.encode(["a car"]), make_encoder(str(clip)).encode(["a car"]))
    assert find_folder(f"some/model@{'a' * 40}", "x") == store / "snapshots" / ("a" * 40)
    assert no_network == []


@needs_transformers
def test_a_part_of_a_model_in_the_hubs_cache(clip: Path, no_network: list[object], tmp_path: Path) -> None:
    """Where somebody fetched weights without a tokenizer the hub is asked for the rest."""
    store = tmp_path / "hub" / "models--some--model"
    kept = shutil.copytree(clip, store / "snapshots" / ("a" * 40))
    (store / "refs").mkdir()
    (store / "refs" / "main").write_text("a" * 40)
    for file in kept.iterdir():
        if file.name not in ("config.json", "model.safetensors"):
            file.unlink()

    with pytest.raises(TextError, match=r"the tokenizer in .* knows no word, every text would be the same"):
        make_encoder("clip:some/model").encode(["a car"])
    assert no_network != []


@needs_transformers
@pytest.mark.parametrize("where", ["../clip", "no/such/folder", "/no/such", "a model"])
def test_a_path_is_no_name_on_the_hub(where: str, no_network: list[object]) -> None:
    """A path that leads nowhere is said to be one, and no network is asked."""
    with pytest.raises(TextError, match=r"names no folder at '.*', expected a folder, or OWNER/NAME"):
        make_encoder(f"clip:{where}")
    assert no_network == []


# ---- Banks of tokens ----


@needs_transformers
def test_token_banks_of_a_tower(clip: Path, tmp_path: Path) -> None:
    """Rows are the tokens of each text, named by piece, place and text; the cache gives them again."""
    encoder = make_encoder(str(clip))
    tokens: list[SentenceTokens] = encoder.encode_tokens(["a car", "天空"])

    bank = token_bank(encoder, ["a car", "天空", "a car"], tmp_path)
    again = token_bank(encoder, ["a car", "天空"], tmp_path)
    classes = class_token_bank(encoder, ["car", "天空|天"], "plain", tmp_path)

    assert bank.texts == ("a car", "天空")
    assert bank.sentences[-2:] == ("天 [1] 天空", "空 [2] 天空")
    torch.testing.assert_close(bank.features, torch.cat([own.features for own in tokens]))
    assert torch.equal(bank.features, again.features)
    assert again.owners == bank.owners
    assert classes.texts == ("car", "天空|天")
    assert classes.sentences[-3:] == ("天 [1] 天空", "空 [2] 天空", "天 [1] 天")
    with pytest.raises(TextError, match=r"text.level=token got 7 templates, expected one"):
        class_token_bank(encoder, ["car"], "scene")
    with pytest.raises(TextError, match=r"two classes have the sentence 'car', expected different ones"):
        class_token_bank(encoder, ["car", "automobile|car"], "plain")
