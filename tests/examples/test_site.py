"""What the documentation's site takes from the code."""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import semalign
from semalign.align.knobs import KNOB_NAMES
from semalign.config import Options
from semalign.config.reader import option_names
from semalign.presets import PRESETS
from tests.examples.scripts import load_script

ROOT = Path(__file__).parents[2]
pytest.importorskip("mkdocs")
pytest.importorskip("latex2mathml")


@pytest.fixture(scope="module")
def site() -> ModuleType:
    """Return scripts/docs_site.py."""
    return load_script("docs_site")


def test_every_public_name_is_in_the_reference(site: ModuleType) -> None:
    """The page of the API has a heading for each name of `semalign.__all__`, and each home exists."""
    page = site.api_page()

    for name in set(semalign.__all__) - {"__version__"}:
        assert f'heading: "semalign.{name}"' in page
    for home in re.findall(r"^::: (\S+)$", page, re.MULTILINE):
        module, _, name = home.rpartition(".")
        assert hasattr(importlib.import_module(module), name)


def test_every_option_is_in_the_reference(site: ModuleType) -> None:
    """Each option has a line with its meaning."""
    page = site.options_page()
    rows = dict(re.findall(r"^\| `([\w.]+)` \|.* \| (.+) \|$", page, re.MULTILINE))

    assert set(rows) == set(option_names(Options))
    assert all(rows.values())


def test_every_command_is_in_the_reference(site: ModuleType) -> None:
    """Each command has its heading, its help and its options."""
    page = site.commands_page()

    for name in ("train", "study run", "data check", "config schema", "bench alignment"):
        assert f" `semalign {name}`\n" in page
    assert "* `--counterfactuals`: Also score with the text removed" in page


def test_every_preset_is_in_the_reference(site: ModuleType) -> None:
    """Each preset has its table with every knob."""
    page = site.presets_page()

    assert re.findall(r"^## (.*)$", page, re.MULTILINE) == list(PRESETS)
    assert re.findall(r"^\| `(.*?)` \|", page, re.MULTILINE).count("temperature.bound") == len(PRESETS)
    assert set(re.findall(r"^\| `(.*?)` \|", page, re.MULTILINE)) == set(KNOB_NAMES)
    assert "| `temperature.init` | 0 | 2.659 |" in page


def test_formulas_become_mathml(site: ModuleType) -> None:
    """Worked by hand: a fraction in a line of its own."""
    html = '<div class="arithmatex">\\[ \\frac{1}{2} &lt; x \\]</div> <span class="arithmatex">\\(y\\)</span>'
    made = site.on_page_content(html, None, None, None)

    assert made.startswith('<div class="formula"><math')
    assert 'display="block"' in made
    assert "<mfrac><mrow><mn>1</mn></mrow><mrow><mn>2</mn></mrow></mfrac>" in made
    assert made.endswith("<mi>y</mi></mrow></math>")


def test_links_to_files_outside_of_the_docs(site: ModuleType) -> None:
    """They lead to pages that show the files; links within the docs stay as they are."""
    assert list(site.outside_links("how-to/a.md", "[a](../../examples/judge_your_runs.py) [b](../data-folder.md)")) == [
        "examples/judge_your_runs.py"
    ]
    assert "semalign.judge" in site.show_source("examples/judge_your_runs.py")
    assert "## study.yaml" in site.show_source("examples/own-training")


def test_the_site_is_built_and_fetches_nothing(tmp_path: Path) -> None:
    """Warnings are errors; no page loads a script, style, font or picture from elsewhere; every page is in the menu."""
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    pages = sorted((tmp_path / "site").rglob("*.html"))
    names = {page.relative_to(tmp_path / "site").as_posix() for page in pages}
    assert {"index.html", "tutorial.html", "zh/tutorial.html", "reference/api.html", "audit/index.html"} <= names
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert not re.search(r"<(?:script|img|iframe|source)[^>]* src=\"?(?:https?:)?//", text), page
        assert not re.search(r"<link[^>]* rel=\"?(?:stylesheet|preconnect|preload)[^>]*(?:https?:)?//", text), page
    for name, shown in (("dead-knobs", "TextAttention"), ("own-backbone", "SegformerModel"), ("own-study", "SCORES")):
        assert shown in (tmp_path / "site" / "how-to" / f"{name}.html").read_text(encoding="utf-8"), "not included"
    index = json.loads((tmp_path / "site" / "search" / "search_index.json").read_text(encoding="utf-8"))
    assert {item["location"].partition("#")[0] for item in index["docs"]} >= names - {"404.html"}
    menu = (tmp_path / "site" / "index.html").read_text(encoding="utf-8")
    for name in names - {"404.html", "index.html"}:
        if not name.startswith("source/"):
            assert f'href="{name}"' in menu, f"{name} is not in the menu"
