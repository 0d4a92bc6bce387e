"""The options themselves: defaults, types, ranges."""

from __future__ import annotations

import dataclasses
import math
import typing
from typing import Any

import pydantic
import pytest

from semalign import presets
from semalign.align.knobs import KNOB_NAMES
from semalign.config import Options, flatten, option_names, to_dict, validate
from semalign.config.options import DecoderAlignOptions, EncoderAlignOptions, GateOptions, TemperatureOptions
from semalign.errors import ConfigError
from semalign.model.build import SIZES

SECTIONS = ("data", "text", "model", "align", "train")


def choices(annotation: Any) -> set[str]:
    """Return the strings that a Literal, perhaps with None, allows."""
    parts = typing.get_args(annotation) if typing.get_origin(annotation) is typing.Union else (annotation,)
    return {choice for part in parts if part is not type(None) for choice in typing.get_args(part)}


def test_defaults_by_hand() -> None:
    """The defaults that the contract and the measured recipes rest on."""
    options = Options()

    assert (options.model.size, options.model.preset, options.model.classifier) == ("nano", "recommended", "linear")
    assert options.align.encoder.stages == (1, 2, 3)
    assert options.align.decoder.feed_forward == "aligned"
    assert (options.train.seed, options.train.batch_size) == (0, 8)
    # These depend on the kind of data, see semalign.config.reader.
    assert (options.data.size, options.data.text, options.train.epochs) == (None, None, None)
    assert options.align.decoder.levels is None
    # No knob is set: all come from the preset.
    for side in (options.align.encoder, options.align.decoder):
        assert side.similarity is None
        assert to_dict(side.temperature) == to_dict(side.gate) == {}


def test_the_four_knobs_have_one_option_each() -> None:
    """The contract's four names, each settable on its own."""
    for side in ("encoder", "decoder"):
        for knob in ("temperature", "gate"):
            value = {"align": {side: {knob: {"learnable": True}}}}
            changed = flatten(to_dict(validate(Options, value, "the test")))
            default = flatten(to_dict(Options()))
            assert {name for name in changed if changed[name] != default.get(name)} == {
                f"align.{side}.{knob}.learnable"
            }


def test_every_option_is_described() -> None:
    """All options stand in one of five sections, and each has a sentence of its own on one line."""
    names = option_names()

    assert {name.split(".")[0] for name in names} == set(SECTIONS)
    assert [name for name, text in names.items() if not text] == []
    assert all(text == " ".join(text.split()) for text in names.values())


def test_knob_names_are_those_of_the_alignment() -> None:
    """Each knob of the alignment is an option of the same name; the residual's kind belongs to the preset alone."""

    def knobs(model: type[pydantic.BaseModel]) -> set[str]:
        return set(option_names(model)) - {"heads", "stages", "per", "levels", "feed_forward"}

    assert knobs(DecoderAlignOptions) == set(KNOB_NAMES) - {"residual"}
    assert knobs(EncoderAlignOptions) == set(KNOB_NAMES) - {"residual", "top_k"}
    for model, kind in ((TemperatureOptions, presets.TemperatureKnobs), (GateOptions, presets.GateKnobs)):
        assert set(model.model_fields) == {field.name for field in dataclasses.fields(kind)}


def test_choices_are_those_of_the_alignment_and_the_model() -> None:
    """A choice that one side knows is known to the other."""

    def field(model: type[pydantic.BaseModel], name: str) -> set[str]:
        return choices(model.model_fields[name].annotation)

    assert field(TemperatureOptions, "base") == set(typing.get_args(presets.Base))
    assert field(TemperatureOptions, "bound") == set(typing.get_args(presets.Bound))
    assert field(GateOptions, "activation") == set(typing.get_args(presets.Activation))
    assert field(EncoderAlignOptions, "similarity") == set(typing.get_args(presets.Similarity))
    model_options = Options.model_fields["model"].annotation
    assert isinstance(model_options, type)
    assert issubclass(model_options, pydantic.BaseModel)
    assert field(model_options, "preset") == set(presets.PRESETS)
    assert field(model_options, "size") == set(SIZES)


def test_options_do_not_change() -> None:
    """Options are frozen once read."""
    with pytest.raises(pydantic.ValidationError, match="frozen"):
        Options().train.seed = 1


