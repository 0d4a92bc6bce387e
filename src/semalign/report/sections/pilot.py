"""The noise of identical recipes."""

from __future__ import annotations

from semalign.judge import Pilot, format_p, format_points
from semalign.report.cells import Cell, Column, Row, Table
from semalign.report.digits import Digits
from semalign.report.numbers import StudyNumbers
from semalign.wording import Catalogue

__all__ = ["pilot_sentences", "pilot_table"]


def pilot_sentences(numbers: StudyNumbers, words: Catalogue) -> tuple[str, ...]:
    """Return how the pilot was made and what its noise shows, or why it cannot be judged."""
    complete, started = numbers.pilot_blocks
    if numbers.pilot is None:
        return (words("method.pilot none", complete=complete, started=started),)
    return (words("method.pilot text"), *(words.text(note) for note in numbers.pilot.notes))


def pilot_table(numbers: StudyNumbers, words: Catalogue, digits: Digits) -> Table | None:
    """Return the noise of identical recipes; None without a pilot."""
    pilot = numbers.pilot
    if pilot is None:
        return None

    def plain(value: float) -> str:
        return format_points(value, signed=False)

    correlation = words("report.none")
    if pilot.correlation is not None:
        correlation = f"{pilot.correlation:.2f}"
        if pilot.correlation_low is not None and pilot.correlation_high is not None:
            correlation += f" [{pilot.correlation_low:.2f}, {pilot.correlation_high:.2f}]"
    rows = [
        (words("method.pilot blocks"), str(pilot.n)),
        (words("method.pilot mean"), f"{digits.points(pilot.mean_difference)} ({format_p(pilot.p)})"),
        (
            words("method.pilot sd"),
            f"{plain(pilot.sd_paired)} [{plain(pilot.sd_paired_low)}, {plain(pilot.sd_paired_high)}]",
        ),
        (words("method.pilot single"), plain(pilot.sd_single)),
        (words("method.pilot correlation"), correlation),
        (words("method.pilot pairing"), words(f"method.pairing {pilot.pairing}")),
        *_false_positives(pilot, words),
        *((words("method.pilot margin", n=n), f"±{plain(margin)}") for n, margin in pilot.margins.items()),
    ]
    columns = (Column(words("method.quantity")), Column(words("method.value"), numeric=True))
    return Table(words("method.pilot"), columns, tuple(Row((Cell(term), Cell(value))) for term, value in rows))


def _false_positives(pilot: Pilot, words: Catalogue) -> list[tuple[str, str]]:
    if pilot.false_positives is None:
        return []
    found = words("method.false positives value", found=f"{pilot.false_positives:.1%}", level=f"{pilot.level:.1%}")
    return [(words("method.pilot false positives"), found)]
