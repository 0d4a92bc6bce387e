"""Applies a trained run to image files: class masks, overlays and, on request, attention maps."""

from __future__ import annotations

import dataclasses
import io
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from semalign.data.depth import decode_depth
from semalign.data.images import read_image
from semalign.data.pictures import encode_png, font_file, indexed_mask, overlay_with_legend
from semalign.data.reading import read_bytes
from semalign.data.sample import MAX_CLASSES
from semalign.data.transforms import normalize_image, resize_depth, resize_image
from semalign.errors import ConfigError, DataError, OutputError, TextError
from semalign.files import make_folder, write_bytes
from semalign.model.alignment import alignment_sites
from semalign.train.evaluate import Predictor
from semalign.train.evaluation import classes_for
from semalign.train.run import TrainedRun
from semalign.train.run_text import encode_texts, without_text
from semalign.train.vocabulary import notes_of_strangers
from semalign.wording import Message, say

__all__ = ["Prediction", "check_images", "predict_files", "write_prediction"]

NO_TEXT = ("(no text)", "(no text)")


@dataclasses.dataclass(frozen=True)
class Prediction:
    """The prediction for one image.

    Attributes:
        path: the image file.
        image: H x W x 3 uint8 RGB.
        mask: H x W uint8 class indices.
        class_names: the names the indices stand for.
        attention: by alignment site, heads-averaged weights T x h x w in [0, 1]; empty unless asked for.
        tokens: the T sentences of the attention maps.
        notes: what a reader must know.
    """

    path: Path
    image: NDArray[np.uint8]
    mask: NDArray[np.uint8]
    class_names: tuple[str, ...]
    attention: dict[str, Float[Tensor, "tokens h w"]]
    tokens: tuple[str, ...]
    notes: tuple[Message, ...]


def predict_files(
    run: TrainedRun,
    paths: Sequence[Path],
    *,
    texts: Sequence[str] = (),
    classes: Sequence[str] = (),
    attention: bool = False,
    depth_folder: Path | None = None,
    flip: bool = False,
    window: tuple[int, int] | None = None,
) -> Iterator[Prediction]:
    """Yield a prediction for each image file, in order.

    Args:
        run: the trained run.
        paths: image files.
        texts: sentences that guide every image, in place of the text the run was trained with.
        classes: class names to answer for; needs the `text` classifier.
        attention: keep the attention of every alignment site.
        depth_folder: where NAME.png holds the depth of NAME, for a run trained with depth.
        flip: average with the mirrored image.
        window: H x W of windows over the image at its own size.

    Raises:
        ConfigError: the options do not fit the run.
        DataError: a file is missing or broken.
        TextError: text is given to a run trained without.
    """
    class_names, class_features = run.class_names, run.class_features
    remarks: tuple[Message, ...] = ()
    if classes:
        if run.options.model.classifier != "text":
            raise ConfigError(
                "--classes needs a run with model.classifier=text, got one with a linear classifier for "
                f"{len(run.class_names)} fixed classes: train with --set model.classifier=text"
            )
        if len(classes) > MAX_CLASSES:
            raise ConfigError(
                f"--classes got {len(classes)} names, expected at most {MAX_CLASSES}, which a mask can hold"
            )
        asked = classes_for(run, classes)
        class_names, class_features = tuple(classes), asked.features
        remarks = (*asked.notes, *notes_of_strangers(asked, classes, run.trained_names))
    if run.options.data.depth and depth_folder is None:
        raise ConfigError("the run was trained with depth, expected --depth FOLDER that holds NAME.png for each image")
    if depth_folder is not None and not run.options.data.depth:
        raise ConfigError("--depth is given to a run that was trained without depth, leave it out")
    features, is_padding, tokens, notes = _text(run, list(texts))
    if attention and tokens == NO_TEXT:
        raise TextError("--attention needs a text, and the run was trained with texts of each image: give --text")
    notes = (*notes, *remarks)
    predictor = Predictor(run.model, run.size, flip=flip, window=window, class_features=class_features)
    sites = alignment_sites(run.model) if attention else {}
    if attention and (flip or window):
        raise ConfigError("--attention shows one forward of the whole image, leave --flip and --window out")
    if attention and not sites:
        raise ConfigError("--attention needs a run with text, got one that was trained without")
    for path in paths:
        image = read_image(path)
        height, width = image.shape[:2]
        target = (height, width) if window is not None else run.size
        batch = normalize_image(resize_image(torch.from_numpy(image), target)[None])
        depth = None
        if depth_folder is not None and run.depth_scale is not None:
            depth_file = depth_folder / f"{path.stem}.png"
            values = decode_depth(read_bytes(depth_file, "depth"), depth_file)
            if values.shape != (height, width):
                raise DataError(f"the depth of {path} has size {values.shape}, expected the image's {(height, width)}")
            depth = run.depth_scale.normalize(resize_depth(torch.from_numpy(values), target)[None, None])
        for site in sites.values():
            site.save_attention = True
        try:
            scores = predictor.scores(batch, features, is_padding, depth, (height, width))
        finally:
            for site in sites.values():
                site.save_attention = False
        maps = {name: _attention_map(site) for name, site in sites.items()}
        mask = scores[0].argmax(dim=0).to(torch.uint8).cpu().numpy()
        yield Prediction(path, image, mask, class_names, maps, tokens, notes)


