"""From what was observed to findings.

Each function looks for one family of faults in an `Experiment` that has run; a cause is named only where it was seen in
the trace or shown by changing a value.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from semalign.audit.copying import seed_all
from semalign.audit.experiment import Experiment
from semalign.audit.findings import Finding
from semalign.audit.graph import Death, find_deaths, first_sinks, learn_past, leaves
from semalign.audit.names import (
    asks_to_learn,
    depends_on_input,
    is_builtin,
    is_container,
    is_hint,
    learn_flags,
    mentioned,
    split_owner,
)
from semalign.audit.trace import HALF_MAX, Site, Squash, Use, is_small

__all__ = ["diagnose", "optimizer_findings"]

FLAT_SLOPE = {"sigmoid": 1e-6, "tanh": 1e-6, "exp": 1e-12, "softplus": 1e-12, "log_sigmoid_forward": 1e-6}
NO_INFLUENCE = 1e-3
UNDERFLOW = 1e-9
NO_CHANGE = 1e-5
MUCH_CHANGE = 1e-2
UNIFORM = 0.99
STILL_UNIFORM = 0.9
TRIALS = 24


_Found = Callable[[str, str], Finding]


def diagnose(experiment: Experiment) -> list[Finding]:
    """Return all findings, unordered."""
    return list(_Diagnosis(experiment).findings())


class _Diagnosis:
    def __init__(self, experiment: Experiment) -> None:
        self.x = experiment
        self.trace = experiment.trace
        self.model = experiment.model
        self.uses: dict[str, list[Use]] = {name: [] for name in self.trace.names}
        for use in self.trace.uses:
            for name in self.trace.names_of(use.names):
                self.uses[name].append(use)
        self.squashes: dict[str, list[Squash]] = {}
        for squash in self.trace.squashes:
            for name in self.trace.names_of(squash.names):
                self.squashes.setdefault(name, []).append(squash)
        self.sites: dict[str, list[Site]] = {}
        for site in self.trace.sites:
            for name in self.trace.names_of(site.knobs):
                self.sites.setdefault(name, []).append(site)
        self.gates = {name for branch in self.trace.branches for name in self.trace.names_of(branch.knobs)}
        self.factors = set(self.trace.names_of(self.trace.multiplies))
        self.owners = {name: self.owner(name) for name in self.x.watched}
        self.dead = {name for name, life in self.x.lives.items() if life.is_dead}
        self.done: set[str] = set()
        """Names whose death is explained."""
        self._base: list[Tensor] | None = None
        self._trials = 0

    # ---- what a tensor is ----

    def owner(self, name: str) -> tuple[str, nn.Module, str]:
        """Return path and module of a tensor's owner, in the model or in the loss, and its name there."""
        loss = self.x.subject.loss
        if name.startswith("loss.") and isinstance(loss, nn.Module) and "loss" not in self.model._modules:
            path, owner, attribute = split_owner(loss, name.removeprefix("loss."))
            return f"loss.{path}".rstrip("."), owner, attribute
        return split_owner(self.model, name)

    def is_knob(self, name: str) -> bool:
        """Whether a tensor is a temperature, gate or other scalar factor, by role first and by name second."""
        tensor = self.x.watched[name]
        _, owner, attribute = self.owners[name]
        if not is_small(tensor) or is_builtin(owner):
            return False
        if "norm" in type(owner).__name__.lower() and tensor.numel() > 1:
            return False
        if tensor.numel() == 1:
            return True
        if attribute in ("bias", "weight") and name not in self.sites:
            return False
        return name in self.sites or name in self.gates or is_hint(attribute)

    def is_factor(self, name: str) -> bool:
        """Whether a tensor is a knob, or any other vector that multiplies what is made from the batch."""
        if self.is_knob(name):
            return True
        _, owner, attribute = self.owners[name]
        return (
            name in self.factors
            and is_small(self.x.watched[name])
            and not is_builtin(owner)
            and "norm" not in type(owner).__name__.lower()
            and attribute not in ("bias", "weight")
        )

    def role(self, name: str) -> str:
        """Return "temperature", "gate" or "factor", as far as it was seen."""
        if any(site.is_attention for site in self.sites.get(name, [])):
            return "temperature"
        return "gate" if name in self.gates else "factor"

    def whole(self, name: str) -> str:
        """Return the lowest module around a tensor that has weights of more than one axis."""
        path = self.owners[name][0]
        while path:
            module = self.x.modules.get(path)
            if module is not None and any(p.numel() > 1 and not is_small(p) for p in module.parameters()):
                return path
            path = path.rpartition(".")[0]
        return ""

    def is_idle_part(self, name: str) -> bool:
        """Whether everything around a tensor is without gradient as well, up to a part of the model with weights."""
        path = self.whole(name)
        if not path:
            return False
        inside = [other for other in self.x.lives if other.startswith(path + ".")]
        return all(other in self.dead for other in inside)

    # ---- all ----

    def findings(self) -> Iterator[Finding]:
        yield from self.finite()
        yield from self.created()
        yield from self.loose()
        yield from self.written()
        yield from self.single_tokens()
        yield from self.dying()
        yield from self.flat()
        yield from self.without_influence()
        yield from self.frozen()
        yield from self.attention()
        yield from self.moved()
        yield from self.notes()
        yield from optimizer_findings(self.x, self.is_knob)

    def finite(self) -> Iterator[Finding]:
        bad = [name for name, life in self.x.lives.items() if "nan" in life.gradients]
        loss = self.x.loss_values
        if bad or not all(math.isfinite(v) for v in loss):
            knobs = [name for name in bad if self.is_knob(name)]
            yield Finding(
                "non-finite",
                tuple((knobs or bad or [""])[:1]),
                f"loss {loss[-1]:.4g} at step {len(loss)}, gradients of {len(bad)} of {len(self.x.lives)} tensors are "
                "not finite",
                {"tensors": len(bad)},
            )

    # ---- tensors the optimizer cannot have ----

    def created(self) -> Iterator[Finding]:
        for name, (tensor, was_there) in self.x.created.items():
            has_gradient = tensor.grad is not None or name not in self.x.lives
            self.done.add(name)
            if was_there and not is_small(tensor) and self.x.lives[name].is_dead and name not in self.x.made_anew:
                continue
            if was_there and not is_small(tensor) and not has_gradient:
                yield Finding("unused-weights", (name,), "the forward puts another parameter in its place")
                continue
            how = "each forward makes it anew" if name in self.x.made_anew else "the first forward made it"
            yield Finding(
                "created-after-optimizer", (name,), f"{how}; {tensor.numel()} numbers", {"numbers": tensor.numel()}
            )
        for path, leaf, persists in self.x.local_leaves:
            if leaf.grad is None or id(leaf) in self.x.group_of:
                continue
            if persists:
                yield Finding(
                    "not-registered",
                    (path,),
                    f"the forward reads a learnable tensor of shape {tuple(leaf.shape)} that no module holds",
                )
            else:
                yield Finding(
                    "created-after-optimizer",
                    (path,),
                    f"each forward makes a learnable tensor of shape {tuple(leaf.shape)} that no module holds",
                )

    def loose(self) -> Iterator[Finding]:
        homes: dict[str, list[str]] = {}
        for item in self.x.loose:
            uses = self.uses[item.path]
            self.done.add(item.path)
            attached = [use for use in uses if use.how == "attached"]
            if item.home:
                if item.kind == "parameter" and attached:
                    homes.setdefault(item.home, []).append(item.path)
                continue
            if not uses or item.path in self.x.replaced:
                continue
            in_optimizer = (
                id(self.x.subject.standing_for(item.tensor)) in self.x.group_of and not self.x.is_own_optimizer
            )
            shape = tuple(item.tensor.shape)
            if item.kind == "parameter" and in_optimizer:
                yield Finding(
                    "plain-tensor", (item.path,), f"shape {shape}; the optimizer holds it, the state dict does not"
                )
            elif item.kind == "parameter":
                yield Finding("not-registered", (item.path,), f"shape {shape}, kept in {_holder(item.path)}")
            elif item.kind == "derived":
                self.done.update(self.sources(item.tensor))
                operation = type(item.tensor.grad_fn).__name__.removesuffix("0").removesuffix("Backward").lower()
                yield Finding("derived-tensor", (item.path,), f"shape {shape}, made by {operation}")
            elif is_small(item.tensor) and (item.path in self.factors or is_hint(_last(item.path))):
                _, owner, attribute = self.owners[item.path]
                if any(_matches(flag, attribute) for flag in learn_flags(owner)):
                    continue  # frozen() says more.
                yield Finding("plain-tensor", (item.path,), f"shape {shape}, {_numbers(item.tensor)}")
        for home, paths in homes.items():
            yield Finding(
                "not-registered",
                (home,),
                f"{len(paths)} learnable tensors of a module kept in {_holder(home)}, such as {paths[0]}",
                {"tensors": len(paths)},
            )

    def sources(self, tensor: Tensor) -> list[str]:
        """Return the names of the parameters that a loose tensor was made from."""
        own = {id(self.x.subject.standing_for(leaf)) for leaf in leaves(tensor)}
        return [name for name, parameter in self.x.parameters.items() if id(parameter) in own]

    # ---- written over ----

    def written(self) -> Iterator[Finding]:
        names = {name for write in self.trace.writes for name in self.trace.names_of(write.names)}
        names |= {
            name
            for name, tensor in self.x.parameters.items()
            if tensor.data_ptr() != self.x.addresses.get(name, tensor.data_ptr())
        } | self.x.changed_by_forward
        hooks = self.x.optimizer is not None and bool(self.x.optimizer._optimizer_step_post_hooks)
        for name, tensor in self.x.parameters.items():
            life = self.x.lives[name]
            by_forward = name in names
            if not (by_forward or (hooks and is_small(tensor))) or name in self.done:
                continue
            start = self.x.initial[name]
            reach = 1e3 if is_small(tensor) else 1.0
            ends = []
            for sign in (1, -1):
                with self.x.changed({name: start + sign * reach * (1 + start.abs())}):
                    if by_forward:
                        self.x.output()
                    else:
                        self.x.step_without_gradient(name)
                    ends.append(self.x.watched[name].detach().clone())
            high, low = ends
            if torch.equal(high, low) or (by_forward and self.is_scheduled(name, high, low, reach)):
                self.done.add(name)
                code = "overwritten" if self.is_knob(name) or is_small(tensor) else "unused-weights"
                ops = sorted({w.op for w in self.trace.writes if self.trace.bit(name) & w.names})
                by = f"by {', '.join(ops)}" if ops else "through .data or a hook"
                yield Finding(code, (name,), f"written over {by} with {_numbers(high)}, whatever it was before")
            elif is_small(tensor) and by_forward and (kept := self.kept_part(name, high, low, reach)) is not None:
                self.done.add(name)
                yield Finding(
                    "overwritten",
                    (name,),
                    f"each forward keeps {kept:.4g} of its value and puts something else in for the rest",
                    {"kept": kept},
                )
            elif is_small(tensor) and not life.is_dead:
                on = (start == high) | (start == low)
                if bool((on & (high != low)).any()):
                    yield Finding(
                        "pinned-at-bound",
                        (name,),
                        f"{int(on.sum())} of {on.numel()} values stand on the bounds [{float(low.min()):.4g}, "
                        f"{float(high.max()):.4g}] that it is put back into",
                        {"value": float(start.flatten()[0])},
                    )

    def is_scheduled(self, name: str, high: Tensor, low: Tensor, reach: float) -> bool:
        """Whether what the forward writes goes on from call to call, whatever the value was before."""
        start = self.x.initial[name]
        way = reach * (1 + start.abs())
        if bool(((high - low).abs() > 0.01 * way).any()):
            return False
        with self.x.changed({name: start + way}):
            self.x.output()
            return not torch.equal(self.x.watched[name].detach(), high)

    def kept_part(self, name: str, high: Tensor, low: Tensor, reach: float) -> float | None:
        """Return c below 1 where a forward makes c·value + rest of any value, as a moving average does; else None.

        A bound or a normalisation is not linear: its c differs between a long and a short way.
        """
        start = self.x.initial[name]
        way = 1 + start.abs()
        with self.x.changed({name: start + way}):
            self.x.output()
            near = self.x.watched[name].detach().clone()
        with self.x.changed({name: start}):
            self.x.output()
            here = self.x.watched[name].detach().clone()
        shares = [(high - here) / (reach * way), (here - low) / (reach * way), (near - here) / way]
        kept = float(shares[0].mean())
        if torch.equal(here, start) or not 0 < kept < 0.99999:
            return None
        return kept if all(float((share - kept).abs().max()) < 1e-3 * kept for share in shares) else None

    # ---- no gradient ----

    def single_tokens(self) -> Iterator[Finding]:
        for site in self.trace.sites:
            if site.tokens == 1 and (site.is_attention or site.is_mixture):
                knobs = [n for n in self.trace.names_of(site.knobs) if n in self.x.lives]
                for name in knobs:
                    if all(other.tokens == 1 for other in self.sites[name]):
                        self.done.add(name)
                named = f", the temperature {', '.join(knobs)} among them" if knobs else ""
                yield Finding("single-token", (site.path,), f"T = 1 in {site.rows} rows{named}", {"tokens": 1})

    def dying(self) -> Iterator[Finding]:
        names = [name for name in self.x.lives if name in self.dead and name not in self.done]
        deaths = self.deaths(names)
        yield from self.zero_factors(names, deaths)
        left_weights: dict[str, list[str]] = {}
        for name in names:
            if name in self.done:
                continue
            self.done.add(name)
            if not self.is_factor(name) and not self.is_left_out(name):
                left_weights.setdefault(self.whole_unused(name), []).append(name)
                continue
            yield self.cause(name, deaths.get(id(self.x.parameters[name])))
        trials = TRIALS
        for path, members in left_weights.items():
            blocked = None
            for name in members[:2]:
                if trials and blocked is None and self.uses[name]:
                    trials -= 1
                    blocked = self.blocked_weights(name, deaths.get(id(self.x.parameters[name])))
            if blocked is not None:
                code, why = blocked
                yield Finding(
                    code,
                    (members[0] if len(members) == 1 else path,),
                    f"{len(members)} tensors such as {members[0]} have gradient 0, or none, at all steps; {why}",
                    {"tensors": len(members)},
                )
                continue
            numbers = sum(self.x.parameters[name].numel() for name in members)
            why = "never read" if not any(self.uses[name] for name in members) else "no gradient arrives"
            shown = members[0] if len(members) == 1 else path
            yield Finding(
                "unused-weights",
                (shown,),
                f"{len(members)} tensors with {numbers} numbers, {why}: {members[0]}"
                + ("" if len(members) == 1 else ", ..."),
                {"tensors": len(members), "numbers": numbers},
            )
        yield from self.partly_outside()

    def is_left_out(self, name: str) -> bool:
        """Whether a parameter that a module holds itself is read by no operation, nor by any of its module's code."""
        path, owner, attribute = self.owners[name]
        if self.uses[name] or is_builtin(owner) or is_container(owner) or attribute == "bias":
            return False
        if path and path not in self.trace.ran:
            return False
        return mentioned(owner, attribute) is False or (is_small(self.x.watched[name]) and self.influence(name) > 0)

    def whole_unused(self, name: str) -> str:
        """Return the highest module around a dead tensor in which all is dead."""
        path, best = self.owners[name][0], self.owners[name][0]
        while path:
            if all(other in self.dead for other in self.x.lives if other.startswith(path + ".")):
                best = path
            path = path.rpartition(".")[0]
        return best

    def deaths(self, names: list[str]) -> dict[int, Death]:
        """Return by id where the gradients of ``names`` die, at the starting values."""
        if not names:
            return {}
        self.x.restore()
        self.x.zero()
        seed_all(self.x.seed)
        found = find_deaths(self.x.loss_of(self.x.call()), [self.x.parameters[name] for name in names])
        self.x.zero()
        return found

    def zero_factors(self, names: list[str], deaths: dict[int, Death]) -> Iterator[Finding]:
        """Find dead tensors that come alive when others, all zero and stuck, are not zero."""
        stuck = [
            name
            for name, tensor in self.x.watched.items()
            if (
                (name in self.dead and "zero" in self.x.lives[name].gradients)
                or name in self.x.frozen
                or self.is_outside_optimizer(name)
            )
            and name not in self.done
            and not bool(torch.count_nonzero(self.x.initial[name]))
            and any(use.on_data or use.how == "attached" for use in self.uses[name])
            and tensor.numel() > 0
        ]
        blocked = [name for name in names if id(self.x.parameters[name]) in deaths and name not in self.done]
        if not stuck or not blocked:
            return
        self.x.restore()
        fill = {name: 0.1 + torch.rand(self.x.initial[name].shape).to(self.x.initial[name]) * 0.1 for name in stuck}
        # What another value of its own brings to life, as |a| at 0, needs no partner.
        alone = {
            name
            for name in stuck[:TRIALS]
            if name in blocked and self.x.gradients_after({name: fill[name]}, [name])[name] > 0
        }
        stuck = [name for name in stuck if name not in alone]
        if not stuck:
            return
        fill = {name: fill[name] for name in stuck}
        alive = self.x.gradients_after(fill, blocked)
        woken = [name for name in blocked if alive[name] > 0]
        if not woken:
            return
        # Which of the zeros it takes: without one of them nothing may come alive.
        partners: list[str] = []
        for name in stuck[: 2 * TRIALS]:
            fewer = {other: value for other, value in fill.items() if other != name}
            now = self.x.gradients_after(fewer, woken)
            if any(now[other] == 0 for other in woken if other != name):
                partners.append(name)
        partners = partners or [name for name in stuck if name in woken] or stuck[:1]
        clusters: dict[str, list[str]] = {}
        for name in partners:
            clusters.setdefault(self.cluster(name, partners), []).append(name)
        for members in clusters.values():
            if all(name in self.x.frozen and not self.is_knob(name) for name in members):
                continue
            members.sort(key=lambda name: not self.is_knob(name))
            knobs = [name for name in members if name in self.x.lives]
            self.done.update(members)
            near = {self.whole(name) for name in members}
            opened = self.x.gradients_after({name: fill[name] for name in members}, woken)
            held = [n for n in woken if n not in members and (self.whole(n) in near or opened[n] > 0)]
            members += [
                n for n in stuck if n not in members and n in self.dead and (self.whole(n) in near or n in held)
            ]
            self.done.update(held)
            frozen = [name for name in members if name not in self.x.lives]
            said = "all are 0 and none has a gradient" if not frozen else f"{', '.join(frozen)} is 0 and cannot move"
            if not knobs and not any(self.is_knob(name) for name in members):
                continue
            yield Finding(
                "two-zero-factors",
                tuple(members),
                f"{said}; with other values {len(woken)} tensors come alive",
                {"tensors": len(woken)},
            )

    def cluster(self, name: str, partners: list[str]) -> str:
        """Return a key that zero factors of one branch share."""
        path = self.owners[name][0]
        while path and not any(
            other != name and (self.owners[other][0] + ".").startswith(path + ".") for other in partners
        ):
            path = path.rpartition(".")[0]
        return path

    def is_outside_optimizer(self, name: str) -> bool:
        return (
            self.x.optimizer is not None and name in self.x.lives and id(self.x.parameters[name]) not in self.x.group_of
        )

    def cause(self, name: str, death: Death | None) -> Finding:
        """Name the cause of a knob's death."""
        life, uses = self.x.lives[name], self.uses[name]
        tensor = self.x.initial[name]
        what = f"{self.role(name)}, {_numbers(tensor)}" if uses else _numbers(tensor)
        steps = len(life.gradients)
        gradient = f"gradient {'exactly 0' if 'zero' in life.gradients else 'absent'} at all {steps} steps"
        numbers = {"value": float(tensor.flatten()[0]), "steps": steps}

        def found(code: str, why: str) -> Finding:
            return Finding(code, (name,), f"{what}; {gradient}; {why}", numbers)

        # Without gradients on, as in a recomputed part, a gradient of 0 all the same shows that there is a way.
        arrives = "zero" in life.gradients
        for squash in self.squashes.get(name, []):
            if (squash.attached or arrives) and bool(squash.outside.all()):
                return found("init-outside-bound", _outside(squash))
        for squash in self.squashes.get(name, []):
            limit = FLAT_SLOPE.get(squash.op.rstrip("_"))
            if (squash.attached or arrives) and limit is not None and float(squash.slope.max()) < limit:
                return found("saturated", f"slope of {squash.op} {float(squash.slope.max()):.2g}")
        if not uses:
            return self.unused(name, found)
        attached = [use for use in uses if use.how == "attached"]
        cut = [use for use in uses if use.how in ("detached", "no-grad", "number")]
        if death is not None and death.is_own:
            return found("zero-gradient", f"the gradient ends at {death.op}, a function with a backward of its own")
        if life.gradients and not arrives:
            return self.unattached(name, found, attached, cut)
        if death is not None and death.is_softmax:
            entropy = [site.entropy for site in self.sites.get(name, []) if math.isfinite(site.entropy)]
            if (not entropy or max(entropy) < 0.05) and self.influence(name) > NO_CHANGE:
                return found("saturated", "the softmax behind it is one-hot in every row")
            return found("no-effect", f"the gradient ends at {death.op}")
        if death is not None and death.is_flat:
            return found("zero-gradient", f"the gradient ends at {death.op}, whose derivative is 0 everywhere")
        moved = self.influence(name)
        ends = f", its gradient ends at {death.op}" if death is not None and death.op else ""
        # A single 0 may be a constant; several, or one that the batch or chance made, are this batch's.
        is_nulled = death is not None and (
            death.zeros > 1 or (death.zeros == 1 and bool(self.trace.nulled & self.trace.bit(name)))
        )
        if is_nulled and self.comes_alive(name):
            return found(
                "saturated", f"other values have a gradient; here it is multiplied with zeros of its own{ends}"
            )
        if is_nulled:
            return found("not-reached", f"what it is multiplied with is 0 for this batch{ends}")
        if moved <= NO_CHANGE:
            return found("no-effect", f"other values change the output by {moved:.1g}{ends}")
        if self.comes_alive(name):
            if death is not None and death.cancels:
                return found("init-outside-bound", "other values have a gradient; here its parts cancel to 0")
            if death is not None and (death.is_bound or (death.is_choice and self.dies_alone(name, death))):
                return found("init-outside-bound", f"other values have a gradient{ends}")
            if death is not None and death.op and (death.is_curve or self.dies_alone(name, death)):
                return found("saturated", f"other values have a gradient{ends}")
            return found("not-reached", f"other values change the output and have a gradient{ends}")
        return found("zero-gradient", f"other values change the output and have no gradient either{ends}")

    def blocked_weights(self, name: str, death: Death | None) -> tuple[str, str] | None:
        """Name the step without derivative that weights run into; None where they may be idle on purpose."""
        if death is not None and death.is_flat:
            return "zero-gradient", f"the gradient ends at {death.op}, whose derivative is 0 everywhere"
        if death is not None and death.is_curve:
            return "saturated", f"the gradient ends at {death.op}, which is flat at every one of its inputs"
        uses = self.uses[name]
        if death is not None or any(use.how in ("detached", "no-grad", "number") for use in uses):
            return None
        compared = sorted({use.op for use in uses if use.how == "comparison"})
        if compared and "zero" not in self.x.lives[name].gradients and self.influence(name) > NO_CHANGE:
            return "zero-gradient", f"the output hangs on them by {', '.join(compared)} alone, without derivative"
        return None

    def dies_alone(self, name: str, death: Death) -> bool:
        """Whether the gradient of a tensor dies before it meets the batch."""
        op = re.sub(r"Backward\d*$", "", death.op).lower()
        ops: dict[bool, set[str]] = {True: set(), False: set()}
        for use in self.uses[name]:
            ops[use.on_data].add(use.op.replace("_", ""))
        return op in ops[False] and op not in ops[True]

    def unattached(self, name: str, found: _Found, attached: list[Use], cut: list[Use]) -> Finding:
        """Name the cause where autograd has no path from a knob to the loss."""
        compared = [use for use in self.uses[name] if use.how == "comparison"]
        decided = any(use.how == "decision" for use in self.uses[name])
        path = self.whole(name)
        if path and self.is_idle_part(name):
            inside = [use for use in (*cut, *compared) if use.path == path or use.path.startswith(path + ".")]
            began_without = not self.trace.ran.get(path, True)
            if began_without or not inside:
                return found("not-reached", f"all of {path} runs without gradient")
        for how, code, why in (
            ("number", "turned-into-number", "read as a Python number"),
            ("no-grad", "no-grad", "used under no_grad"),
            ("detached", "detached", "used after it was cut from the graph"),
        ):
            hits = sorted((use for use in cut if use.how == how), key=lambda use: (use.path, use.op))
            if hits:
                return found(code, f"{why} in {hits[0].path or 'the model'} ({hits[0].op})")
        if compared and decided and self.comes_alive(name):
            return found("init-outside-bound", f"a comparison ({compared[0].op}) puts another number in its place")
        if compared and self.influence(name) > NO_CHANGE:
            return found("zero-gradient", f"only compared ({compared[0].op}), which has no derivative")
        if self.influence(name) > NO_CHANGE:
            return found("zero-gradient", "the output changes with it, and autograd has no path to it")
        owner = self.owners[name][0]
        if owner and self.trace.passed.get(owner, 0) & self.trace.bit(name):
            others = [other for other in self.x.lives if other.startswith(owner + ".") and other not in self.dead]
            if others:
                return found("not-reached", f"{owner} returns what it makes of it, and nobody takes that part")
        if attached:
            return found("never-used", "it is read, but nothing that the loss sees depends on it")
        return found("never-used", "it is not read to any effect")

    def unused(self, name: str, found: _Found) -> Finding:
        path, owner, attribute = self.owners[name]
        if self.influence(name) > NO_CHANGE:
            return found("turned-into-number", "read without an operation, as .tolist() and .numpy() do")
        if name not in self.x.registered and name in self.x.lives:
            return found("never-used", "no operation of the forward reads it")
        parts = name.split(".")
        if (
            len(parts) > 1
            and any(
                other != name and other.rpartition(".")[0] == name.rpartition(".")[0] and other not in self.dead
                for other in self.x.lives
            )
            and name.rpartition(".")[0] != path
        ):
            return found("not-reached", "this batch reads others of its list, not this one")
        if path in self.trace.ran or not path:
            if self.x.read_elsewhere(name):
                return found("not-reached", "chance left it out; other draws read it")
            if depends_on_input(owner, attribute):
                return found("not-reached", f"{type(owner).__name__} reads it only on a condition of its input")
            return found("never-used", "no operation of the forward reads it")
        if mentioned(owner, attribute) is False:
            return found("never-used", f"no code of {type(owner).__name__} but its set-up mentions it")
        # The module never ran: it may be an expert without work, or nobody calls it.
        parent, _, child = path.rpartition(".")
        above = self.x.modules.get(parent)
        only_knobs = all(is_small(p) for p in owner.parameters())
        if above is not None and not is_container(above) and only_knobs and mentioned(above, child) is False:
            return found("never-used", f"no code of {type(above).__name__} but its set-up mentions {child}")
        return found("not-reached", f"{path} is not called")

    def partly_outside(self) -> Iterator[Finding]:
        """Find vectors of which some entries start outside their bound."""
        for name, squashes in self.squashes.items():
            life = self.x.lives.get(name)
            if life is None or life.is_dead or life.sizes is None:
                continue
            for squash in squashes:
                if not squash.attached or squash.outside.numel() != life.sizes.numel():
                    continue
                stuck = squash.outside.flatten() & (life.sizes.flatten() == 0)
                if bool(stuck.any()) and self.is_factor(name):
                    yield Finding(
                        "init-outside-bound",
                        (name,),
                        f"{int(stuck.sum())} of {stuck.numel()} values; {_outside(squash)}",
                        {"outside": int(stuck.sum())},
                    )
                    break
                is_clamp = "clamp" in squash.op or bool(squash.limits)
                if bool(squash.on_edge.any()) and is_clamp and self.is_factor(name):
                    yield Finding(
                        "pinned-at-bound",
                        (name,),
                        f"{int(squash.on_edge.sum())} of {squash.on_edge.numel()} values stand on the clamp's bounds "
                        f"{_span(squash)}, one step from a gradient of 0",
                        {"value": float(squash.value.flatten()[0])},
                    )
                    break

    # ---- hardly any gradient ----

    def flat(self) -> Iterator[Finding]:
        suspects: dict[str, Squash] = {}
        for name, squashes in self.squashes.items():
            if name in self.done or name not in self.x.lives or not self.is_factor(name):
                continue
            for squash in squashes:
                limit = FLAT_SLOPE.get(squash.op.rstrip("_"))
                if limit is not None and squash.attached and float(squash.slope.max()) < limit:
                    suspects.setdefault(name, squash)
        free = self.past_flat_curves(list(suspects))
        for name, squash in suspects.items():
            if name in free:
                continue
            self.done.add(name)
            yield Finding(
                "saturated",
                (name,),
                f"{_numbers(self.x.initial[name])}; slope of {squash.op} {float(squash.slope.max()):.2g}",
                {"slope": float(squash.slope.max())},
            )

    def past_flat_curves(self, names: list[str]) -> set[str]:
        """Return those of ``names`` whose gradient has another way than through a flat curve."""
        if not names:
            return set()
        self.x.restore()
        self.x.zero()
        seed_all(self.x.seed)
        found = learn_past(self.x.loss_of(self.x.call()), [self.x.parameters[name] for name in names], FLAT_SLOPE)
        self.x.zero()
        return {name for name in names if id(self.x.parameters[name]) in found}

    def cancelled(self, name: str) -> float | None:
        """Return the largest change that other values of a tensor make, if what follows cancels it; else None.

        Either no value changes anything, or (in front of a normalisation, which leaves it its sign and its smallness
        against an epsilon) larger values change nothing more, while 0 or the other sign changes much.  Gates and
        branches that start at next to nothing are opened for this, so that all behind them can be seen.
        """
        self.x.restore()
        start = self.x.initial[name]
        larger = [2 * start + 0.1 * _sign(start), 20 * start + 20 * _sign(start)]
        opened = {other: value for other, value in self.opened().items() if other != name}
        with self.x.changed(opened):
            base = self.x.output()
            some, much = (self.x.output_change({name: value}, base) for value in larger)
            if much > MUCH_CHANGE:
                return None
            less = self.x.output_change({name: 0.25 * start}, base)
            gone = self.x.output_change({name: torch.zeros_like(start)}, base)
            others = max(gone, self.x.output_change({name: -start}, base))
        most = max(some, much)
        # A curve that is flat on one side changes when the value comes back half the way; what is divided by its own
        # size does not.
        is_relative = much <= 3 * max(some, NO_CHANGE) and others >= 30 * most and gone >= 30 * less
        if max(most, others) <= 3 * NO_CHANGE or is_relative:
            return most
        return None

    def opened(self) -> dict[str, Tensor]:
        """Return values for all that may multiply a branch by next to nothing: gates, norms, last projections."""
        values = {}
        for name, start in self.x.initial.items():
            if not start.numel() or float(start.abs().max()) >= 1e-3:
                continue
            attribute = self.owners[name][2]
            if name not in self.x.lives or attribute in ("bias", "running_mean"):
                continue
            noise = torch.rand(start.shape, generator=torch.Generator().manual_seed(0)).to(start)
            is_matrix = start.ndim > 1 and not is_small(start)
            values[name] = (noise - 0.5) / math.sqrt(start[0].numel()) if is_matrix else 0.3 + 0.2 * noise
        return values

    def influence(self, name: str) -> float:
        """Return the largest relative change of the output over some other values of a tensor."""
        self.x.restore()
        if self._base is None:
            self._base = self.x.output()
        worst = 0.0
        for value in self.all_values(name):
            worst = max(worst, self.x.output_change({name: value}, self._base))
            if worst > MUCH_CHANGE:
                break
        return worst

    def comes_alive(self, name: str) -> bool:
        """Whether a tensor has a gradient at some other value of its own."""
        return self.best_gradient(name) > 0

    def best_gradient(self, name: str) -> float:
        """Return a tensor's largest gradient over some other values of its own."""
        self.x.restore()
        found = [self.x.gradients_after({name: value}, [name])[name] for value in self.all_values(name)]
        return max((size for size in found if math.isfinite(size)), default=0.0)

    def all_values(self, name: str) -> list[Tensor]:
        """Return smaller and larger values, of both signs."""
        start = self.x.initial[name]
        less = [0.5 * start, 0.05 * start, 0.005 * start, -start, torch.zeros_like(start)]
        sign = _sign(start)
        return [2 * start + 0.1 * sign, start + sign, 20 * start + 20 * sign, *less]

    def without_influence(self) -> Iterator[Finding]:
        """Find knobs whose gradient is rounding noise, and show that their value does not matter."""
        suspects: dict[str, list[str]] = {}
        size = (
            max((abs(v) for v in self.x.loss_values if math.isfinite(v)), default=1.0) if self.x.subject.loss else 1.0
        )
        for name, life in self.x.lives.items():
            if name in self.done or life.is_dead or "nan" in life.gradients or not self.is_factor(name):
                continue
            if life.largest * max(0.1, float(self.x.initial[name].abs().max())) < NO_INFLUENCE * max(size, 1e-3):
                suspects.setdefault(re.sub(r"\d+", "*", name), []).append(name)
        for names in list(suspects.values())[:TRIALS]:
            largest = self.x.lives[names[0]].largest
            if largest < UNDERFLOW and self.best_gradient(names[0]) > 1e4 * largest:
                for name in names:
                    self.done.add(name)
                    yield Finding(
                        "saturated",
                        (name,),
                        f"{_numbers(self.x.initial[name])}; gradient {self.x.lives[name].largest:.1g}, "
                        f"{self.best_gradient(name):.1g} at another value",
                        {"gradient": self.x.lives[name].largest},
                    )
                continue
            for name in names:
                moved = self.cancelled(name)
                if moved is None:
                    break
                self.done.add(name)
                yield Finding(
                    "no-effect",
                    (name,),
                    f"{_numbers(self.x.initial[name])}; gradient {self.x.lives[name].largest:.1g}, and larger values "
                    f"change the output by {moved:.1g}",
                    {"gradient": self.x.lives[name].largest, "change": moved},
                )

    # ---- frozen, though its name says otherwise ----

    def frozen(self) -> Iterator[Finding]:
        candidates: dict[str, list[str]] = {}
        for name, tensor in self.x.watched.items():
            path, owner, attribute = self.owners[name]
            is_parameter = isinstance(tensor, nn.Parameter)
            if tensor.requires_grad or not (is_small(tensor) or is_parameter) or is_builtin(owner):
                continue
            if not any(p.requires_grad for p in self.x.modules.get(self.whole(name), self.model).parameters()):
                continue  # Frozen as a whole.
            bare = [flag for flag in learn_flags(owner) if not flag_words(flag)]
            asked = asks_to_learn(attribute) or (
                is_parameter
                and (asks_to_learn(path.rpartition(".")[2]) or bool(bare))
                and bool(self.uses[name])
                and not any(self.owners[other][0] == path for other in self.x.parameters)
            )
            if asked:
                yield Finding("frozen-though-learnable", (name,), f"{_numbers(tensor)}; {_nature(self.x, name)}")
            elif is_small(tensor) and (is_hint(attribute) or name in self.factors):
                candidates.setdefault(path, []).append(name)
        for path, module in self.x.modules.items():
            flags = learn_flags(module)
            if not flags:
                continue
            own = [n for n, t in self.x.parameters.items() if self.owners[n][0] == path and is_small(t)]
            for flag in flags:
                if any(_matches(flag, self.owners[n][2]) for n in own):
                    continue
                for name in candidates.get(path, []):
                    if _matches(flag, self.owners[name][2]) and self.uses[name]:
                        yield Finding(
                            "frozen-though-learnable",
                            (name,),
                            f"{flag} is true, {_numbers(self.x.watched[name])}; {_nature(self.x, name)}",
                        )
                        break
                else:
                    for key, value in vars(module).items():
                        if type(value) is float and is_hint(key) and key != flag and _matches(flag, key):
                            yield Finding(
                                "frozen-though-learnable",
                                (f"{path}.{key}" if path else key,),
                                f"{flag} is true and {key} is the Python number {value:.4g}",
                                {"value": value},
                            )
                            break

    # ---- attention ----

    def attention(self) -> Iterator[Finding]:
        for site in self.trace.sites:
            if site.empty_rows and (site.is_attention or math.isnan(site.reach) is False):
                yield Finding(
                    "rows-without-text",
                    (site.path,),
                    f"{site.empty_rows} of {site.rows} rows have no token left",
                    {"rows": site.empty_rows},
                )
        for bits, path, low in self.trace.masked_products:
            for name in self.trace.names_of(bits):
                if any(self.trace.bit(name) & site.knobs for site in self.trace.sites):
                    yield Finding(
                        "mask-then-scale",
                        (name,),
                        f"scores down to {low:.3g} are multiplied by it in {path or 'the model'}",
                    )
        worst: dict[str, float] = {}
        for path, size in self.trace.overflow:
            worst[path] = max(worst.get(path, 0.0), size)
        for site in self.trace.sites:
            for size in (site.largest, -site.lowest):
                if HALF_MAX < size < math.inf:
                    worst[site.path] = max(worst.get(site.path, 0.0), size)
        for path, size in worst.items():
            said = f"{size:.4g} is larger than {HALF_MAX:.0f}" if math.isfinite(size) else "inf, in float16 as it runs"
            yield Finding("half-overflow", (path,), said, {"size": size})
        suspects = [
            (index, site)
            for index, site in enumerate(self.trace.sites)
            if site.is_attention and site.is_cosine and site.entropy > UNIFORM and site.tokens > 1
        ]
        if not suspects:
            return
        sharpest = self.sharpest(suspects)
        for index, site in suspects:
            if sharpest[index] < STILL_UNIFORM:
                continue
            knobs = self.trace.names_of(site.knobs)
            needed = scale_for_entropy(0.5, site.tokens)
            yield Finding(
                "near-uniform-attention",
                (site.path,),
                f"entropy {site.entropy:.5f} of 1 over {site.tokens} tokens, scale·|q||k| {site.reach:.3g}"
                + (f" ({', '.join(knobs)})" if knobs else "")
                + f"; within its bounds the best row has {sharpest[index]:.3f}, and 0.5 would take {needed:.3g}",
                {"entropy": site.entropy, "reach": site.reach, "sharpest": sharpest[index], "scale_for_half": needed},
            )

    def sharpest(self, suspects: list[tuple[int, Site]]) -> dict[int, float]:
        """Return by site the lowest entropy that its bounded scores can have at any value of its knobs."""
        best = {index: lowest_entropy(site.reach, site.tokens) for index, site in suspects}
        knobs = sorted({n for _, site in suspects for n in self.trace.names_of(site.knobs) if n in self.x.lives})
        if not knobs:
            return best
        self.x.restore()
        for reach in (1e3, 10.0, -10.0):
            values = {name: self.x.initial[name] + reach for name in knobs}
            with self.x.changed(values):
                for module in self.model.modules():
                    project = getattr(module, "project_parameters", None)
                    if callable(project):
                        project()
                values = {name: self.x.watched[name].detach().clone() for name in knobs}
            sites = self.x.retrace(values).sites
            if len(sites) != len(self.trace.sites):
                continue
            for index, _ in suspects:
                now = sites[index]
                if math.isinf(now.reach):
                    best[index] = 0.0
                elif math.isfinite(now.reach):
                    best[index] = min(best[index], lowest_entropy(now.reach, now.tokens))
        return best

    # ---- movement ----

    def moved(self) -> Iterator[Finding]:
        for name, life in self.x.lives.items():
            group = self.x.group_of.get(id(self.x.parameters[name]))
            if self.x.is_own_optimizer or group is None or not group.get("weight_decay"):
                continue
            # Under Adam, a gradient of the value's sign moves a value as decay does.
            if not life.is_dead or life.start is None or life.end is None:
                continue
            if not self.is_knob(name) or torch.equal(life.start, life.end):
                continue
            decayed = self.x.decay_alone(name, life.start, len(life.gradients))
            if decayed is None:
                continue
            way = (decayed - life.start).abs().max()
            if way > 0 and float((life.end - decayed).abs().max()) <= 0.02 * float(way):
                yield Finding(
                    "decay-only",
                    (name,),
                    f"{_numbers(life.start)} moved to {_numbers(life.end)} in {len(life.gradients)} steps, which is "
                    f"what weight decay {group['weight_decay']:g} alone does",
                    {"decay": float(group["weight_decay"])},
                )

    # ---- notes ----

    def notes(self) -> Iterator[Finding]:
        zeros = [
            name
            for name, life in self.x.lives.items()
            if not life.is_dead
            and life.gradients[:1] == ["live"]
            and not bool(torch.count_nonzero(self.x.initial[name]))
            and (self.is_knob(name) or self.x.initial[name].ndim > 1 or name in self.factors)
        ]
        woken = [name for name, life in self.x.lives.items() if life.woke_up]
        for name in zeros:
            near = [other for other in woken if self.near(name, other)]
            if near:
                yield Finding(
                    "wakes-up",
                    (name,),
                    f"{len(near)} tensors such as {near[0]} had gradient 0 at the first step and not at the next",
                    {"tensors": len(near)},
                )
        seen = set()
        for site in self.trace.sites:
            knobs = [n for n in self.trace.names_of(site.knobs) if n in self.x.lives and self.is_knob(n)]
            if not (site.is_attention and knobs and math.isfinite(site.reach)) or (site.path, *knobs) in seen:
                continue
            seen.add((site.path, *knobs))
            needed = scale_for_entropy(0.5, site.tokens)
            yield Finding(
                "effective-scale",
                tuple(knobs),
                f"scale·|q||k| {site.reach:.4g} in {site.path or 'the model'}, entropy {site.entropy:.4f} over "
                f"{site.tokens} tokens; entropy 0.5 of the best matched row would take {needed:.3g}",
                {"reach": site.reach, "entropy": site.entropy, "scale_for_half": needed},
            )
        for branch in self.trace.branches:
            knobs = [
                n
                for n in self.trace.names_of(branch.knobs)
                if n in self.x.lives and self.is_knob(n) and n not in self.sites
            ]
            if knobs and (branch.path, *knobs) not in seen:
                seen.add((branch.path, *knobs))
                yield Finding(
                    "effective-gate",
                    tuple(knobs),
                    f"|g·a|/|x| {branch.strength:.4g} in {branch.path or 'the model'}",
                    {"strength": branch.strength},
                )
        yield from self.biases()

    def near(self, zero: str, other: str) -> bool:
        path = self.owners[zero][0]
        if path and isinstance(self.owners[zero][1], (nn.Linear, nn.Conv2d, nn.BatchNorm2d, nn.LayerNorm)):
            path = path.rpartition(".")[0]
        return not path or self.owners[other][0] == path or self.owners[other][0].startswith(path.rpartition(".")[0])

    def biases(self) -> Iterator[Finding]:
        quiet: dict[str, str] = {}
        for name, life in self.x.lives.items():
            if name in self.done or life.sizes is None or self.x.parameters[name].ndim != 1 or life.is_dead:
                continue
            stem, _, last = name.rpartition(".")
            path, _, _ = self.owners[name]
            if last == "bias":
                largest = self.x.lives[f"{stem}.weight"].largest if f"{stem}.weight" in self.x.lives else 0.0
            else:
                largest = max((v.largest for n, v in self.x.lives.items() if n.rpartition(".")[0] == path), default=0.0)
            if largest > 0 and life.largest < 1e-5 * largest:
                quiet[name] = ""
            elif part := _quiet_part(life.sizes):
                quiet[name] = part
        if not quiet:
            return
        self.x.restore()
        self.x.zero()
        seed_all(self.x.seed)
        sinks = first_sinks(self.x.loss_of(self.x.call()), [self.x.parameters[name] for name in quiet])
        for name, part in quiet.items():
            sink = sinks.get(id(self.x.parameters[name]), "")
            if sink and not (part and "Norm" in sink):
                code = "cancelled-bias" if "Norm" in sink else "key-bias"
                sizes = self.x.lives[name].sizes
                assert sizes is not None
                largest = float((sizes if not part else _parts(sizes)[part]).max())
                of = f" of its {part}" if part else ""
                yield Finding(
                    code, (name,), f"largest gradient{of} {largest:.1g}, before {sink}", {"gradient": largest}
                )


