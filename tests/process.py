"""What a test must leave as it found it: the state of the process that other tests, and torch's bits, depend on.

The filters of warnings are not among it: pytest itself puts them back after each test.
"""

from __future__ import annotations

import os
import random
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning_fabric  # noqa: F401 (it sets variables of the environment when it is imported: before any test)
import numpy as np
import torch

__all__ = ["SEED", "changed", "seed", "state"]

SEED = 20_011
"""Of the global random streams when a test begins; no result may depend on it."""

SET_BY_LIBRARIES = (
    "PYTEST_CURRENT_TEST",
    "TORCHINDUCTOR_CACHE_DIR",
    "KMP_DUPLICATE_LIB_OK",
    "KMP_INIT_AT_FORK",
    "WANDB_SERVICE",
)
"""Variables that pytest, torch and scikit-learn (which sentence-transformers imports) set by themselves."""
SET_BY_RAY = ("RAY_", "PYTHONBREAKPOINT")
"""Beginnings of the variables that Ray sets while it runs."""

PARTS: dict[str, Callable[[], Any]] = {
    "torch's number of threads": torch.get_num_threads,
    "torch's number of threads between operators": torch.get_num_interop_threads,
    "torch's default dtype": torch.get_default_dtype,
    "torch's default device": torch.get_default_device,
    "torch's deterministic algorithms": lambda: (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        torch.backends.cudnn.deterministic,
        torch.backends.cudnn.benchmark,
    ),
    "torch's precision of matrix products": torch.get_float32_matmul_precision,
    "torch's gradients": lambda: (torch.is_grad_enabled(), torch.is_inference_mode_enabled()),
    "torch's anomaly detection": torch.is_anomaly_enabled,
    "numpy's handling of errors": np.geterr,
    "the environment": lambda: {
        name: text
        for name, text in os.environ.items()
        if name not in SET_BY_LIBRARIES and not name.startswith(SET_BY_RAY)
    },
    "the working directory": Path.cwd,
    "the handlers of signals": lambda: {number: signal.getsignal(number) for number in sorted(signal.valid_signals())},
    # Ray imports its own copies of other packages from a folder below its own.
    "the folders that modules are imported from": lambda: [p for p in sys.path if "thirdparty_files" not in p],
    "the words of the command line": lambda: list(sys.argv),
    "the hook of exceptions that cannot be raised": lambda: sys.unraisablehook,
}


def seed() -> None:
    """Give the global random streams the state that every test begins with, so that none sees what another has drawn.

    They are not among `PARTS`: libraries draw from them when they are imported, and modules their initial weights.
    """
    torch.default_generator.manual_seed(SEED)
    np.random.seed(SEED)
    random.seed(SEED)


def state() -> dict[str, Any]:
    """Return each part of the process's state by its name."""
    return {name: part() for name, part in PARTS.items()}


def changed(before: dict[str, Any]) -> list[str]:
    """Return in words what differs from ``before``."""
    found = []
    for name, value in state().items():
        old = before[name]
        if value == old:
            continue
        if isinstance(value, dict):
            names = sorted(key for key in {*old, *value} if old.get(key) != value.get(key))
            found.append(f"{name}: {', '.join(f'{key} {old.get(key)!r} -> {value.get(key)!r}' for key in names)}")
        else:
            found.append(f"{name}: {old!r} -> {value!r}")
    return found
