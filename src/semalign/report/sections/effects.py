"""The figures of all effects with their intervals and the margin."""

from __future__ import annotations

from semalign.judge import Estimate, Verdict
from semalign.report.digits import Digits
from semalign.report.figures.shapes import EffectMark, EffectsPlot
from semalign.report.numbers import StudyNumbers
from semalign.report.sections.parts import Figure
from semalign.report.sentences import effect_name, family_name
from semalign.wording import Catalogue

__all__ = ["effects_figures"]


def effects_figures(numbers: StudyNumbers, words: Catalogue, digits: Digits) -> tuple[Figure, ...]:
    """Return one figure per family, so that a large effect of a control does not hide the small ones."""
    figures = []
    margin = f"{numbers.study.margin:g}"
    for index, family in enumerate(numbers.judgement.families):
        marks = tuple(
            _mark(estimate, verdict, numbers, words, digits)
            for estimate, verdict in zip(numbers.judgement.estimates, numbers.judgement.verdicts, strict=True)
            if estimate.contrast.family == family and estimate.mean is not None
        )
        if marks:
            values = words("report.detail separator").join(f"{mark.label} {mark.figure}" for mark in marks)
            figures.append(
                Figure(
                    family_name(family, words),
                    EffectsPlot(
                        key=f"effects-{index}",
                        description=words("figure.effects description", margin=margin, values=values),
                        marks=marks,
                        margin=numbers.study.margin,
                        x_label=words("figure.effects axis"),
                        margin_label=words("figure.margin band", margin=margin),
                    ),
                )
            )
    return tuple(figures)


def _mark(estimate: Estimate, verdict: Verdict, numbers: StudyNumbers, words: Catalogue, digits: Digits) -> EffectMark:
    assert estimate.mean is not None
    return EffectMark(
        label=effect_name(estimate, numbers, words),
        figure=f"{digits.effect(estimate.mean, estimate.low, estimate.high, '')} {words(f'verdict.{verdict.word}')}",
        word=verdict.word,
        mean=estimate.mean,
        interval=None if estimate.low is None or estimate.high is None else (estimate.low, estimate.high),
        inner=(
            None
            if estimate.low_equivalence is None or estimate.high_equivalence is None
            else (estimate.low_equivalence, estimate.high_equivalence)
        ),
        values=estimate.values,
    )
