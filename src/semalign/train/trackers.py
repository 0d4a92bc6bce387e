"""Writes a run's curves to a CSV file, TensorBoard, Weights & Biases or MLflow.

A tracker only reads what the run keeps anyway, so that training is the same to the bit with one and without.  Missing
packages are found before the run starts; after that no error of a tracker ends a run, but becomes a note.  A run that
is resumed continues in the same tracker run, each point once.
"""

from __future__ import annotations

import contextlib
import csv
import importlib.util
import logging
import os
import textwrap
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
from semalign.files import read_json, write_json, write_text
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

    def close(self, step: int, scores: Mapping[str, float] | None) -> None:
        """Write the final scores at the last step, unless the run has not finished (None), and close."""
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
        setup: what the run is trained with; of several processes the first one alone has trackers.
        arm: the arm's name in a study.
        step: the step at which training starts: 0, or that of the state that is resumed.
    """

    def __init__(self, setup: Setup, arm: str, step: int) -> None:
        self.notes: list[Message] = []
        self._setup = setup
        self._seen: dict[str, int] = {}
        self._trackers: dict[str, Tracker] = {}
        self._step = step
        train, out = setup.options.train, setup.out
        names = train.tracker if setup.fabric.is_global_zero else ()
        check_trackers(names, out)
        title = f"{arm}, seed {train.seed}" if arm or out is None else out.resolve().name
        for name in names:
            assert out is not None
            self._guarded(name, partial(self._open, name, out, title))

    def _open(self, name: str, out: Path, title: str) -> None:
        self._trackers[name] = OPENERS[name](out, self._setup.options, title, self._step)

    def follow(self, curves: Mapping[str, Curve]) -> None:
        """Hand over the points that were added since the last call; the learning rates come with the loss."""
        if not self._trackers:
            return
        new = [
            (name, index, *points[index])
            for name, points in curves.items()
            for index in range(self._seen.get(name, 0), len(points))
        ]
        for name, tracker in list(self._trackers.items()):
            self._guarded(name, partial(self._hand_over, tracker, new))
        self._seen = {name: len(points) for name, points in curves.items()}
        self._step = max([self._step, *(step for _, _, step, _ in new)])

    def _hand_over(self, tracker: Tracker, new: list[tuple[str, int, int, float]]) -> None:
        by_step: dict[int, dict[str, float]] = {}
        for name, index, step, value in new:
            if tracker.is_new(name, index, step):
                values = by_step.setdefault(step, {})
                values[name] = value
                if name == "train/loss":
                    values.update(rates_at(self._setup, step))
        for step in sorted(by_step):
            tracker.log(step, by_step[step])

    def close(self, score: Score | None = None) -> None:
        """Close the trackers, with the score if the run has finished."""
        scores = None
        if score is not None:
            scores = {"score/miou": score.miou, **{f"score/iou/{name}": value for name, value in score.iou.items()}}
        for name in list(self._trackers):
            tracker = self._trackers.pop(name)
            self._guarded(name, partial(tracker.close, self._step, scores))

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
    follower = Follower(setup, arm, step)
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
        self._writer = csv.writer(self._file, lineterminator="\n")

    def is_new(self, name: str, index: int, step: int) -> bool:
        return True

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self._writer.writerows([step, name, value] for name, value in values.items())
        self._file.flush()

    def close(self, step: int, scores: Mapping[str, float] | None) -> None:
        with self._file:
            self.log(step, scores or {})


class _TensorBoardTracker:
    """Event files; TensorBoard itself drops what an earlier sitting wrote from the purged step on."""

    def __init__(self, out: Path, options: Options, title: str, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        folder = out / TENSORBOARD_FOLDER
        has_events = folder.is_dir() and any(folder.glob("events.out.tfevents.*"))
        self._since = step if has_events else 0
        self._writer: Any = SummaryWriter(str(folder), purge_step=step if has_events else None)
        if not has_events:
            # Four spaces make a block of code of it.
            text = yaml.safe_dump(to_dict(options), sort_keys=False, allow_unicode=True)
            self._writer.add_text("config", textwrap.indent(text, "    "), 0)

    def is_new(self, name: str, index: int, step: int) -> bool:
        return step >= self._since

    def log(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def close(self, step: int, scores: Mapping[str, float] | None) -> None:
        with self._writer:
            self.log(step, scores or {})


class _WandbTracker:
    """Weights & Biases, under the name kept in trackers.json; WANDB_MODE, WANDB_PROJECT and the like are obeyed."""

    def __init__(self, out: Path, options: Options, title: str, step: int) -> None:
        import wandb

        self._out = out
        known = _read_known(out).get("wandb", {})
        self._id = str(known.get("id") or uuid.uuid4().hex[:12])
        # Points are counted before they are handed over: after a power cut one may be missing, none is there twice.
        self._counts: dict[str, int] = {str(name): int(n) for name, n in dict(known.get("points", {})).items()}
        _keep(self._out, "wandb", {"id": self._id, "points": self._counts})
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

    def is_new(self, name: str, index: int, step: int) -> bool:
        return index >= self._counts.get(name, 0)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        for name in values:
            self._counts[name] = self._counts.get(name, 0) + 1
        _keep(self._out, "wandb", {"id": self._id, "points": self._counts})
        self._run.log(dict(values), step=step)

    def close(self, step: int, scores: Mapping[str, float] | None) -> None:
        self._run.summary.update(dict(scores or {}))
        self._run.finish(exit_code=1 if scores is None else 0)


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
        self._client = client
        self._run_id = _known_mlflow_run(client, _read_known(out).get("mlflow", {}).get("id"))
        if self._run_id is None:
            name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or PROJECT
            experiment = client.get_experiment_by_name(name)
            if experiment is not None:
                experiment_id = experiment.experiment_id
            else:
                artifacts = None if uri else (beside / "mlflow-artifacts").as_uri()
                experiment_id = client.create_experiment(name, artifact_location=artifacts)
            self._run_id = client.create_run(experiment_id, run_name=title).info.run_id
            _keep(out, "mlflow", {"id": self._run_id})
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

    def close(self, step: int, scores: Mapping[str, float] | None) -> None:
        if scores:
            self.log(step, scores)
        self._client.set_terminated(self._run_id, status="KILLED" if scores is None else "FINISHED")


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


def _read_known(out: Path) -> dict[str, Any]:
    """Return by tracker what it keeps beside the run."""
    try:
        value = read_json(out / TRACKERS)
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _keep(out: Path, tracker: str, known: Mapping[str, Any]) -> None:
    write_json(out / TRACKERS, {**_read_known(out), tracker: known}, indent=None)


OPENERS: dict[str, Callable[[Path, Options, str, int], Tracker]] = {
    "csv": _CsvTracker,
    "tensorboard": _TensorBoardTracker,
    "wandb": _WandbTracker,
    "mlflow": _MlflowTracker,
}
