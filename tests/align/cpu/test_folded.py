"""The folded form."""

import copy
import io
import math
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from semalign.align.cpu.folded import align_folded, attend_folded, fold, present_tokens, runs_in_blocks
from semalign.align.fold import FoldWeights
from semalign.config import Options
from semalign.errors import ConfigError
from semalign.model.alignment import Alignment, DecoderAlignment, EncoderAlignment, alignment_sites
from semalign.model.build import build_segmenter
from semalign.model.dropin import SemanticAlignmentModule
from semalign.model.recording import recording

BATCH, POSITIONS, TOKENS, TEXT_DIM, HEADS, DIM = 3, 17, 7, 11, 2, 26
SIDES: tuple[type[EncoderAlignment | DecoderAlignment], ...] = (EncoderAlignment, DecoderAlignment)
SIMILARITIES = ("dot", "cosine", "cosine-full")
MASK = torch.tensor([[False, True, False, True, True, False, True], [True] * 7, [False] * 6 + [True]])


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut even small inputs into several blocks."""
    monkeypatch.setattr("semalign.align.cpu.blocks.BLOCK_BYTES", 1)
    monkeypatch.setattr("semalign.align.cpu.blocks.SMALLEST_BLOCK", 5)


def build(kind: type[Alignment], form: str, dim: int = DIM, heads: int = HEADS, **knobs: Any) -> Any:
    """Return a float64 module whose weights, biases and gate are all different from 0."""
    torch.manual_seed(0)
    module = kind(dim, TEXT_DIM, heads, form=form, **knobs).double()  # type: ignore[arg-type]
    for name, parameter in module.named_parameters():
        if name.endswith("bias"):
            nn.init.normal_(parameter, std=0.3)
    return module


def inputs(
    batch: int = BATCH, positions: int = POSITIONS, tokens: int = TOKENS, dim: int = DIM
) -> tuple[Tensor, Tensor]:
    """Return visual features B x N x C and text B x T x Ct in float64."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(batch, positions, dim, generator=generator, dtype=torch.float64)
    return x, torch.randn(batch, tokens, TEXT_DIM, generator=generator, dtype=torch.float64)


def values_and_gradients(module: Any, x: Tensor, text: Tensor, mask: Tensor | None) -> dict[str, Tensor]:
    """Return the output and the gradient of everything, a None as zeros."""
    module.zero_grad()
    x, text = x.detach().clone().requires_grad_(), text.detach().clone().requires_grad_()
    y = module(x, text, mask)
    y.sin().sum().backward()
    found = {"y": y.detach(), "x": x.grad, "text": text.grad}
    for name, p in module.named_parameters():
        found[name] = torch.zeros_like(p) if p.grad is None else p.grad.clone()
    return {name: value for name, value in found.items() if value is not None}


def assert_same(a: dict[str, Tensor], b: dict[str, Tensor], tolerance: float = 1e-12) -> None:
    """Compare output and gradients, each against the largest number of its kind."""
    assert a.keys() == b.keys()
    for name, value in a.items():
        size = max(1.0, float(b[name].abs().max())) if value.numel() else 1.0
        error = float((value - b[name]).abs().max()) if value.numel() else 0.0
        assert error <= tolerance * size, f"{name}: off by {error}"


# ---- by hand ----


def test_by_hand() -> None:
    """One head of width one: M, b and U are what the formula says, and so is the output."""
    bank = fold(
        torch.tensor([[[0.0], [math.log(3)]]]),
        torch.tensor([[[1.0], [5.0]]]),
        FoldWeights(
            scale=torch.tensor(2.0),
            gate=torch.tensor(0.5),
            query_weight=torch.tensor([[3.0]]),
            query_bias=torch.tensor([0.25]),
            out_weight=torch.tensor([[2.0]]),
            out_bias=torch.tensor([4.0]),
        ),
        heads=1,
    )

    assert bank.offset is not None
    # 2 * 3 * (0, log 3), 2 * 0.25 * (0, log 3), 0.5 * (2 * (1, 5) + 4).
    torch.testing.assert_close(bank.keys, torch.tensor([[[0.0], [6 * math.log(3)]]]))
    torch.testing.assert_close(bank.offset, torch.tensor([[0.0, 0.5 * math.log(3)]]))
    torch.testing.assert_close(bank.output, torch.tensor([[[3.0], [7.0]]]))
    x = torch.tensor([[[1 / 12]]])
    # The logits are 0 and log 3, the weights 1/4 and 3/4, the branch 6.
    torch.testing.assert_close(attend_folded(x, x, bank), x + 6)


