"""The feed-forward part in blocks."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from semalign.align.cpu import feed_forward as module
from semalign.align.cpu.feed_forward import feed_forward, runs_in_blocks

C, HIDDEN = 7, 29


def parameters() -> list[Tensor]:
    """Return norm weight and bias, W1, b1, W2, b2."""
    torch.manual_seed(0)
    shapes = [(C,), (C,), (HIDDEN, C), (HIDDEN,), (C, HIDDEN), (C,)]
    return [torch.randn(shape).requires_grad_() for shape in shapes]


def plain(x: Tensor, p: list[Tensor], with_norm: bool) -> Tensor:
    """Return the formula in plain operations."""
    h = F.layer_norm(x, (C,), p[0], p[1], 1e-4) if with_norm else x
    return x + F.linear(F.gelu(F.linear(h, p[2], p[3])), p[4], p[5])


def ours(x: Tensor, p: list[Tensor], with_norm: bool) -> Tensor:
    """Return the function's result."""
    return feed_forward(x, (p[0], p[1], 1e-4) if with_norm else None, *p[2:])


def test_by_hand() -> None:
    """One position, two channels, one hidden number: y = x + w2 gelu(w1 . norm(x) + b1) + b2."""
    x = torch.tensor([[3.0, 1.0]])
    # The norm gives (1, -1), its weight and bias (2, -1).
    norm = (torch.tensor([2.0, 1.0]), torch.zeros(2), 0.0)
    w1, b1 = torch.tensor([[1.0, 3.0]]), torch.tensor([2.0])
    w2, b2 = torch.tensor([[10.0], [0.0]]), torch.tensor([0.0, 5.0])
    # 2 - 3 + 2 = 1; gelu(1) = Phi(1).
    phi = 0.5 * (1 + math.erf(1 / math.sqrt(2)))

    torch.testing.assert_close(feed_forward(x, norm, w1, b1, w2, b2), torch.tensor([[3 + 10 * phi, 6.0]]))


@pytest.mark.parametrize("with_norm", [True, False])
@pytest.mark.parametrize("shape", [(1,), (64,), (67,), (331,), (2, 5, 13)])
def test_values_and_gradients(shape: tuple[int, ...], with_norm: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the number of blocks, y and all gradients are those of plain operations in float64."""
    monkeypatch.setattr(module, "BLOCK_BYTES", 1)
    x = torch.randn(*shape, C, requires_grad=True)
    dy, p = torch.randn(*shape, C), parameters()
    used = [x, *p] if with_norm else [x, *p[2:]]
    wide = {id(t): t.detach().double().requires_grad_() for t in [x, *p]}

    y = ours(x, p, with_norm)
    found = torch.autograd.grad(y, used, dy)

    expected = plain(wide[id(x)], [wide[id(t)] for t in p], with_norm)
    assert y.shape == x.shape
    torch.testing.assert_close(y.double(), expected, rtol=1e-5, atol=1e-5)
    for one, other in zip(found, torch.autograd.grad(expected, [wide[id(t)] for t in used], dy.double()), strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-4, atol=1e-4)


def test_blocks_change_rounding_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """One block or many, a position's result does not depend on its neighbours."""
    x, p = torch.randn(301, C), parameters()
    whole = ours(x, p, True)
    monkeypatch.setattr(module, "BLOCK_BYTES", 1)

    torch.testing.assert_close(ours(x, p, True), whole, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(ours(x[77:78], p, True), whole[77:78], rtol=1e-6, atol=1e-6)


def test_strides_are_of_no_account() -> None:
    """Channels-last features and gradients, as views, give what contiguous ones give."""
    p = parameters()
    x = torch.randn(2, C, 3, 5).permute(0, 2, 3, 1).requires_grad_()
    dy = torch.randn(2, C, 3, 5).permute(0, 2, 3, 1)

    (found,) = torch.autograd.grad(ours(x, p, True), [x], dy)

    (expected,) = torch.autograd.grad(plain(x, p, True), [x], dy)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_where_it_runs() -> None:
    """Float32 on a CPU; not in other types, under autocast or while a graph is captured."""
    x = torch.randn(2, C)

    assert runs_in_blocks(x)
    assert not runs_in_blocks(x.double())
    assert not runs_in_blocks(x.to("meta"))
    with torch.autocast("cpu", torch.bfloat16):
        assert not runs_in_blocks(x)
