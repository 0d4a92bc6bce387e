"""Where the way from a learnable tensor to the loss ends, for those that never had a gradient."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from semalign.audit.describe import place, where_outside
from semalign.audit.evidence.graph import Death
from semalign.audit.evidence.influence import NO_CHANGE
from semalign.audit.evidence.names import depends_on_input, is_container, mentioned
from semalign.audit.evidence.records import How, is_small
from semalign.audit.evidence.watched import Watched
from semalign.wording import Message, say

if TYPE_CHECKING:
    from semalign.audit.evidence.gathered import Evidence


@dataclasses.dataclass(frozen=True)
class Ending:
    """Where the gradient of a tensor ends.

    Attributes:
        kind: what was seen; its sentence is ``audit.ending.KIND``.
        values: of that sentence.
    """

    kind: str
    values: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def message(self) -> Message:
        """What was seen, as a clause."""
        return say(f"audit.ending.{self.kind}", **self.values)


def ending_of_knob(e: Evidence, tensor: Watched, death: Death | None) -> Ending:
    """Return where the gradient of a dead knob ends, the nearest cause.

    Args:
        e: the evidence.
        tensor: the knob.
        death: where in autograd's graph its gradient dies; None where there is no path.
    """
    for look in _LOOKS:
        found = look(e, tensor, death)
        if found is not None:
            return found
    return _anywhere(e, tensor, death)


def ending_of_weight(e: Evidence, tensor: Watched, death: Death | None) -> Ending | None:
    """Return the step without derivative that weights run into; None where they may be idle on purpose."""
    if death is not None and death.is_flat:
        return Ending("no-derivative", {"op": death.op})
    if death is not None and death.is_curve:
        return Ending("flat-everywhere", {"op": death.op})
    if death is not None or any(use.how in ("detached", "no-grad", "number") for use in tensor.uses):
        return None
    compared = sorted({use.op for use in tensor.uses if use.how == "comparison"})
    if compared and not _arrives(tensor) and e.influence(tensor) > NO_CHANGE:
        return Ending("comparisons", {"ops": tuple(compared)})
    return None


def _arrives(tensor: Watched) -> bool:
    # Without gradients on, as in a recomputed part, a gradient of 0 all the same shows that there is a way.
    return "zero" in tensor.life.gradients


def _at_bound(e: Evidence, tensor: Watched, death: Death | None) -> Ending | None:
    for squash in tensor.squashes:
        if (squash.attached or _arrives(tensor)) and bool(squash.outside.all()):
            return Ending("bound", {"how": where_outside(squash)})
    for squash in tensor.squashes:
        if (squash.attached or _arrives(tensor)) and squash.is_flat:
            return Ending("flat-curve", {"op": squash.op, "slope": float(squash.slope.max())})
    return None


def _unread(e: Evidence, tensor: Watched, death: Death | None) -> Ending | None:
    """Return why no operation of the forward reads a tensor."""
    if tensor.uses:
        return None
    name, path, kind = tensor.name, tensor.path, type(tensor.owner).__name__
    if e.influence(tensor) > NO_CHANGE:
        return Ending("read-without-operation")
    if name not in e.experiment.registered:
        return Ending("unread")
    siblings = name.rpartition(".")[0]
    if siblings not in ("", path) and any(
        not other.is_dead and other.name != name and other.name.rpartition(".")[0] == siblings for other in e.learnable
    ):
        return Ending("another-of-its-list")
    if path in e.trace.ran or not path:
        if e.experiment.is_read_at_other_draws(name):
            return Ending("other-draws")
        if depends_on_input(tensor.owner, tensor.attribute):
            return Ending("condition-of-input", {"owner": kind})
        return Ending("unread")
    if mentioned(tensor.owner, tensor.attribute) is False:
        return Ending("unmentioned", {"owner": kind, "attribute": tensor.attribute})
    # The module never ran: it may be an expert without work, or nobody calls it.
    parent, _, child = path.rpartition(".")
    above = e.experiment.modules.get(parent)
    only_knobs = all(is_small(p) for p in tensor.owner.parameters())
    if above is not None and not is_container(above) and only_knobs and mentioned(above, child) is False:
        return Ending("unmentioned", {"owner": type(above).__name__, "attribute": child})
    return Ending("not-called", {"path": path})


def _without_path(e: Evidence, tensor: Watched, death: Death | None) -> Ending | None:
    """Return why autograd has no path from a knob to the loss."""
    if death is not None and death.is_own:
        return Ending("own-backward", {"op": death.op})
    if not tensor.life.gradients or _arrives(tensor):
        return None
    whole = e.part_around(tensor)
    cuts: tuple[How, ...] = ("number", "no-grad", "detached")
    if whole and e.is_idle(whole):
        inside = [use for use in tensor.uses if use.how in (*cuts, "comparison")]
        if not e.trace.ran.get(whole, True) or not any((use.path + ".").startswith(whole + ".") for use in inside):
            return Ending("idle-part", {"path": whole})
    for how in cuts:
        hits = sorted((use for use in tensor.uses if use.how == how), key=lambda use: (use.path, use.op))
        if hits:
            return Ending(how, {"path": place(hits[0].path), "op": hits[0].op})
    compared = [use for use in tensor.uses if use.how == "comparison"]
    if compared and any(use.how == "decision" for use in tensor.uses) and e.comes_alive(tensor):
        return Ending("decision", {"op": compared[0].op})
    if e.influence(tensor) > NO_CHANGE:
        return Ending("comparison", {"op": compared[0].op}) if compared else Ending("no-path")
    is_passed_on = tensor.path and e.trace.passed.get(tensor.path, 0) & e.trace.bit(tensor.name)
    if is_passed_on and not e.is_idle(tensor.path):
        return Ending("result-unused", {"owner": tensor.path})
    return Ending("no-consequence" if any(use.how == "attached" for use in tensor.uses) else "read-in-vain")


def _at_operation(e: Evidence, tensor: Watched, death: Death | None) -> Ending | None:
    """Return the operation that gives no gradient at any value."""
    if death is not None and death.is_softmax:
        entropy = [site.entropy for site in tensor.sites if math.isfinite(site.entropy)]
        if (not entropy or max(entropy) < 0.05) and e.influence(tensor) > NO_CHANGE:
            return Ending("one-hot")
        return Ending("softmax", {"op": death.op})
    if death is not None and death.is_flat:
        return Ending("no-derivative", {"op": death.op})
    return None


def _at_zeros(e: Evidence, tensor: Watched, death: Death | None) -> Ending | None:
    """Return whether the tensor is multiplied with zeros, its own or the batch's."""
    # A single 0 may be a constant; several, or one that the batch or chance made, are this batch's.
    if death is None or not (death.zeros > 1 or (death.zeros == 1 and e.trace.nulled & e.trace.bit(tensor.name))):
        return None
    return Ending("own-zeros" if e.comes_alive(tensor) else "zeros-of-batch", {"end": _end(death)})


