"""From scores of runs to a judgement, at a number of blocks, or at a few looks, fixed beforehand.

This module does not depend on training or on reports: anybody's runs are rows of arm, seed and score.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from semalign.errors import StudyError
from semalign.judge.contrasts import asked_contrasts, family_sizes
from semalign.judge.looks import FUTILE, at_fewer_blocks, check_looks, decision_chance, look_boundaries
from semalign.judge.metric import MIOU, Metric
from semalign.judge.rows import Rows, Scores, scores_of
from semalign.judge.statistics import (
    Boundary,
    block_contrasts,
    blocks_needed,
    check_level,
    check_planned,
    direction_p,
    equivalence_p,
    fixed_boundary,
    holm,
    paired_failure_test,
    summarise,
    t_interval,
)
from semalign.judge.types import (
    ArmName,
    ArmSummary,
    Contrast,
    Estimate,
    FailureTest,
    Judgement,
    LeftOut,
    Look,
    Text,
    Verdict,
)
from semalign.judge.verdict import Decision, decide_blocks, explain, survives_imputation
from semalign.wording import Message, say

__all__ = ["judge"]


def judge(
    rows: Rows,
    *,
    baseline: ArmName,
    contrasts: Iterable[Contrast] | None = None,
    margin: float,
    alpha: float = 0.05,
    planned_blocks: int | None = None,
    looks: Sequence[int] | None = None,
    metric: Metric = MIOU,
) -> Judgement:
    """Judge arms against a baseline over paired blocks; the runs of one seed are a block.

    The effect of a contrast is the mean over blocks of its per-block value, with the t interval of S - 1 degrees of
    freedom, judged at alpha over the number of effects in its family (see `semalign.judge.verdict`).

    A block in which a run of the contrast failed, or is missing though the study has the seed, is incomplete.  The
    estimate then rests on the complete blocks, and the verdict is kept only if it is the same for every score in the
    metric's range that the lost runs might have had; otherwise it is inconclusive.

    With ``looks`` a growing study is judged at those moments and at no other (`semalign.judge.looks`).  Blocks count in
    the order of their seeds, which is to be the order in which they are run: the look at 5 sees the five smallest
    seeds.  A contrast keeps the estimate and the verdict of the look that decided it; `Judgement.looks` shows every
    look.

    Args:
        rows: (arm, seed, score) with scores in the metric's range and None for a failed run, or {arm: {seed: score}}.
        baseline: the arm that the others are compared with.
        contrasts: the pre-registered effects; without them, every other arm minus the baseline, as one family.
        margin: smallest effect that matters, in the metric's unit, fixed before the runs.
        alpha: family-wise level.
        planned_blocks: the number of seeds fixed beforehand; blocks that were never started then count as incomplete.
        looks: the moments fixed beforehand, in blocks, such as (5, 8, 12); not together with ``planned_blocks``.
        metric: what the scores measure.

    Raises:
        ResultsError: no rows, a malformed row, a pair of arm and seed twice, a score outside the metric's range.
        StudyError: unknown baseline, nothing to compare, two contrasts of one name, margin or alpha out of range,
            more blocks than planned, or looks that do not grow.

    >>> rows = {"plain": {1: 0.50, 2: 0.52, 3: 0.51}, "wide": {1: 0.56, 2: 0.585, 3: 0.572}}
    >>> judge(rows, baseline="plain", margin=0.5).verdicts[0].word
    'better'
    """
    metric.check_margin(margin)
    check_level("alpha", alpha)
    table = scores_of(rows, metric)
    asked = asked_contrasts(contrasts, table, baseline, metric)
    seeds = tuple(sorted({seed for runs in table.values() for seed in runs}))
    unstarted = check_planned(len(seeds), planned_blocks, "results") - len(seeds)
    moments = () if looks is None else check_looks(looks)
    if moments and planned_blocks is not None:
        raise StudyError(
            f"both planned_blocks={planned_blocks} and looks {moments} are given, expected one of them: "
            "the last look is the number of blocks planned"
        )

    protocol: tuple[Message, ...] = ()
    if unstarted:
        protocol = (say("judge.note unfinished", n=unstarted, planned=planned_blocks),)
    elif moments:
        protocol = _protocol(len(seeds), moments)

    families = family_sizes(asked)
    judged = [
        _judge_at_looks(contrast, table, seeds, moments, rule)
        if moments
        else _judge_one(contrast, table, seeds, unstarted, rule)
        for contrast in asked
        for rule in [_Rule(metric, margin, alpha, families[contrast.family])]
    ]
    estimates = [one.estimate for one in judged]
    return Judgement(
        baseline=baseline,
        margin=float(margin),
        alpha=float(alpha),
        families=families,
        seeds=seeds,
        planned_blocks=planned_blocks,
        estimates=tuple(estimates) if moments else _with_holm(estimates),
        verdicts=tuple(one.verdict for one in judged),
        arms=tuple(
            _summarise_arm(arm, table[arm], alpha) for arm in sorted(table, key=lambda arm: (arm != baseline, arm))
        ),
        failures=_failure_tests(table, baseline),
        left_out=tuple(item for one in judged for item in one.left_out),
        absent_arms=tuple(sorted({arm for contrast in asked for arm in contrast.weights} - table.keys())),
        notes=(*protocol, *(note for one in judged for note in one.notes)),
        moments=moments,
        looks=tuple(look for one in judged for look in one.looks),
        metric=metric,
    )


# --- one contrast ---------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class _Rule:
    """How one effect, judged at alpha/m, is judged: once, at a number of blocks fixed beforehand, or at a look.

    Attributes:
        metric: what the scores measure.
        margin: smallest effect that matters.
        alpha: family-wise level.
        m: effects in the family.
        moments: the looks in blocks; empty for a study judged once.
        index: of the look.
    """

    metric: Metric
    margin: float
    alpha: float
    m: int
    moments: tuple[int, ...] = ()
    index: int = 0

    def boundary(self, n: int) -> Boundary:
        """Return the boundary for ``n`` complete blocks."""
        if not self.moments:
            return fixed_boundary(n, self.alpha, self.m)
        planned = look_boundaries(self.moments, self.alpha, self.m)[self.index]
        return at_fewer_blocks(planned, self.moments[self.index], n)

    def decide(self, estimate: Estimate) -> Decision:
        """Return the decision of the complete blocks alone."""
        boundary = self.boundary(estimate.n)
        return decide_blocks(estimate.values, boundary, self.margin, higher_is_better=self.metric.higher_is_better)

    def explain(self, estimate: Estimate, decision: Decision, lost: int) -> Verdict:
        """Return the verdict with its sentence."""
        assert estimate.sd is not None
        ahead, needed = self.moments[self.index + 1 :], None
        # Before the last look this study itself continues; only after it "more blocks" means a new one.
        if decision.code == 0 and not ahead:
            needed = int(blocks_needed(estimate.sd, self.margin, self.alpha, self.m))
        look = (self.index + 1, len(self.moments)) if self.moments else None
        next_look = ahead[0] if ahead else None
        return explain(estimate, decision, self.margin, self.metric, needed, lost, look=look, next_look=next_look)


@dataclasses.dataclass(frozen=True)
class _Judged:
    estimate: Estimate
    verdict: Verdict
    left_out: tuple[LeftOut, ...]
    notes: tuple[Message, ...]
    looks: tuple[Look, ...] = ()


def _judge_at_looks(
    contrast: Contrast, table: Scores, seeds: tuple[int, ...], moments: tuple[int, ...], once: _Rule
) -> _Judged:
    """Return the result of the look that decides the contrast, else of the latest, with all looks reached so far."""
    standing: _Judged | None = None
    looks: list[Look] = []
    for index, blocks in enumerate(moments):
        if blocks > len(seeds):
            break
        rule = dataclasses.replace(once, moments=moments, index=index)
        here = _judge_one(contrast, table, seeds[:blocks], 0, rule)
        if standing is not None and standing.verdict.word != "inconclusive":
            looks.append(Look(blocks, False, here.estimate, standing.verdict))
            continue
        standing = here
        chance = _chance(here, rule)
        looks.append(
            Look(blocks, True, here.estimate, here.verdict, chance, futile=chance is not None and chance < FUTILE)
        )
    if standing is not None:
        return dataclasses.replace(standing, looks=tuple(looks))

    complete, scores = _complete(contrast, table, seeds)
    values = block_contrasts(scores, list(contrast.weights.values()))
    mean = float(np.mean(values)) if len(values) else None
    estimate = Estimate(contrast, len(complete), tuple(complete), tuple(values.tolist()), 1 - once.alpha / once.m, mean)
    said = say("verdict.before look", n=len(seeds), first=moments[0])
    return _Judged(estimate, _undecided(contrast.name, said), (), ())


def _chance(judged: _Judged, rule: _Rule) -> float | None:
    """Return the chance of a verdict by the last look, None where it does not apply."""
    estimate, last = judged.estimate, rule.moments[-1]
    planned = rule.moments[rule.index]
    if judged.verdict.word != "inconclusive" or planned == last or estimate.mean is None or estimate.sd is None:
        return None
    boundary = look_boundaries(rule.moments, rule.alpha, rule.m)[-1]
    # Lost blocks stay lost: as many will be complete at the last look as now, and those to come.
    complete = estimate.n + last - planned
    boundary = at_fewer_blocks(boundary, last, complete)
    return float(decision_chance(estimate.mean, estimate.sd, estimate.n, complete, boundary, rule.margin))


def _protocol(n: int, moments: tuple[int, ...]) -> tuple[Message, ...]:
    """Return the sentence that says which of ``n`` blocks were judged, none where all of them were."""
    reached = max((blocks for blocks in moments if blocks <= n), default=0)
    if n == reached:
        return ()
    if n > moments[-1]:
        return (say("judge.note after last look", n=n, looks=moments, reached=reached),)
    after = min(blocks for blocks in moments if blocks > n)
    if not reached:
        return (say("judge.note before look", n=n, first=after),)
    return (say("judge.note between looks", n=n, looks=moments, reached=reached, next=after),)


def _judge_one(contrast: Contrast, table: Scores, seeds: tuple[int, ...], unstarted: int, rule: _Rule) -> _Judged:
    arms = list(contrast.weights)
    complete, scores = _complete(contrast, table, seeds)
    incomplete: list[int | None] = [seed for seed in seeds if seed not in set(complete)]
    incomplete += [None] * unstarted
    left_out = tuple(LeftOut(contrast.name, seed, _why(arms, table, seed)) for seed in incomplete)
    ranges = [_possible(contrast, table, seed, rule.metric.bounds) for seed in incomplete]

    estimate = _estimate(contrast, complete, scores, rule)
    notes: list[Message] = []
    if estimate.sd == 0 and estimate.mean == 0:
        notes.append(say("judge.note no difference", name=contrast.name))
    elif estimate.sd == 0:
        notes.append(say("judge.note no spread", name=contrast.name, n=estimate.n))
    absent = [arm for arm in arms if arm not in table]
    copies = len(complete) > 1 and np.ptp(scores, axis=1).max() == 0
    verdict = _verdict(estimate, rule, left_out=left_out, ranges=ranges, absent=absent, copies=copies)
    return _Judged(estimate, verdict, left_out, tuple(notes))


def _complete(contrast: Contrast, table: Scores, seeds: tuple[int, ...]) -> tuple[list[int], NDArray[np.float64]]:
    """Return the seeds of the complete blocks, and arms x complete blocks of scores."""
    arms = contrast.weights
    complete = [seed for seed in seeds if all(table.get(arm, {}).get(seed) is not None for arm in arms)]
    scores = [[table[arm][seed] for seed in complete] if complete else [] for arm in arms]
    return complete, np.array(scores, dtype=np.float64)


def _estimate(contrast: Contrast, seeds: list[int], scores: NDArray[np.float64], rule: _Rule) -> Estimate:
    """Return the estimate from arms x complete blocks of scores in the metric's unit."""
    values = block_contrasts(scores, list(contrast.weights.values()))
    n, level = len(seeds), 1 - rule.alpha / rule.m
    start = Estimate(contrast, n, tuple(seeds), tuple(values.tolist()), level, mean=float(values[0]) if n else None)
    if n < 2:
        return start
    mean, sd, se, df = summarise(values)
    boundary = rule.boundary(n)
    wide, narrow = boundary.direction * se, boundary.equivalence * se
    return dataclasses.replace(
        start,
        mean=float(mean),
        sd=float(sd),
        se=float(se),
        df=df,
        low=float(mean - wide),
        high=float(mean + wide),
        low_equivalence=float(mean - narrow),
        high_equivalence=float(mean + narrow),
        p=float(direction_p(mean, se, df)),
        p_equivalence=float(equivalence_p(mean, se, df, rule.margin)),
    )


