"""The commands and their options (the contract's names)."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from semalign.cli.common import Device, HostDevice, Json, NoSet, Set, refuse_idle
from semalign.cli.original import import_original
from semalign.cli.sets import data_import
from semalign.cli.show import console, line, percent, print_json, progress_bar, share, table
from semalign.errors import ConfigError, StudyError
from semalign.layout import PILOT, STUDIES, slug

if TYPE_CHECKING:
    from semalign.study.carry_out import Done

__all__ = ["app"]

app = typer.Typer(
    name="semalign",
    help="Text-guided semantic segmentation, and the laboratory that decides how its alignment should be built.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
study_app = typer.Typer(help="Plan, run, judge and report a study.", no_args_is_help=True, rich_markup_mode=None)
data_app = typer.Typer(help="Look at a data set.", no_args_is_help=True, rich_markup_mode=None)
config_app = typer.Typer(help="Show the options.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(study_app, name="study")
app.add_typer(data_app, name="data")
app.add_typer(config_app, name="config")
bench_app = typer.Typer(help="Measure speed and memory here.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(bench_app, name="bench")

Data = Annotated[str, typer.Argument(metavar="DATA", help="A folder of images and masks, or 'scenes' (built in).")]
Run = Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder, or one of its weights files.")]
Scan = Annotated[bool, typer.Option("--scan/--no-scan", help="Check the data in full first (cached).")]
Config = Annotated[Path | None, typer.Option("--config", metavar="F", help="YAML file of options.")]
Window = Annotated[str | None, typer.Option("--window", metavar="HxW", help="Windows over each image at its own size.")]


@app.callback(invoke_without_command=True)
def root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    """Text-guided semantic segmentation, and the laboratory that decides how its alignment should be built."""
    if version:
        import semalign

        print(semalign.__version__)
        raise typer.Exit


Audit = Annotated[bool, typer.Option("--audit/--no-audit", help="Look for knobs that cannot turn first.")]


def parse_window(text: str | None, option: str = "--window") -> tuple[int, int] | None:
    """Return H x W from 'HxW'."""
    if text is None:
        return None
    match = re.fullmatch(r"(\d+)[xX](\d+)", text)
    if match is None or min(int(match[1]), int(match[2])) < 32:
        raise ConfigError(f"{option} got '{text}', expected HEIGHTxWIDTH of at least 32 pixels, such as 144x192")
    return int(match[1]), int(match[2])


def command_line() -> str:
    """Return the command as it was given."""
    return shlex.join(["semalign", *sys.argv[1:]])


# ---- train, evaluate, predict ----


@app.command()
def train(
    data: Data,
    config: Config = None,
    out: Annotated[Path | None, typer.Option("--out", metavar="DIR", help="The run's folder [runs/DATA].")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run that the folder holds.")] = False,
    scan: Scan = True,
    audit: Audit = True,
    settings: Set = None,
    as_json: Json = False,
    device: Device = "auto",
) -> None:
    """Train a segmenter and score its validation split."""
    import semalign
    from semalign.execution import Events
    from semalign.train.parallel import process_number

    folder = out or Path("runs") / (data if data == "scenes" else Path(data).resolve().name)
    with progress_bar() as bar:
        task = bar.add_task("preparing", total=None, note="")

        def started(rows: list[Any], steps: int) -> None:
            console.print(
                table(
                    "parameter groups",
                    ["role", "tensors", "numbers", "peak rate", "decay"],
                    [[r.role, str(r.tensors), f"{r.numbers:,}", f"{r.lr:g}", f"{r.decay:g}"] for r in rows],
                )
            )
            bar.update(task, description="training", total=steps)

        def stepped(step: int, steps: int, loss: float) -> None:
            bar.update(task, completed=step, note=f"loss {loss:.3f}")

        def scored(step: int, name: str, miou: float) -> None:
            line(f"step {step}: mIoU on {name} {percent(miou)}")

        _, result = semalign.train(
            data,
            out=folder,
            config=config,
            resume=resume,
            scan=scan,
            device=device,
            settings=settings or (),
            events=Events(started, stepped, scored),
            command=command_line(),
            audit=audit,
        )
        bar.update(task, description="done", note="")
    if process_number() > 0:
        # Of several processes the first one speaks.
        return
    score = result.score
    for note in result.notes:
        line(f"note: {note}")
    if as_json:
        print_json(
            {
                "run": str(folder),
                "split": score.split,
                "miou": score.miou,
                "iou": score.iou,
                "n_images": len(score.images),
                "absent": list(score.absent),
                "parameters": result.facts["parameters"],
                "seconds": result.timings["train"],
                "scored_weights": result.facts["scored_weights"],
                "notes": list(result.notes),
            }
        )
        return
    print_score(score.miou, score.iou, f"{score.split} ({len(score.images)} images), {result.facts['scored_weights']}")
    print(folder)


def print_score(miou: float, iou: dict[str, float], what: str) -> None:
    """Print IoUs by class and their mean on stderr."""
    rows = [[name, percent(value)] for name, value in iou.items()]
    console.print(table(f"IoU on {what}", ["class", "IoU %"], [*rows, ["mean", percent(miou)]]))


@app.command()
def evaluate(
    run: Run,
    data: Data,
    split: Annotated[str, typer.Option("--split", help="The split to score.")] = "val",
    flip: Annotated[bool, typer.Option("--flip", help="Average with the mirrored image.")] = False,
    window: Window = None,
    counterfactuals: Annotated[
        bool, typer.Option("--counterfactuals", help="Also score with the text removed, shuffled and replaced.")
    ] = False,
    scan: Scan = True,
    settings: Set = None,
    as_json: Json = False,
    device: Device = "auto",
) -> None:
    """Score a trained run."""
    import semalign

    with progress_bar() as bar:
        task = bar.add_task(f"scoring {split}", total=None, note="")
        result = semalign.evaluate(
            run,
            data,
            split=split,
            flip=flip,
            window=parse_window(window),
            counterfactuals=counterfactuals,
            scan=scan,
            device=device,
            settings=settings or (),
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    value = result.to_dict()
    if as_json:
        print_json(value)
        return
    if result.text_use is not None:
        print(result.text_use.sentence, flush=True)
    for note in result.notes:
        line(f"note: {note}")
    print_score(value["miou"], value["iou"], f"{split} ({value['n_images']} images)")
    if result.among is not None:
        parts = {name: "-" if part is None else percent(part) for name, part in result.among.to_dict().items()}
        line("mIoU of " + ", ".join(f"{name} {part}" for name, part in parts.items()))
    if result.counterfactuals and result.text_use is not None:
        rows = [
            [
                item.name,
                "-" if item.score is None else percent(item.score.miou),
                str(item.why) if item.score is None else f"{100 * (item.score.miou - result.score.miou):+.2f}",
                "-" if item.interval is None else f"{100 * item.interval.low:+.2f} to {100 * item.interval.high:+.2f}",
            ]
            for item in result.counterfactuals
        ]
        columns = ["text", "mIoU", "difference, points", "95 % interval"]
        console.print(table("with the text changed", columns, rows))
        line(f"the intervals speak of {result.text_use.covers}")
    print(f"{100 * value['miou']:.2f}")


@app.command()
def predict(
    run: Run,
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Image files.")],
    text: Annotated[list[str] | None, typer.Option("--text", help="A sentence that guides; may be repeated.")] = None,
    classes: Annotated[str | None, typer.Option("--classes", help="Class names a,b,c (text classifier).")] = None,
    attention: Annotated[bool, typer.Option("--attention", help="Also write attention maps.")] = False,
    depth: Annotated[Path | None, typer.Option("--depth", help="Folder with NAME.png of depth.")] = None,
    flip: Annotated[bool, typer.Option("--flip", help="Average with the mirrored image.")] = False,
    window: Window = None,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder of the pictures.")] = Path("predictions"),
    as_json: Json = False,
    device: Device = "auto",
    settings: NoSet = None,
) -> None:
    """Write the class mask and an overlay with a legend for each image."""
    refuse_idle(settings, "auto", "predict")
    import semalign

    names = [name.strip() for name in (classes or "").split(",") if name.strip()]
    if classes is not None and not names:
        raise ConfigError(f"--classes got '{classes}', expected names such as road,sky")
    written = semalign.predict(
        run,
        images,
        out=out,
        text=text or (),
        classes=names,
        attention=attention,
        depth=depth,
        flip=flip,
        window=parse_window(window),
        device=device,
    )
    for note in dict.fromkeys(note for item in written for note in item["notes"]):
        line(f"note: {note}")
    if as_json:
        print_json({"predictions": written})
        return
    for item in written:
        line(", ".join(f"{name} {share(part)} %" for name, part in item["classes"].items()))
        print(item["overlay"])


@app.command("export")
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
    for kind in ("inputs", "outputs"):
        for name, shape in facts[kind].items():
            line(f"{kind[:-1]} {name}: {' x '.join(str(side) for side in shape)}")
    for found in facts["parity"]:
        size = " x ".join(map(str, found["size"]))
        reach = f"{found['difference']:.1e}, logits up to {found['largest']:.3g}"
        line(f"images {size} in onnxruntime: largest difference to torch {reach}")
    if check and not facts["parity"]:
        line("note: not compared with torch, onnxruntime is not installed")
    print(target)


app.command("import-original")(import_original)


# ---- study ----

Study = Annotated[str, typer.Argument(metavar="STUDY", help="A YAML file, or ablation-1, ablation-2, ablations.")]
StudyData = Annotated[str | None, typer.Option("--data", metavar="DATA", help="A folder, or 'scenes'.")]
Seeds = Annotated[int | None, typer.Option("--seeds", metavar="N", help="Number of blocks, fixed beforehand.")]
Workers = Annotated[int | None, typer.Option("--workers", metavar="N", help="Processes [one per processor].")]
Out = Annotated[Path | None, typer.Option("--out", metavar="DIR", help="The study's folder [studies/NAME].")]
Engine = Annotated[str, typer.Option("--engine", help="local (this machine) or ray (a cluster).")]
Lang = Annotated[str, typer.Option("--lang", help="Language of the report: en or zh.")]


@study_app.command("plan")
def study_plan(
    study: Study,
    data: StudyData = None,
    seeds: Seeds = None,
    workers: Workers = None,
    engine: Engine = "local",
    out: Out = None,
    scan: Scan = True,
    settings: Set = None,
    as_json: Json = False,
    device: Device = "auto",
) -> None:
    """Say what a study will cost and which margin its budget resolves."""
    from semalign.execution import Execution
    from semalign.study.design import read_study
    from semalign.study.plan import plan_study

    _check_engine(engine)
    options = read_study(study, data=data, seeds=seeds, assignments=settings or ())
    execution = Execution(device, scan, engine=engine, workers=workers)
    plan = plan_study(options, out or default_folder(options.name), execution)
    if engine != "local":
        plan["notes"].append(
            f"the hours are those of {plan['workers']} workers on this machine: the cluster's own are not measured"
        )
    if as_json:
        print_json(plan)
        return
    cost = (
        "hours unknown until a run of the command has finished"
        if plan["hours"] is None
        else f"about {plan['seconds_per_run']:.1f} s each, {plan['hours']:.2f} h with {plan['workers']} workers"
    )
    line(f"{plan['runs']} runs ({plan['missing']} missing), {cost}")
    for effect, others in plan["aliases"].items():
        line(f"aliased: {effect} shares its estimate with {others}")
    if plan["pilot"] is not None and plan["pilot"]["correlation"] is not None:
        shared = plan["pilot"]["correlation"]
        line(f"pilot: runs of one block correlate by {shared:.2f}, pairing {plan['pilot']['pairing']}")
    for note in plan["notes"]:
        line(f"note: {note}")
    rows = [
        [
            row["effects"][0] if len(row["effects"]) == 1 else f"{len(row['effects'])} {row['family']}",
            f"{row['sd']:.2f}",
            f"{row['resolvable_margin']:.2f}",
            f"{row['minimum_detectable_effect']:.2f}",
            f"{row['expected_blocks']:.1f}",
            str(row["blocks_for_margin"]),
        ]
        for row in plan["precision"]
    ]
    columns = [
        "effect",
        "its sd",
        "resolvable margin",
        "detectable effect",
        "mean blocks if 0",
        f"blocks for ±{options.margin:g}",
    ]
    looks = "" if plan["looks"] is None else f", looks at {', '.join(str(n) for n in plan['looks'])}"
    console.print(table(f"mIoU points at {options.blocks} blocks{looks} (noise: {plan['sd_from']})", columns, rows))
    print("unknown" if plan["hours"] is None else f"{plan['hours']:.2f}")


def _check_engine(engine: str) -> None:
    from semalign.study.engines import check_engine

    check_engine(engine)


def default_folder(name: str) -> Path:
    """Return where a study of this name lives unless --out says otherwise."""
    return Path(STUDIES) / slug(name)


def _run(
    study: str,
    data: str | None,
    seeds: int | None,
    workers: int | None,
    engine: str,
    out: Path | None,
    scan: bool,
    settings: list[str] | None,
    device: str,
    *,
    pilot_only: bool,
    audit: bool,
) -> Done:
    from semalign.execution import Events, Execution
    from semalign.study.carry_out import carry_out
    from semalign.study.design import read_study

    _check_engine(engine)
    options = read_study(study, data=data, seeds=seeds, assignments=settings or ())
    folder = out or default_folder(options.name)
    with progress_bar() as bar:
        task = bar.add_task(options.name, total=None, note="")

        def progress(arm: str, seed: int, status: str, miou: float | None, done: int, total: int) -> None:
            shown = status if miou is None else f"mIoU {percent(miou)}"
            bar.update(task, completed=done, total=total)
            line(f"[{done}/{total}] {arm}, seed {seed}: {shown}")

        execution = Execution(device, scan, audit, engine, workers, events=Events(run_done=progress))
        return carry_out(options, folder, execution, command=command_line(), pilot_only=pilot_only)


@study_app.command("pilot")
def study_pilot(
    study: Study,
    data: StudyData = None,
    seeds: Seeds = None,
    workers: Workers = None,
    engine: Engine = "local",
    out: Out = None,
    scan: Scan = True,
    audit: Audit = True,
    settings: Set = None,
    as_json: Json = False,
    device: Device = "auto",
) -> None:
    """Run the baseline's recipe twice per block, to see how much identical recipes differ."""
    done = _run(study, data, seeds, workers, engine, out, scan, settings, device, pilot_only=True, audit=audit)
    assert done.pilot is not None, "a pilot without figures is an error"
    value = done.pilot.to_dict()
    if as_json:
        print_json(value)
        return
    line(
        f"{value['n']} blocks of identical recipes: paired difference {value['mean_difference']:+.2f} points, "
        f"sd {value['sd_paired']:.2f}; single runs sd {value['sd_single']:.2f}; pairing {value['pairing']}"
    )
    print(done.folder / PILOT)


