"""Train several models for the same wall-clock time with one loop, and print what each has reached.

    python scripts/equal_budget.py --data DATA --minutes 5 --threads 2 --out budgets --markdown PAGE.md

Our default model, SegFormer-B0 (transformers) and a U-Net with a ResNet-18 encoder (segmentation-models-pytorch), all
from scratch, get the same batches, views, loss, optimizer, schedule, averaging of weights, seed and scoring: those of
`semalign train`.  A probe times the steps of each; then the number of epochs is set so that its learning rate falls to
0 when its time is over; one that takes over 2 % more is trained again with fewer.  Only training counts as time, not
the decoding of images, which all share, nor the scoring.

Each model has a folder in --out, is saved now and then, and goes on when the same command is started again; a finished
one is not repeated, a plan once made is kept.  With several --rates each model is trained with each of them, for the
whole time, and every row is shown.  Run it on a machine that does nothing else: time is what is shared out.

It needs the extra `hf` and, for the U-Nets, `pip install segmentation-models-pytorch` (with torchvision).
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from semalign.cli import SPIN_COUNT

# As the command line does, for all models; it is read when torch is imported.
os.environ.setdefault("GOMP_SPINCOUNT", SPIN_COUNT)

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from semalign.api import open_source, resolve
from semalign.config import Options
from semalign.data.transforms import resize_mask
from semalign.errors import ConfigError, SemalignError
from semalign.execution import Events
from semalign.files import make_folder, read_json, write_json, write_text
from semalign.layout import RESULT, STATE
from semalign.results import write_result
from semalign.train.evaluate import Predictor, score_images
from semalign.train.inputs import Inputs, prepare_inputs
from semalign.train.loop import fit
from semalign.train.parallel import make_fabric
from semalign.train.run import TrainedRun

WARM_UP = 3
"""Steps of a probe that are not timed."""
PLANNED = 0.93
"""Share of the budget that is planned: a run is slower than its probe by records, saved states and a warm machine."""
AGAIN = 0.97
"""Share of the budget that is planned from the time of a whole run."""
OVER = 1.02
"""A run that takes more of its budget is done again with fewer epochs."""


class Foreign(nn.Module):
    """Another library's segmenter, called as ours is: RGB in, logits of any size out.

    Args:
        net: image to logits, or to an output with logits, at any stride.
        multiple: what the sides of its input must be multiples of; the image is padded with its mean colour and the
            logits are cut.
    """

    def __init__(self, net: nn.Module, multiple: int) -> None:
        super().__init__()
        self.net = net
        self.multiple = multiple

    def forward(
        self,
        image: Tensor,
        text: Tensor | None = None,
        is_padding: Tensor | None = None,
        *,
        depth: Tensor | None = None,
        class_features: Tensor | None = None,
        size: tuple[int, int] | None = None,
    ) -> Tensor:
        """Return class logits at ``size``; there is no text and no depth."""
        height, width = image.shape[2:]
        padded = F.pad(image, (0, -width % self.multiple, 0, -height % self.multiple))
        output = self.net(padded)
        logits: Tensor = output if isinstance(output, Tensor) else output.logits
        rows = height * logits.shape[2] // padded.shape[2]
        columns = width * logits.shape[3] // padded.shape[3]
        return F.interpolate(
            logits[:, :, :rows, :columns], size=size or (height, width), mode="bilinear", align_corners=False
        )


def segformer_b0(n_classes: int) -> nn.Module:
    """Return Xie et al. 2021 as transformers builds it by default, which is B0."""
    from transformers import SegformerConfig, SegformerForSemanticSegmentation

    return Foreign(SegformerForSemanticSegmentation(SegformerConfig(num_labels=n_classes)), 4)


def unet(encoder: str) -> Callable[[int], nn.Module]:
    """Return a builder of Ronneberger et al. 2015 with another encoder."""

    def built(n_classes: int) -> nn.Module:
        import segmentation_models_pytorch as smp

        return Foreign(smp.Unet(encoder, encoder_weights=None, classes=n_classes), 32)

    return built


OURS = "semalign"
MODELS: dict[str, Callable[[int], nn.Module] | None] = {
    OURS: None,
    "segformer-b0": segformer_b0,
    "unet-resnet18": unet("resnet18"),
    "unet-mobilenet_v2": unet("mobilenet_v2"),
}
DEFAULT_MODELS = (OURS, "segformer-b0", "unet-resnet18")
TITLES = {
    OURS: "semalign, default model",
    "segformer-b0": "SegFormer-B0 (transformers)",
    "unet-resnet18": "U-Net, ResNet-18 encoder (segmentation-models-pytorch)",
    "unet-mobilenet_v2": "U-Net, MobileNet-v2 encoder (segmentation-models-pytorch)",
}


class _Enough(Exception):  # noqa: N818 (a way out of the loop, no error)
    """Enough steps have been timed."""


def build(name: str, options: Options, n_classes: int) -> nn.Module | None:
    """Return the model ``name`` with initial values of the run's seed; None for ours, which the options describe."""
    builder = MODELS[name]
    if builder is None:
        return None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.train.seed)
        return builder(n_classes).to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def probe(name: str, inputs: Inputs, options: Options, seconds: float) -> float:
    """Return the median time of a training step, from steps of about ``seconds`` altogether."""
    times: list[float] = []
    mark = started = time.perf_counter()

    def stepped(step: int, steps: int, loss: float) -> None:
        nonlocal mark
        now = time.perf_counter()
        times.append(now - mark)
        mark = now
        if len(times) > WARM_UP and now - started > seconds:
            raise _Enough

    longer = with_epochs(options, 100_000)
    model = build(name, options, len(inputs.class_names))
    with contextlib.suppress(_Enough):
        fit(inputs, longer, fabric=make_fabric("cpu"), events=Events(stepped=stepped), model=model)
    return statistics.median(times[WARM_UP:])


