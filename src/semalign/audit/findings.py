"""Findings and the report they make: ordered, grouped, as JSON and as lines of text."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from semalign.audit.rules import RULES, SEVERITIES, Severity
from semalign.wording import Catalogue, Message, say

__all__ = ["FORMAT", "AuditReport", "Finding", "make_report"]

# History of the format:
# 1: first.
FORMAT: Final = 1

_RANK: Final = {code: rank for rank, code in enumerate(RULES)}
_SHOWN: Final = 8
_ENGLISH: Final = Catalogue("en")


@dataclasses.dataclass(frozen=True)
class Finding:
    """One fault or remark.

    Attributes:
        code: the code of a rule in `semalign.audit.rules.RULES`.
        places: dotted paths of parameters or modules, at least one; "" is the model itself.
        evidence: the numbers it rests on, a clause.
        numbers: the same numbers by name, finite.
        declared: whether the owner of the model declares it as known and meant.
    """

    code: str
    places: tuple[str, ...]
    evidence: Message
    numbers: Mapping[str, float] = dataclasses.field(default_factory=dict)
    declared: bool = False

    @property
    def severity(self) -> Severity:
        """Fixed by the code."""
        return RULES[self.code].severity

    @property
    def where(self) -> str:
        """The places as one text in English; a lone place is its path as it is."""
        return str(self._where)

    @property
    def title(self) -> Message:
        """What is wrong, in a few words."""
        return say(f"audit.{self.code}.title")

    @property
    def consequence(self) -> Message:
        """What follows for a training, a clause."""
        return say(f"audit.{self.code}.consequence")

    @property
    def fix(self) -> Message:
        """What to change, a clause that begins with a verb."""
        return say(f"audit.{self.code}.fix")

    @property
    def _where(self) -> Message:
        shown = tuple(place or say("audit.value.model-place") for place in self.places[:_SHOWN])
        more = len(self.places) - _SHOWN
        return say("audit.places.more", shown=shown, n=more) if more > 0 else say("audit.places.all", shown=shown)

    def to_dict(self) -> dict[str, Any]:
        """Return the contract's JSON, its texts in English."""
        return {
            "code": self.code,
            "severity": self.severity,
            "where": self.where,
            "places": list(self.places),
            "title": str(self.title),
            "evidence": str(self.evidence),
            "numbers": {name: value for name, value in self.numbers.items() if math.isfinite(value)},
            "consequence": str(self.consequence),
            "fix": str(self.fix),
            "declared": self.declared,
        }

    def text(self, catalogue: Catalogue = _ENGLISH) -> str:
        """Return the finding as a few lines."""
        return catalogue(
            "audit.finding.declared" if self.declared else "audit.finding.plain",
            severity=say(f"audit.severity.{self.severity}"),
            code=self.code,
            where=self._where,
            title=self.title,
            evidence=self.evidence,
            consequence=self.consequence,
            fix=self.fix,
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
        """Whether there is no error other than declared ones."""
        return not self.errors

    @property
    def counts(self) -> dict[Severity, int]:
        """How many findings there are of each severity."""
        return {name: sum(item.severity == name for item in self.findings) for name in SEVERITIES}

    def of(self, code: str) -> tuple[Finding, ...]:
        """Return the findings of one code."""
        return tuple(item for item in self.findings if item.code == code)

    def to_dict(self) -> dict[str, Any]:
        """Return the contract's JSON."""
        return {
            "format": FORMAT,
            "findings": [item.to_dict() for item in self.findings],
            "counts": self.counts,
            "ok": self.ok,
            "facts": dict(self.facts),
        }

    def text(self, catalogue: Catalogue = _ENGLISH) -> str:
        """Return the findings and their counts as lines."""
        counts = (say(f"audit.count.{name}", n=count) for name, count in self.counts.items())
        return "\n".join([*(item.text(catalogue) for item in self.findings), catalogue.join(counts)])

    def __str__(self) -> str:
        return self.text()


def make_report(findings: Iterable[Finding], facts: Mapping[str, Any] | None = None) -> AuditReport:
    """Order findings and merge those that say the same of repeated layers.

    Two findings are one where code, declaration and the places' names but for their numbers agree; the evidence is
    then the first one's, with the number of places.
    """
    groups: dict[tuple[str, bool, tuple[str, ...]], list[Finding]] = {}
    for item in findings:
        shape = tuple(_shape(place) for place in item.places)
        groups.setdefault((item.code, item.declared, shape), []).append(item)
    merged = [_merged(items) for items in groups.values()]
    merged.sort(key=lambda item: _RANK[item.code])
    return AuditReport(tuple(merged), dict(facts or {}))


def _merged(items: list[Finding]) -> Finding:
    """Return one finding for those of repeated layers."""
    first = items[0]
    if len(items) == 1:
        return first
    places = tuple(dict.fromkeys(place for item in items for place in item.places))
    evidence = say("audit.places.alike", evidence=first.evidence, where=first._where, n=len(items))
    return dataclasses.replace(first, places=places, evidence=evidence)


def _shape(place: str) -> str:
    """Return a path with its layers' numbers left out, so that repeated layers look alike."""
    return re.sub(r"(?<=\.)\d+(?=\.|$)|^\d+(?=\.|$)|(?<=\[)\d+(?=\])", "*", place)
