"""Attention weights and their mixtures, in both forms."""

import math
from typing import Any, get_args

import pytest
import torch
from beartype import beartype
from beartype.roar import BeartypeCallHintViolation
from jaxtyping import TypeCheckError, jaxtyped
from torch import Tensor
from torch.nn import functional as F

from semalign.align import attention
from semalign.align.attention import AttentionForm, attend, attention_weights, has_text, mix_values, silence_padding
from semalign.presets import Similarity

SIMILARITIES = get_args(Similarity)
FORMS = get_args(AttentionForm)
BATCH, POSITIONS, TOKENS, HEADS, WIDTH = 2, 5, 7, 3, 11  # WIDTH is that of one head
DIM = HEADS * WIDTH


def tensors(tokens: int = TOKENS, texts: int = BATCH, seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return query, key, value and a scale per head, in float64."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    return draw(BATCH, POSITIONS, DIM), draw(texts, tokens, DIM), draw(texts, tokens, DIM), draw(HEADS).exp()


MASK = torch.tensor([[False, True, False, True, True, False, False], [False] * 7])


def test_weights_by_hand() -> None:
    """Two heads of width one: softmax(scale * q k) over the tokens that are there."""
    query = torch.tensor([[[1.0, 2.0]]])
    key = torch.tensor([[[0.0, 0.0], [math.log(3), math.log(2)], [5.0, 5.0]]])
    is_padding = torch.tensor([[False, False, True]])

    weights = attention_weights(query, key, torch.tensor([1.0, 0.5]), heads=2, is_padding=is_padding)

    # Head 0: logits 0, log 3; head 1: logits 0, 0.5 * 2 * log 2.
    torch.testing.assert_close(weights, torch.tensor([[[[0.25, 0.75, 0.0]], [[1 / 3, 2 / 3, 0.0]]]]))


def test_cosine_by_hand() -> None:
    """Cosine normalises each head, full cosine the whole width before the split."""
    query = torch.tensor([[[3.0, 4.0, 0.0, 5.0]]])
    key = torch.tensor([[[6.0, 8.0, 0.0, 1.0], [-3.0, -4.0, 2.0, 0.0]]])
    one = torch.tensor(1.0)

    per_head = attention_weights(query, key, one, heads=2, similarity="cosine")
    full = attention_weights(query, key, one, heads=2, similarity="cosine-full")

    def softmax(a: float, b: float) -> list[float]:
        return [math.exp(a) / (math.exp(a) + math.exp(b)), math.exp(b) / (math.exp(a) + math.exp(b))]

    q, k0, k1 = math.sqrt(50), math.sqrt(101), math.sqrt(29)
    torch.testing.assert_close(per_head[0, :, 0], torch.tensor([softmax(1, -1), softmax(1, 0)]))
    torch.testing.assert_close(
        full[0, :, 0], torch.tensor([softmax(50 / q / k0, -25 / q / k1), softmax(5 / q / k0, 0)])
    )


@pytest.mark.parametrize("similarity", SIMILARITIES)
@pytest.mark.parametrize("top_k", [None, 2])
def test_weights_sum_to_one(similarity: Similarity, top_k: int | None) -> None:
    """Rows sum to 1 over the tokens that are there; padding has weight exactly 0."""
    query, key, _, scale = tensors()

    weights = attention_weights(query, key, scale, heads=HEADS, similarity=similarity, is_padding=MASK, top_k=top_k)

    assert weights.shape == (BATCH, HEADS, POSITIONS, TOKENS)
    torch.testing.assert_close(weights.sum(-1), torch.ones_like(weights[..., 0]))
    assert bool((weights.permute(0, 3, 1, 2)[MASK] == 0).all())
    if top_k is not None:
        assert bool(((weights > 0).sum(-1) == top_k).all())


def test_top_k_keeps_the_highest() -> None:
    """top_k drops all but the highest logits; with as many as tokens it drops none; padding is dropped before."""
    query, key = torch.ones(1, 1, 1), torch.tensor([[[0.0], [9.0], [2.0], [1.0]]])
    is_padding = torch.tensor([[False, True, False, False]])
    one = torch.tensor(1.0)

    weights = attention_weights(query, key, one, heads=1, is_padding=is_padding, top_k=2)[0, 0, 0]

    torch.testing.assert_close(weights, torch.tensor([0.0, 0.0, math.e / (1 + math.e), 1 / (1 + math.e)]))
    full = attention_weights(query, key, one, heads=1, top_k=4)
    assert torch.equal(full, attention_weights(query, key, one, heads=1))


@pytest.mark.parametrize("similarity", SIMILARITIES)
@pytest.mark.parametrize("mask", [None, MASK, MASK[:1]], ids=["none", "per image", "shared"])
@pytest.mark.parametrize("texts", [1, BATCH])
@pytest.mark.parametrize("top_k", [None, 2])
def test_forms_agree(similarity: Similarity, mask: Tensor | None, texts: int, top_k: int | None) -> None:
    """Reference and sdpa are one function, in values and in all gradients, for shared and own texts and masks."""
    results = []
    for form in FORMS:
        leaves = [tensor.requires_grad_() for tensor in tensors(texts=texts)]
        query, key, value, scale = leaves
        mixed = attend(
            query,
            key,
            value,
            scale,
            heads=HEADS,
            similarity=similarity,
            is_padding=mask,
            top_k=top_k,
            form=form,
        )
        results.append((mixed, *torch.autograd.grad(mixed.sin().sum(), leaves)))

    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_gradcheck(form: AttentionForm, similarity: Similarity) -> None:
    """Analytic gradients are the numerical ones, with padding in the middle and an image without text."""
    leaves = tuple(tensor.requires_grad_() for tensor in tensors(tokens=3))
    mask = torch.tensor([[False, True, False], [True, True, True]])

    def function(query: Tensor, key: Tensor, value: Tensor, scale: Tensor) -> Tensor:
        return attend(query, key, value, scale, heads=HEADS, similarity=similarity, is_padding=mask, form=form)

    assert torch.autograd.gradcheck(function, leaves)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("similarity", SIMILARITIES)
@pytest.mark.parametrize("top_k", [None, 2])
@pytest.mark.parametrize("texts", [1, BATCH])
def test_padding_is_silent(form: AttentionForm, similarity: Similarity, top_k: int | None, texts: int) -> None:
    """NaN and infinity in padded rows, and a text of padding only, reach neither values nor gradients."""
    mask = torch.tensor([[False, True, False, True, True, False, False], [True] * 7])
    results = []
    for poison in (False, True):
        leaves = list(tensors(texts=texts))
        if poison:
            for rows in leaves[1:3]:
                rows[:, 1], rows[:, 3:5] = torch.nan, torch.inf
        query, key, value, scale = (leaf.requires_grad_() for leaf in leaves)
        mixed = attend(
            query,
            key,
            value,
            scale,
            heads=HEADS,
            similarity=similarity,
            is_padding=mask,
            top_k=top_k,
            form=form,
        )
        results.append((mixed, *torch.autograd.grad(mixed.sum(), (query, key, value, scale))))

    for clean, poisoned in zip(*results, strict=True):
        assert torch.equal(clean, poisoned)
        assert bool(poisoned.isfinite().all())
    assert bool((results[1][0][1] == 0).all())


def test_weights_without_text_are_zero() -> None:
    """A row of padding only gives 0, not NaN."""
    query, key, _, scale = tensors()
    mask = torch.stack([torch.ones(TOKENS, dtype=torch.bool), MASK[0]])

    weights = attention_weights(query, key, scale, heads=HEADS, is_padding=mask)

    assert bool((weights[0] == 0).all())
    assert bool((weights[1].sum(-1) > 0.99).all())
    assert has_text(mask).tolist() == [False, True]


@pytest.mark.filterwarnings("ignore:Anomaly Detection")
@pytest.mark.parametrize("form", FORMS)
def test_no_nan_on_the_way_back(form: AttentionForm) -> None:
    """The backward pass holds no NaN anywhere, as anomaly detection confirms, where an image has no text."""
    leaves = [tensor.requires_grad_() for tensor in tensors()]
    mask = torch.stack([torch.ones(TOKENS, dtype=torch.bool), MASK[0]])

    with torch.autograd.set_detect_anomaly(True):
        query, key, value, scale = leaves
        mixed = attend(query, key, value, scale, heads=HEADS, is_padding=mask, form=form)
        grads = torch.autograd.grad(mixed.sin().sum(), leaves)

    assert all(bool(grad.isfinite().all()) for grad in grads)


@pytest.mark.parametrize("form", FORMS)
def test_order_of_tokens_does_not_matter(form: AttentionForm) -> None:
    """Permuting tokens with their mask leaves the mixture unchanged: padding may stand anywhere."""
    query, key, value, scale = tensors()
    order = torch.tensor([3, 0, 6, 1, 5, 2, 4])

    plain = attend(query, key, value, scale, heads=HEADS, is_padding=MASK, form=form)
    moved = attend(query, key[:, order], value[:, order], scale, heads=HEADS, is_padding=MASK[:, order], form=form)

    torch.testing.assert_close(plain, moved)


@pytest.mark.parametrize("form", FORMS)
def test_padding_is_as_if_absent(form: AttentionForm) -> None:
    """Masked tokens give what a text without them gives."""
    query, key, value, scale = tensors()
    keep = ~MASK[0]

    masked = attend(query, key, value, scale, heads=HEADS, is_padding=MASK, form=form)[:1]
    cut = attend(query[:1], key[:1, keep], value[:1, keep], scale, heads=HEADS, form=form)

    torch.testing.assert_close(masked, cut)


@pytest.mark.parametrize("form", FORMS)
def test_batch_size_does_not_matter(form: AttentionForm) -> None:
    """Images do not see each other; a shared text gives what its copies give."""
    query, key, value, scale = tensors(texts=1)

    shared = attend(query, key, value, scale, heads=HEADS, form=form)
    copied = attend(query, key.repeat(BATCH, 1, 1), value.repeat(BATCH, 1, 1), scale, heads=HEADS, form=form)
    alone = attend(query[1:], key, value, scale, heads=HEADS, form=form)

    torch.testing.assert_close(shared, copied)
    torch.testing.assert_close(shared[1:], alone)


@pytest.mark.parametrize("form", FORMS)
def test_torch_multihead_attention_agrees(form: AttentionForm) -> None:
    """torch.nn.MultiheadAttention, an outside implementation, gives the same mixture and weights."""
    torch.manual_seed(0)
    query, key, value, _ = tensors()
    outside = torch.nn.MultiheadAttention(DIM, HEADS, bias=False, batch_first=True, dtype=torch.float64)
    w = outside.in_proj_weight.detach()
    q, k, v = (F.linear(rows, part) for rows, part in zip((query, key, value), w.chunk(3), strict=True))
    scale = torch.tensor(WIDTH**-0.5, dtype=torch.float64)

    expected, expected_weights = outside(query, key, value, key_padding_mask=MASK, average_attn_weights=False)
    mixed = attend(q, k, v, scale, heads=HEADS, is_padding=MASK, form=form)
    weights = attention_weights(q, k, scale, heads=HEADS, is_padding=MASK)

    torch.testing.assert_close(F.linear(mixed, outside.out_proj.weight), expected)
    torch.testing.assert_close(weights, expected_weights)


def test_the_mixture_is_weights_times_values() -> None:
    """The mixture is mix_values of attention_weights."""
    query, key, value, scale = tensors()

    weights = attention_weights(query, key, scale, heads=HEADS, is_padding=MASK)

    torch.testing.assert_close(
        mix_values(weights, value, MASK), attend(query, key, value, scale, heads=HEADS, is_padding=MASK)
    )


def test_softmax_is_wide() -> None:
    """bfloat16 comes back as bfloat16, from a softmax in float32: close to the float64 weights of the same inputs."""
    query, key, _, _ = (tensor.bfloat16() for tensor in tensors())
    scale = torch.tensor(0.25)

    weights = attention_weights(query, key, scale, heads=HEADS)
    exact = attention_weights(query.double(), key.double(), scale.double(), heads=HEADS)

    assert weights.dtype == torch.bfloat16
    torch.testing.assert_close(weights.double(), exact, rtol=0.04, atol=0.004)


def test_reference_is_float64() -> None:
    """The reference form computes in float64 whatever comes in."""
    query, key, value, scale = (tensor.float() for tensor in tensors())

    assert attend(query, key, value, scale, heads=HEADS, form="reference").dtype == torch.float64


def test_shared_rows_are_silenced_where_all_images_pad_them() -> None:
    """A row shared by all images is cleared only if every image pads it."""
    rows = torch.full((1, 3, 2), torch.nan)
    rows[:, 0] = 1.0

    cleared = silence_padding(rows, torch.tensor([[False, True, True], [False, True, False]]))

    assert cleared[0, 1].tolist() == [0.0, 0.0]
    assert bool(cleared[0, 2].isnan().all())


@pytest.mark.parametrize("name", ["attend", "attention_weights"])
def test_shapes_are_part_of_the_signature(name: str) -> None:
    """The annotated shapes hold for a call that is right and refuse one that is wrong."""
    checked: Any = jaxtyped(typechecker=beartype)(getattr(attention, name))
    query, key, value, scale = tensors()
    rows = [key, value] if name == "attend" else [key]

    checked(query, *rows, scale, heads=HEADS, is_padding=MASK)
    with pytest.raises((TypeCheckError, BeartypeCallHintViolation)):
        checked(query, *rows, scale, heads=HEADS, is_padding=MASK[:, :-1])
    with pytest.raises((TypeCheckError, BeartypeCallHintViolation)):
        checked(query[..., :-1], *rows, scale, heads=HEADS)
