"""A trained run as others use it: the model with its classes, text and input rules, saved and loaded whole.

It does not depend on optimizers and schedules.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from semalign.config import Options, to_dict, validate
from semalign.data.batches import DepthScale
from semalign.errors import CheckpointError, ConfigError
from semalign.layout import WEIGHTS
from semalign.model.backbones import BackboneEncoder, make_backbone, restore_backbone
from semalign.model.build import build_segmenter
from semalign.model.segmenter import Segmenter
from semalign.model.temperature import taking_what_was_learned
from semalign.presets import starts_dead
from semalign.tensors_file import load_into, read_tensors, write_tensors
from semalign.text.bank import TextBank

__all__ = ["TrainedRun", "build_model", "load_run", "save_run", "take_values"]

KNOB_TENSORS = ("log_scale", "theta")
"""Last names of the tensors of temperatures and gates; a fixed one is a buffer."""


@dataclasses.dataclass
class TrainedRun:
    """A model and everything needed to use it.

    Attributes:
        model: the segmenter, in evaluation mode.
        options: the resolved options it was trained with.
        class_names: C names.
        bank: the encoded text it was trained with; None without text.
        class_bank: encoded class sentences of the `text` classifier; None with the linear one.
        depth_scale: how depth is standardised; None without depth.
        facts: plain facts saved with it (data fingerprints, selection).
    """

    model: Segmenter
    options: Options
    class_names: tuple[str, ...]
    bank: TextBank | None
    class_bank: TextBank | None
    depth_scale: DepthScale | None
    facts: dict[str, Any]

    @property
    def size(self) -> tuple[int, int]:
        """Input height and width the model was trained at."""
        assert self.options.data.size is not None
        return self.options.data.size

    @property
    def trained_names(self) -> tuple[str, ...]:
        """The classes that it was trained on; the others were left out by ``data.unseen``."""
        return tuple(name for name in self.class_names if name not in self.options.data.unseen)

    @property
    def class_features(self) -> Float[Tensor, "classes ct"] | None:
        """Encoded class sentences for the `text` classifier."""
        return None if self.class_bank is None else self.class_bank.features


# Modules draw initial values of their own before they get those of the seed.
@torch.random.fork_rng(devices=[])
def build_model(
    options: Options,
    n_classes: int,
    text_dim: int | None,
    class_dim: int | None,
    *,
    seed: int,
    backbone_facts: Mapping[str, Any] | None = None,
) -> Segmenter:
    """Build the segmenter that ``options`` describe; the process's random state is left as it is.

    Args:
        options: the resolved options.
        n_classes: classes of the `linear` classifier.
        text_dim: width of the text features; None builds it without text.
        class_dim: width of the class sentences' features for the `text` classifier.
        seed: of the initial values.
        backbone_facts: of a saved run's backbone, which is built from them; None makes the backbone of the options.

    Raises:
        ConfigError: heads that do not divide a width, a dead temperature, a backbone that cannot be had and the like.
    """
    align = options.align
    backbone = None
    if backbone_facts is not None:
        backbone = restore_backbone(backbone_facts)
    elif options.model.backbone is not None:
        backbone = make_backbone(
            options.model.backbone,
            size=options.model.size,
            options=options.model.backbone_options,
            weights=options.model.backbone_weights,
            seed=seed,
        )

    def knobs(side: Any) -> dict[str, Any]:
        given: dict[str, Any] = side.model_dump(
            exclude_none=True, include={"similarity", "temperature", "gate", "top_k"}
        )
        return given

    return build_segmenter(
        n_classes,
        size=options.model.size,
        text_dim=text_dim,
        classifier=options.model.classifier,
        depth=options.data.depth,
        preset=options.model.preset,
        form=align.form,
        # As published these presets have a temperature that cannot learn; naming them is consent, and it is warned of.
        allow_dead=align.allow_dead or starts_dead(options.model.preset),
        backbone=backbone,
        encoder_stages=align.encoder.stages,
        encoder_per=align.encoder.per or "block",
        encoder_heads=align.encoder.heads,
        encoder_knobs=knobs(align.encoder),
        decoder_levels=(2, 3) if align.decoder.levels is None else align.decoder.levels,
        decoder_feed_forward=align.decoder.feed_forward,
        decoder_heads=align.decoder.heads,
        decoder_knobs=knobs(align.decoder),
        class_dim=class_dim,
        seed=seed,
    )


def save_run(path: Path, run: TrainedRun, state: Mapping[str, Tensor]) -> None:
    """Write the run with ``state`` as the model's tensors to one safetensors file."""
    tensors = {f"model.{name}": tensor for name, tensor in state.items()}
    facts: dict[str, Any] = {
        "options": to_dict(run.options),
        "class_names": list(run.class_names),
        "depth_scale": None if run.depth_scale is None else dataclasses.asdict(run.depth_scale),
        "facts": run.facts,
    }
    encoder = getattr(run.model, "visual_encoder", None)
    if isinstance(encoder, BackboneEncoder):
        facts["backbone"] = encoder.facts
    for key, bank in (("bank", run.bank), ("class_bank", run.class_bank)):
        facts[key] = None if bank is None else {"sentences": list(bank.sentences), "encoder": bank.encoder}
        if bank is not None:
            tensors[key] = bank.features
            if bank.owners is not None:
                facts[key]["owners"] = list(bank.owners)
    write_tensors(path, tensors, facts)


