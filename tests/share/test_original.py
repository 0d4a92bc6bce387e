"""Checkpoints of the original: found under any prefix, judged, kept and converted."""

from __future__ import annotations

import json
import math
import pickle
import warnings
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from semalign.align.temperature import DeadKnobWarning
from semalign.errors import CheckpointError, ConfigError
from semalign.model.alignment import DecoderAlignment, EncoderAlignment
from semalign.model.dropin import SemanticAlignmentModule
from semalign.share import original
from semalign.share.original import OPTIONS, import_original, load_original
from semalign.wording import say

GOLDEN = Path(__file__).parents[3] / "shared" / "golden"
CASES = json.loads((GOLDEN / "index.json").read_text()) if (GOLDEN / "index.json").exists() else []
needs_golden = pytest.mark.skipif(not CASES, reason="the recorded numbers of the original (shared/golden) are not here")

DIM, TEXT_DIM, HEADS = 28, 11, 4


def module(seed: int = 0, **options: Any) -> SemanticAlignmentModule:
    """Return a module of the original with its default options, gates and biases moved."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeadKnobWarning)
        made = SemanticAlignmentModule(DIM, TEXT_DIM, **({"num_heads": HEADS, "allow_dead": True} | options))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if name.endswith(("weight", "bias")):
                parameter.copy_(torch.randn(parameter.shape, generator=generator) / 4)
    return made


def named(prefix: str, made: SemanticAlignmentModule) -> dict[str, Tensor]:
    """Return its state dict under a prefix."""
    return {f"{prefix}{name}": value for name, value in made.state_dict().items()}


def inputs() -> tuple[Tensor, Tensor]:
    """Return features and text with padding in the middle and an image without text."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(3, 2, 5, DIM, generator=generator)
    text = torch.randn(3, 7, TEXT_DIM, generator=generator)
    text[0, 2] = text[1] = 0
    return x, text


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """Return a checkpoint as a training script writes it: nested, wrapped, with an optimizer and other weights."""
    encoder, decoder = module(1, version="2025-11-03"), module(2, version="2025-11-03")
    with torch.no_grad():
        encoder.gamma.fill_(0.7)
        decoder.get_parameter("alpha").fill_(-0.2)
    state = {"module.backbone.conv.weight": torch.zeros(3, 3)}
    state |= named("module.encoder.stages.1.blocks.0.sam.", encoder)
    state |= named("module.decoder.levels.0.", decoder)
    path = tmp_path / "checkpoint.pth"
    optimizer = {"state": {0: {"exp_avg": torch.zeros(2)}}, "param_groups": [{"lr": 0.1}]}
    torch.save({"epoch": 3, "state_dict": OrderedDict(state), "optimizer": optimizer, "args": ["--lr", 0.1]}, path)
    return path


def test_what_a_checkpoint_holds(checkpoint: Path) -> None:
    """Side, gate, temperature and whether it is dead, under prefixes without the wrapper's."""
    found = import_original(checkpoint)
    encoder, decoder = found.modules

    assert (encoder.prefix, decoder.prefix) == ("encoder.stages.1.blocks.0.sam", "decoder.levels.0")
    assert (encoder.side, decoder.side) == ("encoder", "decoder")
    assert {item.version for item in found.modules} == {"2025-11-03"}
    assert (encoder.query_dim, encoder.text_dim, encoder.heads) == (DIM, TEXT_DIM, HEADS)
    assert encoder.gates == {"gamma": pytest.approx(0.7)}
    assert decoder.gates == {"alpha": pytest.approx(-0.2)}
    fixed, dead = encoder.temperatures["encoder"], decoder.temperatures["decoder"]
    assert (fixed.name, fixed.state) == ("ssa_scale", "fixed")
    assert fixed.scale == pytest.approx(1 / math.sqrt(7))
    assert (dead.name, dead.state, dead.clamp) == ("logit_scale", "dead", 2.0)
    assert dead.l == pytest.approx(math.log(1 / 0.07))
    assert dead.scale == pytest.approx(math.exp(2) / math.sqrt(7))
    assert found.assumed["top_m"] == 5
    assert found.out is None
    assert list(checkpoint.parent.iterdir()) == [checkpoint]


