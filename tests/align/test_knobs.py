"""Presets and the resolution of knobs."""

import math
import subprocess
import sys

import pytest

from semalign.align.knobs import KNOB_NAMES, resolve_knobs
from semalign.errors import ConfigError
from semalign.presets import PRESETS, AlignmentKnobs, Side

CLIP = math.log(1 / 0.07)
TEN = math.log(10)
HUNDRED = math.log(100)

Row = tuple[str, str, float, bool, str, tuple[float, float], float, bool, str]

# similarity, base, l, l learnable, bound, bounds, gate, gate learnable, residual
TABLE: dict[tuple[str, Side], Row] = {
    ("recommended", "encoder"): ("dot", "1/sqrt(d)", 0, False, "project", (-TEN, TEN), 0.5, True, "plain"),
    ("recommended", "decoder"): ("cosine", "1", TEN, True, "project", (0, HUNDRED), 0.1, True, "pre-norm"),
    ("seed", "encoder"): ("dot", "1/sqrt(d)", 0, False, "clamp", (-2, 2), 0.5, True, "plain"),
    ("seed", "decoder"): ("cosine-full", "1/sqrt(d)", CLIP, True, "clamp", (-2, 2), 0.1, True, "normalized"),
    ("document", "encoder"): ("dot", "1/sqrt(d)", 0, False, "clamp", (-2, 2), 0.5, True, "plain"),
    ("document", "decoder"): ("dot", "1/sqrt(d)", CLIP, True, "clamp", (-2, 2), 0.1, True, "plain"),
    ("transformer", "encoder"): ("dot", "1/sqrt(d)", 0, False, "project", (-TEN, TEN), 1, False, "plain"),
    ("transformer", "decoder"): ("dot", "1/sqrt(d)", 0, False, "project", (-TEN, TEN), 1, False, "pre-norm"),
    ("clip", "encoder"): ("cosine", "1", CLIP, True, "project", (0, HUNDRED), 0.5, True, "plain"),
    ("clip", "decoder"): ("cosine", "1", CLIP, True, "project", (0, HUNDRED), 0.1, True, "pre-norm"),
    ("xvlm", "encoder"): ("dot", "1/sqrt(d)", 0, False, "project", (-TEN, TEN), 0.5, True, "plain"),
    ("xvlm", "decoder"): ("dot", "1/sqrt(d)", 0, True, "project", (-TEN, TEN), 0.1, True, "pre-norm"),
}


def row(knobs: AlignmentKnobs) -> Row:
    """Return the settings in the order of the table."""
    t, g = knobs.temperature, knobs.gate
    assert t.bounds is not None
    return (knobs.similarity, t.base, t.init, t.learnable, t.bound, t.bounds, g.init, g.learnable, knobs.residual)


@pytest.mark.parametrize(("preset", "side"), TABLE)
def test_presets_are_the_table(preset: str, side: Side) -> None:
    """Every preset has the settings of the design's table, on both sides."""
    knobs = resolve_knobs(preset, side)

    assert row(knobs) == TABLE[preset, side]
    assert knobs.top_k is None
    assert not knobs.temperature.per_head
    assert not knobs.gate.per_channel
    assert knobs.gate.activation == "none"


def test_the_table_holds_every_preset() -> None:
    """No preset is missing from the table above, and none has a side too many."""
    assert {(preset, side) for preset, sides in PRESETS.items() for side in sides} == set(TABLE)


@pytest.mark.parametrize(
    ("preset", "init", "bound", "bounds"),
    [
        ("recommended", 0.0, "project", (-TEN, TEN)),
        ("xvlm", 0.0, "project", (-TEN, TEN)),
        # The document's recipe changes the start too, and is dead on arrival.
        ("seed", CLIP, "clamp", (-2.0, 2.0)),
        ("document", CLIP, "clamp", (-2.0, 2.0)),
    ],
)
def test_flipping_the_encoder_temperature(preset: str, init: float, bound: str, bounds: tuple[float, float]) -> None:
    """A temperature made learnable starts where the preset's recipe says."""
    knobs = resolve_knobs(preset, "encoder", temperature_learnable=True)

    assert (knobs.temperature.init, knobs.temperature.bound, knobs.temperature.bounds) == (init, bound, bounds)
    assert knobs.temperature.learnable


def test_a_given_init_wins_over_the_recipe() -> None:
    """temperature.init given together with learnable is used."""
    knobs = resolve_knobs("seed", "encoder", temperature={"learnable": True, "init": 0.25})

    assert knobs.temperature.init == 0.25


def test_fixing_keeps_the_value() -> None:
    """A temperature and a gate made fixed stay where they were, or where they are told."""
    kept = resolve_knobs("recommended", "decoder", temperature_learnable=False, gate_learnable=False)
    told = resolve_knobs("recommended", "decoder", temperature={"learnable": False, "init": 1.5}, gate_init=0.3)

    assert (kept.temperature.init, kept.gate.init) == (TEN, 0.1)
    assert (told.temperature.init, told.gate.init) == (1.5, 0.3)