def _anywhere(e: Evidence, tensor: Watched, death: Death | None) -> Ending:
    """Return what other values of the tensor do."""
    end = {"end": _end(death)}
    moved = e.influence(tensor)
    if moved <= NO_CHANGE:
        return Ending("no-change", {"change": moved, **end})
    if not e.comes_alive(tensor):
        return Ending("no-gradient-anywhere", end)
    if death is not None and death.cancels:
        return Ending("parts-cancel")
    if death is not None and (death.is_bound or (death.is_choice and _dies_alone(tensor, death))):
        return Ending("bound-in-graph", end)
    if death is not None and death.op and (death.is_curve or _dies_alone(tensor, death)):
        return Ending("flat-in-graph", end)
    return Ending("gradient-elsewhere", end)


def _dies_alone(tensor: Watched, death: Death) -> bool:
    """Whether the gradient of a tensor dies before it meets the batch."""
    op = re.sub(r"Backward\d*$", "", death.op).lower()
    ops: dict[bool, set[str]] = {True: set(), False: set()}
    for use in tensor.uses:
        ops[use.on_data].add(use.op.replace("_", ""))
    return op in ops[False] and op not in ops[True]


def _end(death: Death | None) -> Message | str:
    return say("audit.ending.at", op=death.op) if death is not None and death.op else ""


_LOOKS: tuple[Callable[[Evidence, Watched, Death | None], Ending | None], ...] = (
    _at_bound,
    _unread,
    _without_path,
    _at_operation,
    _at_zeros,
)
