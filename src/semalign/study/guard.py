"""Starts the user's command for a run, and ends it with the run.

Called as ``python -I guard.py WORD...``, as the first process of its own group.  It starts the command and leaves with
its exit code.  When its standard input ends, because the process at the other end has closed it or has died, the whole
group is killed at once: a command that continued would write into a folder that is used again.  It uses the standard
library alone and does not depend on studies.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable

__all__ = ["NOT_STARTED", "main"]

NOT_STARTED = 127
"""Exit code where the command could not be started, as a shell has it."""

PR_SET_PDEATHSIG = 1


def main(words: list[str]) -> int:
    """Run the command and return its exit code; 128 + n where signal n ended it."""
    try:
        child = subprocess.Popen(words, stdin=subprocess.DEVNULL, preexec_fn=_die_with_me())
    except OSError as error:
        print(f"cannot start {words[0]}: {error.strerror}", file=sys.stderr, flush=True)
        return NOT_STARTED
    threading.Thread(target=_watch, args=(child,), daemon=True).start()
    code = child.wait()
    return code if code >= 0 else 128 - code


def _watch(child: subprocess.Popen[bytes]) -> None:
    """Kill everything once standard input has ended."""
    # Below the buffered reader, whose lock the interpreter takes when it ends.
    while os.read(0, 4096):
        pass
    if hasattr(os, "killpg") and os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    child.kill()
    os._exit(1)


def _die_with_me() -> Callable[[], None] | None:
    """Return what the child does first, on Linux: ask to be killed when this process is killed before it."""
    if sys.platform != "linux":
        return None
    import ctypes

    # Loaded before the fork, after which little is safe.
    prctl = ctypes.CDLL(None).prctl
    mine = os.getpid()

    def ask() -> None:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != mine:
            os._exit(1)

    return ask


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
