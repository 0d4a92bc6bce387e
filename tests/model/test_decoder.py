"""The decoder: levels, fusion, classifiers."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from semalign.errors import TextError
from semalign.model.alignment import DecoderAlignment
from semalign.model.decoder import Decoder, LinearClassifier, TextClassifier, TextFreeLevel
from semalign.presets import Residual
from semalign.train.optimizer import make_optimizer, parameter_groups

BATCH, CLASSES, DIM, TEXT_DIM = 2, 3, 8, 5
SIZES = ((11, 13), (6, 7), (3, 4), (2, 2))


def features(seed: int = 0) -> list[Tensor]:
    """Return four levels of 1 to 4 channels."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(BATCH, i + 1, *size, generator=generator) for i, size in enumerate(SIZES)]


def decoder(alignments: Sequence[nn.Module] | None = None, classifier: nn.Module | None = None) -> Decoder:
    """Return a decoder of linear parts, so that it can be followed by hand."""
    torch.manual_seed(0)
    return Decoder(
        [nn.Conv2d(i + 1, DIM, 1) for i in range(4)],
        alignments or [TextFreeLevel(DIM, "plain") for _ in range(4)],
        [nn.Conv2d(DIM, DIM, 1) for _ in range(3)],
        nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(4, DIM, 1)),
        classifier or LinearClassifier(DIM, CLASSES),
    )


def test_the_path_by_hand() -> None:
    """From the coarsest level with its context down: enlarge, add the next level, fuse; classify at the finest."""
    model, levels = decoder(), features()

    logits = model(levels)

    lateral = [project(level) for project, level in zip(model.laterals, levels, strict=True)]
    y = lateral[3] + model.context(levels[3].mean(dim=(2, 3), keepdim=True))
    for i in (2, 1, 0):
        y = model.fusions[i](lateral[i] + F.interpolate(y, size=SIZES[i], mode="bilinear"))
    torch.testing.assert_close(logits, model.classifier(y))
    assert logits.shape == (BATCH, CLASSES, 11, 13)


def test_each_level_meets_the_text_in_its_own_place() -> None:
    """Each alignment gets its own level, channels last, and the text as it was given."""
    seen: list[tuple[tuple[int, ...], object, object]] = []

    class Witness(nn.Module):
        def forward(self, x: Tensor, text: object, is_padding: object) -> Tensor:
            seen.append(((*x.shape,), text, is_padding))
            return x

    text, is_padding = torch.randn(3, TEXT_DIM), torch.zeros(3, dtype=torch.bool)
    decoder([Witness() for _ in range(4)])(features(), text, is_padding)

    assert [shape for shape, _, _ in seen] == [(BATCH, *size, DIM) for size in SIZES]
    assert all(one is text and other is is_padding for _, one, other in seen)


@pytest.mark.parametrize(
    ("residual", "preset"), [("pre-norm", "recommended"), ("normalized", "seed"), ("plain", "document")]
)
@pytest.mark.filterwarnings("ignore::semalign.align.temperature.DeadKnobWarning")
def test_a_level_without_text_is_an_alignment_without_its_branch(residual: Residual, preset: str) -> None:
    """With the same parameters it gives what the guided level gives for images without text, bit for bit."""
    torch.manual_seed(0)
    guided = DecoderAlignment(DIM, TEXT_DIM, 2, preset=preset, allow_dead=True)
    free = TextFreeLevel(DIM, residual)
    for parameter in guided.parameters():
        nn.init.normal_(parameter)
    shared = {name: tensor for name, tensor in guided.state_dict().items() if name in free.state_dict()}
    free.load_state_dict(shared)
    x = torch.randn(BATCH, 5, 7, DIM)

    without = guided(x, torch.randn(BATCH, 3, TEXT_DIM), torch.ones(BATCH, 3, dtype=torch.bool))

    assert guided.knobs.residual == residual
    assert torch.equal(free(x), without)
    assert torch.equal(free(x, torch.randn(3, TEXT_DIM)), free(x))
    assert (len(shared) == 0) == (residual == "plain")


def test_the_text_classifier_by_hand() -> None:
    """exp(l) times the cosine of the pixel's projection and the class's sentence."""
    classifier = TextClassifier(2, 2)
    with torch.no_grad():
        classifier.project.weight.copy_(torch.eye(2)[:, :, None, None])
        classifier.project.bias.zero_()  # type: ignore[union-attr]
        classifier.log_scale.fill_(math.log(10))
    pixel = torch.tensor([3.0, 4.0]).reshape(1, 2, 1, 1)

    logits = classifier(pixel, torch.tensor([[2.0, 0.0], [0.0, -7.0], [6.0, 8.0]]))

    torch.testing.assert_close(logits.flatten(), torch.tensor([6.0, -8.0, 10.0]))


def test_the_text_classifier_starts_as_clips() -> None:
    """The scale starts at 1/0.07, about 14.3."""
    assert TextClassifier(3, 2).log_scale.exp().item() == pytest.approx(1 / 0.07)


def test_the_text_classifier_answers_for_any_classes() -> None:
    """The number and order of the classes are an input; a class's logit does not depend on the others."""
    torch.manual_seed(0)
    classifier, x = TextClassifier(DIM, TEXT_DIM), torch.randn(BATCH, DIM, 5, 7)
    sentences = torch.randn(11, TEXT_DIM)

    logits = classifier(x, sentences)

    assert logits.shape == (BATCH, 11, 5, 7)
    torch.testing.assert_close(classifier(x, sentences[[7, 2]]), logits[:, [7, 2]])
    torch.testing.assert_close(classifier(x, 3 * sentences), logits)


@pytest.mark.parametrize(
    ("given", "got"), [(None, "none"), (torch.zeros(3, 4), r"features of shape \(3, 4\)"), (torch.zeros(5), r"\(5,\)")]
)
def test_the_text_classifier_needs_class_sentences(given: Tensor | None, got: str) -> None:
    """Without class sentences, or with those of another encoder, it says what it expects."""
    with pytest.raises(
        TextError, match=rf"the text classifier needs class sentences and got .*{got}, expected classes x 5"
    ):
        TextClassifier(DIM, TEXT_DIM)(torch.zeros(1, DIM, 2, 2), given)


@pytest.mark.parametrize(("start", "end"), [(math.log(100) + 1, math.log(100)), (-1.0, 0.0), (1.0, None)])
def test_the_optimizer_puts_the_logit_scale_back(start: float, end: float | None) -> None:
    """After each step l lies in [0, log 100]; inside it moves freely."""
    torch.manual_seed(0)
    classifier = TextClassifier(DIM, TEXT_DIM)
    with torch.no_grad():
        classifier.log_scale.fill_(start)
    rows, groups = parameter_groups(classifier, lr=1e-3, scalar_lr=1e-3, decay=0.05, scalar_decay=0.0)
    optimizer = make_optimizer(classifier, groups)

    classifier(torch.randn(BATCH, DIM, 5, 7), torch.randn(3, TEXT_DIM)).square().mean().backward()
    optimizer.step()

    assert [(row.role, row.names) for row in rows] == [
        ("weights", ("project.weight",)),
        ("norms and biases", ("project.bias",)),
        ("temperatures", ("log_scale",)),
    ]
    value = classifier.log_scale.item()
    if end is None:
        assert value != start
        assert 0 < value < math.log(100)
    else:
        assert value == pytest.approx(end)
