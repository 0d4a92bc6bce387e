"""Text banks: making, caching, controls, per-image index, files."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import Float
from torch import Tensor

import semalign.text.bank_file as bank_module
from semalign.errors import OutputError, TextError
from semalign.text.bank import SentenceTokens, TextBank, fingerprint, gather, rows_by_text, token_index
from semalign.text.bank_file import load_bank, save_bank
from semalign.text.controls import permuted_bank, random_bank, shuffled_index
from semalign.text.encoding import class_bank, class_token_bank, encode_bank, token_bank
from semalign.text.vectors import hashed_directions, unit_rows
from semalign.wording import Message, say

SENTENCES = ("sky", "car", "a tree\u2028with leaves", "天空", "red 'bus'")


class FixedEncoder:
    """Vectors given by hand; counts how often it encodes."""

    def __init__(self, vectors: dict[str, list[float]], name: str = "fixed") -> None:
        self.name = name
        self.dim = len(next(iter(vectors.values())))
        self.calls: list[tuple[str, ...]] = []
        self._vectors = vectors

    def encode(self, sentences: Sequence[str]) -> Float[Tensor, "sentences dim"]:
        """Look the sentences up."""
        self.calls.append(tuple(sentences))
        return torch.tensor([self._vectors[sentence] for sentence in sentences])

    def encode_tokens(self, sentences: Sequence[str]) -> list[SentenceTokens]:
        """Look the words up."""
        self.calls.append(tuple(sentences))
        return [
            SentenceTokens(words, torch.tensor([self._vectors[word] for word in words]))
            for words in (tuple(sentence.split()) for sentence in sentences)
        ]

    def remarks(self, sentences: Sequence[str]) -> tuple[Message, ...]:
        """Say how many there were."""
        return (say("text.group", names=(f"{len(sentences)} sentences",)),) if self.name == "remarking" else ()


def small_bank(rows: int = 5, dim: int = 3) -> TextBank:
    """Rows of different norms."""
    features = hashed_directions(SENTENCES[:rows], dim, 7) * torch.arange(1, rows + 1)[:, None]
    return TextBank(features, SENTENCES[:rows], "test")


# ---- Making banks ----


def test_different_sentences_are_encoded_once_in_order() -> None:
    """Repetitions fold onto the first appearance, and the encoder is asked once."""
    encoder = FixedEncoder({"b": [1.0, 0.0], "a": [0.0, 1.0], "c": [0.6, 0.8]})

    bank = encode_bank(encoder, ["b", "a", "b", "c", "a"])

    assert bank.sentences == ("b", "a", "c")
    assert bank.features.tolist() == [[1.0, 0.0], [0.0, 1.0], pytest.approx([0.6, 0.8])]
    assert bank.encoder == "fixed"
    assert bank.dim == 2
    assert encoder.calls == [("b", "a", "c")]


def test_class_vectors_are_the_mean_over_sentences_at_unit_norm() -> None:
    """Mean of (1, 0) and (0.6, 0.8) is (0.8, 0.4), whose direction is (2, 1) / sqrt(5); one sentence stays itself."""
    encoder = FixedEncoder({"a car": [1.0, 0.0], "a auto": [0.6, 0.8], "a sky": [0.0, -1.0]})

    bank = class_bank(encoder, ["car|auto", "sky"], ["a {}"])

    assert bank.sentences == ("car|auto", "sky")
    assert bank.features[0].tolist() == pytest.approx([0.894427, 0.447214], abs=1e-6)
    assert bank.features[1].tolist() == [0.0, -1.0]
    assert bank.encoder == 'fixed, mean over templates ["a {}"]'


def test_a_sentence_shared_by_classes_counts_in_each() -> None:
    """Two classes with a common alias share its vector, which is encoded once."""
    encoder = FixedEncoder({"x": [1.0, 0.0], "y": [0.0, 1.0]})

    bank = class_bank(encoder, ["x|y", "y"])

    assert bank.features[0].tolist() == pytest.approx([0.707107, 0.707107], abs=1e-6)
    assert bank.features[1].tolist() == [0.0, 1.0]
    assert encoder.calls == [("x", "y")]


def test_class_vectors_that_cancel_are_refused() -> None:
    """A mean of norm 0 has no direction: an error, not NaN."""
    encoder = FixedEncoder({"x": [1.0, 0.0], "y": [-1.0, 0.0]})

    with pytest.raises(
        TextError, match=r"class vectors of fixed.*: row 0 has norm 0.0, expected a finite norm above 0"
    ):
        class_bank(encoder, ["x|y"])


def test_repeated_class_names_are_refused() -> None:
    """Rows are found by name, so two classes of one name are an error."""
    encoder = FixedEncoder({"x": [1.0, 0.0]})

    with pytest.raises(TextError, match="holds 'x' twice, expected different sentences"):
        class_bank(encoder, ["x", "x"])


@pytest.mark.parametrize(
    ("vector", "message"),
    [
        ([0.3, 0.4], "the text encoder fixed gave 'x' norm 0.5, expected 1: divide each row by its norm"),
        ([float("nan"), 1.0], r"a row that is not finite, row 1 \('x'\)"),
        ([float("inf"), 1.0], r"a row that is not finite, row 1 \('x'\)"),
        ([0.0, 0.0], r"a row that is all zeros, row 1 \('x'\)"),
    ],
)
def test_an_encoder_that_breaks_its_contract_is_named(vector: list[float], message: str) -> None:
    """Rows that are not unit vectors are refused, with the encoder and the sentence."""
    encoder = FixedEncoder({"ok": [1.0, 0.0], "x": vector})

    with pytest.raises(TextError, match=message):
        encode_bank(encoder, ["ok", "x"])


def test_features_must_fit_the_sentences() -> None:
    """Wrong number type and row count are refused."""
    with pytest.raises(TextError, match=r"shape \(2, 3\) and type torch.float64, expected .* torch.float32"):
        TextBank(torch.ones(2, 3, dtype=torch.float64), ("a", "b"), "t")
    with pytest.raises(TextError, match="has 2 rows for 3 sentences"):
        TextBank(torch.ones(2, 5), ("a", "b", "c"), "t")
    with pytest.raises(TextError, match="neither of them 0"):
        TextBank(torch.ones(2, 0), ("a", "b"), "t")


def test_no_sentence_is_an_error() -> None:
    """An empty bank cannot be made."""
    with pytest.raises(TextError, match="sentences to encode: got none"):
        encode_bank(FixedEncoder({"x": [1.0]}), [])


def test_unit_rows_divide_by_the_norm() -> None:
    """(3, 4) becomes (0.6, 0.8), also where float32 squares would overflow or vanish."""
    rows = unit_rows(torch.tensor([[3.0, 4.0], [3e30, 4e30], [3e-30, 4e-30]]), "rows")

    assert rows.dtype == torch.float32
    assert rows.tolist() == [pytest.approx([0.6, 0.8])] * 3


# ---- Cache ----


def test_a_cached_bank_is_read_and_not_encoded_again(tmp_path: Path) -> None:
    """The second call finds the file, asks the encoder nothing and returns the same bits."""
    encoder = FixedEncoder({"a": [1.0, 0.0], "b": [0.6, 0.8]})
    first = encode_bank(encoder, ["a", "b"], tmp_path / "new" / "cache")

    second = encode_bank(encoder, ["a", "b"], tmp_path / "new" / "cache")

    assert len(encoder.calls) == 1
    assert torch.equal(first.features, second.features)
    assert (first.sentences, first.encoder) == (second.sentences, second.encoder)
    assert [file.suffix for file in (tmp_path / "new" / "cache").iterdir()] == [".safetensors"]


def test_the_cache_is_keyed_by_encoder_and_sentences(tmp_path: Path) -> None:
    """Another name, other sentences or another order are other files."""
    vectors = {"a": [1.0, 0.0], "b": [0.6, 0.8]}
    for name, sentences in [("one", ["a", "b"]), ("two", ["a", "b"]), ("one", ["b", "a"]), ("one", ["a"])]:
        assert encode_bank(FixedEncoder(vectors, name), sentences, tmp_path).encoder == name

    assert len(list(tmp_path.iterdir())) == 4


@pytest.mark.parametrize("damage", ["flipped", "truncated", "empty", "text", "other bank", "other format"])
def test_a_damaged_cache_file_is_made_again(tmp_path: Path, damage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever stands in the cache file, the right vectors come back and the file is mended."""
    encoder = FixedEncoder({"a": [1.0, 0.0], "b": [0.6, 0.8]})
    right = encode_bank(encoder, ["a", "b"], tmp_path)
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    if damage == "flipped":
        path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    elif damage == "truncated":
        path.write_bytes(whole[:-3])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "text":
        path.write_text("not a bank")
    elif damage == "other bank":
        save_bank(path, dataclasses.replace(right, encoder="another"))
    else:
        with monkeypatch.context() as patch:
            patch.setattr(bank_module, "FORMAT_VERSION", 99)
            save_bank(path, right)

    again = encode_bank(encoder, ["a", "b"], tmp_path)

    assert torch.equal(again.features, right.features)
    assert len(encoder.calls) == 2
    assert path.read_bytes() == whole


