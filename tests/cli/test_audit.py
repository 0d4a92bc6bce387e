"""`semalign audit` as a user calls it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Semalign

DEAD = """
import torch
from torch import nn

class Gated(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3, 3)
        self.gate = nn.Parameter(torch.tensor(0.3))
    def forward(self, x):
        return x + self.gate.item() * self.fc(x)

def make():
    return Gated(), (torch.ones(2, 3),)
"""
SMALL = ["--set", "data.size=[32,43]"]


def test_a_factory_with_an_error_exits_with_1(here: Path, semalign: Semalign) -> None:
    """One JSON object on stdout with the finding, exit code 1."""
    (here / "cli_audited.py").write_text(DEAD)

    said = semalign("audit", "cli_audited.py:make", "--json")

    assert said.code == 1
    value = json.loads(said.out)
    assert [(item["code"], item["severity"], item["where"]) for item in value["findings"]] == [
        ("turned-into-number", "error", "gate")
    ]
    assert semalign("audit", "cli_audited:make", "--json").code == 1


def test_text_names_the_fix(here: Path, semalign: Semalign) -> None:
    """Without --json the findings are lines with consequence and fix, and the counts come last."""
    (here / "cli_audited_too.py").write_text(DEAD)

    said = semalign("audit", "cli_audited_too.py:make")

    assert said.out.startswith("error: turned-into-number: gate\n")
    assert "  fix: multiply by the tensor" in said.out
    assert said.out.endswith("1 error, 0 warnings, 0 notes\n")


@pytest.mark.filterwarnings("ignore::semalign.align.temperature.DeadKnobWarning")
def test_options_and_runs(here: Path, trained: Path, semalign: Semalign) -> None:
    """A YAML file and a run's folder are audited; what the preset seed declares does not fail."""
    (here / "c.yaml").write_text("model: {preset: seed}\n")

    said = semalign("audit", "c.yaml", "--json", *SMALL)
    run = semalign("audit", trained, "--json")

    assert said.code == 0
    value = json.loads(said.out)
    assert [item["code"] for item in value["findings"][:2]] == ["init-outside-bound", "near-uniform-attention"]
    assert value["findings"][0]["declared"]
    assert run.code == 0
    assert json.loads(run.out)["ok"]


def test_targets_that_are_none(here: Path, trained: Path, semalign: Semalign) -> None:
    """One sentence, exit code 2."""
    for pattern, words in (
        ("the audit got 'nothing', which is not a file or a folder", ["nothing"]),
        ("--set has no effect on the audit of", [trained, *SMALL]),
        ("cannot import 'nowhere' of 'nowhere:make'", ["nowhere:make"]),
    ):
        said = semalign("audit", *words)
        assert said.code == 2
        assert said.out == ""
        assert pattern in said.err
        assert said.err.count("\n") == 1