def test_present_tokens_by_hand() -> None:
    """Tokens that no image has are left out; images without text are named."""
    kept, present = present_tokens(torch.tensor([[True, False, True], [True, True, True]]))
    everything = present_tokens(torch.tensor([[False, True], [True, False]]))
    nothing, absent = present_tokens(torch.ones(2, 3, dtype=torch.bool))

    assert kept is not None
    assert kept.tolist() == [1]
    assert present == [True, False]
    assert everything == (None, None)
    assert nothing is not None
    assert nothing.tolist() == [0]
    assert absent == [False, False]


# ---- agreement with the reference ----


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("kind", SIDES)
@pytest.mark.parametrize("similarity", SIMILARITIES)
@pytest.mark.parametrize("text_is", ["shared", "own"])
@pytest.mark.parametrize("mask", [None, MASK, MASK[0], MASK[1]])
def test_agrees_with_the_reference(kind: type[Alignment], similarity: str, text_is: str, mask: Tensor | None) -> None:
    """In float64 values and all gradients agree to 1e-12, for any bank and mask, over several blocks."""
    x, text = inputs()
    text = text[0] if text_is == "shared" else text
    knobs: dict[str, Any] = {"similarity": similarity, "temperature_learnable": True}

    found = [values_and_gradients(build(kind, form, **knobs), x, text, mask) for form in ("folded", "reference")]

    assert_same(found[0], found[1])


@pytest.mark.parametrize("kind", SIDES)
@pytest.mark.parametrize(
    "knobs",
    [
        {"temperature_per_head": True, "temperature_learnable": True},
        {"gate_per_channel": True},
        {"gate_activation": "tanh", "gate_init": 0.3},
        {"gate_activation": "sigmoid", "gate_init": 0.3, "gate_per_channel": True},
        {"gate_init": 0.0},
        {"top_k": 2},
        {"top_k": 2, "similarity": "cosine-full"},
    ],
)
def test_every_knob(kind: type[Alignment], knobs: dict[str, Any]) -> None:
    """Temperature per head, every gate and top-k fold like the rest."""
    x, text = inputs()

    found = [values_and_gradients(build(kind, form, **knobs), x, text, MASK) for form in ("folded", "reference")]

    assert_same(found[0], found[1])


@pytest.mark.parametrize("residual", ["pre-norm", "normalized", "plain"])
@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_every_residual(residual: str, similarity: str) -> None:
    """The stream that is added to may be the queries' source or another."""
    x, text = inputs()
    knobs: dict[str, Any] = {"residual": residual, "similarity": similarity}

    found = [
        values_and_gradients(build(DecoderAlignment, form, **knobs), x, text, MASK) for form in ("folded", "reference")
    ]

    assert_same(found[0], found[1])


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from([1, 2, 3, 5]),
    st.sampled_from([0, 1, 7, 13, 31]),
    st.sampled_from([2, 3, 11, 41]),
    st.sampled_from([(6, 1), (6, 3), (10, 5)]),
    st.sampled_from(SIMILARITIES),
    st.booleans(),
    st.integers(0, 2**31 - 1),
)
def test_drawn_shapes(
    batch: int, positions: int, tokens: int, width: tuple[int, int], similarity: str, shared: bool, seed: int
) -> None:
    """Any batch, length, width and mask give the reference's numbers, an empty feature map included."""
    dim, heads = width
    x, text = inputs(batch, positions, tokens, dim)
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(batch, tokens, generator=generator) < torch.rand((), generator=generator)
    modules = [build(EncoderAlignment, form, dim, heads, similarity=similarity) for form in ("folded", "reference")]

    found = [values_and_gradients(module, x, text[0] if shared else text, mask) for module in modules]

    assert_same(found[0], found[1])


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_gradcheck(similarity: str) -> None:
    """The hand-written backward is the numerical one, for every argument."""
    torch.manual_seed(0)
    heads, d, tokens = 2, 2, 3

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.float64, requires_grad=True)

    leaves = (
        draw(2, 3, 4), draw(2, 3, 4), draw(2, tokens, heads * d), draw(2, tokens, heads * d), draw(heads), draw(4),
        draw(4, 4), draw(4), draw(4, 4), draw(4),
    )  # fmt: skip
    mask = torch.tensor([[False, True, False], [False, False, False]])

    def function(*values: Tensor) -> Tensor:
        stream, source, key, value, *weights = values
        bank = fold(key, value, FoldWeights(*weights), heads=heads, similarity=similarity, is_padding=mask)  # type: ignore[arg-type]
        return attend_folded(stream, source, bank, is_padding=mask)

    assert torch.autograd.gradcheck(function, leaves)


