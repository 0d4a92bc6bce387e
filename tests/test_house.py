"""The size of the code: short files, and less code than there was before it was divided into rooms."""

from __future__ import annotations

import ast
import io
import tokenize
from pathlib import Path

import semalign

ROOT = Path(semalign.__file__).parent
FILES = sorted(path for path in ROOT.rglob("*") if path.suffix in {".py", ".yaml", ".html", ".css"})

LONGEST = 600
"""Lines of a file, documentation and blank lines included."""
MOST = 29_260
"""Lines of code of the whole package, as `code_lines` counts them."""

WITHOUT_CODE = {
    *(tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER),
}
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def code_lines(text: str) -> int:
    """Return the number of lines that hold code: no docstrings, comments or blank lines."""
    documented: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, DOCUMENTED) and ast.get_docstring(node) is not None:
            first = node.body[0]
            documented.update(range(first.lineno, (first.end_lineno or first.lineno) + 1))
    written: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in WITHOUT_CODE:
            written.update(range(token.start[0], token.end[0] + 1))
    return len(written - documented)


def test_code_is_counted() -> None:
    """By hand: an import, a signature of three lines, a string of two that documents nothing, and what is returned."""
    text = (
        '"""Title."""\n\nimport os  # why\n\n\ndef f(\n    x\n):\n    """Doc.\n\n    More.\n    """\n'
        '    # why\n    y = """a\n    b"""\n    return y\n'
    )

    assert code_lines(text) == 7


def test_files_are_short() -> None:
    """A file that grows beyond this has two subjects."""
    lengths = {str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines()) for path in FILES}

    assert len(lengths) > 200
    assert {name: length for name, length in lengths.items() if length > LONGEST} == {}


def test_the_code_stays_small() -> None:
    """What is written once needs no second place."""
    assert sum(code_lines(path.read_text(encoding="utf-8")) for path in FILES if path.suffix == ".py") < MOST
