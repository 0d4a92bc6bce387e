from __future__ import annotations

from pathlib import Path

import pytest

from semalign.errors import ResultsError
from semalign.judge import read_results_csv


def _write(folder: Path, text: str) -> Path:
    path = folder / "results.csv"
    path.write_bytes(text.encode())
    return path


@pytest.mark.parametrize(
    "text",
    [
        "arm,seed,miou,road,sky\nplain,1,0.5,0.7,0.3\nwide,1,,,\nwide,2,1,1,1\n",
        # other order, a byte order mark, Windows line ends, blanks, an empty line, no line end at the end
        "\ufeffseed, miou ,arm\r\n1,0.5,plain\r\n\r\n1,,wide\r\n2,1.0, wide",
        "arm,seed,score\nplain,1,5e-1\nwide,1, \nwide,2,1\n",
        "arm,seed,miou_percent\nplain,1,50\nwide,1,\nwide,2,100\n",
        'arm,seed,score_percent\n"plain",1,50\nwide,1,\nwide,2,100\n',
        # a class may be called "score": miou comes first
        "arm,seed,score,miou\nplain,1,0.9,0.5\nwide,1,,\nwide,2,0.9,1\n",
    ],
)
def test_same_rows(tmp_path: Path, text: str) -> None:
    """Every accepted way of writing the table gives these rows."""
    assert read_results_csv(_write(tmp_path, text)) == [("plain", 1, 0.5), ("wide", 1, None), ("wide", 2, 1.0)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "are empty, expected a header"),
        ("arm,seed,miou\n", "hold a header and no run"),
        ("name,seed,miou\na,1,0.5\n", "have the column 'arm' not at all"),
        ("arm;seed;miou\na;1;0.5\n", "have the column 'arm' not at all.*comma-separated"),
        ("arm,arm,seed,miou\na,a,1,0.5\n", "have the column 'arm' twice"),
        ("arm,seeds,miou\na,1,0.5\n", "the column 'seed' not at all, did you mean 'seeds'"),
        ("arm,seed,iou\na,1,0.5\n", "have no score, expected a column 'miou' or 'score', got arm, seed, iou"),
        ("arm,seed,miou,miou\na,1,0.5,0.5\n", "have the column 'miou' twice"),
        ("arm,seed,miou,miou_percent\na,1,0.5,50\n", "both 'miou' and 'miou_percent'"),
        ("arm,seed,miou\na,1,0.5\nb,2\n", "line 3 has 2 cells, expected 3"),
        ("arm,seed,miou\n,1,0.5\n", "line 2 names no arm"),
        ("arm,seed,miou\na,one,0.5\n", "line 2: the seed is 'one', expected a whole number"),
        ("arm,seed,miou\na,1,54.3\n", r"line 2: 'miou' is 54.3, .*divide by 100, or name the column 'miou_percent'"),
        ("arm,seed,miou\na,1,-0.1\n", r"'miou' is -0.1, expected a value in \[0, 1\]$"),
        ("arm,seed,score_percent\na,1,101\n", r"is 101, expected a value in \[0, 100\]$"),
        ("arm,seed,miou\na,1,nan\n", "'miou' is 'nan', expected a number, or an empty cell when the run failed"),
        ("arm,seed,miou\na,1,failed\n", "'miou' is 'failed', expected a number, or an empty cell"),
        ("arm,seed,miou\na,1,inf\n", "'miou' is inf, expected a value"),
        ('arm,seed,miou\n"a,1,0.5\n', "line 2: .*expected comma-separated values"),
    ],
)
def test_bad_tables(tmp_path: Path, text: str, message: str) -> None:
    """Each fault is named with its line."""
    with pytest.raises(ResultsError, match=message):
        read_results_csv(_write(tmp_path, text))


def test_no_table(tmp_path: Path) -> None:
    """A missing file, a folder and another encoding are refused in words."""
    (tmp_path / "latin.csv").write_bytes(b"arm,seed,miou\n\xe9t\xe9,1,0.5\n")

    with pytest.raises(ResultsError, match=r"no results at .*missing\.csv"):
        read_results_csv(tmp_path / "missing.csv")
    with pytest.raises(ResultsError, match="cannot read the results"):
        read_results_csv(tmp_path)
    with pytest.raises(ResultsError, match="expected a CSV file in UTF-8"):
        read_results_csv(tmp_path / "latin.csv")
