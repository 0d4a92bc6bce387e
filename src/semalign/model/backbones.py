"""Backbones of other libraries as visual encoders: made by name or read from a folder, guided, brought to four levels.

transformers and timm are extras, imported when one of their models is asked for.  Nothing is downloaded: a name gives a
small model built from scratch, pretrained weights come from a folder on this machine, as safetensors.  It knows nothing
of decoders and training.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from semalign.errors import CheckpointError, ConfigError, DataError, kind_and_line, nearest
from semalign.model.efficientnet_lite import CLASSIFIER, EfficientNetLite
from semalign.model.families import FAMILIES, STAGES, Family, Geometry, Output, family_of
from semalign.model.pretrained import PACKAGED, read_weights
from semalign.model.text_guidance import TextGuided
from semalign.presets import IMAGE_MEAN, IMAGE_STD
from semalign.seeds import derive_seed
from semalign.tensors_file import load_into

__all__ = ["Backbone", "BackboneEncoder", "make_backbone", "restore_backbone"]

LEVEL_STRIDES = (4, 8, 16, 32)
"""Strides of the four levels that a backbone with a single stride is resampled to (Li et al. 2022, ViTDet)."""

_MAY_BE_MISSING = ("hidden_states_norms.", "mask_token", "layernorm.", "pooler.")
"""Parts that a backbone has and a checkpoint of the same model with another head need not."""


@dataclasses.dataclass(frozen=True)
class Backbone:
    """A backbone as it comes from its library, and everything that the rest of the program asks about it.

    Attributes:
        module: the model itself.
        geometry: channels and strides of its levels, and what the sides of its input are divisible by.
        output: what its forward returns: an object with "feature_maps" or with "hidden_states", or a list.
        facts: how to build it again without its folder; plain values.
        mean: what images in [0, 1] are standardised with, by color.
        std: likewise.
        weights: where its values come from: "scratch", or a folder.
        licence: of the weights, as an SPDX identifier; None where it is not known.
    """

    module: nn.Module
    geometry: Geometry
    output: Output
    facts: dict[str, Any]
    mean: tuple[float, float, float] = (IMAGE_MEAN,) * 3
    std: tuple[float, float, float] = (IMAGE_STD,) * 3
    weights: str = "scratch"
    licence: str | None = None


def make_backbone(
    name: str,
    *,
    size: str,
    options: Mapping[str, Any] | None = None,
    weights: str | None = None,
    seed: int = 0,
) -> Backbone:
    """Make a backbone.

    Args:
        name: "efficientnet-lite0" to "efficientnet-lite2", pretrained (`semalign.model.pretrained`); "hf:NAME" for a
            model of transformers (`FAMILIES`) or "timm:NAME" for one of timm, both from scratch; else a folder with
            config.json and model.safetensors as transformers saves them, whose weights are used.
        size: which of the four sizes of "hf:NAME".
        options: fields of the library's own configuration that differ.
        weights: of an efficientnet: a file, or "scratch"; by default the file of the backbone's package.
        seed: the run's seed, for values that are not read from a file.

    Raises:
        ConfigError: the name or an option is unknown, the library is not installed, or the model has not four stages.
        CheckpointError: the folder holds no such model, or its weights do not fit.
    """
    library, colon, model = name.partition(":")
    if weights is not None and name not in PACKAGED:
        raise ConfigError(
            f"model.backbone_weights={weights} with model.backbone={name}, expected it beside one of "
            f"{', '.join(PACKAGED)}: the folder of another backbone holds its weights"
        )
    # What the libraries draw comes from one stream, independent of earlier draws.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "init", "backbone"))
        if name in PACKAGED:
            if options:
                raise ConfigError(
                    f"model.backbone={name} has no options of its own, and model.backbone_options sets "
                    f"{', '.join(options)}, expected none: leave them out"
                )
            return _lite_backbone(name, weights)
        if colon and library == "timm":
            return _timm_backbone(model, options or {})
        if colon and library == "hf":
            if model not in FAMILIES:
                raise ConfigError(f"model.backbone got '{name}'{nearest(model, FAMILIES)}, written hf:NAME")
            family = FAMILIES[model]
            given = {**family.sizes[size], **(options or {})}
            return _hf_backbone(_hf_config(family.types[0], given, f"model.backbone={name}"))
        folder = Path(name)
        if not folder.is_dir():
            raise ConfigError(
                f"model.backbone got '{name}', which is not a folder, expected {', '.join(PACKAGED)}, "
                f"hf:NAME (NAME one of {', '.join(FAMILIES)}), timm:NAME, or a folder with config.json and "
                "model.safetensors"
            )
        return _read_hf(folder, options or {})


def restore_backbone(facts: Mapping[str, Any]) -> Backbone:
    """Build a backbone again from its ``facts``, with values to be replaced by a checkpoint's.

    Raises:
        ConfigError: its library is not installed.
        CheckpointError: the facts describe no backbone.
    """
    try:
        if facts["library"] == "semalign":
            return dataclasses.replace(_lite_backbone(str(facts["name"]), "scratch"), facts=dict(facts))
        if facts["library"] == "timm":
            return _timm_backbone(str(facts["name"]), dict(facts["options"]))
        config = dict(facts["config"])
        return _hf_backbone(_hf_config(str(config.pop("model_type")), config, "the checkpoint's backbone"))
    except (KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"the checkpoint does not describe its backbone ({type(error).__name__}: {error}), train it again"
        ) from error


def _lite_backbone(name: str, weights: str | None) -> Backbone:
    packaged = PACKAGED[name]
    module = EfficientNetLite(name.removeprefix("efficientnet-"))
    facts: dict[str, Any] = {"library": "semalign", "name": name, "weights": {"source": "scratch"}}
    if weights != "scratch":
        found = read_weights(name, None if weights is None else Path(weights))
        # The classifier of ImageNet's classes has no use here.
        tensors = {key: value for key, value in found.tensors.items() if not key.startswith(CLASSIFIER)}
        load_into(module, tensors, f"the weights of {name} ({found.facts['source']})")
        facts["weights"] = dict(found.facts)
    geometry = Geometry(module.channels, LEVEL_STRIDES)
    return Backbone(module, geometry, "list", facts, packaged.mean, packaged.std)


def _transformers(name: str) -> Any:
    try:
        return importlib.import_module("transformers")
    except ImportError as error:
        raise ConfigError(
            f"{name} needs the package transformers, which cannot be imported ({error}), expected it: pip install "
            "'semalign[hf]'"
        ) from error


def _hf_config(kind: str, given: Mapping[str, Any], where: str) -> Any:
    """Return transformers' configuration of a kind with the given fields."""
    library = _transformers(where)
    known = library.AutoConfig.for_model(kind)
    for field in given:
        if not hasattr(known, field):
            fields = [name for name in known.to_dict() if not name.startswith("_")]
            raise ConfigError(
                f"{where} got the unknown option '{field}' in model.backbone_options{nearest(field, fields)}"
            )
    try:
        # As if read from config.json: some models add lists to their sizes, which tuples do not allow.
        return type(known).from_dict(json.loads(json.dumps(given)))
    except Exception as error:  # each version of the library raises its own
        raise ConfigError(f"{where} got options that it does not take: {kind_and_line(error)}") from error


