from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from semalign.judge import format_interval, format_level, format_p, format_points


@pytest.mark.parametrize(
    ("p", "shown"),
    [
        (0.0, "p < 0.001"),
        (0.00099, "p < 0.001"),
        # from here on three decimals
        (0.001, "p = 0.001"),
        (0.0496, "p = 0.050"),
        (0.999, "p = 0.999"),
        # and never 1
        (0.9991, "p > 0.999"),
        (1.0, "p > 0.999"),
    ],
)
def test_p(p: float, shown: str) -> None:
    """A p value is never printed as 0 or 1."""
    assert format_p(p) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.0, "0.00"), (0.4249, "+0.42"), (-1.005, "-1.00"), (0.004, "+0.004"), (-0.0004, "-0.0004"), (12.345, "+12.35")],
)
def test_points(value: float, shown: str) -> None:
    """Points have a sign and two decimals; what is not 0 does not print as 0."""
    assert format_points(value) == shown


@given(st.floats(-100, 100))
def test_points_keep_their_sign(value: float) -> None:
    """What is printed is 0 exactly when the value is, and has its sign."""
    shown = float(format_points(value))

    assert (shown > 0, shown < 0) == (value > 0, value < 0)


def test_intervals_and_levels() -> None:
    """Intervals stand in brackets, levels are percent."""
    assert format_interval(-0.12, 0.803) == "[-0.12, +0.80]"
    assert format_interval(48.5, 53.4, signed=False) == "[48.50, 53.40]"
    assert format_level(0.9875) == "98.75 %"
