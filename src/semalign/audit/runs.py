"""The audit of semalign's own models, and of whatever a factory makes.

A run is audited with its weights and its curves, options with a made-up batch or the first one of given data.
"""

from __future__ import annotations

import importlib
import importlib.util
import math
import sys
import traceback
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from semalign.audit.codes import CODES
from semalign.audit.findings import AuditReport, Finding, make_report
from semalign.audit.liveness import audit
from semalign.config import Options
from semalign.data.batches import augmented_batch
from semalign.data.transforms import Augmentation
from semalign.errors import AuditError, ConfigError, SemalignError
from semalign.model.segmenter import Segmenter
from semalign.model.text_fusion import alignment_sites
from semalign.results import read_result
from semalign.text.bank import PADDING
from semalign.train.folder import RESULT_FILE
from semalign.train.loop import Inputs
from semalign.train.optimizer import make_optimizer, parameter_groups
from semalign.train.run import TrainedRun, build_model, load_run

__all__ = [
    "audit_factory",
    "audit_inputs",
    "audit_options",
    "audit_run",
    "curve_findings",
    "load_factory",
    "makes_declared",
    "refuse_errors",
]

CLASSES = 11
"""Classes, and so tokens, of a made-up batch."""
TEXT_DIM = 64
IMAGES = 2

_DEAD_CODES = ("init-outside-bound", "decay-only", "pinned-at-bound")
_DEAD_PRESETS = ("seed", "document")


def makes_declared(options: Options) -> Callable[[Finding], bool]:
    """Return what says of a finding whether the options declare it: dead temperatures, by allow_dead or a preset."""
    allowed = options.align.allow_dead or options.model.preset in _DEAD_PRESETS

    def declared(finding: Finding) -> bool:
        return (
            allowed
            and finding.code in _DEAD_CODES
            and all(place.endswith("temperature.log_scale") for place in finding.places)
        )

    return declared


def audit_model(
    model: Segmenter, batch: Mapping[str, Any], options: Options, *, device: torch.device | str = "cpu", steps: int = 3
) -> AuditReport:
    """Audit a segmenter with the optimizer that its options ask for."""
    train = options.train
    _, groups = parameter_groups(
        model, lr=train.lr, scalar_lr=train.scalar_lr, decay=train.weight_decay, scalar_decay=train.scalar_decay
    )
    model.to(device)
    moved = {key: value.to(device) if isinstance(value, Tensor) else value for key, value in batch.items()}
    return audit(model, moved, make_optimizer(model, groups), steps=steps, declared=makes_declared(options))


def audit_options(options: Options, *, device: torch.device | str = "cpu", steps: int = 3) -> AuditReport:
    """Audit the model that resolved options describe, on a made-up batch of their size.

    The batch has 2 random images and random unit vectors for text: 11 class tokens shared by all images where
    ``data.text`` is "classes" or "random", else as many per image, some of them padding.

    Raises:
        ConfigError: the options do not make a model.
    """
    has_text = options.data.text != "none"
    class_dim = TEXT_DIM if options.model.classifier == "text" else None
    model = build_model(options, CLASSES, TEXT_DIM if has_text else None, class_dim, seed=options.train.seed)
    return audit_model(model, made_up_batch(options), options, device=device, steps=steps)


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
    inputs: Inputs, options: Options, *, device: torch.device | str = "cpu", steps: int = 3
) -> AuditReport:
    """Audit what a training of ``options`` on ``inputs`` would start with: its model, first batch and optimizer.

    To be called before `semalign.train.loop.fit`; a caller stops where ``report.errors`` is not empty.

    Args:
        inputs: from `semalign.train.loop.prepare_inputs`.
        options: the same resolved options.
        device: where to compute.
        steps: optimizer steps.
    """
    bank, classes = inputs.guidance.bank, inputs.class_bank
    model = build_model(
        options,
        len(inputs.source.class_names),
        None if bank is None else bank.dim,
        None if classes is None else classes.dim,
        seed=options.train.seed,
    )
    return audit_model(model, first_batch(inputs, options), options, device=device, steps=steps)


def first_batch(inputs: Inputs, options: Options) -> dict[str, Any]:
    """Return the model's arguments for at most four training images: those with the most texts, else the first.

    A batch without text would close every gate, which is no fault of theirs.
    """
    data = options.data
    assert data.size is not None
    count = min(4, options.train.batch_size, len(inputs.images.names))
    index = np.arange(count)
    if inputs.guidance.index is not None:
        texts = (inputs.guidance.index[data.train_split] != PADDING).sum(dim=1).numpy()
        index = np.sort(np.argsort(-texts, kind="stable")[:count])
    batch = augmented_batch(
        inputs.images,
        index,
        size=data.size,
        augmentation=Augmentation(data.zoom, data.flip, data.color),
        depth_scale=inputs.depth_scale,
        seed=options.train.seed,
        step=0,
    )
    text, is_padding = inputs.guidance.batch(data.train_split, batch.index)
    found = {"image": batch.image, "text": text, "is_padding": is_padding, "depth": batch.depth}
    if inputs.class_bank is not None:
        found["class_features"] = inputs.class_bank.features
    return {key: value for key, value in found.items() if value is not None}


