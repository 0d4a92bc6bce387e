"""The visual encoder: stages, blocks, the places where text enters."""

from __future__ import annotations

import pytest
import torch
from einops import rearrange
from torch import Tensor, nn

from semalign.errors import DataError
from semalign.model.visual_encoder import Block, ConvNorm, ResidualNorm, Stage, VisualEncoder

BATCH, HEIGHT, WIDTH = 2, 37, 53
CHANNELS = (5, 7, 11, 13)


class Witness(nn.Module):
    """An alignment that keeps what it is called with and adds 1."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[Tensor, object, object]] = []

    def forward(self, x: Tensor, text: object, is_padding: object) -> Tensor:
        """Return x + 1."""
        self.seen.append((x.detach().clone(), text, is_padding))
        return x + 1


def encoder(*, depth: bool = False, alignment: nn.Module | None = None) -> VisualEncoder:
    """Return an encoder of four stages, the second with two blocks, the others with one."""
    torch.manual_seed(0)
    stages = [
        Stage(ConvNorm(before, after, 3, 2), [Block(after, alignment if i == 1 else None) for _ in range(1 + (i == 1))])
        for i, (before, after) in enumerate(zip((3, *CHANNELS), CHANNELS, strict=False))
    ]
    return VisualEncoder(ConvNorm(3, 3, 3, 2), stages, CHANNELS, ConvNorm(1, 3, 3, 2) if depth else None)


def image(channels: int = 3) -> Tensor:
    """Return a batch of images with prime sides."""
    return torch.randn(BATCH, channels, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(1))


def test_shapes() -> None:
    """Four levels, finest first, of the channels and strides it tells; odd sides are rounded up at each halving."""
    model = encoder()

    features = model(image())

    assert model.channels == CHANNELS
    assert model.strides == (4, 8, 16, 32)
    assert [tuple(feature.shape) for feature in features] == [
        (BATCH, 5, 10, 14),
        (BATCH, 7, 5, 7),
        (BATCH, 11, 3, 4),
        (BATCH, 13, 2, 2),
    ]


def test_a_block_by_hand() -> None:
    """relu(x + bn(conv(alignment(relu(bn(conv x))), text)))) with an alignment that adds 1."""
    block = Block(5, Witness()).eval()
    nn.init.normal_(block.feed_forward[1].weight)  # type: ignore[arg-type]
    x = torch.randn(BATCH, 5, 7, 11)

    y = block(x, None)

    mixed = torch.relu(block.token_mixing[1](block.token_mixing[0](x)))
    expected = torch.relu(x + block.feed_forward[1](block.feed_forward[0](mixed + 1)))
    torch.testing.assert_close(y, expected)


def test_a_block_starts_as_the_identity() -> None:
    """The last norm of the residual branch starts at 0, whatever the alignment adds; resetting puts it back."""
    block = Block(5, Witness())
    x = torch.randn(BATCH, 5, 7, 11)

    assert torch.equal(block(x, None), torch.relu(x))
    norm = block.feed_forward[1]
    assert isinstance(norm, ResidualNorm)
    nn.init.normal_(norm.weight)
    norm.reset_parameters()
    assert torch.equal(norm.weight, torch.zeros(5))


def test_text_reaches_every_block_of_its_stage() -> None:
    """An alignment gets the token mixing's features, channels last, with the text as it was given."""
    witness = Witness()
    model = encoder(alignment=witness)
    text, is_padding = torch.randn(3, 2), torch.zeros(3, dtype=torch.bool)

    model(image(), text, is_padding)

    assert len(witness.seen) == 2
    for x, seen_text, seen_padding in witness.seen:
        assert x.shape == (BATCH, 5, 7, 7)
        assert (x >= 0).all()
        assert seen_text is text
        assert seen_padding is is_padding


def test_without_alignment_text_changes_nothing() -> None:
    """A block without an alignment does not look at the text."""
    model = encoder().eval()

    for with_text, without in zip(model(image(), torch.randn(3, 2)), model(image()), strict=True):
        assert torch.equal(with_text, without)


def test_depth_is_added_after_the_stem() -> None:
    """The encoder with depth is the one without whose stem's features have the depth's added."""
    model, depth = encoder(depth=True).eval(), image(1)
    assert model.depth_stem is not None

    together = model(image(), depth=depth)

    added = model.stem(image()) + model.depth_stem(depth)
    model.stem, model.depth_stem = nn.Identity(), None
    for one, other in zip(together, model(added), strict=True):
        torch.testing.assert_close(one, other)


def test_depth_that_is_missing_or_too_much() -> None:
    """Depth is neither invented nor dropped."""
    with pytest.raises(DataError, match=r"the visual encoder got no depth, .*: it was built with it"):
        encoder(depth=True)(image())
    with pytest.raises(DataError, match=r"the visual encoder got depth, .*: it was built without it"):
        encoder()(image(), depth=image(1))


def test_memory_format_does_not_matter() -> None:
    """Channels-last weights and images give what contiguous ones give, and features stay channels-last."""
    model = encoder(alignment=Witness()).eval()
    for module in model.modules():
        if isinstance(module, ResidualNorm):
            nn.init.normal_(module.weight)
    plain = model(image())

    last = model.to(memory_format=torch.channels_last)(  # type: ignore[call-overload]
        image().contiguous(memory_format=torch.channels_last)
    )

    for one, other in zip(plain, last, strict=True):
        torch.testing.assert_close(one, other)
    assert last[0].is_contiguous(memory_format=torch.channels_last)


def test_images_of_a_batch_do_not_meet() -> None:
    """In evaluation an image's features do not depend on the others of its batch."""
    model = encoder().eval()

    for both, one in zip(model(image()), model(image()[1:]), strict=True):
        torch.testing.assert_close(both[1:], one)


def test_the_alignment_sees_rows_and_columns_in_order() -> None:
    """Rearranging for the alignment and back keeps every position in its place."""
    witness = Witness()
    block = Block(5, witness).eval()
    x = torch.randn(BATCH, 5, 7, 11)

    block(x, None)

    expected = rearrange(block.token_mixing(x), "b c h w -> b h w c")
    torch.testing.assert_close(witness.seen[0][0], expected)
