"""Anybody's table of results, judged without torch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from semalign.cli.judging import parse_looks
from semalign.errors import ConfigError, ResultsError, StudyError
from semalign.judge import Contrast, judge
from semalign.study.outside import Protocol, judge_table, protocol_of_study, read_contrasts

# Differences of 6, 5, 7, 6, 6 points: mean 6, sd sqrt(0.5).
PLAIN = [0.50, 0.52, 0.51, 0.515, 0.505]
WIDE = [0.56, 0.57, 0.58, 0.575, 0.565]

CONTRASTS = (
    "contrasts:\n- {name: gain, weights: {wide: 1, plain: -1}, question: 'Is it?', above: wider, below: narrower}\n"
)


def results(folder: Path, blocks: int = 5, *, lost: int = 0, names: tuple[str, str] = ("plain", "wide")) -> Path:
    """Write a table of two arms; the last ``lost`` runs of the second failed."""
    lines = ["arm,seed,miou"]
    for arm, scores in zip(names, (PLAIN, WIDE), strict=True):
        for seed in range(blocks):
            failed = arm == names[1] and seed >= blocks - lost
            lines.append(f"{arm},{seed},{'' if failed else scores[seed % 5]}")
    path = folder / "results.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_a_table_by_hand(tmp_path: Path) -> None:
    """The judgement is that of `judge` on the same rows, whatever is fixed: margin, seeds, looks, contrasts."""
    path = results(tmp_path)
    (tmp_path / "c.yaml").write_text(CONTRASTS)
    gain = Contrast("gain", {"wide": 1, "plain": -1}, "Is it?", above="wider", below="narrower")
    rows = [
        (arm, seed, score) for arm, scores in (("plain", PLAIN), ("wide", WIDE)) for seed, score in enumerate(scores)
    ]

    plain, none = judge_table(path, Protocol("plain", margin=2))
    named, _ = judge_table(path, Protocol("plain", contrasts=read_contrasts(tmp_path / "c.yaml")))
    looked, _ = judge_table(path, Protocol("plain", looks=(4, 5)))
    planned, _ = judge_table(path, Protocol("plain", seeds=6))

    assert none == ()
    assert plain.estimates[0].mean == pytest.approx(6)
    assert plain.estimates[0].sd == pytest.approx(0.5**0.5)
    assert plain == judge(rows, baseline="plain", margin=2)
    assert named == judge(rows, baseline="plain", margin=1, contrasts=[gain])
    assert "gain: wider" in str(named.verdicts[0].reason)
    assert looked == judge(rows, baseline="plain", margin=1, looks=(4, 5))
    assert planned == judge(rows, baseline="plain", margin=1, planned_blocks=6)


def test_a_study_fixes_all(tmp_path: Path) -> None:
    """With a study's file the table is judged as the study judges its own runs: whole blocks, its looks and effects."""
    (tmp_path / "s.yaml").write_text(
        "name: s\nquestion: q?\nbaseline: plain\narms: {plain: {}, wide: {x: 1}, gone: {x: 2}}\n"
        "command: run {seed} {arm.x} {out}\nlooks: [3, 5]\nmargin: 2\nalpha: 0.1\n" + CONTRASTS
    )
    protocol = protocol_of_study(str(tmp_path / "s.yaml"))
    unfinished, _ = judge_table(results(tmp_path), protocol)
    (tmp_path / "s.yaml").write_text((tmp_path / "s.yaml").read_text().replace(", gone: {x: 2}", ""))
    judged, _ = judge_table(results(tmp_path), protocol_of_study(str(tmp_path / "s.yaml")))

    assert (protocol.baseline, protocol.margin, protocol.alpha, protocol.looks) == ("plain", 2, 0.1, (3, 5))
    assert protocol.arms == ("plain", "wide", "gone")
    # No block is whole without the third arm, so that its table is judged by what is there.
    assert unfinished.verdicts[0].word == judged.verdicts[0].word == "better"
    assert judged.moments == (3, 5)
    assert protocol_of_study("ablation-1").contrasts is not None


def test_a_study_asked_otherwise(tmp_path: Path) -> None:
    """What ``study run`` may change in a study (--seeds, margin, alpha, looks) a table can be judged by too."""
    (tmp_path / "s.yaml").write_text(
        "name: s\nquestion: q?\nbaseline: plain\narms: {plain: {}, wide: {x: 1}}\n"
        "command: run {seed} {arm.x} {out}\nlooks: [3, 5]\nmargin: 2\n" + CONTRASTS
    )
    spec = str(tmp_path / "s.yaml")
    path = results(tmp_path)

    fixed, _ = judge_table(path, protocol_of_study(spec, seeds=7))
    looked, _ = judge_table(path, protocol_of_study(spec, looks=(2, 4), margin=3, alpha=0.1))
    assert (fixed.planned_blocks, fixed.moments, fixed.margin, fixed.alpha) == (7, (), 2, 0.05)
    assert (looked.planned_blocks, looked.moments, looked.margin, looked.alpha) == (None, (2, 4), 3, 0.1)
    assert looked.estimates[0].contrast.name == "gain"


