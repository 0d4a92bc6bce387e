"""`semalign export` and `import-original`: weights for other programs, and weights of the original."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from semalign.cli.common import HostDevice, Json, NoSet, Run, parse_window, refuse_idle
from semalign.cli.show import console_language, line, print_json, print_notes
from semalign.errors import ConfigError
from semalign.wording import Catalogue

__all__ = ["export_run", "import_original"]


def export_run(
    run: Run,
    format_: Annotated[
        str, typer.Option("--format", help="onnx (extra `onnx`), or hub: a folder to share, with a model card.")
    ] = "onnx",
    text: Annotated[
        str, typer.Option("--text", help="folded: the run's own text; input: given at each call.")
    ] = "folded",
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="The file [RUN.onnx].")] = None,
    size: Annotated[
        str | None, typer.Option("--size", metavar="HxW", help="onnx: the size of every image [any].")
    ] = None,
    check: Annotated[
        bool, typer.Option("--check/--no-check", help="onnx: compare with torch in onnxruntime before writing.")
    ] = True,
    as_json: Json = False,
    settings: NoSet = None,
    device: HostDevice = "auto",
) -> None:
    """Write a run as one file for other programs."""
    refuse_idle(settings, device, "export")
    import semalign

    words = Catalogue(console_language())
    if format_ == "hub":
        for name, is_given in (("--text", text != "folded"), ("--size", size is not None), ("--no-check", not check)):
            if is_given:
                raise ConfigError(f"{name} has no effect with --format hub, which copies the weights: leave it out")
        folder = semalign.save_pretrained(run, out or run.with_name(f"{run.name}-hub"))
        if as_json:
            print_json({"folder": str(folder)})
        else:
            print(folder)
        return
    if format_ != "onnx":
        raise ConfigError(f"--format got '{format_}', known: onnx, hub")
    target = out or run.with_name(f"{run.stem}.onnx")
    facts = semalign.export(run, target, text=text, size=parse_window(size, "--size"), check=check)
    if as_json:
        print_json({"file": str(target), **facts})
        return
    for key in ("inputs", "outputs"):
        for name, shape in facts[key].items():
            line(words(f"console.export-{key}", name=name, shape=_by(shape)))
    for found in facts["parity"]:
        line(words("console.onnx-parity", size=_by(found["size"]), found=found))
    if check and not facts["parity"]:
        line(words("console.onnx-unchecked"))
    print(target)


def _by(sides: Any) -> str:
    return " x ".join(str(side) for side in sides)


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
        typer.Option("--option", metavar="NAME=VALUE", help="An argument of the original's constructor."),
    ] = None,
    part: Annotated[
        str | None, typer.Option("--part", metavar="KEY", help="Which part, such as ema [weights].")
    ] = None,
    as_json: Json = False,
    settings: NoSet = None,
    device: HostDevice = "auto",
) -> None:
    """Find the alignment weights of the original in a checkpoint, describe them, convert them."""
    refuse_idle(settings, device, "import-original")
    import semalign

    words = Catalogue(console_language())
    found = semalign.import_original(checkpoint, out, form=form, options=_options(option or ()), container=part)
    if as_json:
        print_json(found.to_dict())
        return
    for module in found.modules:
        _print_module(words, module)
    line(words("console.original-assumed", options=tuple(f"{name}={x}" for name, x in found.assumed.items())))
    print_notes(words, found.notes)
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


def _print_module(words: Catalogue, module: Any) -> None:
    """Print what one module is."""
    place = module.prefix or words("console.whole-checkpoint")
    gates = tuple(f"{name} = {value:.4g}" for name, value in module.gates.items())
    print(words("console.original-module", place=place, module=module, gates=gates))
    for side, knob in module.temperatures.items():
        clamp = "" if knob.clamp is None else words("console.original-clamp", clamp=knob.clamp)
        values = {"clamp": clamp, "state": words(f"console.original-{knob.state}"), "ratio": knob.scale / knob.base}
        print(f"  {words('console.original-temperature', side=side, knob=knob, **values)}")
    for side, difference in module.differences.items():
        kind = "EncoderAlignment" if side == "encoder" else "DecoderAlignment"
        print(f"  {words('console.original-same', kind=kind, difference=difference)}")
    for side, why in module.not_converted.items():
        print(f"  {words('console.original-not-converted', side=side, why=why)}")
