"""The hinge between training and judgement: one file of plain numbers per run, written whole.

Training needs torch; what reads a result does not, so that a report can be rebuilt anywhere.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from semalign.errors import ResultsError
from semalign.files import read_json, write_json
from semalign.layout import RESULT_FORMAT
from semalign.metrics import Counts, absent_classes, class_iou, mean_iou
from semalign.wording import read_note

__all__ = ["Curve", "Given", "RunResult", "Score", "notes_in_english", "read_result", "write_result"]

Curve = list[tuple[int, float]]
"""(optimizer step, value) pairs in order of steps."""


@dataclasses.dataclass(frozen=True)
class Given:
    """Figures that another program worked out by itself, without the counts they come from.

    Attributes:
        miou: its mean IoU, in [0, 1].
        iou: its IoU in [0, 1] by class name, None for an absent class; empty where it gave none.
    """

    miou: float
    iou: Mapping[str, float | None] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Score:
    """Counts of one model on one split, or what another program made of them.

    Attributes:
        split: the scored split.
        class_names: C names; with ``given`` the classes that it names, which may be none.
        images: the scored images' names, in order; none with ``given``.
        counts: images x C x 3 pixel counts (TP, FP, FN) at each mask's own size.
        confusion: C x C pixel counts, row true class, column predicted; 0 x 0 where it is not known.
        given: figures in place of counts, for a score whose counts are not known; None for all others.
    """

    split: str
    class_names: tuple[str, ...]
    images: tuple[str, ...]
    counts: Counts
    confusion: Counts
    given: Given | None = None

    @classmethod
    def of_figures(cls, miou: float, iou: Mapping[str, float | None] | None = None, *, split: str = "val") -> Score:
        """Return a score whose counts are not known.

        Args:
            miou: mean IoU, in [0, 1].
            iou: IoU in [0, 1] by class name, None for an absent class.
            split: the scored split.

        Raises:
            ResultsError: a figure outside [0, 1].

        >>> score = Score.of_figures(0.5, {"road": 0.5, "sky": None})
        >>> score.miou, score.iou, score.absent, score.counts.shape
        (0.5, {'road': 0.5}, ('sky',), (0, 2, 3))
        """
        given = Given(miou, dict(iou or {}))
        for name, value in (("mIoU", miou), *(given.iou.items())):
            if value is not None and not (math.isfinite(value) and 0 <= value <= 1):
                raise ResultsError(f"the score of {name} is {value!r}, expected a fraction in [0, 1]")
        nothing = np.zeros((0, 0), dtype=np.int64)
        return cls(split, tuple(given.iou), (), np.zeros((0, len(given.iou), 3), dtype=np.int64), nothing, given)

    @property
    def miou(self) -> float:
        """Mean IoU in [0, 1] over classes that are not absent."""
        return mean_iou(self.counts) if self.given is None else self.given.miou

    @property
    def iou(self) -> dict[str, float]:
        """IoU in [0, 1] by class name, absent classes left out."""
        if self.given is not None:
            return {name: value for name, value in self.given.iou.items() if value is not None}
        values = class_iou(self.counts)
        return {name: float(value) for name, value in zip(self.class_names, values, strict=True) if value == value}

    @property
    def absent(self) -> tuple[str, ...]:
        """Names of classes without a pixel in the scored masks."""
        if self.given is not None:
            return tuple(name for name, value in self.given.iou.items() if value is None)
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
            shared, leaking), threads, device, processor, machine and precision that the bits depend on, config,
            train_score, steps, notes (of `semalign.wording.Message.to_dict`, or strings of another program); for a
            failed run "failure".
        timings: wall-clock seconds by part; never judged.
    """

    arm: str
    seed: int
    status: str
    score: Score | None
    curves: dict[str, Curve]
    facts: dict[str, Any]
    timings: dict[str, float]

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader must know of the run, in English."""
        return notes_in_english(self.facts.get("notes", []))


def notes_in_english(notes: Iterable[Any]) -> tuple[str, ...]:
    """Return stored notes in English.

    >>> from semalign.wording import say
    >>> notes_in_english([say("train.text_leaks").to_dict(), "the script has changed"])
    ('the text is made from the masks that are scored (leaking)', 'the script has changed')
    """
    return tuple(str(read_note(note)) for note in notes)


def write_result(path: Path, result: RunResult) -> None:
    """Write a run's result as one JSON file, whole or not at all."""
    score = result.score
    value = {
        "format": RESULT_FORMAT,
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
            "given": None if score.given is None else {"miou": score.given.miou, "iou": dict(score.given.iou)},
        },
        "curves": result.curves,
        "facts": result.facts,
        "timings": result.timings,
    }
    write_json(path, value, indent=None)


def read_result(path: Path) -> RunResult:
    """Read a run's result.

    Raises:
        ResultsError: the file is missing, not JSON, of another format version or not shaped as a result.
    """
    try:
        value = read_json(path)
    except FileNotFoundError as error:
        raise ResultsError(f"no result at {path}, expected a run's result.json: has the run finished?") from error
    except (OSError, ValueError, RecursionError) as error:
        raise ResultsError(f"cannot read the result {path}: {error}, expected JSON written by semalign") from error
    if not isinstance(value, dict) or value.get("format") != RESULT_FORMAT:
        got = value.get("format") if isinstance(value, dict) else type(value).__name__
        raise ResultsError(
            f"the result {path} has format {got!r}, expected {RESULT_FORMAT}: read it with the version that wrote it"
        )
    try:
        raw = value["score"]
        score = None if raw is None else _read_score(raw)
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


def _read_score(raw: dict[str, Any]) -> Score:
    """Return a stored score; raises what the parts of a damaged one raise."""
    given = raw.get("given")
    if given is not None:
        return Score.of_figures(given["miou"], given["iou"], split=raw["split"])
    counts = np.asarray(raw["counts"], dtype=np.int64)
    n_images, n_classes = len(raw["images"]), len(raw["class_names"])
    # An empty list has no second axis.
    matrix = np.asarray(raw["confusion"] or np.zeros((0, 0)), dtype=np.int64)
    if counts.shape != (n_images, n_classes, 3) or matrix.shape not in ((n_classes, n_classes), (0, 0)):
        raise ValueError(f"counts of shape {counts.shape} for {n_images} images and {n_classes} classes")
    return Score(raw["split"], tuple(raw["class_names"]), tuple(raw["images"]), counts, matrix)
