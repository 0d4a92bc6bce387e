"""Which effects a study asks for, and which of them share alpha.

This module knows nothing of scores.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from semalign.errors import StudyError
from semalign.judge.statistics import factor_weights
from semalign.judge.verdict import ArmName, Contrast

__all__ = [
    "ABLATION_ARMS",
    "BASELINE",
    "CONTROLS",
    "ablation_contrasts",
    "against_baseline",
    "contrasts_of",
    "factor_effect",
    "family_sizes",
]

BASELINE: ArmName = "Baseline"

CONTROLS: dict[ArmName, str] = {
    "no text": "How does the model score that was trained without text?",
    "random vectors": "How does the model score whose texts are random vectors of equal norm?",
    "mask texts": "How does the model score whose texts were made from the image's own mask (leaking)?",
}
"""Control arms with the question that each answers."""

ABLATION_ARMS: tuple[ArmName, ...] = (BASELINE, "A", "B", "C", *CONTROLS)
"""The arms of the study `ablations`: the document's four, then the controls."""

_PRIMARY = (
    Contrast(
        "A - Baseline",
        {"A": 1, BASELINE: -1},
        "Does a learnable encoder temperature change the mIoU (ablation 1)?",
    ),
    Contrast(
        "B - Baseline",
        {"B": 1, BASELINE: -1},
        "Does fixing the gates of encoder and decoder change the mIoU (ablation 2)?",
    ),
    Contrast(
        "C - Baseline",
        {"C": 1, BASELINE: -1},
        "Does a learnable encoder temperature with fixed gates change the mIoU against the Baseline (ablation 2)?",
    ),
    Contrast(
        "competition: (A - Baseline) - (C - B)",
        {"A": 1, BASELINE: -1, "C": -1, "B": 1},
        "Does a learnable encoder temperature gain less where the gates are learnable too, that is, do they compete?",
        above="temperature and gate reinforce each other",
        below="temperature and gate compete",
    ),
)


def ablation_contrasts(arms: Iterable[ArmName] = ABLATION_ARMS) -> tuple[Contrast, ...]:
    """Return the pre-registered effects of the document's two ablations for a study with these arms.

    Family "primary": A, B and C against the Baseline and the competition of temperature and gate,
    (A - Baseline) - (C - B), below 0 when they compete: four effects when all arms are planned, one for ablation 1
    alone (A), two for ablation 2 alone (B, C).  Family "controls": each control minus the Baseline.

    Args:
        arms: the planned arms, whether or not their runs succeed; effects of arms that are not planned are left out.
    """
    planned = set(arms)
    controls = tuple(
        Contrast(f"{arm} - {BASELINE}", {arm: 1, BASELINE: -1}, question, family="controls")
        for arm, question in CONTROLS.items()
    )
    return tuple(contrast for contrast in (*_PRIMARY, *controls) if planned.issuperset(contrast.weights))


def contrasts_of(kind: str, arms: Iterable[ArmName], baseline: ArmName) -> tuple[Contrast, ...]:
    """Return the effects that a study of this kind judges.

    Args:
        kind: "ablations" (`ablation_contrasts`) or "against-baseline" (`against_baseline`).
        arms: the planned arms.
        baseline: the arm that the others are compared with.

    Raises:
        StudyError: there is none.
    """
    arms = tuple(arms)
    found = ablation_contrasts(arms) if kind == "ablations" else against_baseline(arms, baseline)
    if not found:
        raise StudyError(
            f"the study judges no effect: contrasts are '{kind}' and its arms {', '.join(arms)}, "
            "expected A, B or C beside Baseline, or contrasts: against-baseline"
        )
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
        Contrast(f"{arm} - {baseline}", {arm: 1, baseline: -1}, f"Does {arm} score otherwise than {baseline}?")
        for arm in arms
        if arm != baseline
    )


def factor_effect(
    name: str, arms: Sequence[ArmName], signs: Sequence[int], question: str = "", *, family: str = "primary"
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