def audit_run(folder: Path, *, device: torch.device | str = "cpu", steps: int = 3) -> AuditReport:
    """Audit a trained run: its weights on a made-up batch with its own text, and its curves.

    Args:
        folder: a run's folder, or one of its weights files.
        device: where to compute.
        steps: optimizer steps.

    Raises:
        CheckpointError: there is no run, or it is damaged.
    """
    run = load_run(folder)
    report = audit_model(run.model, run_batch(run), run.options, device=device, steps=steps)
    result = (folder if folder.is_dir() else folder.parent) / RESULT_FILE
    if not result.exists():
        return report
    known = {(item.code, place) for item in report.findings for place in item.places}
    declared = makes_declared(run.options)
    more = [
        Finding(item.code, item.places, item.evidence, item.numbers, declared(item))
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
    code = CODES[first.code]
    more = len(report.errors) - 1
    others = f" (and {more} more, see `semalign audit`)" if more else ""
    places = ", ".join(first.places[:2]) + (", ..." if len(first.places) > 2 else "")
    raise AuditError(
        f"the audit of {where} found {first.code} at {places}, so that {code.consequence}{others}: {code.fix}, or "
        "go on all the same with --no-audit"
    )


def curve_findings(model: nn.Module, curves: Mapping[str, list[tuple[int, float]]]) -> list[Finding]:
    """Find in a run's curves the learnable temperatures that spent the last third of it on a bound."""
    found = []
    for path, site in alignment_sites(model).items():
        temperature = getattr(site, "temperature", None)
        points = curves.get(f"{path}/scale", [])
        if temperature is None or not temperature.knobs.learnable or temperature.knobs.bounds is None:
            continue
        last = [value for _, value in points[-max(3, len(points) // 3) :]]
        if len(last) < 3 or min(last) <= 0:
            continue
        found += [
            Finding(
                "pinned-at-bound",
                (f"{path}.temperature.log_scale",),
                f"l = {bound:.4g} at the last {len(last)} of {len(points)} recorded steps",
                {"value": float(bound)},
            )
            for bound in temperature.knobs.bounds
            if all(abs(math.log(value / temperature.base) - bound) < 1e-4 for value in last)
        ]
    return found


def load_factory(target: str) -> Callable[[], Any]:
    """Return the factory that ``module:name`` or ``file.py:name`` names; modules are also looked for here.

    Raises:
        ConfigError: there is no such module or name.
    """
    home, _, name = target.rpartition(":")
    module: types.ModuleType
    try:
        if home.endswith(".py"):
            path = Path(home)
            spec = importlib.util.spec_from_file_location(path.stem, path)
            if spec is None or spec.loader is None or not path.is_file():
                raise ImportError(f"no file {home}")
            module = importlib.util.module_from_spec(spec)
            # Classes look their module up by name, such as dataclasses do.
            sys.modules[path.stem] = module
            spec.loader.exec_module(module)
        else:
            if "" not in sys.path and str(Path.cwd()) not in sys.path:
                sys.path.insert(0, str(Path.cwd()))
            module = importlib.import_module(home)
    except ImportError as error:
        raise ConfigError(
            f"the audit cannot import '{home}' of '{target}' ({error}), expected module:factory: name a module that "
            "Python finds from here"
        ) from error
    factory: Any = module
    for part in name.split("."):
        factory = getattr(factory, part, None)
    if not callable(factory):
        raise ConfigError(f"the audit found no function '{name}' in '{home}', expected module:factory")
    return factory  # type: ignore[no-any-return]


def audit_factory(target: str, *, device: str = "auto", steps: int = 3) -> AuditReport:
    """Audit what a factory returns: model, batch and optionally optimizer and loss, as a tuple or by these names.

    Args:
        target: "module:factory" or "file.py:factory".
        device: "auto" leaves everything where the factory put it.
        steps: optimizer steps.

    Raises:
        ConfigError: there is no such factory, or it returns something else.
    """
    factory = load_factory(target)
    try:
        made = factory()
    except SemalignError:
        raise
    except Exception as error:
        raise ConfigError(
            f"the factory {target} raised {_said(error)}, expected it to return model and batch when called without "
            "arguments"
        ) from error
    if isinstance(made, Mapping):
        parts = dict(made)
        unknown = sorted(set(parts) - {"model", "batch", "optimizer", "loss"})
        if unknown or not {"model", "batch"} <= set(parts):
            raise ConfigError(
                f"the factory {target} returned a mapping of {', '.join(map(str, made))}, expected model, batch and "
                "optionally optimizer, loss"
            )
    elif isinstance(made, (tuple, list)) and 2 <= len(made) <= 4:
        parts = {"model": made[0], "batch": made[1]}
        for item in made[2:]:
            if item is not None:
                parts["optimizer" if isinstance(item, torch.optim.Optimizer) else "loss"] = item
    else:
        got = f"{len(made)} values" if isinstance(made, (tuple, list)) else type(made).__name__
        raise ConfigError(
            f"the factory {target} returned {got}, expected (model, batch), (model, batch, optimizer) or (model, "
            "batch, optimizer, loss)"
        )
    model, batch = parts["model"], parts["batch"]
    if isinstance(model, nn.Module) and device not in ("auto", "cpu"):
        if parts.get("optimizer") is not None:
            raise ConfigError(
                f"--device {device} would move the parameters away from the factory's optimizer, expected auto: let "
                "the factory place its model itself"
            )
        model.to(device)
        if isinstance(parts.get("loss"), nn.Module):
            parts["loss"].to(device)
        batch = _moved(batch, device)
    try:
        return audit(model, batch, parts.get("optimizer"), parts.get("loss"), steps=steps)
    except SemalignError as error:
        raise ConfigError(f"the factory {target}: {error}") from error


def _said(error: Exception) -> str:
    """Return an exception's kind, first line, and the line of code that raised it."""
    lines = str(error).strip().splitlines()
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} ({lines[0] if lines else 'no message'}) at {Path(last.filename).name}:{last.lineno}"


def _moved(value: Any, device: str) -> Any:
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, Mapping):
        return {key: _moved(item, device) for key, item in value.items()}
    return type(value)(_moved(item, device) for item in value) if type(value) in (tuple, list) else value