def test_a_lost_run_is_no_end(tmp_path: Path) -> None:
    """At looks a block with a lost run counts as incomplete; what lies behind the last whole block is not begun."""
    (tmp_path / "s.yaml").write_text(
        "name: s\nquestion: q?\nbaseline: plain\narms: {plain: {}, wide: {x: 1}}\n"
        "command: run {seed} {arm.x} {out}\nlooks: [3, 5]\nmargin: 2\n" + CONTRASTS
    )
    path = results(tmp_path)
    lines = path.read_text().splitlines()
    lost = [line for line in lines if not line.startswith(("wide,1,", "wide,4,"))]
    path.write_text("\n".join(lost) + "\n")
    judged, _ = judge_table(path, protocol_of_study(str(tmp_path / "s.yaml")))

    assert judged.seeds == (0, 1, 2, 3)
    assert [look.blocks for look in judged.looks] == [3]
    assert str(judged.left_out[0].why) == "wide was not run"


@pytest.mark.parametrize(
    ("protocol", "message"),
    [
        (Protocol("plane"), "no run of the baseline 'plane', did you mean 'plain'"),
        (
            Protocol("plain", contrasts=(Contrast("c", {"wide": 1, "plan": -1}),)),
            "'plan' without a run, did you mean 'plain'",
        ),
        (Protocol("plain", seeds=3), "hold 5 blocks, planned were 3"),
        (Protocol("plain", looks=(5, 5)), "looks"),
        (Protocol("plain", seeds=5, looks=(5, 8)), "both planned_blocks=5 and looks"),
        (Protocol("plain", seeds=5, looks=(5, 8), arms=("plain", "wide")), "both planned_blocks=5 and looks"),
        (Protocol("plain", margin=0), "margin is 0"),
        (
            Protocol("plain", arms=("plain", "widest")),
            "runs of the arm 'wide', which the study does not plan, did you mean",
        ),
    ],
)
def test_protocols_that_do_not_fit(tmp_path: Path, protocol: Protocol, message: str) -> None:
    """What was fixed beforehand must fit the table."""
    with pytest.raises(StudyError, match=message):
        judge_table(results(tmp_path), protocol)


def test_a_run_twice(tmp_path: Path) -> None:
    """A second run of a seed is refused with a study too."""
    path = results(tmp_path)
    path.write_text(path.read_text() + "wide,3,0.5\n")
    for protocol in (Protocol("plain"), Protocol("plain", seeds=5, arms=("plain", "wide"))):
        with pytest.raises(ResultsError, match="arm 'wide' has seed 3 twice"):
            judge_table(path, protocol)


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("contrasts: []\n", ConfigError, "option contrasts in .*c.yaml got .*at least 1 item"),
        ("effects: []\n", ConfigError, "option contrasts in .*c.yaml got .*field required"),
        ("contrasts:\n- {name: c, weights: {a: 1, b: 1}}\n", StudyError, "add up to"),
        (
            "contrasts:\n- {name: c, wieghts: {a: 1, b: -1}}\n",
            ConfigError,
            r"option contrasts\.0\.weights in .*field required",
        ),
    ],
)
def test_bad_contrasts(tmp_path: Path, text: str, error: type[Exception], message: str) -> None:
    """A file of effects is read as strictly as a study's."""
    (tmp_path / "c.yaml").write_text(text)

    with pytest.raises(error, match=message):
        read_contrasts(tmp_path / "c.yaml")


def test_looks_of_the_command_line() -> None:
    """Numbers and commas."""
    assert parse_looks("5, 8,12") == (5, 8, 12)
    for text in ("", "5,", "5;8", "-5", "5.5"):
        with pytest.raises(ConfigError, match="expected numbers of blocks such as 5,8,12"):
            parse_looks(text)


# --- new images -----------------------------------------------------------------------------------


