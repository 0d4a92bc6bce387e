"""The example of somebody else's training script, as its README says."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from semalign.results import read_result
from semalign.study.design import planned_runs, read_study

EXAMPLE = Path(__file__).parents[2] / "examples" / "own-training"

pytestmark = pytest.mark.skipif(os.name != "posix", reason="the search path is given a shell script")


@pytest.fixture
def example(tmp_path: Path) -> Path:
    """Return a copy of the example whose ``python`` is this one."""
    folder = Path(shutil.copytree(EXAMPLE, tmp_path / "own-training", ignore=shutil.ignore_patterns("studies")))
    program = tmp_path / "bin" / "python"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\nexec '{sys.executable}' \"$@\"\n")
    program.chmod(0o755)
    return folder


def start(folder: Path, out: str) -> subprocess.Popen[str]:
    """Start a small run of the study by the command line."""
    words = ["study", "run", "study.yaml", "--out", out, "--workers", "1", "--seeds", "2", "--set", "epochs=1"]
    path = os.pathsep.join([str(folder.parent / "bin"), os.environ["PATH"]])
    return subprocess.Popen(
        [sys.executable, "-m", "semalign", *words],
        cwd=folder,
        env=os.environ | {"PATH": path, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_the_example_from_end_to_end(example: Path) -> None:
    """Killed in the middle and started again it ends with the same bits, and no finished run is made twice."""
    whole = start(example, "whole")
    printed, said = whole.communicate()
    assert whole.returncode == 0, said
    assert printed.strip() == str(Path("whole") / "report.html")

    killed = start(example, "killed")
    assert killed.stderr is not None
    finished = 0
    for line in killed.stderr:
        finished += "mIoU" in line
        if finished == 2:
            break
    killed.kill()
    killed.communicate()
    runs = sorted((example / "killed" / "runs").glob("*/*/result.json"))
    assert 2 <= len(runs) < 6
    assert not (example / "killed" / "results.csv").exists()
    before = {path: path.read_bytes() for path in runs}

    again = start(example, "killed")
    _, said = again.communicate()
    assert again.returncode == 0, said
    assert {path: path.read_bytes() for path in runs} == before
    for path in runs:
        assert (path.parent / "log.txt").read_text().count("$ python train.py") == 1
    for name in ("results.csv", "judgement.json"):
        assert (example / "killed" / name).read_bytes() == (example / "whole" / name).read_bytes()

    result = read_result(example / "whole" / "runs" / "context" / "seed-1" / "result.json")
    assert result.score is not None
    assert (len(result.score.images), result.score.class_names) == (30, ("sky", "road", "car", "tree"))
    assert len(result.curves["train/loss"]) == 24
    judgement = json.loads((example / "whole" / "judgement.json").read_text())
    assert [item["contrast"]["name"] for item in judgement["estimates"]] == ["Context - Colour", "Slow - Colour"]

    third = start(example, "killed")
    _, said = third.communicate()
    assert third.returncode == 0, said
    assert ", seed " not in said


def test_the_script_goes_on_from_its_checkpoint(example: Path) -> None:
    """The example resumes by itself: an epoch and another are two."""
    env = os.environ | {"OMP_NUM_THREADS": "1"}

    def train(out: str, epochs: int) -> str:
        words = [sys.executable, "train.py", "--seed", "3", "--epochs", str(epochs), "--out", out]
        return subprocess.run(words, cwd=example, env=env, check=True, capture_output=True, text=True).stdout

    train("whole", 2)
    train("half", 1)
    (example / "half" / "score.json").unlink()
    assert "step   23" not in train("half", 2)
    assert (example / "half" / "score.json").read_bytes() == (example / "whole" / "score.json").read_bytes()


def test_the_study_file() -> None:
    """Three arms, three looks, every value in the command."""
    study = read_study(str(EXAMPLE / "study.yaml"))

    assert (list(study.arms), study.looks, study.margin) == (["Colour", "Context", "Slow"], (5, 8, 12), 1.0)
    assert len({run.options.model_dump_json() for run in planned_runs(study) if run.seed == 0}) == 3