@study_app.command("run")
def study_run(
    study: Study,
    data: StudyData = None,
    seeds: Seeds = None,
    workers: Workers = None,
    engine: Engine = "local",
    out: Out = None,
    scan: Scan = True,
    audit: Audit = True,
    settings: Set = None,
    lang: Lang = "en",
    as_json: Json = False,
    device: Device = "auto",
) -> None:
    """Run what a study lacks (the pilot first), judge it and write its report."""
    _check_language(lang)
    done = _run(study, data, seeds, workers, engine, out, scan, settings, device, pilot_only=False, audit=audit)
    _report(done.folder, lang, as_json)


@study_app.command("report")
def study_report(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The study's folder.")],
    lang: Lang = "en",
    as_json: Json = False,
    settings: NoSet = None,
    device: HostDevice = "auto",
) -> None:
    """Judge a study's finished runs again and write its report."""
    refuse_idle(settings, device, "study report")
    _report(folder, lang, as_json)


def _check_language(lang: str) -> None:
    """Refuse an unknown language before anything is run."""
    from semalign.wording import check_language

    check_language(lang)


def _report(folder: Path, lang: str, as_json: bool) -> None:
    from semalign.report import write_report

    report = write_report(folder, lang=lang)
    if as_json:
        print_json({"report": str(report.path), "judgement": report.judgement.to_dict()})
        return
    for verdict in report.judgement.verdicts:
        line(f"- {verdict.reason}")
    print(report.path)


