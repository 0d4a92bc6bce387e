"""What reads files that others wrote: each target takes bytes, and either accepts them or refuses them in our words.

A target that raises anything but `SemalignError` has a fault.  The first byte of an input chooses how the others are
put into a file, so that mutations also reach what lies behind checksums and lengths.
"""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import struct
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

from semalign.config import Options, read_options, to_dict
from semalign.data.depth import decode_depth
from semalign.data.folder import Folder
from semalign.data.images import decode_image
from semalign.data.masks import decode_mask
from semalign.data.sets import import_data
from semalign.errors import SemalignError
from semalign.judge.table import read_image_counts_csv, read_results_csv
from semalign.model.dropin import SemanticAlignmentModule
from semalign.results import RunResult, Score, read_result, write_result
from semalign.share.original import import_original
from semalign.study.design import planned_runs, read_study, study_contrasts
from semalign.study.score_file import read_score
from semalign.tensors_file import read_tensors, write_tensors
from semalign.train.run import load_run

__all__ = ["TARGETS", "WORDS", "Target", "is_accepted", "seeds_of"]

Target = Callable[[bytes, Path], None]
"""Reads an input, in a folder of its own."""

KNOWN_SETS = (
    ("coco", "instances_train.json"),
    ("camvid", "train.txt"),
    ("camvid", "class_dict.csv"),
    ("camvid", "label_colors.txt"),
    ("ade20k", "objectInfo150.txt"),
    ("nyuv2", "train.txt"),
    ("nyuv2", "Depth/a.png"),
    ("voc", "ImageSets/Segmentation/train.txt"),
    ("voc", "ImageSets/Segmentation/test.txt"),
)
"""Data sets by name, and which of their files is the input."""

NAMES = ("image", "mask", "depth", "texts", "clusters", "classes")


def is_accepted(target: Target, data: bytes, folder: Path) -> bool:
    """Return whether a target takes ``data``; what it raises that is no `SemalignError` is passed on."""
    try:
        target(data, folder)
    except SemalignError as error:
        said = str(error)
        if not said or "Traceback" in said:
            raise AssertionError("the error says nothing") from error
        return False
    return True


def read_the_options(data: bytes, folder: Path) -> None:
    """Read a file of options, a study's file or a setting of the command line."""
    kind, rest = data[:1], data[1:]
    file = folder / "file.yaml"
    if kind < b"\x55":
        file.write_bytes(rest)
        to_dict(read_options(file))
    elif kind < b"\xaa":
        file.write_bytes(rest)
        study = read_study(str(file), data="scenes")
        planned_runs(study)
        study_contrasts(study)
    else:
        read_options(None, rest.decode(errors="surrogateescape").split("\n"))


def read_the_data(data: bytes, folder: Path) -> None:
    """Read a data set one of whose files is the input."""
    choice, rest = (data[0] if data else 0), data[1:]
    name = NAMES[choice % len(NAMES)]
    if name in ("image", "mask", "depth"):
        if choice >= 128:
            rest = with_checksums(rest)
        path = Path(f"{name}.png")
        if name == "image":
            decode_image(rest, path, (5, 7))
        elif name == "mask":
            decode_mask(rest, path, 3)
        else:
            decode_depth(rest, path)
        return
    root = folder / "set"
    if not root.exists():
        for part, mode in (("images", "RGB"), ("masks", "L")):
            for split in ("train", "val"):
                (root / part / split).mkdir(parents=True)
                Image.new(mode, (7, 5)).save(root / part / split / "a.png")
    for file in ("classes.txt", "texts.jsonl", "clusters.txt"):
        (root / file).unlink(missing_ok=True)
    (root / "classes.txt").write_text("sky\nroad\n")
    (root / {"texts": "texts.jsonl", "clusters": "clusters.txt", "classes": "classes.txt"}[name]).write_bytes(rest)
    source = Folder(root)
    for split in source.splits:
        source.load(split, "a")
        source.fingerprint(split)


def with_checksums(png: bytes) -> bytes:
    """Return a PNG whose chunks have right lengths and checksums, as far as there are chunks."""
    if not png.startswith(b"\x89PNG\r\n\x1a\n"):
        return png
    out, at = [png[:8]], 8
    while at + 12 <= len(png):
        length = min(struct.unpack(">I", png[at : at + 4])[0], len(png) - at - 12)
        body = png[at + 4 : at + 8 + length]
        out.append(struct.pack(">I", length) + body + struct.pack(">I", zlib.crc32(body)))
        at += 12 + length
    return b"".join(out)


