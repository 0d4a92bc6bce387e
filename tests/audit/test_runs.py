"""The audit of semalign's own models, of factories, and its command."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from semalign.audit.findings import AuditReport
from semalign.audit.runs import audit_factory, audit_inputs, audit_options, audit_run, curve_findings
from semalign.errors import ConfigError
from semalign.model.build import build_segmenter
from semalign.train.loop import prepare_inputs
from tests.small import scenes, tiny_options

DEAD = [f"decoder.alignments.{level}.temperature.log_scale" for level in (2, 3)]


def codes(report: AuditReport, severity: str = "error") -> list[str]:
    """Return the codes of one severity."""
    return [item.code for item in report.findings if item.severity == severity]


@pytest.mark.filterwarnings("ignore::semalign.align.temperature.DeadKnobWarning")
def test_the_seeds_first_two_findings() -> None:
    """On preset seed: the decoder's dead temperature, declared by the preset, then its near-uniform attention."""
    report = audit_options(tiny_options(model__preset="seed"))

    first, second = report.findings[:2]
    assert (first.code, list(first.places), first.declared) == ("init-outside-bound", DEAD, True)
    assert (second.code, list(second.places)) == (
        "near-uniform-attention",
        [f"decoder.alignments.{level}" for level in (2, 3)],
    )
    assert second.numbers["entropy"] > 0.99
    assert report.ok


@pytest.mark.parametrize("preset", ["recommended", "transformer", "clip", "xvlm"])
def test_other_presets_are_clean(preset: str) -> None:
    """No preset that is not dead as published has an error or a warning."""
    report = audit_options(tiny_options(model__preset=preset))

    assert codes(report) == []
    assert codes(report, "warning") == []


def test_options_of_every_kind_make_a_batch() -> None:
    """Text of its own per image, none, depth and the text classifier are audited as well."""
    for changes in (
        {"data__text": "images"},
        {"data__text": "none", "model__classifier": "text"},
        {"data__depth": True},
    ):
        assert codes(audit_options(tiny_options(**changes))) == []


def test_inputs_of_a_training() -> None:
    """What a training would start with is audited on its first batch."""
    options = tiny_options("scenes")
    report = audit_inputs(prepare_inputs(scenes(), options), options)

    assert report.ok
    assert report.facts["steps"] == 3


def test_a_run_is_audited_with_its_curves(trained: Path) -> None:
    """A sound run has no error."""
    report = audit_run(trained)

    assert report.ok


def test_curves_show_what_stood_on_its_bound() -> None:
    """A learnable scale at its bound over the last third of the recorded steps is pinned; one below it is not."""
    model = build_segmenter(3, text_dim=5, encoder_stages=(), decoder_levels=(2,))
    high = [(step, 100.0 if step > 3 else 50.0) for step in range(12)]
    low = [(step, 99.0) for step in range(12)]

    found = curve_findings(model, {"decoder.alignments.2/scale": high})

    assert [(item.code, item.places) for item in found] == [("pinned-at-bound", (DEAD[0],))]
    assert found[0].numbers["value"] == pytest.approx(math.log(100))
    assert curve_findings(model, {"decoder.alignments.2/scale": low}) == []


FACTORY = """
import torch
from torch import nn

class Gated(nn.Module):
    def __init__(self, dead):
        super().__init__()
        self.dead, self.fc = dead, nn.Linear(3, 3)
        self.gate = nn.Parameter(torch.tensor(0.3))
    def forward(self, x):
        return x + (self.gate.detach() if self.dead else self.gate) * self.fc(x)

def dead():
    return Gated(True), (torch.ones(2, 3),)

def alive():
    model = Gated(False)
    return {"model": model, "batch": {"x": torch.ones(2, 3)}, "loss": lambda y: y.sum()}

def with_optimizer():
    model = Gated(False)
    return model, torch.ones(2, 3), torch.optim.SGD(model.parameters(), lr=0.1), lambda y, batch: (y - batch).sum()

def wrong():
    return 3

def mapping():
    return {"net": 1}
"""


@pytest.fixture
def factory(tmp_path: Path) -> Path:
    """Return a file of factories."""
    path = tmp_path / "audited_by_test.py"
    path.write_text(FACTORY)
    return path


def test_factories(factory: Path) -> None:
    """A factory's tuple or mapping is audited, with its optimizer and loss."""
    assert [(i.code, i.where) for i in audit_factory(f"{factory}:dead").errors] == [("detached", "gate")]
    assert audit_factory(f"{factory}:alive").ok
    assert audit_factory(f"{factory}:with_optimizer").ok


def test_factory_messages(factory: Path) -> None:
    """What is no factory is said in one sentence."""
    with pytest.raises(ConfigError, match=r"returned int, expected \(model, batch\)"):
        audit_factory(f"{factory}:wrong")
    with pytest.raises(ConfigError, match="returned a mapping of net, expected model, batch and optionally"):
        audit_factory(f"{factory}:mapping")
    with pytest.raises(ConfigError, match="found no function 'gone' in"):
        audit_factory(f"{factory}:gone")
    with pytest.raises(ConfigError, match="cannot import 'no_such_module' of 'no_such_module:make'"):
        audit_factory("no_such_module:make")
