"""What docs/own-training.md and docs/study-file.md show can be used as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from semalign.study.design import planned_runs, read_study

DOCS = Path(__file__).parents[2] / "docs"


def blocks(name: str, language: str) -> list[str]:
    """Return the code blocks of a page."""
    return re.findall(rf"```{language}\n(.*?)```", (DOCS / name).read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.parametrize(("name", "data"), [("own-training.md", None), ("study-file.md", "scenes")])
def test_study_files_of_the_docs(tmp_path: Path, name: str, data: str | None) -> None:
    """Each whole study is read and planned."""
    whole = [block for block in blocks(name, "yaml") if "\nbaseline:" in block]
    assert len(whole) == 1
    (tmp_path / "study.yaml").write_text(whole[0])
    study = read_study(str(tmp_path / "study.yaml"), data=data)

    assert len(planned_runs(study)) == 2 * 12


def test_judging_in_python(tmp_path: Path) -> None:
    """The lines for Python judge a table and its counts, as the page says."""
    (code,) = blocks("own-training.md", "python")
    scores, counts = ["arm,seed,miou"], ["arm,seed,image,class,tp,fp,fn"]
    for arm, hit in (("plain", 2), ("wide", 5)):
        for seed in range(3):
            scores.append(f"{arm},{seed},{(20 * hit + seed) / 200}")
            counts += [f"{arm},{seed},im{i},a,{hit + (i < seed)},0,{10 - hit - (i < seed)}" for i in range(20)]
    (tmp_path / "scores.csv").write_text("\n".join(scores) + "\n")
    (tmp_path / "counts.csv").write_text("\n".join(counts) + "\n")
    names = {"path": tmp_path / "scores.csv", "counts": tmp_path / "counts.csv"}
    exec(code, names)

    assert names["new"][0].mean == pytest.approx(30)  # type: ignore[index]
