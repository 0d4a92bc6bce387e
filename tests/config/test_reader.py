"""Options from files and settings."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from semalign.config import (
    Options,
    flatten,
    merge,
    option_names,
    read_options,
    read_yaml,
    resolve_defaults,
    to_dict,
)
from semalign.config.kinds import DEFAULTS_BY_KIND, Kind
from semalign.config.reader import nested, settings
from semalign.errors import ConfigError

Mapping = st.recursive(
    st.dictionaries(st.sampled_from("abcd"), st.integers(0, 5), max_size=3),
    lambda inner: st.dictionaries(st.sampled_from("abcd"), st.one_of(st.integers(0, 5), inner), max_size=3),
    max_leaves=8,
)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Return the path of a config, to be written."""
    return tmp_path / "config.yaml"


# ---- Files ----


def test_a_file_by_hand(config: Path) -> None:
    """Sections and dotted names may be mixed, comments are comments."""
    config.write_text("train: {epochs: 3}  # few\ntrain.seed: 7\nalign.encoder:\n  gate.learnable: false\n")

    options = read_options(config)

    assert (options.train.epochs, options.train.seed) == (3, 7)
    assert options.align.encoder.gate.learnable is False
    assert options.train.batch_size == 8


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n"])
def test_an_empty_file_is_all_defaults(config: Path, text: str) -> None:
    """A file without options changes nothing."""
    config.write_text(text)

    assert read_options(config) == Options()


def test_what_is_written_is_what_is_read(config: Path) -> None:
    """All options as YAML and back are the same options."""
    options = resolve_defaults(read_options(None, ["text.encoder='1e-3'", "train.lr=1e-7"]), "folder")
    config.write_text(yaml.safe_dump(to_dict(options), sort_keys=False, allow_unicode=True))

    assert read_options(config) == options


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"- 1\n- 2\n", "holds a list, expected a mapping of option names"),
        (b"hello\n", "holds a str, expected a mapping"),
        (b"train: [1, 2\n", r"is not YAML that can be read at line 2: .*"),
        (b"a: 1\n b: 2\n", r"is not YAML that can be read at line 2: .*"),
        (b"train: &x {epochs: 3}\ndata: *x\n", "at line 2: aliases are not read, write the value out"),
        (b"train: {epochs: 3}\ndata: {}\ntrain: {seed: 1}\n", "at line 3: 'train' is there twice, join the two"),
        (b"train:\n  lr: 1\n  lr: 2\n", "at line 3: 'lr' is there twice"),
        (b"train: {1: 2}\n", "at line 1: got 1 as a name, expected text: put it in quotes"),
        (b"no: {}\n", "at line 1: got False as a name"),
        (b"? [a, b]\n: 1\n", r"got \['a', 'b'\] as a name"),
        (b"text: {encoder: !!python/object/apply:os.system [ls]}\n", "at line 1: could not determine a constructor"),
        (b"text: {encoder: 2025-13-45}\n", "month must be in 1..12"),
        (b"text: {encoder: 2025-12-31}\n", "holds a value that no option takes: .*date"),
        (b"a: " + b"[" * 5000, "recursion"),
        (b"a: \x00\n", "special characters are not allowed"),
        (b"\xff\xfe\x00", "is not UTF-8 text, expected YAML: is it another kind of file"),
        (b"#" * (1 << 20) + b"\n", "has 1048577 bytes, expected at most 1048576: is it a config"),
    ],
    ids=lambda value: "" if isinstance(value, str) else repr(value[:24]),
)
def test_no_config(config: Path, content: bytes, message: str) -> None:
    """What cannot be read as options is named, with its line where there is one."""
    config.write_bytes(content)

    with pytest.raises(ConfigError, match=rf"config\.yaml .*{message}"):
        read_options(config)


def test_no_file(tmp_path: Path) -> None:
    """A missing file and a folder are named."""
    with pytest.raises(ConfigError, match=r"no config file at .*none\.yaml, name an existing YAML file"):
        read_yaml(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match=r"cannot read the config .*: Is a directory"):
        read_yaml(tmp_path)


