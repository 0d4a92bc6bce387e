"""A trained run as a folder in the layout of the Hugging Face hub: config.json, model.safetensors, README.md.

The weights file is the run's own (safetensors, never a pickle), so that what is shared is what was scored; the card is
made from the run's facts alone.
"""

from __future__ import annotations

import filecmp
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import semalign
from semalign.config import flatten, to_dict
from semalign.errors import CheckpointError, ConfigError, OutputError, kind_and_line
from semalign.files import read_json, write_aside, write_folder_aside, write_json, write_text
from semalign.layout import RESULT, WEIGHTS
from semalign.results import RunResult, notes_in_english, read_result
from semalign.train.run import TrainedRun, load_run, parameter_count

__all__ = ["CARD_FILE", "CONFIG_FILE", "MODEL_FILE", "from_pretrained", "model_card", "save_pretrained"]

MODEL_FILE = "model.safetensors"
CONFIG_FILE = "config.json"
CARD_FILE = "README.md"

# History of the format of config.json:
# 1: first.
FORMAT_VERSION = 1


def save_pretrained(run: str | Path, out: str | Path, *, license_name: str | None = None) -> Path:
    """Write a run's folder as a model that can be shared.

    Args:
        run: a run's folder with its weights and result, or one of its weights files, whose scores are then not known.
        out: a folder that does not exist yet, is empty, or holds this very model already.
        license_name: the licence of the weights, such as "cc-by-4.0"; None: the card says that it is not stated.

    Returns:
        ``out``.

    Raises:
        CheckpointError: the folder holds no run that has finished.
        ResultsError: its result is damaged.
        OutputError: ``out`` is not empty, or cannot be written.
    """
    run, out = Path(run), Path(out)
    trained = load_run(run)
    weights = run / WEIGHTS if run.is_dir() else run
    # A result is of the weights of the last step, not of a checkpoint that was chosen.
    is_scored = weights.name == WEIGHTS and (weights.parent / RESULT).exists()
    result = read_result(weights.parent / RESULT) if is_scored else None
    config, card = config_of(trained), model_card(trained, result, license_name=license_name)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        if _holds(out, weights, config, card):
            return out
        raise OutputError(f"the folder {out} is not empty, expected a new or an empty one: name another")
    # The folder appears whole: a part of it, left by a kill, would make the same command fail.
    with write_folder_aside(out, "model", option="--out") as aside:
        with write_aside(aside / MODEL_FILE) as temporary:
            shutil.copyfile(weights, temporary)
        write_json(aside / CONFIG_FILE, config)
        write_text(aside / CARD_FILE, card)
    return out


def _holds(out: Path, weights: Path, config: dict[str, Any], card: str) -> bool:
    """Return whether ``out`` is what is to be written: a command that was stopped at its very end may come again."""
    try:
        return (
            {path.name for path in out.iterdir()} == {MODEL_FILE, CONFIG_FILE, CARD_FILE}
            and filecmp.cmp(out / MODEL_FILE, weights, shallow=False)
            and read_json(out / CONFIG_FILE) == config
            and (out / CARD_FILE).read_text(encoding="utf-8") == card
        )
    except (OSError, ValueError):
        return False


def from_pretrained(source: str | Path, *, revision: str | None = None, local_files_only: bool = False) -> TrainedRun:
    """Load a model that `save_pretrained` wrote, from a folder or from the hub.

    Args:
        source: the folder, or OWNER/NAME on the hub (extra `hf`).
        revision: branch, tag or commit on the hub.
        local_files_only: contact no network; the hub's cache alone is looked up.

    Raises:
        CheckpointError: there is no such model, or it is damaged.
        ConfigError: a name on the hub is given and the extra `hf` is not installed.
    """
    folder = Path(source)
    if not folder.is_dir():
        folder = _download(str(source), revision, local_files_only=local_files_only)
    file = folder / MODEL_FILE
    if not file.is_file():
        raise CheckpointError(
            f"{folder} has no {MODEL_FILE}, expected a folder that save_pretrained wrote: a run's own folder is "
            "read by semalign.load"
        )
    return load_run(file)


def _download(name: str, revision: str | None, *, local_files_only: bool) -> Path:
    try:
        import huggingface_hub
    except ImportError as error:
        raise ConfigError(
            f"there is no folder {name}, and to look for it on the hub the package huggingface_hub is needed: "
            "correct the path, or pip install 'semalign[hf]'"
        ) from error
    try:
        return Path(
            huggingface_hub.snapshot_download(
                name,
                revision=revision,
                local_files_only=local_files_only,
                allow_patterns=[MODEL_FILE, CONFIG_FILE, CARD_FILE],
            )
        )
    except Exception as error:  # the library raises many kinds: of names, of networks, of permissions
        raise CheckpointError(
            f"cannot get the model {name} from the hub ({kind_and_line(error)}), "
            "expected a folder, or OWNER/NAME of a model there: correct the name, or go online"
        ) from error


def config_of(run: TrainedRun) -> dict[str, Any]:
    """Return the content of config.json: how the model was built, and its classes as the hub's tools read them."""
    return {
        "format": FORMAT_VERSION,
        "library_name": "semalign",
        "semalign_version": semalign.__version__,
        "model_type": "semalign",
        "id2label": {str(index): name for index, name in enumerate(run.class_names)},
        "label2id": {name: index for index, name in enumerate(run.class_names)},
        "image_size": list(run.size),
        "options": to_dict(run.options),
    }


