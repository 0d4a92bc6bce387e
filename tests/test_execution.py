"""One value says how to run."""

from __future__ import annotations

import pickle

from semalign.execution import Events, Execution


def test_a_worker_gets_everything_but_the_events() -> None:
    """Functions of the caller cannot be sent to another process; the rest is sent as it is."""
    seen: list[object] = []
    how = Execution("cuda:1", scan=False, workers=3, events=Events(stepped=lambda *now: seen.append(now)))

    sent = pickle.loads(pickle.dumps(how.for_worker(2)))  # noqa: S301 (our own bytes)

    assert sent == Execution("cuda:1", scan=False, workers=3, threads=2)
    sent.events.stepped(1, 2, 0.5)
    assert seen == []
