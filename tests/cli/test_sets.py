"""`semalign data import` as a user calls it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Semalign
from tests.cli.test_bad_input import assert_refused, listing
from tests.data.conftest import save
from tests.data.sets.conftest import mask, picture
from tests.small import TINY


@pytest.fixture
def camvid(here: Path) -> Path:
    """Return a small CamVid in the SegNet tutorial's layout, whose images are large enough to train with."""
    for split, names in {"train": ("0001TP_1", "0006R0_2"), "val": ("0016E5_3",)}.items():
        for name in names:
            picture(here / "theirs" / split / f"{name}.png")
            save(here / "theirs" / f"{split}annot" / f"{name}.png", mask([0, 1, 2, 3, 11]))
    return here / "theirs"


def test_import_and_use(semalign: Semalign, camvid: Path) -> None:
    """The folder's path alone stands on stdout, and the folder trains; the source stays as it was."""
    before = listing(camvid)
    said = semalign("data", "import", "camvid", "theirs", "--out", "ours")

    assert (said.code, said.out) == (0, "ours\n")
    assert "SegNet tutorial: 11 becomes 255" in said.err
    assert "train: 2 images, 2 clusters" in said.err
    assert listing(camvid) == before

    settings = [word for setting in TINY for word in ("--set", setting)]
    trained = semalign("train", "ours", "--out", "run", *settings, "--set", "train.epochs=1", "--no-audit")

    assert trained.code == 0, trained.err


def test_json(semalign: Semalign, camvid: Path) -> None:
    """One object says what was written; a split is renamed and another left out."""
    assert camvid.is_dir()
    words = ("--split", "val=test", "--split", "train=", "--link", "--json")
    said = semalign("data", "import", "camvid", "theirs", "--out", "ours", *words)
    value = json.loads(said.out)

    assert (value["out"], value["splits"], value["depth"]) == ("ours", {"test": 1}, False)
    assert value["class_names"][0] == "sky"
    assert Path("ours/images/test/0016E5_3.png").is_symlink()


@pytest.mark.parametrize(
    ("words", "pattern"),
    [
        (("camvid", "nowhere", "--out", "ours"), "the source nowhere of CamVid does not exist"),
        (("voc", "theirs", "--out", "ours"), "theirs is not laid out as Pascal VOC is: it holds 'train', 'trainannot'"),
        (("camvid", "theirs", "--out", "ours", "--split", "val"), "--split got 'val', expected OLD=NEW such as"),
        (("camvid", "theirs", "--out", "theirs/x"), "lies inside the data theirs"),
        (("camvid", "theirs"), "missing option '--out', see semalign data import --help"),
    ],
)
def test_refused(semalign: Semalign, camvid: Path, here: Path, words: tuple[str, ...], pattern: str) -> None:
    """One sentence, exit code 2, nothing written."""
    assert camvid.is_dir()
    before = listing(here)
    assert_refused(semalign("data", "import", *words), pattern)
    assert listing(here) == before
