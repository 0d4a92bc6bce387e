"""Does faults to small commands, starts each again, and writes a table of what was lost.

    python scripts/faults.py --kills 200 --out docs/results/faults.md

A training, a study, a report, the writing of the cache and an export are ended by SIGKILL, SIGTERM and Ctrl-C at random
moments; disks are full or cannot be written; a study is started twice on one folder; its workers run out of memory or
are killed; the loss of one arm is no number.  Then the same command is started again, and everything that it leaves is
compared, byte for byte, with what it leaves undisturbed: weights, results, results.csv, verdicts, report.

The moment is drawn evenly: either a point of the command's time, or the moment at which its k-th file is about to be
put in its place.  Attempts stand in WORK/attempts.jsonl, one a line; the same command goes on where it was stopped, and
makes those again whose lines were taken away.
Exit 1 where anything was lost.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "src")]

from tests.faults.campaign import CASES, SETUPS, Attempt, Campaign, can_mount  # noqa: E402

KILLED = {"train": 7, "study": 2, "report": 4, "cache": 4, "export": 3}
"""Of each 20 kills."""
KINDS = ("SIGKILL", "SIGTERM", "SIGINT")
NAMES = {
    "SIGINT": "Ctrl-C (SIGINT)",
    "full disk": "disk full" if can_mount() else "no file beyond a size",
    "two at once": "the same study started twice",
    "NaN loss": "NaN loss in one arm, and SIGKILL",
    "read-only": "output that cannot be written",
}


def plan(kills: int, others: int) -> Iterator[tuple[str, str]]:
    """Yield fault and command of every attempt."""
    order = [command for command, share in KILLED.items() for _ in range(share)]
    # Commands alternate, so that a campaign that is stopped early has seen them all.
    order = [order[place * 7 % len(order)] for place in range(len(order))]
    every = max(1, kills // max(1, others))
    for number in range(max(kills, others)):
        if number < kills:
            # Each round of the order begins with another kind, so that each command meets all of them.
            yield KINDS[(number % len(order) + number // len(order)) % 3], order[number % len(order)]
        place, rest = divmod(number, every)
        if rest == every // 2 and place < others:
            for command in ("train", "study", "report", "cache", "export", "predict"):
                yield "full disk", command
            yield "two at once", "study"
            yield "worker out of memory", "study"
            yield "worker killed", "study"
            yield "NaN loss", "diverging"
            if place < 2:
                for command in ("train", "study", "report", "export", "predict"):
                    yield "read-only", command


def main() -> int:
    """Do the faults and write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--kills", type=int, default=200, help="commands to end by a signal [200]")
    parser.add_argument("--others", type=int, default=8, help="attempts of each other fault [8]")
    parser.add_argument("--seed", type=int, default=20261124, help="of the moments")
    parser.add_argument("--out", type=Path, help="file of the table [printed]")
    parser.add_argument("--work", type=Path, help="folder to work in, gone on with [a temporary one]")
    parser.add_argument("--spawn", action="store_true", help="start each command as a new process, not as a fork")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        work = asked.work or Path(name)
        campaign = Campaign(work, asked.seed, fork=not asked.spawn)
        record = work / "attempts.jsonl"
        seed = work / "seed.txt"
        if seed.exists() and seed.read_text() != str(asked.seed):
            parser.error(f"{work} was begun with --seed {seed.read_text()}, got {asked.seed}: name another --work")
        seed.write_text(str(asked.seed))
        done = [] if not record.exists() else [json.loads(line) for line in record.read_text().splitlines()]
        made = {one.pop("number"): read(one) for one in done}
        attempts = []
        for number, (fault, command) in enumerate(plan(asked.kills, asked.others)):
            if number in made:
                attempts.append(made[number])
                if (attempts[number].fault, attempts[number].command) != (fault, command):
                    parser.error(f"{record} has another attempt {number} than was asked for, name another --work")
                continue
            attempt = SETUPS[fault](campaign, command, number)
            attempts.append(attempt)
            with record.open("a") as stream:
                stream.write(json.dumps({"number": number, **dataclasses.asdict(attempt)}) + "\n")
            print(number, "good" if attempt.is_good else "BAD", json.dumps(dataclasses.asdict(attempt)), flush=True)
    text = table(attempts, asked)
    if asked.out is None:
        print(text)
    else:
        asked.out.write_text(text, encoding="utf-8")
    return 0 if all(attempt.is_good for attempt in attempts) else 1


def read(raw: dict[str, Any]) -> Attempt:
    """Return an attempt from its line."""
    return Attempt(**{key: tuple(value) if isinstance(value, list) else value for key, value in raw.items()})


def table(attempts: list[Attempt], asked: argparse.Namespace) -> str:
    """Return the page."""
    command = f"python scripts/faults.py --kills {asked.kills} --others {asked.others} --seed {asked.seed}"
    lines = [
        "# Faults",
        "",
        f"`{command} --out docs/results/faults.md` made this page: what was done to a command, how often, and what was "
        "lost once the same command was started again. Compared are all files that it leaves, byte for byte, with "
        "those of a command left alone; only times are left out. The moments are drawn: a point of the command's time, "
        "or the moment at which its k-th file is about to be put in its place. An attempt that was not as promised is "
        "made again once its cause is mended.",
        "",
        "| fault | command | tried | ended the command | finished runs before | of these lost or repeated | "
        "half-written files | differ afterwards | otherwise not as promised |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    kinds = dict.fromkeys((attempt.fault, attempt.command) for attempt in attempts)
    order = {fault: place for place, fault in enumerate(SETUPS)}
    places = {name: place for place, name in enumerate(CASES)}
    for fault, of in sorted(kinds, key=lambda kind: (order[kind[0]], places[kind[1]])):
        here = [attempt for attempt in attempts if (attempt.fault, attempt.command) == (fault, of)]
        shown = "study" if of == "diverging" else of
        lines.append(
            f"| {NAMES.get(fault, fault)} | {shown} | "
            + " | ".join(
                str(count)
                for count in (
                    len(here),
                    sum(one.code != 0 for one in here),
                    sum(one.finished for one in here),
                    sum(one.lost for one in here),
                    sum(len(one.half) for one in here),
                    sum(bool(one.differ) for one in here),
                    sum(bool(one.faults) for one in here),
                )
            )
            + " |"
        )
    bad = [attempt for attempt in attempts if not attempt.is_good]
    signalled = sum(attempt.fault in KINDS for attempt in attempts)
    workers = sum(attempt.fault in KINDS and attempt.code == 0 for attempt in attempts)
    lines += [
        "",
        f"{len(attempts)} attempts, {signalled} of them by a signal, which ended the command in {signalled - workers} "
        f"and one of a study's workers in {workers}; "
        + ("nothing was lost." if not bad else f"{len(bad)} were not as promised:"),
    ]
    lines += [f"- {json.dumps(dataclasses.asdict(attempt))}" for attempt in bad]
    lines += [
        "",
        "What does not end a command: a worker's end, after which the study takes another; a disk that has room "
        "enough, or has none for the cache alone. A command that finds no room or may not write ends with exit code 2 "
        "and one sentence; a study that is started twice is refused with the process that has it, unless the first has "
        "just ended; an arm whose loss is no number is a failed run that says step, images and what the audit finds, "
        "and the other arms end as without it.",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
