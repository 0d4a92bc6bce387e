"""What a score measures: name, unit, direction, range, and how its numbers are shown.

Every figure of a judgement is in the metric's unit: the score as it is stored, times `Metric.scale`.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Final

from semalign.errors import StudyError
from semalign.wording import Message, say
from semalign.wording.numbers import format_interval, format_points

__all__ = ["MIOU", "Metric"]


@dataclasses.dataclass(frozen=True)
class Metric:
    """A quantity by which arms are compared.

    Attributes:
        name: as it is written in a sentence, such as "mIoU".
        unit: of the numbers that are shown, such as points; empty where there is none.
        higher_is_better: whether an increase is an improvement.
        lowest: lower end of the range of a stored score; None where there is none, or it is unknown.
        highest: upper end of the range.
        scale: factor from stored to displayed scores; 100 turns a fraction into points.
        decimals: of the numbers that are shown.
    """

    name: str
    unit: str | Message = ""
    higher_is_better: bool = True
    lowest: float | None = None
    highest: float | None = None
    scale: float = 1.0
    decimals: int = 2

    @property
    def bounds(self) -> tuple[float, float]:
        """Lowest and highest value in the metric's unit, infinite where there is none."""
        low = -math.inf if self.lowest is None else self.scale * self.lowest
        return low, math.inf if self.highest is None else self.scale * self.highest

    @property
    def valid_range(self) -> str:
        """The values that a stored score can have, for an error message."""
        if self.lowest is None:
            return "a number" if self.highest is None else f"a number of at most {self.highest:g}"
        if self.highest is None:
            return f"a number of at least {self.lowest:g}"
        return f"a number in [{self.lowest:g}, {self.highest:g}]"

    def is_in_range(self, score: float) -> bool:
        """Return whether a stored score lies in the range."""
        return (self.lowest is None or self.lowest <= score) and (self.highest is None or score <= self.highest)

    @property
    def quantity(self) -> str | Message:
        """Name and unit after a number: "mIoU points"."""
        return say("judge.quantity", metric=self.name, unit=self.unit) if self.unit else self.name

    def amount(self, value: float, *, signed: bool = True) -> str | Message:
        """Return a value with its unit: "+1.30 points"."""
        return self.with_unit(self.show(value, signed=signed))

    def with_unit(self, shown: str) -> str | Message:
        """Return a value's digits with the unit."""
        return say("judge.amount", value=shown, unit=self.unit) if self.unit else shown

    def show(self, value: float, *, signed: bool = True) -> str:
        """Return a value in the metric's unit as digits; what is not 0 is never shown as 0.

        >>> MIOU.show(0.4249), MIOU.show(-0.0004)
        ('+0.42', '-0.0004')
        """
        return format_points(value, signed=signed, decimals=self.decimals)

    def interval(self, low: float, high: float, *, signed: bool = True) -> str:
        """Return both ends of an interval in the metric's unit.

        >>> MIOU.interval(-0.12, 0.803)
        '[-0.12, +0.80]'
        """
        return format_interval(low, high, signed=signed, decimals=self.decimals)

    def check_margin(self, margin: float) -> None:
        """Raise `StudyError` unless ``margin`` is above 0 and below the width of the range."""
        low, high = self.bounds
        if 0 < margin < high - low:
            return
        below = "" if math.isinf(high - low) else f" and below {high - low:g}"
        raise StudyError(f"margin is {margin!r}, expected {self.quantity} above 0{below}, such as 0.5")


MIOU: Final = Metric("mIoU", say("judge.points"), lowest=0.0, highest=1.0, scale=100.0)
"""Mean intersection over union (`semalign.metrics.mean_iou`), a fraction that is judged and shown in points."""
