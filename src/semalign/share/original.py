"""Checkpoints of the original: their alignment weights found, judged, and written as safetensors.

What is found are state dicts of the original's `SemanticAlignmentModule` under any prefix.  They can be kept as they
are (for `semalign.SemanticAlignmentModule`) or converted to `EncoderAlignment` and `DecoderAlignment`, which compute
the same function; every conversion is checked on random inputs before anything is written.  Nothing is unpickled.
"""

from __future__ import annotations

import dataclasses
import inspect
import math
import pickle
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Literal

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from semalign.align.temperature import liveness
from semalign.errors import CheckpointError, ConfigError, nearest
from semalign.files import make_folder
from semalign.model.alignment import Alignment, DecoderAlignment, EncoderAlignment
from semalign.model.dropin import Mode, SemanticAlignmentModule, Version
from semalign.tensors_file import load_into, read_tensors, write_tensors
from semalign.wording import Message, say

__all__ = ["OPTIONS", "Form", "Found", "ImportedOriginal", "Knob", "convert_side", "import_original", "load_original"]

Form = Literal["original", "semalign"]

KIND: Final = "alignment of the original"

_SWITCH: Final = ((bool,), "true or false")
_OPTION_TYPES: Final[Mapping[str, tuple[tuple[type, ...], str]]] = {
    "top_m": ((int, type(None)), "a whole number, or null for all tokens"),
    "use_topk": _SWITCH,
    "add_residual": _SWITCH,
    "clamp_logit": ((int, float), "a number"),
    "num_heads": ((int,), "a whole number"),
    "decoder_use_cosine": _SWITCH,
    "decoder_learnable_temp": _SWITCH,
    "encoder_use_cosine": _SWITCH,
    "encoder_learnable_temp": _SWITCH,
}
OPTIONS: Final = tuple(_OPTION_TYPES)
"""Arguments of the original's constructor that its checkpoints do not hold; by default the original's defaults."""

_DEFAULTS = {
    name: parameter.default for name, parameter in inspect.signature(SemanticAlignmentModule).parameters.items()
}
_MARKS = ("q_proj.weight", "k_proj.weight", "v_proj.weight", "out_proj.weight")
_CONTAINERS = ("", "state_dict", "model", "model_state_dict", "net", "weights")
_WRAPPERS = ("module.", "_orig_mod.")
_STARTS = {"encoder": ("gamma", 0.5), "decoder": ("alpha", 0.1)}
_WIDE = math.log(100.0)
MOST_DIFFERENCE = 1e-6


@dataclasses.dataclass(frozen=True)
class Knob:
    """The temperature of one side.

    Attributes:
        name: the original's parameter, or buffer.
        l: its value in the log domain; 0 for a fixed ``ssa_scale``.
        learnable: as given to the constructor, or by default.
        state: "fixed", "live", "edge" (on the clamp's bound), or "dead" (outside: gradient exactly 0).
        clamp: greatest |l|, or None where it is not clamped.
        scale: what the attention logits are multiplied by, with the clamp applied.
        base: 1/sqrt(d).
    """

    name: str
    l: float  # noqa: E741 (the mathematics' name)
    learnable: bool
    state: str
    clamp: float | None
    scale: float
    base: float


@dataclasses.dataclass(frozen=True)
class Found:
    """One module of a checkpoint.

    Attributes:
        prefix: its path in the checkpoint.
        version: of the original.
        side: "encoder", "decoder", or "both" where it is not known.
        side_from: how the side is known.
        query_dim: channels C of the visual features.
        text_dim: channels Ct of the text features.
        heads: attention heads.
        parameters: numbers.
        gates: by the original's name (gamma counts with gamma_scale).
        temperatures: by side.
        differences: by side, the largest difference between the original's function and ours over the largest output.
        not_converted: by side, why none of our alignments computes the same.
    """

    prefix: str
    version: Version
    side: str
    side_from: Message
    query_dim: int
    text_dim: int
    heads: int
    parameters: int
    gates: dict[str, float]
    temperatures: dict[str, Knob]
    differences: dict[str, float]
    not_converted: dict[str, Message]


