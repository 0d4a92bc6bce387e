"""A paragraph for a paper: what was done and what was found, in English and in Chinese.

This module does not depend on files.
"""

from __future__ import annotations

from semalign.judge import Estimate, Verdict, format_level
from semalign.report.differences import NewImagesAnswer
from semalign.report.digits import Digits, count_text
from semalign.report.markdown import escape
from semalign.report.numbers import StudyNumbers
from semalign.report.sentences import catalogue_of, data_sentence, families, state_sentences, verdict_text
from semalign.wording import LANGUAGES, Catalogue, Language

__all__ = ["paper_md", "paper_text"]


def paper_md(numbers: StudyNumbers, answer: NewImagesAnswer, first: Language) -> str:
    """Return paper.md: the paragraph in both languages, the report's own first."""
    blocks = [f"# {escape(numbers.study.name)}"]
    for lang in (first, *(lang for lang in LANGUAGES if lang != first)):
        words = catalogue_of(numbers, lang)
        blocks += [f"## {words('paper.heading')}", escape(paper_text(numbers, answer, words))]
    return "\n\n".join(blocks) + "\n"


def paper_text(numbers: StudyNumbers, answer: NewImagesAnswer, words: Catalogue) -> str:
    """Return methods and results as one paragraph with all numbers."""
    study, judgement, digits = numbers.study, numbers.judgement, Digits(numbers.study.margin)
    names = words.join(list(numbers.arms))
    if numbers.has_images:
        said = [
            words(
                "paper.arms",
                arms=len(numbers.arms),
                names=names,
                data=data_sentence(numbers, words),
                images=count_text(len(numbers.score.images)),
                split=numbers.score.split,
            )
        ]
    else:
        said = [words("paper.arms command", arms=len(numbers.arms), names=names)]
    shared = words("paper.shares" if study.command is None else "paper.shares command")
    if study.looks is None:
        said.append(words("paper.blocks", blocks=study.blocks, margin=f"{study.margin:g}", shared=shared))
    else:
        looks = words.join([str(blocks) for blocks in study.looks])
        said.append(words("paper.looks", looks=looks, margin=f"{study.margin:g}", shared=shared))
    said.append(words("paper.judged", alpha=f"{study.alpha:g}", families=families(numbers, words)))
    runs = len(numbers.finished) + len(numbers.failed)
    if numbers.failed:
        said.append(words("paper.failed", failed=len(numbers.failed), runs=runs))
    else:
        said.append(words("paper.none failed", runs=runs))
    said += [
        _effect(estimate, verdict, words, digits)
        for estimate, verdict in zip(judgement.estimates, judgement.verdicts, strict=True)
    ]
    if answer.judged:
        effects = [
            words(
                "report.gate effect",
                effect=one.contrast.name,
                figure=digits.effect(one.mean, one.low, one.high, words("report.none")),
                word=words(f"verdict.{one.verdict.word}"),
            )
            for one in answer.judged
        ]
        joined = words("report.detail separator").join(effects)
        said.append(words("paper.new images", clusters=answer.clusters, effects=joined))
    else:
        said.append(words("paper.images"))
    state = state_sentences(numbers, words)
    if numbers.missing:
        said.append(words("paper.state", state=state[0]))
    return words.run_on(*said)


def _effect(estimate: Estimate, verdict: Verdict, words: Catalogue, digits: Digits) -> str:
    if estimate.mean is None or estimate.low is None:
        return words("paper.open", effect=estimate.contrast.name)
    return words(
        "paper.effect",
        effect=estimate.contrast.name,
        figure=digits.effect(estimate.mean, estimate.low, estimate.high, words("report.none")),
        level=format_level(estimate.level),
        n=estimate.n,
        word=verdict_text(verdict, words),
    )
