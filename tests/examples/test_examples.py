"""The scripts in examples/ run as they are, and print what the docs show."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
NUMBER = re.compile(r"-?\d+(?:\.\d+)?")

if not EXAMPLES.is_dir():
    pytest.skip("examples/ is not beside the tests", allow_module_level=True)


def run(name: str, folder: Path) -> str:
    """Run an example in an empty folder, warnings being errors, and return what it prints."""
    done = subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLES / name)],
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("name", ["audit_your_model", "guide_a_backbone", "judge_your_runs"])
def test_an_example_prints_what_the_docs_show(tmp_path: Path, name: str) -> None:
    """Word for word; numbers may differ by rounding, as between processors."""
    if name == "guide_a_backbone":
        pytest.importorskip("transformers")
    printed = run(f"{name}.py", tmp_path)
    shown = (EXAMPLES / f"{name}.txt").read_text(encoding="utf-8")

    assert NUMBER.sub("#", printed) == NUMBER.sub("#", shown)
    assert [float(n) for n in NUMBER.findall(printed)] == pytest.approx(
        [float(n) for n in NUMBER.findall(shown)], rel=0.02
    )


def test_train_and_look(tmp_path: Path) -> None:
    """It trains, says whether the text is used, and writes a picture for each of the two texts."""
    printed = run("train_and_look.py", tmp_path).splitlines()

    assert re.fullmatch(r"mIoU 0\.\d\d on 40 images it has not seen", printed[0])
    assert "its text" in printed[1]
    assert [line.partition(":")[0] for line in printed[2:]] == ["told of a drum", "told of a cake"]
    for word in ("drum", "cake"):
        assert (tmp_path / "predictions" / word / "picture.overlay.png").is_file()


def test_the_picture_of_the_tutorial(tmp_path: Path) -> None:
    """It shows a drum, as the tutorial needs."""
    printed = run("tutorial/picture.py", tmp_path)

    assert "drum" in printed
    assert "cake" not in printed
    assert (tmp_path / "picture.png").is_file()
