"""Which modules are computed in blocks, and that all give the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from semalign.align.cpu.feed_forward import feed_forward as in_blocks
from semalign.model.feed_forward import add_feed_forward

C = 7


def level() -> tuple[nn.LayerNorm, nn.Sequential]:
    """Return norm and FFN as a level has them."""
    torch.manual_seed(0)
    return nn.LayerNorm(C), nn.Sequential(nn.Linear(C, 29), nn.GELU(), nn.Linear(29, C))


class Doubled(nn.Linear):
    """An adapter: twice what the layer gives."""

    def forward(self, x: Tensor) -> Tensor:
        """Return 2 (W x + b)."""
        return 2 * super().forward(x)


def listen(norm: nn.Module, ffn: nn.Sequential) -> None:
    """Listen to a layer."""
    ffn[0].register_forward_hook(lambda *_: None)


def listen_to_norm(norm: nn.Module, ffn: nn.Sequential) -> None:
    """Listen to the norm."""
    norm.register_forward_pre_hook(lambda *_: None)


def adapt(norm: nn.Module, ffn: nn.Sequential) -> None:
    """Put an adapter in the place of a layer."""
    ffn[2] = Doubled(29, C)


def approximate(norm: nn.Module, ffn: nn.Sequential) -> None:
    """Take another GELU."""
    ffn[1] = nn.GELU("tanh")


def drop_bias(norm: nn.Module, ffn: nn.Sequential) -> None:
    """Leave a bias out."""
    ffn[2] = nn.Linear(29, C, bias=False)


def prolong(norm: nn.Module, ffn: nn.Sequential) -> None:
    """Add a layer."""
    ffn.append(nn.Identity())


def parametrize(norm: nn.Module, ffn: nn.Sequential) -> None:
    """Parametrize a weight."""
    nn.utils.parametrizations.weight_norm(ffn[0])


def plain_norm(norm: nn.Module, ffn: nn.Sequential) -> None:
    """Take the norm's weights away."""
    norm.weight = norm.bias = None  # type: ignore[assignment]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Count the calls of the function that runs in blocks, and let it run for small features too."""
    monkeypatch.setattr("semalign.align.cpu.feed_forward.POSITIONS_PER_CHANNEL", 0)
    monkeypatch.setattr("semalign.align.cpu.feed_forward.LEAST_BYTES", 0)
    made: list[int] = []

    def counted(*args: Any) -> Tensor:
        made.append(1)
        return in_blocks(*args)

    monkeypatch.setattr("semalign.model.feed_forward.feed_forward", counted)
    return made


@pytest.mark.parametrize("with_norm", [True, False])
def test_modules_as_built(calls: list[int], with_norm: bool) -> None:
    """Norm, Linear, GELU, Linear run in blocks and give what calling them gives."""
    norm, ffn = level()
    x = torch.randn(2, 3, 5, C)

    y = add_feed_forward(x, norm if with_norm else None, ffn)
    with torch.no_grad():
        without_gradients = add_feed_forward(x, norm if with_norm else None, ffn)

    assert len(calls) == 2
    expected = x + ffn(norm(x) if with_norm else x)
    torch.testing.assert_close(y, expected)
    torch.testing.assert_close(without_gradients, expected)


@pytest.mark.parametrize(
    "change", [listen, listen_to_norm, adapt, approximate, drop_bias, prolong, parametrize, plain_norm]
)
def test_changed_modules_are_called(calls: list[int], change: Callable[[nn.Module, nn.Sequential], None]) -> None:
    """Hooks, adapters, parametrizations and other layers have their say: the modules themselves are called."""
    norm, ffn = level()
    change(norm, ffn)
    x = torch.randn(11, C)

    y = add_feed_forward(x, norm, ffn)

    assert calls == []
    assert torch.equal(y, x + ffn(norm(x)))


def test_few_positions_take_the_modules(calls: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """With gradients up to so many positions per channel, without up to a size of the hidden layer."""
    norm, ffn = level()
    monkeypatch.setattr("semalign.align.cpu.feed_forward.POSITIONS_PER_CHANNEL", 3)
    # 29 numbers of 4 bytes a position.
    monkeypatch.setattr("semalign.align.cpu.feed_forward.LEAST_BYTES", 11 * 29 * 4)

    few = add_feed_forward(torch.ones(3 * C, C), norm, ffn)
    assert calls == []
    many = add_feed_forward(torch.ones(2, 11, C), norm, ffn)
    assert len(calls) == 1
    torch.testing.assert_close(few[0], many[0, 0])

    with torch.no_grad():
        add_feed_forward(torch.ones(11, C), norm, ffn)
        assert len(calls) == 1
        add_feed_forward(torch.ones(12, C), norm, ffn)
    assert len(calls) == 2
