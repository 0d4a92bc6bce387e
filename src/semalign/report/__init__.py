"""Reports of a study: results.csv, timings.csv, judgement.json, tables.md and report.html, rebuilt from its folder.

Nothing here trains or imports torch: a folder of results is enough.
"""

from __future__ import annotations

from pathlib import Path

from semalign.files import write_json, write_text
from semalign.report.html import render
from semalign.report.numbers import StudyNumbers, load_study, results_csv, timings_csv
from semalign.report.page import build_page
from semalign.report.tables import tables_md
from semalign.report.words import LANGUAGES, Words, check_language

__all__ = ["LANGUAGES", "StudyNumbers", "load_study", "results_csv", "timings_csv", "write_report"]


def write_report(folder: Path, *, lang: str = "en") -> Path:
    """Write results.csv, timings.csv, judgement.json, tables.md and report.html of the study in ``folder``.

    Everything is made before the first file is written, each file appears whole, and the same folder gives the same
    bytes.  ``judgement.json`` is what `semalign.judge.Judgement.from_dict` reads.

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
    words = Words(check_language(lang))
    numbers = load_study(folder)
    texts = {
        "results.csv": results_csv(numbers),
        "timings.csv": timings_csv(numbers),
        "tables.md": tables_md(numbers, words),
        "report.html": render(build_page(numbers, words), words),
    }
    write_json(folder / "judgement.json", numbers.judgement.to_dict())
    for name, text in texts.items():
        write_text(folder / name, text)
    return folder / "report.html"