def test_a_query_of_zeros_under_cosine() -> None:
    """A query without direction attends evenly and gives no gradient through its length, as in the reference."""
    modules = [build(EncoderAlignment, form, similarity="cosine") for form in ("folded", "reference")]
    x, text = inputs()
    for module in modules:
        nn.init.zeros_(module.q_proj.weight)
        nn.init.zeros_(module.q_proj.bias)

    found = [values_and_gradients(module, x, text, None) for module in modules]

    assert_same(found[0], found[1], tolerance=1e-9)


# ---- images without text, padding ----


@pytest.mark.parametrize("kind", SIDES)
@pytest.mark.parametrize("similarity", SIMILARITIES)
@pytest.mark.parametrize("poison", [0.0, torch.nan, torch.inf])
@pytest.mark.usefixtures("small_blocks")
def test_an_image_without_text(kind: type[Alignment], similarity: str, poison: float) -> None:
    """Nothing in its padded rows or its own features reaches values or gradients; y = x to the bit in the encoder."""
    x, text = inputs()
    text[MASK] = poison
    x[1, 0, 0] = -0.0
    clean = values_and_gradients(build(kind, "folded", similarity=similarity), x[[0, 2]], text[[0, 2]], MASK[[0, 2]])

    module = build(kind, "folded", similarity=similarity)
    y = module(x, text, MASK)
    found = values_and_gradients(module, x, text, MASK)

    if kind is EncoderAlignment:
        assert torch.equal(y[1], x[1])
        assert torch.equal(y[1].signbit(), x[1].signbit())
    assert bool((found["text"][1] == 0).all())
    for name in ("q_proj.weight", "q_proj.bias", "k_proj.weight", "v_proj.weight", "v_proj.bias", "o_proj.weight"):
        torch.testing.assert_close(found[name], clean[name], rtol=1e-11, atol=1e-11)


def test_a_broken_image_without_text_harms_nobody() -> None:
    """An image without text may hold NaN and leaves the others' output and gradients finite."""
    module = build(EncoderAlignment, "folded")
    x, text = inputs()
    x[1] = torch.nan

    y = module(x, text, MASK)
    y[[0, 2]].sum().backward()

    assert bool(y[[0, 2]].isfinite().all())
    assert bool(y[1].isnan().all())
    assert all(bool(p.grad.isfinite().all()) for p in module.parameters())


def test_no_image_has_text() -> None:
    """A batch without any text comes back as it went in, and no parameter learns."""
    module = build(EncoderAlignment, "folded")
    x, text = inputs()
    for mask in (torch.ones(BATCH, TOKENS, dtype=torch.bool), torch.ones(TOKENS, dtype=torch.bool)):
        for bank in (text, text[0]):
            found = values_and_gradients(module, x, bank, mask)
            assert torch.equal(found["y"], x)
            assert all(bool((found[name] == 0).all()) for name, _ in module.named_parameters())


def test_gate_zero_is_exact() -> None:
    """Gate 0 gives x itself and keeps the gate's gradient."""
    module = build(EncoderAlignment, "folded", gate_init=0.0)
    x, text = inputs()

    y = module(x, text)
    y.square().sum().backward()

    assert torch.equal(y, x)
    assert module.gate.theta.grad != 0