@study_app.command("judge")
def study_judge(
    results: Annotated[Path, typer.Argument(metavar="RESULTS.csv", help="Columns arm, seed, and miou or score.")],
    study: Annotated[
        str | None, typer.Option("--study", metavar="STUDY", help="Judge by what this study has fixed.")
    ] = None,
    baseline: Annotated[
        str | None, typer.Option("--baseline", help="The arm that others are compared with [Baseline].")
    ] = None,
    margin: Annotated[
        float | None, typer.Option("--margin", help="Smallest effect that matters, in points [1].")
    ] = None,
    alpha: Annotated[float | None, typer.Option("--alpha", help="Share of false claims allowed [0.05].")] = None,
    seeds: Annotated[
        int | None, typer.Option("--seeds", metavar="N", help="Blocks planned [those that are there].")
    ] = None,
    looks: Annotated[
        str | None, typer.Option("--looks", metavar="5,8,12", help="Blocks at which a growing study is judged.")
    ] = None,
    contrasts: Annotated[
        Path | None, typer.Option("--contrasts", metavar="F", help="YAML file of effects [each arm - baseline].")
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option(
            "--images", metavar="COUNTS.csv", help="Columns arm, seed, image, class, tp, fp, fn: judge new images too."
        ),
    ] = None,
    as_json: Json = False,
    settings: NoSet = None,
    device: HostDevice = "auto",
) -> None:
    """Judge anybody's runs from a table; needs no torch."""
    refuse_idle(settings, device, "study judge")
    from semalign.study.outside import Protocol, judge_table, protocol_of_study, read_contrasts

    given = {
        "baseline": baseline,
        "margin": margin,
        "alpha": alpha,
        "seeds": seeds,
        "looks": None if looks is None else parse_looks(looks),
        "contrasts": None if contrasts is None else read_contrasts(contrasts),
    }
    given = {name: value for name, value in given.items() if value is not None}
    for name in ("baseline", "contrasts"):
        if study is not None and name in given:
            raise StudyError(f"--study and --{name} are both given, expected one: the study has fixed it")
    protocol = Protocol(**given) if study is None else protocol_of_study(study, **given)  # type: ignore[arg-type]
    judgement, new = judge_table(results, protocol, images)
    if as_json:
        print_json(judgement.to_dict() | ({} if images is None else {"new_images": [one.to_dict() for one in new]}))
        return
    for note in judgement.notes:
        line(f"note: {note}")
    for verdict in (*judgement.verdicts, *(one.verdict for one in new)):
        print(verdict.reason)


