"""The training loop: a page that reads from top to bottom.

A run depends on its options, its data and its seed alone.  Everything random at a step is drawn from a stream named
after that step, so that a run that was stopped goes on with the same bits.  It knows nothing of studies.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import importlib.metadata
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.nn import functional as F

import semalign
from semalign.config import Options, to_dict
from semalign.data.batches import (
    DepthScale,
    ImageSet,
    ScoredSet,
    augmented_batch,
    epoch_order,
    load_images,
    load_scored,
)
from semalign.data.sample import DataSource
from semalign.data.transforms import Augmentation
from semalign.errors import CheckpointError, ConfigError, DataError, SemalignError, first_line
from semalign.metrics import IGNORE
from semalign.model.build import nudge
from semalign.model.segmenter import Segmenter
from semalign.model.text_fusion import Alignment, alignment_sites, recording, taking_what_was_learned
from semalign.results import Curve, RunResult, Score
from semalign.seeds import derive_seed, numpy_generator
from semalign.tensors_file import read_tensors, write_tensors
from semalign.text.bank import TextBank
from semalign.train.alignment_cost import alignment_cost
from semalign.train.evaluate import Predictor, score_split
from semalign.train.folder import STATE_FILE
from semalign.train.leaking import find_leaking
from semalign.train.optimizer import GroupRow, learning_rate_factor, make_optimizer, parameter_groups
from semalign.train.parallel import (
    labelled_weight,
    make_fabric,
    mean_records,
    own_share,
    parts_of,
    share_statistics,
    shared_score,
    sum_over_processes,
)
from semalign.train.precision import autocast, choose_precision, compiled, make_scaler
from semalign.train.recompute import recomputing
from semalign.train.run import BEST_FILE, WEIGHTS_FILE, TrainedRun, build_model, parameter_count, save_run, take_values
from semalign.train.run_text import RunText, encode_classes, prepare_run_text, text_keywords
from semalign.train.trackers import Follower
from semalign.train.vocabulary import (
    check_unseen,
    compact_labels,
    hide_classes,
    notes_of_strangers,
    open_score,
    seen_places,
)

__all__ = [
    "Events",
    "Inputs",
    "TrainingDiverged",
    "check_source",
    "fit",
    "make_fabric",
    "prepare_inputs",
    "prepare_text",
    "train_score_names",
]

SAVE_EVERY_SECONDS = 20.0
RECORDS = 60
"""About how many points a curve has."""
TRAIN_SCORE_IMAGES = 100
"""Training images scored at the end, for the gap between training and validation."""
REMEDY = "lower train.lr or set train.clip_norm"
COARSEST_STRIDE = 32


class TrainingDiverged(SemalignError, ArithmeticError):  # noqa: N818 (named for what happened)
    """The loss, or what was learned, is no longer a finite number.

    Attributes:
        at: where: step, and images where it was the loss of a batch.
    """

    def __init__(self, message: str, **at: Any) -> None:
        super().__init__(message)
        self.at = at


@dataclasses.dataclass(frozen=True)
class Inputs:
    """Everything that a run reads, decoded and encoded.

    Attributes:
        source: the data.
        images: the training split.
        guidance: the text of the training and the scored splits.
        class_bank: class sentences for the `text` classifier, else None.
        depth_scale: how depth is standardised, or None.
        scored: by split, what scoring it reads; a split that is not here is decoded whenever it is scored.
    """

    source: DataSource
    images: ImageSet
    guidance: RunText
    class_bank: TextBank | None
    depth_scale: DepthScale | None
    scored: Mapping[str, ScoredSet] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass
class Events:
    """What a caller may watch; each is called with plain values.

    Attributes:
        started: the parameter groups and the number of steps, once.
        stepped: (step, steps, loss) after each step.
        scored: (step, name, mIoU in [0, 1]) after each score.
    """

    started: Callable[[list[GroupRow], int], None] = lambda rows, steps: None
    stepped: Callable[[int, int, float], None] = lambda step, steps, loss: None
    scored: Callable[[int, str, float], None] = lambda step, name, miou: None


def prepare_inputs(source: DataSource, options: Options) -> Inputs:
    """Decode the training split and encode all text that a run with ``options`` reads.

    Raises:
        DataError: a file is broken, a split is missing or empty, or there is no depth where it is asked for.
        TextError: there is no text of the kind asked for.
    """
    data = options.data
    assert data.size is not None
    check_source(source, options)
    check_unseen(options, source.class_names)
    guidance, classes = prepare_text(source, options)
    images = load_images(source, data.train_split, depth=data.depth, size=data.size, zoom=max(1.0, data.zoom[1]))
    if data.unseen:
        images = hide_classes(images, source.class_names, data.unseen)
    scored = {}
    for split in _splits(options):
        # Of the training split a part is scored, unless it is also another split of the run.
        is_part = split == data.train_split and split not in (data.val_split, options.train.select_split)
        names = train_score_names(images.names) if is_part else source.names(split)
        found = load_scored(source, split, names, size=data.size, depth=data.depth)
        if found is not None:
            scored[split] = found
    return Inputs(source, images, guidance, classes, images.depth_scale() if data.depth else None, scored)


def train_score_names(names: Sequence[str]) -> tuple[str, ...]:
    """Return the training images that are scored at the end: all, or `TRAIN_SCORE_IMAGES` of them, always the same."""
    count = min(len(names), TRAIN_SCORE_IMAGES)
    chosen = numpy_generator(0, "train score").choice(len(names), count, replace=False)
    return tuple(names[place] for place in sorted(chosen.tolist()))


def check_source(source: DataSource, options: Options) -> None:
    """Tell what a run with ``options`` would lack, before much is decoded.

    Raises:
        DataError: a split is missing, empty or without a label, or there is no depth where it is asked for.
        ConfigError: a batch is too small to be normalised.
    """
    data = options.data
    assert data.size is not None
    if data.depth and not source.has_depth:
        raise DataError(f"data.depth=true, but the {source.kind} data have no depth, expected depth/SPLIT/NAME.png")
    for split in _splits(options):
        # The first labelled mask ends the search.
        if not any(source.mask_classes(split, name) for name in source.names(split)):
            raise DataError(
                f"the masks of the split '{split}' hold only {IGNORE} (ignored), expected a pixel of at least one "
                "class: label some, or name another split"
            )
    train = options.train
    batch = min(train.batch_size, len(source.names(data.train_split)))
    own_share(batch, 0, train.devices * train.nodes, train.accumulate)
    # Batch norms see the images of all processes, and one part at a time.
    batch //= train.accumulate
    if batch * math.prod(-(-side // COARSEST_STRIDE) for side in data.size) < 2:
        raise ConfigError(
            f"a batch of {batch} image at data.size={list(data.size)} has one position at the coarsest stage, which "
            "batch norm cannot normalise, expected two: set a larger train.batch_size or data.size, or a smaller "
            "train.accumulate"
        )


def _splits(options: Options) -> list[str]:
    """Return the splits that a run reads, each once."""
    splits = (options.data.train_split, options.data.val_split, options.train.select_split)
    return list(dict.fromkeys(split for split in splits if split is not None))


def prepare_text(source: DataSource, options: Options) -> tuple[RunText, TextBank | None]:
    """Return the text of the splits that a run with ``options`` reads, and the class sentences of a text classifier.

    Raises:
        TextError: there is no text of the kind asked for.
    """
    data = options.data
    assert data.text is not None
    guidance = prepare_run_text(
        source,
        _splits(options),
        kind=data.text,
        random_seed=options.text.random_seed,
        unseen=data.unseen,
        **text_keywords(options.text),
    )
    classes = None
    if options.model.classifier == "text":
        # Pixels are compared with whole sentences, whatever guides.
        said = {**text_keywords(options.text), "level": "sentence"}
        classes = encode_classes(class_names=source.class_names, **said)
    return guidance, classes


@dataclasses.dataclass
class _Progress:
    """What a stopped run needs beside tensors; plain values."""

    step: int = 0
    curves: dict[str, Curve] = dataclasses.field(default_factory=dict)
    seconds: float = 0.0
    best: float = -1.0
    best_step: int = -1
    scaler: dict[str, float] = dataclasses.field(default_factory=dict)

    def add(self, name: str, value: float) -> None:
        if not math.isfinite(value):
            raise TrainingDiverged(
                f"{name} is {value} at step {self.step}, expected a finite number: {REMEDY}", step=self.step
            )
        self.curves.setdefault(name, []).append((self.step, value))


def fit(
    inputs: Inputs,
    options: Options,
    *,
    out: Path | None = None,
    arm: str = "",
    fabric: Fabric | None = None,
    events: Events | None = None,
    facts: Mapping[str, Any] | None = None,
    root: Path | None = None,
    model: nn.Module | None = None,
) -> tuple[TrainedRun, RunResult]:
    """Train and score one run; with ``out`` go on from the state saved there and save the state now and then.

    Args:
        inputs: from `prepare_inputs` with the same options.
        options: resolved options.
        out: an existing folder for the state, the weights and, with ``train.select_split``, the best weights.
        arm: the arm's name in a study.
        fabric: where to compute; by default one automatic device.
        events: what to call while training.
        facts: plain facts to keep in the result.
        root: what ``align.values_from`` is relative to; by default the working folder.
        model: trained in place of the segmenter that the options describe, and called as that is; its weights are saved
            and `load_run` does not know how to build it again.

    Returns:
        The run with the scored weights, and its result; the caller writes the result.

    Raises:
        TrainingDiverged: the loss is not finite.
        CheckpointError: the saved state is damaged or of another run.
    """
    fabric = fabric or make_fabric()
    events = events or Events()
    _check_processes(options, fabric)
    with torch.random.fork_rng(devices=[]), contextlib.ExitStack() as stack:
        return _fit(inputs, options, out, arm, fabric, events, dict(facts or {}), root or Path(), model, stack)


def _check_processes(options: Options, fabric: Fabric) -> None:
    train = options.train
    if fabric.world_size != train.devices * train.nodes:
        raise ConfigError(
            f"train.devices={train.devices} and train.nodes={train.nodes} in a run that has {fabric.world_size} "
            "process(es), expected as many: `semalign train` starts them, a study computes each run on one device"
        )
    if train.compile and (fabric.world_size > 1 or train.checkpointing):
        raise ConfigError(
            "train.compile=true with several devices or train.checkpointing, expected one of them: leave one out"
        )


def _fit(
    inputs: Inputs,
    options: Options,
    out: Path | None,
    arm: str,
    fabric: Fabric,
    events: Events,
    facts: dict[str, Any],
    root: Path,
    other: nn.Module | None,
    stack: contextlib.ExitStack,
) -> tuple[TrainedRun, RunResult]:
    train, data = options.train, options.data
    assert train.epochs is not None
    assert data.size is not None
    source, images, guidance = inputs.source, inputs.images, inputs.guidance
    n_images, n_classes = len(images.names), len(source.class_names)

    # The model, and an average of its weights that is scored.
    bank, classes = guidance.bank, inputs.class_bank
    model = (
        cast("Segmenter", other)
        if other is not None
        else build_model(
            options,
            n_classes,
            None if bank is None else bank.dim,
            None if classes is None else classes.dim,
            seed=train.seed,
        )
    )
    if options.align.values_from is not None:
        facts["values"] = take_values(model, root / options.align.values_from)
    if train.nudge:
        nudge(model, train.nudge, train.seed)
    rows, groups = parameter_groups(
        model, lr=train.lr, scalar_lr=train.scalar_lr, decay=train.weight_decay, scalar_decay=train.scalar_decay
    )
    sites = alignment_sites(model)
    stillborn = [path for path, site in sites.items() if site.temperature.liveness == "dead"]
    stack.enter_context(taking_what_was_learned(model))
    precision = choose_precision(train.precision, fabric.device)
    scaler = make_scaler(precision, fabric.device)
    model.to(fabric.device)
    optimizer = make_optimizer(model, groups)
    if train.checkpointing:
        stack.enter_context(recomputing(model))
    if fabric.world_size > 1:
        stack.enter_context(share_statistics(model))
    wrapped, _ = fabric.setup(model, optimizer)
    # Not through Fabric, which would compile its own wrapper anew.
    forward = compiled(model, fabric.device) if train.compile else wrapped
    # Aliases of the model's tensors: steps and loading write into these and never replace them.
    state = model.state_dict()
    average = {name: tensor.detach().clone() for name, tensor in state.items()}

    batch_size = min(train.batch_size, n_images)
    per_epoch = n_images // batch_size
    steps = per_epoch * train.epochs
    share = own_share(batch_size, fabric.global_rank, fabric.world_size, train.accumulate)
    # The plain mean of one process is left to torch; the same sums in parts differ from it by rounding.
    is_shared = fabric.world_size * train.accumulate > 1
    weights = class_weights(images, n_classes, train.loss.class_weights)
    weights = None if weights is None else weights.to(fabric.device)
    class_features = None if classes is None else classes.features.to(fabric.device)
    labels = None
    if data.unseen:
        places = seen_places(source.class_names, data.unseen).to(fabric.device)
        labels = compact_labels(places)
        weights = None if weights is None else weights[places]
        class_features = None if class_features is None else class_features[places]
    run = TrainedRun(model, options, tuple(source.class_names), bank, classes, inputs.depth_scale, {})
    identity = _identity(options, source, data.train_split)
    progress = _Progress()
    state_file = None if out is None else out / STATE_FILE
    if state_file is not None and state_file.exists():
        progress = _restore(state_file, identity, model, optimizer, average)
        scaler.load_state_dict(progress.scaler)
    if not fabric.is_global_zero:
        # One process speaks and writes for all.
        out, state_file, events = None, None, Events()
    events.started(rows, steps)
    trackers = Follower(
        train.tracker if fabric.is_global_zero else (),
        out,
        options=options,
        title=_title(arm, train.seed, out),
        step=progress.step,
        rate=lambda step: {f"lr/{row.role}": row.lr * learning_rate_factor(step, steps, train.warmup) for row in rows},
    )
    stack.callback(trackers.close)
    trackers.follow(progress.curves)

    augmentation = Augmentation(data.zoom, data.flip, data.color)
    loss_size = tuple(-(-side // train.loss.stride) for side in data.size)
    record_every = max(1, steps // RECORDS)
    started = saved = time.monotonic()
    seconds_before = progress.seconds
    model.train()
    while progress.step < steps:
        step = progress.step
        epoch, place = divmod(step, per_epoch)
        index = epoch_order(n_images, train.seed, epoch)[place * batch_size : (place + 1) * batch_size]
        batch = augmented_batch(
            images,
            index,
            size=data.size,
            augmentation=augmentation,
            depth_scale=inputs.depth_scale,
            seed=train.seed,
            step=step,
            share=share if is_shared else None,
        )
        text, is_padding = guidance.batch(data.train_split, batch.index)
        image, mask, depth, text, is_padding = (
            None if part is None else part.to(fabric.device)
            for part in (batch.image, batch.mask, batch.depth, text, is_padding)
        )
        assert image is not None
        assert mask is not None
        if train.loss.stride > 1:
            mask = mask[:, :: train.loss.stride, :: train.loss.stride]
        if labels is not None:
            mask = labels[mask]
        factor = learning_rate_factor(step, steps, train.warmup)
        for group in optimizer.param_groups:
            group["lr"] = factor * group["peak_lr"]
        is_recorded = step % record_every == 0 or step == steps - 1
        # Recording would be compiled as a step of its own.
        call = wrapped if is_recorded else forward
        optimizer.zero_grad(set_to_none=True)
        # What the loss of all images is divided by; every part needs it before its backward.
        whole = sum_over_processes(labelled_weight(mask, weights, IGNORE)) if is_shared else None
        value = torch.zeros((), device=fabric.device)
        records = []
        for part in parts_of(len(mask), train.accumulate):
            first = share.start + part.start
            _seed_dropout(fabric.device, derive_seed(train.seed, "dropout", step, *([first] if first else [])))
            with _gradients_stay(fabric, wrapped, is_last=part.stop == len(mask)):
                with _recording(model, is_recorded) as record, autocast(precision, fabric.device):
                    logits = call(
                        image[part],
                        text if text is None or text.ndim == 2 else text[part],
                        is_padding if is_padding is None or is_padding.ndim == 1 else is_padding[part],
                        depth=None if depth is None else depth[part],
                        class_features=class_features,
                        size=loss_size,
                    )
                loss = _loss(logits.float(), mask[part], weights, train.loss.label_smoothing, whole)
                # DDP takes the mean over processes, of losses that are to be added.
                fabric.backward(scaler.scale(loss if whole is None else loss * fabric.world_size))
            value += loss.detach()
            records.append(record)
        total = float(sum_over_processes(value) if is_shared else value)
        if not math.isfinite(total):
            raise TrainingDiverged(
                f"the loss is {total} at step {step} of {steps} (epoch {epoch}, images "
                f"{', '.join(images.names[i] for i in index[:3])}, ...), expected a finite number: {REMEDY}",
                step=step,
                images=[images.names[i] for i in index],
            )
        scaler.unscale_(optimizer)
        if train.clip_norm is not None:
            nn.utils.clip_grad_norm_(model.parameters(), train.clip_norm)
        if is_recorded:
            progress.add("train/loss", total)
            for site, numbers in mean_records(records, list(sites), fabric).items():
                for name, number in numbers.items():
                    progress.add(f"{site}/{name}", number)
                norm = _gradient_norm(model.get_submodule(site))
                # Where half precision overflows, the scaler leaves the step out and lowers its scale.
                if precision != "fp16" or math.isfinite(norm):
                    progress.add(f"{site}/grad_norm", norm)
        scaler.step(optimizer)
        scaler.update()
        progress.step += 1
        _update_average(average, state, train.average, progress.step)
        events.stepped(progress.step, steps, total)

        is_last = progress.step == steps
        if progress.step % per_epoch == 0 and not is_last:
            done = progress.step // per_epoch
            if train.val_every and done % train.val_every == 0:
                score = _score_average(run, average, inputs, data.val_split)
                progress.add("val/miou", score.miou)
                events.scored(progress.step, data.val_split, score.miou)
            if train.select_split is not None and done % max(1, train.val_every) == 0:
                _keep_best(run, average, inputs, progress, out, events)
        trackers.follow(progress.curves)
        if state_file is not None and time.monotonic() - saved > SAVE_EVERY_SECONDS:
            progress.seconds = seconds_before + time.monotonic() - started
            progress.scaler = scaler.state_dict()
            _save(state_file, identity, model, optimizer, average, progress)
            saved = time.monotonic()
    train_seconds = seconds_before + time.monotonic() - started

    # Score the averaged (or last) weights.
    for name, tensor in average.items():
        if not bool(tensor.isfinite().all()):
            raise TrainingDiverged(
                f"the weights {name} are not finite after step {steps}, expected numbers: {REMEDY}", step=steps
            )
    if train.select_split is not None:
        _keep_best(run, average, inputs, progress, out, events)
    dead = [
        f"the temperature of {path} is learnable in name only: outside its clamp its gradient is exactly 0"
        for path in stillborn
    ]
    dead += _died({path: site for path, site in sites.items() if path not in stillborn})
    model.load_state_dict(average)
    model.eval()
    started = time.monotonic()
    score = _score(run, inputs, data.val_split)
    progress.add("val/miou", score.miou)
    events.scored(progress.step, data.val_split, score.miou)
    chosen = train_score_names(images.names)
    train_score = _score(run, inputs, data.train_split, chosen)
    trackers.follow(progress.curves)
    trackers.close(score)
    notes = [*facts.pop("notes", []), *dead, *trackers.notes]
    if train.select_split == data.val_split:
        notes.append(
            f"{BEST_FILE} was chosen by its score on the split '{data.val_split}' that is also scored: "
            "its score there is too high; the score given here is of the averaged weights of the last step"
        )
    if guidance.is_shared:
        notes.append("the text is the same for all images and carries no information about any one of them")
    notes += dict.fromkeys(note for part in (bank, classes) if part is not None for note in part.notes)
    if data.unseen:
        notes.append(f"left out of training (data.unseen): {', '.join(data.unseen)}")
        assert classes is not None
        notes += notes_of_strangers(classes, data.unseen, ())
    leaking = find_leaking(guidance, source, score)
    notes += leaking.notes
    among = open_score(score, set(source.class_names) - set(data.unseen))
    run.facts = {
        "fingerprints": {data.train_split: source.fingerprint(data.train_split)},
        "select_split": train.select_split,
        "notes": notes,
    }
    if out is not None:
        save_run(out / WEIGHTS_FILE, run, average)
    result = RunResult(
        arm=arm,
        seed=train.seed,
        status="finished",
        score=score,
        curves=progress.curves,
        facts={
            "config": to_dict(options),
            "parameters": parameter_count(model),
            "alignment": {} if bank is None else _alignment_cost(model, data.size, guidance, class_features),
            "scored_weights": "average" if train.average else "last",
            "steps": steps,
            "text": {
                **guidance.facts(),
                "leaking": leaking.is_leaking,
                "agreement": None if leaking.agreement is None else leaking.agreement.to_dict(),
            },
            "open_vocabulary": None if among is None else {"unseen_names": list(data.unseen), **among.to_dict()},
            "train_score": {"miou": train_score.miou, "images": len(chosen)},
            "groups": [{**dataclasses.asdict(row), "names": list(row.names)} for row in rows],
            "best": None if train.select_split is None else {"miou": progress.best, "step": progress.best_step},
            "versions": versions(),
            "threads": torch.get_num_threads(),
            "precision": precision,
            **({"processes": fabric.world_size} if fabric.world_size > 1 else {}),
            "device": str(fabric.device),
            "notes": notes,
            **facts,
        },
        timings={"train": train_seconds, "score": time.monotonic() - started},
    )
    return run, result


def _alignment_cost(
    model: Segmenter, size: tuple[int, int], guidance: RunText, class_features: Tensor | None
) -> dict[str, dict[str, Any]]:
    """Return what the alignments cost on one image with the most tokens that any image has."""
    assert guidance.bank is not None
    tokens = guidance.facts().get("tokens")
    count = tokens if isinstance(tokens, int) and tokens > 0 else len(guidance.bank.sentences)
    return alignment_cost(model, size, count, guidance.bank.dim, class_features)


def _seed_dropout(device: torch.device, seed: int) -> None:
    if device.type == "cpu":
        # torch.manual_seed would also keep the call, with its stack, for each kind of device that may come later.
        torch.default_generator.manual_seed(seed)
    else:
        torch.manual_seed(seed)


def _loss(logits: Tensor, mask: Tensor, weights: Tensor | None, smoothing: float, whole: Tensor | None) -> Tensor:
    """Return the mean over the labelled pixels, or this part of it where ``whole`` is what all parts are divided by."""
    is_empty = float(whole) == 0 if whole is not None else not bool((mask != IGNORE).any())
    if is_empty:
        # A view without a label teaches nothing; the mean over no pixel would be NaN.
        return 0 * logits.sum()
    reduction = "mean" if whole is None else "sum"
    loss = F.cross_entropy(
        logits, mask, weight=weights, ignore_index=IGNORE, label_smoothing=smoothing, reduction=reduction
    )
    return loss if whole is None else loss / whole


def _gradients_stay(fabric: Fabric, wrapped: Any, *, is_last: bool) -> contextlib.AbstractContextManager[None]:
    """Return the context of a part's forward and backward: processes exchange gradients after the last part alone."""
    if fabric.world_size == 1 or is_last:
        return contextlib.nullcontext()
    return fabric.no_backward_sync(wrapped)


