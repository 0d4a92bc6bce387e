"""The short form of ``scripts/fuzz.py``: whatever stands in a file, it is read or refused in our words."""

from __future__ import annotations

import json
import random
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from semalign.config.options import Options
from semalign.config.reader import option_names
from tests.fuzz.driver import Fuzzer, mutate, plain_loop
from tests.fuzz.targets import TARGETS, is_accepted

FOUND = Path(__file__).with_name("found")


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Readers warn people; here nobody reads it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.mark.parametrize(
    ("name", "inputs"),
    [("options", 150), ("data", 400), ("results", 400), ("checkpoint", 60), ("known", 300), ("original", 150)],
)
def test_mutations(name: str, inputs: int) -> None:
    """Sound files, changed at random, are taken or refused; some of both."""
    count = plain_loop(name, inputs, seed=11)

    assert count.faults == {}
    assert count.inputs == inputs
    assert count.accepted > 0
    assert count.rejected > 0
    assert count.accepted + count.rejected == inputs


@pytest.mark.parametrize("file", sorted(FOUND.glob("*.bin")), ids=lambda path: path.name)
def test_what_was_found(file: Path, tmp_path: Path) -> None:
    """An input that once was a fault is none any more."""
    is_accepted(TARGETS[file.name.partition("-")[0]], file.read_bytes(), tmp_path)


def test_a_fault_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not ours is kept once, with the shortest input."""

    def fails(data: bytes, folder: Path) -> None:
        raise ZeroDivisionError

    monkeypatch.setitem(TARGETS, "results", fails)
    fuzzer = Fuzzer("results", tmp_path)
    for data in (b"abc", b"a", b"ab"):
        fuzzer(data)

    (fault,) = fuzzer.count.faults.values()
    assert fault.data == b"a"
    assert (fuzzer.count.inputs, fuzzer.count.accepted, fuzzer.count.rejected) == (3, 0, 0)


def test_mutations_are_drawn_by_the_seed() -> None:
    """The same seed gives the same inputs, and they differ from what they came of."""
    drawn = [mutate(b"name: a\n", random.Random(3), (b"x: ",), [b"other"]) for _ in range(2)]

    assert drawn[0] == drawn[1] != b"name: a\n"


PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9)
VALUES = st.recursive(
    PLAIN,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=9,
)
OPTIONS = st.dictionaries(st.sampled_from(sorted(option_names(Options))), VALUES, max_size=3)
ON_DISK = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


@ON_DISK
@given(value=OPTIONS | VALUES)
def test_any_value_of_an_option(tmp_path: Path, value: Any) -> None:
    """Every value of every option is taken or refused."""
    text = yaml.safe_dump(value, allow_unicode=True)
    is_accepted(TARGETS["options"], b"\x00" + text.encode(errors="surrogateescape"), tmp_path)


STUDY_KEYS = (
    "name",
    "question",
    "arms",
    "factors",
    "looks",
    "seeds",
    "margin",
    "alpha",
    "options",
    "contrasts",
    "tables",
)


@ON_DISK
@given(value=st.dictionaries(st.sampled_from(STUDY_KEYS), VALUES, max_size=3))
def test_any_value_in_a_study(tmp_path: Path, value: dict[str, Any]) -> None:
    """Every value of every part of a study file is taken or refused."""
    study = {"name": "a", "question": "b?", "arms": {"Baseline": {}, "A": {"train.lr": 0.1}}, **value}
    text = yaml.safe_dump(study, allow_unicode=True)
    is_accepted(TARGETS["options"], b"\x60" + text.encode(errors="surrogateescape"), tmp_path)


RESULT_KEYS = (
    "format",
    "arm",
    "seed",
    "status",
    "score",
    "curves",
    "facts",
    "timings",
    "miou",
    "iou",
    "failed",
    "counts",
)


@ON_DISK
@given(value=st.dictionaries(st.sampled_from(RESULT_KEYS), VALUES, max_size=4), kind=st.integers(0, 1))
def test_any_value_in_a_result(tmp_path: Path, value: dict[str, Any], kind: int) -> None:
    """Every value of every part of a result and a score.json is taken or refused."""
    is_accepted(TARGETS["results"], bytes([kind]) + json.dumps(value).encode(), tmp_path)


@ON_DISK
@given(rows=st.lists(st.lists(st.text(max_size=5) | st.sampled_from(["A", "0", "0.5", "x"]), max_size=8), max_size=5))
@pytest.mark.parametrize("kind", [2, 3])
def test_any_table(tmp_path: Path, rows: list[list[str]], kind: int) -> None:
    """Every table is taken or refused."""
    header = ["arm", "seed", "miou"] if kind == 2 else ["arm", "seed", "image", "class", "tp", "fp", "fn"]
    text = "\n".join(",".join(row) for row in [header, *rows])
    is_accepted(TARGETS["results"], bytes([kind]) + text.encode(errors="surrogatepass"), tmp_path)
