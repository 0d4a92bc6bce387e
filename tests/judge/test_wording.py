"""Every sentence of a judgement, made by judging cases that reach every branch, in both languages."""

from __future__ import annotations

import dataclasses
import string
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pytest

from semalign.judge import Contrast, Judgement, judge, judge_new_images, judge_pilot
from semalign.judge.advice import advise
from semalign.judge.claims import STATEMENTS, judge_claims, needs_of
from semalign.judge.contrasts import ablation_contrasts, factor_contrasts
from semalign.judge.evidence import AlignmentCost, Change, Evidence, Fusion
from semalign.judge.pilot import pilot_doubts
from semalign.judge.planning import cannot_decide, precision
from semalign.judge.types import WORDS
from semalign.presets import LOOKS
from semalign.wording import LANGUAGES, Catalogue, Language, Message, say, sentences
from tests.judge.test_claims import ADVISED, CASES, OPEN

SUBJECTS = ("verdict", "claim", "judge")
MARGIN = 0.5


def messages_in(value: Any) -> Iterator[Message]:
    """Return every message in a value, those inside of messages too."""
    if isinstance(value, Message):
        yield value
        yield from messages_in(tuple(value.values.values()))
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            yield from messages_in(getattr(value, field.name))
    elif isinstance(value, Mapping):
        yield from messages_in(tuple(value.values()))
    elif isinstance(value, tuple | list):
        for item in value:
            yield from messages_in(item)


def pair(differences: list[float | None], **keywords: Any) -> Judgement:
    """Judge "wide - plain" by its differences in points; None: the run of the wide arm failed."""
    plain: dict[int, float | None] = {seed: 0.4 + 0.001 * seed for seed in range(len(differences))}
    wide: dict[int, float | None] = {
        seed: None if difference is None else 0.4 + 0.001 * seed + difference / 100
        for seed, difference in enumerate(differences)
    }
    return judge({"plain": plain, "wide": wide}, baseline="plain", margin=MARGIN, **keywords)


def judgements() -> Iterator[Judgement]:
    """Return judgements that end in every way."""
    noise = [0.01, -0.01, 0.02, -0.02, 0.0]
    for mean in (0.0, 0.2, -0.2, 2.0, -2.0):
        yield pair([mean + one for one in noise])
    for sign in (1, -1):
        yield pair([sign * one for one in (0.3, 0.6, 0.4, 0.7, 0.5)])
    wild: list[float | None] = [-3.0, 2.5, 0.4, -1.0, 2.0]
    yield pair(wild)
    yield pair([*wild, None])
    yield pair([*wild, None, None])
    yield pair(wild * 3, looks=LOOKS)
    for n in (1, 3, 7, 12):
        yield pair((wild * 3)[:n], looks=LOOKS)
    # Failed runs: what they might have scored decides, or cannot.
    low = [0.3, 0.301, 0.3, 0.301, None]
    rows = [(arm, seed, score) for seed in range(5) for arm, score in (("plain", low[seed]), ("wide", 0.85))]
    yield judge(rows, baseline="plain", margin=MARGIN)
    yield pair([2.0 + one for one in noise] + [None])
    yield pair([2.0 + one for one in noise] + [None] * 5, planned_blocks=12)
    # Too few complete blocks, copies, and differences without spread.
    yield pair([1.0])
    yield pair([1.0, None])
    yield pair([None])
    yield judge({"plain": {0: 0.5, 1: 0.6}}, baseline="plain", contrasts=[gain()], margin=MARGIN)
    yield judge([("plain", 0, 0.5), ("plain", 1, None), ("wide", 0, None)], baseline="plain", margin=MARGIN)
    yield judge({arm: dict.fromkeys(range(3), 0.5) for arm in ("plain", "wide")}, baseline="plain", margin=MARGIN)
    yield pair([0.0, 0.0, 0.0])
    yield pair([1.0, 1.0, 1.0])


def gain() -> Contrast:
    """Return an effect by another name than the rule gives."""
    return Contrast("gain", {"wide": 1, "plain": -1})


def new_images() -> Iterator[Any]:
    """Return answers for new images: decided, open, lost, copies."""
    generator = np.random.default_rng(5)
    images, seeds = 40, range(4)
    clusters = [str(index) for index in range(images)]

    def counts(accuracy: float, *, copies: bool = False) -> dict[int, Any]:
        drawn = [generator.binomial(100, accuracy, (images, 2)) for _ in seeds]
        chosen = [drawn[0]] * len(drawn) if copies else drawn
        return {seed: np.stack([hit, 100 - hit, 100 - hit], axis=-1) for seed, hit in zip(seeds, chosen, strict=True)}

    plain = counts(0.5)
    for wide in (counts(0.9), counts(0.1), counts(0.505)):
        yield judge_new_images({"plain": plain, "wide": wide}, clusters, baseline="plain", margin=MARGIN)
    yield judge_new_images(
        {"plain": plain, "wide": {**counts(0.9), 3: None}}, clusters, baseline="plain", margin=MARGIN
    )
    same = {"plain": counts(0.5, copies=True), "wide": counts(0.9, copies=True)}
    yield judge_new_images(same, clusters, baseline="plain", margin=MARGIN)


