"""The console's language, and the sentences that the commands ask the catalogue for."""

from __future__ import annotations

import ast
import string
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from PIL import Image

import semalign.cli
from semalign.cli.show import LANGUAGE_VARIABLE, console_language
from semalign.errors import ConfigError
from semalign.wording import LANGUAGES, sentences
from tests.cli.conftest import Semalign

ROOT = Path(semalign.cli.__file__).parent


def test_the_language_of_the_console(monkeypatch: pytest.MonkeyPatch) -> None:
    """--lang where it is given, else the environment, else English; an unknown language names where it comes from."""
    monkeypatch.delenv(LANGUAGE_VARIABLE, raising=False)
    assert (console_language(), console_language("zh")) == ("en", "zh")

    monkeypatch.setenv(LANGUAGE_VARIABLE, "zh")
    assert (console_language(), console_language("en")) == ("zh", "en")
    with pytest.raises(ConfigError, match="--lang got 'fr', expected one of en, zh"):
        console_language("fr")

    monkeypatch.setenv(LANGUAGE_VARIABLE, "fr")
    with pytest.raises(ConfigError, match="SEMALIGN_LANG got 'fr', expected one of en, zh"):
        console_language()


def test_an_unknown_language_ends_every_command(semalign: Semalign, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is refused before anything is computed, also where nothing but JSON would be printed."""
    monkeypatch.setenv(LANGUAGE_VARIABLE, "fr")

    said = semalign("config", "schema")

    assert (said.code, said.out) == (2, "")
    assert said.err == "error: SEMALIGN_LANG got 'fr', expected one of en, zh\n"


def test_a_check_in_chinese(own: Path, semalign: Semalign, monkeypatch: pytest.MonkeyPatch) -> None:
    """Errors and notes of a data set, and what the console adds to them, are in the language asked for."""
    (own / "images" / "val" / "val-1.png").write_bytes(b"no picture")
    with Image.open(own / "images" / "val" / "val-0.png") as picture:
        picture.convert("L").save(own / "images" / "val" / "val-0.png")
    english = semalign("data", "check", "set")
    monkeypatch.setenv(LANGUAGE_VARIABLE, "zh")

    said = semalign("data", "check", "set")

    assert said.code == english.code == 1
    assert english.out.splitlines()[-1].startswith("1 error, ")
    assert "1 个错误" in said.out.splitlines()[-1]
    assert "簇" in said.err
    assert len(said.out.splitlines()) == len(english.out.splitlines())


def asked() -> Iterator[tuple[str, str, set[str] | None]]:
    """Yield where a command asks for a sentence: place, key (``*`` for a part filled in) and the values it gives.

    The values are None where they are not known from the code.
    """
    for path in sorted(ROOT.glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.args):
                continue
            key = node.args[1] if node.func.id == "print_table" else node.args[0]
            if node.func.id not in ("words", "print_table"):
                continue
            names = {keyword.arg for keyword in node.keywords if keyword.arg is not None}
            values = None if any(keyword.arg is None for keyword in node.keywords) else names
            if isinstance(key, ast.JoinedStr):
                yield path.name, "".join(p.value if isinstance(p, ast.Constant) else "*" for p in key.values), values  # type: ignore[misc]
            elif isinstance(key, ast.Constant):
                yield path.name, key.value, values  # type: ignore[misc]


def placeholders(entry: str | Mapping[str, str]) -> set[str]:
    """Return the names of the values that a sentence needs, `n` among them where it has plural forms."""
    forms = list(entry.values()) if isinstance(entry, Mapping) else [entry]
    names = {name for form in forms for _, name, _, _ in string.Formatter().parse(form) if name}
    return {name.split(".")[0].split("[")[0] for name in names} | ({"n"} if isinstance(entry, Mapping) else set())


def test_every_sentence_that_is_asked_for() -> None:
    """It is in the catalogue, and the command gives every value that it needs."""
    found = list(asked())
    assert len(found) > 60, "the commands were not read"

    for place, key, values in found:
        subject, _, rest = key.partition(".")
        for lang in LANGUAGES:
            known = sentences(lang, subject)
            if "*" in rest:
                assert any(name.startswith(rest.split("*")[0]) for name in known), (place, key)
            else:
                assert rest in known, (place, key)
                assert values is None or placeholders(known[rest]) <= values, (place, key)


def test_every_sentence_of_the_console_is_used() -> None:
    """No sentence is left over from a command that no longer prints it."""
    code = "".join(path.read_text(encoding="utf-8") for path in ROOT.glob("*.py"))
    filled = {key.split("*")[0] for _, key, _ in asked() if "*" in key}

    for name in sentences("en", "console"):
        key = f"console.{name}"
        assert f'"{key}"' in code or f"'{key}'" in code or any(key.startswith(start) for start in filled), key
