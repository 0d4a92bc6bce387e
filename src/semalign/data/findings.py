"""What is wrong, doubtful or worth knowing about a data set, in groups: `semalign data check`.

`semalign.data.check.scan` reads every file once; this module draws conclusions from what it found, reads nothing but
``texts.jsonl`` and ``clusters.txt``, and says what can be mended without a doubt (`Mending`); `semalign.data.repair`
does that.  It knows nothing of batches, models and torch.
"""

from __future__ import annotations

import dataclasses
import re
import statistics
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from semalign.data.check import BadSample, Progress, Record, ScanReport, scan
from semalign.data.duplicates import near_pairs
from semalign.data.folder import IMAGE_ENDINGS, Folder
from semalign.data.leaks import text_agreement
from semalign.data.masks import ClassColors, Color, MaskFacts, find_class_colors
from semalign.data.sample import DataSource
from semalign.errors import DataError, TextError
from semalign.metrics import IGNORE

__all__ = ["CODES", "REPORT_FORMAT", "DataReport", "Finding", "Key", "Kind", "Mending", "check_data", "listed_files"]

# History of `DataReport.to_dict`:
# 1: first; before it, the scan's report alone.
REPORT_FORMAT = 1

DARK = 16
"""An image whose greatest value is at most this is nearly black."""
MUCH_IGNORED = 0.5
DOMINANT = 0.9
MANY_HOLES = 0.5
MUCH_AT_END = 0.05
DEPTH_RATIO = 4.0
VOID_16 = 65535
"""-1 in a 16-bit mask."""

Key = tuple[str, str]
"""Split and name of an image."""


class Kind(NamedTuple):
    """What a code stands for.

    Attributes:
        severity: "error" (it cannot be used so), "warning" (a result is likely to be wrong or too good) or "note".
        fix: what to do.
        mended: whether ``--fix`` does it where the evidence leaves no doubt.
    """

    severity: str
    fix: str
    mended: bool = False