def test_round_trip() -> None:
    """Options as plain values and back are the same options, to the type."""
    value = {
        "data": {"size": [48, 64], "zoom": [0.5, 2.0]},
        "align": {"encoder": {"stages": [], "temperature": {"bounds": [-1.0, 1.0], "per_head": True}}},
        "train": {"clip_norm": 1.0},
    }
    options = validate(Options, value, "the test")

    assert options.data.size == (48, 64)
    assert options.align.encoder.stages == ()
    assert validate(Options, to_dict(options), "the test") == options


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("data.size", [32, 4096]),
        ("data.zoom", [1.0, 1.0]),
        ("data.necessity", 0),
        ("data.color", 0),
        ("model.size", "base"),
        ("align.decoder.top_k", 1),
        ("align.encoder.stages", [0, 3]),
        ("align.encoder.temperature.init", -3),
        ("train.seed", 2**31 - 1),
        ("train.lr", 1e-12),
        ("train.warmup", 1.0),
        ("train.average", 0),
        ("train.val_every", 0),
        ("train.loss.stride", 4),
        ("train.clip_norm", None),
    ],
)
def test_at_the_edge_of_the_range(name: str, value: Any) -> None:
    """The last value inside is accepted; a whole number serves as a decimal one."""
    validate(Options, nested(name, value), "the test")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        (
            "data.size",
            [31, 64],
            r"option data\.size\.0 in the test got 31: input should be greater than or equal to 32",
        ),
        ("data.size", [48, 4097], r"option data\.size\.1 .* got 4097: .* less than or equal to 4096"),
        ("data.size", [48], r"option data\.size\.1 .* got \[48\]: field required"),
        ("data.size", [48, 64, 3], r"option data\.size .* got \[48, 64, 3\]: tuple should have at most 2 items"),
        ("data.size", "48x64", r'option data\.size .* got "48x64": input should be a valid'),
        ("data.size", [48.0, 64], r"option data\.size\.0 .* got 48\.0: input should be a valid integer"),
        ("data.zoom", [0, 1], r"option data\.zoom\.0 .* got 0: input should be greater than 0"),
        ("data.zoom", [2, 1], r"the lowest zoom 2\.0 is above the highest 1\.0, give \[low, high\]"),
        ("data.necessity", 1.5, r"option data\.necessity .* got 1\.5: .* less than or equal to 1"),
        ("data.depth", 1, r"option data\.depth .* got 1: input should be a valid boolean"),
        ("data.text", "caption", "got \"caption\": input should be 'none', 'classes', 'images', 'masks' or 'random'"),
        ("model.size", "huge", "got \"huge\": input should be 'nano', 'tiny', 'small' or 'base'"),
        ("align.encoder.stages", [4], r"option align\.encoder\.stages\.0 .* got 4: .* less than or equal to 3"),
        ("align.encoder.heads", 0, r"option align\.encoder\.heads .* got 0: .* greater than or equal to 1"),
        ("align.decoder.top_k", 0, "greater than or equal to 1"),
        ("align.encoder.temperature.init", math.inf, "got Infinity: input should be a finite number"),
        ("align.encoder.temperature.bound", "soft", "input should be 'project', 'clamp' or 'none'"),
        ("train.epochs", 0, r"option train\.epochs .* got 0: .* greater than or equal to 1"),
        ("train.epochs", "three", r'got "three": input should be a valid integer'),
        ("train.epochs", "1e3", r'got "1e3": input should be a valid integer'),
        ("train.epochs", True, "got true: input should be a valid integer"),
        ("train.seed", -1, "got -1: .* greater than or equal to 0"),
        ("train.seed", 2**31, "less than 2147483648"),
        ("train.lr", 0, "got 0: input should be greater than 0"),
        ("train.lr", math.nan, "got NaN: input should be a finite number"),
        ("train.lr", "fast", 'got "fast": input should be a valid number'),
        ("train.average", 1, "got 1: input should be less than 1"),
        ("train.warmup", -0.1, "greater than or equal to 0"),
        ("train.loss.label_smoothing", 1.0, "less than 1"),
        ("train.loss", 0.1, "got 0.1: input should be an object"),
        ("train", None, "option train in the test got null: input should be an object"),
    ],
)
def test_outside_of_the_range(name: str, value: Any, message: str) -> None:
    """A wrong type or a value out of range is refused by name, with what was got and what was expected."""
    with pytest.raises(ConfigError, match=message):
        validate(Options, nested(name, value), "the test")


@pytest.mark.parametrize(("text", "number"), [("1e-3", 1e-3), ("2E+1", 20.0), ("1.5e2", 150.0)])
def test_numbers_with_an_exponent(text: str, number: float) -> None:
    """YAML reads 1e-3 as text; where a decimal number is expected it is the number that everybody means."""
    assert validate(Options, {"train": {"lr": text}}, "the test").train.lr == number


def test_a_long_value_is_shortened_and_more_faults_are_counted() -> None:
    """A message stays one sentence whatever was given, and says that there is more to mend."""
    with pytest.raises(ConfigError) as caught:
        validate(Options, {"data": {"color": "x" * 5000}, "train": {"epochs": -1, "seed": -1}}, "the test")

    shown = '"' + "x" * 76 + "..."
    assert (
        str(caught.value) == f"option data.color in the test got {shown}: input should be a valid number (and 2 more)"
    )


def nested(name: str, value: Any) -> dict[str, Any]:
    """Return a mapping of mappings from a dotted name."""
    for part in reversed(name.split(".")):
        value = {part: value}
    result: dict[str, Any] = value
    return result
