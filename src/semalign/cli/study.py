"""`semalign study plan|pilot|run|report` and `semalign demo`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from semalign.cli.common import (
    Audit,
    Device,
    HostDevice,
    Json,
    Lang,
    NoSet,
    Scan,
    Set,
    Workers,
    command_line,
    refuse_idle,
)
from semalign.cli.show import console, console_language, line, print_json, print_notes, table, task
from semalign.execution import Events, Execution
from semalign.layout import PILOT, STUDIES, slug
from semalign.wording import Catalogue

if TYPE_CHECKING:
    from semalign.config.study import StudyOptions
    from semalign.study.carry_out import Done
    from semalign.study.plan import Plan

__all__ = ["demo", "study_pilot", "study_plan", "study_report", "study_run"]

Study = Annotated[str, typer.Argument(metavar="STUDY", help="A YAML file, or ablation-1, ablation-2, ablations.")]
StudyData = Annotated[str | None, typer.Option("--data", metavar="DATA", help="A folder, or 'scenes'.")]
Seeds = Annotated[int | None, typer.Option("--seeds", metavar="N", help="Number of blocks, fixed beforehand.")]
Out = Annotated[Path | None, typer.Option("--out", metavar="DIR", help="The study's folder [studies/NAME].")]
Engine = Annotated[str, typer.Option("--engine", help="local (this machine) or ray (a cluster).")]


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
    """Estimate what a study will cost and which margin its budget resolves."""
    from semalign.study.plan import plan_study

    options = _read(study, data, seeds, engine, settings)
    execution = Execution(device, scan, engine=engine, workers=workers)
    plan = plan_study(options, out or _default_folder(options), execution)
    if as_json:
        print_json(plan.to_dict())
    else:
        _print_plan(Catalogue(console_language()), plan)


def _print_plan(words: Catalogue, plan: Plan) -> None:
    cost = words("plan.hours-unknown")
    if plan.hours is not None:
        cost = words("plan.hours", seconds=plan.seconds_per_run, hours=plan.hours, workers=plan.workers)
    line(words("plan.runs", n=plan.runs, missing=plan.missing, cost=cost))
    for effect, others in plan.aliases.items():
        line(words("plan.aliased", effect=effect, others=others))
    if plan.pilot is not None and plan.pilot["correlation"] is not None:
        line(words("plan.pilot", correlation=plan.pilot["correlation"], pairing=words(f"plan.{plan.pilot['pairing']}")))
    print_notes(words, plan.notes)
    rows = [
        [
            row["effects"][0]
            if len(row["effects"]) == 1
            else words("plan.effects", n=len(row["effects"]), family=row["family"]),
            f"{row['sd']:.2f}",
            f"{row['resolvable_margin']:.2f}",
            f"{row['minimum_detectable_effect']:.2f}",
            f"{row['expected_blocks']:.1f}",
            str(row["blocks_for_margin"]),
        ]
        for row in plan.precision
    ]
    names = ("effect", "its-sd", "resolvable-margin", "detectable-effect", "mean-blocks")
    columns = [*(words(f"plan.{name}") for name in names), words("plan.blocks-for", margin=plan.study.margin)]
    looks = "" if plan.study.looks is None else words("plan.looks", looks=plan.study.looks)
    noise = words(f"plan.sd-{plan.sd_from}")
    console.print(table(words("plan.table", n=plan.study.blocks, looks=looks, noise=noise), columns, rows))
    print(words("plan.unknown") if plan.hours is None else f"{plan.hours:.2f}")


def _read(study: str, data: str | None, seeds: int | None, engine: str, settings: list[str] | None) -> StudyOptions:
    from semalign.study.design import read_study
    from semalign.study.engines import check_engine

    check_engine(engine)
    return read_study(study, data=data, seeds=seeds, assignments=settings or ())


def _default_folder(study: StudyOptions) -> Path:
    """Return the folder of a study unless --out names another."""
    return Path(STUDIES) / slug(study.name)


def _run(options: StudyOptions, out: Path | None, execution: Execution, words: Catalogue, *, pilot_only: bool) -> Done:
    """Carry a study out with a progress bar."""
    from semalign.study.carry_out import carry_out

    with task(options.name) as bar:

        def run_done(arm: str, seed: int, status: str, miou: float | None, done: int, total: int) -> None:
            shown = words(f"study.{status}") if miou is None else words("study.miou", miou=100 * miou)
            bar.count(done, total)
            line(words("study.run-done", done=done, total=total, arm=arm, seed=seed, outcome=shown))

        execution = dataclasses.replace(execution, events=Events(run_done=run_done))
        folder = out or _default_folder(options)
        return carry_out(options, folder, execution, command=command_line(), pilot_only=pilot_only)


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
    words = Catalogue(console_language())
    options = _read(study, data, seeds, engine, settings)
    done = _run(options, out, Execution(device, scan, audit, engine, workers), words, pilot_only=True)
    pilot = done.pilot
    assert pilot is not None, "a pilot without figures is an error"
    if as_json:
        print_json(pilot.to_dict())
        return
    line(words("study.pilot", n=pilot.n, pilot=pilot, pairing=words(f"plan.{pilot.pairing}")))
    print(done.folder / PILOT)


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
    lang: Lang = None,
    as_json: Json = False,
    device: Device = "auto",
) -> None:
    """Run what a study lacks (the pilot first), judge it and write its report."""
    words = Catalogue(console_language(lang))
    options = _read(study, data, seeds, engine, settings)
    done = _run(options, out, Execution(device, scan, audit, engine, workers), words, pilot_only=False)
    _report(done.folder, words, as_json)


def study_report(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The study's folder.")],
    lang: Lang = None,
    as_json: Json = False,
    settings: NoSet = None,
    device: HostDevice = "auto",
) -> None:
    """Judge a study's finished runs again and write its report."""
    refuse_idle(settings, device, "study report")
    _report(folder, Catalogue(console_language(lang)), as_json)


def demo(
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="The demo's folder.")] = Path("semalign-demo"),
    workers: Workers = None,
    audit: Audit = True,
    settings: Set = None,
    lang: Lang = None,
    as_json: Json = False,
    device: Device = "auto",
) -> None:
    """Run a small study on built-in scenes and write its report; about 3 minutes on 2 cores."""
    from semalign.study.design import DEMO_FILE

    words = Catalogue(console_language(lang))
    options = _read(str(DEMO_FILE), None, None, "local", settings)
    done = _run(options, out, Execution(device, audit=audit, workers=workers), words, pilot_only=False)
    _report(done.folder, words, as_json)


def _report(folder: Path, words: Catalogue, as_json: bool) -> None:
    from semalign.report import write_report

    report = write_report(folder, lang=words.lang)
    if as_json:
        print_json({"report": str(report.path), "judgement": report.judgement.to_dict()})
        return
    for verdict in report.judgement.verdicts:
        line(words("study.verdict", reason=verdict.reason))
    print(report.path)
