"""The protocol: what was fixed before any run, and how often each split was scored."""

from __future__ import annotations

from collections.abc import Mapping

from semalign.report.digits import count_text
from semalign.report.numbers import StudyNumbers
from semalign.report.sections.parts import Fact
from semalign.report.sentences import families
from semalign.wording import Catalogue

__all__ = ["pairs_text", "protocol_card", "scored_weights"]


def protocol_card(numbers: StudyNumbers, words: Catalogue) -> tuple[Fact, ...]:
    """Return margin, alpha, seeds or looks, splits, weights, how often splits were scored, decay and versions."""
    study = numbers.study
    if study.looks is None:
        seeds = Fact(words("method.seeds"), (words("method.seeds value", seeds=_seeds(study.blocks)),))
    else:
        futility = words("method.futility card") if study.futility else ""
        looks = words.join([str(blocks) for blocks in study.looks])
        seeds = Fact(words("method.looks"), (words("method.looks value card", looks=looks, futility=futility),))
    own = study.command is None
    card = [
        Fact(words("method.margin"), (words("method.margin value", margin=f"{study.margin:g}"),)),
        Fact(
            words("method.alpha"),
            (words("method.alpha value", alpha=f"{study.alpha:g}", families=families(numbers, words)),),
        ),
        seeds,
        Fact(
            words("method.runner"), (words("method.runner own"),) if own else (), () if own else (str(study.command),)
        ),
        Fact(words("method.splits"), _splits(numbers, words)),
        Fact(words("method.times scored"), _times(numbers, words)),
        Fact(words("method.weights"), (scored_weights(numbers, words),)) if own else None,
        Fact(words("method.decay"), _decay(numbers, words)) if own else None,
        Fact(words("method.versions"), (pairs_text(numbers.facts.get("versions"), words),)),
    ]
    return tuple(fact for fact in card if fact is not None)


def _seeds(blocks: int) -> str:
    return "0" if blocks == 1 else f"0–{blocks - 1}"


def _splits(numbers: StudyNumbers, words: Catalogue) -> tuple[str, ...]:
    data = numbers.facts.get("data")
    data = data if isinstance(data, Mapping) else {}
    prints = data.get("fingerprints")
    prints = prints if isinstance(prints, Mapping) else {}
    counts = data.get("splits")
    counts = counts if isinstance(counts, Mapping) else {}
    said = []
    for split in dict.fromkeys((*counts, *prints)):
        n = counts.get(split)
        shown = count_text(n) if isinstance(n, int) else words("report.not recorded")
        if split in prints:
            said.append(words("method.split value", split=split, n=shown, sha=prints[split]))
        else:
            said.append(words("method.split value short", split=split, n=shown))
    return tuple(said) or (words("report.not recorded"),)


def _times(numbers: StudyNumbers, words: Catalogue) -> tuple[str, ...]:
    runs = list(numbers.finished.values())
    # The last point of the curve is the final score itself.
    curve = sum(max(0, len(run.curves.get("val/miou", [])) - 1) for run in runs)
    said = [words("method.times value", split=numbers.score.split, final=len(runs), curve=curve)]
    chosen: dict[str, int] = {}
    for run in runs:
        config = run.facts.get("config")
        train = config.get("train") if isinstance(config, Mapping) else None
        split = train.get("select_split") if isinstance(train, Mapping) else None
        if split is not None:
            chosen[str(split)] = chosen.get(str(split), 0) + 1
    said += [words("method.times selection", split=split, n=n) for split, n in chosen.items()]
    if numbers.study.command is None:
        said.append(words("method.times no test"))
    return tuple(said)


def scored_weights(numbers: StudyNumbers, words: Catalogue) -> str:
    """Return which weights were scored."""
    kinds = sorted(
        {str(run.facts.get("scored_weights", words("report.not recorded"))) for run in numbers.finished.values()}
    )
    return words.join([words(f"method.weights {kind}") if kind in ("average", "last") else kind for kind in kinds])


def _decay(numbers: StudyNumbers, words: Catalogue) -> tuple[str, ...]:
    """Return the decay by role of parameters, once where all arms have the same."""
    by_arm: dict[str, str] = {}
    for arm in numbers.arms:
        # An arm without learnable gates has no group of them; what its first run says is the arm's.
        for run in numbers.runs_of(arm)[:1]:
            groups = run.facts.get("groups")
            shown = [
                words("method.decay value", role=_role(str(group.get("role")), words), decay=float(group["decay"]))
                for group in (groups if isinstance(groups, list) else ())
                if isinstance(group, Mapping) and isinstance(group.get("decay"), (int, float))
            ]
            if shown:
                by_arm[arm] = words.join(shown)
    kinds = dict.fromkeys(by_arm.values())
    if not kinds:
        return (words("report.not recorded"),)
    if len(kinds) == 1:
        return tuple(kinds)
    return tuple(
        words("method.decay arm", arm=words.join([arm for arm, found in by_arm.items() if found == kind]), values=kind)
        for kind in kinds
    )


def _role(role: str, words: Catalogue) -> str:
    known = ("weights", "norms and biases", "temperatures", "gates")
    return words(f"method.role {role}") if role in known else role


def pairs_text(value: object, words: Catalogue) -> str:
    """Return a mapping of plain values as a list in a sentence."""
    if not isinstance(value, Mapping) or not value:
        return words("report.not recorded")
    return words.join([f"{name} {item}" for name, item in value.items()])