def _verdict(
    estimate: Estimate,
    rule: _Rule,
    *,
    left_out: tuple[LeftOut, ...],
    ranges: list[tuple[float, float]],
    absent: list[ArmName],
    copies: bool,
) -> Verdict:
    name, n, lost = estimate.contrast.name, estimate.n, len(left_out)
    if n < 2 or estimate.sd is None:
        if absent:
            return _undecided(name, say("verdict.no run", arm=absent[0]))
        complete = say("verdict.complete", complete=n, started=n + lost)
        if lost:
            complete = say("verdict.complete lost", complete=n, started=n + lost, why=_first(left_out))
        # Where enough blocks were planned, seeds are not what is missing: the lost ones would make up 2.
        return _undecided(name, say(f"verdict.few {'seeds' if n + lost < 2 else 'complete'}", complete=complete))
    if copies:
        # n copies of one observation have no spread, and would "prove" any difference.
        return _undecided(name, say("verdict.copies", n=n))
    decision = rule.decide(estimate)
    if lost and decision.code != 0:
        holds, below = survives_imputation(
            decision,
            estimate.values,
            ranges,
            rule.boundary(n + lost),
            rule.margin,
            higher_is_better=rule.metric.higher_is_better,
        )
        if not holds:
            return _undecided(name, say("verdict.lost", n=lost, why=_first(left_out), complete=n))
        decision = Decision(decision.code, np.asarray(below))
    return rule.explain(estimate, decision, lost)


