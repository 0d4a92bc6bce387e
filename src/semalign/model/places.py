"""Which modules of a backbone take text: the blocks of known families, and modules that a user names."""

from __future__ import annotations

import dataclasses
import fnmatch
import math
from collections.abc import Mapping, Sequence
from typing import Literal, get_args

from torch import nn

from semalign.errors import ConfigError, nearest
from semalign.model.families import FAMILIES, STAGES, Layout, family_of_block

__all__ = ["Per", "Place", "find_places", "match_places"]

Per = Literal["block", "stage"]


@dataclasses.dataclass(frozen=True)
class Place:
    """What a module gives that is aligned with the text.

    Attributes:
        dim: channels C.
        layout: "channels-first" B x C x H x W, "channels-last" B x H x W x C, "tokens" B x N x C (three axes are always
            this); "auto" infers it from the axes and refuses an ambiguous output.
        prefix_tokens: class and register tokens before the N positions; they are not aligned.
    """

    dim: int
    layout: Layout = "auto"
    prefix_tokens: int = 0

    def __post_init__(self) -> None:
        if self.layout not in get_args(Layout):
            raise ConfigError(f"a place got layout={self.layout!r}{nearest(str(self.layout), get_args(Layout))}")
        if self.dim < 1 or self.prefix_tokens < 0:
            raise ConfigError(
                f"a place got dim={self.dim} and prefix_tokens={self.prefix_tokens}, expected at least 1 and at least 0"
            )


_PREFIX_TOKENS = ("cls_token", "register_tokens", "reg_token", "dist_token")


def find_places(backbone: nn.Module, stages: Sequence[int], per: Per) -> dict[str, tuple[str, Place]]:
    """Return the places of a backbone of a known family.

    Args:
        backbone: a Hugging Face backbone or model of one of `FAMILIES`, or a timm model made with ``features_only``.
        stages: which stages; 0 is the finest.  A plain transformer's blocks are counted as four stages.
        per: "block" for every block of those stages, "stage" for the last block of each.

    Returns:
        By dotted path of the module: the site's name "stages.STAGE.BLOCK", and the place.

    Raises:
        ConfigError: the family is unknown, or it has no such stage.
    """
    by_stage = _own_stages(backbone) or _family_stages(backbone) or _timm_stages(backbone)
    if not by_stage:
        titles = ", ".join(family.title for family in FAMILIES.values())
        raise ConfigError(
            f"add_text_guidance got a {type(backbone).__name__} whose blocks it does not know (known: "
            f"{titles} of transformers, and timm models made with features_only=True), expected places: "
            "name the modules whose outputs shall be guided, such as places={'layer3': 256} or "
            "places={'encoder.layers.2.blocks.*': 384}"
        )
    unknown = sorted(set(stages) - set(by_stage))
    if unknown or not stages:
        raise ConfigError(
            f"add_text_guidance got stages={list(stages)} for a {type(backbone).__name__}, expected some of "
            f"{', '.join(map(str, sorted(by_stage)))}"
        )
    found: dict[str, tuple[str, Place]] = {}
    for stage in sorted(set(stages)):
        blocks = list(enumerate(by_stage[stage]))
        for index, (path, place) in blocks if per == "block" else blocks[-1:]:
            found[path] = (f"stages.{stage}.{index}", place)
    return found


def _own_stages(backbone: nn.Module) -> dict[int, list[tuple[str, Place]]]:
    """Return the blocks of a backbone of our own by stage; empty for another library's."""
    blocks: Mapping[int, Sequence[tuple[str, int]]] = getattr(backbone, "stage_blocks", {})
    return {stage: [(path, Place(dim, "channels-first")) for path, dim in paths] for stage, paths in blocks.items()}


def _family_stages(backbone: nn.Module) -> dict[int, list[tuple[str, Place]]]:
    """Return the blocks of a transformers model by stage; empty for an unknown one."""
    found: dict[str, dict[str, nn.Module]] = {}
    for path, module in backbone.named_modules():
        if family := family_of_block(module):
            found.setdefault(family.title, {})[path] = module
    if len(found) > 1:
        raise ConfigError(
            f"add_text_guidance got a model with blocks of {' and '.join(found)}, expected one kind: name the modules "
            "to be guided by places={...}, or guide the backbone alone"
        )
    stages: dict[int, list[tuple[str, Place]]] = {}
    for blocks in found.values():
        family = family_of_block(next(iter(blocks.values())))
        assert family is not None
        prefix = _prefix_tokens(backbone) if family.is_plain else 0
        for index, (path, block) in enumerate(blocks.items()):
            # "encoder.layers.1.blocks.0": the last number but one is the stage.
            numbers = [int(part) for part in path.split(".") if part.isdecimal()]
            if not family.is_plain and len(numbers) < 2:
                raise ConfigError(
                    f"add_text_guidance got a {type(backbone).__name__} with the {family.title} block '{path}' and no "
                    "stages around it, expected a whole backbone: guide that, or name the modules by places={...}"
                )
            stage = index * STAGES // len(blocks) if family.is_plain else numbers[-2]
            stages.setdefault(stage, []).append((path, Place(family.width(block), family.layout, prefix)))
    return stages