def test_three_ways_to_write_a_knob() -> None:
    """Nested, dotted and underscored names mean the same."""
    nested = resolve_knobs("clip", "encoder", temperature={"per_head": True}, gate={"activation": "tanh"})
    dotted = resolve_knobs("clip", "encoder", **{"temperature.per_head": True, "gate.activation": "tanh"})
    underscored = resolve_knobs("clip", "encoder", temperature_per_head=True, gate_activation="tanh")

    assert nested == dotted == underscored
    assert nested.temperature.per_head


def test_every_knob_can_be_given_underscored() -> None:
    """Underscored names are unambiguous."""
    assert len({name.replace(".", "_") for name in KNOB_NAMES}) == len(KNOB_NAMES)


@pytest.mark.parametrize(("similarity", "base"), [("dot", "1/sqrt(d)"), ("cosine", "1"), ("cosine-full", "1")])
def test_another_similarity_brings_its_base(similarity: str, base: str) -> None:
    """Another similarity takes its default base; a base given beside it is kept, and so is the preset's own."""
    other: Side = "encoder" if similarity != "dot" else "decoder"
    assert resolve_knobs("recommended", other, similarity=similarity).temperature.base == base

    given = resolve_knobs("recommended", "encoder", similarity=similarity, temperature_base="1/sqrt(d)")
    assert given.temperature.base == "1/sqrt(d)"

    assert resolve_knobs("seed", "decoder", similarity="cosine-full").temperature.base == "1/sqrt(d)"


def test_bound_none_drops_the_bounds() -> None:
    """Without a bound there are no bounds left."""
    assert resolve_knobs("clip", "decoder", temperature_bound="none").temperature.bounds is None


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        (
            {"temperature_lernable": True},
            r"temperature_lernable is unknown, did you mean 'temperature\.learnable'",
        ),
        ({"temperature": {"lernable": True}}, r"decoder\.temperature\.lernable.*did you mean 'temperature\.learnable'"),
        ({"similarty": "dot"}, "did you mean 'similarity'"),
        ({"zzz": 1}, r"known: gate\.activation, .*top_k"),
        ({"temperature": True}, "temperature=True is a bool, expected a mapping of base, init"),
        ({"gate_init": 0.1, "gate": {"init": 0.2}}, "gate.init is given twice"),
        ({"similarity": "cos"}, "similarity='cos' is unknown, did you mean 'cosine'"),
        ({"gate_learnable": 1}, "gate.learnable=1 is a int, expected true or false"),
        ({"gate_init": "0.1"}, "gate.init='0.1' is a str, expected a number"),
        ({"gate_init": True}, "gate.init=True is a bool, expected a number"),
        ({"temperature_init": math.inf}, "temperature.init=inf is not finite"),
        ({"temperature_init": 5.0}, r"init=5 lies outside the bounds \[0, 4\.605\]"),
        ({"temperature_bounds": [1.0]}, r"bounds=\[1\.0\] are not bounds, expected \[lowest, highest\]"),
        ({"temperature_bounds": (2.0, 1.0)}, "expected the first below the second"),
        ({"temperature_bounds": None}, "bounds is missing.*because bound is 'project'"),
        ({"temperature_bound": "none", "temperature_bounds": (0, 1)}, "contradicts temperature.bound='none'"),
        (
            {"temperature": {"bound": "clamp", "bounds": (0, 1), "learnable": False, "init": 1.5}},
            "fixed outside the clamp",
        ),
        ({"gate_activation": "sigmoid", "gate_init": 1.0}, r"gate.init=1 is outside the open range \(0, 1\)"),
        ({"gate_activation": "tanh", "gate_init": -1}, r"open range \(-1, 1\) of activation 'tanh'"),
        ({"top_k": 0}, "top_k=0 is not a number of tokens, expected an integer of at least 1"),
        ({"top_k": 2.0}, "top_k=2.0 is not a number of tokens"),
        ({"residual": "post-norm"}, "residual='post-norm' is unknown"),
    ],
)
def test_bad_knobs(knobs: dict[str, object], message: str) -> None:
    """An unknown name, a wrong type or a value out of range is named with what is expected."""
    with pytest.raises(ConfigError, match=message):
        resolve_knobs("recommended", "decoder", **knobs)


def test_the_encoder_has_no_norm() -> None:
    """A residual with a norm belongs to the decoder."""
    with pytest.raises(ConfigError, match="residual='pre-norm' is for the decoder"):
        resolve_knobs("recommended", "encoder", residual="pre-norm")


def test_unknown_preset() -> None:
    """An unknown preset names the nearest one."""
    with pytest.raises(ConfigError, match=r"model\.preset='recomended' is unknown, did you mean 'recommended'"):
        resolve_knobs("recomended", "encoder")


def test_presets_do_not_import_torch() -> None:
    """The presets are readable without torch, as configuration and reports need."""
    code = "import sys, semalign.presets; sys.exit('torch' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
