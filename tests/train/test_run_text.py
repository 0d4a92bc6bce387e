from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from semalign.data.open import open_data
from semalign.errors import TextError
from semalign.train.run_text import encode_classes, prepare_run_text, text_cache, without_text
from tests.small import CLASSES, make_data, scenes


def test_no_text(data: Path) -> None:
    """Kind none has no bank, and batches get nothing."""
    guidance = prepare_run_text(open_data(data), ["train"], kind="none", encoder="table")

    assert guidance.bank is None
    assert guidance.batch("train", torch.tensor([0, 1])) == (None, None)
    assert guidance.facts() == {
        "kind": "none",
        "meaning": "no text: the model is built without it",
        "shared": False,
        "leaking": False,
    }
    assert not guidance.is_shared


def test_classes_are_shared_by_all_images(data: Path) -> None:
    """Every image gets the whole bank, one token per class, and the facts say that it is shared."""
    guidance = prepare_run_text(open_data(data), ["train", "val"], kind="classes", encoder="table:dim=5,seed=0")

    features, is_padding = guidance.batch("train", torch.tensor([4, 0]))
    assert guidance.bank is not None
    assert features is guidance.bank.features
    assert is_padding is None
    assert features.shape == (3, 5)
    assert guidance.is_shared
    assert not guidance.is_leaking
    facts = guidance.facts()
    assert (facts["tokens"], facts["sentences"], facts["shared"], facts["leaking"]) == (3, 3, True, False)


def test_random_vectors_have_the_norms_of_the_sentences(data: Path) -> None:
    """The control keeps names and norms and changes the directions, by its own seed."""
    source = open_data(data)
    classes, random, other = (
        prepare_run_text(source, ["val"], kind=kind, encoder="table", random_seed=seed).bank
        for kind, seed in (("classes", 0), ("random", 0), ("random", 1))
    )
    assert classes is not None
    assert random is not None
    assert other is not None
    assert random.sentences == classes.sentences == CLASSES
    torch.testing.assert_close(random.features.norm(dim=1), classes.features.norm(dim=1))
    assert not torch.allclose(random.features, classes.features, atol=0.01)
    assert not torch.equal(random.features, other.features)


def test_texts_read_off_the_masks_leak(data: Path) -> None:
    """Each image is given the names of its own mask's classes, and that is marked as leaking."""
    source = open_data(data)
    guidance = prepare_run_text(source, ["val"], kind="masks", encoder="table")

    features, is_padding = guidance.batch("val", torch.tensor([1]))
    assert guidance.bank is not None
    assert features is not None
    assert is_padding is not None
    present = source.mask_classes("val", "val-1")
    assert torch.equal(features[0, : len(present)], guidance.bank.features[list(present)])
    assert is_padding[0].tolist() == [False] * len(present) + [True] * (is_padding.shape[1] - len(present))
    assert guidance.is_leaking
    assert not guidance.is_shared


def test_texts_of_images(tmp_path: Path) -> None:
    """Each image gets its own sentences; one without any is padding alone."""
    root = make_data(tmp_path / "set")
    lines = [{"image": "val/val-0", "texts": ["a tree", "a road"]}, {"image": "val/val-2", "texts": ["a tree"]}]
    (root / "texts.jsonl").write_text("\n".join(json.dumps(line) for line in lines))

    guidance = prepare_run_text(open_data(root), ["val"], kind="images", encoder="table")

    assert guidance.bank is not None
    assert guidance.bank.sentences == ("a tree", "a road")
    features, is_padding = guidance.batch("val", torch.tensor([0, 1, 2]))
    assert features is not None
    assert is_padding is not None
    assert is_padding.tolist() == [[False, False], [True, True], [False, True]]
    assert torch.equal(features[2, 0], guidance.bank.features[0])
    with pytest.raises(TextError, match="no image of train has a text"):
        prepare_run_text(open_data(root), ["train"], kind="images", encoder="table")


