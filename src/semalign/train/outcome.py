"""What a run leaves: scores on its way and at its end, notes, facts and the result."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

from semalign.config import to_dict
from semalign.data.batches import ScoredImages
from semalign.layout import BEST, WEIGHTS
from semalign.results import RunResult, Score
from semalign.train.alignment_cost import alignment_cost
from semalign.train.evaluate import Predictor, score_images
from semalign.train.inputs import train_score_names
from semalign.train.leaking import Leaking, find_leaking
from semalign.train.machine import computed_with, versions
from semalign.train.parallel import shared_score
from semalign.train.run import TrainedRun, parameter_count, save_run
from semalign.train.setup import Setup
from semalign.train.state import Progress
from semalign.train.step import diverged
from semalign.train.trackers import Follower
from semalign.train.vocabulary import notes_of_strangers, open_score
from semalign.wording import Message, say

__all__ = ["finish", "score_after_epoch"]


def score_after_epoch(setup: Setup, progress: Progress) -> None:
    """Score the averaged weights after an epoch, on the splits for which the options ask for it."""
    train, done = setup.options.train, setup.epochs_done(progress.step)
    if done is None or progress.step == setup.steps:
        return
    if train.val_every and done % train.val_every == 0:
        split = setup.options.data.val_split
        with _averaged(setup):
            score = _score(setup, setup.inputs.scored[split])
        _tell(setup, progress, "val/miou", split, score)
    if train.select_split is not None and done % max(1, train.val_every) == 0:
        _keep_best(setup, progress, train.select_split)


def finish(
    setup: Setup,
    progress: Progress,
    trackers: Follower,
    *,
    arm: str,
    seconds: float,
    facts: Mapping[str, Any],
) -> tuple[TrainedRun, RunResult]:
    """Score the averaged weights of the last step, save them, and return the run and its result.

    Args:
        setup: what the run was trained with; its model gets the averaged weights, in evaluation mode.
        progress: of the last step.
        trackers: get the final scores.
        arm: the arm's name in a study.
        seconds: training time.
        facts: plain facts to keep in the result.

    Raises:
        TrainingDiverged: a weight is not finite.
    """
    run, inputs, data = setup.run, setup.inputs, setup.options.data
    _check_finite(setup)
    if setup.options.train.select_split is not None:
        _keep_best(setup, progress, setup.options.train.select_split)
    dead = _notes_of_dead(setup)
    run.model.load_state_dict(setup.average)
    run.model.eval()
    started = time.monotonic()
    score = _score(setup, inputs.scored[data.val_split])
    _tell(setup, progress, "val/miou", data.val_split, score)
    train_score = _score(setup, inputs.scored[data.train_split].only(train_score_names(inputs.images.names)))
    trackers.follow(progress.curves)
    trackers.close(score)
    leaking = find_leaking(inputs.text, score)
    notes = [note.to_dict() for note in (*dead, *trackers.notes, *_notes(setup), *leaking.notes)]
    notes = [*facts.get("notes", []), *progress.notes, *notes]
    run.facts = {
        "fingerprints": {data.train_split: inputs.fingerprint},
        "select_split": setup.options.train.select_split,
        "notes": notes,
    }
    if setup.out is not None:
        save_run(setup.out / WEIGHTS, run, setup.average)
    own = _facts(setup, progress, score, train_score, leaking)
    result = RunResult(
        arm=arm,
        seed=setup.options.train.seed,
        status="finished",
        score=score,
        curves=progress.curves,
        facts={**own, **facts, "notes": notes},
        timings={"train": seconds, "score": time.monotonic() - started},
    )
    return run, result


# ---- scores ----


def _score(setup: Setup, images: ScoredImages) -> Score:
    predictor = Predictor(setup.run.model, setup.run.size, class_features=setup.run.class_features)

    def score(names: Sequence[str]) -> Score:
        return score_images(predictor, images.only(names), setup.inputs.text, depth_scale=setup.inputs.depth_scale)

    return shared_score(score, images.names, predictor.device)


def _tell(setup: Setup, progress: Progress, curve: str, name: str, score: Score) -> None:
    progress.add(curve, score.miou)
    setup.events.scored(progress.step, name, score.miou)


@contextlib.contextmanager
def _averaged(setup: Setup) -> Iterator[None]:
    """Let the model have the averaged weights, in evaluation mode, for a while."""
    model = setup.run.model
    own = {name: tensor.detach().clone() for name, tensor in setup.weights.items()}
    model.load_state_dict(setup.average)
    model.eval()
    try:
        yield
    finally:
        model.load_state_dict(own)
        model.train()


def _keep_best(setup: Setup, progress: Progress, split: str) -> None:
    """Score the averaged weights on ``train.select_split``, and save them where they are the best so far."""
    run = setup.run
    with _averaged(setup):
        score = _score(setup, setup.inputs.scored[split])
    _tell(setup, progress, "select/miou", f"{split} (selection)", score)
    if score.miou > progress.best:
        progress.best, progress.best_step = score.miou, progress.step
        if setup.out is not None:
            run.facts = {"selected_on": split, "selected_step": progress.step, "selected_miou": score.miou}
            save_run(setup.out / BEST, run, setup.average)


def _check_finite(setup: Setup) -> None:
    for name, tensor in setup.average.items():
        if not bool(tensor.isfinite().all()):
            raise diverged(f"the weights {name} are not finite after step {setup.steps}", step=setup.steps)


# ---- notes and facts ----


def _notes_of_dead(setup: Setup) -> list[Message]:
    """Return notes on temperatures that could not learn, or left their clamp while the run was trained."""
    notes = [say("train.temperature_dead", site=path) for path in setup.stillborn]
    for path, site in setup.sites.items():
        temperature = site.temperature
        if path in setup.stillborn:
            continue
        temperature.check_live()
        if temperature.liveness == "dead":
            values = tuple(f"{value:.4g}" for value in temperature.log_scale.detach().flatten().tolist())
            notes.append(say("train.temperature_died", site=path, values=values))
    return notes


def _notes(setup: Setup) -> list[Message]:
    """Return what a reader must know of the scored weights, the text and the classes."""
    options, text = setup.options, setup.inputs.text
    notes = []
    if options.train.select_split == options.data.val_split:
        notes.append(say("train.best_is_too_high", file=BEST, split=options.data.val_split))
    if text.is_shared:
        notes.append(say("train.text_is_shared"))
    notes += text.notes
    if options.data.unseen:
        notes.append(say("train.unseen", names=options.data.unseen))
        assert text.classes is not None
        notes += notes_of_strangers(text.classes, options.data.unseen, ())
    return notes


def _facts(setup: Setup, progress: Progress, score: Score, train_score: Score, leaking: Leaking) -> dict[str, Any]:
    train, unseen, fabric = setup.options.train, setup.options.data.unseen, setup.fabric
    among = open_score(score, set(setup.inputs.class_names) - set(unseen))
    facts = {
        "config": to_dict(setup.options),
        "parameters": parameter_count(setup.run.model),
        "alignment": _alignment_cost(setup),
        "scored_weights": "average" if train.average else "last",
        "steps": setup.steps,
        "text": {
            **setup.inputs.text.facts(),
            "leaking": leaking.is_leaking,
            "agreement": None if leaking.agreement is None else leaking.agreement.to_dict(),
        },
        "open_vocabulary": None if among is None else {"unseen_names": list(unseen), **among.to_dict()},
        "train_score": {"miou": train_score.miou, "images": len(train_score.images)},
        "groups": [{**dataclasses.asdict(row), "names": list(row.names)} for row in setup.groups],
        "best": None if train.select_split is None else {"miou": progress.best, "step": progress.best_step},
        "versions": versions(),
        "threads": torch.get_num_threads(),
        "precision": setup.precision,
        "device": str(fabric.device),
        **{name: value for name, value in computed_with(fabric.device).items() if name in ("processor", "machine")},
    }
    if fabric.world_size > 1:
        facts["processes"] = fabric.world_size
    if setup.values is not None:
        facts["values"] = setup.values
    return facts


def _alignment_cost(setup: Setup) -> dict[str, dict[str, Any]]:
    """Return what the alignments cost on one image with the most tokens that any image has; empty without text."""
    text = setup.inputs.text
    if text.bank is None:
        return {}
    tokens = text.facts().get("tokens")
    count = tokens if isinstance(tokens, int) and tokens > 0 else len(text.bank.sentences)
    return alignment_cost(setup.run.model, setup.run.size, count, text.bank.dim, setup.objective.class_features)
