"""The estimated time of one run, from a few measured steps."""

from __future__ import annotations

import contextlib
import itertools
import time

from semalign.config import Options, merge, to_dict, validate
from semalign.execution import Execution

__all__ = ["PROBE_STEPS", "probe_seconds"]

PROBE_STEPS = 8


def probe_seconds(data: str, options: Options, execution: Execution) -> float:
    """Return the estimated seconds of one run of these options, from a few steps and a few scored images.

    The probe runs alone; processes that share memory and cache are slower, up to about twice on small machines.

    Args:
        data: a folder, or the name of built-in data.
        options: resolved options of the run.
        execution: device, scan, and the threads of one process.
    """
    import torch

    from semalign.api import open_source
    from semalign.execution import Events
    from semalign.train.inputs import TRAIN_SCORE_IMAGES, prepare_inputs
    from semalign.train.loop import fit
    from semalign.train.parallel import make_fabric

    before = torch.get_num_threads()
    torch.set_num_threads(execution.threads or before)
    try:
        source = open_source(data, options, scan=execution.scan)
        inputs = prepare_inputs(source, options)
        short = validate(
            Options,
            merge(to_dict(options), {"train": {"epochs": 1, "val_every": 0, "select_split": None}}),
            "the probe",
        )
        moments: list[float] = []

        class Enough(Exception):  # noqa: N818 (it ends the probe and is not an error)
            pass

        def stepped(step: int, steps: int, loss: float) -> None:
            moments.append(time.monotonic())
            if step > PROBE_STEPS:
                raise Enough

        started = time.monotonic()
        with contextlib.suppress(Enough):
            fit(inputs, short, fabric=make_fabric(execution.device), events=Events(stepped=stepped))
        gaps = sorted(later - earlier for earlier, later in itertools.pairwise(moments))
        step = gaps[len(gaps) // 2] if gaps else time.monotonic() - started
    finally:
        torch.set_num_threads(before)
    assert options.train.epochs is not None
    batch = min(options.train.batch_size, len(inputs.images.names))
    steps = options.train.epochs * (len(inputs.images.names) // batch)
    # A forward alone costs about a third of a step.
    looks = 1 + (options.train.epochs // options.train.val_every if options.train.val_every else 0)
    scored = looks * len(source.names(options.data.val_split)) + min(TRAIN_SCORE_IMAGES, len(inputs.images.names))
    return float(step * (steps + scored / batch / 3))
