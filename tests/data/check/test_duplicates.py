"""The same picture is known again, another one is not."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from semalign.data.check.duplicates import NEAR_BITS, near_pairs, picture_hash, pixel_hash
from semalign.data.scenes import Scenes

SHARED = Path(__file__).parents[3].parent / "shared" / "data"


def picture(seed: int, size: tuple[int, int] = (97, 131)) -> NDArray[np.uint8]:
    """Return a smooth random picture, H x W x 3."""
    small = np.random.default_rng(seed).integers(256, size=(11, 13, 3), dtype=np.uint8)
    return np.array(Image.fromarray(small).resize((size[1], size[0]), Image.Resampling.BICUBIC))


def bits(one: str, other: str) -> int:
    """Return in how many bits two hashes differ."""
    return (int(one, 16) ^ int(other, 16)).bit_count()


def saved(array: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    """Return a picture saved as JPEG and read again."""
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "JPEG", quality=quality)
    return np.array(Image.open(buffer))


def test_exact() -> None:
    """Equal pixels and size give an equal hash; one pixel or another shape another."""
    one = picture(0)
    changed = one.copy()
    changed[5, 7, 1] ^= 1

    assert pixel_hash(one) == pixel_hash(one.copy()) == pixel_hash(np.asfortranarray(one))
    assert len({pixel_hash(one), pixel_hash(changed), pixel_hash(one.reshape(131, 97, 3))}) == 3


def test_cosines_by_hand() -> None:
    """Rising waves across give ones in row 0 of 16 x 16 bits, falling waves downwards give zeros in column 0."""
    places = np.pi * (2 * np.arange(64) + 1) / 128
    wave = np.cos(places * np.array([[1], [3], [5], [7]])).sum(axis=0)
    grey = (128 + 12 * wave[None] - 12 * wave[:, None]).astype(np.uint8)
    hashed = picture_hash(np.repeat(grey[..., None], 3, axis=2))
    found = np.unpackbits(np.frombuffer(bytes.fromhex(hashed), np.uint8)).reshape(16, 16)

    assert found[0, [0, 1, 3, 5, 7]].tolist() == [0, 1, 1, 1, 1]
    assert found[[1, 3, 5, 7], 0].tolist() == [0, 0, 0, 0]


def test_copies_are_near_and_others_far() -> None:
    """Saved again, half as large, brighter or greyer is near; another picture, and its mirror image, is far."""
    one = picture(1)
    half = np.array(Image.fromarray(one).resize((65, 48), Image.Resampling.BICUBIC))
    brighter = np.minimum(one.astype(int) * 5 // 4, 255).astype(np.uint8)
    hashed = picture_hash(one)

    for copy in (saved(one, 40), half, brighter, np.repeat(one[..., 1:2], 3, axis=2)):
        assert bits(hashed, picture_hash(copy)) <= NEAR_BITS
    for other in (picture(2), one[:, ::-1].copy(), one[::-1].copy()):
        assert bits(hashed, picture_hash(other)) > NEAR_BITS


def test_flat_pictures_have_no_hash() -> None:
    """A picture without structure is like nothing, not like every other flat one."""
    flat = np.full((5, 7, 3), 200, np.uint8)

    assert picture_hash(flat) == ""
    assert near_pairs([picture_hash(flat)] * 3) == []
    assert near_pairs([]) == []


def test_pairs() -> None:
    """Pairs within come once, pairs across nearest first for each of the second; blocks of 1024 do not matter."""

    def code(*set_bits: int) -> str:
        return f"{sum(1 << bit for bit in set_bits):064x}"

    far = [code(*range(start, start + 128)) for start in (0, 64, 128)]
    near = code(*range(3, 128))  # 3 bits from the first

    assert near_pairs([*far, "", near]) == [(0, 4)]
    assert near_pairs(["", far[0], near], [near, "", far[2]]) == [(2, 0), (1, 0)]
    at, beyond = code(*range(NEAR_BITS)), code(*range(NEAR_BITS + 1))
    assert near_pairs([code()], [beyond, at]) == [(0, 1)]
    many = [np.random.default_rng(place).bytes(32).hex() for place in range(1500)]
    many[1400] = many[3]
    assert near_pairs(many) == [(3, 1400)]
    assert near_pairs(many[:5], many) == [*((place, place) for place in range(5)), (3, 1400)]


def by_definition(image: NDArray[np.uint8]) -> str:
    """Return the hash from the cosines of the transform's definition."""
    side, lowest = 64, 16
    cosines = np.cos(np.pi * (2 * np.arange(side) + 1) * np.arange(lowest)[:, None] / (2 * side))
    small = Image.fromarray(image).convert("L").resize((side, side), Image.Resampling.BOX)
    waves = (cosines @ np.asarray(small, dtype=np.float64) @ cosines.T).ravel()
    waves[0] = 0
    return np.packbits(waves > np.median(waves)).tobytes().hex()


def test_the_transform_by_its_definition() -> None:
    """The hashes of rendered scenes are those of the transform written out."""
    scenes = Scenes(n_train=31, n_val=1)
    for name in scenes.names("train"):
        image = scenes.image("train", name)
        assert picture_hash(image) == by_definition(image)


@pytest.mark.parametrize("name", ["camvid", "nyuv2"])
def test_the_transform_of_real_images(name: str) -> None:
    """The same for real images, so that cached hashes stay valid."""
    if not (SHARED / name).is_dir():
        pytest.skip(f"no real data at {SHARED / name}")
    for path in sorted((SHARED / name / "images" / "train").iterdir())[:40]:
        image = np.array(Image.open(path).convert("RGB"))
        assert picture_hash(image) == by_definition(image)


@pytest.mark.parametrize("name", ["camvid", "nyuv2"])
def test_real_splits_share_no_picture(name: str) -> None:
    """Pictures of CamVid's and NYU's train are none of val's, by far."""
    if not (SHARED / name).is_dir():
        pytest.skip(f"no real data at {SHARED / name}")
    hashes = [
        [
            picture_hash(np.array(Image.open(p).convert("RGB")))
            for p in sorted((SHARED / name / "images" / s).iterdir())[:40]
        ]
        for s in ("train", "val")
    ]

    assert near_pairs(*hashes) == []
    assert min(bits(one, other) for one in hashes[0] for other in hashes[1]) > 1.5 * NEAR_BITS
