"""Faults of tensors that never had a gradient, or have one of rounding noise.

For a temperature, gate or other factor without gradient the evidence has the place where its gradient ends
(`semalign.audit.evidence.endings`); each of these rules lists the endings that are its fault.
"""

from __future__ import annotations

from collections.abc import Iterator

from semalign.audit.describe import value_of, where_outside, written_over
from semalign.audit.evidence.gathered import Evidence
from semalign.audit.evidence.records import is_small
from semalign.audit.rules.rule import Hit
from semalign.wording import say


def _ending_at(evidence: Evidence, *kinds: str) -> Iterator[Hit]:
    """Yield the dead knobs whose gradient ends in one of these ways, then the parts of other weights."""
    for tensor, ending in evidence.dead_knobs:
        if ending.kind not in kinds:
            continue
        gradients = tensor.life.gradients
        seen = say(
            "audit.dead.knob" if tensor.uses else "audit.dead.unread-knob",
            role=say(f"audit.role.{tensor.role}"),
            value=value_of(tensor.start),
            gradient=say("audit.dead.zero" if "zero" in gradients else "audit.dead.absent", n=len(gradients)),
            why=ending.message,
        )
        numbers = {"value": float(tensor.start.flatten()[0]), "steps": len(gradients)}
        yield Hit((tensor.name,), seen, numbers)
    for part in evidence.dead_parts:
        if part.ending is not None and part.ending.kind in kinds:
            count = len(part.members)
            why = say("audit.dead.part", n=count, first=part.members[0].name, why=part.ending.message)
            yield Hit((part.path,), why, {"tensors": count})


def init_outside_bound(evidence: Evidence) -> Iterator[Hit]:
    """Find starting values outside the bound that the forward clamps them to."""
    yield from _ending_at(evidence, "bound", "decision", "parts-cancel", "bound-in-graph")
    for tensor, squash, stuck in evidence.entries_at_bounds:
        if stuck:
            entries = squash.outside.numel()
            why = say("audit.init-outside-bound.entries", outside=stuck, entries=entries, how=where_outside(squash))
            yield Hit((tensor.name,), why, {"outside": stuck})


def two_zero_factors(evidence: Evidence) -> Iterator[Hit]:
    """Find factors of one product that start at 0 and keep each other there."""
    for product in evidence.closed_products:
        frozen = tuple(tensor.name for tensor in product.factors if not tensor.learns)
        why = say(
            "audit.two-zero-factors.frozen" if frozen else "audit.two-zero-factors.all", names=frozen, n=product.woken
        )
        yield Hit(tuple(tensor.name for tensor in product.factors), why, {"tensors": product.woken})


def detached(evidence: Evidence) -> Iterator[Hit]:
    """Find values that are used, but cut from the graph."""
    return _ending_at(evidence, "detached")


def turned_into_number(evidence: Evidence) -> Iterator[Hit]:
    """Find values that are used as Python numbers."""
    return _ending_at(evidence, "number", "read-without-operation")


def no_grad(evidence: Evidence) -> Iterator[Hit]:
    """Find values that are used only where gradients are switched off."""
    return _ending_at(evidence, "no-grad")


def never_used(evidence: Evidence) -> Iterator[Hit]:
    """Find tensors that nothing of what the loss sees depends on."""
    return _ending_at(evidence, "unread", "unmentioned", "no-consequence", "read-in-vain")


def zero_gradient(evidence: Evidence) -> Iterator[Hit]:
    """Find tensors that change the output without any gradient."""
    return _ending_at(
        evidence, "own-backward", "no-derivative", "comparison", "comparisons", "no-path", "no-gradient-anywhere"
    )


def not_reached(evidence: Evidence) -> Iterator[Hit]:
    """Find knobs that get no gradient with this batch and may get one with another."""
    return _ending_at(
        evidence,
        *("another-of-its-list", "other-draws", "condition-of-input", "not-called"),
        *("idle-part", "result-unused", "zeros-of-batch", "gradient-elsewhere"),
    )


def saturated(evidence: Evidence) -> Iterator[Hit]:
    """Find activations that are so flat at the start that the gradient underflows."""
    yield from _ending_at(evidence, "flat-curve", "flat-everywhere", "one-hot", "own-zeros", "flat-in-graph")
    for name, squash in evidence.on_flat_curves.items():
        slope = float(squash.slope.max())
        value = value_of(evidence.tensors[name].start)
        yield Hit((name,), say("audit.saturated.slope", value=value, op=squash.op, slope=slope), {"slope": slope})
    for name, best in evidence.underflowing.items():
        gradient = evidence.steps.lives[name].largest
        value = value_of(evidence.tensors[name].start)
        why = say("audit.saturated.underflow", value=value, gradient=gradient, best=best)
        yield Hit((name,), why, {"gradient": gradient})


def no_effect(evidence: Evidence) -> Iterator[Hit]:
    """Find knobs that what follows cancels."""
    yield from _ending_at(evidence, "softmax", "no-change")
    for name, moved in evidence.cancelled.items():
        gradient = evidence.steps.lives[name].largest
        value = value_of(evidence.tensors[name].start)
        why = say("audit.no-effect.cancelled", value=value, gradient=gradient, change=moved)
        yield Hit((name,), why, {"gradient": gradient, "change": moved})


def unused_weights(evidence: Evidence) -> Iterator[Hit]:
    """Find weights that get no gradient with this batch, or are left out of the optimizer as a whole."""
    for name, made in evidence.steps.created.items():
        if made.replaces_weights and not made.has_gradient and not evidence.is_idle_replacement(name):
            yield Hit((name,), say("audit.unused-weights.replaced"))
    for item in evidence.rewritings:
        if item.kind == "replaced" and not is_small(evidence.tensors[item.name].tensor):
            yield Hit((item.name,), written_over(item))
    for part in evidence.dead_parts:
        if part.ending is None:
            count, numbers = len(part.members), sum(t.tensor.numel() for t in part.members)
            key = (
                "audit.unused-weights.no-gradient"
                if any(t.uses for t in part.members)
                else "audit.unused-weights.unread"
            )
            why = say(key, n=count, numbers=numbers, first=part.members[0].name)
            yield Hit((part.path,), why, {"tensors": count, "numbers": numbers})
    for left in evidence.left_out:
        if left.is_on_purpose:
            why = say("audit.unused-weights.left-out", numbers=left.numbers, total=left.total)
            yield Hit((left.path,), why, {"numbers": left.numbers})
