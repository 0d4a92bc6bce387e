"""What every test is checked for is seen when it changes."""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from tests import process


def test_nothing_has_changed() -> None:
    """A state that was just read is the present one."""
    assert process.changed(process.state()) == []


def test_changes_are_named(tmp_path: Path) -> None:
    """Each kind of change is found by name with both values, and is gone when it is undone."""
    before, folder, handler = process.state(), Path.cwd(), signal.getsignal(signal.SIGUSR1)
    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch, np.errstate(over="raise"):
        torch.set_num_threads(threads + 1)
        torch.set_default_dtype(torch.float64)
        torch.use_deterministic_algorithms(True)
        torch.set_grad_enabled(False)
        patch.setenv("A_TEST_WAS_HERE", "1")
        patch.chdir(tmp_path)
        patch.syspath_prepend(tmp_path)
        patch.setattr(sys, "argv", ["other"])
        patch.setattr(sys, "unraisablehook", print)
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        found = process.changed(before)
        torch.set_num_threads(threads)
        torch.set_default_dtype(torch.float32)
        torch.use_deterministic_algorithms(False)
        torch.set_grad_enabled(True)
        signal.signal(signal.SIGUSR1, handler)

    unseen = {"threads between operators", "default device", "matrix products", "anomaly"}
    assert len(found) == len(process.PARTS) - len(unseen)
    assert f"torch's number of threads: {threads} -> {threads + 1}" in found
    assert "the environment: A_TEST_WAS_HERE None -> '1'" in found
    assert f"the working directory: {folder!r} -> {tmp_path!r}" in found
    assert process.changed(before) == []


def test_every_test_begins_with_the_same_random_numbers() -> None:
    """The global streams do not depend on what ran before."""
    drawn = []
    for _ in range(2):
        process.seed()
        drawn.append((torch.rand(1).item(), np.random.rand(), random.random()))

    assert drawn[0] == drawn[1]


def test_the_processes_that_tests_start_have_as_many_threads() -> None:
    """The number is in the environment, and holds in new threads of this process, too."""
    found: list[int] = []
    other = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
    other.start()
    other.join()

    assert found == [torch.get_num_threads()] == [int(os.environ["OMP_NUM_THREADS"])]
