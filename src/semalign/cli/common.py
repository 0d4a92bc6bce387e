"""Options that several commands take, and what is made of them."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from semalign.errors import ConfigError

__all__ = [
    "Audit",
    "Config",
    "Data",
    "Device",
    "HostDevice",
    "Json",
    "Lang",
    "NoSet",
    "Run",
    "Scan",
    "Set",
    "Window",
    "Workers",
    "command_line",
    "parse_window",
    "refuse_idle",
]

Set = Annotated[list[str] | None, typer.Option("--set", metavar="a.b=c", help="Set an option; may be repeated.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:N or mps.")]

# Every command takes --set and --device; where one has no effect the command refuses it.
NoSet = Annotated[list[str] | None, typer.Option("--set", metavar="a.b=c", hidden=True)]
HostDevice = Annotated[str, typer.Option("--device", help="auto or cpu: it works on the processor alone.")]

Data = Annotated[str, typer.Argument(metavar="DATA", help="A folder of images and masks, or 'scenes' (built in).")]
Run = Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder, or one of its weights files.")]
Scan = Annotated[bool, typer.Option("--scan/--no-scan", help="Check the data in full first (cached).")]
Config = Annotated[Path | None, typer.Option("--config", metavar="F", help="YAML file of options.")]
Window = Annotated[str | None, typer.Option("--window", metavar="HxW", help="Windows over each image at its own size.")]
Audit = Annotated[
    bool, typer.Option("--audit/--no-audit", help="Look for temperatures and gates that cannot learn first.")
]
Workers = Annotated[int | None, typer.Option("--workers", metavar="N", help="Processes [one per processor].")]
Lang = Annotated[
    str | None,
    typer.Option("--lang", help="Language of the report and of this command: en or zh [SEMALIGN_LANG, else en]."),
]


def refuse_idle(settings: list[str] | None, device: str, what: str) -> None:
    """Refuse options that a command has no use for; ``what`` names it.

    Raises:
        ConfigError: a setting is given, or a device that is not the processor.
    """
    if settings:
        raise ConfigError(f"--set {settings[0]} has no effect on {what}: leave it out")
    if device not in ("auto", "cpu"):
        raise ConfigError(f"--device {device} has no effect on {what}, which works on the processor: leave it out")


def parse_window(text: str | None, option: str = "--window") -> tuple[int, int] | None:
    """Return (height, width) from 'HxW'."""
    if text is None:
        return None
    match = re.fullmatch(r"(\d+)[xX](\d+)", text)
    if match is None or min(int(match[1]), int(match[2])) < 32:
        raise ConfigError(f"{option} got '{text}', expected HEIGHTxWIDTH of at least 32 pixels, such as 144x192")
    return int(match[1]), int(match[2])


def command_line() -> str:
    """Return the command as it was given."""
    return shlex.join(["semalign", *sys.argv[1:]])
