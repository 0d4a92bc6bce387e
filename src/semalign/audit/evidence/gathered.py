"""All evidence about one model, which the rules read."""

from __future__ import annotations

import dataclasses
import functools
import math
import re

import torch
from torch import Tensor

from semalign.audit.evidence.endings import Ending, ending_of_knob, ending_of_weight
from semalign.audit.evidence.experiment import Experiment
from semalign.audit.evidence.graph import Death, find_deaths, first_sinks, learn_past, leaves
from semalign.audit.evidence.groups import Group, LeftOut, find_left_out
from semalign.audit.evidence.influence import best_gradient, change_if_cancelled, influence
from semalign.audit.evidence.names import is_builtin, is_container, mentioned
from semalign.audit.evidence.products import TRIALS, ClosedProduct, find_closed_products
from semalign.audit.evidence.records import Site, Squash, is_small
from semalign.audit.evidence.rewriting import Rewriting, find_rewritings
from semalign.audit.evidence.steps import Steps
from semalign.audit.evidence.subject import Loose
from semalign.audit.evidence.trace import Trace
from semalign.audit.evidence.watched import Watched, watched_tensors

NO_INFLUENCE = 1e-3
UNDERFLOW = 1e-9


@dataclasses.dataclass(frozen=True)
class DeadPart:
    """Weights without gradient.

    Attributes:
        path: the highest module in which nothing has a gradient; the tensor's own path where it is a single one.
        members: the weights.
        ending: the step without derivative that they run into; None where they may be idle on purpose.
    """

    path: str
    members: tuple[Watched, ...]
    ending: Ending | None


@dataclasses.dataclass(frozen=True)
class QuietBias:
    """A vector whose gradients, or those of a part of it, are rounding noise.

    Attributes:
        tensor: the vector.
        part: "", "middle-third" or "first-half".
        sink: autograd's name of the softmax or normalisation behind it.
        largest: largest gradient of the part.
    """

    tensor: Watched
    part: str
    sink: str
    largest: float