def with_epochs(options: Options, epochs: int) -> Options:
    """Return options of a run of ``epochs`` that scores nothing on its way."""
    train = options.train.model_copy(update={"epochs": epochs, "val_every": 0, "select_split": None})
    return options.model_copy(update={"train": train})


def train_for(name: str, inputs: Inputs, options: Options, folder: Path, budget: float, probe_seconds: float) -> Any:
    """Train one model for ``budget`` seconds in ``folder``, going on with what is there, and return its row."""
    assert options.data.size is not None
    n_images = len(inputs.images.names)
    batch = min(options.train.batch_size, n_images)
    make_folder(folder)
    plan_file, row_file = folder / "plan.json", folder / "row.json"
    asked = {"budget": budget, "threads": torch.get_num_threads(), "rate": options.train.lr, "size": options.data.size}
    asked = json.loads(json.dumps(asked))
    if plan_file.exists():
        plan = read_json(plan_file)
        if plan["asked"] != asked:
            raise ConfigError(f"{folder} was begun with {plan['asked']} and not {asked}: name another --out")
    else:
        step = probe(name, inputs, options, probe_seconds)
        epochs = max(1, int(PLANNED * budget / (step * (n_images // batch))))
        plan = {"asked": asked, "step_seconds": step, "epochs": epochs}
        write_json(plan_file, plan)
    if row_file.exists():
        return read_json(row_file)

    def stepped(step: int, steps: int, loss: float) -> None:
        if step % 100 == 0:
            say(f"{name}: step {step} of {steps}, loss {loss:.3f}")

    while True:
        say(f"{name}: {1e3 * plan['step_seconds']:.0f} ms a step, {plan['epochs']} epochs")
        own = with_epochs(options, plan["epochs"])
        model = build(name, own, len(inputs.class_names))
        run, result = fit(
            inputs, own, out=folder, arm=name, fabric=make_fabric("cpu"), events=Events(stepped=stepped), model=model
        )
        seconds = result.timings["train"]
        if seconds <= OVER * budget or plan["epochs"] == 1:
            break
        say(f"{name}: {seconds:.0f} s of {budget:.0f}, again with fewer epochs")
        plan["epochs"] = max(1, int(AGAIN * plan["epochs"] * budget / seconds))
        (folder / STATE).unlink(missing_ok=True)
        write_json(plan_file, plan)
    assert result.score is not None
    write_result(folder / RESULT, result)
    row = {
        "model": name,
        "parameters": sum(parameter.numel() for parameter in run.model.parameters()),
        "rate": own.train.lr,
        "step_seconds": plan["step_seconds"],
        "steps": result.facts["steps"],
        "epochs": plan["epochs"],
        "seconds": seconds,
        "miou": result.score.miou,
        "miou_at_size": score_at_size(run, inputs),
    }
    write_json(row_file, row)
    (folder / STATE).unlink(missing_ok=True)
    return row


def score_at_size(run: TrainedRun, inputs: Inputs) -> float:
    """Return mIoU on the validation split against masks shrunk to the input's size."""
    split = run.options.data.val_split
    images = inputs.scored[split]
    if not images.ready:
        raise ConfigError("nothing can be cached here, expected a folder that can be written: set SEMALIGN_CACHE")
    shrunk = {
        name: (image, resize_mask(torch.from_numpy(mask.copy()), run.size).numpy(), *depth)
        for name, (image, mask, *depth) in images.ready.items()
    }
    score = score_images(
        Predictor(run.model.eval(), run.size, class_features=run.class_features),
        dataclasses.replace(images, ready=shrunk),
        inputs.text,
        depth_scale=inputs.depth_scale,
    )
    return score.miou


def markdown(rows: Sequence[dict[str, Any]], about: dict[str, Any]) -> str:
    """Return the page: how it was made, the table, and what to know when reading it."""
    size = f"{about['size'][0]}x{about['size'][1]}"
    columns = ["model", "parameters", "peak rate", "ms a step", "steps", "epochs", "training s"]
    columns += ["val mIoU, masks' own size", f"val mIoU at {size}"]
    lines = [
        f"# {about['minutes']:g} minutes for each model",
        "",
        "```console",
        about["command"],
        "```",
        "",
        "Every model from scratch with the same loop, batches, views, loss, optimizer, schedule and scoring: images of "
        f"{size}, batch {about['batch_size']}, seed {about['seed']}, {about['threads']} threads, torch "
        f"{about['torch']}, {about['machine']}.",
        "",
        f"| {' | '.join(columns)} |",
        f"|---|{'---:|' * (len(columns) - 1)}",
    ]
    for row in sorted(rows, key=lambda row: -row["miou"]):
        over = " (over)" if row["seconds"] > OVER * 60 * about["minutes"] else ""
        lines.append(
            f"| {TITLES.get(row['model'], row['model'])} | {row['parameters'] / 1e6:.2f} M | {row['rate']:g} | "
            f"{1e3 * row['step_seconds']:.0f} | {row['steps']} | {row['epochs']} | {row['seconds']:.0f}{over} | "
            f"{100 * row['miou']:.1f} | {100 * row['miou_at_size']:.1f} |"
        )
    lines += [
        "",
        "mIoU is of the averaged weights after the last step, from counts summed over the split. Epochs are whole, so",
        "that a model may use less than its time; one that had used over 2 % more was trained again, from the start,",
        "with fewer epochs. One seed: a difference of a point or two is chance. Our model reads one sentence per",
        "class, the same for all images, which tells nothing about any one image; the others read no text. The rate",
        "was not tuned for any of them.",
    ]
    return "\n".join(lines) + "\n"


def say(text: str) -> None:
    """Print a line on stderr."""
    print(text, file=sys.stderr, flush=True)


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the command's words."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="a folder of images and masks, or 'scenes'")
    parser.add_argument("--minutes", type=float, default=5.0, help="training time of each model [5]")
    parser.add_argument("--models", nargs="+", choices=sorted(MODELS), default=list(DEFAULT_MODELS))
    parser.add_argument("--rates", nargs="+", type=float, default=[2e-3], help="peak learning rates to try [0.002]")
    parser.add_argument("--threads", type=int, default=2, help="threads to compute with [2]")
    parser.add_argument("--probe", type=float, default=20.0, help="seconds of the probe of each model [20]")
    parser.add_argument("--set", action="append", default=[], metavar="a.b=c", help="an option of every run")
    parser.add_argument("--out", type=Path, default=Path("budgets"), help="folder of the runs [budgets]")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    parser.add_argument("--markdown", type=Path, help="write the page here too")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train what is missing and print the page."""
    words = parsed(arguments)
    torch.set_num_threads(words.threads)
    rows = []
    try:
        ours = resolve(words.data, settings=words.set)
        others = resolve(words.data, settings=[*words.set, "data.text=none"])
        source = open_source(words.data, ours)
        for name in words.models:
            options = ours if name == OURS else others
            inputs = prepare_inputs(source, options)
            for rate in words.rates:
                train = options.train.model_copy(update={"lr": rate})
                own = options.model_copy(update={"train": train})
                folder = words.out / (name if len(words.rates) == 1 else f"{name}-{rate:g}")
                rows.append(train_for(name, inputs, own, folder, 60 * words.minutes, words.probe))
    except SemalignError as error:
        say(f"error: {error}")
        raise SystemExit(2) from error
    about = {
        "command": " ".join(["python", "scripts/equal_budget.py", *(sys.argv[1:] if arguments is None else arguments)]),
        "minutes": words.minutes,
        "threads": words.threads,
        "size": ours.data.size,
        "batch_size": ours.train.batch_size,
        "seed": ours.train.seed,
        "torch": torch.__version__,
        "machine": platform.machine(),
    }
    page = markdown(rows, about)
    if words.json:
        write_json(words.json, {"format": 1, **about, "rows": rows})
    if words.markdown:
        write_text(words.markdown, page)
    print(page, end="")


if __name__ == "__main__":
    main()
