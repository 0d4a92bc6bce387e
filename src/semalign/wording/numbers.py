"""Numbers as a reader sees them, never stronger than they are.

This module knows nothing of where the numbers come from.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Final

__all__ = [
    "STYLES",
    "format_amount",
    "format_factor",
    "format_interval",
    "format_level",
    "format_p",
    "format_points",
    "format_share",
]


def format_p(p: float) -> str:
    """Return ``p`` with three decimals, never as 0 or 1.

    >>> format_p(0.04321), format_p(2e-16), format_p(0.99999)
    ('p = 0.043', 'p < 0.001', 'p > 0.999')
    """
    if p < 0.001:
        return "p < 0.001"
    if p > 0.999:
        return "p > 0.999"
    return f"p = {p:.3f}"


def format_points(value: float, *, signed: bool = True, decimals: int = 2) -> str:
    """Return a score or an effect with ``decimals`` digits after the point; what is not 0 never prints as 0.

    >>> format_points(0.4249), format_points(-0.0004), format_points(0.0), format_points(54.126, signed=False)
    ('+0.42', '-0.0004', '0.00', '54.13')
    """
    if value == 0:
        return f"{0:.{decimals}f}"
    sign = "+" if signed else ""
    shown = f"{value:{sign}.{decimals}f}"
    return f"{value:{sign}.1g}" if float(shown) == 0 else shown


def format_interval(low: float, high: float, *, signed: bool = True, decimals: int = 2) -> str:
    """Return ``[low, high]``, each end as `format_points` returns it.

    >>> format_interval(-0.12, 0.803)
    '[-0.12, +0.80]'
    """
    ends = (format_points(end, signed=signed, decimals=decimals) for end in (low, high))
    return f"[{', '.join(ends)}]"


def format_level(level: float) -> str:
    """Return a coverage as percent.

    >>> format_level(0.95), format_level(0.9875)
    ('95 %', '98.75 %')
    """
    return f"{100 * level:.4g} %"


def format_amount(value: float) -> str:
    """Return a count with three significant digits.

    >>> format_amount(28932), format_amount(303.4), format_amount(1_524_000)
    ('28,900', '303', '1,520,000')
    """
    return f"{float(f'{value:.3g}'):,.0f}"


def format_factor(mean: float, low: float, high: float) -> str:
    """Return a change of a natural logarithm, and its interval, as factors.

    >>> format_factor(-1.0, -1.2, -0.8), format_factor(0.0004, 0.0001, 0.0007)
    ('x 0.368 [0.301, 0.449]', 'x 1.0004 [1.0001, 1.0007]')
    """
    values = [math.exp(value) for value in (mean, low, high)]
    # More digits near 1, where three would show an interval as a point.
    digits = next((n for n in range(3, 9) if len({f"{value:.{n}g}" for value in values}) == 3), 3)
    shown = [f"{value:.{digits}g}" for value in values]
    return f"x {shown[0]} [{shown[1]}, {shown[2]}]"


def format_share(part: float) -> str:
    """Return a part of a whole as percent: 100 only where it is all, and what is not 0 never prints as 0.

    >>> format_share(0.6757), format_share(0.99999), format_share(1.0), format_share(0.000085)
    ('67.6 %', '99.9 %', '100 %', '0.0085 %')
    """
    if part < 0.01:
        return f"{100 * part:.2g} %"
    return f"{100 * part if part == 1 else min(100 * part, 99.9):.3g} %"


STYLES: Final[Mapping[str, Callable[[Any], str]]] = {
    "p": format_p,
    "points": format_points,
    "unsigned": lambda value: format_points(value, signed=False),
    "interval": lambda ends: format_interval(*ends),
    "level": format_level,
    "amount": format_amount,
    "factor": lambda change: format_factor(*change),
    "share": format_share,
}
"""How a number can be written in a sentence, by the name that a placeholder gives: ``{p:p}``, ``{mean:points}``."""
