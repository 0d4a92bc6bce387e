"""Backbones of other libraries, guided by text: the laws for each family, and runs that are saved and loaded."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import importlib.util
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import semalign
from semalign.errors import CheckpointError, ConfigError, DataError
from semalign.model.alignment import EncoderAlignment, alignment_sites
from semalign.model.backbones import Backbone, BackboneEncoder, make_backbone, restore_backbone
from semalign.model.build import build_segmenter
from semalign.model.families import FAMILIES, family_of
from semalign.model.places import find_places
from semalign.model.text_guidance import TextGuided, add_text_guidance, remove_text_guidance
from semalign.train.run import load_run
from tests.small import TINY, tiny_options

needs_transformers = pytest.mark.skipif(
    importlib.util.find_spec("transformers") is None, reason="transformers is not installed (extra hf)"
)
needs_timm = pytest.mark.skipif(importlib.util.find_spec("timm") is None, reason="timm is not installed (extra timm)")

B, T, CT = 2, 3, 11
HEIGHT, WIDTH = 61, 83

WINDOWS = {"embed_dim": 8, "depths": [1, 2, 1, 1], "num_heads": [1, 2, 2, 2], "window_size": 4}
PYRAMID = {"hidden_sizes": [8, 12, 16, 20], "depths": [1, 2, 1, 1]}
MIXED = {**PYRAMID, "num_attention_heads": [1, 2, 2, 2]}
PLAIN = {"hidden_size": 16, "num_hidden_layers": 6, "num_attention_heads": 2, "patch_size": 7, "image_size": 70}
SMALL: dict[str, dict[str, Any]] = {
    "swin": WINDOWS,
    "swinv2": WINDOWS | {"image_size": 64},
    "convnextv2": PYRAMID,
    "pvtv2": MIXED,
    "segformer": MIXED,
    "dinov2": PLAIN,
    "resnet": PYRAMID | {"embedding_size": 8},
}
EACH_FAMILY = pytest.mark.parametrize("name", SMALL)
LEVELS = [(16, 21), (8, 11), (4, 6), (2, 3)]
"""Sides of 61 x 83 divided by 4, 8, 16 and 32, rounded up."""


def small(name: str, seed: int = 0, **more: Any) -> Backbone:
    """Return a small backbone."""
    return make_backbone(f"hf:{name}", size="nano", options={**SMALL[name], **more}, seed=seed)


def guided_encoder(name: str, **options: Any) -> BackboneEncoder:
    """Return a small guided backbone as visual encoder, in evaluation mode."""
    torch.manual_seed(0)

    def guide(module: nn.Module) -> TextGuided:
        return add_text_guidance(module, text_dim=CT, **{"heads": 2, **options})

    return BackboneEncoder(small(name), guide).eval()


def original(model: Any) -> nn.Module:
    """Return the library's own module in a segmenter."""
    encoder = model.visual_encoder
    assert isinstance(encoder, BackboneEncoder)
    return encoder.original


def image(seed: int = 1) -> Tensor:
    """Return two images with sides that are prime."""
    return torch.randn(B, 3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(seed))


def texts(seed: int = 2) -> Tensor:
    """Return a text for each of two images."""
    return torch.randn(B, T, CT, generator=torch.Generator().manual_seed(seed))


def test_names_and_sizes() -> None:
    """Seven families have four sizes each, and are found by their types; every name has small options here."""
    assert list(SMALL) == list(FAMILIES)
    assert all(list(family.sizes) == ["nano", "tiny", "small", "base"] for family in FAMILIES.values())
    assert all(family_of(name) is family for family in FAMILIES.values() for name in family.types)


# ---- The laws, family by family ----


@needs_transformers
@pytest.mark.parametrize("path", ["swin.encoder.layers.2", "swin.encoder.layers.1.blocks.1"])
def test_a_part_of_a_backbone_is_refused(path: str) -> None:
    """A stage or a block alone does not tell its stage: the whole backbone or places are asked for."""
    part = small("swin").module.get_submodule(path)
    with pytest.raises(
        ConfigError, match=r"with the Swin block '.*' and no stages around it, expected a whole backbone"
    ):
        add_text_guidance(part, text_dim=CT)


