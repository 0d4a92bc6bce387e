"""`semalign bench step`: what text guidance adds to a training step, and what our loop adds to a bare one.

Everything that is compared takes turns in one run.
"""

from __future__ import annotations

import contextlib
import dataclasses
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from semalign.api import open_source, resolve
from semalign.bench.counting import count
from semalign.bench.machine import measure_machine
from semalign.bench.models import CASES, KINDS, models_of, step_call
from semalign.bench.tables import Columns, Row, Table, share_table, table_of
from semalign.bench.timing import clock_of, ratio, seconds, take_turns
from semalign.config import Options
from semalign.data.batches import Batch
from semalign.execution import Events
from semalign.metrics import IGNORE
from semalign.train.inputs import Inputs, prepare_inputs
from semalign.train.loop import fit
from semalign.train.objective import class_weights
from semalign.train.optimizer import make_optimizer, parameter_groups
from semalign.train.parallel import make_fabric
from semalign.train.precision import Precision, has_native_bf16
from semalign.train.setup import RECORDS, model_for, training_batches

__all__ = ["bench_step", "measure_loop", "shares_of", "step_tables", "text_shares"]

LOOP_STEPS = 2000
"""Length of the run whose steps are timed, on which depends how many of them record curves."""

Call = Callable[[], object]
Progress = Callable[[str], None]


def bench_step(
    *,
    quick: bool = False,
    data: str = "scenes",
    settings: Sequence[str] = (),
    progress: Progress = lambda what: None,
) -> dict[str, Any]:
    """Measure everything `semalign bench step` shows.

    Args:
        quick: fewer rounds, for a first look.
        data: what the loop is measured on: a folder, or "scenes".
        settings: options of the loop's run as "a.b=c"; by default images of 144 x 192.
        progress: called with what is being measured.

    Returns:
        ``{format, machine, text, loop, precision}`` of plain numbers: times in milliseconds, shares as fractions.
    """
    rounds = 5 if quick else 21
    progress("machine")
    machine = measure_machine(rounds=5)
    text = []
    for case in CASES:
        progress(f"text: {case}")
        models = models_of(case)
        calls = {kind: step_call(model, case, kind == "with text") for kind, model in models.items()}
        text.append({"case": str(case), **text_shares(calls, rounds)})
    progress("loop")
    options = resolve(data, settings=["data.size=[144,192]", "data.n_train=64", "data.n_val=2", *settings])
    inputs = prepare_inputs(open_source(data, options), options)
    loop = measure_loop(inputs, options, steps=12 if quick else 72)
    progress("bf16")
    return {
        "format": 1,
        "machine": dataclasses.asdict(machine),
        "text": text,
        "loop": loop,
        "precision": _precision_rows(rounds) if has_native_bf16(torch.device("cpu")) else [],
    }


def text_shares(calls: dict[str, Callable[[], Tensor]], rounds: int) -> dict[str, Any]:
    """Return what cross attention and text guidance as a whole add to the calls of `KINDS`, in time and operations."""
    times = take_turns(calls, rounds=rounds, clock=clock_of(torch.get_num_threads()))
    flops = {kind: count(call).flops for kind, call in calls.items()}
    return {"ms": {kind: 1e3 * seconds(times[kind]) for kind in KINDS}, "flops": flops, **shares_of(times, flops)}


def shares_of(times: dict[str, list[float]], flops: dict[str, int]) -> dict[str, float]:
    """Return additions as fractions: of each pair of neighbours in time, the median and half its interquartile range.

    >>> times = {"with text": [6.0, 6.0], "text removed": [5.0, 5.0], "without": [4.0, 4.0]}
    >>> shares_of(times, {"with text": 12, "text removed": 11, "without": 10})["guidance_time"]
    0.5
    """
    full, removed, without = (times[kind] for kind in KINDS)
    result: dict[str, float] = {}
    for name, slow, fast in (("attention", full, removed), ("guidance", full, without)):
        pairs = [a / b for a, b in zip(slow, fast, strict=True)]
        low, _, high = statistics.quantiles(pairs, n=4, method="inclusive")
        result[f"{name}_time"] = ratio(slow, fast) - 1
        result[f"{name}_spread"] = (high - low) / 2
    result["attention_flops"] = flops[KINDS[0]] / flops[KINDS[1]] - 1
    result["guidance_flops"] = flops[KINDS[0]] / flops[KINDS[2]] - 1
    return result


# ---- the loop ----


class _Enough(Exception):  # noqa: N818 (a way out of the loop, no error)
    """Enough steps have been timed."""


