from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

from semalign.model.alignment import Alignment, EncoderAlignment
from semalign.model.build import build_segmenter
from semalign.train.optimizer import ROLES, learning_rate_factor, make_optimizer, parameter_groups

RATES = {"lr": 2e-3, "scalar_lr": 5e-3, "decay": 0.07, "scalar_decay": 0.0}


class Small(nn.Module):
    """One parameter tensor of each kind, and one that does not learn."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(5, 8)
        self.norm = nn.BatchNorm1d(8)
        self.site = EncoderAlignment(8, 3, 2, temperature_learnable=True)
        self.frozen = nn.Parameter(torch.zeros(7), requires_grad=False)


def test_roles_by_hand() -> None:
    """A matrix decays; norms and biases do not; temperatures and gates have their own rate and decay."""
    rows, groups = parameter_groups(Small(), **RATES)

    by_role = {row.role: row for row in rows}
    assert tuple(by_role) == ROLES
    assert by_role["weights"].names == (
        "linear.weight",
        "site.q_proj.weight",
        "site.k_proj.weight",
        "site.v_proj.weight",
        "site.o_proj.weight",
    )
    assert by_role["weights"].numbers == 5 * 8 + 8 * 8 + 3 * 8 + 3 * 8 + 8 * 8
    assert by_role["norms and biases"].names[:3] == ("linear.bias", "norm.weight", "norm.bias")
    assert by_role["temperatures"].names == ("site.temperature.log_scale",)
    assert by_role["gates"].names == ("site.gate.theta",)
    assert [(row.role, row.lr, row.decay) for row in rows] == [
        ("weights", 2e-3, 0.07),
        ("norms and biases", 2e-3, 0.0),
        ("temperatures", 5e-3, 0.0),
        ("gates", 5e-3, 0.0),
    ]
    assert [(group["lr"], group["weight_decay"]) for group in groups] == [(row.lr, row.decay) for row in rows]


def test_every_learnable_parameter_is_in_one_group() -> None:
    """Of a whole model each parameter is trained once, and a role without a tensor has no group."""
    model = build_segmenter(3, text_dim=5)

    rows, groups = parameter_groups(model, **RATES)

    grouped = [id(p) for group in groups for p in group["params"]]  # type: ignore[attr-defined]
    assert sorted(grouped) == sorted(id(p) for p in model.parameters())
    assert sum(row.numbers for row in rows) == sum(p.numel() for p in model.parameters())
    assert [row.role for row in parameter_groups(nn.Linear(2, 3), **RATES)[0]] == ["weights", "norms and biases"]


def test_decay_reaches_weights_alone() -> None:
    """With gradients of zero, a step shrinks the matrices by rate times decay and leaves everything else."""
    model = Small()
    nn.init.constant_(model.linear.bias, 2.0)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    rows, groups = parameter_groups(model, lr=0.1, scalar_lr=0.1, decay=0.5, scalar_decay=0.0)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)

    make_optimizer(model, groups).step()

    for name, parameter in model.named_parameters():
        factor = 1 - 0.1 * 0.5 if name in rows[0].names else 1.0
        torch.testing.assert_close(parameter.detach(), factor * before[name], rtol=1e-6, atol=0)


def test_a_step_puts_temperatures_back_inside() -> None:
    """The optimizer calls the projection: a step beyond the bound ends on the bound."""
    site = EncoderAlignment(8, 3, 2, temperature_learnable=True)
    _, groups = parameter_groups(site, lr=1.0, scalar_lr=100.0, decay=0.0, scalar_decay=0.0)
    optimizer = make_optimizer(site, groups)
    assert isinstance(site, Alignment)
    assert site.knobs.temperature.bounds is not None
    site.temperature.log_scale.grad = torch.tensor(-1.0)

    optimizer.step()

    assert float(site.temperature.log_scale.detach()) == pytest.approx(site.knobs.temperature.bounds[1])


def test_schedule() -> None:
    """The rate rises in a line, stands at its peak, and falls along a cosine towards zero."""
    factors = [learning_rate_factor(step, 10, 0.2) for step in range(10)]

    assert factors[:3] == [0.5, 1.0, 1.0]
    assert factors[6] == pytest.approx(0.5)
    assert all(later < earlier for earlier, later in itertools.pairwise(factors[2:]))
    assert 0 < factors[-1] < 0.05
    assert learning_rate_factor(0, 1, 0.0) == 1.0
    assert learning_rate_factor(6, 7, 1.0) == 1.0
