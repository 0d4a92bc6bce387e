"""The alignment sites: modules that let text features into visual features.

`EncoderAlignment` is the light one of the visual encoder, `DecoderAlignment` the deep one of the decoder; both own
their projections, a `Temperature` and a `Gate`, and call the functions of `semalign.align`.  They know nothing of
images, sentences, optimizers or where in a model they stand.

Around them: `alignment_sites` finds them, `recording` keeps what they do during some forwards, `projection_hook` keeps
bounded temperatures inside after each optimizer step, and `parameter_role` tells an optimizer what a parameter is.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.optimizer import register_optimizer_step_post_hook

from semalign.align.attention import attend, attention_weights, has_text, silence_padding
from semalign.align.cost import FORMS, FormChoice, cheapest_form
from semalign.align.diagnostics import attention_entropy, branch_strength, logit_size, mean_defined
from semalign.align.folded import (
    FoldedText,
    SiteWeights,
    align_folded,
    attend_folded,
    fold,
    present_tokens,
    product_dtype,
    runs_in_blocks,
    without_autocast,
)
from semalign.align.gate import add_branch, gate_parameter, gate_value, gated_projection
from semalign.align.knobs import resolve_knobs
from semalign.align.temperature import Liveness, attention_scale, base_value, check_live, project_log_scale_
from semalign.errors import ConfigError, TextError, nearest
from semalign.model.feed_forward import add_feed_forward, is_listened_to
from semalign.presets import AlignmentKnobs, GateKnobs, Side, TemperatureKnobs

__all__ = [
    "Alignment",
    "DecoderAlignment",
    "EncoderAlignment",
    "Gate",
    "Projection",
    "Role",
    "SingleTokenWarning",
    "Temperature",
    "alignment_sites",
    "parameter_role",
    "project_temperatures",
    "projection_hook",
    "recording",
    "taking_what_was_learned",
]

Role = Literal["weight", "norm_bias", "temperature", "gate"]

_FFN_EXPANSION = 4


class SingleTokenWarning(UserWarning):
    """The text has one token: every attention weight is 1 and the temperature has no effect."""


class Projection(nn.Linear):
    """A linear map that starts as the original's do: Xavier-uniform weight, zero bias."""

    def reset_parameters(self) -> None:
        """Draw the weight from the global generator (Glorot and Bengio 2010) and set the bias to 0."""
        nn.init.xavier_uniform_(self.weight)
        if self.bias is not None:
            nn.init.zeros_(self.bias)


class Temperature(nn.Module):
    """The inverse temperature of an attention, scale = base * exp(l).

    l is named ``log_scale``: a parameter where it is learnable, else a buffer, so that state dicts agree.  A learnable
    l that a clamp has made dead is refused here and after a state dict is loaded.

    Args:
        knobs: base, start, bounds, and whether l is learnable and per head.
        heads: number of heads.
        head_dim: width d of one head, for the base 1/sqrt(d).
        where: names the owner in messages.
        allow_dead: warn of a dead l instead of refusing it.

    Raises:
        ConfigError: l is learnable and dead, and ``allow_dead`` is false.
    """

    log_scale: Tensor

    def __init__(
        self,
        knobs: TemperatureKnobs,
        *,
        heads: int,
        head_dim: int,
        where: str = "temperature",
        allow_dead: bool = False,
    ) -> None:
        super().__init__()
        self.knobs = knobs
        self.base = base_value(knobs.base, head_dim)
        self.where = where
        self.allow_dead = allow_dead
        self._state: Liveness = "live"
        start = torch.empty((heads,) if knobs.per_head else ())
        if knobs.learnable:
            self.log_scale = nn.Parameter(start)
        else:
            self.register_buffer("log_scale", start)
        self.reset_parameters()
        self.check_live()
        self.register_load_state_dict_post_hook(_check_after_load)  # type: ignore[no-untyped-call]

    @property
    def liveness(self) -> Liveness:
        """Whether l can learn: "live", "edge" (on a clamp's bound) or "dead"; a fixed l is "live"."""
        return self._state

    def reset_parameters(self) -> None:
        """Set l to its start; draws nothing."""
        nn.init.constant_(self.log_scale, self.knobs.init)

    def forward(self) -> Float[Tensor, "*per_head"]:
        """Return the scale, of shape () or (heads,)."""
        return attention_scale(self.log_scale, self.base, self.knobs.bound, self.knobs.bounds)

    def check_live(self) -> None:
        """Raise ConfigError where l is learnable and dead; warn where it has become one step from that, or allowed."""
        if self.knobs.learnable and not self.log_scale.is_meta:
            self._state = check_live(
                self.log_scale.detach(),
                self.knobs.bound,
                self.knobs.bounds,
                where=self.where,
                fix="set temperature.init to a value inside, choose temperature.bound 'project' with wider bounds",
                allow_dead=self.allow_dead,
                known=self._state,
            )

    def project_parameters(self) -> None:
        """Put a learnable l back inside its bounds where these are of the kind ``"project"``."""
        if self.knobs.learnable and self.knobs.bound == "project" and self.knobs.bounds is not None:
            project_log_scale_(self.log_scale, self.knobs.bounds)


