"""The score.json that a user's command leaves: a score, its curves, or why the run failed."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from semalign.errors import ConfigError, DataError, nearest
from semalign.judge.table import MOST_PIXELS, SAME_MIOU
from semalign.results import Curve, Score

__all__ = ["read_score"]

MOST_STEPS = 2**53
"""Greater whole numbers are not all numbers of floating point."""

_KEYS = ("miou", "iou", "counts", "images", "classes", "split", "curves", "failed")


def read_score(path: Path) -> tuple[Score | None, dict[str, Curve], str | None]:
    """Read a score.json: the score, the curves, and why the run failed.

    Either ``failed``, a sentence, and then no score; or ``miou`` in [0, 1], with ``iou`` by class name (null where the
    scored masks have no pixel of the class), or with ``counts`` (images x classes x 3 pixel counts TP, FP, FN) and the
    names of its ``images`` and ``classes``, from which the mIoU is then made, as for our own runs.  Any of them may
    have ``split``, the name of what was scored, and ``curves``, by name lists of (step, value).

    Raises:
        ConfigError: the file is not JSON, has an unknown name, lacks the score, has both a score and a failure, a value
            out of range, counts that do not fit, or a mIoU that is not that of its counts.
    """
    value = _json(path)
    for name in value:
        if name not in _KEYS:
            raise ConfigError(f"{path} has the unknown name '{name}'{nearest(name.lower(), _KEYS)}")
    curves = _curves(path, value.get("curves", {}))
    scored = [name for name in ("miou", "iou", "counts", "images", "classes") if name in value]
    if "failed" in value:
        failure = value["failed"]
        if not isinstance(failure, str) or not failure.strip():
            raise ConfigError(f"{path} has failed={failure!r}, expected a sentence that says why")
        if scored:
            raise ConfigError(f"{path} has both '{scored[0]}' and 'failed', expected a score or a failure")
        return None, curves, " ".join(failure.split())
    split = value.get("split", "val")
    if not isinstance(split, str) or not split:
        raise ConfigError(f"{path} has split={split!r}, expected a name")
    if "counts" in value:
        return _score_of_counts(path, value, split), curves, None
    for name in ("images", "classes"):
        if name in value:
            raise ConfigError(f"{path} has '{name}' without 'counts', to which it belongs: add them, or remove it")
    if "miou" not in value:
        raise ConfigError(f"{path} has no 'miou', expected a number in [0, 1], or 'failed' with the reason")
    iou = value.get("iou", {})
    if not isinstance(iou, dict):
        raise ConfigError(f"{path} has 'iou' as {type(iou).__name__}, expected a value in [0, 1] by class name")
    checked = {name: None if one is None else _fraction(path, f"iou of '{name}'", one) for name, one in iou.items()}
    return Score.of_figures(_fraction(path, "miou", value["miou"]), checked, split=split), curves, None


def _json(path: Path) -> dict[str, Any]:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            names = [name for name, _ in pairs]
            raise ValueError(f"'{next(name for name in names if names.count(name) > 1)}' is there twice")
        return found

    try:
        value = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=once)
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f'cannot read {path}: {error}, expected JSON such as {{"miou": 0.531}}') from error
    if not isinstance(value, dict):
        raise ConfigError(f'{path} holds {type(value).__name__}, expected a JSON object such as {{"miou": 0.531}}')
    return value


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _fraction(path: Path, name: str, value: Any) -> float:
    # Not of whole numbers, which may be too long to be one of floating point.
    if not _is_number(value) or (isinstance(value, float) and math.isnan(value)):
        raise ConfigError(f"{path} has {name} = {value!r}, expected a number in [0, 1]")
    if not 0 <= value <= 1:
        fix = ": divide percent by 100" if 1 < value <= 100 else ""
        raise ConfigError(f"{path} has {name} = {value!r}, expected a fraction in [0, 1]{fix}")
    return float(value)


def _score_of_counts(path: Path, value: Mapping[str, Any], split: str) -> Score:
    if "iou" in value:
        raise ConfigError(f"{path} has both 'iou' and 'counts', expected one of them: counts say what the IoU is")
    images, classes = (_names(path, value.get(name), name) for name in ("images", "classes"))
    try:
        raw = np.asarray(value["counts"])
    except ValueError:
        raw = np.asarray(None)
    if raw.dtype.kind != "i" or raw.shape != (len(images), len(classes), 3):
        got = f"shape {raw.shape}" if raw.dtype.kind in "iuf" else "rows of different lengths or no numbers"
        raise ConfigError(
            f"{path} has counts of {got}, expected whole numbers of pixels TP, FP, FN for each of {len(images)} images "
            f"and {len(classes)} classes"
        )
    for count in (raw.min(), raw.max()):
        if not 0 <= count <= MOST_PIXELS:
            raise ConfigError(f"{path} has a count of {count}, expected numbers of pixels from 0 to {MOST_PIXELS}")
    counts = raw.astype(np.int64)
    score = Score(split, classes, images, counts, np.zeros((0, 0), dtype=np.int64))
    try:
        miou = score.miou
    except DataError as error:
        raise ConfigError(f"{path} has no pixel of any class in its counts (TP + FN), expected at least one") from error
    if "miou" in value and abs(_fraction(path, "miou", value["miou"]) - miou) > SAME_MIOU:
        raise ConfigError(
            f"{path} has miou = {value['miou']!r} and counts whose mIoU is {miou:.6f}, expected the same: the mean "
            "over classes with a pixel in the scored masks of TP / (TP + FP + FN), each summed over all images"
        )
    return score


def _names(path: Path, value: Any, what: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not value or not all(isinstance(name, str) and name for name in value):
        raise ConfigError(f"{path} has counts and {what}={_short(value)}, expected a list of names")
    if len(set(value)) != len(value):
        raise ConfigError(f"{path} names one of its {what} twice, expected names that differ")
    return tuple(value)


def _curves(path: Path, value: Any) -> dict[str, Curve]:
    if not isinstance(value, dict):
        raise ConfigError(f"{path} has 'curves' as {type(value).__name__}, expected lists of [step, value] by name")
    return {name: _curve(path, name, points) for name, points in value.items()}


def _curve(path: Path, name: str, points: Any) -> Curve:
    where = f"{path} has in the curve '{name}'"
    if not isinstance(points, list):
        raise ConfigError(f"{where} {_short(points)}, expected a list of [step, value]")
    curve: Curve = []
    for point in points:
        if not isinstance(point, list) or len(point) != 2 or not all(_is_number(part) for part in point):
            raise ConfigError(f"{where} the point {_short(point)}, expected [step, value], two numbers")
        step, number = point
        if isinstance(step, float) or not 0 <= step <= MOST_STEPS or (curve and step <= curve[-1][0]):
            raise ConfigError(f"{where} the step {step!r}, expected whole numbers that grow")
        if not -sys.float_info.max <= number <= sys.float_info.max:
            raise ConfigError(
                f"{where} {number!r} at step {step}, expected a finite number: leave such points out, or say that the "
                "run failed"
            )
        curve.append((step, float(number)))
    return curve


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
