"""The alignment modules."""

import copy
import math
import pickle
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from semalign.align.temperature import DeadKnobWarning
from semalign.errors import ConfigError, TextError
from semalign.model.alignment import Alignment, DecoderAlignment, EncoderAlignment, SingleTokenWarning, alignment_sites
from semalign.model.gate import Gate
from semalign.model.recording import recording
from semalign.model.roles import parameter_role
from semalign.model.temperature import Temperature, project_temperatures, projection_hook
from semalign.presets import PRESETS

BATCH, HEIGHT, WIDTH, TOKENS, TEXT_DIM, HEADS, DIM = 3, 2, 5, 7, 11, 13, 26
SIDES: tuple[type[EncoderAlignment | DecoderAlignment], ...] = (EncoderAlignment, DecoderAlignment)
MASK = torch.tensor([[False, True, False, True, True, False, False], [True] * 7, [False] * 7])


@contextmanager
def dead_allowed() -> Iterator[None]:
    """Let presets that are dead as published be built."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeadKnobWarning)
        yield


def build(kind: type[Alignment], dim: int = DIM, heads: int = HEADS, **options: Any) -> Any:
    """Return a module with weights and gates that are all different from 0, in float64."""
    torch.manual_seed(0)
    with dead_allowed():
        module = kind(dim, TEXT_DIM, heads, allow_dead=True, **options).double()
    for name, parameter in module.named_parameters():
        if name.endswith("bias"):
            nn.init.normal_(parameter, std=0.3)
    return module


def inputs() -> tuple[Tensor, Tensor]:
    """Return visual features B x H x W x C and text B x T x Ct, in float64."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(BATCH, HEIGHT, WIDTH, DIM, generator=generator, dtype=torch.float64)
    return x, torch.randn(BATCH, TOKENS, TEXT_DIM, generator=generator, dtype=torch.float64)


def test_encoder_by_hand() -> None:
    """One head of width one: y = x + g (sum of weights times values, projected, plus bias)."""
    module = EncoderAlignment(1, 1, 1, gate_init=0.5)
    with torch.no_grad():
        for layer, weight, bias in (
            (module.q_proj, 1.0, 0.0),
            (module.k_proj, 1.0, None),
            (module.v_proj, 4.0, 1.0),
            (module.o_proj, 2.0, 3.0),
        ):
            layer.weight.fill_(weight)
            if bias is not None:
                layer.bias.fill_(bias)

    y = module(torch.ones(1, 1, 1), torch.tensor([[0.0], [math.log(3)]]))

    # Weights 1/4 and 3/4, values 1 and 1 + 4 log 3, so a = 1 + 3 log 3 and y = 1 + (2 a + 3) / 2.
    assert y.item() == pytest.approx(1 + (2 * (1 + 3 * math.log(3)) + 3) / 2)


def plain_branch(module: Any, s: Tensor, text: Tensor) -> Tensor:
    """Return the gated branch written out head by head, in the formula's own order."""
    d = DIM // HEADS
    q, k, v = module.q_proj(s), module.k_proj(text), module.v_proj(text)
    if module.knobs.similarity == "cosine-full":
        q, k = F.normalize(q, dim=-1), F.normalize(k, dim=-1)
    heads = []
    for h in range(HEADS):
        q_h, k_h, v_h = (rows[..., h * d : (h + 1) * d] for rows in (q, k, v))
        if module.knobs.similarity == "cosine":
            q_h, k_h = F.normalize(q_h, dim=-1), F.normalize(k_h, dim=-1)
        logits = module.temperature() * torch.einsum("bnd,btd->bnt", q_h, k_h)
        heads.append(torch.einsum("bnt,btd->bnd", logits.softmax(-1), v_h))
    branch: Tensor = module.gate() * module.o_proj(torch.cat(heads, -1))
    return branch


@pytest.mark.parametrize("preset", PRESETS)
def test_the_formulas(preset: str) -> None:
    """Every preset computes its formula."""
    x, text = inputs()
    flat = x.flatten(1, 2)
    encoder, decoder = build(EncoderAlignment, preset=preset), build(DecoderAlignment, preset=preset)

    torch.testing.assert_close(encoder(flat, text), flat + plain_branch(encoder, flat, text))
    y = decoder(flat, text)
    if preset == "document":
        torch.testing.assert_close(y, flat + plain_branch(decoder, flat, text))
    elif preset == "seed":
        s = decoder.norm1(flat)
        z = decoder.norm2(s + plain_branch(decoder, s, text))
        torch.testing.assert_close(y, z + decoder.ffn(z))
    else:
        z = flat + plain_branch(decoder, decoder.norm1(flat), text)
        torch.testing.assert_close(y, z + decoder.ffn(decoder.norm2(z)))