def read_the_results(data: bytes, folder: Path) -> None:
    """Read a run's result, a score.json of another program, or one of the tables."""
    kind, rest = (data[0] if data else 0), data[1:]
    readers: tuple[Callable[[Path], object], ...] = (
        read_result,
        read_score,
        read_results_csv,
        read_image_counts_csv,
    )
    file = folder / "file"
    file.write_bytes(rest)
    found = readers[kind % len(readers)](file)
    if isinstance(found, RunResult) and found.score is not None:
        _ = found.score.miou, found.score.iou, found.score.absent


def read_the_checkpoint(data: bytes, folder: Path) -> None:
    """Read a checkpoint: the bytes as they are, or as a header whose length fits, or as the facts of a run."""
    kind, rest = (data[0] if data else 0), data[1:]
    file = folder / "w.safetensors"
    if kind >= 192:
        facts = rest.decode(errors="replace").encode()
        header = (
            b'{"__metadata__":{"semalign":%s},"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'
            % json.dumps(facts.decode()).encode()
        )
        rest = struct.pack("<Q", len(header)) + header + bytes(8)
    elif kind >= 96:
        header, _, body = rest.partition(b"\n")
        rest = struct.pack("<Q", len(header)) + header + body
    file.write_bytes(rest)
    read_tensors(file)
    with contextlib.suppress(SemalignError):
        load_run(file)


def import_a_known_set(data: bytes, folder: Path) -> None:
    """Import a known data set one of whose files is the input."""
    kind, rest = (data[0] if data else 0) % len(KNOWN_SETS), data[1:]
    name, file = KNOWN_SETS[kind]
    source, out = folder / f"known-{kind}", folder / "imported"
    if not source.exists():
        make_known_set(source, name, file)
    (source / file).write_bytes(rest)
    shutil.rmtree(out, ignore_errors=True)
    annotations = [file] if name == "coco" else []
    import_data(name, source, out, annotations=annotations, ignore_unknown=True)


def make_known_set(root: Path, name: str, file: str) -> None:
    """Write pictures and masks of 5 x 7 as a data set of that name has them, and empty lists."""
    tutorial = {"images": "train/a.png", "masks": "trainannot/a.png"}
    places = {
        "coco": {"images": "a.png"},
        "camvid": tutorial if file == "train.txt" else {"images": "train/a.png", "colours": "train_labels/a.png"},
        "ade20k": {"images": "images/training/a.jpg", "masks": "annotations/training/a.png"},
        "nyuv2": {"images": "RGB/a.png", "masks": "Label/a.png", "depth": "Depth/a.png"},
        "voc": {"images": "JPEGImages/a.jpg", "masks": "SegmentationClass/a.png"},
    }[name]
    for part, place in places.items():
        (root / place).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB" if part in ("images", "colours") else "L", (7, 5)).save(root / place)
    (root / file).parent.mkdir(parents=True, exist_ok=True)
    if name == "nyuv2" and file != "train.txt":
        (root / "train.txt").write_text("a\n")


def read_the_original(data: bytes, folder: Path) -> None:
    """Read a checkpoint of the original: what torch.save wrote, or safetensors."""
    file = folder / ("a.safetensors" if data[:1] >= b"\xc0" else "a.pth")
    file.write_bytes(data[1:])
    import_original(file)


TARGETS: dict[str, Target] = {
    "options": read_the_options,
    "data": read_the_data,
    "results": read_the_results,
    "checkpoint": read_the_checkpoint,
    "known": import_a_known_set,
    "original": read_the_original,
}

