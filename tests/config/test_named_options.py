"""Options that messages name exist."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import semalign
from semalign.config import option_names

ROOT = Path(semalign.__file__).parent
OPTION = re.compile(r"(?<![\w./-])(?:data|text|model|align|train)(?:\.[a-z_]+)+(?![\w(/])")

# Names of files and attributes that look like options.
OTHERS = {"model.safetensors", "model.pt", "train.json", "val.json", "train.txt", "val.txt"}


def texts_of_errors(tree: ast.AST) -> Iterator[str]:
    """Yield the text of each string of a raised exception; a value that is filled in stands as ``{}``."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Raise) or node.exc is None:
            continue
        inner = {id(part) for found in ast.walk(node.exc) if isinstance(found, ast.JoinedStr) for part in found.values}
        for found in ast.walk(node.exc):
            if isinstance(found, ast.JoinedStr):
                parts = (part.value if isinstance(part, ast.Constant) else "{}" for part in found.values)
                yield "".join(str(part) for part in parts)
            elif isinstance(found, ast.Constant) and isinstance(found.value, str) and id(found) not in inner:
                yield found.value


def unknown_options(text: str) -> set[str]:
    """Return what looks like an option in a text and is neither one nor a section of options."""
    names = option_names()
    sections = {name.rsplit(".", n)[0] for name in names for n in range(1, name.count(".") + 1)}
    return {found for found in OPTION.findall(text) if found not in {*names, *sections, *OTHERS}}


def test_errors_name_options_that_exist() -> None:
    """Every option that the message of an exception names can be set."""
    texts = {
        (str(path.relative_to(ROOT)), text)
        for path in sorted(ROOT.rglob("*.py"))
        for text in texts_of_errors(ast.parse(path.read_text(encoding="utf-8")))
    }
    assert len(texts) > 300, "the messages were not read"

    assert [(place, text) for place, text in sorted(texts) if unknown_options(text)] == []


def test_what_is_found() -> None:
    """Options by name and with a value are read; files, attributes of modules and calls are not options."""
    (text,) = texts_of_errors(ast.parse("raise ValueError(f'{x}: set align.preset={y} or model.size')"))

    assert text == "{}: set align.preset={} or model.size"
    assert unknown_options(text) == {"align.preset"}
    assert unknown_options("no model.safetensors in data/train.txt, model.eval() and torch.data.x") == set()
    assert unknown_options("train.epochs, align.encoder, text.level=token") == set()
