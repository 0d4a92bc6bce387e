"""One optimizer step: batch, learning rates, forward and backward by parts, update, running average.

Everything random in a step is drawn from streams that are named after it, so that a resumed run has the same bits.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from semalign.data.batches import Batch
from semalign.errors import SemalignError
from semalign.metrics import IGNORE
from semalign.model.recording import recording
from semalign.seeds import derive_seed
from semalign.train.average import update_average
from semalign.train.optimizer import learning_rate_factor
from semalign.train.parallel import labelled_weight, mean_records, parts_of, sum_over_processes
from semalign.train.precision import autocast
from semalign.train.setup import Setup

__all__ = ["Step", "TrainingDiverged", "compute_gradients", "diverged", "rates_at", "update_weights"]

REMEDY = "lower train.lr or set train.clip_norm"


class TrainingDiverged(SemalignError, ArithmeticError):  # noqa: N818 (named for what happened)
    """The loss, or what was learned, is not a finite number any more.

    Attributes:
        at: where: step, and images where it was the loss of a batch.
    """

    def __init__(self, message: str, **at: Any) -> None:
        super().__init__(message)
        self.at = at


def diverged(what: str, **at: Any) -> TrainingDiverged:
    """Return the error for ``what`` is not finite, with what a user can change."""
    return TrainingDiverged(f"{what}, expected a finite number: {REMEDY}", **at)


@dataclasses.dataclass(frozen=True)
class Step:
    """What a step has shown.

    Attributes:
        loss: of all images of the step.
        points: what is recorded of it, by the name of the curve; None for a step that is not recorded.
    """

    loss: float
    points: Mapping[str, float] | None


@dataclasses.dataclass(frozen=True)
class _Arguments:
    """What the model is called with, on its device; without a batch axis for a text that all images share."""

    image: Float[Tensor, "b 3 h w"]
    target: Int[Tensor, "b h w"]
    depth: Float[Tensor, "b 1 h w"] | None
    text: Float[Tensor, ...] | None
    is_padding: Bool[Tensor, ...] | None


def compute_gradients(setup: Setup, number: int) -> Step:
    """Compute loss and gradients of step ``number`` (from 0); the weights stay as they are.

    Raises:
        TrainingDiverged: the loss is not finite.
    """
    _set_rates(setup, number)
    setup.optimizer.zero_grad(set_to_none=True)
    batch = setup.batches.batch(number)
    given = _on_device(setup, batch)
    # What the loss of all images is divided by; every part needs it before its backward.
    weights = setup.objective.weights
    is_shared = setup.batches.share is not None
    whole = sum_over_processes(labelled_weight(given.target, weights, IGNORE)) if is_shared else None
    total = torch.zeros((), device=setup.fabric.device)
    records = []
    for part in parts_of(len(given.image), setup.options.train.accumulate):
        loss, record = _backward(setup, number, given, part, whole)
        total += loss
        records.append(record)
    value = float(sum_over_processes(total) if is_shared else total)
    if not math.isfinite(value):
        raise _loss_diverged(setup, number, value)
    setup.scaler.unscale_(setup.optimizer)
    if setup.options.train.clip_norm is not None:
        nn.utils.clip_grad_norm_(setup.run.model.parameters(), setup.options.train.clip_norm)
    return Step(value, _points(setup, value, records) if setup.is_recorded(number) else None)


def update_weights(setup: Setup, number: int) -> None:
    """Move the weights along the gradients of step ``number``, and the running average towards the weights."""
    setup.scaler.step(setup.optimizer)
    setup.scaler.update()
    update_average(setup.average, setup.weights, setup.options.train.average, number + 1)


def rates_at(setup: Setup, number: int) -> dict[str, float]:
    """Return the learning rates of step ``number`` by the names of their curves."""
    factor = learning_rate_factor(number, setup.steps, setup.options.train.warmup)
    return {f"lr/{group.role}": factor * group.lr for group in setup.groups}


def _set_rates(setup: Setup, number: int) -> None:
    rates = rates_at(setup, number)
    for group in setup.optimizer.param_groups:
        group["lr"] = rates[f"lr/{group['role']}"]


def _on_device(setup: Setup, batch: Batch) -> _Arguments:
    device = setup.fabric.device
    text, is_padding = setup.inputs.text.batch(setup.options.data.train_split, batch.index)
    return _Arguments(
        batch.image.to(device),
        setup.objective.target(batch.mask.to(device)),
        None if batch.depth is None else batch.depth.to(device),
        None if text is None else text.to(device),
        None if is_padding is None else is_padding.to(device),
    )


def _backward(
    setup: Setup, number: int, given: _Arguments, part: slice, whole: Tensor | None
) -> tuple[Tensor, Mapping[str, Mapping[str, float]]]:
    """Add the gradients of one part of the batch; return its loss and what its alignments have shown."""
    fabric = setup.fabric
    share = setup.batches.share
    first = part.start if share is None else share.start + part.start
    _seed_dropout(fabric.device, derive_seed(setup.options.train.seed, "dropout", number, *([first] if first else [])))
    # Recording would be compiled as a step of its own.
    call = setup.recording_model if setup.is_recorded(number) else setup.model
    text, is_padding, depth = given.text, given.is_padding, given.depth
    with _gradients_stay(setup, is_last=part.stop == len(given.image)):
        with _recording(setup, number) as record, autocast(setup.precision, fabric.device):
            logits = call(
                given.image[part],
                text if text is None or text.ndim == 2 else text[part],
                is_padding if is_padding is None or is_padding.ndim == 1 else is_padding[part],
                depth=None if depth is None else depth[part],
                class_features=setup.objective.class_features,
                size=setup.objective.size,
            )
        loss = setup.objective.loss(logits.float(), given.target[part], whole)
        # DDP takes the mean over processes, of losses that are to be added.
        fabric.backward(setup.scaler.scale(loss if whole is None else loss * fabric.world_size))
    return loss.detach(), record


def _recording(setup: Setup, number: int) -> contextlib.AbstractContextManager[dict[str, dict[str, float]]]:
    return recording(setup.run.model) if setup.is_recorded(number) else contextlib.nullcontext({})


def _gradients_stay(setup: Setup, *, is_last: bool) -> contextlib.AbstractContextManager[None]:
    """Return the context of a part's forward and backward: processes exchange gradients after the last part alone."""
    if setup.fabric.world_size == 1 or is_last:
        return contextlib.nullcontext()
    return setup.fabric.no_backward_sync(setup.recording_model)


