"""Reports of a study, rebuilt from its folder: tables, a page, figures and a paragraph for a paper.

Nothing here trains or imports torch: a folder of results is enough.
"""

from __future__ import annotations

from pathlib import Path

from semalign.files import make_folder, write_bytes, write_json, write_text
from semalign.report.figures.canvas import can_write
from semalign.report.figures.draw import export
from semalign.report.html import render
from semalign.report.latex import tables_tex
from semalign.report.markdown import tables_md
from semalign.report.numbers import StudyNumbers, load_study, results_csv, timings_csv
from semalign.report.page import Page, build_page
from semalign.report.paper import paper_md
from semalign.report.tables import md_facts, watch_sentences
from semalign.wording import LANGUAGES, Catalogue, check_language

__all__ = [
    "FIGURES",
    "LANGUAGES",
    "StudyNumbers",
    "load_study",
    "page_md",
    "results_csv",
    "timings_csv",
    "write_report",
]

FIGURES = "figures"
"""Folder of the figures as SVG and PDF, below the study's."""


def write_report(folder: Path, *, lang: str = "en") -> Path:
    """Write the report of the study in ``folder``.

    ``report.html`` is the page; ``tables.md`` and ``tables.tex`` are its tables, ``figures/`` its figures as SVG and
    PDF, ``paper.md`` a paragraph for a paper in both languages; ``results.csv`` and ``timings.csv`` are the runs, and
    ``judgement.json`` is what `semalign.judge.Judgement.from_dict` reads.

    Everything is made before the first file is written, each file appears whole, and the same folder gives the same
    bytes.  Small pictures of images stand in the page where the study's data folder can be read.

    Args:
        folder: a study's folder, see `semalign.report.numbers.load_study`.
        lang: "en" or "zh", the language of the fixed sentences.

    Returns:
        The path of report.html.

    Raises:
        ConfigError: unknown language, or a study.yaml that is no study.
        StudyError: no study, or no finished run.
        ResultsError: a damaged result.
        OutputError: a file cannot be written.
    """
    language = check_language(lang)
    words = Catalogue(language)
    numbers = load_study(folder)
    page = build_page(numbers, words)
    name = numbers.study.name
    texts = {
        "results.csv": results_csv(numbers),
        "timings.csv": timings_csv(numbers),
        "tables.md": _tables_md(numbers, page, words),
        "tables.tex": tables_tex(page.all_tables, words("paper.tex notes", name=name), name=name),
        "paper.md": paper_md(numbers, page.new_images, language),
        "report.html": render(page, words),
    }
    figures = _figure_files(numbers, page, words)
    write_json(folder / "judgement.json", numbers.judgement.to_dict())
    for name, text in texts.items():
        write_text(folder / name, text)
    place = make_folder(folder / FIGURES)
    for name, data in figures.items():
        write_bytes(place / name, data)
    # What an earlier report drew and this one does not would stand beside figures that it contradicts.
    for path in sorted((*place.glob("*.svg"), *place.glob("*.pdf"))):
        if path.name not in figures:
            path.unlink()
    return folder / "report.html"


def page_md(numbers: StudyNumbers, words: Catalogue) -> str:
    """Return the page of tables in Markdown."""
    return _tables_md(numbers, build_page(numbers, words), words)


def _tables_md(numbers: StudyNumbers, page: Page, words: Catalogue) -> str:
    return tables_md(
        numbers.study.name,
        words.text(numbers.study.question),
        str(numbers.facts.get("command") or words("report.no command")),
        md_facts(numbers, words),
        page.all_tables,
        watch_sentences(numbers, words),
        words,
    )


def _figure_files(numbers: StudyNumbers, page: Page, words: Catalogue) -> dict[str, bytes]:
    """Return the figures by file name; in English where no font of this machine has Chinese characters."""
    if not can_write(words("report.answer")):
        page = build_page(numbers, Catalogue("en"))
    return {
        f"{name}.{ending}": data for name, drawing in page.drawings.items() for ending, data in export(drawing).items()
    }
