"""Sources that would read or write elsewhere, pictures that are too large, and outputs that are taken."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest

from semalign.data.folder import Folder
from semalign.data.sets import import_data
from semalign.data.sets.plan import Entry, Plan
from semalign.data.sets.writing import write_plan
from semalign.errors import ConfigError, DataError, OutputError, SemalignError
from semalign.wording import say
from tests.data.conftest import save
from tests.data.sets.conftest import Importer, mask, picture


def nyu(source: Path, *names: str) -> None:
    """Write images of NYU in DFormer's layout."""
    for name in names or ("0",):
        picture(source / "RGB" / f"{name}.png")
        save(source / "Label" / f"{name}.png", mask([1]))
    (source / "train.txt").write_text("".join(f"RGB/{name}.png\n" for name in names or ("0",)))


def bomb(side: int) -> bytes:
    """Return a PNG whose header claims ``side`` x ``side`` grey pixels and that holds none."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def replace_by_link(path: Path, target: Path) -> None:
    """Move a file or folder elsewhere and link to it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    path.rename(target)
    path.symlink_to(target)


@pytest.mark.parametrize("part", ["RGB/0.png", "Label/0.png", "train.txt", "RGB", "Label"])
def test_links_that_leave_the_source(source: Path, imported: Importer, tmp_path: Path, part: str) -> None:
    """A link to a file or folder elsewhere is refused, unless that is allowed; links within are followed."""
    nyu(source)
    replace_by_link(source / part, tmp_path / "elsewhere" / Path(part).name)
    with pytest.raises(DataError, match=r"is a symbolic link that leads out of .*allow it with --follow-links"):
        imported("nyuv2")
    assert not (tmp_path / "ours").exists()

    folder, _ = imported("nyuv2", follow_links=True)

    assert folder.names("train") == ("0",)


def test_links_within_the_source(source: Path, imported: Importer) -> None:
    """A link from one place of the source to another is no harm."""
    nyu(source)
    replace_by_link(source / "RGB" / "0.png", source / "all" / "0.png")

    assert imported("nyuv2")[0].names("train") == ("0",)


def test_the_source_may_be_a_link(source: Path, tmp_path: Path) -> None:
    """The user's own link to the data set is followed."""
    nyu(source)
    (tmp_path / "link").symlink_to(source)

    assert import_data("nyuv2", tmp_path / "link", tmp_path / "ours").splits == {"train": 1}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("../../secret/train/a.png trainannot/a.png", r"leads out of the data set by '\.\.'"),
        ("train/a.png ../trainannot/a.png", r"leads out of the data set by '\.\.'"),
        ("train/a\tb.png", r"expected an image and its mask with a blank between|has no mask|is missing"),
        ("train/.hidden.png trainannot/a.png", r"the name '.hidden.png', which is hidden"),
        (f"train/{'a' * 300}.png trainannot/a.png", r"which is longer than 200 bytes"),
        ("train/a.png", r"expected an image and its mask with a blank between"),
    ],
)
def test_names_in_lists(source: Path, imported: Importer, line: str, message: str) -> None:
    """A list cannot lead out of the data set, nor give a name that could not be written."""
    picture(source / "train" / "a.png")
    save(source / "trainannot" / "a.png", mask([1]))
    (source / "train.txt").write_text(f"{line}\n")
    with pytest.raises(DataError, match=message):
        imported("camvid")


@pytest.mark.skipif(os.name == "nt", reason="such names cannot be made on Windows")
def test_file_names_with_a_newline(source: Path, imported: Importer) -> None:
    """They would break clusters.txt and every list made from the folder."""
    nyu(source)
    picture(source / "RGB" / "a\nb.png")
    with pytest.raises(DataError, match=r"has the name 'a\\nb', which holds a control character: rename it"):
        imported("nyuv2")


@pytest.mark.parametrize("folder", ["RGB", "Label"])
def test_pictures_that_are_too_large(source: Path, imported: Importer, folder: str) -> None:
    """A header of 60000 x 60000 pixels is refused before anything is decoded."""
    nyu(source)
    (source / folder / "0.png").write_bytes(bomb(60_000))
    with pytest.raises(DataError, match=r"0.png is too large: .*expected at most 100000000 pixels, cut it into tiles"):
        imported("nyuv2")