def _seed_dropout(device: torch.device, seed: int) -> None:
    if device.type == "cpu":
        # torch.manual_seed would also keep the call, with its stack, for each kind of device that may come later.
        torch.default_generator.manual_seed(seed)
    else:
        torch.manual_seed(seed)


def _points(setup: Setup, loss: float, records: list[Mapping[str, Mapping[str, float]]]) -> dict[str, float]:
    """Return the loss, and of every site what its forwards have shown and the norm of its gradient."""
    points = {"train/loss": loss}
    for site, numbers in mean_records(records, list(setup.sites), setup.fabric).items():
        points |= {f"{site}/{name}": number for name, number in numbers.items()}
        norm = gradient_norm(setup.run.model.get_submodule(site).parameters())
        # Where half precision overflows, the scaler leaves the step out and lowers its scale.
        if setup.precision != "fp16" or math.isfinite(norm):
            points[f"{site}/grad_norm"] = norm
    return points


def gradient_norm(parameters: Iterable[nn.Parameter]) -> float:
    """Return the Euclidean norm of the gradients of ``parameters``."""
    return math.sqrt(sum(float((p.grad.detach() ** 2).sum()) for p in parameters if p.grad is not None))


def _loss_diverged(setup: Setup, number: int, loss: float) -> TrainingDiverged:
    names = [setup.inputs.images.names[i] for i in setup.batches.index(number)]
    return diverged(
        f"the loss is {loss} at step {number} of {setup.steps} (epoch {number // setup.batches.steps_per_epoch}, "
        f"images {', '.join(names[:3])}, ...)",
        step=number,
        images=names,
    )
