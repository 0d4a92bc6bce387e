"""What the documentation's site takes from the code, so that it cannot go stale: hooks of mkdocs (see mkdocs.yml).

Makes the pages of the reference (Python names, options, presets, command line), a page for each file outside of docs/
that a page links to, and MathML from the formulas.
"""

from __future__ import annotations

import html
import importlib
import posixpath
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]

LINK = re.compile(r"(?<=\]\()(\.\./[^)\s#]+)(?=[)#])")
"""A link of a page that leaves its folder."""

LANGUAGES = {".py": "python", ".yaml": "yaml", ".yml": "yaml", ".sh": "bash", ".toml": "toml", ".json": "json"}


# ---- hooks ----


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Have the pages made from this tree, whatever is installed; mkdocs restores the path after loading this file."""
    if (path := str(ROOT / "src")) not in sys.path:
        sys.path.insert(0, path)
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made from the code, and those of linked files."""
    pages = {
        "reference/api.md": api_page(),
        "reference/parts.md": parts_page(),
        "reference/judge.md": judge_page(),
        "reference/options.md": options_page(),
        "reference/presets.md": presets_page(),
        "reference/commands.md": commands_page(),
    }
    for file in files.documentation_pages():
        for path in outside_links(file.src_uri, file.content_string):
            pages.setdefault(source_page(path), show_source(path))
    for uri, content in pages.items():
        files.append(File.generated(config, uri, content=content))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Lead links to files outside of docs/ to the pages that show them."""

    def lead(match: re.Match[str]) -> str:
        path = outside(page.file.src_uri, match[1])
        return match[1] if path is None else posixpath.relpath(source_page(path), posixpath.dirname(page.file.src_uri))

    return LINK.sub(lead, markdown)


def on_page_content(content: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn formulas into MathML, which browsers draw without a script or a font of ours."""
    return re.sub(r'<(span|div) class="arithmatex">(.*?)</\1>', _mathml, content, flags=re.DOTALL)


# ---- formulas ----


def _mathml(match: re.Match[str]) -> str:
    source = html.unescape(match[2]).strip()
    is_block = source.startswith(r"\[")
    formula = convert(source[2:-2].strip(), display="block" if is_block else "inline")
    return f'<div class="formula">{formula}</div>' if is_block else formula


# ---- files outside of docs/ ----


def outside(uri: str, link: str) -> str | None:
    """Return the path from the root that a page's link means, or None where it stays within docs/."""
    path = posixpath.normpath(posixpath.join("docs", posixpath.dirname(uri), link))
    return None if path.startswith("docs/") or not (ROOT / path).exists() else path


def outside_links(uri: str, markdown: str) -> Iterator[str]:
    """Yield the paths outside of docs/ that a page links to."""
    for match in LINK.finditer(markdown):
        path = outside(uri, match[1])
        if path is not None:
            yield path


def source_page(path: str) -> str:
    """Return the page that shows a file or folder of the repository."""
    return f"source/{path}.md"


def show_source(path: str) -> str:
    """Return a page that shows a file, or each file of a folder."""
    place = ROOT / path
    shown = sorted(item for item in place.iterdir() if item.is_file()) if place.is_dir() else [place]
    parts = [f"# {path}\n"]
    for file in shown:
        text = file.read_text(encoding="utf-8")
        if place.is_dir():
            parts.append(f"## {file.name}\n")
        if file.suffix == ".md":
            parts.append(_relinked(re.sub(r"\A# .*\n", "", text), posixpath.relpath(str(file.parent), str(ROOT)), path))
        else:
            parts.append(f"````{LANGUAGES.get(file.suffix, 'text')}\n{text.rstrip()}\n````\n")
    return "\n".join(parts)


def _relinked(markdown: str, folder: str, path: str) -> str:
    """Return a file's text with its links as they are on the page of ``path``."""

    def lead(match: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(folder, match[1]))
        target = target.removeprefix("docs/") if target.startswith("docs/") else source_page(target)
        return posixpath.relpath(target, posixpath.dirname(source_page(path)))

    return re.sub(r"(?<=\]\()(?!\w+:)([^)\s#]+)(?=[)#])", lead, markdown)


# ---- Python ----


def homes() -> dict[str, str]:
    """Return by public name of `semalign` the full name of what it is."""
    import semalign

    found = {}
    for name in semalign.__all__:
        if name == "__version__":
            continue
        value = getattr(semalign, name)
        found[name] = getattr(value, "implementation", None) or f"{value.__module__}.{value.__qualname__}"
    return found


def api_page() -> str:
    """Return the page of everything that `semalign` offers."""
    parts = [
        "# Python\n",
        "`import semalign` imports no torch; each name below is loaded when it is first used. All that is raised on "
        "purpose is a `semalign.SemalignError`, one sentence with what, where, got, expected and the fix.\n",
    ]
    parts += [_reference(home, f"semalign.{name}") for name, home in homes().items()]
    return "\n".join(parts)


def parts_page() -> str:
    """Return the page of what stands behind it: what functions return, and parts for a training loop of one's own."""
    parts = ["# Further parts\n", "What functions return, and parts for a training loop of your own.\n"]
    parts += [
        _reference(home, home)
        for home in (
            "semalign.api.Evaluation",
            "semalign.train.run.TrainedRun",
            "semalign.execution.Events",
            "semalign.results.RunResult",
            "semalign.results.Score",
            "semalign.audit.findings.AuditReport",
            "semalign.audit.findings.Finding",
            "semalign.audit.watch.Watch",
            "semalign.model.places.Place",
            "semalign.model.alignment.alignment_sites",
            "semalign.model.recording.recording",
            "semalign.model.temperature.projection_hook",
            "semalign.model.roles.parameter_role",
        )
    ]
    return "\n".join(parts)


