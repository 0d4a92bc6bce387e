"""Texts made from masks are told from texts that somebody wrote or a tagger guessed."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from semalign.data.leaking import FEWEST_IMAGES, Agreement, NameFinder, text_agreement

NAMES = [f"thing{letter}" for letter in "abcdefghijk"]


def texts_of(named: NDArray[np.bool_]) -> list[list[str]]:
    """Return one sentence per image that names its classes."""
    return [["a photo of " + " and ".join(NAMES[c] for c in np.flatnonzero(row))] for row in named]


def random_present(n_images: int, share: float = 0.4) -> NDArray[np.bool_]:
    """Return images x 11 classes, each present at random; every image has one at least."""
    present = np.random.default_rng(0).random((n_images, len(NAMES))) < share
    present[~present.any(axis=1), 0] = True
    return present


def test_by_hand() -> None:
    """Three images, two classes: 3 of 4 mentions are right, 3 of 5 classes named; shuffled, the pairs are counted."""
    present = np.array([[1, 1], [0, 1], [1, 1]], dtype=bool)
    agreement = text_agreement([["thinga"], ["thingb", "thinga"], ["thingb"]], present, NAMES[:2])

    # Named: a in images 0 and 1, b in 1 and 2; present: a in 0 and 2, b in all.
    # Pairs of an image's names and another's mask: a 2*2 - 1, b 2*3 - 2, over two other images each.
    assert agreement == Agreement(3, 4, 5, 3, 3.5)
    assert (agreement.precision, agreement.recall) == (0.75, 0.6)
    assert agreement.f1 == pytest.approx(6 / 9)
    assert agreement.shuffled_f1 == pytest.approx(7 / 9)
    assert agreement.above_chance == pytest.approx((6 / 9 - 7 / 9) / (1 - 7 / 9))
    assert agreement.leaks is None


def test_the_shuffled_baseline_is_the_mean_over_shuffles() -> None:
    """The closed form is the mean over all ways to hand every image another one's texts."""
    present, named = random_present(7), random_present(7, 0.6)[::-1]
    expected = np.mean([(named & np.roll(present, shift, axis=0)).sum() for shift in range(1, 7)])

    assert text_agreement(texts_of(named), present, NAMES).shuffled_hits == pytest.approx(expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Two cars, and a TRAFFIC  light.", {0, 1}),
        ("traffic-light and traffic_lights", {1}),
        ("a lamp (light)", {2}),
        ("a carpet near the lights", {2}),
        ("buses pass three houses in the cities", {3, 4, 5}),
        ("路上有行人和汽车", {6}),
        ("a person; people walk", {7}),
        ("light rain, light bulb, light bulbs", {2, 8}),
        ("nothing of that", set()),
    ],
)
def test_names_in_texts(text: str, expected: set[int]) -> None:
    """The longest name counts; case, number, joints and aliases do not matter; within another word is no mention."""
    names = ["car", "traffic_light", "light", "bus", "house", "city", "行人", "person|people", "light bulb"]

    assert NameFinder(names)(text) == expected


@pytest.mark.parametrize(
    ("wrong", "missing", "leaks"),
    [
        (0.0, 0.0, True),  # made from the mask
        (0.03, 0.03, True),  # made from it, with errors strewn in
        (0.0, 0.5, True),  # made from it and thinned out: not one mention is wrong
        (0.3, 0.0, True),  # made from it and padded: not one class is missing
        (0.15, 0.15, False),  # a very good tagger
        (0.02, 0.6, False),  # a careful person who names little, and errs at times
        (0.4, 0.4, False),
    ],
)
def test_what_leaks(wrong: float, missing: float, leaks: bool) -> None:
    """Texts that agree as only the mask itself can are leaking; those of taggers and people are not."""
    rng = np.random.default_rng(1)
    present = random_present(211)
    drawn = rng.random(present.shape)
    named = np.where(present, drawn >= missing, drawn < wrong)

    assert text_agreement(texts_of(named), present, NAMES).leaks is leaks


def test_what_is_the_same_everywhere_says_nothing() -> None:
    """Where all images show the same classes, or all texts are one, perfect agreement is no leak."""
    same = np.tile(random_present(1), (31, 1))
    assert text_agreement(texts_of(same), same, NAMES).leaks is False
    assert text_agreement(texts_of(np.ones((31, 11), dtype=bool)), random_present(31), NAMES).leaks is False


def test_few_images_and_images_without() -> None:
    """Images without text or label do not count, and too few that do give no answer."""
    present = random_present(FEWEST_IMAGES + 2)
    present[0] = False
    texts = texts_of(present)
    texts[1] = []
    agreement = text_agreement(texts, present, NAMES)

    assert (agreement.images, agreement.leaks) == (FEWEST_IMAGES, True)
    texts[2] = []
    assert text_agreement(texts, present, NAMES).leaks is None
    nothing = text_agreement([], np.zeros((0, 11), dtype=bool), NAMES)
    assert (nothing.images, nothing.f1, nothing.precision, nothing.recall, nothing.leaks) == (0, 0.0, 0.0, 0.0, None)


def test_the_sentence_never_overstates() -> None:
    """100 % stands only where it is 100 %; JSON holds the same numbers."""
    assert "99.9 % of the classes that the texts name" in str(Agreement(9, 10_000, 10_000, 9_999, 0).sentence())
    assert "100 % of the mask's" in str(Agreement(9, 10, 10, 10, 0).sentence())
    assert Agreement(9, 10, 10, 10, 5).to_dict() == {
        "images": 9, "mentions": 10, "present": 10, "precision": 1.0, "recall": 1.0, "f1": 1.0, "shuffled_f1": 0.5,
        "above_chance": 1.0, "leaks": True,
    }  # fmt: skip
