from __future__ import annotations

from collections.abc import Iterator

import pytest
import yaml

from semalign.config.reader import validate
from semalign.config.study import StudyOptions
from semalign.judge.contrasts import contrasts_of
from semalign.report.words import known
from semalign.study.design import builtin_studies
from semalign.train.run_text import KINDS


def built_in_texts() -> Iterator[tuple[str, str]]:
    """Return the texts that the package's own studies put into a report."""
    for name, path in builtin_studies().items():
        study = validate(StudyOptions, yaml.safe_load(path.read_text(encoding="utf-8")), name)
        yield name, study.question
        yield name, study.source
        for contrast in contrasts_of(study.effects, study.arms, study.baseline, study.levels):
            if isinstance(contrast.question, str) and contrast.question:
                yield name, contrast.question
        for table in study.tables:
            yield name, table.title
            yield from ((name, head) for head in table.columns)
            yield from (
                (name, cell) for row in table.rows for cell in row.cells if cell not in (*study.arms, "Baseline")
            )
    yield from (("text", meaning) for meaning in KINDS.values())


@pytest.mark.parametrize(("name", "text"), sorted(set(built_in_texts())))
def test_own_texts_are_translated(name: str, text: str) -> None:
    """Questions, sources, tables and effects of the built-in studies are Chinese in a Chinese report."""
    assert known(text, "zh") != text, name
    assert known(text, "en") == text


def test_unknown_texts_stay() -> None:
    """A user's own question is shown as it is."""
    assert known("What is this?", "zh") == "What is this?"
