"""What a study's folder says about the source document's statements, as `semalign.judge.evidence` takes it.

Arms are told apart by their options, not by their names, so that a factorial, a value-matched study or a user's own
arms are read like the document's four.  A field is None where the study does not answer it.  This module does not
depend on answers or sentences.
"""

from __future__ import annotations

import dataclasses
import math
import re
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from semalign.config.reader import flatten
from semalign.judge import Estimate
from semalign.judge.evidence import (
    AlignmentCost,
    Change,
    Effect,
    Evidence,
    Failures,
    Fusion,
    effect_of,
    paired_change,
    spread_ratio,
)
from semalign.judge.statistics import paired_failure_test
from semalign.judge.types import Word
from semalign.presets import INIT_ONCE_LEARNABLE, LEARNABLE_KNOBS, PRESETS, PresetName, Side
from semalign.report.arms import train_score
from semalign.report.curves import SiteGroup, group_of
from semalign.report.numbers import StudyNumbers
from semalign.results import Curve, RunResult

__all__ = [
    "SPIKE",
    "Knobs",
    "Sides",
    "gate_effects",
    "knobs_of",
    "learnable_start",
    "loss_spikes",
    "steps_to_share",
    "study_evidence",
]

SPIKE = 1.5
"""A recorded loss above this many times the median of the nine recorded before it is a spike."""

_MORE = ("train.epochs", "data.n_train")
"""Options by which a study varies how much is trained on."""


# --- arms by their knobs --------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Knobs:
    """An arm as the document sees it.

    Attributes:
        encoder_temperature: learnable.
        encoder_gate: learnable.
        decoder_temperature: learnable.
        decoder_gate: learnable.
        starts: the logarithm at which a learnable temperature of the encoder and of the decoder starts.
        rest: all else that the study sets, `_MORE` left out; equal for arms that differ in knobs alone.
        more: what the study sets of `_MORE`.
    """

    encoder_temperature: bool
    encoder_gate: bool
    decoder_temperature: bool
    decoder_gate: bool
    starts: tuple[float, float]
    rest: tuple[tuple[str, str], ...]
    more: tuple[float, ...]


def knobs_of(numbers: StudyNumbers, arm: str) -> Knobs:
    """Return which knobs learn in the arm."""
    options = numbers.options_of(arm)
    named = options.get("model.preset", "recommended")
    preset: PresetName = named if named in PRESETS else "recommended"
    sides = PRESETS[preset]
    flags = [
        bool(options.get(f"align.{side}.{knob}.learnable", getattr(sides[side], knob).learnable))
        for side in get_args(Side)
        for knob in ("temperature", "gate")
    ]
    begin = [
        float(options.get(f"align.{side}.temperature.init", learnable_start(preset, side))) for side in get_args(Side)
    ]
    left = {name: repr(value) for name, value in options.items() if name not in (*LEARNABLE_KNOBS, *_MORE)}
    if arm in numbers.study.matched:
        left["matched"] = numbers.study.matched[arm]
    more = tuple(_amount(numbers, arm, name) for name in _MORE)
    return Knobs(flags[0], flags[1], flags[2], flags[3], (begin[0], begin[1]), tuple(sorted(left.items())), more)


def learnable_start(preset: PresetName, side: Side) -> float:
    """Return the logarithm at which a learnable temperature of the preset starts to work: clamped, where it clamps."""
    temperature = PRESETS[preset][side].temperature
    low, high = temperature.bounds or (-math.inf, math.inf)
    return min(max(INIT_ONCE_LEARNABLE.get((preset, side), temperature.init), low), high)


def _amount(numbers: StudyNumbers, arm: str, name: str) -> float:
    """Return the arm's value of an option of `_MORE`; one that the study leaves open as a finished run resolved it."""
    options = numbers.options_of(arm)
    if name in options:
        return float(options[name])
    for other in (arm, *numbers.arms):
        if name not in numbers.options_of(other):
            for run in numbers.runs_of(other):
                value = flatten(run.facts.get("config", {})).get(name)
                if value is not None:
                    return float(value)
    # Not recorded: a folder has no number of scenes, and an arm without a run has no effect that is judged.
    return 0.0