def load_run(path: Path) -> TrainedRun:
    """Load a run's folder (its weights.safetensors) or a weights file.

    Raises:
        CheckpointError: it is missing, damaged, of another format version, or does not hold a run.
    """
    file = path / WEIGHTS if path.is_dir() else path
    tensors, facts = read_tensors(file)
    try:
        options = validate(Options, facts["options"], str(file))
        if options.data.size is None or options.data.text is None:
            raise ValueError("data.size or data.text is open")
        class_names = tuple(str(name) for name in facts["class_names"])
        banks: list[TextBank | None] = []
        for key in ("bank", "class_bank"):
            about = facts[key]
            features = tensors.pop(key, None)
            owners = None if about is None else about.get("owners")
            banks.append(
                None
                if about is None or features is None
                else TextBank(features, tuple(about["sentences"]), about["encoder"], owners and tuple(owners))
            )
        scale = None if facts["depth_scale"] is None else DepthScale(**facts["depth_scale"])
        bank, class_bank = banks
        extra = dict(facts["facts"])
        backbone_facts = None if facts.get("backbone") is None else dict(facts["backbone"])
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise CheckpointError(
            f"the checkpoint {file} does not describe a run ({type(error).__name__}: {error}), train it again"
        ) from error
    model = build_model(
        options,
        len(class_names),
        None if bank is None else bank.dim,
        None if class_bank is None else class_bank.dim,
        seed=options.train.seed,
        backbone_facts=backbone_facts,
    )
    with taking_what_was_learned(model):
        load_into(
            model, {name.removeprefix("model."): tensor for name, tensor in tensors.items()}, f"the checkpoint {file}"
        )
    return TrainedRun(model.eval(), options, class_names, bank, class_bank, scale, extra)


def take_values(model: Segmenter, source: Path) -> dict[str, Any]:
    """Put a trained run's temperatures and gates where they are fixed in ``model``, and return them by name.

    What separates the value of a knob from its learning: the same number, there from the first step and never moved.

    Args:
        model: a segmenter of the same places, changed in place.
        source: a run's folder or its weights file.

    Raises:
        CheckpointError: it is missing, damaged, or has no such knob of that shape.
        ConfigError: no temperature or gate of ``model`` is fixed.
    """
    file = source / WEIGHTS if source.is_dir() else source
    tensors, _ = read_tensors(file)
    fixed = {name: buffer for name, buffer in model.named_buffers() if name.rpartition(".")[2] in KNOB_TENSORS}
    if not fixed:
        raise ConfigError(
            f"align.values_from names {source} and no temperature or gate of the model is fixed, expected one: set "
            "align.encoder.temperature.learnable=false or the like"
        )
    taken: dict[str, Any] = {}
    for name, buffer in fixed.items():
        value = tensors.get(f"model.{name}")
        if value is None or value.shape != buffer.shape:
            got = "none" if value is None else f"one of shape {tuple(value.shape)}"
            raise CheckpointError(
                f"the checkpoint {file} has {got} in the place of {name}, expected a value of shape "
                f"{tuple(buffer.shape)}: take values from a run of the same model"
            )
        buffer.copy_(value)
        taken[name] = value.tolist()
    return taken


def parameter_count(module: nn.Module) -> int:
    """Return the number of learnable numbers of ``module``."""
    return sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)
