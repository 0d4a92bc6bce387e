from __future__ import annotations

import json
import multiprocessing
import signal
import time
import warnings
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import pytest
from torch.nn import functional as F

from semalign.align.temperature import DeadKnobWarning
from semalign.config import merge, to_dict
from semalign.config.study import StudyOptions
from semalign.errors import DataError, OutputError, ResultsError, StudyError
from semalign.execution import Events, Execution
from semalign.results import RunResult, read_result, write_result
from semalign.study import engines, folder
from semalign.study.design import PlannedRun, planned_runs, read_study
from semalign.study.engines import local, worker_count
from semalign.study.folder import check_study_folder, claim_study_folder, unfinished
from semalign.study.runner import run_planned
from semalign.study.same_bits import check_blocks, keep_threads
from semalign.study.worker import input_key, run_one
from semalign.train import outcome, setup, state
from tests.small import TINY
from tests.study.here import Here

FACTS = {"data": {"fingerprints": {"train": "aa", "val": "bb"}}}


def content(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Return bytes and time of every file below."""
    return {
        str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


# ---- the folder ----


def test_claiming_and_going_on(tmp_path: Path, small_study: StudyOptions) -> None:
    """A new folder gets the study and its facts; the same study may go on and nothing is written again."""
    folder = tmp_path / "a" / "b"
    assert check_study_folder(folder, small_study) is False
    assert not folder.exists()

    claim_study_folder(folder, small_study, FACTS)
    before = content(folder)
    claim_study_folder(folder, small_study, FACTS)

    assert set(before) == {"study.yaml", "facts.json"}
    assert content(folder) == before
    assert check_study_folder(folder, small_study) is True


def test_another_study_in_the_folder(tmp_path: Path, small_study: StudyOptions) -> None:
    """The first thing that differs is shown with both values."""
    claim_study_folder(tmp_path, small_study, FACTS)

    for change, message in (
        ({"seeds": 3}, "seeds is 2 there and 3 here"),
        ({"margin": 0.5}, r"margin is 1\.0 there and 0\.5 here"),
        ({"name": "other", "seeds": 3}, 'name is "ablation-1" there and "other" here'),
    ):
        with pytest.raises(OutputError, match=rf"holds another study \({message}\): name another with --out"):
            claim_study_folder(tmp_path, small_study.model_copy(update=change), FACTS)


def test_changed_data_are_not_mixed(tmp_path: Path, small_study: StudyOptions) -> None:
    """A study goes on with the very images it was begun with."""
    claim_study_folder(tmp_path, small_study, FACTS)
    other = {"data": {"fingerprints": {"train": "aa", "val": "cc"}}}

    with pytest.raises(StudyError, match=r"the split 'val' of the data has changed since the study in .* was begun"):
        claim_study_folder(tmp_path, small_study, other)
    (tmp_path / "facts.json").write_text("{}")
    with pytest.raises(StudyError, match=r"cannot read .*facts\.json \(KeyError\)"):
        claim_study_folder(tmp_path, small_study, FACTS)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("config.yaml", "holds a run"),
        ("result.json", "holds a run"),
        ("results.csv", "holds other results"),
        ("runs", "holds other results"),
    ],
)
def test_folders_of_others(tmp_path: Path, small_study: StudyOptions, entry: str, message: str) -> None:
    """A run's folder and other results are left alone."""
    (tmp_path / entry).write_text("x")

    with pytest.raises(OutputError, match=message):
        claim_study_folder(tmp_path, small_study, FACTS)
    assert [path.name for path in tmp_path.iterdir()] == [entry]


def test_a_file_in_the_way(tmp_path: Path, small_study: StudyOptions) -> None:
    """A file is no folder."""
    (tmp_path / "file").write_text("x")

    with pytest.raises(OutputError, match="is a file, name a folder with --out"):
        claim_study_folder(tmp_path / "file", small_study, FACTS)
    with pytest.raises(OutputError, match="cannot make the output folder"):
        claim_study_folder(tmp_path / "file" / "below", small_study, FACTS)


def test_a_full_disk_leaves_no_folder(
    tmp_path: Path, small_study: StudyOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A claim that cannot be written whole is taken back."""

    def full(path: Path, text: str) -> None:
        raise OutputError("no space left")

    monkeypatch.setattr(folder, "write_text", full)
    with pytest.raises(OutputError, match="no space left"):
        claim_study_folder(tmp_path / "study", small_study, FACTS)
    assert list(tmp_path.iterdir()) == []


def test_worker_count() -> None:
    """None is one per processor; none at all is refused."""
    assert worker_count(3) == 3
    assert worker_count(None) >= 1
    for count in (0, -2):
        with pytest.raises(StudyError, match=f"--workers got {count}, expected at least 1"):
            worker_count(count)
    assert engines.threads_per_worker(10_000) == 1


# ---- running ----


@pytest.mark.usefixtures("in_this_process")
def test_only_what_is_missing_is_run(tmp_path: Path, small_study: StudyOptions) -> None:
    """Without one result that run alone is run again, to the same score; all others keep their bytes and times."""
    runs = planned_runs(small_study)
    told: list[tuple[str, int, str, int, int]] = []

    def progress(arm: str, seed: int, status: str, miou: float | None, done: int, total: int) -> None:
        told.append((arm, seed, status, done, total))

    run_planned(runs, str(small_study.data), tmp_path, Execution(workers=1, events=Events(run_done=progress)))
    # What a pool has finished at one time comes in any order.
    assert sorted(run[:3] for run in told) == [
        ("A", 0, "finished"),
        ("A", 1, "finished"),
        ("Baseline", 0, "finished"),
        ("Baseline", 1, "finished"),
    ]
    assert [run[3:] for run in told] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    gone = tmp_path / "runs" / "a" / "seed-1" / "result.json"
    result, before = read_result(gone), content(tmp_path)
    assert {Path(name).name for name in before} == {"config.yaml", "result.json", "weights.safetensors"}
    gone.unlink()
    assert unfinished(tmp_path, runs) == [runs[3]]

    told.clear()
    run_planned(runs, str(small_study.data), tmp_path, Execution(workers=1, events=Events(run_done=progress)))

    assert told == [("A", 1, "finished", 4, 4)]
    after = content(tmp_path)
    assert {name for name in before if before[name] != after[name]} <= {
        f"runs/a/seed-1/{name}" for name in ("config.yaml", "result.json", "weights.safetensors")
    }
    assert before["runs/a/seed-1/weights.safetensors"][0] == after["runs/a/seed-1/weights.safetensors"][0]
    again = read_result(gone)
    assert (again.curves, again.facts) == (result.curves, result.facts)
    assert again.score is not None
    assert result.score is not None
    assert again.score.counts.tolist() == result.score.counts.tolist()


@pytest.mark.usefixtures("in_this_process")
def test_a_diverged_run_is_an_outcome(
    tmp_path: Path, small_study: StudyOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A loss that is no number fails its run, with the reason in its result; the others finish."""
    real = F.cross_entropy
    arms = iter(["bad", *["good"] * 6])
    first: list[bool] = []

    def once(logits: Any, *args: Any, **options: Any) -> Any:
        if not first:
            first.append(next(arms) == "bad")
            return logits.sum() * float("nan")
        return real(logits, *args, **options)

    monkeypatch.setattr(F, "cross_entropy", once)
    run_planned(planned_runs(small_study), str(small_study.data), tmp_path, Execution(workers=1))

    results = [read_result(tmp_path / run.folder / "result.json") for run in planned_runs(small_study)]
    assert [result.status for result in results] == ["failed", "finished", "finished", "finished"]
    assert results[0].score is None
    assert "the loss is nan at step 0" in results[0].facts["failure"]
    assert results[0].facts["config"]["train"]["seed"] == 0
    # A failed run is finished business: it is not run again.
    assert unfinished(tmp_path, planned_runs(small_study)) == []


@pytest.mark.usefixtures("in_this_process")
def test_a_run_that_was_stopped_goes_on(
    tmp_path: Path, small_study: StudyOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error stops the study with one sentence; once it is mended, saved states and results are used."""
    runs = planned_runs(small_study)[:2]
    monkeypatch.setattr(state, "SAVE_EVERY_SECONDS", -1.0)
    study = tmp_path / "study"

    def broken(*_: Any) -> None:
        raise DataError("val-1.png is corrupt")

    with monkeypatch.context() as patch:
        patch.setattr(outcome, "_score", broken)
        with pytest.raises(DataError, match=r"^val-1\.png is corrupt$"):
            run_planned(runs, str(small_study.data), study, Execution(scan=False, workers=1))
    assert (study / "runs/baseline/seed-0/state.safetensors").exists()
    assert not (study / "runs/baseline/seed-0/result.json").exists()
    steps: list[int] = []
    monkeypatch.setattr(setup, "Events", lambda: Events(stepped=lambda step, *_: steps.append(step)))

    run_planned(runs, str(small_study.data), study, Execution(scan=False, workers=1))

    # The first had been trained before its scoring failed; the second is trained now.
    assert steps == [1, 2]
    assert not list(study.rglob("state.safetensors"))
    assert {read_result(study / run.folder / "result.json").status for run in runs} == {"finished"}


def test_a_damaged_result_is_not_run_over(tmp_path: Path, small_study: StudyOptions) -> None:
    """It is named with what to do; another version's result is not replaced either."""
    run = planned_runs(small_study)[0]
    file = tmp_path / run.folder / "result.json"
    file.parent.mkdir(parents=True)

    for text in ("{", "[]", '{"format": 99}', '{"format": 1}'):
        file.write_text(text)
        with pytest.raises(ResultsError, match=r"remove .*result\.json to have it run again"):
            run_planned([run], "scenes", tmp_path, Execution(workers=1))
        assert file.read_text() == text


class Dying(Here):
    """The process dies with its task, as many times as ``deaths`` says."""

    deaths = 0

    def submit(self, task: Any, *args: Any) -> Future[Any]:
        """Run the task, or break."""
        if Dying.deaths > 0:
            Dying.deaths -= 1
            future: Future[Any] = Future()
            future.set_exception(BrokenProcessPool("a process died"))
            return future
        return super().submit(task, *args)


@pytest.mark.usefixtures("in_this_process")
def test_a_dead_worker_is_replaced(tmp_path: Path, small_study: StudyOptions, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a dying process took with it is run by the next; finished runs are counted once."""
    monkeypatch.setattr(local, "ProcessPoolExecutor", Dying)
    Dying.deaths = 2
    told: list[tuple[int, int]] = []

    events = Events(run_done=lambda arm, seed, status, miou, done, total: told.append((done, total)))

    run_planned(planned_runs(small_study)[:2], str(small_study.data), tmp_path, Execution(workers=1, events=events))

    assert told == [(1, 2), (2, 2)]
    assert unfinished(tmp_path, planned_runs(small_study)[:2]) == []


def test_a_run_that_kills_its_workers(
    tmp_path: Path, small_study: StudyOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a few deaths the study names it instead of trying for ever."""
    monkeypatch.setattr(local, "ProcessPoolExecutor", Dying)
    Dying.deaths = 1000

    with pytest.raises(
        StudyError,
        match=r"^arm Baseline, seed 0: its worker process died 3 times \(out of memory\?\), 4 runs are missing: start",
    ):
        run_planned(planned_runs(small_study), str(small_study.data), tmp_path, Execution(workers=1))
    assert Dying.deaths == 997
    Dying.deaths = 0


@pytest.mark.usefixtures("in_this_process")
def test_a_run_that_another_process_has_finished(tmp_path: Path, small_study: StudyOptions) -> None:
    """It is not run again: its result is told, and stays."""
    run = planned_runs(small_study)[0]
    execution = Execution("cpu", threads=1)
    first = run_one(run, str(small_study.data), tmp_path, execution)
    before = content(tmp_path)

    again = run_one(run, str(small_study.data), tmp_path, execution)

    assert first[:2] == again[:2]
    assert again[2:] == (0.0, ())
    assert content(tmp_path) == before


# ---- the same bits ----


def test_the_threads_that_a_study_was_begun_with(tmp_path: Path) -> None:
    """They are kept and that is said; nothing is said where they are the same or not known."""
    for cpus, workers, threads, begun, expected in (
        (8, 8, 1, 2, (2, 4)),
        (8, 2, 4, 1, (1, 2)),
        (2, 2, 1, 16, (16, 1)),
    ):
        (tmp_path / "facts.json").write_text(json.dumps({"machine": {"threads": begun}}))
        engine = local.LocalEngine(workers, threads, cpus)
        with pytest.warns(
            UserWarning, match=rf"begun with {begun} threads per run, which are kept \({expected[1]} runs"
        ):
            keep_threads(tmp_path, engine)
        assert (engine.threads, engine.workers) == expected
        keep_threads(tmp_path, engine)
    for text in ("{", "[]", "{}", '{"machine": {}}', '{"machine": {"threads": "2"}}', '{"machine": {"threads": 0}}'):
        (tmp_path / "facts.json").write_text(text)
        keep_threads(tmp_path, engine)
    assert (engine.threads, engine.workers) == (16, 1)


NOW = {"threads": 3, "device": "cuda", "processor": "X100", "torch": "2.13.0", "semalign": "0.1.0"}


def test_defaults_that_have_changed_are_not_mixed(tmp_path: Path, small_study: StudyOptions) -> None:
    """Finished runs with other defaults stop the study; an option that one side lacks is not compared."""
    runs = planned_runs(small_study)
    own = to_dict(runs[0].options)
    file = tmp_path / runs[0].folder / "result.json"
    file.parent.mkdir(parents=True)

    def check(config: dict[str, Any]) -> None:
        write_result(file, RunResult(runs[0].arm, runs[0].seed, "failed", None, {}, {"config": config}, {}))
        check_blocks(tmp_path, runs, {})

    check(own)
    check({name: value for name, value in own.items() if name != "text"})
    with pytest.raises(
        StudyError,
        match=r"was begun with train\.scalar_lr=0\.5 \(arm Baseline\) and would continue with .*--set 't",
    ):
        check(merge(own, {"train": {"scalar_lr": 0.5}}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, None),
        # What was not recorded by an older version is not known to differ.
        ({"processor": None, "versions": None}, None),
        ({"device": "cpu"}, r"begun with device cpu \(arm Baseline\) and would continue with cuda"),
        ({"threads": 5}, r"begun with threads 5 \(arm Baseline\) and would continue with 3"),
        ({"processor": "X200"}, "begun with processor X200"),
        ({"versions": {"semalign": "0.0.1"}}, r"begun with semalign 0\.0\.1 .*would continue with 0\.1\.0"),
        (
            {"versions": {"torch": "2.6.0"}},
            r"begun with torch 2\.6\.0 .*would continue with 2\.13\.0, so",
        ),
    ],
)
def test_a_block_is_not_mixed(
    tmp_path: Path, small_study: StudyOptions, changes: dict[str, Any], message: str | None
) -> None:
    """A begun block goes on where its finished runs were computed; a whole block, or one not begun, is no matter."""
    runs = planned_runs(small_study)
    known = {"threads": 3, "device": "cuda:0", "processor": "X100", "versions": {"torch": "2.13.0"}} | changes
    facts = {name: value for name, value in known.items() if value is not None}

    def finish(run: PlannedRun) -> None:
        file = tmp_path / run.folder / "result.json"
        file.parent.mkdir(parents=True)
        write_result(file, RunResult(run.arm, run.seed, "failed", None, {}, facts, {}))

    check_blocks(tmp_path, runs, NOW)
    finish(runs[0])
    if message is None:
        check_blocks(tmp_path, runs, NOW)
    else:
        with pytest.raises(StudyError, match=rf"^block 0 of the study in .* was {message}"):
            check_blocks(tmp_path, runs, NOW)
        check_blocks(tmp_path, runs, {})
    finish(runs[1])
    check_blocks(tmp_path, runs, NOW)


@pytest.mark.usefixtures("in_this_process")
def test_warnings_of_workers_reach_the_caller(tmp_path: Path, data: Path) -> None:
    """What a worker warns of is said here, in the warning's own words."""
    changes = [*TINY, "train.epochs=1", "train.val_every=0", "model.preset=seed"]
    study = read_study("ablation-1", data=str(data), seeds=1, assignments=changes)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run_planned(planned_runs(study)[:1], str(data), tmp_path, Execution(workers=1))

    assert {warning.category for warning in caught} == {DeadKnobWarning}
    assert all("never learns" in str(warning.message) for warning in caught)


def test_inputs_are_shared_by_runs_that_read_the_same(small_study: StudyOptions) -> None:
    """Seeds and arms of one data set and text decode once; another text is another input."""
    runs = planned_runs(small_study)
    other = read_study("ablations", data=str(small_study.data), seeds=1, assignments=TINY)

    keys = {input_key(run.training) for run in runs}
    others = {input_key(run.training) for run in planned_runs(other)}
    assert len(keys) == 1
    assert len(others) == 4


def test_real_processes(tmp_path: Path, small_study: StudyOptions) -> None:
    """Two spawned workers give the very bytes that this process gives; an error of theirs keeps its class."""
    runs = planned_runs(small_study)[:2]

    run_planned(runs, str(small_study.data), tmp_path / "two", Execution(workers=2))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(local, "ProcessPoolExecutor", Here)
        patch.setattr(engines, "threads_per_worker", lambda workers: 1)
        run_planned(runs, str(small_study.data), tmp_path / "one", Execution(workers=1))
    for run in runs:
        one, two = (tmp_path / name / run.folder / "weights.safetensors" for name in ("one", "two"))
        assert one.read_bytes() == two.read_bytes()


def _orphan(sender: Any) -> None:
    worker = multiprocessing.get_context("spawn").Process(target=_sleeper, args=(sender,))
    worker.start()
    time.sleep(1000)


def _sleeper(sender: Any) -> None:
    local._live_with_parent()
    sender.send(signal.getsignal(signal.SIGINT) == signal.SIG_IGN)
    time.sleep(1000)


def test_workers_end_with_their_parent() -> None:
    """A study that is killed leaves no process behind that would write into its folder."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    parent = context.Process(target=_orphan, args=(sender,))
    parent.start()
    sender.close()
    assert receiver.recv() is True

    parent.kill()
    parent.join()

    # The pipe's other end closes when the last process that holds it is gone.
    assert receiver.poll(60)
    with pytest.raises(EOFError):
        receiver.recv()