Weights: TypeAlias = Mapping[str, float]


@dataclasses.dataclass(frozen=True)
class Sides:
    """Two groups of arms that differ in one thing: by arm its weight, adding up to 1 on each side."""

    learnable: Weights
    fixed: Weights


@dataclasses.dataclass(frozen=True)
class _Arms:
    """All arms' knobs, with sums over a contrast."""

    knobs: Mapping[str, Knobs]

    def sum(self, weights: Weights, value: Callable[[Knobs], float]) -> float:
        return round(sum(weight * value(self.knobs[arm]) for arm, weight in weights.items()), 9)

    def balanced(self, weights: Weights) -> bool:
        """Whether everything but the knobs drops out of the contrast."""
        groups: dict[tuple[Any, ...], float] = {}
        for arm, weight in weights.items():
            key = (self.knobs[arm].rest, self.knobs[arm].more)
            groups[key] = groups.get(key, 0.0) + weight
        return all(abs(total) < 1e-9 for total in groups.values())

    def temperature(self, weights: Weights) -> float:
        """Return +1 or -1 where the contrast is the effect of the encoder's temperature alone, else 0."""
        others = (lambda k: k.encoder_gate, lambda k: k.decoder_temperature, lambda k: k.decoder_gate)
        sign = self.sum(weights, lambda k: k.encoder_temperature)
        alone = abs(sign) == 1 and not any(self.sum(weights, other) for other in others)
        return sign if alone and self.balanced(weights) else 0.0

    def gates(self, weights: Weights) -> tuple[float, float]:
        """Return by how much the gates of encoder and decoder learn more, where the contrast changes gates alone."""
        others = (lambda k: k.encoder_temperature, lambda k: k.decoder_temperature)
        if any(self.sum(weights, other) for other in others) or not self.balanced(weights):
            return (0.0, 0.0)
        return self.sum(weights, lambda k: k.encoder_gate), self.sum(weights, lambda k: k.decoder_gate)

    def pair(self, baseline: str) -> tuple[str, str] | None:
        """Return two arms that differ in the encoder's temperature alone, learnable first; the baseline's if it has."""
        order = [baseline, *(arm for arm in self.knobs if arm != baseline)]
        for one in order:
            for other in order:
                first, second = self.knobs[one], self.knobs[other]
                if not first.encoder_temperature and second == dataclasses.replace(first, encoder_temperature=True):
                    return other, one
        return None


# --- evidence -------------------------------------------------------------------------------------


def study_evidence(numbers: StudyNumbers) -> Evidence:
    """Return what the study says about the document's statements.

    The effects are the judged ones.  Everything else compares the arms with a learnable encoder temperature with those
    where it is fixed, over blocks in which all of them finished, at the level 1 - alpha each.
    """
    study = numbers.study
    none = Evidence(study.margin, study.alpha, metric=numbers.judgement.metric)
    if study.command is not None:
        return none  # the options of a user's own command mean what they mean to it
    arms = _Arms({arm: knobs_of(numbers, arm) for arm in numbers.arms})
    judgement = numbers.judgement
    judged = [
        (estimate, effect_of(estimate, verdict, judgement.left_out))
        for estimate, verdict in zip(judgement.estimates, judgement.verdicts, strict=True)
    ]

    gain, sides = _gain(arms, judged)
    pair = arms.pair(study.baseline)
    if sides is None and pair is not None:
        sides = Sides({pair[0]: 1.0}, {pair[1]: 1.0})
    gates = _gate_sides(arms, judged)
    evidence = dataclasses.replace(
        none,
        gain=gain,
        fixed_gates=_fixed_gates(arms, judged),
        competition=_competition(numbers, arms, judged),
        value_matched=_value_matched(numbers, judged),
        with_more=_with_more(arms, judged),
        gates=_ends(_taken(numbers, arms, "gate")),
        log_scales=_ends(_taken(numbers, arms, "scale")),
        log_scale_starts=_ends(seen[:1] for seen in _taken(numbers, arms, "scale")),
        encoder=_cost(numbers, "encoder"),
        decoder=_cost(numbers, "decoder"),
    )
    if pair is not None:
        evidence = dataclasses.replace(
            evidence,
            parameters=_parameters(numbers, *pair),
            spread=_spread(numbers, *pair),
            failures=_failures(numbers, *pair),
        )
    if sides is None:
        return evidence
    return dataclasses.replace(
        evidence,
        gap=_paired(numbers, sides, _gap),
        spikes=_paired(numbers, sides, _spikes),
        gradients=_gradients(numbers, sides),
        steps_to_90=_paired(numbers, sides, lambda run: steps_to_share(run.curves.get("val/miou", []), 0.9)),
        fusion=None if gates is None else _fusion(numbers, gates, sides),
    )


