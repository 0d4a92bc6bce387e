"""The drop-in against recorded numbers of the original, and where it departs from it."""

import json
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from semalign.align.temperature import DeadKnobWarning
from semalign.errors import ConfigError, TextError
from semalign.model.alignment import DecoderAlignment, EncoderAlignment
from semalign.model.dropin import SemanticAlignmentModule
from semalign.model.roles import parameter_role

GOLDEN = Path(__file__).parents[3] / "shared" / "golden"
CASES = json.loads((GOLDEN / "index.json").read_text()) if (GOLDEN / "index.json").exists() else []
needs_golden = pytest.mark.skipif(not CASES, reason="the recorded numbers of the original (shared/golden) are not here")

BATCH, HEIGHT, WIDTH, TOKENS, TEXT_DIM, HEADS, DIM = 2, 3, 5, 7, 11, 4, 28
VERSIONS = ("latest", "2025-11-03")


@contextmanager
def dead_allowed() -> Iterator[None]:
    """Let the original's defaults be built."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeadKnobWarning)
        yield


def build(dtype: torch.dtype = torch.float64, **options: Any) -> SemanticAlignmentModule:
    """Return a module with biases that are not 0."""
    torch.manual_seed(0)
    with dead_allowed():
        module = SemanticAlignmentModule(DIM, TEXT_DIM, **({"num_heads": HEADS, "allow_dead": True} | options)).to(
            dtype
        )
    for name, parameter in module.named_parameters():
        if name.endswith("bias"):
            nn.init.normal_(parameter, std=0.3)
    return module


def inputs(*padded: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Return NHWC features and text, with the rows (image, token) of ``padded`` set to 0."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(BATCH, HEIGHT, WIDTH, DIM, generator=generator, dtype=torch.float64)
    text = torch.randn(BATCH, TOKENS, TEXT_DIM, generator=generator, dtype=torch.float64)
    for image, token in padded:
        text[image, token] = 0.0
    return x, text


@needs_golden
@pytest.mark.parametrize("save_attention", [False, True])
@pytest.mark.parametrize("mode", ["all", "side"])
@pytest.mark.parametrize("case", CASES, ids=[case["file"].partition(".")[0] for case in CASES])
def test_golden(case: dict[str, Any], mode: str, save_attention: bool) -> None:
    """Outputs, attention and all gradients are the original's to 1e-6, from its state dict as it is."""
    recorded = load_file(GOLDEN / case["file"])
    weights = {name.removeprefix("weight."): t for name, t in recorded.items() if name.startswith("weight.")}
    module = build(
        num_heads=case["heads"],
        version=case["version"],
        mode="all" if mode == "all" else case["side"],
        **case["options"],
    )
    module.load_state_dict(weights)
    if mode == "all":
        shapes = {name: value.shape for name, value in module.state_dict().items()}
        assert shapes == {name: value.shape for name, value in weights.items()}
    module.save_attention = save_attention
    x, text = recorded["input.visual"].requires_grad_(), recorded["input.text"].requires_grad_()

    y = module(x, text) if case["side"] == "decoder" else module.forward_ssa(x, text)
    y.backward(recorded["input.cotangent"])

    grads = {name: parameter.grad for name, parameter in module.named_parameters() if parameter.grad is not None}
    found = {"output": y, "grad.visual": x.grad, "grad.text": text.grad}
    found |= {f"grad.{name}": grad for name, grad in grads.items()}
    if save_attention:
        found["attention"] = module.last_attention_map
        assert module.last_spatial_shape == (HEIGHT, WIDTH)
    assert set(found) | {"attention"} == {name for name in recorded if name.startswith(("output", "grad", "attention"))}
    largest = max(t.abs().max().item() for name, t in recorded.items() if name.startswith("grad"))
    for name, value in found.items():
        assert value is not None
        size = recorded[name].abs().max().item()
        if name.startswith("grad") and size < 1e-8 * largest:
            assert value.abs().max().item() < 1e-8 * largest, name
        else:
            assert (value - recorded[name]).abs().max().item() <= 1e-6 * size, name