def test_without_cache_folder_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No folder, no file."""
    monkeypatch.chdir(tmp_path)
    encode_bank(FixedEncoder({"a": [1.0]}), ["a"])

    assert list(tmp_path.iterdir()) == []


def test_a_cache_that_cannot_be_made_is_an_output_error(tmp_path: Path) -> None:
    """A file where the folder should be is reported."""
    (tmp_path / "cache").write_text("in the way")

    with pytest.raises(OutputError, match="cannot make the output folder"):
        encode_bank(FixedEncoder({"a": [1.0]}), ["a"], tmp_path / "cache")


# ---- Banks of tokens ----

WORDS = {"red": [1.0, 0.0], "bus": [0.0, 1.0], "car": [0.6, 0.8]}


def test_a_bank_of_tokens_has_a_row_per_token(tmp_path: Path) -> None:
    """By hand: two texts of two and one words; each row says word, place and text, and to which text it belongs."""
    bank = token_bank(FixedEncoder(WORDS), ["red bus", "car", "red bus"])

    assert bank.sentences == ("red [1] red bus", "bus [2] red bus", "car [1] car")
    assert bank.features.tolist() == [[1.0, 0.0], [0.0, 1.0], pytest.approx([0.6, 0.8])]
    assert bank.owners == ("red bus", "red bus", "car")
    assert bank.texts == ("red bus", "car")
    assert rows_by_text(bank) == {"red bus": [0, 1], "car": [2]}
    # A text of two tokens takes two places; what is shorter is padded at the end.
    index = token_index([["car", "red bus"], [], ["car"]], bank)
    assert index.tolist() == [[2, 0, 1], [-1, -1, -1], [2, -1, -1]]


def test_a_bank_of_tokens_is_saved_and_cached_apart(tmp_path: Path) -> None:
    """Owners and notes come back from a file; the cache keeps tokens and sentences of one encoder apart."""
    encoder = FixedEncoder({**WORDS, "red bus": [0.8, 0.6]}, "remarking")
    tokens = token_bank(encoder, ["red bus", "car"], tmp_path)
    whole = encode_bank(encoder, ["red bus", "car"], tmp_path)
    save_bank(tmp_path / "own.safetensors", tokens)

    for again in (token_bank(encoder, ["red bus", "car"], tmp_path), load_bank(tmp_path / "own.safetensors")):
        assert torch.equal(again.features, tokens.features)
        assert (again.owners, again.notes) == (("red bus", "red bus", "car"), tokens.notes)
    assert whole.owners is None
    assert whole.features.shape == (2, 2)
    assert encoder.calls == [("red bus", "car"), ("red bus", "car")]
    assert fingerprint(tokens) != fingerprint(dataclasses.replace(tokens, owners=("car", "red bus", "car")))


def test_classes_as_tokens_keep_their_names() -> None:
    """Owners are the classes, aliases side by side; controls keep them."""
    bank = class_token_bank(FixedEncoder(WORDS), ["bus|red bus", "car"], "plain")

    assert bank.sentences == ("bus [1] bus", "red [1] red bus", "bus [2] red bus", "car [1] car")
    assert bank.texts == ("bus|red bus", "car")
    assert random_bank(bank, 3).owners == permuted_bank(bank, 3).owners == bank.owners
    with pytest.raises(TextError, match="has 4 rows and says for 1 to which text they belong"):
        dataclasses.replace(bank, owners=("car",))


def test_classes_that_no_text_tells_apart_are_noted() -> None:
    """Two names with one vector are named together; different vectors need no note."""
    encoder = FixedEncoder({"sofa": [1.0, 0.0], "car": [0.6, 0.8], "couch": [1.0, 0.0]})

    (note,) = class_bank(encoder, ["sofa", "car", "couch"]).notes
    assert str(note) == (
        "these classes have the same text vector, so that the text cannot distinguish them: ('sofa', 'couch')"
    )
    assert class_bank(encoder, ["sofa", "car"]).notes == ()


# ---- Controls and counterfactuals ----


def test_random_rows_keep_norms_and_nothing_else() -> None:
    """Same norm per row, other directions, another seed other directions, the same seed the same bits."""
    bank = small_bank()
    one, again, other = random_bank(bank, 1), random_bank(bank, 1), random_bank(bank, 2)

    torch.testing.assert_close(one.features.norm(dim=1), bank.features.norm(dim=1))
    assert torch.equal(one.features, again.features)
    assert not torch.isclose(one.features, other.features).all(dim=1).any()
    assert not torch.isclose(one.features, bank.features).all(dim=1).any()
    assert one.sentences == bank.sentences
    assert one.encoder == "random vectors, seed 1, with the norms of test"


def test_random_rows_of_a_table_differ_from_the_table() -> None:
    """The random control of hashed vectors under the same seed is no copy of them."""
    features = hashed_directions(SENTENCES, 11, 0)

    cosines = (random_bank(TextBank(features, SENTENCES, "table"), 0).features * features).sum(dim=1)

    assert (cosines.abs() < 0.95).all()


@given(rows=st.integers(2, 5), seed=st.integers(0, 1000))
def test_permuting_moves_every_row_and_loses_none(rows: int, seed: int) -> None:
    """No sentence keeps its row, and the rows are the same set."""
    bank = small_bank(rows)

    moved = permuted_bank(bank, seed)

    assert not (moved.features == bank.features).all(dim=1).any()
    assert sorted(moved.features.tolist()) == sorted(bank.features.tolist())
    assert moved.sentences == bank.sentences


def test_every_cycle_of_three_rows_occurs() -> None:
    """Three rows have two derangements; over 200 seeds each occurs about 100 times (standard deviation 7)."""
    bank = small_bank(3)
    forward = sum(torch.equal(permuted_bank(bank, seed).features, bank.features.roll(1, 0)) for seed in range(200))

    assert 65 < forward < 135


def test_permuting_is_the_same_for_the_same_seed_and_needs_two_rows() -> None:
    """Same seed, same bits; a single row cannot move."""
    assert torch.equal(permuted_bank(small_bank(), 3).features, permuted_bank(small_bank(), 3).features)
    with pytest.raises(TextError, match="has 1 row, expected at least 2 to permute"):
        permuted_bank(small_bank(1), 0)


@given(images=st.integers(2, 13), seed=st.integers(0, 1000))
def test_shuffling_gives_each_image_the_texts_of_another(images: int, seed: int) -> None:
    """Whole rows move, none stays, none is lost."""
    index = torch.arange(images * 3).reshape(images, 3)

    shuffled = shuffled_index(index, seed)

    assert not (shuffled == index).all(dim=1).any()
    assert sorted(shuffled.tolist()) == index.tolist()
    assert torch.equal(shuffled, shuffled_index(index, seed))


def test_shuffling_needs_two_images() -> None:
    """One image has nobody to swap with."""
    with pytest.raises(TextError, match="got the texts of 1 images, expected at least 2"):
        shuffled_index(torch.zeros(1, 2, dtype=torch.int64), 0)


# ---- Texts by image ----


def test_index_and_features_of_four_images_by_hand() -> None:
    """Two texts, none, one, and the same text twice: -1 and zeros where there is no text."""
    bank = TextBank(torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]), ("sky", "car"), "hand")

    index = token_index([["car", "sky"], [], ["sky"], ["car", "car"]], bank)
    features, is_padding = gather(bank.features, index)

    assert index.dtype == torch.int64
    assert index.tolist() == [[1, 0], [-1, -1], [0, -1], [1, 1]]
    assert is_padding.tolist() == [[False, False], [True, True], [False, True], [False, False]]
    assert features.tolist() == [
        [[4.0, 5.0, 6.0], [1.0, 2.0, 3.0]],
        [[0.0, 0.0, 0.0], [0.0, 0.0, 0.0]],
        [[1.0, 2.0, 3.0], [0.0, 0.0, 0.0]],
        [[4.0, 5.0, 6.0], [4.0, 5.0, 6.0]],
    ]


@pytest.mark.parametrize(("images", "shape"), [(0, (0, 1)), (3, (3, 1))])
def test_images_without_any_text_have_one_padded_token(images: int, shape: tuple[int, int]) -> None:
    """The token axis never vanishes: attention over no token at all is not defined."""
    index = token_index([[]] * images, small_bank())

    assert tuple(index.shape) == shape
    assert (index == -1).all()


def test_padding_in_the_middle_is_gathered_as_padding() -> None:
    """Where -1 stands does not matter."""
    bank = small_bank(dim=7)

    features, is_padding = gather(bank.features, torch.tensor([[0, -1, 4]]))

    assert is_padding.tolist() == [[False, True, False]]
    assert torch.equal(features[0], torch.stack([bank.features[0], torch.zeros(7), bank.features[4]]))


def test_padding_sends_no_gradient_to_the_bank() -> None:
    """Padded places read row 0 and must leave no trace in its gradient."""
    features = torch.ones(2, 3, requires_grad=True)

    gathered, _ = gather(features, torch.tensor([[1, -1, -1]]))
    gathered.sum().backward()  # type: ignore[no-untyped-call]

    assert features.grad is not None
    assert features.grad.tolist() == [[0.0] * 3, [1.0] * 3]


def test_an_unknown_text_is_named_with_its_image() -> None:
    """Image, text and the nearest known text are in the message."""
    with pytest.raises(TextError, match=r"text 1 of image 2 is 'cat', .* does not hold, nearest 'car'"):
        token_index([[], ["sky"], ["car", "cat"]], small_bank())


# ---- Files ----


def test_a_saved_bank_comes_back(tmp_path: Path) -> None:
    """Bits, sentences (line separators and other scripts included) and encoder survive; equal banks, equal bytes."""
    bank = small_bank()
    save_bank(tmp_path / "a.safetensors", bank)
    save_bank(tmp_path / "b.safetensors", small_bank())

    loaded = load_bank(tmp_path / "a.safetensors")

    assert torch.equal(loaded.features, bank.features)
    assert (loaded.sentences, loaded.encoder) == (bank.sentences, bank.encoder)
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


def test_a_saved_bank_may_be_a_view(tmp_path: Path) -> None:
    """Rows that are not contiguous in memory are stored in their order."""
    features = torch.arange(1.0, 7.0).reshape(3, 2).T

    save_bank(tmp_path / "a.safetensors", TextBank(features, ("x", "y"), "view"))

    assert load_bank(tmp_path / "a.safetensors").features.tolist() == [[1.0, 3.0, 5.0], [2.0, 4.0, 6.0]]


def test_the_fingerprint_sees_features_shape_and_sentences() -> None:
    """Any change gives another fingerprint; the encoder's name is no part of it."""
    bank = TextBank(torch.ones(2, 3), ("a", "b"), "one")
    others = [
        TextBank(torch.ones(2, 3).index_put((torch.tensor(1), torch.tensor(2)), torch.tensor(2.0)), ("a", "b"), "one"),
        TextBank(torch.ones(3, 2), ("a", "b", "c"), "one"),
        TextBank(torch.ones(2, 3), ("b", "a"), "one"),
    ]

    assert fingerprint(bank) == fingerprint(dataclasses.replace(bank, encoder="two"))
    assert len({fingerprint(other) for other in [bank, *others]}) == 4