def pilots() -> Iterator[Any]:
    """Return pilots with every note, and the doubts that they raise."""
    scores = np.array([0.50, 0.52, 0.51, 0.53, 0.49, 0.5, 0.51, 0.53])
    same = judge_pilot(scores, scores)
    short = judge_pilot(scores[:3], scores[:3] + 0.001)
    apart = judge_pilot(scores, scores + 0.05 + 1e-5 * np.arange(8))
    # All differences but one are equal, which is hardly any: swapping signs finds a direction in 4 of 256 ways.
    heavy = judge_pilot(scores + np.array([0.01] * 7 + [1e-6]), scores, alpha=0.05, m=50)
    yield from (same, short, apart, heavy)
    found = pair([2.0, 2.01, 1.99, 2.02, 1.98])
    doubtful = dataclasses.replace(heavy, false_positives=0.9, mean_difference=3.0, sd_paired_high=0.001)
    yield pilot_doubts(doubtful, found)


def claims() -> Iterator[Any]:
    """Return answers to every statement and advice for every situation."""
    large, small = Change(-1.0, -1.2, -0.8, 5), Change(0.05, -0.1, 0.2, 5)
    known = [case[1] for case in CASES]
    known += [{"fusion": Fusion(*one)} for one in ((large, small) * 2, (small, large) * 2, (large,) * 4)]
    cost = AlignmentCost(2, 600, 2e6, 0.1)
    known += [{"encoder": cost, "decoder": cost}]
    known += [case[0] for case in ADVISED]
    known += [{"gain": dataclasses.replace(OPEN, blocks_needed=None)}, {"parameters": (1, 2)}, {"parameters": (1, 1)}]
    for values in known:
        evidence = Evidence(MARGIN, **values)
        answers = judge_claims(evidence)
        yield [(claim.statement, claim.word, claim.finding) for claim in answers]
        yield [(advice, advice.when) for advice in advise(evidence, answers)]
    yield [say("claim.silent why", need=needs_of(identity)) for identity in STATEMENTS]


def everything() -> Iterator[Any]:
    """Return all that judging hands out, with the words that a report puts beside it."""
    yield from judgements()
    yield from new_images()
    yield from pilots()
    yield from claims()
    yield ablation_contrasts()
    levels = {f"{a}{b}": {"one": a, "other": b} for a in "xy" for b in "xy"}
    yield factor_contrasts(levels, "xx")
    wide = precision(2.0, seeds=5, looks=None, margin=MARGIN, alpha=0.05, m=1)
    yield cannot_decide(wide, MARGIN, 5, "wide - plain")
    # The report's own: a word alone, and a statement without an answer.
    yield [say(f"verdict.{word}") for word in WORDS]
    yield say("claim.silent")


@pytest.fixture(scope="module")
def made() -> dict[str, list[Message]]:
    """Return the messages of all cases by key."""
    found: dict[str, list[Message]] = {}
    for message in messages_in(list(everything())):
        found.setdefault(message.key, []).append(message)
    return found


def test_every_sentence_is_made(made: dict[str, list[Message]]) -> None:
    """The catalogue has every key that judging makes, and judging makes every key of the catalogue."""
    held = {f"{subject}.{name}" for subject in SUBJECTS for name in sentences("en", subject)}

    assert set(made) - held == set()
    assert held - set(made) == set()


@pytest.mark.parametrize("lang", LANGUAGES)
def test_every_sentence_reads(made: dict[str, list[Message]], lang: Language) -> None:
    """Each real message gives a whole sentence of its language, and no more values than the sentence takes."""
    catalogue = Catalogue(lang)
    for key, messages in made.items():
        for message in messages:
            text = catalogue.text(message)
            assert text.strip() == text, (key, text)
            assert not set(text) & set("{}"), (key, text)
            for left in ("None", "nan", "inf]", "Message", "  "):
                assert left not in text, (key, text)
            is_chinese = any("\u4e00" <= letter <= "\u9fff" for letter in text)
            assert is_chinese or lang == "en" or key in ("judge.quantity", "judge.amount"), (key, text)
            assert not is_chinese or lang == "zh", (key, text)
        entry = sentences(lang, key.partition(".")[0])[key.partition(".")[2]]
        forms = [entry] if isinstance(entry, str) else list(entry.values())
        taken = {name for form in forms for _, name, _, _ in string.Formatter().parse(form) if name}
        for message in messages:
            assert taken <= set(message.values) <= taken | {"n"}, (key, message.values)


def test_a_message_survives_a_file(made: dict[str, list[Message]]) -> None:
    """What judging says can be stored as plain values and read back, whatever its values are."""
    for messages in made.values():
        assert Message.from_dict(messages[0].to_dict()) == messages[0]
