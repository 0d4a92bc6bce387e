"""Times of several functions, with a clock of the test's own."""

from types import SimpleNamespace

import pytest

from semalign.bench import timing
from semalign.bench.timing import ratio, seconds, take_turns


def test_functions_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every round calls each function once, in order; the first rounds are not counted."""
    now = [0.0]
    calls: list[str] = []

    def work(name: str, duration: float) -> None:
        calls.append(name)
        now[0] += duration

    monkeypatch.setattr(timing, "time", SimpleNamespace(perf_counter=lambda: now[0]))

    times = take_turns({"a": lambda: work("a", 1.0), "b": lambda: work("b", 2.0)}, rounds=3, warmup=2)

    assert calls == ["a", "b"] * 5
    assert times == {"a": [1.0] * 3, "b": [2.0] * 3}


def test_medians() -> None:
    """Times are medians, and a ratio is the median of neighbours' ratios."""
    assert seconds([3.0, 1.0, 50.0]) == 3.0
    assert ratio([2.0, 8.0, 30.0], [1.0, 2.0, 10.0]) == 3.0
