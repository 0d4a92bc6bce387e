"""The functions that the package offers; the command line calls these and nothing else."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from semalign.config import Options, flatten, kind_of, read_options, resolve_defaults
from semalign.config.kinds import SCENES_OPTIONS
from semalign.config.reader import settings as parse_settings
from semalign.data.open import open_data
from semalign.data.sample import DataSource
from semalign.errors import ConfigError, nearest
from semalign.execution import Events, Execution
from semalign.inspection.counterfactuals import score_counterfactuals
from semalign.inspection.text_use import Counterfactual, TextUse, judge_text_use
from semalign.layout import RESULT, STATE
from semalign.model.segmenter import Segmenter
from semalign.results import RunResult, Score, read_result, write_result
from semalign.train.evaluation import make_question
from semalign.train.folder import claim_run_folder, claimed, is_finished
from semalign.train.inputs import prepare_inputs
from semalign.train.leaking import NOT_LEAKING, Leaking, find_leaking
from semalign.train.loop import fit
from semalign.train.parallel import global_rank, make_fabric
from semalign.train.predict import check_images, predict_files, write_prediction
from semalign.train.run import TrainedRun, build_model, load_run
from semalign.train.setup import model_for
from semalign.train.trackers import check_trackers
from semalign.train.vocabulary import OpenScore, open_score
from semalign.wording import Message

__all__ = [
    "Evaluation",
    "build",
    "evaluate",
    "export",
    "load",
    "open_source",
    "predict",
    "resolve",
    "train",
]

EVALUATION_FORMAT = 1


def resolve(
    data: str | Path,
    *,
    config: Path | None = None,
    settings: Sequence[str] = (),
    overrides: Mapping[str, Any] | None = None,
) -> Options:
    """Return the options of a run on ``data``: defaults of its kind, the file, overrides, settings, in this order."""
    options = read_options(config, settings, overrides=overrides)
    return resolve_defaults(options, kind_of(data))


def open_source(data: str | Path, options: Options, *, scan: bool = True) -> DataSource:
    """Open what ``data`` names, with the options that scenes are made from."""
    assert options.data.size is not None
    return open_data(
        data,
        scan=scan,
        necessity=options.data.necessity,
        n_train=options.data.n_train,
        n_val=options.data.n_val,
        scenes_size=options.data.size,
        scenes_seed=options.data.scenes_seed,
    )


def build(n_classes: int, text_dim: int | None = None, *, class_dim: int | None = None, **overrides: Any) -> Segmenter:
    """Build a segmenter.

    Args:
        n_classes: classes of the `linear` classifier.
        text_dim: width of the text features; None builds it without text.
        class_dim: width of the class sentences' features for the `text` classifier; by default ``text_dim``.
        **overrides: options by dotted or nested name, such as ``**{"model.size": "small"}``.

    Raises:
        ConfigError: an unknown option, heads that do not divide a width, a dead temperature and the like.
    """
    options = read_options(overrides=overrides)
    return build_model(options, n_classes, text_dim, class_dim or text_dim, seed=options.train.seed)


def train(
    data: str | Path,
    *,
    out: str | Path | None = None,
    config: str | Path | None = None,
    resume: bool = False,
    scan: bool = True,
    device: str = "auto",
    settings: Sequence[str] = (),
    events: Events | None = None,
    command: str | None = None,
    audit: bool = True,
    **overrides: Any,
) -> tuple[TrainedRun, RunResult]:
    """Train one run and score its validation split.

    Args:
        data: a folder, or "scenes".
        out: folder for config.yaml, command.txt, weights.safetensors and result.json; None keeps nothing on disk.
        config: YAML file of options.
        resume: resume the run that ``out`` holds; a finished one is loaded.
        scan: check the data in full first.
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".
        settings: options as "a.b=c".
        events: functions that are called while training.
        command: kept in command.txt.
        audit: look first for parameters that cannot learn, and stop where there is one that the options do not declare;
            the findings are kept in the result's facts.
        **overrides: options by dotted or nested name, such as ``**{"train.epochs": 3}`` or ``train={"epochs": 3}``.

    Returns:
        The run in evaluation mode, and its result.

    Raises:
        SemalignError: options, data, text or the folder do not fit; nothing has been written then.
        AuditError: a parameter cannot learn.
    """
    options = resolve(data, config=None if config is None else Path(config), settings=settings, overrides=overrides)
    folder = None if out is None else Path(out)
    how = Execution(device, scan=scan, audit=audit, events=events or Events())
    return _train(data, options, folder, how, command=command or _command(), resume=resume)


def _train(
    data: str | Path, options: Options, folder: Path | None, how: Execution, *, command: str, resume: bool
) -> tuple[TrainedRun, RunResult]:
    """Prepare everything that can fail, then claim the folder and train."""
    check_trackers(options.train.tracker, folder)
    source = open_source(data, options, scan=how.scan)
    train = options.train
    fabric = make_fabric(
        how.device, devices=train.devices, nodes=train.nodes, unused=options.model.backbone is not None
    )
    # Of several processes the first one looks, writes and speaks.
    is_first = global_rank(fabric) == 0
    if folder is not None and is_finished(folder):
        # Only read, perhaps from where nothing can be written.
        claim_run_folder(folder, options, command, resume=resume)
        return load_run(folder), read_result(folder / RESULT)
    inputs = prepare_inputs(source, options)
    model = model_for(options, inputs.class_names, inputs.text)
    facts: dict[str, Any] = {}
    if how.audit and is_first:
        from semalign.inspection.options import audit_inputs, refuse_errors

        report = audit_inputs(inputs, options, model=model, device=fabric.device)
        refuse_errors(report, "the model")
        facts["audit"] = report.to_dict()
    if folder is None or not is_first:
        fabric.launch()
        return fit(inputs, options, out=folder, fabric=fabric, events=how.events, facts=facts, model=model)
    with claimed(folder, options, command, resume=resume) as has_finished:
        if has_finished:
            return load_run(folder), read_result(folder / RESULT)
        # Starts the other processes, which come here by the same way, now that nothing but the training can fail.
        fabric.launch()
        run, result = fit(inputs, options, out=folder, fabric=fabric, events=how.events, facts=facts, model=model)
        write_result(folder / RESULT, result)
        (folder / STATE).unlink(missing_ok=True)
    return run, result


def load(run: str | Path) -> TrainedRun:
    """Load a run's folder, or one of its weights files.

    Raises:
        CheckpointError: missing, damaged, of another format version, or no run.
    """
    return load_run(Path(run))


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Scores of a run on one split.

    Attributes:
        score: with the text as the run was trained with it.
        counterfactuals: with the text changed; empty unless asked for.
        notes: what a reader must know.
        leaking: whether the text is made from the masks that are scored, and how that is known.
        text_use: whether the model uses its text; None unless counterfactuals were asked for.
        among: mean IoU of the classes that the run was trained on and of the others; None where it was trained on all.
    """

    score: Score
    counterfactuals: tuple[Counterfactual, ...]
    notes: tuple[Message, ...]
    leaking: Leaking = NOT_LEAKING
    text_use: TextUse | None = None
    among: OpenScore | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the contract's JSON: IoU and mIoU in [0, 1]."""
        value: dict[str, Any] = {
            "format": EVALUATION_FORMAT,
            "split": self.score.split,
            "miou": self.score.miou,
            "iou": self.score.iou,
            "n_images": len(self.score.images),
            "absent": list(self.score.absent),
            "notes": [str(note) for note in self.notes],
            "leaking": self.leaking.is_leaking,
        }
        if self.among is not None:
            value |= self.among.to_dict()
        if self.leaking.agreement is not None:
            value["text_agreement"] = self.leaking.agreement.to_dict()
        if self.text_use is not None:
            value["text_use"] = self.text_use.to_dict()
        if self.counterfactuals:
            value["counterfactuals"] = {
                item.name: {"applies": False, "why": str(item.why)}
                if item.score is None
                else {
                    "applies": True,
                    "miou": item.score.miou,
                    "difference": item.score.miou - self.score.miou,
                    "interval": None if item.interval is None else [item.interval.low, item.interval.high],
                    "p": None if item.interval is None else item.interval.p,
                }
                for item in self.counterfactuals
            }
        return value


