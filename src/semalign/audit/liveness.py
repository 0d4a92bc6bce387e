"""The audit of any model: copy it, take a few steps, apply the rules.

It does not depend on segmentation, data sets or runs.
"""

from __future__ import annotations

import dataclasses
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from semalign.audit.evidence.experiment import Experiment
from semalign.audit.evidence.gathered import Evidence
from semalign.audit.evidence.records import tensors_within
from semalign.audit.evidence.steps import ReachesBackError, take_steps
from semalign.audit.evidence.subject import Loose, Subject, borrow, duplicate, loose_tensors, untouched
from semalign.audit.findings import AuditReport, Finding, make_report
from semalign.audit.rules import RULES
from semalign.errors import ConfigError

__all__ = ["STEPS", "audit"]

STEPS = 3
"""Optimizer steps: enough for a tensor behind a zero to get a gradient, and to see a trend."""


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
    """Find the temperatures, gates and other learnable tensors of a model that cannot learn.

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
        declared: returns whether a finding is known and meant.

    Returns:
        The findings in order.

    Raises:
        ConfigError: ``model`` is not a module, cannot be called with the batch, or has no floating-point output.

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
    original = Subject(model, batch, optimizer, loss)
    meta = [
        name for part in original.modules for name, t in (*part.named_parameters(), *part.named_buffers()) if t.is_meta
    ]
    if meta or any(t.is_meta for t in tensors_within(batch)):
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
            twin = _copied(original, loose)
            evidence, findings = _examine(twin, loose, model, steps, seed)
        except ReachesBackError:
            with borrow(original) as subject:
                evidence, findings = _examine(subject, loose, None, steps, seed)
    if declared is not None:
        findings = [dataclasses.replace(item, declared=declared(item)) for item in findings]
    facts = {
        "parameters": sum(t.numel() for t in evidence.experiment.parameters.values()),
        "steps": len(evidence.steps.loss_values),
        "seconds": time.perf_counter() - started,
    }
    return make_report(findings, facts)


def _copied(original: Subject, loose: list[Loose]) -> Subject:
    try:
        return duplicate(original, loose)
    except Exception as error:
        # Anything may be an attribute of a module, and anything may refuse to be copied in its own way.
        raise ReachesBackError from error


def _examine(
    subject: Subject, loose: Sequence[Loose], original: nn.Module | None, steps: int, seed: int
) -> tuple[Evidence, list[Finding]]:
    experiment = Experiment(subject, loose, original, seed)
    evidence = Evidence(experiment, take_steps(experiment, steps))
    return evidence, [Finding(rule.code, **vars(hit)) for rule in RULES.values() for hit in rule.find(evidence)]
