from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import wait
from pathlib import Path
from typing import Any

import pytest

import semalign
from semalign.config.study import StudyOptions
from semalign.errors import DataError, OutputError, StudyError
from semalign.execution import Events, Execution
from semalign.layout import LOCK
from semalign.locks import folder_lock, run_lock
from semalign.report import write_report
from semalign.study import engines, runner, worker
from semalign.study.carry_out import carry_out
from semalign.study.design import planned_runs, read_study
from semalign.study.engines import Engine, WorkerDied, local
from semalign.study.engines import ray as of_ray
from semalign.study.engines.local import LocalEngine
from tests.small import TINY
from tests.study.here import leave_out_figure_files

SHORT = (*TINY, "train.epochs=1", "train.val_every=0", "pilot_blocks=0")


def done(engine: Engine, task: Any, *args: Any) -> Any:
    """Return what the engine's process returns."""
    future = engine.submit(task, *args)
    wait([future])
    return engine.result(future)


def die(*_: Any) -> None:
    """End this process as the out-of-memory killer does."""
    os.kill(os.getpid(), signal.SIGKILL)


def refuse(*_: Any) -> None:
    """Raise an error of ours."""
    raise DataError("a broken image")


def hang(fifo: str) -> None:
    """Say that this process has begun, and never end."""
    with Path(fifo).open("w") as stream:
        stream.write("begun\n")
        stream.flush()
        signal.pause()


def die_once(*arguments: Any) -> Any:
    """Be killed in a study's first run, once; run all others."""
    folder = Path(arguments[2])
    try:
        (folder / "died").touch(exist_ok=False)
    except FileExistsError:
        return _run_one(*arguments)
    return die()


_run_one = worker.run_one


@pytest.fixture(scope="module")
def ray() -> Iterator[Any]:
    """Return Ray, started once on this machine, that knows this file's functions by value."""
    pytest.importorskip("ray", reason="Ray is not installed (extra ray)")
    module = of_ray._import_ray()
    handler = signal.getsignal(signal.SIGTERM)
    of_ray._connect(module, 2)
    # Ray's own would outlive it.
    signal.signal(signal.SIGTERM, handler)
    module.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    yield module
    module.shutdown()


@pytest.fixture(params=["local", "ray"])
def engine_name(request: pytest.FixtureRequest) -> str:
    """Return each engine's name; that of Ray where it is installed."""
    name: str = request.param
    if name == "ray":
        request.getfixturevalue("ray")
    return name


@pytest.fixture
def study(data: Path) -> StudyOptions:
    """Return ablation-1 with one block of two steps."""
    return read_study("ablation-1", data=str(data), seeds=1, assignments=SHORT)


# ---- any engine ----


