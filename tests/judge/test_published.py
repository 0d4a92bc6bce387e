"""The verdicts in docs/results are those of the tables beside them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from semalign.study.outside import Protocol, judge_table, protocol_of_study

RESULTS = Path(__file__).parents[2] / "docs" / "results"
STUDIES = RESULTS.parents[1] / "examples" / "studies"

ROW = re.compile(
    r"\| (?P<name>[^|]+?)(?: \(leaking\))? \| (?:primary|controls) \| (?P<mean>[+-]?[\d.]+) "
    r"\[(?P<low>\S+), (?P<high>\S+)\] \|.*\| (?P<blocks>\d+) \| (?P<word>\w+)[^|]*\|"
)


def published(page: str, number: int) -> list[re.Match[str]]:
    """Return the rows of the page's table of effects with this number."""
    text = (RESULTS / page).read_text(encoding="utf-8").split("### Effects and their verdicts")[number]
    rows = [ROW.fullmatch(line) for line in text.partition("\n#")[0].splitlines() if line.startswith("| ")][2:]
    assert all(rows), "a row is not read"
    return [row for row in rows if row is not None]


def is_rounded(value: float | None, shown: str) -> bool:
    """Return whether ``shown`` is the value with fewer digits."""
    digits = len(shown.partition(".")[2])
    return value is not None and abs(value - float(shown)) <= 0.5000001 * 10**-digits


@pytest.mark.parametrize(
    ("table", "page", "number", "protocol"),
    [
        ("camvid", "camvid.md", 1, protocol_of_study("ablations", seeds=8)),
        ("camvid-seed", "camvid.md", 2, protocol_of_study("ablation-1", seeds=8)),
        ("camvid-half-point", "camvid-looks.md", 1, protocol_of_study("ablation-1", margin=0.5, looks=(32, 64, 96))),
        ("camvid-four-arms", "camvid-looks.md", 2, protocol_of_study(str(STUDIES / "four-arms.yaml"))),
        ("camvid-value-matched", "camvid-looks.md", 3, protocol_of_study("value-matched")),
        ("nyuv2", "nyuv2.md", 1, protocol_of_study("ablations", seeds=5)),
        ("nyuv2-depth", "nyuv2.md", 2, protocol_of_study(str(STUDIES / "depth.yaml"))),
    ],
)
def test_figures_follow_from_the_tables(table: str, page: str, number: int, protocol: Protocol) -> None:
    """Judged again, each published table of runs gives the effects, intervals and verdicts that the page shows."""
    judgement, _ = judge_table(RESULTS / f"{table}.csv", protocol)
    rows = published(page, number)

    assert [row["name"] for row in rows] == [estimate.contrast.name for estimate in judgement.estimates]
    for row, estimate, verdict in zip(rows, judgement.estimates, judgement.verdicts, strict=True):
        assert (row["word"], int(row["blocks"])) == (verdict.word, estimate.n)
        assert is_rounded(estimate.mean, row["mean"]), (row[0], estimate)
        assert is_rounded(estimate.low, row["low"]), (row[0], estimate)
        assert is_rounded(estimate.high, row["high"]), (row[0], estimate)


@pytest.mark.parametrize("name", ["scenes-needed", "scenes-not-needed"])
def test_scenes_say_what_they_said(name: str) -> None:
    """The sentence on the page is the verdict's own."""
    judgement, _ = judge_table(RESULTS / f"{name}.csv", protocol_of_study(str(STUDIES / "text.yaml")))

    (verdict,) = judgement.verdicts
    assert f"- `{name}`: {verdict.reason!s}\n" in (RESULTS / "scenes.md").read_text(encoding="utf-8")
