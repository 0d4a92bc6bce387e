"""The command line: it parses, calls one function, prints one path or one JSON object.

Our errors and wrong usage print as one sentence and exit with 2, warnings as one line each; any other exception keeps
its traceback.
"""

from __future__ import annotations

import _thread
import contextlib
import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from typing import Any, TextIO

__all__ = ["main"]

INTERRUPTED = 130
TERMINATED = 143
"""128 + the signal's number, as shells have it: of SIGINT (Ctrl-C) and SIGTERM (batch systems)."""
SPIN_COUNT = "10000000"
"""How often an idle thread of an OpenMP team looks for work before it sleeps.  The library's own 300 000 is over while
one thread makes the small calls of an alignment, and waking the others costs several per cent of a training step."""
AGAIN_SECONDS = 0.05
"""After which a signal is given again that came where no exception gets through."""
OUT_OF_MEMORY = "memory ran out: make the images, the batch or the model smaller, or use fewer --workers"


def main() -> None:
    """Run the command line."""
    # Read once, when torch is imported; a policy that the user has set is kept.
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPIN_COUNT)

    told: list[signal.Signals] = []
    before = warnings.showwarning
    warnings.showwarning = _OneLine()
    try:
        with _ending_when_told(told):
            code = _carry_out(told)
    except (KeyboardInterrupt, _Terminated):
        code = INTERRUPTED
    finally:
        warnings.showwarning = before
    if told:
        # Whatever became of it on its way, the first signal says how the command ended.
        code = 128 + told[0]
    if code in (INTERRUPTED, TERMINATED):
        _say(_stopped())
    sys.exit(code)


def _carry_out(told: list[signal.Signals]) -> int:
    """Do what the command's words say, unless a signal ends it first; return the exit code."""
    import typer

    from semalign.cli.app import app
    from semalign.errors import SemalignError, is_out_of_memory

    # Typer keeps click's exceptions to itself; this public one has the general one as its base.
    usage_error: type[Exception] = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "UsageError")
    try:
        return app(prog_name="semalign", standalone_mode=False) or 0
    except Exception as error:
        if told:
            # A library that was at work has made an error of its own out of the signal; this is none of ours.
            raise KeyboardInterrupt from error
        if isinstance(error, SemalignError):
            _say(f"{_speaker()}error: {error}")
            return error.exit_code
        if isinstance(error, usage_error):
            return _wrong_usage(error)
        if is_out_of_memory(error):
            _say(f"error: {OUT_OF_MEMORY}")
            return 2
        raise


class _Terminated(BaseException):
    """SIGTERM has come; like an interrupt it passes through whatever catches errors."""


@contextlib.contextmanager
def _ending_when_told(told: list[signal.Signals]) -> Iterator[None]:
    """Let SIGTERM end the command as Ctrl-C does, so that what it has begun to write is taken away.

    Args:
        told: gets the number of each signal that ends the command.
    """
    is_lost = False
    timers: list[threading.Timer] = []
    shown = sys.unraisablehook

    def end(number: int, _: Any) -> None:
        nonlocal is_lost
        # Once: batch systems say it to every process of a job, and what cleans up must come to its end.
        if number == signal.SIGTERM and number in told and not is_lost:
            return
        told.append(signal.Signals(number))
        is_lost = False
        raise KeyboardInterrupt if number == signal.SIGINT else _Terminated

    def say_again(lost: sys.UnraisableHookArgs) -> None:
        nonlocal is_lost
        if not (told and isinstance(lost.exc_value, (KeyboardInterrupt, _Terminated))):
            shown(lost)
            return
        # It came while an object was taken away or a library called back, which lets no exception through.
        is_lost = True
        timers.append(threading.Timer(AGAIN_SECONDS, _signal_main_thread, (told[-1],)))
        timers[-1].daemon = True
        timers[-1].start()

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {signal.SIGTERM: signal.signal(signal.SIGTERM, end)}
    # In a shell's background Ctrl-C is ignored, and stays so.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        before[signal.SIGINT] = signal.signal(signal.SIGINT, end)
    sys.unraisablehook = say_again
    try:
        yield
    finally:
        for timer in timers:
            timer.cancel()
        sys.unraisablehook = shown
        for number, handler in before.items():
            signal.signal(number, handler)


def _signal_main_thread(number: signal.Signals) -> None:
    if hasattr(signal, "pthread_kill"):
        # A real one, which also ends what the thread waits for.
        signal.pthread_kill(threading.main_thread().ident or 0, number)
    else:
        _thread.interrupt_main(number)


class _OneLine:
    """Shows a warning as one line, each text once."""

    def __init__(self) -> None:
        self.shown: set[str] = set()

    def __call__(
        self,
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        text = str(message)
        if text not in self.shown:
            self.shown.add(text)
            _say(f"warning: {text}")


def _wrong_usage(error: BaseException) -> int:
    """Say in one line what is wrong with the command's words; without any word show the help."""
    message = error.format_message()  # type: ignore[attr-defined]
    context = error.ctx  # type: ignore[attr-defined]
    if type(error).__name__ == "NoArgsIsHelpError":
        print(context.get_help(), file=sys.stderr)
    else:
        command = "semalign" if context is None else context.command_path
        text = " ".join(message.split()).rstrip(".")
        _say(f"error: {text[0].lower() + text[1:]}, see {command} --help")
    return 2


def _stopped() -> str:
    """Return how to continue, in the language of the console where it is known."""
    from semalign.cli.show import LANGUAGE_VARIABLE
    from semalign.wording import Catalogue

    return Catalogue("zh" if os.environ.get(LANGUAGE_VARIABLE) == "zh" else "en")("console.stopped")


def _speaker() -> str:
    """Return who speaks where several processes compute one run: the first is not named."""
    number = os.environ.get("LOCAL_RANK", "0")
    return "" if number == "0" else f"process {number}: "


def _say(text: str) -> None:
    print(" ".join(text.split()), file=sys.stderr)
