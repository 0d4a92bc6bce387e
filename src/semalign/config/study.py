"""What a study asks, as its file says it; it knows nothing of running or judging."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from semalign.config.options import Frozen, Options, Positive
from semalign.config.reader import merge, nested, validate

__all__ = ["StudyOptions", "TableOptions", "TableRow", "arm_options"]


class TableRow(Frozen):
    """One row of a table of the report: an arm and the cells before its figures."""

    arm: str
    cells: tuple[str, ...]


class TableOptions(Frozen):
    """A table of the report; the columns mIoU, effect and verdict are added."""

    title: str
    columns: tuple[str, ...]
    """Heads of the cells, the arm's name first."""
    rows: tuple[TableRow, ...]


class StudyOptions(Frozen):
    """A question with arms, seeds, margin and data."""

    name: str
    question: str
    """What the study is to answer, one sentence."""
    source: str = ""
    """Where the question comes from."""
    data: str | None = None
    """A folder or 'scenes'; --data overrides it."""
    baseline: str
    """The arm that the others are compared with."""
    arms: dict[str, dict[str, Any]]
    """By name, the options in which the arm differs from `options`."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Options of all arms."""
    contrasts: Literal["ablations", "against-baseline"] = "against-baseline"
    """Which effects are judged: the document's two ablations with controls, or every arm against the baseline."""
    seeds: Annotated[int, Field(ge=1, le=10000)] = 5
    """Blocks: seeds 0 to seeds - 1, each with every arm."""
    margin: Annotated[Positive, Field(le=100)] = 1.0
    """Smallest effect that matters, in mIoU points, fixed before any run."""
    alpha: Annotated[Positive, Field(lt=1)] = 0.05
    """Share of false claims allowed in each family of effects."""
    pilot_blocks: Annotated[int, Field(ge=0, le=100)] = 3
    """Blocks of the pilot that runs the baseline's recipe twice; 0 leaves it out."""
    tables: tuple[TableOptions, ...] = ()

    @model_validator(mode="after")
    def _known_arms(self) -> StudyOptions:
        if self.baseline not in self.arms:
            raise ValueError(f"the baseline '{self.baseline}' is no arm, known arms: {', '.join(self.arms)}")
        if len(self.arms) < 2:
            raise ValueError(f"got the single arm '{self.baseline}', expected at least two to compare")
        for table in self.tables:
            for row in table.rows:
                if row.arm not in self.arms:
                    raise ValueError(f"table '{table.title}' names the unknown arm '{row.arm}'")
                if len(row.cells) != len(table.columns):
                    raise ValueError(
                        f"table '{table.title}' has {len(table.columns)} columns and {row.arm} {len(row.cells)} cells"
                    )
        return self


def arm_options(study: StudyOptions, arm: str) -> Options:
    """Return all options of an arm, those that depend on the kind of data still open.

    Raises:
        ConfigError: the arm or the study sets an unknown option or a value out of range.
    """
    shared, own = nested(study.options), nested(study.arms[arm])
    validate(Options, shared, f"the options of study {study.name}")
    validate(Options, own, f"arm {arm} of study {study.name}")
    return validate(Options, merge(shared, own), f"arm {arm} of study {study.name}")
