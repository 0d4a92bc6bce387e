r"""The report's tables for a LaTeX document, with booktabs.

The file is to be read by ``\input``; a document class and ``\usepackage{booktabs}`` are the paper's own.  This module
does not depend on numbers.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from semalign.report.cells import Cell, Table

__all__ = ["escape", "tables_tex"]

_CHARACTERS = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"$<$",
    ">": r"$>$",
    "|": r"\textbar{}",
    "±": r"$\pm$",
    "−": r"$-$",
    "×": r"$\times$",
    "≥": r"$\geq$",
    "≤": r"$\leq$",
    "α": r"$\alpha$",
    "–": "--",
    "—": "---",
    "“": "``",
    "”": "''",
    "’": "'",
    "…": r"\ldots{}",
    "\u00a0": "~",
}
_ANY = re.compile("|".join(re.escape(letter) for letter in _CHARACTERS) + "|-(?=-)")
_MINUS = re.compile(r"(?<![\w.)\]])-(?=\d)")

_WIDE = 34
"""Letters from which a column of text is set as paragraphs."""


def escape(text: str) -> str:
    r"""Return ``text`` so that LaTeX sets it as it is, on one line; a minus before a figure is a minus.

    >>> escape("A_1 & 50 %: -0.3 ± 0.1")
    'A\\_1 \\& 50 \\%: $-$0.3 $\\pm$ 0.1'
    """
    marked = _MINUS.sub("−", " ".join(text.split()))
    # Two hyphens side by side would be set as a dash.
    return _ANY.sub(lambda found: _CHARACTERS.get(found[0], "-{}"), marked)


def tables_tex(tables: Sequence[Table], note: str, *, name: str) -> str:
    r"""Return the tables as one file.

    Args:
        tables: in order; pictures in their cells are left out.
        note: one sentence for the head of the file.
        name: of the study, of which the labels ``tab:NAME-1``, ``tab:NAME-2``, ... are made.
    """
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "study"
    parts = [f"% {' '.join(note.split())}"]
    parts += [_table(table, f"tab:{slug}-{place}") for place, table in enumerate(tables, start=1)]
    return "\n\n".join(parts) + "\n"


def _table(table: Table, label: str) -> str:
    columns = []
    for place, column in enumerate(table.columns):
        longest = max((len(row.cells[place].text) for row in table.rows), default=0)
        columns.append("r" if column.numeric else r"p{0.24\linewidth}" if longest > _WIDE else "l")
    lines = [
        r"\begin{table}",
        r"  \centering\footnotesize",
        rf"  \caption{{{escape(table.caption)}}}",
        rf"  \label{{{label}}}",
        rf"  \begin{{tabular}}{{@{{}}{''.join(columns)}@{{}}}}",
        r"    \toprule",
        "    " + _row([escape(column.head) for column in table.columns]),
        r"    \midrule",
        *("    " + _row([_cell(cell) for cell in row.cells]) for row in table.rows),
        r"    \bottomrule",
        r"  \end{tabular}",
    ]
    # A note of its own paragraph, as wide as the text.
    lines += [rf"  \par\smallskip\parbox{{\linewidth}}{{\scriptsize {escape(note)}}}" for note in table.notes]
    return "\n".join([*lines, r"\end{table}"])


def _row(cells: Sequence[str]) -> str:
    # A cell that begins with [ or * would be read as an argument of the line break before it.
    return " & ".join(f"{{}}{cell}" if cell.startswith(("[", "*")) else cell for cell in cells) + r" \\"


def _cell(cell: Cell) -> str:
    return escape(f"{cell.text} ({cell.mark})" if cell.mark else cell.text)
