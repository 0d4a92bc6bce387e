"""Guidance of modules that the user names: layouts, how the text arrives, what a state dict and a removal leave."""

from __future__ import annotations

import copy
import threading
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import semalign
from semalign.errors import ConfigError, TextError
from semalign.model.alignment import EncoderAlignment, alignment_sites
from semalign.model.places import Place
from semalign.model.recording import recording
from semalign.model.roles import parameter_role
from semalign.model.temperature import projection_hook
from semalign.model.text_guidance import TextGuided, add_text_guidance, remove_text_guidance
from semalign.presets import AlignmentForm

B, H, W, C, T, CT = 2, 5, 7, 12, 3, 11


class ChannelsLast(nn.Module):
    """Mixes the channels of B x C x H x W and gives B x H x W x C."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Linear(C, C)

    def forward(self, x: Tensor) -> Tensor:
        """Return channels-last features."""
        y: Tensor = self.mix(x.permute(0, 2, 3, 1))
        return y


class Tokens(nn.Module):
    """A class token and a register before the positions of B x C x H x W; gives them in a tuple."""

    def __init__(self) -> None:
        super().__init__()
        self.extra = nn.Parameter(torch.randn(1, 2, C))
        self.mix = nn.Linear(C, C)

    def forward(self, x: Tensor) -> tuple[Tensor, str]:
        """Return tokens and something else."""
        positions = self.mix(x.flatten(2).transpose(1, 2))
        return torch.cat([self.extra.expand(len(x), -1, -1), positions], dim=1), "more"


class Pyramid(nn.Module):
    """A small convolutional backbone: stages of two blocks each."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, 2, 1)
        self.stages = nn.ModuleList(
            nn.Sequential(nn.Sequential(nn.Conv2d(i, o, 3, 2, 1), nn.ReLU()), nn.Sequential(nn.Conv2d(o, o, 3, 1, 1)))
            for i, o in ((8, 8), (8, 12))
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the stages' features."""
        x = self.stem(x)
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return features


def pyramid(**knobs: Any) -> TextGuided:
    """Return a guided `Pyramid`."""
    torch.manual_seed(0)
    return add_text_guidance(Pyramid(), text_dim=CT, places={"stages.0.*": 8, "stages.1.1": 12}, heads=2, **knobs)


def texts(*shape: int, seed: int = 1) -> Tensor:
    """Return text features."""
    return torch.randn(*(shape or (T,)), CT, generator=torch.Generator().manual_seed(seed))


def image(height: int = 19, width: int = 23) -> Tensor:
    """Return two images."""
    return torch.randn(B, 3, height, width, generator=torch.Generator().manual_seed(2))


# ---- What it computes ----


def test_a_case_worked_by_hand() -> None:
    """With zero queries the attention is even: y = x + gate * mean of the values."""
    guided = add_text_guidance(nn.Sequential(nn.Identity()), text_dim=2, places={"0": 2}, heads=1, gate_init=0.5)
    site = guided.guidance.get_submodule("0")
    assert isinstance(site, EncoderAlignment)
    with torch.no_grad():
        site.q_proj.weight.zero_()
        for layer in (site.v_proj, site.o_proj):
            layer.weight.copy_(torch.eye(2))
    x = torch.tensor([[[1.0, 2.0], [3.0, 4.0]]])  # one image, two positions

    y = guided(x, text=torch.tensor([[10.0, 20.0], [30.0, 60.0]]))

    assert y.tolist() == [[[11.0, 22.0], [13.0, 24.0]]]


@pytest.mark.parametrize("layout", ["channels-first", "channels-last", "tokens"])
def test_layouts_agree_with_the_alignment_itself(layout: str) -> None:
    """Each layout is aligned position by position, over its channels; prefix tokens stay."""
    torch.manual_seed(0)
    backbone = {"channels-first": nn.Conv2d(C, C, 1), "channels-last": ChannelsLast(), "tokens": Tokens()}[layout]
    x = torch.randn(B, C, H, W)
    plain = backbone(x)
    guided = add_text_guidance(
        nn.Sequential(backbone), text_dim=CT, places={"0": Place(C, "auto", 2 if layout == "tokens" else 0)}
    )
    site = guided.guidance.get_submodule("0")
    text = texts(B, T)

    y = guided(x, text=text)

    if layout == "channels-first":
        expected = site(plain.permute(0, 2, 3, 1), text).permute(0, 3, 1, 2)
    elif layout == "channels-last":
        expected = site(plain, text)
    else:
        y, more = y
        assert more == "more"
        assert torch.equal(y[:, :2], plain[0][:, :2])
        y, expected = y[:, 2:], site(plain[0][:, 2:], text)
    torch.testing.assert_close(y, expected, rtol=1e-5, atol=1e-6)
    assert not torch.equal(y, plain if layout != "tokens" else plain[0][:, 2:])


@pytest.mark.parametrize("form", ["folded", "sdpa"])
@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
def test_with_gate_zero_nothing_changes(memory: torch.memory_format, form: AlignmentForm) -> None:
    """With gate 0 values and their order in memory are the backbone's, to the bit, and the gate still learns."""
    torch.manual_seed(0)
    backbone = Pyramid().to(memory_format=memory)  # type: ignore[call-overload]
    x = image().to(memory_format=memory)
    plain = backbone(x)
    guided = add_text_guidance(
        backbone, text_dim=CT, places={"stages.0.*": 8, "stages.1.*": 12}, gate_init=0.0, form=form
    )

    given = guided(x, text=texts())

    for one, other in zip(plain, given, strict=True):
        assert torch.equal(one, other)
        assert one.stride() == other.stride()
    sum(level.square().sum() for level in given).backward()
    for site in alignment_sites(guided).values():
        assert site.gate.theta.grad is not None
        assert site.gate.theta.grad.abs() > 0


def test_laws_of_the_text() -> None:
    """The order of tokens does not matter, padding does not either, and an image without text is left alone."""
    guided = pyramid().eval()
    x, text = image(), texts(B, T)
    y = guided(x, text=text)

    for one, other in zip(y, guided(x, text=text[:, [2, 0, 1]]), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)
    padded = torch.cat([text, torch.full((B, 2, CT), float("nan"))], dim=1)
    is_padding = torch.tensor([[False] * T + [True] * 2] * B)
    for one, other in zip(y, guided(x, text=padded, is_padding=is_padding), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)
    is_padding[1] = True
    given = guided(x, text=padded, is_padding=is_padding)
    plain = remove_text_guidance(guided)(x)
    for one, other in zip(plain, given, strict=True):
        assert torch.equal(one[1], other[1])
        assert not torch.allclose(one[0], other[0])


def test_what_the_library_does_with_sites_it_does_here_too() -> None:
    """Sites are found by name, recorded, projected, and their parameters have their roles."""
    guided = pyramid(temperature_learnable=True)
    sites = alignment_sites(guided)

    assert list(sites) == ["guidance.stages.0.0", "guidance.stages.0.1", "guidance.stages.1.1"]
    assert list(guided.places) == ["stages.0.0", "stages.0.1", "stages.1.1"]
    with recording(guided) as record:
        guided(image(), text=texts())
    assert record.keys() == sites.keys()
    assert record["guidance.stages.1.1"]["gate"] == pytest.approx(0.5)
    site = sites["guidance.stages.0.0"]
    assert parameter_role("log_scale", site.temperature) == "temperature"
    assert parameter_role("theta", site.gate) == "gate"
    site.temperature.log_scale.data.fill_(99.0)
    projection_hook(guided)(None, None, None)
    assert site.temperature.log_scale.item() == pytest.approx(2.302585)


def test_parameters_take_the_backbones_dtype_and_mode() -> None:
    """The guidance has the backbone's dtype and its mode, and follows both."""
    guided = add_text_guidance(Pyramid().double().eval(), text_dim=CT, places={"stages.1": 12})

    assert {p.dtype for p in guided.parameters()} == {torch.float64}
    assert not guided.training
    assert not guided.guidance.training
    assert guided(image().double(), text=texts())[1].dtype == torch.float64
    assert all(module.training for module in guided.train().modules())


# ---- How the text arrives ----


def test_text_by_context_and_by_keyword() -> None:
    """`using_text` serves forwards that pass none on; a keyword goes before it; after it there is none again."""
    guided = pyramid().eval()
    model = nn.Sequential(guided)
    x, one, other = image(), texts(), texts(seed=9)
    expected = [level.detach() for level in guided(x, text=one)]

    with guided.using_text(other):
        with guided.using_text(one):
            for level, given in zip(expected, model(x), strict=True):
                assert torch.equal(level, given)
            for level, given in zip(expected, guided.backbone(x), strict=True):
                assert torch.equal(level, given)
        assert not torch.equal(model(x)[1], expected[1])
        assert torch.equal(guided(x, text=one)[1], expected[1])
    with pytest.raises(TextError, match=r"guided backbone got no text.*mark every token in is_padding"):
        model(x)
    with pytest.raises(TextError, match=r"place 'stages\.0\.0' ran without a text.*using_text"):
        guided.backbone(x)


def test_two_threads_with_two_texts() -> None:
    """Each thread's forwards are guided by its own text, one in a context and one by keyword."""
    guided = pyramid().eval()
    x, one, other = image(), texts(), texts(seed=9)
    with torch.no_grad():
        expected = {"context": guided(x, text=one)[1], "keyword": guided(x, text=other)[1]}
    got: dict[str, list[Tensor]] = {"context": [], "keyword": []}
    both = threading.Barrier(2)
    # A new thread computes with torch's default number of threads, and bits depend on that number.
    torch_threads = torch.get_num_threads()

    @torch.no_grad()
    def in_context() -> None:
        torch.set_num_threads(torch_threads)
        with guided.using_text(one):
            for _ in range(5):
                both.wait()
                got["context"].append(guided(x)[1])

    @torch.no_grad()
    def by_keyword() -> None:
        torch.set_num_threads(torch_threads)
        for _ in range(5):
            both.wait()
            got["keyword"].append(guided(x, text=other)[1])

    threads = [threading.Thread(target=target) for target in (in_context, by_keyword)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    for name, outputs in got.items():
        assert len(outputs) == 5
        assert all(torch.equal(output, expected[name]) for output in outputs)


class Checkpointed(nn.Module):
    """Runs its stages again in the backward, by torch's own function."""

    def __init__(self, inner: Pyramid) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        """Return the last stage's features."""
        x = self.inner.stem(x)
        for stage in self.inner.stages:
            x = checkpoint(stage, x, use_reentrant=False)
        return x


def test_torchs_checkpoints_need_the_context() -> None:
    """What is run again in the backward finds the text of an open context, in other threads too, or says so."""
    torch.manual_seed(0)
    places = {"inner.stages.0.*": 8, "inner.stages.1.1": 12}
    guided = add_text_guidance(Checkpointed(Pyramid()), text_dim=CT, places=places)
    x, text = image(), texts()

    with pytest.raises(TextError, match=r"checkpointed by torch\.utils\.checkpoint, its backward"):
        guided(x, text=text).square().sum().backward()
    guided.zero_grad()
    with guided.using_text(text):
        # On accelerators the backward has a thread of its own.
        loss = guided(x).square().sum()
        backward = threading.Thread(target=loss.backward)
        backward.start()
        backward.join()
    got = {name: p.grad.clone() for name, p in guided.named_parameters() if p.grad is not None}
    guided.zero_grad()
    inner = guided.backbone.get_submodule("inner")
    with guided.using_text(text):
        inner(x)[-1].square().sum().backward()

    assert got.keys() == {name for name, p in guided.named_parameters() if p.grad is not None}
    for name, parameter in guided.named_parameters():
        if name in got:
            torch.testing.assert_close(got[name], parameter.grad, rtol=1e-5, atol=1e-5)


def test_compiled() -> None:
    """The whole guided forward is one graph for torch.compile, and gives the same."""
    guided = pyramid(form="sdpa").eval()
    compiled = torch.compile(guided, fullgraph=True, backend="eager")
    x = image()

    with torch.no_grad():
        for seed in (1, 2):
            text = texts(seed=seed)
            for one, other in zip(guided(x, text=text), compiled(x, text=text), strict=True):
                torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6)


# ---- State dicts, copies, removal ----


def test_the_backbone_keeps_its_names_and_values() -> None:
    """The backbone's state dict has its old names and values, and loads into the guided one as it is."""
    torch.manual_seed(3)
    original = {name: tensor.clone() for name, tensor in Pyramid().state_dict().items()}
    guided = pyramid()
    before = {name: tensor.clone() for name, tensor in guided.guidance.state_dict().items()}
    model = nn.ModuleDict({"backbone": guided, "head": nn.Linear(2, 2)})
    whole = {f"backbone.{name}": tensor for name, tensor in original.items()}
    whole |= {f"head.{name}": tensor for name, tensor in model["head"].state_dict().items()}

    assert guided.backbone.state_dict().keys() == original.keys()
    for target, state in ((guided, original), (guided.backbone, original), (model, whole)):
        for parameter in guided.backbone.parameters():
            nn.init.zeros_(parameter)
        target.load_state_dict(state)
        for name, tensor in guided.backbone.state_dict().items():
            assert torch.equal(tensor, original[name])
    for name, tensor in guided.guidance.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_its_own_state_dict_loads_and_a_wrong_one_does_not() -> None:
    """Saved guidance comes back; missing, unknown and foreign names are told as torch tells them."""
    guided, other = pyramid(), pyramid()
    for parameter in other.parameters():
        nn.init.normal_(parameter)
    state = other.state_dict()

    guided.load_state_dict(state)
    for one, two in zip(guided.parameters(), other.parameters(), strict=True):
        assert torch.equal(one, two)
    lacking = {name: tensor for name, tensor in state.items() if name != "guidance.stages.0.0.q_proj.weight"}
    with pytest.raises(RuntimeError, match=r"Missing key.*guidance\.stages\.0\.0\.q_proj\.weight"):
        guided.load_state_dict(lacking)
    with pytest.raises(RuntimeError, match=r"Unexpected key.*backbone\.head\.weight"):
        guided.load_state_dict({**guided.backbone.state_dict(), "head.weight": torch.zeros(1)})
    with pytest.raises(RuntimeError, match="Missing key"):
        guided.load_state_dict({"weight": torch.zeros(1)})


def test_a_copy_is_guided_by_itself() -> None:
    """A deep copy has hooks, guidance and text of its own."""
    guided = pyramid().eval()
    x, text = image(), texts()
    expected = guided(x, text=text)[1].detach()
    other = copy.deepcopy(guided)
    for site in alignment_sites(other).values():
        nn.init.zeros_(site.gate.theta)

    assert torch.equal(guided(x, text=text)[1], expected)
    changed = other(x, text=text)[1]
    assert not torch.equal(changed, expected)
    assert torch.equal(remove_text_guidance(other)(x)[1], changed)
    assert torch.equal(guided(x, text=text)[1], expected)


def test_removal_leaves_nothing() -> None:
    """After removal the module is the very one that was given, with its forward's bits, names and no hook."""
    torch.manual_seed(0)
    backbone = Pyramid()
    x = image()
    before, names = [level.detach() for level in backbone(x)], list(backbone.state_dict())
    guided = add_text_guidance(backbone, text_dim=CT, places={"stages.0.*": 8})
    guided(x, text=texts())

    assert remove_text_guidance(guided) is backbone
    assert list(backbone.state_dict()) == names
    for one, other in zip(before, backbone(x), strict=True):
        assert torch.equal(one, other)
    assert not any(module._forward_hooks or module._forward_hooks_with_kwargs for module in backbone.modules())
    model = nn.Sequential(add_text_guidance(backbone, text_dim=CT, places={"stages.0.*": 8}), nn.Identity())
    assert remove_text_guidance(model) is model
    assert model[0] is backbone
    with pytest.raises(ConfigError, match="Sequential without text guidance"):
        remove_text_guidance(model)


def test_it_is_offered_by_the_package() -> None:
    """`semalign.add_text_guidance` and its counterpart are these functions."""
    assert semalign.add_text_guidance is add_text_guidance
    assert semalign.remove_text_guidance is remove_text_guidance


# ---- What is refused ----


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"places": None}, r"got a Pyramid whose blocks it does not know \(known: Swin, .*expected places"),
        ({"places": {}}, "places without a path"),
        ({"places": {"stage.0": 8}}, r"'stage\.0', which no module of the Pyramid has, did you mean 'stages\.0'\?"),
        ({"places": {"stages.0": 8, "stages.*": 8}}, r"names the module 'stages\.0' twice"),
        ({"places": {"stem": 8}, "heads": 3}, "heads=3, which does not divide the width 8 of 'stem'"),
        ({"places": {"stem": 8}, "per": "blok"}, "per='blok', did you mean 'block'"),
        ({"places": {"stem": 8}, "gate_inti": 0.0}, "gate_inti"),
        ({"places": {"stem": 0}}, "dim=0"),
    ],
)
def test_wrong_calls(options: dict[str, Any], message: str) -> None:
    """A wrong option is told in one sentence and leaves the backbone without a hook."""
    backbone = Pyramid()

    with pytest.raises(ConfigError, match=message):
        add_text_guidance(backbone, **{"text_dim": CT, **options})
    assert not any(module._forward_hooks for module in backbone.modules())


