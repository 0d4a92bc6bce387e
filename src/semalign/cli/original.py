"""`semalign import-original`: what a checkpoint of the original holds, and its weights for this package."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from semalign.cli.common import HostDevice, Json, NoSet, refuse_idle
from semalign.cli.show import line, print_json
from semalign.errors import ConfigError

__all__ = ["import_original"]


def import_original(
    checkpoint: Annotated[
        Path, typer.Argument(metavar="CHECKPOINT", help="A file of torch.save with weights, or safetensors.")
    ],
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE.safetensors", help="The file to write [only look].")
    ] = None,
    form: Annotated[
        str, typer.Option("--as", help="original: names and values as they are; semalign: as our alignments.")
    ] = "original",
    option: Annotated[
        list[str] | None,
        typer.Option("--option", metavar="NAME=VALUE", help="What the original's constructor was told."),
    ] = None,
    part: Annotated[
        str | None, typer.Option("--part", metavar="KEY", help="Which part, such as ema [weights].")
    ] = None,
    as_json: Json = False,
    settings: NoSet = None,
    device: HostDevice = "auto",
) -> None:
    """Find the alignment weights of the original in a checkpoint, say what they are, convert them."""
    refuse_idle(settings, device, "import-original")
    import semalign

    found = semalign.import_original(checkpoint, out, form=form, options=_options(option or ()), container=part)
    if as_json:
        print_json(found.to_dict())
        return
    for module in found.modules:
        _print_module(module)
    assumed = ", ".join(f"{name}={value}" for name, value in found.assumed.items())
    line(f"not in the checkpoint, taken as: {assumed} (change with --option NAME=VALUE)")
    for note in found.notes:
        line(f"note: {note}")
    if found.out is not None:
        print(found.out)


def _options(pairs: list[str] | tuple[str, ...]) -> dict[str, Any]:
    import yaml

    found = {}
    for pair in pairs:
        name, sign, text = pair.partition("=")
        if not sign:
            raise ConfigError(f"--option got '{pair}', expected NAME=VALUE such as use_topk=false")
        try:
            found[name] = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ConfigError(f"--option got '{pair}', expected a plain value such as true or 8") from error
    return found


def _print_module(module: Any) -> None:
    """Print what one module is."""
    gates = ", ".join(f"{name} = {value:.4g}" for name, value in module.gates.items())
    print(
        f"{module.prefix or '(the whole checkpoint)'}: {module.side} ({module.side_from}), version {module.version}, "
        f"{module.query_dim} channels, {module.heads} heads, text of {module.text_dim}, {gates}"
    )
    for side, knob in module.temperatures.items():
        clamp = "" if knob.clamp is None else f", clamp ±{knob.clamp:g}"
        verdict = {
            "dead": "dead: outside its clamp its gradient is exactly 0",
            "edge": "on its clamp's bound, one step from dead",
            "live": "live",
            "fixed": "fixed",
        }[knob.state]
        print(
            f"  {side} temperature: {knob.name}, l = {knob.l:.4g}{clamp}, {verdict}; scale {knob.scale:.4g} = "
            f"{knob.scale / knob.base:.4g} x 1/sqrt(d)"
        )
    for side, difference in module.differences.items():
        kind = "EncoderAlignment" if side == "encoder" else "DecoderAlignment"
        print(f"  {kind} computes the same: largest difference {difference:.1e} of the largest output")
    for side, why in module.not_converted.items():
        print(f"  no equal {side} alignment: {why}")
