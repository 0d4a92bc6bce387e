from __future__ import annotations

import csv
import json
import struct
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import semalign.api
from semalign.api import resolve
from semalign.config import read_options
from semalign.errors import ConfigError
from semalign.execution import Events
from semalign.results import RunResult
from semalign.train import state, trackers
from semalign.train.run import TrainedRun
from tests.small import TINY

Points = dict[str, list[tuple[int, float]]]


def train(data: Path, out: Path, tracker: str, stop_at: int = 0) -> tuple[TrainedRun, RunResult]:
    """Train four steps, saving after each; stop by force after a step's update and before its save."""

    def stepped(step: int, steps: int, loss: float) -> None:
        if step == stop_at:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(state, "SAVE_EVERY_SECONDS", -1.0)
        return semalign.api.train(
            data,
            out=out,
            device="cpu",
            resume=True,
            audit=False,
            settings=[*TINY, f"train.tracker={tracker}"],
            events=Events(stepped=stepped),
        )


def train_in_two_sittings(data: Path, out: Path, tracker: str) -> tuple[TrainedRun, RunResult]:
    """Stop after the third step was tracked and before it was saved, then go on."""
    with pytest.raises(KeyboardInterrupt):
        train(data, out, tracker, stop_at=3)
    return train(data, out, tracker)


def assert_whole(points: Points, result: RunResult, data: Path) -> None:
    """Each point of the curves stands there once, with the learning rates, in order, and the scores."""
    curves = dict(points)
    rates = resolve(data, settings=TINY).train
    for role in ("weights", "norms and biases", "temperatures", "gates"):
        expected = [(step, rates.lr * f) for step, f in enumerate((1.0, 1.0, 0.75, 0.25))]
        assert [step for step, _ in curves[f"lr/{role}"]] == [0, 1, 2, 3]
        assert [value for _, value in curves.pop(f"lr/{role}")] == pytest.approx([v for _, v in expected], rel=1e-5)
    assert result.score is not None
    assert curves.pop("score/miou")[0][1] == pytest.approx(result.score.miou)
    for name, value in result.score.iou.items():
        assert curves.pop(f"score/iou/{name}")[0][1] == pytest.approx(value)
    assert curves.keys() == result.curves.keys()
    for name, curve in result.curves.items():
        assert [step for step, _ in curves[name]] == [step for step, _ in curve], name
        assert [value for _, value in curves[name]] == pytest.approx([value for _, value in curve], rel=1e-6), name


def read_csv(out: Path) -> Points:
    """Return the points of metrics.csv."""
    points: Points = {}
    with (out / "metrics.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            points.setdefault(row["name"], []).append((int(row["step"]), float(row["value"])))
    return points


def test_csv(data: Path, tmp_path: Path) -> None:
    """A run in two sittings: every point once, the very numbers of the result."""
    run, result = train_in_two_sittings(data, tmp_path / "run", "csv")

    points = read_csv(tmp_path / "run")
    assert_whole(points, result, data)
    assert points["train/loss"] == result.curves["train/loss"]
    assert not any("tracker" in note for note in result.notes)
    plain = train(data, tmp_path / "plain", "none")
    for name, tensor in plain[0].model.state_dict().items():
        assert torch.equal(run.model.state_dict()[name], tensor), name
    assert plain[1].curves == result.curves
    assert not (tmp_path / "plain/metrics.csv").exists()


def test_tensorboard(data: Path, tmp_path: Path) -> None:
    """TensorBoard's own reader finds every point once, and the options."""
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    _, result = train_in_two_sittings(data, tmp_path / "run", "tensorboard")

    events = EventAccumulator(str(tmp_path / "run/tensorboard"))
    events.Reload()
    names = events.Tags()["scalars"]
    assert_whole({name: [(e.step, e.value) for e in events.Scalars(name)] for name in names}, result, data)
    text = events.Tensors("config/text_summary")[0].tensor_proto.string_val[0].decode()
    assert "    preset: recommended" in text
    assert not any("tracker" in note for note in result.notes)


def wandb_records(content: bytes) -> Iterator[bytes]:
    """Yield the messages of a .wandb file: a log in LevelDB's format behind seven bytes of its own."""
    assert content[:4] == b":W&B"
    place, message = 7, b""
    while place + 7 <= len(content):
        if 32768 - place % 32768 < 7:
            # The rest of a block holds no header.
            place += 32768 - place % 32768
            continue
        length, kind = struct.unpack("<HB", content[place + 4 : place + 7])
        message += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):
            yield message
            message = b""