CODES: MappingProxyType[str, Kind] = MappingProxyType(
    {
        # The files.
        "pairing": Kind("error", "add the missing file or remove its partners", True),
        "image-broken": Kind("error", "replace the file or remove it with its partners", True),
        "mask-broken": Kind("error", "replace the file (a PNG) or remove it with its partners", True),
        "depth-broken": Kind("error", "replace the file (a grey PNG of 8 or 16 bits) or remove it with its partners"),
        "sizes-differ": Kind("error", "resize one of them, a mask by nearest neighbour"),
        "texts-file": Kind("error", "correct the lines of texts.jsonl"),
        "clusters-file": Kind("error", "correct the lines of clusters.txt"),
        # Masks.
        "mask-colour": Kind("error", "write colors.txt (R G B NAME per line) and use --fix, or convert them", True),
        "mask-off-by-one": Kind("error", "subtract 1 from every value but 255", True),
        "mask-void": Kind("error", "write 255 in place of 65535 (-1)", True),
        "mask-range": Kind("error", "name the missing classes in classes.txt or correct the masks"),
        "mask-binary": Kind("warning", "write 1 in place of 255", True),
        "mask-empty": Kind("warning", "label them or remove them with their partners"),
        "palettes-differ": Kind("warning", "write colors.txt (R G B NAME per line) and use --fix", True),
        "palette": Kind("note", "nothing: the indices are taken, not the colours", True),
        "ignored-much": Kind("note", "nothing, if so much is meant to be ignored (255)"),
        # Classes.
        "class-unused": Kind("warning", "remove it from the end of classes.txt, or look for masks that lack it"),
        "class-unlearned": Kind("warning", "move images that show it to train, or expect an IoU of 0"),
        "class-absent": Kind("note", "nothing: it is left out of that split's mean"),
        "class-rare": Kind("note", "expect its IoU to depend on chance, or join it with another"),
        "class-dominant": Kind("note", "look at the IoU of the other classes, not at the share of right pixels"),
        # Images.
        "image-flat": Kind("warning", "replace them or remove them with their partners"),
        "image-dark": Kind("warning", "multiply by 255 if they were saved in the range 0 to 1"),
        "orientation-ambiguous": Kind("warning", "save the images upright without EXIF orientation"),
        "orientation": Kind("note", "nothing, or save the images upright without EXIF orientation"),
        "duplicate-across": Kind("warning", "remove the copies from train", True),
        "duplicate-within": Kind("warning", "remove all but one of each"),
        "near-duplicate-across": Kind("warning", "put pictures of one place or sequence into one split"),
        "near-duplicate-within": Kind("note", "nothing in a video; count sequences, not images (clusters.txt)"),
        "cluster-across": Kind("warning", "put a sequence into one split"),
        "split-missing": Kind("note", "name it with data.train_split or data.val_split"),
        # Texts.
        "texts-leak": Kind("warning", "show such figures as leaking, or write texts from the images alone"),
        "texts-missing": Kind("note", "nothing: images without text are allowed"),
        "texts-same": Kind("note", "nothing: a text shared by all says nothing about any one image"),
        # Depth.
        "depth-empty": Kind("warning", "replace the files, 0 is no measurement"),
        "depth-flat": Kind("warning", "replace the files"),
        "depth-end": Kind("warning", "write 0 where there is no measurement"),
        "depth-ranges-differ": Kind("warning", "save all depth in one unit"),
        "depth-holes": Kind("note", "nothing: holes count as the mean depth"),
    }
)
"""By code its severity and fix, in the order of a report's parts."""


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing that was found.

    Attributes:
        code: one of `CODES`.
        split: the split it concerns; "" for all.
        message: what, where, how many.
        files: the files concerned, below the data folder.
        details: one sentence per file, where there is more to say of each.
    """

    code: str
    split: str
    message: str
    files: tuple[str, ...] = ()
    details: tuple[str, ...] = ()

    @property
    def severity(self) -> str:
        """One of error, warning and note."""
        return CODES[self.code].severity

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        kind = CODES[self.code]
        return {
            "code": self.code,
            "severity": kind.severity,
            "split": self.split,
            "message": self.message,
            "count": len(self.files),
            "files": list(self.files),
            "details": list(self.details),
            "fix": kind.fix,
            "fixed_by_option": kind.mended,
        }


@dataclasses.dataclass
class Mending:
    """What can be mended without a doubt.

    Attributes:
        drop: images to leave out, with the code that says why; always less than half of a split.
        coloured: masks whose colours are to be read as classes.
        colors: what the colours stand for.
        one_channel: masks of which one of three equal channels is to be taken.
        undecided: masks of three equal channels that may be colours or class indices, to be left as they are.
        plain: palette masks to be saved as grey indices.
        shift: splits whose values are one too high.
        void: masks in which 65535 stands for 255.
        binary: masks in which 255 stands for 1.
    """

    drop: dict[Key, str] = dataclasses.field(default_factory=dict)
    coloured: set[Key] = dataclasses.field(default_factory=set)
    colors: ClassColors | None = None
    one_channel: set[Key] = dataclasses.field(default_factory=set)
    undecided: set[Key] = dataclasses.field(default_factory=set)
    plain: set[Key] = dataclasses.field(default_factory=set)
    shift: set[str] = dataclasses.field(default_factory=set)
    void: set[Key] = dataclasses.field(default_factory=set)
    binary: set[Key] = dataclasses.field(default_factory=set)


@dataclasses.dataclass(frozen=True)
class DataReport:
    """The outcome of `check_data`.

    Attributes:
        scan: what was read and counted.
        findings: errors, then warnings, then notes.
        mending: what can be mended.
    """

    scan: ScanReport
    findings: tuple[Finding, ...]
    mending: Mending

    def of(self, severity: str) -> tuple[Finding, ...]:
        """Return the findings of one severity."""
        return tuple(finding for finding in self.findings if finding.severity == severity)

    @property
    def has_errors(self) -> bool:
        """Whether the data cannot be used as they are."""
        return bool(self.of("error"))

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON values; "problems" are all errors in full, one sentence each."""
        value = self.scan.to_dict()
        return {
            "format": REPORT_FORMAT,
            **value,
            "findings": [finding.to_dict() for finding in self.findings],
            "errors": len(self.of("error")),
            "warnings": len(self.of("warning")),
            "notes": [finding.message for finding in self.of("note")],
        }


def check_data(source: DataSource, *, progress: Progress | None = None) -> DataReport:
    """Read every file of ``source`` once and say what is wrong, doubtful or worth knowing.

    Args:
        source: a folder, or scenes (rendered: their files, duplicates and splits need no check).
        progress: as for `semalign.data.check.scan`.

    Raises:
        DataError: the folder's file of class colours is malformed.
    """
    report = scan(source, progress=progress)
    mending = Mending()
    findings: list[Finding] = []
    if isinstance(source, Folder):
        findings += _pairing(source, mending)
        findings += _broken(source, report, mending)
        findings += _masks(source, report, mending)
        findings += _text_files(source)
        findings += _pictures(source, report)
        findings += _duplicates(source, report, mending)
        findings += _splits(source)
    # Counts of classes over half of the masks would say nothing.
    if not report.problems:
        binary = any(finding.code == "mask-binary" for finding in findings)
        findings += [] if binary else _classes(source, report)
        findings += _texts(source, report)
    if source.has_depth:
        findings += _depth(source, report)
    ranks = {"error": 0, "warning": 1, "note": 2}
    findings.sort(key=lambda finding: ranks[finding.severity])
    return DataReport(report, tuple(map(_agree, findings)), mending)


