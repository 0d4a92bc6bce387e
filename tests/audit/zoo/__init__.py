"""Small modules for the audit: faulty ones with one fault each, and healthy ones.

They are written as public code writes them, not as the audit would like them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

FAULTY: dict[str, Faulty] = {}
HEALTHY: dict[str, Callable[[], tuple[Any, ...]]] = {}


@dataclasses.dataclass(frozen=True)
class Faulty:
    """A factory with what the audit must say of it.

    Attributes:
        make: returns model, batch and optionally optimizer and loss.
        code: the finding's code.
        where: a place that the finding names.
    """

    make: Callable[[], tuple[Any, ...]]
    code: str
    where: str


def fault(code: str, where: str) -> Callable[[Callable[[], tuple[Any, ...]]], Callable[[], tuple[Any, ...]]]:
    """Register a factory of a faulty module."""

    def register(make: Callable[[], tuple[Any, ...]]) -> Callable[[], tuple[Any, ...]]:
        assert make.__name__ not in FAULTY
        FAULTY[make.__name__] = Faulty(make, code, where)
        return make

    return register


def healthy(make: Callable[[], tuple[Any, ...]]) -> Callable[[], tuple[Any, ...]]:
    """Register a factory of a healthy module."""
    assert make.__name__ not in HEALTHY
    HEALTHY[make.__name__] = make
    return make
