"""The whole model: image, text and depth in, logits out."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from torch import Tensor, nn

from semalign.errors import DataError, TextError
from semalign.model.alignment import alignment_sites
from semalign.model.build import build_segmenter
from semalign.model.segmenter import Segmenter
from semalign.model.visual_encoder import ResidualNorm

BATCH, CLASSES, TOKENS, TEXT_DIM = 3, 5, 7, 11
HEIGHT, WIDTH = 53, 67


@cache
def model(*, text: bool = True, depth: bool = False, classifier: str = "linear") -> Segmenter:
    """Return a model in evaluation mode whose residual branches and gates are all open."""
    built = build_segmenter(
        CLASSES,
        text_dim=TEXT_DIM if text else None,
        depth=depth,
        classifier=classifier,
        class_dim=TEXT_DIM,
    ).eval()
    torch.manual_seed(1)
    for module in built.modules():
        if isinstance(module, ResidualNorm):
            nn.init.uniform_(module.weight, 0.5, 1.0)
    return built


def draw(*shape: int, seed: int = 0) -> Tensor:
    """Return unit normal numbers."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


IMAGE, TEXT, DEPTH = draw(BATCH, 3, HEIGHT, WIDTH), draw(BATCH, TOKENS, TEXT_DIM), draw(BATCH, 1, HEIGHT, WIDTH)


@pytest.mark.parametrize("classifier", ["linear", "text"])
@pytest.mark.parametrize("depth", [False, True])
@torch.no_grad()
def test_shapes(classifier: str, depth: bool) -> None:
    """Logits come at the image's size, or at the one asked for, one channel a class."""
    segmenter = model(depth=depth, classifier=classifier)
    classes = {"class_features": draw(13, TEXT_DIM)} if classifier == "text" else {}
    more = {"depth": DEPTH} if depth else {}

    count = 13 if classifier == "text" else CLASSES
    assert segmenter(IMAGE, TEXT, **more, **classes).shape == (BATCH, count, HEIGHT, WIDTH)
    assert segmenter(IMAGE, TEXT, **more, **classes, size=(17, 29)).shape == (BATCH, count, 17, 29)


@torch.no_grad()
def test_shared_text_is_the_same_text_for_each_image() -> None:
    """T x Ct gives what B x T x Ct with equal entries gives, with a mask and without."""
    segmenter, shared = model(), TEXT[0]
    is_padding = torch.tensor([False, True, False, False, True, False, False])

    torch.testing.assert_close(segmenter(IMAGE, shared), segmenter(IMAGE, shared.expand(BATCH, -1, -1)))
    torch.testing.assert_close(
        segmenter(IMAGE, shared, is_padding),
        segmenter(IMAGE, shared.expand(BATCH, -1, -1), is_padding.expand(BATCH, -1)),
    )
    torch.testing.assert_close(segmenter(IMAGE, shared, is_padding), segmenter(IMAGE, shared[~is_padding]))


@torch.no_grad()
def test_text_matters_and_its_order_does_not() -> None:
    """Another text gives other logits; the same sentences in another order do not."""
    segmenter, logits = model(), model()(IMAGE, TEXT)

    assert (segmenter(IMAGE, TEXT + 1) - logits).abs().max() > 1e-3
    torch.testing.assert_close(segmenter(IMAGE, TEXT[:, [4, 0, 6, 2, 1, 5, 3]]), logits)


@torch.no_grad()
def test_images_of_a_batch_do_not_meet() -> None:
    """An image's logits do not depend on the others or on their texts."""
    is_padding = torch.zeros(BATCH, TOKENS, dtype=torch.bool)
    is_padding[1] = True
    is_padding[2, 3] = True

    together = model()(IMAGE, TEXT, is_padding)

    for i in range(BATCH):
        alone = model()(IMAGE[i : i + 1], TEXT[i : i + 1], is_padding[i : i + 1])
        torch.testing.assert_close(together[i : i + 1], alone)


@torch.no_grad()
def test_an_image_without_text_is_what_the_model_without_text_says() -> None:
    """With the same parameters a guided model says of an image without text what the text-free one says, to the bit."""
    guided, free = model(), model(text=False)
    common = {name: tensor for name, tensor in guided.state_dict().items() if name in free.state_dict()}
    free.load_state_dict(common)
    is_padding = torch.ones(BATCH, TOKENS, dtype=torch.bool)

    expected = free(IMAGE)

    assert not alignment_sites(free)
    assert torch.equal(guided(IMAGE, TEXT, is_padding), expected)
    # Whatever stands in the padded rows.
    assert torch.equal(guided(IMAGE, torch.full_like(TEXT, torch.nan), is_padding), expected)
    assert torch.equal(free(IMAGE, TEXT, is_padding), expected)
    assert not torch.equal(guided(IMAGE, TEXT), expected)


def test_gradients_of_a_batch_where_one_image_has_no_text() -> None:
    """Padding that holds NaN reaches no gradient, and the text of an image without text none either."""
    segmenter = build_segmenter(CLASSES, text_dim=TEXT_DIM)
    text = TEXT.clone()
    text[1] = torch.nan
    text.requires_grad_()
    is_padding = torch.zeros(BATCH, TOKENS, dtype=torch.bool)
    is_padding[1] = True

    segmenter(IMAGE, text, is_padding).square().mean().backward()

    assert text.grad is not None
    assert (text.grad[1] == 0).all()
    assert (text.grad[0] != 0).any()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in segmenter.parameters())


@torch.no_grad()
def test_the_forms_agree() -> None:
    """The reference form gives what the fused kernel gives."""
    reference = build_segmenter(CLASSES, text_dim=TEXT_DIM, form="reference").eval()
    reference.load_state_dict(model().state_dict())

    torch.testing.assert_close(reference(IMAGE, TEXT), model()(IMAGE, TEXT), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_depth_matters() -> None:
    """A model with depth looks at it."""
    segmenter = model(depth=True)

    assert not torch.equal(segmenter(IMAGE, TEXT, depth=DEPTH), segmenter(IMAGE, TEXT, depth=-DEPTH))


def test_inputs_that_are_missing() -> None:
    """What the model was built with and does not get is named, with what to give."""
    with pytest.raises(
        TextError, match=r"was built with text and got none, expected .*: for an image without text mark"
    ):
        model()(IMAGE)
    with pytest.raises(DataError, match="the visual encoder got no depth"):
        model(depth=True)(IMAGE, TEXT)
    with pytest.raises(DataError, match="the visual encoder got depth"):
        model()(IMAGE, TEXT, depth=DEPTH)
    with pytest.raises(
        TextError, match="the text classifier needs class sentences and got none, expected classes x 11"
    ):
        model(classifier="text")(IMAGE, TEXT)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            draw(BATCH, TOKENS, 5),
            r"got text of shape \(3, 7, 5\) for 3 images, expected 3 x tokens x 11 or tokens x 11",
        ),
        (draw(2, TOKENS, TEXT_DIM), r"got text of shape \(2, 7, 11\) for 3 images"),
        (draw(BATCH, 0, TEXT_DIM), "with at least one token"),
    ],
)
def test_text_that_does_not_fit(text: Tensor, message: str) -> None:
    """Text of another width or for other images is refused by the first site it meets."""
    with pytest.raises(TextError, match=message):
        model()(IMAGE, text)