# ---- Helpers ----


def listed_files(root: Path, kind: str, split: str) -> list[Path]:
    """Return the files that count in ``root/kind/split``, sorted: images of any ending, masks and depth as PNG."""
    folder = root / kind / split
    endings = IMAGE_ENDINGS if kind == "images" else (".png",)
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in endings and path.name[0] != ".")


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s" if what[-1] != "s" else "es")


def _below(root: Path, paths: Iterable[Path]) -> tuple[str, ...]:
    return tuple(path.relative_to(root).as_posix() for path in paths)


def _agree(finding: Finding) -> Finding:
    """Return the finding with the first verb of "1 image of train have ..." in the singular."""
    if not finding.message.startswith("1 "):
        return finding
    singular = {"have": "has", "are": "is", "look": "looks", "hold": "holds"}
    message = re.sub(r" (have|are|look|hold) ", lambda verb: f" {singular[verb[1]]} ", finding.message, count=1)
    return dataclasses.replace(finding, message=message)


def _share(part: float) -> str:
    if part >= 0.01:
        # 100 % only where it is.
        return f"{100 * part if part == 1 else min(100 * part, 99.9):.3g} %"
    return f"{100 * part:.2g} %"


def _files_of(folder: Folder, split: str, names: Iterable[str], kind: str) -> tuple[str, ...]:
    return _below(folder.root, (getattr(folder.files(split, name), kind) for name in names))


def _leave_out(folder: Folder, mending: Mending, code: str, split: str, names: Iterable[str]) -> str:
    """Leave images out of the copy and return ""; where half of a split or more would be gone, keep them and say so.

    A fault of most images lies in their partners, their format or the split, and nobody wants a copy without them.
    """
    added = {(split, name): code for name in names}
    gone = {key for key in mending.drop if key[0] == split} | set(added)
    total = len({path.stem for path in listed_files(folder.root, "images", split)})
    if added and 2 * len(gone) >= total:
        return f"; --fix keeps them, since {len(gone)} of {_count(total, 'image')} of {split} would be left out"
    mending.drop = added | mending.drop
    return ""


# ---- Files ----


def _pairing(folder: Folder, mending: Mending) -> Iterator[Finding]:
    problems = folder.pairing_problems()
    if not problems:
        return
    lonely: list[Path] = []
    complete = folder.complete_names()
    kept = ""
    kinds = ("masks", "depth") if folder.has_depth else ("masks",)
    for split in folder.splits:
        images = listed_files(folder.root, "images", split)
        without = [path for path in images if path.stem not in complete[split]]
        lonely += without
        kept += _leave_out(folder, mending, "pairing", split, [path.stem for path in without])
        stems = {path.stem for path in images}
        for kind in kinds:
            lonely += [path for path in listed_files(folder.root, kind, split) if path.stem not in stems]
    single = len(problems) == 1
    message = str(problems[0]) if single else f"{len(problems)} images, masks or splits have no partner or share a name"
    details = () if single else tuple(map(str, problems))
    yield Finding("pairing", "", message + kept, _below(folder.root, lonely), details)


def _broken(folder: Folder, report: ScanReport, mending: Mending) -> Iterator[Finding]:
    phrases = {
        "image": ("image-broken", "image", "cannot be decoded"),
        "depth": ("depth-broken", "depth file", "cannot be used"),
        "size": ("sizes-differ", "image", "have another size than the mask or depth"),
    }
    for split, bad in report.bad.items():
        for kind, (code, noun, phrase) in phrases.items():
            found = {name: sample.problems[kind] for name, sample in bad.items() if kind in sample.problems}
            if not found:
                continue
            kept = _leave_out(folder, mending, code, split, found) if code == "image-broken" else ""
            yield Finding(
                code,
                split,
                f"{_count(len(found), noun)} of {split} {phrase}{kept}",
                _files_of(folder, split, found, "depth" if kind == "depth" else "image"),
                tuple(map(str, found.values())),
            )


# ---- Masks ----


