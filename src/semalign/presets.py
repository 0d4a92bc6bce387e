"""The alignment presets, the arms of the document's tables, and the defaults that several rooms share.

Plain values; every other room reads them here.  This module knows nothing of torch, of modules and of files.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

__all__ = [
    "BASELINE",
    "CONTROL_ARMS",
    "DEFAULT_BASE",
    "DOCUMENT_ARMS",
    "EARLIEST_LOOK",
    "IMAGE_MEAN",
    "IMAGE_STD",
    "INIT_ONCE_LEARNABLE",
    "LEARNABLE_KNOBS",
    "LOOKS",
    "PILOT_ARMS",
    "PRESETS",
    "SCENES",
    "Activation",
    "AlignmentForm",
    "AlignmentKnobs",
    "Base",
    "Bound",
    "GateKnobs",
    "LongText",
    "PresetName",
    "Residual",
    "ScenesDefaults",
    "Side",
    "Similarity",
    "TemperatureKnobs",
    "TextLevel",
    "starts_dead",
]

PresetName = Literal["recommended", "seed", "document", "transformer", "clip", "xvlm"]
Side = Literal["encoder", "decoder"]
Similarity = Literal["dot", "cosine", "cosine-full"]
Base = Literal["1", "1/sqrt(d)"]
Bound = Literal["project", "clamp", "none"]
Activation = Literal["none", "tanh", "sigmoid"]
Residual = Literal["plain", "pre-norm", "normalized"]
AlignmentForm = Literal["auto", "folded", "sdpa", "reference"]
"""How an alignment is computed: the results are the same."""
TextLevel = Literal["sentence", "token"]
"""What guides: one vector per sentence, or one per token of each sentence."""
LongText = Literal["split", "cut", "refuse"]
"""What is done with a text that is longer than its encoder reads."""


@dataclass(frozen=True, slots=True)
class TemperatureKnobs:
    """Scale of the attention logits, ``scale = base * exp(l)``.

    Attributes:
        base: ``"1"`` or ``"1/sqrt(d)"`` with d the width of one head.
        init: l at the start, in the log domain (log of the scale over its base).
        learnable: whether l is a parameter; otherwise it stays at ``init``.
        per_head: one l per head instead of one for the site.
        bound: ``"project"`` puts l back inside after each optimizer step, ``"clamp"`` clamps it in the forward (its
            gradient outside is exactly 0), ``"none"`` leaves it alone.
        bounds: (lowest, highest) l; None exactly when ``bound`` is ``"none"``.
    """

    base: Base
    init: float
    learnable: bool
    per_head: bool = False
    bound: Bound = "project"
    bounds: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class GateKnobs:
    """Strength of the branch, ``g = activation(theta)``.

    Attributes:
        init: the gate's value g at the start (not theta); it must lie in the activation's open range.
        learnable: whether theta is a parameter; otherwise g stays at ``init``.
        activation: ``"none"`` (any g), ``"tanh"`` (g in (-1, 1)) or ``"sigmoid"`` (g in (0, 1)).
        per_channel: one g per channel instead of one for the site.
    """

    init: float
    learnable: bool
    activation: Activation = "none"
    per_channel: bool = False


@dataclass(frozen=True, slots=True)
class AlignmentKnobs:
    """All settings of one alignment site.

    Attributes:
        similarity: ``"dot"``; ``"cosine"`` (per head); ``"cosine-full"`` (over the full width, before the head split).
        temperature: see `TemperatureKnobs`.
        gate: see `GateKnobs`.
        residual: ``"plain"`` is y = x + branch(x), without norms and FFN, and the only one of the encoder side;
            ``"pre-norm"`` is z = x + branch(LN x), y = z + FFN(LN z); ``"normalized"`` is
            z = LN(LN x + branch(LN x)), y = z + FFN(z).
        top_k: attention over the k tokens with the highest logits only; None for all tokens.
    """

    similarity: Similarity
    temperature: TemperatureKnobs
    gate: GateKnobs
    residual: Residual = "plain"
    top_k: int | None = None


DEFAULT_BASE: Final[Mapping[Similarity, Base]] = {"dot": "1/sqrt(d)", "cosine": "1", "cosine-full": "1"}

# CLIP's temperature at initialisation and its ceiling, https://arxiv.org/abs/2103.00020 section 2.5.
CLIP_L = math.log(1 / 0.07)
_CLIP_BOUNDS = (0.0, math.log(100.0))
_TENFOLD = (-math.log(10.0), math.log(10.0))
_SEED_CLAMP = (-2.0, 2.0)


def _plain_dot(gate: float, *, gate_learnable: bool, l_learnable: bool = False) -> AlignmentKnobs:
    """Return dot attention at 1/sqrt(d) whose l starts at 0 and stays within a factor of ten."""
    return AlignmentKnobs(
        similarity="dot",
        temperature=TemperatureKnobs("1/sqrt(d)", 0.0, l_learnable, bound="project", bounds=_TENFOLD),
        gate=GateKnobs(gate, gate_learnable),
    )


def _decoder(knobs: AlignmentKnobs) -> AlignmentKnobs:
    return dataclasses.replace(knobs, residual="pre-norm")


def _clip(gate: float, init: float = CLIP_L) -> AlignmentKnobs:
    return AlignmentKnobs(
        similarity="cosine",
        temperature=TemperatureKnobs("1", init, True, bound="project", bounds=_CLIP_BOUNDS),
        gate=GateKnobs(gate, True),
    )


_SEED_ENCODER = AlignmentKnobs(
    similarity="dot",
    temperature=TemperatureKnobs("1/sqrt(d)", 0.0, False, bound="clamp", bounds=_SEED_CLAMP),
    gate=GateKnobs(0.5, True),
)
_SEED_DECODER = AlignmentKnobs(
    similarity="cosine-full",
    temperature=TemperatureKnobs("1/sqrt(d)", CLIP_L, True, bound="clamp", bounds=_SEED_CLAMP),
    gate=GateKnobs(0.1, True),
    residual="normalized",
)

PRESETS: Final[Mapping[PresetName, Mapping[Side, AlignmentKnobs]]] = {
    "recommended": {
        "encoder": _plain_dot(0.5, gate_learnable=True),
        "decoder": _decoder(_clip(0.1, init=math.log(10.0))),
    },
    "seed": {"encoder": _SEED_ENCODER, "decoder": _SEED_DECODER},
    "document": {
        "encoder": _SEED_ENCODER,
        "decoder": dataclasses.replace(_SEED_DECODER, similarity="dot", residual="plain"),
    },
    "transformer": {
        "encoder": _plain_dot(1.0, gate_learnable=False),
        "decoder": _decoder(_plain_dot(1.0, gate_learnable=False)),
    },
    "clip": {"encoder": _clip(0.5), "decoder": _decoder(_clip(0.1))},
    "xvlm": {
        "encoder": _plain_dot(0.5, gate_learnable=True),
        "decoder": _decoder(_plain_dot(0.1, gate_learnable=True, l_learnable=True)),
    },
}


def starts_dead(preset: PresetName) -> bool:
    """Return whether a learnable temperature of the preset starts outside its clamp, where its gradient is 0.

    >>> [name for name in PRESETS if starts_dead(name)]
    ['seed', 'document']
    """
    temperatures = [knobs.temperature for knobs in PRESETS[preset].values()]
    return any(
        knobs.learnable
        and knobs.bound == "clamp"
        and knobs.bounds is not None
        and not knobs.bounds[0] <= knobs.init <= knobs.bounds[1]
        for knobs in temperatures
    )


INIT_ONCE_LEARNABLE: Final[Mapping[tuple[str, Side], float]] = {
    ("seed", "encoder"): CLIP_L,
    ("document", "encoder"): CLIP_L,
}
"""By preset and side, where a temperature starts that the preset fixes and an option makes learnable, if elsewhere than
at the preset's ``init``: the document's recipe changes the start as well as the nature of the temperature."""

LEARNABLE_KNOBS: Final = (
    "align.encoder.temperature.learnable",
    "align.encoder.gate.learnable",
    "align.decoder.temperature.learnable",
    "align.decoder.gate.learnable",
)
"""The options of the document's four knobs."""