def parse_looks(text: str) -> tuple[int, ...]:
    """Return the numbers of blocks in '5,8,12'."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts):
        raise ConfigError(f"--looks got '{text}', expected numbers of blocks such as 5,8,12")
    return tuple(int(part) for part in parts)


@study_app.command("simulate")
def study_simulate(
    reps: Annotated[int, typer.Option("--reps", metavar="N", help="Studies drawn per world and design.")] = 10000,
    as_json: Json = False,
    settings: NoSet = None,
    device: HostDevice = "auto",
) -> None:
    """Draw studies with known truth, judge them as real ones are, and count the errors; 40000 take about a minute."""
    refuse_idle(settings, device, "study simulate")
    from semalign.judge.simulate import outside, simulate

    with progress_bar() as bar:
        task = bar.add_task("simulating", total=None, note="")
        found = simulate(reps, progress=lambda done, total: bar.update(task, completed=done, total=total))
    if as_json:
        print_json(found)
        return
    rates = found["rates"]
    for rate in rates:
        low, high = rate["target"]
        if (low, high) != (0.0, 1.0):
            mark = "  OUTSIDE" if outside(rate) else ""
            print(
                f"{rate['world']}, {rate['design']}, effect {rate['effect']}, {rate['effects']} judged: "
                f"{rate['quantity']} {rate['value']:.4f} ± {rate['se']:.4f}, expected {low:.3f} to {high:.3f}{mark}"
            )
    missed = sum(outside(rate) for rate in rates)
    print(f"{missed} of {len(rates)} rates outside their target by more than 3 standard errors")


# ---- demo ----


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="The demo's folder.")] = Path("semalign-demo"),
    workers: Workers = None,
    audit: Audit = True,
    settings: Set = None,
    lang: Lang = "en",
    as_json: Json = False,
    device: Device = "auto",
) -> None:
    """Run a small study on built-in scenes and write its report; about 3 minutes on 2 cores."""
    from semalign.study.design import DEMO_FILE

    _check_language(lang)
    done = _run(
        str(DEMO_FILE), None, None, workers, "local", out, True, settings, device, pilot_only=False, audit=audit
    )
    _report(done.folder, lang, as_json)


# ---- audit ----


@app.command()
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
    """Find the knobs of a model that cannot turn; exit 1 where there are errors that nobody declared."""
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
        options = resolve(data or "folder", config=place, settings=settings or ())
        where = make_fabric(device).device
        if data is None:
            report = audit_options(options, device=where)
        else:
            report = audit_inputs(prepare_inputs(open_source(data, options), options), options, device=where)
    elif place.exists():
        report = audit_run(place, device=make_fabric(device).device)
    elif ":" in target:
        report = audit_factory(target, device=device)
    else:
        raise ConfigError(
            f"the audit got '{target}', which is no file or folder, expected a run's folder, a YAML file of options or "
            "module:factory"
        )
    if as_json:
        print_json(report.to_dict())
    else:
        print(report)
        line(f"{report.facts['parameters']:,} learnable numbers, {report.facts['seconds']:.1f} s")
    if not report.ok:
        raise typer.Exit(1)


# ---- bench ----

Threads = Annotated[int | None, typer.Option("--threads", metavar="N", min=1, help="Threads to compute with [all].")]
Quick = Annotated[bool, typer.Option("--quick", help="Fewer rounds and sizes, for a first look.")]
Markdown = Annotated[bool, typer.Option("--markdown", help="Print the tables as Markdown.")]
BenchData = Annotated[str, typer.Option("--data", metavar="DATA", help="A folder, or 'scenes'.")]


@bench_app.command("alignment")
def bench_alignment(
    threads: Threads = None,
    quick: Quick = False,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="Print the tables as Markdown.")] = False,
    as_json: Json = False,
    settings: NoSet = None,
    device: HostDevice = "auto",
) -> None:
    """Compare the alignment with a lean unfolded form; some minutes, with --quick one."""
    refuse_idle(settings, device, "bench alignment")
    import torch

    from semalign.bench import alignment

    if threads is not None:
        torch.set_num_threads(threads)
    with progress_bar() as bar:
        task = bar.add_task("measuring", total=None, note="")
        found = alignment.bench_alignment(quick=quick, progress=lambda what: bar.update(task, note=what))
    if as_json:
        print_json(found)
    elif as_markdown:
        print(alignment.markdown(found), end="")
    else:
        for found_table in alignment.alignment_tables(found):
            console.print(table(*found_table))
        print(alignment.machine_line(found))


def _show_bench(
    measure: Callable[..., dict[str, Any]],
    tables: Callable[[dict[str, Any]], list[Any]],
    as_markdown: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Measure and print what was found."""
    from semalign.bench.tables import markdown_tables

    with progress_bar() as bar:
        task = bar.add_task("measuring", total=None, note="")
        found = measure(progress=lambda what: bar.update(task, note=what), **options)
    if as_json:
        print_json(found)
    elif as_markdown:
        print(markdown_tables(tables(found)), end="")
    else:
        for found_table in tables(found):
            console.print(table(*found_table))


