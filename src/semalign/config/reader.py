"""Reads options from YAML files and ``a.b=c`` settings, and says what is wrong with them in one sentence.

It knows nothing of what an option does.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError

from semalign.config.options import Options
from semalign.errors import ConfigError, nearest

__all__ = [
    "flatten",
    "merge",
    "option_names",
    "read_options",
    "read_yaml",
    "resolve_defaults",
    "settings",
    "to_dict",
    "validate",
]

Model = TypeVar("Model", bound=BaseModel)

# A config is a page of text; anything larger is not one, and YAML aliases can blow a small file up.
_LARGEST_FILE = 1 << 20

DEFAULTS_BY_KIND: dict[str, dict[str, Any]] = {
    "folder": {"data": {"size": [144, 192], "text": "classes"}, "train": {"epochs": 60}},
    "scenes": {"data": {"size": [48, 64], "text": "images"}, "train": {"epochs": 24}},
}
"""Values of the options that default to None, by the kind of data."""


def option_names(model: type[BaseModel] = Options, prefix: str = "") -> dict[str, str]:
    """Return every option by dotted name with its description."""
    names: dict[str, str] = {}
    for name, field in model.model_fields.items():
        nested = next((kind for kind in (field.annotation, *get_args(field.annotation)) if _is_model(kind)), None)
        if nested is not None:
            names |= option_names(nested, f"{prefix}{name}.")
        else:
            names[prefix + name] = " ".join((field.description or "").split())
    return names


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping; an empty file is an empty mapping.

    Raises:
        ConfigError: the file is missing, too large, no YAML or no mapping with text keys.
    """
    try:
        size = path.stat().st_size
        if size > _LARGEST_FILE:
            raise ConfigError(f"the config {path} has {size} bytes, expected at most {_LARGEST_FILE}: is it a config?")
        text = path.read_text(encoding="utf-8")
        if "&" in text and "*" in text and any(isinstance(t, yaml.AliasToken) for t in yaml.scan(text)):
            raise ConfigError(f"the config {path} uses YAML aliases, which are not read: write the values out")
        value = yaml.safe_load(text)
    except FileNotFoundError as error:
        raise ConfigError(f"no config file at {path}, name an existing YAML file") from error
    except OSError as error:
        raise ConfigError(f"cannot read the config {path}: {error.strerror}, name a readable YAML file") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"the config {path} is no UTF-8 text, expected YAML: is it another kind of file?") from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        if isinstance(error, ConfigError):
            raise
        where = getattr(error, "problem_mark", None)
        line = f" at line {where.line + 1}" if where is not None else ""
        problem = getattr(error, "problem", None) or type(error).__name__
        raise ConfigError(f"the config {path} is no valid YAML{line}: {problem}, mend that line") from error
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise ConfigError(f"the config {path} holds {type(value).__name__}, expected a mapping of option names")
    return value


def settings(assignments: Iterable[str]) -> dict[str, Any]:
    """Turn ``a.b=c`` assignments into a nested mapping; c is read as YAML.

    >>> settings(["train.epochs=3", "data.size=[48, 64]"])
    {'train': {'epochs': 3}, 'data': {'size': [48, 64]}}
    """
    result: dict[str, Any] = {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals or not name.strip():
            raise ConfigError(f"--set got '{assignment}', expected NAME=VALUE such as train.epochs=3")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ConfigError(f"--set {name} got '{text}', which is no YAML value: quote it") from error
        result = merge(result, nested({name.strip(): value}))
    return result


def nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Turn dotted names into a nested mapping; nested values are kept.

    >>> nested({"a.b": 1, "a": {"c": 2}})
    {'a': {'b': 1, 'c': 2}}
    """
    result: dict[str, Any] = {}
    for name, value in flat.items():
        part: dict[str, Any] = nested(value) if isinstance(value, Mapping) else value
        for key in reversed(name.split(".")):
            part = {key: part}
        result = merge(result, part)
    return result


def flatten(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Turn a nested mapping into dotted names."""
    flat: dict[str, Any] = {}
    for name, item in value.items():
        if isinstance(item, Mapping) and item:
            flat |= flatten(item, f"{prefix}{name}.")
        else:
            flat[prefix + name] = item
    return flat


def merge(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``first`` with the values of ``second`` laid over it, mapping by mapping."""
    result = dict(first)
    for name, value in second.items():
        old = result.get(name)
        result[name] = merge(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return result


def validate(model: type[Model], value: Mapping[str, Any], where: str) -> Model:
    """Return ``value`` as an instance of ``model``.

    Raises:
        ConfigError: an unknown option (the nearest known one is named), a wrong type, a value out of range.
    """
    try:
        # JSON mode is strict about types but takes a list for a tuple, as YAML needs.
        return model.model_validate_json(json.dumps(value))
    except ValidationError as error:
        first = error.errors()[0]
        raise ConfigError(_sentence(model, first, where, len(error.errors()))) from error
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigError(f"{where} holds a value that no option takes: {error}") from error


def _sentence(model: type[BaseModel], problem: Any, where: str, count: int) -> str:
    name = ".".join(str(part) for part in problem["loc"])
    more = f" (and {count - 1} more)" if count > 1 else ""
    if problem["type"] == "extra_forbidden":
        return f"unknown option {name} in {where}{nearest(name, option_names(model))}{more}"
    got = problem["input"]
    shown = json.dumps(got, default=str, ensure_ascii=False)
    if len(shown) > 80:
        shown = shown[:77] + "..."
    message = problem["msg"].removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    return f"option {name} in {where} got {shown}: {message}{more}" if name else f"{where}: {message}{more}"


def read_options(
    path: Path | None = None, assignments: Iterable[str] = (), *, overrides: Mapping[str, Any] | None = None
) -> Options:
    """Read options: defaults, then the YAML file, then ``overrides`` (dotted or nested), then ``assignments``."""
    value: dict[str, Any] = {}
    where = "the options"
    if path is not None:
        value = nested(read_yaml(path))
        where = str(path)
        validate(Options, value, where)
    if overrides:
        value = merge(value, nested(overrides))
    from_command = settings(assignments)
    if from_command:
        validate(Options, from_command, "--set")
        value = merge(value, from_command)
    return validate(Options, value, where)


def resolve_defaults(options: Options, kind: str) -> Options:
    """Fill the options that depend on the kind of data ("folder" or "scenes")."""
    given = options.model_dump(mode="json", exclude_none=True)
    return validate(Options, merge(DEFAULTS_BY_KIND[kind], given), "the options")


def to_dict(options: BaseModel) -> dict[str, Any]:
    """Return options as plain values, those left to the preset left out."""
    result: dict[str, Any] = options.model_dump(mode="json", exclude_none=True)
    return result
