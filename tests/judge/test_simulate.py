from __future__ import annotations

import json

import numpy as np
import pytest

from semalign.errors import StudyError
from semalign.judge.simulate import DESIGNS, WORLDS, Rate, Rates, _draw, _effect_sds, outside, simulate
from semalign.judge.statistics import block_contrasts, direction_power


@pytest.fixture(scope="module")
def rates() -> Rates:
    """Return a small run of the whole simulation."""
    return simulate(1500)


def _one(rates: Rates, world: str, design: str, quantity: str, effect: float | str, effects: int) -> Rate:
    wanted = (world, design, quantity, effect, effects)
    found = [
        rate
        for rate in rates["rates"]
        if (rate["world"], rate["design"], rate["quantity"], rate["effect"], rate["effects"]) == wanted
    ]
    assert len(found) == 1
    return found[0]


def test_every_rate_is_within_its_target(rates: Rates) -> None:
    """In all worlds and designs, with and without looks, no rate misses its target by 4 standard errors."""
    assert [rate for rate in rates["rates"] if outside(rate, 4.0)] == []


def test_what_is_simulated(rates: Rates) -> None:
    """Four worlds, four designs judged once, early, and at looks, and every quantity of the contract in each."""
    cells = {(rate["world"], rate["design"]) for rate in rates["rates"]}
    designs = {name + suffix for name in DESIGNS for suffix in ("", ", 5 blocks", " with looks")}

    assert cells == {(world, design) for world in WORLDS for design in designs}
    for cell in cells:
        quantities = {rate["quantity"] for rate in rates["rates"] if (rate["world"], rate["design"]) == cell}
        assert {"type_i", "coverage", "familywise", "false_equivalent", "power"} <= quantities
        assert ("blocks_ratio" in quantities) == cell[1].endswith("with looks")
    for rate in rates["rates"]:
        assert 0 <= rate["target"][0] < rate["target"][1] <= 1
        assert 0 <= rate["value"] <= 1
    json.dumps(rates, allow_nan=False)


def test_targets_are_those_of_the_reach(rates: Rates) -> None:
    """Type-I .05 ± .005, power within .02 of the noncentral t, blocks at most .80 and .90 of the fixed design's."""
    type_i = _one(rates, "normal", "one effect", "type_i", 0.0, 1)
    heavy = _one(rates, "t4", "one effect", "type_i", 0.0, 1)
    power = _one(rates, "random slopes", "factorial", "power", 1.0, 4)
    expected = float(direction_power(1.0, 1.0, 12, 0.05, 4))

    assert type_i["target"] == pytest.approx([0.045, 0.055])
    assert heavy["target"] == pytest.approx([0.0, 0.055])
    assert power["target"] == pytest.approx([expected - 0.02, expected + 0.02])
    assert _one(rates, "normal", "arms", "coverage", 0.0, 1)["target"] == pytest.approx([0.945, 1.0])
    assert _one(rates, "normal", "one effect with looks", "blocks_ratio", "0 and 2", 1)["target"] == [0.0, 0.8]
    assert _one(rates, "normal", "factorial with looks", "blocks_ratio", "0 and 2", 4)["target"] == [0.0, 0.9]
    # The competition's spread is sqrt(2) margins, which the promise does not speak of.
    assert _one(rates, "normal", "arms with looks", "blocks_ratio", "0 and 2", 4)["target"] == [0.0, 1.0]


def test_looks_save_blocks(rates: Rates) -> None:
    """At two margins looks end an effect well before 12 blocks, at little loss of power."""
    ratio = _one(rates, "normal", "one effect with looks", "blocks_ratio", 2.0, 1)
    power = _one(rates, "normal", "one effect with looks", "power", 2.0, 1)

    assert ratio["value"] < 0.7
    assert power["value"] > 0.99


