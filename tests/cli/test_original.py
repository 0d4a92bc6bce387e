"""`semalign import-original` as a user calls it."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pytest
import torch

from semalign.align.temperature import DeadKnobWarning
from semalign.model.dropin import SemanticAlignmentModule
from tests.cli.conftest import Semalign
from tests.cli.test_bad_input import assert_refused, listing


@pytest.fixture
def checkpoint(here: Path) -> Path:
    """Return a checkpoint of the original's shape, with its dead temperature."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeadKnobWarning)
        made = SemanticAlignmentModule(28, 11, num_heads=4, allow_dead=True)
    torch.save({f"module.decoder.sam.{name}": value for name, value in made.state_dict().items()}, here / "best.pth")
    return here / "best.pth"


def test_looking(semalign: Semalign, checkpoint: Path, here: Path) -> None:
    """Without --out nothing is written; the report says side, gate and that the temperature is dead."""
    before = listing(here)
    said = semalign("import-original", checkpoint.name)

    assert said.code == 0, said.err
    assert said.out.startswith("decoder.sam: decoder (its name in the model says so), version latest, 28 channels")
    assert "l = 2.659, clamp ±2, dead: outside its clamp its gradient is exactly 0; scale 2.793 = 7.389 x" in said.out
    assert "DecoderAlignment computes the same: largest difference" in said.out
    assert "not in the checkpoint, taken as: top_m=5, use_topk=True" in said.err
    assert listing(here) == before


def test_converting(semalign: Semalign, checkpoint: Path) -> None:
    """The file's path ends stdout, or one JSON object says all; options of the constructor count."""
    words = ("--out", "ours.safetensors", "--as", "semalign", "--option", "use_topk=false", "--json")
    value = json.loads(semalign("import-original", checkpoint.name, *words).out)

    assert value["out"] == "ours.safetensors"
    assert value["assumed"]["use_topk"] is False
    assert value["modules"][0]["temperatures"]["decoder"]["state"] == "dead"
    assert value["modules"][0]["differences"]["decoder"] <= 1e-6
    assert Path("ours.safetensors").is_file()
    assert semalign("import-original", checkpoint.name, "--out", "kept.safetensors").out.endswith(
        "\nkept.safetensors\n"
    )


@pytest.mark.parametrize(
    ("words", "pattern"),
    [
        (("nothing.pth",), "no checkpoint at nothing.pth, expected a file"),
        (("best.pth", "--option", "use_topk"), "--option got 'use_topk', expected NAME=VALUE such as use_topk=false"),
        (("best.pth", "--option", "topk=3"), "--option topk is not an argument that checkpoints lack"),
        (("best.pth", "--option", "top_m=["), "--option got 'top_m=\\[', expected a plain value"),
        (("best.pth", "--as", "mine"), "--as got 'mine', expected original or semalign"),
        (("best.pth", "--part", "ema"), "best.pth has no part 'ema'"),
    ],
)
def test_refused(semalign: Semalign, checkpoint: Path, words: tuple[str, ...], pattern: str) -> None:
    """One sentence, exit code 2."""
    assert checkpoint.exists()
    assert_refused(semalign("import-original", *words), pattern)