def evaluate(
    run: str | Path | TrainedRun,
    data: str | Path,
    *,
    split: str = "val",
    flip: bool = False,
    window: tuple[int, int] | None = None,
    counterfactuals: bool = False,
    scan: bool = True,
    device: str = "auto",
    settings: Sequence[str] = (),
    progress: Any = None,
) -> Evaluation:
    """Score a run on a split at each mask's own size.

    Args:
        run: a run's folder, a weights file, or a loaded run.
        data: a folder, or "scenes" (drawn as for training unless ``settings`` say otherwise).
        split: the split to score.
        flip: average with the mirrored image.
        window: H x W of windows over the image at its own size.
        counterfactuals: also score with the text removed, shuffled, permuted and replaced.
        scan: check the data in full first.
        device: where to compute.
        settings: data options ("data.necessity=0") for scenes.
        progress: called with (images done, images) while scoring.

    Raises:
        SemalignError: the run, the data or the text do not fit.
    """
    trained = run if isinstance(run, TrainedRun) else load(run)
    source = open_source(data, _scenes_options(trained.options, data, settings), scan=scan)
    device_used = make_fabric(device).device
    question = make_question(trained, source, split, device_used, flip=flip, window=window)
    score = question.score(progress=progress or Events().images_done)
    among = open_score(score, trained.trained_names)
    leaking = find_leaking(question.text, score)
    found = Evaluation(score, (), (*question.notes, *leaking.notes), leaking, among=among)
    if not counterfactuals:
        return found
    changed = score_counterfactuals(
        lambda text: question.score(text, progress or Events().images_done),
        question.text,
        source,
        split,
        true=score,
        encode=question.encode,
    )
    clusters = source.clusters(split)
    use = judge_text_use(score, changed, [clusters[name] for name in score.images])
    return dataclasses.replace(found, counterfactuals=tuple(changed), text_use=use)