def test_masked_sentences_cost_nothing() -> None:
    """Tokens that are masked for every image add no operation, forward or backward; others do."""

    def operations(form: str, tokens: int, masked: int) -> int:
        module = build(EncoderAlignment, form)
        x, _ = inputs()
        mask = (torch.arange(tokens + masked) >= tokens) if masked else None
        with FlopCounterMode(display=False) as counter:
            module(
                x.requires_grad_(), torch.randn(tokens + masked, TEXT_DIM, dtype=torch.float64), mask
            ).sum().backward()
        return int(counter.get_total_flops())

    for form in ("folded", "auto"):
        assert operations(form, 5, 0) == operations(form, 5, 3) == operations(form, 5, 300)
        assert operations(form, 8, 0) > operations(form, 5, 3)


# ---- operations and bytes ----


@pytest.mark.parametrize("kind", SIDES)
def test_operations(kind: type[Alignment]) -> None:
    """The forward takes the products the design counts, and nothing else of that order."""
    n, t, c, h = 53, 5, 26, 2
    module = build(kind, "folded", residual="plain") if kind is DecoderAlignment else build(kind, "folded")
    x, text = inputs(2, n, t)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(x, text[0])

    projections = 2 * 2 * t * TEXT_DIM * c
    output_side = 2 * 2 * n * h * t * c + 2 * t * c * c
    if module.knobs.similarity == "dot":
        input_side = 2 * 2 * n * c * h * t + 2 * t * c * c + 2 * t * c
    else:
        input_side = 2 * 2 * n * c * c + 2 * 2 * n * t * c
    assert counter.get_total_flops() == projections + output_side + input_side


@pytest.mark.parametrize(
    ("tokens", "kept"),
    [
        (7, [(1, 2 * 7, 2018), (1, 2018, DIM)]),
        # Two heads times 14 tokens are more than the features' 26 channels.
        (14, [(1, 2018, DIM)]),
    ],
)
def test_the_backward_keeps_little(tokens: int, kept: list[tuple[int, ...]]) -> None:
    """Between forward and backward it holds the features and, by position, no more than weights of their size."""
    module = build(EncoderAlignment, "folded")
    x, text = inputs(2, 1009, tokens)
    x.requires_grad_()
    sizes: list[tuple[int, ...]] = []

    def pack(tensor: Tensor) -> Tensor:
        sizes.append(tuple(tensor.shape))
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        module(x, text[0])

    by_position = [shape for shape in sizes if 1009 in shape or 2018 in shape]
    assert sorted(by_position) == kept


def test_features_are_not_copied() -> None:
    """Channels-last features go in and come out as views of the same layout."""
    module = build(EncoderAlignment, "folded").float()
    image = torch.randn(2, DIM, 3, 5).to(memory_format=torch.channels_last)

    y = module(image.permute(0, 2, 3, 1), torch.randn(TOKENS, TEXT_DIM)).permute(0, 3, 1, 2)

    assert y.is_contiguous(memory_format=torch.channels_last)


def test_other_layouts_give_the_same() -> None:
    """Features of any strides, and a gradient of any strides, give the same numbers."""
    module = build(EncoderAlignment, "folded")
    x, text = inputs()
    plain = values_and_gradients(module, x, text, MASK)
    strided = x.transpose(1, 2).contiguous().transpose(1, 2).requires_grad_()

    y = module(strided, text, MASK)
    y.sin().sum().backward()
    module.zero_grad()
    module(x.requires_grad_(), text, MASK).backward(y.detach().cos().transpose(1, 2).contiguous().transpose(1, 2))

    torch.testing.assert_close(y.detach(), plain["y"])
    torch.testing.assert_close(strided.grad, plain["x"])
    torch.testing.assert_close(x.grad, plain["x"])


# ---- dtypes, autocast, graphs ----


