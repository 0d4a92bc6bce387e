"""Options and the reading of them; no tensors, no data."""

from semalign.config.kinds import kind_of, resolve_defaults
from semalign.config.options import Options
from semalign.config.reader import (
    flatten,
    merge,
    option_names,
    read_options,
    read_yaml,
    to_dict,
    validate,
)

__all__ = [
    "Options",
    "flatten",
    "kind_of",
    "merge",
    "option_names",
    "read_options",
    "read_yaml",
    "resolve_defaults",
    "to_dict",
    "validate",
]
