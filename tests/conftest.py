"""How the tests' processes compute, what every test must leave as it was, small data and runs that many tests read."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

# One thread a process, read when numpy and torch are loaded and inherited by what the tests start: `pytest -n` runs a
# process for each processor, and threads of two processes that share a processor wait for each other at every small
# step.  Another number may be set, whose idle threads sleep; torch's bits depend on it, so results are compared within
# one number alone.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("GOMP_SPINCOUNT", "0")

from tests import process
from tests.small import TINY, make_data


@pytest.fixture(autouse=True)
def _process_as_found() -> Iterator[None]:
    """Fail a test that leaves the process changed, and name what it changed."""
    before = process.state()
    process.seed()
    yield
    if found := process.changed(before):
        pytest.fail(f"the test has changed the process and not put it back: {'; '.join(found)}", pytrace=False)


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest) -> Iterator[None]:
    """Demand the same of what is made for several tests, which is made before the first of them begins."""
    is_shared = fixturedef.scope != "function" and fixturedef.argname != "_own_cache"
    if is_shared:
        before = process.state()
        process.seed()
    made = yield
    if is_shared and (found := process.changed(before)):
        pytest.fail(f"the fixture {fixturedef.argname} has changed the process: {'; '.join(found)}", pytrace=False)
    return made


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test reads or writes the user's own caches."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEMALIGN_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a sound folder: 7 training and 3 validation images of 37 x 53 pixels; not to be written to."""
    return make_data(tmp_path_factory.mktemp("data") / "shapes")


@pytest.fixture(scope="session")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run guided by the class sentences; not to be written to."""
    import semalign.api

    folder = tmp_path_factory.mktemp("trained") / "run"
    semalign.api.train(data, out=folder, settings=TINY, command="semalign train shapes")
    return folder


@pytest.fixture(scope="session")
def captioned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run on scenes, guided by each image's own captions; not to be written to."""
    import semalign.api

    folder = tmp_path_factory.mktemp("captioned") / "run"
    semalign.api.train("scenes", out=folder, settings=[*TINY, "data.n_train=6", "data.n_val=4"])
    return folder


@pytest.fixture(scope="session")
def open_vocabulary(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run without guiding text whose classifier compares pixels with sentences; not to be written to."""
    import semalign.api

    folder = tmp_path_factory.mktemp("open") / "run"
    semalign.api.train(data, out=folder, settings=[*TINY, "data.text=none", "model.classifier=text"])
    return folder


@pytest.fixture
def at_a_terminal() -> Iterator[None]:
    """Let Ctrl-C come, which is ignored where the tests run in a shell's background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
