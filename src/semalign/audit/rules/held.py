"""Faults of registration and of the optimizer: tensors that cannot be trained, and groups without effect."""

from __future__ import annotations

import re
from collections.abc import Iterator

import torch

from semalign.audit.describe import value_of
from semalign.audit.evidence.gathered import Evidence
from semalign.audit.evidence.groups import Group
from semalign.audit.evidence.names import flag_is_about, is_hint, learn_flags
from semalign.audit.evidence.records import is_small
from semalign.audit.evidence.subject import Loose
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
    steps = len(evidence.steps.loss_values)
    for group in evidence.groups:
        where = (group.members[0].name,) if group.members else (f"optimizer.param_groups[{group.index}]",)
        whole = _idle_as_a_whole(evidence, group)
        if whole is not None:
            yield Hit(where, *whole)
        else:
            yield from (Hit(where, why, numbers) for why, numbers in _unread_options(evidence, group))
        stuck = [t for t in group.members if t.name in evidence.steps.unmoved and t.is_knob]
        if stuck and len(stuck) < len(group.members) and group.rate > 0 and not group.is_scheduled:
            said = {"dtype": str(stuck[0].tensor.dtype), "value": value_of(stuck[0].start)}
            why = say("audit.idle-group.resolution", rate=group.rate, n=steps, **said)
            yield Hit(tuple(t.name for t in stuck), why, {"lr": group.rate})


def _idle_as_a_whole(evidence: Evidence, group: Group) -> tuple[Message, dict[str, float]] | None:
    count, steps, index = len(group.members), evidence.steps, group.index
    if not group.options["params"]:
        return say("audit.idle-group.empty", index=index), {}
    if group.rate == 0 and not group.is_scheduled:
        return say("audit.idle-group.rate", index=index, n=len(group.options["params"])), {}
    if count and not group.is_scheduled and all(t.name in steps.unmoved for t in group.members):
        said = {"rate": group.rate, "tensors": count, "n": len(steps.loss_values)}
        return say("audit.idle-group.unmoved", index=index, **said), {"lr": group.rate}
    if count and all(t.is_dead or t.name in evidence.experiment.frozen for t in group.members):
        return say("audit.idle-group.no-gradient", index=index, n=count), {}
    return None


def _unread_options(evidence: Evidence, group: Group) -> Iterator[tuple[Message, dict[str, float]]]:
    """Yield options that look like a rate or a decay and that torch does not read."""
    defaults = evidence.caller_optimizer.defaults if evidence.caller_optimizer is not None else {}
    for option, value in group.options.items():
        asks = re.search(r"(^|_)(lr|rate|decay|wd)($|_)", option) and option not in defaults
        if not asks or option == "initial_lr" or not isinstance(value, (int, float)):
            continue
        target = "weight_decay" if re.search("decay|wd", option) else "lr"
        used = group.options.get(target)
        if used is not None and used == defaults.get(target) and value not in (used, 1, 1.0):
            said = {"option": option, "value": value, "target": target, "used": used}
            yield say("audit.idle-group.unread", index=group.index, **said), {"value": float(value)}


def scalar_decay(evidence: Evidence) -> Iterator[Hit]:
    """Find temperatures and gates with weight decay."""
    for group in evidence.groups:
        for tensor in group.members if group.decay else ():
            if tensor.learns and tensor.is_knob:
                why = say("audit.scalar-decay.value", decay=group.decay, value=value_of(tensor.start))
                yield Hit((tensor.name,), why, {"decay": group.decay})


def decay_only(evidence: Evidence) -> Iterator[Hit]:
    """Find knobs that move only as weight decay moves them."""
    for tensor in evidence.learnable:
        life, group = tensor.life, evidence.experiment.group_of.get(id(tensor.tensor))
        if evidence.caller_optimizer is None or group is None or not group.get("weight_decay"):
            continue
        # Under Adam, a gradient of the value's sign moves a value as decay does.
        if not life.is_dead or not tensor.is_knob or life.start is None or life.end is None:
            continue
        decayed = evidence.experiment.decay_alone(tensor.name, life.start, len(life.gradients))
        if decayed is None:
            continue
        way, missed = (float((decayed - value).abs().max()) for value in (life.start, life.end))
        if missed <= 0.02 * way and way > 0 and not torch.equal(life.start, life.end):
            decay = float(group["weight_decay"])
            said = {"start": value_of(life.start), "end": value_of(life.end), "n": len(life.gradients)}
            yield Hit((tensor.name,), say("audit.decay-only.moved", decay=decay, **said), {"decay": decay})
