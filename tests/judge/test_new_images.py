from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from semalign.errors import ResultsError, StudyError
from semalign.judge import Contrast
from semalign.judge.new_images import (
    FEWEST_CLUSTERS,
    cluster_sums,
    image_influence,
    image_variance,
    judge_new_images,
)
from semalign.metrics import Counts, mean_iou

Floats = NDArray[np.float64]
Study = dict[str, dict[int, Counts | None]]


def _draw(
    generator: np.random.Generator,
    shape: tuple[int, ...],
    n_clusters: int,
    *,
    gain: float = 0.02,
    spread: tuple[float, float, float] = (0.02, 0.01, 0.01),
) -> tuple[Counts, Floats]:
    """Return counts (shape x 2 arms x seeds x clusters x 3 classes x 3) and the expected mIoU gain, points.

    ``shape`` ends with the number of seeds; ``spread`` is how much the second arm's share of right pixels varies by
    cluster, by seed, and by both.
    """
    *studies, n_seeds = shape
    union = generator.integers(2000, 9000, (*studies, 1, 1, n_clusters, 3))
    share = np.array([0.6, 0.45, 0.7]) + generator.normal(0, 0.05, (*studies, 1, 1, n_clusters, 3))
    by_image, by_seed, by_both = spread
    better = (
        gain
        + generator.normal(0, by_image, (*studies, 1, 1, n_clusters, 1))
        + generator.normal(0, by_seed, (*studies, 1, n_seeds, 1, 1))
        + generator.normal(0, by_both, (*studies, 1, n_seeds, n_clusters, 1))
    )
    shares = np.concatenate([np.broadcast_to(share, (*better.shape[:-1], 3)), share + better], axis=len(studies))
    right = np.round(union * np.clip(shares, 0, 1)).astype(np.int64)
    rest = np.broadcast_to(union, right.shape) - right
    return np.stack([right, rest // 3, rest - rest // 3], axis=-1), np.asarray(100 * gain)


def _study(counts: Counts) -> Study:
    return {arm: dict(enumerate(counts[index])) for index, arm in enumerate(("plain", "wide"))}


# --- influence ------------------------------------------------------------------------------------


def test_influence_by_hand() -> None:
    """Two images, one class: I 3 and 1, U 4 and 4, IoU 1/2, influences (3 - 2)/8 and (1 - 2)/8.

    A second class of I 2 and 0, U 2 and 8 has IoU 1/5 and influences (2 - 0.4)/10 and (0 - 1.6)/10; an absent third
    class, predicted in one image, counts for nothing.
    """
    one, two, absent = [[3, 0, 1], [1, 2, 1]], [[2, 0, 0], [0, 3, 5]], [[0, 7, 0], [0, 0, 0]]
    miou, influence = image_influence(np.stack([np.array(one), np.array(two), np.array(absent)], axis=1))

    assert miou == pytest.approx(100 * (0.5 + 0.2) / 2)
    assert influence == pytest.approx([100 * (0.125 + 0.16) / 2, -100 * (0.125 + 0.16) / 2])


def test_influences_add_up_to_nothing() -> None:
    """Influences sum to 0; many runs at once get what one run gets; the mIoU is the data set's."""
    counts, _ = _draw(np.random.default_rng(1), (5,), 23)
    miou, influence = image_influence(counts)

    assert influence.shape == (2, 5, 23)
    assert np.abs(influence.sum(axis=-1)).max() < 1e-10
    for arm in range(2):
        for seed in range(5):
            assert miou[arm, seed] == pytest.approx(100 * mean_iou(counts[arm, seed]))
            assert influence[arm, seed] == pytest.approx(image_influence(counts[arm, seed])[1])


def test_influence_is_the_derivative() -> None:
    """Counting an image slightly more moves the mIoU by its influence."""
    counts = _draw(np.random.default_rng(2), (1,), 7)[0][0, 0]
    _, influence = image_influence(counts)
    for image in range(7):
        heavier = 1000 * counts
        heavier[image] += counts[image]

        assert 100 * (mean_iou(heavier) - mean_iou(counts)) * 1000 == pytest.approx(influence[image], rel=2e-3)


def test_cluster_sums() -> None:
    """Values are added within clusters, in the order of the clusters' names, for any leading axes."""
    values = np.array([[1.0, 2.0, 3.0, 4.0, 5.0], [10.0, 20.0, 30.0, 40.0, 50.0]])

    assert cluster_sums(values, ["b", "a", "b", "c", "a"]).tolist() == [[7, 4, 4], [70, 40, 40]]
    with pytest.raises(ResultsError, match="2 clusters are named for 5 images"):
        cluster_sums(values, ["a", "b"])


# --- variance -------------------------------------------------------------------------------------


def test_variance_by_hand() -> None:
    """S = 2, N = 3: D = (1, 0, -1) and (3, -2, -1), means (2, -1, -1), effects 1 and 3.

    V_img = 3/2 (4 + 1 + 1) = 9; deviations are (1, -1, 0) up and down, so V_int = 3/2 * 4 / (2 * 1) = 3; s_d^2 / S = 1;
    Var = 1 + 9 - 3 = 7; df = 49 / (1/1 + 81/2 + 9/2) = 49/46.
    """
    found = image_variance([1.0, 3.0], [[1, 0, -1], [3, -2, -1]])

    assert (found.seeds, found.images, found.interaction, found.total) == pytest.approx((1, 9, 3, 7))
    assert found.df == pytest.approx(49 / 46)


def test_images_that_add_nothing() -> None:
    """Where images x seeds explain all that images do, the variance and its degrees of freedom are those of seeds."""
    found = image_variance([1.0, 2.0, 6.0], [[1, -1, 0], [-1, 1, 0], [0, 0, 0]])

    assert found.images == 0
    assert found.total == found.seeds == pytest.approx(7 / 3)
    assert found.df == 2


def test_variance_of_images_agrees_with_jackknife_and_bootstrap() -> None:
    """V_img is what leaving out one cluster at a time, or drawing clusters anew, gives for a ratio of sums."""
    counts, _ = _draw(np.random.default_rng(3), (3,), 97, spread=(0.1, 0.01, 0.02))
    _, influence = image_influence(counts)
    found = image_variance([0.0, 1.0, 2.0], influence[1] - influence[0])

    def effect(chosen: Any) -> float:
        return float(
            np.mean([100 * (mean_iou(counts[1, s][chosen]) - mean_iou(counts[0, s][chosen])) for s in range(3)])
        )

    left_out = np.array([effect(np.delete(np.arange(97), index)) for index in range(97)])
    jackknife = 96 / 97 * np.sum(np.square(left_out - np.mean(left_out)))
    drawn = stats.bootstrap(
        (np.arange(97),), effect, n_resamples=600, vectorized=False, method="percentile", rng=np.random.default_rng(4)
    )

    assert found.images == pytest.approx(jackknife, rel=0.03)
    assert float(np.sqrt(found.images)) == pytest.approx(float(drawn.standard_error), rel=0.1)


def test_coverage_on_new_images() -> None:
    """In drawn studies of 5 seeds and 31 clusters the 95 % interval covers the gain of new seeds and images."""
    generator = np.random.default_rng(20261123)
    n_studies = 1500
    counts, gain = _draw(generator, (n_studies, 5), 31)
    miou, influence = image_influence(counts)
    effects = miou[:, 1] - miou[:, 0]
    found = image_variance(effects, influence[:, 1] - influence[:, 0])
    half = stats.t.isf(0.025, found.df) * np.sqrt(found.total)
    covered = float(np.mean(np.abs(effects.mean(axis=1) - gain) <= half))
    # The images of a study are the same for all its seeds: the t interval over seeds forgets them.
    seeds_alone = stats.t.isf(0.025, 4) * np.sqrt(found.seeds)
    forgetful = float(np.mean(np.abs(effects.mean(axis=1) - gain) <= seeds_alone))
    error = np.sqrt(0.05 * 0.95 / n_studies)

    assert 0.945 - 3 * error <= covered <= 0.985
    assert forgetful < covered


# --- judging --------------------------------------------------------------------------------------


def test_judged_as_the_arithmetic_says() -> None:
    """Interval and verdict come from the effects over seeds and the clusters' influences, two images a cluster."""
    counts, _ = _draw(np.random.default_rng(5), (5,), 46, gain=0.06)
    clusters = [f"sequence {index // 2}" for index in range(46)]
    (found,) = judge_new_images(_study(counts), clusters, baseline="plain", margin=1.0)
    miou, influence = image_influence(counts)
    effects = miou[1] - miou[0]
    variance = image_variance(effects, cluster_sums(influence[1] - influence[0], clusters))
    half = float(stats.t.isf(0.025, variance.df) * np.sqrt(variance.total))

    assert (found.n_clusters, found.seeds, found.lost, found.level) == (23, (0, 1, 2, 3, 4), 0, 0.95)
    assert found.mean == pytest.approx(effects.mean())
    assert (found.low, found.high) == pytest.approx((effects.mean() - half, effects.mean() + half))
    assert found.verdict.word == "better"
    assert str(found.verdict.reason).startswith("wide - plain, on new images too: better, +")
    assert "over 5 blocks and 23 clusters of images, and the 95 % interval [" in str(found.verdict.reason)


def test_clusters_widen_the_interval() -> None:
    """The same image under three names is one observation: as clusters, copies bring no certainty."""
    counts, _ = _draw(np.random.default_rng(6), (3,), 29, spread=(0.1, 0.01, 0.01))
    copies = np.repeat(counts, 3, axis=-3)
    clusters = [f"{index // 3:02d}" for index in range(87)]
    alone = judge_new_images(_study(counts), [f"{index:02d}" for index in range(29)], baseline="plain", margin=1.0)[0]
    known = judge_new_images(_study(copies), clusters, baseline="plain", margin=1.0)[0]
    denied = judge_new_images(_study(copies), [str(index) for index in range(87)], baseline="plain", margin=1.0)[0]

    assert known.se == pytest.approx(alone.se)
    assert denied.variance_images < 0.4 * known.variance_images


def test_lost_runs_leave_it_open() -> None:
    """With a failed run in a block the effect is estimated from the others and stays inconclusive."""
    study = _study(_draw(np.random.default_rng(7), (4,), 23, gain=0.2)[0])
    study["wide"][2] = None
    (found,) = judge_new_images(study, [str(index) for index in range(23)], baseline="plain", margin=1.0)

    assert found.seeds == (0, 1, 3)
    assert found.verdict.word == "inconclusive"
    assert "but 1 of 4 blocks incomplete" in str(found.verdict.reason)


def test_planned_blocks_without_a_run_leave_it_open() -> None:
    """A study that is looked at before its end decides nothing, and one that went on beyond it is refused."""
    study = _study(_draw(np.random.default_rng(7), (4,), 23, gain=0.2)[0])
    clusters = [str(index) for index in range(23)]
    options: dict[str, Any] = {"baseline": "plain", "margin": 1.0}
    (whole,) = judge_new_images(study, clusters, **options, planned_blocks=4)
    (early,) = judge_new_images(study, clusters, **options, planned_blocks=7)

    assert whole == judge_new_images(study, clusters, **options)[0]
    assert whole.verdict.word == "better"
    assert early.verdict.word == "inconclusive"
    assert "but 3 of 7 blocks incomplete" in str(early.verdict.reason)
    with pytest.raises(StudyError, match="hold 4 blocks, planned were 3, expected no more than planned"):
        judge_new_images(study, clusters, **options, planned_blocks=3)


def test_copied_runs_are_one() -> None:
    """Runs that are the same for every seed show no spread, and decide nothing."""
    counts, _ = _draw(np.random.default_rng(8), (1,), 23, gain=0.2)
    copies = np.repeat(counts, 3, axis=1)
    (found,) = judge_new_images(_study(copies), [str(index) for index in range(23)], baseline="plain", margin=1.0)

    assert found.verdict.word == "inconclusive"
    assert "scored the same in all 3 blocks" in str(found.verdict.reason)


def test_refused() -> None:
    """Looks, too few clusters or blocks, unknown arms and counts that do not fit are refused in one sentence."""
    study = _study(_draw(np.random.default_rng(9), (2,), 23)[0])
    clusters = [str(index) for index in range(23)]
    options: dict[str, Any] = {"baseline": "plain", "margin": 1.0}

    assert FEWEST_CLUSTERS == 20
    with pytest.raises(StudyError, match=r"never judged at looks, fix the seeds with --seeds"):
        judge_new_images(study, clusters, **options, looks=(5, 8, 12))
    with pytest.raises(StudyError, match="come from 19 clusters, expected at least 20"):
        judge_new_images(study, [str(min(index, 18)) for index in range(23)], **options)
    with pytest.raises(StudyError, match="1 blocks are complete, expected at least 2"):
        judge_new_images({arm: {0: runs[0]} for arm, runs in study.items()}, clusters, **options)
    with pytest.raises(StudyError, match="no run of the baseline 'plan', did you mean 'plain'"):
        judge_new_images(study, clusters, baseline="plan", margin=1.0)
    contrast = Contrast("gain", {"tall": 1, "plain": -1})
    with pytest.raises(StudyError, match="has the arm 'tall' without a run"):
        judge_new_images(study, clusters, **options, contrasts=[contrast])
    run = study["wide"][1]
    assert run is not None
    shorter: Study = {**study, "wide": {0: study["wide"][0], 1: run[:-1]}}
    with pytest.raises(ResultsError, match="expected the same images and classes for all"):
        judge_new_images(shorter, clusters, **options)
    with pytest.raises(ResultsError, match="22 clusters are named for 23 images"):
        judge_new_images(study, clusters[:-1], **options)
    with pytest.raises(ResultsError, match="masks with different classes"):
        image_influence([[[[1, 0, 1], [0, 1, 0]]], [[[1, 0, 1], [0, 0, 1]]]])
    with pytest.raises(ResultsError, match=r"have shape \(2, 3\), expected ... x images x classes x 3"):
        image_influence([[1, 2, 3], [4, 5, 6]])
