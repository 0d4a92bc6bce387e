"""Class names, their aliases, and the templates that make sentences of them.

Strings in, strings out: this module does not depend on encoders, vectors and torch.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from semalign.errors import TextError, nearest
from semalign.text.templates import TEMPLATES

__all__ = ["TEMPLATES", "aliases", "check_sentences", "class_sentences", "nearest_sentence", "resolve_templates"]


def check_sentences(sentences: Sequence[str], where: str) -> None:
    """Raise `TextError` unless ``sentences`` is a non-empty sequence of non-blank strings that UTF-8 can write.

    Args:
        sentences: what to check; one bare string is refused, because it would be read as its letters.
        where: what the sentences are, for the message, such as "class names".
    """
    if isinstance(sentences, str):
        raise TextError(f"{where}: got the single string {sentences!r}, expected a list of strings: [{sentences!r}]")
    if not sentences:
        raise TextError(f"{where}: got none, expected at least one string")
    for position, sentence in enumerate(sentences):
        if not sentence.strip():
            raise TextError(f"{where}: entry {position} is blank, expected a text: remove it or fill it in")
        try:
            sentence.encode()
        except UnicodeEncodeError as error:
            # JSON's escapes can spell half of a surrogate pair, which is not a character.
            raise TextError(
                f"{where}: entry {position}, {sentence!a}, holds half a surrogate pair, expected valid Unicode: "
                "write the character itself"
            ) from error


def nearest_sentence(sentence: str, known: Sequence[str]) -> str:
    """Return the known sentence most like ``sentence``, however unlike it is; ``known`` holds at least one.

    >>> nearest_sentence("sky", ["car", "sky-other"])
    'sky-other'
    """
    return difflib.get_close_matches(sentence, known, n=1, cutoff=0.0)[0]


def resolve_templates(templates: str | Sequence[str]) -> tuple[str, ...]:
    """Return the templates of a set's name, or the given ones.

    Raises:
        TextError: the name is unknown, there is no template, or one does not hold ``{}`` exactly once.

    >>> resolve_templates("photo")
    ('a photo of a {}.',)
    """
    if isinstance(templates, str):
        if templates not in TEMPLATES:
            raise TextError(f"the template set {templates!r} is unknown{nearest(templates, TEMPLATES)}")
        return TEMPLATES[templates]
    check_sentences(templates, "templates")
    for template in templates:
        if template.count("{}") != 1:
            raise TextError(
                f"the template {template!r} holds {{}} {template.count('{}')} times, expected once, "
                "where the class name goes"
            )
    return tuple(templates)


def aliases(class_name: str) -> list[str]:
    """Return the names in ``class_name``, which are separated by ``|``.

    Raises:
        TextError: a name is blank.

    >>> aliases("car|automobile")
    ['car', 'automobile']
    """
    names = [name.strip() for name in class_name.split("|")]
    if not all(names):
        raise TextError(f"the class name {class_name!r} holds a blank alias, expected names separated by single '|'")
    return names


def class_sentences(class_names: Sequence[str], templates: str | Sequence[str]) -> list[list[str]]:
    """Return, per class, one sentence for each of its aliases in each template (aliases vary slowest).

    Args:
        class_names: C names; aliases are separated by ``|``.
        templates: the name of a set in `TEMPLATES`, or templates that hold ``{}`` once.

    Raises:
        TextError: no or blank names, or templates that `resolve_templates` refuses.

    >>> class_sentences(["sky", "car|automobile"], "photo")
    [['a photo of a sky.'], ['a photo of a car.', 'a photo of a automobile.']]
    >>> class_sentences(["car|automobile"], ["{article} {}"])
    [['a car', 'an automobile']]
    """
    check_sentences(class_names, "class names")
    chosen = resolve_templates(templates)
    return [[_say(template, name) for name in aliases(names) for template in chosen] for names in class_names]


def _say(template: str, name: str) -> str:
    # `replace`, not `format`: a class name or template from a file must not be able to reach into objects.
    article = "an" if name[0] in "aeiou" else "a"
    return template.replace("{article}", article).replace("{}", name)
