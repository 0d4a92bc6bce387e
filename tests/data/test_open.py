"""From what the user writes to a source."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from semalign.data.folder import Folder
from semalign.data.open import open_data
from semalign.data.sample import DataSource
from semalign.data.scenes import Scenes
from semalign.errors import ConfigError, DataError

from .conftest import SIZE, save


def test_scenes_with_their_options() -> None:
    """The word scenes gives the built-in scenes, each option in its place."""
    source = open_data("scenes", necessity=0.25, n_train=5, n_val=3, scenes_size=(17, 23), scenes_seed=7)

    assert isinstance(source, Scenes)
    assert (source.necessity, source.size, source.seed) == (0.25, (17, 23), 7)
    assert [len(source.names(split)) for split in source.splits] == [5, 3]
    with pytest.raises(ConfigError, match="necessity"):
        open_data("scenes", necessity=2)


def test_a_folder_called_scenes(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of that name is reached by a path."""
    root.rename(root.parent / "scenes")
    monkeypatch.chdir(root.parent)

    assert isinstance(open_data("scenes"), Scenes)
    assert isinstance(open_data("./scenes"), Folder)
    assert isinstance(open_data(Path("scenes")), Folder)


def test_folder_is_scanned_unless_told_otherwise(root: Path) -> None:
    """A fault in any file stops the opening; scan=False opens."""
    source: DataSource = open_data(str(root))
    assert source.names("val") == ("d", "e")

    save(root / "masks/val/e.png", np.full(SIZE, 200, np.uint8))
    with pytest.raises(DataError, match="holds the value 200"):
        open_data(str(root))
    assert open_data(str(root), scan=False).names("val") == ("d", "e")


def test_bad_places(tmp_path: Path) -> None:
    """A missing folder, a file and a folder of something else are refused with the expected layout."""
    (tmp_path / "file").write_text("")
    for name, what in [("no", "does not exist"), ("file", "is a file"), (".", "has no folder images/")]:
        with pytest.raises(DataError, match=rf"{what}.*expected .*images/SPLIT/NAME.jpg, masks/SPLIT/NAME.png and"):
            open_data(tmp_path / name)


def test_no_torch() -> None:
    """Opening and loading data imports no torch."""
    code = (
        "import sys; from semalign.data.open import open_data; open_data('scenes').load('val', '00000'); "
        "sys.exit('torch' in sys.modules)"
    )

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
