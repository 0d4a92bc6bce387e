"""From what the user names as DATA to a source of samples."""

from __future__ import annotations

from pathlib import Path

from semalign.data.check.scan import scan as scan_source
from semalign.data.folder import Folder
from semalign.data.sample import DataSource
from semalign.data.scenes import Scenes
from semalign.presets import SCENES

__all__ = ["open_data"]


def open_data(
    spec: str | Path,
    *,
    scan: bool = True,
    necessity: float = SCENES.necessity,
    n_train: int = SCENES.n_train,
    n_val: int = SCENES.n_val,
    scenes_size: tuple[int, int] = SCENES.size,
    scenes_seed: int = SCENES.seed,
) -> DataSource:
    """Open ``spec``: the string ``"scenes"`` (built in) or a folder.

    Args:
        spec: ``"scenes"`` or the path of a folder (``"./scenes"`` or a ``Path`` names a folder of that name).
        scan: check a folder once in full (cached by size and time); False defers, so that a problem surfaces with the
            same sentence when the file is loaded.
        necessity: scenes only, how much the text carries that pixels lack, in [0, 1].
        n_train: scenes only, number of training images.
        n_val: scenes only, number of validation images.
        scenes_size: scenes only, (H, W) in pixels.
        scenes_seed: scenes only.

    Raises:
        DataError: the folder is missing, is not laid out as `Folder` expects or, with ``scan``, holds a bad file.
        TextError: with ``scan``, ``texts.jsonl`` is malformed or names an unknown image.
        ConfigError: a value for scenes is out of range.
    """
    if spec == "scenes":
        return Scenes(necessity=necessity, n_train=n_train, n_val=n_val, size=scenes_size, seed=scenes_seed)
    source = Folder(spec)
    if scan:
        scan_source(source).raise_for_problems()
    return source