def _scenes_options(options: Options, data: str | Path, settings: Sequence[str]) -> Options:
    """Return the options of a run with settings of the scenes that it is evaluated on."""
    if not settings:
        return options
    for name in flatten(parse_settings(settings)):
        if data != "scenes" or name not in SCENES_OPTIONS:
            close = nearest(name, SCENES_OPTIONS)
            raise ConfigError(f"--set {name} has no effect on a trained run, expected options of scenes{close}")
    return read_options(None, settings, overrides=options.model_dump(mode="json", exclude_none=True))


def predict(
    run: str | Path | TrainedRun,
    images: Sequence[str | Path],
    *,
    out: str | Path,
    text: Sequence[str] = (),
    classes: Sequence[str] = (),
    attention: bool = False,
    depth: str | Path | None = None,
    flip: bool = False,
    window: tuple[int, int] | None = None,
    device: str = "auto",
) -> list[dict[str, Any]]:
    """Write NAME.mask.png (class indices) and NAME.overlay.png (with a legend) for each image, in constant memory.

    Args:
        run: a run's folder, a weights file, or a loaded run.
        images: image files.
        out: folder for the pictures; pictures of the same name are replaced.
        text: sentences that guide every image, in place of the text the run was trained with.
        classes: class names to answer for; needs the `text` classifier.
        attention: also write NAME.attention.png, a map per alignment site and sentence; beyond twelve sentences
            NAME.attention-2.png and so on show the others.
        depth: folder that holds NAME.png with the depth of NAME, for a run trained with depth.
        flip: average with the mirrored image.
        window: H x W of windows over the image at its own size.
        device: where to compute.

    Returns:
        Per image: image, mask, overlay (and attention) as paths, classes (share of pixels by name), notes.

    Raises:
        SemalignError: the run, an image or the text do not fit; files written before are kept.
    """
    trained = run if isinstance(run, TrainedRun) else load(run)
    trained.model.to(make_fabric(device).device).eval()
    paths = [Path(image) for image in images]
    check_images(paths)
    predictions = predict_files(
        trained,
        paths,
        texts=text,
        classes=classes,
        attention=attention,
        depth_folder=None if depth is None else Path(depth),
        flip=flip,
        window=window,
    )
    return [write_prediction(prediction, Path(out)) for prediction in predictions]


def export(
    run: str | Path | TrainedRun,
    out: str | Path,
    *,
    text: str = "folded",
    size: tuple[int, int] | None = None,
    check: bool = True,
) -> dict[str, Any]:
    """Write a run as one ONNX file, see `semalign.share.onnx.export_onnx`.

    Args:
        run: a run's folder, a weights file, or a loaded run.
        out: the file.
        text: "folded" (the run's own text is built in) or "input" (other sentences can guide it).
        size: H x W of every image; None leaves them free.
        check: compare the file with torch in onnxruntime before it is written.

    Returns:
        What the file takes and gives: inputs, outputs, classes, size, sentences, text; and parity, what was measured.

    Raises:
        SemalignError: the run or its text do not fit, the extra `onnx` is not installed, or the file answers otherwise.
    """
    from semalign.share.onnx import export_onnx

    trained = run if isinstance(run, TrainedRun) else load(run)
    return export_onnx(trained, Path(out), text=text, size=size, check=check).to_dict()  # type: ignore[arg-type]


def _command() -> str:
    return " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]) if sys.argv[0] else "semalign.train(...)"