def _check_after_load(module: nn.Module, _incompatible: object) -> None:
    # A function of the module, not a lambda: hooks are copied and pickled with it.
    assert isinstance(module, Temperature)
    module.check_live()


@contextmanager
def taking_what_was_learned(model: nn.Module) -> Iterator[None]:
    """Let ``model`` load what a training has come to: a temperature that left its clamp is warned of, not refused.

    Where it starts is the user's choice and can be corrected; what was trained must not be lost for it.
    """
    temperatures = [module for module in model.modules() if isinstance(module, Temperature)]
    before = [temperature.allow_dead for temperature in temperatures]
    for temperature in temperatures:
        temperature.allow_dead = True
    try:
        yield
    finally:
        for temperature, allowed in zip(temperatures, before, strict=True):
            temperature.allow_dead = allowed


class Gate(nn.Module):
    """The strength of a branch, g = act(theta).

    theta is named ``theta``: a parameter where it is learnable, else a buffer.

    Args:
        knobs: the gate's value at the start, its activation, and whether it is learnable and per channel.
        channels: number of channels, used by a gate per channel.
    """

    parameter_roles: ClassVar[Mapping[str, Role]] = {"theta": "gate"}
    theta: Tensor

    def __init__(self, knobs: GateKnobs, *, channels: int) -> None:
        super().__init__()
        self.knobs = knobs
        start = torch.empty((channels,) if knobs.per_channel else ())
        if knobs.learnable:
            self.theta = nn.Parameter(start)
        else:
            self.register_buffer("theta", start)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set theta so that the gate has its starting value; draws nothing."""
        nn.init.constant_(self.theta, gate_parameter(self.knobs.init, self.knobs.activation))

    def forward(self) -> Float[Tensor, "*per_channel"]:
        """Return g, of shape () or (channels,)."""
        return gate_value(self.theta, self.knobs.activation)


_steps = 0


def _count_step(_optimizer: object, _args: object, _kwargs: object) -> None:
    global _steps
    _steps += 1


# Fused optimizers change weights without raising their versions.
register_optimizer_step_post_hook(_count_step)


class _CachedFold(NamedTuple):
    """A folded bank and what it was made of.

    Weights are told by address, by version, which every in-place change raises, under `no_grad` too, and by the number
    of optimizer steps in this process; only writing in place through ``.data`` escapes.  The aliases keep the addresses
    from being used again.  Text and mask are compared by value: they are small, and often new tensors with the old
    content.
    """

    stamps: list[tuple[int, int]]
    aliases: list[Tensor]
    text: Tensor
    is_padding: Tensor | None
    folded: FoldedText

    @classmethod
    def of(cls, weights: Sequence[Tensor], text: Tensor, is_padding: Tensor | None, folded: FoldedText) -> _CachedFold:
        mask = None if is_padding is None else is_padding.clone()
        aliases = [weight.detach() for weight in weights]
        return cls(cls.stamp(weights), aliases, text.detach().clone(), mask, folded)

    @staticmethod
    def stamp(weights: Sequence[Tensor]) -> list[tuple[int, int]]:
        return [(_steps, 0), *((weight.data_ptr(), weight._version) for weight in weights)]

    def holds_for(self, weights: Sequence[Tensor], text: Tensor, is_padding: Tensor | None) -> bool:
        if self.stamps != self.stamp(weights) or text.dtype != self.text.dtype:
            return False
        if (is_padding is None) != (self.is_padding is None):
            return False
        same = is_padding is None or self.is_padding is None or torch.equal(is_padding, self.is_padding)
        return same and torch.equal(text, self.text)


class Alignment(nn.Module):
    """What both alignments are made of: attention to text, projected, gated and added to a stream.

    Attributes:
        knobs: the settings, a frozen `AlignmentKnobs`.
        temperature: called without arguments, returns the scale.
        gate: called without arguments, returns g.
        save_attention: set it to keep ``last_attention`` (batch x heads x positions x tokens, detached; 0 for images
            without text) and ``last_spatial_shape`` ((height, width), None for a list of positions) of each forward.
    """

    side: Side

    def __init__(
        self,
        dim: int,
        text_dim: int,
        heads: int,
        *,
        preset: str,
        form: FormChoice,
        allow_dead: bool,
        knobs: Mapping[str, object],
    ) -> None:
        super().__init__()
        where = f"the {self.side} alignment"
        for name, value in (("dim", dim), ("text_dim", text_dim), ("heads", heads)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ConfigError(f"{where} got {name}={value!r}, expected an integer of at least 1")
        if dim % heads:
            divisors = [str(n) for n in range(1, dim + 1) if dim % n == 0]
            raise ConfigError(
                f"{where} got heads={heads}, which does not divide its width {dim}, expected one of "
                f"{', '.join(divisors)}"
            )
        if form not in FORMS:
            raise ConfigError(f"{where} got form={form!r}, which is unknown{nearest(str(form), FORMS)}")
        self.knobs: AlignmentKnobs = resolve_knobs(preset, self.side, **dict(knobs))
        self.dim, self.text_dim, self.heads, self.form = dim, text_dim, heads, form
        self.q_proj = Projection(dim, dim)
        # A softmax over tokens cancels a key bias under dot similarity; it would be a parameter without gradient.
        self.k_proj = Projection(text_dim, dim, bias=self.knobs.similarity != "dot")
        self.v_proj = Projection(text_dim, dim)
        self.o_proj = Projection(dim, dim)
        self.temperature = Temperature(
            self.knobs.temperature,
            heads=heads,
            head_dim=dim // heads,
            where=f"{where}'s temperature (preset '{preset}')",
            allow_dead=allow_dead,
        )
        self.gate = Gate(self.knobs.gate, channels=dim)
        self.save_attention = False
        self.last_attention: Tensor | None = None
        self.last_spatial_shape: tuple[int, int] | None = None
        self._meter: _Meter | None = None
        self._cached: _CachedFold | None = None
        self._warned_of_single_token = False

    def extra_repr(self) -> str:
        """Name what the submodules do not show."""
        return (
            f"heads={self.heads}, similarity={self.knobs.similarity}, residual={self.knobs.residual}, form={self.form}"
        )

    def _open(
        self,
        x: Float[Tensor, "batch *space dim"],
        text: Float[Tensor, "*batch tokens text_dim"],
        is_padding: Bool[Tensor, "*batch tokens"] | None,
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Check the inputs; return x as batch x positions x dim, text and mask with a batch axis (1 where shared)."""
        where = f"the {self.side} alignment"
        if x.ndim not in (3, 4) or x.shape[-1] != self.dim:
            raise TextError(
                f"{where} got visual features of shape {tuple(x.shape)}, expected batch x positions x {self.dim} or "
                f"batch x height x width x {self.dim}"
            )
        batch = x.shape[0]
        expected = f"expected {batch} x tokens x {self.text_dim} or tokens x {self.text_dim}, with at least one token"
        if text.ndim not in (2, 3) or text.shape[-1] != self.text_dim or text.shape[-2] == 0:
            raise TextError(f"{where} got text of shape {tuple(text.shape)}, {expected}")
        if text.ndim == 3 and text.shape[0] != batch:
            raise TextError(f"{where} got text of shape {tuple(text.shape)} for {batch} images, {expected}")
        tokens = text.shape[-2]
        if is_padding is not None:
            if is_padding.dtype != torch.bool or tuple(is_padding.shape) not in ((tokens,), (batch, tokens)):
                raise TextError(
                    f"{where} got is_padding of shape {tuple(is_padding.shape)} and type {is_padding.dtype}, expected "
                    f"bool of shape {batch} x {tokens} or {tokens}, true for padding"
                )
            is_padding = is_padding.reshape(-1, tokens)
        if tokens == 1 and not self._warned_of_single_token:
            self._warned_of_single_token = True
            warnings.warn(
                f"{where} got a text of one token: every attention weight is 1 and the temperature has no effect",
                SingleTokenWarning,
                stacklevel=3,
            )
        if self.save_attention:
            self.last_spatial_shape = (x.shape[1], x.shape[2]) if x.ndim == 4 else None
        return x.flatten(1, -2), text.to(x.dtype).reshape(-1, tokens, self.text_dim), is_padding

    def _align(
        self,
        stream: Float[Tensor, "batch positions dim"],
        source: Float[Tensor, "batch positions dim"],
        text: Float[Tensor, "#batch tokens text_dim"],
        is_padding: Bool[Tensor, "#batch tokens"] | None,
    ) -> Float[Tensor, "batch positions dim"]:
        """Return stream + has_text * g * (concat_h(weights_h v_h) Wo + bo), the queries being made of ``source``."""
        if self.save_attention or self._meter is not None:
            self._observe(source, text, is_padding)
        present = None
        if is_padding is not None and self.form != "reference" and runs_in_blocks(source):
            # What is masked for every image is left out, so that it costs nothing.
            kept, present = present_tokens(is_padding)
            if kept is not None:
                text, is_padding = text[:, kept], is_padding[:, kept]
            if present is None and not is_padding.any():
                is_padding = None
        if self._folds(source, text):
            about: dict[str, Any] = {"is_padding": is_padding, "present": present, "top_k": self.knobs.top_k}
            dtype = product_dtype(source)
            if self._meter is not None:
                with torch.no_grad():
                    bank = self._folded_text(text, is_padding)
                    branch = attend_folded(torch.zeros_like(stream), source, bank, dtype=dtype, **about)
                    self._meter.add("strength", mean_defined(branch_strength(stream, branch, is_padding)))
            if self._is_one_node(source, text):
                spoken = text if is_padding is None else silence_padding(text, is_padding)
                weights, similarity = self._site_weights(), self.knobs.similarity
                return align_folded(stream, source, spoken, weights, heads=self.heads, similarity=similarity, **about)
            return attend_folded(stream, source, self._folded_text(text, is_padding), dtype=dtype, **about)
        branch = self._branch(source, text, is_padding)
        if self._meter is not None:
            with torch.no_grad():
                self._meter.add("strength", mean_defined(branch_strength(stream, branch, is_padding)))
        return add_branch(stream, branch, None if is_padding is None else has_text(is_padding))

    def _folds(self, source: Tensor, text: Tensor) -> bool:
        """Say whether this forward takes the folded form."""
        if self.form not in ("auto", "folded"):
            return False
        # The fold multiplies weights: a projection that is more than a product with its weight has to be called.
        plain = is_its_weight(self.q_proj) and is_its_weight(self.o_proj)
        plain = plain and all(type(layer).forward is nn.Linear.forward for layer in (self.k_proj, self.v_proj))
        if self.form == "folded":
            if not plain:
                raise ConfigError(
                    f"the {self.side} alignment got form='folded' and projections that are not plain linear maps (an "
                    "adapter or a hook), expected nn.Linear without hooks: use form='sdpa' or 'auto'"
                )
            return True
        return (
            plain
            and runs_in_blocks(source)
            and product_dtype(source).itemsize >= 4
            and cheapest_form(
                channels=self.dim,
                heads=self.heads,
                rows=source.shape[0] * source.shape[1],
                tokens=text.shape[1],
                texts=text.shape[0],
                text_dim=self.text_dim,
                cosine=self.knobs.similarity != "dot",
                training=torch.is_grad_enabled(),
            )
            == "folded"
        )

    def _is_one_node(self, source: Tensor, text: Tensor) -> bool:
        """Say whether projections, fold and attention may be one node of the graph: nobody asks for what is between."""
        if not torch.is_grad_enabled() or not runs_in_blocks(source):
            return False
        layers = (self.q_proj, self.k_proj, self.v_proj, self.o_proj)
        if any(map(is_listened_to, layers)):
            return False
        weight = self.k_proj.weight
        return product_dtype(source) == source.dtype == text.dtype == weight.dtype

    def _site_weights(self) -> SiteWeights:
        query, key, value, out = self.q_proj, self.k_proj, self.v_proj, self.o_proj
        return SiteWeights(
            key.weight,
            key.bias,
            value.weight,
            value.bias,
            self.temperature(),
            self.gate(),
            query.weight,
            query.bias,
            out.weight,
            out.bias,
        )

    def _folded_text(
        self, text: Float[Tensor, "#batch tokens text_dim"], is_padding: Bool[Tensor, "#batch tokens"] | None
    ) -> FoldedText:
        """Return the folded bank, without gradients from the cache where weights, text and mask are what they were."""
        if torch.is_grad_enabled() or not runs_in_blocks(text):
            return self._fold(text, is_padding)
        weights = self._fold_weights()
        if any(weight.is_inference() for weight in weights):
            return self._fold(text, is_padding)
        # Read once: another thread may put the fold of its own text there at any time.
        cached = self._cached
        if cached is None or not cached.holds_for(weights, text, is_padding):
            cached = self._cached = _CachedFold.of(weights, text, is_padding, self._fold(text, is_padding))
        return cached.folded

    def _fold_weights(self) -> list[Tensor]:
        layers = (self.q_proj, self.k_proj, self.v_proj, self.o_proj)
        linear = [tensor for layer in layers for tensor in (layer.weight, layer.bias) if tensor is not None]
        return [*linear, self.temperature.log_scale, self.gate.theta]

    def _fold(
        self, text: Float[Tensor, "#batch tokens text_dim"], is_padding: Bool[Tensor, "#batch tokens"] | None
    ) -> FoldedText:
        """Fold the text into the weights, in the weights' own dtype under autocast: the matrices are small."""
        if is_padding is not None:
            text = silence_padding(text, is_padding)
        if product_dtype(text) != text.dtype or text.dtype.itemsize < self.k_proj.weight.dtype.itemsize:
            text = text.to(self.k_proj.weight.dtype)
        with without_autocast(text.device.type):
            return fold(
                self.k_proj(text),
                self.v_proj(text),
                self.temperature(),
                self.gate(),
                query_weight=self.q_proj.weight,
                query_bias=self.q_proj.bias,
                out_weight=self.o_proj.weight,
                out_bias=self.o_proj.bias,
                heads=self.heads,
                similarity=self.knobs.similarity,
                is_padding=is_padding,
            )

    def __getstate__(self) -> dict[str, Any]:
        """Leave the cache behind: a copy has weights of its own."""
        return {**self.__dict__, "_cached": None}

    def _branch(
        self,
        query_input: Float[Tensor, "batch positions dim"],
        text: Float[Tensor, "#batch tokens text_dim"],
        is_padding: Bool[Tensor, "#batch tokens"] | None,
    ) -> Float[Tensor, "batch positions dim"]:
        """Return g * (concat_h(weights_h v_h) Wo + bo); to be dropped for images without text (`add_branch`)."""
        if is_padding is not None:
            # Before the projections too: their gradients multiply by these rows.
            text = silence_padding(text, is_padding)
        exact = self.form == "reference"
        mixed = attend(
            _apply(self.q_proj, query_input, exact=exact),
            _apply(self.k_proj, text, exact=exact),
            _apply(self.v_proj, text, exact=exact),
            self.temperature(),
            heads=self.heads,
            similarity=self.knobs.similarity,
            is_padding=is_padding,
            top_k=self.knobs.top_k,
            form="reference" if exact else "sdpa",
        )
        if not exact or not is_its_weight(self.o_proj):
            return gated_output(self.o_proj, mixed.to(self.o_proj.weight.dtype) if exact else mixed, self.gate())
        return gated_projection(mixed, self.o_proj.weight.double(), self.o_proj.bias.double(), self.gate().double())

    @torch.no_grad()
    def _observe(self, source: Tensor, text: Tensor, is_padding: Tensor | None) -> None:
        """Compute queries, keys and attention weights once more, for whoever asked to see them."""
        if is_padding is not None:
            text = silence_padding(text, is_padding)
        exact = self.form == "reference"
        query, key = _apply(self.q_proj, source, exact=exact), _apply(self.k_proj, text, exact=exact)
        similarity, scale = self.knobs.similarity, self.temperature()
        scale = scale.to(torch.promote_types(scale.dtype, query.dtype))
        weights = attention_weights(
            query,
            key,
            scale,
            heads=self.heads,
            similarity=similarity,
            is_padding=is_padding,
            top_k=self.knobs.top_k,
        )
        if self.save_attention:
            self.last_attention = weights
        if self._meter is not None:
            reach = scale
            if similarity == "dot":
                reach = logit_size(query, key, scale, heads=self.heads, is_padding=is_padding)
            self._meter.add("scale", scale.mean().item())
            self._meter.add("gate", self.gate().mean().item())
            self._meter.add("entropy", mean_defined(attention_entropy(weights, is_padding)))
            self._meter.add("logit_size", mean_defined(reach.reshape(-1)))