def _prefix_tokens(backbone: nn.Module) -> int:
    """Return how many class and register tokens come before the positions."""
    return sum(
        parameter.shape[1]
        for name, parameter in backbone.named_parameters()
        if name.rpartition(".")[2] in _PREFIX_TOKENS
    )


def _patch_stride(modules: Mapping[str, nn.Module]) -> int | None:
    """Return the stride of a timm model's patches, None where it has none of one convolution."""
    proj = next((module for path, module in modules.items() if path.endswith("patch_embed.proj")), None)
    return proj.stride[0] if isinstance(proj, nn.Conv2d) else None


def _timm_stages(backbone: nn.Module) -> dict[int, list[tuple[str, Place]]]:
    """Return the blocks of a timm ``features_only`` model by stage; empty for anything else."""
    info = getattr(backbone, "feature_info", None)
    if info is None or not hasattr(info, "get_dicts"):
        return {}
    entries = info.get_dicts(keys=["module", "num_chs", "reduction"])
    modules = dict(backbone.named_modules())
    is_last = str(getattr(getattr(backbone, "output_fmt", None), "value", "")) == "NHWC"
    layout: Layout = "channels-last" if is_last else "channels-first"
    reductions = {entry["reduction"] for entry in entries}
    stages: dict[int, list[tuple[str, Place]]] = {}
    # One output of one stride leaves open what the model is: a plain row keeps the stride of its patches to the end.
    if len(reductions) == 1 and (len(entries) > 1 or reductions == {_patch_stride(modules)}):
        row = next((path for path, module in modules.items() if path.rpartition(".")[2] == "blocks"), None)
        if row is None:
            return {}
        place = Place(entries[0]["num_chs"], layout, _prefix_tokens(backbone))
        children = list(modules[row].named_children())
        for index, (name, _) in enumerate(children):
            stages.setdefault(index * STAGES // len(children), []).append((f"{row}.{name}", place))
        return stages
    for entry in entries:
        stage = round(math.log2(entry["reduction"])) - 2
        if stage < 0:
            continue
        # timm flattens "stages.0" to a child of the name "stages_0".
        names = (entry["module"], entry["module"].replace(".", "_"), f"model.{entry['module']}")
        path = next((name for name in names if name in modules), None)
        if path is None:
            return {}
        owner = modules[path]
        if isinstance(getattr(owner, "blocks", None), nn.Sequential | nn.ModuleList):
            path, owner = f"{path}.blocks", owner.get_submodule("blocks")
        place = Place(entry["num_chs"], layout)
        children = list(owner.named_children()) if isinstance(owner, nn.Sequential | nn.ModuleList) else []
        stages[stage] = [(f"{path}.{name}", place) for name, _ in children] or [(path, place)]
    return stages


def match_places(backbone: nn.Module, places: Mapping[str, int | Place]) -> dict[str, tuple[str, Place]]:
    """Return the modules that the user's patterns name, in the order of the backbone's modules."""
    found: dict[str, tuple[str, Place]] = {}
    paths = [path for path, _ in backbone.named_modules() if path]
    for pattern, given in places.items():
        place = given if isinstance(given, Place) else Place(given)
        parts = pattern.split(".")
        matched = [
            path
            for path in paths
            if len(path.split(".")) == len(parts)
            and all(fnmatch.fnmatchcase(part, one) for part, one in zip(path.split("."), parts, strict=True))
        ]
        if not matched:
            raise ConfigError(
                f"places names '{pattern}', which no module of the {type(backbone).__name__} has"
                f"{nearest(pattern, paths) if len(paths) < 40 else _near(pattern, paths)}"
            )
        for path in matched:
            if path in found:
                raise ConfigError(f"places names the module '{path}' twice, expected once: leave one pattern out")
            found[path] = (path, place)
    return {path: found[path] for path in paths if path in found}


def _near(pattern: str, paths: Sequence[str]) -> str:
    """Return a hint for a wrong path: a close one, or the modules at the top."""
    text = nearest(pattern, paths)
    if text.startswith(", did"):
        return text
    return f", known at the top: {', '.join(path for path in paths if '.' not in path)}"
