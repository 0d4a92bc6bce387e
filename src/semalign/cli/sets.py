"""`semalign data import`: a known data set becomes a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from semalign.cli.common import HostDevice, Json, NoSet, refuse_idle
from semalign.cli.show import line, print_json, progress_bar
from semalign.errors import ConfigError

__all__ = ["data_import"]

VOID = "void"


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
        bool, typer.Option("--ignore-unknown", help="Ignore ids and colours that the data set does not know.")
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

    splits = {}
    for pair in split or ():
        old, sign, new = pair.partition("=")
        if not sign or not old:
            raise ConfigError(f"--split got '{pair}', expected OLD=NEW such as test=val, or OLD= to leave it out")
        splits[old] = new
    with progress_bar() as bar:
        task = bar.add_task("importing", total=None, note="")
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
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    if as_json:
        print_json(found.to_dict())
        return
    line(f"{found.layout}: {found.rule}")
    for part, count in found.splits.items():
        known = f", {found.clusters[part]} clusters" if found.clusters[part] else ""
        line(f"{part}: {count} images{known}{', depth' if found.depth else ''}")
    for note in found.notes:
        line(f"note: {note}")
    print(found.out)