class EncoderAlignment(Alignment):
    """Light cross attention to text inside a visual encoder (the source document's SSA-lite).

    y = x + g * has_text * (concat_h(weights_h v_h) Wo + bo) with weights = softmax over tokens of scale * s(q_h, k_h).
    No norm and no FFN.  An image without text comes back as it went in, to the bit.

    Args:
        dim: channels C of the visual features.
        text_dim: channels Ct of the text features.
        heads: attention heads; must divide ``dim``.
        preset: a name in `semalign.presets.PRESETS`.
        form: how it is computed, the same function: ``"folded"`` (`semalign.align.folded`), ``"sdpa"`` (torch's fused
            kernel), ``"reference"`` (plain, in float64), or ``"auto"``, the faster of the first two by measured costs.
        allow_dead: accept a learnable temperature whose gradient is exactly 0, with a warning.
        **knobs: changes to the preset, see `semalign.align.knobs.resolve_knobs`.

    Raises:
        ConfigError: an option is unknown, out of range or contradicts another, or the temperature is dead.
    """

    side: Side = "encoder"

    def __init__(
        self,
        dim: int,
        text_dim: int,
        heads: int,
        *,
        preset: str = "recommended",
        form: FormChoice = "auto",
        allow_dead: bool = False,
        **knobs: object,
    ) -> None:
        super().__init__(dim, text_dim, heads, preset=preset, form=form, allow_dead=allow_dead, knobs=knobs)

    def forward(
        self,
        x: Float[Tensor, "batch *space dim"],
        text: Float[Tensor, "*batch tokens text_dim"],
        is_padding: Bool[Tensor, "*batch tokens"] | None = None,
    ) -> Float[Tensor, "batch *space dim"]:
        """Return the aligned features.

        Args:
            x: B x H x W x C or B x N x C.
            text: B x T x Ct, or T x Ct shared by all images.
            is_padding: B x T or T, true for tokens that are not there; their rows may hold anything.

        Returns:
            Features in the shape and dtype of ``x``.

        Raises:
            TextError: the shapes do not fit.
        """
        stream, rows, mask = self._open(x, text, is_padding)
        return self._align(stream, stream, rows, mask).reshape(x.shape)


