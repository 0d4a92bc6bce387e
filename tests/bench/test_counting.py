"""Counting operations and bytes."""

import torch
from torch.nn import functional as F

from semalign.align.cpu.feed_forward import feed_forward
from semalign.bench.counting import count


def test_by_hand() -> None:
    """A product's operations, the bytes it reads and writes, and the memory its results take."""
    a, b = torch.randn(3, 5), torch.randn(5, 7)

    found = count(lambda: (a @ b) + 1.0)

    assert found.flops == 2 * 3 * 5 * 7
    # The product reads 15 and 35 numbers and writes 21, the sum reads and writes 21.
    assert found.bytes_touched == 4 * (15 + 35 + 21 + 21 + 21)
    assert found.kernels == 2
    assert found.peak_bytes == 4 * (21 + 21)


def test_what_is_freed_counts_no_longer() -> None:
    """The peak is what is alive at once, an own result to the end."""
    a = torch.randn(11)

    def chain() -> torch.Tensor:
        y = a
        for _ in range(6):
            y = y + 1.0
        return y

    assert count(chain).peak_bytes == 4 * (11 + 11)


def test_views_and_outputs_are_no_new_memory() -> None:
    """A view moves nothing, and an output that the caller gives is not allocated."""
    a, out = torch.randn(3, 5), torch.empty(3, 3)

    found = count(lambda: torch.mm(a, a.t(), out=out))

    assert found.peak_bytes == 0
    assert found.bytes_touched == 4 * (15 + 15 + 9)
    assert found.flops == 2 * 3 * 5 * 3


def test_fused_attention_is_counted() -> None:
    """Torch's fused attention on a CPU has its two products counted, and five in the backward."""
    query = torch.randn(2, 3, 13, 5, requires_grad=True)
    key = torch.randn(2, 3, 7, 5)
    products = 2 * 2 * 3 * 13 * 7 * 5

    forward = count(lambda: F.scaled_dot_product_attention(query, key, key))
    both = count(lambda: F.scaled_dot_product_attention(query, key, key).sum().backward())  # type: ignore[no-untyped-call]

    assert forward.flops == 2 * products
    assert both.flops == 7 * products


def test_every_product_of_the_feed_forward_is_counted() -> None:
    """Two products forward; backward the hidden layer once more, two towards x and one for each weight."""
    rows, channels, hidden = 11, 5, 13
    w1, w2 = torch.randn(hidden, channels, requires_grad=True), torch.randn(channels, hidden, requires_grad=True)
    x, b1, b2 = torch.randn(rows, channels), torch.zeros(hidden), torch.zeros(channels)

    def both_ways() -> tuple[torch.Tensor, ...]:
        return torch.autograd.grad(feed_forward(x, None, w1, b1, w2, b2).sum(), [w1, w2])

    assert count(both_ways).flops == 7 * 2 * rows * channels * hidden