def test_wandb_offline(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both sittings are of one run, and what they hold together is every point once."""
    pytest.importorskip("wandb")
    from wandb.proto.wandb_internal_pb2 import Record

    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_PROJECT", "shapes")
    _, result = train_in_two_sittings(data, tmp_path / "run", "wandb")

    assert not any("tracker" in note for note in result.notes)
    files = sorted(tmp_path.glob("run/wandb/offline-run-*/*.wandb"), key=lambda file: file.stat().st_mtime_ns)
    assert len(files) == 2
    assert len({file.name for file in files}) == 1
    points: Points = {}
    configs: dict[str, Any] = {}
    for file in files:
        for message in wandb_records(file.read_bytes()):
            record = Record()
            record.ParseFromString(message)
            if record.HasField("run"):
                assert record.run.project == "shapes"
                configs |= {item.key: json.loads(item.value_json) for item in record.run.config.update}
            if record.HasField("history"):
                values = {"/".join(i.nested_key) or i.key: json.loads(i.value_json) for i in record.history.item}
                for name, value in values.items():
                    if not name.startswith("_"):
                        points.setdefault(name, []).append((record.history.step.num, value))
            if record.HasField("summary"):
                for item in record.summary.update:
                    name = "/".join(item.nested_key) or item.key
                    if name.startswith("score/"):
                        points[name] = [(4, json.loads(item.value_json))]
    assert_whole(points, result, data)
    assert configs["train"]["epochs"] == 2


def test_mlflow(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The database beside the run holds one finished run with every point once, and the options as parameters."""
    pytest.importorskip("mlflow")
    pytest.importorskip("sqlalchemy")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    _, result = train_in_two_sittings(data, tmp_path / "run", "mlflow")

    assert not any("tracker" in note for note in result.notes)
    with warnings.catch_warnings():
        # Those of the libraries below it.
        warnings.simplefilter("ignore")
        from mlflow.tracking import MlflowClient

        client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path / 'mlflow.db'}")
        experiment = client.get_experiment_by_name("semalign")
        assert experiment is not None
        runs = client.search_runs([experiment.experiment_id])
    assert len(runs) == 1
    assert runs[0].info.status == "FINISHED"
    assert runs[0].info.run_name == "run"
    assert runs[0].data.params["train.epochs"] == "2"
    points = {
        name: [(metric.step, metric.value) for metric in client.get_metric_history(runs[0].info.run_id, name)]
        for name in runs[0].data.metrics
    }
    assert_whole(points, result, data)


@pytest.mark.parametrize("call", ["open", "log", "close"])
def test_a_tracker_that_fails_costs_no_run(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """Whatever it raises, whenever, is one note; the run ends with the same bits."""

    class Broken:
        def __init__(self, *_: Any) -> None:
            self.fail("open")

        def fail(self, name: str) -> None:
            if call == name:
                raise RuntimeError("the server\nis gone")

        def is_new(self, *_: Any) -> bool:
            return True

        def log(self, *_: Any) -> None:
            self.fail("log")

        def close(self, *_: Any) -> None:
            self.fail("close")

    monkeypatch.setitem(trackers.OPENERS, "mlflow", Broken)
    monkeypatch.setitem(trackers.PACKAGES, "mlflow", ())
    run, result = train(data, tmp_path / "run", "[mlflow, csv]")
    plain = train(data, tmp_path / "plain", "none")

    notes = [note for note in result.notes if "tracker" in note]
    assert len(notes) == 1
    assert "the tracker mlflow failed after step" in notes[0]
    assert "(the server is gone) and was not used from there on" in notes[0]
    assert_whole(read_csv(tmp_path / "run"), result, data)
    for name, tensor in plain[0].model.state_dict().items():
        assert torch.equal(run.model.state_dict()[name], tensor), name


def test_a_missing_package_is_said_before_anything_is_written(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message says what to install; so it is without a folder."""
    monkeypatch.setitem(trackers.PACKAGES, "wandb", ("no_such_package",))

    with pytest.raises(ConfigError, match=r"no_such_package is not installed: pip install 'semalign\[wandb\]'"):
        semalign.api.train(data, out=tmp_path / "run", settings=[*TINY, "train.tracker=wandb"])
    assert not (tmp_path / "run").exists()
    with pytest.raises(ConfigError, match=r"train\.tracker=\['csv'\] without a folder for the run"):
        semalign.api.train(data, settings=[*TINY, "train.tracker=csv"])


def test_how_trackers_are_named() -> None:
    """One without brackets, several with, none; another name is refused with those there are."""

    def read(value: str) -> tuple[str, ...]:
        return read_options(assignments=[f"train.tracker={value}"]).train.tracker

    assert read("csv") == ("csv",)
    assert read("[wandb, csv, wandb]") == ("wandb", "csv")
    assert read("none") == read("[]") == ()
    with pytest.raises(ConfigError, match=r"train\.tracker.*'csv', 'tensorboard', 'wandb' or 'mlflow'"):
        read("comet")


def test_another_tracker_may_watch_the_rest_of_a_run(data: Path, tmp_path: Path) -> None:
    """Who watches is not what is trained: a run goes on with a tracker that it did not begin with."""
    with pytest.raises(KeyboardInterrupt):
        train(data, tmp_path / "run", "none", stop_at=3)

    _, result = train(data, tmp_path / "run", "csv")

    assert_whole(read_csv(tmp_path / "run"), result, data)
