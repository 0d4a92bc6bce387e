"""A study's folder as plain numbers: what was planned, what finished, failed or is missing, and how it was judged.

Everything that a report computes is computed here or in `semalign.judge`.  This module knows nothing of sentences,
Markdown, HTML or figures, and never imports torch.
"""

from __future__ import annotations

import csv
import dataclasses
import functools
import io
import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from semalign.config.reader import flatten, merge, nested, read_yaml, validate
from semalign.config.study import StudyOptions
from semalign.errors import ResultsError, StudyError
from semalign.files import read_json
from semalign.judge import Estimate, Judgement, Pilot, Verdict
from semalign.judge import judge_pilot as judge_pilot_scores
from semalign.judge.contrasts import contrasts_of
from semalign.judge.growth import blocks_wanted, judge_study
from semalign.judge.pilot import pilot_doubts
from semalign.judge.statistics import blocks_needed, resolvable_margin, t_interval
from semalign.layout import FACTS, PILOT_RUNS, RESULT, RUNS, STUDY
from semalign.presets import PILOT_ARMS
from semalign.results import Curve, RunResult, Score, read_result
from semalign.wording import Message, Text

__all__ = [
    "Band",
    "Cost",
    "Gain",
    "Mean",
    "Needs",
    "SiteGroup",
    "StudyNumbers",
    "TextUse",
    "class_means",
    "cost_of",
    "curve_band",
    "findings",
    "load_study",
    "needs_of",
    "results_csv",
    "run_seconds",
    "site_band",
    "site_groups",
    "text_use",
    "timings_csv",
    "train_score",
]

RunKey: TypeAlias = tuple[str, int]
"""(arm, seed)"""

POWER = 0.8
"""Probability with which a true effect of 0 shall be called equivalent, where a resolvable margin is stated."""
FINE_MARGIN = 0.5
"""Points; the largest gain that the source document expects, for which the needed blocks are always stated."""

_RESERVED = ("arm", "seed", "miou", "miou_percent")
_MOST_POINTS = 80


# --- the folder -----------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class StudyNumbers:
    """Everything that a study's folder holds, judged.

    Attributes:
        folder: where it was read from.
        study: the resolved study.
        facts: plain facts of the whole study (command, data, versions, machine); empty where none were recorded.
        finished: finished runs by (arm, seed) in planned order, each with a score.
        failed: failed runs by (arm, seed) in planned order.
        missing: planned runs without an outcome, in planned order.
        pilot: noise of identical recipes; None without two complete blocks of it.
        pilot_blocks: (complete, started) blocks of the pilot.
        judgement: of all planned effects.
    """

    folder: Path
    study: StudyOptions
    facts: Mapping[str, Any]
    finished: Mapping[RunKey, RunResult]
    failed: Mapping[RunKey, RunResult]
    missing: tuple[RunKey, ...]
    pilot: Pilot | None
    pilot_blocks: tuple[int, int]
    judgement: Judgement

    @property
    def arms(self) -> tuple[str, ...]:
        """The planned arms in planned order."""
        return tuple(self.study.arms)

    @property
    def score(self) -> Score:
        """Any finished run's score: classes, images and absent classes are the same for all (checked on loading)."""
        return _score(next(iter(self.finished.values())))

    @property
    def wanted(self) -> int:
        """Blocks that the study is to have now: those planned, or those of its next look, or those it ended with."""
        if self.study.looks is None:
            return self.study.blocks
        return blocks_wanted(self.judgement, futility=self.study.futility)

    @property
    def judged_seeds(self) -> tuple[int, ...]:
        """The blocks that the judgement rests on: with looks, those of the last one that has been reached."""
        moments, seeds = self.judgement.moments, self.judgement.seeds
        return seeds[: max((n for n in moments if n <= len(seeds)), default=0)] if moments else seeds

    @property
    def has_images(self) -> bool:
        """Whether runs hold counts per image; those of a user's own command may hold a score alone."""
        return bool(self.score.images) and bool(self.score.counts.size)

    @functools.cached_property
    def leaking(self) -> frozenset[str]:
        """Arms whose texts are made from the masks that are scored."""
        return frozenset(arm for arm in self.arms if self.text_of(arm).get("leaking") is True)

    def runs_of(self, arm: str) -> tuple[RunResult, ...]:
        """Return the arm's finished runs in order of seeds."""
        return self._finished_by_arm.get(arm, ())

    @functools.cached_property
    def _finished_by_arm(self) -> dict[str, tuple[RunResult, ...]]:
        """Found once: a page asks thousands of times."""
        return _by_arm(self.finished)

    @functools.cached_property
    def _failed_by_arm(self) -> dict[str, tuple[RunResult, ...]]:
        return _by_arm(self.failed)

    def options_of(self, arm: str) -> dict[str, Any]:
        """Return, by dotted name, what the study sets for the arm; options left at their defaults are not in it."""
        return flatten(merge(nested(self.study.options), nested(self.study.arms[arm])))

    def own_options_of(self, arm: str) -> dict[str, Any]:
        """Return, by dotted name, the options in which the arm differs from the study's."""
        return flatten(nested(self.study.arms[arm]))

    def text_of(self, arm: str) -> dict[str, Any]:
        """Return the facts of the arm's text: kind, shared, leaking, ...; before its first run only what is planned."""
        for run in (*self.runs_of(arm), *self._failed_by_arm.get(arm, ())):
            text = run.facts.get("text")
            if isinstance(text, dict):
                return text
        kind = self.options_of(arm).get("data.text")
        return {} if kind is None else {"kind": kind, "leaking": kind == "masks"}