Judged: TypeAlias = Sequence[tuple[Estimate, Effect]]


def _gain(arms: _Arms, judged: Judged) -> tuple[Effect | None, Sides | None]:
    for estimate, effect in judged:
        weights = estimate.contrast.weights
        sign = arms.temperature(weights)
        if sign:
            return _signed(effect, sign), _sides(weights, sign)
    return None, None


def _sides(weights: Weights, sign: float) -> Sides:
    up = {arm: sign * weight for arm, weight in weights.items() if sign * weight > 0}
    down = {arm: -sign * weight for arm, weight in weights.items() if sign * weight < 0}
    return Sides(up, down)


def _fixed_gates(arms: _Arms, judged: Judged) -> Effect | None:
    """Return the effect of fixing both gates."""
    for estimate, effect in judged:
        encoder, decoder = arms.gates(estimate.contrast.weights)
        if encoder == decoder and abs(encoder) == 1:
            return _signed(effect, -encoder)
    return None


def gate_effects(numbers: StudyNumbers) -> tuple[str, ...]:
    """Return the names of judged effects of one gate alone, as a factorial has them."""
    if numbers.study.command is not None:
        return ()
    arms = _Arms({arm: knobs_of(numbers, arm) for arm in numbers.arms})
    found = []
    for estimate in numbers.judgement.estimates:
        encoder, decoder = arms.gates(estimate.contrast.weights)
        if sorted((abs(encoder), abs(decoder))) == [0, 1]:
            found.append(estimate.contrast.name)
    return tuple(found)


def _gate_sides(arms: _Arms, judged: Judged) -> Sides | None:
    """Return arms whose encoder gates learn against such whose are fixed, the decoder's fixed with it or not."""
    for estimate, _ in judged:
        encoder, decoder = arms.gates(estimate.contrast.weights)
        if abs(encoder) == 1 and decoder in (0, encoder):
            return _sides(estimate.contrast.weights, encoder)
    return None


def _competition(numbers: StudyNumbers, arms: _Arms, judged: Judged) -> Effect | None:
    """Return the gain where gates learn minus the gain where they do not, or half of it, as a factorial judges it."""
    others = (lambda k: k.encoder_temperature, lambda k: k.encoder_gate, lambda k: k.decoder_temperature)
    for estimate, effect in judged:
        weights = estimate.contrast.weights
        sign = arms.sum(weights, lambda k: k.encoder_temperature and k.encoder_gate)
        if sign and arms.balanced(weights) and not any(arms.sum(weights, other) for other in others):
            return _signed(effect, sign)
    if numbers.study.fraction is not None:
        learn = {(knobs.encoder_temperature, knobs.encoder_gate) for knobs in arms.knobs.values()}
        if len(learn) == 4:
            return Effect("inconclusive", False, None, None, None, None, None, aliased=True)
    return None


