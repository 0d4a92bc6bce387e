"""`semalign data check` and `data import`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from semalign.cli.common import Data, HostDevice, Json, NoSet, Set, refuse_idle
from semalign.cli.show import console, console_language, line, print_json, print_notes, table, task
from semalign.errors import ConfigError
from semalign.wording import Catalogue
from semalign.wording.numbers import format_share

if TYPE_CHECKING:
    from semalign.data.check.findings import DataFinding, DataReport

__all__ = ["data_check", "data_import"]

VOID = "void"
SHOWN = 3
"""Files and details of a finding that are printed; --json lists all."""


def data_check(
    data: Data,
    sheet: Annotated[
        Path | None, typer.Option("--sheet", metavar="FILE.png", help="Also write a contact sheet to look at.")
    ] = None,
    fix: Annotated[
        Path | None, typer.Option("--fix", metavar="OUT", help="Write a corrected copy into a new folder.")
    ] = None,
    settings: Set = None,
    as_json: Json = False,
    device: HostDevice = "auto",
) -> None:
    """Check every file of a data set; exit 1 when there are errors (with --fix: in the copy)."""
    refuse_idle(None, device, "data check")
    words = Catalogue(console_language())
    with task(words("console.checking")) as bar:
        checked = _check(data, sheet, fix, settings or [], bar.count)
    if as_json:
        print_json(checked.to_dict())
    else:
        _print_check(words, checked)
    if (checked.copy or checked.report).has_errors:
        raise typer.Exit(1)


@dataclasses.dataclass(frozen=True)
class _Checked:
    """What `_check` found and wrote; ``copy`` is the report of the corrected copy."""

    report: DataReport
    sheet: Path | None
    fix: Path | None
    changes: int
    copy: DataReport | None

    def to_dict(self) -> dict[str, Any]:
        fixed = None
        if self.copy is not None:
            fixed = {
                "out": str(self.fix),
                "changes": self.changes,
                "errors": len(self.copy.of("error")),
                "warnings": len(self.copy.of("warning")),
                "findings": [finding.to_dict() for finding in self.copy.findings],
            }
        return {**self.report.to_dict(), "sheet": None if self.sheet is None else str(self.sheet), "fixed": fixed}


def _check(
    data: str, sheet: Path | None, fix: Path | None, settings: list[str], progress: Callable[[int, int], None]
) -> _Checked:
    from semalign.api import open_source, resolve
    from semalign.data.check.findings import check_data
    from semalign.data.check.repair import write_corrected
    from semalign.data.check.sheet import contact_sheet
    from semalign.data.folder import Folder
    from semalign.data.pictures import encode_png
    from semalign.files import write_bytes

    if sheet is not None and sheet.suffix.lower() != ".png":
        raise ConfigError(f"--sheet got '{sheet}', expected the name of a PNG file, such as sheet.png")
    source = open_source(data, resolve(data, settings=settings), scan=False)
    if fix is not None and not isinstance(source, Folder):
        raise ConfigError("--fix is for a folder, the built-in scenes have nothing to fix: leave it out")
    report = check_data(source, progress=progress)
    if sheet is not None:
        write_bytes(sheet, encode_png(contact_sheet(source, report)))
    if fix is None or not isinstance(source, Folder):
        return _Checked(report, sheet, None, 0, None)
    changes = write_corrected(source, report, fix, progress=progress)
    return _Checked(report, sheet, fix, len(changes), check_data(Folder(fix), progress=progress))


def _print_check(words: Catalogue, checked: _Checked) -> None:
    for finding in checked.report.findings:
        _print_finding(words, finding)
    _print_counts(words, checked.report.to_dict()["splits"])
    if checked.sheet is not None:
        print(checked.sheet)
    if checked.copy is not None:
        line(words("console.fixed", folder=checked.fix, n=checked.changes))
        for finding in checked.copy.findings:
            severity = words(f"audit.severity.{finding.severity}")
            said = words("console.finding-short", severity=severity, finding=finding)
            line(f"  {said}")
        print(checked.fix)
    counts = {severity: len(checked.report.of(severity)) for severity in ("error", "warning", "note")}
    print(words.join(words(f"audit.count.{severity}", n=count) for severity, count in counts.items()))


def _print_finding(words: Catalogue, finding: DataFinding) -> None:
    files = ""
    if finding.files:
        more = len(finding.files) - SHOWN
        names = (*finding.files[:SHOWN], *([words("console.more", n=more)] if more > 0 else []))
        files = words("console.finding-files", files=names)
    severity = words(f"audit.severity.{finding.severity}")
    print(words("console.finding", severity=severity, finding=finding, files=files))
    for detail in finding.details[:SHOWN]:
        line(f"  {words.text(detail)}")
    if len(finding.details) > SHOWN:
        line(f"  {words('console.more-in-json', n=len(finding.details) - SHOWN)}")


def _print_counts(words: Catalogue, splits: dict[str, Any]) -> None:
    """Print each split's sizes and depth, and the balance of its classes, on stderr."""
    for name, split in splits.items():
        sizes = sorted({"x".join(map(str, split[key])) for key in ("least_size", "greatest_size")})
        labelled = sum(split["pixels"].values())
        parts = [
            words("console.images-of-size", n=split["images"], sizes=words("console.to").join(sizes)),
            words("console.clusters", n=split["clusters"]),
            words("console.with-texts", n=split["with_texts"]),
            words("console.ignored", part=split["ignored_pixels"] / (split["ignored_pixels"] + labelled)),
        ]
        if split["depth_range"] is not None:
            low, high = split["depth_range"]
            parts.append(words("console.depth", low=low, high=high, part=split["hole_share"]))
        line(words("console.split", name=name, parts=tuple(parts)))
    if not splits:
        return
    columns = [words("console.class")]
    for name in splits:
        columns += [name, words("console.images")]
    rows = []
    for name in next(iter(splits.values()))["pixels"]:
        row = [name]
        for split in splits.values():
            part = split["pixels"][name] / max(1, sum(split["pixels"].values()))
            row += [format_share(part), str(split["images_with"][name])]
        rows.append(row)
    console.print(table(words("console.balance"), columns, rows))


