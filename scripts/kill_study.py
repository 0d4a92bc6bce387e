"""Kills (SIGKILL) a small study at random moments, starts it again, and tells whether it ended as if nothing had been.

    python scripts/kill_study.py --kills 20

A study on built-in scenes is carried out once without being disturbed.  Then, for each kill, it is begun in a new
folder, killed at a random moment, and started again with the same command until it ends.  The moment is a number of
files in its folder, drawn evenly from none to all that there are in the end, and up to a second after that, so that it
depends little on how busy the machine is.  Every second kill takes the study's own process alone, so that its
workers must notice; the others take all its processes at one time.  A row is printed for each: when, whom, how many
runs had finished before, how many of these were run again (their result.json is another file or has another time), and
whether results.csv, judgement.json and pilot.json are the same to the byte.  Exit 1 where a run was repeated or
anything differs.

It needs a system with process groups and reads nothing but the study's folders.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

STUDY = """\
name: killed
question: Does a killed study end as if it had not been killed?
data: scenes
arms: {Baseline: {}, A: {model.preset: transformer}}
looks: [2, 3]
margin: 0.01
pilot_blocks: 2
options: {data.n_train: 8, data.n_val: 3, data.size: [32, 43], train.epochs: EPOCHS, train.batch_size: 4}
"""
COMMAND = "from semalign.cli import main; main()"
COMPARED = ("results.csv", "judgement.json", "pilot.json")

Snapshot = dict[str, tuple[int, int]]


def start(study: Path, folder: Path, workers: int, engine: str) -> subprocess.Popen[str]:
    """Start the study in a process group of its own."""
    words = ["study", "run", str(study), "--out", str(folder), "--workers", str(workers), "--engine", engine]
    return subprocess.Popen(
        [sys.executable, "-c", COMMAND, *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=os.environ | ({"RAY_ADDRESS": "local"} if engine == "ray" else {}),
    )


def finish(process: subprocess.Popen[str]) -> None:
    """Wait for a study; leave with what it said where it failed."""
    _, said = process.communicate()
    if process.returncode != 0:
        sys.exit(f"the study ended with {process.returncode}:\n{said}")


def results(folder: Path) -> Snapshot:
    """Return the identity and time of every run's result."""
    found = {}
    for path in folder.glob("*/*/*/result.json"):
        about = path.stat()
        found[str(path.relative_to(folder))] = (about.st_ino, about.st_mtime_ns)
    return found


def wait_for(process: subprocess.Popen[str], folder: Path, count: int, seconds: float) -> bool:
    """Wait until there are ``count`` files, then for some seconds; return whether the study is still alive."""
    while len(files(folder)) < count and process.poll() is None:
        time.sleep(0.01)
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return True
    return False


def files(folder: Path) -> list[Path]:
    """Return all files that are whole."""
    return [path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")]


def kill(process: subprocess.Popen[str], whom: str) -> None:
    """Kill the study's own process, or its whole group."""
    if whom == "all":
        os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    process.wait()
    assert process.stderr is not None
    process.stderr.close()


def main() -> int:
    """Carry out the studies and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--kills", type=int, default=20, help="studies to kill")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="as of study run")
    parser.add_argument("--engine", default="local", help="as of study run")
    parser.add_argument("--epochs", type=int, default=1, help="length of each run")
    asked = parser.parse_args()
    rng = random.Random(asked.seed)
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        study = root / "killed.yaml"
        study.write_text(STUDY.replace("EPOCHS", str(asked.epochs)))
        began = time.monotonic()
        finish(start(study, root / "whole", asked.workers, asked.engine))
        total = time.monotonic() - began
        count, runs = len(files(root / "whole")), len(results(root / "whole"))
        print(f"{runs} runs and {count} files without a kill in {total:.1f} s", flush=True)
        print("| kill | after s | killed | runs finished before | repeated | identical |\n|---|---|---|---|---|---|")
        bad = 0
        for number in range(1, asked.kills + 1):
            folder, whom = root / f"killed-{number}", ("all", "main")[number % 2]
            while True:
                began = time.monotonic()
                process = start(study, folder, asked.workers, asked.engine)
                if wait_for(process, folder, rng.randrange(count), rng.random()):
                    break
                # It ended before the moment came.
                finish(process)
                shutil.rmtree(folder)
            moment = time.monotonic() - began
            before = results(folder)
            kill(process, whom)
            finish(start(study, folder, asked.workers, asked.engine))
            after = results(folder)
            repeated = sum(after.get(path) != about for path, about in before.items())
            same = all((folder / name).read_bytes() == (root / "whole" / name).read_bytes() for name in COMPARED)
            bad += bool(repeated) or not same
            print(
                f"| {number} | {moment:.1f} | {whom} | {len(before)} of {len(after)} | {repeated} | "
                f"{'yes' if same else 'NO'} |",
                flush=True,
            )
    print(
        f"{asked.kills - bad} of {asked.kills} studies ended as if they had not been killed, none of their runs twice"
    )
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
