"""The text-guided encoder of the source document's system: DFormerv2 with the original's alignments at their places.

Its parameters have the original's names, so that checkpoints of the original load as they are.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from semalign.errors import CheckpointError, ConfigError, TextError, nearest
from semalign.model.dformerv2 import DFormerV2, DFormerV2Size
from semalign.model.dropin import SemanticAlignmentModule

__all__ = ["OriginalEncoder", "original_encoder"]

PREFIXES = ("model.", "state_dict.", "module.", "backbone.")
"""What checkpoints put before the encoder's names, in any order and number."""
ALIGNMENTS = "encoder_sam_blocks"
_OWN_CONFIG = ("text_dim", "sam_enc_stages", "sam_use_topk", "sam_top_m", "superpower")


class OriginalEncoder(DFormerV2):
    """DFormerv2 whose attention is aligned with the text before it is added to the stream.

    Neighboring blocks of a stage share one alignment: block b of a stage with n blocks and m alignments uses alignment
    b // ceil(n / m).  The alignments are `SemanticAlignmentModule` of version 2025-11-03, the encoder's side alone: the
    tensors that only the decoder's side uses never get a gradient in the original and are left out here.

    Args:
        size: of the encoder.
        text_dim: channels of the text.
        alignments: by stage, how many alignments it has.
    """

    def __init__(self, size: DFormerV2Size, text_dim: int, alignments: Mapping[int, int]) -> None:
        super().__init__(**dataclasses.asdict(size))
        self.text_dim, self.depths = text_dim, size.depths
        self.encoder_sam_blocks = nn.ModuleDict(
            {
                str(stage): nn.ModuleList(
                    SemanticAlignmentModule(
                        size.embed_dims[stage],
                        text_dim,
                        num_heads=size.num_heads[stage],
                        use_topk=False,
                        mode="encoder",
                        version="2025-11-03",
                    )
                    for _ in range(count)
                )
                for stage, count in sorted(alignments.items())
            }
        )

    def forward(  # type: ignore[override]
        self,
        image: Float[Tensor, "b 3 h w"],
        depth: Float[Tensor, "b 1 h w"],
        text: Float[Tensor, "b t text_dim"] | Float[Tensor, "t text_dim"] | None = None,
        is_padding: Bool[Tensor, "*b t"] | None = None,
    ) -> list[Float[Tensor, "b c h w"]]:
        """Return the levels, the finest first.

        Args:
            image: normalised RGB.
            depth: of the same size.
            text: features of the tokens; all-zero rows are padding.  None leaves the alignments out.
            is_padding: True for further rows that are padding.

        Raises:
            TextError: the shapes do not fit.
        """
        if text is None:
            return super().forward(image, depth)
        if is_padding is not None:
            if is_padding.shape != text.shape[:-1]:
                raise TextError(
                    f"is_padding has the shape {tuple(is_padding.shape)} for text of shape {tuple(text.shape)}, "
                    f"expected {tuple(text.shape[:-1])}"
                )
            text = text.masked_fill(is_padding[..., None], 0)
        tokens = text

        def aligned(stage: int, block: int, attended: Tensor) -> Tensor:
            if str(stage) not in self.encoder_sam_blocks:
                return attended
            modules = self.encoder_sam_blocks[str(stage)]
            assert isinstance(modules, nn.ModuleList)
            shared = math.ceil(self.depths[stage] / len(modules))
            module = modules[block // shared]
            assert isinstance(module, SemanticAlignmentModule)
            return module.forward_ssa(attended, tokens)

        return super().forward(image, depth, aligned)


def original_encoder(config: Mapping[str, Any], state_dict: Mapping[str, Tensor]) -> OriginalEncoder:
    """Return the document's text-guided encoder with the weights of ``state_dict``, in their dtype.

    Args:
        config: the arguments of `DFormerV2`, and ``text_dim``; ``sam_enc_stages`` names the aligned stages (default:
            the stages that have alignments in ``state_dict``).
        state_dict: the original's names, also after ``backbone.``, ``model.`` or ``state_dict.``; entries of other
            parts of the system are left out.

    Raises:
        ConfigError: ``config`` has an unknown name, or lacks ``text_dim``.
        CheckpointError: a tensor is missing, or its shape does not fit ``config``.
    """
    known = [field.name for field in dataclasses.fields(DFormerV2Size)]
    for name in config:
        if name not in (*known, *_OWN_CONFIG):
            raise ConfigError(f"the encoder's configuration has {name!r}{nearest(name, (*known, *_OWN_CONFIG))}")
    if "text_dim" not in config:
        raise ConfigError("the encoder's configuration lacks text_dim, expected the channels of the text")
    own = encoder_tensors(state_dict)
    found: dict[int, int] = {}
    for name in own:
        if name.startswith(f"{ALIGNMENTS}."):
            stage, number = (int(part) for part in name.split(".")[1:3])
            found[stage] = max(found.get(stage, 0), number + 1)
    stages = config.get("sam_enc_stages", sorted(found))
    for stage in stages:
        if stage not in found:
            raise CheckpointError(
                f"the state dict has no alignment of stage {stage} ({ALIGNMENTS}.{stage}.0...), expected one for each "
                f"of sam_enc_stages={list(stages)}"
            )
    fields: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in config.items() if name in known
    }
    size = DFormerV2Size(**fields)
    model = OriginalEncoder(size, int(config["text_dim"]), {stage: found[stage] for stage in stages})
    model.to(next(tensor.dtype for tensor in own.values() if tensor.is_floating_point()))
    needed = model.state_dict()
    for name, tensor in needed.items():
        if name not in own:
            raise CheckpointError(f"the state dict lacks {name}, expected a tensor of shape {tuple(tensor.shape)}")
        if own[name].shape != tensor.shape:
            raise CheckpointError(
                f"the state dict has {name} of shape {tuple(own[name].shape)}, expected {tuple(tensor.shape)}: does "
                "the configuration belong to it?"
            )
    model.load_state_dict({name: own[name] for name in needed})
    return model


def encoder_tensors(state_dict: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the encoder's tensors of a checkpoint by their own names.

    Raises:
        CheckpointError: there is no ``patch_embed.proj.0.weight`` under any prefix.
    """
    flat: dict[str, Tensor] = {}

    def collect(mapping: Mapping[str, Any]) -> None:
        for name, value in mapping.items():
            if isinstance(value, Mapping):
                collect(value)
            elif isinstance(value, torch.Tensor):
                own = str(name)
                while own.startswith(PREFIXES):
                    own = own.partition(".")[2]
                flat[own] = value

    collect(state_dict)
    if "patch_embed.proj.0.weight" not in flat:
        raise CheckpointError(
            "the checkpoint has no patch_embed.proj.0.weight, expected the tensors of DFormerv2, also after "
            + ", ".join(PREFIXES)
        )
    return {name: value for name, value in flat.items() if name.partition(".")[0] in _PARTS}


_PARTS = ("patch_embed", "layers", "extra_norms", ALIGNMENTS)