WORDS: dict[str, tuple[bytes, ...]] = {
    "options": (
        *(
            b"train: ",
            b"data: ",
            b"{",
            b"[",
            b"&a ",
            b"*a",
            b"<<: ",
            b"!!python/object:os.system ",
            b"- ",
            b".nan",
            b".inf",
        ),
        *(b"1e400", b"null", b"true", b"factors: ", b"arms: ", b"contrasts: ", b"looks: ", b"? ", b"'", b"2020-01-01"),
    ),
    "data": (
        *(
            b"IHDR",
            b"IDAT",
            b"tEXt",
            b"PLTE",
            b"tRNS",
            b"iCCP",
            b"eXIf",
            b"acTL",
            b'{"image": ',
            b'"texts": ',
            b"train/a",
        ),
        *(b"\xff\xff\xff\xff", b"val/a", b"..", b"\x00", "路".encode()),
    ),
    "results": (
        *(b"NaN", b"Infinity", b"1e999", b"9" * 30, b"null", b"[", b"{", b'"counts": ', b'"curves": ', b'"given": '),
        *(b"arm,seed,miou\n", b"-1", b'"', b"\n", b"image,class,tp,fp,fn", b"true"),
    ),
    "checkpoint": (
        *(
            b"__metadata__",
            b'"dtype":"F64"',
            b'"dtype":"BF16"',
            b'"shape":[',
            b'"data_offsets":[0,',
            b"semalign",
            b"\n",
        ),
        *(b"18446744073709551615", b"-1", b'\\"format\\": 1', b'\\"facts\\": ', b"PK\x03\x04", b"\x80\x04"),
    ),
    "known": (
        *(
            b'"segmentation": ',
            b'"counts": ',
            b'"size": ',
            b'"iscrowd": 1',
            b'"isthing": 0',
            b"null",
            b"1e308",
            b"[",
            b"{",
        ),
        *(b"-1", b"9" * 30, b"\t", b",", b'"', b"\n", b"..", b"/", b"\x00", "²".encode(), b"a" * 300, b"IHDR", b"Sky"),
    ),
    "original": (
        *(
            b"q_proj.weight",
            b"alpha",
            b"gamma",
            b"cos",
            b"torch\nFloatStorage\n",
            b"PK\x03\x04",
            b"data.pkl",
            b"X\x05\x00",
        ),
        *(b"\x80\x02", b"K\x04", b"\x85R", b"Q", b".", b"\xff\xff\xff\xff", b"(", b"}", b'"dtype":"F64"'),
    ),
}
"""Pieces that a mutation may put in."""


def seeds_of(name: str) -> list[bytes]:
    """Return sound inputs of a target, which mutations begin with."""
    with tempfile.TemporaryDirectory() as place:
        made = {
            "options": _options,
            "data": _data,
            "results": _results,
            "checkpoint": _checkpoint,
            "known": _known,
            "original": _original,
        }
        return made[name](Path(place))


def _options(folder: Path) -> list[bytes]:
    import yaml

    plain = yaml.safe_dump(to_dict(Options())).encode()
    study = (
        b"name: a\nquestion: b?\ndata: scenes\nbaseline: x\narms: {x: {}, y: {train.lr: 0.1}}\nseeds: 3\n"
        b"contrasts: [{name: c, weights: {x: -1, y: 1}}]\n"
        b"tables: [{title: t, columns: [k], rows: [{arm: x, cells: [v]}]}]\n"
    )
    factors = (
        b"name: a\nquestion: b?\nfactors: {f: {low: {}, high: {train.lr: 0.1}}, g: {one: {}, two: {train.epochs: 2}}}\n"
        b"looks: [3, 5]\nfutility: true\noptions: {data.size: [32, 32]}\n"
    )
    command = (
        b"name: a\nquestion: b?\narms: {Baseline: {lr: 2}, y: {lr: 1}}\n"
        b"command: python t.py {data} --seed {seed} --lr {arm.lr} --out {out}\n"
    )
    return [
        b"\x00" + plain,
        *(b"\x60" + text for text in (study, factors, command)),
        b"\xf0train.epochs=3\nalign.encoder.gate.init=0.5\ndata.size=[32, 43]",
    ]


def _png(array: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.asarray(array)).save(buffer, format="PNG")
    return buffer.getvalue()


def _data(folder: Path) -> list[bytes]:
    rgb = _png(np.arange(5 * 7 * 3, dtype=np.uint8).reshape(5, 7, 3))
    mask = _png((np.arange(35) % 3).astype(np.uint8).reshape(5, 7))
    depth = _png((np.arange(35) * 1000).astype(np.uint16).reshape(5, 7))
    palette = Image.fromarray((np.arange(35) % 3).astype(np.uint8).reshape(5, 7))
    palette.putpalette([1, 2, 3] * 3)
    buffer = io.BytesIO()
    palette.save(buffer, format="PNG", transparency=0)
    others = []
    for kind in ("JPEG", "BMP", "TIFF", "WEBP", "PPM"):
        stream = io.BytesIO()
        Image.fromarray(np.zeros((5, 7, 3), dtype=np.uint8)).save(stream, format=kind)
        others.append(b"\x00" + stream.getvalue())
    pictures = [
        bytes([start + place]) + data for start in (0, 126 + 6) for place, data in enumerate((rgb, mask, depth))
    ]
    return [
        *pictures,
        b"\x01" + buffer.getvalue(),
        *others,
        b'\x03{"image": "train/a", "texts": ["a car", "\xe8\xb7\xaf"]}\n{"image": "val/a.png", "texts": []}\n',
        b"\x04train/a\tseq 1\nval/a seq2\n",
        "\x05sky\nroad\n树\n".encode(),
    ]


