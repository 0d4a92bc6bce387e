"""Sizes, paired initial values, and whether every parameter learns."""

from __future__ import annotations

import re
import warnings
from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from semalign.align.temperature import DeadKnobWarning
from semalign.config import Options, read_options
from semalign.errors import ConfigError
from semalign.model.alignment import alignment_sites
from semalign.model.build import SIZES, build_segmenter, initialize, nudge
from semalign.model.segmenter import Segmenter
from semalign.presets import PRESETS
from semalign.train.optimizer import make_optimizer, parameter_groups
from semalign.train.run import build_model

CLASSES, TOKENS, TEXT_DIM = 5, 7, 11


def build(**options: Any) -> Segmenter:
    """Return a guided model of five classes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeadKnobWarning)
        return build_segmenter(CLASSES, **{"text_dim": TEXT_DIM, "allow_dead": True, **options})


def parameters(model: nn.Module) -> int:
    """Return the number of learnable numbers."""
    return sum(parameter.numel() for parameter in model.parameters())


def assert_common_values_equal(one: nn.Module, other: nn.Module, *, but: str = "$") -> None:
    """Assert that parameters and buffers of one name, except those that match ``but``, are the same bits."""
    first, second = one.state_dict(), other.state_dict()
    common = first.keys() & second.keys()
    assert len(common) > 50
    different = [name for name in sorted(common) if not torch.equal(first[name], second[name])]
    assert [name for name in different if not re.search(but, name)] == []


# ---- Sizes and places ----


def test_sizes_grow() -> None:
    """Nano has about a million parameters, and each size more than the one before it."""
    counts = [parameters(build(size=size)) for size in SIZES]

    assert list(SIZES) == ["nano", "tiny", "small", "base"]
    assert 0.8e6 < counts[0] < 1.6e6
    assert counts == sorted(set(counts))


@pytest.mark.parametrize("size", SIZES)
def test_every_size_runs(size: str) -> None:
    """Each size gives four levels of its channels, and logits."""
    model = build(size=size).eval()

    with torch.no_grad():
        levels = model.visual_encoder(torch.zeros(1, 3, 37, 41), torch.randn(TOKENS, TEXT_DIM))
        logits = model.decoder(levels, torch.randn(TOKENS, TEXT_DIM))

    assert [level.shape[1] for level in levels] == list(SIZES[size].channels)
    assert logits.shape == (1, CLASSES, 10, 11)


def test_text_enters_where_it_is_asked_to() -> None:
    """By default every block of stages 1 to 3 and the two coarsest levels; else the chosen stages and levels alone."""

    def places(**options: Any) -> Counter[str]:
        return Counter(
            re.sub(r"visual_encoder\.stages\.(\d).*", r"stage \1", site).replace("decoder.alignments.", "level ")
            for site in alignment_sites(build(**options))
        )

    blocks = SIZES["nano"].blocks
    levels = {"level 2": 1, "level 3": 1}
    assert places() == {f"stage {stage}": blocks[stage] for stage in (1, 2, 3)} | levels
    assert places(encoder_stages=(0,), decoder_levels=(2,)) == {"stage 0": blocks[0], "level 2": 1}
    assert places(encoder_stages=(), decoder_levels=()) == {}
    assert places(text_dim=None) == {}


@pytest.mark.parametrize(("feed_forward", "levels"), [("aligned", {1, 3}), ("all", {0, 1, 2, 3})])
@pytest.mark.parametrize("text_dim", [TEXT_DIM, None])
def test_feed_forward_parts_stand_with_and_without_text(
    feed_forward: str, levels: set[int], text_dim: int | None
) -> None:
    """The decoder's feed-forward parts stand where they are asked for, whether or not the model has text."""
    model = build(text_dim=text_dim, decoder_levels=(1, 3), decoder_feed_forward=feed_forward)
    names = [name.split(".") for name, _ in model.named_parameters()]

    assert {int(name[2]) for name in names if name[1] == "alignments" and name[3] == "ffn"} == levels


def test_depth_adds_a_stem_and_nothing_else() -> None:
    """The model with depth holds the one without."""
    names = {name for name, _ in build(depth=True).named_parameters()} - {
        name for name, _ in build().named_parameters()
    }

    assert names == {f"visual_encoder.depth_stem.{name}" for name in ("0.weight", "1.weight", "1.bias")}


def test_memory_is_channels_last() -> None:
    """All convolutions' weights and the features between them lie channels-last, which CPUs compute fastest."""
    model = build().eval()

    for name, tensor in model.named_parameters():
        if tensor.ndim == 4:
            assert tensor.is_contiguous(memory_format=torch.channels_last), name
    image = torch.randn(2, 3, 64, 96).contiguous(memory_format=torch.channels_last)
    for level in model.visual_encoder(image, torch.randn(TOKENS, TEXT_DIM)):
        assert level.is_contiguous(memory_format=torch.channels_last)


# ---- Paired initial values ----


