"""Names and sentences that several parts of a report use."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePath
from typing import Any

from semalign.judge import Estimate, Verdict, format_level, format_points
from semalign.report.arms import median_seconds
from semalign.report.digits import Digits, count_text, seconds_text
from semalign.report.needs import needs_of
from semalign.report.numbers import StudyNumbers, findings
from semalign.report.text_use import Gain, text_use
from semalign.wording import Catalogue, Language

__all__ = [
    "absent_sentence",
    "catalogue_of",
    "contrast_mark",
    "cost_sentence",
    "data_sentence",
    "effect_name",
    "families",
    "family_name",
    "level_of_means",
    "margin_sentence",
    "md_facts",
    "named",
    "state_sentences",
    "text_sentences",
    "verdict_text",
    "watch_sentences",
]


def catalogue_of(numbers: StudyNumbers, lang: Language) -> Catalogue:
    """Return the sentences of a language, which name the study's metric."""
    metric = numbers.judgement.metric
    return Catalogue(lang, metric=metric.name, quantity=metric.quantity)


def named(arm: str, numbers: StudyNumbers, words: Catalogue) -> str:
    """Return the arm's name, marked where its texts leak the answer."""
    return words("report.with leaking", arm=arm) if arm in numbers.leaking else arm


def verdict_text(verdict: Verdict, words: Catalogue) -> str:
    """Return the verdict's word with what belongs to it, such as ``inconclusive (new study: 14 blocks)``."""
    word = words(f"verdict.{verdict.word}")
    if verdict.blocks_needed is not None:
        return words("answer.more blocks", word=word, n=verdict.blocks_needed)
    return words("answer.below margin", word=word) if verdict.below_margin else word


def families(numbers: StudyNumbers, words: Catalogue) -> str:
    """Return every family with its number of effects and the level of their intervals."""
    judgement = numbers.judgement
    return words("report.detail separator").join(
        words(
            "method.family level",
            family=family_name(name, words),
            n=m,
            level=format_level(1 - judgement.alpha / m),
        )
        for name, m in judgement.families.items()
    )


def family_name(name: str, words: Catalogue) -> str:
    """Return what a family is called; a user's own families keep their names."""
    return words(f"table.family {name}") if name in ("primary", "controls", "interactions") else name


def level_of_means(numbers: StudyNumbers) -> str:
    """Return the coverage of the intervals of means."""
    return format_level(1 - numbers.study.alpha)


def effect_name(estimate: Estimate, numbers: StudyNumbers, words: Catalogue) -> str:
    """Return the effect's name, marked where its texts leak the answer."""
    name = estimate.contrast.name
    return words("report.with leaking", arm=name) if numbers.leaking & set(estimate.contrast.weights) else name


def contrast_mark(estimate: Estimate, numbers: StudyNumbers, words: Catalogue) -> str:
    """Return the warning beside an effect whose texts leak; "" for none."""
    return words("report.leaking") if numbers.leaking & set(estimate.contrast.weights) else ""


def absent_sentence(numbers: StudyNumbers, words: Catalogue) -> str:
    """Return which classes the scored masks do not hold."""
    absent = list(numbers.score.absent)
    return words("table.absent", classes=words.join(absent)) if absent else words("table.absent none")


def text_sentences(numbers: StudyNumbers, words: Catalogue, digits: Digits) -> tuple[str, ...]:
    """Return whether the model uses its text, in one sentence, and a second one where all images share one bank.

    Empty for runs of a user's own command, of which nothing is known but the score.
    """
    if numbers.study.command is not None:
        return ()
    use = text_use(numbers)
    main = words(f"report.text {use.answer}", arm=use.arm)
    if use.gains:
        details = words("report.detail separator").join(_gain_text(gain, words, digits) for gain in use.gains)
        first = words("report.detail", main=main, details=details)
    else:
        first = words("report.full stop", main=main)
    if not use.shared:
        return (first,)
    count = numbers.text_of(use.arm).get("sentences", numbers.text_of(use.arm).get("tokens"))
    sentences = words("report.shared sentences", n=count) if isinstance(count, int) else ""
    return (first, words("report.shared", sentences=sentences))


def _gain_text(gain: Gain, words: Catalogue, digits: Digits) -> str:
    word = words(f"verdict.{gain.word}")
    return words(
        "report.gain",
        control=words(f"report.gain {gain.control}"),
        figure=digits.effect(gain.mean, gain.low, gain.high, words("report.not run")),
        word=words("answer.below margin", word=word) if gain.below_margin else word,
    )


