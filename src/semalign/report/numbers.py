"""A study's folder as plain numbers: what was planned, what finished, failed or is missing, and how it was judged.

This module does not depend on sentences, Markdown, HTML or figures, and never imports torch.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from semalign.config.reader import flatten, merge, nested, read_yaml, validate
from semalign.config.study import StudyOptions
from semalign.errors import ResultsError, StudyError
from semalign.files import read_json
from semalign.judge import Judgement, Pilot
from semalign.judge import judge_pilot as judge_pilot_scores
from semalign.judge.contrasts import contrasts_of
from semalign.judge.growth import blocks_wanted, judge_study
from semalign.judge.pilot import pilot_doubts
from semalign.layout import FACTS, PILOT_RUNS, RESULT, RUNS, STUDY
from semalign.presets import PILOT_ARMS
from semalign.results import RunResult, Score, read_result
from semalign.wording import Text, read_note

__all__ = ["POWER", "RunKey", "StudyNumbers", "findings", "load_study", "score_of"]


RunKey: TypeAlias = tuple[str, int]
"""(arm, seed)"""


POWER = 0.8
"""Probability with which a true effect of 0 shall be called equivalent, where a resolvable margin is stated."""


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
        return score_of(next(iter(self.finished.values())))

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
        StudyError: it is not a study's folder, or the study has no finished run yet, or none of its baseline.
        ResultsError: a result is damaged, not planned, there twice, or scored on other images or classes.
        ConfigError: study.yaml does not describe a study.
    """
    path = folder / STUDY
    if not path.is_file():
        what = "no folder" if not folder.is_dir() else f"no {STUDY}"
        raise StudyError(
            f"{folder} is not a study's folder: there is {what}, expected the folder that `semalign study run` "
            "wrote to with --out"
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
        {key: score_of(result).miou for key, result in finished.items()} | dict.fromkeys(failed),
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


def score_of(result: RunResult) -> Score:
    """Return a finished run's score."""
    assert result.score is not None, "a finished run has a score, which _outcomes checks"
    return result.score


def _check_same_images(finished: Mapping[RunKey, RunResult]) -> None:
    first_key, first = next(iter(finished.items()))
    one = score_of(first)
    for key, result in finished.items():
        other = score_of(result)
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
        (score_of(one).miou, score_of(other).miou)
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
    if isinstance(item, Mapping) and "key" not in item:
        parts = [str(item[key]) for key in ("where", "evidence", "fix") if item.get(key)]
        return ": ".join(parts[:2]) + (f"; {parts[2]}" if len(parts) > 2 else "")
    return read_note(item)
