"""Training curves and the curves of temperatures, gates and attention, as panels under one legend."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from semalign.palette import line_style
from semalign.report.curves import Band, SiteGroup, curve_band, site_band, site_groups
from semalign.report.figures.shapes import Line, Panel
from semalign.report.numbers import StudyNumbers
from semalign.report.sections.parts import Group, Legend, Titled
from semalign.report.sentences import named
from semalign.wording import Catalogue

__all__ = ["panel_groups"]


def panel_groups(numbers: StudyNumbers, words: Catalogue) -> tuple[Group, ...]:
    """Return the curves of training, of temperatures and gates, of the fusion, and of gradients."""
    training = [
        _panel(
            f"training-{index}",
            words(f"figure.curve {name}"),
            {arm: _scaled(curve_band(numbers, arm, name), factor) for arm in numbers.arms},
            numbers,
            words,
        )
        for index, (name, factor) in enumerate((("train/loss", 1.0), ("val/miou", 100.0), ("train/miou", 100.0)))
    ]
    groups = [_group("training", words("figure.text training"), [training], numbers, words)]
    for key, quantities in (
        ("knobs", ("scale", "logit_size", "gate")),
        ("fusion", ("strength", "entropy")),
        ("stability", ("grad_norm",)),
    ):
        rows = [row for quantity in quantities for row in _site_panels(key, quantity, numbers, words)]
        if rows or key != "stability":
            groups.append(_group(key, words(f"figure.text {key}"), rows, numbers, words))
    return tuple(groups)


def _site_panels(key: str, quantity: str, numbers: StudyNumbers, words: Catalogue) -> list[list[Titled | None]]:
    """Return one row of panels for the encoder's stages, one for the decoder's levels, one for other sites."""
    places = site_groups(numbers, quantity)
    bands = {place: {arm: site_band(numbers, arm, place, quantity) for arm in numbers.arms} for place in places}
    panels = [
        _panel(
            f"{key}-{quantity.replace('_', '-')}-{index}",
            words("figure.panel title", what=words(f"figure.quantity {quantity}"), place=_place(place, words)),
            bands[place],
            numbers,
            words,
            # One vertical axis for all stages of the encoder, and one for all levels of the decoder.
            limits=_limits([band for other in places if other.side == place.side for band in bands[other].values()]),
        )
        for index, place in enumerate(places)
    ]
    sides = dict.fromkeys(place.side for place in places)
    return [[panel for panel, place in zip(panels, places, strict=True) if place.side == side] for side in sides]


def _place(group: SiteGroup, words: Catalogue) -> str:
    return words(f"figure.place {group.side}", index=group.index, site=group.site)


def _group(key: str, text: str, rows: list[list[Titled | None]], numbers: StudyNumbers, words: Catalogue) -> Group:
    drawn = tuple(tuple(panel for panel in row if panel is not None) for row in rows)
    drawn = tuple(row for row in drawn if row)
    styles = {line.style for row in drawn for panel in row for line in panel.panel.lines}
    legend = []
    for index, arm in enumerate(numbers.arms):
        if index in styles:
            color, dashes = line_style(index)
            # Dashes are in widths of the line, which is 2 pixels in the legend.
            pattern = " ".join(f"{2 * length:g}" for length in dashes)
            legend.append(Legend(named(arm, numbers, words), index, color, pattern))
    return Group(key, words(f"figure.group {key}"), text if drawn else words("figure.no curves"), tuple(legend), drawn)


def _panel(
    key: str,
    title: str,
    bands: Mapping[str, Band | None],
    numbers: StudyNumbers,
    words: Catalogue,
    limits: tuple[float, float] | None = None,
) -> Titled | None:
    lines, values = [], []
    for index, arm in enumerate(numbers.arms):
        band = bands[arm]
        if band is not None:
            lines.append(Line(index, band.steps, band.mean, band.low, band.high))
            values.append(words("figure.last value", arm=named(arm, numbers, words), value=f"{band.mean[-1]:.3g}"))
    if not lines:
        return None
    description = words("figure.panel description", title=title, values=words.join(values))
    return Titled(title, Panel(key, description, words("figure.optimizer step"), tuple(lines), limits))


def _scaled(band: Band | None, factor: float) -> Band | None:
    if band is None:
        return None
    return dataclasses.replace(band, mean=factor * band.mean, low=factor * band.low, high=factor * band.high)


def _limits(bands: list[Band | None]) -> tuple[float, float] | None:
    shown = [band for band in bands if band is not None]
    if not shown:
        return None
    low, high = min(float(band.low.min()) for band in shown), max(float(band.high.max()) for band in shown)
    # A constant still needs an axis around it.
    space = 0.05 * (high - low) or 0.05 * abs(high) or 0.05
    return low - space, high + space
