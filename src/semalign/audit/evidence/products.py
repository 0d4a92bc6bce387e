"""Products of tensors that all start at 0 and keep each other's gradient at 0."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from semalign.audit.evidence.watched import Watched

if TYPE_CHECKING:
    from semalign.audit.evidence.gathered import Evidence


TRIALS = 24
"""Most tensors that are tried one by one."""


@dataclasses.dataclass(frozen=True)
class ClosedProduct:
    """Tensors of one branch that are 0 and stuck.

    Attributes:
        factors: the tensors that hold each other, knobs first.
        explains: names of the dead tensors whose death this explains, behind them as well as among them.
        woken: how many tensors come alive in all.
    """

    factors: tuple[Watched, ...]
    explains: frozenset[str]
    woken: int


def find_closed_products(e: Evidence, blocked: Sequence[str]) -> list[ClosedProduct]:
    """Find dead tensors that come alive when others, all zero and stuck, are not zero.

    Args:
        e: the evidence.
        blocked: names of dead tensors with a path to the loss.
    """
    x = e.experiment
    stuck = [tensor for tensor in e.tensors.values() if tensor.name not in e.explained and _is_stuck(e, tensor)]
    if not stuck or not blocked:
        return []
    x.restore()
    fill = {t.name: 0.1 + torch.rand(t.start.shape).to(t.start) * 0.1 for t in stuck}
    # What another value of its own brings to life, as |a| at 0, needs no partner.
    alone = {
        t.name
        for t in stuck[:TRIALS]
        if t.name in blocked and x.gradients_after({t.name: fill[t.name]}, [t.name])[t.name] > 0
    }
    stuck = [t for t in stuck if t.name not in alone]
    if not stuck:
        return []
    fill = {t.name: fill[t.name] for t in stuck}
    alive = x.gradients_after(fill, blocked)
    woken = [name for name in blocked if alive[name] > 0]
    if not woken:
        return []
    return [
        product
        for members in _clusters(_partners(e, stuck, fill, woken))
        if any(t.is_knob or t.learns for t in members)
        for product in [_product(e, members, stuck, fill, woken)]
    ]


def _is_stuck(e: Evidence, tensor: Watched) -> bool:
    """Whether a tensor starts at 0, cannot move from there, and is used."""
    cannot_move = (
        (tensor.is_dead and "zero" in tensor.life.gradients)
        or tensor.name in e.experiment.frozen
        or e.is_outside_optimizer(tensor)
    )
    is_used = any(use.on_data or use.how == "attached" for use in tensor.uses)
    return cannot_move and is_used and tensor.is_zero


def _partners(e: Evidence, stuck: list[Watched], fill: dict[str, Tensor], woken: list[str]) -> list[Watched]:
    """Return which of the zeros it takes: without one of them nothing may come alive."""
    partners = []
    for tensor in stuck[: 2 * TRIALS]:
        fewer = {other: value for other, value in fill.items() if other != tensor.name}
        now = e.experiment.gradients_after(fewer, woken)
        if any(now[other] == 0 for other in woken if other != tensor.name):
            partners.append(tensor)
    return partners or [tensor for tensor in stuck if tensor.name in woken] or stuck[:1]


def _clusters(partners: list[Watched]) -> list[list[Watched]]:
    """Return the zero factors of each branch, by the lowest module that holds more than one of them."""
    clusters: dict[str, list[Watched]] = {}
    for tensor in partners:
        path = tensor.path
        while path and not any(other is not tensor and (other.path + ".").startswith(path + ".") for other in partners):
            path = path.rpartition(".")[0]
        clusters.setdefault(path, []).append(tensor)
    return list(clusters.values())


def _product(
    e: Evidence, members: list[Watched], stuck: list[Watched], fill: dict[str, Tensor], woken: list[str]
) -> ClosedProduct:
    names = {t.name for t in members}
    near = {e.part_around(t) for t in members}
    opened = e.experiment.gradients_after({name: fill[name] for name in names}, woken)
    held = [n for n in woken if n not in names and (e.part_around(e.tensors[n]) in near or opened[n] > 0)]
    more = [t for t in stuck if t.name not in names and t.is_dead and (e.part_around(t) in near or t.name in held)]
    factors = (*sorted(members, key=lambda t: not t.is_knob), *more)
    return ClosedProduct(factors, frozenset((*names, *held)), len(woken))