def test_same_seed_same_rates() -> None:
    """The seed decides every figure; another seed gives others; asking for one design changes nothing in it."""
    kwargs = {"worlds": ["t4"], "designs": ["arms"]}
    once, again = simulate(50, 7, **kwargs), simulate(50, 7, **kwargs)  # type: ignore[arg-type]
    other = simulate(50, 8, **kwargs)  # type: ignore[arg-type]
    both = simulate(50, 7, worlds=["normal", "t4"], designs=["one effect", "arms"])

    assert once == again
    assert once["rates"] != other["rates"]
    assert [rate for rate in both["rates"] if rate["world"] == "t4" and rate["design"].startswith("arms")] == (
        once["rates"]
    )


def test_a_judgement_without_boundaries_would_be_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the single-look boundary used at every look the simulation finds too many false claims."""
    from semalign.judge import simulate as module
    from semalign.judge.statistics import fixed_boundary

    def careless(looks: tuple[int, ...], alpha: float, m: int = 1) -> tuple[object, ...]:
        return tuple(fixed_boundary(n, alpha, m) for n in looks)

    monkeypatch.setattr(module, "look_boundaries", careless)
    found = simulate(2000, worlds=["normal"], designs=["one effect"])
    type_i = _one(found, "normal", "one effect with looks", "type_i", 0.0, 1)

    assert outside(type_i)
    assert type_i["value"] > 0.08


@pytest.mark.parametrize("name", list(DESIGNS))
def test_designs_plant_what_they_say(name: str) -> None:
    """One unit planted makes every contrast 1; the mixed plan makes each 0 or 1, and has both where it can."""
    design = DESIGNS[name]
    mixed = design.weights @ design.mixed

    assert design.weights @ design.planted == pytest.approx(np.ones(len(design.contrasts)))
    assert set(np.round(mixed, 12)) == ({1.0} if len(mixed) == 1 else {0.0, 1.0})


def test_the_half_that_holds_the_baseline() -> None:
    """The half fraction holds Baseline (- + + +), whose signs multiply to -1, and 8 of the 16 runs."""
    half, full = DESIGNS["half fraction"], DESIGNS["factorial"]

    assert "-+++" in half.arms
    assert (len(half.arms), len(full.arms)) == (8, 16)
    assert set(half.arms) < set(full.arms)


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("name", list(DESIGNS))
def test_worlds_have_the_spread_they_say(world: str, name: str) -> None:
    """Drawn contrasts have mean 0 and the promised sd; bad seeds alone have a larger one."""
    design = DESIGNS[name]
    scores = _draw(world, design, 3000, 5, np.random.default_rng(2))  # type: ignore[arg-type]
    drawn = block_contrasts(scores, design.weights)
    sd = drawn.std(axis=(0, 2))
    expected = _effect_sds(world, design)  # type: ignore[arg-type]

    assert np.all(np.abs(drawn.mean(axis=(0, 2))) < 5 * sd / np.sqrt(15000))
    if world == "bad seeds":
        # A fall of 10 sd in 5 % of the blocks, one run of R: the variance grows by the factor 1 + 100 * 0.05 / R.
        expected = expected * np.sqrt(1 + 5 / len(design.arms))
    assert sd == pytest.approx(expected, rel=0.06)


def test_bad_arguments() -> None:
    """Too few studies, unknown worlds and designs are refused with what is known."""
    with pytest.raises(StudyError, match="reps is 1, expected at least 2"):
        simulate(1)
    with pytest.raises(StudyError, match="no world 'norml' to simulate, did you mean 'normal'"):
        simulate(10, worlds=["norml"])  # type: ignore[list-item]
    with pytest.raises(StudyError, match="no design 'latin' to simulate, known: arms"):
        simulate(10, designs=["latin"])


def test_command_line() -> None:
    """`semalign study simulate --json` prints one JSON object with the rates; without --json a line per target."""
    from typer.testing import CliRunner

    from semalign.cli.app import app

    printed = CliRunner().invoke(app, ["study", "simulate", "--reps", "20", "--json"])
    told = CliRunner().invoke(app, ["study", "simulate", "--reps", "20"])

    assert printed.exit_code == told.exit_code == 0
    assert json.loads(printed.stdout.splitlines()[-1]) == simulate(20)
    assert "normal, one effect, effect 0.0, 1 judged: type_i" in told.stdout
    assert "rates outside their target by more than 3 standard errors" in told.stdout