def test_kept_as_they_are(checkpoint: Path, tmp_path: Path) -> None:
    """The file holds the original's names and values, and loads into the drop-in, with a warning of what is dead."""
    out = tmp_path / "deep" / "kept.safetensors"
    import_original(checkpoint, out)
    stored = load_file(out)
    state = torch.load(checkpoint, weights_only=True)["state_dict"]

    assert set(stored) == {name.removeprefix("module.") for name in state if "backbone" not in name}
    assert all(
        torch.equal(stored[name.removeprefix("module.")], state[name]) for name in state if "backbone" not in name
    )

    with pytest.warns(DeadKnobWarning, match="gradient is exactly 0"):
        modules = load_original(out)
    x, text = inputs()
    kept = modules["decoder.levels.0"]
    expected = module(2, version="2025-11-03").eval()
    with torch.no_grad():
        expected.get_parameter("alpha").fill_(-0.2)

    assert isinstance(kept, SemanticAlignmentModule)
    torch.testing.assert_close(kept(x, text), expected(x, text))


def test_converted(checkpoint: Path, tmp_path: Path) -> None:
    """Our alignments compute the same, and the dead temperature starts where its clamp left it, alive."""
    out = tmp_path / "ours.safetensors"
    found = import_original(checkpoint, out, form="semalign")
    modules = load_original(out)
    x, text = inputs()
    is_padding = (text == 0).all(dim=-1)
    encoder, decoder = module(1, version="2025-11-03").eval(), module(2, version="2025-11-03").eval()
    with torch.no_grad():
        encoder.gamma.fill_(0.7)
        decoder.get_parameter("alpha").fill_(-0.2)
    light, deep = modules["encoder.stages.1.blocks.0.sam"], modules["decoder.levels.0"]

    assert isinstance(light, EncoderAlignment)
    assert isinstance(deep, DecoderAlignment)
    torch.testing.assert_close(light(x, text, is_padding), encoder.forward_ssa(x, text), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(deep(x, text, is_padding), decoder(x, text), rtol=1e-5, atol=1e-5)
    assert all(difference <= 1e-6 for item in found.modules for difference in item.differences.values())
    assert float(deep.temperature.log_scale.detach()) == pytest.approx(2.0)
    deep(x, text, is_padding).sin().sum().backward()
    assert deep.temperature.log_scale.grad is not None
    assert float(deep.temperature.log_scale.grad) != 0


@needs_golden
@pytest.mark.parametrize("case", CASES, ids=[case["file"].partition(".")[0] for case in CASES])
def test_golden(case: dict[str, Any], tmp_path: Path) -> None:
    """The original's own state dicts: its recorded outputs come from the converted alignment, to 1e-6."""
    recorded = load_file(GOLDEN / case["file"])
    weights = {name.removeprefix("weight."): t for name, t in recorded.items() if name.startswith("weight.")}
    torch.save(weights, tmp_path / "weights.pth")
    options = {name: value for name, value in case["options"].items() if name in OPTIONS}

    found = import_original(tmp_path / "weights.pth", tmp_path / "x.safetensors", form="semalign", options=options)
    (item,) = found.modules
    modules = load_original(tmp_path / "x.safetensors")
    ours = modules[""] if "" in modules else modules[case["side"]]
    text = recorded["input.text"]
    with torch.no_grad():
        y = ours(recorded["input.visual"], text, (text == 0).all(dim=-1))

    assert (item.version, item.heads) == (case["version"], case["heads"])
    expected = recorded["output"]
    assert float((y - expected).abs().max() / expected.abs().max()) <= 1e-6


@pytest.mark.parametrize("version", ["latest", "2025-11-03"])
@pytest.mark.parametrize("use_topk", [False, True])
def test_sides_that_cannot_be_told(tmp_path: Path, version: str, use_topk: bool) -> None:
    """Without a name or a moved gate both sides are taken; a moved gate tells."""
    made = module(version=version, use_topk=use_topk)
    torch.save(named("blocks.0.", made), tmp_path / "a.pth")

    found = import_original(
        tmp_path / "a.pth", tmp_path / "a.safetensors", form="semalign", options={"use_topk": use_topk}
    )

    assert found.modules[0].side == "both"
    assert max(found.modules[0].differences.values()) <= 1e-6
    assert set(load_original(tmp_path / "a.safetensors")) == {"blocks.0.encoder", "blocks.0.decoder"}

    with torch.no_grad():
        made.get_parameter("alpha").fill_(0.3)
    torch.save(named("blocks.0.", made), tmp_path / "b.pth")

    assert import_original(tmp_path / "b.pth").modules[0].side == "decoder"


def test_one_side_alone(tmp_path: Path) -> None:
    """A module that holds one side is that side; where nothing tells the heads, they are asked for."""
    made = module(version="2025-11-03", mode="decoder")
    torch.save(made.state_dict(), tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=r"does not hold its number of heads, give it with --option num_heads=N"):
        import_original(tmp_path / "a.pth")

    (item,) = import_original(tmp_path / "a.pth", options={"num_heads": HEADS}).modules

    assert (item.side, item.heads, item.prefix) == ("decoder", HEADS, "")


def test_what_has_no_equal(tmp_path: Path) -> None:
    """add_residual=False is kept as it is and not converted."""
    torch.save(named("decoder.", module()), tmp_path / "a.pth")
    options = {"add_residual": False}
    (item,) = import_original(tmp_path / "a.pth", tmp_path / "a.safetensors", options=options).modules

    assert item.differences == {}
    assert item.not_converted["decoder"] == say("model.refused.no-residual")
    with pytest.warns(DeadKnobWarning):
        kept = load_original(tmp_path / "a.safetensors")["decoder"]
    assert isinstance(kept, SemanticAlignmentModule)
    assert not kept.add_residual
    with pytest.raises(CheckpointError, match=r"nothing of .* has an equal one here .*write it with --as original"):
        import_original(tmp_path / "a.pth", tmp_path / "b.safetensors", form="semalign", options=options)
    assert not (tmp_path / "b.safetensors").exists()


def test_a_conversion_that_differs_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not the original's function to 1e-6 is not written as if it were."""
    torch.save(named("decoder.", module()), tmp_path / "a.pth")
    monkeypatch.setattr(original, "MOST_DIFFERENCE", -1.0)

    assert import_original(tmp_path / "a.pth").modules[0].not_converted["decoder"].key == "model.refused.differs"
    with pytest.raises(CheckpointError, match=r"nothing of .* has an equal one here \(its outputs differ by"):
        import_original(tmp_path / "a.pth", tmp_path / "b.safetensors", form="semalign")


def test_gate_factor_and_a_temperature_on_its_bound(tmp_path: Path) -> None:
    """The gate counts with gamma_scale; l = 2.0 is one step from dead."""
    made = module(gamma_scale=3.0)
    with torch.no_grad():
        made.get_parameter("decoder_logit_scale").fill_(2.0)
    torch.save(named("encoder.", made) | named("decoder.", made), tmp_path / "a.pth")

    encoder, decoder = import_original(tmp_path / "a.pth").modules

    assert encoder.gates == {"gamma": pytest.approx(1.5)}
    assert encoder.differences["encoder"] <= 1e-6
    assert decoder.temperatures["decoder"].state == "edge"


def test_several_parts(tmp_path: Path) -> None:
    """The weights are taken before an average of them, which is named and can be asked for."""
    first, second = module(1), module(2)
    torch.save({"ema": named("decoder.", second), "model": named("decoder.", first)}, tmp_path / "a.pth")
    found = import_original(tmp_path / "a.pth", tmp_path / "a.safetensors")

    assert found.notes == (say("model.note.other-part", name="ema"),)
    assert torch.equal(load_file(tmp_path / "a.safetensors")["decoder.q_proj.weight"], first.q_proj.weight)

    import_original(tmp_path / "a.pth", tmp_path / "b.safetensors", container="ema")

    assert torch.equal(load_file(tmp_path / "b.safetensors")["decoder.q_proj.weight"], second.q_proj.weight)
    with pytest.raises(CheckpointError, match=r"has no part 'emma', did you mean 'ema'"):
        import_original(tmp_path / "a.pth", container="emma")


class Evil:
    """What a checkpoint must not be able to call."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return (Path.touch, (Path("touched"),))  # type: ignore[return-value]


def test_nothing_is_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint with objects is refused without running them, whatever its ending."""
    monkeypatch.chdir(tmp_path)
    state = named("decoder.", module())
    torch.save({"state_dict": state, "config": Evil()}, tmp_path / "a.pth")
    (tmp_path / "b.pth").write_bytes(pickle.dumps({"state_dict": Evil()}))
    for name in ("a.pth", "b.pth"):
        with pytest.raises(CheckpointError, match=r"is refused: where it was trained, write it again as torch.save\("):
            import_original(tmp_path / name)
    assert not (tmp_path / "touched").exists()


def test_safetensors_are_read_too(tmp_path: Path) -> None:
    """A checkpoint may be safetensors already."""
    save_file(named("decoder.", module()), tmp_path / "a.safetensors")

    assert import_original(tmp_path / "a.safetensors").modules[0].side == "decoder"


def damaged(**changes: Tensor | None) -> dict[str, Tensor]:
    """Return a state dict with tensors replaced, or left out where None."""
    state = named("decoder.", module())
    for name, value in changes.items():
        key = f"decoder.{name.replace('__', '.')}"
        if value is None:
            del state[key]
        else:
            state[key] = value
    return state


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"a": 1}, r"holds no tensors by name, expected a state dict, alone or under 'state_dict'"),
        ({"a": torch.zeros(1)}, r"holds no alignment of the original, expected parameters such as .*; it holds a"),
        (damaged(norm1__weight=None), r"lacks norm1.weight, expected one of shape \(28,\): is it whole\?"),
        (damaged(v_proj__weight=torch.zeros(28, 12)), r"v_proj.weight of shape \(28, 12\), expected \(28, 11\) as the"),
        (
            damaged(q_proj__weight=torch.zeros(28, 27)),
            r"q_proj.weight of shape \(28, 27\) .* expected C x C and C x Ct",
        ),
        (damaged(alpha=torch.tensor(math.nan)), r"has alpha with numbers that are not finite: take an earlier"),
        (damaged(_inv_sqrt_dk=torch.tensor(0.3)), r"does not hold its number of heads"),
    ],
)
def test_bad_checkpoints(tmp_path: Path, content: Any, message: str) -> None:
    """What is missing or wrong is named."""
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=message):
        import_original(tmp_path / "a.pth", tmp_path / "out.safetensors")
    assert not (tmp_path / "out.safetensors").exists()


