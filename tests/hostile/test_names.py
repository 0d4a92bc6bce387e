"""Names that are markup, scripts, paths or commands of LaTeX are shown as they are, and nothing of them is run."""

from __future__ import annotations

import re
import shutil
import subprocess
import warnings
from html.parser import HTMLParser
from pathlib import Path

import pytest

from semalign.report import write_report
from tests.report.study_folder import StudyFolder

SCRIPT = "<script>document.title='owned'</script>"
IMAGE = "<img src=x onerror=\"document.title='owned'\">"
CLOSING = "'\"></td></svg></style><svg onload=document.title='owned'>"
LATEX = "\\input{/etc/passwd}\\write18{id}%&$#_^~"
NAMES = (SCRIPT, IMAGE, CLOSING, LATEX, "a\nb\r\n| c", "{{ 7 * 7 }}{% raw %}", "../../up", "=cmd|'/c calc'!A1")
QUIET = ("--headless", "--no-sandbox", "--disable-gpu")
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a study's folder whose arms, classes, texts, notes and failures have such names, with its report."""
    folder = StudyFolder(tmp_path_factory.mktemp("hostile") / "study")
    folder.study(
        {"Baseline": {}, **{name: {"train.lr": 0.1} for name in NAMES}},
        seeds=3,
        question=f"Is {SCRIPT} run? {CLOSING}",
        source=IMAGE,
        tables=[{"title": SCRIPT, "columns": [IMAGE], "rows": [{"arm": SCRIPT, "cells": [CLOSING]}]}],
    )
    folder.facts(
        {
            "command": f"semalign {SCRIPT}\n```\n{IMAGE}",
            "data": {"root": SCRIPT, "kind": IMAGE},
            "versions": {SCRIPT: "1"},
        }
    )
    for seed in range(3):
        for place, arm in enumerate(("Baseline", *NAMES)):
            iou = None if arm == LATEX and seed == 1 else [f"{40 + place + seed}/100"] * len(NAMES)
            facts = {"notes": [SCRIPT, LATEX], "failure": IMAGE, "text": {"kind": SCRIPT, "encoder": IMAGE}}
            path = folder.run(arm, seed, iou, names=NAMES, facts=facts, curves={"train/loss": [(0, 1.0), (5, 0.5)]})
            # The folder that the helper makes of a name is of no account here.
            place_of = folder.path / "runs" / f"arm-{place}" / f"seed-{seed}"
            if path.parent != place_of:
                place_of.mkdir(parents=True)
                shutil.move(path, place_of / "result.json")
    with warnings.catch_warnings():
        # Figures have no room for names of this length.
        warnings.filterwarnings("ignore", message="constrained_layout not applied")
        write_report(folder.path)
    return folder.path


class Tags(HTMLParser):
    """Collects tags and attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, list[tuple[str, str | None]]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep a tag."""
        self.found.append((tag, attrs))


def test_the_page(reported: Path) -> None:
    """There is no script, no handler of an event and no address of elsewhere in it; names are there as text."""
    text = (reported / "report.html").read_text(encoding="utf-8")
    tags = Tags(text).found

    assert not {"script", "iframe", "object", "embed", "base"} & {tag for tag, _ in tags}
    for tag, attributes in tags:
        for name, value in attributes:
            assert not name.startswith("on"), (tag, name)
            if name in ("src", "href", "xlink:href", "action"):
                assert (value or "").startswith(("#", "data:image/")), (tag, value)
    assert "&lt;script&gt;" in text
    assert "{{ 7 * 7 }}" in text


def test_the_tables(reported: Path) -> None:
    """In Markdown names are text on one line; in LaTeX no command of theirs is left."""
    markdown = (reported / "tables.md").read_text(encoding="utf-8")
    outside = re.sub(r"^(`{3,})console\n.*?^\1$", "", markdown, flags=re.DOTALL | re.MULTILINE)
    assert not re.search(r"(?<!\\)<(script|img|svg)", outside)
    assert "\nb" not in outside

    latex = "\n".join(
        line for line in (reported / "tables.tex").read_text(encoding="utf-8").splitlines() if not line.startswith("%")
    )
    assert r"\input" not in latex
    assert r"\write" not in latex
    assert r"\textbackslash{}input" in latex
    for row in (reported / "tables.md").read_text(encoding="utf-8").splitlines():
        if row.startswith("| ") and "a b" in row:
            assert r"\|" in row


def test_the_csv(reported: Path) -> None:
    """Names with line ends and quotes come back as they were."""
    import csv

    with (reported / "results.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))

    assert {row["arm"] for row in rows} == {"Baseline", *NAMES}
    assert len(rows) == 3 * (1 + len(NAMES))


@pytest.fixture(scope="module")
def browser() -> str:
    """Return a browser that can be called without a screen."""
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip("there is no Chromium here")
    return found


def title_in(browser: str, page: Path, profile: Path) -> str:
    """Return a page's title after its scripts, if it has any, have run."""
    done = subprocess.run(
        [browser, *QUIET, f"--user-data-dir={profile}", "--virtual-time-budget=3000", "--dump-dom", page.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    found = re.search(r"<title>(.*?)</title>", done.stdout, re.DOTALL)
    assert found is not None
    return found[1]


def test_in_a_browser(reported: Path, browser: str, tmp_path: Path) -> None:
    """The same names without escaping change the title; in the report they do not."""
    bare = tmp_path / "bare.html"
    bare.write_text(f"<html><head><title>bare</title></head><body>{IMAGE}</body></html>")
    assert title_in(browser, bare, tmp_path / "profile") == "owned"

    assert title_in(browser, reported / "report.html", tmp_path / "profile") != "owned"
