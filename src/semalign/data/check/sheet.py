"""A contact sheet: some images of each split beside their masks laid over them, with a legend.

One picture is decoded at a time and kept as a thumbnail.  This module does not depend on what a finding means: it marks
the images of the findings it is given.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from semalign import layout
from semalign.data.check.findings import DataReport
from semalign.data.folder import Folder
from semalign.data.images import read_image
from semalign.data.listing import Key, listed_files
from semalign.data.masks import look_at_mask, read_color_codes, read_indices
from semalign.data.pictures import blend, font_file, percent
from semalign.data.reading import read_bytes
from semalign.data.sample import DataSource
from semalign.errors import DataError
from semalign.palette import class_colors, mask_palette
from semalign.wording import Catalogue, Language

__all__ = ["MOST_TILES", "contact_sheet", "marked_images"]

MOST_TILES = 24
"""Images on a sheet."""

THUMB = (144, 192)
"""H, W that a picture is fitted into."""
COLUMNS = 3
GAP = 8
LINE = 18
INK = "black"
QUIET = (110, 110, 110)
MARK = {"error": (200, 30, 30), "warning": (200, 120, 0)}


def marked_images(report: DataReport) -> dict[Key, list[str]]:
    """Return by split and name the codes of the findings whose files belong to the image, errors first."""
    marked: dict[Key, list[str]] = {}
    for finding in report.findings:
        for file in finding.files:
            parts = file.split("/")
            if len(parts) == 3:
                codes = marked.setdefault((parts[1], parts[2].rpartition(".")[0]), [])
                if finding.code not in codes:
                    codes.append(finding.code)
    return marked


def _choose(source: DataSource, marked: Mapping[Key, list[str]], severity: Mapping[str, str]) -> list[Key]:
    """Return a few images of each split: some of each error and warning, then evenly spaced ones."""
    chosen: list[Key] = []
    splits = [split for split in source.splits if _names(source, split)]
    each = max(1, MOST_TILES // max(1, len(splits)))
    for split in splits:
        own: list[Key] = []
        taken: dict[str, int] = {}
        for key, codes in marked.items():
            if key[0] == split and len(own) < each // 2 and key[1] in _names(source, split):
                fresh = [code for code in codes if severity[code] != "note" and taken.get(code, 0) < 2]
                if fresh:
                    own.append(key)
                    for code in fresh:
                        taken[code] = taken.get(code, 0) + 1
        names = [name for name in _names(source, split) if (split, name) not in own]
        count = min(len(names), each - len(own))
        own += [(split, names[round((k + 0.5) * len(names) / count - 0.5)]) for k in range(count)]
        chosen += own
    return chosen[:MOST_TILES]


def _names(source: DataSource, split: str) -> tuple[str, ...]:
    try:
        return source.names(split)
    except DataError:  # an empty split, which a finding names
        return ()


def contact_sheet(source: DataSource, report: DataReport, lang: Language = "en") -> Image.Image:
    """Return the sheet: image and overlay side by side, name and findings beneath, classes with their share of pixels.

    Args:
        source: the data.
        report: of `check_data` on ``source``; images with errors and warnings are shown first and framed.
        lang: of the few words on it.
    """
    words = Catalogue(lang)
    severity = {finding.code: finding.severity for finding in report.findings}
    marked = marked_images(report)
    tiles = _choose(source, marked, severity)
    heading_key = "data.sheet.share" if report.scan.splits else "data.sheet.classes"
    heading = words(heading_key)
    found = font_file("".join([heading, *source.class_names, *(name for _, name in tiles)]))
    font: Any = ImageFont.truetype(found, 13) if found else ImageFont.load_default(size=13)
    colors = class_colors(max(1, len(source.class_names)))

    tile_width, tile_height = 2 * THUMB[1] + 4, THUMB[0] + LINE + 4
    rows = max(1, math.ceil(len(tiles) / COLUMNS))
    names = source.class_names
    if found is None:  # no font has these characters
        words = Catalogue("en")
        heading = words(heading_key)
        names = tuple(words("data.sheet.class", index=index) for index in range(len(names)))
    labels = _legend(source, report, names)
    column = 40 + max(int(font.getlength(label)) for label in [heading, *labels])
    height = max(rows * (tile_height + GAP), LINE * (len(labels) + 2)) + GAP
    sheet = Image.new("RGB", (COLUMNS * (tile_width + GAP) + GAP + column, height), "white")
    draw = ImageDraw.Draw(sheet)
    for place, key in enumerate(tiles):
        left = GAP + place % COLUMNS * (tile_width + GAP)
        top = GAP + place // COLUMNS * (tile_height + GAP)
        picture, overlay = _pair(source, key, colors, words)
        sheet.paste(picture, (left, top))
        sheet.paste(overlay, (left + THUMB[1] + 4, top))
        codes = [code for code in marked.get(key, []) if severity[code] in MARK]
        ink = MARK[severity[codes[0]]] if codes else QUIET
        if codes:
            draw.rectangle((left - 2, top - 2, left + tile_width + 1, top + THUMB[0] + 1), outline=ink, width=2)
        name = f"{key[0]}/{key[1] if found is not None else '#' + str(source.names(key[0]).index(key[1]) + 1)}"
        text = _shortened(f"{name}  {', '.join(codes)}" if codes else name, font, tile_width)
        draw.text((left, top + THUMB[0] + 3 + LINE / 2), text, fill=ink, font=font, anchor="lm")
    left = COLUMNS * (tile_width + GAP) + GAP
    draw.text((left, GAP + LINE / 2), heading, fill=QUIET, font=font, anchor="lm")
    for place, label in enumerate(labels):
        middle = GAP + (place + 1.5) * LINE
        color = tuple(int(value) for value in colors[place])
        draw.rectangle((left, middle - 6, left + 12, middle + 6), fill=color, outline="black")
        draw.text((left + 20, middle), label, fill=INK, font=font, anchor="lm")
    return sheet


def _legend(source: DataSource, report: DataReport, names: tuple[str, ...]) -> list[str]:
    """Return each class's name with its share of the labelled pixels."""
    splits = report.scan.splits.values()
    totals = [sum(split.pixels[name] for split in splits) for name in source.class_names]
    whole = sum(totals)
    return [f"{name}  {percent(total / whole)} %" if whole else name for name, total in zip(names, totals, strict=True)]


