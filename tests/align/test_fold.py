"""The folded form in plain operations; the kernels of CPUs have their own tests."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from semalign.align import fold as plain
from semalign.align.cpu import folded as kernels
from semalign.align.fold import FoldWeights
from semalign.presets import Similarity

TEXTS, POSITIONS, TOKENS, HEADS, DIM, CHANNELS = 3, 11, 7, 2, 10, 13


def draw(*shape: int) -> Tensor:
    """Return normal numbers in float64 that need a gradient."""
    return torch.randn(*shape, dtype=torch.float64, requires_grad=True)


def test_by_hand() -> None:
    """One head of width one: the weights are softmax(source M + b), the branch is their product with U."""
    weights = FoldWeights(*(torch.tensor(x) for x in (2.0, 0.5, [[3.0]], [0.25], [[2.0]], [4.0])))
    bank = plain.fold(torch.tensor([[[0.0], [1.0]]]), torch.tensor([[[1.0], [5.0]]]), weights, heads=1)

    assert bank.offset is not None
    assert bank.keys.tolist() == [[[0.0], [6.0]]]
    assert bank.offset.tolist() == [[0.0, 0.5]]
    assert bank.output.tolist() == [[[3.0], [7.0]]]
    x = torch.tensor([[[(torch.tensor(3.0).log().item() - 0.5) / 6]]])
    torch.testing.assert_close(plain.attend_folded(x, x, bank), x + 0.25 * 3 + 0.75 * 7)
    torch.testing.assert_close(plain.attend_folded(x, x, bank, top_k=1), x + 7)


@pytest.mark.parametrize("similarity", ["dot", "cosine", "cosine-full"])
@pytest.mark.parametrize("top_k", [None, 2])
def test_the_kernels_compute_the_same(similarity: Similarity, top_k: int | None) -> None:
    """Values and gradients of the kernels are those of the plain operations, padding and absent text included."""
    torch.manual_seed(0)
    channels = DIM if similarity != "dot" else CHANNELS
    leaves = [
        draw(TEXTS, POSITIONS, channels), draw(TEXTS, TOKENS, DIM), draw(TEXTS, TOKENS, DIM), draw(HEADS),
        draw(channels), draw(DIM, channels), draw(DIM), draw(channels, DIM), draw(channels),
    ]  # fmt: skip
    mask = torch.zeros(TEXTS, TOKENS, dtype=torch.bool)
    mask[0, 2], mask[1] = True, True
    present = [True, False, True]

    found = []
    for module in (plain, kernels):
        x, key, value, *rest = leaves
        weights = FoldWeights(rest[0].exp(), *rest[1:])
        bank = module.fold(key, value, weights, heads=HEADS, similarity=similarity, is_padding=mask)
        about = {} if module is plain else {"present": present}
        y = module.attend_folded(x, x, bank, is_padding=mask, top_k=top_k, **about)
        found.append([y.detach(), *torch.autograd.grad(y.sin().sum(), leaves)])

    for ours, expected in zip(*reversed(found), strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-10, atol=1e-12)
    assert torch.equal(found[0][0][1], leaves[0][1])
