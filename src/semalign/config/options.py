"""All options of a run, with their defaults, types and ranges.

These models hold values; they do not depend on tensors, files or what an option does.  The parts themselves
take plain keywords.  None means the value of the preset or of the kind of data.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from semalign.presets import (
    SCENES,
    Activation,
    AlignmentForm,
    Base,
    Bound,
    LongText,
    PresetName,
    Similarity,
    TextLevel,
)

__all__ = [
    "AlignOptions",
    "DataOptions",
    "DecoderAlignOptions",
    "EncoderAlignOptions",
    "Frozen",
    "GateOptions",
    "LossOptions",
    "ModelOptions",
    "Options",
    "SideOptions",
    "TemperatureOptions",
    "TextKind",
    "TextOptions",
    "TrainOptions",
]


def _number(value: Any) -> Any:
    # YAML 1.1 wants 1.0e-3 and reads 1e-3, as everybody writes it, as text.
    if isinstance(value, str) and re.fullmatch(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+", value):
        return float(value)
    return value


def _listed(value: Any) -> Any:
    # One tracker, or none, is written without brackets.
    if isinstance(value, str):
        return () if value == "none" else (value,)
    return tuple(dict.fromkeys(value)) if isinstance(value, list) and all(isinstance(v, str) for v in value) else value


Finite = Annotated[float, Field(allow_inf_nan=False), BeforeValidator(_number)]
Positive = Annotated[Finite, Field(gt=0)]
NonNegative = Annotated[Finite, Field(ge=0)]
Unit = Annotated[Finite, Field(ge=0, le=1)]
BelowOne = Annotated[Finite, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=1)]
Side = Annotated[int, Field(ge=32, le=4096)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]
TextKind = Literal["none", "classes", "images", "masks", "random"]


class Frozen(BaseModel):
    """Options that do not change once read; unknown names and values of another type are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True)


class TemperatureOptions(Frozen):
    """The temperature knob of one side; the scale of its attention is base * exp(l)."""

    learnable: bool | None = None
    """Whether l learns."""
    init: Finite | None = None
    """Start (or frozen value) of l, in the log domain."""
    base: Base | None = None
    """What exp(l) is multiplied by; d is the width of a head."""
    bound: Bound | None = None
    """How l is kept inside its bounds: put back after each step, clamped in the forward, or not at all."""
    bounds: tuple[Finite, Finite] | None = None
    """Lowest and highest l."""
    per_head: bool | None = None
    """One l for each head instead of one for all."""


class GateOptions(Frozen):
    """The gate knob of one side; the residual branch is multiplied by act(theta)."""

    learnable: bool | None = None
    """Whether the gate learns."""
    init: Finite | None = None
    """The gate's own starting (or frozen) value, inside the open range of its activation."""
    activation: Activation | None = None
    """act."""
    per_channel: bool | None = None
    """One gate for each channel instead of one for all."""


class SideOptions(Frozen):
    """What both alignments share."""

    heads: Count = 4
    """Attention heads; they must divide the width of every place."""
    similarity: Similarity | None = None
    """How queries and keys are compared: dot product, cosine per head, cosine over the full width."""
    temperature: TemperatureOptions = TemperatureOptions()
    gate: GateOptions = GateOptions()


class EncoderAlignOptions(SideOptions):
    """The light cross attention in the visual encoder (the source document's SSA-lite)."""

    stages: tuple[Annotated[int, Field(ge=0, le=3)], ...] = (1, 2, 3)
    """Stages (0 to 3) whose blocks are aligned with the text."""
    per: Literal["block", "stage"] | None = None
    """'block' (default) aligns every block of those stages, 'stage' only the last block of each."""


class DecoderAlignOptions(SideOptions):
    """The deep cross attention in the decoder (the source document's SAM)."""

    levels: tuple[Annotated[int, Field(ge=0, le=3)], ...] | None = None
    """Levels (0 = finest, stride 4) that are aligned with the text; by default [2, 3] for a folder and [0, 1, 2, 3] for
    scenes."""
    feed_forward: Literal["aligned", "all"] = "aligned"
    """Which levels have the feed-forward part: those of `levels`, kept there without text too, or all four."""
    top_k: Count | None = None
    """Attend to the k best tokens only."""


