"""Findings and the report they make: ordered, grouped, as JSON and as lines of text.

Plain values; it knows nothing of torch or of how a finding is made.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from semalign.audit.codes import CODES, SEVERITIES, Severity

__all__ = ["FORMAT", "AuditReport", "Finding", "make_report"]

# History of the format:
# 1: first.
FORMAT: Final = 1

_RANK: Final = {name: rank for rank, name in enumerate(CODES)}
_SHOWN = 8


@dataclasses.dataclass(frozen=True)
class Finding:
    """One fault or remark.

    Attributes:
        code: a name of `CODES`.
        places: dotted paths of parameters or modules, at least one; "" is the model itself.
        evidence: the numbers it rests on, a clause.
        numbers: the same numbers by name, finite.
        declared: the model's owner has said that he knows.
    """

    code: str
    places: tuple[str, ...]
    evidence: str
    numbers: Mapping[str, float] = dataclasses.field(default_factory=dict)
    declared: bool = False

    @property
    def severity(self) -> Severity:
        """Fixed by the code."""
        return CODES[self.code].severity

    @property
    def where(self) -> str:
        """The places as one text; a lone place is its path as it is."""
        shown = ", ".join(place or "(model)" for place in self.places[:_SHOWN])
        more = len(self.places) - _SHOWN
        return f"{shown} and {more} more" if more > 0 else shown

    def to_dict(self) -> dict[str, Any]:
        """Return the contract's JSON."""
        code = CODES[self.code]
        return {
            "code": self.code,
            "severity": self.severity,
            "where": self.where,
            "places": list(self.places),
            "title": code.title,
            "evidence": self.evidence,
            "numbers": {name: value for name, value in self.numbers.items() if math.isfinite(value)},
            "consequence": code.consequence,
            "fix": code.fix,
            "declared": self.declared,
        }

    def text(self) -> str:
        """Return the finding as a few lines."""
        code = CODES[self.code]
        known = " (declared)" if self.declared else ""
        return (
            f"{self.severity}: {self.code}{known}: {self.where}\n  {code.title}: {self.evidence}\n"
            f"  so {code.consequence}\n  fix: {code.fix}"
        )


@dataclasses.dataclass(frozen=True)
class AuditReport:
    """What an audit found, errors first, by consequence within a severity.

    Attributes:
        findings: the findings in order.
        facts: plain facts: parameters, steps, knobs (roles by path), seconds.
    """

    findings: tuple[Finding, ...]
    facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def errors(self) -> tuple[Finding, ...]:
        """Findings that are errors and not declared."""
        return tuple(item for item in self.findings if item.severity == "error" and not item.declared)

    @property
    def ok(self) -> bool:
        """Whether no error is left that nobody declared."""
        return not self.errors

    def of(self, code: str) -> tuple[Finding, ...]:
        """Return the findings of one code."""
        return tuple(item for item in self.findings if item.code == code)

    def to_dict(self) -> dict[str, Any]:
        """Return the contract's JSON."""
        return {
            "format": FORMAT,
            "findings": [item.to_dict() for item in self.findings],
            "counts": {name: sum(item.severity == name for item in self.findings) for name in SEVERITIES},
            "ok": self.ok,
            "facts": dict(self.facts),
        }

    def __str__(self) -> str:
        counts = ", ".join(f"{sum(item.severity == name for item in self.findings)} {name}s" for name in SEVERITIES)
        return "\n".join([*(item.text() for item in self.findings), counts])


def make_report(findings: Iterable[Finding], facts: Mapping[str, Any] | None = None) -> AuditReport:
    """Order findings and put those together that say the same of repeated layers.

    Two findings are one where code, declaration and the places' names but for their numbers agree; the evidence is
    then the first one's, with the number of places.
    """
    groups: dict[tuple[str, bool, tuple[str, ...]], list[Finding]] = {}
    for item in findings:
        shape = tuple(_shape(place) for place in item.places)
        groups.setdefault((item.code, item.declared, shape), []).append(item)
    merged = []
    for (code, declared, _), items in groups.items():
        if len(items) == 1:
            merged.append(items[0])
            continue
        places = tuple(dict.fromkeys(place for item in items for place in item.places))
        evidence = f"{items[0].evidence} ({items[0].where}; {len(items)} places alike)"
        merged.append(Finding(code, places, evidence, items[0].numbers, declared))
    merged.sort(key=lambda item: _RANK[item.code])
    return AuditReport(tuple(merged), dict(facts or {}))


def _shape(place: str) -> str:
    """Return a path with its layers' numbers left out, so that repeated layers look alike."""
    return re.sub(r"(?<=\.)\d+(?=\.|$)|^\d+(?=\.|$)|(?<=\[)\d+(?=\])", "*", place)