def data_import(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="camvid, nyuv2, ade20k, voc, cityscapes, or coco (its format).")
    ],
    source: Annotated[Path, typer.Argument(metavar="SOURCE", help="The data set's folder, as it was unpacked.")],
    out: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="The folder to make.")],
    link: Annotated[bool, typer.Option("--link", help="Link to the images, do not copy them.")] = False,
    follow_links: Annotated[
        bool, typer.Option("--follow-links", help="Allow symbolic links in SOURCE that lead out of it.")
    ] = False,
    split: Annotated[
        list[str] | None, typer.Option("--split", metavar="OLD=NEW", help="Rename a split, OLD= leaves it out.")
    ] = None,
    ignore_unknown: Annotated[
        bool, typer.Option("--ignore-unknown", help="Ignore ids and colors that are not in the data set's list.")
    ] = False,
    depth: Annotated[bool, typer.Option("--depth/--no-depth", help="Take depth where there is some.")] = True,
    annotations: Annotated[
        list[str] | None, typer.Option("--annotations", metavar="[SPLIT=]FILE", help="coco: a file of each split.")
    ] = None,
    background: Annotated[
        str, typer.Option("--background", metavar="CLASS", help="coco: pixels of no instance; void ignores them.")
    ] = "background",
    as_json: Json = False,
    settings: NoSet = None,
    device: HostDevice = "auto",
) -> None:
    """Write a known data set as a folder that every command takes as DATA."""
    refuse_idle(settings, device, "data import")
    from semalign.data.sets import import_data

    words = Catalogue(console_language())
    splits = {}
    for pair in split or ():
        old, sign, new = pair.partition("=")
        if not sign or not old:
            raise ConfigError(f"--split got '{pair}', expected OLD=NEW such as test=val, or OLD= to leave it out")
        splits[old] = new
    with task(words("console.importing")) as bar:
        found = import_data(
            name,
            source,
            out,
            link=link,
            follow_links=follow_links,
            ignore_unknown=ignore_unknown,
            depth=depth,
            splits=splits,
            annotations=annotations or (),
            background=None if background == VOID else background,
            progress=bar.count,
        )
    if as_json:
        print_json(found.to_dict())
        return
    line(words("console.imported", layout=found.layout, rule=found.rule))
    for part, count in found.splits.items():
        parts = [words("common.images", n=count)]
        if found.clusters[part]:
            parts.append(words("console.clusters", n=found.clusters[part]))
        if found.depth:
            parts.append(words("console.has-depth"))
        line(words("console.split", name=part, parts=tuple(parts)))
    print_notes(words, found.notes)
    print(found.out)