def _undecided(name: str, said: Message) -> Verdict:
    return Verdict("inconclusive", False, say("verdict.reason", name=name, said=said))


def _why(arms: list[ArmName], table: Scores, seed: int | None) -> Message:
    if seed is None:
        return say("verdict.no block")
    failed = [arm for arm in arms if seed in table.get(arm, {}) and table[arm][seed] is None]
    missing = [arm for arm in arms if seed not in table.get(arm, {})]
    said = [say("verdict.failed", arm=arm) for arm in failed] + [say("verdict.not run", arm=arm) for arm in missing]
    return said[0] if len(said) == 1 else say("verdict.arms", arms=tuple(said))


def _first(left_out: tuple[LeftOut, ...]) -> tuple[Text, ...]:
    """Return why the first three blocks were lost; those that were never started share one reason."""
    shown: list[Text] = []
    for item in left_out:
        said = item.why if item.seed is None else say("verdict.seed", seed=item.seed, why=item.why)
        if said not in shown:
            shown.append(said)
    return (*shown[:3], *(["..."] if len(shown) > 3 else []))


def _possible(contrast: Contrast, table: Scores, seed: int | None, bounds: tuple[float, float]) -> tuple[float, float]:
    """Return the lowest and highest contrast of a block whose lost runs might have scored anything within bounds."""
    low = high = 0.0
    for arm, weight in contrast.weights.items():
        score = None if seed is None else table.get(arm, {}).get(seed)
        ends = [weight * value for value in (bounds if score is None else (score, score))]
        low, high = low + min(ends), high + max(ends)
    return low, high


