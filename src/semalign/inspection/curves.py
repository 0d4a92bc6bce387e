"""What the recorded curves of a trained run show of its temperatures."""

from __future__ import annotations

import math
from collections.abc import Mapping

from torch import nn

from semalign.audit.findings import Finding
from semalign.model.alignment import alignment_sites
from semalign.wording import say

__all__ = ["curve_findings"]


def curve_findings(model: nn.Module, curves: Mapping[str, list[tuple[int, float]]]) -> list[Finding]:
    """Find in a run's curves the learnable temperatures that spent the last third of it on a bound."""
    found = []
    for path, site in alignment_sites(model).items():
        temperature = getattr(site, "temperature", None)
        points = curves.get(f"{path}/scale", [])
        if temperature is None or not temperature.knobs.learnable or temperature.knobs.bounds is None:
            continue
        last = [value for _, value in points[-max(3, len(points) // 3) :]]
        if len(last) < 3 or min(last) <= 0:
            continue
        found += [
            Finding(
                "pinned-at-bound",
                (f"{path}.temperature.log_scale",),
                say("audit.watch.curve-pinned", bound=bound, last=len(last), n=len(points)),
                {"value": float(bound)},
            )
            for bound in temperature.knobs.bounds
            if all(abs(math.log(value / temperature.base) - bound) < 1e-4 for value in last)
        ]
    return found
