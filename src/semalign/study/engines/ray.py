"""The machines of a Ray cluster, or a Ray of this machine alone (extra ``ray``).

Nothing but the task's arguments and its outcome travels: what is read and written are files, so that all machines must
see the same folders under the same paths, which each task checks before it does anything.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import secrets
import socket
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import semalign
from semalign.errors import SemalignError, StudyError
from semalign.files import write_text
from semalign.study.engines import WorkerDied

__all__ = ["RayEngine"]

PATIENCE_SECONDS = 40.0
"""How long a task waits for a new file of another machine to be seen; network folders are cached for half a minute."""
OBJECT_STORE_BYTES = 100 << 20
"""For a Ray of our own; nothing large travels."""


class RayEngine:
    """Tasks of a Ray cluster; an `Engine`.

    The cluster is the one that RAY_ADDRESS names ("local": none), else one that ``ray start`` has started on this
    machine, else a Ray is started here and ended with the study.

    Args:
        workers: tasks at a time; None: one per processor of the cluster.
        device: "auto", "cpu", "cuda" and so on; "auto" asks for a GPU where the cluster has any.
        cpus: processors of this machine, which a Ray of its own is given.

    Raises:
        StudyError: Ray is not installed, the cluster cannot be reached, or has nothing that could do a task.
    """

    name = "ray"

    def __init__(self, workers: int | None, device: str, cpus: int) -> None:
        self._ray = _import_ray()
        self._is_ours = not self._ray.is_initialized()
        if self._is_ours:
            # A Ray of our own has the processors that the local engine has, or more where more is asked for.
            _connect(self._ray, max(cpus, workers or 1))
        try:
            nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
            self._largest = max((int(node.get("CPU", 0)) for node in nodes), default=0)
            self.cpus = sum(int(node.get("CPU", 0)) for node in nodes)
            gpus = sum(int(node.get("GPU", 0)) for node in nodes)
            if not self._largest:
                raise StudyError("the Ray cluster has no processors, expected at least one: start workers with CPUs")
            kind = device.partition(":")[0]
            self._gpus = 1 if kind == "cuda" or (kind == "auto" and gpus) else 0
            if self._gpus and not gpus:
                raise StudyError(f"--device got {device}, which no machine of the Ray cluster has, use cpu or auto")
            self.workers = workers or (min(gpus, self.cpus) if self._gpus else self.cpus)
            self.threads = max(1, min(self.cpus // self.workers, self._largest))
        except BaseException:
            self._leave()
            raise
        self._place: _Place | None = None
        self._tasks: dict[Future[Any], Any] = {}

    def __enter__(self) -> Self:
        """Return the engine."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Cancel what is under way, wait until it has ended, and leave the cluster."""
        for reference in self._tasks.values():
            self._ray.cancel(reference, force=True)
        if self._tasks:
            # A cancelled task is ready when its process has been ended.
            with contextlib.suppress(self._ray.exceptions.RayError):
                self._ray.wait(list(self._tasks.values()), num_returns=len(self._tasks), timeout=PATIENCE_SECONDS)
        self._tasks = {}
        self._forget_place()
        self._leave()

    def _leave(self) -> None:
        if self._is_ours:
            self._ray.shutdown()

    def _forget_place(self) -> None:
        if self._place is not None:
            with contextlib.suppress(OSError):
                self._place.token_file.unlink(missing_ok=True)
        self._place = None

    def keep_threads(self, threads: int) -> None:
        """Give each task ``threads`` threads from now on.

        Raises:
            StudyError: no machine has as many processors.
        """
        if threads > self._largest:
            raise StudyError(
                f"the study was begun with {threads} threads per run and the largest machine of the Ray cluster "
                f"has {self._largest} processors: continue where there are {threads}, or begin it "
                "in another folder with --out"
            )
        self.threads = threads
        self.workers = max(1, min(self.workers, self.cpus // threads))

    def begin(self, folder: Path, data: str, facts: Callable[[int], dict[str, Any]] | None) -> dict[str, Any]:
        """Leave a token in ``folder`` that every task looks for, and ask one machine what the tasks' bits depend on.

        Raises:
            StudyError: that machine does not see the folder or the data, or has another version.
        """
        self._forget_place()
        token = secrets.token_hex(16)
        needed = (data,) if data and Path(data).exists() else ()
        self._place = _Place(str(Path.cwd()), folder / f".engine-{token[:8]}", token, needed)
        write_text(self._place.token_file, token)
        if facts is None:
            return {}
        expected: dict[str, Any] = self.result(self.submit(facts, self.threads))
        self._place.expected, self._place.facts = expected, facts
        return expected

    def submit(self, task: Callable[..., Any], *args: Any) -> Future[Any]:
        """Have ``task`` done by a process with the threads of one."""
        assert self._place is not None, "begin comes first"
        # Retried by the study, which names a run that kills every worker.
        remote = self._ray.remote(num_cpus=self.threads, num_gpus=self._gpus, max_retries=0)(_on_worker)
        reference = remote.remote(self._place, self.threads, task, args)
        future: Future[Any] = reference.future()
        self._tasks[future] = reference
        return future

    def result(self, future: Future[Any]) -> Any:
        """Return what a finished task returned, or raise what it raised."""
        errors = self._ray.exceptions
        try:
            value = future.result()
        except errors.RayTaskError:
            raise
        except (
            errors.WorkerCrashedError,
            errors.OutOfMemoryError,
            errors.NodeDiedError,
            errors.LocalRayletDiedError,
            errors.ObjectLostError,
        ) as error:
            raise WorkerDied(f"a worker of Ray has died: {type(error).__name__}") from error
        finally:
            self._tasks.pop(future, None)
        # An error of ours travels as a value: Ray would dress it in the worker's traceback.
        if isinstance(value, SemalignError):
            raise value
        return value


def _import_ray() -> Any:
    # Ours unless the user says otherwise: no reports to its makers, and its reminder of a changed default.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        return importlib.import_module("ray")
    except ImportError as error:
        raise StudyError(
            "--engine ray needs the package ray, which is not installed here: pip install 'semalign[ray]'"
        ) from error


def _connect(ray: Any, cpus: int) -> None:
    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    address = os.environ.get("RAY_ADDRESS") or None
    try:
        if address not in (None, "local"):
            ray.init(**quiet)
            return
        try:
            ray.init(
                address,
                num_cpus=cpus,
                include_dashboard=False,
                object_store_memory=OBJECT_STORE_BYTES,
                **quiet,
            )
        except ValueError:
            # Processors cannot be given to a cluster that `ray start` has started.
            ray.init(**quiet)
    except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
        where = "here" if address is None else f"at RAY_ADDRESS={address}"
        text = " ".join(str(error).split())
        raise StudyError(
            f"cannot reach a Ray cluster {where} ({text[:200]}): start it with 'ray start', or set RAY_ADDRESS=local "
            "to use this machine alone"
        ) from error


class _Place:
    """What a machine must see and be, told to every task."""

    def __init__(self, cwd: str, token_file: Path, token: str, needed: tuple[str, ...]) -> None:
        self.cwd, self.token_file, self.token, self.needed = cwd, token_file, token, needed
        self.version = semalign.__version__
        self.expected: dict[str, Any] | None = None
        self.facts: Callable[[int], dict[str, Any]] | None = None


def _on_worker(place: _Place, threads: int, task: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    """Do ``task`` in a process of Ray; an error of ours is returned."""
    try:
        _check_place(place, threads)
        return task(*args)
    except SemalignError as error:
        return error


def _check_place(place: _Place, threads: int, patience: float = PATIENCE_SECONDS) -> None:
    """Go to the folder that the study was started in, where all that it needs must be seen.

    Raises:
        StudyError: this machine does not see it, has another version, or is of another kind.
    """
    here = f"the machine {socket.gethostname()} of the Ray cluster"
    if semalign.__version__ != place.version:
        raise StudyError(
            f"{here} has semalign {semalign.__version__}, expected {place.version} as where the study was started: "
            "install the same version on all machines"
        )
    fix = "all machines must share it under the same path"
    try:
        os.chdir(place.cwd)
    except OSError as error:
        raise StudyError(f"{here} has no folder {place.cwd}, in which the study was started: {fix}") from error
    until = time.monotonic() + patience
    while not _holds(place.token_file, place.token):
        if time.monotonic() > until:
            raise StudyError(f"{here} does not see the study's folder {place.token_file.parent.resolve()}: {fix}")
        time.sleep(0.5)
    for path in place.needed:
        if not Path(path).exists():
            raise StudyError(f"{here} does not see the data {Path(path).resolve()}: {fix}")
    if place.facts is not None and place.expected is not None:
        found = place.facts(threads)
        for name, value in place.expected.items():
            if found.get(name) != value:
                raise StudyError(
                    f"{here} has {name} {found.get(name)}, expected {value} as on the machine that the study asked "
                    "first, since runs of one block are compared to the bit: use machines of one kind (on processors "
                    "of several kinds, ATEN_CPU_CAPABILITY=avx2 on all machines makes them one)"
                )


def _holds(file: Path, text: str) -> bool:
    try:
        return file.read_text(encoding="utf-8") == text
    except OSError:
        return False
