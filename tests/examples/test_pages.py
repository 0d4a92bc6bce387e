"""Every page of the documentation: code compiles, commands and options exist."""

from __future__ import annotations

import ast
import itertools
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

import semalign
from semalign.cli.app import app
from semalign.config import read_options
from semalign.errors import ConfigError

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"

if not DOCS.is_dir():
    pytest.skip("docs/ is not beside the tests", allow_module_level=True)

PAGES = [*sorted(DOCS.rglob("*.md")), *sorted(ROOT.glob("*.md")), *sorted((ROOT / "examples").rglob("*.md"))]
by_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def text_of(page: Path) -> str:
    """Return a page with the files that it includes."""
    text = page.read_text(encoding="utf-8")
    return re.sub(r'--8<-- "(.*?)"', lambda match: (ROOT / match[1]).read_text(encoding="utf-8"), text)


def blocks(text: str, *languages: str) -> Iterator[str]:
    """Yield the code blocks of these languages."""
    for match in re.finditer(r"^( *)```(\w*)[^\n]*\n(.*?)^\1```", text, re.DOTALL | re.MULTILINE):
        if match[2] in languages:
            yield match[3].replace(f"\n{match[1]}", "\n").removeprefix(match[1])


@by_page
def test_python(page: Path) -> None:
    """Python compiles, what it takes from semalign exists, and options by their dotted names do too."""
    for block in blocks(text_of(page), "python"):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "semalign":
                assert node.attr in semalign.__all__, f"semalign.{node.attr}"
            if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "semalign":
                module = __import__(node.module or "", fromlist=["_"])
                assert all(hasattr(module, name.name) for name in node.names), ast.unparse(node)


@pytest.mark.parametrize("page", ["tutorial.md", "zh/tutorial.md"])
def test_files_of_the_tutorial(page: str) -> None:
    """What the reader is to save is what the tests run and plan, letter by letter."""
    shown = set(blocks((DOCS / page).read_text(encoding="utf-8"), "python", "yaml"))

    assert shown == {path.read_text(encoding="utf-8") for path in (ROOT / "examples" / "tutorial").iterdir()}


OPTIONAL = re.compile(r"[\[\]|]|\.\.\.")


def commands() -> Iterator[tuple[str, str]]:
    """Yield page and words of each whole command of ours in the docs; those with placeholders are left out."""
    for page in PAGES:
        for block in blocks(text_of(page), "console", "bash", "sh", ""):
            for line in block.replace("\\\n", " ").splitlines():
                words = line.removeprefix("$ ").strip()
                if words.startswith("semalign ") and not OPTIONAL.search(re.sub(r"'[^']*'", "", words)):
                    yield str(page.relative_to(ROOT)), words


@pytest.mark.parametrize(("page", "words"), dict.fromkeys(commands()))
def test_commands(page: str, words: str) -> None:
    """A command is one that the command line takes, and sets options that exist."""
    given = list(itertools.takewhile(lambda word: not word.startswith("#"), shlex.split(words, comments=True)))[1:]
    command: Any = typer.main.get_command(app)
    context = command.make_context("semalign", list(given), resilient_parsing=False)
    name, command, rest = command.resolve_command(context, list(given))
    if hasattr(command, "commands"):
        name, command, rest = command.resolve_command(context, rest)
    parameters = command.make_context(name, rest).params

    if name != "run" and not any(word.endswith((".yaml", ".yml")) for word in rest):
        for setting in parameters.get("settings") or ():
            try:
                read_options(None, [setting])
            except ConfigError as error:
                pytest.fail(f"{page}: {error}")