@pytest.mark.parametrize("kind", SIDES)
@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("options", [{}, {"temperature_per_head": True, "gate_per_channel": True}, {"top_k": 3}])
def test_forms_agree(
    kind: type[EncoderAlignment | DecoderAlignment], preset: str, shared: bool, options: dict[str, Any]
) -> None:
    """The forms agree in values and in the gradients of everything, with padding anywhere and missing text."""
    results = []
    for form in ("reference", "sdpa", "folded"):
        module = build(kind, preset=preset, form=form, **options)
        x, text = (tensor.requires_grad_() for tensor in inputs())
        y = module(x, text[0] if shared else text, MASK)
        y.sin().sum().backward()
        grads = {name: p.grad for name, p in module.named_parameters()} | {"x": x.grad, "text": text.grad}
        results.append((y, grads))

    y_a, grads_a = results[0]
    for y_b, grads_b in results[1:]:
        torch.testing.assert_close(y_a, y_b)
        for name, grad in grads_a.items():
            torch.testing.assert_close(grad, grads_b[name], msg=name)


@pytest.mark.parametrize("kind", SIDES)
@pytest.mark.parametrize("form", ["reference", "sdpa", "folded"])
@pytest.mark.parametrize("preset", ["recommended", "clip", "xvlm"])
def test_gradcheck(kind: type[Alignment], form: str, preset: str) -> None:
    """Analytic gradients of inputs, temperature and gate are the numerical ones."""
    module = build(kind, dim=4, heads=2, preset=preset, form=form, temperature_learnable=True)
    x, text = inputs()
    x, text = x[:2, :1, :2, :4].requires_grad_(), text[:2, :3].requires_grad_()
    mask = torch.tensor([[False, True, False], [True, True, True]])
    leaves = (x, text, module.temperature.log_scale, module.gate.theta)

    def function(*values: Tensor) -> Any:
        state = {"temperature.log_scale": values[2], "gate.theta": values[3]}
        return torch.func.functional_call(module, state, (values[0], values[1], mask))

    assert torch.autograd.gradcheck(function, leaves)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("form", ["reference", "sdpa", "folded"])
@pytest.mark.parametrize("poison", [0.0, torch.nan, torch.inf])
def test_an_image_without_text(preset: str, form: str, poison: float) -> None:
    """It leaves the encoder as it came, the decoder with the FFN only, and adds nothing to any gradient."""
    x, text = inputs()
    text[MASK] = poison
    for kind in SIDES:
        module = build(kind, preset=preset, form=form)
        x.requires_grad_().grad = None
        text.requires_grad_().grad = None

        y = module(x, text, MASK)
        y[1].sum().backward()

        expected = x.detach().flatten(1, 2)
        if module.knobs.residual == "pre-norm":
            expected = expected + module.ffn(module.norm2(expected))
        elif module.knobs.residual == "normalized":
            expected = module.norm2(module.norm1(expected))
            expected = expected + module.ffn(expected)
        assert torch.equal(y[1].flatten(0, 1), expected[1])
        assert text.grad is not None
        assert bool((text.grad == 0).all())
        for name, parameter in module.named_parameters():
            if name.startswith(("q_", "k_", "v_", "o_", "temp", "gate")):
                assert parameter.grad is None or bool((parameter.grad == 0).all()), name
        module.zero_grad()
        module(x, text, MASK).sum().backward()
        assert all(bool(p.grad.isfinite().all()) for p in module.parameters() if p.grad is not None)


@pytest.mark.parametrize("kind", SIDES)
def test_padding_anywhere(kind: type[Alignment]) -> None:
    """Permuting tokens with their mask changes nothing, nor does cutting the padding off."""
    module = build(kind)
    x, text = inputs()
    order = torch.tensor([3, 0, 6, 1, 5, 2, 4])

    y = module(x, text, MASK)

    torch.testing.assert_close(module(x, text[:, order], MASK[:, order]), y)
    torch.testing.assert_close(module(x[:1], text[:1, ~MASK[0]]), y[:1])
    torch.testing.assert_close(module(x[2:], text[2:]), y[2:])


