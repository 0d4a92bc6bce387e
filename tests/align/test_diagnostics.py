"""Entropy, strength and reach of an alignment."""

import math

import pytest
import torch

from semalign.align.attention import attention_weights
from semalign.align.diagnostics import attention_entropy, branch_strength, logit_size, mean_defined


def test_entropy_by_hand() -> None:
    """Uniform attention has entropy 1, a single token's 0, and weights 1/4, 3/4 what the formula says."""
    weights = torch.tensor([[0.5, 0.5], [1.0, 0.0], [0.25, 0.75]], dtype=torch.float64)[:, None, None]

    expected = -(0.25 * math.log(0.25) + 0.75 * math.log(0.75)) / math.log(2)
    torch.testing.assert_close(attention_entropy(weights), torch.tensor([1.0, 0.0, expected], dtype=torch.float64))


def test_entropy_counts_real_tokens() -> None:
    """Uniform over the tokens that are there is 1; with fewer than two it is undefined, not 0."""
    is_padding = torch.tensor([[False, True, False, True], [True, True, False, True], [True] * 4])
    query, key = torch.zeros(3, 5, 6), torch.ones(3, 4, 6)

    weights = attention_weights(query, key, torch.tensor(1.0), heads=2, is_padding=is_padding)
    entropy = attention_entropy(weights, is_padding)

    assert entropy[0] == pytest.approx(1.0)
    assert bool(entropy[1:].isnan().all())
    assert mean_defined(entropy) == pytest.approx(1.0)
    assert mean_defined(entropy[1:]) is None


def test_strength_by_hand() -> None:
    """|g a| / |x| is a ratio of root mean squares, undefined without text."""
    x = torch.tensor([[[3.0, 4.0]], [[1.0, 0.0]]])
    branch = torch.tensor([[[0.0, 1.0]], [[2.0, 0.0]]])

    assert branch_strength(x, branch).tolist() == pytest.approx([0.2, 2.0])
    masked = branch_strength(x, branch, torch.tensor([[False], [True]]))
    assert masked[0] == pytest.approx(0.2)
    assert masked[1].isnan()


def test_reach_by_hand() -> None:
    """The reach of the logits is scale * mean|q_h| * mean|k_h|, over real tokens."""
    query = torch.tensor([[[3.0, 4.0, 0.0, 1.0], [0.0, 1.0, 0.0, 3.0]]])
    key = torch.tensor([[[0.0, 2.0, 1.0, 0.0], [torch.nan] * 4, [4.0, 0.0, 0.0, 3.0]]])
    is_padding = torch.tensor([[False, True, False]])

    reach = logit_size(query, key, torch.tensor([1.0, 0.5]), heads=2, is_padding=is_padding)

    assert reach.tolist() == pytest.approx([3.0 * 3.0, 0.5 * 2.0 * 2.0])
    shared = logit_size(query, key[:, ::2], torch.tensor(1.0), heads=2)
    assert shared.tolist() == pytest.approx([9.0, 4.0])
