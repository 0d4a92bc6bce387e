"""Error rates of the judgement: studies with known truth, judged by the very functions that judge real ones.

Every study goes through `block_contrasts` and `decide_blocks` (by way of `decide_at_looks`: a study judged once is one
with a single look) with the `Boundary` of its design.  This module does not depend on files or on real scores.

A world says how scores vary.  s, the standard deviation of an effect over blocks, is the margin, which is 1 here:

- normal: run = block + planted effect + normal noise.
- t4: the noise is Student's t with 4 degrees of freedom, of the same variance.
- bad seeds: normal, and in 5 % of the blocks one run falls by 10 standard deviations of a run's noise.
- random slopes: every effect varies by seed; half of s^2 is that, half is the noise of the runs.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Literal, TypeAlias, TypedDict

import numpy as np
from numpy.typing import NDArray

from semalign.errors import StudyError, nearest
from semalign.judge.contrasts import ablation_contrasts, against_baseline, factor_effect
from semalign.judge.looks import FUTILE, decide_at_looks, decision_chance, look_boundaries
from semalign.judge.statistics import (
    Boundary,
    block_contrasts,
    direction_power,
    equivalence_power,
    factor_weights,
    fixed_boundary,
    summarise,
)
from semalign.judge.types import ArmName, Contrast
from semalign.presets import BASELINE, LOOKS
from semalign.seeds import numpy_generator

__all__ = ["DESIGNS", "SEED", "WORLDS", "Design", "Rate", "Rates", "World", "outside", "simulate"]

SEED = 20261123
"""The seed of the published simulation."""

World: TypeAlias = Literal["normal", "t4", "bad seeds", "random slopes"]
WORLDS: tuple[World, ...] = ("normal", "t4", "bad seeds", "random slopes")

PLANTED = (0.0, 0.5, 1.0, 2.0)
"""Planted effects, in margins."""

MARGIN = 1.0
BAD_BLOCKS = 0.05
BAD_FALL = 10.0
SHORT = 5  # blocks of the short design judged once: the t interval's hardest case
CHUNK = 1000  # studies drawn from one stream; fixed, so that more studies begin with the same ones
SLACK = 0.005  # what a rate may lie above its nominal level: DESIGN's reach
POWER_SLACK = 0.02
MOST_BLOCKS = {1: 0.80, 4: 0.90}
"""Mean blocks to a verdict over those of the fixed design that looks may take, by effects in the family."""

Floats: TypeAlias = NDArray[np.float64]


class Rate(TypedDict):
    """One rate that was found.

    Attributes:
        world: of `WORLDS`.
        design: name of a design, with " with looks" or ", 5 blocks" where it is not judged once at 12 blocks.
        quantity: what is counted, see `simulate`.
        value: the rate, mean over studies.
        se: its Monte Carlo standard error.
        target: lowest and highest value that is as it should be; [0, 1] where nothing is promised.
        effect: planted, in margins; "mixed" for a margin in some effects and 0 in the others, "0 and 2" for their mean.
        effects: size of the family at whose level the effects are judged.
        looks: moments in blocks, one for a study judged once.
        reference: what the value is compared with, None where there is nothing.
    """

    world: str
    design: str
    quantity: str
    value: float
    se: float
    target: list[float]
    effect: float | str
    effects: int
    looks: list[int]
    reference: float | None


class Rates(TypedDict):
    """What `simulate` returns."""

    seed: int
    reps: int
    rates: list[Rate]


# --- designs --------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Design:
    """A design as drawn: scores are in margins, and one unit of ``planted`` makes every effect one margin.

    Attributes:
        name: as in `Rate`.
        arms: the R arms of a block.
        contrasts: the effects judged, one family.
        planted: R scores that give every contrast the value 1.
        mixed: R scores that give some contrasts the value 1 and the others 0.
        slopes: R x K scores; column k times a normal variate is how slope k of a seed enters its scores.
        unit: variance of a contrast of s = margin per variance of a run.
    """

    name: str
    arms: tuple[ArmName, ...]
    contrasts: tuple[Contrast, ...]
    planted: Floats
    mixed: Floats
    slopes: Floats
    unit: float

    @property
    def weights(self) -> Floats:
        """Contrasts x R."""
        return np.array([[contrast.weights.get(arm, 0.0) for arm in self.arms] for contrast in self.contrasts])


def _one_effect() -> Design:
    arms = (BASELINE, "A")
    unit = np.array([0.0, 1.0])
    return Design("one effect", arms, against_baseline(arms, BASELINE), unit, unit, unit[:, None], 2.0)


def _arms() -> Design:
    # The competition is a difference of differences, so its s is larger than the margin.
    arms = (BASELINE, "A", "B", "C")
    planted, mixed = np.array([0.0, 1.0, 1.0, 1.0]), np.array([0.0, 1.0, 0.0, 1.0])
    return Design("arms", arms, ablation_contrasts(arms), planted, mixed, np.eye(4)[:, 1:], 2.0)


def _two_level(name: str, keep: Callable[[tuple[int, ...]], bool]) -> Design:
    factors = ("encoder temperature", "encoder gate", "decoder temperature", "decoder gate")
    runs = [signs for signs in itertools.product((-1, 1), repeat=len(factors)) if keep(signs)]
    arms = tuple("".join("-+"[sign > 0] for sign in signs) for signs in runs)
    signs = np.array(runs)
    contrasts = tuple(factor_effect(factor, arms, signs[:, index].tolist()) for index, factor in enumerate(factors))
    unit = float(np.square(factor_weights(signs[:, 0])).sum())
    # A factor's effect is the difference of its two levels: half of it up, half of it down.
    return Design(name, arms, contrasts, signs.sum(axis=1) / 2, signs[:, :2].sum(axis=1) / 2, signs / 2, unit)


def _designs() -> dict[str, Design]:
    # Baseline: encoder temperature fixed (-1), the other three learnable (+1), so its signs multiply to -1.
    made = (
        _one_effect(),
        _arms(),
        _two_level("factorial", lambda _: True),
        _two_level("half fraction", lambda signs: math.prod(signs) == -1),
    )
    return {design.name: design for design in made}


DESIGNS: dict[str, Design] = _designs()
"""Two arms; the document's four arms; 2^4 of temperature and gate; the half of it that holds the Baseline."""


