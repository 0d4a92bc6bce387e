"""The models whose steps are compared: guided by text, with the text branches removed, and without text.

It does not depend on timing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from semalign.model.build import build_segmenter
from semalign.model.segmenter import Segmenter
from semalign.train.optimizer import make_optimizer, parameter_groups
from semalign.train.precision import Precision, autocast

__all__ = ["CASES", "KINDS", "Case", "forward_call", "models_of", "step_call"]

N_CLASSES = 11
TEXT_DIM = 384
KINDS = ("with text", "text removed", "without")
"""Guided by text; the same without cross attention, the decoder's FFN kept; without text and FFN."""


@dataclasses.dataclass(frozen=True)
class Case:
    """A model and what it is fed.

    Attributes:
        model: its size.
        size: height and width of the images.
        batch: images of a step.
        tokens: sentences, shared by all images.
    """

    model: str
    size: tuple[int, int]
    batch: int
    tokens: int = 11

    def __str__(self) -> str:
        """Name it as the tables do."""
        return f"{self.model}, {self.size[0]} x {self.size[1]}, batch {self.batch}, T = {self.tokens}"


CASES = (Case("nano", (144, 192), 8), Case("small", (240, 320), 4))


def models_of(case: Case) -> dict[str, Segmenter]:
    """Return a model of each of `KINDS`, alike where they hold the same."""
    build = {
        "with text": lambda: build_segmenter(N_CLASSES, size=case.model, text_dim=TEXT_DIM),
        "text removed": lambda: build_segmenter(N_CLASSES, size=case.model),
        "without": lambda: build_segmenter(N_CLASSES, size=case.model, decoder_levels=()),
    }
    return {kind: build[kind]() for kind in KINDS}


def step_call(model: Segmenter, case: Case, has_text: bool, precision: Precision = "float32") -> Callable[[], Tensor]:
    """Return a whole training step on a batch in memory: forward, loss, backward, optimizer."""
    image, text = _inputs(case, has_text)
    size = (case.size[0] // 2, case.size[1] // 2)
    mask = torch.randint(0, N_CLASSES, (case.batch, *size), generator=torch.Generator().manual_seed(1))
    _, groups = parameter_groups(model, lr=1e-4, scalar_lr=1e-4, decay=0.05, scalar_decay=0.0)
    optimizer = make_optimizer(model, groups)
    model.train()

    def call() -> Tensor:
        with autocast(precision, image.device):
            logits = model(image, text, size=size)
        loss = F.cross_entropy(logits.float(), mask)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return loss.detach()

    return call


def forward_call(model: Segmenter, case: Case, has_text: bool) -> Callable[[], Tensor]:
    """Return a forward without gradients; the text is the same in every call, as a trained model's bank is."""
    image, text = _inputs(case, has_text)
    model.eval()

    def call() -> Tensor:
        with torch.no_grad():
            logits: Tensor = model(image, text)
        return logits

    return call


def _inputs(case: Case, has_text: bool) -> tuple[Tensor, Tensor | None]:
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(case.batch, 3, *case.size, generator=generator)
    text = F.normalize(torch.randn(case.tokens, TEXT_DIM, generator=generator), dim=-1)
    return image.contiguous(memory_format=torch.channels_last), text if has_text else None
