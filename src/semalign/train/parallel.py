"""One step shared by several processes, or by parts one after the other: who computes what, and what is added up.

``train.batch_size`` stays the number of images of a step; processes and parts share it, so that the same run can be
computed on one device or on many.  Sums over all images (loss, gradients, statistics of batch norms) are the same up to
rounding, except that batch norms see one part at a time.  It does not depend on models, data sets and files.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning_fabric.strategies.ddp import DDPStrategy
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from semalign.errors import ConfigError
from semalign.results import Score

__all__ = [
    "global_rank",
    "is_shared",
    "labelled_weight",
    "make_fabric",
    "mean_records",
    "own_share",
    "parts_of",
    "process_number",
    "share_statistics",
    "shared_score",
    "sum_over_processes",
]

RECORDED = ("scale", "gate", "strength", "entropy", "logit_size")
"""What `semalign.model.recording.recording` may give for a site."""


def make_fabric(device: str = "auto", *, devices: int = 1, nodes: int = 1, unused: bool = False) -> Fabric:
    """Return Fabric on a device: "auto", "cpu", "cuda" or "cuda:1" and the like; or on several of a kind.

    Args:
        device: the kind of device, with a number the only one that is used.
        devices: devices (on CPUs: processes) of each machine.
        nodes: machines.
        unused: whether the model may have parameters that no gradient reaches, as other libraries' backbones do.

    Raises:
        ConfigError: the device is unknown or absent, or there are not so many; or the processes that a launcher
            started are not as many.
    """
    kind, _, number = device.partition(":")
    if kind == "auto":
        kind = "cuda" if torch.cuda.is_available() else "cpu"
    if kind not in ("cpu", "cuda", "mps") or (number and not number.isdecimal()):
        raise ConfigError(f"--device got '{device}', expected auto, cpu, cuda, cuda:N or mps")
    present = {
        "cpu": True,
        "cuda": torch.cuda.is_available() and int(number or 0) < torch.cuda.device_count(),
        "mps": torch.backends.mps.is_available(),
    }
    if not present[kind]:
        raise ConfigError(f"--device got '{device}', which this machine does not have, use cpu or auto")
    if devices * nodes == 1:
        return Fabric(accelerator=kind, devices=[int(number)] if number and kind != "cpu" else 1)
    if kind == "mps" or number:
        raise ConfigError(
            f"train.devices={devices} and train.nodes={nodes} with --device {device}, expected a kind of which there "
            "are several: give --device cpu, cuda or auto"
        )
    if kind == "cuda" and devices > torch.cuda.device_count():
        raise ConfigError(
            f"train.devices={devices}, but this machine has {torch.cuda.device_count()} CUDA device(s): set as many"
        )
    _check_launcher(devices, nodes)
    strategy = DDPStrategy(find_unused_parameters=unused)
    return Fabric(accelerator=kind, strategy=strategy, devices=devices, num_nodes=nodes)


def _check_launcher(devices: int, nodes: int) -> None:
    """Compare what was asked for with what torchrun or SLURM has started."""
    if TorchElasticEnvironment.detect():
        launcher, started = "torchrun", int(os.environ["WORLD_SIZE"])
    elif SLURMEnvironment.detect() and "SLURM_NTASKS" in os.environ:
        launcher, started = "srun", int(os.environ["SLURM_NTASKS"])
    else:
        return
    if started != devices * nodes:
        raise ConfigError(
            f"{launcher} started {started} process(es), but train.devices={devices} and train.nodes={nodes} make "
            f"{devices * nodes}: set the two to what was started"
        )


def process_number() -> int:
    """Return the number of this process among those that compute one run, 0 before they have met."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def global_rank(fabric: Fabric) -> int:
    """Return the number of this process among all, also before the launch."""
    strategy = fabric.strategy
    if not isinstance(strategy, DDPStrategy):
        return 0
    environment = strategy.cluster_environment
    assert environment is not None
    return environment.node_rank() * strategy.num_processes + environment.local_rank()


def own_share(count: int, rank: int, processes: int, parts: int) -> slice:
    """Return which of a step's ``count`` images this process computes.

    >>> own_share(8, 1, 2, 2)
    slice(4, 8, None)

    Raises:
        ConfigError: they cannot be shared evenly.
    """
    if count % (processes * parts):
        raise ConfigError(
            f"a step of {count} images cannot be shared by {processes} process(es) of {parts} part(s) each, expected "
            "a multiple: change train.batch_size, train.devices, train.nodes or train.accumulate (a data set smaller "
            "than a batch makes a batch of its own size)"
        )
    each = count // processes
    return slice(rank * each, (rank + 1) * each)


def parts_of(count: int, parts: int) -> list[slice]:
    """Return ``parts`` equal slices of ``count``.

    >>> parts_of(4, 2)
    [slice(0, 2, None), slice(2, 4, None)]
    """
    each = count // parts
    return [slice(start, start + each) for start in range(0, count, each)]


