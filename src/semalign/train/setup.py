"""What a run trains with: model, optimizer, batches and objective, made once from its inputs and options."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from semalign.config import Options
from semalign.data.loading import TrainingBatches
from semalign.data.transforms import Augmentation
from semalign.errors import ConfigError
from semalign.execution import Events
from semalign.layout import STATE
from semalign.model.alignment import Alignment, alignment_sites
from semalign.model.build import nudge
from semalign.model.segmenter import Segmenter
from semalign.model.temperature import taking_what_was_learned
from semalign.train.inputs import Inputs
from semalign.train.objective import Objective, make_objective
from semalign.train.optimizer import GroupRow, make_optimizer, parameter_groups
from semalign.train.parallel import own_share, share_statistics
from semalign.train.precision import Precision, choose_precision, compiled, make_scaler
from semalign.train.recompute import recomputing
from semalign.train.run import TrainedRun, build_model, take_values
from semalign.train.run_text import RunText

__all__ = ["Setup", "check_processes", "model_for", "set_up", "training_batches"]

RECORDS = 60
"""About how many points a curve has."""


@dataclasses.dataclass(frozen=True)
class Setup:
    """Everything that the steps of a run are computed with.

    Attributes:
        inputs: what the run reads.
        run: the model, in training mode, and what belongs to it.
        fabric: device and processes.
        out: the folder that this process writes to; None where nothing is kept, and in all processes but the first.
        state_file: the saved state, which all processes read; None where nothing is kept.
        events: what the caller watches; nothing in all processes but the first.
        precision: number format of the forward.
        scaler: keeps the gradients of fp16 from vanishing; does nothing for other formats.
        optimizer: over the model's parameters.
        groups: its parameter groups as they are printed.
        recording_model: the model for the steps that record; processes exchange gradients in its backward.
        model: the model for all other steps, compiled where the options say so.
        weights: the model's tensors by name; steps and loading write into these and never replace them.
        average: the running average of the weights, which is scored.
        batches: the batch of every step; with a share where processes or parts share its images.
        objective: what the logits are compared with.
        steps: optimizer steps of the run.
        sites: the alignments by their dotted paths.
        stillborn: the paths whose temperature cannot learn from the start.
        values: temperatures and gates that were taken from another run, by name.
    """

    inputs: Inputs
    run: TrainedRun
    fabric: Fabric
    out: Path | None
    state_file: Path | None
    events: Events
    precision: Precision
    scaler: torch.amp.GradScaler
    optimizer: torch.optim.Optimizer
    groups: list[GroupRow]
    recording_model: Any
    model: Any
    weights: Mapping[str, Tensor]
    average: dict[str, Tensor]
    batches: TrainingBatches
    objective: Objective
    steps: int
    sites: Mapping[str, Alignment]
    stillborn: tuple[str, ...]
    values: Mapping[str, Any] | None

    @property
    def options(self) -> Options:
        """The resolved options."""
        return self.run.options

    def is_recorded(self, step: int) -> bool:
        """Return whether the curves get a point at ``step``."""
        return step % max(1, self.steps // RECORDS) == 0 or step == self.steps - 1

    def epochs_done(self, step: int) -> int | None:
        """Return the number of epochs after ``step`` steps where one has just ended, else None."""
        done, place = divmod(step, self.batches.steps_per_epoch)
        return done if place == 0 else None


def model_for(options: Options, class_names: tuple[str, ...], text: RunText) -> Segmenter:
    """Build the segmenter of a run with its initial weights; the only way from inputs and options to a model.

    Raises:
        ConfigError: heads that do not divide a width, a dead temperature and the like.
    """
    return build_model(options, len(class_names), text.dim, text.class_dim, seed=options.train.seed)


def check_processes(options: Options, fabric: Fabric) -> None:
    """Refuse options that do not fit the processes that compute the run.

    Raises:
        ConfigError: another number of processes, or a compiled model where it cannot be.
    """
    train = options.train
    if fabric.world_size != train.devices * train.nodes:
        raise ConfigError(
            f"train.devices={train.devices} and train.nodes={train.nodes} in a run that has {fabric.world_size} "
            "process(es), expected as many: `semalign train` starts them, a study computes each run on one device"
        )
    if train.compile and (fabric.world_size > 1 or train.checkpointing):
        raise ConfigError(
            "train.compile=true with several devices or train.checkpointing, expected one of them: leave one out"
        )


def training_batches(inputs: Inputs, options: Options, share: slice | None = None) -> TrainingBatches:
    """Return the batches of a run, or a process's ``share`` of them."""
    data, train, images = options.data, options.train, inputs.images
    assert data.size is not None
    augmentation = Augmentation(data.zoom, data.flip, data.color)
    return TrainingBatches(images, train.batch_size, data.size, augmentation, inputs.depth_scale, train.seed, share)


