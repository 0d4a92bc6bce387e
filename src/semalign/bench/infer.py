"""`semalign bench infer`: what text guidance adds to a forward without gradients, the bank folded once and cached."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from semalign.bench.machine import measure_machine
from semalign.bench.models import CASES, forward_call, models_of
from semalign.bench.step import text_shares
from semalign.bench.tables import Table, share_table

__all__ = ["bench_infer", "infer_tables"]


def bench_infer(*, quick: bool = False, progress: Callable[[str], None] = lambda what: None) -> dict[str, Any]:
    """Measure everything `semalign bench infer` shows, for one image and for a batch.

    Args:
        quick: fewer rounds, for a first look.
        progress: called with what is being measured.

    Returns:
        ``{format, machine, text}`` of plain numbers: times in milliseconds, shares as fractions.
    """
    rounds = 7 if quick else 41
    progress("machine")
    machine = measure_machine(rounds=5)
    rows = []
    for case in CASES:
        for batch in (1, case.batch):
            now = dataclasses.replace(case, batch=batch)
            progress(str(now))
            models = models_of(now)
            calls = {kind: forward_call(model, now, kind == "with text") for kind, model in models.items()}
            rows.append({"case": str(now), **text_shares(calls, rounds)})
    return {"format": 1, "machine": dataclasses.asdict(machine), "text": rows}


def infer_tables(found: dict[str, Any]) -> list[Table]:
    """Return the measurements as a table."""
    return [share_table("What text guidance adds to inference, its bank cached", found["text"])]