def model_card(run: TrainedRun, result: RunResult | None, *, license_name: str | None = None) -> str:
    """Return the model's card in Markdown with the hub's YAML head: what it is, how it scored, what it cannot do."""
    options = flatten(to_dict(run.options))
    text = options.get("data.text")
    head = ["---", "library_name: semalign", "pipeline_tag: image-segmentation", "tags:", "- semantic-segmentation"]
    if text != "none":
        head.append("- text-guided")
    if license_name is not None:
        head.append(f"license: {license_name}")
    lines = [*head, "---", "", f"# Semantic segmentation of {len(run.class_names)} classes", ""]
    guided = "not guided by text" if text == "none" else f"guided by text ({_kind(str(text))})"
    backbone = ""
    if options.get("model.backbone") is not None:
        # The path of a folder has no meaning on other machines.
        name = str(options["model.backbone"])
        name = name if ":" in name else Path(name).name
        backbone = f" on the backbone `{name.replace('`', '')}`"
    lines += [
        f"A semalign `{options['model.size']}` segmenter{backbone}, {parameter_count(run.model):,} parameters, "
        f"{guided}, trained at {run.size[0]} x {run.size[1]}.",
        "",
        "```python",
        "import semalign",
        "",
        'run = semalign.from_pretrained("FOLDER_OR_NAME")',
        'semalign.predict(run, ["photo.jpg"], out="predictions")',
        "```",
        "",
        "## Scores",
        "",
    ]
    lines += _scores(result)
    notes = list(notes_in_english(run.facts.get("notes", [])))
    if "selected_on" in run.facts:
        notes.append(
            f"these weights, of step {run.facts['selected_step']}, were chosen by their mIoU on the split "
            f"{run.facts['selected_on']}, {100 * run.facts['selected_miou']:.1f} there, which is therefore too high"
        )
    lines += ["## Know before use", ""]
    lines += [f"- {_plain(note)}" for note in notes]
    lines += [
        *_answers(run),
        f"- License of the weights: {license_name or 'not stated'}.",
        "",
        "## Training",
        "",
    ]
    lines += [f"- {name}: `{options[name]}`" for name in TOLD if name in options]
    if result is not None:
        versions = result.facts.get("versions")
        if isinstance(versions, Mapping):
            lines.append("- versions: " + ", ".join(f"{name} {value}" for name, value in versions.items()))
        prints = run.facts.get("fingerprints")
        if isinstance(prints, Mapping):
            lines += [f"- data of the split `{split}`: SHA-256 `{sha}`" for split, sha in prints.items()]
    return "\n".join(lines) + "\n"


TOLD = (
    "model.preset",
    "model.classifier",
    "data.text",
    "data.depth",
    "text.encoder",
    "text.templates",
    "train.epochs",
    "train.batch_size",
    "train.lr",
    "train.seed",
    "train.average",
)


def _kind(text: str) -> str:
    return {
        "classes": "one sentence per class, the same for all images",
        "images": "each image's own texts",
        "masks": "class names read off each image's mask, which leaks the answer",
        "random": "random vectors in place of sentences",
    }.get(text, text)


def _scores(result: RunResult | None) -> list[str]:
    if result is None or result.score is None:
        return ["These weights have no score; `semalign evaluate` gives one.", ""]
    score = result.score
    weights = result.facts.get("scored_weights", "not recorded")
    rows = [
        f"Split `{score.split}`, {len(score.images)} images, counts summed over the split at each mask's own size, "
        f"weights: {weights}.",
        "",
        "| class | IoU |",
        "|---|---|",
        f"| **mean** | **{100 * score.miou:.1f}** |",
        *(f"| {_plain(name)} | {100 * value:.1f} |" for name, value in score.iou.items()),
        "",
    ]
    if score.absent:
        rows += [f"Without a pixel in the scored masks, and left out: {', '.join(map(_plain, score.absent))}.", ""]
    among = result.facts.get("open_vocabulary")
    if isinstance(among, Mapping):
        means = [
            f"{name} {100 * among[name]:.1f}" for name in ("seen", "unseen", "harmonic") if among.get(name) is not None
        ]
        names = ", ".join(_plain(str(name)) for name in among.get("unseen_names", ()))
        rows += [f"Classes that were not trained on: {names}. Mean IoU by that: {', '.join(means)}.", ""]
    return rows


def _answers(run: TrainedRun) -> list[str]:
    """Return the lines on the classes that the model answers for."""
    trained = ", ".join(_plain(name) for name in run.trained_names)
    if run.class_bank is None:
        return [f"- It answers for these classes alone: {trained}."]
    others = [name for name in run.class_names if name not in run.trained_names]
    lines = [
        f"- It was trained on these classes: {trained}; it answers for other names too, given by "
        "`predict(..., classes=[...])`."
    ]
    if others:
        lines.append(f"- It was not trained on: {', '.join(_plain(name) for name in others)}.")
    return lines


def _plain(text: str) -> str:
    """Return text that Markdown and HTML show as it is."""
    for letter in "\\`*_{}[]<>|#":
        text = text.replace(letter, f"\\{letter}")
    return " ".join(text.split())