class DecoderAlignment(Alignment):
    """Deep cross attention to text in a decoder (the source document's SAM).

    By the knob ``residual``, with a(.) the gated branch of `EncoderAlignment`, zero for an image without text:

    * ``"pre-norm"``: z = x + a(LN x), y = z + FFN(LN z); without text y = x + FFN(LN x).
    * ``"normalized"`` (the original's): s = LN(x), z = LN(s + a(s)), y = z + FFN(z).
    * ``"plain"`` (the document's snippets): y = x + a(x).

    The FFN is four times as wide as ``dim``, with GELU.

    Args:
        dim: channels C of the visual features.
        text_dim: channels Ct of the text features.
        heads: attention heads; must divide ``dim``.
        preset: a name in `semalign.presets.PRESETS`.
        form: as in `EncoderAlignment`; it concerns the branch.
        allow_dead: accept a learnable temperature whose gradient is exactly 0, with a warning.
        **knobs: changes to the preset, see `semalign.align.knobs.resolve_knobs`.

    Raises:
        ConfigError: an option is unknown, out of range or contradicts another, or the temperature is dead.
    """

    side: Side = "decoder"

    def __init__(
        self,
        dim: int,
        text_dim: int,
        heads: int,
        *,
        preset: str = "recommended",
        form: FormChoice = "auto",
        allow_dead: bool = False,
        **knobs: object,
    ) -> None:
        super().__init__(dim, text_dim, heads, preset=preset, form=form, allow_dead=allow_dead, knobs=knobs)
        if self.knobs.residual != "plain":
            self.norm1 = nn.LayerNorm(dim)
            self.norm2 = nn.LayerNorm(dim)
            self.ffn = nn.Sequential(
                nn.Linear(dim, _FFN_EXPANSION * dim), nn.GELU(), nn.Linear(_FFN_EXPANSION * dim, dim)
            )

    def forward(
        self,
        x: Float[Tensor, "batch *space dim"],
        text: Float[Tensor, "*batch tokens text_dim"],
        is_padding: Bool[Tensor, "*batch tokens"] | None = None,
    ) -> Float[Tensor, "batch *space dim"]:
        """Return the aligned features; arguments, result and errors as in `EncoderAlignment.forward`."""
        stream, rows, mask = self._open(x, text, is_padding)
        residual = self.knobs.residual
        source = stream if residual == "plain" else self.norm1(stream)
        y = self._align(source if residual == "normalized" else stream, source, rows, mask)
        if residual == "pre-norm":
            y = add_feed_forward(y, self.norm2, self.ffn)
        elif residual == "normalized":
            y = self.norm2(y)
            y = add_feed_forward(y, None, self.ffn)
        return y.reshape(x.shape)