# --- all together ---------------------------------------------------------------------------------


def _with_holm(estimates: list[Estimate]) -> tuple[Estimate, ...]:
    """Return the estimates with Holm p per family; an effect without a p counts as p = 1, it was planned."""
    adjusted: dict[int, float] = {}
    for family in {estimate.contrast.family for estimate in estimates}:
        members = [index for index, estimate in enumerate(estimates) if estimate.contrast.family == family]
        p_values = [1.0 if (p := estimates[index].p) is None else p for index in members]
        adjusted |= dict(zip(members, holm(p_values).tolist(), strict=True))
    return tuple(
        estimate if estimate.p is None else dataclasses.replace(estimate, p_holm=adjusted[index])
        for index, estimate in enumerate(estimates)
    )


def _summarise_arm(arm: ArmName, runs: dict[int, float | None], alpha: float) -> ArmSummary:
    scores = [score for _, score in sorted(runs.items()) if score is not None]
    failed = len(runs) - len(scores)
    if len(scores) < 2:
        return ArmSummary(arm, len(runs), failed, scores[0] if scores else None, None, None, None)
    mean, sd, _, _, low, high = t_interval(scores, 1 - alpha)
    return ArmSummary(arm, len(runs), failed, float(mean), float(sd), float(low), float(high))


def _failure_tests(table: Scores, baseline: ArmName) -> tuple[FailureTest, ...]:
    if not any(score is None for runs in table.values() for score in runs.values()):
        return ()
    tests = []
    for arm in sorted(table.keys() - {baseline}):
        both = sorted(table[arm].keys() & table[baseline].keys())
        result = paired_failure_test(
            [table[arm][seed] is None for seed in both], [table[baseline][seed] is None for seed in both]
        )
        tests.append(FailureTest(arm, len(both), int(result.only_first), int(result.only_second), float(result.p)))
    return tuple(tests)
