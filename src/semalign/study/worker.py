"""One run of a study, in the process that does it: trained and scored here, or made by the user's command."""

from __future__ import annotations

import functools
import json
import time
import warnings
from pathlib import Path
from typing import Any

import yaml

from semalign import layout
from semalign.config import Options, merge, to_dict, validate
from semalign.errors import SemalignError
from semalign.execution import Execution
from semalign.files import make_folder, remove_strays, write_text
from semalign.locks import run_lock
from semalign.results import RunResult, read_result, write_result
from semalign.study.command import CommandOptions
from semalign.study.command_run import run_command
from semalign.study.design import Outcome, PlannedRun
from semalign.study.same_bits import training_facts

__all__ = ["cached_inputs", "run_one"]


def run_one(run: PlannedRun, data: str, study_folder: Path, execution: Execution) -> Outcome:
    """Train and score one run in this process, or have its command do so, and write its result.

    One that another process has just finished is not run again.

    Args:
        run: the run.
        data: a folder, or the name of built-in data; empty for a command without data.
        study_folder: the study's folder.
        execution: device, and the threads of this process.

    Raises:
        CommandFailed: see `run_command`.
        SemalignError: options, data or folder do not fit.
    """
    folder = make_folder(study_folder / run.folder)
    with run_lock(folder):
        remove_strays(folder)
        if (folder / layout.RESULT).exists():
            result = read_result(folder / layout.RESULT)
            return Outcome(result.status, None if result.score is None else result.score.miou, 0.0, ())
        assert execution.threads is not None, "a worker has its share of the processors"
        if isinstance(run.options, CommandOptions):
            return run_command(run, study_folder, execution.threads)
        return _train_one(run, data, study_folder, execution)


def _train_one(run: PlannedRun, data: str, root: Path, execution: Execution) -> Outcome:
    import torch

    from semalign.train.loop import fit
    from semalign.train.machine import versions
    from semalign.train.parallel import make_fabric
    from semalign.train.step import TrainingDiverged

    assert execution.threads is not None
    torch.set_num_threads(execution.threads)
    started = time.monotonic()
    folder = root / run.folder
    options, config = run.training, to_dict(run.training)
    write_text(folder / layout.CONFIG, yaml.safe_dump(config, sort_keys=False, allow_unicode=True))
    here = training_facts(execution.threads, execution.device)
    fabric = make_fabric(execution.device)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        inputs = cached_inputs(data, input_key(options), execution.scan)
        try:
            _check_source(options, root)
            _, result = fit(inputs, options, out=folder, arm=run.arm, fabric=fabric, root=root)
        except (TrainingDiverged, SourceFailed) as error:
            facts = {"failure": str(error), "config": config, "versions": versions(), "notes": [], **here}
            if isinstance(error, TrainingDiverged):
                facts |= {"failed_at": error.at, "audit": _opinion(inputs, options, fabric.device)}
            seconds = {"train": time.monotonic() - started}
            result = RunResult(run.arm, run.seed, "failed", None, {}, facts, seconds)
    write_result(folder / layout.RESULT, result)
    (folder / layout.STATE).unlink(missing_ok=True)
    warned = {str(warning.message): warning.category for warning in caught}
    miou = None if result.score is None else result.score.miou
    return Outcome(result.status, miou, time.monotonic() - started, tuple(warned.items()))


def _opinion(inputs: Any, options: Options, device: Any) -> dict[str, Any]:
    """Return what the audit finds in the model that diverged, as it began, or why it finds nothing."""
    from semalign.inspection.options import audit_inputs

    try:
        return audit_inputs(inputs, options, device=device).to_dict()
    except SemalignError as error:
        return {"findings": [], "refused": str(error)}


class SourceFailed(SemalignError):  # noqa: N818 (named for what happened)
    """A run whose values another run takes has failed."""


def _check_source(options: Options, folder: Path) -> None:
    """Tell a run that takes another's values when there are none, since that one failed."""
    source = options.align.values_from
    if source is not None and read_result(folder / source / layout.RESULT).status == "failed":
        raise SourceFailed(f"the run {source} failed, whose learned values this run takes")


def input_key(options: Options) -> str:
    """Return what inputs depend on as JSON, so that runs that read the same share one decoding."""
    value = to_dict(options)
    train = {name: item for name, item in value["train"].items() if name == "select_split"}
    model = {"classifier": value["model"]["classifier"]}
    return json.dumps(merge({"data": value["data"], "text": value["text"]}, {"train": train, "model": model}))


@functools.lru_cache(maxsize=4)
def cached_inputs(data: str, key: str, scan: bool) -> Any:
    """Return the inputs of runs that read the same data and text."""
    from semalign.api import open_source
    from semalign.train.inputs import prepare_inputs

    options = validate(Options, json.loads(key), "a run of the study")
    return prepare_inputs(open_source(data, options, scan=scan), options)
