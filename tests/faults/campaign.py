"""Faults done to commands in small, and what is left of a run, a study, a report, a cache or an export afterwards.

Each command is carried out once undisturbed.  An attempt does the same in a folder of its own with a fault in it, looks
at what the fault has left, starts the same command again, and compares all that it leaves with the undisturbed one's,
byte for byte.  What is drawn depends on the seed and the attempt's number alone.

It needs a system with POSIX signals; full and read-only disks are mounted where root may, else made in another way.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import random
import runpy
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open

from tests.small import make_data

__all__ = ["CASES", "SETUPS", "Attempt", "Campaign", "can_mount"]

CHILD = Path(__file__).with_name("child.py")
ROOT = CHILD.parents[2]
TINY = ("data.size=[32,32]", "train.epochs=2", "train.batch_size=2", "train.val_every=0")
SCENES = ("data.n_train=4", "data.n_val=2")
STUDY = """\
name: disturbed
question: Does a disturbed study end as if it had been left alone?
data: scenes
arms: {Baseline: {}, A: {model.preset: transformer}}
seeds: 2
margin: 0.01
pilot_blocks: 0
options: {data.n_train: 4, data.n_val: 2, data.size: [32, 32], train.epochs: 1, train.batch_size: 2, train.val_every: 0}
"""
DIVERGING = STUDY.replace("arms: {", "arms: {Diverging: {train.lr: 1.0e+30, train.warmup: 0.0}, ")
SIGNALS = ("SIGKILL", "SIGTERM", "SIGINT")
TRIES = 100
"""Moments to draw until one comes while the command runs; most come at once."""
NOT_COMPARED = ("timings.csv", "command.txt", "facts.json", "audit.json")
"""They hold times, and the command with its folder."""


@dataclasses.dataclass(frozen=True)
class Attempt:
    """What came of one fault.

    Attributes:
        fault: what was done.
        command: to what.
        struck: whether it came while the command ran.
        moment: when, in words.
        code: the disturbed command's exit code, below 0 for a signal.
        finished: finished runs that there were when it struck.
        lost: of these, how many were run again or are gone.
        half: files that were there and not whole.
        differ: files that are not as in the undisturbed one.
        faults: what else was not as promised, in words.
        seconds: of the attempt.
    """

    fault: str
    command: str
    struck: bool
    moment: str
    code: int
    finished: int = 0
    lost: int = 0
    half: tuple[str, ...] = ()
    differ: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()
    seconds: float = 0.0

    @property
    def is_good(self) -> bool:
        """Return whether nothing was lost."""
        return not (self.lost or self.half or self.differ or self.faults)


@dataclasses.dataclass(frozen=True)
class Command:
    """A command in small.

    Attributes:
        words: of the command line, given the folder that it is called in and the campaign.
        prepare: makes what it needs in a new folder.
        out: the name, below the folder, of what it writes and what is compared.
    """

    words: Callable[[Path, Campaign], list[str]]
    prepare: Callable[[Path, Campaign], None] = lambda folder, campaign: None
    out: str = "out"


def _train(folder: Path, campaign: Campaign) -> list[str]:
    return ["train", "scenes", "--out", "out", "--resume", "--no-audit", *_set(*TINY, *SCENES)]


def _study(folder: Path, campaign: Campaign) -> list[str]:
    return ["study", "run", str(campaign.root / "study.yaml"), "--out", "out", *QUICK]


def _diverging(folder: Path, campaign: Campaign) -> list[str]:
    return ["study", "run", str(campaign.root / "diverging.yaml"), "--out", "out", *QUICK]


def _report(folder: Path, campaign: Campaign) -> list[str]:
    return ["study", "report", "out"]


def _without_report(folder: Path, campaign: Campaign) -> None:
    def reported(where: str, names: list[str]) -> list[str]:
        return [name for name in names if Path(where) == source and name not in kept]

    source, kept = campaign.reference("study") / "out", ("runs", "pilot", "study.yaml", "facts.json", "pilot.json")
    shutil.copytree(source, folder / "out", ignore=reported)


def _cache(folder: Path, campaign: Campaign) -> list[str]:
    return ["train", str(campaign.data), "--out", "run", "--resume", "--no-audit", *_set(*TINY)]


def _export(folder: Path, campaign: Campaign) -> list[str]:
    run = campaign.reference("train") / "out"
    return ["export", str(run), "--format", "hub", "--out", str(Path("out") / "model")]


def _onnx(folder: Path, campaign: Campaign) -> list[str]:
    run = campaign.reference("train") / "out"
    return ["export", str(run), "--out", str(Path("out") / "model.onnx")]


def _predict(folder: Path, campaign: Campaign) -> list[str]:
    images = sorted((campaign.data / "images" / "train").iterdir())
    return ["predict", str(campaign.reference("train") / "out"), *map(str, images), "--out", "out"]


def _set(*settings: str) -> list[str]:
    return [word for setting in settings for word in ("--set", setting)]


QUICK = ("--workers", "1", "--no-audit")
"""One worker, since each takes seconds to start; the audit writes nothing that could be lost."""
CASES = {
    "train": Command(_train),
    "study": Command(_study),
    "report": Command(_report, _without_report),
    "cache": Command(_cache, out="cache"),
    "export": Command(_export),
    "export onnx": Command(_onnx),
    "predict": Command(_predict),
    "diverging": Command(_diverging),
}


def can_mount() -> bool:
    """Return whether this process may mount a small disk."""
    return (
        sys.platform == "linux"
        and os.geteuid() == 0
        and shutil.which("mount") is not None
        and subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False).returncode == 0
    )


@contextlib.contextmanager
def small_disk(place: Path, size: int) -> Iterator[None]:
    """Mount an empty disk of ``size`` bytes at ``place``."""
    place.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def remount(place: Path, options: str) -> None:
    """Change a mounted disk."""
    subprocess.run(["mount", "-o", f"remount,{options}", str(place)], check=True)


class Forked:
    """A command in a fork of this process, which has loaded the libraries already; as much of a `Popen` as is used."""

    def __init__(self, words: list[str], folder: Path, environment: dict[str, str]) -> None:
        self.said = tempfile.TemporaryFile("w+")  # noqa: SIM115 (closed with this object)
        self.returncode: int | None = None
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.setsid()
                os.chdir(folder)
                os.dup2(os.open(os.devnull, os.O_RDWR), 1)
                os.dup2(self.said.fileno(), 2)
                os.environ.update(environment)
                # What the command's own processes start with, which are spawned as those of any command.
                sys.modules["__main__"] = types.ModuleType("__main__")
                sys.modules["__main__"].__file__ = str(CHILD)
                sys.argv = ["semalign", *words]
                space = runpy.run_path(str(CHILD), run_name="child")
                # A fork is the command's own process.
                space["_strike"].__globals__["IS_WORKER"] = False
                space["command_line"]()
            except SystemExit as stop:
                sys.stderr.flush()
                os._exit(stop.code if isinstance(stop.code, int) else 1)
            except BaseException:
                traceback.print_exc()
                sys.stderr.flush()
                os._exit(1)

    def poll(self) -> int | None:
        """Return the exit code, None while it runs."""
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait until it ends."""
        end = None if timeout is None else time.monotonic() + timeout
        while (code := self.poll()) is None:
            if end is not None and time.monotonic() > end:
                raise subprocess.TimeoutExpired("semalign", timeout or 0.0)
            time.sleep(0.005)
        return code

    def send_signal(self, number: int) -> None:
        """Send a signal."""
        os.kill(self.pid, number)

    def communicate(self) -> tuple[str, str]:
        """Wait until it ends; return nothing and what it said."""
        self.wait()
        self.said.seek(0)
        return "", self.said.read()


