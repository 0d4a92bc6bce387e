"""The scale and whether it can learn."""

import math
import warnings

import pytest
import torch

from semalign.align.temperature import (
    DeadKnobWarning,
    attention_scale,
    base_value,
    check_live,
    liveness,
    project_log_scale_,
)
from semalign.errors import ConfigError

CLAMP = (-2.0, 2.0)


def test_scale_by_hand() -> None:
    """The scale is base * exp(l); a clamp acts in the forward, a projection does not."""
    log_scale = torch.tensor([0.0, math.log(3), 3.0], dtype=torch.float64)

    free = attention_scale(log_scale, 0.5, "none", None)
    clamped = attention_scale(log_scale, 0.5, "clamp", CLAMP)
    projected = attention_scale(log_scale, 0.5, "project", CLAMP)

    expected = torch.tensor([0.5, 1.5, 0.5 * math.e**3], dtype=torch.float64)
    torch.testing.assert_close(free, expected)
    torch.testing.assert_close(projected, expected)
    torch.testing.assert_close(clamped, torch.tensor([0.5, 1.5, 0.5 * math.e**2], dtype=torch.float64))


def test_base_by_name() -> None:
    """The base is 1 or one over the root of the head's width."""
    assert base_value("1", 49) == 1.0
    assert base_value("1/sqrt(d)", 49) == pytest.approx(1 / 7)


@pytest.mark.parametrize(
    ("value", "state"),
    [(-2.5, "dead"), (-2.0, "edge"), (-1.999, "live"), (0.0, "live"), (2.0, "edge"), (2.001, "dead")],
)
def test_liveness_is_what_autograd_says(value: float, state: str) -> None:
    """'dead' is exactly where the gradient is 0; on the bound it still passes."""
    log_scale = torch.tensor(value, dtype=torch.float64, requires_grad=True)
    attention_scale(log_scale, 1.0, "clamp", CLAMP).backward()  # type: ignore[no-untyped-call]

    assert liveness([value], "clamp", CLAMP) == state
    assert log_scale.grad is not None
    assert (float(log_scale.grad) == 0.0) == (state == "dead")


def test_only_a_clamp_kills() -> None:
    """A projected or free l is live wherever it stands."""
    assert liveness([9.0], "project", CLAMP) == "live"
    assert liveness([9.0], "none", None) == "live"


def test_the_worst_head_counts() -> None:
    """One head outside makes the temperature dead, one on the bound puts it on the edge."""
    assert liveness([0.0, 2.5], "clamp", CLAMP) == "dead"
    assert liveness([0.0, 2.0], "clamp", CLAMP) == "edge"


def test_projection() -> None:
    """The projection puts l on the nearest bound, in place and outside the graph."""
    log_scale = torch.tensor([-3.0, 0.5, 7.0], requires_grad=True)

    project_log_scale_(log_scale, CLAMP)

    assert log_scale.tolist() == [-2.0, 0.5, 2.0]
    assert log_scale.requires_grad
    assert log_scale.is_leaf


def test_dead_is_refused() -> None:
    """A dead temperature is refused with the bound, the nearest live init and the fix."""
    with pytest.raises(
        ConfigError,
        match=r"l = 2\.659 lies outside its clamp bounds \[-2, 2\].*exactly 0.*nearest live init is 2: mend it",
    ):
        check_live(torch.tensor(2.659), "clamp", CLAMP, where="here", fix="mend it")
    with pytest.raises(ConfigError, match=r"nearest live init is -2"):
        check_live(torch.tensor([0.0, -3.0]), "clamp", CLAMP, where="here", fix="mend it")


def test_dead_is_allowed_with_a_warning() -> None:
    """allow_dead warns instead, once for a state that was already known."""
    with pytest.warns(DeadKnobWarning, match="never learns"):
        state = check_live(torch.tensor(3.0), "clamp", CLAMP, where="here", fix="mend it", allow_dead=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_live(torch.tensor(3.0), "clamp", CLAMP, where="here", fix="mend it", allow_dead=True, known=state)

    assert state == "dead"


def test_the_edge_warns() -> None:
    """On the bound it is one step from dead."""
    with pytest.warns(DeadKnobWarning, match="one step from"):
        assert check_live(torch.tensor(2.0), "clamp", CLAMP, where="here", fix="mend it") == "edge"


def test_the_bound_in_the_dtype_of_l() -> None:
    """A float32 l on a bound that float32 cannot hold is on the edge, as its gradient is, and not outside."""
    bound = math.log(10)
    log_scale = torch.tensor(bound, requires_grad=True)
    attention_scale(log_scale, 1.0, "clamp", (-bound, bound)).backward()  # type: ignore[no-untyped-call]

    with pytest.warns(DeadKnobWarning, match="one step from"):
        check_live(log_scale.detach(), "clamp", (-bound, bound), where="here", fix="mend it")
    assert log_scale.grad is not None
    assert log_scale.grad > 0
