"""The watch over somebody's own training loop."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from semalign.audit.findings import AuditReport
from semalign.audit.watch import Watch
from semalign.errors import ConfigError


class Two(nn.Module):
    """A gate with and a scale without a gradient."""

    def __init__(self, gate: float = 0.5, limit: float = 1.0) -> None:
        super().__init__()
        self.gate = nn.Parameter(torch.tensor(gate))
        self.scale = nn.Parameter(torch.tensor(3.0))
        self.limit = limit
        self.fc = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Return x + gate · min(scale, limit) · fc(x)."""
        y: Tensor = x + self.gate * self.scale.clamp(max=self.limit) * self.fc(x)
        return y


def watched(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int = 7) -> AuditReport:
    """Train for a few steps under watch."""
    watch = Watch(model, optimizer)
    for step in range(steps):
        optimizer.zero_grad()
        model(torch.full((2, 3), 1.0 + step)).sum().backward()
        watch.after_backward()
        optimizer.step()
        watch.after_step()
    return watch.report()


def test_dead_and_decayed() -> None:
    """A scale without gradient is an error, and its drift is told from learning; the live gate is silent."""
    torch.manual_seed(0)
    model = Two()

    report = watched(model, torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.1))

    assert [(item.code, item.where) for item in report.findings] == [
        ("zero-gradient", "scale"),
        ("decay-only", "scale"),
    ]
    assert str(report.findings[0].evidence) == "value 2.979; gradient exactly 0 at all 7 steps"
    assert report.facts == {"steps": 7, "knobs": ["gate", "scale"]}


def test_live_knobs_are_silent() -> None:
    """Two knobs that learn give nothing to say."""
    torch.manual_seed(0)
    model = Two(limit=10.0)

    assert watched(model, torch.optim.SGD(model.parameters(), lr=1e-4)).findings == ()


def test_left_out_of_the_optimizer() -> None:
    """A knob with a gradient that the optimizer does not hold."""
    torch.manual_seed(0)
    model = Two(limit=10.0)

    report = watched(model, torch.optim.SGD([model.scale, *model.fc.parameters()], lr=1e-4))

    assert [(item.code, item.where) for item in report.findings] == [("not-in-optimizer", "gate")]


def test_pinned() -> None:
    """A knob that a hook puts back to one value after each step, although it has a gradient."""
    torch.manual_seed(0)
    model = Two(limit=10.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)

    def project(*_: object) -> None:
        with torch.no_grad():
            model.gate.fill_(0.5)

    optimizer.register_step_post_hook(project)

    assert [(item.code, item.where) for item in watched(model, optimizer).findings] == [("pinned-at-bound", "gate")]


def test_a_knob_behind_a_closed_gate_wakes_up() -> None:
    """A scale behind a gate of 0 has its first gradient at the second step."""
    torch.manual_seed(0)
    model = Two(gate=0.0, limit=10.0)

    report = watched(model, torch.optim.SGD(model.parameters(), lr=1e-4))

    assert [(item.code, item.where) for item in report.findings] == [("wakes-up", "scale")]


def test_new_parameters_and_bad_gradients() -> None:
    """Parameters made later, and a gradient that is not finite."""
    model = Two(limit=10.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
    watch = Watch(model, optimizer)
    model.late = nn.Parameter(torch.ones(2))
    model.gate.grad = torch.tensor(torch.nan)
    watch.after_backward()

    assert [(item.code, item.where) for item in watch.report().findings] == [
        ("created-after-optimizer", "late"),
        ("non-finite", "gate"),
    ]


def test_message() -> None:
    """Something else than a model and an optimizer is refused."""
    with pytest.raises(ConfigError, match=r"Watch got Two and list, expected a torch\.nn\.Module and"):
        Watch(Two(), [])  # type: ignore[arg-type]


class Pulled(nn.Module):
    """A gate that the loss pulls down."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Parameter(torch.tensor(0.5))

    def forward(self) -> Tensor:
        """Return a loss whose gradient is 3 everywhere."""
        return 3 * self.gate


def pulled(
    optimizer_of: Callable[[Pulled], torch.optim.Optimizer], rates: list[float], lowest: float = -9.0
) -> AuditReport:
    """Train a pulled gate by ``rates`` under watch and put it back above ``lowest``."""
    model = Pulled()
    optimizer = optimizer_of(model)
    watch = Watch(model, optimizer)
    for rate in rates:
        optimizer.param_groups[0]["lr"] = rate
        optimizer.zero_grad()
        model().backward()
        watch.after_backward()
        optimizer.step()
        with torch.no_grad():
            model.gate.clamp_(min=lowest)
        watch.after_step()
    return watch.report()


def adam(model: nn.Module) -> torch.optim.Optimizer:
    """Return an Adam over a model."""
    return torch.optim.Adam(model.parameters())


def sgd(model: nn.Module) -> torch.optim.Optimizer:
    """Return an SGD over a model."""
    return torch.optim.SGD(model.parameters())


@pytest.mark.parametrize("make", [adam, sgd])
def test_the_end_of_a_schedule_pins_nothing(make: Callable[[Pulled], torch.optim.Optimizer]) -> None:
    """Where a step is below the resolution of the value, standing still says nothing; on a bound before it, it does."""
    cosine = [1e-3 * 0.5 * (1 + math.cos(math.pi * step / 6000)) for step in (*range(50), *range(5960, 6000))]

    free = pulled(make, cosine)
    bounded = pulled(make, cosine, lowest=0.49)

    assert free.findings == ()
    assert [(item.code, item.where) for item in bounded.findings] == [("pinned-at-bound", "gate")]


@pytest.mark.parametrize("rate", [0.0, 1e-12])
def test_a_rate_that_moves_nothing(rate: float) -> None:
    """A knob that no step can move is idle by its group, unless a schedule leads there or from there."""
    report = pulled(adam, [rate] * 7)

    assert [(item.code, item.where) for item in report.findings] == [("idle-group", "gate")]
    assert f"lr {rate:.3g} changed no bit of it in 7 steps" in str(report.findings[0].evidence)

    def scheduled(model: nn.Module) -> torch.optim.Optimizer:
        optimizer = adam(model)
        torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: step / 10)
        return optimizer

    assert pulled(scheduled, [rate] * 7).findings == ()


def test_an_optimizer_that_cannot_be_made_anew() -> None:
    """Where no second optimizer of its kind can be had, the gradient times the rate tells what a step could do."""

    class Own(torch.optim.SGD):
        def __init__(self, model: nn.Module) -> None:
            super().__init__(model.parameters(), lr=1e-3)

    assert pulled(Own, [1e-12] * 3 + [1e-3] + [1e-12] * 7).findings == ()
    assert [item.code for item in pulled(Own, [1e-3] * 7, lowest=0.5).findings] == ["pinned-at-bound"]


def test_a_knob_without_numbers_is_passed_over() -> None:
    """A gate of no entries is not watched."""
    model = Two(limit=10.0)
    model.slot_gate = nn.Parameter(torch.empty(0))

    report = watched(model, torch.optim.SGD(model.parameters(), lr=1e-4))

    assert report.findings == ()
    assert report.facts["knobs"] == ["gate", "scale"]