class Campaign:
    """Commands in small and the faults that are done to them, below one folder.

    Args:
        root: a folder; what is in it already is gone on with.
        seed: of what is drawn.
        fork: start commands as forks of this process, which saves the seconds that libraries take to load; not where
            this process has computed with torch.
    """

    def __init__(self, root: Path, seed: int, *, fork: bool = False) -> None:
        self.root, self.seed, self.fork = root, seed, fork
        if fork:
            # Loaded before the first fork, and nothing computed.
            from semalign import api, report  # noqa: F401
            from semalign.cli import app  # noqa: F401
        root.mkdir(parents=True, exist_ok=True)
        (root / "study.yaml").write_text(STUDY)
        (root / "diverging.yaml").write_text(DIVERGING)
        self.data = root / "data"
        if not self.data.exists():
            make_data(root / "data.new").rename(self.data)

    # ---- calling the command line ----

    def start(self, command: str, folder: Path, fault: dict[str, Any] | None = None) -> subprocess.Popen[str] | Forked:
        """Start a command in ``folder``, in a process group of its own."""
        words = CASES[command].words(folder, self)
        environment = {
            "FAULT": json.dumps(fault or {}),
            "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)]),
            "SEMALIGN_CACHE": str(folder / "cache" if command == "cache" else self.root / "cache"),
            "OMP_NUM_THREADS": "1",
        }
        if self.fork:
            return Forked(words, folder, environment)
        return subprocess.Popen(
            [sys.executable, str(CHILD), *words],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            cwd=folder,
            env=os.environ | environment,
        )

    def call(self, command: str, folder: Path, fault: dict[str, Any] | None = None) -> tuple[int, str]:
        """Carry out a command; return its exit code and what it said."""
        process = self.start(command, folder, fault)
        _, said = process.communicate()
        return process.wait(), said

    def reference(self, command: str) -> Path:
        """Return the folder in which a command was left alone."""
        folder = self.root / "undisturbed" / command.replace(" ", "-")
        if not (folder / "seconds").exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            CASES[command].prepare(folder, self)
            ready = folder / "ready"
            process = self.start(command, folder, {"ready": str(ready)})
            while not ready.exists() and process.poll() is None:
                time.sleep(0.01)
            began = time.monotonic()
            _, said = process.communicate()
            if process.returncode != 0:
                raise RuntimeError(f"{command} ended with {process.returncode}: {said}")
            (folder / "seconds").write_text(str(time.monotonic() - began))
        return folder

    def fresh(self, command: str, number: int) -> Path:
        """Return a new folder made ready for a command."""
        self.reference(command)
        folder = self.root / f"attempt-{number}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        CASES[command].prepare(folder, self)
        return folder

    # ---- faults ----

    def kill(self, command: str, number: int, signal_name: str, *, whom: str | None = None) -> Attempt:
        """End a command by a signal, at a drawn time or at a drawn file."""
        began = time.monotonic()
        rng = random.Random(f"{self.seed} {command} {number}")
        folder = self.fresh(command, number)
        seconds = float((self.reference(command) / "seconds").read_text())
        writes, only_workers = self.writes(command), whom == "worker"
        for tried in range(1, TRIES + 1):
            whom = whom or rng.choice(["study", "all", "worker"] if command == "study" else ["study"])
            by_file = rng.random() < 0.5 or only_workers
            if by_file:
                fault: dict[str, Any] = {"at": ["*", rng.randint(1, writes)], "signal": signal_name, "whom": whom}
                fault["whom"] = "study" if whom == "all" else whom
                moment = f"at file {fault['at'][1]}"
                code, said, struck = self._strike(command, folder, fault)
            else:
                wait = rng.uniform(0, seconds)
                moment = f"after {wait:.2f} s"
                # The whole group, or the command alone: which worker is at work at a time is not known.
                code, said, struck = self._interrupt(command, folder, wait, signal_name, whom == "all")
            # A study goes on without a worker; everything else is ended by its signal.
            if struck and (code != 0 or (by_file and whom == "worker")):
                break
            wrong = ""
            if struck and by_file:
                wrong = "the signal did not end it"
            elif code != 0:
                wrong = f"ended with {code} before the moment came: {said[-300:]}"
            elif tried == TRIES:
                wrong = f"no moment of {TRIES} came while it ran, or the signal does not end it"
            if wrong:
                return self._judge(signal_name, command, folder, moment, code, {}, began, [wrong], struck=struck)
            shutil.rmtree(folder)
            folder = self.fresh(command, number)
        found, half = results(folder), halves(folder / CASES[command].out)
        attempt = self._judge(signal_name, command, folder, f"{moment}, {whom}", code, found, began, half=half)
        if code != 0:
            number = signal.Signals[signal_name]
            # While the interpreter goes, and its handling of signals with it, a command ends by the system's.
            expected = {-number} if signal_name == "SIGKILL" else {-number, 128 + number}
            if code not in expected or "Traceback" in said:
                attempt = dataclasses.replace(attempt, faults=(*attempt.faults, f"ended with {code}: {said[-300:]}"))
        return attempt

    def _strike(self, command: str, folder: Path, fault: dict[str, Any]) -> tuple[int, str, bool]:
        mark = folder / "struck"
        code, said = self.call(command, folder, {**fault, "mark": str(mark)})
        return code, said, mark.exists()

    def _interrupt(
        self, command: str, folder: Path, wait: float, signal_name: str, everybody: bool
    ) -> tuple[int, str, bool]:
        ready = folder / "ready"
        ready.unlink(missing_ok=True)
        process = self.start(command, folder, {"ready": str(ready)})
        while not ready.exists() and process.poll() is None:
            time.sleep(0.01)
        struck = True
        try:
            process.wait(wait)
            struck = False
        except subprocess.TimeoutExpired:
            number = signal.Signals[signal_name]
            if everybody:
                os.killpg(process.pid, number)
            else:
                process.send_signal(number)
        _, said = process.communicate()
        return process.wait(), said, struck

    def writes(self, command: str) -> int:
        """Return about how many files one process of a command puts in their places."""
        path = CASES[command].out
        count = sum(one.is_file() for one in (self.reference(command) / path).rglob("*"))
        # States of trainings come and go; a study's own process writes little.
        return max(2, {"train": count + 4, "cache": 3 * count + 6, "study": count // 2}.get(command, count))

    def full_disk(self, command: str, number: int) -> Attempt:
        """Carry out a command on a disk with too little room, then with enough."""
        began = time.monotonic()
        rng = random.Random(f"{self.seed} full {command} {number}")
        folder = self.fresh(command, number)
        place = folder / CASES[command].out
        if not can_mount():
            biggest = max(one.stat().st_size for one in self.reference(command).rglob("*") if one.is_file())
            size = rng.randint(1, biggest)
            code, said = self.call(command, folder, {"fsize": size})
            moment = f"no file beyond {size} bytes"
            found, half = results(folder), halves(place)
            return self._judge("full disk", command, folder, moment, code, found, began, _unsaid(code, said), half=half)
        there = shutil.copytree(place, folder / "there") if place.exists() else None
        pages = _pages(place) if there is not None else 0
        size = 4096 * rng.randint(pages + 2, max(pages + 3, _pages(self.reference(command) / CASES[command].out) + 4))
        with small_disk(place, size):
            if there is not None:
                shutil.copytree(there, place, dirs_exist_ok=True)
            code, said = self.call(command, folder)
            moment = f"{size // 1024} KiB"
            found, half = results(folder), halves(place)
            remount(place, "size=256m")
            return self._judge("full disk", command, folder, moment, code, found, began, _unsaid(code, said), half=half)

    def read_only(self, command: str, number: int) -> Attempt:
        """Carry out a command where nothing can be written, then where it can."""
        began = time.monotonic()
        folder = self.fresh(command, number)
        place = folder / CASES[command].out
        there = shutil.copytree(place, folder / "there") if place.exists() else None
        before = tree(place)

        def attempt(make: Callable[[bool], None]) -> Attempt:
            make(True)
            code, said = self.call(command, folder)
            faults = _unsaid(code, said)
            if tree(place) != before:
                faults.append("something was written")
            make(False)
            return self._judge("read-only", command, folder, "from the start", code, results(folder), began, faults)

        if can_mount():
            with small_disk(place, 256 << 20):
                if there is not None:
                    shutil.copytree(there, place, dirs_exist_ok=True)
                return attempt(lambda locked: remount(place, "ro" if locked else "rw"))
        place.mkdir(exist_ok=True)
        return attempt(lambda locked: place.chmod(0o555 if locked else 0o755))

    def two_at_once(self, number: int) -> Attempt:
        """Start a study twice on one folder, the second after a drawn time."""
        began = time.monotonic()
        rng = random.Random(f"{self.seed} two {number}")
        folder = self.fresh("study", number)
        seconds = float((self.reference("study") / "seconds").read_text())
        first = self.start("study", folder)
        wait = rng.uniform(0, seconds)
        time.sleep(wait)
        second = self.start("study", folder)
        said = [process.communicate()[1] for process in (first, second)]
        codes = [first.wait(), second.wait()]
        faults = []
        for code, text in zip(codes, said, strict=True):
            if code != 0 and not (code == 2 and "is in use by process" in text and "Traceback" not in text):
                faults.append(f"ended with {code}: {text[-300:]}")
        if 0 not in codes:
            faults.append("neither of them ended")
        moment = f"the second {wait:.1f} s later, exit codes {codes[0]} and {codes[1]}"
        return self._judge("two at once", "study", folder, moment, max(codes), results(folder), began, faults)

    def out_of_memory(self, number: int) -> Attempt:
        """Take a worker's memory away at a drawn file; the study replaces it."""
        began = time.monotonic()
        rng = random.Random(f"{self.seed} memory {number}")
        folder = self.fresh("study", number)
        at = rng.randint(1, self.writes("study"))
        code, said, struck = self._strike("study", folder, {"at": ["*", at], "signal": "memory", "whom": "worker"})
        faults = [] if code == 0 else [f"ended with {code}: {said[-300:]}"]
        found = results(folder)
        return self._judge(
            "worker out of memory", "study", folder, f"at file {at}", code, found, began, faults, struck=struck
        )

    def worker_killed(self, number: int) -> Attempt:
        """Kill a worker, as the system does that has no memory left; the study replaces it."""
        attempt = self.kill("study", number, "SIGKILL", whom="worker")
        ended = () if attempt.code == 0 else (f"the study ended with {attempt.code}",)
        return dataclasses.replace(attempt, fault="worker killed", faults=(*attempt.faults, *ended))

    def nan_loss(self, number: int) -> Attempt:
        """Let one arm diverge, with a kill on the way; the others end as in the study without it."""
        began = time.monotonic()
        rng = random.Random(f"{self.seed} nan {number}")
        folder = self.fresh("diverging", number)
        at = rng.randint(1, self.writes("study"))
        code, said, struck = self._strike("diverging", folder, {"at": ["*", at]})
        faults = [] if struck or code == 0 else [f"ended with {code}: {said[-300:]}"]
        attempt = self._judge(
            "NaN loss",
            "diverging",
            folder,
            f"killed at file {at}",
            code,
            results(folder),
            began,
            faults,
            struck=struck,
            keep=True,
        )
        others = self.reference("study") / "out"
        differ = [
            str(path.relative_to(others))
            for path in sorted(others.rglob("weights.safetensors"))
            if (folder / "out" / path.relative_to(others)).read_bytes() != path.read_bytes()
        ]
        told = []
        for path in sorted((folder / "out" / "runs").glob("*iverging*/*/result.json")):
            value = json.loads(path.read_text())
            facts = value["facts"]
            whole = value["status"] == "failed" and "step" in facts["failed_at"] and "findings" in facts["audit"]
            told.append(whole)
        if told != [True, True]:
            differ.append("the failed runs do not say step, images and the audit's opinion")
        if not differ:
            shutil.rmtree(folder / "out")
        return dataclasses.replace(attempt, differ=(*attempt.differ, *differ))

    # ---- looking at what is left ----

    def _judge(
        self,
        fault: str,
        command: str,
        folder: Path,
        moment: str,
        code: int,
        found: dict[str, tuple[int, int]],
        began: float,
        faults: list[str] | None = None,
        *,
        half: tuple[str, ...] = (),
        struck: bool = True,
        keep: bool = False,
    ) -> Attempt:
        """Start the command again and compare; what is as it should be is removed, unless ``keep``."""
        faults = list(faults or ())
        again, said = self.call(command, folder)
        if again != 0:
            faults.append(f"started again it ended with {again}: {said[-300:]}")
        after = results(folder)
        differ = [] if again else self.differences(command, folder)
        if not faults and not differ and not keep:
            place = folder / CASES[command].out
            with contextlib.suppress(OSError):
                shutil.rmtree(place)
        return Attempt(
            fault,
            command,
            struck,
            moment,
            code,
            len(found),
            sum(after.get(path) != about for path, about in found.items()),
            half,
            tuple(differ),
            tuple(faults),
            time.monotonic() - began,
        )

    def differences(self, command: str, folder: Path) -> list[str]:
        """Return the files that are not the same, or on one side alone."""
        place = CASES[command].out
        theirs, ours = tree(self.reference(command) / place), tree(folder / place)
        # Pages that name the seconds of each run; the command `report` is compared with its pages.
        timed = {"report.html", "tables.md", "tables.tex"} if command in ("study", "diverging") else set()
        names = theirs.keys() | ours.keys()
        return sorted(name for name in names if name not in timed and theirs.get(name) != ours.get(name))


def tree(folder: Path) -> dict[str, bytes]:
    """Return by name what all files below hold that is to be compared; what a kill has left aside is left out."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_file() and path.name not in NOT_COMPARED and not any(part[0] == "." for part in Path(name).parts):
            data = path.read_bytes()
            if path.name == "result.json":
                data = _untimed(data)
            found[name] = data
    return found


def _untimed(data: bytes) -> bytes:
    """Return a result without the times in it."""
    value = json.loads(data)
    value.pop("timings")
    value["facts"].get("audit", {}).get("facts", {}).pop("seconds", None)
    return json.dumps(value, sort_keys=True).encode()


def _pages(folder: Path) -> int:
    return sum(1 + -(-path.stat().st_size // 4096) if path.is_file() else 1 for path in folder.rglob("*"))


def results(folder: Path) -> dict[str, tuple[int, int]]:
    """Return the identity and time of every finished run."""
    found = {}
    for path in folder.rglob("result.json"):
        about = path.stat()
        found[str(path)] = (about.st_ino, about.st_mtime_ns)
    return found


def halves(folder: Path) -> tuple[str, ...]:
    """Return the files below that are not whole, those left aside not counted."""
    found = []
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or any(part.startswith(".") for part in path.relative_to(folder).parts):
            continue
        try:
            if path.suffix == ".json":
                json.loads(path.read_text())
            elif path.suffix == ".safetensors":
                with safe_open(path, framework="np") as handle:
                    for name in handle.keys():  # noqa: SIM118 (no mapping)
                        handle.get_slice(name)
            elif path.suffix == ".npy":
                np.load(path, allow_pickle=False)
            elif path.suffix == ".html" and not path.read_text().rstrip().endswith("</html>"):
                raise ValueError("no end")
            elif path.name != ".lock" and path.stat().st_size == 0:
                raise ValueError("empty")
        except Exception as error:
            found.append(f"{path.relative_to(folder)}: {error}")
    return tuple(found)


def _unsaid(code: int, said: str) -> list[str]:
    """Return what a refused command did not say as promised: one sentence after `error:`, exit code 2."""
    if code == 0:
        return []
    errors = [line for line in said.splitlines() if line.startswith("error: ")]
    if code != 2 or len(errors) != 1 or "Traceback" in said:
        return [f"ended with {code}: {said[-300:]}"]
    return []


SETUPS: dict[str, Callable[[Campaign, str, int], Attempt]] = {
    "SIGKILL": lambda campaign, command, number: campaign.kill(command, number, "SIGKILL"),
    "SIGTERM": lambda campaign, command, number: campaign.kill(command, number, "SIGTERM"),
    "SIGINT": lambda campaign, command, number: campaign.kill(command, number, "SIGINT"),
    "full disk": lambda campaign, command, number: campaign.full_disk(command, number),
    "read-only": lambda campaign, command, number: campaign.read_only(command, number),
    "two at once": lambda campaign, command, number: campaign.two_at_once(number),
    "worker out of memory": lambda campaign, command, number: campaign.out_of_memory(number),
    "worker killed": lambda campaign, command, number: campaign.worker_killed(number),
    "NaN loss": lambda campaign, command, number: campaign.nan_loss(number),
}