def _parts(sizes: Tensor) -> dict[str, Tensor]:
    """Return the places of the keys where one vector holds queries, keys and values, or keys and values."""
    n = sizes.numel()
    parts = {}
    if n % 3 == 0:
        parts["middle third"] = sizes[n // 3 : 2 * n // 3]
    if n % 2 == 0:
        parts["first half"] = sizes[: n // 2]
    return parts


def _quiet_part(sizes: Tensor) -> str:
    """Return which part of a vector has gradients of rounding noise alone while all the rest has others, else ""."""
    largest = float(sizes.max())
    for name, part in _parts(sizes).items():
        loud = int((sizes > 1e-4 * largest).sum())
        if part.numel() >= 2 and float(part.max()) < 1e-5 * largest and loud == sizes.numel() - part.numel():
            return name
    return ""


def optimizer_findings(x: Experiment, is_knob: Callable[[str], bool]) -> Iterator[Finding]:
    """Look at the caller's optimizer: what it lacks, what it holds without effect."""
    if x.is_own_optimizer or x.optimizer is None:
        return
    held = {id(p) for group in x.optimizer.param_groups for p in group["params"]}
    live = [n for n in x.registered if not x.lives[n].is_dead and n not in x.created]
    missing = [name for name in x.parameters if name in live and id(x.parameters[name]) not in held]
    total = sum(x.parameters[name].numel() for name in live)
    if missing and len(missing) == len(live):
        yield Finding(
            "not-in-optimizer",
            ("",),
            f"the optimizer holds none of the model's {len(live)} tensors with a gradient",
            {"tensors": len(live)},
        )
        return
    own = {id(t) for t in x.watched.values()} | {id(t) for t, _ in x.created.values()}
    strangers = [p for group in x.optimizer.param_groups for p in group["params"] if id(p) not in own and p.numel()]
    stale = f"; it holds {len(strangers)} tensors that are not the model's" if strangers else ""
    parts: dict[str, list[str]] = {}
    for name in missing:
        parts.setdefault(_left_out(name, live, set(missing)), []).append(name)
    for path, names in parts.items():
        numbers = sum(x.parameters[name].numel() for name in names)
        if path and not stale and numbers >= 0.5 * total and len(names) > 1:
            yield Finding(
                "unused-weights",
                (path,),
                f"{numbers} of {total} learnable numbers have a gradient and are left out of the optimizer",
                {"numbers": numbers},
            )
        elif path and len(names) > 1:
            yield Finding(
                "not-in-optimizer",
                (path,),
                f"{len(names)} tensors with {numbers} numbers, such as {names[0]}{stale}",
                {"tensors": len(names)},
            )
        else:
            for name in names:
                yield Finding("not-in-optimizer", (name,), f"{_numbers(x.initial[name])}{stale}")
    by_id = {id(p): name for name, p in x.watched.items()}
    defaults = x.optimizer.defaults
    for index, group in enumerate(x.optimizer.param_groups):
        names = [by_id[id(p)] for p in group["params"] if id(p) in by_id]
        where = (names[0],) if names else (f"optimizer.param_groups[{index}]",)
        rate = float(group.get("lr", 1.0))
        if not group["params"]:
            yield Finding("idle-group", where, f"group {index} is empty")
        elif rate == 0 and not group.get("initial_lr"):
            yield Finding("idle-group", where, f"group {index} of {len(group['params'])} tensors has lr 0")
        elif names and not group.get("initial_lr") and all(n in x.unmoved for n in names):
            yield Finding(
                "idle-group",
                where,
                f"group {index}: with lr {rate:.3g} none of its {len(names)} tensors changed by a bit in "
                f"{len(x.loss_values)} steps, though all have gradients",
                {"lr": rate},
            )
        elif names and all(n in x.frozen or (n in x.lives and x.lives[n].is_dead) for n in names):
            yield Finding("idle-group", where, f"group {index}: none of its {len(names)} tensors has a gradient")
        else:
            for key, value in group.items():
                asks = re.search(r"(^|_)(lr|rate|decay|wd)($|_)", key) and key not in defaults
                if not asks or key in ("initial_lr", "params") or not isinstance(value, (int, float)):
                    continue
                target = "weight_decay" if re.search("decay|wd", key) else "lr"
                used, default = group.get(target), defaults.get(target)
                if used == default and value not in (used, 1, 1.0):
                    yield Finding(
                        "idle-group",
                        where,
                        f"group {index} has {key}={value:g}, which torch does not read; its {target} is {used:g}",
                        {"value": float(value)},
                    )
        stuck = [n for n in names if n in x.unmoved and is_knob(n) and rate > 0 and not group.get("initial_lr")]
        if stuck and len(stuck) < len(names):
            yield Finding(
                "idle-group",
                tuple(stuck),
                f"lr {rate:.3g} changed it by no bit in {len(x.loss_values)} steps: {x.parameters[stuck[0]].dtype} "
                f"resolves {_numbers(x.initial[stuck[0]])} no finer",
                {"lr": rate},
            )
        if group.get("weight_decay"):
            knobs = [name for name in names if name in x.lives and is_knob(name)]
            for name in knobs:
                yield Finding(
                    "scalar-decay",
                    (name,),
                    f"weight decay {group['weight_decay']:g}, {_numbers(x.initial[name])}",
                    {"decay": float(group["weight_decay"])},
                )


def _left_out(name: str, live: list[str], missing: set[str]) -> str:
    """Return the highest module in which every live tensor is left out of the optimizer, "" where there is none."""
    best, path = "", name.rpartition(".")[0]
    while path:
        if all(other in missing for other in live if other.startswith(path + ".")):
            best = path
        path = path.rpartition(".")[0]
    return best


def lowest_entropy(reach: float, tokens: int) -> float:
    """Return the lowest normalised entropy of a softmax row whose scores lie in [-reach, reach].

    One token at the top and the others at the bottom: weights proportional to exp(2 reach) and 1.

    >>> round(lowest_entropy(0.0, 40), 6)
    1.0
    """
    if tokens < 2 or not math.isfinite(reach):
        return 1.0
    others = tokens - 1
    down = math.exp(-min(2 * reach, 700.0))
    total = 1 + others * down
    top, rest = 1 / total, down / total
    entropy = -top * math.log(top) - (others * rest * math.log(rest) if rest > 0 else 0.0)
    return entropy / math.log(tokens)


def scale_for_entropy(entropy: float, tokens: int) -> float:
    """Return the reach scale·|q||k| at which a perfectly matched row has this normalised entropy."""
    low, high = 0.0, 200.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if lowest_entropy(middle, tokens) > entropy else (low, middle)
    return high


def _sign(tensor: Tensor) -> Tensor:
    """Return -1 or 1 for each entry, 1 for 0."""
    return torch.where(tensor < 0, -1.0, 1.0).to(tensor.dtype)


def _last(path: str) -> str:
    return re.sub(r"\[.*", "", path.rpartition(".")[2])


def _holder(path: str) -> str:
    return "a plain list or mapping" if path.endswith("]") else "a plain attribute"


def _numbers(tensor: Tensor) -> str:
    flat = tensor.detach().flatten()
    if flat.numel() == 0:
        return "empty"
    if flat.numel() == 1:
        return f"value {float(flat[0]):.4g}"
    low, high = float(flat.min()), float(flat.max())
    return (
        f"{flat.numel()} values of {low:.4g}" if low == high else f"{flat.numel()} values from {low:.4g} to {high:.4g}"
    )


def _nature(x: Experiment, name: str) -> str:
    if name in dict(x.model.named_parameters()):
        return "requires_grad is False"
    return "it is a buffer" if name in dict(x.model.named_buffers()) else "it is a plain tensor"


def _span(squash: Squash) -> str:
    low, high = squash.bounds
    return f"[{low:.4g}, {high:.4g}]"


def _outside(squash: Squash) -> str:
    value = _numbers(squash.value)
    if squash.limits:
        return f"{squash.op} takes {_numbers(squash.out)} in place of {value}"
    return f"{value} outside the bounds {_span(squash)} of {squash.op}"


_KINDS = (
    ("temp", "tau", "scale", "logit", "sharp", "kappa"),
    ("gate", "gating", "gamma", "alpha", "theta", "mix", "skip"),
)


def flag_words(flag: str) -> list[str]:
    """Return what a flag such as use_learnable_temp speaks of, nothing for a bare one such as learnable.

    >>> flag_words("use_learnable_temp"), flag_words("is_trainable")
    (['temp'], [])
    """
    rest = re.sub(r"learn(able|ed|ing|s)?|trainable|use|is|enable|param(eter)?", "", flag.lower()).strip("_")
    return [word for word in rest.split("_") if word]


def _matches(flag: str, attribute: str) -> bool:
    """Whether a flag such as learnable_temp speaks of an attribute such as logit_scale."""
    words = flag_words(flag)
    name = attribute.lower()
    if not words:
        return is_hint(name)
    if any(word in name or name in word for word in words):
        return True
    return any(
        any(w.startswith(stem) or stem in w for w in words for stem in kind) and any(stem in name for stem in kind)
        for kind in _KINDS
    )