def _value_matched(numbers: StudyNumbers, judged: Judged) -> Effect | None:
    for arm, source in numbers.study.matched.items():
        for estimate, effect in judged:
            weights = dict(estimate.contrast.weights)
            if weights in ({source: 1.0, arm: -1.0}, {source: -1.0, arm: 1.0}):
                return _signed(effect, weights[source])
    return None


def _with_more(arms: _Arms, judged: Judged) -> Effect | None:
    """Return how much the gain grows with data or training, in a study that varies both."""
    sizes = sorted({knobs.more for knobs in arms.knobs.values()})
    if len(sizes) < 2:
        return None
    for estimate, effect in judged:
        weights = estimate.contrast.weights
        if any(arms.sum(weights, one) for one in (lambda k: k.encoder_temperature, lambda k: k.more == sizes[-1])):
            continue
        sign = arms.sum(weights, lambda k: k.encoder_temperature and k.more == sizes[-1])
        rests: dict[tuple[Any, ...], float] = {}
        for arm, weight in weights.items():
            rests[arms.knobs[arm].rest] = rests.get(arms.knobs[arm].rest, 0.0) + weight
        if sign and all(abs(total) < 1e-9 for total in rests.values()):
            return _signed(effect, sign)
    return None


def _signed(effect: Effect, sign: float) -> Effect:
    """Return the effect, or with a negative sign the same seen from the other side."""
    if sign > 0:
        return effect
    turned: dict[Word, Word] = {"better": "worse", "worse": "better"}

    def minus(value: float | None) -> float | None:
        return None if value is None else -value

    return dataclasses.replace(
        effect,
        word=turned.get(effect.word, effect.word),
        mean=minus(effect.mean),
        low=minus(effect.high),
        high=minus(effect.low),
        low_equivalence=minus(effect.high_equivalence),
        high_equivalence=minus(effect.low_equivalence),
    )


# --- figures of runs ------------------------------------------------------------------------------


def _blocks(numbers: StudyNumbers, arms: Sequence[str]) -> list[int]:
    """Return the seeds of blocks that are judged and in which all these arms finished."""
    return [seed for seed in numbers.judged_seeds if all((arm, seed) in numbers.finished for arm in arms)]


def _paired(numbers: StudyNumbers, sides: Sides, value: Callable[[RunResult], float | None]) -> Change | None:
    """Return the paired change of a figure, averaged over the arms of each side; None where it was not recorded."""
    arms = [*sides.learnable, *sides.fixed]
    columns: tuple[list[float], list[float]] = ([], [])
    for seed in _blocks(numbers, arms):
        found = {arm: value(numbers.finished[arm, seed]) for arm in arms}
        if any(number is None for number in found.values()):
            continue
        for column, side in zip(columns, (sides.learnable, sides.fixed), strict=True):
            column.append(sum(weight * (found[arm] or 0.0) for arm, weight in side.items()))
    if len(columns[0]) < 2:
        return None
    return paired_change(columns[0], columns[1], 1 - numbers.study.alpha)


def _gap(run: RunResult) -> float | None:
    train = train_score(run.facts)
    return None if train is None or run.score is None else 100 * (train - run.score.miou)


def _spikes(run: RunResult) -> float | None:
    curve = run.curves.get("train/loss", [])
    return float(loss_spikes(curve)) if curve else None


def loss_spikes(curve: Curve) -> int:
    """Return how many recorded losses lie above `SPIKE` times the median of the nine recorded before.

    >>> loss_spikes([(step, 1.0) for step in range(9)] + [(9, 1.6), (10, 1.4)])
    1
    """
    losses = [value for _, value in curve]
    return sum(losses[n] > SPIKE * statistics.median(losses[n - 9 : n]) for n in range(9, len(losses)))