@pytest.mark.parametrize("kind", SIDES)
def test_shapes(kind: type[Alignment]) -> None:
    """Images or lists of positions, shared or own texts, a shared or own mask: the same function."""
    module = build(kind)
    x, text = inputs()

    y = module(x, text, MASK)

    assert y.shape == x.shape
    assert torch.equal(module(x.flatten(1, 2), text, MASK), y.flatten(1, 2))
    own = module(x, text[:1].expand(BATCH, -1, -1), MASK[:1].expand(BATCH, -1))
    torch.testing.assert_close(module(x, text[0], MASK[0]), own)
    torch.testing.assert_close(module(x, text[0], MASK[:1].expand(BATCH, -1)), own)


def test_a_shared_text_is_projected_once() -> None:
    """Keys and values of a text shared by all images are computed for one text."""
    module = build(EncoderAlignment)
    x, text = inputs()
    seen = []
    module.k_proj.register_forward_hook(lambda _module, args, _output: seen.append(tuple(args[0].shape)))

    module(x, text[0], MASK)

    assert seen == [(1, TOKENS, TEXT_DIM)]


@pytest.mark.parametrize("kind", SIDES)
@pytest.mark.parametrize("activation", ["none", "tanh"])
def test_gate_zero(kind: type[Alignment], activation: str) -> None:
    """Gate 0 makes the branch vanish exactly and keeps its own gradient."""
    module = build(kind, gate_init=0.0, gate_activation=activation)
    x, text = inputs()

    y = module(x, text)
    y.square().sum().backward()

    expected = x if kind is EncoderAlignment else x + module.ffn(module.norm2(x))
    assert torch.equal(y, expected)
    assert module.gate.theta.grad != 0


def test_outside_implementation() -> None:
    """With a gate of 1 the transformer preset is x plus torch.nn.MultiheadAttention."""
    module = build(EncoderAlignment, preset="transformer")
    outside = nn.MultiheadAttention(DIM, HEADS, kdim=TEXT_DIM, vdim=TEXT_DIM, batch_first=True, dtype=torch.float64)
    with torch.no_grad():
        outside.q_proj_weight.copy_(module.q_proj.weight)
        outside.k_proj_weight.copy_(module.k_proj.weight)
        outside.v_proj_weight.copy_(module.v_proj.weight)
        outside.in_proj_bias.copy_(torch.cat([module.q_proj.bias, torch.zeros(DIM), module.v_proj.bias]))
        outside.out_proj.load_state_dict(module.o_proj.state_dict())
    x, text = inputs()
    flat, mask = x.flatten(1, 2), MASK.clone()
    mask[1, 0] = False

    expected = flat + outside(flat, text, text, key_padding_mask=mask)[0]

    torch.testing.assert_close(module(flat, text, mask), expected)


@pytest.mark.parametrize("kind", SIDES)
def test_every_recommended_parameter_learns(kind: type[Alignment]) -> None:
    """In `recommended` every parameter receives a gradient, the temperature made learnable too."""
    module = build(kind, temperature_learnable=True)
    x, text = inputs()

    module(x, text).sin().sum().backward()

    for name, parameter in module.named_parameters():
        assert parameter.grad is not None, name
        assert float(parameter.grad.norm()) > 1e-10 * float(parameter.detach().norm()), name


def test_no_key_bias_under_dot() -> None:
    """A key bias exists only where a softmax does not cancel it."""
    assert build(EncoderAlignment).k_proj.bias is None
    assert build(EncoderAlignment, similarity="cosine").k_proj.bias is not None
    assert build(DecoderAlignment, preset="document").k_proj.bias is None
    assert build(DecoderAlignment, preset="seed").k_proj.bias is not None


def test_branch_is_cast_to_the_stream() -> None:
    """Features come back in their own dtype, from either form and under autocast."""
    x, text = inputs()
    for form in ("reference", "sdpa", "folded"):
        module = build(EncoderAlignment, form=form).float()
        assert module(x.float(), text).dtype == torch.float32
        with torch.autocast("cpu", dtype=torch.bfloat16):
            y = module(x.float(), text.float(), MASK)
        assert y.dtype == torch.float32
        torch.testing.assert_close(y.double(), module(x.float(), text, MASK).double(), rtol=0.05, atol=0.05)
        half = build(EncoderAlignment, form=form).bfloat16()
        assert half(x.bfloat16(), text, MASK).dtype == torch.bfloat16


# What the original does (design, section 4), in its own presets.


