"""What a parameter is for, as its owner declares it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from torch import nn

__all__ = ["Role", "parameter_role"]

Role = Literal["weight", "norm_bias", "temperature", "gate"]


def parameter_role(name: str, owner: nn.Module) -> Role:
    """Return what a parameter is for, so that an optimizer can treat the roles apart.

    An owner may declare it by a mapping ``parameter_roles`` from its parameters' names to roles.  Otherwise a parameter
    named ``log_scale`` is a ``"temperature"``, any other vector or scalar is ``"norm_bias"`` and the rest ``"weight"``.

    Args:
        name: the parameter's name in its owner, or its dotted path.
        owner: the module that owns it directly.
    """
    leaf = name.rpartition(".")[2]
    declared: Mapping[str, Role] = getattr(owner, "parameter_roles", {})
    if leaf in declared:
        return declared[leaf]
    if leaf == "log_scale":
        return "temperature"
    return "norm_bias" if getattr(owner, leaf).ndim <= 1 else "weight"