@dataclasses.dataclass(frozen=True)
class ImportedOriginal:
    """What a checkpoint holds of the original.

    Attributes:
        modules: in the checkpoint's order.
        assumed: constructor options that checkpoints do not keep, as used.
        notes: what a user must know.
        out: the file written, or None.
    """

    modules: tuple[Found, ...]
    assumed: dict[str, Any]
    notes: tuple[Message, ...]
    out: Path | None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, messages in English."""
        modules = [
            {
                **{field.name: getattr(module, field.name) for field in dataclasses.fields(module)},
                "side_from": str(module.side_from),
                "temperatures": {side: dataclasses.asdict(knob) for side, knob in module.temperatures.items()},
                "not_converted": {side: str(why) for side, why in module.not_converted.items()},
            }
            for module in self.modules
        ]
        notes = [str(note) for note in self.notes]
        return {"modules": modules, "assumed": self.assumed, "notes": notes, "out": self.out and str(self.out)}


def import_original(
    checkpoint: str | Path,
    out: str | Path | None = None,
    *,
    form: Form = "original",
    options: Mapping[str, Any] | None = None,
    container: str | None = None,
) -> ImportedOriginal:
    """Find the original's alignments in a checkpoint, describe them, and write them as safetensors.

    Args:
        checkpoint: a file of ``torch.save`` that holds tensors and plain values, or safetensors.
        out: the file to write; None only looks.
        form: "original" keeps names and values; "semalign" converts to `EncoderAlignment` and `DecoderAlignment`.
        options: arguments of the original's constructor that differ from its defaults; see `OPTIONS`.
        container: which part of the checkpoint to read, such as "ema"; None takes its weights.

    Raises:
        CheckpointError: the file cannot be read without running code, or holds no alignment of the original.
        ConfigError: an unknown option, or a value of the wrong type.
        OutputError: ``out`` cannot be written.
    """
    checkpoint, out = Path(checkpoint), None if out is None else Path(out)
    given = _checked_options(options or {})
    if form not in ("original", "semalign"):
        raise ConfigError(f"--as got {form!r}, expected original or semalign")
    if out is not None and out.suffix != ".safetensors":
        raise ConfigError(f"--out got '{out}', expected a name that ends in .safetensors")
    tensors, notes = _weights(checkpoint, container)
    groups = _groups(tensors)
    if not groups:
        shown = ", ".join(list(tensors)[:4])
        raise CheckpointError(
            f"{checkpoint} holds no alignment of the original, expected parameters such as PREFIX.q_proj.weight with "
            f"PREFIX.alpha or PREFIX.gamma; it holds {shown}"
        )
    found, facts = [], []
    written: dict[str, Tensor] = {}
    for prefix, state in groups.items():
        module, extra = _module(prefix, state, given, checkpoint)
        notes += [say("model.note.left-out", where=prefix or say("model.note.whole"), name=name) for name in extra]
        item, converted = _judge(prefix, state, module)
        found.append(item)
        if form == "original":
            facts.append({"prefix": prefix, "mode": module.mode, **_constructor(module)})
            written |= {_join(prefix, name): value for name, value in state.items() if name not in extra}
            continue
        for side, (alignment, knobs) in converted.items():
            place = prefix if len(converted) == 1 else _join(prefix, side)
            facts.append({"prefix": place, "side": side, **knobs})
            written |= {_join(place, name): value for name, value in alignment.state_dict().items()}
    if out is not None:
        if not written:
            why = next(iter(found[0].not_converted.values()), "")
            raise CheckpointError(f"nothing of {checkpoint} has an equal one here ({why}), write it with --as original")
        make_folder(out.parent)
        write_tensors(out, written, {"kind": KIND, "form": form, "modules": facts})
    assumed = {name: given.get(name, _DEFAULTS[name]) for name in OPTIONS if name != "num_heads"}
    return ImportedOriginal(tuple(found), assumed, tuple(notes), out)


def load_original(path: str | Path) -> dict[str, nn.Module]:
    """Return the modules of a file that `import_original` wrote, by their prefix.

    A dead temperature is accepted and warned of.

    Raises:
        CheckpointError: it is no such file, or damaged.
    """
    tensors, facts = read_tensors(Path(path))
    listed = facts.get("modules")
    if facts.get("kind") != KIND or not isinstance(listed, list):
        raise CheckpointError(f"{path} was not written by import-original, expected a file of it: a run loads by load")
    modules: dict[str, nn.Module] = {}
    for item in listed:
        prefix = item["prefix"]
        own = {name.removeprefix(f"{prefix}."): value for name, value in tensors.items() if _below(prefix, name)}
        try:
            if facts.get("form") == "original":
                wanted = {name: value for name, value in item.items() if name != "prefix"}
                module: nn.Module = SemanticAlignmentModule(**wanted, allow_dead=True)
            else:
                kind = EncoderAlignment if item["side"] == "encoder" else DecoderAlignment
                module = kind(item["dim"], item["text_dim"], item["heads"], preset="seed", **item["knobs"])
        except (KeyError, TypeError, ConfigError) as error:
            raise CheckpointError(f"{path} describes {prefix!r} in a way that cannot be built ({error})") from error
        dtype = next(iter(own.values())).dtype if own else torch.float32
        load_into(module.to(dtype), own, f"{path} under {prefix!r}")
        modules[prefix] = module.eval()
    return modules


def _below(prefix: str, name: str) -> bool:
    return not prefix or name.startswith(f"{prefix}.")


def _join(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix else name


# ---- The file ----


def _weights(path: Path, container: str | None) -> tuple[dict[str, Tensor], list[Message]]:
    """Return the tensors of a checkpoint by name, and notes on what else there is."""
    parts = {name: tensors for name, tensors in _parts(_read(path)) if tensors}
    if not parts:
        raise CheckpointError(f"{path} holds no tensors by name, expected a state dict, alone or under 'state_dict'")
    if container is not None:
        if container not in parts:
            raise CheckpointError(
                f"{path} has no part '{container}'{nearest(container, [n or 'the top' for n in parts])}"
            )
        return parts[container], []
    holding = [name for name, tensors in parts.items() if _groups(tensors)]
    ranked = sorted(holding or parts, key=lambda name: (_rank(name), name))
    others = [name for name in ranked[1:] if name in holding]
    return parts[ranked[0]], [say("model.note.other-part", name=name) for name in others]


def _rank(name: str) -> int:
    return _CONTAINERS.index(name) if name in _CONTAINERS else len(_CONTAINERS)


def _read(path: Path) -> Any:
    if not path.is_file():
        raise CheckpointError(f"no checkpoint at {path}, expected a file: correct the name")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} holds more than tensors and plain values, or is damaged; reading it would run code and is "
            "refused: where it was trained, write it again as torch.save(model.state_dict(), 'weights.pth')"
        ) from error
    except Exception as error:  # torch's readers raise nearly every kind on damaged bytes, MemoryError for a length
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise CheckpointError(
            f"{path} cannot be read as a checkpoint ({reason}), expected a file of torch.save or safetensors: "
            "copy it again"
        ) from error


def _parts(value: Any, name: str = "", depth: int = 0) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Yield the state dicts nested in a checkpoint, by the path of keys to them."""
    if not isinstance(value, Mapping) or depth > 4:
        return
    tensors = {}
    for key, item in value.items():
        if isinstance(key, str) and isinstance(item, Tensor):
            short = key
            while any(short.startswith(wrapper) for wrapper in _WRAPPERS):
                short = short.partition(".")[2]
            tensors[short] = item
        elif isinstance(key, str):
            yield from _parts(item, _join(name, key), depth + 1)
    yield name, tensors


