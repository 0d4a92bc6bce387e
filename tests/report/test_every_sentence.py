"""Every sentence of a report in both languages, with the values that the code gives it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from semalign.report.html import render
from semalign.report.markdown import tables_md
from semalign.report.numbers import load_study
from semalign.report.page import build_page
from semalign.report.paper import paper_md
from semalign.report.sentences import catalogue_of
from semalign.wording import LANGUAGES, Catalogue, Language, sentences
from tests.report.study_folder import designed, looked, paired
from tests.report.test_evidence import plain
from tests.report.test_html import rich

SUBJECTS = ("answer", "figure", "method", "paper", "report", "table")


RARE: dict[str, dict[str, Any]] = {
    "answer.plain other": {},
    "answer.plain lost": {"lost": 1, "all": 3},
    "answer.look open short": {"index": 1, "n": 3},
    "figure.group stability": {},
    "figure.text stability": {},
    "figure.quantity logit_size": {},
    "figure.quantity strength": {},
    "figure.quantity entropy": {},
    "figure.quantity grad_norm": {},
    "figure.place other": {"index": 0, "site": "neck.attention"},
    "method.pairing pays": {},
    "method.pairing costs": {},
    "method.block shares command": {},
    "method.weights average": {},
    "method.weights last": {},
    "method.recipe": {},
    "method.split value": {"split": "val", "n": "80", "sha": "0f3a"},
    "method.times selection": {"split": "val", "n": 3},
    "method.decay value": {"role": "gates", "decay": 0.05},
    "method.decay arm": {"arm": "A", "values": "gates 0.05"},
    "method.role weights": {},
    "method.role norms and biases": {},
    "method.role temperatures": {},
    "method.role gates": {},
    "method.pilot false positives": {},
    "method.false positives value": {"found": "12.5%", "level": "5.0%"},
    "paper.arms command": {"arms": 2, "names": "Baseline, A"},
    "paper.shares command": {},
    "paper.tex notes": {"name": "made-up"},
    "report.text yes": {"arm": "Baseline"},
    "report.text branch, no control": {"arm": "Baseline"},
    "report.text branch, open": {"arm": "Baseline"},
    "report.text branch only": {"arm": "Baseline"},
    "report.text not its meaning": {"arm": "Baseline"},
    "report.text no gain": {"arm": "Baseline"},
    "report.text harm": {"arm": "Baseline"},
    "report.text no text": {"arm": "Baseline"},
    "report.all failed": {"n": 3},
    "report.data root": {"root": "rooms"},
    "report.data classes": {"n": 8},
    "report.md machine": {"machine": "CPU cores: 2"},
    "report.minutes unit": {"n": "180", "minutes": "3.0"},
    "report.machine cpus": {"n": 2},
    "report.machine workers": {"n": 2},
    "report.machine threads": {"n": 1},
    "report.factors none": {},
    "report.interactions shown": {},
    "report.class changes none": {},
    "report.image changes none": {},
    "report.new images clusters": {"clusters": 23},
    "report.new images scores only": {"clusters": 0, "fewest": 20},
    "report.new images unfinished": {"clusters": 0, "fewest": 20},
    "report.new images clusters unknown": {"clusters": 0, "fewest": 20},
    "table.other arms": {},
    "table.by lost": {"n": 1},
    "table.shown only": {"word": "better"},
    "table.picture": {},
    "table.picture alt": {"name": "val/street_001"},
    "table.claims note looks": {},
}
"""Sentences that the studies below do not reach, with values such as the code gives; other tests reach most of them."""


def lossy(arm: str, seed: int) -> float | None:
    """Return scores with a failed run."""
    return None if (arm, seed) == ("A", 1) else 40 + seed + len(arm) / 20 + (seed * len(arm)) % 3


def whole(arm: str, seed: int) -> float:
    """Return scores of a study without a failed run."""
    return 40 + seed + len(arm) / 20 + (seed * len(arm)) % 3


def studies(path: Path) -> list[Path]:
    """Write studies of every kind and state."""
    wavering = ["1", "-2", "3", "0.5", "-1", "2", "-3", "1", "0", "2", "-2", "1"]
    folders = [
        paired(path / "paired"),
        paired(path / "one", ["1"]),
        looked(path / "open", wavering[:6]),
        looked(path / "before", wavering[:3]),
        looked(path / "last", wavering),
        looked(path / "decided", ["9", "9.2", "8.8", "9.1", "9", "9.3"]),
        looked(path / "futile", ["3", "-3", "3", "-3", "2"], futility=True),
        designed(path / "ablations", "ablations", lossy, blocks=3, seeds=3),
        designed(path / "plain", "ablations", plain, blocks=5, seeds=5),
        designed(path / "factorial", "factorial", whole, blocks=3, seeds=3),
        designed(path / "half", "half-fraction", whole, blocks=3, seeds=3),
        designed(path / "matched", "value-matched", whole, blocks=3, seeds=3),
    ]
    return [rich(path / "rich").path, *(folder.path for folder in folders)]


def test_every_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is rendered in both languages, with nothing left to be filled in."""
    said: dict[tuple[Language, str], str] = {}
    original = Catalogue.__call__

    def record(self: Catalogue, key: str, /, **values: Any) -> str:
        text = original(self, key, **values)
        said[self.lang, key] = text
        return text

    monkeypatch.setattr(Catalogue, "__call__", record)
    monkeypatch.setattr("semalign.report.html.draw", lambda drawing: "")
    for folder in studies(tmp_path):
        numbers = load_study(folder)
        for lang in LANGUAGES:
            words = catalogue_of(numbers, lang)
            page = build_page(numbers, words)
            tables_md(page, words)
            paper_md(numbers, page.new_images, lang)
            render(page, words)
    for lang in LANGUAGES:
        for key, values in RARE.items():
            assert (lang, key) not in said, f"{key} is rendered by the studies too"
            catalogue_of(numbers, lang)(key, **values)

    keys = {f"{subject}.{name}" for subject in SUBJECTS for name in sentences("en", subject)}
    assert {key for _, key in said if key.split(".")[0] in SUBJECTS} == keys
    for (lang, key), text in said.items():
        assert text.strip(), (lang, key)
        assert not re.search(r"\{\w*\}|\[\[", text), (lang, key, text)
    assert len(said) == 2 * len({key for _, key in said})
