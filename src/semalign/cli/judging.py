"""`semalign study judge` and `study simulate`: statistics alone, without torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from semalign.cli.common import HostDevice, Json, NoSet, refuse_idle
from semalign.cli.show import console_language, print_json, print_notes, task
from semalign.errors import ConfigError, StudyError
from semalign.wording import Catalogue

__all__ = ["parse_looks", "study_judge", "study_simulate"]


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

    words = Catalogue(console_language())
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
    print_notes(words, judgement.notes)
    for verdict in (*judgement.verdicts, *(one.verdict for one in new)):
        print(words.text(verdict.reason))


def parse_looks(text: str) -> tuple[int, ...]:
    """Return the numbers of blocks in '5,8,12'."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts):
        raise ConfigError(f"--looks got '{text}', expected numbers of blocks such as 5,8,12")
    return tuple(int(part) for part in parts)


def study_simulate(
    reps: Annotated[int, typer.Option("--reps", metavar="N", help="Studies drawn per world and design.")] = 10000,
    as_json: Json = False,
    settings: NoSet = None,
    device: HostDevice = "auto",
) -> None:
    """Draw studies with known truth, judge them as real ones are, and count the errors; 40000 take about a minute."""
    refuse_idle(settings, device, "study simulate")
    from semalign.judge.simulate import outside, simulate

    words = Catalogue(console_language())
    with task(words("console.simulating")) as bar:
        found = simulate(reps, progress=bar.count)
    if as_json:
        print_json(found)
        return
    rates = found["rates"]
    for rate in rates:
        low, high = rate["target"]
        if (low, high) != (0.0, 1.0):
            mark = f"  {words('console.outside')}" if outside(rate) else ""
            print(words("console.rate", **rate, low=low, high=high) + mark)
    print(words("console.rates-outside", missed=sum(outside(rate) for rate in rates), n=len(rates)))
