"""The answers: one card for each primary effect."""

from __future__ import annotations

from semalign.judge import Contrast, Estimate, Judgement, Verdict
from semalign.report.digits import Digits
from semalign.report.numbers import StudyNumbers
from semalign.report.sections.looks import look_sentence
from semalign.report.sections.parts import Card
from semalign.report.sentences import verdict_text
from semalign.wording import Catalogue

__all__ = ["card_of", "plain_sentence", "tally_sentence"]


def tally_sentence(judgement: Judgement, words: Catalogue) -> str:
    """Return how many primary effects are decided, and how; "" where there is none."""
    found = [
        verdict.word
        for estimate, verdict in zip(judgement.estimates, judgement.verdicts, strict=True)
        if estimate.contrast.family == "primary"
    ]
    kinds = ("better", "worse", "equivalent", "inconclusive")
    counted = [
        words("report.tally word", n=found.count(kind), word=words(f"verdict.{kind}"))
        for kind in kinds
        if kind in found
    ]
    decided = sum(word != "inconclusive" for word in found)
    return words("report.tally", total=len(found), decided=decided, words=words.join(counted)) if found else ""


def card_of(estimate: Estimate, verdict: Verdict, numbers: StudyNumbers, words: Catalogue, digits: Digits) -> Card:
    """Return one effect's answer."""
    contrast = estimate.contrast
    return Card(
        name=contrast.name,
        question=_question(contrast, words),
        word=verdict.word,
        verdict=verdict_text(verdict, words),
        sentence=words.run_on(
            plain_sentence(estimate, verdict, numbers.judgement, words, digits),
            look_sentence(numbers.judgement, estimate, words),
        ),
        reason=words.text(verdict.reason),
        mark=words("report.leaking") if numbers.leaking & set(contrast.weights) else "",
    )


def _question(contrast: Contrast, words: Catalogue) -> str:
    if not contrast.question and sorted(contrast.weights.values()) == [-1.0, 1.0]:
        second, first = sorted(contrast.weights, key=contrast.weights.__getitem__)
        return words("judge.question arm", arm=first, baseline=second)
    return words.text(contrast.question)


def plain_sentence(estimate: Estimate, verdict: Verdict, judgement: Judgement, words: Catalogue, digits: Digits) -> str:
    """Return the answer in plain words, from the same numbers as the verdict's reason."""
    moment, margin = judgement.moment_of(estimate), judgement.margin
    if judgement.moments and moment is None:
        return words("answer.plain before look", n=estimate.n, first=judgement.moments[0])
    if estimate.mean is None or estimate.low is None or estimate.high is None:
        return words("answer.plain no interval", n=estimate.n)
    values = {
        "mean": digits.points(estimate.mean),
        "interval": digits.interval(estimate.low, estimate.high),
        "margin": f"{margin:g}",
    }
    if verdict.word in ("better", "worse"):
        called = words.text(estimate.called or verdict.word)
        called = called[:1].upper() + called[1:]
        beyond = max(estimate.low, -estimate.high) > margin
        key = "below" if verdict.below_margin else "beyond" if beyond else "direction"
        return words(f"answer.plain {key}", called=called, **values)
    if verdict.word == "equivalent":
        assert estimate.low_equivalence is not None
        assert estimate.high_equivalence is not None
        inner = digits.interval(estimate.low_equivalence, estimate.high_equivalence)
        return words("answer.plain equivalent", inner=inner, **values)
    low, high = digits.points(estimate.low), digits.points(estimate.high)
    if verdict.blocks_needed is not None:
        return words("answer.plain inconclusive", n=estimate.n, low=low, high=high, needed=verdict.blocks_needed)
    lost = sum(item.contrast == estimate.contrast.name for item in judgement.left_out)
    if estimate.low <= 0 <= estimate.high and moment is not None and moment[0] < len(judgement.moments):
        return words("answer.plain open look", n=estimate.n, low=low, high=high, next=judgement.moments[moment[0]])
    if lost:
        return words("answer.plain lost", lost=lost, all=lost + estimate.n)
    return words("answer.plain other")