def test_files_that_are_none(tmp_path: Path) -> None:
    """Missing, empty and cut short."""
    with pytest.raises(CheckpointError, match=r"no checkpoint at .*a.pth"):
        import_original(tmp_path / "a.pth")
    torch.save(named("decoder.", module()), tmp_path / "a.pth")
    whole = (tmp_path / "a.pth").read_bytes()
    for content in (b"", whole[:100], whole[: len(whole) // 2]):
        (tmp_path / "a.pth").write_bytes(content)
        with pytest.raises(CheckpointError, match=r"a\.pth"):
            import_original(tmp_path / "a.pth")
    (tmp_path / "b.safetensors").write_bytes(b"x" * 100)
    with pytest.raises(CheckpointError, match=r"cannot be read as a checkpoint"):
        import_original(tmp_path / "b.safetensors")


def test_options(tmp_path: Path) -> None:
    """Unknown ones, ones of the wrong type and ones that the version does not have."""
    torch.save(named("decoder.", module(version="2025-11-03")), tmp_path / "a.pth")
    with pytest.raises(ConfigError, match=r"--option top_n is not an argument .*did you mean 'top_m'"):
        import_original(tmp_path / "a.pth", options={"top_n": 3})
    with pytest.raises(ConfigError, match=r"decoder_use_cosine is not a choice of the version 2025-11-03"):
        import_original(tmp_path / "a.pth", options={"decoder_use_cosine": False})
    for options, message in (
        ({"top_m": "many"}, r"--option top_m got 'many', expected a whole number, or null for all tokens"),
        ({"use_topk": "fales"}, r"--option use_topk got 'fales', expected true or false"),
        ({"add_residual": 1}, r"--option add_residual got 1, expected true or false"),
        ({"num_heads": True}, r"--option num_heads got True, expected a whole number"),
        ({"clamp_logit": "4.6."}, r"--option clamp_logit got '4\.6\.', expected a number"),
    ):
        with pytest.raises(ConfigError, match=message):
            import_original(tmp_path / "a.pth", options=options)
    with pytest.raises(ConfigError, match=r"--out got .*expected a name that ends in .safetensors"):
        import_original(tmp_path / "a.pth", tmp_path / "a.bin")
    with pytest.raises(ConfigError, match=r"--as got 'ours', expected original or semalign"):
        import_original(tmp_path / "a.pth", form="ours")  # type: ignore[arg-type]


def test_files_of_others_are_not_loaded(trained: Path, checkpoint: Path, tmp_path: Path) -> None:
    """A run's weights and plain safetensors are not what import-original wrote."""
    with pytest.raises(CheckpointError, match=r"was not written by import-original"):
        load_original(trained / "weights.safetensors")
    save_file(named("decoder.", module()), tmp_path / "a.safetensors")
    with pytest.raises(CheckpointError, match=r"has no format version"):
        load_original(tmp_path / "a.safetensors")
    assert checkpoint.exists()
