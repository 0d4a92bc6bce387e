"""From scores to verdicts: paired blocks, t intervals, a margin fixed beforehand.

Nothing here trains, draws or imports torch: anybody's runs can be judged.  Called, the package judges:
``semalign.judge(rows, ...)`` is `semalign.judge.judgement.judge`.
"""

from semalign.judge.contrasts import (
    ABLATION_ARMS,
    CONTROLS,
    ablation_contrasts,
    against_baseline,
    factor_effect,
)
from semalign.judge.judgement import judge
from semalign.judge.metric import MIOU, Metric
from semalign.judge.new_images import NewImages, judge_new_images
from semalign.judge.pilot import Pilot, judge_pilot
from semalign.judge.rows import Row, Rows
from semalign.judge.table import (
    ImageTable,
    counts_of_runs,
    read_image_counts_csv,
    read_results_csv,
    read_runs_csv,
    rows_of_counts,
)
from semalign.judge.types import ArmSummary, Contrast, Estimate, FailureTest, Judgement, LeftOut, Look, Verdict
from semalign.presets import BASELINE, LOOKS
from semalign.rooms import make_callable
from semalign.wording.numbers import format_interval, format_level, format_p, format_points

__all__ = [
    "ABLATION_ARMS",
    "BASELINE",
    "CONTROLS",
    "LOOKS",
    "MIOU",
    "ArmSummary",
    "Contrast",
    "Estimate",
    "FailureTest",
    "ImageTable",
    "Judgement",
    "LeftOut",
    "Look",
    "Metric",
    "NewImages",
    "Pilot",
    "Row",
    "Rows",
    "Verdict",
    "ablation_contrasts",
    "against_baseline",
    "counts_of_runs",
    "factor_effect",
    "format_interval",
    "format_level",
    "format_p",
    "format_points",
    "judge",
    "judge_new_images",
    "judge_pilot",
    "read_image_counts_csv",
    "read_results_csv",
    "read_runs_csv",
    "rows_of_counts",
]

make_callable(__name__, "semalign.judge.judgement", "judge")
