"""Tensors and plain facts in one safetensors file, whole or not at all; nothing is ever unpickled.

It does not depend on what the tensors mean.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from semalign.errors import CheckpointError, first_line
from semalign.files import write_aside
from semalign.layout import TENSORS_FORMAT

__all__ = ["load_into", "read_tensors", "write_tensors"]

_SUFFIX = ".safetensors"


def write_tensors(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Write ``tensors`` and JSON ``facts`` to ``path``; the same tensors and facts give the same bytes.

    Raises:
        OutputError: the disk is full or the folder cannot be written; the earlier file is left as it was.
    """
    # One key: safetensors writes several in an order that changes from call to call.
    metadata = {"semalign": json.dumps({"format": TENSORS_FORMAT, "facts": facts}, allow_nan=False)}
    own = {name: tensor.detach().to("cpu").contiguous().clone() for name, tensor in tensors.items()}
    with write_aside(path) as temporary:
        try:
            save_file(own, temporary, metadata)
        except SafetensorError as error:
            raise OSError(str(error)) from error


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `write_tensors` wrote.

    Raises:
        CheckpointError: the file is missing, not a safetensors file, damaged, or of another format version.
    """
    if not path.exists():
        raise CheckpointError(
            f"no checkpoint at {path}, expected a run's folder or its weights.safetensors: has the run finished?"
        )
    if path.suffix != _SUFFIX:
        raise CheckpointError(
            f"the checkpoint {path} ends in '{path.suffix}', expected {_SUFFIX}: other formats can run code when "
            "they are read, convert it to safetensors first"
        )
    try:
        with safe_open(path, framework="pt") as handle:
            about = json.loads((handle.metadata() or {}).get("semalign", "{}"))
            version = about.get("format")
            if version != TENSORS_FORMAT:
                got = "no format version" if version is None else f"format version {version}"
                raise CheckpointError(
                    f"the checkpoint {path} has {got}, expected {TENSORS_FORMAT}: "
                    "read it with the version of semalign that wrote it"
                )
            facts = about.get("facts")
            if not isinstance(facts, dict):
                raise TypeError("it holds no facts of a run")
            return {name: handle.get_tensor(name) for name in handle.keys()}, facts  # noqa: SIM118 (not a mapping)
    except CheckpointError:
        raise
    except (SafetensorError, OSError, AttributeError, TypeError, ValueError, RecursionError) as error:
        raise CheckpointError(
            f"cannot read the checkpoint {path}: {first_line(error)}, expected a whole safetensors file "
            "written by semalign: copy or train it again"
        ) from error


def load_into(module: nn.Module, tensors: Mapping[str, Tensor], where: str) -> None:
    """Load ``tensors`` into ``module``; all names and shapes must fit.

    Raises:
        CheckpointError: a tensor is missing or unexpected, or a shape differs.
    """
    own = module.state_dict()
    for missing in sorted(own.keys() - tensors.keys()):
        raise CheckpointError(f"{where} lacks the tensor {missing}, expected one of shape {tuple(own[missing].shape)}")
    for extra in sorted(tensors.keys() - own.keys()):
        raise CheckpointError(f"{where} has the tensor {extra} that the model lacks, was it made with other options?")
    for name, tensor in tensors.items():
        if tensor.shape != own[name].shape:
            raise CheckpointError(
                f"{where} has {name} of shape {tuple(tensor.shape)}, expected {tuple(own[name].shape)}: "
                "was it made with other options?"
            )
    module.load_state_dict(dict(tensors))