class AlignOptions(Frozen):
    """Vision-text alignment."""

    form: AlignmentForm = "auto"
    """How it is computed; the results are the same, 'auto' takes the faster of folded and sdpa by measured costs."""
    allow_dead: bool = False
    """Accept a learnable temperature that cannot learn (implied by the presets that are dead as published)."""
    values_from: str | None = None
    """A weights file (or a run's folder) whose learned temperatures and gates are put where they are fixed here."""
    encoder: EncoderAlignOptions = EncoderAlignOptions()
    decoder: DecoderAlignOptions = DecoderAlignOptions()


class DataOptions(Frozen):
    """Which data a run sees, and how it is varied."""

    size: tuple[Side, Side] | None = None
    """Input height and width; by default [144, 192] for a folder and [48, 64] for scenes."""
    text: TextKind | None = None
    """Text: none; one sentence per class for all images; the images' own texts; class names read off each mask (this
    leaks the answer); random vectors in place of the class sentences.  By default the images' own texts for scenes,
    the classes for a folder."""
    depth: bool = False
    """Use the depth images as a fourth channel."""
    train_split: str = "train"
    """Split that is trained on."""
    val_split: str = "val"
    """Split that is scored."""
    unseen: tuple[str, ...] = ()
    """Classes that are left out of training (their pixels are ignored) and scored nevertheless, by name; needs
    model.classifier=text.  Scores then also give seen, unseen and their harmonic mean."""
    flip: bool = True
    """Mirror half of the training images."""
    zoom: tuple[Positive, Positive] = (0.75, 1.75)
    """Range of the random zoom of training images, log-uniform; 1 shows the whole image."""
    color: NonNegative = 0.3
    """Strength of random brightness, contrast and saturation."""
    necessity: Unit = SCENES.necessity
    """Scenes: share of objects whose class only the text can tell."""
    n_train: Count = SCENES.n_train
    """Scenes: training images."""
    n_val: Count = SCENES.n_val
    """Scenes: validation images."""
    scenes_seed: Seed = SCENES.seed
    """Scenes: seed of the images themselves, apart from the run's seed."""

    @model_validator(mode="after")
    def _ordered(self) -> DataOptions:
        if self.zoom[0] > self.zoom[1]:
            raise ValueError(f"the lowest zoom {self.zoom[0]} is above the highest {self.zoom[1]}, give [low, high]")
        return self


class TextOptions(Frozen):
    """How sentences become vectors."""

    encoder: str = "table"
    """'table' (seeded vectors, no weights), 'minilm' (extra), clip:MODEL, siglip:MODEL or sentence:MODEL (a folder, or
    OWNER/NAME on the hub), open_clip:ARCHITECTURE:WEIGHTS, or the path of a precomputed bank or of a model's folder."""
    level: TextLevel = "sentence"
    """What guides: one vector per sentence, or one per token of each sentence.  The text classifier compares with
    sentences in either case."""
    templates: Literal["plain", "photo", "scene", "segmentation", "imagenet", "vild", "chinese"] | tuple[str, ...] = (
        "photo"
    )
    """Set of sentence templates that class names are put into, or templates of your own that hold {} once; vectors are
    averaged over them.  A precomputed bank is asked for the bare names."""
    names: dict[str, str] = {}
    """By class name, what it is called in the text instead, such as {sky: sky-other} for a bank with other names; names
    separated by | are averaged, as in {car: car|automobile}."""
    long: LongText = "split"
    """A text that is longer than its encoder reads: split into parts whose vectors are averaged, cut, or refused; noted
    in the result in each case."""
    random_seed: Seed = 0
    """Seed of the vectors that stand in for the text where data.text is 'random'."""


