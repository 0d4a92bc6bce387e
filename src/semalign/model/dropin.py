"""`SemanticAlignmentModule`: the original's alignment under its own names, for its checkpoints and its callers.

It holds both sides in one module as the original does, reproduces its numbers and departs from it only where the
docstring of the class lists it.  New models use `semalign.model.alignment` instead.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from semalign.align.attention import attend, attention_weights, has_text, mix_values, silence_padding
from semalign.align.gate import add_branch
from semalign.align.temperature import Liveness, attention_scale, base_value, check_live
from semalign.errors import ConfigError, nearest
from semalign.model.inputs import flat_inputs, spatial_shape
from semalign.model.projection import Projection, gated_output
from semalign.model.roles import Role
from semalign.presets import Similarity

__all__ = ["Mode", "SemanticAlignmentModule", "Version"]

Version = Literal["latest", "2025-11-03"]
Mode = Literal["all", "encoder", "decoder"]

# What only one side uses, by version; the rest is shared.
_ENCODER_ONLY = {
    "latest": ("gamma", "gamma_scale", "encoder_logit_scale"),
    "2025-11-03": ("gamma", "gamma_scale", "ssa_scale"),
}
_DECODER_ONLY = {
    "latest": ("alpha", "decoder_logit_scale", "norm1", "norm2", "ffn"),
    "2025-11-03": ("alpha", "logit_scale", "norm1", "norm2", "ffn"),
}
# Zeros that the original registers for a profiler.
_COUNTERS = ("total_ops", "total_params")


class SemanticAlignmentModule(nn.Module):
    """The original's text alignment: `forward` for its decoder, `forward_ssa` for its encoder.

    With q, k, v, o linear maps with bias, d = query_dim / num_heads and a(s) = o(concat_h(weights_h v_h)):

    * ``forward_ssa``: y = x + gamma * gamma_scale * a(x).
    * ``forward``: s = norm1(x), z = norm2(s + alpha * a(s)), y = z + ffn(z); with ``add_residual=False``
      z = norm2(alpha * a(s)).
    * scale = exp(l) / sqrt(d) on both sides; a learnable l is clamped to ±clamp_logit in the forward.

    The original's state dicts load as they are, with names and shapes unchanged.

    Departures from the original, which is wrong in these cases:

    * Any all-zero row of the text is padding, also in the middle.  The original cuts the text of the encoder side to
      the longest count of real rows, which drops real tokens behind padding.
    * An image without text (all rows zero) leaves ``forward_ssa`` as it came, to the bit, and ``forward`` with the
      branch left out, z = norm2(norm1(x)), values and gradients.  The 2025-11-03 version gives NaN.
    * A learnable temperature that the clamp makes dead (gradient exactly 0) is refused, at construction and after
      loading a state dict, unless ``allow_dead=True``, which warns.  The original's bare defaults are dead: l =
      log(1/0.07) = 2.659 with a clamp of 2.

    Args:
        query_dim: channels C of the visual features.
        text_dim: channels Ct of the text features.
        top_m: tokens that `forward` keeps per position and head where ``use_topk`` is set; None keeps all.
        use_topk: see ``top_m``; the encoder side always uses all tokens.
        attn_drop: dropout rate of the decoder's attention weights.
        proj_drop: dropout rate before the decoder's output projection.
        ffn_drop: dropout rate in the FFN.
        add_residual: whether `forward` adds the normalised input to the branch.
        gate_channels: accepted and without effect, as in the original: its gates are scalars.
        alpha_init: start of alpha, the decoder's gate.
        clamp_logit: bound of a learnable l, above 0.
        num_heads: attention heads; must divide ``query_dim``.
        gamma_scale: fixed factor of gamma, the encoder's gate, which starts at 0.5.
        decoder_use_cosine: cosine per head in `forward`, else dot.
        decoder_learnable_temp: whether the decoder's l learns; a fixed one is not clamped.
        decoder_logit_scale_init: start of exp(l) in `forward`, above 0.
        encoder_use_cosine: cosine per head in `forward_ssa`, else dot.
        encoder_learnable_temp: whether the encoder's l learns; a fixed one is not clamped.
        encoder_logit_scale_init: start of exp(l) in `forward_ssa`, above 0.
        mode: ``"all"`` builds both sides as the original does; ``"encoder"`` or ``"decoder"`` only what that side
            uses, and then ignores the other side's entries of a state dict.
        version: ``"latest"``, or ``"2025-11-03"``: cosine over the full width in `forward`, one ``logit_scale`` (always
            clamped), dot with the fixed ``ssa_scale`` in `forward_ssa`.
        allow_dead: accept a dead temperature, with a warning.

    Attributes:
        save_attention: set it to keep, in each call, the next two.
        last_attention_map: B x N x H x T, detached; 0 for an image without text.
        last_spatial_shape: (height, width), or None for a list of positions.

    Raises:
        ConfigError: an option is out of range or contradicts the version, or a learnable temperature is dead.
    """

    gamma_scale: Tensor
    ssa_scale: Tensor
    _inv_sqrt_dk: Tensor

    parameter_roles: ClassVar[dict[str, Role]] = {
        "alpha": "gate",
        "gamma": "gate",
        "logit_scale": "temperature",
        "decoder_logit_scale": "temperature",
        "encoder_logit_scale": "temperature",
    }

    def __init__(
        self,
        query_dim: int,
        text_dim: int,
        top_m: int | None = 5,
        use_topk: bool = True,
        attn_drop: float = 0.0,
        proj_drop: float = 0.0,
        ffn_drop: float = 0.0,
        add_residual: bool = True,
        gate_channels: bool = False,
        alpha_init: float = 0.1,
        clamp_logit: float = 2.0,
        num_heads: int = 1,
        gamma_scale: float = 1.0,
        decoder_use_cosine: bool = True,
        decoder_learnable_temp: bool = True,
        decoder_logit_scale_init: float = 1 / 0.07,
        encoder_use_cosine: bool = False,
        encoder_learnable_temp: bool = False,
        encoder_logit_scale_init: float = 1.0,
        mode: Mode = "all",
        *,
        version: Version = "latest",
        allow_dead: bool = False,
    ) -> None:
        super().__init__()
        numbers = {
            "clamp_logit": clamp_logit,
            "decoder_logit_scale_init": decoder_logit_scale_init,
            "encoder_logit_scale_init": encoder_logit_scale_init,
        }
        _check_choice("version", version, get_args(Version))
        _check_choice("mode", mode, get_args(Mode))
        _check_numbers(query_dim, num_heads, top_m if use_topk else None, numbers)
        if version == "2025-11-03":
            _check_fixed("decoder_use_cosine", decoder_use_cosine, True)
            _check_fixed("encoder_use_cosine", encoder_use_cosine, False)
            _check_fixed("encoder_learnable_temp", encoder_learnable_temp, False)
            _check_fixed("encoder_logit_scale_init", encoder_logit_scale_init, 1.0)

        self.query_dim, self.text_dim, self.num_heads = query_dim, text_dim, num_heads
        self.top_m, self.use_topk, self.add_residual = top_m, use_topk, add_residual
        self.gate_channels, self.clamp_logit = gate_channels, float(clamp_logit)
        self.decoder_learnable_temp, self.encoder_learnable_temp = decoder_learnable_temp, encoder_learnable_temp
        self.version, self.mode, self.allow_dead = version, mode, allow_dead
        self._states: dict[str, Liveness] = {}
        self._starts = {
            "alpha": alpha_init,
            "gamma": 0.5,
            "logit_scale": math.log(decoder_logit_scale_init),
            "decoder_logit_scale": math.log(decoder_logit_scale_init),
            "encoder_logit_scale": math.log(encoder_logit_scale_init),
        }
        latest = version == "latest"
        self._decoder_l = "decoder_logit_scale" if latest else "logit_scale"
        cosine: Similarity = "cosine" if latest else "cosine-full"
        self._similarity: dict[str, Similarity] = {
            "encoder": "cosine" if encoder_use_cosine else "dot",
            "decoder": cosine if decoder_use_cosine else "dot",
        }
        inverse_root = torch.tensor(base_value("1/sqrt(d)", query_dim // num_heads))

        self.q_proj = Projection(query_dim, query_dim)
        self.k_proj = Projection(text_dim, query_dim)
        self.v_proj = Projection(text_dim, query_dim)
        self.out_proj = Projection(query_dim, query_dim)
        self.attn_drop, self.proj_drop = nn.Dropout(attn_drop), nn.Dropout(proj_drop)
        if latest:
            self.register_buffer("_inv_sqrt_dk", inverse_root)
            for name in _COUNTERS:
                self.register_buffer(name, torch.zeros(1))
        if mode != "decoder":
            self.gamma = nn.Parameter(torch.empty(()))
            self.register_buffer("gamma_scale", torch.tensor(float(gamma_scale)))
            if latest:
                self.encoder_logit_scale = nn.Parameter(torch.empty(()), requires_grad=encoder_learnable_temp)
            else:
                self.register_buffer("ssa_scale", inverse_root)
        if mode != "encoder":
            self.norm1 = nn.LayerNorm(query_dim)
            self.norm2 = nn.LayerNorm(query_dim)
            self.ffn = nn.Sequential(
                nn.Linear(query_dim, 4 * query_dim),
                nn.GELU(),
                nn.Dropout(ffn_drop),
                nn.Linear(4 * query_dim, query_dim),
                nn.Dropout(ffn_drop),
            )
            self.alpha = nn.Parameter(torch.empty(()))
            setattr(self, self._decoder_l, nn.Parameter(torch.empty(()), requires_grad=decoder_learnable_temp))

        self.save_attention = False
        self.last_attention_map: Tensor | None = None
        self.last_spatial_shape: tuple[int, int] | None = None
        self.reset_parameters()
        self.check_live()
        self.register_load_state_dict_post_hook(_check_after_load)  # type: ignore[no-untyped-call]

    def reset_parameters(self) -> None:
        """Set gates and temperatures, which this module owns itself, to their starts; draws nothing."""
        for name, start in self._starts.items():
            if name in self._parameters:
                nn.init.constant_(self.get_parameter(name), start)

    def check_live(self) -> None:
        """Raise ConfigError where a temperature is learnable and dead; warn where that is allowed or one step away."""
        for name, keyword in (
            (self._decoder_l, "decoder_logit_scale_init"),
            ("encoder_logit_scale", "encoder_logit_scale_init"),
        ):
            if name not in self._parameters or not self.get_parameter(name).requires_grad:
                continue
            self._states[name] = check_live(
                self.get_parameter(name).detach(),
                "clamp",
                (-self.clamp_logit, self.clamp_logit),
                where=f"SemanticAlignmentModule's {name}",
                fix=f"write SemanticAlignmentModule(..., clamp_logit={math.log(100):.4f}) to let the scale learn up to "
                f"100 times its base, or give a {keyword} inside exp(±clamp_logit)",
                allow_dead=self.allow_dead,
                known=self._states.get(name, "live"),
            )

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        """Take a state dict of the original: the other side's entries and the profiler's zeros may be there or not."""
        unused: tuple[str, ...] = () if self.version == "latest" else _COUNTERS
        if self.mode == "encoder":
            unused += _DECODER_ONLY[self.version]
        elif self.mode == "decoder":
            unused += _ENCODER_ONLY[self.version]
        for key in list(state_dict):
            if key.startswith(prefix) and key.removeprefix(prefix).partition(".")[0] in unused:
                del state_dict[key]
        if self.version == "latest":
            for name in _COUNTERS:
                state_dict.setdefault(prefix + name, self.get_buffer(name))
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    def forward(
        self, visual_features: Float[Tensor, "batch *space dim"], text_features: Float[Tensor, "*tokens text_dim"]
    ) -> Float[Tensor, "batch *space dim"]:
        """Return the decoder's aligned features.

        Args:
            visual_features: B x H x W x C or B x N x C.
            text_features: B x T x Ct, T x Ct shared by all images, or Ct; an all-zero row is padding.

        Raises:
            ConfigError: the module was built with mode 'encoder'.
            TextError: the shapes do not fit.
        """
        self._require("decoder", "forward")
        x, text, is_padding = self._open(visual_features, text_features)
        stream = self.norm1(x)
        top_k = self.top_m if self.use_topk else None
        scale = attention_scale(self.get_parameter(self._decoder_l), 1.0, "clamp", self._clamp(self._decoder_l))
        # The older version divides in the forward, so its 1/sqrt(d) is not rounded to float32.
        exact = base_value("1/sqrt(d)", self.query_dim // self.num_heads)
        scale = scale * (self._inv_sqrt_dk if self.version == "latest" else exact)
        mixed = self._mix(stream, text, scale, is_padding, self._similarity["decoder"], top_k, self.attn_drop)
        branch = gated_output(self.out_proj, self.proj_drop(mixed), self.alpha)
        y = add_branch(stream if self.add_residual else torch.zeros_like(stream), branch, has_text(is_padding))
        z: Tensor = self.norm2(y)
        z = z + self.ffn(z)
        return z.reshape(visual_features.shape)

    def forward_ssa(
        self, visual_features: Float[Tensor, "batch *space dim"], text_features: Float[Tensor, "*tokens text_dim"]
    ) -> Float[Tensor, "batch *space dim"]:
        """Return the encoder's aligned features; arguments as in `forward`.

        Raises:
            ConfigError: the module was built with mode 'decoder'.
            TextError: the shapes do not fit.
        """
        self._require("encoder", "forward_ssa")
        x, text, is_padding = self._open(visual_features, text_features)
        if self.version == "latest":
            l_name = "encoder_logit_scale"
            scale = attention_scale(self.encoder_logit_scale, 1.0, "clamp", self._clamp(l_name)) * self._inv_sqrt_dk
        else:
            scale = self.ssa_scale
        mixed = self._mix(x, text, scale, is_padding, self._similarity["encoder"], None, None)
        gate = self.gamma * self.gamma_scale
        branch = gated_output(self.out_proj, mixed, gate)
        return add_branch(x, branch, has_text(is_padding)).reshape(visual_features.shape)

    def similarity(self, side: str) -> Similarity:
        """Return how one side compares queries and keys."""
        return self._similarity[side]

    def temperature_of(self, side: str) -> tuple[str | None, bool, float | None]:
        """Return one side's l by name (None for a fixed ``ssa_scale``), whether it learns, and its clamp's bound."""
        if side == "encoder" and self.version != "latest":
            return None, False, None
        name = "encoder_logit_scale" if side == "encoder" else self._decoder_l
        bounds = self._clamp(name)
        return name, self.get_parameter(name).requires_grad, None if bounds is None else bounds[1]

    def _clamp(self, name: str) -> tuple[float, float] | None:
        """Return the bounds of an l in the forward: the latest version leaves a fixed one alone."""
        if self.version == "latest" and not self.get_parameter(name).requires_grad:
            return None
        return (-self.clamp_logit, self.clamp_logit)

    def _require(self, side: str, method: str) -> None:
        if self.mode not in ("all", side):
            raise ConfigError(
                f"SemanticAlignmentModule.{method} is the {side}'s and this module was built with mode='{self.mode}', "
                f"expected mode 'all' or '{side}'"
            )

    def _open(self, visual: Tensor, text: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Check the inputs; return B x N x C, text with a batch axis (1 where shared) and its padding."""
        text = text if text.ndim > 1 else text.unsqueeze(0)
        rows, text = flat_inputs("SemanticAlignmentModule", visual, text, self.query_dim, self.text_dim)
        if self.save_attention:
            self.last_spatial_shape = spatial_shape(visual)
        return rows, text, (text == 0).all(dim=-1)

    def _mix(
        self,
        source: Tensor,
        text: Tensor,
        scale: Tensor,
        is_padding: Tensor,
        similarity: Similarity,
        top_k: int | None,
        drop: nn.Dropout | None,
    ) -> Tensor:
        """Return concat_h(weights_h v_h), keeping the weights where asked."""
        # All zero already, and the one thing that keeps a gradient from reaching them.
        text = silence_padding(text, is_padding)
        query, key, value = self.q_proj(source), self.k_proj(text), self.v_proj(text)
        about: dict[str, Any] = {
            "heads": self.num_heads,
            "similarity": similarity,
            "is_padding": is_padding,
            "top_k": top_k,
        }
        dropping = drop is not None and drop.p > 0 and self.training
        if not self.save_attention and not dropping:
            return attend(query, key, value, scale, **about)
        weights = attention_weights(query, key, scale, **about)
        if drop is not None:
            weights = F.dropout(weights, drop.p, self.training)
        if self.save_attention:
            self.last_attention_map = weights.detach().transpose(1, 2)  # (B, N, H, T)
        return mix_values(weights, value, is_padding)