def is_its_weight(layer: nn.Linear) -> bool:
    """Return whether the layer is a product with its weight and no more: no adapter, and nobody who listens to it."""
    return type(layer).forward is nn.Linear.forward and "forward" not in vars(layer) and not is_listened_to(layer)


def gated_output(
    layer: nn.Linear, mixed: Float[Tensor, "batch positions dim"], gate: Float[Tensor, "*per_channel"]
) -> Float[Tensor, "batch positions channels"]:
    """Return g * layer(mixed): by the small matrix where the layer is its weight, else by calling it."""
    if is_its_weight(layer):
        return gated_projection(mixed, layer.weight, layer.bias, gate)
    y: Tensor = layer(mixed)
    return gate.to(y.dtype) * y


def _apply(linear: nn.Linear, x: Tensor, *, exact: bool) -> Tensor:
    """Return the linear map of ``x``, in float64 where ``exact``."""
    if not exact or not is_its_weight(linear):
        y: Tensor = linear(x.to(linear.weight.dtype) if exact else x)
        return y.double() if exact else y
    return F.linear(x.double(), linear.weight.double(), None if linear.bias is None else linear.bias.double())


class _Meter:
    """Running means of named numbers; None counts for nothing."""

    def __init__(self) -> None:
        self._sums: dict[str, tuple[float, int]] = {}

    def add(self, name: str, value: float | None) -> None:
        if value is not None:
            total, count = self._sums.get(name, (0.0, 0))
            self._sums[name] = (total + value, count + 1)

    def means(self) -> dict[str, float]:
        return {name: total / count for name, (total, count) in self._sums.items()}


