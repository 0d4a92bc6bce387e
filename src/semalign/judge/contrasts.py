"""Which effects a study asks for, and which of them share alpha.

This module does not depend on scores.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from semalign.errors import StudyError, nearest
from semalign.judge.metric import MIOU, Metric
from semalign.judge.statistics import factor_weights
from semalign.judge.types import ArmName, Contrast, Text
from semalign.presets import BASELINE, CONTROL_ARMS, DOCUMENT_ARMS
from semalign.wording import Message, say

__all__ = [
    "ABLATION_ARMS",
    "CONTROLS",
    "ablation_contrasts",
    "against_baseline",
    "aliases",
    "asked_contrasts",
    "contrasts_of",
    "factor_contrasts",
    "factor_effect",
    "family_sizes",
]

CONTROLS: dict[ArmName, Message] = {arm: say(f"judge.question {arm}") for arm in CONTROL_ARMS}
"""Control arms with the question that each answers."""

ABLATION_ARMS: tuple[ArmName, ...] = (*DOCUMENT_ARMS, *CONTROL_ARMS)
"""The arms of the study `ablations`: the document's four, then the controls."""


def ablation_contrasts(arms: Iterable[ArmName] = ABLATION_ARMS, metric: Metric = MIOU) -> tuple[Contrast, ...]:
    """Return the pre-registered effects of the document's two ablations for a study with these arms.

    Family "primary": A, B and C against the Baseline and the competition of temperature and gate,
    (A - Baseline) - (C - B), on the worse side of 0 when they compete: four effects when all arms are planned, one for
    ablation 1 alone (A), two for ablation 2 alone (B, C).  Family "controls": each control minus the Baseline.

    Args:
        arms: the planned arms, whether or not their runs succeed; effects of arms that are not planned are left out.
        metric: what the scores measure.
    """
    planned = set(arms)
    primary = [
        Contrast(f"{arm} - {BASELINE}", {arm: 1, BASELINE: -1}, say(f"judge.question {arm}", metric=metric.name))
        for arm in ("A", "B", "C")
    ]
    competition = Contrast(
        "competition: (A - Baseline) - (C - B)",
        {"A": 1, BASELINE: -1, "C": -1, "B": 1},
        say("judge.question competition"),
        above=say("judge.reinforce" if metric.higher_is_better else "judge.compete"),
        below=say("judge.compete" if metric.higher_is_better else "judge.reinforce"),
    )
    controls = (
        Contrast(f"{arm} - {BASELINE}", {arm: 1, BASELINE: -1}, question, family="controls")
        for arm, question in CONTROLS.items()
    )
    return tuple(contrast for contrast in (*primary, competition, *controls) if planned.issuperset(contrast.weights))


def contrasts_of(
    kind: str | Iterable[Mapping[str, Any]],
    arms: Iterable[ArmName],
    baseline: ArmName,
    levels: Mapping[ArmName, Mapping[str, str]] | None = None,
    metric: Metric = MIOU,
) -> tuple[Contrast, ...]:
    """Return the effects that a study of this kind judges.

    Args:
        kind: "ablations" (`ablation_contrasts`), "against-baseline" (`against_baseline`), "factors"
            (`factor_contrasts`), or each effect as the values of a `Contrast` by name.
        arms: the planned arms.
        baseline: the arm that the others are compared with.
        levels: by arm the level of each factor, for "factors".
        metric: what the scores measure.

    Raises:
        StudyError: there is none.
    """
    arms = tuple(arms)
    if not isinstance(kind, str):
        found = tuple(Contrast(**one) for one in kind)
    elif kind == "factors":
        found = factor_contrasts(levels or {}, baseline, metric)
    elif kind == "ablations":
        found = ablation_contrasts(arms, metric)
    else:
        found = against_baseline(arms, baseline)
    if not found:
        raise StudyError(
            f"the study judges no effect: contrasts are {kind!r} and its arms {', '.join(arms)}, "
            "expected A, B or C beside Baseline, or contrasts: against-baseline"
        )
    return found


def factor_contrasts(
    levels: Mapping[ArmName, Mapping[str, str]], baseline: ArmName, metric: Metric = MIOU
) -> tuple[Contrast, ...]:
    """Return the effects of a design whose arms are combinations of factor levels.

    Family "primary": for each factor and each level but the baseline's, the mean over all arms with that level minus
    the mean over all arms with the baseline's.  Family "interactions", where every factor has two levels and every
    combination is an arm: for each two factors half the difference between the effect of changing one where the other
    is changed and where it is not.  A fraction of a design has main effects only, see `aliases`.

    Args:
        levels: by arm the level of each factor; arms are balanced over the levels.
        baseline: the arm whose levels the others are compared with.
        metric: what the scores measure.

    Raises:
        StudyError: no such baseline.
    """
    if baseline not in levels:
        raise StudyError(f"no arm has the levels of the baseline {baseline!r}, expected one of {', '.join(levels)}")
    home = levels[baseline]
    found = []
    for factor, usual in home.items():
        others = dict.fromkeys(chosen[factor] for chosen in levels.values() if chosen[factor] != usual)
        for level in others:
            at = [arm for arm, chosen in levels.items() if chosen[factor] == level]
            off = [arm for arm, chosen in levels.items() if chosen[factor] == usual]
            weights = {arm: 1 / len(at) for arm in at} | {arm: -1 / len(off) for arm in off}
            question = say("judge.question level", factor=factor, level=level, usual=usual, metric=metric.name)
            found.append(Contrast(f"{factor}: {level} - {usual}", weights, question))
    sizes = [len({chosen[factor] for chosen in levels.values()}) for factor in home]
    if len(home) >= 2 and set(sizes) == {2} and len(levels) == 2 ** len(home):
        arms = list(levels)
        signs = {factor: [1 if levels[arm][factor] != usual else -1 for arm in arms] for factor, usual in home.items()}
        for one, other in itertools.combinations(home, 2):
            product = [a * b for a, b in zip(signs[one], signs[other], strict=True)]
            question = say("judge.question factors", one=one, other=other)
            effect = factor_effect(f"{one} x {other}", arms, product, question, family="interactions")
            more, less = say("judge.more together"), say("judge.less together")
            above, below = (more, less) if metric.higher_is_better else (less, more)
            found.append(dataclasses.replace(effect, above=above, below=below))
    return tuple(found)