def _by_arm(runs: Mapping[RunKey, RunResult]) -> dict[str, tuple[RunResult, ...]]:
    found: dict[str, list[RunResult]] = {}
    for (arm, _), result in runs.items():
        found.setdefault(arm, []).append(result)
    return {arm: tuple(results) for arm, results in found.items()}


def load_study(folder: Path) -> StudyNumbers:
    """Read and judge a study's folder.

    Raises:
        StudyError: it is no study's folder, or the study has no finished run yet, or none of its baseline.
        ResultsError: a result is damaged, not planned, there twice, or scored on other images or classes.
        ConfigError: study.yaml is no study.
    """
    path = folder / STUDY
    if not path.is_file():
        what = "no folder" if not folder.is_dir() else f"no {STUDY}"
        raise StudyError(
            f"{folder} is no study's folder: there is {what}, expected the folder that `semalign study run` wrote to "
            "with --out"
        )
    study = validate(StudyOptions, read_yaml(path), str(path))
    planned = [(arm, seed) for arm in study.arms for seed in range(study.blocks)]
    outcomes = _outcomes(folder / RUNS, frozenset(planned), f"{STUDY} plans")
    finished = {key: outcomes[key] for key in planned if key in outcomes and outcomes[key].status == "finished"}
    failed = {key: outcomes[key] for key in planned if key in outcomes and outcomes[key].status == "failed"}
    missing = tuple(key for key in planned if key not in outcomes)
    if not finished:
        raise StudyError(
            f"the study {folder} has no finished run ({len(failed)} failed, {len(missing)} of {len(planned)} not run), "
            "expected at least one of the baseline: start `semalign study run` with the same --out"
        )
    _check_same_images(finished)
    contrasts = contrasts_of(study.effects, study.arms, study.baseline, study.levels)
    judgement = judge_study(
        {key: _score(result).miou for key, result in finished.items()} | dict.fromkeys(failed),
        tuple(study.arms),
        baseline=study.baseline,
        contrasts=contrasts,
        margin=study.margin,
        alpha=study.alpha,
        seeds=study.seeds,
        looks=study.looks,
    )
    effects = sum(contrast.family == "primary" for contrast in contrasts)
    pilot, blocks = _pilot(folder / PILOT_RUNS, study, outcomes, max(1, effects))
    if pilot is not None:
        judgement = dataclasses.replace(judgement, notes=(*judgement.notes, *pilot_doubts(pilot, judgement)))
    numbers = StudyNumbers(
        folder=folder,
        study=study,
        facts=_facts(folder / FACTS) or {},
        finished=finished,
        failed=failed,
        missing=missing,
        pilot=pilot,
        pilot_blocks=blocks,
        judgement=judgement,
    )
    # Blocks beyond the next look are not missing: the study may end before them.
    return dataclasses.replace(numbers, missing=tuple(key for key in missing if key[1] < numbers.wanted))