# ---- Settings ----


def test_settings_by_hand() -> None:
    """Values are YAML: numbers, lists, text, nothing; a later setting lies over an earlier one."""
    value = settings(
        ["train.epochs=3", "data.size=[48, 64]", "train.clip_norm=null", "train.epochs=4", "text.encoder=a=b"]
    )

    assert value == {
        "train": {"epochs": 4, "clip_norm": None},
        "data": {"size": [48, 64]},
        "text": {"encoder": "a=b"},
    }
    assert read_options(None, ["align={encoder: {gate.learnable: false}}"]).align.encoder.gate.learnable is False


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("train.epochs", "--set got 'train.epochs', expected NAME=VALUE such as train.epochs=3"),
        ("=3", "--set got '=3', expected NAME=VALUE"),
        ("train.epochs=[1", '--set train.epochs got "\\[1", no value that can be read'),
        ("train.epochs=*x", "aliases are not read"),
        ("text.encoder=2025-13-45", "month must be in 1..12"),
        ("data=" + "[" * 5000, "no value that can be read: .*recursion"),
        ("train.seed=", "option train.seed in --set got null: input should be a valid integer"),
        ("train.epochs=3.0", "option train.epochs in --set got 3.0: input should be a valid integer"),
        ("train=3", "option train in --set got 3: input should be an object"),
    ],
    ids=lambda value: value[:20],
)
def test_bad_settings(setting: str, message: str) -> None:
    """What is no setting is quoted, with the form that is expected."""
    with pytest.raises(ConfigError, match=message):
        read_options(None, [setting])


# ---- Unknown options ----


@pytest.mark.parametrize(
    ("setting", "ending"),
    [
        # Nothing like it anywhere: what stands beside it.
        ("foo=1", "unknown option foo in --set, known: align, data, model, text, train"),
        (
            "align.foo=1",
            "unknown option align.foo in --set, known in align: allow_dead, decoder, encoder, form, values_from",
        ),
        (
            "align.encoder.gate.foo=1",
            "unknown option align.encoder.gate.foo in --set, known in align.encoder.gate: "
            "activation, init, learnable, per_channel",
        ),
        # Something like it beside it.
        ("trian.epochs=1", "unknown option trian in --set, did you mean 'train'?"),
        ("train.epoch=1", "unknown option train.epoch in --set, did you mean 'train.epochs'?"),
        (
            "align.decoder.gate.learnabel=true",
            "unknown option align.decoder.gate.learnabel in --set, did you mean 'align.decoder.gate.learnable'?",
        ),
        # The right name in the wrong section.
        ("epochs=3", "unknown option epochs in --set, did you mean 'train.epochs'?"),
        ("align.preset=seed", "unknown option align.preset in --set, did you mean 'model.preset'?"),
        # A name that several sections have is not guessed.
        ("learnable=true", "unknown option learnable in --set, known: align, data, model, text, train"),
    ],
)
def test_unknown_options(setting: str, ending: str) -> None:
    """The nearest known option is named; where none is near, those beside it and no others are."""
    with pytest.raises(ConfigError) as caught:
        read_options(None, [setting])

    assert str(caught.value) == ending


def test_an_unknown_option_lists_its_section_whole() -> None:
    """`train.zzz` lists every option of train, and nothing else."""
    with pytest.raises(ConfigError) as caught:
        read_options(None, ["train.zzz=1"])

    listed = str(caught.value).removeprefix("unknown option train.zzz in --set, known in train: ").split(", ")
    assert listed == sorted({name.split(".")[1] for name in option_names() if name.startswith("train.")})


def test_several_unknown_options() -> None:
    """The first is named, the others are counted."""
    with pytest.raises(ConfigError, match=r"unknown option data\.sise .* 'data\.size'\? \(and 2 more\)"):
        read_options(None, ["data.sise=1", "model.foo=1", "x=1"])


# ---- Order and places ----


