"""Reads options from YAML files and ``a.b=c`` settings, and reports what is wrong with them in one sentence.

It does not depend on what an option does.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError

from semalign.config.options import Options
from semalign.errors import ConfigError, first_line

__all__ = [
    "flatten",
    "merge",
    "nested",
    "option_names",
    "read_options",
    "read_yaml",
    "settings",
    "to_dict",
    "validate",
]

Model = TypeVar("Model", bound=BaseModel)

# A config is a page of text; anything larger is not one.
_LARGEST_FILE = 1 << 20
_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
_LONGEST_NUMBER = 100


def option_names(model: type[BaseModel] = Options, prefix: str = "") -> dict[str, str]:
    """Return every option by dotted name with its description."""
    names: dict[str, str] = {}
    for name, field in model.model_fields.items():
        section = _section(model, name)
        if section is not None:
            names |= option_names(section, f"{prefix}{name}.")
        else:
            names[prefix + name] = " ".join((field.description or "").split())
    return names


def _section(model: type[BaseModel], name: str) -> type[BaseModel] | None:
    """Return the model of the options below ``name`` (or of each item of a list there), None for a plain option."""
    annotation = model.model_fields[name].annotation
    kinds = (annotation, *get_args(annotation))
    return next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None)


class _Loader(yaml.SafeLoader):
    """YAML in which every name is text and occurs once, and nothing is an alias."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Refuse aliases, with which a small file can blow up."""
        if self.check_event(yaml.AliasEvent):
            raise yaml.MarkedYAMLError(
                problem="aliases are not read, write the value out",
                problem_mark=self.peek_event().start_mark,  # type: ignore[no-untyped-call]
            )
        return super().compose_node(parent, index)

    def construct_scalar(self, node: yaml.ScalarNode | yaml.MappingNode) -> Any:
        """Refuse a number of more digits than any number needs: YAML's base 60 takes minutes for half a megabyte."""
        if node.tag in _NUMBERS and len(node.value) > _LONGEST_NUMBER:
            raise yaml.MarkedYAMLError(
                problem=f"a number has {len(node.value)} characters, expected at most {_LONGEST_NUMBER}",
                problem_mark=node.start_mark,
            )
        return super().construct_scalar(node)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """Refuse a key that occurs twice, of which YAML would keep the last, and one that is not text."""
        mapping: dict[Hashable, Any] = {}
        for key_node, value_node in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                problem = f"got {key!r} as a name, expected text: put it in quotes"
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=key_node.start_mark)
            if key in mapping:
                raise yaml.MarkedYAMLError(
                    problem=f"'{key}' is there twice, join the two", problem_mark=key_node.start_mark
                )
            mapping[key] = self.construct_object(value_node, deep=deep)
        return mapping


def _parse_yaml(text: str) -> Any:
    """Return the value of a YAML text; raises `yaml.YAMLError` alone."""
    loader = None
    try:
        loader = _Loader(text)
        return loader.get_single_data()
    except (ValueError, RecursionError) as error:
        # A date such as 2025-13-45, a nesting without end.
        raise yaml.MarkedYAMLError(problem=str(error).lower()) from error
    finally:
        if loader is not None:
            loader.dispose()


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping; an empty file is an empty mapping.

    Raises:
        ConfigError: the file is missing, too large, not a YAML mapping, or it has aliases, repeated names or names
            that are not text.
    """
    try:
        size = path.stat().st_size
        if size > _LARGEST_FILE:
            raise ConfigError(f"the config {path} has {size} bytes, expected at most {_LARGEST_FILE}: is it a config?")
        value = _parse_yaml(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"no config file at {path}, name an existing YAML file") from error
    except OSError as error:
        raise ConfigError(f"cannot read the config {path}: {error.strerror}, name a readable YAML file") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"the config {path} is not UTF-8 text, expected YAML: is it another kind of file?") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" at line {mark.line + 1}" if mark is not None else ""
        raise ConfigError(f"the config {path} is not YAML that can be read{line}: {_why(error)}") from error
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ConfigError(f"the config {path} holds a {type(value).__name__}, expected a mapping of option names")
    return value


def _why(error: yaml.YAMLError) -> str:
    return getattr(error, "problem", None) or first_line(error)


def _short(value: Any) -> str:
    text = json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= 80 else text[:77] + "..."


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
            value = _parse_yaml(text)
        except yaml.YAMLError as error:
            raise ConfigError(f"--set {name} got {_short(text)}, no value that can be read: {_why(error)}") from error
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
        for key in reversed(str(name).split(".")):
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
        return f"unknown option {name} in {where}{_meant(model, problem['loc'])}{more}"
    shown = _short(problem["input"])
    message = problem["msg"].removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    return f"option {name} in {where} got {shown}: {message}{more}" if name else f"{where}: {message}{more}"


def _meant(model: type[BaseModel], loc: Sequence[str | int]) -> str:
    """Return which option may be meant by the unknown one, or all options of its section."""
    # Places in a list are no names.
    *sections, name = (part for part in loc if isinstance(part, str))
    owner = model
    for section in sections:
        owner = _section(owner, section) or owner
    beside = list(owner.model_fields)
    # The last part alone is compared: a section's name in front would make any two of its options look alike.
    close = difflib.get_close_matches(name, beside, n=1)
    if close:
        return f", did you mean '{'.'.join((*sections, close[0]))}'?"
    places: dict[str, list[str]] = {}
    for full in option_names(model):
        places.setdefault(full.rpartition(".")[2], []).append(full)
    elsewhere = [last for last, full in places.items() if len(full) == 1]
    close = difflib.get_close_matches(name, elsewhere, n=1, cutoff=0.8)
    if close:
        return f", did you mean '{places[close[0]][0]}'?"
    return f", known{' in ' + '.'.join(sections) if sections else ''}: {', '.join(sorted(beside))}"


def read_options(
    path: Path | None = None, assignments: Iterable[str] = (), *, overrides: Mapping[str, Any] | None = None
) -> Options:
    """Read options: defaults, then the YAML file, then ``overrides`` (dotted or nested), then ``assignments``.

    Raises:
        ConfigError: the file cannot be read, or one of the three sets an unknown option, a wrong type or a value out
            of range.
    """
    value: dict[str, Any] = {}
    for where, part in (
        (str(path), {} if path is None else nested(read_yaml(path))),
        ("the options", nested(overrides or {})),
        ("--set", settings(assignments)),
    ):
        # Each by itself first, so that the message names the place of the fault.
        validate(Options, part, where)
        value = merge(value, part)
    return validate(Options, value, "the options")


def to_dict(options: BaseModel) -> dict[str, Any]:
    """Return options as plain values, those left to the preset left out."""
    result: dict[str, Any] = options.model_dump(mode="json", exclude_none=True)
    return result
