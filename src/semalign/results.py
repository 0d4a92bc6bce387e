"""The hinge between training and judgement: one file of plain numbers per run, written whole.

Left of it stands torch; right of it nothing needs torch, so that a report can be rebuilt anywhere.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from semalign.errors import ResultsError
from semalign.files import read_json, write_json
from semalign.metrics import Counts, absent_classes, class_iou, mean_iou

__all__ = ["FORMAT_VERSION", "Curve", "RunResult", "Score", "read_result", "write_result"]

# History of the format:
# 1: first.
FORMAT_VERSION = 1

Curve = list[tuple[int, float]]
"""(optimizer step, value) pairs in order of steps."""


@dataclasses.dataclass(frozen=True)
class Score:
    """Counts of one model on one split.

    Attributes:
        split: the scored split.
        class_names: C names.
        images: the scored images' names, in order.
        counts: images x C x 3 pixel counts (TP, FP, FN) at each mask's own size.
        confusion: C x C pixel counts, row true class, column predicted.
    """

    split: str
    class_names: tuple[str, ...]
    images: tuple[str, ...]
    counts: Counts
    confusion: Counts

    @property
    def miou(self) -> float:
        """Mean IoU in [0, 1] over classes that are not absent."""
        return mean_iou(self.counts)

    @property
    def iou(self) -> dict[str, float]:
        """IoU in [0, 1] by class name, absent classes left out."""
        values = class_iou(self.counts)
        return {name: float(value) for name, value in zip(self.class_names, values, strict=True) if value == value}

    @property
    def absent(self) -> tuple[str, ...]:
        """Names of classes without a pixel in the scored masks."""
        mask = absent_classes(self.counts)
        return tuple(name for name, gone in zip(self.class_names, mask, strict=True) if gone)


@dataclasses.dataclass(frozen=True)
class RunResult:
    """What one run leaves for judgement: score, curves, facts.

    Attributes:
        arm: the arm's name ("" outside a study).
        seed: the run's seed, which is also its block.
        status: "finished" or "failed".
        score: the counts of the scored weights; None for a failed run.
        curves: by name, values over optimizer steps: "train/loss", "val/miou", and per alignment site (dotted module
            path) "SITE/scale", "SITE/gate", "SITE/strength" (|g a| / |x|), "SITE/entropy" (normalised, 1 = uniform),
            "SITE/grad_norm".
        facts: plain facts of the run: parameters (count), scored_weights, versions, text (kind, encoder, tokens,
            shared, leaking), config, train_score, steps, notes; for a failed run "failure".
        timings: wall-clock seconds by part; never judged.
    """

    arm: str
    seed: int
    status: str
    score: Score | None
    curves: dict[str, Curve]
    facts: dict[str, Any]
    timings: dict[str, float]


def write_result(path: Path, result: RunResult) -> None:
    """Write a run's result as one JSON file, whole or not at all."""
    score = result.score
    value = {
        "format": FORMAT_VERSION,
        "arm": result.arm,
        "seed": result.seed,
        "status": result.status,
        "score": None
        if score is None
        else {
            "split": score.split,
            "class_names": list(score.class_names),
            "images": list(score.images),
            "counts": score.counts.tolist(),
            "confusion": score.confusion.tolist(),
        },
        "curves": result.curves,
        "facts": result.facts,
        "timings": result.timings,
    }
    write_json(path, value, indent=None)


def read_result(path: Path) -> RunResult:
    """Read a run's result.

    Raises:
        ResultsError: the file is missing, no JSON, of another format version or not shaped as a result.
    """
    try:
        value = read_json(path)
    except FileNotFoundError as error:
        raise ResultsError(f"no result at {path}, expected a run's result.json: has the run finished?") from error
    except (OSError, ValueError, RecursionError) as error:
        raise ResultsError(f"cannot read the result {path}: {error}, expected JSON written by semalign") from error
    if not isinstance(value, dict) or value.get("format") != FORMAT_VERSION:
        got = value.get("format") if isinstance(value, dict) else type(value).__name__
        raise ResultsError(
            f"the result {path} has format {got!r}, expected {FORMAT_VERSION}: read it with the version that wrote it"
        )
    try:
        raw = value["score"]
        score = None
        if raw is not None:
            counts = np.asarray(raw["counts"], dtype=np.int64)
            matrix = np.asarray(raw["confusion"], dtype=np.int64)
            n_images, n_classes = len(raw["images"]), len(raw["class_names"])
            if counts.shape != (n_images, n_classes, 3) or matrix.shape != (n_classes, n_classes):
                raise ValueError(f"counts of shape {counts.shape} for {n_images} images and {n_classes} classes")
            score = Score(raw["split"], tuple(raw["class_names"]), tuple(raw["images"]), counts, matrix)
        curves = {
            str(name): [(int(step), float(number)) for step, number in points]
            for name, points in value["curves"].items()
        }
        return RunResult(
            str(value["arm"]),
            int(value["seed"]),
            str(value["status"]),
            score,
            curves,
            dict(value["facts"]),
            {str(name): float(seconds) for name, seconds in value["timings"].items()},
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise ResultsError(
            f"the result {path} is not shaped as one ({type(error).__name__}: {error}), write the run again"
        ) from error
