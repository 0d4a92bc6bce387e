"""The commands by name (the contract's names); each group has a module beside this one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer

from semalign.cli.audit import audit
from semalign.cli.bench import bench_alignment, bench_infer, bench_step, bench_study
from semalign.cli.config import config_schema, config_show
from semalign.cli.data import data_check, data_import
from semalign.cli.judging import study_judge, study_simulate
from semalign.cli.run import evaluate, predict, train
from semalign.cli.share import export_run, import_original
from semalign.cli.show import console_language
from semalign.cli.study import demo, study_pilot, study_plan, study_report, study_run

__all__ = ["app"]

app = typer.Typer(
    name="semalign",
    help="Text-guided semantic segmentation, and the laboratory that decides how its alignment should be built.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.callback(invoke_without_command=True)
def root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    """Text-guided semantic segmentation, and the laboratory that decides how its alignment should be built."""
    if version:
        import semalign

        print(semalign.__version__)
        raise typer.Exit
    # An unknown language is refused before anything is computed.
    console_language()


COMMANDS: dict[str, Callable[..., None]] = {
    "train": train,
    "evaluate": evaluate,
    "predict": predict,
    "export": export_run,
    "import-original": import_original,
    "demo": demo,
    "audit": audit,
}
GROUPS: dict[str, tuple[str, dict[str, Callable[..., None]]]] = {
    "study": (
        "Plan, run, judge and report a study.",
        {
            "plan": study_plan,
            "pilot": study_pilot,
            "run": study_run,
            "report": study_report,
            "judge": study_judge,
            "simulate": study_simulate,
        },
    ),
    "data": ("Look at a data set.", {"check": data_check, "import": data_import}),
    "config": ("Show the options.", {"show": config_show, "schema": config_schema}),
    "bench": (
        "Measure speed and memory here.",
        {"alignment": bench_alignment, "step": bench_step, "infer": bench_infer, "study": bench_study},
    ),
}
"""By group its help and its commands."""

for name, command in COMMANDS.items():
    app.command(name)(command)
for group, (about, commands) in GROUPS.items():
    subcommands = typer.Typer(help=about, no_args_is_help=True, rich_markup_mode=None)
    for name, command in commands.items():
        subcommands.command(name)(command)
    app.add_typer(subcommands, name=group)
