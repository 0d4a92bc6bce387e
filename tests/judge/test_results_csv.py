from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from semalign.errors import ResultsError
from semalign.judge import (
    Row,
    counts_of_runs,
    read_image_counts_csv,
    read_results_csv,
    read_runs_csv,
    rows_of_counts,
)


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


# --- counts by image ------------------------------------------------------------------------------

HEAD = "arm,seed,image,class,tp,fp,fn"


def test_counts_by_hand(tmp_path: Path) -> None:
    """Lines in any order, columns in any order, a class without a line counts as nothing there."""
    text = (
        "cluster,fn,fp,tp,class,image,seed,arm,note\n"
        "one,1,0,3,sky,b,0,plain,x\n"
        "one,0,2,5,road,a,0,plain,\n"
        "one,2,0,2,sky,b,0,wide,\n"
        "one,4,0,1,road,a,0,wide,\n"
        "one,0,7,0,sky,a,0,wide,\n"
    )
    table = read_image_counts_csv(_write(tmp_path, text))

    assert (table.images, table.classes, table.clusters) == (("a", "b"), ("road", "sky"), ("one", "one"))
    assert table.counts["plain"][0].tolist() == [[[5, 2, 0], [0, 0, 0]], [[0, 0, 0], [3, 0, 1]]]
    assert table.counts["wide"][0].tolist() == [[[1, 0, 4], [0, 7, 0]], [[0, 0, 0], [2, 0, 2]]]
    alone = read_image_counts_csv(_write(tmp_path, f"{HEAD}\np,0,b,sky,1,0,0\np,0,a,sky,1,0,0\n"))
    assert alone.clusters == alone.images == ("a", "b")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "are empty, expected a header with arm, seed, image, class, tp, fp, fn"),
        (f"{HEAD}\n", "hold a header and no line"),
        ("arm,seed,image,class,tp,fp\n", "the column 'fn' not at all"),
        (f"{HEAD}\np,0,a,sky,1,0\n", "line 2 has 6 cells, expected 7"),
        (f"{HEAD}\n,0,a,sky,1,0,0\n", "line 2 names no arm"),
        (f"{HEAD}\np,0,,sky,1,0,0\n", "line 2 names no image"),
        (f"{HEAD}\np,0,a,,1,0,0\n", "line 2 names no class"),
        (f"{HEAD}\np,x,a,sky,1,0,0\n", "line 2: the seed is 'x'"),
        (f"{HEAD}\np,0,a,sky,1.5,0,0\n", "line 2: the tp is '1.5', expected a whole number"),
        (f"{HEAD}\np,0,a,sky,1,-2,0\n", "line 2: the fp is -2, expected a number of pixels"),
        (f"{HEAD}\np,0,a,sky,{10**25},0,0\n", "line 2: the tp is 10+, expected a number of pixels from 0 to 10+"),
        (f"{HEAD}\np,0,a,sky,1,0,0\np,0,a,sky,1,0,0\n", "line 3: arm 'p', seed 0 has image 'a', class 'sky' twice"),
        (f"{HEAD},cluster\np,0,a,sky,1,0,0,\n", "line 2 names no cluster"),
        (f"{HEAD},cluster\np,0,a,sky,1,0,0,s\np,1,a,sky,1,0,0,t\n", "line 3: image 'a' is of cluster 't' and of 's'"),
        (f"{HEAD}\np,0,a,sky,1,0,0\np,1,b,sky,1,0,0\n", "no line of image 'b' for arm 'p', seed 0"),
        (
            f"{HEAD}\np,0,a,sky,1,0,0\nw,1,a,sky,1,0,3\n",
            r"the mask of image 'a' has 4 pixels \(TP \+ FN\) of class 'sky' for arm 'w', seed 1 and 1 for arm 'p'",
        ),
    ],
)
def test_bad_counts(tmp_path: Path, text: str, message: str) -> None:
    """Each fault is named with its line or its run."""
    with pytest.raises(ResultsError, match=message):
        read_image_counts_csv(_write(tmp_path, text))


def test_counts_as_results(tmp_path: Path) -> None:
    """A header with counts and no score is a table of counts; its rows carry the mIoU of sums over images."""
    counts = _write(tmp_path, f"{HEAD}\np,0,a,sky,3,1,0\np,0,a,road,1,0,3\np,0,b,sky,0,2,1\n")

    ((arm, seed, miou),), table = read_runs_csv(counts)
    assert table is not None
    assert rows_of_counts(table) == [(arm, seed, miou)]
    assert (arm, seed) == ("p", 0)
    assert miou == pytest.approx((3 / 7 + 1 / 4) / 2)
    for header in (f"{HEAD},miou", f"{HEAD},score_percent", "arm,seed,score,image"):
        line = ",".join("0" for _ in header.split(","))
        assert read_runs_csv(_write(tmp_path, f"{header}\n{line}\n"))[1] is None


def test_counts_fit_their_runs(tmp_path: Path) -> None:
    """Every finished run has counts, whose mIoU is its score; a failed run has none."""
    table = read_image_counts_csv(_write(tmp_path, f"{HEAD}\np,0,a,sky,3,1,0\np,0,a,road,1,0,3\np,0,b,sky,0,0,0\n"))
    miou = (3 / 4 + 1 / 4) / 2

    found = counts_of_runs([("p", 0, miou), ("p", 1, None)], table)
    assert found["p"][1] is None
    assert np.asarray(found["p"][0]).tolist() == [[[1, 0, 3], [3, 1, 0]], [[0, 0, 0], [0, 0, 0]]]
    bad: list[tuple[list[Row], str]] = [
        (
            [("p", 0, 0.502)],
            r"arm 'p', seed 0 has the score 0\.502 and counts whose mIoU is 0\.5000, expected the same",
        ),
        ([("p", 0, miou), ("p", 1, 0.5)], "arm 'p', seed 1 has a score and no counts"),
        ([("p", 0, None)], "arm 'p', seed 0 has counts and is a run that failed"),
        ([("p", 1, 0.5)], "arm 'p', seed 0 has counts and is no run of the results"),
    ]
    for rows, message in bad:
        with pytest.raises(ResultsError, match=message):
            counts_of_runs(rows, table)