def _title(arm: str, seed: int, out: Path | None) -> str:
    """Return what trackers call the run."""
    return f"{arm}, seed {seed}" if arm or out is None else out.resolve().name


def _recording(model: nn.Module, is_recorded: bool) -> contextlib.AbstractContextManager[dict[str, dict[str, float]]]:
    return recording(model) if is_recorded else contextlib.nullcontext({})


def versions() -> dict[str, str]:
    """Return the versions that a run's bits depend on."""
    return {
        "semalign": semalign.__version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "lightning-fabric": importlib.metadata.version("lightning-fabric"),
    }


def class_weights(images: ImageSet, n_classes: int, power: float) -> Tensor | None:
    """Return weights frequency^-power, scaled so that a pixel's mean weight is 1; absent classes weigh 0."""
    if power == 0:
        return None
    frequency = images.class_frequency(n_classes)
    weights = np.zeros(n_classes)
    seen = frequency > 0
    weights[seen] = frequency[seen] ** -power
    return torch.tensor(weights / (weights * frequency).sum(), dtype=torch.float32)


def _update_average(average: Mapping[str, Tensor], state: Mapping[str, Tensor], decay: float, step: int) -> None:
    """Move the average towards the model; the first steps weigh more, so that the initial weights are forgotten."""
    reach = min(decay, (1 + step) / (10 + step)) if decay else 0.0
    floating = [name for name, tensor in state.items() if tensor.is_floating_point()]
    others = [name for name, tensor in state.items() if not tensor.is_floating_point()]
    with torch.no_grad():
        torch._foreach_lerp_([average[name] for name in floating], [state[name] for name in floating], 1 - reach)
        if others:
            torch._foreach_copy_([average[name] for name in others], [state[name] for name in others])


