"""The audit of a trained run: its weights on a made-up batch with its own text, and its curves."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch

from semalign.audit.findings import AuditReport, make_report
from semalign.inspection.curves import curve_findings
from semalign.inspection.options import CLASSES, IMAGES, audit_model, made_up_batch, makes_declared
from semalign.layout import RESULT
from semalign.results import read_result
from semalign.train.run import TrainedRun, load_run

__all__ = ["audit_run"]


def audit_run(folder: Path, *, device: torch.device | str = "cpu") -> AuditReport:
    """Audit a trained run: its weights on a made-up batch with its own text, and its curves.

    Args:
        folder: a run's folder, or one of its weights files.
        device: where to compute.

    Raises:
        CheckpointError: the run does not exist or is damaged.
    """
    run = load_run(folder)
    report = audit_model(run.model, run_batch(run), run.options, device=device)
    result = (folder if folder.is_dir() else folder.parent) / RESULT
    if not result.exists():
        return report
    known = {(item.code, place) for item in report.findings for place in item.places}
    declared = makes_declared(run.options)
    more = [
        dataclasses.replace(item, declared=declared(item))
        for item in curve_findings(run.model, read_result(result).curves)
        if (item.code, item.places[0]) not in known
    ]
    return make_report([*report.findings, *more], report.facts)


def run_batch(run: TrainedRun) -> dict[str, Any]:
    """Return a made-up batch with the text that the run was trained with."""
    batch = made_up_batch(run.options)
    if run.bank is not None:
        if run.options.data.text in ("classes", "random"):
            batch["text"] = run.bank.features
        else:
            count = min(CLASSES, len(run.bank.sentences))
            batch["text"] = run.bank.features[:count].expand(IMAGES, -1, -1).clone()
            batch["is_padding"] = torch.zeros(IMAGES, count, dtype=torch.bool)
    if run.class_features is not None:
        batch["class_features"] = run.class_features
    return batch