def _masks(folder: Folder, report: ScanReport, mending: Mending) -> Iterator[Finding]:
    bad = {
        (split, name): sample
        for split, samples in report.bad.items()
        for name, sample in samples.items()
        if "mask" in sample.problems
    }
    for split in report.bad:
        broken = [key for key, sample in bad.items() if key[0] == split and sample.mask is None]
        kept = _leave_out(folder, mending, "mask-broken", split, [name for _, name in broken])
        yield from _mask_findings(folder, bad, "mask-broken", broken, f"cannot be decoded as PNG{kept}")
    yield from _colour_masks(folder, report, bad, mending)
    yield from _mask_values(folder, report, bad, mending)

    for split, records in report.records.items():
        empty = [name for name, record in records.items() if not record.classes]
        if empty:
            message = f"{_count(len(empty), 'mask')} of {split} hold nothing but {IGNORE} (ignored)"
            yield Finding("mask-empty", split, message, _files_of(folder, split, empty, "mask"))
        pixels = sum(sum(record.pixels.values()) for record in records.values())
        ignored = sum(record.pixels.get(str(IGNORE), 0) for record in records.values())
        is_binary = any(key[0] == split for key in mending.binary)
        if pixels and ignored / pixels > MUCH_IGNORED and not is_binary and len(empty) < len(records):
            yield Finding("ignored-much", split, f"{_share(ignored / pixels)} of the pixels of {split} are ignored")


def _mask_findings(
    folder: Folder, bad: dict[Key, BadSample], code: str, keys: Sequence[Key], phrase: str
) -> Iterator[Finding]:
    for split in dict.fromkeys(key[0] for key in keys):
        names = [name for own, name in keys if own == split]
        yield Finding(
            code,
            split,
            f"{_count(len(names), 'mask')} of {split} {phrase}",
            _files_of(folder, split, names, "mask"),
            tuple(str(bad[split, name].problems["mask"]) for name in names if (split, name) in bad),
        )


def _colour_masks(folder: Folder, report: ScanReport, bad: dict[Key, BadSample], mending: Mending) -> Iterator[Finding]:
    n_classes = len(folder.class_names)
    coloured: dict[Key, MaskFacts] = {}
    equal: dict[Key, MaskFacts] = {}
    deep = []
    for key, sample in bad.items():
        if sample.mask is None:
            continue
        if sample.mask.is_deep:
            deep.append(key)
        elif sample.mask.colours:
            coloured[key] = sample.mask
        elif sample.mask.channels == 3:
            equal[key] = sample.mask
    # Palettes: the same index must be the same colour everywhere.
    palettes = {
        (split, name): {int(index): _hex_color(text) for index, text in record.palette.items()}
        for split, records in report.records.items()
        for name, record in records.items()
        if record.palette
    }
    palettes |= {key: dict(sample.mask.palette) for key, sample in bad.items() if sample.mask and sample.mask.palette}
    by_index: dict[int, set[Color]] = {}
    for palette in palettes.values():
        for index, color in palette.items():
            by_index.setdefault(index, set()).add(color)
    differ = sorted(index for index, colors in by_index.items() if len(colors) > 1)

    colours = {color for facts in coloured.values() for color in facts.colours}
    if differ:
        colours |= {color for palette in palettes.values() for color in palette.values()}
    known = find_class_colors(folder.root, folder.class_names, colours) if colours or equal else None
    mending.colors = known
    has_plain = any(report.records.values()) or any(s.mask is not None and s.mask.channels == 1 for s in bad.values())
    greys, mending.one_channel, mending.undecided = _grey_masks(equal, bool(coloured), has_plain, known, n_classes)
    coloured |= {key: equal[key] for key in greys}
    how = "" if known is None else f"; their colours are known from {known.known_from}"
    if known is not None:
        mending.coloured |= set(coloured) | (set(palettes) if differ else set())
    else:
        how = f"; {_count(len(colours), 'colour')}, which none of the known palettes has"
    yield from _mask_findings(
        folder, bad, "mask-colour", list(coloured), f"are pictures in colours, expected class indices{how}"
    )
    fitting = [key for key in equal if key in mending.one_channel and _fits(equal[key], n_classes)]
    phrase = "have three equal channels of class indices, expected one"
    yield from _mask_findings(folder, bad, "mask-colour", fitting, phrase)
    phrase = "have three equal channels that may be colours or class indices, expected one channel of class indices"
    undecided = [key for key in equal if key in mending.undecided]
    yield from _mask_findings(folder, bad, "mask-colour", undecided, phrase)
    phrase = "have several channels of 16 bits, which --fix leaves as they are, expected one channel of class indices"
    yield from _mask_findings(folder, bad, "mask-colour", deep, phrase)
    if differ:
        shown = ", ".join(map(str, differ[:5])) + (", ..." if len(differ) > 5 else "")
        message = (
            f"{len(palettes)} masks have palettes in which the index {shown} has different colours, so that it may "
            f"mean another class in each{how}"
        )
        keys = sorted(palettes)
        yield Finding("palettes-differ", "", message, _below(folder.root, (folder.files(s, n).mask for s, n in keys)))
    elif palettes:
        mending.plain |= set(palettes)
        message = f"{_count(len(palettes), 'mask')} are stored with a palette"
        keys = sorted(palettes)
        yield Finding("palette", "", message, _below(folder.root, (folder.files(s, n).mask for s, n in keys)))


