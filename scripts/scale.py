"""Makes large studies and data sets and measures what it takes to work with them.

    python scripts/scale.py runs     2,000 finished runs: planned, resumed, judged and reported
    python scripts/scale.py images   a data set of 200,000 images, opened after it has been scanned once
    python scripts/scale.py predict  predictions of 1,000 to 10,000 images

Each prints a table of seconds (by the clock and of the processor) and of the greatest memory of the process.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "src")]

COMMAND = "from semalign.cli import main; main()"
CLASSES, IMAGES, ARMS = 11, 40, 20

Measured = tuple[str, float, float, int]
"""What, seconds by the clock, seconds of the processor, MiB."""


def measured(what: str, words: list[str], folder: Path, code: str = COMMAND) -> Measured:
    """Carry out a command of ours and measure it."""
    begin, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = os.environ | {"SEMALIGN_CACHE": str(folder / "cache"), "PYTHONPATH": str(ROOT / "src")}
    # A process of its own for each, so that the greatest memory is that command's.
    watch = (
        "import resource, subprocess as s, sys; "
        "code = s.run(sys.argv[1:], stdout=s.DEVNULL, stderr=s.DEVNULL).returncode; "
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss); sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", watch, sys.executable, "-c", code, *words],
        env=environment,
        cwd=folder,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return what, time.monotonic() - begin, processor, int(done.stdout) >> 10


def show(rows: list[Measured]) -> None:
    """Print the table."""
    print("| what | seconds | of the processor | greatest memory, MiB |\n|---|---:|---:|---:|")
    for what, clock, processor, memory in rows:
        print(f"| {what} | {clock:.1f} | {processor:.1f} | {memory} |", flush=True)


def runs(count: int, folder: Path) -> list[Measured]:
    """Make a study of ``count`` finished runs, then plan, resume and report it."""
    from semalign.results import RunResult, Score, write_result

    blocks = count // ARMS
    arms = ", ".join(f"arm-{index}: {{lr: {index}}}" for index in range(ARMS))
    (folder / "study.yaml").write_text(
        f"name: large\nquestion: Which rate?\nbaseline: arm-0\narms: {{{arms}}}\nseeds: {blocks}\npilot_blocks: 0\n"
        f"command: {sys.executable} -c pass {{seed}} {{arm.lr}} {{out}}\n"
    )
    rng = np.random.default_rng(0)
    names = tuple(f"class {index}" for index in range(CLASSES))
    images = tuple(f"val/image-{index:04d}" for index in range(IMAGES))
    truth = rng.integers(1000, 5000, size=(IMAGES, CLASSES))
    for arm in range(ARMS):
        for seed in range(blocks):
            hits = (truth * rng.uniform(0.4, 0.6)).astype(np.int64)
            counts = np.stack([hits, hits // 3, truth - hits], axis=-1)
            curves = {
                f"decoder.alignments.{site}/{what}": [(step, float(rng.random())) for step in range(0, 600, 10)]
                for site in range(3)
                for what in ("scale", "gate", "strength", "entropy")
            }
            curves["train/loss"] = [(step, float(rng.random())) for step in range(0, 600, 10)]
            score = Score("val", names, images, counts, np.diag(hits.sum(axis=0)))
            place = folder / "large" / "runs" / f"arm-{arm}" / f"seed-{seed}"
            place.mkdir(parents=True)
            facts = {"config": {"values": {"lr": arm}}, "notes": [], "threads": 1}
            write_result(
                place / "result.json", RunResult(f"arm-{arm}", seed, "finished", score, curves, facts, {"total": 9.0})
            )
    # The last run is missing when the folder is claimed, so that the study is gone on with.
    words = ["study.yaml", "--out", "large"]
    import yaml

    from semalign.config.study import StudyOptions
    from semalign.files import write_json, write_text
    from semalign.study.design import read_study

    study: StudyOptions = read_study(str(folder / "study.yaml"))
    value = study.model_dump(mode="json", exclude_none=True)
    write_text(folder / "large" / "study.yaml", yaml.safe_dump(value, sort_keys=False))
    write_json(folder / "large" / "facts.json", {"data": {"fingerprints": {}}, "files": {}, "machine": {"threads": 1}})
    made = f"{ARMS * blocks} runs"
    return [
        measured(f"{made}: study plan", ["study", "plan", *words], folder),
        measured(f"{made}: study run (resume, judge, report)", ["study", "run", *words], folder),
        measured(f"{made}: study report", ["study", "report", "large"], folder),
        measured(
            f"{made}: study judge results.csv", ["study", "judge", "large/results.csv", "--baseline", "arm-0"], folder
        ),
    ]


def images(count: int, folder: Path) -> list[Measured]:
    """Make a data set of ``count`` small images (links to one file), scan it, and open it again."""
    from PIL import Image

    for part, mode in (("images", "RGB"), ("masks", "L")):
        Image.new(mode, (8, 8), 1).save(folder / f"{part}.png")
        for split, share in (("train", 0.9), ("val", 0.1)):
            place = folder / "set" / part / split
            place.mkdir(parents=True)
            for index in range(round(count * share)):
                # A file may have no more links than the file system allows (65,000 on ext4).
                if index % 50000 == 0:
                    first = place / f"{index:07d}.png"
                    first.write_bytes((folder / f"{part}.png").read_bytes())
                else:
                    os.link(first, place / f"{index:07d}.png")
    (folder / "set" / "classes.txt").write_text("sky\nroad\n")
    opening = "import sys; from semalign.data.open import open_data; s = open_data('set'); print(s.fingerprint('val'))"
    return [
        measured(f"{count} images: first scan", [], folder, opening),
        measured(f"{count} images: opened again, fingerprint of val", [], folder, opening),
    ]


def predict(counts: list[int], folder: Path) -> list[Measured]:
    """Train a small run, then predict numbers of images."""
    from PIL import Image

    small = ["data.size=[32,32]", "train.epochs=1", "data.n_train=2", "data.n_val=1", "data.text=classes"]
    words = [word for setting in small for word in ("--set", setting)]
    measured("training", ["train", "scenes", "--out", "run", *words], folder)
    rng = np.random.default_rng(0)
    (folder / "images").mkdir()
    picture = Image.fromarray(rng.integers(0, 256, size=(48, 64, 3), dtype=np.uint8))
    rows = []
    made = 0
    for count in counts:
        for index in range(made, count):
            picture.save(folder / "images" / f"{index:06d}.png")
        made = count
        files = sorted(str(path) for path in (folder / "images").iterdir())
        rows.append(measured(f"predict, {count} images", ["predict", "run", *files, "--out", f"out-{count}"], folder))
    return rows


def main() -> int:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("what", choices=["runs", "images", "predict"])
    parser.add_argument("--count", type=int, help="runs [2000], images [200000], most images to predict [10000]")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        if asked.what == "runs":
            show(runs(asked.count or 2000, Path(name)))
        elif asked.what == "images":
            show(images(asked.count or 200000, Path(name)))
        else:
            most = asked.count or 10000
            show(predict([most // 10, most // 3, most], Path(name)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