def tables(folder: Path, n_images: int, *, cluster: bool = False) -> tuple[Path, Path]:
    """Write counts of two arms, five seeds and two classes, and the table of their mIoU."""
    rng = np.random.default_rng(20261123)
    pixels = rng.integers(40, 60, (n_images, 2))
    counts, scores = ["arm,seed,image,class,tp,fp,fn" + ",cluster" * cluster], ["arm,seed,score"]
    for arm, share in (("plain", 0.6), ("wide", 0.8)):
        for seed in range(5):
            hit = rng.binomial(pixels, share)
            missed = pixels - hit
            tp, fp, fn = hit.sum(axis=0), missed.sum(axis=0)[::-1], missed.sum(axis=0)
            scores.append(f"{arm},{seed},{(tp / (tp + fp + fn)).mean():.6f}")
            for i in range(n_images):
                for c, name in enumerate(("sky", "road")):
                    group = f",s{i // 2}" if cluster else ""
                    counts.append(f"{arm},{seed},im{i},{name},{hit[i, c]},{missed[i, 1 - c]},{missed[i, c]}{group}")
    (folder / "counts.csv").write_text("\n".join(counts) + "\n")
    (folder / "scores.csv").write_text("\n".join(scores) + "\n")
    return folder / "scores.csv", folder / "counts.csv"


def test_new_images_too(tmp_path: Path) -> None:
    """With counts by image each effect is also judged for new images, by clusters where they are named."""
    scores, counts = tables(tmp_path, 44, cluster=True)
    judgement, (new,) = judge_table(scores, Protocol("plain"), counts)
    scores, counts = tables(tmp_path, 44)
    _, (single,) = judge_table(scores, Protocol("plain"), counts)

    assert judgement.estimates[0].mean is not None
    assert new.mean == pytest.approx(judgement.estimates[0].mean, abs=1e-3)
    assert (new.n_clusters, single.n_clusters) == (22, 44)
    assert new.verdict.word == "better"
    # Blocks that were planned and have no run count as incomplete for both.
    early, (new_early,) = judge_table(scores, Protocol("plain", seeds=9), counts)
    assert (early.verdicts[0].word, new_early.verdict.word) == ("inconclusive", "inconclusive")
    assert json.loads(json.dumps(new.to_dict()))["verdict"]["word"] == "better"


def test_counts_alone(tmp_path: Path) -> None:
    """A table of counts is a table of results: its scores are the mIoU that the counts make, over all images."""
    scores, counts = tables(tmp_path, 22)
    by_scores, _ = judge_table(scores, Protocol("plain"))
    by_counts, none = judge_table(counts, Protocol("plain"))
    both, (new,) = judge_table(counts, Protocol("plain"), counts)

    assert none == ()
    assert by_counts.estimates[0].values == pytest.approx(by_scores.estimates[0].values, abs=1e-3)
    assert both == by_counts
    assert by_counts.estimates[0].mean is not None
    assert new.mean == pytest.approx(by_counts.estimates[0].mean, abs=1e-9)


def test_a_pipe_is_read_once(tmp_path: Path) -> None:
    """A table that comes out of another program can be read no second time."""
    for source in (results(tmp_path), tables(tmp_path, 22)[1]):
        os.mkfifo(tmp_path / "pipe")
        writer = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=(source.read_bytes(),))
        writer.start()
        piped, _ = judge_table(tmp_path / "pipe", Protocol("plain"))
        writer.join()
        (tmp_path / "pipe").unlink()

        assert piped == judge_table(source, Protocol("plain"))[0]


def test_new_images_are_refused(tmp_path: Path) -> None:
    """At looks, and below 20 clusters, there is no such judgement."""
    scores, counts = tables(tmp_path, 38, cluster=True)
    with pytest.raises(StudyError, match="from 19 clusters, expected at least 20"):
        judge_table(scores, Protocol("plain"), counts)
    with pytest.raises(StudyError, match=r"has looks \(5, 8\), expected a number of seeds fixed beforehand"):
        judge_table(scores, Protocol("plain", looks=(5, 8)), counts)


# --- the command line -----------------------------------------------------------------------------


def test_the_command_line_needs_no_torch(tmp_path: Path) -> None:
    """`semalign study judge` with all its files never imports torch."""
    scores, counts = tables(tmp_path, 22)
    (tmp_path / "c.yaml").write_text(CONTRASTS)
    code = (
        "import sys\nfrom semalign.cli import main\ntry:\n    main()\nfinally:\n    assert 'torch' not in sys.modules\n"
    )
    words = ["study", "judge", scores, "--baseline", "plain", "--contrasts", tmp_path / "c.yaml", "--images", counts]
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, words), "--seeds", "5", "--margin", "2", "--json"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    value = json.loads(done.stdout)
    assert [item["word"] for item in value["verdicts"]] == ["better"]
    assert value["new_images"][0]["contrast"]["name"] == "gain"
    assert value["new_images"][0]["n_clusters"] == 22