def test_guiding_twice_is_refused() -> None:
    """A guided backbone, and a model that holds one, is not guided again."""
    guided = pyramid()

    for module in (guided, guided.backbone, nn.Sequential(guided)):
        with pytest.raises(ConfigError, match="guided already"):
            add_text_guidance(module, text_dim=CT, places={"stem": 8})


def test_a_forward_with_a_text_of_its_own_is_refused() -> None:
    """A module whose forward takes ``text`` itself is not guided as a whole."""

    class Reader(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(4, 4)

        def forward(self, x: Tensor, text: Tensor | None = None) -> Tensor:
            y: Tensor = self.inner(x)
            return y

    with pytest.raises(ConfigError, match="Reader whose forward has a parameter 'text' of its own"):
        add_text_guidance(Reader(), text_dim=CT, places={"inner": 4})


@pytest.mark.parametrize(
    ("place", "shape", "message"),
    [
        (Place(8), (B, 8, 5, 8), r"two axes have its 8 channels.*Place\(8, 'channels-first'\)"),
        (Place(6), (B, 8, 5, 7), r"shape 2 x 8 x 5 x 7, expected channels-first, channels-last or tokens with 6"),
        (Place(8, "tokens"), (B, 8, 5, 7), "expected tokens with 8 channels"),
    ],
)
def test_features_that_do_not_fit(place: Place, shape: tuple[int, ...], message: str) -> None:
    """Features of another width, or of an open layout, are told with their shape; a named layout settles it."""
    guided = add_text_guidance(nn.Sequential(nn.Identity()), text_dim=CT, places={"0": place}, heads=2)

    with pytest.raises(ConfigError, match=message):
        guided(torch.zeros(shape), text=texts())
    settled = add_text_guidance(
        nn.Sequential(nn.Identity()), text_dim=CT, places={"0": Place(8, "channels-last")}, heads=2
    )
    assert settled(torch.zeros(B, 8, 5, 8), text=texts()).shape == (B, 8, 5, 8)


def test_a_place_that_gives_no_tensor() -> None:
    """A place must give a tensor, or begin with one; an unknown layout is refused at once."""

    class Named(nn.Module):
        def forward(self, x: Tensor) -> dict[str, Tensor]:
            return {"x": x}

    guided = add_text_guidance(nn.Sequential(Named()), text_dim=CT, places={"0": 4})
    with pytest.raises(ConfigError, match="place '0' gives a dict, expected a tensor"):
        guided(torch.zeros(1, 4), text=texts())
    with pytest.raises(ConfigError, match="layout='chanels-first', did you mean 'channels-first'"):
        Place(4, "chanels-first")  # type: ignore[arg-type, unused-ignore]
