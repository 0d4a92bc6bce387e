"""Small data, runs that many tests read, and caches of the tests' own."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.small import TINY, make_data


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
