"""A trained run asked for the classes of a data set: which classes and which text it is given, and its score."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import torch

from semalign.config.options import TextOptions
from semalign.data.batches import ScoredImages
from semalign.data.sample import DataSource
from semalign.errors import ConfigError
from semalign.results import Score
from semalign.text.bank import TextBank
from semalign.train.evaluate import Predictor, score_images
from semalign.train.run import TrainedRun
from semalign.train.run_text import RunText, encode_classes, names_among, prepare_run_text, text_keywords
from semalign.train.vocabulary import notes_of_strangers
from semalign.wording import Message, say

__all__ = ["Question", "classes_for", "make_question", "text_for"]


@dataclasses.dataclass(frozen=True)
class Question:
    """What a run is asked: the images of a split, for their classes, under a text.

    Attributes:
        run: the run; its model is in evaluation mode.
        predictor: gives the logits.
        images: what is scored.
        text: the text as the run was trained with it.
        notes: what a reader of the answer must know.
    """

    run: TrainedRun
    predictor: Predictor
    images: ScoredImages
    text: RunText
    notes: tuple[Message, ...]

    def score(self, text: RunText | None = None, progress: Callable[[int, int], None] = lambda *_: None) -> Score:
        """Return the counts under ``text``, by default the text as the run was trained with it.

        Raises:
            DataError: a file is broken.
        """
        return score_images(
            self.predictor, self.images, text or self.text, depth_scale=self.run.depth_scale, progress=progress
        )

    @property
    def encode(self) -> Callable[[], TextBank] | None:
        """Encodes the names of the data's classes; None where the run's encoder gives new texts no meaning."""
        options = self.run.options.text
        # The vectors of `table` for sentences that the model never saw have no meaning.
        if self.text.bank is None or options.encoder.startswith("table"):
            return None
        return lambda: encode_classes(class_names=self.images.class_names, **_said(options, self.images.class_names))


def make_question(
    run: TrainedRun,
    source: DataSource,
    split: str,
    device: torch.device,
    *,
    flip: bool = False,
    window: tuple[int, int] | None = None,
) -> Question:
    """Return what ``run`` is asked on ``split``; its model is moved to ``device``, in evaluation mode.

    Args:
        run: the trained run.
        source: the data.
        split: the split to score.
        device: where to compute.
        flip: average with the mirrored image.
        window: H x W of windows over the image at its own size.

    Raises:
        ConfigError: a linear classifier was trained for other classes than those of the data.
        DataError: there is no such split.
        TextError: the run's kind of text is not there.
    """
    images = ScoredImages.of_split(source, split)
    class_bank = run.class_bank
    notes: list[Message] = []
    if source.class_names != run.class_names:
        if class_bank is None:
            raise ConfigError(
                f"the run was trained for the classes {_few(run.class_names)} and the data have "
                f"{_few(source.class_names)}, expected the same in the same order: train with model.classifier=text to "
                "ask for other classes"
            )
        class_bank = classes_for(run, source.class_names)
        notes += class_bank.notes
    if class_bank is not None:
        notes += notes_of_strangers(class_bank, source.class_names, run.trained_names)
    text = text_for(run, source, split)
    if run.facts.get("selected_on") == split:
        notes.append(say("train.chosen_weights", split=split))
    if text.is_shared:
        notes.append(say("train.text_is_shared"))
    run.model.to(device).eval()
    features = None if class_bank is None else class_bank.features
    predictor = Predictor(run.model, run.size, flip=flip, window=window, class_features=features)
    return Question(run, predictor, images, text, tuple(notes))


def classes_for(run: TrainedRun, class_names: Sequence[str]) -> TextBank:
    """Return the sentences of ``class_names`` encoded as the run's own class sentences were."""
    return encode_classes(class_names=class_names, **{**_said(run.options.text, class_names), "level": "sentence"})


def text_for(run: TrainedRun, source: DataSource, split: str) -> RunText:
    """Return the text of ``split`` as the run was trained with it; a shared bank comes from the run itself."""
    kind = run.options.data.text
    assert kind is not None
    if kind in ("classes", "random") and run.bank is not None:
        return RunText(kind, run.bank, None)
    return prepare_run_text(source, [split], kind=kind, **_said(run.options.text, source.class_names))


def _said(options: TextOptions, class_names: Sequence[str]) -> dict[str, Any]:
    return {**text_keywords(options), "names": names_among(options.names, class_names)}


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f", ... ({len(names)})" if len(names) > 3 else "")
