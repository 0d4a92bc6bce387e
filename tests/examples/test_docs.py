"""Links lead somewhere; what docs/own-training.md and docs/study-file.md show can be used as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from semalign.study.design import planned_runs, read_study

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
MADE = {"api", "commands", "judge", "options", "parts", "presets"}
"""Pages of the reference that the site makes from the code (scripts/docs_site.py)."""


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


def without_code(text: str) -> str:
    """Return a page's prose."""
    return re.sub(r"`[^`\n]*`", "", re.sub(r"^( *)```.*?^\1```", "", text, flags=re.DOTALL | re.MULTILINE))


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub and mkdocs make them from English ones."""
    prose = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ (.*)$", prose, re.MULTILINE)
    return {re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", heading.lower()).strip()) for heading in headings}


@pytest.mark.parametrize(
    "page",
    [*sorted(DOCS.rglob("*.md")), *sorted(ROOT.glob("*.md")), *sorted((ROOT / "examples").rglob("*.md"))],
    ids=lambda page: str(page.relative_to(ROOT)),
)
def test_links(page: Path) -> None:
    """A link within the repository leads to a file that is there, and to a heading that it has."""
    for link in re.findall(r"\]\(([^)\s]+)\)", without_code(page.read_text(encoding="utf-8"))):
        if re.match(r"\w+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if target.parent == DOCS / "reference" and target.stem in MADE:
            continue
        assert target.exists(), f"{link}: no such file"
        if anchor and target.suffix == ".md":
            assert anchor in anchors(target), f"{link}: no such heading"
