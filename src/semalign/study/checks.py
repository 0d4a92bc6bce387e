"""What is checked before a study writes or runs anything: device, arms, models, and the audit of each arm."""

from __future__ import annotations

import json
from typing import Any

from semalign.config import to_dict
from semalign.config.study import StudyOptions
from semalign.errors import StudyError
from semalign.study.design import PlannedRun, planned_runs

__all__ = ["audit_arms", "check_arms_differ", "check_device", "check_models", "check_sense", "facts_of_training"]


def check_device(study: StudyOptions, device: str) -> None:
    """Refuse a device that is not there, or one that could have no effect.

    Raises:
        ConfigError: no such device here.
        StudyError: a study whose command chooses its device itself.
    """
    if study.command is None:
        from semalign.train.parallel import make_fabric

        make_fabric(device)
    elif device != "auto":
        raise StudyError(
            f"--device got {device} and the study {study.name} runs a command, which chooses its device itself: put it "
            "into the command"
        )


def check_sense(study: StudyOptions) -> None:
    """Refuse a study that cannot answer its question with any results.

    Raises:
        StudyError: a single block, which has no interval, or two arms with the same options.
    """
    if study.blocks < 2:
        raise StudyError(
            f"the study {study.name} has {study.blocks} block, which gives no interval, expected at least 2: add "
            "--seeds"
        )
    check_arms_differ(study)


def check_arms_differ(study: StudyOptions) -> None:
    """Refuse two arms whose runs would be the same to the last bit.

    Raises:
        StudyError: two arms have the same options.
    """
    seen: dict[str, str] = {}
    for run in planned_runs(study)[: len(study.arms)]:
        options = to_dict(run.options)
        other = seen.setdefault(json.dumps(options, sort_keys=True), run.arm)
        if other != run.arm:
            raise StudyError(
                f"the arms '{other}' and '{run.arm}' have the same options, so that no run can tell them apart, "
                "expected a difference: change one, or see `study pilot` for the noise of identical recipes"
            )


def check_models(study: StudyOptions, runs: list[PlannedRun], scan: bool) -> None:
    """Prepare the text and build the model of every arm once, so that a bad arm is known before anything is run."""
    from semalign.api import open_source
    from semalign.train.inputs import check_source, prepare_text
    from semalign.train.setup import model_for

    assert study.data is not None
    for run in runs[: len(study.arms)]:
        options = run.training
        source = open_source(study.data, options, scan=scan)
        check_source(source, options)
        model_for(options, source.class_names, prepare_text(source, options))


def audit_arms(study: StudyOptions, runs: list[PlannedRun]) -> dict[str, Any]:
    """Return by arm what the audit of its model found on a made-up batch.

    Raises:
        AuditError: a knob of an arm cannot turn, and the arm does not declare it.
    """
    from semalign.inspection.options import audit_options, refuse_errors

    found = {}
    for run in runs[: len(study.arms)]:
        report = audit_options(run.training)
        refuse_errors(report, f"arm '{run.arm}'")
        found[run.arm] = report.to_dict()
    return found


def facts_of_training(study: StudyOptions, runs: list[PlannedRun], scan: bool) -> dict[str, Any]:
    """Return what is known of the data and of the libraries that train, once every arm has been looked at."""
    from semalign.api import open_source
    from semalign.train.machine import versions

    check_models(study, runs, scan)
    assert study.data is not None
    options = runs[0].training
    source = open_source(study.data, options, scan=scan)
    splits = (options.data.train_split, options.data.val_split)
    prints = {split: source.fingerprint(split) for split in splits}
    data: dict[str, Any] = {**source.describe(), "fingerprints": prints}
    if data.get("clusters"):
        data["cluster_of"] = {options.data.val_split: source.clusters(options.data.val_split)}
    return {"data": data, "versions": versions()}
