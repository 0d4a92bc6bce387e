"""The audit of our own models and of trained runs."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from semalign.audit.findings import AuditReport
from semalign.inspection.curves import curve_findings
from semalign.inspection.options import audit_inputs, audit_options
from semalign.inspection.runs import audit_run
from semalign.model.build import build_segmenter
from semalign.presets import PRESETS, starts_dead
from semalign.train.inputs import prepare_inputs
from tests.small import scenes, tiny_options

DEAD = [f"decoder.alignments.{level}.temperature.log_scale" for level in (2, 3)]


def codes(report: AuditReport, severity: str = "error") -> list[str]:
    """Return the codes of one severity."""
    return [item.code for item in report.findings if item.severity == severity]


def test_which_presets_are_dead() -> None:
    """The two that publish a decoder temperature of log(1/0.07) under a clamp at 2."""
    assert [name for name in PRESETS if starts_dead(name)] == ["seed", "document"]


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
