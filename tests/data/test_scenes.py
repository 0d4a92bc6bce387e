"""The law of the scenes: at necessity 1 only the text tells the members of a pair apart."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from semalign.data.leaking import texts_from_masks
from semalign.data.scenes import CLASS_NAMES, PAIRS, TEMPLATES, Scenes
from semalign.errors import ConfigError, DataError

SIZE = (37, 53)
PARTNER = np.arange(256, dtype=np.uint8)
for one, other in PAIRS:
    PARTNER[[one, other]] = other, one
CLASS_OF = {template.format(name): name for template in TEMPLATES for name in CLASS_NAMES}


def equal(a: object, b: object) -> bool:
    """Whether two samples are equal byte for byte."""
    return pickle.dumps(a) == pickle.dumps(b)


def test_sample() -> None:
    """A sample holds RGB, mask, depth, caption and cluster, of the asked size and of the promised types."""
    sample = Scenes(size=SIZE).load("val", "00003")

    assert sample.name == "00003"
    assert sample.cluster == "val/00003"
    assert (sample.image.shape, sample.image.dtype) == ((*SIZE, 3), np.dtype(np.uint8))
    assert sample.image.flags.c_contiguous
    assert sample.image.flags.writeable
    assert (sample.mask.shape, sample.mask.dtype) == (SIZE, np.dtype(np.uint8))
    assert sample.depth is not None
    assert (sample.depth.shape, sample.depth.dtype) == (SIZE, np.dtype(np.float32))
    assert sample.mask.max() < len(CLASS_NAMES)


def test_the_mask_has_floor_below_wall() -> None:
    """No floor in the top row, no wall in the bottom row, and the floor's depth grows upwards."""
    scenes = Scenes(size=SIZE, n_train=11)
    for name in scenes.names("train"):
        sample = scenes.load("train", name)
        assert sample.depth is not None
        floor = (sample.mask == 1) & (sample.depth > 0)
        rows = [float(np.median(sample.depth[row][floor[row]])) for row in range(SIZE[0]) if floor[row].any()]

        assert 1 not in sample.mask[0]
        assert 0 not in sample.mask[-1]
        assert np.all(np.diff(rows) < 0.1)


def test_objects_stand_before_what_they_cover() -> None:
    """At an object's pixels the depth is less than the wall's: depth and mask show the same thing."""
    scenes = Scenes(size=SIZE, n_train=29)
    for name in scenes.names("train"):
        sample = scenes.load("train", name)
        assert sample.depth is not None
        measured = sample.depth > 0
        wall = sample.depth[(sample.mask == 0) & measured]
        thing = sample.depth[(sample.mask >= 2) & measured]

        assert thing.size == 0 or thing.max() < np.median(wall)


def test_depth_is_finite_with_a_few_holes() -> None:
    """Depth is finite metres, and some pixels, but few, are holes."""
    scenes = Scenes(size=(48, 64), n_train=31)
    samples = [scenes.load("train", name) for name in scenes.names("train")]
    depths = np.stack([sample.depth for sample in samples if sample.depth is not None])

    assert np.isfinite(depths).all()
    assert depths[depths > 0].min() > 0.8
    assert depths.max() < 8
    assert 0.001 < np.mean(depths == 0) < 0.06


@pytest.mark.parametrize("necessity", [0.5, 1.0])
def test_the_member_leaves_no_trace_in_pixels(necessity: float) -> None:
    """Turning the coin of every ambiguous pair changes mask and caption but no byte of image and depth."""
    scenes = Scenes(necessity=necessity, n_train=41, size=SIZE)
    changed = 0
    for name in scenes.names("train"):
        sample, other = scenes.load("train", name), scenes.counterpart("train", name)
        assert sample.depth is not None
        assert other.depth is not None

        assert np.array_equal(sample.image, other.image)
        assert np.array_equal(sample.depth, other.depth)
        differs = sample.mask != other.mask
        assert np.array_equal(other.mask[differs], PARTNER[sample.mask[differs]])
        assert (sample.texts != other.texts) == bool(differs.any())
        if necessity == 1.0:
            assert np.array_equal(other.mask, PARTNER[sample.mask])
        changed += bool(differs.any())

    assert changed > 10


