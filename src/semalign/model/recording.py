"""What the alignments of a model do during some forwards, as means of named numbers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from semalign.model.alignment import alignment_sites

__all__ = ["recording"]


class _Meter:
    """Running means of named numbers; None counts for nothing."""

    def __init__(self) -> None:
        self._sums: dict[str, tuple[float, int]] = {}

    def add(self, name: str, value: float | None) -> None:
        if value is not None:
            total, count = self._sums.get(name, (0.0, 0))
            self._sums[name] = (total + value, count + 1)

    def means(self) -> dict[str, float]:
        return {name: total / count for name, (total, count) in self._sums.items()}


@contextmanager
def recording(model: nn.Module) -> Iterator[dict[str, dict[str, float]]]:
    """Keep what each alignment of ``model`` does during the forwards inside the ``with``.

    The yielded dictionary is empty until the block ends; then it holds, by site and only for sites that ran, the means
    over the forwards of

    * ``scale`` (over heads), ``gate`` (over channels),
    * ``strength``: |g a| / |x|, over images with text (`branch_strength`),
    * ``entropy``: normalised, over images with at least two tokens (`attention_entropy`),
    * ``logit_size``: the logits' reach, over heads (`logit_size`; the scale itself under cosine similarity).

    A number that is undefined in every forward is left out.  Outside of the block forwards cost nothing extra.
    """
    sites = alignment_sites(model)
    meters = {name: _Meter() for name in sites}
    records: dict[str, dict[str, float]] = {}
    for name, site in sites.items():
        site._record = meters[name].add
    try:
        yield records
    finally:
        for name, site in sites.items():
            site._record = None
            if means := meters[name].means():
                records[name] = means