@pytest.mark.parametrize("kind", SIDES)
@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_autocast(kind: type[Alignment], similarity: str) -> None:
    """Under bfloat16 autocast the dtype is the stream's, and values and gradients stay near the exact ones."""
    x, text = inputs()
    exact = values_and_gradients(build(kind, "reference", similarity=similarity), x, text, MASK)
    module = build(kind, "folded", similarity=similarity).float()
    for stream in (torch.float32, torch.bfloat16):
        module.zero_grad()
        features = x.detach().to(stream).requires_grad_()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            y = module(features, text.float(), MASK)
        y.float().sin().sum().backward()

        assert y.dtype == (stream if kind is EncoderAlignment else y.dtype)
        assert features.grad is not None
        assert features.grad.dtype == stream
        torch.testing.assert_close(y.detach().double(), exact["y"], rtol=0.05, atol=0.1)
        for name, p in module.named_parameters():
            assert p.grad.dtype == torch.float32
            error = (p.grad.double() - exact[name]).norm() / exact[name].norm().clamp(min=0.1)
            assert error < 0.06, f"{name}: {error}"


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_bfloat16_modules(similarity: str) -> None:
    """A module in bfloat16 runs its softmax and its sums over positions wider."""
    x, text = inputs()
    exact = build(EncoderAlignment, "reference", similarity=similarity)(x, text, MASK)
    module = build(EncoderAlignment, "folded", similarity=similarity).bfloat16()

    y = module(x.bfloat16().requires_grad_(), text, MASK)
    y.sum().backward()

    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y.double(), exact, rtol=0.05, atol=0.1)