def is_shared() -> bool:
    """Return whether this process is one of several that compute one run."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def sum_over_processes(tensor: Tensor) -> Tensor:
    """Return the sum of every process's ``tensor``; of one process the tensor itself."""
    if not is_shared():
        return tensor
    total = tensor.clone()
    dist.all_reduce(total)
    return total


def mean_records(
    records: Sequence[Mapping[str, Mapping[str, float]]], sites: Sequence[str], fabric: Fabric
) -> dict[str, dict[str, float]]:
    """Return the means, over parts and processes, of what `recording` gave for each; what no part has is left out."""
    if len(records) == 1 and fabric.world_size == 1:
        return {site: dict(numbers) for site, numbers in records[0].items()}
    # One process may know a number that another does not: sums and counts of all that there may be.
    table = torch.zeros(2, len(sites), len(RECORDED), dtype=torch.float64)
    for record in records:
        for site, numbers in record.items():
            for name, number in numbers.items():
                place = sites.index(site), RECORDED.index(name)
                table[0][place] += number
                table[1][place] += 1
    sums, counts = sum_over_processes(table.to(fabric.device)).cpu()
    found: dict[str, dict[str, float]] = {}
    for row, site in enumerate(sites):
        for column, name in enumerate(RECORDED):
            if counts[row, column] > 0:
                found.setdefault(site, {})[name] = float(sums[row, column] / counts[row, column])
    return found


def shared_score(score: Callable[[Sequence[str]], Score], names: Sequence[str], device: torch.device) -> Score:
    """Return the score of the images ``names``, each process having scored some of them.

    Args:
        score: from names to their score, without regard to other processes.
        names: the images.
        device: where the counts are added up.
    """
    if not is_shared():
        return score(names)
    # The processes that have no image of their own score the first once more, which is left out of the sum.
    own = range(dist.get_rank(), len(names), dist.get_world_size())
    part = score([names[place] for place in own] or names[:1])
    n_classes = len(part.class_names)
    counts = torch.zeros(len(names), n_classes, 3, dtype=torch.int64)
    confusion = torch.zeros(n_classes, n_classes, dtype=torch.int64)
    if own:
        counts[list(own)] = torch.from_numpy(part.counts)
        confusion += torch.from_numpy(part.confusion)
    return dataclasses.replace(
        part,
        images=tuple(names),
        counts=sum_over_processes(counts.to(device)).cpu().numpy(),
        confusion=sum_over_processes(confusion.to(device)).cpu().numpy(),
    )


class _Sum(torch.autograd.Function):
    """The sum over processes; a gradient with respect to it reaches every process's own part."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        return sum_over_processes(tensor)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return sum_over_processes(grads[0].contiguous())


@contextlib.contextmanager
def share_statistics(model: nn.Module) -> Iterator[None]:
    """Let the batch norms of ``model`` normalise by mean and variance over the images of all processes.

    torch's own `SyncBatchNorm` does the same on GPUs alone.
    """
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    for norm in norms:
        norm.forward = functools.partial(_shared_batch_norm, norm, norm.forward)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for norm in norms:
            del norm.__dict__["forward"]


def _shared_batch_norm(norm: _BatchNorm, forward: Any, x: Tensor) -> Tensor:
    if not norm.training:
        alone: Tensor = forward(x)
        return alone
    axes = [axis for axis in range(x.ndim) if axis != 1]
    shape = [-1 if axis == 1 else 1 for axis in range(x.ndim)]
    own = x if x.dtype == torch.float64 else x.float()
    count = sum_over_processes(torch.tensor(float(own.numel() // own.shape[1]), device=x.device))
    # In two passes: the mean of squares less the square of the mean loses digits.
    mean: Tensor = _Sum.apply(own.sum(axes)) / count  # type: ignore[no-untyped-call]
    centred = own - mean.view(shape)
    variance: Tensor = _Sum.apply((centred**2).sum(axes)) / count  # type: ignore[no-untyped-call]
    if norm.track_running_stats and norm.running_mean is not None and norm.running_var is not None:
        assert norm.num_batches_tracked is not None
        with torch.no_grad():
            norm.num_batches_tracked.add_(1)
            reach = norm.momentum if norm.momentum is not None else 1 / float(norm.num_batches_tracked)
            norm.running_mean.lerp_(mean.detach(), reach)
            norm.running_var.lerp_(variance.detach() * (count / (count - 1)), reach)
    y = centred * (variance + norm.eps).rsqrt().view(shape)
    if norm.affine:
        y = y * norm.weight.view(shape) + norm.bias.view(shape)
    return y.to(x.dtype)


def labelled_weight(mask: Tensor, weight: Tensor | None, ignore_index: int) -> Tensor:
    """Return the summed class weights of the labelled pixels, which torch's mean divides by."""
    labels = mask[mask != ignore_index]
    return labels.new_tensor(len(labels)).float() if weight is None else weight[labels].sum()
