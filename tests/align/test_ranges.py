"""Numbers at the ends of what can be computed: forms agree, nothing becomes NaN, gradients are right."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from semalign.model.alignment import Alignment, DecoderAlignment, EncoderAlignment
from semalign.presets import PRESETS

SIDES: tuple[type[EncoderAlignment | DecoderAlignment], ...] = (EncoderAlignment, DecoderAlignment)
FORMS = ("reference", "sdpa", "folded")
TEXT_DIM = 5


@pytest.fixture
def deterministic() -> Iterator[None]:
    """Refuse every operation whose bits depend on more than its input."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def build(kind: type[Alignment], *, dim: int = 6, heads: int = 2, **knobs: Any) -> Any:
    """Return a float64 module whose every tensor is drawn."""
    torch.manual_seed(3)
    module = kind(dim, TEXT_DIM, heads, allow_dead=True, **knobs).double()
    for name, parameter in module.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter, std=0.3)
    return module


def drawn(*shape: int, seed: int = 1) -> Tensor:
    """Return normal numbers in float64."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def set_scale(module: Any, scale: float) -> None:
    """Set the inverse temperature."""
    with torch.no_grad():
        module.temperature.log_scale.fill_(math.log(scale / module.temperature.base))


def outcome(module: Any, form: str, x: Tensor, text: Tensor, mask: Tensor | None) -> dict[str, Tensor]:
    """Return the output and the gradients of input and text."""
    module.form = form
    x, text = x.clone().requires_grad_(), text.clone().requires_grad_()
    y = module(x, text, mask)
    y.sin().sum().backward()
    assert x.grad is not None
    return {"y": y.detach(), "x": x.grad, "text": torch.zeros_like(text) if text.grad is None else text.grad}


def assert_alike(found: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float) -> None:
    """Compare, each against the largest number of its kind."""
    for name, value in found.items():
        size = max(1.0, float(expected[name].abs().max()))
        assert bool(value.isfinite().all()), name
        assert float((value - expected[name]).abs().max()) <= tolerance * size, name


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("kind", SIDES)
@pytest.mark.parametrize("form", FORMS)
def test_gradcheck_of_every_preset(kind: type[Alignment], form: str, preset: str, deterministic: None) -> None:
    """Analytic gradients of input, text and every parameter are the numerical ones."""
    module = build(kind, dim=4, preset=preset, form=form)
    names = [name for name, parameter in module.named_parameters() if parameter.numel() <= 20]
    leaves = [drawn(2, 1, 4).requires_grad_(), drawn(2, 3, TEXT_DIM, seed=2).requires_grad_()]
    leaves += [dict(module.named_parameters())[name] for name in names]
    mask = torch.tensor([[False, True, False], [True, True, True]])

    def function(x: Tensor, text: Tensor, *values: Tensor) -> Any:
        return torch.func.functional_call(module, dict(zip(names, values, strict=True)), (x, text, mask))

    assert torch.autograd.gradcheck(function, leaves, fast_mode=True)


@pytest.mark.parametrize("kind", SIDES)
@pytest.mark.parametrize("similarity", ["dot", "cosine"])
@pytest.mark.parametrize("scale", [1e-6, 1e-3, 1.0, 1e2, 1e4])
def test_scales(kind: type[Alignment], similarity: str, scale: float) -> None:
    """From nearly uniform to nearly one-hot the forms agree and nothing overflows."""
    module = build(kind, similarity=similarity)
    set_scale(module, scale)
    x, text = drawn(2, 7, 6), drawn(2, 3, TEXT_DIM, seed=2)
    mask = torch.tensor([[False, False, True], [False, False, False]])
    expected = outcome(module, "reference", x, text, mask)

    # A logit of 1e4 has an absolute error of about 1e-12 in float64.
    for form in ("sdpa", "folded"):
        assert_alike(outcome(module, form, x, text, mask), expected, 1e-11 * max(1.0, scale))


@settings(max_examples=30, deadline=None)
@given(
    batch=st.integers(1, 3),
    positions=st.integers(1, 9),
    tokens=st.integers(1, 7),
    heads=st.sampled_from([1, 2, 3]),
    shared=st.booleans(),
    padding=st.lists(st.booleans(), min_size=21, max_size=21),
    side=st.sampled_from(SIDES),
    similarity=st.sampled_from(["dot", "cosine", "cosine-full"]),
)
def test_forms_agree_at_drawn_shapes(
    batch: int,
    positions: int,
    tokens: int,
    heads: int,
    shared: bool,
    padding: list[bool],
    side: type[Alignment],
    similarity: str,
) -> None:
    """One position, one token, all padding, shared text: the forms are one function."""
    import warnings

    with warnings.catch_warnings():
        # A single token is warned of, which is tested elsewhere.
        warnings.simplefilter("ignore")
        module = build(side, heads=heads, similarity=similarity)
        x = drawn(batch, positions, 6)
        text = drawn(tokens, TEXT_DIM, seed=2) if shared else drawn(batch, tokens, TEXT_DIM, seed=2)
        count = tokens if shared else batch * tokens
        mask = torch.tensor(padding[:count]).reshape(text.shape[:-1])
        expected = outcome(module, "reference", x, text, mask)
        for form in ("sdpa", "folded"):
            assert_alike(outcome(module, form, x, text, mask), expected, 1e-11)


@pytest.mark.parametrize("kind", SIDES)
@pytest.mark.parametrize("form", FORMS)
def test_ten_thousand_tokens(kind: type[Alignment], form: str) -> None:
    """So long a text, most of it padding that holds NaN, is as the rest of it alone."""
    module = build(kind)
    x, text = drawn(1, 3, 6), drawn(1, 10_000, TEXT_DIM, seed=2)
    mask = torch.ones(1, 10_000, dtype=torch.bool)
    kept = [0, 17, 5_000, 9_999]
    mask[:, kept] = False
    expected = outcome(module, "reference", x, text[:, kept], mask[:, kept])["y"]
    text[mask] = torch.nan
    module.form = form

    assert_alike({"y": module(x, text, mask).detach()}, {"y": expected}, 1e-11)
    module(x, drawn(1, 10_000, TEXT_DIM), None)


@pytest.mark.parametrize("kind", SIDES)
@pytest.mark.parametrize("form", ["sdpa", "folded"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 0.06), (torch.float16, 0.01)])
@pytest.mark.parametrize("size", [1e-3, 1.0, 30.0])
def test_half_precision(kind: type[Alignment], form: str, dtype: torch.dtype, tolerance: float, size: float) -> None:
    """In bf16 and fp16 the output stays finite and near that of float64, for small and large features."""
    module = build(kind)
    x, text = size * drawn(2, 7, 6), drawn(2, 3, TEXT_DIM, seed=2)
    expected = outcome(module, "reference", x, text, None)["y"]
    module.form = form
    module.to(dtype)
    found = module(x.to(dtype), text.to(dtype), None)

    assert found.dtype == dtype
    assert_alike({"y": found.detach().double() / size}, {"y": expected / size}, tolerance)


@pytest.mark.parametrize("kind", SIDES)
@pytest.mark.parametrize("form", FORMS)
def test_the_same_bits_twice(kind: type[Alignment], form: str, deterministic: None) -> None:
    """With deterministic algorithms on, two passes forward and backward give the same bits."""
    module = build(kind).float()
    x, text = drawn(2, 301, 6).float(), drawn(2, 7, TEXT_DIM, seed=2).float()
    mask = torch.zeros(2, 7, dtype=torch.bool)
    mask[0, 3:] = True

    first, second = (outcome(module, form, x, text, mask) for _ in range(2))

    assert all(torch.equal(first[name], second[name]) for name in first)