def _check_after_load(module: nn.Module, _incompatible: object) -> None:
    # A function of the module, not a lambda: hooks are copied and pickled with it.
    assert isinstance(module, SemanticAlignmentModule)
    module.check_live()


def _check_choice(name: str, given: str, choices: tuple[str, ...]) -> None:
    if given not in choices:
        raise ConfigError(f"SemanticAlignmentModule got {name}={given!r}{nearest(str(given), choices)}")


def _check_numbers(query_dim: int, num_heads: int, top_m: int | None, positive: Mapping[str, float]) -> None:
    if num_heads < 1 or query_dim % num_heads:
        raise ConfigError(
            f"SemanticAlignmentModule got num_heads={num_heads}, which does not divide query_dim={query_dim}, "
            "expected a divisor"
        )
    for name, number in positive.items():
        if not (math.isfinite(number) and number > 0):
            raise ConfigError(f"SemanticAlignmentModule got {name}={number}, expected a finite number above 0")
    if top_m is not None and top_m < 1:
        raise ConfigError(f"SemanticAlignmentModule got top_m={top_m}, expected at least 1, or None for all tokens")


def _check_fixed(name: str, given: float, fixed: float) -> None:
    if given != fixed:
        raise ConfigError(
            f"SemanticAlignmentModule got {name}={given} with version '2025-11-03', which does not have this choice, "
            f"expected {fixed} or version 'latest'"
        )