def _grey_masks(
    equal: dict[Key, MaskFacts], has_coloured: bool, has_plain: bool, known: ClassColors | None, n_classes: int
) -> tuple[set[Key], set[Key], set[Key]]:
    """Return which masks of three equal channels are colours, which are class indices, and which may be either.

    A mask whose values are both, such as an all black one, is what the folder's other masks of three channels are.

    Args:
        equal: those masks.
        has_coloured: whether there are pictures in colours.
        has_plain: whether there are masks of one channel.
        known: what the colours stand for.
        n_classes: C.
    """
    colours: set[Key] = set()
    indices: set[Key] = set()
    either: set[Key] = set()
    # Masks of unknown colours are likely to have black and white among them.
    unknown = {(0, 0, 0), (IGNORE, IGNORE, IGNORE)} if has_coloured else set()
    for key, facts in equal.items():
        if not {(value, value, value) for value in facts.values} <= (unknown if known is None else set(known.index)):
            indices.add(key)
        elif known is None or (
            _fits(facts, n_classes) and any(known.index[value, value, value] != value for value in facts.values)
        ):
            either.add(key)
        else:
            colours.add(key)
    has_coloured |= any(not _fits(equal[key], n_classes) for key in colours)
    # Up to C, as they may be counted from 1.
    has_indices = any(_fits(equal[key], n_classes + 1) for key in indices)
    if known is None or (has_coloured and has_indices) or (has_plain and not has_coloured and not has_indices):
        return colours, indices, either
    return (colours, indices | either, set()) if has_indices else (colours | either, indices, set())


def _hex_color(text: str) -> Color:
    red, green, blue = bytes.fromhex(text)
    return red, green, blue


def _fits(facts: MaskFacts | None, n_classes: int) -> bool:
    return facts is not None and all(value < n_classes or value == IGNORE for value in facts.values)


def _mask_values(folder: Folder, report: ScanReport, bad: dict[Key, BadSample], mending: Mending) -> Iterator[Finding]:
    """Off by one, another ignore value, binary masks, or simply out of range."""
    n_classes = len(folder.class_names)
    values: dict[str, dict[int, int]] = {}  # pixel counts by split and value, without those that mean "ignored"
    everywhere: set[int] = set()
    out_of_range: dict[str, list[str]] = {}
    for split in folder.splits:
        counts: dict[int, int] = {}
        tables: dict[str, dict[int, int]] = {
            name: {int(value): number for value, number in record.pixels.items()}
            for name, record in report.records.get(split, {}).items()
        }
        for (own, name), sample in bad.items():
            if sample.mask is None or (sample.mask.channels == 3 and (own, name) not in mending.one_channel):
                continue
            if own == split and sample.mask.values:
                tables[name] = dict(sample.mask.values)
                if not _fits(sample.mask, n_classes):
                    out_of_range.setdefault(split, []).append(name)
        for table in tables.values():
            for value, number in table.items():
                everywhere.add(value)
                if value not in (IGNORE, VOID_16):
                    counts[value] = counts.get(value, 0) + number
        values[split] = counts

    if n_classes == 2 and everywhere == {0, IGNORE}:
        for split, records in report.records.items():
            names = [name for name, record in records.items() if str(IGNORE) in record.pixels]
            mending.binary |= {(split, name) for name in names}
            message = (
                f"{_count(len(names), 'mask')} of {split} hold 0 and {IGNORE} alone, which is ignored, so that "
                f"{folder.class_names[1]} has no pixel: {IGNORE} seems to stand for 1"
            )
            if names:
                yield Finding("mask-binary", split, message, _files_of(folder, split, names, "mask"))
        return

    shifted = _shifted(values, n_classes)
    mending.shift |= shifted
    for split, names in out_of_range.items():
        concerned = {name: bad[split, name] for name in names}
        with_void = [n for n, s in concerned.items() if s.mask is not None and VOID_16 in s.mask.values]
        mending.void |= {(split, name) for name in with_void}
        only_void = [n for n in with_void if _fits_without_void(concerned[n].mask, n_classes + (split in shifted))]
        keys = [(split, name) for name in only_void]
        yield from _mask_findings(folder, bad, "mask-void", keys, f"hold {VOID_16} (-1), expected {IGNORE} for ignored")
        rest = [(split, name) for name in names if name not in only_void]
        if split in shifted:
            phrase = (
                f"hold {n_classes}, and no mask of the split holds 0: the classes are counted from 1, expected 0 to "
                f"{n_classes - 1}"
            )
            yield from _mask_findings(folder, bad, "mask-off-by-one", rest, phrase)
            continue
        phrase = f"hold values that are no class, expected 0 to {n_classes - 1} or {IGNORE}"
        found = {value for _, name in rest for value in _values(concerned[name]) if value >= n_classes} - {
            IGNORE,
            VOID_16,
        }
        if found == {n_classes}:
            phrase += f"; {n_classes} is one too high: classes.txt lacks a name, or 0 means no label"
        yield from _mask_findings(folder, bad, "mask-range", rest, phrase)


