"""Every sentence that a person reads in a verdict, claim, finding, note, report or on the console.

Code that reports something returns a `Message`: a key and the values that belong to it.  Only the
outermost layer (report, command line, the writer of a JSON file) turns it into words, with a `Catalogue` of one
language.  The sentences are in ``en/SUBJECT.yaml`` and ``zh/SUBJECT.yaml``, with the same keys in both; the part of a
key before the first dot is the SUBJECT.  Nothing parses rendered text.

In a sentence ``{name}`` is replaced by a value and ``{name:STYLE}`` by a number in one of `STYLES` or in a format of
Python (``{mean:.2f}``); ``{name:;}`` is a list with semicolons.  A sentence whose form depends on a number is a
mapping of plural categories (``one``, ``other``), chosen by the value ``n``.

This module does not import torch and does not depend on studies or on files other than its own.
"""

from __future__ import annotations

import dataclasses
import functools
import string
from collections.abc import Iterable, Mapping
from importlib import resources
from typing import Any, Final, Literal, TypeAlias, get_args

import yaml

from semalign.errors import ConfigError
from semalign.wording.numbers import STYLES

__all__ = [
    "LANGUAGES",
    "Catalogue",
    "Language",
    "Message",
    "Text",
    "Translated",
    "check_language",
    "read_note",
    "say",
    "sentences",
    "subjects",
]

Language: TypeAlias = Literal["en", "zh"]
LANGUAGES: Final[tuple[Language, ...]] = get_args(Language)

_LIST_SEPARATOR: Final[Mapping[Language, str]] = {"en": ", ", "zh": "、"}
_SEMICOLON: Final[Mapping[Language, str]] = {"en": "; ", "zh": "；"}
_SENTENCE_SEPARATOR: Final[Mapping[Language, str]] = {"en": " ", "zh": ""}