def test_same_seed_same_values() -> None:
    """A seed fixes every initial value, whatever was drawn before; another seed gives others."""
    first = build(seed=3)
    torch.rand(5)

    assert_common_values_equal(first, build(seed=3))
    other = build(seed=4).state_dict()
    weights = [name for name, tensor in first.named_parameters() if tensor.ndim > 1]
    assert not any(torch.equal(first.state_dict()[name], other[name]) for name in weights)


@pytest.mark.parametrize("preset", PRESETS)
def test_a_model_without_text_shares_all_it_has(preset: str) -> None:
    """Every parameter of the model without text is one of the guided model, with the same bits."""
    guided, free = build(preset=preset, seed=3), build(preset=preset, seed=3, text_dim=None)

    assert free.state_dict().keys() < guided.state_dict().keys()
    assert_common_values_equal(guided, free)
    own = guided.state_dict().keys() - free.state_dict().keys()
    assert {name.rsplit(".", 2)[-2] for name in own} == {
        *("q_proj", "k_proj", "v_proj", "o_proj", "temperature", "gate"),
        *(("norm1",) if preset not in ("seed", "document") else ()),
    }


@pytest.mark.parametrize(
    ("options", "but"),
    [
        ({"encoder_knobs": {"temperature": {"learnable": True}}}, "$"),
        ({"encoder_knobs": {"gate": {"learnable": False}}, "decoder_knobs": {"gate": {"learnable": False}}}, "$"),
        ({"decoder_knobs": {"temperature": {"learnable": False, "init": 1.0}}}, r"^decoder.*log_scale$"),
        ({"encoder_knobs": {"similarity": "cosine"}}, "$"),
        ({"encoder_stages": (2,), "decoder_levels": (0, 3)}, "$"),
        ({"depth": True}, "$"),
        ({"form": "reference"}, "$"),
        ({"preset": "clip"}, r"log_scale$"),
        ({"preset": "transformer"}, r"(log_scale|theta)$"),
    ],
    ids=str,
)
def test_another_option_shifts_nothing(options: dict[str, Any], but: str) -> None:
    """Arms that differ in an option differ in that option's own values alone."""
    assert_common_values_equal(build(seed=3), build(seed=3, **options), but=but)


def test_other_heads_and_classes_shift_nothing_else() -> None:
    """Another head or number of classes has other parameters of its own and shares all others."""
    one, other = build(seed=3), build_segmenter(CLASSES, text_dim=TEXT_DIM, classifier="text", class_dim=13, seed=3)
    first = {name: tensor for name, tensor in one.state_dict().items() if "classifier" not in name}
    second = {name: tensor for name, tensor in other.state_dict().items() if "classifier" not in name}

    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_initializing_again_is_the_same() -> None:
    """`initialize` puts every value back, buffers of norms included."""
    model = build(seed=3)
    with torch.no_grad():
        for tensor in model.state_dict().values():
            tensor.add_(1)

    initialize(model, 3)

    tracked = r"num_batches_tracked$"
    assert_common_values_equal(model, build(seed=3), but=tracked)


def test_nudge() -> None:
    """Each number is changed by the given share at most a few times over; 0 stays 0; the same seed, the same change."""
    plain, nudged, again = build(seed=3), build(seed=3), build(seed=3)
    nudge(nudged, 1e-3, 5)
    nudge(again, 1e-3, 5)

    assert_common_values_equal(nudged, again)
    changes = []
    for before, after in zip(plain.parameters(), nudged.parameters(), strict=True):
        nonzero = before != 0
        assert torch.equal(after[~nonzero], before[~nonzero])
        changes.append((after[nonzero] / before[nonzero] - 1).flatten())
    change = torch.cat(changes)
    assert change.std().item() == pytest.approx(1e-3, rel=0.02)
    assert change.abs().max() < 1e-2


# ---- Learning ----


def trained(model: Segmenter, steps: int) -> None:
    """Take optimizer steps on one small batch, then compute gradients once more."""
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(2, 3, 64, 96, generator=generator)
    text, depth = torch.randn(2, TOKENS, TEXT_DIM, generator=generator), torch.randn(2, 1, 64, 96, generator=generator)
    classes = torch.randn(CLASSES, TEXT_DIM, generator=generator)
    target = torch.randint(CLASSES, (2, 64, 96), generator=generator)
    _, groups = parameter_groups(model, lr=1e-3, scalar_lr=1e-3, decay=0.05, scalar_decay=0.0)
    optimizer = make_optimizer(model, groups)
    has_depth = model.visual_encoder.depth_stem is not None
    for step in range(steps + 1):
        optimizer.zero_grad()
        logits = model(image, text, depth=depth if has_depth else None, class_features=classes)
        F.cross_entropy(logits, target).backward()  # type: ignore[no-untyped-call]
        if step < steps:
            optimizer.step()


