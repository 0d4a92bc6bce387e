"""The command line, killed at a chosen file: ``python kill_child.py WORDS...`` with KILL="NAME:COUNT:WHOM:MARK".

When a process is about to put the COUNTth file of that NAME in its place, it kills (SIGKILL) the study's own process
(WHOM is "study") or itself if it is a worker ("worker"), unless the file MARK is there, which it then makes.  What it
has written aside stays, as with any kill.  A training's state is saved after every step.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

from semalign import files

IS_WORKER = __name__ != "__main__"
_write_aside = files.write_aside
_seen = 0


@contextlib.contextmanager
def _killing(path: Path) -> Iterator[Path]:
    global _seen
    name, count, whom, mark = os.environ["KILL"].split(":", 3)
    with _write_aside(path) as temporary:
        yield temporary
        _seen += path.name == name
        if path.name == name and _seen == int(count) and (IS_WORKER or whom == "study"):
            with contextlib.suppress(FileExistsError):
                Path(mark).touch(exist_ok=False)
                os.kill(os.getppid() if IS_WORKER and whom == "study" else os.getpid(), signal.SIGKILL)
                # A worker is ended by its own watch over its parent.
                signal.pause()


if os.environ.get("KILL"):
    files.write_aside = _killing

from semalign.train import loop  # noqa: E402 (the writer is exchanged before anybody takes it)

loop.SAVE_EVERY_SECONDS = -1.0

if __name__ == "__main__":
    from semalign.cli import main
    from semalign.study import runner

    # Several threads that share a busy processor wait for each other at every small step.
    runner.threads_per_worker = lambda workers: 1
    sys.exit(main())  # type: ignore[func-returns-value]
