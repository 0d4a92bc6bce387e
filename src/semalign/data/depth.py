"""Depth files: PNG files of one grey channel, 0 where there is no measurement.

This module does not depend on the layout of data sets and on torch.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from semalign.data.images import decode_indices
from semalign.data.reading import read_bytes
from semalign.data.sample import DepthArray

__all__ = ["decode_depth", "read_depth"]


def decode_depth(data: bytes, path: Path) -> DepthArray:
    """Decode depth as H x W float32 of the stored integers; 0 is a hole.

    Raises:
        DataError: corrupt, truncated, or not one grey channel of 8 or 16 bits.
    """
    content = "8- or 16-bit grey depth"
    return decode_indices(data, path, "depth", ("L", "I", "I;16", "I;16B", "I;16L"), content).astype(np.float32)


def read_depth(path: Path) -> DepthArray:
    """Read a depth file as `decode_depth` decodes it.

    Raises:
        DataError: missing, corrupt, truncated, or not one grey channel of 8 or 16 bits.
    """
    return decode_depth(read_bytes(path, "depth"), path)
