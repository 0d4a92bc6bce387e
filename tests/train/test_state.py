"""What a stopped run needs, and what it says when it is resumed under other conditions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from semalign import api
from semalign.execution import Events
from semalign.inspection.options import audit_inputs
from semalign.results import RunResult, read_result
from semalign.tensors_file import read_tensors
from semalign.train import state
from semalign.train.inputs import prepare_inputs
from semalign.train.machine import computed_with
from semalign.train.setup import model_for
from semalign.train.state import moved_note, run_identity
from semalign.wording import Catalogue, Message
from tests.small import TINY, tiny_options

HERE = {"threads": 1, "torch": "2.13", "processor": "AVX512"}


class Stop(Exception):  # noqa: N818 (a test's own way out)
    """Ends a run from outside, as a power cut does."""


def train(data: Path, out: Path, stop_at: int = 0) -> RunResult:
    """Train on the CPU, saving after each step; stop by force after a step."""

    def stepped(step: int, steps: int, loss: float) -> None:
        if step == stop_at:
            raise Stop

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(state, "SAVE_EVERY_SECONDS", -1.0)
        return api.train(data, out=out, resume=True, device="cpu", settings=TINY, events=Events(stepped=stepped))[1]


def test_what_has_changed_is_named() -> None:
    """Each condition that differs is named with both values, in both languages; equal ones need no note."""
    note = moved_note(7, HERE, {**HERE, "threads": 2, "torch": "2.14"})

    assert moved_note(7, HERE, dict(HERE)) is None
    assert note is not None
    assert str(note) == (
        "the run was resumed at step 7 under other conditions (threads 1 before, 2 now, torch 2.13 before, 2.14 now): "
        "its numbers will differ by rounding from those of an uninterrupted run"
    )
    assert "threads 之前为 1，现在为 2、torch 之前为" in Catalogue("zh").text(note)


def test_resumed_under_another_number_of_threads(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says so in one line when it starts, and keeps the note in the result, also when it is resumed once more."""
    with pytest.raises(Stop):
        train(data, tmp_path / "run", stop_at=2)
    stored = read_tensors(tmp_path / "run" / "state.safetensors")[1]["computed_with"]
    threads = torch.get_num_threads()
    assert stored == computed_with(torch.device("cpu"))
    assert stored["threads"] == threads

    def elsewhere(device: torch.device) -> dict[str, Any]:
        return {**computed_with(device), "threads": threads + 1}

    monkeypatch.setattr(state, "computed_with", elsewhere)
    said = rf"resumed at step 1 under other conditions \(threads {threads} before"
    with pytest.raises(Stop), pytest.warns(UserWarning, match=said):
        train(data, tmp_path / "run", stop_at=3)
    result = train(data, tmp_path / "run")

    stored_note = read_result(tmp_path / "run" / "result.json").facts["notes"][0]
    assert Message.from_dict(stored_note).key == "train.resumed_elsewhere"
    assert sum("resumed at step" in note for note in result.notes) == 1


def test_who_watches_is_no_part_of_a_run() -> None:
    """A state is that of the options and the data; trackers may change."""
    options = tiny_options()

    assert run_identity(options, "a") == run_identity(tiny_options(train__tracker="csv"), "a")
    assert run_identity(options, "a") != run_identity(options, "b")
    assert run_identity(options, "a") != run_identity(tiny_options(train__accumulate=2), "a")


def test_a_result_holds_what_its_bits_depend_on(trained: Path) -> None:
    """Threads, device, processor, machine, precision and versions are among the facts."""
    facts = read_result(trained / "result.json").facts

    here = computed_with(torch.device("cpu"))
    assert {name: facts[name] for name in ("threads", "device", "processor", "machine")}.items() <= here.items()
    assert facts["versions"].items() <= here.items()
    assert facts["precision"] == "float32"


def test_a_training_leaves_the_process_as_it_was(data: Path, tmp_path: Path) -> None:
    """Random state and number of threads are those of before; nothing random of the caller's reaches the run."""
    torch.manual_seed(3)
    before, threads = torch.random.get_rng_state(), torch.get_num_threads()

    run, _ = api.train(data, out=tmp_path / "run", settings=TINY)
    api.evaluate(run, data, counterfactuals=True)
    api.load(tmp_path / "run")

    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.get_num_threads() == threads


def test_the_audit_before_a_training_leaves_its_model(data: Path) -> None:
    """The one model of a run is audited and trained: the audit leaves it bit for bit as it was."""
    options = tiny_options()
    inputs = prepare_inputs(api.open_source(data, options), options)
    model = model_for(options, inputs.class_names, inputs.text)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state_before = torch.random.get_rng_state()

    audit_inputs(inputs, options, model=model)

    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert model.training
    assert torch.equal(torch.random.get_rng_state(), state_before)