def test_the_coin_is_fair() -> None:
    """Each member of a pair is the ambiguous one in about half of the scenes that show the pair."""
    scenes = Scenes(necessity=1.0, n_train=600, size=(16, 17))
    found = [scenes.mask_classes("train", name) for name in scenes.names("train")]
    for first, second in PAIRS:
        firsts, seconds = sum(first in f for f in found), sum(second in f for f in found)

        assert not any(first in f and second in f for f in found)
        assert abs(firsts - seconds) < 4 * np.sqrt(firsts + seconds)


def test_the_coin_is_thrown_anew_in_every_split() -> None:
    """Scenes of the same index in train and val agree on a pair's member about half of the time."""
    scenes = Scenes(necessity=1.0, n_train=300, n_val=300, size=(16, 17))
    for first, second in PAIRS:
        pairs = [
            (first in scenes.mask_classes("train", name), first in scenes.mask_classes("val", name))
            for name in scenes.names("val")
            if all({first, second} & set(scenes.mask_classes(split, name)) for split in scenes.splits)
        ]
        agreeing = sum(a == b for a, b in pairs)

        assert abs(2 * agreeing - len(pairs)) < 4 * np.sqrt(len(pairs))


def test_without_necessity_appearance_tells() -> None:
    """At necessity 0 no pair is ambiguous: there is no coin to turn, and members differ in color."""
    scenes = Scenes(necessity=0.0, n_train=61, size=SIZE)
    samples = [scenes.load("train", name) for name in scenes.names("train")]

    assert all(
        equal(sample, scenes.counterpart("train", name))
        for sample, name in zip(samples, scenes.names("train"), strict=True)
    )
    for first, second in PAIRS:
        means = []
        for label in (first, second):
            pixels = np.concatenate([s.image[s.mask == label].astype(float) for s in samples])
            means.append(pixels.mean(axis=0) / pixels.mean())
        assert np.abs(means[0] - means[1]).max() > 0.1


def test_necessity_changes_nothing_but_members() -> None:
    """Depth and the places of things stay when the knob moves; what was ambiguous stays so."""
    low, middle, high = (Scenes(necessity=n, n_train=23, size=SIZE) for n in (0.0, 0.5, 1.0))
    pair_of = np.array([0, 1, 2, 2, 3, 3, 4, 4])
    for name in low.names("train"):
        a, b, c = (scenes.load("train", name) for scenes in (low, middle, high))
        assert np.array_equal(pair_of[a.mask], pair_of[b.mask])
        assert np.array_equal(pair_of[a.mask], pair_of[c.mask])
        assert np.array_equal(a.depth, c.depth)  # type: ignore[arg-type]
        differs = b.mask != middle.counterpart("train", name).mask
        assert np.array_equal(b.mask[differs], c.mask[differs])


def test_captions_list_exactly_the_present_classes() -> None:
    """One sentence per class in the mask and none for another, in one of the wordings, at every necessity."""
    for necessity in (0.0, 1.0):
        scenes = Scenes(necessity=necessity, n_val=19, size=SIZE)
        texts = scenes.texts("val")
        orders = set()
        for name in scenes.names("val"):
            sample = scenes.load("val", name)
            present = [CLASS_NAMES[index] for index in np.unique(sample.mask)]
            said = [CLASS_OF[text] for text in sample.texts]

            assert sorted(said) == sorted(present)
            assert texts[name] == sample.texts
            assert texts_from_masks(scenes, "val")[name] == tuple(present)
            orders.add(sample.texts.index(next(text for text in sample.texts if "wall" in text)))
        assert len(orders) > 1