def test_decoder_by_hand() -> None:
    """One head, one position, identity maps: z = LN(LN x + alpha (weighted text)), y = z + FFN(z)."""
    module = SemanticAlignmentModule(2, 2, alpha_init=0.5, decoder_learnable_temp=False, decoder_logit_scale_init=2.0)
    with torch.no_grad():
        for layer in (module.q_proj, module.k_proj, module.v_proj, module.out_proj):
            layer.weight.copy_(torch.eye(2))
        for parameter in module.ffn.parameters():
            parameter.zero_()
    x, text = torch.tensor([[[1.0, -1.0]]]), torch.tensor([[3.0, 0.0], [0.0, 2.0]])

    y = module(x, text)

    # LN x = (1, -1) up to eps; cosines 1/sqrt 2 and -1/sqrt 2; scale 2/sqrt 2; logits 1 and -1.
    first = math.e / (math.e + 1 / math.e)
    aligned = (1 + 0.5 * 3 * first, -1 + 0.5 * 2 * (1 - first))
    expected = F.layer_norm(torch.tensor([[aligned]]), (2,))
    torch.testing.assert_close(y, expected, rtol=1e-4, atol=1e-4)


def test_the_bare_default_is_refused() -> None:
    """The original's defaults hold a temperature that cannot learn; the message shows how to migrate."""
    with pytest.raises(
        ConfigError,
        match=r"l = 2\.659 lies outside.*SemanticAlignmentModule\(\.\.\., clamp_logit=4\.6052\).*allow_dead=True",
    ):
        SemanticAlignmentModule(DIM, TEXT_DIM)
    with pytest.raises(ConfigError, match="'s logit_scale is learnable and l = 2"):
        SemanticAlignmentModule(DIM, TEXT_DIM, version="2025-11-03")
    with pytest.warns(DeadKnobWarning, match="exactly 0"):
        SemanticAlignmentModule(DIM, TEXT_DIM, allow_dead=True)


def test_the_migration_lines_work() -> None:
    """What the message proposes gives a temperature with a gradient."""
    x, text = inputs()
    for options in ({"clamp_logit": 4.6052}, {"decoder_logit_scale_init": 7.0}):
        module = SemanticAlignmentModule(DIM, TEXT_DIM, num_heads=HEADS, **options).double()  # type: ignore[arg-type]

        module(x, text).sin().sum().backward()

        assert module.get_parameter("decoder_logit_scale").grad != torch.tensor(0.0)


def test_a_dead_encoder_temperature_is_refused() -> None:
    """The check covers the encoder's temperature too, and only what the mode builds."""
    with pytest.raises(ConfigError, match=r"encoder_logit_scale is learnable and l = 2\.303"):
        SemanticAlignmentModule(
            DIM, TEXT_DIM, mode="encoder", encoder_learnable_temp=True, encoder_logit_scale_init=10.0
        )
    SemanticAlignmentModule(DIM, TEXT_DIM, mode="encoder")
    SemanticAlignmentModule(DIM, TEXT_DIM, decoder_learnable_temp=False)


def test_loading_checks_again() -> None:
    """A checkpoint with a dead temperature is refused by a module that was live."""
    dead = build(torch.float32).state_dict()

    with pytest.raises(ConfigError, match="exactly 0"):
        SemanticAlignmentModule(DIM, TEXT_DIM, num_heads=HEADS, decoder_logit_scale_init=2.0).load_state_dict(dead)


@pytest.mark.parametrize("version", VERSIONS)
def test_the_decoder_temperature_is_dead(version: str) -> None:
    """The decoder temperature as shipped has gradient exactly 0."""
    module = build(version=version)
    module(*inputs()).sin().sum().backward()

    name = "decoder_logit_scale" if version == "latest" else "logit_scale"
    assert module.get_parameter(name).grad == torch.tensor(0.0, dtype=torch.float64)