# --- worlds ---------------------------------------------------------------------------------------


def _spreads(world: World, design: Design) -> tuple[float, float]:
    """Return the standard deviations of a run's noise and of a slope at which a simple effect has s = margin."""
    slope = 0.5 if world == "random slopes" else 0.0
    return math.sqrt((1 - slope) / design.unit) * MARGIN, math.sqrt(slope) * MARGIN


def _effect_sds(world: World, design: Design) -> Floats:
    """Return every contrast's true standard deviation over blocks, bad blocks left out, in margins."""
    noise, slope = _spreads(world, design)
    weights = design.weights
    variance = noise**2 * np.square(weights).sum(axis=1) + slope**2 * np.square(weights @ design.slopes).sum(axis=1)
    return np.asarray(np.sqrt(variance))


def _draw(world: World, design: Design, n: int, blocks: int, generator: np.random.Generator) -> Floats:
    """Return n x R x blocks scores in points of studies without any effect."""
    noise, slope = _spreads(world, design)
    shape = (n, len(design.arms), blocks)
    if world == "t4":
        scores = generator.standard_t(4, shape) * (noise / math.sqrt(2))  # t4 has variance 2
    else:
        scores = generator.normal(0.0, noise, shape)
    if world == "bad seeds":
        bad = generator.random((n, blocks)) < BAD_BLOCKS
        victim = generator.integers(len(design.arms), size=(n, blocks))
        falls = bad[:, None] & (victim[:, None] == np.arange(len(design.arms))[:, None])
        scores = scores - BAD_FALL * noise * falls
    if slope:
        each = generator.normal(0.0, slope, (n, design.slopes.shape[1], blocks))
        scores = scores + np.matmul(design.slopes, each)
    shared = generator.normal(0.0, 3 * noise, (n, 1, blocks))
    return np.asarray(50.0 + shared + scores)