def plain(folder: Path, tensors: dict[str, Tensor], names: str | None) -> Path:
    """Write a plain bank and its names."""
    path = folder / "plain.safetensors"
    safetensors.torch.save_file(tensors, path)
    if names is not None:
        path.with_suffix(".txt").write_bytes(names.encode())
    return path


@pytest.mark.parametrize("names", ["sky\ncar\n", "sky\ncar", "sky\r\ncar\r\n", "\ufeffsky\ncar\n"])
def test_a_plain_bank_reads_its_names_beside_it(tmp_path: Path, names: str) -> None:
    """Half precision becomes float32 unchanged, scalars beside the table do not matter, nor do line ends or a mark."""
    tensors = {"features": torch.tensor([[1.0, 0.5], [0.25, 2.0]]).half(), "logit_scale": torch.tensor(4.6)}

    bank = load_bank(plain(tmp_path, tensors, names))

    assert bank.sentences == ("sky", "car")
    assert bank.features.dtype == torch.float32
    assert bank.features.tolist() == [[1.0, 0.5], [0.25, 2.0]]
    assert bank.encoder.startswith("bank:plain@")


def test_names_end_at_line_feeds_only(tmp_path: Path) -> None:
    """Other characters that Unicode counts as line ends may stand in a name."""
    bank = load_bank(plain(tmp_path, {"a": torch.ones(2, 3)}, "a\u2028b\nc\x0bd\n"))

    assert bank.sentences == ("a\u2028b", "c\x0bd")


