"""`semalign audit`: what cannot learn in a model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from semalign.cli.common import Device, Json, Set
from semalign.cli.show import console_language, line, print_json
from semalign.errors import ConfigError
from semalign.wording import Catalogue

if TYPE_CHECKING:
    from semalign.audit.findings import AuditReport

__all__ = ["audit"]


def audit(
    target: Annotated[
        str,
        typer.Argument(
            metavar="RUN|CONFIG|module:factory",
            help="A run's folder, a YAML file of options, or a function that returns model, batch [, optimizer, loss].",
        ),
    ],
    data: Annotated[
        str | None, typer.Option("--data", metavar="DATA", help="CONFIG: take the first batch from here, not made up.")
    ] = None,
    settings: Set = None,
    as_json: Json = False,
    device: Device = "auto",
) -> None:
    """Find what cannot learn in a model; exit 1 where there are errors that nobody declared."""
    words = Catalogue(console_language())
    report = _report(target, data, settings or [], device)
    if as_json:
        print_json(report.to_dict())
    else:
        print(report.text(words))
        line(words("console.audited", parameters=report.facts["parameters"], seconds=report.facts["seconds"]))
    if not report.ok:
        raise typer.Exit(1)


def _report(target: str, data: str | None, settings: list[str], device: str) -> AuditReport:
    from semalign.api import open_source, resolve
    from semalign.audit.factory import audit_factory
    from semalign.inspection.options import audit_inputs, audit_options
    from semalign.inspection.runs import audit_run
    from semalign.train.inputs import prepare_inputs
    from semalign.train.parallel import make_fabric

    place = Path(target)
    is_config = place.suffix in (".yaml", ".yml") and place.is_file()
    unused = [name for name, value in (("--data", data), ("--set", settings)) if value]
    if unused and not is_config:
        raise ConfigError(f"{unused[0]} has no effect on the audit of {target}, expected a YAML file of options")
    if is_config:
        options = resolve(data or "folder", config=place, settings=settings)
        where = make_fabric(device).device
        if data is None:
            return audit_options(options, device=where)
        return audit_inputs(prepare_inputs(open_source(data, options), options), options, device=where)
    if place.exists():
        return audit_run(place, device=make_fabric(device).device)
    if ":" in target:
        return audit_factory(target, device=device)
    raise ConfigError(
        f"the audit got '{target}', which is not a file or a folder, expected a run's folder, a YAML file of options "
        "or module:factory"
    )