def _outcomes(folder: Path, planned: frozenset[RunKey], who: str) -> dict[RunKey, RunResult]:
    """Return the results below ``folder`` by (arm, seed)."""
    results: dict[RunKey, RunResult] = {}
    for path in sorted(folder.glob(f"*/seed-*/{RESULT}")):
        result = read_result(path)
        key = (result.arm, result.seed)
        if key not in planned:
            raise ResultsError(
                f"{path} holds a run of arm '{result.arm}' with seed {result.seed}, expected one that {who}: "
                "move it out of the study's folder"
            )
        if key in results:
            raise ResultsError(
                f"{path} holds a second run of arm '{result.arm}' with seed {result.seed}, expected one: "
                "move the one that does not belong out of the study's folder"
            )
        if result.status not in ("finished", "failed") or (result.status == "finished" and result.score is None):
            raise ResultsError(
                f"{path} has the status {result.status!r} and {'no' if result.score is None else 'a'} score, "
                "expected 'finished' with one or 'failed': write the run again"
            )
        if result.score is not None:
            try:
                _ = result.score.miou
            except ValueError as error:
                raise ResultsError(f"{path} has no mean IoU: {error}, expected labelled pixels") from error
        results[key] = result
    return results


def _score(result: RunResult) -> Score:
    assert result.score is not None, "a finished run has a score, which _outcomes checks"
    return result.score


def _check_same_images(finished: Mapping[RunKey, RunResult]) -> None:
    first_key, first = next(iter(finished.items()))
    one = _score(first)
    for key, result in finished.items():
        other = _score(result)
        for what, left, right in (
            ("on split", one.split, other.split),
            ("with the classes", one.class_names, other.class_names),
            ("on the images", one.images, other.images),
            ("with the absent classes", one.absent, other.absent),
        ):
            if left != right:
                raise ResultsError(
                    f"arm '{key[0]}', seed {key[1]} was scored {what} {_short(right)} and arm '{first_key[0]}', "
                    f"seed {first_key[1]} {what} {_short(left)}, expected the same for all runs of a study: "
                    "run the ones that differ again"
                )


def _short(value: str | Sequence[str]) -> str:
    if isinstance(value, str):
        return repr(value)
    return f"({len(value)}) {', '.join(value[:3])}{', ...' if len(value) > 3 else ''}"


def _facts(path: Path) -> dict[str, Any] | None:
    try:
        value = read_json(path)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise ResultsError(f"cannot read {path}: {error}, expected JSON written by semalign") from error
    if not isinstance(value, dict):
        raise ResultsError(f"{path} holds {type(value).__name__}, expected a JSON object: move it away")
    return value


def _pilot(
    folder: Path, study: StudyOptions, runs: Mapping[RunKey, RunResult], effects: int
) -> tuple[Pilot | None, tuple[int, int]]:
    """Return the pilot's judgement and its numbers of complete and of started blocks.

    Where the pilot has no first run of its own, the study's run of the baseline is it: the recipe is the same.
    """
    # A pilot of another length than study.yaml says is a pilot all the same.
    planned = frozenset((arm, seed) for arm in PILOT_ARMS for seed in range(10000))
    outcomes = _outcomes(folder, planned, f"is a pilot's: {' or '.join(PILOT_ARMS)}")
    started = sorted({seed for _, seed in outcomes})
    for seed in started:
        if (study.baseline, seed) in runs:
            outcomes.setdefault((PILOT_ARMS[0], seed), runs[study.baseline, seed])
    pairs = [
        (_score(one).miou, _score(other).miou)
        for seed in started
        if (one := outcomes.get((PILOT_ARMS[0], seed))) is not None
        and (other := outcomes.get((PILOT_ARMS[1], seed))) is not None
        and one.status == other.status == "finished"
    ]
    blocks = (len(pairs), len(started))
    if len(pairs) < 2:
        return None, blocks
    first, second = zip(*pairs, strict=True)
    lengths = sorted({n for n in (study.blocks, 5, 8, 12) if n >= 2})
    try:
        return judge_pilot_scores(
            first, second, alpha=study.alpha, m=effects, power=POWER, planned_blocks=lengths
        ), blocks
    except StudyError:  # no margin has this power at such an alpha
        return None, blocks