# ---- arms ----

BASELINE: Final = "Baseline"
"""The arm of the document's tables that the others are compared with."""
DOCUMENT_ARMS: Final = (BASELINE, "A", "B", "C")
"""The arms of the document's two tables."""
CONTROL_ARMS: Final = ("no text", "random vectors", "mask texts")
"""Arms that ask whether the model uses its text."""
PILOT_ARMS: Final = ("recipe", "recipe again")
"""The two arms of a pilot, which are one recipe."""

# ---- looks of a study ----

LOOKS: Final = (5, 8, 12)
"""The blocks at which a study is judged where it does not say otherwise."""
EARLIEST_LOOK: Final = 20
"""The first look is at one block in this many of the last look, or later."""

# ---- data ----

IMAGE_MEAN: Final = 0.45
"""What images in [0, 1] are standardised with: their mean, in each color."""
IMAGE_STD: Final = 0.25
"""What images in [0, 1] are standardised with: their standard deviation, in each color."""


@dataclass(frozen=True, slots=True)
class ScenesDefaults:
    """How the built-in scenes are drawn where nothing else is asked for; see `semalign.data.scenes.Scenes`."""

    necessity: float = 1.0
    n_train: int = 240
    n_val: int = 80
    size: tuple[int, int] = (48, 64)
    seed: int = 0


SCENES: Final = ScenesDefaults()
