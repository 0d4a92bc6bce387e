"""The audit against the zoo: every fault is found, in its place, and nothing healthy is called faulty."""

from __future__ import annotations

import copy
import random
import re
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import tests.audit.zoo.faulty
import tests.audit.zoo.healthy  # noqa: F401 (fills the register)
from semalign.audit.liveness import audit
from semalign.audit.rules import RULES
from semalign.errors import ConfigError
from semalign.wording import Catalogue
from tests.audit.zoo import FAULTY, HEALTHY


@pytest.mark.parametrize("name", FAULTY)
def test_a_fault_is_found(name: str) -> None:
    """The finding has the fault's code and names its place; nothing else is called an error."""
    torch.manual_seed(0)
    fault = FAULTY[name]

    report = audit(*fault.make())

    hits = [item for item in report.findings if item.code == fault.code and fault.where in item.places]
    assert len(hits) == 1, str(report)
    assert hits[0].severity == RULES[fault.code].severity
    chinese = report.text(Catalogue("zh"))
    assert chinese.count("改法") == len(report.findings)
    assert not re.search(r"\b(value|the|tensors)\b", chinese), chinese
    # What decays without a gradient is dead for a reason of its own.
    allowed = {fault.code, "init-outside-bound"} if fault.code == "decay-only" else {fault.code}
    assert {item.code for item in report.errors} <= allowed, str(report)


@pytest.mark.parametrize("name", HEALTHY)
def test_nothing_healthy_is_an_error(name: str) -> None:
    """A healthy module has no error."""
    torch.manual_seed(0)

    report = audit(*HEALTHY[name]())

    assert report.ok
    assert not report.errors, str(report)


def test_the_zoo_is_large_enough() -> None:
    """At least 25 of each, every error has a fault, and most codes more than one style."""
    assert len(FAULTY) >= 25
    assert len(HEALTHY) >= 25
    shown = {fault.code for fault in FAULTY.values()}
    assert {name for name, rule in RULES.items() if rule.severity == "error"} <= shown


def _state(model: nn.Module, optimizer: torch.optim.Optimizer | None) -> list[Any]:
    tensors: list[Any] = []
    for part in (*model.parameters(), *model.buffers()):
        tensors += [part.detach().clone(), None if part.grad is None else part.grad.clone(), part.requires_grad]
    modes = [module.training for module in model.modules()]
    attributes = [sorted(vars(module)) for module in model.modules()]
    state = None if optimizer is None else copy.deepcopy(optimizer.state_dict())
    return [tensors, modes, attributes, state, torch.get_rng_state(), random.getstate(), repr(np.random.get_state())]


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor):
        return isinstance(b, Tensor) and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_equal(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(_equal(x, y) for x, y in zip(a, b, strict=True))
    return bool(a == b)


@pytest.mark.parametrize(
    "name",
    [
        "clip_contrastive",
        "zero_init_residual",
        "hooks_with_closure",
        "projection_by_hook",
        "weight_normed_old",
        "momentum_teacher",
        "attention_map_kept",
        "tied_embedding",
        "fill_in_forward",
        "lazily_made_scale",
        "made_anew_each_forward",
        "scale_computed_once",
        "gates_in_a_list",
        "starts_on_its_ceiling",
        "layers_dropped_by_python",
        "optimizer_of_ones_own",
    ],
)
def test_the_caller_keeps_everything(name: str) -> None:
    """Values, gradients, modes, attributes, optimizer state and random streams are the same bits afterwards."""
    torch.manual_seed(0)
    made = HEALTHY[name]() if name in HEALTHY else FAULTY[name].make()
    model, optimizer = made[0], made[2] if len(made) > 2 else None
    for index, parameter in enumerate(model.parameters()):
        if index % 2 and parameter.requires_grad:
            parameter.grad = torch.full_like(parameter, 0.5)
    next(model.modules()).train(False)
    parameters = [id(parameter) for parameter in model.parameters()]
    before = _state(model, optimizer)

    audit(*made)

    assert _equal(before, _state(model, optimizer))
    assert parameters == [id(parameter) for parameter in model.parameters()]


def test_the_same_twice() -> None:
    """The same seed finds the same, to the digit."""
    torch.manual_seed(0)
    made = FAULTY["clip_scale_clamped_at_two"].make()

    first, second = audit(*made), audit(*made)

    assert [item.to_dict() for item in first.findings] == [item.to_dict() for item in second.findings]


def test_a_hook_fills_a_copy() -> None:
    """A hook that keeps features in somebody's list leaves that list alone."""
    kept: list[Tensor] = []
    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU())
    model[0].register_forward_hook(lambda _module, _args, out: kept.append(out))

    audit(model, torch.ones(2, 4))

    assert not kept


