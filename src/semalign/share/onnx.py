"""A trained run as an ONNX file, with its text folded in or as an input.

The file computes what `Segmenter` computes on a resized image.  It does not depend on training or data sets.
"""

from __future__ import annotations

import copy
import dataclasses
import io
import json
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from semalign.data.transforms import normalize_image
from semalign.errors import ConfigError, OutputError, TextError
from semalign.files import make_folder, write_bytes
from semalign.model.alignment import Alignment, alignment_sites
from semalign.model.segmenter import Segmenter
from semalign.train.run import TrainedRun

__all__ = ["MOST_DIFFERENCE", "ExportedSegmenter", "OnnxFacts", "Parity", "export_onnx"]

TextInput = Literal["folded", "input"]
OPSET = 18
EXAMPLE = (70, 102)

MOST_DIFFERENCE = 1e-4
"""Most that a file may differ from torch, in logits, or of the largest logit where that is above 1."""


@dataclasses.dataclass(frozen=True)
class Parity:
    """How far onnxruntime is from torch on random images of one size.

    Attributes:
        size: images, height, width.
        difference: largest absolute difference of logits.
        largest: largest absolute logit.
    """

    size: tuple[int, int, int]
    difference: float
    largest: float

    @property
    def is_close(self) -> bool:
        """Whether the difference is within `MOST_DIFFERENCE`."""
        return self.difference <= MOST_DIFFERENCE * max(1.0, self.largest)


