"""The gate of a branch as a module."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from semalign.align.gate import gate_parameter, gate_value
from semalign.model.roles import Role
from semalign.presets import GateKnobs

__all__ = ["Gate"]


class Gate(nn.Module):
    """The strength of a branch, g = act(theta).

    theta is named ``theta``: a parameter where it is learnable, else a buffer.

    Args:
        knobs: the gate's value at the start, its activation, and whether it is learnable and per channel.
        channels: number of channels, used by a gate per channel.
    """

    parameter_roles: ClassVar[Mapping[str, Role]] = {"theta": "gate"}
    theta: Tensor

    def __init__(self, knobs: GateKnobs, *, channels: int) -> None:
        super().__init__()
        self.knobs = knobs
        start = torch.empty((channels,) if knobs.per_channel else ())
        if knobs.learnable:
            self.theta = nn.Parameter(start)
        else:
            self.register_buffer("theta", start)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set theta so that the gate has its starting value; draws nothing."""
        nn.init.constant_(self.theta, gate_parameter(self.knobs.init, self.knobs.activation))

    def forward(self) -> Float[Tensor, "*per_channel"]:
        """Return g, of shape () or (channels,)."""
        return gate_value(self.theta, self.knobs.activation)
