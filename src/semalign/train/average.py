"""The running average of a model's weights, which is what is scored.

torch's `torch.optim.swa_utils.AveragedModel` is not used: its first update copies the weights, while here the initial
weights count too; and it copies the whole model, whose backbones may hold hooks that would still lead to the original.
The update of a step is torch's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

__all__ = ["update_average"]


def update_average(average: Mapping[str, Tensor], state: Mapping[str, Tensor], decay: float, step: int) -> None:
    """Move the average towards the model's tensors, in place.

    With d = min(decay, (1 + step) / (10 + step)), so that the first steps weigh more and the initial weights are
    forgotten, average = d * average + (1 - d) * state.  Tensors of whole numbers are copied.

    Args:
        average: by name, the averaged tensors.
        state: by name, the model's tensors after ``step``.
        decay: d in the long run, in [0, 1); 0 keeps the last weights.
        step: optimizer steps done, from 1.
    """
    reach = min(decay, (1 + step) / (10 + step)) if decay else 0.0
    floating = [name for name, tensor in state.items() if tensor.is_floating_point()]
    others = [name for name, tensor in state.items() if not tensor.is_floating_point()]
    move: Any = get_ema_multi_avg_fn(reach)  # type: ignore[no-untyped-call]
    move([average[name] for name in floating], [state[name] for name in floating], step)
    if others:
        with torch.no_grad():
            torch._foreach_copy_([average[name] for name in others], [state[name] for name in others])
