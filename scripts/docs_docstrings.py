"""Has the site show the examples of docstrings as code: an extension of griffe (see mkdocs.yml).

Examples stand in our docstrings as doctest reads them, without a heading, where Markdown would take >>> for quotations.
"""

from __future__ import annotations

import re
from typing import Any

import griffe

EXAMPLE = re.compile(r"^(>>> .*(?:\n(?!\s*\n).+)*)", re.MULTILINE)


class Doctests(griffe.Extension):
    """Fences what doctest would run."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Rewrite one docstring."""
        if obj.docstring is not None:
            obj.docstring.value = EXAMPLE.sub(r"```pycon\n\1\n```", obj.docstring.value)
