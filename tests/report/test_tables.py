from __future__ import annotations

import re
from pathlib import Path

import pytest

from semalign.report.digits import Digits, hours_text
from semalign.report.markdown import escape, tables_md
from semalign.report.numbers import load_study
from semalign.report.page import build_page
from semalign.report.tables import effects_table, study_tables
from tests.report.study_folder import EN, StudyFolder, paired


def _cells(folder: StudyFolder, table: int = 0) -> list[list[str]]:
    numbers = load_study(folder.path)
    found = study_tables(numbers, EN, Digits(numbers.study.margin))[table]
    return [[cell.text for cell in row.cells] for row in found.rows]


def test_study_table_by_hand(tmp_path: Path) -> None:
    """Baseline 40, 50, 60 and A 41, 52, 63 points: means 50 and 52, effect +2, sd 1, t(.975, 2) = 4.3027.

    Half widths: 4.3027 * 10 / sqrt(3) = 24.84, 4.3027 * 11 / sqrt(3) = 27.33, effect 4.3027 / sqrt(3) = 2.48.
    """
    assert _cells(paired(tmp_path / "study")) == [
        ["Baseline", "50.0 ± 24.8", "—", "reference"],
        ["A", "52.0 ± 27.3", "+2.0 [-0.5, +4.5]", "inconclusive (new study: 16 blocks)"],
    ]


def test_the_studys_own_tables_come_first(tmp_path: Path) -> None:
    """The cells of the study stand before the figures, and arms of no table get one of their own."""
    folder = paired(tmp_path / "study")
    table = {"title": "Widths", "columns": ["Arm", "Width"], "rows": [{"arm": "A", "cells": ["Variant A", "wide"]}]}
    folder.study({"Baseline": {}, "A": {}}, seeds=3, tables=[table])

    assert _cells(folder)[0][:3] == ["Variant A", "wide", "52.0 ± 27.3"]
    assert [row[0] for row in _cells(folder, 1)] == ["Baseline"]


@pytest.mark.parametrize(
    ("differences", "verdict"),
    [
        (("3", "3.1", "2.9", "3"), "better"),
        (("-3", "-3.1", "-2.9", "-3"), "worse"),
        (("0.01", "-0.01", "0.02", "0"), "equivalent"),
        (("0.1", "0.11", "0.09", "0.1"), "better (below the margin)"),
    ],
)
def test_verdict_cells(tmp_path: Path, differences: tuple[str, ...], verdict: str) -> None:
    """Each verdict as a cell."""
    assert _cells(paired(tmp_path / "study", differences))[1][-1] == verdict


def test_missing_and_failed_runs_stand_in_the_cell(tmp_path: Path) -> None:
    """An arm's mean says over how many runs it is taken; an arm without any says why."""
    folder = StudyFolder(tmp_path / "study")
    folder.study({"Baseline": {}, "A": {}, "B": {}, "C": {}}, seeds=3)
    for seed in range(3):
        folder.run("Baseline", seed, [f"{40 + seed}/100"] * 3)
        folder.run("B", seed, None)
    folder.run("A", 0, ["50/100"] * 3)
    folder.run("A", 1, None)

    cells = {row[0]: row[1:] for row in _cells(folder)}
    assert cells["A"] == ["50.0 (1 of 3 runs, 1 failed)", "+10.0", "inconclusive"]
    assert cells["B"] == ["all 3 failed", "—", "inconclusive"]
    assert cells["C"] == ["not run", "—", "inconclusive"]


def test_leaking_arms_are_marked_everywhere(tmp_path: Path) -> None:
    """In every table of the Markdown page a leaking arm's row or column says so."""
    folder = paired(tmp_path / "study")
    for seed in range(3):
        iou = [f"{90 + seed}/100", "9/10", None]
        folder.run("mask texts", seed, iou, facts={"text": {"kind": "masks", "leaking": True}})
    folder.study({"Baseline": {}, "A": {}, "mask texts": {"data.text": "masks"}}, seeds=3)
    text = tables_md(build_page(load_study(folder.path), EN), EN)

    lines = [line for line in text.splitlines() if line.startswith("|") and "mask texts" in line]
    assert len(lines) == 7
    for line in lines:
        assert "(leaking)" in line


def test_p_is_never_shown_as_zero(tmp_path: Path) -> None:
    """A tiny p reads '< 0.001'."""
    numbers = load_study(paired(tmp_path / "study", ("3", "3.001", "2.999", "3")).path)
    row = effects_table(numbers, EN, Digits(1.0)).rows[0]

    assert [row.cells[4].text, row.cells[5].text] == ["< 0.001", "< 0.001"]


def test_markdown_page(tmp_path: Path) -> None:
    """Command, cost, margin and use of text stand above the tables; the median of 11, 12, 13, 21, 21, 21 s is 17 s."""
    folder = paired(tmp_path / "study")
    folder.facts({"command": "semalign study run x --out y", "machine": {"cpus": 2, "workers": 2, "threads": 1}})
    text = tables_md(build_page(load_study(folder.path), EN), EN)
    head = text[: text.index("##")]

    assert "```console\nsemalign study run x --out y\n```" in head
    assert "- Cost: 17 s a run, the median of 6; CPU cores: 2, runs at a time: 2, threads a run: 1." in head
    assert "- Margin: pre-registered ±1 mIoU points; this budget of 3 blocks resolves ±" in head
    assert "- Text: Unknown: the study has no control" in head
    assert "| A | 52.0 ± 27.3 | +2.0 [-0.5, +4.5] | inconclusive (new study: 16 blocks) |" in text
    assert "| car | 40.0 ± 24.8 | 44.0 ± 27.3 |".replace("27.3", "29.8") in text
    assert "left out of every mean: sky." in text
    assert "?" not in re.sub(r"Is one arm better than another\?", "", text)


def test_markdown_shows_names_as_they_are(tmp_path: Path) -> None:
    """A bar, a tag or a line break in a name neither breaks a row nor becomes markup."""
    assert escape("a|b <i> *c* `d`\ne _f_ g_h") == r"a\|b \<i> \*c\* \`d\` e \_f\_ g_h"
    assert escape("&lt;b&gt; A & B [a](http://x) ~~s~~ $y$") == r"\&lt;b\&gt; A & B [a\](http://x) \~\~s\~\~ \$y\$"
    # Intervals stay as they are.
    assert escape("+0.1 [-0.2, +0.4] (open)") == "+0.1 [-0.2, +0.4] (open)"


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.0, "0.0"), (-0.04, "-0.04"), (0.004, "+0.004"), (1.26, "+1.3"), (-12.0, "-12.0"), (1e-12, "+1e-12")],
)
def test_points(value: float, shown: str) -> None:
    """One decimal, and what is not 0 never shows as 0."""
    assert Digits(1.0).points(value) == shown


def test_interval_ends_never_read_as_the_margin() -> None:
    """An interval that reaches just beyond the margin does not look as if it ended on it."""
    assert Digits(1.0).interval(-1.01, 0.99) == "[-1.01, +0.99]"
    assert Digits(1.0).interval(-1.0, 1.0) == "[-1.0, +1.0]"
    assert Digits(1.0).effect(0.02, -1.01, 0.04, "") == "+0.02 [-1.0, +0.04]"
    assert Digits(0.25).interval(-0.2501, 0.1) == "[-0.2501, +0.10]"


def test_hours() -> None:
    """Hours keep two digits where they are few."""
    assert [hours_text(value) for value in (0.05, 2.0, 40.4)] == ["0.05", "2.0", "40"]
