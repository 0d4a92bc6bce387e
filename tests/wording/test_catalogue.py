from __future__ import annotations

import string
from collections.abc import Mapping

import pytest

import semalign.wording as wording
from semalign.errors import ConfigError
from semalign.wording import Catalogue, Language, Message, check_language, read_note, say, sentences, subjects


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a small catalogue in the place of the real one."""
    english: dict[str, str | Mapping[str, str]] = {
        "plain": "the road",
        "held": "{what} at {share:.1f} %, {p:p}, {ends:interval}",
        "count": {"one": "{n} block", "other": "{n} blocks"},
        "whole": "after {blocks}: {items}",
    }
    chinese: dict[str, str | Mapping[str, str]] = {
        "plain": "道路",
        "held": "{what} 为 {share:.1f} %，{p:p}，{ends:interval}",
        "count": {"other": "{n} 个区组"},
        "whole": "{blocks}之后：{items}",
    }
    found: dict[Language, dict[str, str | Mapping[str, str]]] = {"en": english, "zh": chinese}
    monkeypatch.setattr(wording, "sentences", lambda lang, subject: {"made": found[lang]}[subject])


@pytest.mark.usefixtures("made")
def test_a_message_in_both_languages() -> None:
    """Values, numbers in a style, plurals, lists and messages inside of messages follow the language."""
    held = say("made.held", what=say("made.plain"), share=12.345, p=0.0001, ends=(-0.12, 0.803))
    one, many = (say("made.whole", blocks=say("made.count", n=n), items=("a", say("made.plain"))) for n in (1, 7))

    assert str(held) == "the road at 12.3 %, p < 0.001, [-0.12, +0.80]"
    assert Catalogue("zh").text(held) == "道路 为 12.3 %，p < 0.001，[-0.12, +0.80]"
    assert str(one) == "after 1 block: a, the road"
    assert str(many) == "after 7 blocks: a, the road"
    assert Catalogue("zh").text(one) == "1 个区组之后：a、道路"
    assert Catalogue("en").run_on("One.", "", held) == "One. the road at 12.3 %, p < 0.001, [-0.12, +0.80]"
    assert Catalogue("zh").run_on("一。", "二。") == "一。二。"


@pytest.mark.usefixtures("made")
def test_a_message_survives_a_file() -> None:
    """Plain values and back give an equal message; the English text goes along for readers of the file."""
    message = say("made.whole", blocks=say("made.count", n=3), items=("a", "b"))
    value = message.to_dict()

    assert value["text"] == "after 3 blocks: a, b"
    assert Message.from_dict(value) == message
    with pytest.raises(KeyError, match=r"no sentence 'made\.gone'"):
        Message.from_dict({"key": "made.gone", "values": {}})
    with pytest.raises(TypeError, match="expected a message's key and values"):
        Message.from_dict({"key": 3, "values": {}})


@pytest.mark.usefixtures("made")
def test_what_a_sentence_lacks() -> None:
    """A missing key, subject or value is an error, never an empty text."""
    with pytest.raises(KeyError, match=r"no sentence 'made\.gone'"):
        Catalogue("en")("made.gone")
    with pytest.raises(KeyError, match="share"):
        Catalogue("en")("made.held", what="x")
    with pytest.raises(KeyError, match="n"):
        Catalogue("en")("made.count")


def test_an_unknown_language() -> None:
    """It is named with the known ones."""
    assert check_language("zh") == "zh"
    with pytest.raises(ConfigError, match="--lang got 'fr', expected one of en, zh"):
        check_language("fr")


def fields(text: str) -> set[str]:
    """Return the names of the placeholders of a sentence."""
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


def test_both_languages_say_the_same() -> None:
    """Same subjects, same keys, same placeholders in each sentence; plural forms agree among themselves."""
    assert subjects("en") == subjects("zh")
    for subject in subjects("en"):
        english, chinese = sentences("en", subject), sentences("zh", subject)
        assert english.keys() == chinese.keys(), subject
        for key, entry in english.items():
            other = chinese[key]
            forms = list(entry.values()) if isinstance(entry, Mapping) else [entry]
            translated = list(other.values()) if isinstance(other, Mapping) else [other]
            assert all(form.strip() for form in (*forms, *translated)), (subject, key)
            needed = set().union(*map(fields, forms))
            assert set().union(*map(fields, translated)) == needed, (subject, key)
            if isinstance(entry, Mapping):
                assert set(entry) <= {"one", "other"}, (subject, key)
                assert "other" in entry, (subject, key)


@pytest.mark.usefixtures("made")
def test_notes_of_a_file() -> None:
    """A message comes back as itself, a text as a text; a message that cannot be read is its English text."""
    message = say("made.count", n=2)

    assert read_note(message.to_dict()) == message
    assert read_note("as it is") == "as it is"
    assert read_note({"key": "made.gone", "values": {}, "text": "of then"}) == "of then"
    assert read_note({"key": "made.held", "values": {}}) == "made.held"