def _values(sample: BadSample) -> Iterable[int]:
    return () if sample.mask is None else sample.mask.values


def _fits_without_void(facts: MaskFacts | None, limit: int) -> bool:
    return facts is not None and all(value < limit or value in (IGNORE, VOID_16) for value in facts.values)


def _shifted(values: dict[str, dict[int, int]], n_classes: int) -> set[str]:
    """Return the splits whose values are one too high beyond doubt.

    All are if no mask has 0, some mask has C, and none has more.  One alone is if that holds of it, and its classes'
    shares are then at least twice as near to those of the other splits.
    """
    filled = {split: counts for split, counts in values.items() if counts}

    def fits(counts: Iterable[int]) -> bool:
        return 0 not in counts and n_classes in counts and all(0 < value <= n_classes for value in counts)

    if fits({value for counts in filled.values() for value in counts}):
        return set(filled)
    suspects = {split for split, counts in filled.items() if fits(counts)}
    others = np.zeros(n_classes + 1)
    for split, counts in filled.items():
        if split not in suspects:
            for value, number in counts.items():
                if value <= n_classes:
                    others[value] += number
    shifted = set()
    for split in suspects:
        shares = np.zeros(n_classes + 1)
        for value, number in filled[split].items():
            shares[value] += number
        if not others.sum():
            continue
        shares, expected = shares / shares.sum(), others / others.sum()
        as_it_is = float(np.abs(shares - expected).sum())
        moved = float(np.abs(np.append(shares[1:], 0) - expected).sum())
        if 2 * moved <= as_it_is:
            shifted.add(split)
    return shifted


# ---- Classes ----


def _classes(source: DataSource, report: ScanReport) -> Iterator[Finding]:
    splits = report.splits
    if not splits:
        return
    never = [name for name in source.class_names if all(name in split.unused for split in splits.values())]
    if never:
        yield Finding("class-unused", "", f"no mask of any split shows {', '.join(never)}")
    train = splits.get("train")
    for name, split in splits.items():
        gone = [c for c in split.unused if c not in never]
        if name == "train" and gone:
            yield Finding("class-unlearned", name, f"no mask of train shows {', '.join(gone)}, but other splits do")
        elif train is not None and gone:
            yield Finding("class-absent", name, f"no mask of {name} shows {', '.join(gone)}")
        total = sum(split.pixels.values())
        if split.rare:
            shown = ", ".join(f"{c} {_share(split.pixels[c] / total)} in {split.images_with[c]}" for c in split.rare)
            yield Finding("class-rare", name, f"classes of {name} with few pixels, and the number of images: {shown}")
        if total and len(split.pixels) > 1:
            most = max(split.pixels, key=lambda c: split.pixels[c])
            if split.pixels[most] > DOMINANT * total:
                part = _share(split.pixels[most] / total)
                yield Finding("class-dominant", name, f"{part} of the labelled pixels of {name} are {most}")


# ---- Images ----


