"""Where in autograd's graph a gradient dies.

It walks from a loss to its leaves and does not depend on modules.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from torch import Tensor

from semalign.audit.evidence.records import FLAT_SLOPE

_FLAT = ("Round", "Sign", "Sgn", "Floor", "Ceil", "Trunc", "Heaviside")
_CURVES = ("SigmoidBackward", "TanhBackward", "SoftplusBackward", "LogSigmoidBackward", "ExpBackward")


@dataclasses.dataclass(frozen=True)
class Death:
    """The operation where a gradient becomes 0.

    Attributes:
        op: autograd's name of the operation; "" where there is no single one.
        cancels: gradients arrive on several ways and their sum is 0.
        zeros: where the operation is a product with zeros, how many; else 0.
    """

    op: str
    cancels: bool = False
    zeros: int = 0

    @property
    def is_flat(self) -> bool:
        """Whether its derivative is 0 everywhere."""
        return self.op.startswith(_FLAT)

    @property
    def is_curve(self) -> bool:
        """Whether it is a bounded curve, which gives 0 where it is saturated."""
        return self.op.startswith(_CURVES)

    @property
    def is_bound(self) -> bool:
        """Whether it is a clamp with an upper bound, or a choice between a tensor and a bound."""
        return self.op.startswith(
            ("ClampBackward", "ClampMax", "Minimum", "Maximum", "Fmin", "Fmax", "Hardtanh", "Hardsigmoid")
        )

    @property
    def is_choice(self) -> bool:
        """Whether it takes one of two tensors by a mask."""
        return self.op.startswith("Where")

    @property
    def is_own(self) -> bool:
        """Whether it is somebody's own autograd function; those of torch end with a number."""
        return self.op.endswith("Backward")

    @property
    def is_softmax(self) -> bool:
        """Whether it is a softmax, which gives 0 where it is saturated."""
        return "Softmax" in self.op or "ScaledDotProduct" in self.op


def _nodes(root: Any) -> dict[Any, list[tuple[Any, int]]]:
    """Return each node below ``root`` with its consumers, the nodes that take its gradient from their input slot."""
    consumers: dict[Any, list[tuple[Any, int]]] = {root: []}
    stack = [root]
    while stack:
        node = stack.pop()
        for slot, (child, _) in enumerate(node.next_functions):
            if child is None:
                continue
            if child not in consumers:
                consumers[child] = []
                stack.append(child)
            consumers[child].append((node, slot))
    return consumers


def _above(consumers: Mapping[Any, list[tuple[Any, int]]], starts: Iterable[Any]) -> Iterator[tuple[Any, int]]:
    """Yield consumers with the slot they are reached by, the nearest first, on all ways from ``starts`` to the loss."""
    front = collections.deque(starts)
    seen = set(front)
    while front:
        for consumer, slot in consumers[front.popleft()]:
            yield consumer, slot
            if consumer not in seen:
                seen.add(consumer)
                front.append(consumer)


def _leaf_nodes(loss: Tensor, tensors: Iterable[Tensor]) -> tuple[dict[Any, list[tuple[Any, int]]], dict[int, Any]]:
    """Return the graph of ``loss``, and by id of a tensor its node in it."""
    wanted = {id(t) for t in tensors}
    if loss.grad_fn is None or not wanted:
        return {}, {}
    consumers = _nodes(loss.grad_fn)
    leaf_nodes = (node for node in consumers if hasattr(node, "variable"))
    return consumers, {id(node.variable): node for node in leaf_nodes if id(node.variable) in wanted}


def leaves(loss: Tensor) -> list[Tensor]:
    """Return the leaves that get a gradient from ``loss``."""
    if loss.grad_fn is None:
        return []
    return [node.variable for node in _nodes(loss.grad_fn) if hasattr(node, "variable")]


