"""The alignments: modules that let text features into visual features.

`EncoderAlignment` is the light one of the visual encoder, `DecoderAlignment` the deep one of the decoder.  Both own
their projections, a `Temperature` and a `Gate`, and call the functions of `semalign.align`.  They do not depend on
images, sentences, optimizers or the model that they are part of.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, get_args

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from semalign.align.attention import attend, attention_weights, has_text, silence_padding
from semalign.align.cpu.folded import SiteWeights, align_folded, attend_folded, fold, present_tokens, runs_in_blocks
from semalign.align.cpu.form_times import AlignmentCall, cheapest_form
from semalign.align.diagnostics import attention_entropy, branch_strength, logit_size, mean_defined
from semalign.align.fold import FoldedText, FoldWeights, product_dtype, without_autocast
from semalign.align.gate import add_branch, gated_projection
from semalign.align.knobs import resolve_knobs
from semalign.errors import ConfigError, TextError, nearest
from semalign.model.feed_forward import feed_forward_of, with_feed_forward
from semalign.model.fold_cache import CachedFold
from semalign.model.gate import Gate
from semalign.model.inputs import flat_inputs, spatial_shape
from semalign.model.projection import Projection, gated_output, is_its_weight, is_listened_to, projected
from semalign.model.temperature import Temperature
from semalign.presets import AlignmentForm, AlignmentKnobs, Side

__all__ = ["Alignment", "DecoderAlignment", "EncoderAlignment", "SingleTokenWarning", "alignment_sites"]


class SingleTokenWarning(UserWarning):
    """The text has one token: every attention weight is 1 and the temperature has no effect."""


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
        preset: str = "recommended",
        form: AlignmentForm = "auto",
        allow_dead: bool = False,
        **knobs: object,
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
        if form not in get_args(AlignmentForm):
            raise ConfigError(
                f"{where} got form={form!r}, which is unknown{nearest(str(form), get_args(AlignmentForm))}"
            )
        self.knobs: AlignmentKnobs = resolve_knobs(preset, self.side, **knobs)
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
        self._add_parts()
        self.save_attention = False
        self.last_attention: Tensor | None = None
        self.last_spatial_shape: tuple[int, int] | None = None
        self._record: Callable[[str, float | None], None] | None = None
        self._cached: CachedFold | None = None
        self._warned_of_single_token = False

    def _add_parts(self) -> None:
        """Add the modules that a side has beside the attention."""

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
        rows, text = flat_inputs(where, x, text, self.dim, self.text_dim)
        batch, tokens = x.shape[0], text.shape[1]
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
            self.last_spatial_shape = spatial_shape(x)
        return rows, text, is_padding

    def _align(
        self,
        stream: Float[Tensor, "batch positions dim"],
        source: Float[Tensor, "batch positions dim"],
        text: Float[Tensor, "#batch tokens text_dim"],
        is_padding: Bool[Tensor, "#batch tokens"] | None,
    ) -> Float[Tensor, "batch positions dim"]:
        """Return stream + has_text * g * (concat_h(weights_h v_h) Wo + bo), the queries being made of ``source``."""
        if self.save_attention or self._record is not None:
            self._observe(source, text, is_padding)
        present = None
        if is_padding is not None and self.form != "reference" and runs_in_blocks(source):
            # What is masked for every image is left out, so that it costs nothing.
            kept, present = present_tokens(is_padding)
            if kept is not None:
                text, is_padding = text[:, kept], is_padding[:, kept]
            if present is None and not is_padding.any():
                is_padding = None
        if not self._folds(source, text):
            branch = self._branch(source, text, is_padding)
            self._note_strength(stream, branch, is_padding)
            return add_branch(stream, branch, None if is_padding is None else has_text(is_padding))
        about: dict[str, Any] = {"is_padding": is_padding, "present": present, "top_k": self.knobs.top_k}
        dtype = product_dtype(source)
        if self._record is not None:
            with torch.no_grad():
                bank = self._folded_text(text, is_padding)
                branch = attend_folded(torch.zeros_like(stream), source, bank, dtype=dtype, **about)
            self._note_strength(stream, branch, is_padding)
        if self._is_one_node(source, text):
            spoken = text if is_padding is None else silence_padding(text, is_padding)
            key, value = self.k_proj, self.v_proj
            weights = SiteWeights(key.weight, key.bias, value.weight, value.bias, self._fold_weights())
            return align_folded(
                stream, source, spoken, weights, heads=self.heads, similarity=self.knobs.similarity, **about
            )
        return attend_folded(stream, source, self._folded_text(text, is_padding), dtype=dtype, **about)

    @torch.no_grad()
    def _note_strength(self, stream: Tensor, branch: Tensor, is_padding: Tensor | None) -> None:
        if self._record is not None:
            self._record("strength", mean_defined(branch_strength(stream, branch, is_padding)))

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
        if not plain or not runs_in_blocks(source) or product_dtype(source).itemsize < 4:
            return False
        call = AlignmentCall(
            channels=self.dim,
            heads=self.heads,
            rows=source.shape[0] * source.shape[1],
            tokens=text.shape[1],
            texts=text.shape[0],
            text_dim=self.text_dim,
            cosine=self.knobs.similarity != "dot",
            training=torch.is_grad_enabled(),
        )
        return cheapest_form(call) == "folded"

    def _is_one_node(self, source: Tensor, text: Tensor) -> bool:
        """Say whether projections, fold and attention may be one node of the graph: no hook needs what is between."""
        if not torch.is_grad_enabled() or not runs_in_blocks(source):
            return False
        layers = (self.q_proj, self.k_proj, self.v_proj, self.o_proj)
        if any(map(is_listened_to, layers)):
            return False
        weight = self.k_proj.weight
        return product_dtype(source) == source.dtype == text.dtype == weight.dtype

    def _fold_weights(self) -> FoldWeights:
        query, out = self.q_proj, self.o_proj
        return FoldWeights(self.temperature(), self.gate(), query.weight, query.bias, out.weight, out.bias)

    def _folded_text(
        self, text: Float[Tensor, "#batch tokens text_dim"], is_padding: Bool[Tensor, "#batch tokens"] | None
    ) -> FoldedText:
        """Return the folded bank, without gradients from the cache where weights, text and mask are what they were."""
        if torch.is_grad_enabled() or not runs_in_blocks(text):
            return self._fold(text, is_padding)
        weights = self._stamped_weights()
        if any(weight.is_inference() for weight in weights):
            return self._fold(text, is_padding)
        # Read once: another thread may put the fold of its own text there at any time.
        cached = self._cached
        if cached is None or not cached.holds_for(weights, text, is_padding):
            cached = self._cached = CachedFold.of(weights, text, is_padding, self._fold(text, is_padding))
        return cached.folded

    def _stamped_weights(self) -> list[Tensor]:
        """Return everything that the fold is made of but the text."""
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
                self._fold_weights(),
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
            projected(self.q_proj, query_input, exact=exact),
            projected(self.k_proj, text, exact=exact),
            projected(self.v_proj, text, exact=exact),
            self.temperature(),
            form="reference" if exact else "sdpa",
            **self._attention(is_padding),
        )
        if not exact or not is_its_weight(self.o_proj):
            return gated_output(self.o_proj, mixed.to(self.o_proj.weight.dtype) if exact else mixed, self.gate())
        return gated_projection(mixed, self.o_proj.weight.double(), self.o_proj.bias.double(), self.gate().double())

    def _attention(self, is_padding: Tensor | None) -> dict[str, Any]:
        """Return what `attend` and `attention_weights` take beside tensors and scale."""
        knobs = self.knobs
        return {"heads": self.heads, "similarity": knobs.similarity, "is_padding": is_padding, "top_k": knobs.top_k}

    @torch.no_grad()
    def _observe(self, source: Tensor, text: Tensor, is_padding: Tensor | None) -> None:
        """Compute queries, keys and attention weights once more, for ``save_attention`` and `recording`."""
        if is_padding is not None:
            text = silence_padding(text, is_padding)
        exact = self.form == "reference"
        query, key = projected(self.q_proj, source, exact=exact), projected(self.k_proj, text, exact=exact)
        scale = self.temperature()
        scale = scale.to(torch.promote_types(scale.dtype, query.dtype))
        weights = attention_weights(query, key, scale, **self._attention(is_padding))
        if self.save_attention:
            self.last_attention = weights
        if self._record is not None:
            reach = scale
            if self.knobs.similarity == "dot":
                reach = logit_size(query, key, scale, heads=self.heads, is_padding=is_padding)
            self._record("scale", scale.mean().item())
            self._record("gate", self.gate().mean().item())
            self._record("entropy", mean_defined(attention_entropy(weights, is_padding)))
            self._record("logit_size", mean_defined(reach.reshape(-1)))


class EncoderAlignment(Alignment):
    """Light cross attention to text inside a visual encoder (the source document's SSA-lite).

    y = x + g * has_text * (concat_h(weights_h v_h) Wo + bo) with weights = softmax over tokens of scale * s(q_h, k_h).
    No norm and no FFN.  An image without text is returned unchanged, bit for bit.

    Args:
        dim: channels C of the visual features.
        text_dim: channels Ct of the text features.
        heads: attention heads; must divide ``dim``.
        preset: a name in `semalign.presets.PRESETS`.
        form: how it is computed, the same function: ``"folded"`` (`semalign.align.fold`), ``"sdpa"`` (torch's fused
            kernel), ``"reference"`` (plain, in float64), or ``"auto"``, the faster of the first two by measured costs.
        allow_dead: accept a learnable temperature whose gradient is exactly 0, with a warning.
        **knobs: changes to the preset, see `semalign.align.knobs.resolve_knobs`.

    Raises:
        ConfigError: an option is unknown, out of range or contradicts another, or the temperature is dead.
    """

    side: Side = "encoder"

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

    def _add_parts(self) -> None:
        if self.knobs.residual != "plain":
            self.norm1 = nn.LayerNorm(self.dim)
            self.norm2 = nn.LayerNorm(self.dim)
            self.ffn = feed_forward_of(self.dim)

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
        if residual != "plain":
            y = with_feed_forward(y, residual, self.norm2, self.ffn)
        return y.reshape(x.shape)


def alignment_sites(model: nn.Module) -> dict[str, Alignment]:
    """Return every alignment of ``model`` by its dotted path, in the order of the model's modules."""
    return {name: module for name, module in model.named_modules() if isinstance(module, Alignment)}
