"""What is wrong, doubtful or worth knowing about a data set: the table of rules, and the check that applies them.

A new finding is one function in `semalign.data.check.rules`, one row of `RULES`, and its sentences ``data.CODE`` and
``data.CODE.fix`` in the catalogues.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, Final, Literal, NamedTuple

from semalign.data.check.evidence import Evidence, Found, gather
from semalign.data.check.rules import classes, depth, files, images, masks, texts
from semalign.data.check.scan import Progress, ScanReport, scan
from semalign.data.sample import DataSource
from semalign.wording import Message, say

__all__ = ["REPORT_FORMAT", "RULES", "SEVERITIES", "DataFinding", "DataReport", "Rule", "Severity", "check_data"]

REPORT_FORMAT = 1
"""Version of `DataReport.to_dict`."""

Severity = Literal["error", "warning", "note"]
SEVERITIES: Final[tuple[Severity, ...]] = ("error", "warning", "note")
"""It cannot be used as it is; a result is likely to be wrong or too good; it is worth knowing."""


class Rule(NamedTuple):
    """One kind of finding.

    Attributes:
        code: its name, and the key of its sentences in the catalogue.
        severity: see `SEVERITIES`.
        find: yields what it has found.
        mended: whether ``--fix`` mends it where the evidence leaves no doubt.
    """

    code: str
    severity: Severity
    find: Callable[[Evidence], Iterator[Found]]
    mended: bool = False


RULES: Final = (
    # The files.
    Rule("pairing", "error", files.pairing, mended=True),
    Rule("image-broken", "error", files.image_broken, mended=True),
    Rule("depth-broken", "error", files.depth_broken),
    Rule("sizes-differ", "error", files.sizes_differ),
    Rule("mask-broken", "error", files.mask_broken, mended=True),
    # Masks.
    Rule("mask-color", "error", masks.mask_color, mended=True),
    Rule("palettes-differ", "warning", masks.palettes_differ, mended=True),
    Rule("palette", "note", masks.palette, mended=True),
    Rule("mask-binary", "warning", masks.mask_binary, mended=True),
    Rule("mask-void", "error", masks.mask_void, mended=True),
    Rule("mask-off-by-one", "error", masks.mask_off_by_one, mended=True),
    Rule("mask-range", "error", masks.mask_range),
    Rule("mask-empty", "warning", masks.mask_empty),
    Rule("ignored-much", "note", masks.ignored_much),
    # Lists beside the images.
    Rule("texts-file", "error", files.texts_file),
    Rule("clusters-file", "error", files.clusters_file),
    # Images and splits.
    Rule("image-flat", "warning", images.image_flat),
    Rule("image-dark", "warning", images.image_dark),
    Rule("orientation-ambiguous", "warning", images.orientation_ambiguous),
    Rule("orientation", "note", images.orientation),
    Rule("duplicate-within", "warning", images.duplicate_within),
    Rule("near-duplicate-within", "note", images.near_duplicate_within),
    Rule("duplicate-across", "warning", images.duplicate_across, mended=True),
    Rule("near-duplicate-across", "warning", images.near_duplicate_across),
    Rule("split-missing", "note", images.split_missing),
    Rule("cluster-across", "warning", images.cluster_across),
    # Classes.
    Rule("class-unused", "warning", classes.class_unused),
    Rule("class-unlearned", "warning", classes.class_unlearned),
    Rule("class-absent", "note", classes.class_absent),
    Rule("class-rare", "note", classes.class_rare),
    Rule("class-dominant", "note", classes.class_dominant),
    # Texts.
    Rule("texts-missing", "note", texts.texts_missing),
    Rule("texts-same", "note", texts.texts_same),
    Rule("texts-leak", "warning", texts.texts_leak),
    # Depth.
    Rule("depth-empty", "warning", depth.depth_empty),
    Rule("depth-flat", "warning", depth.depth_flat),
    Rule("depth-holes", "note", depth.depth_holes),
    Rule("depth-end", "warning", depth.depth_end),
    Rule("depth-ranges-differ", "warning", depth.depth_ranges_differ),
)
"""Every kind of finding, in the order of a report within one severity."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataFinding(Found):
    """One thing that was found.

    Attributes:
        rule: the kind of finding.
    """

    rule: Rule

    @property
    def code(self) -> str:
        """The rule's code."""
        return self.rule.code

    @property
    def severity(self) -> Severity:
        """One of `SEVERITIES`."""
        return self.rule.severity

    @property
    def fix(self) -> Message:
        """What to do."""
        return say(f"data.{self.code}.fix")

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values; sentences are English."""
        return {
            "code": self.code,
            "severity": self.severity,
            "split": self.split,
            "message": str(self.message),
            "count": len(self.files),
            "files": list(self.files),
            "details": list(map(str, self.details)),
            "fix": str(self.fix),
            "fixed_by_option": self.rule.mended,
        }


@dataclasses.dataclass(frozen=True)
class DataReport:
    """The outcome of `check_data`.

    Attributes:
        evidence: what was found out about the data.
        findings: errors, then warnings, then notes.
    """

    evidence: Evidence
    findings: tuple[DataFinding, ...]

    @property
    def scan(self) -> ScanReport:
        """What was read and counted."""
        return self.evidence.scan

    def of(self, severity: Severity) -> tuple[DataFinding, ...]:
        """Return the findings of one severity."""
        return tuple(finding for finding in self.findings if finding.severity == severity)

    @property
    def has_errors(self) -> bool:
        """Whether the data cannot be used as they are."""
        return bool(self.of("error"))

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON values; "problems" are all errors in full, one sentence each."""
        return {
            "format": REPORT_FORMAT,
            **self.scan.to_dict(),
            "findings": [finding.to_dict() for finding in self.findings],
            "errors": len(self.of("error")),
            "warnings": len(self.of("warning")),
            "notes": [str(finding.message) for finding in self.of("note")],
        }


def check_data(source: DataSource, *, progress: Progress | None = None) -> DataReport:
    """Read every file of ``source`` once and say what is wrong, doubtful or worth knowing.

    Args:
        source: a folder, or scenes (rendered: their files, duplicates and splits need no check).
        progress: as for `semalign.data.check.scan.scan`.

    Raises:
        DataError: the folder's file of class colors is malformed.
    """
    evidence = gather(source, scan(source, progress=progress))
    findings = [
        DataFinding(rule=rule, **vars(evidence.with_kept(rule.code, found)))
        for rule in RULES
        for found in rule.find(evidence)
    ]
    findings.sort(key=lambda finding: SEVERITIES.index(finding.severity))
    return DataReport(evidence, tuple(findings))