@bench_app.command("step")
def bench_step(
    data: BenchData = "scenes",
    threads: Threads = None,
    quick: Quick = False,
    settings: Set = None,
    as_markdown: Markdown = False,
    as_json: Json = False,
    device: HostDevice = "auto",
) -> None:
    """Say what text adds to a training step, and our loop to a bare one; some minutes, with --quick one."""
    refuse_idle(None, device, "bench step")
    import torch

    from semalign.bench import step

    if threads is not None:
        torch.set_num_threads(threads)
    _show_bench(
        step.bench_step, step.step_tables, as_markdown, as_json, quick=quick, data=data, settings=settings or ()
    )


@bench_app.command("infer")
def bench_infer(
    threads: Threads = None,
    quick: Quick = False,
    as_markdown: Markdown = False,
    as_json: Json = False,
    settings: NoSet = None,
    device: HostDevice = "auto",
) -> None:
    """Say what text adds to inference, its bank cached; some minutes, with --quick one."""
    refuse_idle(settings, device, "bench infer")
    import torch

    from semalign.bench import infer

    if threads is not None:
        torch.set_num_threads(threads)
    _show_bench(infer.bench_infer, infer.infer_tables, as_markdown, as_json, quick=quick)


@bench_app.command("study")
def bench_study(
    data: BenchData = "scenes",
    workers: Workers = None,
    quick: Quick = False,
    settings: Set = None,
    as_markdown: Markdown = False,
    as_json: Json = False,
    device: Device = "cpu",
) -> None:
    """Say how many runs an hour finish, by processes and threads of each; some minutes, with --quick two."""
    from semalign.bench import study
    from semalign.study.engines import worker_count

    _show_bench(
        study.bench_study,
        study.study_tables,
        as_markdown,
        as_json,
        quick=quick,
        data=data,
        settings=settings or (),
        device=device,
        workers=worker_count(workers),
    )


