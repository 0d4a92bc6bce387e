"""Faults of registration and of the optimizer: tensors that cannot be trained, and groups without effect."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import torch

from semalign.audit.describe import value_of
from semalign.audit.evidence.gathered import Evidence
from semalign.audit.evidence.names import flag_is_about, is_hint, learn_flags
from semalign.audit.evidence.records import is_small
from semalign.audit.evidence.subject import Loose
from semalign.audit.evidence.watched import Watched
from semalign.audit.rules.rule import Hit
from semalign.wording import Message, say


def created_after_optimizer(evidence: Evidence) -> Iterator[Hit]:
    """Find what the forward creates, after the optimizer was given the parameters."""
    for name, made in evidence.steps.created.items():
        # Weights without gradient: `unused-weights` is about them.
        if evidence.is_idle_replacement(name) or (made.replaces_weights and not made.has_gradient):
            continue
        numbers = made.tensor.numel()
        key = "audit.created-after-optimizer.anew" if made.is_made_anew else "audit.created-after-optimizer.once"
        yield Hit((name,), say(key, n=numbers), {"numbers": numbers})
    for leaf in evidence.steps.local_leaves:
        if leaf.has_gradient and not leaf.persists and id(leaf.tensor) not in evidence.experiment.group_of:
            yield Hit((leaf.path,), say("audit.created-after-optimizer.local", shape=str(tuple(leaf.tensor.shape))))


def not_registered(evidence: Evidence) -> Iterator[Hit]:
    """Find learnable tensors that are not registered as parameters."""
    for leaf in evidence.steps.local_leaves:
        if leaf.has_gradient and leaf.persists and id(leaf.tensor) not in evidence.experiment.group_of:
            yield Hit((leaf.path,), say("audit.not-registered.read", shape=str(tuple(leaf.tensor.shape))))
    for item in evidence.loose_in_use:
        if item.kind == "parameter" and not _is_in_optimizer(evidence, item):
            why = say("audit.not-registered.kept", shape=str(tuple(item.tensor.shape)), holder=_holder(item.path))
            yield Hit((item.path,), why)
    homes: dict[str, list[str]] = {}
    for item in evidence.experiment.loose:
        is_used = any(use.how == "attached" for use in evidence.tensors[item.path].uses)
        if item.home and item.kind == "parameter" and is_used:
            homes.setdefault(item.home, []).append(item.path)
    for home, paths in homes.items():
        why = say("audit.not-registered.module", n=len(paths), holder=_holder(home), first=paths[0])
        yield Hit((home,), why, {"tensors": len(paths)})


def derived_tensor(evidence: Evidence) -> Iterator[Hit]:
    """Find results of an operation on a parameter that are kept in its place."""
    for item in evidence.loose_in_use:
        if item.kind == "derived":
            operation = type(item.tensor.grad_fn).__name__.removesuffix("0").removesuffix("Backward").lower()
            why = say("audit.derived-tensor.made", shape=str(tuple(item.tensor.shape)), op=operation)
            yield Hit((item.path,), why)


def plain_tensor(evidence: Evidence) -> Iterator[Hit]:
    """Find tensors of the forward that are neither parameters nor buffers."""
    for item in evidence.loose_in_use:
        shape, tensor = str(tuple(item.tensor.shape)), evidence.tensors[item.path]
        if item.kind == "parameter" and _is_in_optimizer(evidence, item):
            yield Hit((item.path,), say("audit.plain-tensor.in-optimizer", shape=shape))
        is_factor = tensor.multiplies or is_hint(re.sub(r"\[.*", "", item.path.rpartition(".")[2]))
        if item.kind != "plain" or not is_small(item.tensor) or not is_factor:
            continue
        # A flag says that it should learn: `frozen-though-learnable` is about it.
        if any(flag_is_about(flag, tensor.attribute) for flag in learn_flags(tensor.owner)):
            continue
        yield Hit((item.path,), say("audit.plain-tensor.value", shape=shape, value=value_of(item.tensor)))


def _is_in_optimizer(evidence: Evidence, item: Loose) -> bool:
    x = evidence.experiment
    return id(x.subject.standing_for(item.tensor)) in x.group_of and not x.is_own_optimizer


def _holder(path: str) -> Message:
    return say("audit.not-registered.list" if path.endswith("]") else "audit.not-registered.attribute")


def not_in_optimizer(evidence: Evidence) -> Iterator[Hit]:
    """Find what has a gradient and is not held by the optimizer."""
    if evidence.caller_optimizer is not None and evidence.holds_nothing:
        count = len(evidence.live)
        yield Hit(("",), say("audit.not-in-optimizer.all", n=count), {"tensors": count})
        return
    for left in evidence.left_out:
        # A part so large is probably not to be trained: `unused-weights` is about it.
        if left.is_on_purpose:
            continue
        strangers = say("audit.not-in-optimizer.strangers", n=left.strangers) if left.strangers else ""
        count = len(left.members)
        if left.path and count > 1:
            first = left.members[0].name
            why = say("audit.not-in-optimizer.part", n=count, numbers=left.numbers, first=first, strangers=strangers)
            yield Hit((left.path,), why, {"tensors": count})
            continue
        for tensor in left.members:
            why = say("audit.not-in-optimizer.one", value=value_of(tensor.start), strangers=strangers)
            yield Hit((tensor.name,), why)


def idle_group(evidence: Evidence) -> Iterator[Hit]:
    """Find parameter groups that have no effect as written."""
    optimizer = evidence.caller_optimizer
    # Where it holds nothing of the model, `not-in-optimizer` says so.
    if optimizer is None or evidence.holds_nothing:
        return
    for index, group in enumerate(optimizer.param_groups):
        members = _members(evidence, group)
        where = (members[0].name,) if members else (f"optimizer.param_groups[{index}]",)
        whole = _idle_as_a_whole(evidence, index, group, members)
        if whole is not None:
            yield Hit(where, *whole)
        else:
            for option, value, target in _unread_options(group, optimizer):
                why = say(
                    "audit.idle-group.unread",
                    index=index,
                    option=option,
                    value=value,
                    target=target,
                    used=group[target],
                )
                yield Hit(where, why, {"value": value})
        rate = _rate(group)
        stuck = [t for t in members if t.name in evidence.steps.unmoved and t.is_knob]
        if stuck and len(stuck) < len(members) and rate > 0 and not group.get("initial_lr"):
            why = say(
                "audit.idle-group.resolution",
                rate=rate,
                n=len(evidence.steps.loss_values),
                dtype=str(stuck[0].tensor.dtype),
                value=value_of(stuck[0].start),
            )
            yield Hit(tuple(t.name for t in stuck), why, {"lr": rate})


def _idle_as_a_whole(
    evidence: Evidence, index: int, group: dict[str, Any], members: list[Watched]
) -> tuple[Message, dict[str, float]] | None:
    rate, count, steps = _rate(group), len(members), len(evidence.steps.loss_values)
    # A schedule may begin at 0.
    is_scheduled = bool(group.get("initial_lr"))
    if not group["params"]:
        return say("audit.idle-group.empty", index=index), {}
    if rate == 0 and not is_scheduled:
        return say("audit.idle-group.rate", index=index, n=len(group["params"])), {}
    if members and not is_scheduled and all(t.name in evidence.steps.unmoved for t in members):
        return say("audit.idle-group.unmoved", index=index, rate=rate, tensors=count, n=steps), {"lr": rate}
    if members and all(t.is_dead or t.name in evidence.experiment.frozen for t in members):
        return say("audit.idle-group.no-gradient", index=index, n=count), {}
    return None


def _unread_options(group: dict[str, Any], optimizer: torch.optim.Optimizer) -> Iterator[tuple[str, float, str]]:
    """Yield options that look like a rate or a decay and that torch does not read, with the option that it reads."""
    for option, value in group.items():
        asks = re.search(r"(^|_)(lr|rate|decay|wd)($|_)", option) and option not in optimizer.defaults
        if not asks or option == "initial_lr" or not isinstance(value, (int, float)):
            continue
        target = "weight_decay" if re.search("decay|wd", option) else "lr"
        used = group.get(target)
        if used is not None and used == optimizer.defaults.get(target) and value not in (used, 1, 1.0):
            yield option, float(value), target


def _members(evidence: Evidence, group: dict[str, Any]) -> list[Watched]:
    by_id = {id(t.tensor): t for t in evidence.tensors.values()}
    return [by_id[id(p)] for p in group["params"] if id(p) in by_id]


def _rate(group: dict[str, Any]) -> float:
    return float(group.get("lr", 1.0))


def scalar_decay(evidence: Evidence) -> Iterator[Hit]:
    """Find temperatures and gates with weight decay."""
    optimizer = evidence.caller_optimizer
    if optimizer is None or evidence.holds_nothing:
        return
    for group in optimizer.param_groups:
        decay = float(group.get("weight_decay") or 0.0)
        for tensor in _members(evidence, group) if decay else ():
            if tensor.life is not None and tensor.is_knob:
                why = say("audit.scalar-decay.value", decay=decay, value=value_of(tensor.start))
                yield Hit((tensor.name,), why, {"decay": decay})


def decay_only(evidence: Evidence) -> Iterator[Hit]:
    """Find knobs that move only as weight decay moves them."""
    for tensor in evidence.learnable:
        life, group = tensor.life, evidence.experiment.group_of.get(id(tensor.tensor))
        if evidence.caller_optimizer is None or group is None or not group.get("weight_decay"):
            continue
        # Under Adam, a gradient of the value's sign moves a value as decay does.
        if life is None or not life.is_dead or life.start is None or life.end is None:
            continue
        if not tensor.is_knob or torch.equal(life.start, life.end):
            continue
        decayed = evidence.experiment.decay_alone(tensor.name, life.start, len(life.gradients))
        if decayed is None:
            continue
        way = float((decayed - life.start).abs().max())
        if way > 0 and float((life.end - decayed).abs().max()) <= 0.02 * way:
            decay = float(group["weight_decay"])
            why = say(
                "audit.decay-only.moved",
                start=value_of(life.start),
                end=value_of(life.end),
                n=len(life.gradients),
                decay=decay,
            )
            yield Hit((tensor.name,), why, {"decay": decay})