def _hf_backbone(config: Any, weights: Path | None = None) -> Backbone:
    """Build the backbone of a configuration, with the weights of a folder or from scratch."""
    library = _transformers(f"the backbone {config.model_type}")
    family, geometry = _geometry(config)
    is_backbone = family.output == "feature_maps"
    if is_backbone:
        names = [name for name in config.stage_names if name != "stem"]
        config.out_features = [names[end] for end in _ends(len(names))]
    maker = library.AutoBackbone if is_backbone else library.AutoModel
    try:
        module = maker.from_config(config)
        if weights is not None:
            # By the model's own class: AutoBackbone would ask the hub about any path.
            module = _read_weights(type(module), config, weights)
    except CheckpointError:
        raise
    except Exception as error:  # each model checks its own sizes, or leaves it to torch
        raise ConfigError(
            f"the backbone {config.model_type} cannot be built with its options: {kind_and_line(error)}"
        ) from error
    facts = {
        "library": "hf",
        "version": library.__version__,
        "config": json.loads(config.to_json_string(use_diff=False)),
    }
    source = "scratch" if weights is None else str(weights)
    backbone = Backbone(module, geometry, family.output, facts, weights=source)
    _try_out(backbone)
    return backbone


def _try_out(backbone: Backbone) -> None:
    """Run a small image through, for sizes that contradict each other do so in the forward at the earliest."""
    was_training = backbone.module.training
    side = math.ceil(64 / backbone.geometry.multiple) * backbone.geometry.multiple
    try:
        with torch.no_grad():
            levels = BackboneEncoder(backbone).eval()(torch.zeros(1, 3, side, side))
    except Exception as error:  # the kind depends on the model's layers
        raise ConfigError(
            f"the backbone {backbone.facts['config']['model_type']} cannot be run with its options, do its widths and "
            f"heads fit? {kind_and_line(error)}"
        ) from error
    finally:
        backbone.module.train(was_training)
    got = [level.shape[1] for level in levels]
    if got != list(backbone.geometry.channels):
        raise ConfigError(
            f"the backbone {backbone.facts['config']['model_type']} gives levels of {got} channels, expected "
            f"{list(backbone.geometry.channels)}"
        )


