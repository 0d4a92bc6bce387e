"""Parameter groups by role, the schedule, and the optimizer made from them.

It does not depend on data, nor on the model beyond the roles of its parameters.
"""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import nn

from semalign.model.roles import parameter_role
from semalign.model.temperature import projection_hook

__all__ = ["ROLES", "GroupRow", "learning_rate_factor", "make_optimizer", "parameter_groups"]

ROLES = ("weights", "norms and biases", "temperatures", "gates")


@dataclasses.dataclass(frozen=True)
class GroupRow:
    """One parameter group as it is printed.

    Attributes:
        role: one of `ROLES`.
        tensors: number of tensors.
        numbers: number of learnable numbers.
        lr: peak learning rate.
        decay: weight decay.
        names: the tensors' names.
    """

    role: str
    tensors: int
    numbers: int
    lr: float
    decay: float
    names: tuple[str, ...]


def role_of(name: str, owner: nn.Module, parameter: nn.Parameter) -> str:
    """Return the role of a parameter: what it is for decides its rate and decay."""
    role = parameter_role(name, owner)
    if role == "temperature":
        return "temperatures"
    if role == "gate":
        return "gates"
    return "weights" if parameter.ndim > 1 else "norms and biases"


def parameter_groups(
    model: nn.Module, *, lr: float, scalar_lr: float, decay: float, scalar_decay: float
) -> tuple[list[GroupRow], list[dict[str, object]]]:
    """Return the groups as rows to print and as the optimizer takes them; groups without a tensor are left out."""
    members: dict[str, list[tuple[str, nn.Parameter]]] = {role: [] for role in ROLES}
    for path, module in model.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.requires_grad:
                full = f"{path}.{name}" if path else name
                members[role_of(name, module, parameter)].append((full, parameter))
    rows, groups = [], []
    for role, pairs in members.items():
        if not pairs:
            continue
        is_scalar = role in ("temperatures", "gates")
        rate = scalar_lr if is_scalar else lr
        own_decay = scalar_decay if is_scalar else decay if role == "weights" else 0.0
        names = tuple(name for name, _ in pairs)
        rows.append(GroupRow(role, len(pairs), sum(p.numel() for _, p in pairs), rate, own_decay, names))
        groups.append({"params": [p for _, p in pairs], "lr": rate, "weight_decay": own_decay, "role": role})
    return rows, groups


def make_optimizer(model: nn.Module, groups: list[dict[str, object]]) -> torch.optim.AdamW:
    """Return AdamW (Loshchilov & Hutter 2019) over ``groups``, with temperatures put back inside after each step."""
    # Fused: one pass over weights, gradients and moments instead of a dozen.
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.999), fused=True)
    optimizer.register_step_post_hook(projection_hook(model))
    return optimizer


def learning_rate_factor(step: int, total: int, warmup: float) -> float:
    """Return the share of the peak rate at ``step`` (from 0): a linear rise over ``warmup`` of all, then a cosine to 0.

    >>> [round(learning_rate_factor(step, 10, 0.2), 3) for step in (0, 1, 2, 6)]
    [0.5, 1.0, 1.0, 0.5]
    """
    rise = max(1, round(warmup * total))
    if step < rise:
        return (step + 1) / rise
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, total - rise)))