def test_a_fixed_temperature_is_not_clamped() -> None:
    """In the latest version a clamp concerns learnable temperatures only; the older one clamps always."""
    x, text = inputs()
    knobs: dict[str, Any] = {"decoder_learnable_temp": False, "use_topk": False}

    def output(clamp: float, version: str) -> Tensor:
        y: Tensor = build(clamp_logit=clamp, version=version, **knobs)(x, text)
        return y

    assert torch.equal(output(2.0, "latest"), output(9.0, "latest"))
    assert not torch.allclose(output(2.0, "2025-11-03"), output(9.0, "2025-11-03"))


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("side", ["encoder", "decoder"])
@pytest.mark.parametrize("use_topk", [False, True])
def test_padding_anywhere(version: str, side: str, use_topk: bool) -> None:
    """An all-zero row in the middle is padding; permuting the tokens changes nothing, cutting padding off neither."""
    module = build(version=version, use_topk=use_topk, top_m=2)
    function = module if side == "decoder" else module.forward_ssa
    x, text = inputs((0, 2), (0, 3), (1, 0))
    order = torch.tensor([3, 0, 6, 1, 5, 2, 4])

    y = function(x, text)

    torch.testing.assert_close(function(x, text[:, order]), y)
    torch.testing.assert_close(function(x[:1], text[:1, [0, 1, 4, 5, 6]]), y[:1])
    torch.testing.assert_close(function(x[1:], text[1:, 1:]), y[1:])


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("whole_batch", [False, True])
def test_an_image_without_text(version: str, whole_batch: bool) -> None:
    """It leaves the encoder side as it came and the decoder side without a branch, with finite gradients."""
    module = build(version=version)
    x, text = inputs(*((0, token) for token in range(TOKENS)))
    if whole_batch:
        text.zero_()
    x.requires_grad_()

    ssa, y = module.forward_ssa(x, text), module(x, text)
    (ssa.sum() + y.sin().sum()).backward()

    assert torch.equal(ssa[0], x[0])
    z = module.norm2(module.norm1(x.flatten(1, 2)))
    assert torch.equal(y[0].flatten(0, 1), (z + module.ffn(z))[0])
    assert all(bool(p.grad.isfinite().all()) for p in module.parameters() if p.grad is not None)
    assert module.q_proj.weight.grad is not None
    assert bool((module.q_proj.weight.grad == 0).all()) == whole_batch


@pytest.mark.parametrize("version", VERSIONS)
def test_shapes(version: str) -> None:
    """Lists of positions, a shared text and a single token are taken too."""
    module = build(version=version)
    x, text = inputs()

    for function in (module, module.forward_ssa):
        assert torch.equal(function(x.flatten(1, 2), text), function(x, text).flatten(1, 2))
        torch.testing.assert_close(function(x, text[0]), function(x, text[:1].expand(BATCH, -1, -1)))
        torch.testing.assert_close(function(x, text[0, 0]), function(x, text[:1, :1].expand(BATCH, -1, -1)))
    module.save_attention = True
    module(x.flatten(1, 2), text)
    assert module.last_spatial_shape is None


@pytest.mark.parametrize("side", ["encoder", "decoder"])
def test_saved_attention(side: str) -> None:
    """last_attention_map is B x N x H x T: rows sum to 1, or are 0 without text."""
    module = build()
    module.save_attention = True
    x, text = inputs((0, 4), *((1, token) for token in range(TOKENS)))

    (module if side == "decoder" else module.forward_ssa)(x, text)

    saved = module.last_attention_map
    assert saved is not None
    assert saved.shape == (BATCH, HEIGHT * WIDTH, HEADS, TOKENS)
    torch.testing.assert_close(saved[0].sum(-1), torch.ones(HEIGHT * WIDTH, HEADS, dtype=torch.float64))
    assert bool((saved[0, ..., 4] == 0).all())
    assert bool((saved[1] == 0).all())


def test_keywords() -> None:
    """add_residual, gamma_scale, gate_channels and the dropout rates do what the docstring says."""
    x, text = inputs()
    module, bare = build(), build(add_residual=False)
    stream = module.norm1(x)
    branch = []
    for wide in (1.0, 2.0):
        scaled = build(gamma_scale=wide)
        branch.append(scaled.forward_ssa(x, text) - x)
    torch.testing.assert_close(2 * branch[0], branch[1])

    z = bare.norm2(torch.zeros_like(stream))
    torch.testing.assert_close(bare(x, torch.zeros_like(text)), z + bare.ffn(z))
    assert not torch.allclose(bare(x, text), module(x, text))

    assert torch.equal(build(gate_channels=True)(x, text), module(x, text))

    for rate in ("attn_drop", "proj_drop", "ffn_drop"):
        options: dict[str, Any] = {rate: 0.5}
        dropping = build(**options)
        torch.manual_seed(3)
        assert not torch.allclose(dropping(x, text), module(x, text))
        assert torch.equal(dropping.eval()(x, text), module(x, text))


@pytest.mark.parametrize("version", VERSIONS)
def test_one_side_alone(version: str) -> None:
    """A module of one side holds what that side uses, loads the whole state dict and computes the same."""
    whole = build(version=version)
    x, text = inputs()
    for mode in ("encoder", "decoder"):
        part = build(version=version, mode=mode)
        part.load_state_dict(whole.state_dict())
        part.load_state_dict(part.state_dict())

        used, other = ("forward_ssa", "forward") if mode == "encoder" else ("forward", "forward_ssa")
        y = getattr(part, used)(x, text)
        assert torch.equal(y, getattr(whole, used)(x, text))
        y.sin().sum().backward()
        assert all(p.grad is not None for p in part.parameters() if p.requires_grad)
        with pytest.raises(ConfigError, match=rf"{other} is the .* built with mode='{mode}'"):
            getattr(part, other)(x, text)


