"""Whether the model uses its text, from the verdicts on the control arms."""

from __future__ import annotations

import dataclasses
from typing import Literal, TypeAlias

from semalign.judge import Estimate, Verdict
from semalign.report.numbers import StudyNumbers

__all__ = ["Answer", "Gain", "TextUse", "text_use"]


Answer: TypeAlias = Literal[
    "yes",
    "branch, no control",
    "branch, open",
    "branch only",
    "no",
    "not its meaning",
    "no gain",
    "harm of meaning",
    "harm",
    "unknown",
    "no control",
    "no text",
]


@dataclasses.dataclass(frozen=True)
class Gain:
    """What the text gives over a control, in mIoU points: the control's contrast, turned so that text comes first.

    Attributes:
        control: "no text" or "random vectors", not the names of the arms.
        arm: the arm with text.
        against: the arm without.
        mean: None without a complete block.
        low: lower end of the interval that judges direction; None with fewer than two complete blocks.
        high: upper end.
        word: the verdict, seen from the arm with text.
        below_margin: see `Verdict`.
    """

    control: Literal["no text", "random vectors"]
    arm: str
    against: str
    mean: float | None
    low: float | None
    high: float | None
    word: str
    below_margin: bool


@dataclasses.dataclass(frozen=True)
class TextUse:
    """Whether the model uses its text at all, as far as the controls can tell.

    Attributes:
        answer: a code.
        arm: the arm that the answer is about.
        gains: over the controls that were judged.
        shared: all images share one bank, which then says nothing about any single image.
    """

    answer: Answer
    arm: str
    gains: tuple[Gain, ...]
    shared: bool


def text_use(numbers: StudyNumbers) -> TextUse:
    """Return what the controls say about the use of text.

    A control is an arm that differs from the baseline in ``data.text`` alone.  Where the baseline itself has no text,
    the first arm that differs from it in nothing but having some is compared with it.
    """
    baseline = numbers.study.baseline
    if numbers.text_of(baseline).get("kind") == "none":
        for arm in numbers.arms:
            own, judged = numbers.own_options_of(arm), numbers.judgement.of_arm(arm)
            if set(own) == {"data.text"} and own["data.text"] in ("classes", "images") and judged is not None:
                gain = _gain("no text", arm, baseline, *judged, turn=False)
                return TextUse(_answer(gain.word, None), arm, (gain,), bool(numbers.text_of(arm).get("shared")))
        return TextUse("no text", baseline, (), False)
    gains: dict[str, Gain] = {}
    controls: dict[str, Literal["no text", "random vectors"]] = {"none": "no text", "random": "random vectors"}
    for arm in numbers.arms:
        own, judged = numbers.own_options_of(arm), numbers.judgement.of_arm(arm)
        kind = own.get("data.text")
        if set(own) == {"data.text"} and kind in controls and judged is not None:
            gains[controls[kind]] = _gain(controls[kind], baseline, arm, *judged, turn=True)
    words = [gains[control].word if control in gains else None for control in controls.values()]
    shared = bool(numbers.text_of(baseline).get("shared"))
    return TextUse(_answer(*words), baseline, tuple(gains.values()), shared)


def _gain(
    control: Literal["no text", "random vectors"],
    arm: str,
    against: str,
    estimate: Estimate,
    verdict: Verdict,
    *,
    turn: bool,
) -> Gain:
    if not turn:
        return Gain(
            control, arm, against, estimate.mean, estimate.low, estimate.high, verdict.word, verdict.below_margin
        )
    word = {"better": "worse", "worse": "better"}.get(verdict.word, verdict.word)
    mean, low, high = (None if value is None else -value for value in (estimate.mean, estimate.high, estimate.low))
    return Gain(control, arm, against, mean, low, high, word, verdict.below_margin)


def _answer(branch: str | None, meaning: str | None) -> Answer:
    """Return the answer from the verdicts, with text against no text and against random vectors; None: no control."""
    if meaning == "better":
        return "yes"
    if meaning == "worse":
        return "harm of meaning"
    if branch == "worse":
        return "harm"
    if meaning == "equivalent":
        return {"better": "branch only", "equivalent": "no"}.get(branch or "", "not its meaning")  # type: ignore[return-value]
    if branch == "better":
        return "branch, no control" if meaning is None else "branch, open"
    if branch == "equivalent":
        return "no gain"
    return "no control" if branch is None and meaning is None else "unknown"