def _pictures(folder: Folder, report: ScanReport) -> Iterator[Finding]:
    for split, records in report.records.items():
        greys = {name: record.grey for name, record in records.items()}
        greys |= {name: sample.grey for name, sample in report.bad.get(split, {}).items() if sample.grey}
        for code, names, phrase in (
            ("image-flat", [n for n, (low, high) in greys.items() if low == high], "have one colour all over"),
            (
                "image-dark",
                [n for n, (low, high) in greys.items() if low < high <= DARK],
                f"have no value above {DARK} of 255",
            ),
            (
                "orientation-ambiguous",
                [n for n, r in records.items() if r.orientation == "ambiguous"],
                "are turned by their EXIF orientation, but their masks fit either way: look at some",
            ),
            (
                "orientation",
                [n for n, r in records.items() if r.orientation in ("applied", "left")],
                "have an EXIF orientation, which is applied where the mask has the upright size",
            ),
        ):
            if names:
                message = f"{_count(len(names), 'image')} of {split} {phrase}"
                yield Finding(code, split, message, _files_of(folder, split, names, "image"))


def _duplicates(folder: Folder, report: ScanReport, mending: Mending) -> Iterator[Finding]:
    samples: dict[str, dict[str, Record | BadSample]] = {}
    for split, records in report.records.items():
        together: dict[str, Record | BadSample] = {**records, **report.bad.get(split, {})}
        samples[split] = {name: sample for name, sample in sorted(together.items()) if sample.pixel_hash}
    splits = [split for split in samples if samples[split]]
    for place, split in enumerate(splits):
        own = samples[split]
        yield from _within(folder, report, split, own)
        for other in splits[:place]:
            yield from _across(folder, mending, other, samples[other], split, own)


def _within(
    folder: Folder, report: ScanReport, split: str, samples: dict[str, Record | BadSample]
) -> Iterator[Finding]:
    first: dict[str, str] = {}
    copies = {}
    for name, sample in samples.items():
        known = first.setdefault(sample.pixel_hash, name)
        if known != name:
            copies[name] = known
    if copies:
        records = report.records[split]
        unlike = sum(
            name in records and known in records and records[name].pixels != records[known].pixels
            for name, known in copies.items()
        )
        note = f", {unlike} of them with another mask" if unlike else ""
        yield Finding(
            "duplicate-within",
            split,
            f"{_count(len(copies), 'image')} of {split} are there before, pixel for pixel{note}",
            _files_of(folder, split, copies, "image"),
            tuple(f"{split}/{name} is {split}/{known}" for name, known in copies.items()),
        )
    names = list(first.values())
    pairs = near_pairs([samples[name].picture_hash for name in names])
    alike = {names[j]: names[i] for i, j in reversed(pairs)}
    if alike:
        yield Finding(
            "near-duplicate-within",
            split,
            f"{_count(len(alike), 'image')} of {split} look nearly like another image of {split}, as the frames of a "
            "video do",
            _files_of(folder, split, sorted(alike), "image"),
            tuple(f"{split}/{name} looks like {split}/{known}" for name, known in sorted(alike.items())),
        )


def _across(
    folder: Folder,
    mending: Mending,
    one: str,
    ones: dict[str, Record | BadSample],
    other: str,
    others: dict[str, Record | BadSample],
) -> Iterator[Finding]:
    by_hash: dict[str, list[str]] = {}
    for name, sample in ones.items():
        by_hash.setdefault(sample.pixel_hash, []).append(name)
    copies = {name: by_hash[sample.pixel_hash] for name, sample in others.items() if sample.pixel_hash in by_hash}
    effect = f", so that scores on {other} are too good" if one == "train" else ""
    if copies:
        twins = [twin for found in copies.values() for twin in found]
        kept = _leave_out(folder, mending, "duplicate-across", one, twins) if one == "train" else ""
        yield Finding(
            "duplicate-across",
            other,
            f"{_count(len(copies), 'image')} of {other} are in {one} too, pixel for pixel{effect}{kept}",
            _files_of(folder, other, copies, "image"),
            tuple(f"{other}/{name} is {one}/{found[0]}" for name, found in copies.items()),
        )
    rest = [name for name in others if name not in copies]
    names = list(ones)
    pairs = near_pairs([ones[name].picture_hash for name in names], [others[name].picture_hash for name in rest])
    alike: dict[str, str] = {}
    for i, j in pairs:
        alike.setdefault(rest[j], names[i])
    if alike:
        yield Finding(
            "near-duplicate-across",
            other,
            f"{_count(len(alike), 'image')} of {other} look nearly like an image of {one}{effect}",
            _files_of(folder, other, alike, "image"),
            tuple(f"{other}/{name} looks like {one}/{twin}" for name, twin in alike.items()),
        )