# --- judging --------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class _Plan:
    """When and with which boundaries a design is judged."""

    suffix: str
    looks: tuple[int, ...]
    alpha: float

    def boundaries(self, m: int) -> tuple[Boundary, ...]:
        if len(self.looks) == 1:
            return (fixed_boundary(self.looks[0], self.alpha, m),)
        return look_boundaries(self.looks, self.alpha, m)


@dataclasses.dataclass
class _Tally:
    """Mean over studies with its standard error; a study's value may itself be a mean over its effects."""

    n: int = 0
    total: float = 0.0
    squares: float = 0.0

    def add(self, values: NDArray[np.floating] | NDArray[np.bool_]) -> None:
        each = np.asarray(values, dtype=np.float64)
        self.n += each.size
        self.total += float(each.sum())
        self.squares += float(np.square(each).sum())

    @property
    def value(self) -> float:
        return self.total / self.n

    @property
    def se(self) -> float:
        return math.sqrt(max(0.0, self.squares / self.n - self.value**2) / max(1, self.n - 1))


Key: TypeAlias = tuple[str, float | str, int]
"""Quantity, planted effect, family size."""


def _count(
    tallies: dict[Key, _Tally], plan: _Plan, contrasts: Floats, truth: Floats, effect: float | str, every: bool
) -> None:
    """Add what one plan finds in n x m x blocks contrasts whose true values are ``truth`` (m)."""

    def add(quantity: str, values: NDArray[np.floating] | NDArray[np.bool_], m: int) -> None:
        tallies.setdefault((quantity, effect, m), _Tally()).add(values)

    m = len(truth)
    alone, family = plan.boundaries(1), plan.boundaries(m)
    looks = plan.looks

    # One effect by itself, at level alpha.
    if effect == 0.0:
        # Margin 0: a direction claimed at any look, even where "equivalent" would have ended the study before.
        code = decide_at_looks(contrasts, looks, alone, 0.0).code
        add("type_i", np.mean(code >= 2, axis=1), 1)
    decision = decide_at_looks(contrasts, looks, alone, MARGIN)
    if effect == 1.0:
        add("false_equivalent", np.mean((decision.code == 1) | decision.below_margin, axis=1), 1)
    if every and effect != "mixed":
        add("coverage", np.mean(_covers(contrasts, looks, alone, decision.look, truth), axis=1), 1)

    # The family, at level alpha / m.
    decision = decide_at_looks(contrasts, looks, family, MARGIN)
    wrong_way = ((decision.code == 2) & (truth <= 0)) | ((decision.code == 3) & (truth >= 0))
    inside = ((decision.code == 1) | decision.below_margin) & (np.abs(truth) >= MARGIN)
    if effect in (0.0, 1.0, "mixed"):
        add("familywise", np.any(wrong_way | inside, axis=1), m)
    if every and m > 1 and effect != "mixed":
        add("coverage", np.all(_covers(contrasts, looks, family, decision.look, truth), axis=1), m)
    if effect == 0.0:
        add("equivalence", np.mean(decision.code == 1, axis=1), m)
    elif effect != "mixed":
        add("power", np.mean(decide_at_looks(contrasts, looks, family, 0.0).code == 2, axis=1), m)
        if len(looks) > 1:
            add("power_as_stopped", np.mean(decision.code == 2, axis=1), m)

    if len(looks) > 1 and effect != "mixed":
        blocks = np.asarray(looks)[decision.look] / looks[-1]
        add("blocks_ratio", np.mean(blocks, axis=1), m)
        add("blocks_ratio_study", np.max(blocks, axis=1), m)
        add("futility", np.mean(_given_up(contrasts, plan, family, decision.look), axis=1), m)


def _covers(
    contrasts: Floats, looks: Sequence[int], boundaries: Sequence[Boundary], at: NDArray[np.int64], truth: Floats
) -> NDArray[np.bool_]:
    """Return whether the direction interval of the look that ended each effect holds its true value."""
    result = np.zeros(at.shape, dtype=np.bool_)
    for index, (n, boundary) in enumerate(zip(looks, boundaries, strict=True)):
        mean, _, se, _ = summarise(contrasts[..., :n])
        result |= (at == index) & (np.abs(mean - truth) <= boundary.direction * se)
    return result


