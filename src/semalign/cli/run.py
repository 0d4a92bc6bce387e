"""`semalign train`, `evaluate` and `predict`: one run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from semalign.cli.common import (
    Audit,
    Config,
    Data,
    Device,
    Json,
    NoSet,
    Run,
    Scan,
    Set,
    Window,
    command_line,
    parse_window,
    refuse_idle,
)
from semalign.cli.show import console_language, line, print_json, print_notes, print_scores, print_table, task
from semalign.errors import ConfigError
from semalign.layout import RUNS
from semalign.wording import Catalogue, read_note

if TYPE_CHECKING:
    from semalign.api import Evaluation

__all__ = ["evaluate", "predict", "train"]


def train(
    data: Data,
    config: Config = None,
    out: Annotated[Path | None, typer.Option("--out", metavar="DIR", help="The run's folder [runs/DATA].")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run that the folder holds.")] = False,
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

    words = Catalogue(console_language())
    folder = out or Path(RUNS) / (data if data == "scenes" else Path(data).resolve().name)
    with task(words("console.preparing")) as bar:

        def started(groups: list[Any], steps: int) -> None:
            columns = ("console.role", "console.tensors", "console.numbers", "console.peak-rate", "console.decay")
            rows = [
                [words(f"console.role.{g.role}"), str(g.tensors), f"{g.numbers:,}", f"{g.lr:g}", f"{g.decay:g}"]
                for g in groups
            ]
            print_table(words, "console.parameter-groups", rows, columns)
            bar.begin(words("console.training"), steps)

        def stepped(step: int, steps: int, loss: float) -> None:
            bar.count(step, steps)
            bar.note(words("console.loss", loss=loss))

        def scored(step: int, name: str, miou: float) -> None:
            line(words("console.step-score", step=step, split=name, miou=100 * miou))

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
    if process_number() > 0:
        # Of several processes the first one prints.
        return
    score, facts = result.score, result.facts
    print_notes(words, map(read_note, facts["notes"]))
    if as_json:
        print_json(
            {
                "run": str(folder),
                "split": score.split,
                "miou": score.miou,
                "iou": score.iou,
                "n_images": len(score.images),
                "absent": list(score.absent),
                "parameters": facts["parameters"],
                "seconds": result.timings["train"],
                "scored_weights": facts["scored_weights"],
                "notes": list(result.notes),
            }
        )
        return
    weights = words(f"console.{facts['scored_weights']}")
    title = words("console.iou-of-weights", split=score.split, n=len(score.images), weights=weights)
    print_scores(words, score.miou, score.iou, title)
    print(folder)


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

    words = Catalogue(console_language())
    with task(words("console.scoring", split=split)) as bar:
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
            progress=bar.count,
        )
    # Before anything is printed: masks may have nothing to score.
    value, score = result.to_dict(), result.score
    if as_json:
        print_json(value)
        return
    if result.text_use is not None:
        print(words.text(result.text_use.sentence), flush=True)
    print_notes(words, result.notes)
    print_scores(words, score.miou, score.iou, words("console.iou", split=split, n=len(score.images)))
    if result.among is not None:
        parts = {name: "-" if part is None else f"{100 * part:.1f}" for name, part in result.among.to_dict().items()}
        line(words("console.miou-among", parts=tuple(f"{words(f'console.{name}')} {x}" for name, x in parts.items())))
    if result.counterfactuals:
        _print_counterfactuals(words, result)
    print(f"{100 * score.miou:.2f}")


def _print_counterfactuals(words: Catalogue, result: Evaluation) -> None:
    rows = []
    for item in result.counterfactuals:
        interval = "-"
        if item.interval is not None:
            interval = words("console.range", low=100 * item.interval.low, high=100 * item.interval.high)
        name = words(f"inspection.change.{item.name}")
        if item.score is None:
            rows.append([name, "-", words.text(item.why), interval])
        else:
            change = 100 * (item.score.miou - result.score.miou)
            rows.append([name, f"{100 * item.score.miou:.1f}", f"{change:+.2f}", interval])
    columns = ("console.text", "console.miou", "console.difference", "console.interval-95")
    print_table(words, "console.text-changed", rows, columns)
    if result.text_use is not None:
        line(words("console.intervals-cover", what=result.text_use.covers))


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

    words = Catalogue(console_language())
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
    print_notes(words, dict.fromkeys(note for item in written for note in item["notes"]))
    if as_json:
        print_json({"predictions": written})
        return
    for item in written:
        line(words.join(words("console.class-share", name=name, part=part) for name, part in item["classes"].items()))
        print(item["overlay"])
