"""`semalign config show|schema`: the options."""

from __future__ import annotations

from typing import Annotated

import typer

from semalign.cli.common import Config, HostDevice, Json, NoSet, Set, refuse_idle
from semalign.cli.show import print_json

__all__ = ["config_schema", "config_show"]


def config_show(
    data: Annotated[
        str | None, typer.Option("--data", metavar="DATA", help="Fill in the defaults of its kind.")
    ] = None,
    config: Config = None,
    settings: Set = None,
    as_json: Json = False,
    device: HostDevice = "auto",
) -> None:
    """Print all options with their values."""
    refuse_idle(None, device, "config show")
    import yaml

    from semalign.config import kind_of, read_options, resolve_defaults, to_dict

    options = read_options(config, settings or ())
    if data is not None:
        options = resolve_defaults(options, kind_of(data))
    value = to_dict(options)
    if as_json:
        print_json(value)
    else:
        print(yaml.safe_dump(value, sort_keys=False, allow_unicode=True), end="")


def config_schema(
    settings: NoSet = None,
    as_json: Json = True,
    device: HostDevice = "auto",
) -> None:
    """Print the JSON schema of the options."""
    refuse_idle(settings, device, "config schema")
    from semalign.config import Options

    print_json(Options.model_json_schema())
