"""The audit of the model that options describe, on a made-up batch or on the first one of given data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from semalign.audit.findings import AuditReport, Finding
from semalign.audit.liveness import audit
from semalign.config import Options
from semalign.errors import AuditError
from semalign.model.segmenter import Segmenter
from semalign.presets import starts_dead
from semalign.text.bank import PADDING
from semalign.train.inputs import Inputs
from semalign.train.optimizer import make_optimizer, parameter_groups
from semalign.train.run import build_model
from semalign.train.setup import model_for, training_batches

__all__ = ["audit_inputs", "audit_options", "makes_declared", "refuse_errors"]

CLASSES = 11
"""Classes, and so tokens, of a made-up batch."""
TEXT_DIM = 64
IMAGES = 2

_DEAD_CODES = ("init-outside-bound", "decay-only", "pinned-at-bound")


def makes_declared(options: Options) -> Callable[[Finding], bool]:
    """Return whether a finding is a dead temperature that the options allow or their preset has, as a function."""
    allowed = options.align.allow_dead or starts_dead(options.model.preset)

    def declared(finding: Finding) -> bool:
        return (
            allowed
            and finding.code in _DEAD_CODES
            and all(place.endswith("temperature.log_scale") for place in finding.places)
        )

    return declared


def audit_model(
    model: Segmenter, batch: Mapping[str, Any], options: Options, *, device: torch.device | str = "cpu"
) -> AuditReport:
    """Audit a segmenter with the optimizer that its options ask for."""
    train = options.train
    _, groups = parameter_groups(
        model, lr=train.lr, scalar_lr=train.scalar_lr, decay=train.weight_decay, scalar_decay=train.scalar_decay
    )
    model.to(device)
    moved = {key: value.to(device) if isinstance(value, Tensor) else value for key, value in batch.items()}
    return audit(model, moved, make_optimizer(model, groups), declared=makes_declared(options))


def audit_options(options: Options, *, device: torch.device | str = "cpu") -> AuditReport:
    """Audit the model that resolved options describe, on a made-up batch of their size.

    The batch has 2 random images and random unit vectors for text: 11 class tokens shared by all images where
    ``data.text`` is "classes" or "random", else as many per image, some of them padding.

    Raises:
        ConfigError: the options do not make a model.
    """
    has_text = options.data.text != "none"
    class_dim = TEXT_DIM if options.model.classifier == "text" else None
    model = build_model(options, CLASSES, TEXT_DIM if has_text else None, class_dim, seed=options.train.seed)
    return audit_model(model, made_up_batch(options), options, device=device)


def made_up_batch(options: Options) -> dict[str, Any]:
    """Return a seeded random batch that a model of these options takes."""
    assert options.data.size is not None
    generator = torch.Generator().manual_seed(options.train.seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    batch: dict[str, Any] = {"image": normal(IMAGES, 3, *options.data.size)}
    if options.data.text in ("classes", "random"):
        batch["text"] = nn.functional.normalize(normal(CLASSES, TEXT_DIM), dim=-1)
    elif options.data.text != "none":
        batch["text"] = nn.functional.normalize(normal(IMAGES, CLASSES, TEXT_DIM), dim=-1)
        is_padding = torch.zeros(IMAGES, CLASSES, dtype=torch.bool)
        is_padding[-1, CLASSES // 2 :] = True
        batch["is_padding"] = is_padding
    if options.data.depth:
        batch["depth"] = normal(IMAGES, 1, *options.data.size)
    if options.model.classifier == "text":
        batch["class_features"] = nn.functional.normalize(normal(CLASSES, TEXT_DIM), dim=-1)
    return batch


def audit_inputs(
    inputs: Inputs, options: Options, *, model: Segmenter | None = None, device: torch.device | str = "cpu"
) -> AuditReport:
    """Audit what a training of ``options`` on ``inputs`` would start with: its model, first batch and optimizer.

    To be called before `semalign.train.loop.fit`; a caller stops where ``report.errors`` is not empty.

    Args:
        inputs: from `semalign.train.inputs.prepare_inputs`.
        options: the same resolved options.
        model: from `semalign.train.setup.model_for`, left bit for bit as it is; by default made here.
        device: where to compute.
    """
    model = model or model_for(options, inputs.class_names, inputs.text)
    return audit_model(model, first_batch(inputs, options), options, device=device)


def first_batch(inputs: Inputs, options: Options) -> dict[str, Any]:
    """Return the model's arguments for at most four training images: those with the most texts, else the first.

    A batch without text would close every gate, which is not a fault of the gates.
    """
    split = options.data.train_split
    count = min(4, options.train.batch_size, len(inputs.images.names))
    index = np.arange(count)
    if inputs.text.index is not None:
        texts = (inputs.text.index[split] != PADDING).sum(dim=1).numpy()
        index = np.sort(np.argsort(-texts, kind="stable")[:count])
    batch = training_batches(inputs, options).views(index, step=0)
    text, is_padding = inputs.text.batch(split, batch.index)
    found = {"image": batch.image, "text": text, "is_padding": is_padding, "depth": batch.depth}
    if inputs.text.classes is not None:
        found["class_features"] = inputs.text.classes.features
    return {key: value for key, value in found.items() if value is not None}


def refuse_errors(report: AuditReport, where: str) -> None:
    """Stop where an audit found an error that the options do not declare.

    Args:
        report: of the audit.
        where: what was audited, such as "arm 'A'".

    Raises:
        AuditError: there is such an error; the sentence names the first one and its fix.
    """
    if report.ok:
        return
    first = report.errors[0]
    more = len(report.errors) - 1
    others = f" (and {more} more, see `semalign audit`)" if more else ""
    places = ", ".join(first.places[:2]) + (", ..." if len(first.places) > 2 else "")
    raise AuditError(
        f"the audit of {where} found {first.code} at {places}, so that {first.consequence}{others}: {first.fix}, or "
        "go on all the same with --no-audit"
    )
