from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from semalign.report import load_study
from semalign.report.cells import Cell, Column, Row, Table
from semalign.report.latex import escape, tables_tex
from semalign.report.page import build_page
from tests.report.study_folder import EN, ZH, paired

NASTY = Table(
    "50 % of $x_1$ & {more} #1",
    (Column("Arm\\_"), Column("Effect [interval]", numeric=True)),
    (Row((Cell("a~b^c <d> | e"), Cell("-0.3 [-1.0, +0.5]"))), Row((Cell("[bracket]", mark="leaking"), Cell("±1")))),
    ("α ≥ 2 × 3 — “so” …",),
)


def test_table_by_hand() -> None:
    """A small table, letter for letter."""
    table = Table("Two", (Column("Arm"), Column("mIoU", numeric=True)), (Row((Cell("A_1"), Cell("-0.3 ± 0.1"))),))

    assert tables_tex([table], "Note.", name="My study") == (
        "% Note.\n\n"
        "\\begin{table}\n"
        "  \\centering\\footnotesize\n"
        "  \\caption{Two}\n"
        "  \\label{tab:my-study-1}\n"
        "  \\begin{tabular}{@{}lr@{}}\n"
        "    \\toprule\n"
        "    Arm & mIoU \\\\\n"
        "    \\midrule\n"
        "    A\\_1 & $-$0.3 $\\pm$ 0.1 \\\\\n"
        "    \\bottomrule\n"
        "  \\end{tabular}\n"
        "\\end{table}\n"
    )


@pytest.mark.parametrize("letter", list("\\{}$&#%_~^<>|"))
def test_special_characters_are_escaped(letter: str) -> None:
    """No character of TeX's own stands bare."""
    bare = re.sub(r"\\[a-zA-Z]+(\{\})?|\\[{}$&#%_]|\$[<>]\$", "", escape(f"a{letter}b"))

    assert bare == "ab"


def test_what_tex_would_read_otherwise() -> None:
    """Hyphens do not become a dash, and no cell is taken for an argument of the row's end before it."""
    assert escape("a--b---c, 1–2, -0.3") == "a-{}-b-{}-{}-c, 1--2, $-$0.3"
    column = Column("arm")
    rows = tuple(Row((Cell(text),)) for text in ("*best*", "[a]", "plain"))
    lines = tables_tex([Table("t", (column,), rows)], "note", name="s").splitlines()

    assert [line.strip() for line in lines if "best" in line or "[a]" in line or "plain" in line] == [
        r"{}*best* \\",
        r"{}[a] \\",
        r"plain \\",
    ]


def check(tex: str) -> None:
    """Fail where environments do not nest, a row has another number of cells than its table, or a brace is open."""
    opened: list[str] = []
    columns = 0
    for line in tex.splitlines():
        if line.startswith("%"):
            continue
        plain = re.sub(r"\\[\\{}$&#%_]", lambda found: "\n" if found[0] == "\\\\" else "", line)
        assert plain.count("{") == plain.count("}"), line
        assert plain.count("$") % 2 == 0, line
        assert "#" not in plain, line
        assert "%" not in plain, line
        assert all(ord(letter) < 0x80 or ord(letter) > 0x2E7F or letter.isalpha() for letter in plain), line
        for kind, name in re.findall(r"\\(begin|end)\{(\w+)\}", line):
            if kind == "begin":
                opened.append(name)
            else:
                assert opened.pop() == name
        if found := re.search(r"\\begin\{tabular\}\{@\{\}(.*)@\{\}\}$", line):
            columns = len(re.sub(r"p\{[^}]*\}", "p", found[1]))
        if line.endswith(r"\\"):
            assert opened == ["table", "tabular"]
            assert plain.count("&") == columns - 1, line
    assert opened == []


def test_nasty_table_is_sound() -> None:
    """Markup in names, brackets at the head of a row and signs of all kinds leave a sound file."""
    tex = tables_tex([NASTY], "a % b\n\\input{c}", name="../x")

    check(tex)
    assert tex.splitlines()[0] == "% a % b \\input{c}"
    assert "    {}[bracket] (leaking) & $\\pm$1 \\\\" in tex
    assert "\\label{tab:x-1}" in tex


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_report_tables_are_sound(tmp_path: Path, lang: str) -> None:
    """All tables of a report, in both languages; one label each."""
    words = ZH if lang == "zh" else EN
    tables = build_page(load_study(paired(tmp_path / "study").path), words).all_tables
    tex = tables_tex(tables, "note", name="made-up")

    check(tex)
    labels = re.findall(r"\\label\{([^}]*)\}", tex)
    assert len(set(labels)) == len(tables) == len(labels)


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="there is no TeX on this machine")
def test_file_compiles(tmp_path: Path) -> None:
    """TeX itself takes the file."""
    (tmp_path / "tables.tex").write_text(tables_tex([NASTY], "note", name="x"), encoding="utf-8")
    main = "\\documentclass{article}\\usepackage{booktabs}\\begin{document}\\input{tables}\\end{document}"
    (tmp_path / "main.tex").write_text(main, encoding="utf-8")
    subprocess.run(["pdflatex", "-halt-on-error", "main.tex"], cwd=tmp_path, check=True, capture_output=True)
