"""Study folders made of plain numbers: no model, no images."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from semalign.results import Curve, RunResult, Score, write_result

__all__ = ["StudyFolder", "paired"]


class StudyFolder:
    """Writes a study's folder run by run."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def study(self, arms: Mapping[str, Mapping[str, Any]], **options: Any) -> None:
        """Write study.yaml; the first arm is the baseline."""
        value = {
            "name": "made-up",
            "question": "Is one arm better than another?",
            "baseline": next(iter(arms)),
            "arms": {name: dict(own) for name, own in arms.items()},
            **options,
        }
        self.path.mkdir(parents=True, exist_ok=True)
        (self.path / "study.yaml").write_text(yaml.safe_dump(value, allow_unicode=True, sort_keys=False))

    def facts(self, value: Mapping[str, Any]) -> None:
        """Write facts.json."""
        (self.path / "facts.json").write_text(json.dumps(value))

    def run(
        self,
        arm: str,
        seed: int,
        iou: Sequence[str | None] | None,
        *,
        names: Sequence[str] = ("road", "car", "sky"),
        folder: str = "runs",
        curves: Mapping[str, Curve] | None = None,
        facts: Mapping[str, Any] | None = None,
        timings: Mapping[str, float] | None = None,
    ) -> Path:
        """Write a run whose IoU by class are these fractions (None: absent class), or a failed run without any."""
        score = None
        if iou is not None:
            counts = np.zeros((2, len(names), 3), dtype=np.int64)
            for index, text in enumerate(iou):
                if text is None:
                    counts[1, index] = (0, 7, 0)
                    continue
                share = Fraction(text)
                # 3 parts in the first image and 1 in the second: images of different weight.
                counts[0, index] = (3 * share.numerator, share.denominator - share.numerator, 0)
                counts[1, index] = (share.numerator, 0, 3 * (share.denominator - share.numerator))
            confusion = np.diag(counts.sum(axis=0)[:, 0])
            score = Score("val", tuple(names), ("val/a.png", "val/b.png"), counts, confusion)
        path = self.path / folder / arm.replace(" ", "-").replace("/", "-") / f"seed-{seed}" / "result.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        result = RunResult(
            arm,
            seed,
            "failed" if iou is None else "finished",
            score,
            dict(curves or {}),
            dict(facts or {}),
            dict(timings or {}),
        )
        write_result(path, result)
        return path


def paired(path: Path, differences: Sequence[str] = ("1", "2", "3"), **options: Any) -> StudyFolder:
    """Write a study of Baseline (mIoU 40, 50, 60, ... points) and A, better by ``differences`` points in each block.

    The classes are road, car and sky; sky is absent.
    """
    folder = StudyFolder(path)
    folder.study({"Baseline": {}, "A": {"train.lr": 0.001}}, seeds=len(differences), **options)
    for seed, difference in enumerate(differences):
        road, car = Fraction(50 + 10 * seed, 100), Fraction(30 + 10 * seed, 100)
        folder.run("Baseline", seed, [str(road), str(car), None], timings={"train": 10.0 + seed, "evaluate": 1.0})
        # Only car gains, twice the difference, so that the mean of the two classes gains the difference.
        gain = 2 * Fraction(difference) / 100
        folder.run("A", seed, [str(road), str(car + gain), None], timings={"train": 20.0, "evaluate": 1.0})
    return folder