def test_a_borrowed_model_keeps_its_graph() -> None:
    """Where no copy can be had, a graph made before still runs backward, and the optimizer has the same tensors."""
    first = nn.Linear(4, 3)
    model = nn.Sequential(first, nn.Tanh(), nn.Linear(3, 2))
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.ones(2, 4)).sum().backward()
    optimizer.step()
    loss = model(torch.ones(2, 4)).pow(2).sum()
    state = {id(t) for part in optimizer.state.values() for t in part.values()}

    audit(model, torch.ones(2, 4), optimizer, lambda y: y.pow(2).mean() + first.weight.abs().sum())

    assert {id(t) for part in optimizer.state.values() for t in part.values()} == state
    loss.backward()


@pytest.mark.parametrize("of", ["model", "batch"])
def test_the_meta_device_is_refused(of: str) -> None:
    """Tensors without numbers cannot be audited."""
    model = nn.Linear(4, 3, device="meta" if of == "model" else "cpu")
    batch = torch.ones(2, 4, device="meta" if of == "batch" else "cpu")

    with pytest.raises(ConfigError, match=r"on the meta device, .* expected a device that computes"):
        audit(model, batch)


class Gate(nn.Module):
    """x + keep · gate · fc(x), where ``keep`` is made in a given way."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.gate, self.fc, self.way = nn.Parameter(torch.tensor(0.3)), nn.Linear(4, 4), way

    def forward(self, x: Tensor) -> Tensor:
        """Return the sum."""
        shape = (x.shape[0], 1)
        keep: Any = 1.0
        if self.way == "drawn in place":
            keep = x.new_empty(shape).bernoulli_(0.02)
        elif self.way == "drawn beforehand":
            keep = torch.empty(shape).bernoulli_(0.02).div_(0.02)
        elif self.way == "compared with a draw":
            keep = (0.02 + torch.rand(shape)).floor()
        elif self.way == "given with the batch":
            keep = (x[:, :1] > 100).float()
        elif self.way == "closed":
            keep = 0.0
        y: Tensor = x + keep * (self.gate * self.fc(x))
        return y


@pytest.mark.parametrize("pictures", [1, 2])
@pytest.mark.parametrize(
    "way", ["drawn in place", "drawn beforehand", "compared with a draw", "given with the batch", "closed"]
)
def test_a_gate_that_this_batch_leaves_out(way: str, pictures: int) -> None:
    """What chance or the batch multiplies with 0 is not reached, for one picture too; with a constant 0: no effect."""
    torch.manual_seed(0)

    report = audit(Gate(way), torch.randn(pictures, 4))

    found = [item.code for item in report.findings if "gate" in item.places and item.code != "effective-gate"]
    assert found == ["no-effect" if way == "closed" else "not-reached"], str(report)


@pytest.mark.parametrize("alive", [True, False])
@pytest.mark.parametrize("kind", ["Adam", "NAdam", "SGD", "AdamW"])
def test_decay_alone_is_told_from_a_gradient_of_its_sign(kind: str, *, alive: bool) -> None:
    """Adam's coupled decay steps as far as a live gradient does; only a gate with gradient 0 moves by decay alone."""
    torch.manual_seed(0)
    model = Gate("always" if alive else "closed")
    groups = [{"params": [*model.fc.parameters()]}, {"params": [model.gate], "weight_decay": 1e-2}]
    optimizer = getattr(torch.optim, kind)(groups, lr=1e-3, weight_decay=0.0)

    # The gradient has the sign of the value, as decay has, for every draw of the layer's weights.
    report = audit(model, torch.ones(2, 4), optimizer, lambda y: (y - 1).square().mean())

    assert ("decay-only" in {item.code for item in report.findings}) is not alive, str(report)
