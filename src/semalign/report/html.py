"""The page as one HTML file that needs nothing else: no network, no script, figures and styles inside.

All escaping happens in the template.  This module does not depend on studies.
"""

from __future__ import annotations

import functools

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from semalign.palette import DARK, LIGHT
from semalign.report.figures.draw import draw
from semalign.report.figures.shapes import Drawing
from semalign.report.page import Page
from semalign.wording import Catalogue

__all__ = ["render"]


@functools.cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("semalign.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def render(page: Page, words: Catalogue) -> str:
    """Return the report's HTML."""

    def figure(drawing: Drawing) -> Markup:
        return Markup(draw(drawing))

    template = _environment().get_template("report.html.jinja")
    return template.render(page=page, words=words, draw=figure, light=LIGHT, dark=DARK)
