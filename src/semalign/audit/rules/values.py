"""Faults of values: written over, on a bound, frozen against their name, not finite; and what wakes up."""

from __future__ import annotations

import math
from collections.abc import Iterator

from torch import nn

from semalign.audit.describe import value_of, written_over
from semalign.audit.evidence.gathered import Evidence
from semalign.audit.evidence.names import asks_to_learn, flag_is_about, flag_words, is_builtin, is_hint, learn_flags
from semalign.audit.evidence.records import is_small
from semalign.audit.evidence.watched import Watched
from semalign.audit.rules.rule import Hit
from semalign.wording import Message, say


def non_finite(evidence: Evidence) -> Iterator[Hit]:
    """Find a loss or a gradient that is not finite."""
    bad = [t for t in evidence.learnable if "nan" in t.life.gradients]
    losses = evidence.steps.loss_values
    if not bad and all(math.isfinite(value) for value in losses):
        return
    first = next((t.name for t in bad if t.is_knob), bad[0].name if bad else "")
    why = say("audit.non-finite.seen", loss=losses[-1], step=len(losses), n=len(bad), total=len(evidence.learnable))
    yield Hit((first,), why, {"tensors": len(bad)})


def overwritten(evidence: Evidence) -> Iterator[Hit]:
    """Find what the forward writes another value over."""
    for item in evidence.rewritings:
        if item.kind == "replaced" and is_small(evidence.tensors[item.name].tensor):
            yield Hit((item.name,), written_over(item))
        elif item.kind == "averaged":
            yield Hit((item.name,), say("audit.overwritten.averaged", kept=item.kept), {"kept": item.kept})


def pinned_at_bound(evidence: Evidence) -> Iterator[Hit]:
    """Find values on their bound that the gradient pushes outwards, or that one step makes dead."""
    for item in evidence.rewritings:
        if item.kind == "bounded":
            start = evidence.tensors[item.name].start
            why = say(
                "audit.pinned-at-bound.put-back",
                on=item.on_bound,
                entries=start.numel(),
                low=float(item.low.min()),
                high=float(item.high.max()),
            )
            yield Hit((item.name,), why, {"value": float(start.flatten()[0])})
    for tensor, squash, stuck in evidence.entries_at_bounds:
        # With entries outside it is `init-outside-bound`.
        if not stuck:
            low, high = squash.bounds
            on, entries = int(squash.on_edge.sum()), squash.on_edge.numel()
            why = say("audit.pinned-at-bound.edge", on=on, entries=entries, low=low, high=high)
            yield Hit((tensor.name,), why, {"value": float(squash.value.flatten()[0])})


def frozen_though_learnable(evidence: Evidence) -> Iterator[Hit]:
    """Find what does not learn, though its name or a flag of its module says learnable."""
    frozen = [t for t in evidence.tensors.values() if _is_frozen_alone(evidence, t)]
    asked = [t for t in frozen if _is_asked_to_learn(evidence, t)]
    for tensor in asked:
        why = say("audit.frozen-though-learnable.name", value=value_of(tensor.tensor), nature=_nature(evidence, tensor))
        yield Hit((tensor.name,), why)
    others = [
        t for t in frozen if t not in asked and is_small(t.tensor) and (is_hint(t.attribute) or t.multiplies) and t.uses
    ]
    for path, module in evidence.experiment.modules.items():
        learning = [t for t in evidence.learnable if t.path == path and is_small(t.tensor)]
        for flag in learn_flags(module):
            if any(flag_is_about(flag, t.attribute) for t in learning):
                continue
            found = next((t for t in others if t.path == path and flag_is_about(flag, t.attribute)), None)
            if found is not None:
                value, nature = value_of(found.tensor), _nature(evidence, found)
                why = say("audit.frozen-though-learnable.flag", flag=flag, value=value, nature=nature)
                yield Hit((found.name,), why)
                continue
            number = _python_number(module, flag)
            if number is not None:
                key, size = number
                why = say("audit.frozen-though-learnable.number", flag=flag, name=key, value=size)
                yield Hit((f"{path}.{key}" if path else key,), why, {"value": size})


def _is_frozen_alone(evidence: Evidence, tensor: Watched) -> bool:
    """Whether a tensor does not learn while others around it do."""
    is_candidate = is_small(tensor.tensor) or isinstance(tensor.tensor, nn.Parameter)
    if tensor.tensor.requires_grad or not is_candidate or is_builtin(tensor.owner):
        return False
    x = evidence.experiment
    return any(p.requires_grad for p in x.modules.get(evidence.part_around(tensor), x.model).parameters())


def _is_asked_to_learn(evidence: Evidence, tensor: Watched) -> bool:
    if asks_to_learn(tensor.attribute):
        return True
    # A flag or a module's name that says no more than learnable is about a parameter that is alone there.
    if not isinstance(tensor.tensor, nn.Parameter) or not tensor.uses:
        return False
    is_bare = any(not flag_words(flag) for flag in learn_flags(tensor.owner))
    is_alone = not any(other.path == tensor.path for other in evidence.learnable)
    return is_alone and (is_bare or asks_to_learn(tensor.path.rpartition(".")[2]))


def _python_number(module: nn.Module, flag: str) -> tuple[str, float] | None:
    for key, value in vars(module).items():
        if type(value) is float and is_hint(key) and key != flag and flag_is_about(flag, key):
            return key, value
    return None


def _nature(evidence: Evidence, tensor: Watched) -> Message:
    model = evidence.experiment.model
    if tensor.name in dict(model.named_parameters()):
        return say("audit.frozen-though-learnable.parameter")
    is_buffer = tensor.name in dict(model.named_buffers())
    return say("audit.frozen-though-learnable.buffer" if is_buffer else "audit.frozen-though-learnable.tensor")


def wakes_up(evidence: Evidence) -> Iterator[Hit]:
    """Find what starts at 0 and lets what is behind it get a gradient after one step."""
    woken = [t for t in evidence.learnable if t.life.woke_up]
    for tensor in evidence.learnable:
        if tensor.life.gradients[:1] != ("live",) or not tensor.is_zero:
            continue
        if not (tensor.is_knob or tensor.start.ndim > 1 or tensor.multiplies):
            continue
        near = [other for other in woken if _is_near(tensor, other)]
        if near:
            yield Hit(
                (tensor.name,), say("audit.wakes-up.seen", n=len(near), first=near[0].name), {"tensors": len(near)}
            )


def _is_near(zero: Watched, other: Watched) -> bool:
    """Whether a tensor may be behind one that is zero: in its module or in one beside it."""
    path = zero.path
    if path and isinstance(zero.owner, (nn.Linear, nn.Conv2d, nn.BatchNorm2d, nn.LayerNorm)):
        path = path.rpartition(".")[0]
    return not path or other.path == path or other.path.startswith(path.rpartition(".")[0])


def key_bias(evidence: Evidence) -> Iterator[Hit]:
    """Find key biases, which the softmax behind them cancels."""
    return _quiet(evidence, before_norm=False)


def cancelled_bias(evidence: Evidence) -> Iterator[Hit]:
    """Find biases that a normalisation behind them subtracts again."""
    return _quiet(evidence, before_norm=True)


def _quiet(evidence: Evidence, before_norm: bool) -> Iterator[Hit]:
    for item in evidence.quiet_biases:
        if ("Norm" in item.sink) == before_norm:
            key = f"audit.quiet-bias.{item.part}" if item.part else "audit.quiet-bias.whole"
            yield Hit((item.tensor.name,), say(key, largest=item.largest, sink=item.sink), {"gradient": item.largest})
