"""The source document's statements with their answers, and advice."""

from __future__ import annotations

from semalign.judge.advice import advise
from semalign.judge.claims import STATEMENTS, Claim, judge_claims, needs_of
from semalign.judge.evidence import Evidence
from semalign.report.cells import Cell, Column, Row, Table
from semalign.report.digits import Digits
from semalign.report.evidence import SPIKE, gate_effects
from semalign.report.numbers import StudyNumbers
from semalign.report.sentences import level_of_means
from semalign.wording import Catalogue, Message

__all__ = ["advice_table", "claims_table"]


_TONES = {"supported": "better", "refuted": "worse", "undecided": "inconclusive"}


def claims_table(numbers: StudyNumbers, evidence: Evidence, words: Catalogue) -> Table:
    """Return every statement of the document with its answer and the numbers behind it."""
    answered = {claim.id: claim for claim in judge_claims(evidence)}
    rows = tuple(_claim_row(identity, answered.get(identity), words) for identity in STATEMENTS)
    columns = (
        Column(words("table.statement")),
        Column(words("table.answer head")),
        Column(words("table.finding head")),
    )
    note = words(
        "table.claims note",
        level=level_of_means(numbers),
        n=len(numbers.judged_seeds),
        looks=words("table.claims note looks") if numbers.judgement.moments else "",
        spike=SPIKE,
    )
    return Table(words("table.claims title"), columns, rows, (note,))


def _claim_row(identity: str, claim: Claim | None, words: Catalogue) -> Row:
    statement = Cell(words(f"claim.statement {identity}"))
    if claim is None:
        need = words("claim.silent why", need=needs_of(identity))
        return Row((statement, Cell(words("claim.silent")), Cell(need)))
    answer = Cell(words.text(claim.word), word=_TONES[claim.answer])
    return Row((statement, answer, Cell(words.text(claim.finding))))


def advice_table(numbers: StudyNumbers, evidence: Evidence, words: Catalogue, digits: Digits) -> Table:
    """Return what to do in the document's three situations, and why."""
    rows = []
    for advice in advise(evidence, judge_claims(evidence)):
        reasons = [_reason(reason, numbers, words, digits) for reason in advice.reasons]
        rows.append(
            Row(
                (
                    Cell(words.text(advice.when)),
                    Cell(words.run_on(*advice.recommendations)),
                    Cell(words.run_on(*reasons)),
                )
            )
        )
    columns = (Column(words("table.situation")), Column(words("report.advice")), Column(words("table.reasons head")))
    return Table(words("report.advice"), columns, tuple(rows), (words("report.advice text"),))


def _reason(reason: Message, numbers: StudyNumbers, words: Catalogue, digits: Digits) -> str:
    apart = gate_effects(numbers) if reason.key == "claim.why gates unknown" else ()
    if not apart:
        return words.text(reason)
    shown = []
    for name in apart:
        estimate, verdict = numbers.judgement.of(name)
        figure = digits.effect(estimate.mean, estimate.low, estimate.high, words("report.none"))
        shown.append(words("report.gate effect", effect=name, figure=figure, word=words(f"verdict.{verdict.word}")))
    return words("report.gates apart", effects=words("report.detail separator").join(shown))
