"""Experiments with the value of one tensor: whether the output changes, and whether a gradient comes."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from semalign.audit.evidence.experiment import Experiment
from semalign.audit.evidence.records import is_small
from semalign.audit.evidence.watched import Watched

NO_CHANGE = 1e-5
"""Relative change of the output that counts as none."""
MUCH_CHANGE = 1e-2
"""Relative change of the output after which no other value needs to be tried."""


def influence(x: Experiment, base: list[Tensor], tensor: Watched) -> float:
    """Return the largest relative change of the output over some other values of a tensor."""
    x.restore()
    worst = 0.0
    for value in _other_values(tensor.start):
        worst = max(worst, x.output_change({tensor.name: value}, base))
        if worst > MUCH_CHANGE:
            break
    return worst


def best_gradient(x: Experiment, tensor: Watched) -> float:
    """Return a tensor's largest gradient over some other values of its own."""
    x.restore()
    found = [x.gradients_after({tensor.name: v}, [tensor.name])[tensor.name] for v in _other_values(tensor.start)]
    return max((size for size in found if math.isfinite(size)), default=0.0)


def change_if_cancelled(x: Experiment, tensor: Watched, tensors: dict[str, Watched]) -> float | None:
    """Return the largest change that other values of a tensor make, if what follows cancels it; else None.

    Either no value changes anything, or (in front of a normalisation, which leaves it its sign and its smallness
    against an epsilon) larger values change nothing more, while 0 or the other sign changes much.  Gates and
    branches that start at next to nothing are opened for this, so that all behind them can be seen.
    """
    x.restore()
    name, start = tensor.name, tensor.start
    larger = [2 * start + 0.1 * _sign(start), 20 * start + 20 * _sign(start)]
    with x.changed({other: value for other, value in _opened(tensors).items() if other != name}):
        base = x.output()
        some, much = (x.output_change({name: value}, base) for value in larger)
        if much > MUCH_CHANGE:
            return None
        less = x.output_change({name: 0.25 * start}, base)
        gone = x.output_change({name: torch.zeros_like(start)}, base)
        others = max(gone, x.output_change({name: -start}, base))
    most = max(some, much)
    # A curve that is flat on one side changes when the value comes back half the way; what is divided by its own
    # size does not.
    is_relative = much <= 3 * max(some, NO_CHANGE) and others >= 30 * most and gone >= 30 * less
    return most if max(most, others) <= 3 * NO_CHANGE or is_relative else None


def _opened(tensors: dict[str, Watched]) -> dict[str, Tensor]:
    """Return values for all that may multiply a branch by next to nothing: gates, norms, last projections."""
    values = {}
    for name, tensor in tensors.items():
        start = tensor.start
        if not start.numel() or float(start.abs().max()) >= 1e-3:
            continue
        if not tensor.learns or tensor.attribute in ("bias", "running_mean"):
            continue
        noise = torch.rand(start.shape, generator=torch.Generator().manual_seed(0)).to(start)
        is_matrix = start.ndim > 1 and not is_small(start)
        values[name] = (noise - 0.5) / math.sqrt(start[0].numel()) if is_matrix else 0.3 + 0.2 * noise
    return values


def _other_values(start: Tensor) -> list[Tensor]:
    """Return smaller and larger values, of both signs."""
    less = [0.5 * start, 0.05 * start, 0.005 * start, -start, torch.zeros_like(start)]
    sign = _sign(start)
    return [2 * start + 0.1 * sign, start + sign, 20 * start + 20 * sign, *less]


def _sign(tensor: Tensor) -> Tensor:
    """Return -1 or 1 for each entry, 1 for 0."""
    return torch.where(tensor < 0, -1.0, 1.0).to(tensor.dtype)