# ---- data, config ----


@data_app.command("check")
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
    from semalign.config import read_options, resolve_defaults
    from semalign.data.check.findings import check_data
    from semalign.data.check.repair import write_corrected
    from semalign.data.check.sheet import contact_sheet
    from semalign.data.folder import Folder
    from semalign.data.open import open_data
    from semalign.data.pictures import encode_png
    from semalign.files import write_bytes

    if sheet is not None and sheet.suffix.lower() != ".png":
        raise ConfigError(f"--sheet got '{sheet}', expected the name of a PNG file, such as sheet.png")
    options = resolve_defaults(read_options(None, settings or ()), "scenes" if data == "scenes" else "folder").data
    assert options.size is not None
    source = open_data(
        data,
        scan=False,
        necessity=options.necessity,
        n_train=options.n_train,
        n_val=options.n_val,
        scenes_size=options.size,
        scenes_seed=options.scenes_seed,
    )
    if fix is not None and not isinstance(source, Folder):
        raise ConfigError("--fix is for a folder, the built-in scenes have nothing to fix: leave it out")
    with progress_bar() as bar:
        task = bar.add_task("checking", total=None, note="")

        def progress(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        report = check_data(source, progress=progress)
        if sheet is not None:
            write_bytes(sheet, encode_png(contact_sheet(source, report)))
        copied = None
        if fix is not None and isinstance(source, Folder):
            changes = write_corrected(source, report, fix, progress=progress)
            copied = check_data(Folder(fix), progress=progress)
    value = report.to_dict()
    value["sheet"] = None if sheet is None else str(sheet)
    value["fixed"] = None
    if copied is not None:
        counts = {severity: len(copied.of(severity)) for severity in ("error", "warning")}
        value["fixed"] = {
            "out": str(fix),
            "changes": len(changes),
            "errors": counts["error"],
            "warnings": counts["warning"],
            "findings": [finding.to_dict() for finding in copied.findings],
        }
    if as_json:
        print_json(value)
    else:
        for finding in report.findings:
            shown = finding.files[:3]
            more = f", ... {len(finding.files) - 3} more" if len(finding.files) > 3 else ""
            files = f" ({', '.join(shown)}{more})" if shown else ""
            print(f"{finding.severity}: {finding.message}{files}; {finding.fix} [{finding.code}]")
            for detail in finding.details[:3]:
                line(f"  {detail}")
            if len(finding.details) > 3:
                line(f"  ... {len(finding.details) - 3} more: --json lists all")
        _print_counts(value["splits"])
        if sheet is not None:
            print(sheet)
        if copied is not None:
            line(f"{fix}: {len(changes)} changes, listed in fixes.json; its findings are now:")
            for finding in copied.findings:
                line(f"  {finding.severity}: {finding.message} [{finding.code}]")
            print(fix)
        found = {severity: len(report.of(severity)) for severity in ("error", "warning", "note")}
        print(", ".join(f"{count} {severity}{'' if count == 1 else 's'}" for severity, count in found.items()))
    if (report if copied is None else copied).has_errors:
        raise typer.Exit(1)


data_app.command("import")(data_import)


def _print_counts(splits: dict[str, Any]) -> None:
    """Print each split's sizes and depth, and the balance of its classes, on stderr."""
    for name, split in splits.items():
        sizes = sorted({"x".join(map(str, split[key])) for key in ("least_size", "greatest_size")})
        depth = split["depth_range"]
        parts = [
            f"{split['images']} images of {' to '.join(sizes)}",
            f"{split['clusters']} clusters",
            f"{split['with_texts']} with texts",
            f"{share(split['ignored_pixels'] / (split['ignored_pixels'] + sum(split['pixels'].values())))} % ignored",
            "" if depth is None else f"depth {depth[0]:g} to {depth[1]:g}, {share(split['hole_share'])} % holes",
        ]
        line(f"{name}: {', '.join(part for part in parts if part)}")
    if splits:
        columns = [part for name in splits for part in (f"{name} %", "images")]
        classes = next(iter(splits.values()))["pixels"]
        rows = [
            [name]
            + [
                cell
                for split in splits.values()
                for cell in (
                    share(split["pixels"][name] / max(1, sum(split["pixels"].values()))),
                    str(split["images_with"][name]),
                )
            ]
            for name in classes
        ]
        console.print(table("share of the labelled pixels, and images that show the class", ["class", *columns], rows))


@config_app.command("show")
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

    from semalign.config import read_options, resolve_defaults, to_dict

    options = read_options(config, settings or ())
    if data is not None:
        options = resolve_defaults(options, "scenes" if data == "scenes" else "folder")
    value = to_dict(options)
    if as_json:
        print_json(value)
    else:
        print(yaml.safe_dump(value, sort_keys=False, allow_unicode=True), end="")


@config_app.command("schema")
def config_schema(
    settings: NoSet = None,
    as_json: Json = True,
    device: HostDevice = "auto",
) -> None:
    """Print the JSON schema of the options."""
    refuse_idle(settings, device, "config schema")
    from semalign.config import Options

    print_json(Options.model_json_schema())