def _splits(folder: Folder) -> Iterator[Finding]:
    missing = [split for split in ("train", "val") if split not in folder.splits]
    if missing:
        yield Finding("split-missing", "", f"there is no split {' and no split '.join(missing)}")
    if not folder.has_clusters or folder.parse_clusters()[1]:
        return
    homes: dict[str, list[str]] = {}
    for split in folder.splits:
        if split in folder.parse_clusters()[0]:
            for cluster in sorted(set(folder.clusters(split).values())):
                homes.setdefault(cluster, []).append(split)
    shared = {cluster: splits for cluster, splits in homes.items() if len(splits) > 1}
    if shared:
        yield Finding(
            "cluster-across",
            "",
            f"{_count(len(shared), 'sequence')} of clusters.txt have images in more than one split, so that scores are "
            "too good",
            (),
            tuple(f"sequence {cluster} is in {' and '.join(splits)}" for cluster, splits in shared.items()),
        )


# ---- Texts ----


def _text_files(folder: Folder) -> Iterator[Finding]:
    found: tuple[tuple[str, Sequence[TextError | DataError]], ...] = (
        ("texts", folder.parse_texts()[1]),
        ("clusters", folder.parse_clusters()[1]),
    )
    for what, problems in found:
        if problems:
            name = "texts.jsonl" if what == "texts" else "clusters.txt"
            message = f"{_count(len(problems), 'line')} of {name} cannot be used"
            yield Finding(f"{what}-file", "", message, (name,), tuple(map(str, problems)))


def _texts(source: DataSource, report: ScanReport) -> Iterator[Finding]:
    if not source.has_texts:
        return
    for split, records in report.records.items():
        texts = source.texts(split)
        names = [name for name in records if texts[name]]
        lacking = [name for name in records if not texts[name]]
        if lacking and names:
            yield Finding(
                "texts-missing", split, f"{len(lacking)} of {_count(len(records), 'image')} of {split} have no text"
            )
        elif lacking:
            yield Finding("texts-missing", split, f"no image of {split} has a text")
            continue
        if len(names) > 1 and len({frozenset(texts[name]) for name in names}) == 1:
            yield Finding("texts-same", split, f"all images of {split} have the same texts")
        present = np.array(
            [[str(index) in records[n].pixels for index in range(len(source.class_names))] for n in names]
        )
        agreement = text_agreement([texts[name] for name in names], present, source.class_names)
        if agreement.leaks and isinstance(source, Folder):
            message = f"the texts of {split} seem to be made from the masks (leaking): {agreement.sentence()}"
            yield Finding("texts-leak", split, message, ("texts.jsonl",))


# ---- Depth ----


def _depth(source: DataSource, report: ScanReport) -> Iterator[Finding]:
    greatest: dict[str, float] = {}
    for split, records in report.records.items():

        def files(names: Iterable[str], split: str = split) -> tuple[str, ...]:
            return _files_of(source, split, names, "depth") if isinstance(source, Folder) else ()

        empty = [name for name, record in records.items() if not record.depth]
        flat = [name for name, record in records.items() if record.depth and record.depth[0] == record.depth[1]]
        if empty:
            yield Finding(
                "depth-empty", split, f"{_count(len(empty), 'image')} of {split} have no measured depth", files(empty)
            )
        if flat:
            yield Finding(
                "depth-flat", split, f"{_count(len(flat), 'image')} of {split} have one depth all over", files(flat)
            )
        measured = {name: record.depth for name, record in records.items() if record.depth}
        if not measured:
            continue
        holes = statistics.fmean(depth[2] for depth in measured.values())
        at_end = {name for name, depth in measured.items() if depth[3] > MUCH_AT_END and name not in flat}
        inside = [depth[1] for name, depth in measured.items() if name not in at_end]
        if inside:
            greatest[split] = statistics.median(inside)
        if holes > MANY_HOLES:
            yield Finding("depth-holes", split, f"{_share(holes)} of the pixels of {split} have no measured depth")
        if at_end:
            yield Finding(
                "depth-end",
                split,
                f"{_count(len(at_end), 'depth file')} of {split} hold the greatest value that fits in more than "
                f"{_share(MUCH_AT_END)} of the pixels, which seems to mark holes",
                files(sorted(at_end)),
            )
    if greatest and max(greatest.values()) > DEPTH_RATIO * min(greatest.values()):
        shown = ", ".join(f"{split} {value:g}" for split, value in greatest.items())
        message = f"the splits' depths seem to have different units: the median image's greatest value is {shown}"
        yield Finding("depth-ranges-differ", "", message)
