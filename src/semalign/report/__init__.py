"""Reports of a study, rebuilt from its folder: tables, a page, figures and a paragraph for a paper.

Nothing here trains or imports torch: a folder of results is enough.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from semalign.files import make_folder, write_bytes, write_json, write_text
from semalign.judge import Judgement
from semalign.layout import (
    FIGURES,
    JUDGEMENT,
    PAPER,
    REPORT,
    RESULTS_TABLE,
    TABLES_LATEX,
    TABLES_MARKDOWN,
    TIMINGS_TABLE,
)
from semalign.report.figures.canvas import can_write
from semalign.report.figures.draw import export
from semalign.report.html import render
from semalign.report.latex import tables_tex
from semalign.report.markdown import tables_md
from semalign.report.numbers import StudyNumbers, load_study
from semalign.report.page import Page, build_page
from semalign.report.paper import paper_md
from semalign.report.runs_csv import results_csv, timings_csv
from semalign.report.sentences import catalogue_of
from semalign.wording import Catalogue, check_language

__all__ = ["Report", "StudyNumbers", "load_study", "results_csv", "timings_csv", "write_report"]


@dataclasses.dataclass(frozen=True)
class Report:
    """What `write_report` wrote.

    Attributes:
        path: report.html.
        files: every file that was written, report.html among them.
        judgement: estimates and verdicts, as in judgement.json.
        page: the page as plain data: sentences, tables and figures.
    """

    path: Path
    files: tuple[Path, ...]
    judgement: Judgement
    page: Page


def write_report(folder: Path, *, lang: str = "en") -> Report:
    """Write the report of the study in ``folder``.

    ``report.html`` is the page; ``tables.md`` and ``tables.tex`` are its tables, ``figures/`` its figures as SVG and
    PDF, ``paper.md`` a paragraph for a paper in both languages; ``results.csv`` and ``timings.csv`` are the runs, and
    ``judgement.json`` is what `semalign.judge.Judgement.from_dict` reads.

    Everything is made before the first file is written, each file appears whole, and the same folder gives the same
    bytes.  The page shows small pictures of images where the study's data folder can be read.

    Args:
        folder: a study's folder, see `semalign.report.numbers.load_study`.
        lang: "en" or "zh", the language of the sentences.

    Raises:
        ConfigError: unknown language, or a study.yaml that does not describe a study.
        StudyError: no study, or no finished run.
        ResultsError: a damaged result.
        OutputError: a file cannot be written.
    """
    language = check_language(lang)
    numbers = load_study(folder)
    words = catalogue_of(numbers, language)
    page = build_page(numbers, words)
    name = numbers.study.name
    texts = {
        RESULTS_TABLE: results_csv(numbers),
        TIMINGS_TABLE: timings_csv(numbers),
        TABLES_MARKDOWN: tables_md(page, words),
        TABLES_LATEX: tables_tex(page.all_tables, words("paper.tex notes", name=name), name=name),
        PAPER: paper_md(numbers, page.new_images, words.lang),
        REPORT: render(page, words),
    }
    figures = _figure_files(numbers, page, words)
    write_json(folder / JUDGEMENT, numbers.judgement.to_dict())
    for name, text in texts.items():
        write_text(folder / name, text)
    place = make_folder(folder / FIGURES)
    for name, data in figures.items():
        write_bytes(place / name, data)
    # A figure of an earlier report that this one does not draw would contradict the others.
    for path in sorted((*place.glob("*.svg"), *place.glob("*.pdf"))):
        if path.name not in figures:
            path.unlink()
    files = (folder / JUDGEMENT, *(folder / name for name in texts), *(place / name for name in figures))
    return Report(folder / REPORT, files, numbers.judgement, page)


def _figure_files(numbers: StudyNumbers, page: Page, words: Catalogue) -> dict[str, bytes]:
    """Return the figures by file name; in English where no font of this machine has Chinese characters."""
    if not can_write(words("report.answer")):
        page = build_page(numbers, catalogue_of(numbers, "en"))
    return {
        f"{name}.{ending}": data for name, drawing in page.drawings.items() for ending, data in export(drawing).items()
    }