def test_seed_decoder_temperature_is_dead() -> None:
    """The decoder temperature as shipped, l = 2.659 under a clamp of 2, has gradient exactly 0."""
    module = build(DecoderAlignment, preset="seed")
    x, text = inputs()

    module(x, text).sin().sum().backward()

    assert module.temperature.log_scale.item() == pytest.approx(2.659, abs=5e-4)
    assert module.temperature.log_scale.grad.item() == 0.0
    assert module.gate.theta.grad.item() != 0.0


@pytest.mark.parametrize("preset", ["seed", "document"])
def test_the_documents_encoder_recipe_is_dead_and_confounded(preset: str) -> None:
    """The recipe for a learnable encoder temperature is dead, and moves the scale from 1/sqrt(d) to 7.39/sqrt(d)."""
    fixed = build(EncoderAlignment, preset=preset)
    learnable = build(EncoderAlignment, preset=preset, temperature_learnable=True)
    x, text = inputs()

    learnable(x, text).sin().sum().backward()

    assert learnable.temperature.log_scale.grad.item() == 0.0
    assert float(learnable.temperature().detach() / fixed.temperature()) == pytest.approx(7.389, abs=5e-4)
    with pytest.raises(ConfigError, match=r"encoder alignment's temperature .*lies outside its clamp bounds \[-2, 2\]"):
        EncoderAlignment(DIM, TEXT_DIM, HEADS, preset=preset, temperature_learnable=True)


def test_seed_decoder_attention_is_uniform_at_init() -> None:
    """At init, 40 tokens, the original's decoder attends to all of them alike: entropy 0.99997 was measured."""
    torch.manual_seed(0)
    with dead_allowed():
        module = DecoderAlignment(512, 512, 16, preset="seed", allow_dead=True)
    text = F.normalize(torch.randn(40, 512), dim=-1)

    with recording(module) as records:
        module(torch.randn(2, 5, 512), text)

    assert 0.99995 < records[""]["entropy"] < 1.0


@pytest.mark.parametrize("preset", ["seed", "document"])
def test_dead_presets_are_refused(preset: str) -> None:
    """A preset that is dead as published is built only on purpose, and says so."""
    with pytest.raises(ConfigError, match=r"decoder alignment's temperature \(preset.*allow_dead=True to reproduce"):
        DecoderAlignment(DIM, TEXT_DIM, HEADS, preset=preset)
    with pytest.warns(DeadKnobWarning, match="gradient is exactly 0"):
        DecoderAlignment(DIM, TEXT_DIM, HEADS, preset=preset, allow_dead=True)


def test_loading_checks_again() -> None:
    """A state dict that makes a live temperature dead is refused, or warned of once where that is allowed."""
    knobs: dict[str, Any] = {"preset": "seed", "temperature_init": 1.0}
    live = DecoderAlignment(DIM, TEXT_DIM, HEADS, **knobs)
    state = build(DecoderAlignment, preset="seed").float().state_dict()

    with pytest.raises(ConfigError, match=r"l = 2\.659 lies outside"):
        nn.Sequential(live).load_state_dict({f"0.{name}": value for name, value in state.items()})
    allowed = DecoderAlignment(DIM, TEXT_DIM, HEADS, allow_dead=True, **knobs)
    with pytest.warns(DeadKnobWarning, match=r"l = 2\.659 lies outside"):
        allowed.load_state_dict(state)
    allowed.load_state_dict(state)


def test_fixed_and_learnable_share_their_names() -> None:
    """A state dict moves between a learnable knob and a fixed one."""
    learnable = build(DecoderAlignment)
    fixed = build(DecoderAlignment, temperature_learnable=False, gate_learnable=False)
    with torch.no_grad():
        learnable.temperature.log_scale.fill_(1.25)

    fixed.load_state_dict(learnable.state_dict())

    assert fixed.temperature.log_scale.item() == 1.25
    assert {name for name, _ in learnable.named_parameters()} - {name for name, _ in fixed.named_parameters()} == {
        "temperature.log_scale",
        "gate.theta",
    }


