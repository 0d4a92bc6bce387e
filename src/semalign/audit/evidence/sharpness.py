"""How sharp an attention can become."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from semalign.audit.evidence.gathered import Evidence


def lowest_entropy(reach: float, tokens: int) -> float:
    """Return the lowest normalised entropy of a softmax row whose scores lie in [-reach, reach].

    One token at the top and the others at the bottom: weights proportional to exp(2 reach) and 1.

    >>> round(lowest_entropy(0.0, 40), 6)
    1.0
    """
    if tokens < 2 or not math.isfinite(reach):
        return 1.0
    others = tokens - 1
    down = math.exp(-min(2 * reach, 700.0))
    total = 1 + others * down
    top, rest = 1 / total, down / total
    entropy = -top * math.log(top) - (others * rest * math.log(rest) if rest > 0 else 0.0)
    return entropy / math.log(tokens)


def scale_for_entropy(entropy: float, tokens: int) -> float:
    """Return the reach scale·|q||k| at which a perfectly matched row has this normalised entropy."""
    low, high = 0.0, 200.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if lowest_entropy(middle, tokens) > entropy else (low, middle)
    return high


def sharpest_entropies(e: Evidence, places: Sequence[int]) -> dict[int, float]:
    """Return by place of a softmax the lowest entropy that its bounded scores can have at any value of its knobs."""
    x, sites = e.experiment, e.trace.flow.sites
    best = {place: lowest_entropy(sites[place].reach, sites[place].tokens) for place in places}
    knobs = sorted({tensor.name for place in places for tensor in e.learnable_of(sites[place].knobs)})
    if not knobs:
        return best
    x.restore()
    for reach in (1e3, 10.0, -10.0):
        with x.changed({name: x.initial[name] + reach for name in knobs}):
            for module in x.model.modules():
                project = getattr(module, "project_parameters", None)
                if callable(project):
                    project()
            values = {name: x.watched[name].detach().clone() for name in knobs}
        now = x.retrace(values).flow.sites
        if len(now) != len(sites):
            continue
        for place in places:
            if math.isinf(now[place].reach):
                best[place] = 0.0
            elif math.isfinite(now[place].reach):
                best[place] = min(best[place], lowest_entropy(now[place].reach, now[place].tokens))
    return best