def steps_to_share(curve: Curve, share: float) -> float | None:
    """Return the optimizer step at which a score first reaches ``share`` of its last value.

    Between two validations it is taken as a straight line; before the first one nothing is known, and its step is the
    answer when it is high enough.  None for a curve of fewer than two points.

    >>> steps_to_share([(10, 0.2), (20, 0.4), (30, 0.4)], 0.9)
    18.0
    """
    if len(curve) < 2:
        return None
    wanted = share * curve[-1][1]
    before: tuple[int, float] | None = None
    for step, value in curve:
        if value >= wanted:
            if before is None or value == before[1]:
                return float(step)
            return float(before[0] + (wanted - before[1]) / (value - before[1]) * (step - before[0]))
        before = (step, value)
    return None


def _spread(numbers: StudyNumbers, learnable: str, fixed: str) -> Change | None:
    seeds = _blocks(numbers, (learnable, fixed))
    if len(seeds) < 3:
        return None
    scores = [
        [run.score.miou for seed in seeds if (run := numbers.finished[arm, seed]).score is not None]
        for arm in (learnable, fixed)
    ]
    return spread_ratio(scores[0], scores[1], 1 - numbers.study.alpha)


def _failures(numbers: StudyNumbers, learnable: str, fixed: str) -> Failures | None:
    outcomes = {**numbers.finished, **numbers.failed}
    seeds = [seed for seed in numbers.judged_seeds if (learnable, seed) in outcomes and (fixed, seed) in outcomes]
    if not seeds:
        return None
    failed = [[(arm, seed) in numbers.failed for seed in seeds] for arm in (learnable, fixed)]
    test = paired_failure_test(failed[0], failed[1])
    return Failures(sum(failed[1]), sum(failed[0]), len(seeds), float(test.p))


def _parameters(numbers: StudyNumbers, learnable: str, fixed: str) -> tuple[int, int] | None:
    counts = []
    for arm in (fixed, learnable):
        found = {run.facts.get("parameters") for run in numbers.runs_of(arm)}
        if len(found) != 1 or not isinstance(count := found.pop(), int):
            return None
        counts.append(count)
    return counts[0], counts[1]


# --- figures of curves ----------------------------------------------------------------------------


def _of_sites(run: RunResult, quantity: str) -> dict[SiteGroup, list[Curve]]:
    found: dict[SiteGroup, list[Curve]] = {}
    for name, curve in run.curves.items():
        site, slash, what = name.rpartition("/")
        if slash and what == quantity and site not in ("train", "val", "select") and curve:
            found.setdefault(group_of(site), []).append(curve)
    return found


def _mean_log(values: Sequence[float]) -> float | None:
    """Return the mean of the natural logarithms of the values above 0; None where there is none."""
    logs = [math.log(value) for value in values if value > 0]
    return statistics.fmean(logs) if logs else None


def _gradients(numbers: StudyNumbers, sides: Sides) -> tuple[Change, ...] | None:
    """Return by encoder stage the change of the mean log gradient norm over all recorded steps."""
    arms = [*sides.learnable, *sides.fixed]
    stages: set[SiteGroup] | None = None
    for arm in arms:
        for run in numbers.runs_of(arm):
            here = {group for group in _of_sites(run, "grad_norm") if group.side == "encoder"}
            stages = here if stages is None else stages & here
    changes = []
    for stage in sorted(stages or ()):

        def norm(run: RunResult, stage: SiteGroup = stage) -> float | None:
            curves = _of_sites(run, "grad_norm").get(stage, [])
            return _mean_log([value for curve in curves for _, value in curve])

        change = _paired(numbers, sides, norm)
        if change is None:
            return None
        changes.append(change)
    return tuple(changes) or None


def _last_log(quantity: str) -> Callable[[RunResult], float | None]:
    """Return a function that gives the log of a run's last value, averaged over its encoder's sites."""

    def value(run: RunResult) -> float | None:
        curves = [
            curve for group, found in _of_sites(run, quantity).items() if group.side == "encoder" for curve in found
        ]
        return _mean_log([curve[-1][1] for curve in curves])

    return value


