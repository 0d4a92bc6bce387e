"""Whether the verdicts hold for new images too."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePath

from semalign.judge import Verdict
from semalign.judge.new_images import FEWEST_CLUSTERS
from semalign.report.cells import Cell, Column, Row, Table
from semalign.report.differences import NewImagesAnswer
from semalign.report.digits import Digits
from semalign.report.numbers import StudyNumbers
from semalign.report.sections.parts import Section, present
from semalign.report.sentences import contrast_mark
from semalign.wording import Catalogue

__all__ = ["new_images_section", "new_images_sentences", "new_images_table", "suspected_sequences"]


_FRAME = re.compile(r"\d+$")


def suspected_sequences(images: Sequence[str]) -> int | None:
    """Return the number of sequences whose frames the images seem to be, by names that differ in a last number alone.

    None where names do not end in a number, or where there are too few frames to a sequence.

    >>> suspected_sequences(["a_01", "a_02", "b_07", "b_08"]), suspected_sequences(["one", "two"])
    (2, None)
    """
    stems = [PurePath(name).stem for name in images]
    heads = [_FRAME.sub("", stem) for stem in stems]
    if any(head == stem for head, stem in zip(heads, stems, strict=True)):
        return None
    found = len(set(heads))
    return found if 2 * found <= len(stems) else None


def new_images_sentences(numbers: StudyNumbers, answer: NewImagesAnswer, words: Catalogue) -> tuple[str, ...]:
    """Return what the verdicts are about, and whether they hold for new images too, or why that is not judged."""
    said = [words("report.new images text", images=answer.images)] if answer.images else []
    if answer.refused is not None:
        return (*said, words(f"report.new images {answer.refused}", clusters=answer.clusters, fewest=FEWEST_CLUSTERS))
    if answer.named:
        return (*said, words("report.new images clusters", clusters=answer.clusters))
    said.append(words("report.new images own"))
    sequences = suspected_sequences(numbers.score.images)
    if sequences is not None:
        said.append(words("report.new images suspect", n=sequences))
    return tuple(said)


def new_images_table(numbers: StudyNumbers, answer: NewImagesAnswer, words: Catalogue, digits: Digits) -> Table | None:
    """Return both questions' answers side by side; None where new images are not judged."""
    if not answer.judged:
        return None
    rows = []
    for one, estimate, verdict in zip(
        answer.judged, numbers.judgement.estimates, numbers.judgement.verdicts, strict=True
    ):
        total = one.se**2
        share = 0.0 if total == 0 else max(0.0, 1 - one.variance_seeds / total)
        rows.append(
            Row(
                (
                    Cell(one.contrast.name, mark=contrast_mark(estimate, numbers, words)),
                    Cell(digits.effect(estimate.mean, estimate.low, estimate.high, words("report.none"))),
                    Cell(words(f"verdict.{verdict.word}"), word=verdict.word),
                    Cell(digits.effect(one.mean, one.low, one.high, words("report.none"))),
                    Cell(_bare_word(one.verdict, words), word=one.verdict.word),
                    Cell(f"{100 * share:.0f} %"),
                )
            )
        )
    columns = (
        Column(words("table.effect name")),
        Column(words("table.on these"), numeric=True),
        Column(words("table.verdict")),
        Column(words("table.on new"), numeric=True),
        Column(words("table.verdict")),
        Column(words("table.share images"), numeric=True),
    )
    return Table(words("table.new images title"), columns, tuple(rows), (words("table.new images note"),))


def _bare_word(verdict: Verdict, words: Catalogue) -> str:
    word = words(f"verdict.{verdict.word}")
    return words("answer.below margin", word=word) if verdict.below_margin else word


def new_images_section(
    numbers: StudyNumbers, answer: NewImagesAnswer, words: Catalogue, digits: Digits
) -> Section | None:
    """Return what holds for new images too; None where runs hold scores alone."""
    if not numbers.has_images and answer.refused == "scores only":
        return None
    said = new_images_sentences(numbers, answer, words)
    table = new_images_table(numbers, answer, words, digits)
    return Section("new-images", words("report.new images"), said, (), present(table))