def test_projection_after_each_step() -> None:
    """The hook puts projected temperatures back inside, of any depth and of any module that offers it."""
    model = nn.Sequential(
        DecoderAlignment(DIM, TEXT_DIM, HEADS),
        EncoderAlignment(DIM, TEXT_DIM, HEADS, temperature={"learnable": True, "bound": "none"}),
        EncoderAlignment(DIM, TEXT_DIM, HEADS, temperature={"learnable": True, "per_head": True}),
        EncoderAlignment(DIM, TEXT_DIM, HEADS, preset="seed", temperature={"learnable": True, "init": 1.0}),
    )
    decoder, free, per_head, clamped = alignment_sites(model).values()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    optimizer.register_step_post_hook(projection_hook(model))
    for site, push in ((decoder, -9.0), (free, -9.0), (per_head, 9.0), (clamped, -8.0)):
        site.temperature.log_scale.grad = torch.full_like(site.temperature.log_scale, push)

    optimizer.step()

    assert decoder.temperature.log_scale.item() == pytest.approx(math.log(100))
    assert free.temperature.log_scale.item() == pytest.approx(9.0)
    assert clamped.temperature.log_scale.item() == pytest.approx(9.0)
    assert per_head.temperature.log_scale.tolist() == pytest.approx([-math.log(10)] * HEADS)


def test_projection_is_for_anyone() -> None:
    """A module with project_parameters takes part in project_temperatures."""

    class Other(nn.Module):
        projected = 0

        def project_parameters(self) -> None:
            self.projected += 1

    other = Other()
    project_temperatures(nn.Sequential(other))

    assert other.projected == 1


def test_roles() -> None:
    """Parameters are weights, norms and biases, temperatures or gates."""
    module = DecoderAlignment(DIM, TEXT_DIM, HEADS, gate_per_channel=True)
    roles = {
        name: parameter_role(name, module.get_submodule(name.rpartition(".")[0]))
        for name, _ in module.named_parameters()
    }

    assert roles["temperature.log_scale"] == "temperature"
    assert roles["gate.theta"] == "gate"
    assert roles["q_proj.weight"] == roles["ffn.0.weight"] == "weight"
    assert roles["q_proj.bias"] == roles["norm1.weight"] == "norm_bias"


def test_recording() -> None:
    """Inside the block the sites' numbers are kept and averaged; outside nothing is."""
    model = nn.ModuleDict({"a": build(EncoderAlignment), "b": build(DecoderAlignment), "idle": build(EncoderAlignment)})
    x, text = inputs()

    with recording(model) as records:
        for features in (x, 2 * x):
            model["a"](features, text, MASK)
            model["b"](features, text, MASK)
    model["a"](x, text)

    assert set(records) == {"a", "b"}
    assert set(records["a"]) == {"scale", "gate", "strength", "entropy", "logit_size"}
    assert records["a"]["scale"] == pytest.approx((DIM / HEADS) ** -0.5)
    assert records["b"]["scale"] == records["b"]["logit_size"] == pytest.approx(10.0, rel=1e-6)
    assert records["a"]["gate"] == 0.5
    strengths = []
    for features in (x, 2 * x):
        branch = model["a"](features, text, MASK) - features
        ratio = branch.flatten(1).norm(dim=1) / features.flatten(1).norm(dim=1)
        strengths.append(ratio[[0, 2]].mean().item())
    assert records["a"]["strength"] == pytest.approx(sum(strengths) / 2)
    assert 0 < records["a"]["entropy"] < 1


def test_recording_leaves_out_what_is_undefined() -> None:
    """An entropy over one token is left out, not written as 0."""
    module = build(EncoderAlignment)
    x, text = inputs()

    with recording(module) as records:
        module(x, text, torch.tensor([False] + [True] * 6))

    assert "entropy" not in records[""]
    assert records[""]["strength"] > 0


