"""Which form of the alignment is faster: modelled milliseconds of one call, with measured rates.

Plain numbers; it does not depend on tensors.  The rates were measured once and are written here, rather than measured
where the code runs, so that a model takes the same form, and gives the same bits, on its next run.
"""

from __future__ import annotations

import functools
from typing import Literal, NamedTuple

__all__ = ["AlignmentCall", "cheapest_form", "folded_ms", "sdpa_ms"]


class AlignmentCall(NamedTuple):
    """What decides the time of one call.

    Attributes:
        channels: C.
        heads: H.
        rows: positions of the whole batch.
        tokens: T, without those masked out for every image.
        texts: 1 for a text shared by all images, else their number.
        text_dim: Ct.
        cosine: the similarity is a cosine, so that only the output side folds.
        training: forward and backward; else a forward without gradients, a shared bank being cached.
    """

    channels: int
    heads: int
    rows: int
    tokens: int
    texts: int
    text_dim: int
    cosine: bool = False
    training: bool = True

    @property
    def projected(self) -> float:
        """Multiplications of keys and values."""
        return 2.0 * self.texts * self.tokens * self.channels * self.text_dim

    @property
    def fold(self) -> float:
        """Multiplications that make the folded bank."""
        sides = 1 if self.cosine else 2
        return self.projected + sides * float(self.texts) * self.tokens * self.channels**2


class _Rates(NamedTuple):
    """Milliseconds of one thread: per call, per 1e9 operations of products, per 1e6 numbers that pass by.

    Fitted by non-negative least squares to the times of some 200 sites (C 64 to 512, 120 to 19200 positions, 1 to 100
    tokens) under AVX-512 at about 100 GFLOP/s in float32; the median error is 4 to 5 per cent.  Only quotients of times
    decide, so another machine needs the same proportions rather than the same speed.  The folded form's cost of a call
    and of the cosine was measured separately, by the fastest of 110 rounds at seven small sites.
    """

    call: float
    cosine_call: float
    products: float
    bank_products: float
    weights: float
    features: float
    cosine_features: float
    logits: float
    attention_products: float = 0.0


_TRAINING = {
    "folded": _Rates(0.70, 0.10, 38.8, 53.3, 3.96, 2.53, 4.50, 3.44),
    "sdpa": _Rates(0.63, 0.04, 29.3, 26.3, 5.44, 11.3, 5.22, 0.92, 31.1),
}
# The folded form's figures with the bank in the cache.
_INFERENCE = {
    "folded": _Rates(0.12, 0.03, 10.4, 4.9, 0.38, 0.72, 1.70, 1.11),
    "sdpa": _Rates(0.19, 0.01, 10.0, 13.3, 1.79, 3.23, 1.18, 0.94, 6.26),
}
# Folding a bank, without gradients: once per forward where each image has its own text.
_FOLD = _Rates(0.15, 0.04, 0.0, 17.0, 0.80, 0.0, 0.0, 0.0)
# At small sites, where the fitted times are least exact, there is little to be had; elsewhere a tie goes to the form
# that needs less memory.
_LEAST_GAIN_MS = {True: 0.2, False: 0.06}


def _milliseconds(call: AlignmentCall, rates: _Rates, products: float, bank: float, attention: float = 0.0) -> float:
    c, n = call.channels, call.rows
    fixed = rates.call + rates.cosine_call * call.cosine + rates.weights * c * c * 1e-6
    passing = rates.features * n * c + rates.cosine_features * n * c * call.cosine
    passing += rates.logits * n * call.heads * call.tokens
    operations = rates.products * products + rates.bank_products * bank + rates.attention_products * attention
    return fixed + passing * 1e-6 + 2e-9 * operations


def folded_ms(call: AlignmentCall) -> float:
    """Return the modelled milliseconds of the folded form."""
    rates = (_TRAINING if call.training else _INFERENCE)["folded"]
    n, c, t = float(call.rows), call.channels, call.tokens
    products = n * c * call.heads * t + (n * c * (c + t) if call.cosine else n * c * call.heads * t)
    time = _milliseconds(call, rates, products, call.fold)
    return time if call.training or call.texts == 1 else time + _milliseconds(call, _FOLD, 0.0, call.fold)


def sdpa_ms(call: AlignmentCall) -> float:
    """Return the modelled milliseconds of the unfolded form."""
    rates = (_TRAINING if call.training else _INFERENCE)["sdpa"]
    n, c = float(call.rows), call.channels
    return _milliseconds(call, rates, 2 * n * c * c, call.projected, 2 * n * c * call.tokens)


@functools.lru_cache(maxsize=1024)
def cheapest_form(call: AlignmentCall) -> Literal["folded", "sdpa"]:
    """Return the faster form of one call on a CPU in float32.

    >>> cheapest_form(AlignmentCall(channels=128, heads=4, rows=19200, tokens=6, texts=1, text_dim=384))
    'folded'
    >>> cheapest_form(AlignmentCall(channels=128, heads=4, rows=19200, tokens=150, texts=1, text_dim=384))
    'sdpa'
    """
    return "folded" if folded_ms(call) + _LEAST_GAIN_MS[call.training] < sdpa_ms(call) else "sdpa"