def test_links_or_copies(source: Path, imported: Importer, tmp_path: Path) -> None:
    """Copies stand alone; links keep one copy of the images, whose files stay as they were."""
    nyu(source)
    before = (source / "RGB" / "0.png").read_bytes()
    folder, _ = imported("nyuv2")
    image = folder.root / "images" / "train" / "0.png"

    assert not image.is_symlink()
    assert image.read_bytes() == before

    linked = import_data("nyuv2", source, tmp_path / "linked", link=True).out / "images" / "train" / "0.png"

    assert linked.is_symlink()
    assert linked.resolve() == (source / "RGB" / "0.png").resolve()
    assert (source / "RGB" / "0.png").read_bytes() == before


def test_outputs_that_are_taken(source: Path, tmp_path: Path) -> None:
    """A folder with something in it and one inside the source are refused; an empty one is used."""
    nyu(source)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("x")
    with pytest.raises(OutputError, match=r"--out .*full is not empty, expected a new or empty folder"):
        import_data("nyuv2", source, tmp_path / "full")
    with pytest.raises(OutputError, match=r"--out .*new lies inside the data .*, which are never changed"):
        import_data("nyuv2", source, source / "new")
    (tmp_path / "empty").mkdir()

    assert import_data("nyuv2", source, tmp_path / "empty").splits == {"train": 1}
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "cache") == ["empty", "full", "theirs"]


def test_clusters_of_a_part_of_a_split(tmp_path: Path) -> None:
    """clusters.txt speaks of whole splits alone, as folders ask."""
    pixels = np.zeros((2, 3, 3), dtype=np.uint8)
    names = {"a": ("train", "street"), "b": ("train", None), "c": ("val", "park")}
    entries = tuple(
        Entry(split, name, lambda: pixels, lambda: mask([0])[:2, :3], cluster=cluster)
        for name, (split, cluster) in names.items()
    )
    write_plan(
        Plan("", say("data.voc.rule"), ("sky",), entries),
        tmp_path,
        link=False,
        depth=True,
        name="camvid",
        source=tmp_path,
    )

    assert (tmp_path / "clusters.txt").read_text() == "val/c\tpark\n"
    assert Folder(tmp_path).clusters("val") == {"c": "park"}


def test_two_images_of_one_name(source: Path, imported: Importer) -> None:
    """A list that names an image twice, and two files of one name."""
    nyu(source, "a", "a")
    with pytest.raises(DataError, match=r"the split 'train' has two images 'a', expected distinct names"):
        imported("nyuv2")
    picture(source / "RGB" / "a.jpg")
    with pytest.raises(DataError, match=r"images .*a.jpg and .*a.png have one name"):
        imported("nyuv2")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("camvd", {}, r"got 'camvd', which is not a known data set, did you mean 'camvid'\?"),
        ("voc", {"annotations": ["a.json"]}, r"--annotations is for coco and has no effect on voc: leave it out"),
        ("coco", {}, r"data import coco needs --annotations FILE.json"),
        ("nyuv2", {"splits": {"tst": "val"}}, r"--split tst=val names a split that is not there"),
        ("nyuv2", {"splits": {"train": "test"}}, r"--split train=test would mix two splits"),
        (
            "nyuv2",
            {"splits": {"train": "all", "test": "all"}},
            r"--split names train and test both 'all', which would mix them, expected distinct names",
        ),
        ("nyuv2", {"splits": {"train": "a/b"}}, r"a split has the name 'a/b', which holds a separator of folders"),
    ],
)
def test_options_that_do_not_fit(
    source: Path, tmp_path: Path, name: str, options: dict[str, object], message: str
) -> None:
    """Unknown names, options without effect, splits that are not there."""
    nyu(source, "a")
    (source / "test.txt").write_text("RGB/a.png\n")
    with pytest.raises(SemalignError, match=message) as raised:
        import_data(name, source, tmp_path / "ours", **options)  # type: ignore[arg-type]
    assert isinstance(raised.value, ConfigError | DataError)
    assert not (tmp_path / "ours").exists()


def test_a_source_that_is_not_there(tmp_path: Path) -> None:
    """A missing folder and a file."""
    with pytest.raises(
        DataError, match=r"the source .*nowhere of CamVid does not exist, expected a folder with train/"
    ):
        import_data("camvid", tmp_path / "nowhere", tmp_path / "ours")
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match=r"the source .*file of CamVid is a file, expected a folder with"):
        import_data("camvid", tmp_path / "file", tmp_path / "ours")
