"""What a forward, or a hook of the optimizer's step, writes over a parameter."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator
from typing import Literal

import torch
from torch import Tensor

from semalign.audit.evidence.experiment import Experiment
from semalign.audit.evidence.records import is_small
from semalign.audit.evidence.steps import Steps


@dataclasses.dataclass(frozen=True)
class Rewriting:
    """How a parameter is written over.

    Attributes:
        name: the parameter.
        kind: "replaced" (by the same, independently of its value), "averaged" (a part of it is kept) or "bounded" (put
            back into bounds, with entries on them).
        low: what is left of a very small value.
        high: what is left of a very large value.
        on_bound: how many entries are on the bounds.
        ops: the operations that write in the forward.
        kept: which part is kept.
    """

    name: str
    kind: Literal["replaced", "averaged", "bounded"]
    low: Tensor
    high: Tensor
    on_bound: int = 0
    ops: tuple[str, ...] = ()
    kept: float = 1.0


def find_rewritings(x: Experiment, steps: Steps, left_out: Collection[str]) -> Iterator[Rewriting]:
    """Give parameters other values and look what a forward or a step leaves of them; without those of ``left_out``."""
    trace = steps.trace
    by_forward = {name for bits in trace.writes.values() for name in trace.names_of(bits)} | steps.changed_by_forward
    by_forward |= {name for name, t in x.parameters.items() if t.data_ptr() != x.addresses.get(name, t.data_ptr())}
    hooks = x.optimizer is not None and bool(x.optimizer._optimizer_step_post_hooks)
    for name, tensor in x.parameters.items():
        if not (name in by_forward or (hooks and is_small(tensor))) or name in left_out:
            continue
        found = _rewriting(x, name, name in by_forward, steps.lives[name].is_dead)
        if found is not None:
            ops = sorted(op for op, bits in trace.writes.items() if trace.bit(name) & bits)
            yield dataclasses.replace(found, ops=tuple(ops))


def _rewriting(x: Experiment, name: str, by_forward: bool, is_dead: bool) -> Rewriting | None:
    start, small = x.initial[name], is_small(x.parameters[name])
    reach = 1e3 if small else 1.0
    way = reach * (1 + start.abs())
    leave = x.value_after_forward if by_forward else x.value_after_step
    high, low = leave(name, start + way), leave(name, start - way)
    if torch.equal(high, low) or (by_forward and _is_scheduled(x, name, high, low, way)):
        return Rewriting(name, "replaced", low, high)
    if not small:
        return None
    kept = _kept_part(x, name, high, low, reach) if by_forward else None
    if kept is not None:
        return Rewriting(name, "averaged", low, high, kept=kept)
    on = ((start == high) | (start == low)) & (high != low)
    if is_dead or not bool(on.any()):
        return None
    return Rewriting(name, "bounded", low, high, on_bound=int(((start == high) | (start == low)).sum()))


def _is_scheduled(x: Experiment, name: str, high: Tensor, low: Tensor, way: Tensor) -> bool:
    """Whether what the forward writes changes from call to call, independently of the value before."""
    if bool(((high - low).abs() > 0.01 * way).any()):
        return False
    return not torch.equal(x.value_after_forward(name, x.initial[name] + way), high)


def _kept_part(x: Experiment, name: str, high: Tensor, low: Tensor, reach: float) -> float | None:
    """Return c below 1 where a forward makes c·value + rest of any value, as a moving average does; else None.

    A bound or a normalisation is not linear: its c differs between a long and a short way.
    """
    start = x.initial[name]
    way = 1 + start.abs()
    near, here = x.value_after_forward(name, start + way), x.value_after_forward(name, start)
    shares = [(high - here) / (reach * way), (here - low) / (reach * way), (near - here) / way]
    kept = float(shares[0].mean())
    if torch.equal(here, start) or not 0 < kept < 0.99999:
        return None
    return kept if all(float((share - kept).abs().max()) < 1e-3 * kept for share in shares) else None