def test_nothing_is_observed_unless_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before and after a recording a forward computes no attention weights of its own."""
    module = build(EncoderAlignment)
    x, text = inputs()
    with recording(module):
        module(x, text)

    monkeypatch.setattr("semalign.model.alignment.attention_weights", None)
    module(x, text)
    with recording(module), pytest.raises(TypeError):
        module(x, text)


def test_recording_does_not_change_the_result() -> None:
    """Looking changes neither values nor gradients."""
    module = build(DecoderAlignment)
    x, text = inputs()
    plain = torch.autograd.grad(module(x, text, MASK).sum(), list(module.parameters()))

    module.save_attention = True
    with recording(module):
        seen = torch.autograd.grad(module(x, text, MASK).sum(), list(module.parameters()))

    assert all(torch.equal(a, b) for a, b in zip(plain, seen, strict=True))


@pytest.mark.parametrize("form", ["reference", "sdpa", "folded"])
def test_saved_attention(form: str) -> None:
    """On demand the weights are kept: rows sum to 1, or are 0 without text."""
    module = build(DecoderAlignment, form=form)
    x, text = inputs()
    module(x, text, MASK)
    without = module.last_attention

    module.save_attention = True
    module(x, text, MASK)

    assert without is None
    assert module.last_attention.shape == (BATCH, HEADS, HEIGHT * WIDTH, TOKENS)
    assert not module.last_attention.requires_grad
    assert module.last_spatial_shape == (HEIGHT, WIDTH)
    sums = module.last_attention.sum(-1)
    torch.testing.assert_close(sums[[0, 2]], torch.ones_like(sums[[0, 2]]))
    assert bool((sums[1] == 0).all())
    module(x.flatten(1, 2), text, MASK)
    assert module.last_spatial_shape is None


def test_one_token_warns_once() -> None:
    """A text of one token makes the temperature meaningless and says so, once per module."""
    module = build(EncoderAlignment)
    x, text = inputs()

    with pytest.warns(SingleTokenWarning, match="temperature has no effect"):
        module(x, text[:, :1])
    module(x, text[:, :1])


def test_reset_draws_only_from_the_global_stream() -> None:
    """Each submodule with parameters resets itself, and the same seed gives the same module."""
    module = DecoderAlignment(DIM, TEXT_DIM, HEADS)
    first = copy.deepcopy(module.state_dict())
    owners = [m for m in module.modules() if next(m.parameters(recurse=False), None) is not None]
    results = []
    for _ in range(2):
        torch.manual_seed(7)
        for owner in owners:
            owner.reset_parameters()  # type: ignore[operator]
        results.append(copy.deepcopy(module.state_dict()))

    assert all(torch.equal(results[0][name], results[1][name]) for name in first)
    assert not torch.equal(first["q_proj.weight"], results[0]["q_proj.weight"])
    assert module.gate().item() == pytest.approx(0.1)
    assert module.temperature().item() == pytest.approx(10.0)


def test_modules_copy_and_pickle() -> None:
    """A module survives deepcopy and pickling, its check after loading included."""
    module = DecoderAlignment(DIM, TEXT_DIM, HEADS, preset="seed", temperature_init=1.0)
    dead = build(DecoderAlignment, preset="seed").state_dict()
    for twin in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):  # noqa: S301 - made on the line itself
        with pytest.raises(ConfigError, match="exactly 0"):
            twin.load_state_dict(dead)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"heads": 3}, "heads=3, which does not divide its width 26, expected one of 1, 2, 13, 26"),
        ({"heads": 0}, "heads=0, expected an integer of at least 1"),
        ({"form": "foldet"}, "form='foldet', which is unknown, did you mean 'folded'"),
        ({"preset": "cilp"}, "did you mean 'clip'"),
        ({"gate_int": 0.1}, "did you mean 'gate.init'"),
    ],
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    """What a caller can get wrong is named at construction."""
    with pytest.raises(ConfigError, match=message):
        EncoderAlignment(**({"dim": DIM, "text_dim": TEXT_DIM, "heads": 2} | options))


@pytest.mark.parametrize(
    ("x", "text", "mask", "message"),
    [
        ((3, 2, 5, 25), (7, 11), None, r"shape \(3, 2, 5, 25\), expected batch x positions x 26"),
        ((3, 26), (7, 11), None, r"visual features of shape \(3, 26\)"),
        ((3, 5, 26), (7, 10), None, r"text of shape \(7, 10\) for 3 images, expected 3 x tokens x 11"),
        ((3, 5, 26), (2, 7, 11), None, r"text of shape \(2, 7, 11\) for 3 images"),
        ((3, 5, 26), (3, 0, 11), None, "with at least one token"),
        (
            (3, 5, 26),
            (3, 7, 11),
            torch.zeros(3, 6, dtype=torch.bool),
            r"is_padding of shape \(3, 6\).*bool of shape 3 x 7",
        ),
        ((3, 5, 26), (7, 11), torch.zeros(7), "type torch.float32, expected bool"),
    ],
)
def test_bad_inputs(x: tuple[int, ...], text: tuple[int, ...], mask: Tensor | None, message: str) -> None:
    """Shapes that do not fit are named with what was expected."""
    with pytest.raises(TextError, match=message):
        build(EncoderAlignment)(torch.zeros(x, dtype=torch.float64), torch.zeros(text, dtype=torch.float64), mask)


def test_temperature_and_gate_stand_alone() -> None:
    """Other modules can own a temperature or a gate by themselves."""
    knobs = PRESETS["clip"]["decoder"]

    assert Temperature(knobs.temperature, heads=1, head_dim=1)().item() == pytest.approx(1 / 0.07)
    assert Gate(knobs.gate, channels=1)().item() == pytest.approx(0.1)
