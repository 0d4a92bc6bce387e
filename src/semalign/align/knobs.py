"""From a preset and changes to the checked settings of one alignment site.

It does not depend on torch, modules or files.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Final, cast, get_args

from semalign.errors import ConfigError, nearest
from semalign.presets import (
    DEFAULT_BASE,
    INIT_ONCE_LEARNABLE,
    PRESETS,
    Activation,
    AlignmentKnobs,
    Base,
    Bound,
    GateKnobs,
    PresetName,
    Residual,
    Side,
    Similarity,
    TemperatureKnobs,
)

__all__ = ["KNOB_NAMES", "resolve_knobs"]

_GROUPS: Final = {"temperature": TemperatureKnobs, "gate": GateKnobs}
_CHOICES: Final[Mapping[str, tuple[str, ...]]] = {
    "similarity": get_args(Similarity),
    "residual": get_args(Residual),
    "temperature.base": get_args(Base),
    "temperature.bound": get_args(Bound),
    "gate.activation": get_args(Activation),
}
_FLAGS: Final = ("temperature.learnable", "temperature.per_head", "gate.learnable", "gate.per_channel")
_OPEN_RANGES: Final[Mapping[str, tuple[float, float]]] = {
    "none": (-math.inf, math.inf),
    "tanh": (-1.0, 1.0),
    "sigmoid": (0.0, 1.0),
}

KNOB_NAMES: Final[tuple[str, ...]] = (
    "similarity",
    "residual",
    "top_k",
    *(f"{group}.{field.name}" for group, kind in _GROUPS.items() for field in dataclasses.fields(kind)),
)


def resolve_knobs(preset: str, side: Side, **knobs: object) -> AlignmentKnobs:
    """Return the settings of ``preset`` for ``side`` with ``knobs`` changed, all checked.

    A knob is given nested (``temperature={"learnable": True}``), dotted (``**{"temperature.learnable": True}``) or with
    an underscore (``temperature_learnable=True``); `KNOB_NAMES` lists them.  What follows from a change:

    * another ``similarity`` without ``temperature.base`` takes that similarity's default base (`DEFAULT_BASE`);
    * ``temperature.bound="none"`` drops the bounds;
    * a temperature made learnable starts at the value of the preset's recipe, unless ``temperature.init`` is given;
    * a temperature or gate made fixed stays at its ``init``, the preset's or the given one.

    Args:
        preset: a name in `PRESETS`.
        side: ``"encoder"`` or ``"decoder"``.
        **knobs: the changes.

    Raises:
        ConfigError: a preset, side or knob is unknown, or a value has the wrong type or is out of range.

    >>> resolve_knobs("recommended", "decoder", gate_init=0.2).gate
    GateKnobs(init=0.2, learnable=True, activation='none', per_channel=False)
    """
    if preset not in PRESETS:
        raise ConfigError(f"model.preset={preset!r} is unknown{nearest(str(preset), PRESETS)}")
    if side not in get_args(Side):
        raise ConfigError(f"alignment side {side!r} is unknown{nearest(str(side), get_args(Side))}")
    changes = _flatten(side, knobs)
    checked = {name: _checked(side, name, value) for name, value in changes.items()}
    start = PRESETS[cast("PresetName", preset)][side]
    values: dict[str, Any] = {name: _lookup(start, name) for name in KNOB_NAMES}
    if checked.get("similarity", start.similarity) != start.similarity:
        values["temperature.base"] = DEFAULT_BASE[checked["similarity"]]
    if checked.get("temperature.learnable", False) and not start.temperature.learnable:
        values["temperature.init"] = INIT_ONCE_LEARNABLE.get((preset, side), start.temperature.init)
    values |= checked
    if values["temperature.bound"] == "none":
        if checked.get("temperature.bounds") is not None:
            raise ConfigError(
                f"align.{side}.temperature.bounds={checked['temperature.bounds']} contradicts temperature.bound='none',"
                " drop the bounds or choose bound 'project' or 'clamp'"
            )
        values["temperature.bounds"] = None
    _check_together(side, values, init_given="temperature.init" in checked)
    return AlignmentKnobs(
        similarity=values["similarity"],
        temperature=TemperatureKnobs(**_group(values, "temperature")),
        gate=GateKnobs(**_group(values, "gate")),
        residual=values["residual"],
        top_k=values["top_k"],
    )


def _flatten(side: str, knobs: Mapping[str, object]) -> dict[str, object]:
    """Bring nested, dotted and underscored names to the dotted form, refusing unknown and repeated ones."""
    underscored = {name.replace(".", "_"): name for name in KNOB_NAMES}
    flat: dict[str, object] = {}
    for key, value in knobs.items():
        if key in _GROUPS:
            if not isinstance(value, Mapping):
                raise ConfigError(
                    f"align.{side}.{key}={value!r} is a {type(value).__name__}, expected a mapping of "
                    f"{', '.join(field.name for field in dataclasses.fields(_GROUPS[key]))}"
                )
            entries = [(f"{key}.{inner}", entry) for inner, entry in value.items()]
        else:
            entries = [(underscored.get(key, key), value)]
        for name, entry in entries:
            if name not in KNOB_NAMES:
                raise ConfigError(f"align.{side}.{name} is unknown{nearest(name, KNOB_NAMES)}")
            if name in flat:
                raise ConfigError(f"align.{side}.{name} is given twice, expected once")
            flat[name] = entry
    return flat


def _checked(side: str, name: str, value: object) -> Any:
    """Return ``value`` in the knob's type, or raise for a wrong type or a value outside the knob's own range."""
    where = f"align.{side}.{name}={value!r}"
    if name in _CHOICES:
        if not isinstance(value, str) or value not in _CHOICES[name]:
            raise ConfigError(f"{where} is unknown{nearest(str(value), _CHOICES[name])}")
        if name == "residual" and side == "encoder" and value != "plain":
            raise ConfigError(f"{where} is for the decoder, expected 'plain': the encoder has no norm and no FFN")
        return value
    if name in _FLAGS:
        if not isinstance(value, bool):
            raise ConfigError(f"{where} is a {type(value).__name__}, expected true or false")
        return value
    if name == "top_k":
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ConfigError(
                f"{where} is not a number of tokens, expected an integer of at least 1, or none for all tokens"
            )
        return value
    if name == "temperature.bounds":
        if value is None:
            return None
        if not isinstance(value, list | tuple) or len(value) != 2:
            raise ConfigError(f"{where} are not bounds, expected [lowest, highest] in the log domain")
        low, high = (_number(where, bound) for bound in value)
        if not low < high:
            raise ConfigError(f"{where} are not bounds, expected the first below the second")
        return (low, high)
    return _number(where, value)


def _number(where: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ConfigError(f"{where} is a {type(value).__name__}, expected a number")
    if not math.isfinite(value):
        raise ConfigError(f"{where} is not finite, expected a finite number")
    return float(value)


def _check_together(side: str, values: Mapping[str, Any], *, init_given: bool) -> None:
    """Raise for values that are each fine and contradict each other."""
    bound, bounds = values["temperature.bound"], values["temperature.bounds"]
    init, learnable = values["temperature.init"], values["temperature.learnable"]
    where = f"align.{side}.temperature"
    if bound != "none" and bounds is None:
        raise ConfigError(f"{where}.bounds is missing, expected [lowest, highest] because bound is '{bound}'")
    if bounds is not None and not bounds[0] <= init <= bounds[1]:
        span = f"[{bounds[0]:.4g}, {bounds[1]:.4g}]"
        if bound == "project" and learnable:
            raise ConfigError(
                f"{where}.init={init:.4g} lies outside the bounds {span} that each step projects it into, expected a "
                "value inside: change init or bounds"
            )
        if bound == "clamp" and not learnable and init_given:
            raise ConfigError(
                f"{where}.init={init:.4g} is fixed outside the clamp {span}, which would silently replace it, expected"
                " a value inside, wider bounds or bound 'none'"
            )
    gate, activation = values["gate.init"], values["gate.activation"]
    low, high = _OPEN_RANGES[activation]
    if not low < gate < high:
        raise ConfigError(
            f"align.{side}.gate.init={gate:.4g} is outside the open range ({low:g}, {high:g}) of activation "
            f"'{activation}', expected a value inside or another activation"
        )


def _lookup(knobs: AlignmentKnobs, name: str) -> object:
    group, _, field = name.rpartition(".")
    return getattr(getattr(knobs, group) if group else knobs, field)


def _group(values: Mapping[str, Any], group: str) -> dict[str, Any]:
    prefix = f"{group}."
    return cast(
        "dict[str, Any]",
        {name.removeprefix(prefix): value for name, value in values.items() if name.startswith(prefix)},
    )