def test_checkpoints_with_and_without_counters() -> None:
    """The zeros that the original registers for a profiler may be in a state dict or not; other keys must fit."""
    module = build()
    state = module.state_dict()
    without = {name: value for name, value in state.items() if not name.startswith("total_")}

    module.load_state_dict(without)
    nn.Sequential(module).load_state_dict({f"0.{name}": value for name, value in state.items()})
    older = build(version="2025-11-03")
    older.load_state_dict(older.state_dict() | {"total_ops": torch.zeros(1)})
    with pytest.raises(RuntimeError, match=r"Unexpected key.*surprise"):
        module.load_state_dict(state | {"surprise": torch.zeros(1)})
    with pytest.raises(RuntimeError, match=r"Missing key.*alpha"):
        module.load_state_dict({name: value for name, value in state.items() if name != "alpha"})


@pytest.mark.parametrize("preset_side", ["encoder", "decoder"])
def test_the_seed_preset_is_the_older_version(preset_side: str) -> None:
    """Preset `seed` and the drop-in's 2025-11-03 version are one function."""
    original = build(version="2025-11-03", use_topk=False)
    kind = EncoderAlignment if preset_side == "encoder" else DecoderAlignment
    with dead_allowed():
        module = kind(DIM, TEXT_DIM, HEADS, preset="seed", allow_dead=True).double()
    renamed = {"out_proj": "o_proj", "logit_scale": "temperature.log_scale", "ffn.3": "ffn.2"}
    renamed |= {"gamma": "gate.theta"} if preset_side == "encoder" else {"alpha": "gate.theta"}
    state = {}
    for name, value in original.state_dict().items():
        for old, new in renamed.items():
            if name == old or name.startswith(f"{old}."):
                name = new + name.removeprefix(old)
                break
        if name in module.state_dict():
            state[name] = value
    if preset_side == "encoder":
        state["temperature.log_scale"] = torch.tensor(0.0)
    module.load_state_dict(state)
    x, text = inputs((0, 2))

    y = module(x, text, (text == 0).all(-1))

    expected = original.forward_ssa(x, text) if preset_side == "encoder" else original(x, text)
    torch.testing.assert_close(y, expected, rtol=1e-6, atol=1e-7)


def test_roles() -> None:
    """An optimizer sees temperatures and gates under their original names."""
    module = build()

    assert parameter_role("decoder_logit_scale", module) == "temperature"
    assert parameter_role("alpha", module) == "gate"
    assert parameter_role("weight", module.q_proj) == "weight"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"version": "2025-11-04"}, "version='2025-11-04', did you mean '2025-11-03'"),
        ({"mode": "decode"}, "mode='decode', did you mean 'decoder'"),
        ({"num_heads": 3}, "num_heads=3, which does not divide query_dim=28"),
        ({"clamp_logit": 0.0}, "clamp_logit=0.0, expected a finite number above 0"),
        ({"decoder_logit_scale_init": -1.0}, "decoder_logit_scale_init=-1.0, expected a finite number above 0"),
        ({"top_m": 0}, "top_m=0, expected at least 1"),
        (
            {"version": "2025-11-03", "encoder_use_cosine": True},
            "does not have this choice, expected False or version 'latest'",
        ),
    ],
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    """What a caller can get wrong is named at construction."""
    with pytest.raises(ConfigError, match=message):
        SemanticAlignmentModule(DIM, TEXT_DIM, **options)


@pytest.mark.parametrize(
    ("x", "text", "message"),
    [
        (
            (2, 3, 5, 27),
            (7, 11),
            r"visual features of shape \(2, 3, 5, 27\), expected batch x positions x 28 or batch x height x width x 28",
        ),
        ((2, 15, 28), (7, 10), r"text of shape \(7, 10\) for 2 images, expected 2 x tokens x 11"),
        ((2, 15, 28), (3, 7, 11), r"text of shape \(3, 7, 11\) for 2 images"),
        ((2, 15, 28), (2, 0, 11), "with at least one token"),
    ],
)
def test_bad_inputs(x: tuple[int, ...], text: tuple[int, ...], message: str) -> None:
    """Shapes that do not fit are named with what was expected."""
    with pytest.raises(TextError, match=message):
        build()(torch.zeros(x, dtype=torch.float64), torch.zeros(text, dtype=torch.float64))