def state_sentences(numbers: StudyNumbers, words: Catalogue) -> tuple[str, ...]:
    """Return what is failed or missing; empty when every planned run finished."""
    if not numbers.failed and not numbers.missing:
        return ()
    planned = len(numbers.finished) + len(numbers.failed) + len(numbers.missing)
    said = [
        words(
            "report.state",
            finished=len(numbers.finished),
            planned=planned,
            failed=len(numbers.failed),
            missing=len(numbers.missing),
        )
    ]
    if numbers.failed:
        said.append(words("report.state failed", runs=_runs(numbers.failed, len(numbers.arms), words)))
    if numbers.missing:
        said.append(words("report.state missing", runs=_runs(numbers.missing, len(numbers.arms), words)))
    return (*said, words("report.preliminary"))


def _runs(keys: Iterable[tuple[str, int]], arms: int, words: Catalogue) -> str:
    seeds: dict[str, list[str]] = {}
    for arm, seed in keys:
        seeds.setdefault(arm, []).append(str(seed))
    # Blocks that no arm has are one thing to say, however many arms there are.
    if len(seeds) == arms and len({tuple(of_arm) for of_arm in seeds.values()}) == 1:
        seeds = {words("report.every arm"): next(iter(seeds.values()))}
    return words("report.detail separator").join(
        words("report.seed", arm=arm, seeds=words.join(of_arm)) for arm, of_arm in seeds.items()
    )


def margin_sentence(numbers: StudyNumbers, words: Catalogue) -> str:
    """Return which margin was fixed, which one this budget resolves, and which one the pilot promised."""
    resolved = sorted(
        need.resolved for need in needs_of(numbers) if need.family == "primary" and need.resolved is not None
    )
    if not resolved:
        shown = words("report.md margin none")
    else:
        low, high = (format_points(value, signed=False) for value in (resolved[0], resolved[-1]))
        shown = words("report.md margin one" if low == high else "report.md margin range", low=low, high=high)
    study = numbers.study
    sentence = words("report.md margin", margin=f"{study.margin:g}", blocks=study.blocks, resolved=shown)
    if numbers.pilot is not None and study.blocks in numbers.pilot.margins:
        expected = format_points(numbers.pilot.margins[study.blocks], signed=False)
        sentence = words.run_on(sentence, words("report.md margin pilot", margin=expected))
    return sentence


def cost_sentence(numbers: StudyNumbers, words: Catalogue) -> str:
    """Return what one run cost, and on what machine."""
    machine = numbers.facts.get("machine")
    parts = [
        words(f"report.machine {name}", n=machine[name])
        for name in ("cpus", "workers", "threads")
        if isinstance(machine, Mapping) and machine.get(name) is not None
    ]
    return words(
        "report.md cost",
        seconds=seconds_text(median_seconds(numbers.finished.values()), words),
        n=len(numbers.finished),
        machine=words("report.md machine", machine=words.join(parts)) if parts else "",
    )


def data_sentence(numbers: StudyNumbers, words: Catalogue) -> str:
    """Return what the data are: kind, folder, images by split, classes."""
    data = numbers.facts.get("data")
    if not isinstance(data, Mapping):
        return words("report.not recorded")
    parts: list[str] = []
    if data.get("root"):
        # The folder's place on this machine says nothing to a reader.
        parts.append(words("report.data root", root=PurePath(str(data["root"])).name))
    elif data.get("kind") is not None:
        parts.append(words("report.data kind", kind=data["kind"]))
    if isinstance(data.get("splits"), Mapping):
        counts = words.join([f"{split} {_count(count)}" for split, count in data["splits"].items()])
        parts.append(words("report.data splits", splits=counts))
    if isinstance(data.get("classes"), Sequence):
        parts.append(words("report.data classes", n=len(data["classes"])))
    return words("report.detail separator").join(parts) or words("report.not recorded")


def _count(value: Any) -> str:
    return count_text(value) if isinstance(value, int) else str(value)


def watch_sentences(numbers: StudyNumbers, words: Catalogue) -> tuple[str, ...]:
    """Return what a reader must know beside the verdicts: state, notes of judgement, findings of runs."""
    said = [words.text(note) for note in numbers.judgement.notes]
    for sentence, arms in findings(numbers):
        names = words.join([named(arm, numbers, words) for arm in arms])
        said.append(words("report.finding", arms=names, sentence=words.text(sentence)))
    return tuple(said) or (words("report.nothing"),)


def md_facts(numbers: StudyNumbers, words: Catalogue) -> tuple[str, ...]:
    """Return the sentences above the tables: cost, margin, use of text, what was scored, and what is missing."""
    score = numbers.score
    facts = [cost_sentence(numbers, words), margin_sentence(numbers, words)]
    text = text_sentences(numbers, words, Digits(numbers.study.margin))
    if text:
        facts.append(words("report.md text", sentence=" ".join(text)))
    if numbers.has_images:
        data = data_sentence(numbers, words)
        facts.append(words("report.md scored", split=score.split, images=count_text(len(score.images)), data=data))
    state = state_sentences(numbers, words)
    if state:
        facts.append(words("report.md state", state=" ".join(state)))
    return tuple(facts)