# --- CSV ------------------------------------------------------------------------------------------


def results_csv(numbers: StudyNumbers) -> str:
    """Return results.csv: arm, seed, miou and IoU by class in [0, 1], a row for every run with an outcome.

    Rows stand in planned order, arm by arm.  An absent class and a failed run have empty cells; a run that was not run
    has no row; so that judging this file gives the study's judgement.  A class whose name is that of another column
    gets the prefix ``iou ``.
    """
    names = numbers.score.class_names
    heads = [f"iou {name}" if name in _RESERVED else name for name in names]
    rows: list[list[str]] = [["arm", "seed", "miou", *heads]]
    for arm in numbers.arms:
        for seed in range(numbers.study.blocks):
            if (arm, seed) in numbers.finished:
                score = _score(numbers.finished[arm, seed])
                iou = score.iou
                cells = [repr(iou[name]) if name in iou else "" for name in names]
                rows.append([arm, str(seed), repr(score.miou), *cells])
            elif (arm, seed) in numbers.failed:
                rows.append([arm, str(seed), "", *("" for _ in names)])
    return _csv(rows)


def timings_csv(numbers: StudyNumbers) -> str:
    """Return timings.csv: arm, seed and wall-clock seconds by part, a row for every run with an outcome."""
    outcomes = {**numbers.finished, **numbers.failed}
    parts = sorted({part for result in outcomes.values() for part in result.timings})
    rows: list[list[str]] = [["arm", "seed", *parts]]
    for arm in numbers.arms:
        for seed in range(numbers.study.blocks):
            result = outcomes.get((arm, seed))
            if result is not None:
                cells = [repr(result.timings[part]) if part in result.timings else "" for part in parts]
                rows.append([arm, str(seed), *cells])
    return _csv(rows)