def test_scenes_have_captions() -> None:
    """Two splits share one bank, each with its own index."""
    source = scenes()
    guidance = prepare_run_text(source, ["train", "val"], kind="images", encoder="table")

    assert guidance.index is not None
    assert guidance.index["train"].shape[0] == 5
    assert guidance.index["val"].shape[0] == 3
    assert guidance.facts()["tokens"] == max(table.shape[1] for table in guidance.index.values())


def test_classes_called_otherwise() -> None:
    """A class keeps its name and is encoded by another; only classes of the data can be renamed."""
    plain = encode_classes("table", CLASSES, "photo")
    renamed = encode_classes("table", CLASSES, "photo", {"tree": "oak"})

    assert renamed.sentences == CLASSES
    assert torch.equal(plain.features[:2], renamed.features[:2])
    assert torch.equal(renamed.features[2], encode_classes("table", ["oak"], "photo").features[0])
    with pytest.raises(
        TextError, match=r"text\.names renames 'tre', which is not a class of the data, did you mean 'tree'"
    ):
        encode_classes("table", CLASSES, "photo", {"tre": "oak"})


def test_classes_as_tokens() -> None:
    """At the level of tokens a class has the words of its sentence; a text of the images has its own words."""
    source = scenes()
    shared = prepare_run_text(source, ["train"], kind="classes", encoder="table", level="token")
    own = prepare_run_text(source, ["train"], kind="images", encoder="table", level="token")

    assert shared.bank is not None
    assert shared.bank.texts == source.class_names
    assert shared.bank.sentences[:5] == tuple(
        f"{word} [{place}] a photo of a wall." for place, word in enumerate(("a", "photo", "of", "a", "wall"), start=1)
    )
    assert shared.facts()["level"] == "token"
    assert (shared.facts()["tokens"], shared.facts()["sentences"]) == (len(shared.bank.sentences), 8)
    assert own.index is not None
    assert own.bank is not None
    texts = source.texts("train")
    rows = [row for row in own.index["train"][0].tolist() if row >= 0]
    assert [own.bank.owners[row] for row in rows] == [  # type: ignore[index]
        text for text in texts[source.names("train")[0]] for _ in text.replace(",", "").replace(".", "").split()
    ]
    features, is_padding = own.batch("train", torch.tensor([0, 1]))
    assert features is not None
    assert is_padding is not None
    assert (~is_padding[0]).sum() == len(rows)


def test_unseen_classes_are_not_said() -> None:
    """Their names are in no sentence, but may be renamed without being taken for a typing error."""
    source = scenes()
    guidance = prepare_run_text(
        source, ["train"], kind="classes", encoder="table", names={"wall": "brick"}, unseen=["wall"]
    )

    assert guidance.bank is not None
    assert guidance.bank.sentences == source.class_names[1:]
    with pytest.raises(TextError, match=r"text\.names renames 'wal', which is not a class"):
        prepare_run_text(source, ["train"], kind="classes", encoder="table", names={"wal": "brick"}, unseen=["wall"])


def test_aliases_and_templates_of_ones_own() -> None:
    """A class is called by several names in several sentences, and its vector is their mean."""
    bank = encode_classes("table", CLASSES, ["a {}", "the {}"], {"tree": "oak|elm"})
    parts = encode_classes("table", ["a oak", "the oak", "a elm", "the elm"], "plain").features

    torch.testing.assert_close(bank.features[2], torch.nn.functional.normalize(parts.mean(dim=0), dim=0))


def test_without_text() -> None:
    """Padding alone: two tokens, so that nothing warns of a single one."""
    features, is_padding = without_text(3, 5)

    assert features.shape == (3, 2, 5)
    assert is_padding.shape == (3, 2)
    assert bool(is_padding.all())


def test_a_cache_never_costs_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no cache folder can be made, there is none."""
    file = tmp_path / "file"
    file.write_text("x")
    monkeypatch.setenv("SEMALIGN_CACHE", str(file / "below"))
    assert text_cache() is None
    monkeypatch.setenv("SEMALIGN_CACHE", str(tmp_path / "own"))
    assert text_cache() == tmp_path / "own" / "text"
