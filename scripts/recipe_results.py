"""Score finished runs of the recipes and write their tables and curves into docs/results/recipes.md.

    python scripts/recipe_results.py camvid DATA TITLE=RUN [TITLE=RUN ...]

What was trained and in what time, mIoU on each of val and test that the data has, without and with the mirrored view,
and IoU by class come between `<!-- results of NAME -->` and `<!-- end of results of NAME -->`; the curves go to
docs/assets/recipe-NAME.svg.  Nothing else of the page is changed, and nothing is written where a run or its data fails.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from marks import put

from semalign.api import evaluate, load, open_source
from semalign.errors import SemalignError
from semalign.files import write_bytes, write_text
from semalign.report.figures.draw import export
from semalign.report.figures.shapes import Line, Panel, PanelsPlot
from semalign.results import RunResult, Score, read_result

DOCS = Path(__file__).resolve().parent.parent / "docs"
SPLITS = ("val", "test")


def scores(folder: Path, data: str) -> dict[tuple[str, bool], Score]:
    """Return the run's scores by split and by whether the mirrored view is averaged in."""
    trained = load(folder)
    source = open_source(data, trained.options)
    found = {}
    for split in SPLITS:
        if split not in source.splits:
            continue
        for flip in (False, True):
            print(f"{folder}: {split}{', mirrored too' if flip else ''}", file=sys.stderr, flush=True)
            found[split, flip] = evaluate(trained, data, split=split, flip=flip, scan=False).score
    return found


def tables(runs: dict[str, tuple[RunResult, dict[tuple[str, bool], Score]]]) -> str:
    """Return the tables in Markdown."""
    kinds = list(next(iter(runs.values()))[1])
    heads = [f"{split}{', mirrored too' if flip else ''}" for split, flip in kinds]
    lines = [
        f"| run | {' | '.join(heads)} | parameters | input | batch | epochs | steps | seed | hours |",
        f"|---|{'---:|' * (7 + len(heads))}",
    ]
    for title, (result, found) in runs.items():
        config = result.facts["config"]
        height, width = config["data"]["size"]
        cells = [
            *(f"{100 * found[kind].miou:.1f}" for kind in kinds),
            f"{result.facts['parameters'] / 1e6:.2f} M",
            f"{height}x{width}",
            config["train"]["batch_size"],
            config["train"]["epochs"],
            result.facts["steps"],
            result.seed,
            f"{result.timings['train'] / 3600:.2f}",
        ]
        lines.append(f"| {' | '.join(map(str, [title, *cells]))} |")
    columns = [(title, kind) for title in runs for kind in kinds if not kind[1]]
    lines += [
        "",
        "IoU by class, without the mirrored view; a dash where the split has no pixel of the class:",
        "",
        f"| class | {' | '.join(f'{title}, {kind[0]}' if len(runs) > 1 else kind[0] for title, kind in columns)} |",
        f"|---|{'---:|' * len(columns)}",
    ]
    for name in next(iter(runs.values()))[1][kinds[0]].class_names:
        values = [runs[title][1][kind].iou.get(name) for title, kind in columns]
        lines.append(f"| {name} | {' | '.join('-' if v is None else f'{100 * v:.1f}' for v in values)} |")
    for title, (result, _) in runs.items():
        versions = ", ".join(f"{name} {version}" for name, version in result.facts["versions"].items())
        lines += ["", f"Versions of {title}: {versions}; device {result.facts['device']}."]
    return "\n".join(lines)


def curves(name: str, runs: dict[str, RunResult]) -> bytes:
    """Return the curves of loss and val mIoU against epochs as SVG."""

    def panel(curve: str, factor: float) -> Panel:
        lines = []
        for style, result in enumerate(runs.values()):
            points = np.asarray(result.curves[curve], dtype=np.float64)
            epochs = points[:, 0] * result.facts["config"]["train"]["epochs"] / result.facts["steps"]
            lines.append(Line(style, epochs, factor * points[:, 1], factor * points[:, 1], factor * points[:, 1]))
        return Panel(f"{name}-{curve.replace('/', '-')}", curve, "epoch", tuple(lines))

    plot = PanelsPlot(
        f"recipe-{name}",
        "training loss and validation mIoU against epochs",
        ((("training loss", panel("train/loss", 1.0)), ("val mIoU", panel("val/miou", 100.0))),),
        tuple((title, style) for style, title in enumerate(runs)),
    )
    return export(plot)["svg"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Score the runs, then write page and curves."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="marks of the page, and the curves' file")
    parser.add_argument("data", help="folder of images and masks, or 'scenes'")
    parser.add_argument("runs", nargs="+", metavar="TITLE=RUN", help="a row's title and the folder of a finished run")
    parser.add_argument("--docs", type=Path, default=DOCS, help="folder of the pages [docs]")
    words = parser.parse_args(arguments)
    page_file = words.docs / "results" / "recipes.md"
    page = page_file.read_text(encoding="utf-8")
    mark = f"results of {words.name}"
    try:
        put(page, mark, "")
    except ValueError:
        parser.error(f"{page_file} has no place to write to: expected '<!-- {mark} -->' and '<!-- end of {mark} -->'")
    try:
        folders = {title: Path(folder) for title, _, folder in (word.rpartition("=") for word in words.runs)}
        results = {title: read_result(folder / "result.json") for title, folder in folders.items()}
        runs = {title: (results[title], scores(folder, words.data)) for title, folder in folders.items()}
    except SemalignError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from error
    text = tables(runs)
    figure = f"![Training loss and val mIoU against epochs](../assets/recipe-{words.name}.svg){{ .figure }}"
    drawn = curves(words.name, results)
    write_bytes(words.docs / "assets" / f"recipe-{words.name}.svg", drawn)
    write_text(page_file, put(page, mark, f"{text}\n\n{figure}"))
    print(text)


if __name__ == "__main__":
    main()