def measure_loop(inputs: Inputs, options: Options, *, steps: int) -> dict[str, Any]:
    """Time our loop's steps, each between two steps of a bare loop with the same model, loss, optimizer and options.

    Ours reads, augments, schedules, guards, averages weights, records curves and saves its state; the bare one steps on
    a batch in memory.  Steps that record are rare, and are counted by their share of a run of `LOOP_STEPS` steps.

    Args:
        inputs: what the run reads.
        options: its resolved options; the schedule is prolonged and nothing is scored.
        steps: steps to time.

    Returns:
        Milliseconds of a bare step, of ours, of one that records; our additions as fractions; shares of parts.
    """
    images = len(inputs.images.names)
    batch_size = min(options.train.batch_size, images)
    epochs = -(-LOOP_STEPS // (images // batch_size))
    options = options.model_copy(
        update={"train": options.train.model_copy(update={"epochs": epochs, "val_every": 0, "select_split": None})}
    )
    record_every = max(1, epochs * (images // batch_size) // RECORDS)
    bare = _bare_step(inputs, options)
    times: dict[str, list[float]] = {"bare": [], "plain": [], "recording": []}
    pairs: list[float] = []
    mark: float | None = None
    # Ours may read in threads of its own: with one to compute in, the whole process's time.
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter

    def stepped(step: int, total: int, loss: float) -> None:
        nonlocal mark
        now = clock()
        if mark is not None:
            kind = "recording" if (step - 1) % record_every == 0 else "plain"
            times[kind].append(now - mark)
            if kind == "plain":
                pairs.append((now - mark) / times["bare"][-1])
        if step > steps:
            raise _Enough
        start = clock()
        bare()
        mark = clock()
        times["bare"].append(mark - start)

    with TemporaryDirectory() as folder, contextlib.suppress(_Enough):
        fit(inputs, options, out=Path(folder), fabric=make_fabric("cpu"), events=Events(stepped=stepped))
    low, middle, high = statistics.quantiles(pairs, n=4, method="inclusive")
    recorded = seconds(times["recording"]) / seconds(times["plain"]) - 1 if times["recording"] else 0.0
    augmenting = _augment_seconds(inputs, options)
    return {
        "steps": steps,
        "bare_ms": 1e3 * seconds(times["bare"]),
        "ours_ms": 1e3 * seconds(times["plain"]),
        "recording_ms": 1e3 * seconds(times["recording"]) if times["recording"] else None,
        "over_bare": middle - 1,
        "spread": (high - low) / 2,
        "with_recording": middle * (1 + recorded / record_every) - 1,
        "record_every": record_every,
        "augment_ms": 1e3 * augmenting,
    }


def _bare_step(inputs: Inputs, options: Options) -> Call:
    """Return a step of the plainest loop: the same model and batch size, a batch in memory."""
    train, data = options.train, options.data
    assert data.size is not None
    model = model_for(options, inputs.class_names, inputs.text).train()
    _, groups = parameter_groups(
        model, lr=train.lr, scalar_lr=train.scalar_lr, decay=train.weight_decay, scalar_decay=train.scalar_decay
    )
    optimizer = make_optimizer(model, groups)
    weights = class_weights(inputs.images, len(inputs.class_names), train.loss.class_weights)
    batch = _one_batch(inputs, options, 0)
    text, is_padding = inputs.text.batch(data.train_split, batch.index)
    features = None if inputs.text.classes is None else inputs.text.classes.features
    stride = train.loss.stride
    size = (-(-data.size[0] // stride), -(-data.size[1] // stride))
    mask = batch.mask[:, ::stride, ::stride].contiguous()

    def step() -> None:
        logits = model(batch.image, text, is_padding, depth=batch.depth, class_features=features, size=size)
        loss = F.cross_entropy(
            logits, mask, weight=weights, ignore_index=IGNORE, label_smoothing=train.loss.label_smoothing
        )
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return step


def _one_batch(inputs: Inputs, options: Options, step: int) -> Batch:
    count = min(options.train.batch_size, len(inputs.images.names))
    return training_batches(inputs, options).views(np.arange(count), step)


def _augment_seconds(inputs: Inputs, options: Options) -> float:
    steps = iter(range(1000))
    return seconds(take_turns({"batch": lambda: _one_batch(inputs, options, next(steps))}, rounds=31)["batch"])


# ---- number formats ----


def _precision_rows(rounds: int) -> list[dict[str, Any]]:
    """Time a training step with and without bf16 products."""
    rows = []
    formats: tuple[Precision, ...] = ("float32", "bf16")
    for case in CASES:
        calls: dict[str, Call] = {name: step_call(models_of(case)["with text"], case, True, name) for name in formats}
        times = take_turns(calls, rounds=rounds, clock=clock_of(torch.get_num_threads()))
        rows.append(
            {
                "case": str(case),
                "ms": {name: 1e3 * seconds(found) for name, found in times.items()},
                "ratio": ratio(times["float32"], times["bf16"]),
            }
        )
    return rows


def step_tables(found: dict[str, Any]) -> list[Table]:
    """Return the measurements as tables."""
    tables = [
        share_table("What text guidance adds to a training step", found["text"]),
        table_of("Our loop beside a bare loop of the same model", _LOOP, [found["loop"]]),
    ]
    if found["precision"]:
        tables.append(table_of("bf16 products (train.precision)", _PRECISION, found["precision"]))
    return tables


def _recording_step(row: Row) -> str:
    taken = "-" if row["recording_ms"] is None else f"{row['recording_ms']:.1f}"
    return f"{taken} (one in {row['record_every']})"


_LOOP: Columns = [
    ("batch", lambda row: f"{row['steps']} steps"),
    ("bare ms", lambda row: f"{row['bare_ms']:.1f}"),
    ("ours ms", lambda row: f"{row['ours_ms']:.1f}"),
    ("augmenting ms", lambda row: f"{row['augment_ms']:.1f}"),
    ("a recording step ms", _recording_step),
    ("over bare %", lambda row: f"{100 * row['over_bare']:.1f} ± {100 * row['spread']:.1f}"),
    ("with recording %", lambda row: f"{100 * row['with_recording']:.1f}"),
]
_PRECISION: Columns = [
    ("model", lambda row: str(row["case"])),
    ("float32 ms", lambda row: f"{row['ms']['float32']:.1f}"),
    ("bf16 ms", lambda row: f"{row['ms']['bf16']:.1f}"),
    ("ratio", lambda row: f"{row['ratio']:.2f}"),
]
