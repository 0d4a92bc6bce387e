"""The names of every file that a run's, a study's and a data folder hold, and the versions of their formats.

Plain values.  It knows nothing of what the files hold beyond their names and of how they are read and written.
"""

from __future__ import annotations

import re
from typing import Final

# ---- a run's folder ----

CONFIG: Final = "config.yaml"
"""The resolved options, there before training starts."""
COMMAND: Final = "command.txt"
"""The command line, there before training starts."""
STATE: Final = "state.safetensors"
"""What `--resume` needs; removed when the run has finished."""
WEIGHTS: Final = "weights.safetensors"
"""The scored weights; with `RESULT` the sign of a finished run."""
BEST: Final = "best.safetensors"
"""The weights with the best score on ``train.select_split``."""
RESULT: Final = "result.json"
"""Score, curves, facts and timings."""
TRACKED: Final = "metrics.csv"
"""What the tracker `csv` writes."""
TRACKERS: Final = "trackers.json"
"""The names under which outside trackers keep the run."""

# ---- the folder of a run whose maker is a command line of the user ----

COMMAND_OUT: Final = "out"
"""Folder that the command writes into."""
SCORE: Final = "score.json"
"""What the command writes, in `COMMAND_OUT`."""
LOG: Final = "log.txt"
"""What the command prints."""

# ---- a study's folder ----

STUDY: Final = "study.yaml"
"""The study itself, there before its first run."""
FACTS: Final = "facts.json"
"""Command, versions, machine and data of the study."""
PILOT: Final = "pilot.json"
"""What two copies of one recipe say about the noise of an effect."""
AUDIT: Final = "audit.json"
"""The audit of every arm."""
RUNS: Final = "runs"
"""Folder of the runs: ``runs/ARM/seed-N``."""
PILOT_RUNS: Final = "pilot"
"""Folder of the pilot's second runs."""
FIGURES: Final = "figures"
"""Folder of the report's figures as SVG and PDF."""
RESULTS_TABLE: Final = "results.csv"
"""One line a run: arm, seed, score."""
TIMINGS_TABLE: Final = "timings.csv"
"""One line a run: wall times."""
TABLES_MARKDOWN: Final = "tables.md"
TABLES_LATEX: Final = "tables.tex"
PAPER: Final = "paper.md"
"""A paragraph for a paper, in both languages."""
JUDGEMENT: Final = "judgement.json"
"""Estimates and verdicts as plain values."""
REPORT: Final = "report.html"
"""The report."""

STUDIES: Final = "studies"
"""Folder of the studies where the user names none: ``studies/NAME``."""


def slug(arm: str) -> str:
    """Return the name of an arm or a study as a folder name.

    >>> slug("no text"), slug("A/B ü")
    ('no-text', 'a-b-ü')
    """
    return re.sub(r"[\W_]+", "-", arm.lower()).strip("-") or "arm"


def run_folder(arm: str, seed: int, root: str = RUNS) -> str:
    """Return the folder of a run relative to its study's; ``root`` is `RUNS` or `PILOT_RUNS`.

    >>> run_folder("no text", 3)
    'runs/no-text/seed-3'
    """
    return f"{root}/{slug(arm)}/seed-{seed}"


# ---- both ----

LOCK: Final = ".lock"
"""Held by the process that writes into the folder."""

# ---- a data folder ----

IMAGES: Final = "images"
"""Folder of the images: ``images/SPLIT/NAME.jpg``."""
MASKS: Final = "masks"
"""Folder of the masks: ``masks/SPLIT/NAME.png``."""
DEPTH: Final = "depth"
"""Folder of the depth: ``depth/SPLIT/NAME.png``."""
CLASS_NAMES: Final = "classes.txt"
"""One class name per line; line k is class k-1."""
TEXTS: Final = "texts.jsonl"
"""Texts of single images."""
CLUSTERS: Final = "clusters.txt"
"""The sequence that each image belongs to."""
CLASS_COLORS: Final = ("colors.txt", "label_colors.txt")
"""Which color is which class, ``R G B NAME`` per line; the second is CamVid's own name for it."""
FIXES: Final = "fixes.json"
"""What was changed in a corrected copy."""
IMPORTED: Final = "import.json"
"""What an imported folder was made from."""

# ---- versions of the formats ----

RESULT_FORMAT: Final = 2
"""Of `RESULT`."""
TENSORS_FORMAT: Final = 1
"""Of `STATE`, `WEIGHTS` and `BEST`."""
JUDGEMENT_FORMAT: Final = 2
"""Of `JUDGEMENT`."""
FIXES_FORMAT: Final = 1
"""Of `FIXES`."""
IMPORTED_FORMAT: Final = 1
"""Of `IMPORTED`."""