def alignment_sites(model: nn.Module) -> dict[str, Alignment]:
    """Return every alignment of ``model`` by its dotted path, in the order of the model's modules."""
    return {name: module for name, module in model.named_modules() if isinstance(module, Alignment)}


@contextmanager
def recording(model: nn.Module) -> Iterator[dict[str, dict[str, float]]]:
    """Keep what each alignment of ``model`` does during the forwards inside the ``with``.

    The yielded dictionary is empty until the block ends; then it holds, by site and only for sites that ran, the means
    over the forwards of

    * ``scale`` (over heads), ``gate`` (over channels),
    * ``strength``: |g a| / |x|, over images with text (`branch_strength`),
    * ``entropy``: normalised, over images with at least two tokens (`attention_entropy`),
    * ``logit_size``: the logits' reach, over heads (`logit_size`; the scale itself under cosine similarity).

    A number that is undefined in every forward is left out.  Outside of the block forwards cost nothing extra.
    """
    sites = alignment_sites(model)
    meters = {name: _Meter() for name in sites}
    records: dict[str, dict[str, float]] = {}
    for name, site in sites.items():
        site._meter = meters[name]
    try:
        yield records
    finally:
        for name, site in sites.items():
            site._meter = None
            if means := meters[name].means():
                records[name] = means


