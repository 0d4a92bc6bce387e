"""What a run reads: the images and the text of its splits, asked for once and kept as one frozen value.

This is the only module of the room that asks a source of data for anything.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

from semalign.config import Options
from semalign.data.batches import DepthScale, ImageSet, ScoredImages, load_images, load_scored
from semalign.data.sample import DataSource
from semalign.errors import ConfigError, DataError
from semalign.metrics import IGNORE
from semalign.seeds import numpy_generator
from semalign.train.parallel import own_share
from semalign.train.run_text import RunText, encode_classes, prepare_run_text, text_keywords
from semalign.train.vocabulary import check_unseen, hide_classes

__all__ = ["Inputs", "check_source", "prepare_inputs", "prepare_text", "train_score_names"]

TRAIN_SCORE_IMAGES = 100
"""Training images scored at the end, for the gap between training and validation."""
COARSEST_STRIDE = 32
"""Input pixels to a side of one position of the coarsest features."""


@dataclasses.dataclass(frozen=True)
class Inputs:
    """Everything that a run reads, decoded and encoded.

    Attributes:
        class_names: C names; mask value k is the k-th.
        images: the training split.
        text: the text of the training and the scored splits.
        depth_scale: how depth is standardised; None without depth.
        scored: by split, what scoring it reads; of the training split the images that are scored.
        fingerprint: SHA-256 (hex) of the training split.
    """

    class_names: tuple[str, ...]
    images: ImageSet
    text: RunText
    depth_scale: DepthScale | None
    scored: Mapping[str, ScoredImages]
    fingerprint: str


def prepare_inputs(source: DataSource, options: Options) -> Inputs:
    """Decode the training split and encode all text that a run with ``options`` reads.

    Raises:
        DataError: a file is broken, a split is missing or empty, or there is no depth where it is asked for.
        TextError: there is no text of the kind asked for.
        ConfigError: ``data.unseen`` does not fit, or a batch is too small to be normalised.
    """
    data = options.data
    assert data.size is not None
    check_source(source, options)
    check_unseen(options, source.class_names)
    text = prepare_text(source, options)
    images = load_images(source, data.train_split, depth=data.depth, size=data.size, zoom=max(1.0, data.zoom[1]))
    if data.unseen:
        images = hide_classes(images, source.class_names, data.unseen)
    scored = {}
    for split in _splits(options):
        # Of the training split a part is scored, unless it is also another split of the run.
        is_part = split == data.train_split and split not in (data.val_split, options.train.select_split)
        names = train_score_names(images.names) if is_part else source.names(split)
        scored[split] = load_scored(source, split, names, size=data.size, depth=data.depth)
    depth_scale = images.depth_scale() if data.depth else None
    return Inputs(source.class_names, images, text, depth_scale, scored, source.fingerprint(data.train_split))


def train_score_names(names: Sequence[str]) -> tuple[str, ...]:
    """Return the training images that are scored at the end: all, or `TRAIN_SCORE_IMAGES` of them, always the same."""
    count = min(len(names), TRAIN_SCORE_IMAGES)
    chosen = numpy_generator(0, "train score").choice(len(names), count, replace=False)
    return tuple(names[place] for place in sorted(chosen.tolist()))


def check_source(source: DataSource, options: Options) -> None:
    """Check that the data have what a run with ``options`` reads, before much is decoded.

    Raises:
        DataError: a split is missing, empty or without a label, or there is no depth where it is asked for.
        ConfigError: a batch is too small to be normalised.
    """
    data = options.data
    assert data.size is not None
    if data.depth and not source.has_depth:
        raise DataError(f"data.depth=true, but the {source.kind} data have no depth, expected depth/SPLIT/NAME.png")
    for split in _splits(options):
        # The first labelled mask ends the search.
        if not any(source.mask_classes(split, name) for name in source.names(split)):
            raise DataError(
                f"the masks of the split '{split}' hold only {IGNORE} (ignored), expected a pixel of at least one "
                "class: label some, or name another split"
            )
    train = options.train
    batch = min(train.batch_size, len(source.names(data.train_split)))
    own_share(batch, 0, train.devices * train.nodes, train.accumulate)
    # Batch norms see the images of all processes, and one part at a time.
    batch //= train.accumulate
    if batch * math.prod(-(-side // COARSEST_STRIDE) for side in data.size) < 2:
        raise ConfigError(
            f"a batch of {batch} image at data.size={list(data.size)} has one position at the coarsest stage, which "
            "batch norm cannot normalise, expected two: set a larger train.batch_size or data.size, or a smaller "
            "train.accumulate"
        )


def _splits(options: Options) -> list[str]:
    """Return the splits that a run reads, each once."""
    splits = (options.data.train_split, options.data.val_split, options.train.select_split)
    return list(dict.fromkeys(split for split in splits if split is not None))


def prepare_text(source: DataSource, options: Options) -> RunText:
    """Encode the text of the splits that a run with ``options`` reads, and the class sentences of a text classifier.

    Raises:
        TextError: there is no text of the kind asked for.
    """
    data = options.data
    assert data.text is not None
    said = text_keywords(options.text)
    text = prepare_run_text(
        source,
        _splits(options),
        kind=data.text,
        random_seed=options.text.random_seed,
        unseen=data.unseen,
        **said,
    )
    if options.model.classifier == "linear":
        return text
    # Pixels are compared with whole sentences, at whatever level the text is.
    classes = encode_classes(class_names=source.class_names, **{**said, "level": "sentence"})
    return dataclasses.replace(text, classes=classes)
