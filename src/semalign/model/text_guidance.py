"""Text guidance for a backbone that was written without text: how the text reaches the places that take it.

The backbone keeps its modules, weights and forward.  Each place has a forward hook that aligns its output with the text
by an `EncoderAlignment`; these are kept beside the backbone, in the module that holds both.
"""

from __future__ import annotations

import inspect
import itertools
import math
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, get_args

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from semalign.errors import ConfigError, TextError, nearest
from semalign.model.alignment import EncoderAlignment
from semalign.model.families import Layout
from semalign.model.places import Per, Place, find_places, match_places
from semalign.presets import AlignmentForm

__all__ = ["TextGuided", "add_text_guidance", "remove_text_guidance"]


class _Guiding(NamedTuple):
    """The text of one forward.

    Attributes:
        text: T x Ct or B x T x Ct.
        is_padding: T or B x T, or None.
        image_size: H, W of the backbone's input; None where it has none of the kind.
    """

    text: Tensor
    is_padding: Tensor | None
    image_size: tuple[int, int] | None


class _Channel:
    """How the text reaches the hooks without passing through the backbone's forward.

    It is each thread's own, so that one model serves several threads with different texts.  An open context can be
    seen from other threads as well, as long as it is the only one: on accelerators the backward, and with it what a
    checkpoint runs again, has a thread of its own.
    """

    def __init__(self) -> None:
        self._own = threading.local()
        self._contexts: list[_Guiding] = []

    def __reduce__(self) -> tuple[type[_Channel], tuple[()]]:
        # A copy starts without text; a thread's own values can be neither copied nor pickled.
        return _Channel, ()

    def own(self) -> _Guiding | None:
        """Return this thread's text."""
        guiding: _Guiding | None = getattr(self._own, "now", None)
        return guiding

    def seen(self) -> _Guiding | None:
        """Return this thread's text, or that of the one open context of any thread."""
        own = self.own()
        return self._contexts[0] if own is None and len(self._contexts) == 1 else own

    @contextmanager
    def given(self, guiding: _Guiding) -> Iterator[None]:
        """Give this thread a text."""
        before = self.own()
        self._own.now = guiding
        try:
            yield
        finally:
            self._own.now = before

    @contextmanager
    def opened(self, guiding: _Guiding) -> Iterator[None]:
        """Give this thread a text, which other threads see where they have none."""
        self._contexts.append(guiding)
        try:
            with self.given(guiding):
                yield
        finally:
            self._contexts = [other for other in self._contexts if other is not guiding]


