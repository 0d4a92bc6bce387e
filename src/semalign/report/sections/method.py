"""How the study was made."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, get_args

from semalign.config.options import TextKind
from semalign.config.reader import flatten
from semalign.judge import format_level
from semalign.report.cells import Cell, Column, Row, Table
from semalign.report.numbers import StudyNumbers
from semalign.report.sections.parts import Fact
from semalign.report.sentences import absent_sentence, cost_sentence, data_sentence, families
from semalign.wording import Catalogue

__all__ = ["arms_table", "method_facts"]


def method_facts(numbers: StudyNumbers, words: Catalogue) -> tuple[Fact, ...]:
    """Return how the study was made, one term after the other."""
    study, score, facts = numbers.study, numbers.score, numbers.facts
    seeds = "0" if study.blocks == 1 else f"0–{study.blocks - 1}"
    looks = words.join([str(blocks) for blocks in study.looks or ()])
    own = study.command is None
    design = words(
        "method.design text" if study.looks is None else "method.design looks",
        arms=len(study.arms),
        blocks=study.blocks,
        runs=len(study.arms) * study.blocks,
        seeds=seeds,
        futility=words("method.design futility") if study.futility else "",
        shared=words("method.block shares" if study.command is None else "method.block shares command"),
    )
    intervals = words(
        "method.intervals text" if study.looks is None else "method.intervals looks",
        alpha=f"{study.alpha:g}",
        families=families(numbers, words),
        joint=format_level(1 - study.alpha),
    )
    verdicts = words(
        "method.verdicts text" if study.looks is None else "method.verdicts looks",
        margin=f"{study.margin:g}",
        looks=looks,
    )
    scoring = words("method.scoring given")
    if numbers.has_images:
        scoring = words("method.scoring text", images=len(score.images), split=score.split)
    command = facts.get("command")
    options = [f"{name} = {_value(value)}" for name, value in sorted(flatten(study.options).items())]
    found = [
        Fact(words("method.design"), (design,)),
        Fact(words("method.intervals"), (intervals,)),
        Fact(words("method.verdicts"), (verdicts,)),
        Fact(words("method.failed runs"), (words("method.failed text"),)),
        Fact(words("method.scoring"), (scoring, absent_sentence(numbers, words)) if score.class_names else (scoring,)),
        Fact(words("method.text head", arm=study.baseline), (_text_sentence(numbers, study.baseline, words),))
        if own
        else None,
        Fact(words("method.data"), (data_sentence(numbers, words),)),
        Fact(words("method.recipe"), code=_recipe(numbers)) if _recipe(numbers) else None,
        Fact(words("method.options"), code=tuple(options)) if options else None,
        Fact(words("method.command"), code=(str(command),))
        if command
        else Fact(words("method.command"), (words("report.not recorded"),)),
        Fact(words("method.machine"), (cost_sentence(numbers, words),)),
    ]
    return tuple(fact for fact in found if fact is not None)


def _text_sentence(numbers: StudyNumbers, arm: str, words: Catalogue) -> str:
    text = numbers.text_of(arm)
    kind = text.get("kind")
    shown = [] if kind is None else [words(f"common.text {kind}") if kind in get_args(TextKind) else str(kind)]
    shown += [f"{key}: {_value(text[key])}" for key in ("encoder", "sentences", "tokens") if text.get(key) is not None]
    return words("report.detail separator").join(shown) or words("report.not recorded")


_RECIPE = (
    "data.size",
    "data.depth",
    "text.encoder",
    "text.templates",
    "model.size",
    "model.preset",
    "model.classifier",
    "train.epochs",
    "train.batch_size",
    "train.lr",
    "train.scalar_lr",
    "train.average",
)


def _recipe(numbers: StudyNumbers) -> tuple[str, ...]:
    """Return the main options as the baseline's runs resolved them."""
    for run in numbers.runs_of(numbers.study.baseline):
        config = run.facts.get("config")
        if isinstance(config, Mapping):
            flat = flatten(config)
            return tuple(f"{name} = {_value(flat[name])}" for name in _RECIPE if name in flat)
    return ()


def _value(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def arms_table(numbers: StudyNumbers, words: Catalogue) -> Table:
    """Return the arms with the options and the text that they have of their own."""
    rows = []
    for arm in numbers.arms:
        own = words.join([f"{name} = {_value(value)}" for name, value in numbers.own_options_of(arm).items()])
        mark = words("report.leaking") if arm in numbers.leaking else ""
        rows.append(
            Row(
                (Cell(arm, mark=mark), Cell(own or words("table.as shared")), Cell(_text_sentence(numbers, arm, words)))
            )
        )
    columns = (Column(words("table.arm")), Column(words("table.own options")), Column(words("table.text")))
    kept = 2 if numbers.study.command is not None else 3
    rows = [Row(row.cells[:kept]) for row in rows]
    notes = (words("table.leaking note"),) if numbers.leaking else ()
    return Table(words("table.arms title"), columns[:kept], tuple(rows), notes)
