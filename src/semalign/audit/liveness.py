"""The audit of any model: copy, run, diagnose.

It knows nothing of segmentation, data sets or runs.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from semalign.audit.copying import Subject, borrow, duplicate, loose_tensors, untouched
from semalign.audit.diagnosis import diagnose
from semalign.audit.experiment import Experiment, ReachesBackError
from semalign.audit.findings import AuditReport, Finding, make_report
from semalign.audit.trace import batch_tensors
from semalign.errors import ConfigError

__all__ = ["STEPS", "audit"]

STEPS = 3
"""Optimizer steps: enough for what stands behind a zero to come alive, and to see a trend."""


def audit(
    model: nn.Module,
    batch: Any,
    optimizer: torch.optim.Optimizer | None = None,
    loss: Callable[..., Tensor] | None = None,
    *,
    steps: int = STEPS,
    seed: int = 0,
    declared: Callable[[Finding], bool] | None = None,
) -> AuditReport:
    """Find the knobs of a model that cannot turn.

    Runs a few optimizer steps on a copy, listens to every operation, and changes values to see what follows.  The
    caller's model, optimizer, gradients, modes and random streams stay as they are.

    Args:
        model: any module.
        batch: what it is called with: a tuple for ``model(*batch)``, a mapping for ``model(**batch)``, else its only
            argument.
        optimizer: over the model's parameters; by default AdamW over all of them, and findings about an optimizer
            (decay, groups) are left out.
        loss: called with the output, or with the output and the batch, returns one number; by default a random
            projection of all floating-point outputs.
        steps: optimizer steps, at least 2.
        seed: of the projection and of what the model draws.
        declared: says of a finding whether it is known and meant.

    Returns:
        The findings in order.

    Raises:
        ConfigError: the model is none, cannot be called with the batch, or has no floating-point output.

    >>> from torch import nn
    >>> class Dead(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.scale = nn.Parameter(torch.tensor(3.0))
    ...     def forward(self, x):
    ...         return x * self.scale.clamp(max=2.0)
    >>> [(item.code, item.where) for item in audit(Dead(), torch.ones(2, 3)).findings]
    [('init-outside-bound', 'scale')]
    """
    if not isinstance(model, nn.Module):
        raise ConfigError(f"the audit got a model of type {type(model).__name__}, expected a torch.nn.Module")
    if optimizer is not None and not isinstance(optimizer, torch.optim.Optimizer):
        raise ConfigError(
            f"the audit got an optimizer of type {type(optimizer).__name__}, expected a torch.optim.Optimizer"
        )
    if loss is not None and not callable(loss):
        raise ConfigError(
            f"the audit got a loss of type {type(loss).__name__}, expected a function of the output, or of the output "
            "and the batch"
        )
    if steps < 2:
        raise ConfigError(
            f"the audit got steps={steps}, expected at least 2: what starts behind a 0 needs a second one"
        )
    parts = [part for part in (model, loss) if isinstance(part, nn.Module)]
    meta = [name for part in parts for name, t in (*part.named_parameters(), *part.named_buffers()) if t.is_meta]
    if meta or any(t.is_meta for t in batch_tensors(batch)):
        place = f"the model's {meta[0]}" if meta else "the batch"
        raise ConfigError(
            f"the audit got {place} on the meta device, where tensors have no numbers, expected a device that "
            "computes: use model.to_empty(device='cpu') and initialise it"
        )
    started = time.perf_counter()
    loose = loose_tensors(model)
    with untouched(), warnings.catch_warnings():
        # The model's own warnings were heard when it was built or trained.
        warnings.simplefilter("ignore")
        try:
            experiment, findings = _examine(_copy(model, batch, optimizer, loss, loose), loose, model, steps, seed)
        except ReachesBackError:
            with borrow(model, batch, optimizer, loss) as subject:
                experiment, findings = _examine(subject, loose, None, steps, seed)
    if declared is not None:
        findings = [_declare(item, declared(item)) for item in findings]
    numbers = sum(t.numel() for t in experiment.parameters.values())
    facts = {"parameters": numbers, "steps": len(experiment.loss_values), "seconds": time.perf_counter() - started}
    return make_report(findings, facts)


def _copy(
    model: nn.Module,
    batch: Any,
    optimizer: torch.optim.Optimizer | None,
    loss: Callable[..., Tensor] | None,
    loose: list[Any],
) -> Subject:
    try:
        return duplicate(model, batch, optimizer, loss, loose)
    except Exception as error:
        # Anything may be an attribute of a module, and anything may refuse to be copied in its own way.
        raise ReachesBackError from error


def _examine(
    subject: Subject, loose: list[Any], original: nn.Module | None, steps: int, seed: int
) -> tuple[Experiment, list[Finding]]:
    experiment = Experiment(subject, loose, original, steps, seed)
    experiment.run()
    return experiment, diagnose(experiment)


def _declare(item: Finding, known: bool) -> Finding:
    return Finding(item.code, item.places, item.evidence, item.numbers, known)