def _csv(rows: Iterable[Sequence[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


# --- does the model use its text? -----------------------------------------------------------------

Answer: TypeAlias = Literal[
    "yes",
    "branch, no control",
    "branch, open",
    "branch only",
    "no",
    "not its meaning",
    "no gain",
    "harm of meaning",
    "harm",
    "unknown",
    "no control",
    "no text",
]


@dataclasses.dataclass(frozen=True)
class Gain:
    """What the text gives over a control, in mIoU points: the control's contrast, turned so that text comes first.

    Attributes:
        control: "no text" or "random vectors", whatever the arms are called.
        arm: the arm with text.
        against: the arm without.
        mean: None without a complete block.
        low: lower end of the interval that judges direction; None with fewer than two complete blocks.
        high: upper end.
        word: the verdict, seen from the arm with text.
        below_margin: see `Verdict`.
    """

    control: Literal["no text", "random vectors"]
    arm: str
    against: str
    mean: float | None
    low: float | None
    high: float | None
    word: str
    below_margin: bool


@dataclasses.dataclass(frozen=True)
class TextUse:
    """Whether the model uses its text at all, as far as the controls can tell.

    Attributes:
        answer: a code.
        arm: the arm that the answer is about.
        gains: over the controls that were judged.
        shared: all images share one bank, which then says nothing about any single image.
    """

    answer: Answer
    arm: str
    gains: tuple[Gain, ...]
    shared: bool


def text_use(numbers: StudyNumbers) -> TextUse:
    """Return what the controls say about the use of text.

    A control is an arm that differs from the baseline in ``data.text`` alone.  Where the baseline itself has no text,
    the first arm that differs from it in nothing but having some is compared with it.
    """
    baseline = numbers.study.baseline
    if numbers.text_of(baseline).get("kind") == "none":
        for arm in numbers.arms:
            own, judged = numbers.own_options_of(arm), numbers.judgement.of_arm(arm)
            if set(own) == {"data.text"} and own["data.text"] in ("classes", "images") and judged is not None:
                gain = _gain("no text", arm, baseline, *judged, turn=False)
                return TextUse(_answer(gain.word, None), arm, (gain,), bool(numbers.text_of(arm).get("shared")))
        return TextUse("no text", baseline, (), False)
    gains: dict[str, Gain] = {}
    controls: dict[str, Literal["no text", "random vectors"]] = {"none": "no text", "random": "random vectors"}
    for arm in numbers.arms:
        own, judged = numbers.own_options_of(arm), numbers.judgement.of_arm(arm)
        kind = own.get("data.text")
        if set(own) == {"data.text"} and kind in controls and judged is not None:
            gains[controls[kind]] = _gain(controls[kind], baseline, arm, *judged, turn=True)
    words = [gains[control].word if control in gains else None for control in controls.values()]
    shared = bool(numbers.text_of(baseline).get("shared"))
    return TextUse(_answer(*words), baseline, tuple(gains.values()), shared)


def _gain(
    control: Literal["no text", "random vectors"],
    arm: str,
    against: str,
    estimate: Estimate,
    verdict: Verdict,
    *,
    turn: bool,
) -> Gain:
    if not turn:
        return Gain(
            control, arm, against, estimate.mean, estimate.low, estimate.high, verdict.word, verdict.below_margin
        )
    word = {"better": "worse", "worse": "better"}.get(verdict.word, verdict.word)
    mean, low, high = (None if value is None else -value for value in (estimate.mean, estimate.high, estimate.low))
    return Gain(control, arm, against, mean, low, high, word, verdict.below_margin)


def _answer(branch: str | None, meaning: str | None) -> Answer:
    """Return the answer from the verdicts, with text against no text and against random vectors; None: no control."""
    if meaning == "better":
        return "yes"
    if meaning == "worse":
        return "harm of meaning"
    if branch == "worse":
        return "harm"
    if meaning == "equivalent":
        return {"better": "branch only", "equivalent": "no"}.get(branch or "", "not its meaning")  # type: ignore[return-value]
    if branch == "better":
        return "branch, no control" if meaning is None else "branch, open"
    if branch == "equivalent":
        return "no gain"
    return "no control" if branch is None and meaning is None else "unknown"


# --- arms -----------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Mean:
    """A mean over runs and the half width of its t interval (None with one run), both in points."""

    mean: float
    half: float | None
    n: int


def mean_of(values: Sequence[float], level: float) -> Mean | None:
    """Return mean and half width of the t interval of coverage ``level``; None without values."""
    if not values:
        return None
    if len(values) == 1:
        return Mean(values[0], None, 1)
    mean, _, _, _, low, _ = t_interval(values, level)
    return Mean(float(mean), float(mean - low), len(values))


def class_means(numbers: StudyNumbers, arm: str) -> dict[str, Mean]:
    """Return the arm's IoU by class, in points, over its finished runs; absent classes are left out."""
    runs = [_score(run).iou for run in numbers.runs_of(arm)]
    means: dict[str, Mean] = {}
    for name in numbers.score.class_names:
        mean = mean_of([100 * iou[name] for iou in runs if name in iou], 1 - numbers.study.alpha)
        if mean is not None:
            means[name] = mean
    return means


@dataclasses.dataclass(frozen=True)
class Cost:
    """What an arm costs and how it fits; None where it was not recorded.

    Attributes:
        parameters: learnable numbers; more than one value where runs differ, which they should not.
        steps: optimizer steps, likewise.
        seconds: median wall-clock seconds of a finished run.
        train: mIoU points of the scored weights on a subset of the training images.
        gap: per-run difference of ``train`` and the scored mIoU, points.
    """

    parameters: tuple[int, ...]
    steps: tuple[int, ...]
    seconds: float | None
    train: Mean | None
    gap: Mean | None


def run_seconds(result: RunResult) -> float | None:
    """Return a run's wall-clock seconds: the part "total" where there is one, else the sum of the parts."""
    if not result.timings:
        return None
    return result.timings.get("total", sum(result.timings.values()))


def median_seconds(results: Iterable[RunResult]) -> float | None:
    """Return the median of `run_seconds`; None where no run recorded any."""
    seconds = [value for result in results if (value := run_seconds(result)) is not None]
    return statistics.median(seconds) if seconds else None


def cost_of(numbers: StudyNumbers, arm: str) -> Cost:
    """Return what the arm's finished runs recorded about their cost."""
    runs = numbers.runs_of(arm)
    level = 1 - numbers.study.alpha
    fits = [(100 * train, 100 * _score(run).miou) for run in runs if (train := train_score(run.facts)) is not None]
    return Cost(
        parameters=_distinct(runs, "parameters"),
        steps=_distinct(runs, "steps"),
        seconds=median_seconds(runs),
        train=mean_of([train for train, _ in fits], level),
        gap=mean_of([train - scored for train, scored in fits], level),
    )


def train_score(facts: Mapping[str, Any]) -> float | None:
    """Return the mIoU in [0, 1] on training images, stored as a number or with the number of images."""
    value = facts.get("train_score")
    if isinstance(value, Mapping):
        value = value.get("miou")
    return float(value) if isinstance(value, (int, float)) else None


def _distinct(runs: Iterable[RunResult], name: str) -> tuple[int, ...]:
    return tuple(sorted({run.facts[name] for run in runs if isinstance(run.facts.get(name), int)}))


def findings(numbers: StudyNumbers) -> tuple[tuple[Text, tuple[str, ...]], ...]:
    """Return what the runs noted or the audit found, each sentence once with the arms that it concerns."""
    said: dict[str, Text] = {}
    arms: dict[str, set[str]] = {}
    for (arm, _), run in (*numbers.finished.items(), *numbers.failed.items()):
        audit = run.facts.get("audit")
        if isinstance(audit, dict):
            audit = audit.get("findings")
        for item in (*_list(audit), *_list(run.facts.get("notes"))):
            found = _finding(item)
            if sentence := str(found):
                said.setdefault(sentence, found)
                arms.setdefault(sentence, set()).add(arm)
    return tuple((found, tuple(arm for arm in numbers.arms if arm in arms[key])) for key, found in said.items())


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _finding(item: Any) -> Text:
    """Return a note of a run as a message, and a finding of the audit as a text."""
    if isinstance(item, Mapping) and "key" in item:
        try:
            message = Message.from_dict(item)
            str(message)
        except (KeyError, TypeError, ValueError):  # damaged, or a sentence of another version
            return str(item.get("text", item["key"]))
        return message
    if isinstance(item, Mapping):
        parts = [str(item[key]) for key in ("where", "evidence", "fix") if item.get(key)]
        return ": ".join(parts[:2]) + (f"; {parts[2]}" if len(parts) > 2 else "")
    return str(item)


# --- what a budget resolves -----------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Needs:
    """What one effect would take to decide, at the spread that was seen.

    Attributes:
        contrast: the effect's name.
        sd: standard deviation over blocks, points; this and all below is None with fewer than two complete blocks.
        resolved: margin that as many blocks as were planned resolve with probability `POWER`, points.
        margins: by margin (points), blocks of a new study that decides at it, and hours of its runs one after another
            (None where no run recorded its time); empty where none can.
    """

    contrast: str
    family: str
    sd: float | None
    resolved: float | None
    margins: dict[float, tuple[int, float | None]]


def needs_of(numbers: StudyNumbers) -> tuple[Needs, ...]:
    """Return for every effect which margin this budget resolves, and what the study's margin and ±0.5 would take."""
    judgement, study = numbers.judgement, numbers.study
    needs = []
    for estimate in judgement.estimates:
        contrast, sd, m = estimate.contrast, estimate.sd, judgement.families[estimate.contrast.family]
        if sd is None:
            needs.append(Needs(contrast.name, contrast.family, None, None, {}))
            continue
        try:
            resolved = float(resolvable_margin(sd, study.blocks, study.alpha, m, POWER))
        except StudyError:  # one block, or an alpha at which no margin has this power
            resolved = None
        seconds = [median_seconds(numbers.runs_of(arm)) for arm in contrast.weights]
        block = None if None in seconds else sum(value for value in seconds if value is not None)
        margins: dict[float, tuple[int, float | None]] = {}
        for margin in sorted({study.margin, FINE_MARGIN}, reverse=True):
            try:
                blocks = int(blocks_needed(sd, margin, study.alpha, m))
            except StudyError:  # out of reach
                continue
            margins[margin] = (blocks, None if block is None else blocks * block / 3600)
        needs.append(Needs(contrast.name, contrast.family, sd, resolved, margins))
    return tuple(needs)


# --- curves ---------------------------------------------------------------------------------------

Floats: TypeAlias = NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class Band:
    """A curve of an arm: over optimizer steps the mean over its finished runs, the lowest and the highest."""

    steps: Floats
    mean: Floats
    low: Floats
    high: Floats
    runs: int


@dataclasses.dataclass(frozen=True, order=True)
class SiteGroup:
    """Alignment sites that are shown together: one stage of the encoder, one level of the decoder.

    Attributes:
        side: "encoder", "decoder", or "other" for a site of a model that is not ours.
        index: stage or level; 0 for "other".
        site: the site's own path for "other", else "".
    """

    side: str
    index: int
    site: str = ""


_STAGE = re.compile(r"(?:^|\.)stages\.(\d+)\.")
_LEVEL = re.compile(r"(?:^|\.)alignments\.(\d+)(?:\.|$)")


@functools.lru_cache(maxsize=1024)
def group_of(site: str) -> SiteGroup:
    """Return the group of an alignment site.

    >>> group_of("visual_encoder.stages.1.blocks.0.alignment")
    SiteGroup(side='encoder', index=1, site='')
    >>> group_of("decoder.alignments.2")
    SiteGroup(side='decoder', index=2, site='')
    """
    if match := _STAGE.search(site):
        return SiteGroup("encoder", int(match[1]))
    if match := _LEVEL.search(site):
        return SiteGroup("decoder", int(match[1]))
    return SiteGroup("other", 0, site)


def _sites(run: RunResult, quantity: str) -> Iterable[tuple[SiteGroup, Curve]]:
    for name, curve in run.curves.items():
        site, slash, what = name.rpartition("/")
        if slash and what == quantity and site not in ("train", "val"):
            yield group_of(site), curve


def site_groups(numbers: StudyNumbers, quantity: str) -> tuple[SiteGroup, ...]:
    """Return the groups of which any finished run recorded ``quantity``: encoder by stage, then decoder by level."""
    found = {group for run in numbers.finished.values() for group, _ in _sites(run, quantity)}
    order = ("encoder", "decoder", "other")
    return tuple(sorted(found, key=lambda group: (order.index(group.side), group.index, group.site)))


def site_band(numbers: StudyNumbers, arm: str, group: SiteGroup, quantity: str) -> Band | None:
    """Return the band of ``quantity``, averaged over the group's sites within each run; None where not recorded."""
    return _band(
        [point for found, curve in _sites(run, quantity) if found == group for point in curve]
        for run in numbers.runs_of(arm)
    )


def curve_band(numbers: StudyNumbers, arm: str, name: str) -> Band | None:
    """Return the band of the curve ``name``, such as "train/loss"; None where not recorded."""
    return _band([run.curves.get(name, []) for run in numbers.runs_of(arm)])


def _band(curves: Iterable[Curve]) -> Band | None:
    """Return the band over runs; a run's points of one step, or of one of `_MOST_POINTS` windows, are averaged."""
    runs = [np.asarray(curve, dtype=np.float64) for curve in curves if curve]
    if not runs:
        return None
    steps = np.unique(np.concatenate([run[:, 0] for run in runs]))
    if len(steps) > _MOST_POINTS:
        edges = np.linspace(steps[0], steps[-1], _MOST_POINTS + 1)
        place = [np.searchsorted(edges[1:-1], run[:, 0], side="right") for run in runs]
        centres = (edges[:-1] + edges[1:]) / 2
    else:
        place = [np.searchsorted(steps, run[:, 0]) for run in runs]
        centres = steps
    total = np.zeros((len(runs), len(centres)))
    count = np.zeros_like(total)
    for row, (run, at) in enumerate(zip(runs, place, strict=True)):
        np.add.at(total[row], at, run[:, 1])
        np.add.at(count[row], at, 1)
    seen = count.sum(axis=0) > 0
    # A run without a value in a window takes no part there.
    values = np.ma.masked_array(total / np.maximum(count, 1), mask=count == 0)[:, seen]
    return Band(
        centres[seen],
        np.asarray(values.mean(axis=0), dtype=np.float64),
        np.asarray(values.min(axis=0), dtype=np.float64),
        np.asarray(values.max(axis=0), dtype=np.float64),
        len(runs),
    )