@pytest.mark.parametrize("kind", SIDES)
@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_plain_operations_agree(kind: type[Alignment], similarity: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What runs in captured graphs and on accelerators is the same function, padding, absence and top-k included."""
    x, text = inputs()
    for knobs in ({}, {"top_k": 2}):
        blocks = values_and_gradients(build(kind, "folded", similarity=similarity, **knobs), x, text, MASK)
        with monkeypatch.context() as patch:
            for module in ("semalign.align.cpu.folded", "semalign.model.alignment"):
                patch.setattr(f"{module}.runs_in_blocks", lambda _x: False)
            for shared in (False, True):
                bank = text[0] if shared else text
                expected = (
                    values_and_gradients(build(kind, "reference", similarity=similarity, **knobs), x, bank, MASK)
                    if shared
                    else blocks
                )
                plain = values_and_gradients(build(kind, "folded", similarity=similarity, **knobs), x, bank, MASK)
                assert_same(plain, expected)


@pytest.mark.parametrize("kind", SIDES)
def test_whole_graph_capture(kind: type[Alignment]) -> None:
    """`torch.compile` captures the folded form as one graph, forward and backward, with masks."""
    module = build(kind, "folded")
    x, text = inputs()
    expected = values_and_gradients(module, x, text, MASK)
    compiled = torch.compile(module, backend="aot_eager", fullgraph=True)

    module.zero_grad()
    leaf = x.clone().requires_grad_()
    y = compiled(leaf, text, MASK)  # type: ignore[no-untyped-call]
    y.sin().sum().backward()

    torch.testing.assert_close(y.detach(), expected["y"], rtol=0, atol=1e-12)
    torch.testing.assert_close(leaf.grad, expected["x"], rtol=0, atol=1e-12)
    torch._dynamo.reset()


def test_runs_in_blocks_on_cpus_only() -> None:
    """Other devices take the plain operations."""
    assert runs_in_blocks(torch.zeros(1))
    assert not runs_in_blocks(torch.zeros(1, device="meta"))
    for form in ("folded", "auto"):
        module = EncoderAlignment(DIM, TEXT_DIM, HEADS, form=form).to("meta")
        with torch.no_grad():
            y = module(
                torch.zeros(2, 3, DIM, device="meta"),
                torch.zeros(TOKENS, TEXT_DIM, device="meta"),
                torch.zeros(TOKENS, dtype=torch.bool, device="meta"),
            )
        assert y.shape == (2, 3, DIM)


# ---- looking at it ----


@pytest.mark.parametrize("kind", SIDES)
def test_recording_sees_the_same(kind: type[Alignment]) -> None:
    """Recorded numbers and saved attention are those of the unfolded form, and looking changes nothing."""
    x, text = inputs()
    records, attention = [], []
    for form in ("folded", "sdpa"):
        module = build(kind, form)
        quiet = values_and_gradients(module, x, text, MASK)
        module.save_attention = True
        with recording(module) as record:
            seen = values_and_gradients(module, x, text, MASK)
        assert all(torch.equal(quiet[name], seen[name]) for name in quiet)
        records.append(record[""])
        attention.append(module.last_attention)

    assert records[0] == pytest.approx(records[1], rel=1e-9)
    assert attention[0].shape == (BATCH, HEADS, POSITIONS, TOKENS)
    torch.testing.assert_close(attention[0], attention[1])


# ---- the cache ----


def count_folds(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that grows with every fold, be it a step of its own or within one node of the graph."""
    made: list[int] = []

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            made.append(1)
            return function(*args, **kwargs)

        return call

    for function in (fold, align_folded):
        monkeypatch.setattr(f"semalign.model.alignment.{function.__name__}", counted(function))
    return made


def test_the_bank_is_folded_once_without_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same text and weights are folded once, whatever tensor holds the text, and in training every time."""
    made = count_folds(monkeypatch)
    module = build(EncoderAlignment, "folded")
    x, text = inputs()

    with torch.no_grad():
        for bank, features in ((text, x), (text.clone(), 2 * x), (text, x[:, :5])):
            module(features, bank, MASK.clone())
    with torch.inference_mode():
        module(x, text, MASK)

    assert len(made) == 1
    for _ in range(2):
        module(x, text, MASK)
    assert len(made) == 3


def _optimizer_step(make: Callable[..., torch.optim.Optimizer]) -> Callable[[Any], None]:
    def change(module: Any) -> None:
        for parameter in module.parameters():
            parameter.grad = torch.ones_like(parameter)
        make(module.parameters()).step()
        module.zero_grad()

    return change


def _in_place(module: Any) -> None:
    with torch.no_grad():
        module.q_proj.bias.add_(1.0)


def _in_inference_mode(module: Any) -> None:
    with torch.inference_mode():
        module.v_proj.weight.mul_(1.5)


def _new_parameter(module: Any) -> None:
    module.o_proj.weight = nn.Parameter(module.o_proj.weight.detach() + 1.0)


def _new_data(module: Any) -> None:
    module.k_proj.weight.data = module.k_proj.weight.data + 1.0


def _new_data_twice(module: Any) -> None:
    # The second may well stand where the first address was.
    for _ in range(2):
        module.k_proj.weight.data = module.k_proj.weight.data + 1.0


def _loaded(module: Any) -> None:
    module.load_state_dict({name: value + 0.5 for name, value in module.state_dict().items()})


def _assigned(module: Any) -> None:
    module.load_state_dict({name: value + 0.5 for name, value in module.state_dict().items()}, assign=True)


def _swapped(module: Any) -> None:
    torch.utils.swap_tensors(module.q_proj.weight, nn.Parameter(module.q_proj.weight.detach() + 1.0))  # type: ignore[no-untyped-call]


def _projected(module: Any) -> None:
    with torch.no_grad():
        module.temperature.log_scale.fill_(99.0)
    module.temperature.project_parameters()


def _gate(module: Any) -> None:
    with torch.no_grad():
        module.gate.theta.sub_(0.25)


def _reset(module: Any) -> None:
    torch.manual_seed(5)
    module.q_proj.reset_parameters()


CHANGES: dict[str, Callable[[Any], None]] = {
    "in place": _in_place,
    "in inference mode": _in_inference_mode,
    "SGD": _optimizer_step(lambda p: torch.optim.SGD(p, lr=0.1)),
    "AdamW foreach": _optimizer_step(lambda p: torch.optim.AdamW(p, lr=0.1, foreach=True)),
    "AdamW one by one": _optimizer_step(lambda p: torch.optim.AdamW(p, lr=0.1, foreach=False)),
    "AdamW fused": _optimizer_step(lambda p: torch.optim.AdamW(p, lr=0.1, fused=True)),
    "load_state_dict": _loaded,
    "load_state_dict assign": _assigned,
    "new parameter": _new_parameter,
    "new data": _new_data,
    "new data twice": _new_data_twice,
    "swap_tensors": _swapped,
    "temperature": _projected,
    "gate": _gate,
    "reset": _reset,
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("guard", [torch.no_grad, torch.inference_mode])
def test_changed_weights_are_folded_again(change: str, guard: Callable[[], Any]) -> None:
    """Whatever changes a weight, the next forward uses the new one."""
    module = build(DecoderAlignment, "folded", temperature_learnable=True)
    x, text = inputs()
    with guard():
        before = module(x, text, MASK)

    CHANGES[change](module)

    fresh = build(DecoderAlignment, "folded", temperature_learnable=True)
    fresh.load_state_dict(module.state_dict())
    with guard():
        after, expected = module(x, text, MASK), fresh(x, text, MASK)
    assert not torch.equal(before, after)
    assert torch.equal(after, expected)


def test_changed_text_or_mask_is_folded_again() -> None:
    """A text changed in place or by numpy, another text, another mask, no mask: each gives its own result."""
    module = build(EncoderAlignment, "folded")
    x, text = inputs()

    def expected(bank: Tensor, mask: Tensor | None) -> Tensor:
        return build(EncoderAlignment, "folded")(x, bank, mask).detach()  # type: ignore[no-any-return]

    def cases() -> Iterator[tuple[Tensor, Tensor | None]]:
        yield text, None
        text.mul_(2.0)
        yield text, None
        text.data.add_(1.0)
        yield text, None
        text.numpy()[0, 0, 0] = 7.0
        yield text, None
        yield text.flip(1), None
        yield text, MASK
        yield text, ~MASK
        yield text[0], MASK
        yield text[0], MASK[0]
        yield text[:, :3], None

    with torch.no_grad():
        for bank, mask in cases():
            torch.testing.assert_close(module(x, bank, mask), expected(bank, mask), rtol=0, atol=1e-13)


def test_a_changed_dtype_is_folded_again() -> None:
    """Moving the module to another dtype leaves no matrices of the old one."""
    module = build(EncoderAlignment, "folded")
    x, text = inputs()
    with torch.no_grad():
        module(x, text)
        y = module.float()(x.float(), text.float())

    assert y.dtype == torch.float32


def test_borrowed_weights_are_not_taken_for_the_modules_own() -> None:
    """`functional_call` with other weights neither uses the cache nor spoils it."""
    module = build(EncoderAlignment, "folded")
    x, text = inputs()
    other = {name: value + 0.5 for name, value in module.state_dict().items()}
    with torch.no_grad():
        own = module(x, text)
        borrowed = torch.func.functional_call(module, other, (x, text))
        again = module(x, text)

    assert not torch.equal(own, borrowed)
    assert torch.equal(own, again)


def test_the_cache_is_no_part_of_the_module() -> None:
    """Copies, pickles and state dicts are the same with and without a cache."""
    module = build(EncoderAlignment, "folded")
    x, text = inputs()
    size = len(pickle.dumps(module))
    names = list(module.state_dict())
    with torch.no_grad():
        y = module(x, text)

    assert len(pickle.dumps(module)) == size
    assert list(module.state_dict()) == names
    twin = copy.deepcopy(module)
    with torch.no_grad():
        twin.v_proj.bias.zero_()
        assert not torch.equal(twin(x, text), y)
        assert torch.equal(module(x, text), y)
    torch.save(module.state_dict(), io.BytesIO())


def test_no_gradient_through_a_cached_bank() -> None:
    """A forward with gradients after one without has them all."""
    module = build(EncoderAlignment, "folded")
    x, text = inputs()
    expected = values_and_gradients(build(EncoderAlignment, "folded"), x, text, MASK)
    with torch.no_grad():
        module(x, text, MASK)

    assert_same(values_and_gradients(module, x, text, MASK), expected, tolerance=0.0)


# ---- what cannot be folded ----


class _Adapted(nn.Linear):
    """A projection that does more than its weight says, as low-rank adapters do."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + 1.0


def _folding_pays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("semalign.model.alignment.cheapest_form", lambda _: "folded")


def test_adapters_are_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    """A projection that is more than its weight is not folded: refused by name, and left to the other form by auto."""
    _folding_pays(monkeypatch)
    x, text = inputs()
    for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
        folded, auto, plain, reference = (
            build(EncoderAlignment, form) for form in ("folded", "auto", "sdpa", "reference")
        )
        without = plain(x, text)
        for module in (folded, auto, plain, reference):
            layer = getattr(module, name)
            adapted = _Adapted(layer.in_features, layer.out_features, layer.bias is not None).double()
            adapted.load_state_dict(layer.state_dict())
            setattr(module, name, adapted)

        with pytest.raises(ConfigError, match="encoder alignment got form='folded' and projections that are not plain"):
            folded(x, text)
        assert torch.equal(auto(x, text), plain(x, text))
        torch.testing.assert_close(reference(x, text), plain(x, text))
        # A number that is the same for all tokens changes no attention by dot product of plain queries.
        assert name == "k_proj" or not torch.allclose(plain(x, text), without)


def test_an_adapter_on_the_output_by_hand() -> None:
    """With one more in every channel the branch grows by the gate, in our modules and in the original's drop-in."""
    x, text = inputs()
    module = build(EncoderAlignment, "sdpa")
    before = module(x, text)
    layer = module.o_proj
    module.o_proj = _Adapted(layer.in_features, layer.out_features).double()
    module.o_proj.load_state_dict(layer.state_dict())
    torch.testing.assert_close(module(x, text) - before, module.gate().expand_as(x).to(x.dtype))

    original = SemanticAlignmentModule(x.shape[-1], text.shape[-1], mode="encoder").double()
    nn.init.constant_(original.gamma, 0.25)
    before = original.forward_ssa(x, text)
    seen: list[int] = []
    original.out_proj.register_forward_hook(lambda *_: seen.append(1))
    torch.testing.assert_close(original.forward_ssa(x, text), before)
    assert seen == [1]


def test_hooks_on_queries_are_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hook on the query projection is called under auto, which folds without one."""
    _folding_pays(monkeypatch)
    made = count_folds(monkeypatch)
    module = build(EncoderAlignment, "auto")
    x, text = inputs()
    module(x, text)
    assert made
    seen: list[int] = []
    module.q_proj.register_forward_hook(lambda *_: seen.append(1))

    module(x, text)

    assert seen
    assert len(made) == 1


def test_another_thread_replaces_the_fold(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fold that was found to hold is the one that is used, though another text's has been put there meanwhile."""
    module = build(EncoderAlignment, "folded")
    x, text = inputs()
    with torch.no_grad():
        expected = module(x, text)
        own = module._cached
        module(x, text + 1)
        others, module._cached = module._cached, own
        holds = type(own).holds_for

        def meanwhile(cached: Any, *arguments: Any) -> bool:
            module._cached = others
            return bool(holds(cached, *arguments))

        monkeypatch.setattr(type(own), "holds_for", meanwhile)
        given = module(x, text)

    assert module._cached is others
    assert torch.equal(given, expected)


@pytest.mark.parametrize("name", ["q_proj", "k_proj", "v_proj", "o_proj"])
def test_backward_hooks_are_called(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Who listens to the gradients of a projection hears of them under auto too, where folding would pay."""
    _folding_pays(monkeypatch)
    module = build(EncoderAlignment, "auto")
    heard: list[int] = []
    getattr(module, name).register_full_backward_hook(lambda *_: heard.append(1))
    x, text = inputs()

    module(x.requires_grad_(), text.requires_grad_()).square().sum().backward()

    assert heard == [1]


def test_auto_folds_where_it_pays(monkeypatch: pytest.MonkeyPatch) -> None:
    """By default the cost model decides, for float32 and wider; training and inference may differ."""
    made = count_folds(monkeypatch)
    module = EncoderAlignment(128, TEXT_DIM, 4)
    x, text = torch.randn(2, 1200, 128), torch.randn(6, TEXT_DIM)

    module(x, text)
    assert len(made) == 1
    module(x, torch.randn(150, TEXT_DIM))
    assert len(made) == 1
    with torch.autocast("cpu", dtype=torch.bfloat16):
        module(x, text)
    assert len(made) == 1


def test_forms_are_chosen_in_models_and_options() -> None:
    """The options' default is auto, and a model hands the form to every site."""
    assert Options().align.form == "auto"
    model = build_segmenter(3, text_dim=TEXT_DIM, form="folded")
    assert {site.form for site in alignment_sites(model).values()} == {"folded"}
