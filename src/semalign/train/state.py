"""The saved state: everything that a stopped run needs to be resumed with the same bits.

``state.safetensors`` in the run's folder holds the weights, their running average and the optimizer's moments as
tensors, and as plain values `Progress`, the run's identity and what it was computed with.  The order of the images, the
augmentation and the dropout of a step follow from the seed and the step (`semalign.seeds`) and are not saved.  The
learning rates follow from the options.

An uninterrupted run and a resumed one have the same bits on the same machine with the same versions and the same number
of threads; a run that is resumed under other conditions gets a note.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import time
import warnings
from typing import Any

import torch
from torch import Tensor

from semalign.config import Options, to_dict
from semalign.errors import CheckpointError, first_line
from semalign.results import Curve
from semalign.tensors_file import read_tensors, write_tensors
from semalign.train.machine import computed_with
from semalign.train.setup import Setup
from semalign.train.step import Step, diverged
from semalign.wording import Message, say

__all__ = ["Progress", "StateFile", "run_identity"]

SAVE_EVERY_SECONDS = 20.0


@dataclasses.dataclass
class Progress:
    """How far a run has come; plain values.

    Attributes:
        step: optimizer steps done.
        curves: the recorded points.
        seconds: training time so far, of all sittings.
        best: the best score on ``train.select_split`` in [0, 1], -1 before the first.
        best_step: the step of that score.
        scaler: the state of the scaler of fp16 gradients.
        notes: what a reader must know of how the run was resumed, as `Message.to_dict` gives it.
    """

    step: int = 0
    curves: dict[str, Curve] = dataclasses.field(default_factory=dict)
    seconds: float = 0.0
    best: float = -1.0
    best_step: int = -1
    scaler: dict[str, float] = dataclasses.field(default_factory=dict)
    notes: list[dict[str, Any]] = dataclasses.field(default_factory=list)

    def add(self, name: str, value: float) -> None:
        """Add a point to a curve.

        Raises:
            TrainingDiverged: ``value`` is not finite.
        """
        if not math.isfinite(value):
            raise diverged(f"{name} is {value} at step {self.step}", step=self.step)
        self.curves.setdefault(name, []).append((self.step, value))

    def record(self, step: Step) -> None:
        """Add what a step has shown to the curves."""
        for name, value in (step.points or {}).items():
            self.add(name, value)


def run_identity(options: Options, fingerprint: str) -> str:
    """Return what a saved state and a run that resumes it have in common: all options but the trackers, and the data.

    Args:
        options: the resolved options.
        fingerprint: of the training split.
    """
    value = to_dict(options)
    del value["train"]["tracker"]
    return hashlib.sha256(json.dumps([value, fingerprint], sort_keys=True).encode()).hexdigest()


class StateFile:
    """The saved state of a run: read when training starts, written every `SAVE_EVERY_SECONDS`.

    Args:
        setup: what the run trains with.
    """

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._identity = run_identity(setup.options, setup.inputs.fingerprint)
        self._computed_with = computed_with(setup.fabric.device)
        self._started = self._saved = time.monotonic()
        self._seconds_before = 0.0

    def restore(self) -> Progress:
        """Put the saved state where the setup has it and return how far the run has come; 0 steps without a state.

        Raises:
            CheckpointError: the state is damaged, or of other options or data.
        """
        file = self._setup.state_file
        if file is None or not file.exists():
            return Progress()
        tensors, facts = read_tensors(file)
        if facts.get("identity") != self._identity:
            raise CheckpointError(
                f"the state {file} belongs to other options or data, expected the run that is asked for: "
                "name another folder with --out"
            )
        try:
            self._put(tensors)
            raw = facts["progress"]
            curves = {name: [(int(s), float(v)) for s, v in points] for name, points in raw["curves"].items()}
            progress = Progress(**{**raw, "curves": curves})
            self._setup.scaler.load_state_dict(progress.scaler)
            note = moved_note(progress.step, dict(facts["computed_with"]), self._computed_with)
        except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            raise CheckpointError(
                f"the state {file} does not fit the run ({first_line(error)}), remove it to start over"
            ) from error
        if note is not None:
            progress.notes.append(note.to_dict())
            warnings.warn(str(note), stacklevel=3)
        self._seconds_before = progress.seconds
        return progress

    def seconds(self) -> float:
        """Return the training time of the run so far, of all sittings."""
        return self._seconds_before + time.monotonic() - self._started

    def save_now_and_then(self, progress: Progress) -> None:
        """Write the state if the last one is older than `SAVE_EVERY_SECONDS`; the first process alone does so."""
        if self._setup.out is None or time.monotonic() - self._saved <= SAVE_EVERY_SECONDS:
            return
        assert self._setup.state_file is not None
        progress.seconds = self.seconds()
        progress.scaler = self._setup.scaler.state_dict()
        facts = {
            "identity": self._identity,
            "computed_with": self._computed_with,
            "progress": dataclasses.asdict(progress),
        }
        write_tensors(self._setup.state_file, self._tensors(), facts)
        self._saved = time.monotonic()

    def _tensors(self) -> dict[str, Tensor]:
        tensors = {f"model.{name}": tensor for name, tensor in self._setup.weights.items()}
        tensors |= {f"average.{name}": tensor for name, tensor in self._setup.average.items()}
        for index, state in self._setup.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{key}": torch.as_tensor(value) for key, value in state.items()}
        return tensors

    def _put(self, tensors: dict[str, Tensor]) -> None:
        setup, optimizer = self._setup, self._setup.optimizer
        setup.run.model.load_state_dict({name: tensors[f"model.{name}"] for name in setup.weights})
        for name, tensor in setup.average.items():
            tensor.copy_(tensors[f"average.{name}"])
        # Groups (rates, decays) come from the options; only the moments are restored.
        state: dict[int, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            if name.startswith("optimizer."):
                _, index, key = name.split(".")
                state.setdefault(int(index), {})[key] = tensor
        # In memory as their parameters are, channels-last ones too: the fused step reads both in the order of memory.
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        for place, moments in state.items():
            for key, tensor in moments.items():
                if tensor.ndim and tensor.shape == parameters[place].shape:
                    moments[key] = torch.empty_like(parameters[place]).copy_(tensor)
        optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def moved_note(step: int, before: dict[str, Any], now: dict[str, Any]) -> Message | None:
    """Return a note that a run resumed at ``step`` is computed otherwise than before; None where all is the same.

    Args:
        step: optimizer steps done before.
        before: from `semalign.train.machine.computed_with`, when the state was saved.
        now: the same, now.
    """
    changed = tuple(
        say("train.changed", name=name, before=before.get(name), now=now[name])
        for name in now
        if before.get(name) != now[name]
    )
    return say("train.resumed_elsewhere", step=step, changed=changed) if changed else None
