"""One named stream of random numbers per purpose.

A seed for one purpose is derived from the run's seed and the purpose's name, never drawn from a shared stream.  An
added parameter, image or step therefore shifts nothing else, and a stream's state at any step is known from the step
alone, which is what makes resuming exact.
"""

from __future__ import annotations

import hashlib

import numpy as np

__all__ = ["derive_seed", "numpy_generator"]


def derive_seed(seed: int, *purpose: str | int) -> int:
    """Return a seed in [0, 2^63) for ``purpose`` under the run's ``seed``.

    >>> derive_seed(0, "order", 1) == derive_seed(0, "order", 1) != derive_seed(0, "order", 2)
    True
    """
    text = "\x1f".join([str(seed), *(f"{type(part).__name__}:{part}" for part in purpose)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def numpy_generator(seed: int, *purpose: str | int) -> np.random.Generator:
    """Return a NumPy generator for ``purpose`` under the run's ``seed``."""
    return np.random.default_rng(derive_seed(seed, *purpose))