@pytest.mark.parametrize(
    ("tensors", "names", "message"),
    [
        ({"a": torch.ones(2, 3), "b": torch.ones(5, 7)}, "x\ny", r"holds 2 2-D tensors \('a' \(2, 3\), 'b' \(5, 7\)\)"),
        ({"a": torch.ones(2)}, "x\ny", r"holds 0 2-D tensors \('a' \(2,\)\), expected exactly one"),
        ({}, "x\ny", r"holds 0 2-D tensors \(no tensor\)"),
        ({"a": torch.ones(2, 3, dtype=torch.int64)}, "x\ny", "numbers of type torch.int64, expected floating point"),
        (
            {"a": torch.ones(2, 3)},
            "x\ny\nz\n",
            "has 2 rows, but plain.txt beside it names 3, expected one line per row",
        ),
        ({"a": torch.ones(2, 3)}, "x\nx\n", "hold 'x' twice"),
        ({"a": torch.ones(2, 3)}, "x\n\ny\n", "entry 1 is blank"),
        ({"a": torch.ones(2, 3)}, None, "there is no plain.txt beside it, expected one name per row"),
        ({"a": torch.tensor([[1.0], [torch.nan]])}, "x\ny", r"not finite, row 1 \('y'\)"),
        ({"a": torch.tensor([[1.0], [1e300]]).double() * 1e300}, "x\ny", r"not finite, row 0 \('x'\)"),
        ({"a": torch.tensor([[0.0], [1.0]])}, "x\ny", r"all zeros, row 0 \('x'\)"),
    ],
)
def test_a_plain_bank_that_does_not_fit_is_refused(
    tmp_path: Path, tensors: dict[str, Tensor], names: str | None, message: str
) -> None:
    """Each fault gets one sentence that names it."""
    with pytest.raises(TextError, match=message):
        load_bank(plain(tmp_path, tensors, names))