def test_settings_lie_over_overrides_over_the_file(config: Path) -> None:
    """Later sources win option by option; the rest stays."""
    config.write_text("train: {epochs: 1, seed: 1, batch_size: 1}\n")

    options = read_options(config, ["train.epochs=3"], overrides={"train.epochs": 2, "train": {"seed": 2}})

    assert (options.train.epochs, options.train.seed, options.train.batch_size) == (3, 2, 1)


@pytest.mark.parametrize(
    ("text", "overrides", "assignments", "where"),
    [
        ("train: {epoch: 1}", {}, [], r".*config\.yaml"),
        ("train: {epochs: 1}", {"train.epoch": 1}, [], "the options"),
        ("train: {epochs: 1}", {"train.epochs": 1}, ["train.epoch=1"], "--set"),
    ],
)
def test_the_message_names_the_source(
    config: Path, text: str, overrides: dict[str, Any], assignments: list[str], where: str
) -> None:
    """A fault is looked for where it stands: in the file, the call or the command."""
    config.write_text(text)

    with pytest.raises(ConfigError, match=rf"unknown option train\.epoch in {where}, did you mean"):
        read_options(config, assignments, overrides=overrides)


def test_overrides_that_are_no_plain_values() -> None:
    """What JSON cannot hold is no option's value."""
    with pytest.raises(ConfigError, match=r"the options holds a value that no option takes: .*Path"):
        read_options(overrides={"text.encoder": Path("x")})
    with pytest.raises(ConfigError, match="unknown option 1 in the options"):
        read_options(overrides={1: 2})  # type: ignore[dict-item]


@pytest.mark.parametrize(("kind", "size", "text"), [("folder", (144, 192), "classes"), ("scenes", (48, 64), "images")])
def test_defaults_by_kind(kind: Kind, size: tuple[int, int], text: str) -> None:
    """What is left open is filled in by the kind of data; what is given stays; the descriptions say the same."""
    options = resolve_defaults(Options(), kind)

    assert (options.data.size, options.data.text) == (size, text)
    given = read_options(None, ["data.size=[32, 48]", "data.text=none", "train.epochs=2", "align.decoder.levels=[1]"])
    assert resolve_defaults(given, kind) == given
    assert set(flatten(DEFAULTS_BY_KIND[kind])) == {
        "data.size",
        "data.text",
        "train.epochs",
        "align.decoder.levels",
    }
    levels = options.align.decoder.levels
    assert levels is not None
    for name, value in (
        ("data.size", list(size)),
        ("train.epochs", options.train.epochs),
        ("align.decoder.levels", list(levels)),
    ):
        assert re.search(rf"{re.escape(str(value))} for (a )?{kind}", option_names()[name])


# ---- Mappings ----


def test_mappings_by_hand() -> None:
    """Dotted names unfold, mappings merge name by name, and a value lies over a mapping."""
    assert nested({"a.b": 1, "a": {"c.d": 2}}) == {"a": {"b": 1, "c": {"d": 2}}}
    assert flatten({"a": {"b": 1, "c": {"d": 2}}, "e": {}}) == {"a.b": 1, "a.c.d": 2, "e": {}}
    assert merge({"a": {"b": 1, "c": 2}, "d": 3}, {"a": {"c": 4}, "d": {"e": 5}}) == {
        "a": {"b": 1, "c": 4},
        "d": {"e": 5},
    }


@given(Mapping, Mapping)
def test_laws_of_mappings(first: dict[str, Any], second: dict[str, Any]) -> None:
    """Unfolding undoes folding; merging nothing changes nothing, twice is once, and the second wins; inputs stay."""
    before = repr((first, second))

    both = merge(first, second)

    assert nested(flatten(first)) == first
    assert merge(first, {}) == merge({}, first) == merge(first, first) == first
    assert merge(both, second) == both
    kept = {name: value for name, value in flatten(second).items() if value != {}}
    assert kept.items() <= flatten(both).items()
    assert repr((first, second)) == before
