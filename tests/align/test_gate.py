"""The gate and the residual."""

import pytest
import torch

from semalign.align.gate import add_branch, gate_parameter, gate_value, gated_projection
from semalign.errors import ConfigError
from semalign.presets import Activation


@pytest.mark.parametrize(
    ("value", "activation"),
    [(0.5, "none"), (-3.0, "none"), (0.0, "tanh"), (-0.9, "tanh"), (0.5, "sigmoid"), (0.01, "sigmoid")],
)
def test_init_is_the_value(value: float, activation: Activation) -> None:
    """The parameter that gate_parameter returns has the gate asked for."""
    theta = torch.tensor(gate_parameter(value, activation), dtype=torch.float64)

    assert float(gate_value(theta, activation)) == pytest.approx(value, abs=1e-12)


@pytest.mark.parametrize(("value", "activation"), [(1.0, "tanh"), (-1.0, "tanh"), (0.0, "sigmoid"), (1.0, "sigmoid")])
def test_the_range_is_open(value: float, activation: Activation) -> None:
    """The ends of an activation's range are refused: no parameter reaches them."""
    with pytest.raises(ConfigError, match=rf"activation '{activation}', expected a value in"):
        gate_parameter(value, activation)


def test_no_gate_is_infinite() -> None:
    """Without activation any finite value will do, and no other."""
    with pytest.raises(ConfigError, match="expected a finite number"):
        gate_parameter(float("inf"), "none")


@pytest.mark.parametrize("shape", [(), (3,)])
def test_gated_projection_is_the_product(shape: tuple[int, ...]) -> None:
    """Folding g into the matrix gives g * (m Wo + bo), in values and gradients."""
    torch.manual_seed(0)
    mixed = torch.randn(2, 5, 7, dtype=torch.float64)
    weight = torch.randn(3, 7, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(3, dtype=torch.float64, requires_grad=True)
    gate = torch.rand(shape, dtype=torch.float64, requires_grad=True)

    folded = gated_projection(mixed, weight, bias, gate)
    plain = gate * (mixed @ weight.T + bias)

    torch.testing.assert_close(folded, plain)
    leaves = (weight, bias, gate)
    for a, b in zip(
        torch.autograd.grad(folded.sin().sum(), leaves), torch.autograd.grad(plain.sin().sum(), leaves), strict=True
    ):
        torch.testing.assert_close(a, b)


def test_gate_zero() -> None:
    """Gate 0 leaves x equal to itself and still has a gradient."""
    torch.manual_seed(0)
    x, mixed = torch.randn(2, 5, 3), torch.randn(2, 5, 7)
    gate = torch.zeros((), requires_grad=True)

    y = add_branch(x, gated_projection(mixed, torch.randn(3, 7), torch.randn(3), gate))
    y.sum().backward()  # type: ignore[no-untyped-call]

    assert torch.equal(y, x)
    assert gate.grad is not None
    assert gate.grad != 0


def test_no_text_no_branch() -> None:
    """An image without text keeps x to the bit, signs of zero included, whatever its branch holds, also backward."""
    x = torch.tensor([[[0.0, -0.0, 1.5]], [[1.0, 2.0, 3.0]]], requires_grad=True)
    branch = torch.tensor([[[torch.nan, torch.inf, 9.0]], [[0.5, 0.5, 0.5]]], requires_grad=True)

    y = add_branch(x, branch, torch.tensor([False, True]))
    y.backward(torch.ones_like(y))  # type: ignore[no-untyped-call]

    assert y.detach().view(torch.int32)[0].tolist() == x.detach().view(torch.int32)[0].tolist()
    assert y[1].tolist() == [[1.5, 2.5, 3.5]]
    assert branch.grad is not None
    assert branch.grad.tolist() == [[[0.0, 0.0, 0.0]], [[1.0, 1.0, 1.0]]]
    assert x.grad is not None
    assert bool((x.grad == 1).all())


def test_the_stream_keeps_its_type() -> None:
    """The branch is cast to the dtype of x."""
    x = torch.ones(1, 2, 3, dtype=torch.bfloat16)

    assert add_branch(x, torch.ones(1, 2, 3)).dtype == torch.bfloat16
