"""What a rule is, and what it returns."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Final, Literal, TypeAlias

from semalign.audit.evidence.gathered import Evidence
from semalign.wording import Message

__all__ = ["SEVERITIES", "Hit", "Rule", "Severity"]

Severity: TypeAlias = Literal["error", "warning", "note"]
SEVERITIES: Final[tuple[Severity, ...]] = ("error", "warning", "note")


@dataclasses.dataclass(frozen=True)
class Hit:
    """One place where a rule applies.

    Attributes:
        places: dotted paths of parameters or modules, at least one; "" is the model itself.
        evidence: what was seen, a clause.
        numbers: the numbers of it by name.
    """

    places: tuple[str, ...]
    evidence: Message
    numbers: Mapping[str, float] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Rule:
    """One fault.

    Its title, consequence and fix are the sentences ``audit.CODE.title``, ``.consequence`` and ``.fix`` of the
    catalogue; its page is docs/audit/CODE.md.

    Attributes:
        code: kebab-case name of the fault; it never changes.
        severity: "error" for what cannot do what its name says, "warning", or "note".
        find: a pure function of the evidence.
    """

    code: str
    severity: Severity
    find: Callable[[Evidence], Iterable[Hit]]