def _pair(source: DataSource, key: Key, colors: np.ndarray, words: Catalogue) -> tuple[Image.Image, Image.Image]:
    """Return image and overlay, each fitted into `THUMB`; what cannot be shown says so."""
    try:
        sample = source.load(*key)
    except (DataError, ValueError):
        return _bare_pair(source, key, words)
    small = _fit(Image.fromarray(sample.image), Image.Resampling.BOX)
    # A mask's own values, not a mixture of them: nearest neighbour.
    mask = np.asarray(Image.fromarray(sample.mask).resize(small.size, Image.Resampling.NEAREST))
    return _on_tile(small), _on_tile(Image.fromarray(blend(np.asarray(small), mask, colors)))


def _bare_pair(source: DataSource, key: Key, words: Catalogue) -> tuple[Image.Image, Image.Image]:
    """Return what can be decoded of a broken sample: the image, and the mask in its own colors."""
    assert isinstance(source, Folder)
    picture = overlay = _note(words("data.sheet.unreadable"))
    for path in listed_files(source.root, layout.IMAGES, key[0]):
        if path.stem == key[1]:
            with contextlib.suppress(DataError):
                picture = _on_tile(_fit(Image.fromarray(read_image(path)), Image.Resampling.BOX))
    mask = source.root / layout.MASKS / key[0] / f"{key[1]}.png"
    if not mask.exists():
        return picture, _note(words("data.sheet.no-mask"))
    facts = look_at_mask(read_bytes(mask, "mask"))
    if facts is None:
        return picture, overlay
    if facts.colors:
        codes = read_color_codes(mask)
        rgb = np.stack([codes >> 16, codes >> 8 & 255, codes & 255], axis=-1).astype(np.uint8)
    else:
        # Values that are not classes get a color too, so that one sees where they are.
        rgb = mask_palette()[read_indices(mask) & 255]
    return picture, _on_tile(_fit(Image.fromarray(rgb), Image.Resampling.NEAREST))


def _fit(picture: Image.Image, resampling: Image.Resampling) -> Image.Image:
    scale = min(THUMB[0] / picture.height, THUMB[1] / picture.width)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    return picture.resize(size, Image.Resampling.NEAREST if scale > 1 else resampling)


def _on_tile(picture: Image.Image) -> Image.Image:
    tile = Image.new("RGB", (THUMB[1], THUMB[0]), (235, 235, 235))
    tile.paste(picture, ((THUMB[1] - picture.width) // 2, (THUMB[0] - picture.height) // 2))
    return tile


def _note(text: str) -> Image.Image:
    tile = Image.new("RGB", (THUMB[1], THUMB[0]), (235, 235, 235))
    middle = (THUMB[1] / 2, THUMB[0] / 2)
    found = font_file(text)
    font = ImageFont.truetype(found, 14) if found else ImageFont.load_default(size=14)
    ImageDraw.Draw(tile).text(middle, text, fill=MARK["error"], font=font, anchor="mm")
    return tile


def _shortened(text: str, font: Any, width: int) -> str:
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"