def project_temperatures(module: nn.Module) -> None:
    """Put every projected temperature in ``module`` back inside its bounds.

    Any submodule takes part that has a method ``project_parameters()`` without arguments.
    """
    for submodule in module.modules():
        project = getattr(submodule, "project_parameters", None)
        if callable(project):
            project()


def projection_hook(module: nn.Module) -> Callable[[Any, Any, Any], None]:
    """Return `project_temperatures` as a hook for ``optimizer.register_step_post_hook``.

    >>> module = EncoderAlignment(8, 4, 2, temperature_learnable=True)
    >>> optimizer = torch.optim.SGD(module.parameters(), lr=1e-3)
    >>> handle = optimizer.register_step_post_hook(projection_hook(module))
    """

    def hook(_optimizer: Any, _args: Any, _kwargs: Any) -> None:
        project_temperatures(module)

    return hook


def parameter_role(name: str, owner: nn.Module) -> Role:
    """Return what a parameter is for, so that an optimizer can treat the roles apart.

    An owner says it itself by a mapping ``parameter_roles`` from its parameters' names to roles.  Else a parameter
    named ``log_scale`` is a ``"temperature"``, any other vector or scalar is ``"norm_bias"`` and the rest ``"weight"``.

    Args:
        name: the parameter's name in its owner, or its dotted path.
        owner: the module that owns it directly.
    """
    leaf = name.rpartition(".")[2]
    declared: Mapping[str, Role] = getattr(owner, "parameter_roles", {})
    if leaf in declared:
        return declared[leaf]
    if leaf == "log_scale":
        return "temperature"
    return "norm_bias" if getattr(owner, leaf).ndim <= 1 else "weight"
