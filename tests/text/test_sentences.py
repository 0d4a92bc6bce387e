"""Class names, aliases and templates."""

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from semalign.config.options import TextOptions
from semalign.errors import TextError
from semalign.text.sentences import (
    TEMPLATES,
    aliases,
    check_sentences,
    class_sentences,
    nearest_sentence,
    resolve_templates,
)


def test_sentences_of_two_classes_are_those_written_by_hand() -> None:
    """Each alias goes into each template, aliases varying slowest; a class without aliases gives one per template."""
    sentences = class_sentences(["sky", "car | automobile"], ["a {}.", "many {}s", "{}"])

    assert sentences == [
        ["a sky.", "many skys", "sky"],
        ["a car.", "many cars", "car", "a automobile.", "many automobiles", "automobile"],
    ]


def test_template_sets_are_named() -> None:
    """The sets' names and the number of different templates in each, as published; options know the same names."""
    sizes = {"plain": 1, "photo": 1, "scene": 7, "segmentation": 14, "imagenet": 80, "vild": 63, "chinese": 8}
    assert {name: len(set(templates)) for name, templates in TEMPLATES.items()} == sizes
    for name in TEMPLATES:
        assert TextOptions(templates=name).templates == name  # type: ignore[arg-type]
    assert TEMPLATES["plain"] == ("{}",)
    assert TEMPLATES["photo"] == ("a photo of a {}.",)


def test_vild_speaks_as_its_code_does() -> None:
    """An article that fits the name, and "This is" before what begins with "a" or "the"."""
    (sentences,) = class_sentences(["oven"], "vild")

    assert sentences[:3] == [
        "There is an oven in the scene.",
        "There is the oven in the scene.",
        "This is a photo of an oven in the scene.",
    ]
    assert "itap of my oven." in sentences
    assert sentences[-1] == "This is a painting of a oven."


@pytest.mark.parametrize("name", sorted(TEMPLATES))
def test_each_built_in_template_takes_one_name(name: str) -> None:
    """Every template of a set passes the check that a user's template must pass."""
    assert resolve_templates(list(TEMPLATES[name])) == resolve_templates(name) == TEMPLATES[name]


def test_plain_sentences_are_the_class_names() -> None:
    """With "plain" a class without aliases is its own sentence, blanks and braces included."""
    assert class_sentences(["sign symbol", "{0.__class__}"], "plain") == [["sign symbol"], ["{0.__class__}"]]


def test_a_name_that_looks_like_a_template_is_left_alone() -> None:
    """Names are pasted, never formatted: other braces in a name or template reach the sentence as they are."""
    assert class_sentences(["a{}b"], "photo") == [["a photo of a a{}b."]]
    assert class_sentences(["car"], ["{0.__class__} {}"]) == [["{0.__class__} car"]]


@given(st.lists(st.from_regex(r"[a-z]{1,5}(\|[a-z]{1,5}){0,3}", fullmatch=True), min_size=1, max_size=5))
def test_sentence_count_is_aliases_times_templates(names: list[str]) -> None:
    """Each class has as many sentences as aliases times templates."""
    sentences = class_sentences(names, "scene")

    assert [len(of_class) for of_class in sentences] == [7 * (1 + name.count("|")) for name in names]


@pytest.mark.parametrize("name", ["car|", "|car", "car||auto", "car| |auto"])
def test_a_blank_alias_is_refused(name: str) -> None:
    """A doubled or dangling bar is a typing error and is named."""
    with pytest.raises(TextError, match=r"holds a blank alias, expected names separated by single '\|'"):
        aliases(name)


def test_an_unknown_template_set_names_the_nearest() -> None:
    """A mistyped set is answered with the nearest one, a strange one with all of them."""
    with pytest.raises(TextError, match=r"template set 'phto' is unknown, did you mean 'photo'\?"):
        resolve_templates("phto")
    with pytest.raises(
        TextError, match=r"template set 'xyz' is unknown, known: chinese, imagenet, photo, plain, scene, segm"
    ):
        resolve_templates("xyz")


@pytest.mark.parametrize(("template", "count"), [("a thing", 0), ("{} and {}", 2), ("{name}", 0)])
def test_a_template_takes_exactly_one_name(template: str, count: int) -> None:
    """A template without a place, or with two, is refused with the number found."""
    with pytest.raises(TextError, match=rf"holds \{{\}} {count} times, expected once"):
        class_sentences(["car"], [template])


def test_sentences_that_cannot_be_encoded_are_refused() -> None:
    """Nothing, blanks, a bare string and half a surrogate pair are refused, each with its place."""
    with pytest.raises(TextError, match="captions: got none, expected at least one"):
        check_sentences([], "captions")
    with pytest.raises(TextError, match="captions: entry 1 is blank"):
        check_sentences(["a", " \t"], "captions")
    with pytest.raises(
        TextError, match=r"captions: got the single string 'car', expected a list of strings: \['car'\]"
    ):
        check_sentences("car", "captions")
    with pytest.raises(TextError, match=r"captions: entry 2, 'c\\ud800', holds half a surrogate pair"):
        check_sentences(["a", "b", "c\ud800"], "captions")


def test_nearest_sentence_always_answers() -> None:
    """However unlike, one known sentence is returned."""
    assert nearest_sentence("sky", ["car", "sky-other"]) == "sky-other"
    assert nearest_sentence("zzz", ["car"]) == "car"


def test_sentences_do_not_import_torch() -> None:
    """Reading templates must be possible on a machine without torch."""
    code = "import sys, semalign.text.sentences; sys.exit('torch' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