def test_names_that_are_no_utf8_are_refused(tmp_path: Path) -> None:
    """Names in another encoding would be other names."""
    path = plain(tmp_path, {"a": torch.ones(1, 2)}, None)
    path.with_suffix(".txt").write_bytes("ciel d'été\n".encode("latin-1"))

    with pytest.raises(TextError, match=r"cannot read the names .*plain.txt .*expected UTF-8 text"):
        load_bank(path)


@pytest.mark.parametrize("name", ["bank.pt", "bank.pkl", "bank"])
def test_a_pickle_is_never_read(tmp_path: Path, name: str) -> None:
    """The ending decides before a byte is read; a pickle under a safetensors name is no safetensors either."""
    torch.save(torch.ones(2, 3), tmp_path / name)
    (tmp_path / name).with_suffix(".safetensors").write_bytes((tmp_path / name).read_bytes())

    with pytest.raises(TextError, match=r"expected '.safetensors': pickled tensors can run code and are never read"):
        load_bank(tmp_path / name)
    with pytest.raises(TextError, match=r"cannot read the text bank .* as safetensors"):
        load_bank((tmp_path / name).with_suffix(".safetensors"))


def test_a_missing_bank_is_named(tmp_path: Path) -> None:
    """The path is in the message; a folder of that name is no bank."""
    (tmp_path / "folder.safetensors").mkdir()
    for name in ("none.safetensors", "folder.safetensors"):
        with pytest.raises(TextError, match=rf"no text bank at .*{name}, expected a .safetensors file"):
            load_bank(tmp_path / name)


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ("{", "metadata that cannot be read"),
        ("[]", "metadata that cannot be read"),
        ({"format": 2}, r"metadata that cannot be read \(KeyError: 'encoder'\)"),
        ({"format": 3, "encoder": "e", "sentences": ["x"], "sha256": ""}, "has format 3, expected 2"),
        ({"format": 2, "encoder": 3, "sentences": ["x"], "sha256": ""}, "without an encoder's name or sentences"),
        ({"format": 2, "encoder": "e", "sentences": [3], "sha256": ""}, "without an encoder's name or sentences"),
        ({"format": 2, "encoder": "e", "sentences": ["x", "y"], "sha256": ""}, "has 1 rows for 2 sentences"),
        ({"format": 2, "encoder": "e", "sentences": ["x"], "sha256": ""}, "does not match its own checksum"),
    ],
)
def test_metadata_that_does_not_fit_is_refused(tmp_path: Path, facts: object, message: str) -> None:
    """A file that claims to be ours must be whole."""
    text = facts if isinstance(facts, str) else json.dumps(facts)
    path = tmp_path / "bank.safetensors"
    safetensors.torch.save_file({"features": torch.ones(1, 2)}, path, metadata={"semalign": text})

    with pytest.raises(TextError, match=message):
        load_bank(path)


def test_error_messages_are_one_sentence(tmp_path: Path) -> None:
    """The reader's own message, which may span lines, is folded into ours."""
    (tmp_path / "x.safetensors").write_bytes(b"\x00" * 3)

    with pytest.raises(TextError) as caught:
        load_bank(tmp_path / "x.safetensors")

    assert "\n" not in str(caught.value)