def _ends(depth: int) -> list[int]:
    """Return the last block of each quarter of ``depth`` blocks: the four stages of a plain transformer.

    >>> _ends(12)
    [2, 5, 8, 11]
    """
    return [math.ceil((stage + 1) * depth / STAGES) - 1 for stage in range(STAGES)]


def _geometry(config: Any) -> tuple[Family, Geometry]:
    """Return the family of a configuration and where its levels lie."""
    kind = config.model_type
    family = family_of(kind)
    assert family is not None, "other types are refused before"
    if family.is_plain and config.num_hidden_layers < STAGES:
        raise ConfigError(
            f"the backbone {kind} got {config.num_hidden_layers} layers, expected at least {STAGES}, one for each "
            "level of the decoder"
        )
    if not family.is_plain and len(config.depths) != STAGES:
        raise ConfigError(
            f"the backbone {kind} got {len(config.depths)} stages, expected {STAGES}: the decoder's levels"
        )
    return family, family.geometry(config)


def _read_hf(folder: Path, options: Mapping[str, Any]) -> Backbone:
    where = f"model.backbone={folder}"
    library = _transformers(where)
    if options:
        raise ConfigError(
            f"{where} is a folder with a configuration of its own, and model.backbone_options sets "
            f"{', '.join(options)}, expected none: leave them out"
        )
    try:
        about = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        kind = str(about["model_type"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{where} has no config.json that names a model_type ({kind_and_line(error)}), expected a folder that "
            "transformers' save_pretrained wrote"
        ) from error
    if family_of(kind) is None:
        known = sorted(name for family in FAMILIES.values() for name in family.types)
        raise ConfigError(f"{where} holds a model of the type '{kind}', known: {', '.join(known)}")
    if not list(folder.glob("*.safetensors")):
        raise CheckpointError(
            f"{where} has no weights as safetensors, expected model.safetensors: other formats can run code when they "
            "are read, convert them first"
        )
    config = library.AutoConfig.from_pretrained(str(folder), local_files_only=True)
    return _hf_backbone(config, folder)


def _read_weights(kind: Any, config: Any, folder: Path) -> nn.Module:
    try:
        module, loading = kind.from_pretrained(
            str(folder),
            config=config,
            local_files_only=True,
            use_safetensors=True,
            output_loading_info=True,
            dtype=torch.float32,
        )
    except Exception as error:  # the library raises many kinds: of files, of shapes
        raise CheckpointError(
            f"the weights in {folder} cannot be read ({kind_and_line(error)}), expected whole safetensors that fit its "
            "config.json"
        ) from error
    missing = sorted(name for name in loading["missing_keys"] if not any(part in name for part in _MAY_BE_MISSING))
    if missing:
        raise CheckpointError(
            f"the weights in {folder} lack {missing[0]}"
            f"{f' and {len(missing) - 1} more' if len(missing) > 1 else ''}, expected all of the backbone's: is it "
            "another model's folder?"
        )
    loaded: nn.Module = module
    return loaded


def _timm_backbone(name: str, options: Mapping[str, Any]) -> Backbone:
    try:
        timm = importlib.import_module("timm")
    except ImportError as error:
        raise ConfigError(
            f"model.backbone=timm:{name} needs the package timm, which cannot be imported ({error}), expected it: pip "
            "install 'semalign[timm]'"
        ) from error

    def make(**more: Any) -> Any:
        try:
            return timm.create_model(name, features_only=True, pretrained=False, **{**options, **more})
        except Exception as error:  # an unknown name, an option the model does not take
            raise ConfigError(f"model.backbone=timm:{name} cannot be built: {kind_and_line(error)}") from error

    module = make()
    reductions = list(module.feature_info.reduction())
    if len(set(reductions)) == 1:
        depth = len(timm.create_model(name, pretrained=False, **options).blocks)
        module = make(out_indices=_ends(depth))
    else:
        indices = [
            index
            for index, reduction in zip(module.feature_info.out_indices, reductions, strict=True)
            if reduction >= LEVEL_STRIDES[0]
        ]
        if len(indices) != STAGES:
            raise ConfigError(
                f"model.backbone=timm:{name} has features at strides {reductions}, expected four from stride 4 on, or "
                "one stride for all"
            )
        module = make(out_indices=indices)
    strides = tuple(int(reduction) for reduction in module.feature_info.reduction())
    facts = {"library": "timm", "version": timm.__version__, "name": name, "options": dict(options)}
    channels = tuple(int(width) for width in module.feature_info.channels())
    is_last = module.output_fmt.value == "NHWC" if hasattr(module, "output_fmt") else False
    geometry = Geometry(channels, strides, max(strides))
    return Backbone(module, geometry, "channels-last list" if is_last else "list", facts)


class BackboneEncoder(nn.Module):
    """A backbone as the segmenter's visual encoder: four levels, finest first, for images of any size.

    The image is padded with zeros (the mean color) at the right and at the bottom where the backbone asks for sides
    of some multiple, and the levels are cut to the image again.  A backbone of one stride is resampled to
    `LEVEL_STRIDES`.

    Images come standardised by `IMAGE_MEAN` and `IMAGE_STD`, as every model of ours takes them; they are brought to the
    constants that the backbone was trained with.

    Args:
        backbone: see `make_backbone`.
        guide: from the backbone's module to the guided one; None leaves it without text.

    Attributes:
        backbone: the backbone's module, or the `TextGuided` around it.
        channels: of the levels.
        strides: of the levels.
        facts: how to build the backbone again.
    """

    _factor: Tensor
    _shift: Tensor

    def __init__(self, backbone: Backbone, guide: Callable[[nn.Module], TextGuided] | None = None) -> None:
        super().__init__()
        self.backbone = backbone.module if guide is None else guide(backbone.module)
        self.channels = backbone.geometry.channels
        self.own_strides = backbone.geometry.strides
        is_plain = len(set(backbone.geometry.strides)) == 1
        self.strides = LEVEL_STRIDES if is_plain else backbone.geometry.strides
        self.multiple = backbone.geometry.multiple
        self.output = backbone.output
        self.facts = backbone.facts
        mean, std = torch.tensor(backbone.mean)[:, None, None], torch.tensor(backbone.std)[:, None, None]
        self.is_standardised = backbone.mean == (IMAGE_MEAN,) * 3 and backbone.std == (IMAGE_STD,) * 3
        self.register_buffer("_factor", IMAGE_STD / std, persistent=False)
        self.register_buffer("_shift", (IMAGE_MEAN - mean) / std, persistent=False)

    @property
    def original(self) -> nn.Module:
        """The backbone's own module, guided or not."""
        return self.backbone.backbone if isinstance(self.backbone, TextGuided) else self.backbone

    def forward(
        self,
        image: Float[Tensor, "b 3 h w"],
        text: Float[Tensor, ...] | None = None,
        is_padding: Bool[Tensor, ...] | None = None,
        depth: Float[Tensor, "b 1 h w"] | None = None,
    ) -> list[Float[Tensor, "b _ _ _"]]:
        """Return features of `channels` at `strides`, of ceil(side / stride) rows and columns, finest first.

        Raises:
            DataError: depth is given.
            TextError: it is guided and there is no text, or its shape does not fit.
        """
        if depth is not None:
            raise DataError("the backbone got depth, expected none: it was built for RGB images alone")
        if not self.is_standardised:
            image = image * self._factor + self._shift
        height, width = image.shape[2:]
        padding = (0, -width % self.multiple, 0, -height % self.multiple)
        if any(padding):
            image = F.pad(image, padding)
        given = {"text": text, "is_padding": is_padding} if isinstance(self.backbone, TextGuided) else {}
        if self.output == "list":
            features = self.backbone(image, **given)
        elif self.output == "channels-last list":
            features = [feature.permute(0, 3, 1, 2) for feature in self.backbone(image, **given)]
        elif self.output == "hidden_states":
            features = self.backbone(image, output_hidden_states=True, **given).hidden_states
        else:
            features = self.backbone(image, **given).feature_maps
        levels = []
        for feature, own, stride in zip(features, self.own_strides, self.strides, strict=True):
            if own != stride:
                size = [math.ceil(side * own / stride) for side in feature.shape[2:]]
                feature = F.interpolate(feature, size=size, mode="bilinear", align_corners=False)
            levels.append(feature[:, :, : -(-height // stride), : -(-width // stride)])
        return levels