@dataclasses.dataclass(frozen=True)
class Evidence:
    """What the steps showed, and experiments, each of which is run when a rule first asks for it.

    Attributes:
        experiment: the model to experiment with; every experiment puts back what it changes.
        steps: what was seen in the steps.
    """

    experiment: Experiment
    steps: Steps

    @property
    def trace(self) -> Trace:
        """What the first forward did."""
        return self.steps.trace

    @functools.cached_property
    def tensors(self) -> dict[str, Watched]:
        """All watched tensors by name."""
        return watched_tensors(self.experiment, self.steps)

    @functools.cached_property
    def learnable(self) -> tuple[Watched, ...]:
        """Those that learn."""
        return tuple(self.tensors[name] for name in self.steps.lives)

    def learnable_of(self, bits: int) -> list[Watched]:
        """Return the learnable tensors of a trace's bits."""
        return [self.tensors[name] for name in self.trace.names_of(bits) if name in self.steps.lives]

    # ---- parts of the model ----

    def part_around(self, tensor: Watched) -> str:
        """Return the lowest module around a tensor that has weights of more than one axis, "" for the model."""
        path = tensor.path
        while path:
            module = self.experiment.modules.get(path)
            if module is not None and any(p.numel() > 1 and not is_small(p) for p in module.parameters()):
                return path
            path = path.rpartition(".")[0]
        return ""

    def is_idle(self, path: str) -> bool:
        """Whether nothing below a module has a gradient."""
        return all(other.is_dead for other in self.learnable if other.name.startswith(path + "."))

    def highest_idle(self, path: str) -> str:
        """Return the highest module around ``path`` in which nothing has a gradient."""
        best = path
        while path:
            if self.is_idle(path):
                best = path
            path = path.rpartition(".")[0]
        return best

    # ---- the optimizer ----

    @property
    def caller_optimizer(self) -> torch.optim.Optimizer | None:
        """The caller's optimizer, None where the audit took one of its own."""
        return None if self.experiment.is_own_optimizer else self.experiment.optimizer

    @functools.cached_property
    def live(self) -> tuple[Watched, ...]:
        """Registered tensors that had a gradient and were there before the first forward."""
        registered = self.experiment.registered
        return tuple(
            t for t in self.learnable if t.name in registered and not t.is_dead and t.name not in self.steps.created
        )

    @property
    def holds_nothing(self) -> bool:
        """Whether the caller's optimizer holds nothing that has a gradient."""
        return bool(self.live) and all(self.is_outside_optimizer(t) for t in self.live)

    @functools.cached_property
    def groups(self) -> tuple[Group, ...]:
        """The groups of the caller's optimizer; none where it holds nothing that has a gradient."""
        if self.caller_optimizer is None or self.holds_nothing:
            return ()
        by_id = {id(t.tensor): t for t in self.tensors.values()}
        return tuple(
            Group(index, group, tuple(by_id[id(p)] for p in group["params"] if id(p) in by_id))
            for index, group in enumerate(self.caller_optimizer.param_groups)
        )

    @functools.cached_property
    def left_out(self) -> tuple[LeftOut, ...]:
        """What has a gradient and is in no group of the caller's optimizer, by the highest module left out."""
        known = {id(t) for t in self.experiment.watched.values()} | {id(c.tensor) for c in self.steps.created.values()}
        return tuple(find_left_out(self.groups, self.live, known)) if self.groups else ()

    def is_outside_optimizer(self, tensor: Watched) -> bool:
        """Whether a learnable tensor is in no group of the optimizer."""
        x = self.experiment
        return x.optimizer is not None and tensor.learns and id(tensor.tensor) not in x.group_of

    # ---- tensors that the optimizer cannot have ----

    def is_idle_replacement(self, name: str) -> bool:
        """Whether a forward put another parameter in the place of weights that had no gradient anyway, and keeps it."""
        made, life = self.steps.created[name], self.steps.lives.get(name)
        return made.replaces_weights and life is not None and life.is_dead and not made.is_made_anew

    @functools.cached_property
    def loose_in_use(self) -> tuple[Loose, ...]:
        """Loose tensors that the forward reads, but for those of loose modules and those that the forward replaces."""
        return tuple(
            item
            for item in self.experiment.loose
            if not item.home and self.tensors[item.path].uses and item.path not in self.steps.replaced
        )

    @functools.cached_property
    def misplaced(self) -> frozenset[str]:
        """Names of tensors that the optimizer cannot have: made in the forward, loose, or the source of a loose one."""
        x = self.experiment
        sources = {
            id(x.subject.standing_for(leaf))
            for item in self.loose_in_use
            if item.kind == "derived"
            for leaf in leaves(item.tensor)
        }
        return frozenset(
            (
                *self.steps.created,
                *(item.path for item in x.loose),
                *(name for name, parameter in x.parameters.items() if id(parameter) in sources),
            )
        )

    @functools.cached_property
    def rewritings(self) -> tuple[Rewriting, ...]:
        """What a forward or a hook of the optimizer's step writes over a parameter."""
        return tuple(find_rewritings(self.experiment, self.steps, self.misplaced))

    @functools.cached_property
    def single_token_sites(self) -> tuple[Site, ...]:
        """Softmaxes over one token whose weights are used."""
        return tuple(s for s in self.trace.flow.sites if s.tokens == 1 and (s.is_attention or s.is_mixture))

    @functools.cached_property
    def explained(self) -> frozenset[str]:
        """Names of tensors whose fault is known without looking at their gradient."""
        overwritten = (item.name for item in self.rewritings if item.kind != "bounded")
        of_single_tokens = (
            tensor.name
            for site in self.single_token_sites
            for tensor in self.learnable_of(site.knobs)
            if all(other.tokens == 1 for other in tensor.sites)
        )
        return self.misplaced.union(overwritten, of_single_tokens)

    # ---- without any gradient ----

    @functools.cached_property
    def dead(self) -> tuple[Watched, ...]:
        """Tensors that never had a gradient and are not explained otherwise."""
        return tuple(t for t in self.learnable if t.is_dead and t.name not in self.explained)

    @functools.cached_property
    def deaths(self) -> dict[str, Death]:
        """By name of a dead tensor with a path to the loss, where its gradient dies at the starting values."""
        if not self.dead:
            return {}
        found = find_deaths(self.experiment.loss_at_start(), [t.tensor for t in self.dead])
        self.experiment.zero()
        return {t.name: found[id(t.tensor)] for t in self.dead if id(t.tensor) in found}

    @functools.cached_property
    def closed_products(self) -> list[ClosedProduct]:
        """Factors that start at 0 and keep each other there."""
        return find_closed_products(self, list(self.deaths))

    @functools.cached_property
    def dead_alone(self) -> tuple[tuple[Watched, ...], tuple[Watched, ...]]:
        """Dead knobs and dead weights that no closed product explains."""
        held = frozenset().union(*(product.explains for product in self.closed_products))
        alone = [t for t in self.dead if t.name not in held]
        knobs = [t for t in alone if t.is_factor or self._is_left_out(t)]
        return tuple(knobs), tuple(t for t in alone if t not in knobs)

    def _is_left_out(self, tensor: Watched) -> bool:
        """Whether no operation, nor any code of its module, reads a parameter that a module holds itself."""
        owner, attribute, path = tensor.owner, tensor.attribute, tensor.path
        if tensor.uses or is_builtin(owner) or is_container(owner) or attribute == "bias":
            return False
        if path and path not in self.trace.ran:
            return False
        return mentioned(owner, attribute) is False or (is_small(tensor.tensor) and self.influence(tensor) > 0)

    @functools.cached_property
    def dead_knobs(self) -> tuple[tuple[Watched, Ending], ...]:
        """Temperatures, gates and other factors without gradient, with where it ends."""
        return tuple((t, ending_of_knob(self, t, self.deaths.get(t.name))) for t in self.dead_alone[0])

    @functools.cached_property
    def dead_parts(self) -> tuple[DeadPart, ...]:
        """Other weights without gradient, by the highest module in which nothing has one."""
        groups: dict[str, list[Watched]] = {}
        for tensor in self.dead_alone[1]:
            groups.setdefault(self.highest_idle(tensor.path), []).append(tensor)
        parts = []
        trials = TRIALS
        for path, members in groups.items():
            ending = None
            for tensor in members[:2]:
                if trials and ending is None and tensor.uses:
                    trials -= 1
                    ending = ending_of_weight(self, tensor, self.deaths.get(tensor.name))
            parts.append(DeadPart(members[0].name if len(members) == 1 else path, tuple(members), ending))
        return tuple(parts)

    # ---- other values ----

    @functools.cached_property
    def output_at_start(self) -> list[Tensor]:
        """The output at the starting values."""
        self.experiment.restore()
        return self.experiment.output()

    @functools.cached_property
    def _influences(self) -> dict[str, float]:
        return {}

    def influence(self, tensor: Watched) -> float:
        """Return the largest relative change of the output over some other values of a tensor."""
        if tensor.name not in self._influences:
            self._influences[tensor.name] = influence(self.experiment, self.output_at_start, tensor)
        return self._influences[tensor.name]

    def comes_alive(self, tensor: Watched) -> bool:
        """Whether a tensor has a gradient at some other value of its own."""
        return best_gradient(self.experiment, tensor) > 0

    # ---- hardly any gradient ----

    @functools.cached_property
    def on_flat_curves(self) -> dict[str, Squash]:
        """By name of a live knob, the flat curve that every way to the loss leads through."""
        suspects = {
            t.name: flat[0]
            for t in self.learnable
            if not t.is_dead and t.name not in self.explained and t.is_factor
            for flat in [[squash for squash in t.squashes if squash.attached and squash.is_flat]]
            if flat
        }
        if not suspects:
            return {}
        learning = learn_past(self.experiment.loss_at_start(), [self.tensors[name].tensor for name in suspects])
        self.experiment.zero()
        return {name: squash for name, squash in suspects.items() if id(self.tensors[name].tensor) not in learning}

    @functools.cached_property
    def _faint(self) -> tuple[dict[str, float], dict[str, float]]:
        """By name of a knob with hardly any gradient: its gradient at another value; its change if cancelled."""
        losses = (abs(value) for value in self.steps.loss_values if math.isfinite(value))
        size = max(losses, default=1.0) if self.experiment.subject.loss else 1.0
        known = self.explained.union(self.on_flat_curves)
        alike: dict[str, list[Watched]] = {}
        for tensor in self.learnable:
            life = tensor.life
            if life.is_dead or "nan" in life.gradients or not tensor.is_factor or tensor.name in known:
                continue
            if life.largest * max(0.1, float(tensor.start.abs().max())) < NO_INFLUENCE * max(size, 1e-3):
                alike.setdefault(re.sub(r"\d+", "*", tensor.name), []).append(tensor)
        underflowing: dict[str, float] = {}
        cancelled: dict[str, float] = {}
        for group in list(alike.values())[:TRIALS]:
            faintest = group[0].life.largest
            if faintest < UNDERFLOW and best_gradient(self.experiment, group[0]) > 1e4 * faintest:
                underflowing |= {t.name: best_gradient(self.experiment, t) for t in group}
                continue
            for tensor in group:
                moved = change_if_cancelled(self.experiment, tensor, self.tensors)
                if moved is None:
                    break
                cancelled[tensor.name] = moved
        return underflowing, cancelled

    @property
    def underflowing(self) -> dict[str, float]:
        """By name of a knob whose gradient underflows, its largest gradient at another value."""
        return self._faint[0]

    @property
    def cancelled(self) -> dict[str, float]:
        """By name of a knob that what follows cancels, the largest change of the output at larger values."""
        return self._faint[1]

    @functools.cached_property
    def quiet_biases(self) -> tuple[QuietBias, ...]:
        """Vectors that a softmax or a normalisation behind them cancels, in whole or in part."""
        known = self.explained.union(self.on_flat_curves, self.underflowing, self.cancelled)
        quiet: dict[str, str] = {}
        for tensor in self.learnable:
            life = tensor.life
            if tensor.name in known or tensor.tensor.ndim != 1 or life.sizes is None or life.is_dead:
                continue
            loudest = self._loudest_beside(tensor)
            part = _quiet_part(life.sizes)
            if loudest > 0 and life.largest < 1e-5 * loudest:
                quiet[tensor.name] = ""
            elif part:
                quiet[tensor.name] = part
        if not quiet:
            return ()
        sinks = first_sinks(self.experiment.loss_at_start(), [self.tensors[name].tensor for name in quiet])
        found = []
        for name, part in quiet.items():
            tensor = self.tensors[name]
            sink = sinks.get(id(tensor.tensor), "")
            if sink and not (part and "Norm" in sink) and tensor.life.sizes is not None:
                sizes = _parts(tensor.life.sizes)[part] if part else tensor.life.sizes
                found.append(QuietBias(tensor, part, sink, float(sizes.max())))
        return tuple(found)

    def _loudest_beside(self, tensor: Watched) -> float:
        """Return the largest gradient of the weight beside a bias, or of a vector's module."""
        stem, _, last = tensor.name.rpartition(".")
        lives = self.steps.lives
        if last == "bias":
            return lives[f"{stem}.weight"].largest if f"{stem}.weight" in lives else 0.0
        return max((life.largest for n, life in lives.items() if n.rpartition(".")[0] == tensor.path), default=0.0)

    # ---- bounds ----

    @functools.cached_property
    def entries_at_bounds(self) -> tuple[tuple[Watched, Squash, int], ...]:
        """Live vectors with entries outside of a bound or on a clamp's, and how many are outside, without gradient."""
        found = []
        for tensor in self.tensors.values():
            life = tensor.life
            if life.is_dead or life.sizes is None or not tensor.is_factor:
                continue
            for squash in tensor.squashes:
                if not squash.attached or squash.outside.numel() != life.sizes.numel():
                    continue
                stuck = squash.outside.flatten() & (life.sizes.flatten() == 0)
                is_clamp = "clamp" in squash.op or bool(squash.limits)
                if bool(stuck.any()) or (is_clamp and bool(squash.on_edge.any())):
                    found.append((tensor, squash, int(stuck.sum())))
                    break
        return tuple(found)


def _parts(sizes: Tensor) -> dict[str, Tensor]:
    """Return the places of the keys where one vector holds queries, keys and values, or keys and values."""
    n = sizes.numel()
    parts = {}
    if n % 3 == 0:
        parts["middle-third"] = sizes[n // 3 : 2 * n // 3]
    if n % 2 == 0:
        parts["first-half"] = sizes[: n // 2]
    return parts


def _quiet_part(sizes: Tensor) -> str:
    """Return which part of a vector has gradients of rounding noise alone while all the rest has others, else ""."""
    largest = float(sizes.max())
    for name, part in _parts(sizes).items():
        loud = int((sizes > 1e-4 * largest).sum())
        if part.numel() >= 2 and float(part.max()) < 1e-5 * largest and loud == sizes.numel() - part.numel():
            return name
    return ""
