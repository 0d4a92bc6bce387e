"""The evidence of a model, and rules as pure functions of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import tests.audit.zoo.faulty  # noqa: F401 (fills the register)
from semalign.audit.evidence.experiment import Experiment
from semalign.audit.evidence.gathered import Evidence
from semalign.audit.evidence.steps import take_steps
from semalign.audit.evidence.subject import Subject, duplicate, loose_tensors, seed_all
from semalign.audit.rules import RULES, Rule
from tests.audit.zoo import FAULTY


def gathered(model: nn.Module, batch: Any, optimizer: Any = None, loss: Any = None) -> Evidence:
    """Return the evidence of three steps of a copy of a model."""
    loose = loose_tensors(model)
    experiment = Experiment(duplicate(Subject(model, batch, optimizer, loss), loose), loose, model, 0)
    return Evidence(experiment, take_steps(experiment, 3))


def found(make: Callable[[], tuple[Any, ...]], rules: Iterable[Rule], times: int = 1) -> set[tuple[str, ...]]:
    """Return code and places of what the rules find when each is asked ``times`` times, the last time's."""
    seed_all(0)
    evidence = gathered(*make())
    hits: set[tuple[str, ...]] = set()
    for rule in rules:
        for _ in range(times):
            last = {(rule.code, *hit.places) for hit in rule.find(evidence)}
        hits |= last
    return hits


@pytest.mark.filterwarnings("ignore")  # as in an audit, which ignores what the model warns of
@pytest.mark.parametrize("name", list(FAULTY)[::4])
def test_rules_do_not_depend_on_each_other(name: str) -> None:
    """Asked in the other order, and twice, they find the same: no rule changes the evidence."""
    make = FAULTY[name].make

    first = found(make, RULES.values())

    assert first == found(make, reversed(RULES.values()), times=2)
    assert first


class Kinds(nn.Module):
    """A gate under a clamp, one that is detached, one that no operation reads, and one that learns."""

    def __init__(self) -> None:
        super().__init__()
        self.clamped, self.cut, self.idle, self.live = (nn.Parameter(torch.tensor(3.0)) for _ in range(4))
        self.fc = nn.Linear(5, 5)

    def forward(self, x: Tensor) -> Tensor:
        """Return a residual addition."""
        y: Tensor = x + self.clamped.clamp(max=2.0) * self.cut.detach() * self.live * self.fc(x)
        return y


def test_where_gradients_end() -> None:
    """Each dead knob has one nearest cause; what learns has none."""
    torch.manual_seed(0)
    evidence = gathered(Kinds(), torch.randn(3, 5))

    assert {t.name: ending.kind for t, ending in evidence.dead_knobs} == {
        "clamped": "bound",
        "cut": "detached",
        "idle": "unread",
    }
    assert [t.name for t in evidence.learnable if not t.is_dead] == ["live", "fc.weight", "fc.bias"]
    assert evidence.tensors["live"].is_gate
    assert evidence.tensors["live"].life.gradients == ("live",) * 3
    assert evidence.dead_parts == ()


def test_experiments_put_everything_back() -> None:
    """Whatever is tried, the values are those of before."""
    torch.manual_seed(0)
    x = gathered(Kinds(), torch.randn(3, 5)).experiment
    x.restore()
    other = {name: value + 1 for name, value in x.initial.items()}

    changes = x.output_change(other, x.output())
    x.gradients_after(other, ["live"])
    after = [x.value_after_step("live", other["live"]), x.value_after_forward("live", other["live"])]
    x.retrace(other)

    assert changes > 0
    assert all(torch.equal(value, other["live"]) for value in after)
    assert all(torch.equal(tensor, x.initial[name]) for name, tensor in x.watched.items())
    assert all(tensor.grad is None for tensor in x.watched.values())
