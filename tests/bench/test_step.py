"""What a training step and a forward cost beside one without text; nothing here is timed to be judged."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from semalign.bench import step
from semalign.bench.infer import infer_tables
from semalign.bench.models import KINDS, Case, forward_call, models_of, step_call
from semalign.bench.step import measure_loop, shares_of, step_tables, text_shares
from semalign.bench.tables import Table, markdown_tables
from semalign.model.alignment import alignment_sites
from semalign.train.inputs import prepare_inputs
from tests.small import scenes, tiny_options

SMALL = Case("nano", (32, 64), 2, tokens=3)


def test_shares_by_hand() -> None:
    """An addition is the median over rounds of neighbours' ratios, less one; its spread half the middle half."""
    times = {
        "with text": [3.0, 30.0, 3.3],
        "text removed": [2.5, 20.0, 3.0],
        "without": [2.0, 10.0, 3.0],
    }

    found = shares_of(times, {"with text": 130, "text removed": 125, "without": 100})

    assert found["attention_time"] == pytest.approx(0.2)
    assert found["guidance_time"] == pytest.approx(0.5)
    # Ratios 1.1, 1.5 and 3: a quarter lies below 1.3, a quarter above 2.25.
    assert found["guidance_spread"] == pytest.approx((2.25 - 1.3) / 2)
    assert found["attention_flops"] == pytest.approx(0.04)
    assert found["guidance_flops"] == pytest.approx(0.3)


def test_the_three_models_hold_what_they_say() -> None:
    """Without the text's branches the FFN of aligned levels stays; without guidance nothing of a level does."""
    models = models_of(SMALL)

    assert tuple(models) == KINDS
    assert [len(alignment_sites(model)) for model in models.values()] == [6, 0, 0]
    names = [{name for name, _ in model.named_parameters()} for model in models.values()]
    assert names[0] > names[1] > names[2]
    brought = {name.split(".")[2] + "." + name.split(".")[3] for name in names[1] - names[2]}
    assert brought == {f"{level}.{part}" for level in (2, 3) for part in ("norm2", "ffn")}
    own = models["with text"].state_dict()
    for model in list(models.values())[1:]:
        assert all(torch.equal(tensor, own[name]) for name, tensor in model.state_dict().items())


def test_a_step_trains() -> None:
    """A call is forward, loss, backward and the optimizer's step, in either number format."""
    for precision in ("float32", "bf16"):
        model = models_of(SMALL)["with text"]
        before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        call = step_call(model, SMALL, True, precision)

        first, second = call(), call()

        assert float(second) != float(first)
        assert not first.requires_grad
        assert all(not torch.equal(parameter, before[name]) for name, parameter in model.named_parameters())


def test_a_forward_trains_nothing() -> None:
    """A call returns logits at the image's size, and the model is in evaluation mode."""
    model = models_of(SMALL)["with text"]

    logits = forward_call(model, SMALL, True)()

    assert logits.shape == (2, 11, 32, 64)
    assert not logits.requires_grad
    assert not model.training


def test_operations_of_text_guidance() -> None:
    """Text adds operations, and most of what guidance as a whole adds are the FFN's."""
    models = models_of(SMALL)

    found = text_shares({kind: step_call(model, SMALL, kind == "with text") for kind, model in models.items()}, 2)

    flops = [found["flops"][kind] for kind in KINDS]
    assert flops == sorted(flops, reverse=True)
    assert 0 < found["attention_flops"] < found["guidance_flops"]
    assert found["ms"].keys() == set(KINDS)


def test_the_loop_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps of `fit` and of the bare loop take turns; steps that record are told apart, and nothing is scored."""
    monkeypatch.setattr(step, "LOOP_STEPS", 240)
    monkeypatch.setattr("semalign.train.outcome.score_images", None)
    options = tiny_options("scenes", data__n_train=6, data__n_val=1)
    inputs = prepare_inputs(scenes(6, 1), options)

    found = measure_loop(inputs, options, steps=9)

    assert found["record_every"] == 4
    assert found["recording_ms"] is not None
    assert min(found[name] for name in ("bare_ms", "ours_ms", "recording_ms", "augment_ms")) > 0
    assert found["steps"] == 9


SHARES: dict[str, Any] = {
    "case": "nano, 144 x 192, batch 8, T = 11",
    "ms": {"with text": 110.0, "text removed": 105.0, "without": 100.0},
    "attention_time": 0.047,
    "attention_spread": 0.011,
    "guidance_time": 0.1,
    "guidance_spread": 0.02,
    "attention_flops": 0.03,
    "guidance_flops": 0.12,
}


def test_tables_by_hand() -> None:
    """Times in milliseconds, additions in per cent with their spread, operations beside them."""
    loop = {
        "steps": 72,
        "bare_ms": 100.0,
        "ours_ms": 102.0,
        "recording_ms": 120.0,
        "over_bare": 0.02,
        "spread": 0.005,
        "with_recording": 0.026,
        "record_every": 33,
        "augment_ms": 1.5,
    }
    precision = [{"case": "nano", "ms": {"float32": 100.0, "bf16": 80.0}, "ratio": 1.25}]

    text, ours, short = step_tables({"text": [SHARES], "loop": loop, "precision": precision})

    assert text.rows == [
        [SHARES["case"], "110.0", "105.0", "100.0", "4.7 ± 1.1", "10.0 ± 2.0", "3.0", "12.0"],
    ]
    assert ours.rows == [["72 steps", "100.0", "102.0", "1.5", "120.0 (one in 33)", "2.0 ± 0.5", "2.6"]]
    assert short.rows == [["nano", "100.0", "80.0", "1.25"]]
    assert infer_tables({"text": [SHARES]})[0].rows == text.rows
    assert len(step_tables({"text": [], "loop": loop | {"recording_ms": None}, "precision": []})) == 2


def test_markdown_by_hand() -> None:
    """Tables follow each other with an empty line between them."""
    tables = [Table("one", ["a", "b"], [["x", "1"], ["y", "2"]]), Table("two", ["c"], [])]

    assert markdown_tables(tables) == (
        "**one**\n\n| a | b |\n| --- | ---: |\n| x | 1 |\n| y | 2 |\n\n**two**\n\n| c |\n| --- |\n"
    )
