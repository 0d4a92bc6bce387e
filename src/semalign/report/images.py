"""Small pictures of images and their masks: read from the data folder where it can be, or rendered again.

A data folder holds ``images/SPLIT`` and ``masks/SPLIT`` with files of one name but for the ending; built-in scenes need
no folder.  This module does not depend on scores.
"""

from __future__ import annotations

import base64
import io
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps

from semalign.data.scenes import Scenes
from semalign.errors import SemalignError
from semalign.palette import mask_palette

__all__ = ["picture_of", "picture_of_scene", "scenes_of"]

HEIGHT = 72
_MOST_PIXELS = 64_000_000


def picture_of(root: Path, split: str, name: str) -> str | None:
    """Return image and mask side by side as a ``data:`` address of a JPEG; None where they cannot be read.

    Args:
        root: the data folder.
        split: the scored split.
        name: the image, without its ending; "SPLIT/NAME" and a name with its ending will do too.
    """
    stem = name.removeprefix(f"{split}/")
    parts = [_find(root / kind / split, stem) if _is_plain(split) else None for kind in ("images", "masks")]
    if parts[0] is None or parts[1] is None:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with Image.open(parts[0]) as opened:
                if opened.width * opened.height > _MOST_PIXELS:
                    return None
                image = ImageOps.exif_transpose(opened).convert("RGB")
            with Image.open(parts[1]) as opened:
                if opened.width * opened.height > _MOST_PIXELS or opened.mode not in ("L", "P"):
                    return None
                # The indices themselves, not the colors of their palette.
                mask = Image.frombytes("L", opened.size, opened.tobytes())
    except Exception:
        # Pillow raises nearly every kind on damaged files and on bombs; a report does without the picture.
        return None
    return _side_by_side(image, mask)


def scenes_of(data: Mapping[str, Any], split: str) -> Scenes | None:
    """Return the built-in scenes that a study's facts describe; None for other data, or scenes of another renderer.

    Args:
        data: what `Scenes.describe` said, and under "fingerprints" the fingerprint of ``split``.
        split: the scored split.
    """
    try:
        if data["kind"] != "scenes":
            return None
        counts = data["splits"]
        scenes = Scenes(
            data["necessity"],
            counts["train"],
            counts["val"],
            size=tuple(data["size"]),
            seed=data["seed"],
        )
        return scenes if scenes.fingerprint(split) == data["fingerprints"][split] else None
    except (KeyError, TypeError, ValueError, SemalignError):
        return None


def picture_of_scene(scenes: Scenes, split: str, name: str) -> str | None:
    """Return a scene and its mask as `picture_of` does; None where there is no such scene."""
    try:
        sample = scenes.load(split, name.removeprefix(f"{split}/"))
    except SemalignError:
        return None
    return _side_by_side(Image.fromarray(sample.image), Image.fromarray(sample.mask))


def _side_by_side(image: Image.Image, mask: Image.Image) -> str:
    width = max(1, round(HEIGHT * image.width / image.height))
    mask = mask.resize((width, HEIGHT), Image.Resampling.NEAREST)
    mask.putpalette(mask_palette().ravel().tolist())
    both = Image.new("RGB", (2 * width + 4, HEIGHT), "white")
    both.paste(image.resize((width, HEIGHT), Image.Resampling.BILINEAR), (0, 0))
    both.paste(mask.convert("RGB"), (width + 4, 0))
    data = io.BytesIO()
    both.save(data, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(data.getvalue()).decode("ascii")


def _find(folder: Path, stem: str) -> Path | None:
    """Return the file of this name in ``folder``; never one outside it."""
    if not _is_plain(stem):
        return None
    for ending in ("", ".png", ".jpg", ".jpeg", ".JPG", ".PNG", ".bmp", ".tif", ".tiff", ".webp"):
        path = folder / f"{stem}{ending}"
        if path.is_file():
            return path
    return None


def _is_plain(name: str) -> bool:
    return not ("/" in name or "\\" in name or "\0" in name or name in ("", ".", ".."))
