"""The training loop: inputs → setup → step → state → outcome, one module each.

A run depends on its options, its data and its seed, and up to rounding on the machine (`semalign.train.machine`).  This
module does not depend on studies.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import nn

from semalign.config import Options
from semalign.execution import Events
from semalign.results import RunResult
from semalign.train.inputs import Inputs
from semalign.train.outcome import finish, score_after_epoch
from semalign.train.parallel import make_fabric
from semalign.train.run import TrainedRun
from semalign.train.setup import set_up
from semalign.train.state import StateFile
from semalign.train.step import compute_gradients, update_weights
from semalign.train.trackers import following

__all__ = ["fit"]


def fit(
    inputs: Inputs,
    options: Options,
    *,
    out: Path | None = None,
    arm: str = "",
    fabric: Fabric | None = None,
    events: Events | None = None,
    facts: Mapping[str, Any] | None = None,
    root: Path | None = None,
    model: nn.Module | None = None,
) -> tuple[TrainedRun, RunResult]:
    """Train and score one run; with ``out`` resume from the state saved there, and save the state now and then.

    Args:
        inputs: from `semalign.train.inputs.prepare_inputs` with the same options.
        options: resolved options.
        out: an existing folder for the state, the weights and, with ``train.select_split``, the best weights.
        arm: the arm's name in a study.
        fabric: where to compute; by default one automatic device.
        events: functions that are called while the run is trained.
        facts: plain facts to keep in the result.
        root: folder that ``align.values_from`` is relative to; by default the working folder.
        model: a model to train instead of the segmenter that the options describe; it must accept the same arguments.
            Its weights are saved, but `semalign.train.run.load_run` can only rebuild segmenters of the options.

    Returns:
        The run with the scored weights, and its result; the caller writes the result.

    Raises:
        TrainingDiverged: the loss, a recorded value or a weight is not finite.
        CheckpointError: the saved state is damaged or of another run.
        ConfigError: the options do not fit the model, the device or the number of processes.
    """
    fabric = fabric or make_fabric()
    devices = [fabric.device] if fabric.device.type == "cuda" else []
    with (
        torch.random.fork_rng(devices=devices),
        set_up(inputs, options, fabric, out=out, events=events, root=root, model=model) as setup,
    ):
        state = StateFile(setup)
        progress = state.restore()
        setup.events.started(setup.groups, setup.steps)
        with following(setup, arm, progress.step) as trackers:
            trackers.follow(progress.curves)
            while progress.step < setup.steps:
                step = compute_gradients(setup, progress.step)
                progress.record(step)
                update_weights(setup, progress.step)
                progress.step += 1
                setup.events.stepped(progress.step, setup.steps, step.loss)
                score_after_epoch(setup, progress)
                trackers.follow(progress.curves)
                state.save_now_and_then(progress)
            return finish(setup, progress, trackers, arm=arm, seconds=state.seconds(), facts=facts or {})