@dataclasses.dataclass(frozen=True)
class Message:
    """A sentence by its key, and the values that belong to it.

    Attributes:
        key: SUBJECT.NAME, a key of the catalogues.
        values: by placeholder a text, a number, another message, or a tuple of these (a list in the sentence).
    """

    key: str
    values: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __str__(self) -> str:
        """Return the sentence in English."""
        return Catalogue("en").text(self)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that JSON can hold: key, values, and the English text for readers of the file."""
        return {
            "key": self.key,
            "values": {name: _plain(value) for name, value in self.values.items()},
            "text": str(self),
        }

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Message:
        """Return the message that `to_dict` wrote; its text is not read.

        Raises:
            KeyError: there is no such sentence.
            TypeError: ``value`` is not shaped as a message.
        """
        key, values = value["key"], value["values"]
        if not isinstance(key, str) or not isinstance(values, Mapping):
            raise TypeError(
                f"expected a message's key and values, got {type(key).__name__} and {type(values).__name__}"
            )
        _sentence("en", key)
        return cls(key, {name: _read(item) for name, item in values.items()})


@dataclasses.dataclass(frozen=True)
class Translated:
    """A text that its writer gave in every language, such as a question of a built-in study.

    Attributes:
        en: the text in English, which `str` returns.
        zh: the text in Chinese.
    """

    en: str
    zh: str

    def __str__(self) -> str:
        return self.en


Text: TypeAlias = str | Message | Translated
"""What a user wrote, as it is, or a sentence in every language."""


def read_note(value: Any) -> str | Message:
    """Return a note as a file holds it: the message that `Message.to_dict` wrote, else a plain text.

    For a damaged message, or one of another version, its English text is returned.
    """
    if not (isinstance(value, Mapping) and "key" in value):
        return str(value)
    try:
        message = Message.from_dict(value)
        str(message)
    except (KeyError, TypeError, ValueError):
        return str(value.get("text", value["key"]))
    return message


def say(key: str, /, **values: Any) -> Message:
    """Return the message ``key`` with its values."""
    return Message(key, values)


class Catalogue:
    """The sentences of one language: ``catalogue("verdict.better", mean=0.5)``.

    Args:
        lang: the language.
        **common: values that every sentence may use, such as the name of a study's metric.
    """

    def __init__(self, lang: Language, **common: Any) -> None:
        self.lang: Final = lang
        self.common: Final = common

    def __call__(self, key: str, /, **values: Any) -> str:
        """Return the sentence with its values filled in.

        Raises:
            KeyError: there is no such sentence, or a value that it needs is missing.
        """
        entry = _sentence(self.lang, key)
        if isinstance(entry, Mapping):
            entry = entry[_plural(self.lang, entry, values["n"])]
        return _Formatter(self).vformat(entry, (), self.common | values)

    def text(self, value: Any) -> str:
        """Return a message, a translated text, a list of values or a plain value in this language."""
        if isinstance(value, Message):
            return self(value.key, **value.values)
        if isinstance(value, Translated):
            return value.zh if self.lang == "zh" else value.en
        if isinstance(value, tuple | list):
            return self.join(value)
        return str(value)

    def join(self, items: Iterable[Any], *, semicolons: bool = False) -> str:
        """Return the items as a list in a sentence, with commas or with semicolons."""
        separator = _SEMICOLON if semicolons else _LIST_SEPARATOR
        return separator[self.lang].join(self.text(item) for item in items)

    def run_on(self, *sentences: Any) -> str:
        """Return sentences one after the other; empty ones are left out."""
        return _SENTENCE_SEPARATOR[self.lang].join(said for item in sentences if (said := self.text(item)))


def check_language(lang: str) -> Language:
    """Return ``lang``; raise `ConfigError` where there are no sentences in it."""
    for known in LANGUAGES:
        if lang == known:
            return known
    raise ConfigError(f"--lang got {lang!r}, expected one of {', '.join(LANGUAGES)}")


@functools.cache
def sentences(lang: Language, subject: str) -> Mapping[str, str | Mapping[str, str]]:
    """Return the sentences of one subject by the rest of their keys, as the catalogue has them.

    Raises:
        KeyError: there is no such subject.
    """
    file = resources.files("semalign.wording") / lang / f"{subject}.yaml"
    if not file.is_file():
        raise KeyError(subject)
    # The loader in C reads the same values and is ten times as fast; some builds of PyYAML lack it.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    found: dict[str, Any] = loader(file.read_text(encoding="utf-8")).get_single_data()
    return found


def subjects(lang: Language) -> tuple[str, ...]:
    """Return the subjects of one language in alphabetic order."""
    folder = resources.files("semalign.wording") / lang
    return tuple(sorted(file.name.removesuffix(".yaml") for file in folder.iterdir() if file.name.endswith(".yaml")))


def _sentence(lang: Language, key: str) -> str | Mapping[str, str]:
    subject, _, name = key.partition(".")
    try:
        return sentences(lang, subject)[name]
    except KeyError:
        raise KeyError(f"the catalogue '{lang}' has no sentence {key!r}") from None


def _plural(lang: Language, entry: Mapping[str, str], n: float) -> str:
    # The plural categories of the Unicode CLDR: English has two, Chinese has one.
    return "one" if lang == "en" and n == 1 and "one" in entry else "other"


class _Formatter(string.Formatter):
    """Fills a sentence: messages and lists in its language, numbers in the named styles."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue

    def format_field(self, value: Any, format_spec: str) -> str:
        if format_spec == ";":
            return self._catalogue.join(value, semicolons=True)
        if format_spec in STYLES:
            return STYLES[format_spec](value)
        if format_spec:
            return format(value, format_spec)
        return self._catalogue.text(value)


def _plain(value: Any) -> Any:
    if isinstance(value, Message):
        return {"key": value.key, "values": {name: _plain(item) for name, item in value.values.items()}}
    if isinstance(value, Translated):
        return dataclasses.asdict(value)
    return [_plain(item) for item in value] if isinstance(value, tuple | list) else value


def _read(value: Any) -> Any:
    if isinstance(value, Mapping):
        return Message.from_dict(value) if "key" in value else Translated(**value)
    return tuple(_read(item) for item in value) if isinstance(value, list) else value
