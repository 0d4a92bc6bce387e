"""The audit of what a factory makes: anybody's model, batch, optimizer and loss."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import traceback
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from semalign.audit.evidence.records import map_batch
from semalign.audit.findings import AuditReport
from semalign.audit.liveness import audit
from semalign.errors import ConfigError, SemalignError

__all__ = ["audit_factory", "load_factory"]


def load_factory(target: str) -> Callable[[], Any]:
    """Return the factory that ``module:name`` or ``file.py:name`` names; modules are also looked for here.

    Raises:
        ConfigError: the module or the name does not exist.
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


def audit_factory(target: str, *, device: str = "auto") -> AuditReport:
    """Audit what a factory returns: model, batch and optionally optimizer and loss, as a tuple or by these names.

    Args:
        target: "module:factory" or "file.py:factory".
        device: "auto" leaves everything where the factory put it.

    Raises:
        ConfigError: the factory does not exist, or it returns something else.
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
        batch = map_batch(batch, lambda value: value.to(device) if isinstance(value, Tensor) else value)
    try:
        return audit(model, batch, parts.get("optimizer"), parts.get("loss"))
    except SemalignError as error:
        raise ConfigError(f"the factory {target}: {error}") from error


def _said(error: Exception) -> str:
    """Return an exception's kind, first line, and the line of code that raised it."""
    lines = str(error).strip().splitlines()
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} ({lines[0] if lines else 'no message'}) at {Path(last.filename).name}:{last.lineno}"
