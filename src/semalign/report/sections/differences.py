"""Differences by class and by image, for reading and not judged."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from pathlib import Path, PurePath
from typing import TypeAlias

import numpy as np

from semalign.report.cells import Cell, Column, Picture, Row, Table, notes_once
from semalign.report.differences import ImageChange, ImageChanges, class_changes, image_changes, primary_estimates
from semalign.report.digits import Digits
from semalign.report.figures.shapes import ForestMark, ForestPlot, Line, Panel
from semalign.report.images import picture_of, picture_of_scene, scenes_of
from semalign.report.numbers import StudyNumbers
from semalign.report.sections.parts import Figure, Section, ends_of
from semalign.report.sentences import effect_name, level_of_means
from semalign.wording import Catalogue

__all__ = ["Pictures", "class_changes_table", "class_section", "data_pictures", "image_changes_table", "image_section"]


_MOST_CLASSES = 24


_MOST_EFFECTS = 6


def class_changes_table(numbers: StudyNumbers, words: Catalogue, digits: Digits) -> Table | None:
    """Return the effects (columns) on each class (rows), for reading; None where there is none."""
    estimates = primary_estimates(numbers)
    none = words("report.none")
    by_effect = [{change.name: change for change in class_changes(numbers, estimate)} for estimate in estimates]
    names = [name for name in numbers.score.class_names if any(name in changes for changes in by_effect)]
    if not names:
        return None
    rows = []
    for name in names:
        cells = [Cell(name)]
        for changes in by_effect:
            change = changes.get(name)
            cells.append(Cell(none if change is None else digits.effect(change.mean, change.low, change.high, none)))
        rows.append(Row(tuple(cells)))
    columns = (
        Column(words("table.class")),
        *(Column(effect_name(one, numbers, words), numeric=True) for one in estimates),
    )
    chance = numbers.study.alpha * len(names)
    note = words("report.class changes text", level=level_of_means(numbers), n=len(names), chance=f"{chance:.2g}")
    return Table(words("table.class changes title"), columns, tuple(rows), (note,))


Pictures: TypeAlias = Callable[[str], str | None]
"""By an image's name the address of its picture, None where there is none."""


def data_pictures(numbers: StudyNumbers) -> Pictures | None:
    """Return what shows the scored images: the data folder, or scenes drawn again; None where neither can be had."""
    data = numbers.facts.get("data")
    if not isinstance(data, Mapping):
        return None
    split = numbers.score.split
    if data.get("root"):
        root = Path(str(data["root"]))
        return functools.partial(picture_of, root, split) if (root / "images" / split).is_dir() else None
    scenes = scenes_of(data, split)
    return None if scenes is None else functools.partial(picture_of_scene, scenes, split)


def image_changes_table(
    numbers: StudyNumbers, changes: ImageChanges, show: Pictures | None, words: Catalogue, digits: Digits
) -> Table:
    """Return the images that gain and lose most; with the pictures that ``show`` has."""
    none = words("report.none")
    pictures = {
        change.name: address
        for change in (*changes.gains, *changes.losses)
        if show is not None and (address := show(change.name)) is not None
    }
    rows = []

    def row(change: ImageChange) -> Row:
        cells = [Cell(PurePath(change.name).name)]
        if pictures:
            address = pictures.get(change.name)
            alt = words("table.picture alt", name=change.name)
            cells.append(Cell("" if address else none, picture=Picture(address, alt) if address else None))
        cells += [
            Cell(digits.points(change.mean)),
            Cell(none if change.sd is None else digits.points(change.sd, signed=False)),
            Cell(words("table.agree value", n=change.agree, blocks=change.blocks)),
        ]
        return Row(tuple(cells))

    rows = [row(change) for change in (*changes.gains, *reversed(changes.losses))]
    columns = [Column(words("table.image"))]
    if pictures:
        columns.append(Column(words("table.picture")))
    columns += [Column(words(head), numeric=True) for head in ("table.gain head", "table.sd seeds", "table.agree")]
    estimate, _ = numbers.judgement.of(changes.contrast.name)
    title = words("table.image changes title", effect=effect_name(estimate, numbers, words))
    return Table(title, tuple(columns), tuple(rows), (words("table.image changes note"),))


def class_section(numbers: StudyNumbers, words: Catalogue, digits: Digits) -> Section:
    """Return the effects on the IoU of each class."""
    table = class_changes_table(numbers, words, digits)
    title = words("report.class changes")
    if table is None:
        return Section("classes", title, (words("report.class changes none"),))
    figures = []
    for index, estimate in enumerate(primary_estimates(numbers)[:_MOST_EFFECTS]):
        changes = class_changes(numbers, estimate)
        if not changes:
            continue
        # Of many classes those that change most, in the order of the change.
        most = sorted(changes, key=lambda change: -abs(change.mean))[:_MOST_CLASSES]
        most.sort(key=lambda change: -change.mean)
        marks = tuple(ForestMark(change.name, change.mean, ends_of(change.low, change.high)) for change in most)
        values = words("report.detail separator").join(
            f"{change.name} {digits.effect(change.mean, change.low, change.high, words('report.none'))}"
            for change in most
        )
        description = words("figure.class description", effect=estimate.contrast.name, values=values)
        plot = ForestPlot(f"classes-{index}", description, marks, words("figure.effects axis"))
        figures.append(Figure(effect_name(estimate, numbers, words), plot))
    return Section("class-changes", title, table.notes, tuple(figures), (dataclasses.replace(table, notes=()),))


def image_section(numbers: StudyNumbers, words: Catalogue, digits: Digits) -> Section:
    """Return the images that gain and lose most by each effect."""
    title = words("report.image changes")
    found = [
        changes
        for estimate in primary_estimates(numbers)[:_MOST_EFFECTS]
        if (changes := image_changes(numbers, estimate)) is not None
    ]
    if not found:
        return Section("image-changes", title, (words("report.image changes none"),))
    show = data_pictures(numbers)
    said = [words("report.image changes text", n=_blocks_text(found, numbers), images=len(found[0].mean))]
    if show is None:
        said.append(words("report.pictures missing"))
    said.append(words("figure.images panel text"))
    figures = tuple(_images_figure(index, changes, numbers, words, digits) for index, changes in enumerate(found))
    tables = tuple(image_changes_table(numbers, changes, show, words, digits) for changes in found)
    return Section("image-changes", title, tuple(said), figures, notes_once(tables))


def _blocks_text(found: list[ImageChanges], numbers: StudyNumbers) -> str:
    blocks = sorted({numbers.judgement.of(changes.contrast.name)[0].n for changes in found})
    return str(blocks[0]) if len(blocks) == 1 else f"{blocks[0]}–{blocks[-1]}"


def _images_figure(
    index: int, changes: ImageChanges, numbers: StudyNumbers, words: Catalogue, digits: Digits
) -> Figure:
    name = effect_name(numbers.judgement.of(changes.contrast.name)[0], numbers, words)
    ranks = np.arange(1, len(changes.mean) + 1, dtype=np.float64)
    line = Line(0, ranks, changes.mean, changes.mean - changes.sd, changes.mean + changes.sd)
    description = words(
        "figure.images description",
        effect=name,
        n=len(ranks),
        up=int((changes.mean > 0).sum()),
        down=int((changes.mean < 0).sum()),
        median=digits.points(float(np.median(changes.mean))),
    )
    panel = Panel(f"images-{index}", description, words("figure.images axis"), (line,), zero=True)
    return Figure(words("figure.images panel", effect=name), panel)