def test_same_arguments_same_samples() -> None:
    """Samples depend on seed, split and index alone: not on the order, the thread, or how many there are."""
    scenes = Scenes(n_train=13, size=SIZE)
    expected = [scenes.load("train", name) for name in scenes.names("train")]
    with ThreadPoolExecutor(4) as pool:
        threaded = list(pool.map(lambda name: scenes.load("train", name), scenes.names("train")))

    assert all(map(equal, expected, threaded))
    again = Scenes(n_train=40, size=SIZE)
    assert all(equal(again.load("train", s.name), s) for s in reversed(expected))
    copy = pickle.loads(pickle.dumps(scenes))  # noqa: S301  # our own bytes
    assert equal(copy.load("train", "00007"), expected[7])


def test_other_seed_split_or_index_another_scene() -> None:
    """No image stands in two splits, twice in one, or under two seeds."""
    images = [
        scenes.load(split, name).image.tobytes()
        for scenes in (Scenes(n_train=17, n_val=11, size=SIZE), Scenes(n_train=17, n_val=11, size=SIZE, seed=1))
        for split in scenes.splits
        for name in scenes.names(split)
    ]

    assert len(set(images)) == 2 * (17 + 11)


def test_image_and_clusters() -> None:
    """The image alone is the sample's; each scene is a cluster of its own."""
    scenes = Scenes(n_val=3, size=SIZE)

    assert np.array_equal(scenes.image("val", "00002"), scenes.load("val", "00002").image)
    assert scenes.clusters("val") == {f"0000{k}": f"val/0000{k}" for k in range(3)}
    assert scenes.names("val") == ("00000", "00001", "00002")


def test_fingerprint_and_description() -> None:
    """Whatever decides the samples of a split decides its fingerprint, and nothing else does."""
    base = Scenes(n_train=5, n_val=3)

    assert base.fingerprint("val") == Scenes(n_train=7, n_val=3).fingerprint("val")
    others = [
        base.fingerprint("train"),
        Scenes(n_val=4).fingerprint("val"),
        Scenes(n_val=3, seed=1).fingerprint("val"),
        Scenes(n_val=3, necessity=0.5).fingerprint("val"),
        Scenes(n_val=3, size=(96, 128)).fingerprint("val"),
    ]
    assert len({base.fingerprint("val"), *others}) == 6
    assert base.describe()["splits"] == {"train": 5, "val": 3}


def test_bad_arguments() -> None:
    """Values out of range are refused by a sentence that names them."""
    with pytest.raises(ConfigError, match=r"necessity of scenes is 1\.5, expected a number from 0"):
        Scenes(necessity=1.5)
    with pytest.raises(ConfigError, match="necessity of scenes is nan"):
        Scenes(necessity=float("nan"))
    with pytest.raises(ConfigError, match="0 images of split 'val', expected at least 1"):
        Scenes(n_val=0)
    with pytest.raises(ConfigError, match=r"size of scenes is \[15, 64\], expected \[H, W\] with both at least 16"):
        Scenes(size=(15, 64))


@pytest.mark.parametrize("name", ["00240", "3", "-0001", "000003", "²0000", ""])
def test_unknown_name(name: str) -> None:
    """A name that is not listed is refused, whatever it looks like."""
    with pytest.raises(DataError, match="split 'train' of scenes has no image"):
        Scenes().load("train", name)
    with pytest.raises(DataError, match="split 'train' of scenes has no image"):
        Scenes().mask_classes("train", name)


def test_unknown_split() -> None:
    """An unknown split is refused and the known ones are named."""
    with pytest.raises(DataError, match="scenes has no split 'test', known: train, val"):
        Scenes().names("test")
    with pytest.raises(DataError, match="no split"):
        Scenes().fingerprint("test")
    with pytest.raises(DataError, match="no split"):
        Scenes().load("test", "00000")