def check_images(paths: Sequence[Path]) -> None:
    """Check the image files before the first picture is written.

    Raises:
        DataError: there is none, or one is missing.
        OutputError: two have the same name, so that their pictures would too.
    """
    if not paths:
        raise DataError("got no image to predict, expected at least one file")
    by_stem: dict[str, Path] = {}
    for path in paths:
        if not path.is_file():
            raise DataError(f"no image file at {path}, expected a file: correct the name")
        other = by_stem.setdefault(path.stem, path)
        if other is not path:
            raise OutputError(
                f"the images {other} and {path} have one name, expected different ones: predict them into two folders"
            )


def write_prediction(prediction: Prediction, folder: Path) -> dict[str, Any]:
    """Write NAME.mask.png, NAME.overlay.png and, where there are maps, NAME.attention.png of one image.

    Returns:
        image, mask, overlay (and attention) as paths, classes (share of pixels by name), notes; JSON values.

    Raises:
        OutputError: the folder cannot be made or written.
    """
    make_folder(folder)
    mask, names = prediction.mask, prediction.class_names
    pictures = {
        "mask": encode_png(indexed_mask(mask)),
        "overlay": encode_png(overlay_with_legend(prediction.image, mask, names)),
    }
    if prediction.attention:
        for number, sheet in enumerate(attention_sheets(prediction), start=1):
            pictures["attention" if number == 1 else f"attention-{number}"] = sheet
    written = {}
    for kind, picture in pictures.items():
        file = folder / f"{prediction.path.stem}.{kind}.png"
        write_bytes(file, picture)
        written[kind] = str(file)
    share = {name: float((mask == index).mean()) for index, name in enumerate(names) if (mask == index).any()}
    notes = [str(note) for note in prediction.notes]
    return {"image": str(prediction.path), **written, "classes": share, "notes": notes}


def _text(
    run: TrainedRun, texts: list[str]
) -> tuple[Float[Tensor, ...] | None, Bool[Tensor, ...] | None, tuple[str, ...], tuple[Message, ...]]:
    """Return features, padding, their sentences and notes."""
    kind = run.options.data.text
    if run.bank is None:
        if texts:
            raise TextError("--text is given to a run that was trained without text, leave it out or train with text")
        return None, None, (), ()
    if texts:
        text = run.options.text
        bank = encode_texts(text.encoder, texts, level=text.level, long=text.long)
        strange = notes_of_strangers(bank, bank.sentences, run.bank.sentences)
        return bank.features, None, bank.sentences, (*bank.notes, *strange)
    if kind in ("classes", "random"):
        return run.bank.features, None, run.bank.sentences, ()
    features, is_padding = without_text(1, run.bank.dim)
    return features, is_padding, NO_TEXT, (say("train.text_missing"),)


