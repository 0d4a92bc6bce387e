"""The options of a study file; this module does not depend on running or judging."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BeforeValidator, Field, field_validator, model_validator

from semalign.config.options import Finite, Frozen, Options, Positive
from semalign.config.reader import merge, nested, validate
from semalign.presets import EARLIEST_LOOK, LOOKS
from semalign.wording import LANGUAGES, Translated

__all__ = ["ContrastOptions", "StudyOptions", "TableOptions", "TableRow", "arm_options"]

MOST_ARMS = 1000
MOST_RUNS = 100_000
"""More is a typing error, or a file that was made to fill the memory."""


def _text(value: Any) -> str | Translated:
    if isinstance(value, str | Translated):
        return value
    if (
        isinstance(value, dict)
        and set(value) == set(LANGUAGES)
        and all(isinstance(text, str) for text in value.values())
    ):
        return Translated(**value)
    raise ValueError(f"expected a text, or a mapping with a text for each of {', '.join(LANGUAGES)}")


Text: TypeAlias = Annotated[str | Translated, BeforeValidator(_text)]
"""A text of the report: one string for all languages, or a mapping ``{en: ..., zh: ...}``."""


class TableRow(Frozen):
    """One row of a table of the report: an arm and the cells before its figures."""

    arm: str
    cells: tuple[Text, ...]


class TableOptions(Frozen):
    """A table of the report; the columns mIoU, effect and verdict are added."""

    title: Text
    columns: tuple[Text, ...]
    """Heads of the cells, the arm's name first."""
    rows: tuple[TableRow, ...]


class ContrastOptions(Frozen):
    """One effect to judge: a weighted sum of arms whose weights add up to 0."""

    name: str
    """What it is called, unique in the study."""
    weights: dict[str, Finite]
    """By arm."""
    question: Text = ""
    """One sentence that ends with a question mark."""
    family: str = "primary"
    """Effects of one family share alpha."""
    above: Text | None = None
    """What an effect above 0 is called; without it "better" or "worse"."""
    below: Text | None = None
    """What an effect below 0 is called."""