@needs_transformers
@EACH_FAMILY
def test_levels_of_images_with_prime_sides(name: str) -> None:
    """Whatever the sides, the levels have them divided by the strides, rounded up, and the backbone's channels."""
    encoder = BackboneEncoder(small(name)).eval()

    with torch.no_grad():
        levels = encoder(image())
        tiny = encoder(torch.randn(1, 3, 37, 41))

    assert [level.shape for level in levels] == [
        (B, channels, *sides) for channels, sides in zip(encoder.channels, LEVELS, strict=True)
    ]
    assert [level.shape[2:] for level in tiny] == [(10, 11), (5, 6), (3, 3), (2, 2)]
    assert encoder.strides == (4, 8, 16, 32)
    assert all(level.isfinite().all() for level in levels)


@needs_transformers
@EACH_FAMILY
def test_levels_lie_where_the_image_is(name: str) -> None:
    """What is changed in one corner of the image changes that corner's features, and far ones less, at every level."""
    encoder = BackboneEncoder(small(name)).eval()
    first = torch.randn(1, 3, 128, 192, generator=torch.Generator().manual_seed(0))
    second = first.clone()
    second[:, :, 64:, :48] += torch.randn(3, 64, 48, generator=torch.Generator().manual_seed(1))

    with torch.no_grad():
        changes = [(a - b).abs().mean(dim=1)[0] for a, b in zip(encoder(first), encoder(second), strict=True)]

    for change in changes:
        height, width = change.shape
        changed, far = change[height // 2 :, : width // 4], change[: height // 2, width // 2 :]
        assert changed.mean() > 1.5 * far.mean()


@needs_transformers
@EACH_FAMILY
@pytest.mark.parametrize("per", ["block", "stage"])
def test_with_gate_zero_nothing_changes(name: str, per: str) -> None:
    """With gate 0 the guided backbone gives the unguided one's bits, and removal gives them again."""
    encoder = guided_encoder(name, gate_init=0.0, per=per, stages=(0, 1, 2, 3))
    x = image()

    with torch.no_grad():
        given = encoder(x, texts())
        for site in alignment_sites(encoder).values():
            nn.init.constant_(site.gate.theta, 0.5)
        opened = encoder(x, texts())
        encoder.backbone = remove_text_guidance(encoder.backbone)
        plain = encoder(x)

    assert all(torch.equal(one, other) for one, other in zip(plain, given, strict=True))
    assert not any(torch.allclose(one, other, atol=1e-4) for one, other in zip(plain, opened, strict=True))


@needs_transformers
@EACH_FAMILY
def test_places(name: str) -> None:
    """By default every block of stages 1 to 3 is guided, or the last of each; the sites say stage and block."""
    blocks = 6 if name == "dinov2" else 4
    sites = list(alignment_sites(guided_encoder(name)))
    lasts = list(alignment_sites(guided_encoder(name, per="stage")))

    # Six blocks in a row are quarters of 2, 1, 2 and 1 blocks.
    expected = ["1.0", "2.0", "2.1", "3.0"] if name == "dinov2" else ["1.0", "1.1", "2.0", "3.0"]
    assert len(sites) == blocks - (2 if name == "dinov2" else 0)
    assert sites == [f"backbone.guidance.stages.{place}" for place in expected]
    ends = ["1.0", "2.1", "3.0"] if name == "dinov2" else ["1.1", "2.0", "3.0"]
    assert lasts == [f"backbone.guidance.stages.{place}" for place in ends]
    with pytest.raises(ConfigError, match=r"got stages=\[4\].*expected some of 0, 1, 2, 3"):
        guided_encoder(name, stages=(4,))


@needs_transformers
@EACH_FAMILY
def test_gradient_reaches_every_site(name: str) -> None:
    """In training every parameter of every site gets a gradient that is not zero, and so does the text."""
    encoder = guided_encoder(name, temperature_learnable=True, stages=(0, 1, 2, 3)).train()
    text = texts().requires_grad_()

    levels = encoder(image(), text)
    weights = [torch.randn(level.shape, generator=torch.Generator().manual_seed(5)) for level in levels]
    torch.autograd.backward([(level * weight).sum() for level, weight in zip(levels, weights, strict=True)])

    dead = [n for n, p in encoder.named_parameters() if "guidance" in n and (p.grad is None or not p.grad.any())]
    assert dead == []
    assert text.grad is not None
    assert text.grad.abs().amin(dim=-1).min() > 0


@needs_transformers
@EACH_FAMILY
def test_laws_of_the_text(name: str) -> None:
    """The order of tokens does not matter; an image without text has the unguided backbone's bits."""
    encoder = guided_encoder(name)
    x, text = image(), texts()
    is_padding = torch.tensor([[False] * T, [True] * T])

    with torch.no_grad():
        levels = encoder(x, text)
        turned = encoder(x, text[:, [2, 0, 1]])
        half = encoder(x, torch.where(is_padding[..., None], torch.nan, text), is_padding)
        encoder.backbone = remove_text_guidance(encoder.backbone)
        plain = encoder(x)

    for one, other in zip(levels, turned, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
    for without, given in zip(plain, half, strict=True):
        assert torch.equal(without[1], given[1])
    assert not torch.allclose(plain[3][0], half[3][0], atol=1e-4)


@needs_transformers
@EACH_FAMILY
def test_the_alignment_sees_positions_and_channels(name: str) -> None:
    """A guided block gives what the alignment itself makes of the block's output, and knows its rows and columns."""
    encoder = guided_encoder(name, stages=(1,), per="stage")
    guided = encoder.backbone
    assert isinstance(guided, TextGuided)
    ((path, site),) = guided.places.items()
    alignment = guided.get_submodule(f"guidance.{site}")
    assert isinstance(alignment, EncoderAlignment)
    alignment.save_attention = True
    outputs: list[Tensor] = []

    def keep(_module: nn.Module, _args: object, output: Any) -> None:
        outputs.append(output if isinstance(output, Tensor) else output[0])

    # After the guidance, and on the same block in the unguided backbone.
    handle = guided.backbone.get_submodule(path).register_forward_hook(keep)
    with torch.no_grad():
        encoder(image(), texts())
        shape = alignment.last_spatial_shape
        remove_text_guidance(guided)
        encoder.backbone = guided.backbone
        encoder(image())
        handle.remove()
        aligned, plain = outputs
        if plain.ndim == 4:
            expected = alignment(plain.permute(0, 2, 3, 1), texts()).permute(0, 3, 1, 2)
        else:
            prefix = 1 if name == "dinov2" else 0
            expected = torch.cat([plain[:, :prefix], alignment(plain[:, prefix:], texts())], dim=1)

    torch.testing.assert_close(aligned, expected, rtol=1e-5, atol=1e-5)
    assert shape == ((9, 12) if name == "dinov2" else (8, 12) if name == "convnextv2" else (8, 11))


@needs_transformers
@EACH_FAMILY
def test_removal_and_state_dicts(name: str) -> None:
    """The backbone keeps its names; its own state dict loads into the guided one; removal leaves no trace."""
    module = small(name).module.eval()
    original = {key: tensor.clone() for key, tensor in module.state_dict().items()}
    hooks = sum(len(part._forward_hooks) for part in module.modules())
    guided = add_text_guidance(module, text_dim=CT, heads=2)
    for parameter in module.parameters():
        nn.init.zeros_(parameter)

    guided.load_state_dict(original)
    remove_text_guidance(guided)

    assert module.state_dict().keys() == original.keys()
    assert all(torch.equal(tensor, original[key]) for key, tensor in module.state_dict().items())
    assert sum(len(part._forward_hooks) for part in module.modules()) == hooks


@needs_transformers
@pytest.mark.parametrize("name", ["swin", "segformer", "dinov2"])
def test_activation_checkpointing(name: str) -> None:
    """Two forwards with two texts before one backward: what runs again finds the text of its own forward."""
    encoder = guided_encoder(name, stages=(0, 1, 2, 3)).train()
    guided = encoder.backbone
    assert isinstance(guided, TextGuided)

    def gradients() -> dict[str, Tensor]:
        encoder.zero_grad()
        torch.manual_seed(0)
        loss = torch.zeros(())
        for seed in (7, 8):
            loss = loss + torch.stack([level.square().mean() for level in encoder(image(seed), texts(seed))]).sum()
        torch.autograd.backward(loss)
        return {key: p.grad.clone() for key, p in encoder.named_parameters() if p.grad is not None}

    plain = gradients()
    if not guided.backbone.supports_gradient_checkpointing:
        pytest.skip("this version of transformers does not checkpoint this model")
    # Renamed in the course of version 5.
    names = ("activation_checkpointing_enable", "gradient_checkpointing_enable")
    next(getattr(guided.backbone, name) for name in names if hasattr(guided.backbone, name))()
    again = gradients()
    functions = [m.__dict__.get("_gradient_checkpointing_func") for m in guided.backbone.modules()]
    remove_text_guidance(guided)

    assert any(function is not None for function in functions), "nothing was checkpointed"
    assert again.keys() == plain.keys()
    for key, gradient in plain.items():
        torch.testing.assert_close(again[key], gradient, rtol=1e-4, atol=1e-6)
    left = [m.__dict__.get("_gradient_checkpointing_func") for m in guided.backbone.modules()]
    assert not any(type(function).__name__ == "_Carried" for function in left)


@needs_transformers
def test_whole_models_and_registers() -> None:
    """A whole model of a known family is guided as well, and register tokens stay as they are."""
    import transformers

    torch.manual_seed(0)
    segformer = transformers.SegformerForSemanticSegmentation(
        transformers.SegformerConfig(**MIXED, num_labels=5, decoder_hidden_size=8)
    ).eval()
    guided = add_text_guidance(segformer, text_dim=CT, heads=2)
    assert guided(pixel_values=image(), text=texts()).logits.shape == (B, 5, 16, 21)
    assert re.fullmatch(r"segformer\..*\b1\b.*\b0", next(iter(guided.places)))

    config = transformers.Dinov2WithRegistersConfig(**PLAIN, num_register_tokens=4)
    plain = transformers.Dinov2WithRegistersModel(config).eval()
    guided = add_text_guidance(plain, text_dim=CT, heads=2, stages=(3,))
    (site,) = alignment_sites(guided).values()
    site.save_attention = True
    x = image()[:, :, :56, :77]
    with torch.no_grad():
        last = guided(x, text=texts(), output_hidden_states=True).hidden_states[-1]
        before = remove_text_guidance(guided)(x, output_hidden_states=True).hidden_states[-1]
    assert site.last_spatial_shape == (8, 11)
    assert torch.equal(last[:, :5], before[:, :5])
    assert not torch.isclose(last[:, 5:], before[:, 5:]).all(dim=-1).any()


# ---- In the segmenter ----


@needs_transformers
@pytest.mark.parametrize("size", ["nano", "tiny"])
@EACH_FAMILY
def test_built_by_name(name: str, size: str) -> None:
    """`semalign.build` makes a segmenter around a backbone; equal seeds give equal bits, whatever was drawn before."""
    options = {"model.backbone": f"hf:{name}", "model.size": size}
    model = semalign.build(5, CT, **options).eval()
    torch.rand(3)
    again = semalign.build(5, CT, **options)
    other = semalign.build(5, CT, **options, **{"train.seed": 1})
    without = semalign.build(5, None, **options)

    with torch.no_grad():
        logits = model(torch.randn(1, 3, 37, 41), texts()[:1])
    assert logits.shape == (1, 5, 37, 41)
    state = model.state_dict()
    assert all(torch.equal(state[key], tensor) for key, tensor in again.state_dict().items())
    key = next(
        key
        for key in state
        if key.endswith(("projection.weight", "proj.weight", "convolution.weight", "patch_embeddings.weight"))
    )
    assert not torch.equal(state[key], other.state_dict()[key])
    plain = original(without).state_dict()
    guided = original(model).state_dict()
    assert plain.keys() == guided.keys()
    assert all(torch.equal(plain[key], guided[key]) for key in plain)


@needs_transformers
@pytest.mark.parametrize("name", SMALL)
def test_a_run_is_saved_and_loaded(name: str, data: Path, tmp_path: Path) -> None:
    """A guided backbone trains, and its run gives the same scores after loading, with its configuration in the file."""
    settings = [
        *TINY,
        f"model.backbone=hf:{name}",
        f"model.backbone_options={json.dumps(SMALL[name])}",
        "align.encoder.heads=2",
        "align.encoder.per=stage",
    ]

    run, result = semalign.train(data, out=tmp_path / "run", settings=settings)
    loaded = semalign.load(tmp_path / "run")

    assert result.status == "finished"
    assert isinstance(loaded.model.visual_encoder, BackboneEncoder)
    state = run.model.state_dict()
    assert state.keys() == loaded.model.state_dict().keys()
    assert all(torch.equal(state[key], tensor) for key, tensor in loaded.model.state_dict().items())
    assert loaded.model.visual_encoder.facts["config"]["model_type"] == FAMILIES[name].types[0]
    assert semalign.evaluate(tmp_path / "run", data).score.miou == pytest.approx(result.score.miou)
    curves = {key for key in result.curves if key.startswith("visual_encoder") and key.endswith("/gate")}
    assert {re.sub(r".*stages\.(\d)\..*", r"\1", key) for key in curves} == {"1", "2", "3"}


@needs_transformers
def test_attention_of_a_guided_backbone(data: Path, tmp_path: Path) -> None:
    """`predict --attention` shows the backbone's sites as stage and block."""
    settings = [
        *TINY,
        "model.backbone=hf:dinov2",
        f"model.backbone_options={json.dumps(PLAIN)}",
        "align.encoder.heads=2",
    ]
    run, _ = semalign.train(data, out=None, settings=settings)
    picture = next((data / "images" / "val").iterdir())

    (written,) = semalign.predict(run, [picture], out=tmp_path, attention=True)

    assert Path(written["attention"]).stat().st_size > 1000


@needs_transformers
def test_pretrained_weights_from_a_folder(data: Path, tmp_path: Path) -> None:
    """A saved model's weights are the backbone's, and the run needs the folder no more."""
    import transformers

    torch.manual_seed(3)
    saved = transformers.SegformerForImageClassification(transformers.SegformerConfig(**MIXED))
    saved.save_pretrained(tmp_path / "mit")
    settings = [
        *TINY,
        f"model.backbone={tmp_path / 'mit'}",
        "align.encoder.heads=2",
        "train.average=0",
        "train.lr=1e-12",
    ]

    run, _ = semalign.train(data, out=tmp_path / "run", settings=settings)
    shutil.rmtree(tmp_path / "mit")
    loaded = load_run(tmp_path / "run")

    trained = original(run.model).state_dict()
    for key, tensor in saved.get_submodule("segformer").state_dict().items():
        torch.testing.assert_close(trained[key], tensor, rtol=0, atol=1e-8)
    assert all(torch.equal(trained[key], t) for key, t in original(loaded.model).state_dict().items())


@needs_transformers
def test_a_backbone_saved_by_itself(tmp_path: Path) -> None:
    """A Swin saved without the backbone's own norms is read; these start as norms do."""
    import transformers

    torch.manual_seed(3)
    saved = transformers.SwinModel(transformers.SwinConfig(**WINDOWS))
    saved.save_pretrained(tmp_path / "swin")

    backbone = make_backbone(str(tmp_path / "swin"), size="nano")
    again = restore_backbone(json.loads(json.dumps(backbone.facts)))

    state = backbone.module.state_dict()
    for key, tensor in saved.state_dict().items():
        if not key.startswith("layernorm"):
            # Some versions of the library put the model a level deeper in its backbone.
            assert torch.equal(state[f"swin.{key}" if f"swin.{key}" in state else key], tensor)
    assert all((state[key] == 1).all() for key in state if key.startswith("hidden_states_norms") and "weight" in key)
    assert again.module.state_dict().keys() == state.keys()
    assert dataclasses.replace(again, module=backbone.module, weights=backbone.weights) == backbone
    assert (again.weights, backbone.weights) == ("scratch", str(tmp_path / "swin"))


# ---- What is refused ----


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name of a library that is not installed is told with the extra that brings it."""
    import_module = importlib.import_module

    def without(name: str, package: str | None = None) -> Any:
        if name in ("transformers", "timm"):
            raise ModuleNotFoundError(name)
        return import_module(name, package)

    monkeypatch.setattr(importlib, "import_module", without)

    with pytest.raises(
        ConfigError, match=r"model\.backbone=hf:swin needs .*transformers.*pip install 'semalign\[hf\]'"
    ):
        semalign.build(3, **{"model.backbone": "hf:swin"})
    with pytest.raises(ConfigError, match=r"timm:resnet18 needs .*timm.*pip install 'semalign\[timm\]'"):
        semalign.build(3, **{"model.backbone": "timm:resnet18"})
    with pytest.raises(ConfigError, match="pip install"):
        restore_backbone({"library": "hf", "config": {"model_type": "swin"}})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model.backbone": "hf:swni"}, "got 'hf:swni', did you mean 'swin'"),
        ({"model.backbone": "nowhere"}, "got 'nowhere', which is not a folder, expected efficientnet-lite0"),
        ({"model.backbone_options": {"a": 1}}, "backbone_options without a backbone"),
    ],
)
def test_wrong_names(options: dict[str, Any], message: str) -> None:
    """A wrong name says what there is, whether or not a library is installed."""
    with pytest.raises(ConfigError, match=message):
        semalign.build(3, CT, **options)


@needs_transformers
@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("swin", {"embed_dimm": 8}, "unknown option 'embed_dimm' in model.backbone_options, did you mean 'embed_dim'"),
        ("swin", {"depths": [1, 1]}, "got 2 stages, expected 4"),
        ("dinov2", {"num_hidden_layers": 3}, "got 3 layers, expected at least 4"),
        ("swin", {"num_heads": [3, 3, 3, 3]}, "swin cannot be (run|built) with its options"),
        ("resnet", {"layer_type": "unknown"}, "cannot be built with its options|does not take"),
    ],
)
def test_wrong_options(name: str, options: dict[str, Any], message: str) -> None:
    """An option that the library does not know or take is told in one sentence."""
    with pytest.raises(ConfigError, match=message):
        small(name, **options)


@needs_transformers
def test_depth_is_refused() -> None:
    """A backbone of RGB images takes no depth, neither by option nor by call."""
    with pytest.raises(ConfigError, match=r"data\.depth=true with model\.backbone"):
        build_segmenter(3, depth=True, backbone=small("resnet"))
    with pytest.raises(DataError, match="the backbone got depth"):
        BackboneEncoder(small("resnet"))(image(), depth=torch.zeros(B, 1, HEIGHT, WIDTH))


@needs_transformers
def test_folders_that_hold_no_backbone(tmp_path: Path) -> None:
    """A folder without a configuration, of another model, with a pickle, or with other weights is refused."""
    import transformers

    def make(folder: str) -> Backbone:
        return make_backbone(str(tmp_path / folder), size="nano")

    for folder in ("empty", "bert", "pickle", "other"):
        (tmp_path / folder).mkdir()
    (tmp_path / "bert" / "config.json").write_text('{"model_type": "bert"}')
    config = transformers.SwinConfig(**WINDOWS)
    config.save_pretrained(tmp_path / "pickle")
    torch.save({}, tmp_path / "pickle" / "pytorch_model.bin")
    transformers.ResNetModel(transformers.ResNetConfig(**SMALL["resnet"])).save_pretrained(tmp_path / "other")
    config.save_pretrained(tmp_path / "other")

    with pytest.raises(CheckpointError, match=r"no config\.json that names a model_type"):
        make("empty")
    with pytest.raises(ConfigError, match="model of the type 'bert', known: convnext, "):
        make("bert")
    with pytest.raises(CheckpointError, match=r"no weights as safetensors.*convert them first"):
        make("pickle")
    with pytest.raises(CheckpointError, match=r"lack .* more, expected all of the backbone's"):
        make("other")
    with pytest.raises(ConfigError, match="leave them out"):
        make_backbone(str(tmp_path / "other"), size="nano", options={"embed_dim": 4})


@needs_transformers
def test_a_run_that_lost_its_backbones_facts(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Facts that describe no backbone are told as a damaged checkpoint."""
    with pytest.raises(CheckpointError, match="does not describe its backbone"):
        restore_backbone({"library": "hf"})
    with pytest.raises(CheckpointError, match="does not describe its backbone"):
        restore_backbone({"library": "hf", "config": {}})


def test_options_of_old_runs_stay_what_they_were() -> None:
    """Options that are not set are not written: a run from before they existed can be gone on with."""
    assert not {"backbone", "backbone_options", "per"} & set(
        re.findall(r"\w+", json.dumps(tiny_options().model_dump(mode="json", exclude_none=True)))
    )


# ---- timm ----


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Take the warnings that timm gives when it is imported."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@needs_timm
@pytest.mark.parametrize(
    ("name", "options", "channels", "sites"),
    [
        ("resnet18", {}, (64, 128, 256, 512), 6),
        ("convnext_atto", {}, (40, 80, 160, 320), 10),
        ("swin_tiny_patch4_window7_224", {"img_size": [64, 96]}, (96, 192, 384, 768), 10),
        ("pvt_v2_b0", {}, (32, 64, 160, 256), 6),
        ("vit_tiny_patch16_224", {"dynamic_img_size": True}, (192,) * 4, 9),
        ("vit_small_patch14_reg4_dinov2", {"img_size": [70, 84]}, (384,) * 4, 9),
    ],
)
def test_timm(name: str, options: dict[str, Any], channels: tuple[int, ...], sites: int) -> None:
    """A timm model is guided: gate 0 changes nothing, text changes the levels, removal and the facts restore it."""
    with quiet():
        backbone = make_backbone(f"timm:{name}", size="nano", options=options)
        again = restore_backbone(json.loads(json.dumps(backbone.facts)))
    names = list(backbone.module.state_dict())
    encoder = BackboneEncoder(
        backbone, lambda module: add_text_guidance(module, text_dim=CT, heads=4, gate_init=0.0)
    ).eval()
    guided = encoder.backbone
    assert isinstance(guided, TextGuided)
    x = image()

    with torch.no_grad():
        closed = encoder(x, texts())
        for site in alignment_sites(guided).values():
            nn.init.constant_(site.gate.theta, 0.5)
            site.save_attention = True
        opened = encoder(x, texts())
        encoder.backbone = remove_text_guidance(guided)
        plain = encoder(x)

    assert encoder.channels == channels
    assert len(alignment_sites(guided)) == sites
    assert all(torch.equal(one, other) for one, other in zip(plain, closed, strict=True))
    assert torch.equal(plain[0], opened[0])
    assert not any(torch.allclose(a, b, atol=1e-5) for a, b in zip(plain[1:], opened[1:], strict=True))
    assert all(site.last_spatial_shape is not None for site in alignment_sites(guided).values())
    assert [level.shape[2:] for level in plain] == LEVELS
    assert list(encoder.backbone.state_dict()) == names == list(again.module.state_dict())


@needs_timm
@pytest.mark.filterwarnings("ignore")  # timm's own, when it is imported
@pytest.mark.parametrize(
    ("name", "options", "stage", "places", "prefix"),
    [
        ("vit_tiny_patch16_224", {"out_indices": [11]}, 2, ["model.blocks.6", "model.blocks.7", "model.blocks.8"], 1),
        ("vit_small_patch14_reg4_dinov2", {"out_indices": [5], "img_size": 70}, 3, ["model.blocks.5"], 5),
        ("resnet18", {"out_indices": [4]}, 3, ["layer4.0", "layer4.1"], 0),
    ],
)
def test_timm_with_one_output(name: str, options: dict[str, Any], stage: int, places: list[str], prefix: int) -> None:
    """One output is of a plain row of blocks, with its class and register tokens, or of one stage of several."""
    timm: Any = importlib.import_module("timm")
    backbone = timm.create_model(name, features_only=True, pretrained=False, **options)

    found = find_places(backbone, [stage], "block")

    assert list(found) == places
    assert {place.prefix_tokens for _, place in found.values()} == {prefix}


@needs_timm
def test_timm_run(data: Path, tmp_path: Path) -> None:
    """A run with a timm backbone is saved and loaded; an unknown name is told."""
    settings = [*TINY, "model.backbone=timm:resnet18"]
    with quiet():
        run, result = semalign.train(data, out=tmp_path / "run", settings=settings)
        loaded = semalign.load(tmp_path / "run")
        with pytest.raises(ConfigError, match="timm:resnet81 cannot be built"):
            make_backbone("timm:resnet81", size="nano")

    state = run.model.state_dict()
    assert all(torch.equal(state[key], tensor) for key, tensor in loaded.model.state_dict().items())
    assert result.status == "finished"