def _fusion(numbers: StudyNumbers, gates: Sides, temperatures: Sides) -> Fusion | None:
    changes = [
        _paired(numbers, sides, _last_log(quantity))
        for quantity in ("strength", "entropy")
        for sides in (gates, temperatures)
    ]
    if any(change is None for change in changes):
        return None
    known = [change for change in changes if change is not None]
    return Fusion(known[0], known[1], known[2], known[3])


def _ends(values: Iterable[NDArray[np.float64]]) -> tuple[float, float] | None:
    """Return the lowest and highest of all values, None without any."""
    found = [array for array in values if array.size]
    return (min(float(array.min()) for array in found), max(float(array.max()) for array in found)) if found else None


def _taken(numbers: StudyNumbers, arms: _Arms, quantity: str) -> Iterator[NDArray[np.float64]]:
    """Give the values that each learnable gate, or logarithm of a temperature, took in any run, the start first."""
    for (arm, seed), run in numbers.finished.items():
        knobs = arms.knobs[arm]
        if seed not in numbers.judged_seeds:
            continue
        if numbers.text_of(arm).get("kind") == "none":
            continue
        learn = {
            "gate": {"encoder": knobs.encoder_gate, "decoder": knobs.decoder_gate},
            "scale": {"encoder": knobs.encoder_temperature, "decoder": knobs.decoder_temperature},
        }[quantity]
        starts = dict(zip(("encoder", "decoder"), knobs.starts, strict=True))
        for group, curves in _of_sites(run, quantity).items():
            if not learn.get(group.side, False):
                continue
            for curve in curves:
                seen = np.array([value for _, value in curve], dtype=np.float64)
                if quantity == "scale":
                    if not (seen > 0).all():
                        continue
                    # scale = base exp(l), and l starts where the options say: the base drops out.
                    seen = np.log(seen / seen[0]) + starts[group.side]
                yield seen


# --- cost -----------------------------------------------------------------------------------------

_NONE_OF = {"encoder": "align.encoder.stages", "decoder": "align.decoder.levels"}


def _cost(numbers: StudyNumbers, side: str) -> AlignmentCost | None:
    """Return what all alignments of a side cost: as the baseline's runs recorded it, else from arms without them.

    A run may record ``alignment``: by side ``sites``, ``parameters`` and, where measured, ``operations`` and
    ``seconds`` per image.  Else an arm that differs from the baseline in having none of them tells the parameters.
    """
    baseline = numbers.study.baseline
    for run in numbers.runs_of(baseline):
        facts = run.facts.get("alignment")
        one = facts.get(side) if isinstance(facts, Mapping) else None
        if isinstance(one, Mapping) and isinstance(one.get("sites"), int) and isinstance(one.get("parameters"), int):
            return AlignmentCost(one["sites"], one["parameters"], one.get("operations"), one.get("seconds"))
    with_sites = next((_sites(run, side) for run in numbers.runs_of(baseline)), 0)
    home = numbers.options_of(baseline)
    for arm in numbers.arms:
        options = numbers.options_of(arm)
        different = {name for name in {*home, *options} if home.get(name) != options.get(name)}
        if different == {_NONE_OF[side]} and options.get(_NONE_OF[side]) == [] and with_sites:
            counts = _parameters(numbers, baseline, arm)
            if counts is not None and counts[1] > counts[0]:
                return AlignmentCost(with_sites, counts[1] - counts[0])
    return None


_QUERY = re.compile(r"\.q_proj\.weight$")


def _sites(run: RunResult, side: str) -> int:
    """Return the number of a side's alignments, which the run's parameter groups name."""
    groups = run.facts.get("groups")
    if not isinstance(groups, list):
        return 0
    names = [name for group in groups if isinstance(group, Mapping) for name in group.get("names", ())]
    return sum(bool(_QUERY.search(name)) and group_of(name).side == side for name in names)
