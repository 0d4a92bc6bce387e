"""Vectors of unit norm: rows of any matrix brought to it, and directions made of hashes.

This module does not depend on encoders and banks.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from semalign.errors import TextError
from semalign.seeds import derive_seed

__all__ = ["hashed_directions", "unit_rows"]


def unit_rows(features: Float[Tensor, "rows dim"], where: str) -> Float[Tensor, "rows dim"]:
    """Return the rows as float32 divided by their norms, computed in float64.

    Raises:
        TextError: a row is not finite or has norm 0; ``where`` says whose rows these are.
    """
    wide = features.double()
    norms = torch.linalg.vector_norm(wide, dim=1, keepdim=True)
    is_bad = ~norms.isfinite() | (norms == 0)
    if is_bad.any():
        row = int(is_bad.nonzero()[0, 0])
        raise TextError(f"{where}: row {row} has norm {float(norms[row])}, expected a finite norm above 0")
    unit: Tensor = wide / norms
    return unit.float()


def hashed_directions(sentences: Sequence[str], dim: int, seed: int) -> Float[Tensor, "sentences dim"]:
    """Return one unit vector per sentence that depends on the sentence, ``dim`` and ``seed`` alone.

    Every bit is the same on every machine and with every version of NumPy and torch, by construction: SHAKE-256 of
    seed and sentence gives 6 bytes per entry; an entry is the sum of three unsigned 16-bit numbers, doubled, minus
    3 * 65535 (bell-shaped, symmetric, and odd, hence never 0); the sum of squares is a sum of integers; what remains
    are a square root, a division and a rounding, which IEEE 754 defines to the last bit.  A library's normal generator
    may change between its versions, Box-Muller needs a logarithm and a cosine whose last bit depends on the C library,
    and plain signs would give different sentences the same vector in small dimensions.

    Args:
        sentences: S strings.
        dim: Ct, at least 1.
        seed: the stream's seed.
    """
    entries = np.empty((len(sentences), dim), dtype=np.int64)
    for row, sentence in enumerate(sentences):
        key = derive_seed(seed, "hashed_directions", sentence).to_bytes(8, "little")
        words = np.frombuffer(hashlib.shake_256(key).digest(6 * dim), dtype="<u2")
        entries[row] = 2 * words.reshape(dim, 3).sum(axis=1, dtype=np.int64) - 3 * 65535
    norms = np.sqrt((entries * entries).sum(axis=1, keepdims=True).astype(np.float64))
    directions: NDArray[np.float32] = (entries / norms).astype(np.float32)
    return torch.from_numpy(directions)
