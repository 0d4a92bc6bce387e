"""How the masks of a folder are stored: colors, channels, palettes, and what their values can only mean.

This module decides what several findings and the repair share; it reads no file but the folder's list of class colors.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from semalign.data.check.scan import BadSample, ScanReport
from semalign.data.colors import ClassColors, Color, find_class_colors
from semalign.data.folder import Folder
from semalign.data.listing import Key
from semalign.data.masks import MINUS_ONE, MaskFacts
from semalign.data.sample import DataSource
from semalign.metrics import IGNORE

__all__ = ["MaskColors", "MaskEvidence", "MaskValues", "look_at_masks"]


@dataclasses.dataclass(frozen=True)
class MaskColors:
    """Masks of several channels or with a palette.

    Attributes:
        colored: pictures in colors, and masks of three equal channels that belong to them.
        single: masks of three equal channels of which one is to be taken.
        undecided: masks of three equal channels that may be colors or class indices.
        deep: masks of several channels of 16 bits.
        used: the different colors of ``colored``, and of all palettes where ``differing`` is not empty.
        known: what the colors stand for, or None.
        palettes: masks with a palette.
        differing: indices that do not have the same color in all palettes.
    """

    colored: tuple[Key, ...] = ()
    single: tuple[Key, ...] = ()
    undecided: tuple[Key, ...] = ()
    deep: tuple[Key, ...] = ()
    used: frozenset[Color] = frozenset()
    known: ClassColors | None = None
    palettes: tuple[Key, ...] = ()
    differing: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True)
class MaskValues:
    """The values of masks of one channel, or of which one channel is taken.

    Attributes:
        binary: masks in which 255 stands for 1.
        shifted: splits whose values are one too high beyond doubt.
        out_of_range: masks with a value that is not a class.
    """

    binary: tuple[Key, ...] = ()
    shifted: frozenset[str] = frozenset()
    out_of_range: tuple[Key, ...] = ()


@dataclasses.dataclass(frozen=True)
class MaskEvidence:
    """How the masks of a folder are stored.

    Attributes:
        bad: the samples whose mask cannot be used as it is.
        colors: masks of several channels or with a palette.
        values: what the values of masks of one channel mean.
    """

    bad: Mapping[Key, BadSample]
    colors: MaskColors
    values: MaskValues

    def facts(self, key: Key) -> MaskFacts:
        """Return how a bad mask that can be decoded is stored."""
        facts = self.bad[key].mask
        assert facts is not None
        return facts

    def mends(self) -> dict[Key, list[str]]:
        """Return by mask what can be done without a doubt, in order: steps of `semalign.data.check.repair`.

        Every mask of a shifted split, unless it is undecided, needs the step "shift" besides.
        """
        colors, values = self.colors, self.values
        readable = (*colors.colored, *(colors.palettes if colors.differing else ()))
        steps: dict[Key, list[str]] = {}
        for step, keys in (
            ("colors", readable if colors.known is not None else ()),
            ("channel", colors.single),
            ("palette", () if colors.differing else colors.palettes),
            ("void", tuple(key for key in values.out_of_range if MINUS_ONE in self.facts(key).values)),
            ("binary", values.binary),
        ):
            for key in keys:
                steps.setdefault(key, []).append(step)
        return steps


def look_at_masks(source: DataSource, scan: ScanReport) -> MaskEvidence:
    """Return how the masks are stored.

    Raises:
        DataError: the folder's file of class colors is malformed.
    """
    bad = {
        (split, name): sample
        for split, samples in scan.bad.items()
        for name, sample in samples.items()
        if "mask" in sample.problems
    }
    if not isinstance(source, Folder):
        return MaskEvidence(bad, MaskColors(), MaskValues())
    facts = {key: sample.mask for key, sample in bad.items() if sample.mask is not None}
    colors = _look_at_colors(source, scan, facts)
    return MaskEvidence(bad, colors, _look_at_values(source, scan, facts, set(colors.single)))


# ---- Colors ----


def _look_at_colors(folder: Folder, scan: ScanReport, bad: Mapping[Key, MaskFacts]) -> MaskColors:
    n_classes = len(folder.class_names)
    deep = tuple(key for key, facts in bad.items() if facts.is_deep)
    colored = {key: facts for key, facts in bad.items() if facts.colors and not facts.is_deep}
    equal = {key: facts for key, facts in bad.items() if facts.channels == 3 and not facts.colors and not facts.is_deep}
    palettes = _palettes(scan, bad)
    by_index: dict[int, set[Color]] = {}
    for palette in palettes.values():
        for index, color in palette.items():
            by_index.setdefault(index, set()).add(color)
    differing = tuple(sorted(index for index, colors in by_index.items() if len(colors) > 1))

    used = {color for facts in colored.values() for color in facts.colors}
    if differing:
        used |= {color for palette in palettes.values() for color in palette.values()}
    known = find_class_colors(folder.root, folder.class_names, used) if used or equal else None
    has_plain = any(scan.records.values()) or any(facts.channels == 1 for facts in bad.values())
    greys, single, undecided = _grey_masks(equal, bool(colored), has_plain, known, n_classes)
    return MaskColors(
        colored=(*colored, *greys),
        single=single,
        undecided=undecided,
        deep=deep,
        used=frozenset(used),
        known=known,
        palettes=tuple(sorted(palettes)),
        differing=differing,
    )


def _palettes(scan: ScanReport, bad: Mapping[Key, MaskFacts]) -> dict[Key, Mapping[int, Color]]:
    """Return the colors of the indices in use of every mask with a palette."""
    sound = {
        (split, name): record.palette_colors
        for split, records in scan.records.items()
        for name, record in records.items()
        if record.palette
    }
    return sound | {key: facts.palette for key, facts in bad.items() if facts.palette}


def _grey_masks(
    equal: Mapping[Key, MaskFacts], has_colored: bool, has_plain: bool, known: ClassColors | None, n_classes: int
) -> tuple[tuple[Key, ...], tuple[Key, ...], tuple[Key, ...]]:
    """Return which masks of three equal channels are colors, which are class indices, and which may be either.

    A mask whose values are both, such as an all black one, is what the folder's other masks of three channels are.

    Args:
        equal: those masks.
        has_colored: whether there are pictures in colors.
        has_plain: whether there are masks of one channel.
        known: what the colors stand for.
        n_classes: C.
    """
    # Masks of unknown colors are likely to have black and white among them.
    unknown = {(0, 0, 0), (IGNORE, IGNORE, IGNORE)} if has_colored else set()
    may_be_colors = unknown if known is None else set(known.index)
    colors: list[Key] = []
    indices: list[Key] = []
    either: list[Key] = []
    for key, facts in equal.items():
        greys = {value: (value, value, value) for value in facts.values}
        if not set(greys.values()) <= may_be_colors:
            indices.append(key)
        elif known is None or (
            facts.fits(n_classes) and any(known.index[color] != value for value, color in greys.items())
        ):
            either.append(key)
        else:
            colors.append(key)
    has_colored |= any(not equal[key].fits(n_classes) for key in colors)
    # Up to C, as they may be counted from 1.
    has_indices = any(equal[key].fits(n_classes + 1) for key in indices)
    if known is None or (has_colored and has_indices) or (has_plain and not has_colored and not has_indices):
        return tuple(colors), tuple(indices), tuple(either)
    if has_indices:
        indices = [key for key in equal if key not in colors]
    else:
        colors = [key for key in equal if key not in indices]
    return tuple(colors), tuple(indices), ()


# ---- Values ----


def _look_at_values(folder: Folder, scan: ScanReport, bad: Mapping[Key, MaskFacts], single: set[Key]) -> MaskValues:
    n_classes = len(folder.class_names)
    odd = {key: facts for key, facts in bad.items() if facts.values and (facts.channels == 1 or key in single)}
    counts: dict[str, Counter[int]] = {split: Counter() for split in folder.splits}
    for split, records in scan.records.items():
        for record in records.values():
            counts[split].update(record.counts)
    for (split, _), facts in odd.items():
        counts[split].update(facts.values)
    if n_classes == 2 and set().union(*counts.values()) == {0, IGNORE}:
        return MaskValues(
            binary=tuple(
                (split, name)
                for split, records in scan.records.items()
                for name, record in records.items()
                if IGNORE in record.counts
            )
        )
    classes = {
        split: {value: number for value, number in found.items() if value not in (IGNORE, MINUS_ONE)}
        for split, found in counts.items()
    }
    return MaskValues(
        shifted=frozenset(_shifted(classes, n_classes)),
        out_of_range=tuple(key for key, facts in odd.items() if not facts.fits(n_classes)),
    )


def _shifted(counts: Mapping[str, Mapping[int, int]], n_classes: int) -> set[str]:
    """Return the splits whose values are one too high beyond doubt.

    All are if no mask has 0, some mask has C, and none has more.  One alone is if that holds of it, and its classes'
    shares are then at least twice as near to those of the other splits.

    Args:
        counts: pixels by split and value, without those that mean "ignored".
        n_classes: C.
    """
    filled = {split: found for split, found in counts.items() if found}

    def fits(values: Iterable[int]) -> bool:
        return 0 not in values and n_classes in values and all(0 < value <= n_classes for value in values)

    if fits({value for found in filled.values() for value in found}):
        return set(filled)
    suspects = {split for split, found in filled.items() if fits(found)}
    others = sum((_histogram(found, n_classes) for split, found in filled.items() if split not in suspects))
    if not np.any(others):
        return set()
    expected = others / np.sum(others)
    shifted = set()
    for split in suspects:
        shares = _histogram(filled[split], n_classes)
        shares /= shares.sum()
        as_it_is = float(np.abs(shares - expected).sum())
        moved = float(np.abs(np.append(shares[1:], 0) - expected).sum())
        if 2 * moved <= as_it_is:
            shifted.add(split)
    return shifted


def _histogram(counts: Mapping[int, int], n_classes: int) -> NDArray[np.float64]:
    """Return the pixels of the values 0 to C."""
    return np.array([counts.get(value, 0) for value in range(n_classes + 1)], dtype=np.float64)