def _share(inputs: Inputs, options: Options, fabric: Fabric) -> slice | None:
    """Return this process's part of a step; None for one process that computes a step at once."""
    count, parts = min(options.train.batch_size, len(inputs.images.names)), options.train.accumulate
    share = own_share(count, fabric.global_rank, fabric.world_size, parts)
    # The plain mean of one process is left to torch; the same sums in parts differ from it by rounding.
    return share if fabric.world_size * parts > 1 else None


@contextlib.contextmanager
def set_up(
    inputs: Inputs,
    options: Options,
    fabric: Fabric,
    *,
    out: Path | None = None,
    events: Events | None = None,
    root: Path | None = None,
    model: nn.Module | None = None,
) -> Iterator[Setup]:
    """Make everything that the steps need; what is changed in the model for training alone is taken back at the end.

    The arguments are those of `semalign.train.loop.fit`.
    """
    check_processes(options, fabric)
    train = options.train
    assert train.epochs is not None
    with contextlib.ExitStack() as stack:
        # Another model is called as a segmenter is.
        own = cast("Segmenter", model) if model is not None else model_for(options, inputs.class_names, inputs.text)
        source = options.align.values_from
        values = None if source is None else take_values(own, (root or Path()) / source)
        if train.nudge:
            nudge(own, train.nudge, train.seed)
        rows, groups = parameter_groups(
            own, lr=train.lr, scalar_lr=train.scalar_lr, decay=train.weight_decay, scalar_decay=train.scalar_decay
        )
        sites = alignment_sites(own)
        stillborn = tuple(path for path, site in sites.items() if site.temperature.liveness == "dead")
        stack.enter_context(taking_what_was_learned(own))
        precision = choose_precision(train.precision, fabric.device)
        own.to(fabric.device)
        optimizer = make_optimizer(own, groups)
        if train.checkpointing:
            stack.enter_context(recomputing(own))
        if fabric.world_size > 1:
            stack.enter_context(share_statistics(own))
        wrapped, _ = fabric.setup(own, optimizer)
        weights = own.state_dict()
        batches = training_batches(inputs, options, _share(inputs, options, fabric))
        text = inputs.text
        run = TrainedRun(own, options, inputs.class_names, text.bank, text.classes, inputs.depth_scale, {})
        # Of several processes the first one writes and speaks.
        is_first = fabric.is_global_zero
        own.train()
        yield Setup(
            inputs=inputs,
            run=run,
            fabric=fabric,
            out=out if is_first else None,
            state_file=None if out is None else out / STATE,
            events=(events if is_first else None) or Events(),
            precision=precision,
            scaler=make_scaler(precision, fabric.device),
            optimizer=optimizer,
            groups=rows,
            recording_model=wrapped,
            # Not through Fabric, which would compile its own wrapper anew.
            model=compiled(own, fabric.device) if train.compile else wrapped,
            weights=weights,
            average={name: tensor.detach().clone() for name, tensor in weights.items()},
            batches=batches,
            objective=make_objective(inputs, options, fabric.device),
            steps=batches.steps_per_epoch * train.epochs,
            sites=sites,
            stillborn=stillborn,
            values=values,
        )