def _results(folder: Path) -> list[bytes]:
    counts = np.arange(2 * 3 * 3).reshape(2, 3, 3)
    score = Score("val", ("a", "b", "c"), ("x", "y"), counts, np.eye(3, dtype=np.int64))
    found = []
    for place, one in enumerate((score, Score.of_figures(0.5, {"a": 0.5, "b": None}), None)):
        file = folder / f"{place}.json"
        curves = {"train/loss": [(0, 1.5), (3, 0.5)]}
        write_result(
            file, RunResult("A", 1, "finished" if one else "failed", one, curves, {"notes": []}, {"train": 1.0})
        )
        found.append(b"\x00" + file.read_bytes())
    mine = {"counts": counts.tolist(), "images": ["x", "y"], "classes": ["a", "b", "c"], "curves": {"l": [[0, 1.0]]}}
    return [
        *found,
        b"\x01" + json.dumps(mine).encode(),
        b'\x01{"miou": 0.5, "iou": {"a": 0.5, "b": null}, "split": "val"}',
        b'\x01{"failed": "no memory"}',
        b"\x02arm,seed,miou\nBaseline,0,0.5\nA,0,0.6\n",
        b'\x02\xef\xbb\xbfarm,seed,score_percent,x\n"B, c",0,50,\nA,0,,1\n',
        b"\x03arm,seed,image,class,tp,fp,fn,cluster\nA,0,x,c,1,2,3,s\nB,0,x,c,2,1,2,s\n",
    ]


def _checkpoint(folder: Path) -> list[bytes]:
    import semalign.api

    run = folder / "run"
    settings = ["data.size=[32,32]", "train.epochs=1", "data.n_train=2", "data.n_val=1", "model.size=nano"]
    semalign.api.train("scenes", out=run, settings=settings, audit=False)
    with torch.no_grad():
        _, facts = read_tensors(run / "weights.safetensors")
    small = folder / "small.safetensors"
    write_tensors(small, {"a": torch.zeros(2), "b": torch.ones(3, dtype=torch.int64)}, {"x": 1})
    whole = small.read_bytes()
    length = struct.unpack("<Q", whole[:8])[0]
    shutil.rmtree(run)
    return [
        b"\x00" + whole,
        b"\x60" + whole[8 : 8 + length] + b"\n" + whole[8 + length :],
        b"\xc0" + json.dumps({"format": 1, "facts": {}}).encode(),
        b"\xc0" + json.dumps({"format": 1, "facts": facts}).encode(),
    ]


def _known(folder: Path) -> list[bytes]:
    shape = {"size": [5, 7], "counts": [3, 4, 28]}
    document = {
        "images": [{"id": 1, "file_name": "a.png", "height": 5, "width": 7}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 3, "segmentation": [[1, 1, 4.5, 1, 4.5, 3, 1, 3]]},
            {"id": 2, "image_id": 1, "category_id": 7, "iscrowd": 1, "segmentation": shape},
            {"id": 3, "image_id": 1, "category_id": 7, "segmentation": {**shape, "counts": "34l0"}},
        ],
        "categories": [{"id": 3, "name": "cat"}, {"id": 7, "name": "sky", "isthing": 0}],
    }
    classes = "".join(f"{k}\t0.01\t9\t2\tthing{k}, other name\n" for k in range(1, 151))
    texts = [
        json.dumps(document),
        "/SegNet/train/a.png /SegNet/trainannot/a.png\n",
        "name,r,g,b\nSky,9,8,7\nVoid,0,0,0\n",
        "9 8 7\tSky\n0 0 0\tVoid\n",
        f"Idx\tRatio\tTrain\tVal\tName\n{classes}",
        "RGB/a.png\n",
        "",
        "a\n",
        "a\n",
    ]
    found = [bytes([place]) + text.encode() for place, text in enumerate(texts) if text]
    grey = _png((np.arange(35) * 7).astype(np.uint8).reshape(5, 7))
    colours = _png(np.zeros((5, 7, 3), dtype=np.uint8))
    return [*found, b"\x06" + grey, b"\x06" + colours]


def _original(folder: Path) -> list[bytes]:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = SemanticAlignmentModule(4, 3, allow_dead=True)
    state = {f"decoder.{name}": tensor for name, tensor in module.state_dict().items()}
    found = []
    for new in (True, False):
        torch.save({"state_dict": state, "epoch": 3}, folder / "a.pth", _use_new_zipfile_serialization=new)
        found.append(b"\x00" + (folder / "a.pth").read_bytes())
    save_file(state, folder / "a.safetensors")
    return [*found, b"\xc0" + (folder / "a.safetensors").read_bytes()]
