"""Times of several functions in one run.  It does not depend on what they compute."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping

__all__ = ["clock_of", "ratio", "seconds", "take_turns"]


def clock_of(threads: int) -> Callable[[], float]:
    """Return the clock that what computes in so many threads is measured with.

    One thread's own time is disturbed less by what else the machine does; with more, the wall's is the only one.
    """
    return time.thread_time if threads == 1 else time.perf_counter


def take_turns(
    functions: Mapping[str, Callable[[], object]],
    *,
    rounds: int,
    warmup: int = 2,
    clock: Callable[[], float] | None = None,
) -> dict[str, list[float]]:
    """Call the functions in turn, round after round, and return each one's seconds by round.

    Turns rather than one function after another: a machine that slows down for a while then slows down all of them.
    ``clock`` gives seconds, by default those of the wall; `time.thread_time` leaves out what other processes take, and
    fits functions that compute in one thread.
    """
    clock = clock or time.perf_counter
    times: dict[str, list[float]] = {name: [] for name in functions}
    for index in range(warmup + rounds):
        for name, function in functions.items():
            start = clock()
            function()
            if index >= warmup:
                times[name].append(clock() - start)
    return times


def seconds(times: list[float]) -> float:
    """Return the median."""
    return statistics.median(times)


def ratio(slow: list[float], fast: list[float]) -> float:
    """Return the median over rounds of slow / fast, each pair being neighbours in time.

    >>> ratio([2.0, 6.0, 90.0], [1.0, 2.0, 3.0])
    3.0
    """
    return statistics.median(a / b for a, b in zip(slow, fast, strict=True))
