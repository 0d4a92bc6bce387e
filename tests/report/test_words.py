from __future__ import annotations

import string
from collections.abc import Iterator

import pytest
import yaml

from semalign.config.reader import validate
from semalign.config.study import StudyOptions
from semalign.judge import claims
from semalign.judge.contrasts import contrasts_of
from semalign.report.claim_words import CHINESE, NEEDED
from semalign.report.words import known
from semalign.study.design import builtin_studies
from semalign.train.run_text import KINDS

ENGLISH = {
    "statements": claims.STATEMENTS,
    "findings": claims.FINDINGS,
    "parts": claims.PARTS,
    "situations": claims.SITUATIONS,
    "recommendations": claims.RECOMMENDATIONS,
    "advice": claims.ADVICE,
}


def values_of(text: str) -> set[str]:
    """Return the names of the values that a sentence takes."""
    return {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}


@pytest.mark.parametrize("kind", ENGLISH)
def test_claims_have_both_languages(kind: str) -> None:
    """Every template of the claims has a Chinese one that takes the same values, and no other."""
    assert CHINESE[kind].keys() == ENGLISH[kind].keys()
    for key, english in ENGLISH[kind].items():
        chinese = CHINESE[kind][key]
        assert values_of(chinese) == values_of(english), key
        assert any(ord(letter) > 0x2E80 for letter in chinese), key


def test_every_statement_says_what_it_needs() -> None:
    """A statement that a study cannot speak to has a reason in both languages."""
    assert NEEDED.keys() == claims.STATEMENTS.keys()


def built_in_texts() -> Iterator[tuple[str, str]]:
    """Return the texts that the package's own studies put into a report."""
    for name, path in builtin_studies().items():
        study = validate(StudyOptions, yaml.safe_load(path.read_text(encoding="utf-8")), name)
        yield name, study.question
        yield name, study.source
        for contrast in contrasts_of(study.effects, study.arms, study.baseline, study.levels):
            if contrast.question:
                yield name, str(contrast.question)
            yield from ((name, str(word)) for word in (contrast.above, contrast.below) if word is not None)
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


@pytest.mark.parametrize(
    ("text", "chinese"),
    [
        ("7 blocks have runs, and nothing is judged before the first look, at 5 blocks.", "已有 7 个区组的运行"),
        ("x - y: the difference is 0 in every block, so these arms compute the same.", "x - y：每个区组的差都是 0"),
        (
            "A - B is called better at +0.40 points, and two identical recipes of the pilot differ by -0.50: an effect "
            "of that size has been seen where there is none.",
            "A - B 被判为有方向（+0.40 点）",
        ),
        (
            "A - B is called worse, and the pilot's noise has heavier tails than the test takes it to have: see the "
            "share of false positives there.",
            "预实验的噪声比检验所假定的尾部更重",
        ),
        (
            "A - B varies by 4.00 points from seed to seed, more than identical recipes can explain (at most 1.20): "
            "the effect itself depends on the seed.",
            "超出相同配方所能解释的范围（至多 1.20）",
        ),
        (
            "Swapping the two runs of each block in all ways, the t test finds a direction in 12.5% of them, twice "
            "or more what it should (1.2%): this noise has heavier tails than the normal one, and a verdict "
            "near its boundary is to be doubted.",
            "t 检验在 12.5% 的情形下判出方向，达到应有值（1.2%）",
        ),
        (
            "The two identical recipes differ by -1.00 points (p 0.0002): look for what differs between them before "
            "believing any effect of that size.",
            "两个相同的配方相差 -1.00 点（p 0.0002）",
        ),
        ("Does wide in place of narrow change the mIoU, over all settings of the rest?", "以 wide 代替 narrow"),
    ],
)
def test_texts_with_figures_are_translated(text: str, chinese: str) -> None:
    """Names and figures stay what they are."""
    assert chinese in known(text, "zh")


def test_unknown_texts_stay() -> None:
    """A user's own question is shown as it is."""
    assert known("What is this?", "zh") == "What is this?"