class _Hook:
    """Aligns what a place gives; an object and not a closure, so that a copied model's hooks are its own."""

    def __init__(self, path: str, place: Place, alignment: EncoderAlignment, channel: _Channel) -> None:
        self.path, self.place, self.alignment, self.channel = path, place, alignment, channel

    def __call__(self, _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
        guiding = self.channel.seen()
        if guiding is None:
            raise TextError(
                f"the guided place '{self.path}' ran without a text, expected one: call the module that "
                "add_text_guidance returned with text=..., or run the forward (and, where it is checkpointed by "
                "torch.utils.checkpoint, its backward) inside of `with guided.using_text(...)`"
            )
        if isinstance(output, Tensor):
            return self._align(output, guiding, args, kwargs)
        if isinstance(output, tuple | list) and output and isinstance(output[0], Tensor):
            rest = [self._align(output[0], guiding, args, kwargs), *output[1:]]
            if hasattr(output, "_make"):
                return output._make(rest)
            return type(output)(rest)
        raise ConfigError(
            f"the guided place '{self.path}' gives a {type(output).__name__}, expected a tensor, or a tuple or list "
            "whose first entry is the features: name a module inside of it that gives them"
        )

    def _align(self, x: Tensor, guiding: _Guiding, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        """Return the features aligned, in their own layout and memory order."""
        layout, prefix = self._layout(x), self.place.prefix_tokens

        def aligned(features: Tensor) -> Tensor:
            y: Tensor = self.alignment(features, guiding.text, guiding.is_padding)
            return y

        if layout == "channels-last":
            y = aligned(x)
        elif layout == "channels-first":
            y = rearrange(aligned(rearrange(x, "b c h w -> b h w c")), "b h w c -> b c h w")
        else:
            positions = x[:, prefix:]
            grid = _grid(positions.shape[1], [*args[1:], *kwargs.values()], guiding.image_size)
            if grid is not None:
                positions = rearrange(positions, "b (h w) c -> b h w c", h=grid[0])
            y = aligned(positions).reshape(x.shape[0], -1, x.shape[2])
            if prefix:
                y = torch.cat([x[:, :prefix], y], dim=1)
        if y.stride() != x.stride():
            # Another order in memory would make later layers take other kernels, with other last bits.
            y = torch.empty_like(x).copy_(y)
        return y

    def _layout(self, x: Tensor) -> Layout:
        place = self.place
        axes = {"channels-first": (4, 1), "channels-last": (4, 3), "tokens": (3, 2)}
        fits = [
            layout
            for layout, (ndim, axis) in axes.items()
            if (x.ndim == 3 or place.layout in ("auto", layout)) and x.ndim == ndim and x.shape[axis] == place.dim
        ]
        shape = " x ".join(map(str, x.shape))
        if not fits:
            layout = "channels-first, channels-last or tokens" if place.layout == "auto" else place.layout
            raise ConfigError(
                f"the guided place '{self.path}' gives features of shape {shape}, expected {layout} with {place.dim} "
                f"channels: correct its width or layout in places"
            )
        if len(fits) > 1:
            raise ConfigError(
                f"the guided place '{self.path}' gives features of shape {shape}, in which two axes have its "
                f"{place.dim} channels, expected one: name it by places={{..., Place({place.dim}, 'channels-first')}}"
            )
        return fits[0]  # type: ignore[return-value]


def _grid(positions: int, arguments: Sequence[Any], image: tuple[int, int] | None) -> tuple[int, int] | None:
    """Return height and width of a row of positions: from the arguments of the block, else as patches of the image."""
    pairs = [tuple(a) for a in arguments if isinstance(a, tuple | list | torch.Size) and len(a) == 2]
    pairs += list(itertools.pairwise(arguments))
    for pair in pairs:
        if all(isinstance(side, int) and not isinstance(side, bool) for side in pair):
            height, width = pair
            if height * width == positions:
                return height, width
    if image is not None and positions:
        near = math.sqrt(image[0] * image[1] / positions)
        for patch in range(max(1, math.floor(near) - 1), math.ceil(near) + 2):
            if (image[0] // patch) * (image[1] // patch) == positions:
                return image[0] // patch, image[1] // patch
    return None


class _Carried:
    """A checkpointing function that runs its function again with the text of its first time."""

    def __init__(self, checkpoint: Callable[..., Any], channel: _Channel) -> None:
        self.checkpoint, self.channel = checkpoint, channel

    def __call__(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        guiding = self.channel.own()
        if guiding is None:
            return self.checkpoint(function, *args, **kwargs)

        def with_text(*inputs: Any, **options: Any) -> Any:
            with self.channel.given(guiding):
                return function(*inputs, **options)

        return self.checkpoint(with_text, *args, **kwargs)


_CHECKPOINT = "_gradient_checkpointing_func"


class TextGuided(nn.Module):
    """A backbone and its text guidance; made by `add_text_guidance`.

    Its forward takes what the backbone's takes, and ``text`` and ``is_padding`` by keyword.  A state dict of the
    backbone alone loads into it as well, and leaves the guidance as it is.

    Attributes:
        backbone: the backbone itself, whose parameters keep their names and values.
        guidance: the `EncoderAlignment` of each place, under the site's name.
        places: the sites' names by the dotted path of the module whose output they align.
    """

    def __init__(
        self,
        backbone: nn.Module,
        alignments: Mapping[str, tuple[str, Place, EncoderAlignment]],
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.guidance = nn.Module()
        self.places = {path: site for path, (site, _, _) in alignments.items()}
        self._channel = _Channel()
        self._handles: list[RemovableHandle] = []
        for path, (site, place, alignment) in alignments.items():
            owner = self.guidance
            *parts, last = site.split(".")
            for part in parts:
                if part not in owner._modules:
                    owner.add_module(part, nn.Module())
                owner = owner.get_submodule(part)
            owner.add_module(last, alignment)
            # First of all hooks: others record what the place gives, and it gives this.
            self._handles.append(
                backbone.get_submodule(path).register_forward_hook(
                    _Hook(path, place, alignment, self._channel), prepend=True, with_kwargs=True
                )
            )
        self.training = backbone.training
        self.guidance.train(backbone.training)
        self.register_load_state_dict_pre_hook(_take_original)  # type: ignore[no-untyped-call]

    def forward(
        self,
        *args: Any,
        text: Float[Tensor, ...] | None = None,
        is_padding: Bool[Tensor, ...] | None = None,
        **kwargs: Any,
    ) -> Any:
        """Return what the backbone returns, guided.

        Args:
            *args: as the backbone takes them.
            text: T x Ct (shared by all images) or B x T x Ct; by default that of `using_text`.
            is_padding: T or B x T, True for tokens that are not there.
            **kwargs: as the backbone takes them.

        Raises:
            TextError: there is no text, or its shape does not fit.
        """
        if text is None:
            outer = self._channel.own()
            if outer is None or is_padding is not None:
                raise TextError(
                    "the guided backbone got no text, expected token features T x Ct or B x T x Ct by text=... or "
                    "`with guided.using_text(...)`: for an image without text mark every token in is_padding"
                )
            text, is_padding = outer.text, outer.is_padding
        if self.training and torch.is_grad_enabled():
            self._carry_through_checkpoints()
        image = next((a for a in (*args, *kwargs.values()) if isinstance(a, Tensor) and a.ndim == 4), None)
        size = None if image is None else (image.shape[2], image.shape[3])
        with self._channel.given(_Guiding(text, is_padding, size)):
            return self.backbone(*args, **kwargs)

    @contextmanager
    def using_text(self, text: Float[Tensor, ...], is_padding: Bool[Tensor, ...] | None = None) -> Iterator[None]:
        """Guide every forward inside of the ``with`` by one text: for a backbone deep in a model that passes none on.

        Args:
            text: T x Ct or B x T x Ct.
            is_padding: T or B x T, True for tokens that are not there.
        """
        with self._channel.opened(_Guiding(text, is_padding, None)):
            yield

    def _carry_through_checkpoints(self) -> None:
        """Let what transformers' activation checkpointing runs again in the backward run with its own text."""
        for module in self.backbone.modules():
            function = module.__dict__.get(_CHECKPOINT)
            if function is not None and not isinstance(function, _Carried):
                setattr(module, _CHECKPOINT, _Carried(function, self._channel))

    def _release(self) -> nn.Module:
        """Take every trace of the guidance from the backbone and return it."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        for module in self.backbone.modules():
            function = module.__dict__.get(_CHECKPOINT)
            if isinstance(function, _Carried):
                setattr(module, _CHECKPOINT, function.checkpoint)
        return self.backbone

    def extra_repr(self) -> str:
        """Name the places."""
        return f"places: {', '.join(self.places)}"


def _take_original(module: nn.Module, state_dict: dict[str, Any], prefix: str, *_: object) -> None:
    """Take a state dict of the backbone alone: its names get their prefix, and the guidance stays as it is."""
    assert isinstance(module, TextGuided)
    own = [key for key in state_dict if key.startswith(prefix)]
    names = module.backbone.state_dict().keys()
    if any(key.startswith(f"{prefix}guidance.") for key in own) or not names & {key[len(prefix) :] for key in own}:
        return
    renamed = {f"{prefix}backbone.{key[len(prefix) :]}": state_dict.pop(key) for key in own}
    state_dict |= renamed
    state_dict |= {f"{prefix}guidance.{name}": value for name, value in module.guidance.state_dict().items()}


def add_text_guidance(
    backbone: nn.Module,
    *,
    text_dim: int,
    stages: Sequence[int] = (1, 2, 3),
    heads: int = 4,
    preset: str = "recommended",
    per: Per = "block",
    places: Mapping[str, int | Place] | None = None,
    form: AlignmentForm = "auto",
    allow_dead: bool = False,
    **knobs: object,
) -> TextGuided:
    """Let text into a backbone: y = x + g * has_text * attention(x, text) on the output of each place.

    Only hooks are added to the backbone, on its places: its modules, parameters and their names stay the same.
    With gate 0 (``gate_init=0.0``) its output is the same as before, bit for bit, and it learns to use the text from
    there.  `remove_text_guidance` removes the hooks again.

    Args:
        backbone: a model of Hugging Face's transformers (Swin, Swin-v2, ConvNeXt, ConvNeXt-v2, PVT-v2, SegFormer,
            DINOv2, ResNet), a timm model made with ``features_only=True``, or any module with ``places``.
        text_dim: channels Ct of the text features.
        stages: stages whose blocks are guided, 0 the finest; a plain transformer's blocks are counted as four stages.
        heads: attention heads; must divide the width of every place.
        preset: a name in `semalign.presets.PRESETS`.
        per: "block" guides every block of the stages, "stage" the last block of each.
        places: the modules to guide instead, by dotted path (``*`` stands for any one name between dots), and for
            each its channels or a `Place`; ``stages`` and ``per`` are not used then.
        form: how the alignment is computed, see `EncoderAlignment`.
        allow_dead: accept a learnable temperature that cannot learn, with a warning.
        **knobs: changes to the preset, see `semalign.align.knobs.resolve_knobs`.

    Returns:
        The guided backbone: call it as the backbone, with ``text=`` and ``is_padding=``.

    Raises:
        ConfigError: the family is unknown, a path names no module, heads do not divide a width, a knob is wrong, or
            the backbone is guided already.

    >>> net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 12, 3))
    >>> guided = add_text_guidance(net, text_dim=5, places={"1": 8, "2": 12})
    >>> guided(torch.zeros(2, 3, 11, 13), text=torch.zeros(7, 5)).shape
    torch.Size([2, 12, 7, 9])
    """
    if per not in get_args(Per):
        raise ConfigError(f"add_text_guidance got per={per!r}{nearest(str(per), get_args(Per))}")
    for path, module in backbone.named_modules():
        if isinstance(module, TextGuided) or any(isinstance(hook, _Hook) for hook in module._forward_hooks.values()):
            raise ConfigError(
                f"add_text_guidance got a backbone that is guided already{f' at {path!r}' if path else ''}, expected "
                "one without guidance: call remove_text_guidance first, and keep to the module that this returned"
            )
    if places is not None and not places:
        raise ConfigError("add_text_guidance got places without a path, expected at least one")
    found = match_places(backbone, places) if places is not None else find_places(backbone, stages, per)
    for path, (_, place) in found.items():
        if isinstance(heads, int) and heads > 0 and place.dim % heads:
            raise ConfigError(
                f"add_text_guidance got heads={heads}, which does not divide the width {place.dim} of '{path}', "
                "expected a common divisor of all widths"
            )
    like = next((p for p in backbone.parameters() if p.is_floating_point()), torch.empty(0))
    settings: dict[str, Any] = {"preset": preset, "form": form, "allow_dead": allow_dead, **knobs}
    alignments = {
        path: (site, place, EncoderAlignment(place.dim, text_dim, heads, **settings).to(like.device, like.dtype))
        for path, (site, place) in found.items()
    }
    for name in ("text", "is_padding"):
        if name in inspect.signature(backbone.forward).parameters:
            raise ConfigError(
                f"add_text_guidance got a {type(backbone).__name__} whose forward has a parameter '{name}' of its own, "
                "expected none: guide the part of it that sees the image alone"
            )
    return TextGuided(backbone, alignments)


def remove_text_guidance(model: nn.Module) -> nn.Module:
    """Return ``model`` without text guidance: what `add_text_guidance` was given, as it was.

    Args:
        model: what `add_text_guidance` returned (its backbone is returned), or a model that holds such modules (in
            which each is replaced by its backbone).

    Raises:
        ConfigError: nothing in it is guided.
    """
    if isinstance(model, TextGuided):
        return model._release()
    owners = [
        (owner, name, child)
        for owner in model.modules()
        for name, child in owner.named_children()
        if isinstance(child, TextGuided)
    ]
    if not owners:
        raise ConfigError(
            f"remove_text_guidance got a {type(model).__name__} without text guidance, expected the module that "
            "add_text_guidance returned, or a model that holds it"
        )
    for owner, name, child in owners:
        owner._modules[name] = child._release()
    return model