def _groups(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Return the alignments' tensors by prefix and name."""
    groups: dict[str, dict[str, Tensor]] = {}
    for name in tensors:
        if not name.endswith(_MARKS[0]):
            continue
        prefix = name.removesuffix(_MARKS[0]).removesuffix(".")
        own = {
            key.removeprefix(f"{prefix}.") if prefix else key: t for key, t in tensors.items() if _below(prefix, key)
        }
        if all(mark in own for mark in _MARKS) and ("alpha" in own or "gamma" in own):
            groups[prefix] = own
    return groups


# ---- One module ----


def _checked_options(options: Mapping[str, Any]) -> dict[str, Any]:
    for name, value in options.items():
        if name not in OPTIONS:
            raise ConfigError(f"--option {name} is not an argument that checkpoints lack{nearest(name, OPTIONS)}")
        types, expected = _OPTION_TYPES[name]
        # Any word would count as true where a switch is asked for, and true as the number 1.
        if type(value) not in types:
            raise ConfigError(f"--option {name} got {value!r}, expected {expected}: correct it")
    return dict(options)


def _module(
    prefix: str, state: Mapping[str, Tensor], options: Mapping[str, Any], path: Path
) -> tuple[SemanticAlignmentModule, list[str]]:
    """Build the drop-in for a state dict, in float64, and name the tensors that are not its own."""
    where = f"{path} under '{prefix}'" if prefix else str(path)
    version: Version = "2025-11-03" if "logit_scale" in state or "ssa_scale" in state else "latest"
    sides = [side for side, (gate, _) in _STARTS.items() if gate in state]
    mode: Mode = "all" if len(sides) == 2 else "encoder" if sides == ["encoder"] else "decoder"
    query, key = state["q_proj.weight"], state["k_proj.weight"]
    if query.ndim != 2 or key.ndim != 2 or query.shape[0] != query.shape[1] or 0 in (*query.shape, *key.shape):
        raise CheckpointError(
            f"{where} has q_proj.weight of shape {tuple(query.shape)} and k_proj.weight of {tuple(key.shape)}, "
            "expected C x C and C x Ct"
        )
    dim = query.shape[0]
    wanted = {**options, "num_heads": options.get("num_heads") or _heads(state, dim, where)}
    if version == "2025-11-03":
        for name in ("encoder_use_cosine", "encoder_learnable_temp", "decoder_use_cosine"):
            if name in wanted and wanted[name] != _DEFAULTS[name]:
                raise ConfigError(
                    f"--option {name} is not a choice of the version 2025-11-03, which {where} is: leave it out"
                )
    with warnings.catch_warnings():
        # What is dead is said in the report.
        warnings.simplefilter("ignore")
        module = SemanticAlignmentModule(
            dim, key.shape[1], mode=mode, version=version, allow_dead=True, **wanted
        ).double()
        own = module.state_dict()
        extra = [name for name in state if name not in own and name not in ("total_ops", "total_params")]
        _check_tensors(state, own, where)
        module.load_state_dict({name: value.double() for name, value in state.items() if name not in extra})
    return module.eval(), extra


def _check_tensors(state: Mapping[str, Tensor], own: Mapping[str, Tensor], where: str) -> None:
    for name, value in own.items():
        if name in ("total_ops", "total_params"):
            continue
        if name not in state:
            raise CheckpointError(f"{where} lacks {name}, expected one of shape {tuple(value.shape)}: is it whole?")
        if state[name].shape != value.shape:
            raise CheckpointError(
                f"{where} has {name} of shape {tuple(state[name].shape)}, expected {tuple(value.shape)} as "
                "the others say"
            )
        if not bool(torch.isfinite(state[name]).all()):
            raise CheckpointError(f"{where} has {name} with numbers that are not finite: take an earlier checkpoint")


def _heads(state: Mapping[str, Tensor], dim: int, where: str) -> int:
    """Return the number of heads, derived from the stored 1/sqrt(d)."""
    for name in ("_inv_sqrt_dk", "ssa_scale"):
        value = state.get(name)
        if value is not None and value.numel() == 1 and float(value) > 0:
            width = float(value) ** -2
            if abs(width - round(width)) < 1e-3 * width and round(width) and dim % round(width) == 0:
                return dim // round(width)
    raise CheckpointError(f"{where} does not hold its number of heads, give it with --option num_heads=N")


def _constructor(module: SemanticAlignmentModule) -> dict[str, Any]:
    """Return the arguments that build the module again."""
    return {
        "query_dim": module.query_dim,
        "text_dim": module.text_dim,
        "num_heads": module.num_heads,
        "top_m": module.top_m,
        "use_topk": module.use_topk,
        "add_residual": module.add_residual,
        "clamp_logit": module.clamp_logit,
        "decoder_learnable_temp": module.decoder_learnable_temp,
        "encoder_learnable_temp": module.encoder_learnable_temp,
        "decoder_use_cosine": module.similarity("decoder") != "dot",
        "encoder_use_cosine": module.similarity("encoder") != "dot",
        "version": module.version,
    }


def _judge(
    prefix: str, state: Mapping[str, Tensor], module: SemanticAlignmentModule
) -> tuple[Found, dict[str, tuple[Alignment, dict[str, Any]]]]:
    """Say what a module is, and convert what has an equal one of ours."""
    side, side_from = _side(prefix, state, module)
    sides = ("encoder", "decoder") if side == "both" else (side,)
    differences, refused, converted = {}, {}, {}
    for one in sides:
        if one == "decoder" and not module.add_residual:
            refused[one] = say("model.refused.no-residual")
            continue
        alignment, knobs = convert_side(module, one)
        differences[one] = _difference(module, alignment, one)
        if differences[one] > MOST_DIFFERENCE:
            difference, most = f"{differences[one]:.1e}", f"{MOST_DIFFERENCE:g}"
            refused[one] = say("model.refused.differs", difference=difference, most=most)
            continue
        dtype = state["q_proj.weight"].dtype
        converted[one] = (alignment.to(dtype if dtype.is_floating_point else torch.float32), knobs)
    gates = {}
    if "encoder" in sides:
        gates["gamma"] = _number(module.gamma) * _number(module.gamma_scale)
    if "decoder" in sides:
        gates["alpha"] = _number(module.alpha)
    found = Found(
        prefix=prefix,
        version=module.version,
        side=side,
        side_from=side_from,
        query_dim=module.query_dim,
        text_dim=module.text_dim,
        heads=module.num_heads,
        parameters=sum(parameter.numel() for parameter in module.parameters()),
        gates=gates,
        temperatures={one: _temperature(module, one) for one in sides},
        differences=differences,
        not_converted=refused,
    )
    return found, converted


def _side(prefix: str, state: Mapping[str, Tensor], module: SemanticAlignmentModule) -> tuple[str, Message]:
    """Return which side a module is used on: both sides' parameters are in the original's every module."""
    if module.mode != "all":
        return module.mode, say("model.side.only")
    named = [side for side in _STARTS if side in prefix.lower()]
    if len(named) == 1:
        return named[0], say("model.side.named")
    moved = [side for side, (gate, start) in _STARTS.items() if abs(float(state[gate]) - start) > 1e-6]
    if len(moved) == 1:
        return moved[0], say("model.side.gate", gate=_STARTS[moved[0]][0])
    return "both", say("model.side.unknown")


def _temperature(module: SemanticAlignmentModule, side: str) -> Knob:
    base = 1 / math.sqrt(module.query_dim // module.num_heads)
    name, learnable, clamp = module.temperature_of(side)
    if name is None:
        return Knob("ssa_scale", 0.0, False, "fixed", None, _number(module.ssa_scale), base)
    value = _number(module.get_parameter(name))
    if clamp is None:
        return Knob(name, value, learnable, "fixed", None, math.exp(value) * base, base)
    # A clamp compares in the precision of the parameter.
    bound = float(torch.tensor(clamp, dtype=torch.float32))
    state = liveness([value], "clamp", (-bound, bound)) if learnable else "fixed"
    return Knob(name, value, learnable, state, clamp, math.exp(min(max(value, -clamp), clamp)) * base, base)


def _number(value: Tensor) -> float:
    return float(value.detach())


def convert_side(module: SemanticAlignmentModule, side: str) -> tuple[Alignment, dict[str, Any]]:
    """Return our alignment that computes what the original's module does on one side, and what builds it again.

    The temperature starts where the original's clamp leaves it.  A learnable one is bounded by projection to a
    hundredfold, so that one that was dead can learn from there.
    """
    knob = _temperature(module, side)
    value = math.log(knob.scale / knob.base)
    bounds = (min(-_WIDE, value), max(_WIDE, value))
    temperature: dict[str, Any] = {"base": "1/sqrt(d)", "init": value, "learnable": knob.learnable}
    temperature |= {"bound": "project", "bounds": list(bounds)} if knob.learnable else {"bound": "none"}
    gate = _number(module.gamma) * _number(module.gamma_scale) if side == "encoder" else _number(module.alpha)
    knobs: dict[str, Any] = {
        "similarity": module.similarity(side),
        "temperature": temperature,
        "gate": {"init": gate, "learnable": True, "activation": "none"},
    }
    if side == "decoder":
        knobs |= {"residual": "normalized", "top_k": module.top_m if module.use_topk else None}
    kind = EncoderAlignment if side == "encoder" else DecoderAlignment
    alignment = kind(module.query_dim, module.text_dim, module.num_heads, preset="seed", **knobs).double()
    theirs = module.state_dict()
    renamed = {"o_proj.": "out_proj.", "ffn.2.": "ffn.3."}
    state = {}
    for name, own in alignment.state_dict().items():
        source = next((new + name.removeprefix(old) for old, new in renamed.items() if name.startswith(old)), name)
        state[name] = theirs.get(source, own)
    state["temperature.log_scale"] = torch.tensor(value, dtype=torch.float64)
    state["gate.theta"] = torch.tensor(gate, dtype=torch.float64)
    alignment.load_state_dict(state)
    built = {"dim": module.query_dim, "text_dim": module.text_dim, "heads": module.num_heads, "knobs": knobs}
    return alignment.eval(), built


@torch.no_grad()
def _difference(module: SemanticAlignmentModule, alignment: Alignment, side: str) -> float:
    """Return the largest difference of outputs on random inputs, padding among them, over the largest output."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 17, module.query_dim, generator=generator, dtype=torch.float64)
    text = torch.randn(2, 11, module.text_dim, generator=generator, dtype=torch.float64)
    text[0, 7:] = text[1, 3] = 0
    theirs = module.forward_ssa(x, text) if side == "encoder" else module(x, text)
    ours = alignment(x, text, (text == 0).all(dim=-1))
    return float((ours - theirs).abs().max() / theirs.abs().max())
