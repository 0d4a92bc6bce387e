"""Measure everything that docs/performance.md shows, and write it there: `python scripts/bench_all.py`.

Runs every `semalign bench` command, one after another (about ten minutes on two idle cores, two with --quick); puts
what each prints between its marks, `<!-- bench NAME -->` and `<!-- end of bench NAME -->`.  Nothing else of the page is
changed.  A command that fails leaves the page as it was.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

from marks import put

from semalign.bench import BENCHES

PAGE = Path(__file__).resolve().parent.parent / "docs" / "performance.md"


def measured(name: str, threads: int | None, quick: bool) -> str:
    """Run `semalign bench NAME --markdown` and return what stands between the marks."""
    options = ["--markdown", *(["--quick"] if quick else [])]
    if threads is not None and name != "study":
        options += ["--threads", str(threads)]
    command = " ".join(["semalign", "bench", name, *options])
    print(command, flush=True)
    before, start = os.getloadavg()[0], time.perf_counter()
    tables = subprocess.run(
        [sys.executable, "-m", "semalign", "bench", name, *options], check=True, stdout=subprocess.PIPE, text=True
    ).stdout
    took = (time.perf_counter() - start) / 60
    return (
        f"`{command}`: {took:.1f} minutes on {os.cpu_count()} processors; load average before {before:.1f}\n\n{tables}"
    )


def main() -> None:
    """Measure what is asked for, then write the page once."""
    parser = argparse.ArgumentParser(
        description="Measure everything that docs/performance.md shows, and write it there."
    )
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help="; ".join(f"{name}: {what}" for name, what in BENCHES.items())
    )
    parser.add_argument("--threads", type=int, help="threads to compute with [all]; 1 measures that thread's own time")
    parser.add_argument("--quick", action="store_true", help="fewer rounds and sizes")
    arguments = parser.parse_args()
    unknown = set(arguments.names) - set(BENCHES)
    if unknown:
        parser.error(f"there is no bench {sorted(unknown)[0]}, known: {', '.join(BENCHES)}")
    found = {name: measured(name, arguments.threads, arguments.quick) for name in arguments.names or BENCHES}
    page = PAGE.read_text()
    for name, text in found.items():
        page = put(page, f"bench {name}", text)
    PAGE.write_text(page)
    print(PAGE)


if __name__ == "__main__":
    main()