def aliases(levels: Mapping[ArmName, Mapping[str, str]], baseline: ArmName) -> dict[str, str]:
    """Return, for a fraction of a 2-level design, which effects share one estimate; empty for a full design.

    The half in which an even number of factors differ from the baseline has the defining relation I = ± the product of
    all factors, so that an effect of some factors cannot be told from the effect of all the others.

    >>> half = {"b": {"x": "0", "y": "0", "z": "0"}, "xy": {"x": "1", "y": "1", "z": "0"},
    ...         "xz": {"x": "1", "y": "0", "z": "1"}, "yz": {"x": "0", "y": "1", "z": "1"}}
    >>> aliases(half, "b")
    {'x': 'y x z', 'y': 'x x z', 'z': 'x x y'}
    """
    if not levels:
        return {}
    home = levels[baseline]
    factors = list(home)
    arms = list(levels)
    if any(len({chosen[factor] for chosen in levels.values()}) != 2 for factor in factors):
        return {}
    if len(arms) >= 2 ** len(factors):
        return {}
    signs = {factor: [1 if levels[arm][factor] != home[factor] else -1 for arm in arms] for factor in factors}

    def column(effect: Iterable[str]) -> tuple[int, ...]:
        product = [1] * len(arms)
        for factor in effect:
            product = [a * b for a, b in zip(product, signs[factor], strict=True)]
        # The sign of a column does not matter for telling two effects apart.
        return tuple(product[0] * sign for sign in product)

    effects = [effect for size in range(1, len(factors)) for effect in itertools.combinations(factors, size)]
    found = {}
    for effect in effects:
        if len(effect) > 2:
            break
        same = [other for other in effects if other != effect and column(other) == column(effect)]
        if same and not (len(effect) == 2 and " x ".join(same[0]) in found):
            found[" x ".join(effect)] = ", ".join(" x ".join(other) for other in same)
    return found


def family_sizes(contrasts: Iterable[Contrast]) -> dict[str, int]:
    """Return the number of effects by family; each is judged at alpha over it."""
    sizes: dict[str, int] = {}
    for contrast in contrasts:
        sizes[contrast.family] = sizes.get(contrast.family, 0) + 1
    return sizes


def against_baseline(arms: Iterable[ArmName], baseline: ArmName) -> tuple[Contrast, ...]:
    """Return one contrast, arm minus baseline, for every arm that is not the baseline, all in one family."""
    return tuple(
        Contrast(f"{arm} - {baseline}", {arm: 1, baseline: -1}, say("judge.question arm", arm=arm, baseline=baseline))
        for arm in arms
        if arm != baseline
    )


def asked_contrasts(
    contrasts: Iterable[Contrast] | None, arms: Iterable[ArmName], baseline: ArmName, metric: Metric
) -> tuple[Contrast, ...]:
    """Return the effects to judge, with names for both sides of 0.

    Args:
        contrasts: the pre-registered effects; None: every other arm minus the baseline, in alphabetic order.
        arms: those that have a run.
        baseline: the arm that the others are compared with.
        metric: what the scores measure.

    Raises:
        StudyError: a baseline without a run, no effect, or two of one name.
    """
    there = sorted(arms)
    if baseline not in there:
        raise StudyError(f"no run of the baseline {baseline!r}{nearest(baseline, there)}")
    given = against_baseline(there, baseline) if contrasts is None else contrasts
    asked = tuple(contrast.named(metric) for contrast in given)
    if not asked:
        raise StudyError(f"there is nothing to compare with {baseline!r}, expected runs of at least one other arm")
    names = [contrast.name for contrast in asked]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise StudyError(f"the contrast {twice[0]!r} is asked for twice, expected names that differ")
    return asked


def factor_effect(
    name: str, arms: Sequence[ArmName], signs: Sequence[int], question: Text = "", *, family: str = "primary"
) -> Contrast:
    """Return the effect of a factor of a 2-level design: mean of the runs at +1 minus mean of the runs at -1.

    Args:
        name: the effect's name.
        arms: the R arms of a block.
        signs: R values, -1 or +1; for an interaction the product of its factors' signs.
        question: what it answers.
        family: see `Contrast`.

    Raises:
        StudyError: signs that are unbalanced, or not one per arm.
    """
    if len(signs) != len(arms) or len(set(arms)) != len(arms):
        raise StudyError(
            f"the effect {name!r} has {len(signs)} signs for the arms {', '.join(arms)}, "
            "expected one sign per arm and every arm once"
        )
    return Contrast(name, dict(zip(arms, factor_weights(signs).tolist(), strict=True)), question, family)