def test_tasks(tmp_path: Path, engine_name: str) -> None:
    """Results and errors come back as they were; a dead process is told, and takes no other's task along."""
    with engines.open_engine(Execution(engine=engine_name, workers=2)) as engine:
        assert (engine.name, engine.workers, engine.threads) == (engine_name, 2, max(1, engine.cpus // 2))
        engine.keep_threads(1)
        assert engine.begin(tmp_path, "scenes", None) == {}

        assert done(engine, divmod, 17, 5) == (3, 2)
        assert done(engine, os.getenv, "OMP_NUM_THREADS") == "1"
        with pytest.raises(DataError, match=r"^a broken image$"):
            done(engine, refuse)
        with pytest.raises(ZeroDivisionError):
            done(engine, divmod, 1, 0)
        dying, other = engine.submit(die), engine.submit(divmod, 11, 3)
        wait([dying, other])
        with pytest.raises(WorkerDied):
            engine.result(dying)
        assert engine.result(other) == (3, 2)
        assert done(engine, divmod, 13, 7) == (1, 6)
    assert list(tmp_path.iterdir()) == []


def test_an_interrupt_ends_the_tasks(tmp_path: Path, engine_name: str) -> None:
    """Left by an exception, the engine has ended its processes when it is left; none goes on to write."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)

    with (
        contextlib.suppress(KeyboardInterrupt),
        engines.open_engine(Execution(engine=engine_name, workers=1)) as engine,
    ):
        engine.begin(tmp_path, "scenes", None)
        engine.submit(hang, str(fifo))
        reader = fifo.open()
        assert reader.readline() == "begun\n"
        raise KeyboardInterrupt

    # The other end closes when the process has ended.
    assert reader.read() == ""
    reader.close()
    assert list(tmp_path.iterdir()) == [fifo]


def test_a_worker_killed_in_a_study(
    tmp_path: Path, study: StudyOptions, engine_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its run is tried again, and all files that are compared are those of the local engine undisturbed."""
    monkeypatch.setattr(engines, "threads_per_worker", lambda workers: 1)
    leave_out_figure_files(monkeypatch)
    carry_out(study, tmp_path / "whole", Execution(workers=1))
    write_report(tmp_path / "whole", lang="en")
    monkeypatch.setattr(runner, "run_one", die_once)
    told: list[tuple[str, int, int]] = []

    events = Events(run_done=lambda arm, seed, status, miou, done, total: told.append((status, done, total)))
    workers = 1 if engine_name == "local" else 2

    carry_out(study, tmp_path / "died", Execution(engine=engine_name, workers=workers, events=events))
    write_report(tmp_path / "died", lang="en")

    assert (tmp_path / "died" / "died").exists(), "nothing was killed"
    assert told == [("finished", 1, 2), ("finished", 2, 2)]
    for name in (
        "results.csv",
        "judgement.json",
        *(f"{run.folder}/weights.safetensors" for run in planned_runs(study)),
    ):
        assert (tmp_path / "died" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


def test_a_run_that_always_kills(
    tmp_path: Path, study: StudyOptions, engine_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is named after three tries, and the folder is free again."""
    monkeypatch.setattr(runner, "run_one", die)

    with pytest.raises(StudyError, match=r"^arm (Baseline|A), seed 0: its worker process died 3 times"):
        carry_out(study, tmp_path / "study", Execution(workers=1, engine=engine_name))
    assert not (tmp_path / "study" / LOCK).exists()
    assert not list((tmp_path / "study").glob(".engine-*"))


# ---- choosing ----


def test_unknown_engines() -> None:
    """All known ones are named."""
    with pytest.raises(StudyError, match="--engine got 'spark', known: local, ray"):
        engines.open_engine(Execution(engine="spark"))
    with pytest.raises(StudyError, match="--workers got 0"):
        engines.open_engine(Execution(workers=0))


def test_without_ray(tmp_path: Path, study: StudyOptions, monkeypatch: pytest.MonkeyPatch) -> None:
    """The extra to install is named, and no folder is made."""
    monkeypatch.setitem(sys.modules, "ray", None)
    # Set before Ray is imported, and would outlive the test.
    for name in ("RAY_USAGE_STATS_ENABLED", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"):
        monkeypatch.setenv(name, "0")

    with pytest.raises(StudyError, match=r"--engine ray needs the package ray, .* pip install 'semalign\[ray\]'$"):
        carry_out(study, tmp_path / "study", Execution(engine="ray"))
    assert list(tmp_path.iterdir()) == []


def test_threads_that_are_kept() -> None:
    """As many tasks at a time as the processors allow, at least one and no more than asked for."""
    for cpus, workers, threads, expected in ((8, 8, 3, 2), (8, 2, 1, 2), (2, 2, 7, 1)):
        engine = LocalEngine(workers, 1, cpus)
        engine.keep_threads(threads)

        assert (engine.threads, engine.workers) == (threads, expected)


def interrupts(*_: Any) -> tuple[bool, bool]:
    """Return whether this process ignores interrupts, and whether it keeps them waiting."""
    waiting = signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ())
    return signal.getsignal(signal.SIGINT) is signal.SIG_IGN, waiting


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="this system has no signal masks")
def test_interrupts_are_the_parent_s(at_a_terminal: None) -> None:
    """None is lost while a worker starts, and none ends the worker, neither while it loads libraries nor afterwards."""
    show = "import signal; print(signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ()))"
    said = []

    def start() -> None:
        with local._interrupts_wait():
            signal.raise_signal(signal.SIGINT)
            said.append(subprocess.run([sys.executable, "-c", show], capture_output=True, text=True, check=True).stdout)

    with pytest.raises(KeyboardInterrupt):
        start()
    assert said == ["True\n"]
    with LocalEngine(1, 1, 1) as engine:
        assert done(engine, interrupts) == (True, False)
    assert interrupts() == (False, False)


# ---- what a machine of a cluster must see ----


def facts_of_this_machine(threads: int) -> dict[str, Any]:
    """Return facts."""
    return {"threads": threads, "processor": "AVX2"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, None),
        (
            {"version": "0.0.1"},
            rf"has semalign {semalign.__version__}, expected 0\.0\.1 as where the study was started",
        ),
        (
            {"cwd": "/no/such/folder"},
            "has no folder /no/such/folder, in which the study was started: all machines must",
        ),
        ({"token": "another"}, "does not see the study's folder .*: all machines must share it under the same path"),
        ({"token_file": Path("nowhere") / "token"}, "does not see the study's folder .*nowhere"),
        ({"needed": ("no-data",)}, "does not see the data .*no-data: all machines must share it"),
        ({"expected": {"processor": "AVX512"}}, "has processor AVX2, expected AVX512 as on the machine .* one kind"),
        ({"expected": {"threads": 3, "processor": "AVX2"}}, None),
    ],
)
def test_what_a_task_checks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], message: str | None
) -> None:
    """Version, folders and kind of machine, each refused with the machine's name and what to do."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "token").write_text("secret")
    (tmp_path / "data").mkdir()
    place = of_ray._Place(str(tmp_path), Path("token"), "secret", ("data",))
    place.facts = facts_of_this_machine
    for name, value in changes.items():
        setattr(place, name, value)

    if message is None:
        of_ray._check_place(place, 3, patience=-1)
    else:
        with pytest.raises(StudyError, match=rf"^the machine \S+ of the Ray cluster {message}"):
            of_ray._check_place(place, 3, patience=-1)


def test_a_cluster_that_cannot_be_reached(ray: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The address and the way out are said."""

    def init(*_: Any, **__: Any) -> None:
        raise ConnectionError("nobody\nthere")

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setenv("RAY_ADDRESS", "192.0.2.1:6379")
    with pytest.raises(
        StudyError, match=r"cluster at RAY_ADDRESS=192\.0\.2\.1:6379 \(nobody there\): .* =?RAY_ADDRESS"
    ):
        of_ray._connect(ray, 2)


def test_what_a_cluster_cannot_do(ray: Any) -> None:
    """A device that no machine has and threads that no machine has are refused before anything is run."""
    with pytest.raises(StudyError, match="--device got cuda, which no machine of the Ray cluster has"):
        engines.open_engine(Execution("cuda", engine="ray", workers=1))
    with (
        engines.open_engine(Execution(engine="ray", workers=1)) as engine,
        pytest.raises(
            StudyError, match="begun with 64 threads per run and the largest machine of the Ray cluster has 2"
        ),
    ):
        engine.keep_threads(64)


# ---- one study at a time ----


def test_a_folder_in_use(tmp_path: Path, study: StudyOptions) -> None:
    """The second study on a folder is told who has it; it is free when the first has ended."""
    folder = tmp_path / "study"
    with folder_lock(folder):
        with pytest.raises(OutputError, match=rf"{folder} is in use by process {os.getpid()} on \S+, expected one"):
            carry_out(study, folder)
        assert [path.name for path in folder.iterdir()] == [LOCK]
    # Made for the lock alone, and nothing was put into it.
    assert not folder.exists()

    folder.mkdir()
    (folder / LOCK).write_text("process 1 on a machine that lost its power")
    with folder_lock(folder):
        (folder / "result").touch()
    assert [path.name for path in folder.iterdir()] == ["result"]
    with (
        pytest.raises(OutputError, match=r"cannot make the output folder .*below: Not a directory"),
        folder_lock(folder / "result" / "below"),
    ):
        pass


def test_a_lock_of_a_removed_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that was removed between being opened and locked locks nothing: the one that is there is taken."""
    real, opened = os.open, []

    def slow(path: Any, *args: Any) -> int:
        handle = real(path, *args)
        opened.append(handle)
        if len(opened) == 1:
            Path(path).unlink()
        return handle

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", slow)
        with folder_lock(tmp_path):
            assert len(opened) == 2
            with pytest.raises(OutputError, match="is in use"), folder_lock(tmp_path):
                pass


def test_a_run_in_use(tmp_path: Path) -> None:
    """A run's folder is held without a file in it, and is free afterwards."""
    for _ in range(2):
        with run_lock(tmp_path):
            assert list(tmp_path.iterdir()) == []
