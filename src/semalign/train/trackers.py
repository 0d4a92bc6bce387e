"""Writes a run's curves to a CSV file, TensorBoard, Weights & Biases or MLflow.

A tracker only reads what the run keeps anyway, so that training is the same to the bit with one and without.  Missing
packages are found before the run starts; after that no error of a tracker ends a run, but becomes a note.  A run that
is resumed continues in the same tracker run, each point once.
"""

from __future__ import annotations

import contextlib
import csv
import importlib.util
import io
import json
import logging
import os
import time
import uuid
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import yaml

from semalign.config import Options, flatten, to_dict
from semalign.errors import ConfigError
from semalign.files import write_text
from semalign.layout import TRACKED, TRACKERS
from semalign.results import Curve, Score
from semalign.train.setup import Setup
from semalign.train.step import rates_at
from semalign.wording import Message, say

__all__ = ["Follower", "Tracker", "check_trackers", "following"]

TENSORBOARD_FOLDER = "tensorboard"
MLFLOW_FILE = "mlflow.db"
PROJECT = "semalign"
PACKAGES = {"csv": (), "tensorboard": ("tensorboard",), "wandb": ("wandb",), "mlflow": ("mlflow", "sqlalchemy")}


class Tracker(Protocol):
    """One place that points are written to."""

    def is_new(self, name: str, index: int, step: int) -> bool:
        """Return whether the curve's point number ``index`` (from 0), at ``step``, is not there yet."""
        ...

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Write the values of one step."""
        ...

    def close(self, *, has_finished: bool, scores: Mapping[str, float]) -> None:
        """Write the final scores, if the run has finished, and close."""
        ...


def check_trackers(names: Sequence[str], out: Path | None) -> None:
    """Check that the trackers ``names`` have what they need, before anything is written.

    Raises:
        ConfigError: there is no folder for them, or a package is missing.
    """
    if names and out is None:
        raise ConfigError(
            f"train.tracker={list(names)} without a folder for the run, expected one: give --out (or out=)"
        )
    for name in names:
        for package in PACKAGES[name]:
            if importlib.util.find_spec(package) is None:
                raise ConfigError(
                    f"train.tracker has '{name}', but the package {package} is not installed: "
                    f"pip install 'semalign[{name}]', or leave '{name}' out"
                )


class Follower:
    """Hands each point of a run's curves to its trackers once.

    Args:
        names: the trackers.
        out: the run's folder; not needed without trackers.
        options: the run's options.
        title: what the run is called there.
        step: the step at which training starts: 0, or that of the state that is resumed.
        rate: the learning rates, by name, at a step.
    """

    def __init__(
        self,
        names: Sequence[str],
        out: Path | None,
        *,
        options: Options,
        title: str,
        step: int,
        rate: Callable[[int], Mapping[str, float]],
    ) -> None:
        check_trackers(names, out)
        self.notes: list[Message] = []
        self._rate = rate
        self._seen: dict[str, int] = {}
        self._trackers: dict[str, Tracker] = {}
        self._step = step
        for name in names:
            assert out is not None
            self._guarded(name, partial(self._open, name, out, options, title))

    def _open(self, name: str, out: Path, options: Options, title: str) -> None:
        self._trackers[name] = OPENERS[name](out, options, title, self._step)

    def follow(self, curves: Mapping[str, Curve]) -> None:
        """Hand over the points that were added since the last call; the learning rates come with the loss."""
        if not self._trackers:
            return
        new = {name: (self._seen.get(name, 0), points) for name, points in curves.items()}
        for tracker_name in list(self._trackers):
            self._guarded(tracker_name, partial(self._hand_over, tracker_name, new))
        self._seen = {name: len(points) for name, points in curves.items()}
        self._step = max([self._step, *(points[-1][0] for points in curves.values() if points)])

    def _hand_over(self, tracker_name: str, new: Mapping[str, tuple[int, Curve]]) -> None:
        tracker = self._trackers[tracker_name]
        by_step: dict[int, dict[str, float]] = {}
        for name, (start, points) in new.items():
            for index in range(start, len(points)):
                step, value = points[index]
                if tracker.is_new(name, index, step):
                    values = by_step.setdefault(step, {})
                    values[name] = value
                    if name == "train/loss":
                        values.update(self._rate(step))
        for step in sorted(by_step):
            tracker.log(step, by_step[step])

    def close(self, score: Score | None = None) -> None:
        """Close the trackers, with the score if the run has finished."""
        scores = {}
        if score is not None:
            scores = {"score/miou": score.miou, **{f"score/iou/{name}": value for name, value in score.iou.items()}}
        for name in list(self._trackers):
            tracker = self._trackers.pop(name)
            self._guarded(name, partial(tracker.close, has_finished=score is not None, scores=scores))

    def _guarded(self, name: str, action: Callable[[], None]) -> None:
        try:
            with warnings.catch_warnings():
                # A tracker's own deprecations do not concern the run.
                warnings.simplefilter("ignore")
                action()
        except Exception as error:  # no error of a tracker may end a run
            self._trackers.pop(name, None)
            reason = " ".join(str(error).split()) or type(error).__name__
            self.notes.append(say("train.tracker_failed", tracker=name, step=self._step, reason=reason[:200]))


@contextlib.contextmanager
def following(setup: Setup, arm: str, step: int) -> Iterator[Follower]:
    """Yield what hands the points of a run from ``step`` on to the trackers of its options; then close these."""
    train = setup.options.train
    follower = Follower(
        train.tracker if setup.fabric.is_global_zero else (),
        setup.out,
        options=setup.options,
        title=f"{arm}, seed {train.seed}" if arm or setup.out is None else setup.out.resolve().name,
        step=step,
        rate=lambda number: rates_at(setup, number),
    )
    try:
        yield follower
    finally:
        follower.close()


class _CsvTracker:
    """step,name,value in metrics.csv: written anew when a run is resumed, which drops the points after its state."""

    def __init__(self, out: Path, options: Options, title: str, step: int) -> None:
        write_text(out / TRACKED, "step,name,value\n")
        # Not closed between points: flushed after each, it is whole whenever it is read.
        self._file = (out / TRACKED).open("a", newline="", encoding="utf-8")
        self._last = 0

    def is_new(self, name: str, index: int, step: int) -> bool:
        return True

    def log(self, step: int, values: Mapping[str, float]) -> None:
        lines = io.StringIO()
        csv.writer(lines, lineterminator="\n").writerows([step, name, value] for name, value in values.items())
        self._file.write(lines.getvalue())
        self._file.flush()
        self._last = max(self._last, step)

    def close(self, *, has_finished: bool, scores: Mapping[str, float]) -> None:
        try:
            self.log(self._last, scores)
        finally:
            self._file.close()


class _TensorBoardTracker:
    """Event files; TensorBoard itself drops what an earlier sitting wrote from the purged step on."""

    def __init__(self, out: Path, options: Options, title: str, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        folder = out / TENSORBOARD_FOLDER
        has_events = folder.is_dir() and any(folder.glob("events.out.tfevents.*"))
        self._since = step if has_events else 0
        self._writer: Any = SummaryWriter(str(folder), purge_step=step if has_events else None)
        self._last = step
        if not has_events:
            # Four spaces make a block of code of it.
            lines = _as_yaml(options).splitlines()
            self._writer.add_text("config", "\n".join(f"    {line}" for line in lines), 0)

    def is_new(self, name: str, index: int, step: int) -> bool:
        return step >= self._since

    def log(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()
        self._last = max(self._last, step)

    def close(self, *, has_finished: bool, scores: Mapping[str, float]) -> None:
        try:
            self.log(self._last, scores)
        finally:
            self._writer.close()


class _WandbTracker:
    """Weights & Biases, under the name kept in trackers.json; WANDB_MODE, WANDB_PROJECT and the like are obeyed."""

    def __init__(self, out: Path, options: Options, title: str, step: int) -> None:
        import wandb

        self._file = out / TRACKERS
        known = _read_known(self._file).get("wandb", {})
        self._id = str(known.get("id") or uuid.uuid4().hex[:12])
        # Points are counted before they are handed over: after a power cut one may be missing, none is there twice.
        self._counts: dict[str, int] = {str(name): int(n) for name, n in dict(known.get("points", {})).items()}
        self._keep()
        self._run: Any = wandb.init(
            project=os.environ.get("WANDB_PROJECT") or PROJECT,
            id=self._id,
            name=os.environ.get("WANDB_NAME") or title,
            resume="allow",
            dir=str(out),
            config=to_dict(options),
            # What the run prints is the user's own.
            settings=wandb.Settings(console="off", silent=True),
        )

    def _keep(self) -> None:
        known = _read_known(self._file)
        known["wandb"] = {"id": self._id, "points": self._counts}
        write_text(self._file, json.dumps(known, sort_keys=True) + "\n")

    def is_new(self, name: str, index: int, step: int) -> bool:
        return index >= self._counts.get(name, 0)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        for name in values:
            self._counts[name] = self._counts.get(name, 0) + 1
        self._keep()
        self._run.log(dict(values), step=step)

    def close(self, *, has_finished: bool, scores: Mapping[str, float]) -> None:
        self._run.summary.update(dict(scores))
        self._run.finish(exit_code=0 if has_finished else 1)


class _MlflowTracker:
    """MLflow: the store of MLFLOW_TRACKING_URI, else a database beside the run's folder that all runs there share."""

    def __init__(self, out: Path, options: Options, title: str, step: int) -> None:
        for name in ("mlflow", "alembic"):
            # Making a database logs forty lines.
            logging.getLogger(name).setLevel(logging.WARNING)
        from mlflow.tracking import MlflowClient

        beside = out.resolve().parent
        uri = os.environ.get("MLFLOW_TRACKING_URI")
        client: Any = MlflowClient(tracking_uri=uri or f"sqlite:///{beside / MLFLOW_FILE}")
        file = out / TRACKERS
        known = _read_known(file)
        self._client = client
        self._run_id = _known_mlflow_run(client, known.get("mlflow", {}).get("id"))
        if self._run_id is None:
            name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or PROJECT
            experiment = client.get_experiment_by_name(name)
            if experiment is not None:
                experiment_id = experiment.experiment_id
            else:
                artifacts = None if uri else (beside / "mlflow-artifacts").as_uri()
                experiment_id = client.create_experiment(name, artifact_location=artifacts)
            self._run_id = client.create_run(experiment_id, run_name=title).info.run_id
            known["mlflow"] = {"id": self._run_id}
            write_text(file, json.dumps(known, sort_keys=True) + "\n")
            for option, value in flatten(to_dict(options)).items():
                # Longer values are refused by the server.
                client.log_param(self._run_id, option, str(value)[:500])
        else:
            client.update_run(self._run_id, status="RUNNING")
        self._there: dict[str, set[int]] = {}

    def is_new(self, name: str, index: int, step: int) -> bool:
        if name not in self._there:
            found = self._client.get_metric_history(self._run_id, _mlflow_name(name))
            self._there[name] = {metric.step for metric in found}
        return step not in self._there[name]

    def log(self, step: int, values: Mapping[str, float]) -> None:
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        metrics = [Metric(_mlflow_name(name), value, now, step) for name, value in values.items()]
        self._client.log_batch(self._run_id, metrics=metrics)
        for name in values:
            self._there.setdefault(name, set()).add(step)

    def close(self, *, has_finished: bool, scores: Mapping[str, float]) -> None:
        if scores:
            self.log(max((step for steps in self._there.values() for step in steps), default=0), scores)
        self._client.set_terminated(self._run_id, status="FINISHED" if has_finished else "KILLED")


def _known_mlflow_run(client: Any, run_id: Any) -> str | None:
    """Return the name of an earlier sitting's run if its store still has it."""
    from mlflow.exceptions import MlflowException

    if not isinstance(run_id, str):
        return None
    try:
        found: str = client.get_run(run_id).info.run_id
    except MlflowException:
        return None
    return found


def _mlflow_name(name: str) -> str:
    """Return the name with what MLflow refuses (it takes letters, digits and _-./ and spaces) as its code point."""
    return "".join(c if c.isalnum() or c in "_-./ :" else f"_{ord(c):x}_" for c in name)


def _as_yaml(options: Options) -> str:
    return str(yaml.safe_dump(to_dict(options), sort_keys=False, allow_unicode=True))


def _read_known(file: Path) -> dict[str, Any]:
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


OPENERS: dict[str, Callable[[Path, Options, str, int], Tracker]] = {
    "csv": _CsvTracker,
    "tensorboard": _TensorBoardTracker,
    "wandb": _WandbTracker,
    "mlflow": _MlflowTracker,
}
