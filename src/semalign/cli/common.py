"""Options that every command takes."""

from __future__ import annotations

from typing import Annotated

import typer

from semalign.errors import ConfigError

__all__ = ["Device", "HostDevice", "Json", "NoSet", "Set", "refuse_idle"]

Set = Annotated[list[str] | None, typer.Option("--set", metavar="a.b=c", help="Set an option; may be repeated.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:N or mps.")]

# Every command takes --set and --device; where one has no effect it is not passed over in silence.
NoSet = Annotated[list[str] | None, typer.Option("--set", metavar="a.b=c", hidden=True)]
HostDevice = Annotated[str, typer.Option("--device", help="auto or cpu: it works on the processor alone.")]


def refuse_idle(settings: list[str] | None, device: str, what: str) -> None:
    """Refuse options that a command has no use for; ``what`` names it.

    Raises:
        ConfigError: a setting is given, or a device that is not the processor.
    """
    if settings:
        raise ConfigError(f"--set {settings[0]} has no effect on {what}: leave it out")
    if device not in ("auto", "cpu"):
        raise ConfigError(f"--device {device} has no effect on {what}, which works on the processor: leave it out")
