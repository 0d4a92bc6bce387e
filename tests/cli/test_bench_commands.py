"""`semalign bench step`, `infer` and `study` as a user calls them; what they measure is given here."""

from __future__ import annotations

import json
from typing import Any

import pytest

from semalign.bench import infer, step, study
from semalign.bench.tables import Table

from .conftest import Semalign

CALLS = {
    "step": (step, "bench_step", "step_tables", ["--data", "folder", "--set", "train.lr=0.1"]),
    "infer": (infer, "bench_infer", "infer_tables", []),
    "study": (study, "bench_study", "study_tables", ["--workers", "3", "--device", "cuda"]),
}


@pytest.mark.parametrize("name", list(CALLS))
@pytest.mark.parametrize("form", ["--json", "--markdown", ""])
def test_commands(name: str, form: str, semalign: Semalign, monkeypatch: pytest.MonkeyPatch) -> None:
    """Options reach the measurement; the result is one JSON object, Markdown, or tables on stderr."""
    module, measure, tables, arguments = CALLS[name]
    given: dict[str, Any] = {}

    def found(*, progress: Any, **options: Any) -> dict[str, Any]:
        given.update(options)
        progress("something")
        return {"format": 1}

    monkeypatch.setattr(module, measure, found)
    monkeypatch.setattr(module, tables, lambda value: [Table("a title", ["what", "ms"], [["this", "1.5"]])])

    said = semalign("bench", name, "--quick", *arguments, *([form] if form else []))

    assert said.code == 0
    assert given.pop("quick") is True
    assert (
        given
        == {
            "step": {"data": "folder", "settings": ["train.lr=0.1"]},
            "infer": {},
            "study": {"data": "scenes", "settings": (), "workers": 3, "device": "cuda"},
        }[name]
    )
    if form == "--json":
        assert json.loads(said.out) == {"format": 1}
    elif form == "--markdown":
        assert said.out == "**a title**\n\n| what | ms |\n| --- | ---: |\n| this | 1.5 |\n"
    else:
        assert said.out == ""


def test_no_worker(semalign: Semalign) -> None:
    """A study's number of processes is checked before anything is measured."""
    said = semalign("bench", "study", "--workers", "0")

    assert said.code == 2
    assert "--workers got 0, expected at least 1" in said.err
