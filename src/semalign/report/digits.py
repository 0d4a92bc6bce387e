"""Numbers of a report as text."""

from __future__ import annotations

import dataclasses

from semalign.report.arms import Mean
from semalign.wording import Catalogue

__all__ = ["Digits", "chance_text", "count_text", "hours_text", "seconds_text"]


@dataclasses.dataclass(frozen=True)
class Digits:
    """How mIoU points are shown in one report: with one decimal, because the noise of seeds is about a point.

    A figure gets more where it would otherwise show as 0, or an interval's end as the margin, without being it, so that
    what is shown agrees with the verdict.

    Attributes:
        margin: points; all figures get the decimals that it needs itself.
    """

    margin: float

    @property
    def decimals(self) -> int:
        """Fewest decimals, at least one and at most three, that show the margin as it is."""
        return next((decimals for decimals in (1, 2) if round(self.margin, decimals) == self.margin), 3)

    def points(self, value: float, *, signed: bool = True) -> str:
        """Return mIoU points; what is not 0 never shows as 0.

        >>> Digits(1.0).points(-0.31), Digits(1.0).points(0.04), Digits(1.0).points(41.16, signed=False)
        ('-0.3', '+0.04', '41.2')
        """
        return self._shown(value, "+" if signed else "", (0.0,))

    def interval(self, low: float, high: float) -> str:
        """Return ``[low, high]`` of an interval held against the margin; what is not the margin never shows as it.

        >>> Digits(1.0).interval(-1.04, 1.0), Digits(0.25).interval(-0.2, 0.2)
        ('[-1.04, +1.0]', '[-0.20, +0.20]')
        """
        ends = (self._shown(end, "+", (0.0, self.margin, -self.margin)) for end in (low, high))
        return f"[{', '.join(ends)}]"

    def _shown(self, value: float, sign: str, marks: tuple[float, ...]) -> str:
        if value == 0:
            return f"{0:.{self.decimals}f}"
        for decimals in range(self.decimals, 9):
            shown = f"{value:{sign}.{decimals}f}"
            if not any(float(shown) == mark != value for mark in marks):
                return shown
        return f"{value:{sign}.1g}"

    def mean(self, mean: Mean | None, none: str) -> str:
        """Return ``41.2 ± 0.9``, the mean alone where there is no interval, ``none`` where there is no mean."""
        if mean is None:
            return none
        shown = self.points(mean.mean, signed=False)
        return shown if mean.half is None else f"{shown} ± {self.points(mean.half, signed=False)}"

    def effect(self, mean: float | None, low: float | None, high: float | None, none: str) -> str:
        """Return ``-0.3 [-1.9, +1.2]``, an interval that is held against 0; without it where there is none."""
        if mean is None:
            return none
        if low is None or high is None:
            return self.points(mean)
        return f"{self.points(mean)} [{self.points(low)}, {self.points(high)}]"


def seconds_text(seconds: float | None, words: Catalogue) -> str:
    """Return seconds, with minutes from two on."""
    if seconds is None:
        return words("report.not recorded")
    shown = f"{seconds:.3g}" if seconds < 100 else f"{seconds:.0f}"
    if seconds < 120:
        return words("report.seconds unit", n=shown)
    return words("report.minutes unit", n=shown, minutes=f"{seconds / 60:.1f}")


def hours_text(hours: float) -> str:
    """Return hours with about two digits.

    >>> hours_text(0.0123), hours_text(3.26), hours_text(1234.5)
    ('0.012', '3.3', '1,234')
    """
    return f"{hours:.2g}" if hours < 1 else f"{hours:.1f}" if hours < 10 else f"{hours:,.0f}"


def count_text(value: int) -> str:
    """Return a whole number in groups of three.

    >>> count_text(927531)
    '927,531'
    """
    return f"{value:,}"


def chance_text(chance: float) -> str:
    """Return a chance as percent, never as 0 or 100 unless it is.

    >>> chance_text(0.123), chance_text(0.001), chance_text(0.9999)
    ('12 %', '< 1 %', '> 99 %')
    """
    if 0 < chance < 0.01:
        return "< 1 %"
    if 0.99 < chance < 1:
        return "> 99 %"
    return f"{100 * chance:.0f} %"
