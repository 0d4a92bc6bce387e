from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

import semalign
from semalign.results import read_result
from tests.examples.scripts import load_script

PAGE = """\
# Recipes

Before.

<!-- results of shapes -->
Old.
<!-- end of results of shapes -->

After.
"""


@pytest.fixture(scope="module")
def script() -> ModuleType:
    """Return the script as a module."""
    return load_script("recipe_results")


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    """Return a folder of pages."""
    for name in ("results", "assets"):
        (tmp_path / name).mkdir()
    (tmp_path / "results" / "recipes.md").write_text(PAGE)
    return tmp_path


def test_figures_are_those_of_evaluate(
    script: ModuleType, docs: Path, data: Path, trained: Path, open_vocabulary: Path
) -> None:
    """Between the marks come the runs' own facts and scores, and nothing else of the page is touched."""
    script.main(["shapes", str(data), f"a = b={trained}", f"open={open_vocabulary}", "--docs", str(docs)])
    page = (docs / "results" / "recipes.md").read_text()

    assert page.startswith(PAGE[: PAGE.index("Old.")])
    assert page.endswith(PAGE[PAGE.index("<!-- end") :])
    assert "Old." not in page
    for title, folder in (("a = b", trained), ("open", open_vocabulary)):
        result = read_result(folder / "result.json")
        plain, mirrored = (100 * semalign.evaluate(folder, data, flip=flip).score.miou for flip in (False, True))
        row = next(line for line in page.splitlines() if line.startswith(f"| {title} |"))
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        assert cells[1:3] == [f"{plain:.1f}", f"{mirrored:.1f}"]
        assert cells[3] == f"{result.facts['parameters'] / 1e6:.2f} M"
        assert int(cells[7]) == result.facts["steps"]
    assert "| class | a = b, val | open, val |" in page
    assert "](../assets/recipe-shapes.svg)" in page
    assert (docs / "assets" / "recipe-shapes.svg").read_text().count("val mIoU") == 1


def test_nothing_is_written_where_a_run_fails(script: ModuleType, docs: Path, data: Path, trained: Path) -> None:
    """A run that is none is refused before anything is written."""
    with pytest.raises(SystemExit) as ended:
        script.main(["shapes", str(data), f"a={trained}", f"b={docs}", "--docs", str(docs)])

    assert ended.value.code == 2
    assert (docs / "results" / "recipes.md").read_text() == PAGE
    assert list((docs / "assets").iterdir()) == []


@pytest.mark.parametrize(
    "page", [PAGE.replace("<!-- end", "<!-- ende"), PAGE.replace("<!-- results", "<!-- result"), "# Recipes\n"]
)
def test_a_page_without_a_place_is_refused_first(
    script: ModuleType, docs: Path, page: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both marks are looked for before a run is scored."""
    (docs / "results" / "recipes.md").write_text(page)
    with pytest.raises(SystemExit) as ended:
        script.main(["shapes", "nowhere", "a=nowhere", "--docs", str(docs)])

    assert ended.value.code == 2
    assert "expected '<!-- results of shapes -->' and '<!-- end of results of shapes -->'" in capsys.readouterr().err
    assert (docs / "results" / "recipes.md").read_text() == page