class StudyOptions(Frozen):
    """A question with arms, seeds, margin and data."""

    name: str
    question: Text
    """What the study is to answer, one sentence."""
    source: Text = ""
    """Where the question comes from."""
    data: str | None = None
    """A folder or 'scenes'; --data overrides it."""
    baseline: str = "Baseline"
    """The arm that the others are compared with."""
    arms: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """By name, the options in which the arm differs from `options`; with `factors` they are made from these."""
    factors: dict[str, dict[str, dict[str, Any]]] = Field(default_factory=dict)
    """By factor and level, the options of the level; the first level is the baseline's.  Every combination is an arm,
    named for what differs from the baseline."""
    fraction: Literal["half"] | None = None
    """Only the half of a 2-level design that holds the baseline: the arms that differ from it in an even number of
    factors.  Main effects can be judged, two-factor effects cannot (they share their estimate with others)."""
    matched: dict[str, str] = Field(default_factory=dict)
    """By arm, the arm whose run of the same seed is finished first, and whose learned temperatures and gates are put
    where this arm's are fixed."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Options of all arms."""
    command: str | None = None
    """A command line that makes one run, in place of our own training: {seed}, {arm}, {arm.NAME}, {out} and {data} are
    filled in, and it writes score.json to {out}.  The options of arms are then names of the user's own."""
    contrasts: Literal["ablations", "against-baseline", "factors"] | tuple[ContrastOptions, ...] = "against-baseline"
    """Which effects are judged: the document's two ablations with controls, every arm against the baseline, the factors
    (main effects, and two-factor effects where all have two levels), or a list."""
    seeds: Annotated[int, Field(ge=1, le=10000)] | None = None
    """Blocks: seeds 0 to seeds - 1, each with every arm, judged once; not together with `looks`."""
    looks: Annotated[tuple[Annotated[int, Field(ge=2, le=10000)], ...], Field(min_length=1)] | None = None
    """Blocks at which the study is judged while it grows; it ends when every effect is decided, or at the last look.
    Without `seeds` and `looks` it is judged at 5, 8 and 12 blocks."""
    futility: bool = False
    """End also when no open effect has a fair chance to be decided by the last look."""
    margin: Annotated[Positive, Field(lt=100)] = 1.0
    """Smallest effect that matters, in mIoU points, fixed before any run."""
    alpha: Annotated[Positive, Field(lt=1)] = 0.05
    """Share of false claims allowed in each family of effects."""
    pilot_blocks: Annotated[int, Field(ge=0, le=100)] = 3
    """Blocks of the pilot that runs the baseline's recipe twice; 0 leaves it out."""
    tables: tuple[TableOptions, ...] = ()

    @field_validator("looks")
    @classmethod
    def _growing(cls, looks: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if looks is not None and any(later <= n for n, later in itertools.pairwise(looks)):
            raise ValueError(
                f"the looks {list(looks)} do not grow, expected growing numbers of blocks such as 5, 8, 12"
            )
        if looks is not None and looks[0] * EARLIEST_LOOK < looks[-1]:
            raise ValueError(
                f"the look at {looks[0]} of {looks[-1]} blocks could decide nothing, expected the first one at "
                f"{math.ceil(looks[-1] / EARLIEST_LOOK)} blocks or later"
            )
        return looks

    @field_validator("contrasts")
    @classmethod
    def _named_once(cls, contrasts: str | tuple[ContrastOptions, ...]) -> str | tuple[ContrastOptions, ...]:
        if not isinstance(contrasts, str):
            names = [contrast.name for contrast in contrasts]
            twice = next((name for name in names if names.count(name) > 1), None)
            if twice is not None:
                raise ValueError(f"two contrasts are called '{twice}', expected names that differ: rename one")
        return contrasts

    @model_validator(mode="after")
    def _blocks_once(self) -> StudyOptions:
        if self.seeds is not None and self.looks is not None:
            raise ValueError(
                f"both seeds {self.seeds} and looks {list(self.looks)} are given, expected one of them: the last look "
                "is the largest number of blocks"
            )
        if self.seeds is None and self.looks is None:
            object.__setattr__(self, "looks", LOOKS)
        if self.futility and self.looks is None:
            raise ValueError("futility is true and the study has a fixed number of seeds, expected looks")
        return self

    @model_validator(mode="after")
    def _arms_of_factors(self) -> StudyOptions:
        if not self.factors:
            if self.fraction is not None:
                raise ValueError("fraction is given without factors, expected factors of two levels each")
            if self.contrasts == "factors":
                raise ValueError("contrasts are 'factors' and there are none, add factors")
            return self
        for factor, levels in self.factors.items():
            if len(levels) < 2:
                raise ValueError(f"the factor '{factor}' has {len(levels)} level, expected at least two")
        if self.fraction is not None and (len(self.factors) < 3 or any(len(x) != 2 for x in self.factors.values())):
            raise ValueError("fraction 'half' needs at least three factors of exactly two levels each")
        count = math.prod(len(levels) for levels in self.factors.values())
        if count > MOST_ARMS:
            raise ValueError(
                f"the factors make {count} arms, expected at most {MOST_ARMS}: use fewer factors or levels"
            )
        arms: dict[str, dict[str, Any]] = {}
        for arm, chosen in self.levels.items():
            options: dict[str, Any] = {}
            for factor, level in chosen.items():
                options = merge(options, nested(self.factors[factor][level]))
            arms[arm] = options
        if not self.arms:
            object.__setattr__(self, "arms", arms)
        elif {arm: nested(options) for arm, options in self.arms.items()} != arms:
            raise ValueError("both arms and factors are given, expected one of them: the factors make the arms")
        if self.contrasts == "against-baseline":
            object.__setattr__(self, "contrasts", "factors")
        return self

    @property
    def levels(self) -> dict[str, dict[str, str]]:
        """By arm the level of each factor; empty without factors."""
        if not self.factors:
            return {}
        found = {}
        for combination in itertools.product(*(list(levels) for levels in self.factors.values())):
            chosen = dict(zip(self.factors, combination, strict=True))
            changed = [factor for factor, level in chosen.items() if level != next(iter(self.factors[factor]))]
            if self.fraction == "half" and len(changed) % 2:
                continue
            name = " + ".join(f"{factor} {chosen[factor]}" for factor in changed) or self.baseline
            found[name] = chosen
        return found

    @property
    def effects(self) -> str | tuple[dict[str, Any], ...]:
        """Which effects are judged: the name of a rule, or the effects as plain values."""
        if isinstance(self.contrasts, str):
            return self.contrasts
        return tuple(dict(contrast) for contrast in self.contrasts)

    @property
    def blocks(self) -> int:
        """The largest number of blocks: `seeds`, or the last look."""
        if self.seeds is not None:
            return self.seeds
        assert self.looks is not None
        return self.looks[-1]

    @model_validator(mode="after")
    def _known_arms(self) -> StudyOptions:
        if self.baseline not in self.arms:
            raise ValueError(f"the baseline '{self.baseline}' is not an arm, known arms: {', '.join(self.arms)}")
        if len(self.arms) < 2:
            raise ValueError(f"got the single arm '{self.baseline}', expected at least two to compare")
        if len(self.arms) > MOST_ARMS or len(self.arms) * self.blocks > MOST_RUNS:
            raise ValueError(
                f"{len(self.arms)} arms in {self.blocks} blocks are {len(self.arms) * self.blocks} runs, "
                f"expected at most {MOST_ARMS} arms and {MOST_RUNS} runs"
            )
        for arm, source in self.matched.items():
            for name in (arm, source):
                if name not in self.arms:
                    raise ValueError(f"matched names the unknown arm '{name}', known arms: {', '.join(self.arms)}")
            if source == arm or source in self.matched:
                raise ValueError(
                    f"matched gives '{arm}' the values of '{source}', expected an arm that is not matched itself"
                )
        if self.matched and self.command is not None:
            raise ValueError("matched is for our own training, a command's runs have no temperatures that we know")
        for contrast in self.contrasts if isinstance(self.contrasts, tuple) else ():
            _check_names(f"contrast '{contrast.name}'", contrast.weights, self.arms)
        for table in self.tables:
            for row in table.rows:
                if row.arm not in self.arms:
                    raise ValueError(f"table '{table.title}' names the unknown arm '{row.arm}'")
                if len(row.cells) != len(table.columns):
                    raise ValueError(
                        f"table '{table.title}' has {len(table.columns)} columns and {row.arm} {len(row.cells)} cells"
                    )
        return self


def _check_names(what: str, names: Iterable[str], arms: Iterable[str]) -> None:
    known = list(arms)
    for name in names:
        if name not in known:
            raise ValueError(f"{what} names the unknown arm '{name}', known arms: {', '.join(known)}")


def arm_options(study: StudyOptions, arm: str) -> Options:
    """Return all options of an arm, those that depend on the kind of data still open.

    Raises:
        ConfigError: the arm or the study sets an unknown option or a value out of range.
    """
    shared, own = nested(study.options), nested(study.arms[arm])
    validate(Options, shared, f"the options of study {study.name}")
    validate(Options, own, f"arm {arm} of study {study.name}")
    return validate(Options, merge(shared, own), f"arm {arm} of study {study.name}")