def _given_up(
    contrasts: Floats, plan: _Plan, boundaries: Sequence[Boundary], at: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Return the effects that a stop for futility would have ended before their verdict or the last look."""
    result = np.zeros(at.shape, dtype=np.bool_)
    for index, n in enumerate(plan.looks[:-1]):
        mean, sd, _, _ = summarise(contrasts[..., :n])
        chance = decision_chance(mean, sd, n, plan.looks[-1], boundaries[-1], MARGIN)
        result |= (at > index) & (chance < FUTILE)
    return result


# --- all together ---------------------------------------------------------------------------------


def simulate(
    reps: int = 2000,
    seed: int = SEED,
    *,
    worlds: Sequence[World] = WORLDS,
    designs: Sequence[str] | None = None,
    alpha: float = 0.05,
    progress: Callable[[int, int], None] | None = None,
) -> Rates:
    """Draw ``reps`` studies per world and design, judge them, and return the rates that were found.

    Quantities, each a mean over studies (and over a study's effects where they are judged one by one):

    - type_i: a direction is claimed for a true effect of 0, every effect alone at alpha.  With looks at any of them,
      whether or not "equivalent" would have ended the study before: what repeated intervals promise.
    - coverage: the interval that judges direction holds the true effect, at the look that ended it; with more than one
      effect also all intervals of the family at once.
    - false_equivalent: an effect of one margin is claimed to be smaller ("equivalent", or a direction "below the
      margin"), every effect alone at alpha.
    - familywise: any false claim in a study, wrong direction or too small, the family judged at alpha.
    - power: the direction is found, and the right one, the family judged at alpha; with looks at any of them, as for
      type_i.  Its target is the noncentral t, with looks the same studies judged once at the last look.
      power_as_stopped: the same where an early "equivalent", true or false, ends the effect.
    - equivalence: an effect of 0 is found equivalent; reference as for power.
    - blocks_ratio: mean blocks to an effect's verdict over those of the fixed design; blocks_ratio_study: the same for
      the study, which continues until all its effects are decided.  Stops for futility are not counted here.
    - futility: effects that could have been given up (`semalign.judge.looks.FUTILE`) before their verdict.

    Args:
        reps: studies per world and design, at least 2.
        seed: same seed, same rates; more studies begin with the same ones.
        worlds: of `WORLDS`.
        designs: of `DESIGNS`; None for all.
        alpha: family-wise level.
        progress: called with chunks done and chunks in all.

    Returns:
        {"seed", "reps", "rates": [`Rate`, ...]}.

    Raises:
        StudyError: fewer than 2 studies, an unknown world or design, or alpha outside (0, 1).
    """
    if reps < 2:
        raise StudyError(f"reps is {reps}, expected at least 2 studies, and 2000 or more for rates worth reading")
    names = list(DESIGNS) if designs is None else list(designs)
    for what, asked, known in (("world", list(worlds), list(WORLDS)), ("design", names, list(DESIGNS))):
        for name in asked:
            if name not in known:
                raise StudyError(f"there is no {what} {name!r} to simulate{nearest(name, known)}")
    plans = (
        _Plan("", LOOKS[-1:], alpha),
        _Plan(f", {SHORT} blocks", (SHORT,), alpha),
        _Plan(" with looks", LOOKS, alpha),
    )
    sizes = [min(CHUNK, reps - start) for start in range(0, reps, CHUNK)]
    rates: list[Rate] = []
    done, total = 0, len(worlds) * len(names) * len(sizes)
    for world, name in itertools.product(worlds, names):
        design = DESIGNS[name]
        found: list[dict[Key, _Tally]] = [{} for _ in plans]
        for chunk, n in enumerate(sizes):
            # A whole chunk is drawn whatever part of it is used, so that more studies begin with the same ones.
            generator = numpy_generator(seed, "simulate", world, name, chunk)
            scores = _draw(world, design, CHUNK, LOOKS[-1], generator)[:n]
            for effect, planted in _scenarios(design):
                truth = design.weights @ planted
                contrasts = block_contrasts(scores + planted[:, None], design.weights)
                for plan, tallies in zip(plans, found, strict=True):
                    # Without looks the interval covers the same whatever is planted.
                    _count(tallies, plan, contrasts, truth, effect, every=len(plan.looks) > 1 or effect == 0.0)
            done += 1
            if progress is not None:
                progress(done, total)
        fixed = found[0]
        for plan, tallies in zip(plans, found, strict=True):
            rates += _rates(world, design, plan, tallies, fixed)
    return {"seed": seed, "reps": reps, "rates": rates}


def _scenarios(design: Design) -> Iterator[tuple[float | str, Floats]]:
    for effect in PLANTED:
        yield effect, effect * MARGIN * design.planted
    yield "mixed", MARGIN * design.mixed


def _rates(
    world: World, design: Design, plan: _Plan, tallies: dict[Key, _Tally], fixed: dict[Key, _Tally]
) -> Iterator[Rate]:
    m = len(design.contrasts)
    for (quantity, effect, size), tally in tallies.items():
        target, reference = _target(world, design, plan, quantity, effect, size, fixed)
        yield {
            "world": world,
            "design": design.name + plan.suffix,
            "quantity": quantity,
            "value": tally.value,
            "se": tally.se,
            "target": target,
            "effect": effect,
            "effects": size,
            "looks": list(plan.looks),
            "reference": reference,
        }
    if len(plan.looks) > 1:
        ends = [tallies["blocks_ratio", effect, m] for effect in (PLANTED[0], PLANTED[-1])]
        promised = bool(np.allclose(_effect_sds(world, design), MARGIN)) and world in ("normal", "random slopes")
        yield {
            "world": world,
            "design": design.name + plan.suffix,
            "quantity": "blocks_ratio",
            "value": sum(end.value for end in ends) / 2,
            # The same studies at both effects: at worst their errors add up.
            "se": sum(end.se for end in ends) / 2,
            "target": [0.0, MOST_BLOCKS.get(m, 1.0) if promised else 1.0],
            "effect": "0 and 2",
            "effects": m,
            "looks": list(plan.looks),
            "reference": 1.0,
        }


def _target(
    world: World,
    design: Design,
    plan: _Plan,
    quantity: str,
    effect: float | str,
    size: int,
    fixed: dict[Key, _Tally],
) -> tuple[list[float], float | None]:
    """Return lowest and highest value that is as it should be, and what the value is compared with."""
    alpha, exact = plan.alpha, world in ("normal", "random slopes")
    if quantity == "type_i":
        return [alpha - SLACK if exact else 0.0, alpha + SLACK], alpha
    if quantity in ("familywise", "false_equivalent"):
        return [0.0, alpha + SLACK], alpha
    if quantity == "coverage":
        return [1 - alpha - SLACK, 1.0], 1 - alpha
    if quantity in ("power", "power_as_stopped", "equivalence"):
        assert isinstance(effect, float)
        if len(plan.looks) > 1:
            once = fixed["equivalence" if quantity == "equivalence" else "power", effect, size].value
            # More power than the fixed design's is no fault: bad seeds strike fewer studies that end early.
            return [max(0.0, once - POWER_SLACK) if quantity == "power" else 0.0, 1.0], once
        sds, n = _effect_sds(world, design), plan.looks[0]
        each = (
            direction_power(effect * MARGIN, sds, n, alpha, size)
            if quantity == "power"
            else np.array([equivalence_power(0.0, float(sd), n, MARGIN, alpha, size) for sd in sds])
        )
        expected = float(np.mean(each))
        low, high = max(0.0, expected - POWER_SLACK), min(1.0, expected + POWER_SLACK)
        return ([low, high] if exact else [0.0, 1.0]), expected
    return [0.0, 1.0], None


def outside(rate: Rate, sigmas: float = 3.0) -> bool:
    """Return whether a rate lies outside its target by more than ``sigmas`` Monte Carlo standard errors."""
    low, high = rate["target"]
    return not low - sigmas * rate["se"] <= rate["value"] <= high + sigmas * rate["se"]