def relative_gradients(model: nn.Module) -> dict[str, float]:
    """Return the size of each parameter's gradient over the parameter's."""
    sizes = {}
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, f"{name} has no gradient"
        size = parameter.detach().double().norm()
        assert size > 0, f"{name} is 0 throughout"
        sizes[name] = float(parameter.grad.double().norm() / size)
    return sizes


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"depth": True, "classifier": "text", "class_dim": TEXT_DIM},
        {"encoder_knobs": {"temperature": {"learnable": True, "per_head": True}, "gate": {"per_channel": True}}},
        {"text_dim": None},
    ],
    ids=str,
)
def test_every_parameter_learns(options: dict[str, Any]) -> None:
    """In `recommended`, after three steps with several tokens, no parameter is without a gradient worth the name."""
    model = build(**options)
    if options.get("text_dim", TEXT_DIM) is None:
        model.register_forward_pre_hook(lambda _, args: (args[0],))
    trained(model, 3)

    assert {name: size for name, size in relative_gradients(model).items() if size <= 1e-10} == {}


def dead_temperatures(model: nn.Module) -> list[Tensor]:
    """Return the gradients of the decoder's temperatures."""
    return [
        site.temperature.log_scale.grad
        for name, site in alignment_sites(model).items()
        if name.startswith("decoder") and site.temperature.log_scale.grad is not None
    ]


@pytest.mark.parametrize("preset", ["seed", "document"])
def test_a_dead_temperature_is_accepted_by_name_and_is_dead(preset: str) -> None:
    """The presets that are dead as published can be reproduced: a warning, and a gradient of exactly 0."""
    with pytest.warns(DeadKnobWarning, match="its gradient is exactly 0 and it never learns") as caught:
        model = build_model(read_options(None, [f"model.preset={preset}"]), CLASSES, TEXT_DIM, None, seed=0)
    assert len(caught) == 2
    trained(model, 1)

    gradients = dead_temperatures(model)
    assert len(gradients) == 2
    assert all(gradient.item() == 0.0 for gradient in gradients)
    assert all(
        site.temperature.log_scale.item() == pytest.approx(2.6592600)
        for name, site in alignment_sites(model).items()
        if name.startswith("decoder")
    )


def test_a_live_temperature_of_the_same_preset_learns() -> None:
    """The same preset with a start inside its clamp learns, without a warning."""
    settings = ["model.preset=seed", "align.decoder.temperature.init=1.0"]
    model = build_model(read_options(None, settings), CLASSES, TEXT_DIM, None, seed=0)
    trained(model, 1)

    gradients = dead_temperatures(model)
    assert len(gradients) == 2
    assert all(gradient.item() != 0.0 for gradient in gradients)


# ---- What is refused ----


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            ["align.encoder.heads=5"],
            r"the encoder alignment got heads=5, which does not divide its width 64, expected one",
        ),
        (["align.decoder.heads=7"], r"the decoder alignment got heads=7, .* 1, 2, 4, 8, 16, 32, 64"),
        (
            ["align.encoder.temperature={learnable: true, init: 3.0, bound: clamp, bounds: [-2, 2]}"],
            r"the encoder alignment's temperature \(preset 'recommended'\) is learnable and l = 3 lies outside its "
            r"clamp bounds \[-2, 2\].*the nearest live init is 2",
        ),
        (
            ["align.encoder.gate={activation: tanh, init: 1.5}"],
            r"align\.encoder\.gate\.init=1\.5 is outside the open range",
        ),
        (["align.decoder.temperature.bounds=[2, 1]"], "expected the first below the second"),
        (["model.classifier=text"], "model.classifier=text needs class sentences"),
    ],
)
def test_options_that_do_not_fit_the_model(settings: list[str], message: str) -> None:
    """What the options cannot know by themselves is refused when the model is built."""
    with pytest.raises(ConfigError, match=message):
        build_model(read_options(None, settings), CLASSES, TEXT_DIM, None, seed=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": "huge"}, "model.size got 'huge', known: base, nano, small, tiny"),
        ({"size": "tinny"}, "did you mean 'tiny'"),
        ({"classifier": "knn"}, "model.classifier got 'knn', known: linear, text"),
        ({"preset": "recomended"}, "did you mean 'recommended'"),
        ({"preset": "recomended", "text_dim": None}, "did you mean 'recommended'"),
        ({"form": "fused"}, "form='fused', which is unknown"),
        ({"encoder_stages": (1, 4)}, r"align\.encoder\.stages got \[1, 4\], expected some of 0, 1, 2, 3"),
        ({"decoder_levels": (-1,)}, r"align\.decoder\.levels got \[-1\]"),
        ({"n_classes": 0}, "n_classes=0, expected at least 1"),
        ({"text_dim": 0}, "text_dim=0, expected an integer of at least 1"),
        ({"encoder_knobs": {"temprature": 1}}, r"align\.encoder\.temprature is unknown, did you mean"),
        ({"decoder_knobs": {"gate": {"learnable": 1}}}, "expected true or false"),
    ],
)
def test_keywords_that_are_refused(options: dict[str, Any], message: str) -> None:
    """Every keyword is checked, with what is known."""
    with pytest.raises(ConfigError, match=message):
        build_segmenter(**{"n_classes": CLASSES, "text_dim": TEXT_DIM, **options})


def test_default_options_build_the_recommended_model() -> None:
    """The options' defaults and the builder's are the same model."""
    from_options = build_model(Options(), CLASSES, TEXT_DIM, None, seed=0)

    assert repr(from_options) == repr(build(seed=0))
    assert_common_values_equal(from_options, build(seed=0))