def _gradient_norm(module: nn.Module) -> float:
    squares = [float((p.grad.detach() ** 2).sum()) for p in module.parameters() if p.grad is not None]
    return math.sqrt(sum(squares))


def _score(run: TrainedRun, inputs: Inputs, split: str, names: Sequence[str] | None = None) -> Score:
    predictor = Predictor(run.model, run.size, class_features=run.class_features)

    def score(names: Sequence[str]) -> Score:
        return score_split(
            predictor,
            inputs.source,
            split,
            inputs.guidance,
            depth_scale=inputs.depth_scale,
            names=names,
            scored=inputs.scored.get(split),
        )

    return shared_score(score, inputs.source.names(split) if names is None else names, predictor.device)


def _died(sites: Mapping[str, Alignment]) -> list[str]:
    """Return notes on temperatures that could learn at the start and have left their clamp."""
    found = []
    for path, site in sites.items():
        temperature = site.temperature
        temperature.check_live()
        if temperature.liveness == "dead":
            values = ", ".join(f"{value:.4g}" for value in temperature.log_scale.detach().flatten().tolist())
            found.append(
                f"the temperature of {path} left its clamp while it was trained (l = {values}): from there on its "
                "gradient is exactly 0"
            )
    return found


def _score_average(run: TrainedRun, average: Mapping[str, Tensor], inputs: Inputs, split: str) -> Score:
    """Score the averaged weights, then put the model's own back."""
    own = {name: tensor.detach().clone() for name, tensor in run.model.state_dict().items()}
    run.model.load_state_dict(average)
    run.model.eval()
    try:
        return _score(run, inputs, split)
    finally:
        run.model.load_state_dict(own)
        run.model.train()


