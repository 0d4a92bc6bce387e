"""The command line with a fault in it: ``python child.py WORDS...`` with FAULT, a JSON object, in the environment.

    ready    a file that is made when the libraries are loaded and the command begins
    at       [NAME, COUNT]: strike when a process is about to put the COUNTth file of that NAME ("*": of any) in its
             place, or, for the name "pack", has written the COUNTth array of a cache's pack
    whom     "study" (the command's own process) or "worker"; without a worker they are the same
    signal   what strikes: SIGKILL (default), SIGTERM or SIGINT; or "memory": no more than is used now, 64 MiB aside
    mark     a file that is made when it strikes; nothing strikes where it is there already
    fsize    bytes, beyond which no file can be written, as on a full disk

What a killed process has written aside stays, as with any kill.  A training's state is saved after every step.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from semalign import files

FAULT: dict[str, Any] = json.loads(os.environ.get("FAULT") or "{}")
IS_WORKER = __name__ != "__main__"
_write_aside = files.write_aside
_seen = 0


def _limit_memory() -> None:
    import resource

    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + (64 << 20)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _strike(name: str) -> None:
    global _seen
    asked, count = FAULT["at"]
    if asked not in ("*", name):
        return
    _seen += 1
    if _seen != count or not (IS_WORKER or FAULT.get("whom", "study") == "study"):
        return
    with contextlib.suppress(FileExistsError):
        Path(FAULT["mark"]).touch(exist_ok=False)
        if FAULT.get("signal") == "memory":
            _limit_memory()
            return
        number = signal.Signals[FAULT.get("signal", "SIGKILL")]
        is_own = not IS_WORKER or FAULT.get("whom", "study") == "worker"
        os.kill(os.getpid() if is_own else os.getppid(), number)
        if not is_own:
            # A worker is ended by its study, or by its own watch over it.
            signal.pause()


@contextlib.contextmanager
def _striking(path: Path) -> Iterator[Path]:
    with _write_aside(path) as temporary:
        yield temporary
        _strike(path.name)


if FAULT.get("at"):
    files.write_aside = _striking

from semalign.data import packed  # noqa: E402 (the writer is exchanged before anybody takes it)
from semalign.train import state  # noqa: E402

if (FAULT.get("at") or [""])[0] in ("*", "pack"):
    _add = packed._Writer.add

    def _striking_add(self: Any, array: Any) -> None:
        _add(self, array)
        _strike("pack")

    packed._Writer.add = _striking_add  # type: ignore[method-assign]

state.SAVE_EVERY_SECONDS = -1.0


def command_line() -> None:
    """Begin the command whose words stand in ``sys.argv``."""
    # Of a shell's background, where Ctrl-C is ignored, nothing is inherited: it comes as at a terminal.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    from semalign import api, report  # noqa: F401 (loaded before the command begins, whatever it is)
    from semalign.cli import main
    from semalign.study import engines

    # Several threads that share a busy processor wait for each other at every small step.
    engines.threads_per_worker = lambda workers: 1
    if "fsize" in FAULT:
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (FAULT["fsize"], FAULT["fsize"]))
    if "ready" in FAULT:
        Path(FAULT["ready"]).touch()
    sys.exit(main())  # type: ignore[func-returns-value]


if __name__ == "__main__":
    command_line()
