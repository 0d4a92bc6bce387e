"""Text-guided semantic segmentation, and the laboratory that decides how its vision-text alignment should be built.

Importing this package does not import torch; its parts are loaded when they are first used.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "DecoderAlignment": "semalign.model.alignment",
    "EncoderAlignment": "semalign.model.alignment",
    "SemalignError": "semalign.errors",
    "SemanticAlignmentModule": "semalign.model.dropin",
    "add_text_guidance": "semalign.model.text_guidance",
    "build": "semalign.api",
    "evaluate": "semalign.api",
    "export": "semalign.api",
    "from_pretrained": "semalign.share.hub",
    "import_data": "semalign.data.sets",
    "import_original": "semalign.share.original",
    "load": "semalign.api",
    "load_original": "semalign.share.original",
    "open_data": "semalign.data.open",
    "original_encoder": "semalign.share.original_encoder",
    "predict": "semalign.api",
    "remove_text_guidance": "semalign.model.text_guidance",
    "save_pretrained": "semalign.share.hub",
}

# Functions that share their name with the package they live in; the package itself can be called (`semalign.rooms`).
_ROOMS = ("audit", "judge", "train")

__all__ = [
    "DecoderAlignment",
    "EncoderAlignment",
    "SemalignError",
    "SemanticAlignmentModule",
    "__version__",
    "add_text_guidance",
    "audit",
    "build",
    "evaluate",
    "export",
    "from_pretrained",
    "import_data",
    "import_original",
    "judge",
    "load",
    "load_original",
    "open_data",
    "original_encoder",
    "predict",
    "remove_text_guidance",
    "save_pretrained",
    "train",
]


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return importlib.import_module(f"semalign.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'semalign' has no attribute '{name}'")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