def _keep_best(
    run: TrainedRun,
    average: Mapping[str, Tensor],
    inputs: Inputs,
    progress: _Progress,
    out: Path | None,
    events: Events,
) -> None:
    split = run.options.train.select_split
    assert split is not None
    score = _score_average(run, average, inputs, split)
    progress.add("select/miou", score.miou)
    events.scored(progress.step, f"{split} (selection)", score.miou)
    if score.miou > progress.best:
        progress.best, progress.best_step = score.miou, progress.step
        if out is not None:
            run.facts = {"selected_on": split, "selected_step": progress.step, "selected_miou": score.miou}
            save_run(out / BEST_FILE, run, average)


def _identity(options: Options, source: DataSource, split: str) -> str:
    """Return what a saved state must agree with to be gone on from."""
    value = to_dict(options)
    # Who watches changes nothing, and a state saved before there were these options goes on.
    del value["train"]["tracker"]
    for name, default in (("devices", 1), ("nodes", 1), ("accumulate", 1), ("checkpointing", False)):
        if value["train"][name] == default:
            del value["train"][name]
    text = json.dumps([value, source.fingerprint(split)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _save(
    path: Path,
    identity: str,
    model: Segmenter,
    optimizer: torch.optim.Optimizer,
    average: Mapping[str, Tensor],
    progress: _Progress,
) -> None:
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    tensors |= {f"average.{name}": tensor for name, tensor in average.items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{key}": torch.as_tensor(value) for key, value in state.items()}
    write_tensors(path, tensors, {"identity": identity, "progress": dataclasses.asdict(progress)})


def _restore(
    path: Path,
    identity: str,
    model: Segmenter,
    optimizer: torch.optim.Optimizer,
    average: dict[str, Tensor],
) -> _Progress:
    tensors, facts = read_tensors(path)
    if facts.get("identity") != identity:
        raise CheckpointError(
            f"the state {path} belongs to other options or data, expected the run that is asked for: "
            "name another folder with --out"
        )
    try:
        own = {name: tensors[f"model.{name}"] for name in model.state_dict()}
        model.load_state_dict(own)
        for name, tensor in average.items():
            tensor.copy_(tensors[f"average.{name}"])
        # Groups (rates, decays) come from the options; only the moments are restored.
        state: dict[int, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            if name.startswith("optimizer."):
                _, index, key = name.split(".")
                state.setdefault(int(index), {})[key] = tensor
        # In memory as their parameters are, channels-last ones too: the fused step reads both in the order of memory.
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        for place, moments in state.items():
            for key, tensor in moments.items():
                if tensor.ndim and tensor.shape == parameters[place].shape:
                    moments[key] = torch.empty_like(parameters[place]).copy_(tensor)
        optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
        raw = facts["progress"]
        curves = {name: [(int(s), float(v)) for s, v in points] for name, points in raw["curves"].items()}
        return _Progress(**{**raw, "curves": curves})
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise CheckpointError(
            f"the state {path} does not fit the run ({first_line(error)}), remove it to start over"
        ) from error
