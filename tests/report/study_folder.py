"""Study folders made of plain numbers: no model, no images."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from semalign.config.reader import validate
from semalign.config.study import StudyOptions
from semalign.judge.metric import MIOU
from semalign.results import Curve, RunResult, Score, write_result
from semalign.study.design import builtin_studies
from semalign.wording import Catalogue

__all__ = ["EN", "ZH", "StudyFolder", "designed", "looked", "paired"]

EN = Catalogue("en", metric=MIOU.name, quantity=MIOU.quantity)
ZH = Catalogue("zh", metric=MIOU.name, quantity=MIOU.quantity)


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


def looked(path: Path, differences: Sequence[str], **options: Any) -> StudyFolder:
    """Write a study of Baseline (mIoU 40, 42, 44, ... points) and A, better by ``differences`` points in each block.

    It is judged at looks (5, 8, 12) unless ``options`` say otherwise.  The classes are road and car.
    """
    folder = StudyFolder(path)
    folder.study({"Baseline": {}, "A": {"train.lr": 0.001}}, **({"looks": [5, 8, 12]} | options))
    for seed, difference in enumerate(differences):
        plain = Fraction(40 + 2 * seed, 100)
        for arm, iou in (("Baseline", plain), ("A", plain + Fraction(difference) / 100)):
            folder.run(arm, seed, [str(iou)] * 2, names=("road", "car"))
    return folder


def designed(
    path: Path,
    name: str,
    points: Callable[[str, int], float | None],
    *,
    blocks: int,
    images: int = 23,
    curves: Callable[[str, int], Mapping[str, Curve]] | None = None,
    facts: Callable[[str, int], Mapping[str, Any]] | None = None,
    **options: Any,
) -> StudyFolder:
    """Write a built-in study with made-up runs.

    Args:
        path: its folder.
        name: of the built-in study.
        points: mIoU in points of (arm, seed); None for a run that failed.
        blocks: how many seeds have runs.
        images: how many images were scored; the first of each two gains what the second loses.
        curves: of (arm, seed).
        facts: of (arm, seed).
        **options: what differs from the built-in study.
    """
    value = yaml.safe_load(builtin_studies()[name].read_text(encoding="utf-8")) | {"data": "scenes"} | options
    if "seeds" in options:
        value.pop("looks", None)
    study = validate(StudyOptions, value, name)
    folder = StudyFolder(path)
    path.mkdir(parents=True)
    (path / "study.yaml").write_text(yaml.safe_dump(value, allow_unicode=True, sort_keys=False), encoding="utf-8")
    for seed in range(blocks):
        for arm in study.arms:
            score = points(arm, seed)
            place = path / "runs" / arm.replace(" ", "-").replace("/", "-") / f"seed-{seed}" / "result.json"
            place.parent.mkdir(parents=True)
            result = RunResult(
                arm,
                seed,
                "failed" if score is None else "finished",
                None if score is None else _score(score, images, seed),
                dict(curves(arm, seed)) if curves and score is not None else {},
                dict(facts(arm, seed)) if facts else {},
                {},
            )
            write_result(place, result)
    return folder


def _score(points: float, images: int, seed: int) -> Score:
    """Return a score of two classes, the second two points better, whose mean is ``points`` to a hundredth."""
    counts = np.zeros((images, 2, 3), dtype=np.int64)
    for index, shift in enumerate((-100, 100)):
        hits = round(100 * points) + shift
        for image in range(images):
            # In pairs, so that the sum over images stays what it is; a lone last image gets nothing.
            moved = 0 if image == images - 1 and images % 2 else (30 + 7 * seed + image // 2) * (1 - 2 * (image % 2))
            counts[image, index] = (hits + moved, 0, 10000 - hits - moved)
    confusion = np.diag(counts.sum(axis=0)[:, 0])
    return Score(
        "val", ("road", "car"), tuple(f"val/street_{image:03d}.png" for image in range(images)), counts, confusion
    )
