"""`semalign bench alignment|step|infer|study`: speed and memory on this machine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import typer

from semalign.cli.common import Device, HostDevice, Json, NoSet, Set, Workers, refuse_idle
from semalign.cli.show import console, console_language, print_json, table, task
from semalign.wording import Catalogue

__all__ = ["bench_alignment", "bench_infer", "bench_step", "bench_study"]

Threads = Annotated[int | None, typer.Option("--threads", metavar="N", min=1, help="Threads to compute with [all].")]
Quick = Annotated[bool, typer.Option("--quick", help="Fewer rounds and sizes, for a first look.")]
Markdown = Annotated[bool, typer.Option("--markdown", help="Print the tables as Markdown.")]
BenchData = Annotated[str, typer.Option("--data", metavar="DATA", help="A folder, or 'scenes'.")]


def _bench(
    measure: Callable[..., dict[str, Any]],
    tables: Callable[[dict[str, Any]], list[Any]],
    as_markdown: bool,
    as_json: bool,
    *,
    threads: int | None = None,
    about: Callable[[dict[str, Any]], str] | None = None,
    **options: Any,
) -> None:
    """Measure and print what was found; ``about`` gives a line on the machine."""
    from semalign.bench.tables import markdown_tables

    if threads is not None:
        import torch

        torch.set_num_threads(threads)
    with task(Catalogue(console_language())("console.measuring")) as bar:
        found = measure(progress=bar.note, **options)
    if as_json:
        print_json(found)
    elif as_markdown:
        print("" if about is None else f"{about(found)}\n\n", markdown_tables(tables(found)), sep="", end="")
    else:
        for found_table in tables(found):
            console.print(table(*found_table))
        if about is not None:
            print(about(found))


def bench_alignment(
    threads: Threads = None,
    quick: Quick = False,
    as_markdown: Markdown = False,
    as_json: Json = False,
    settings: NoSet = None,
    device: HostDevice = "auto",
) -> None:
    """Compare the alignment with a lean unfolded form; some minutes, with --quick one."""
    refuse_idle(settings, device, "bench alignment")
    from semalign.bench import alignment

    options: dict[str, Any] = {"about": alignment.machine_line, "threads": threads, "quick": quick}
    _bench(alignment.bench_alignment, alignment.alignment_tables, as_markdown, as_json, **options)


def bench_step(
    data: BenchData = "scenes",
    threads: Threads = None,
    quick: Quick = False,
    settings: Set = None,
    as_markdown: Markdown = False,
    as_json: Json = False,
    device: HostDevice = "auto",
) -> None:
    """Measure what text adds to a training step, and our loop to a bare one; some minutes, with --quick one."""
    refuse_idle(None, device, "bench step")
    from semalign.bench import step

    options: dict[str, Any] = {"threads": threads, "quick": quick, "data": data, "settings": settings or ()}
    _bench(step.bench_step, step.step_tables, as_markdown, as_json, **options)


def bench_infer(
    threads: Threads = None,
    quick: Quick = False,
    as_markdown: Markdown = False,
    as_json: Json = False,
    settings: NoSet = None,
    device: HostDevice = "auto",
) -> None:
    """Measure what text adds to inference, its bank cached; some minutes, with --quick one."""
    refuse_idle(settings, device, "bench infer")
    from semalign.bench import infer

    _bench(infer.bench_infer, infer.infer_tables, as_markdown, as_json, threads=threads, quick=quick)


def bench_study(
    data: BenchData = "scenes",
    workers: Workers = None,
    quick: Quick = False,
    settings: Set = None,
    as_markdown: Markdown = False,
    as_json: Json = False,
    device: Device = "cpu",
) -> None:
    """Measure how many runs an hour finish, by processes and threads of each; some minutes, with --quick two."""
    from semalign.bench import study
    from semalign.study.engines import worker_count

    options: dict[str, Any] = {"quick": quick, "data": data, "settings": settings or (), "device": device}
    _bench(study.bench_study, study.study_tables, as_markdown, as_json, workers=worker_count(workers), **options)