def _attention_map(site: torch.nn.Module) -> Float[Tensor, "tokens h w"]:
    weights, shape = site.last_attention, site.last_spatial_shape
    assert isinstance(weights, Tensor)
    assert isinstance(shape, tuple)
    mean = weights[0].float().mean(dim=0)  # (positions, tokens)
    site.last_attention = None  # type: ignore[assignment]
    return mean.T.reshape(-1, *shape).cpu()


def attention_sheets(prediction: Prediction, *, most_tokens: int = 12) -> Iterator[bytes]:
    """Yield PNGs with one row per alignment site and one column per token, drawn over the image.

    Each sheet shows up to ``most_tokens`` of the sentences, and all together every one.  Each map's colors span its
    own row's range over all sentences, which is written beside it; a uniform attention is 1/T everywhere.
    """
    for start in range(0, len(prediction.tokens), most_tokens):
        yield _sheet(prediction, range(start, min(start + most_tokens, len(prediction.tokens))))


def _sheet(prediction: Prediction, columns: range) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.font_manager import FontProperties

    tokens = prediction.tokens[columns.start : columns.stop]
    rows = list(prediction.attention.items())
    height, width = prediction.image.shape[:2]
    # No larger than it is shown: a photograph in each of a hundred panels takes minutes.
    shrink = max(1.0, max(height, width) / 256)
    height, width = max(1, round(height / shrink)), max(1, round(width / shrink))
    grey = resize_image(torch.from_numpy(prediction.image), (height, width)).float().mean(dim=0).numpy()
    # A picture that is tall and narrow is drawn smaller rather than on a sheet of metres.
    tall = min(1.5, height / width)
    figure = Figure(figsize=(1.2 + 1.7 * len(tokens), 0.6 + 1.7 * tall * len(rows)), layout="constrained")
    FigureCanvasAgg(figure)
    total = len(prediction.tokens)
    which = "" if len(tokens) == total else f", texts {columns.start + 1} to {columns.stop} of {total}"
    figure.suptitle(
        f"share of each text in the attention{which} (black to yellow; equal shares: {1 / total:.3f})", fontsize=8
    )
    axes = figure.subplots(len(rows), len(tokens), squeeze=False)
    for row, (site, maps) in enumerate(rows):
        shown = F.interpolate(maps[None], size=(height, width), mode="bilinear", align_corners=False)[0].numpy()
        low, high = float(shown.min()), float(shown.max())
        for column, token in enumerate(tokens):
            axis = axes[row, column]
            axis.imshow(grey, cmap="gray")
            axis.imshow(shown[columns[column]], cmap="magma", alpha=0.65, vmin=low, vmax=max(high, low + 1e-9))
            axis.set_xticks([])
            axis.set_yticks([])
            if row == 0:
                title = "\n".join(textwrap.wrap(token, 24, max_lines=3, placeholder=" …")) or token
                found = font_file(token)
                if found is None:
                    title = f"text {columns[column] + 1}"
                # A sentence may hold dollar signs, which are no formula.
                font = FontProperties(fname=found or None, size=7)
                axis.set_title(title, fontproperties=font, parse_math=False)
            if column == 0:
                axis.set_ylabel(f"{short_site(site)}\n{low:.3f} to {high:.3f}", fontsize=7)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130)
    return buffer.getvalue()


def short_site(site: str) -> str:
    """Return a short name of a site: 'encoder 1.0' (stage, block) or 'decoder 2' (level)."""
    numbers = [part for part in site.split(".") if part.isdecimal()]
    side = "decoder" if site.startswith("decoder") else "encoder"
    return f"{side} {'.'.join(numbers)}"
