"""The page as one HTML file that needs nothing else: no network, no script, figures and styles inside.

All escaping happens in the template.  This module knows nothing of studies.
"""

from __future__ import annotations

import functools

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from semalign.report.figures import draw_effects, draw_panel
from semalign.report.page import EffectsFigure, Page, Titled
from semalign.report.words import Words

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


def render(page: Page, words: Words) -> str:
    """Return the report's HTML."""

    def effects(figure: EffectsFigure) -> Markup:
        return Markup(
            draw_effects(
                figure.key, figure.description, figure.marks, figure.margin, figure.x_label, figure.margin_label
            )
        )

    def panel(titled: Titled) -> Markup:
        return Markup(draw_panel(titled.panel))

    template = _environment().get_template("report.html.jinja")
    return template.render(page=page, words=words, draw_effects=effects, draw_panel=panel)
