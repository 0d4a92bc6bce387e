"""Lets a package be called by the name of its main function: `semalign.train(...)` beside `semalign.train.loop`.

The contract gives the functions the names of the rooms they live in; a module whose class has `__call__` serves both.
"""

from __future__ import annotations

import importlib
import sys
import types
from typing import Any

__all__ = ["make_callable"]


def make_callable(package: str, home: str, function: str) -> None:
    """Make the imported ``package`` callable as ``function`` of ``home``, which is imported at the first call."""

    class Room(types.ModuleType):
        implementation = f"{home}.{function}"  # where a reader finds it; read by the documentation's site

        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            return getattr(importlib.import_module(home), function)(*args, **kwargs)

    sys.modules[package].__class__ = Room