def judge_page() -> str:
    """Return the page of `semalign.judge`, which needs no torch."""
    import semalign.judge

    module = importlib.import_module("semalign.judge")
    parts = ["# Judging runs\n", "All of it works without torch.\n"]
    for name in semalign.judge.__all__:
        value = getattr(module, name)
        if isinstance(value, type) or callable(value):
            parts.append(_reference(f"{value.__module__}.{value.__name__}", f"semalign.judge.{name}"))
    return "\n".join(parts)


def _reference(home: str, shown: str) -> str:
    return f'::: {home}\n    options:\n      heading: "{shown}"\n      toc_label: "{shown.removeprefix("semalign.")}"\n'


# ---- options ----


def options_page() -> str:
    """Return the page of all options, from the schema that `semalign config schema` prints."""
    from semalign.config import Options

    schema = Options.model_json_schema()
    parts = [
        "# Options\n",
        "Every option of a run, made from what `semalign config schema` prints. Set one with `--set a.b=c`, in a YAML "
        'file (`--config`), in a study\'s `arms`, or in Python with `**{"a.b": c}`. An option without a default here '
        "takes it from the kind of data or from `model.preset`; `semalign config show --data DATA` prints what it is "
        "then.\n",
    ]
    for name, section in schema["properties"].items():
        parts += _section(name, _resolve(section, schema), schema)
    return "\n".join(parts)


def _section(name: str, section: Mapping[str, Any], schema: Mapping[str, Any]) -> list[str]:
    """Return the headings and tables of a section and of those within it."""
    rows, inner = [], []
    for key, value in section["properties"].items():
        target = _resolve(value, schema)
        if "properties" in target:
            inner += _section(f"{name}.{key}", target, schema)
            continue
        default = "" if value.get("default") is None else f"`{_plain(value['default'])}`"
        meaning = " ".join(value.get("description", "").split())
        rows.append(f"| `{name}.{key}` | {_cell(_kind(value, schema))} | {_cell(default)} | {_cell(meaning)} |")
    parts = [f"## {name}\n", " ".join(section.get("description", "").split()) + "\n"]
    if rows:
        parts += ["| option | values | default | meaning |", "|---|---|---|---|", *rows, ""]
    return parts + inner


def _resolve(value: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    return schema["$defs"][value["$ref"].rpartition("/")[2]] if "$ref" in value else value


def _kind(value: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    """Say which values an option takes."""
    value = _resolve(value, schema)
    if "anyOf" in value:
        return " or ".join(_kind(one, schema) for one in value["anyOf"] if one.get("type") != "null")
    if "enum" in value:
        return ", ".join(f"`{one}`" for one in value["enum"])
    if "prefixItems" in value:
        return "[" + ", ".join(_kind(one, schema) for one in value["prefixItems"]) + "]"
    if value.get("type") == "array":
        return "list of " + _kind(value["items"], schema)
    words = {
        "integer": "whole number",
        "number": "number",
        "boolean": "true, false",
        "string": "text",
        "object": "mapping",
    }
    low = f"≥ {value['minimum']:g}" if "minimum" in value else ""
    low = f"> {value['exclusiveMinimum']:g}" if "exclusiveMinimum" in value else low
    high = f"≤ {value['maximum']:g}" if "maximum" in value else ""
    high = f"< {value['exclusiveMaximum']:g}" if "exclusiveMaximum" in value else high
    return " ".join(
        part
        for part in (words.get(value["type"], value["type"]), ", ".join(part for part in (low, high) if part))
        if part
    )


def _plain(value: Any) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(_plain(one) for one in value) + "]"
    return {True: "true", False: "false"}[value] if isinstance(value, bool) else f"{value}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def presets_page() -> str:
    """Return the page of the alignment presets, from the table in the code."""
    import dataclasses

    from semalign.presets import PRESETS

    parts = [
        "# Presets\n",
        "What `model.preset` (in Python `preset=`) sets; made from `semalign.presets.PRESETS`. Each line is an "
        "option of `align.encoder` and `align.decoder`. `residual` belongs to the preset alone. Temperatures are given "
        "as l, the scale is base · exp(l); see the [mathematics](../mathematics.md).\n",
    ]
    for name, sides in PRESETS.items():
        rows = {}
        for side, knobs in sides.items():
            for key, value in dataclasses.asdict(knobs).items():
                for inner, shown in value.items() if isinstance(value, dict) else [("", value)]:
                    rows.setdefault(f"{key}.{inner}".rstrip("."), {})[side] = _shown(shown)
        parts += [f"## {name}\n", "| option | encoder | decoder |", "|---|---|---|"]
        parts += [f"| `{row}` | {cells['encoder']} | {cells['decoder']} |" for row, cells in rows.items()]
        parts.append("")
    return "\n".join(parts)


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, tuple):
        return "[" + ", ".join(_shown(one) for one in value) + "]"
    return "" if value is None else _plain(value)


# ---- command line ----


def commands_page() -> str:
    """Return the page of all commands, from the command line itself."""
    import typer.cli

    from semalign.cli.app import app

    command = typer.main.get_command(app)
    context = typer.Context(command, info_name="semalign")  # type: ignore[arg-type]
    text = typer.cli.get_docs_for_click(obj=command, ctx=context, name="semalign", title="Command line")
    return (
        text.replace("**Usage**:\n\n", "", 1)
        + "\nExit codes: 0 done; 1 the audit or check found errors; 2 our error, one sentence on stderr.\n"
    )