@dataclasses.dataclass(frozen=True)
class OnnxFacts:
    """What a user of the file must know; kept in its metadata under "semalign" as JSON.

    Attributes:
        inputs: by name, the shape with the names of free axes.
        outputs: the same.
        classes: names, in the order of the logits.
        size: height and width that the model was trained at.
        sentences: what the rows of the text input were in training; empty without text.
        text: "folded", "input" or "none".
        parity: how far the file's answers are from torch's; empty where that was not measured.  Not in the metadata.
    """

    inputs: dict[str, tuple[int | str, ...]]
    outputs: dict[str, tuple[int | str, ...]]
    classes: tuple[str, ...]
    size: tuple[int, int]
    sentences: tuple[str, ...]
    text: str
    parity: tuple[Parity, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return dataclasses.asdict(self)


class ExportedSegmenter(nn.Module):
    """A segmenter called with plain images: RGB in [0, 255], float32, B x 3 x H x W; logits at the images' size.

    Args:
        model: the segmenter; it is copied, and the copy computes its attention in plain operations.
        bank: T x Ct text that every call uses; None: no text, or text as an input.
        class_features: class sentences of the `text` classifier, else None.
        depth: standardisation (mean, std) of depth given in the data's unit, for a model with depth.
    """

    bank: Tensor | None
    class_features: Tensor | None

    def __init__(
        self,
        model: Segmenter,
        bank: Float[Tensor, "t ct"] | None,
        class_features: Float[Tensor, "k ct"] | None,
        depth: tuple[float, float] | None,
    ) -> None:
        super().__init__()
        self.model = copy.deepcopy(model).cpu().eval()
        for module in self.model.modules():
            if isinstance(module, Alignment):
                # The other forms are the same function in operations that an exporter does not know.
                module.form = "sdpa"
        self.register_buffer("bank", bank)
        self.register_buffer("class_features", class_features)
        self.depth = depth

    def forward(
        self,
        image: Float[Tensor, "b 3 h w"],
        text: Float[Tensor, ...] | None = None,
        is_padding: Bool[Tensor, ...] | None = None,
        depth: Float[Tensor, "b 1 h w"] | None = None,
    ) -> Float[Tensor, "b k h w"]:
        """Return class logits at the images' size.

        Args:
            image: RGB in [0, 255].
            text: T x Ct; used where no bank is built in.
            is_padding: T, True where a token is to be left out.
            depth: in the unit of the training data, 0 where unknown.
        """
        if depth is not None:
            assert self.depth is not None
            mean, std = self.depth
            depth = torch.where(depth > 0, (depth - mean) / std, torch.zeros_like(depth))
        bank = text if self.bank is None else self.bank
        logits: Tensor = self.model(
            normalize_image(image), bank, is_padding, depth=depth, class_features=self.class_features
        )
        return logits


def export_onnx(
    run: TrainedRun,
    path: Path,
    *,
    text: TextInput = "folded",
    size: tuple[int, int] | None = None,
    check: bool = True,
) -> OnnxFacts:
    """Write ``run`` as one ONNX file (opset 18) whose batch, height and width are free, and whose tokens are if asked.

    Args:
        run: a loaded run.
        path: the file, which appears whole.
        text: "folded": the run's own text is part of the file; "input": the file takes ``text`` (T x Ct) and
            ``is_padding`` (T), so that other sentences can guide it.
        size: H x W of every image; None leaves them free, which some backbones of other libraries do not allow.
        check: run the file in onnxruntime on random images of two sizes, neither of which it was traced at, and refuse
            one whose logits are not torch's; where onnxruntime is not installed nothing is checked.

    Returns:
        What the file's metadata hold, and the measured differences.

    Raises:
        ConfigError: the packages of the extra `onnx` are not installed, an unknown ``text``, or a model that cannot be
            traced as asked.
        TextError: the run has each image's own texts, so that there is none to fold in, or has no text to be an input.
        OutputError: the file cannot be written, or its answers are not torch's; nothing is written then.
    """
    onnx = _packages()
    guided = bool(alignment_sites(run.model))
    has_input = _takes_text(run, text, guided=guided)
    bank = run.bank if guided else None
    scale = None if run.depth_scale is None else (run.depth_scale.mean, run.depth_scale.std)
    built_in = None if has_input or bank is None else bank.features
    module = ExportedSegmenter(run.model, built_in, run.class_features, scale).eval()
    text_shape = (max(3, len(bank.sentences)), bank.dim) if has_input and bank else None
    inputs = _inputs(size, text=text_shape, depth=scale is not None)
    facts = OnnxFacts(
        inputs={one.name: one.axes for one in inputs},
        outputs={"logits": ("batch", len(run.class_names), *(size or ("height", "width")))},
        classes=run.class_names,
        size=run.size,
        sentences=() if bank is None else bank.sentences,
        text=text if guided else "none",
    )
    model = _traced(run, module, inputs, size)
    entry = model.metadata_props.add()
    said = {name: value for name, value in facts.to_dict().items() if name != "parity"}
    entry.key, entry.value = "semalign", json.dumps(said, ensure_ascii=False)
    onnx.checker.check_model(model)
    data: bytes = model.SerializeToString()
    if check:
        facts = dataclasses.replace(facts, parity=_parity(module, data, inputs, size or run.size, is_free=size is None))
        _refuse_different(facts.parity)
    make_folder(path.parent)
    write_bytes(path, data)
    return facts


def _takes_text(run: TrainedRun, text: TextInput, *, guided: bool) -> bool:
    """Return whether the file has the text as an input."""
    if text not in ("folded", "input"):
        raise ConfigError(f"--text got {text!r}, expected folded or input")
    if not guided and text == "input":
        raise TextError("the run was trained without text, so that its file cannot take any: use --text folded")
    kind = run.options.data.text
    if guided and text == "folded" and (run.bank is None or kind not in ("classes", "random")):
        raise TextError(
            f"the run was trained with each image's own text (data.text={kind}), so that there is none to fold in: use "
            "--text input"
        )
    return guided and text == "input"


class _Input(NamedTuple):
    """One input of the file.

    Attributes:
        name: its name.
        example: what the model is traced with.
        axes: sizes, or the names of free axes.
    """

    name: str
    example: Tensor
    axes: tuple[int | str, ...]

    @property
    def free(self) -> dict[int, Any]:
        """The free axes as the exporter takes them."""
        return {
            axis: torch.export.Dim(name, min=_LEAST[name])
            for axis, name in enumerate(self.axes)
            if isinstance(name, str)
        }


_LEAST: Mapping[str, int] = {"batch": 1, "height": 32, "width": 32, "tokens": 2}
"""The free axes and their least sizes."""


def _inputs(size: tuple[int, int] | None, *, text: tuple[int, int] | None, depth: bool) -> list[_Input]:
    """Return what the file takes: the image, and text (tokens x channels) and depth where they are inputs."""
    # Away from the least sizes and from each other, or the exporter takes them for constants.
    height, width = size or EXAMPLE
    sides: tuple[int | str, int | str] = size or ("height", "width")
    found = [_Input("image", 255 * torch.rand(2, 3, height, width), ("batch", 3, *sides))]
    if text is not None:
        tokens, text_dim = text
        found.append(_Input("text", torch.randn(tokens, text_dim), ("tokens", text_dim)))
        found.append(_Input("is_padding", torch.zeros(tokens, dtype=torch.bool), ("tokens",)))
    if depth:
        found.append(_Input("depth", torch.rand(2, 1, height, width), ("batch", 1, *sides)))
    return found


def _traced(run: TrainedRun, module: ExportedSegmenter, inputs: Sequence[_Input], size: tuple[int, int] | None) -> Any:
    """Return the ONNX model of a module."""
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()), _quiet("torch.onnx"), torch.no_grad():
        # The exporter's own notices are about itself.
        warnings.simplefilter("ignore")
        try:
            program = torch.onnx.export(
                module,
                (),
                kwargs={one.name: one.example for one in inputs},
                dynamic_shapes={one.name: one.free for one in inputs},
                input_names=[one.name for one in inputs],
                output_names=["logits"],
                opset_version=OPSET,
                dynamo=True,
                verbose=False,
            )
        except torch.onnx.OnnxExporterError as error:
            raise _untraceable(run, size, error) from error
    assert program is not None
    return program.model_proto


