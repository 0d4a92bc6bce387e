"""The kinds of data, and the options whose defaults depend on them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal

from semalign.config.options import Options
from semalign.config.reader import merge, to_dict, validate
from semalign.presets import SCENES

__all__ = ["DEFAULTS_BY_KIND", "SCENES_OPTIONS", "Kind", "kind_of", "resolve_defaults"]

Kind = Literal["folder", "scenes"]

DEFAULTS_BY_KIND: Final[Mapping[Kind, Mapping[str, Any]]] = {
    "folder": {
        "data": {"size": [144, 192], "text": "classes"},
        "train": {"epochs": 45},
        "align": {"decoder": {"levels": [2, 3]}},
    },
    "scenes": {
        "data": {"size": list(SCENES.size), "text": "images"},
        "train": {"epochs": 24},
        # Their texts describe the small things in a small image, for which the two coarsest levels are too coarse.
        "align": {"decoder": {"levels": [0, 1, 2, 3]}},
    },
}
"""Values of the options that default to None, by the kind of data."""

SCENES_OPTIONS: Final = ("data.necessity", "data.n_train", "data.n_val", "data.size", "data.scenes_seed")
"""The options that select which scenes are drawn."""


def kind_of(data: str | Path | None) -> Kind:
    """Return the kind of the data that a user names: the built-in scenes, or a folder."""
    return "scenes" if str(data) == "scenes" else "folder"


def resolve_defaults(options: Options, kind: Kind) -> Options:
    """Fill the options that depend on the kind of data."""
    return validate(Options, merge(DEFAULTS_BY_KIND[kind], to_dict(options)), "the options")