def find_deaths(loss: Tensor, tensors: Iterable[Tensor]) -> dict[int, Death]:
    """Run backward and return by id of a leaf where its gradient dies; leaves without a path to ``loss`` are left out.

    The search goes from the leaf towards the loss to the first operation that receives a gradient and passes on none.
    """
    consumers, starts = _leaf_nodes(loss, tensors)
    if not starts:
        return {}
    passed: dict[Any, tuple[list[bool], bool]] = {}
    zeros: dict[Any, list[int]] = {}
    hooks = []
    for node in {node for node, _ in _above(consumers, starts.values())}:

        def hook(gradients: Any, received: Any, node: Any = node) -> None:
            flows = [g is not None and bool((g != 0).any()) for g in gradients]
            arrives = any(g is not None and bool((g != 0).any()) for g in received)
            passed[node] = (flows, arrives)
            if arrives and not all(flows) and node.name().startswith("MulBackward"):
                zeros[node] = [_zeros(node, name) for name in ("_saved_other", "_saved_self")]

        hooks.append((node, hook))
    _backward(loss, hooks)
    deaths = {}
    for key, start in starts.items():
        own = [passed.get(consumer, ([], False))[0][slot : slot + 1] for consumer, slot in consumers[start]]
        deaths[key] = Death("", cancels=[True] in own)
        for consumer, slot in _above(consumers, [start]):
            flows, arrives = passed.get(consumer, ([], False))
            if arrives and not (slot < len(flows) and flows[slot]):
                factors = zeros.get(consumer, [])
                deaths[key] = Death(consumer.name(), zeros=factors[slot] if slot < len(factors) else 0)
                break
    return deaths


def learn_past(loss: Tensor, tensors: Iterable[Tensor]) -> set[int]:
    """Run backward with flat curves closed and return the ids of those ``tensors`` that have a gradient all the same.

    Args:
        loss: where backward begins.
        tensors: leaves.

    Returns:
        Nothing where no curve of the graph is flat, as where the curve is inside of somebody's own function.
    """
    if loss.grad_fn is None:
        return set()
    limits = {word.replace("_", ""): slope for word, slope in FLAT_SLOPE.items()}
    closed: list[Any] = []
    hooks = []
    for node in _nodes(loss.grad_fn):
        kind = re.sub(r"Backward\d*$", "", node.name()).lower()
        limit = limits.get(kind, limits.get(f"{kind}forward"))
        if limit is None:
            continue

        def hook(gradients: Any, received: Any, node: Any = node, limit: float = limit) -> Any:
            arrives = max((float(g.abs().max()) for g in received if g is not None and g.numel()), default=0.0)
            leaves_it = max((float(g.abs().max()) for g in gradients if g is not None and g.numel()), default=0.0)
            # Near 1 a curve in float32 is rounded by some percent of such a slope.
            if arrives == 0 or leaves_it > 2 * limit * arrives:
                return None
            closed.append(node)
            return tuple(None if g is None else g.new_zeros(g.shape) for g in gradients)

        hooks.append((node, hook))
    _backward(loss, hooks)
    if not closed:
        return set()
    return {id(t) for t in tensors if t.grad is not None and bool((t.grad != 0).any())}


def _backward(loss: Tensor, hooks: Iterable[tuple[Any, Callable[..., Any]]]) -> None:
    """Run backward with hooks on nodes of the graph, which are gone afterwards."""
    with contextlib.ExitStack() as stack:
        for node, hook in hooks:
            stack.callback(node.register_hook(hook).remove)
        loss.backward()  # type: ignore[no-untyped-call]


def _zeros(node: Any, name: str) -> int:
    """Return how many numbers a saved factor of a product has where all are 0, else 0."""
    try:
        factor = getattr(node, name)
    except (AttributeError, RuntimeError):
        return 0
    if not isinstance(factor, Tensor) or bool((factor != 0).any()):
        return 0
    return factor.numel()


def first_sinks(loss: Tensor, tensors: Iterable[Tensor]) -> dict[int, str]:
    """Return by id of a leaf the first softmax or normalisation on its way to ``loss``, "" where there is none."""
    consumers, starts = _leaf_nodes(loss, tensors)
    sinks = ("Softmax", "ScaledDotProduct", "Norm")
    return {
        key: next((n.name() for n, _ in _above(consumers, [start]) if any(word in n.name() for word in sinks)), "")
        for key, start in starts.items()
    }
