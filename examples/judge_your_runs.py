"""Judge runs of any program: a table of arm, seed and score in, one verdict per question out.  Needs no torch.

python examples/judge_your_runs.py
"""

import csv
from pathlib import Path

import semalign.judge

# Scores of three recipes on the same eight seeds, as your own training may have left them (fractions, not percent).
SCORES = {
    "plain": [0.612, 0.618, 0.607, 0.615, 0.621, 0.609, 0.613, 0.616],
    "wider": [0.633, 0.641, 0.622, 0.637, 0.640, 0.629, 0.638, 0.634],
    "longer": [0.613, 0.617, 0.609, 0.614, 0.624, 0.607, 0.615, None],  # the last run diverged: a failure is an outcome
}

table = Path("results.csv")
with table.open("w", newline="") as file:
    writer = csv.writer(file)
    writer.writerow(["arm", "seed", "miou"])
    for arm, scores in SCORES.items():
        for seed, score in enumerate(scores):
            writer.writerow([arm, seed, "" if score is None else score])

# The margin, the smallest difference that would matter to you, is fixed before you look.
judgement = semalign.judge(semalign.judge.read_results_csv(table), baseline="plain", margin=1.0)

for estimate, verdict in zip(judgement.estimates, judgement.verdicts, strict=True):
    print(f"{estimate.contrast.name}: {verdict.word}")
    print(f"  {verdict.reason}")
