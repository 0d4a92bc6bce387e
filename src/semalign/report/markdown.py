"""The page of tables in Markdown.  This module does not depend on numbers."""

from __future__ import annotations

import re

from semalign.report.cells import Table
from semalign.report.page import Page
from semalign.wording import Catalogue

__all__ = ["escape", "tables_md"]


def tables_md(page: Page, words: Catalogue) -> str:
    """Return question, command and facts, then the tables, then what is to be read with care."""
    command = page.command or words("report.no command")
    # A fence longer than any run of backticks in the command cannot be closed by it.
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", command)), default=0))
    blocks = [
        f"# {escape(page.name)}",
        escape(page.question),
        f"{fence}console\n{command}\n{fence}",
        "\n".join(f"- {escape(fact)}" for fact in page.facts),
    ]
    said: set[str] = set()
    for table in page.all_tables:
        blocks += [f"## {escape(table.caption)}", _markdown(table)]
        # A note under an earlier table is not repeated.
        blocks += [escape(note) for note in table.notes if note not in said]
        said.update(table.notes)
    blocks += [f"## {escape(words('report.watch'))}", "\n".join(f"- {escape(note)}" for note in page.watch)]
    return "\n\n".join(blocks) + "\n"


def _markdown(table: Table) -> str:
    lines = [
        [escape(column.head) for column in table.columns],
        ["---:" if column.numeric else "---" for column in table.columns],
    ]
    lines += [
        [escape(f"{cell.text} ({cell.mark})" if cell.mark else cell.text) for cell in row.cells] for row in table.rows
    ]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def escape(text: str) -> str:
    """Return ``text`` so that Markdown shows it as it is, on one line."""
    # An ampersand that would be an entity, and a bracket that would end a link's text.
    text = re.sub(r"[\\`*<|~$]|^#|(?<!\w)_|_(?!\w)|&(?=#?\w+;)|\](?=[(\[])", r"\\\g<0>", text)
    return " ".join(text.split())