class ModelOptions(Frozen):
    """The segmenter."""

    size: Literal["nano", "tiny", "small", "base"] = "nano"
    """Widths and depths, from about a million parameters (nano) upwards."""
    backbone: str | None = None
    """Visual encoder: efficientnet-lite0|1|2 with ImageNet weights (extra `pretrained`); hf:NAME or timm:NAME from
    scratch (hf: swin, swinv2, convnextv2, pvtv2, segformer, dinov2, resnet); or a folder with config.json and
    model.safetensors.  By default our own, from scratch."""
    backbone_weights: str | None = None
    """Weights of efficientnet-lite0|1|2: a .safetensors or .pth file, or 'scratch'; by default those that the extra
    `pretrained` brings."""
    backbone_options: dict[str, Any] | None = None
    """Fields of the backbone's own configuration that differ, such as {embed_dim: 48}."""
    preset: PresetName = "recommended"
    """Which set of alignment choices the `align` options start from."""
    classifier: Literal["linear", "text"] = "linear"
    """'text' compares pixel features with class sentences, so that a trained model can be asked for other names."""

    @model_validator(mode="after")
    def _has_backbone(self) -> ModelOptions:
        for name in ("backbone_options", "backbone_weights"):
            if getattr(self, name) is not None and self.backbone is None:
                raise ValueError(f"{name} without a backbone, set model.backbone too")
        return self


class LossOptions(Frozen):
    """Cross entropy."""

    class_weights: Unit = 0.4
    """Exponent p of the class weights frequency^-p, scaled so that the mean weight of a pixel is 1."""
    label_smoothing: BelowOne = 0.0
    """Share of each target that is spread evenly over all classes."""
    stride: Annotated[int, Field(ge=1, le=4)] = 2
    """Compare with every n-th mask pixel of every n-th row; 2 costs no measured accuracy and is faster than 1."""


class TrainOptions(Frozen):
    """Schedule, optimizer, randomness."""

    epochs: Count | None = None
    """Passes over the training split; by default 45 for a folder and 24 for scenes."""
    batch_size: Count = 8
    """Images of a step, on all devices together."""
    seed: Seed = 0
    """Seed of initial values, order and augmentation; in a study it is the run's block."""
    lr: Positive = 2e-3
    """Peak learning rate of weights, norms and biases."""
    scalar_lr: Positive = 2e-3
    """Peak learning rate of temperatures and gates."""
    weight_decay: NonNegative = 0.05
    """Decay of weight matrices; norms and biases have none."""
    scalar_decay: NonNegative = 0.0
    """Decay of temperatures and gates."""
    warmup: Unit = 0.1
    """Share of the steps in which the rate rises to its peak; it falls to 0 along a cosine afterwards."""
    clip_norm: Positive | None = None
    """Largest norm of the gradient of all parameters together."""
    average: BelowOne = 0.995
    """Decay per step of the running average of weights, which is what is scored; 0 scores the last weights."""
    nudge: NonNegative = 0.0
    """Relative size of a random change of the initial weights: two runs of one recipe that differ by chance alone."""
    val_every: Annotated[int, Field(ge=0)] = 10
    """Epochs between looks at the validation split, for the curve alone; 0: only at the end."""
    select_split: str | None = None
    """Also keep the weights that score best on this split in best.safetensors; said wherever that split is scored."""
    precision: Literal["auto", "float32", "bf16", "fp16"] = "float32"
    """Format of the forward's products; scores are float32.  'auto': bf16 where hardware has it and scores agree; fp16
    needs CUDA."""
    compile: bool = False
    """Compile the model's forward and backward: a minute at the start, then faster steps; needs a compiler."""
    devices: Count = 1
    """Devices (on CPUs: processes) of each machine that share the images of a step."""
    nodes: Count = 1
    """Machines that share the images of a step."""
    accumulate: Count = 1
    """Parts that each device computes one after the other; batch norms see one part at a time."""
    checkpointing: bool = False
    """Compute activations again in the backward instead of keeping them: the same numbers, less memory, more time."""
    tracker: Annotated[tuple[Literal["csv", "tensorboard", "wandb", "mlflow"], ...], BeforeValidator(_listed)] = ()
    """Where curves, options and scores are written too: csv, tensorboard, wandb, mlflow, several of them, or none."""
    loss: LossOptions = LossOptions()


class Options(Frozen):
    """All options of a run."""

    data: DataOptions = DataOptions()
    text: TextOptions = TextOptions()
    model: ModelOptions = ModelOptions()
    align: AlignOptions = AlignOptions()
    train: TrainOptions = TrainOptions()
