"""The code and the catalogue agree: each key that the code asks for exists, and each key is asked for."""

from __future__ import annotations

import ast
import functools
import re
import string
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

import semalign
from semalign.wording import LANGUAGES, sentences, subjects

ROOT = Path(semalign.__file__).parent
ASKS = ("words", "say")
"""Names under which the code calls a catalogue or makes a message."""
COMMON = {"metric", "quantity"}
"""Values that a report gives to all its sentences."""


NAMED = ("answer", "figure", "inspection", "judge", "method", "paper", "report", "table", "text", "train")
"""Subjects whose keys are constants of the code, or families with a word of their own such as ``figure.quantity *``."""


@functools.cache
def trees() -> tuple[tuple[Path, ast.AST], ...]:
    """Return every file of the package, read."""
    paths = sorted(ROOT.rglob("*.py"))
    return tuple((path.relative_to(ROOT), ast.parse(path.read_text(encoding="utf-8"))) for path in paths)


@functools.cache
def all_texts() -> frozenset[str]:
    """Return every constant text of the code and of the page's template."""
    return frozenset({text for _, tree in trees() for text in texts(tree)} | in_templates())


def texts(node: ast.AST) -> Iterator[str]:
    """Yield the constant texts below a node, and of f-strings patterns with ``*`` for what is filled in."""
    inside = {id(part) for f in ast.walk(node) if isinstance(f, ast.JoinedStr) for part in f.values}
    for one in ast.walk(node):
        if isinstance(one, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "*" for part in one.values)
        elif isinstance(one, ast.Constant) and isinstance(one.value, str) and id(one) not in inside:
            yield one.value


def in_templates() -> set[str]:
    """Return the keys that the page's template asks for."""
    found = (re.findall(r'"(\w+\.[^"]+)"', path.read_text(encoding="utf-8")) for path in ROOT.rglob("*.jinja"))
    return {key for keys in found for key in keys}


def matches(pattern: str, key: str) -> bool:
    """Return whether a key is the pattern with something filled in."""
    return re.fullmatch(".+".join(map(re.escape, pattern.split("*"))), key) is not None


def placeholders(entry: str | Mapping[str, str]) -> set[str]:
    """Return the values that a sentence needs, `n` among them where it has plural forms."""
    forms = list(entry.values()) if isinstance(entry, Mapping) else [entry]
    names = {name for form in forms for _, name, _, _ in string.Formatter().parse(form) if name}
    return {re.split(r"[.\[]", name)[0] for name in names} | ({"n"} if isinstance(entry, Mapping) else set())


@pytest.mark.parametrize("subject", NAMED)
def test_every_sentence_is_asked_for(subject: str) -> None:
    """No sentence is left over: its key is in the code, or belongs to a family of keys with a word of its own."""
    start = f"{subject}."
    asked = {text for text in all_texts() if text.startswith(start)}
    families = {text for text in asked if "*" in text and not text.startswith(f"{start}*")}

    left = {f"{start}{name}" for name in sentences("en", subject)} - asked
    assert [key for key in sorted(left) if not any(matches(family, key) for family in families)] == []


def test_every_key_exists() -> None:
    """What the code asks for is in the catalogue of every language, and gets the values that it needs."""
    calls = 0
    for path, tree in trees():
        for node in ast.walk(tree):
            if not (
                isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ASKS and node.args
            ):
                continue
            given = {keyword.arg for keyword in node.keywords}
            for key in texts(node.args[0]):
                subject, _, name = key.partition(".")
                if subject not in subjects("en"):
                    continue  # a word that decides between keys
                calls += 1
                for lang in LANGUAGES:
                    known = sentences(lang, subject)
                    found = [one for one in known if one == name or ("*" in name and matches(name, one))]
                    assert found, f"{path}:{node.lineno} asks for {key!r}, which is not in '{lang}'"
                    if None not in given and "*" not in name:
                        missing = placeholders(known[name]) - given - COMMON
                        assert not missing, f"{path}:{node.lineno} gives {key!r} no {missing}"
    assert calls > 300, "the code was not read"

    for key in in_templates():
        subject, _, name = key.partition(".")
        if subject in subjects("en"):
            assert name in sentences("en", subject), key