def _refuse_different(parity: Sequence[Parity]) -> None:
    for found in parity:
        if not found.is_close:
            images, height, width = found.size
            raise OutputError(
                f"the ONNX file of this run differs from torch by {found.difference:.1e} in logits of up to "
                f"{found.largest:.3g} on {images} images of {height} x {width}, expected at most "
                f"{MOST_DIFFERENCE:g}: update torch, onnxscript and onnxruntime, or write it all the same with "
                "--no-check"
            )


def _untraceable(run: TrainedRun, size: tuple[int, int] | None, error: Exception) -> ConfigError:
    """Return the error for a model that torch's exporter cannot follow."""
    what = f"the backbone {run.options.model.backbone}" if run.options.model.backbone else "this model"
    if size is None:
        height, width = run.size
        return ConfigError(
            f"{what} cannot be traced for images of any size: name the one that the file is for, such as "
            f"--size {height}x{width}"
        )
    cause = " ".join(str(error.__cause__ or error).split())[:120]
    return ConfigError(f"{what} cannot be written as ONNX by this version of torch ({cause}): use --format hub")


def _parity(
    module: ExportedSegmenter, data: bytes, inputs: Sequence[_Input], size: tuple[int, int], *, is_free: bool
) -> tuple[Parity, ...]:
    """Compare a file's bytes with torch at a size and, where sizes are free, at a larger, odd one.

    Without onnxruntime nothing is compared.
    """
    try:
        import onnxruntime
    except ImportError:
        return ()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # its warnings are about its own optimisations
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    generator = torch.Generator().manual_seed(0)
    found = []
    other = (size[0] + 21, size[1] + 13) if is_free else size
    for images, height, width in ((1, *size), (2, *other)):
        arguments = {"image": 255 * torch.rand(images, 3, height, width, generator=generator)}
        for one in inputs:
            if one.name == "text":
                arguments["text"] = torch.randn(7, one.example.shape[1], generator=generator)
                arguments["is_padding"] = torch.arange(7) == 4
        if module.depth is not None:
            mean, std = module.depth
            depth = mean + std * torch.randn(images, 1, height, width, generator=generator)
            arguments["depth"] = depth.clamp(min=0)
        with torch.no_grad():
            expected = module(**arguments)
        (logits,) = session.run(None, {name: value.numpy() for name, value in arguments.items()})
        difference = float((torch.from_numpy(logits) - expected).abs().max())
        found.append(Parity((images, height, width), difference, float(expected.abs().max())))
    return tuple(found)


@contextmanager
def _quiet(name: str) -> Iterator[None]:
    """Let a logger speak of errors alone."""
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def _packages() -> Any:
    """Return the module `onnx`, with what the exporter needs beside it."""
    try:
        import onnx
        import onnxscript  # noqa: F401 (the exporter imports it when it is called)
    except ImportError as error:
        raise ConfigError(
            f"the format onnx needs the package {error.name}, which is not installed: pip install 'semalign[onnx]'"
        ) from error
    return onnx
