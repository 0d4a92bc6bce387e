from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
import yaml

from semalign.config.options import TextKind
from semalign.config.reader import validate
from semalign.config.study import StudyOptions
from semalign.errors import ConfigError
from semalign.judge.contrasts import contrasts_of
from semalign.judge.metric import Metric
from semalign.report.numbers import findings, load_study
from semalign.report.page import build_page
from semalign.report.paper import paper_text
from semalign.report.sentences import catalogue_of, watch_sentences
from semalign.study.design import builtin_studies
from semalign.wording import LANGUAGES, Language, Text, Translated, say
from tests.report.study_folder import EN, ZH, paired

QUESTION = {"en": "Is A better?", "zh": "A 更好吗？"}


def built_in_texts() -> Iterator[tuple[str, Text]]:
    """Return the texts that the package's own studies put into a report."""
    for name, path in builtin_studies().items():
        study = validate(StudyOptions, yaml.safe_load(path.read_text(encoding="utf-8")), name)
        yield name, study.question
        yield name, study.source
        if not isinstance(study.contrasts, str):
            yield from ((name, contrast.question) for contrast in study.contrasts)
        for table in study.tables:
            yield name, table.title
            yield from ((name, head) for head in table.columns)
            yield from ((name, cell) for row in table.rows for cell in row.cells if cell not in (row.arm, "Baseline"))


@pytest.mark.parametrize(("name", "text"), sorted(built_in_texts(), key=lambda found: str(found)))
def test_own_texts_are_translated(name: str, text: Text) -> None:
    """Questions, sources, tables and effects of the built-in studies are Chinese in a Chinese report."""
    assert isinstance(text, Translated), name
    assert EN.text(text) == text.en
    assert ZH.text(text) == text.zh
    assert any(ord(letter) > 0x2E80 for letter in text.zh), name


def test_kinds_of_text_are_named() -> None:
    """Every value of data.text is told in both languages."""
    for kind in get_args(TextKind):
        assert EN(f"common.text {kind}") != ZH(f"common.text {kind}")


def test_a_study_of_the_user_in_two_languages(tmp_path: Path) -> None:
    """A study file gives a text once for all languages, or in each of them; contrasts hand it on."""
    contrast = {
        "name": "A - Baseline",
        "weights": {"A": 1, "Baseline": -1},
        "question": dict(QUESTION),
        "above": "higher",
    }
    study = load_study(paired(tmp_path / "study", question=QUESTION, contrasts=[contrast]).path).study
    (effect,) = contrasts_of(study.effects, study.arms, study.baseline)

    assert study.question == effect.question == Translated(**QUESTION)
    assert effect.above == "higher"


@pytest.mark.parametrize("question", [{"en": "Is A better?"}, {**QUESTION, "fr": "A ?"}, {**QUESTION, "zh": 1}, 3])
def test_half_a_translation(tmp_path: Path, question: object) -> None:
    """A text that lacks a language, or has another, is refused."""
    with pytest.raises(ConfigError, match=r"option question .* a text for each of en, zh"):
        load_study(paired(tmp_path / "study", question=question).path)


@pytest.mark.parametrize("lang", LANGUAGES)
def test_another_metric_is_named(tmp_path: Path, lang: Language) -> None:
    """Answers, effects, method and the paragraph for a paper name the metric and unit of the judgement."""
    numbers = load_study(paired(tmp_path / "study").path)
    metric = Metric("depth error", "mm", lowest=0.0)
    numbers = dataclasses.replace(numbers, judgement=dataclasses.replace(numbers.judgement, metric=metric))
    words = catalogue_of(numbers, lang)
    page = build_page(numbers, words)
    method = [sentence for fact in (*page.method, *page.protocol) for sentence in fact.sentences]

    assert "depth error mm" in page.cards[0].sentence
    assert page.effects_table.columns[2].head.startswith("depth error mm")
    assert page.tables[0].columns[1].head == "depth error"
    assert sum("depth error mm" in sentence for sentence in method) == 2
    assert "depth error mm" in paper_text(numbers, page.new_images, words)
    for sentence in (page.cards[0].sentence, *page.change, *page.tables[0].notes):
        assert "mIoU" not in sentence


def test_notes_of_runs(tmp_path: Path) -> None:
    """A note that a run keeps as a message is said in the report's language, once for all arms; a text stays a text."""
    folder = paired(tmp_path / "study")
    note = say("common.blocks", n=3).to_dict()
    for arm in ("Baseline", "A"):
        folder.run(arm, 0, ["1/2", "3/10", None], facts={"notes": [note, "so it is"]})
    folder.run("A", 1, ["1/2", "3/10", None], facts={"notes": [{"key": "gone.note", "values": {}, "text": "it was"}]})
    numbers = load_study(folder.path)

    assert [(str(text), arms) for text, arms in findings(numbers)] == [
        ("3 blocks", ("Baseline", "A")),
        ("so it is", ("Baseline", "A")),
        ("it was", ("A",)),
    ]
    assert watch_sentences(numbers, ZH)[:1] == ("Baseline、A：3 个区组",)
