"""Options and the reading of them; no tensors, no data."""

from semalign.config.options import Options
from semalign.config.reader import (
    flatten,
    merge,
    option_names,
    read_options,
    read_yaml,
    resolve_defaults,
    to_dict,
    validate,
)

__all__ = [
    "Options",
    "flatten",
    "merge",
    "option_names",
    "read_options",
    "read_yaml",
    "resolve_defaults",
    "to_dict",
    "validate",
]
