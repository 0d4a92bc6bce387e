"""Every bad input: one sentence on stderr, exit code 2, nothing on stdout, nothing written."""

from __future__ import annotations

import errno
import pickle
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from semalign import tensors_file
from semalign.results import read_result
from semalign.train import state
from tests.cli.conftest import Said, Semalign
from tests.small import TINY, edit

SET = [word for setting in TINY for word in ("--set", setting)]
SHORT = [*SET, "--set", "train.epochs=1", "--set", "train.val_every=0"]


def listing(folder: Path) -> dict[str, bytes]:
    """Return every file below with its bytes, and every folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else b"folder"
        for path in sorted(folder.rglob("*"))
    }


@pytest.fixture
def refused(semalign: Semalign, here: Path) -> Callable[..., None]:
    """Return a function that calls a command which must be refused by a sentence that holds a pattern."""

    def call(pattern: str, *words: object) -> None:
        before = listing(here)
        said = semalign(*words)
        assert_refused(said, pattern)
        assert listing(here) == before

    return call


def assert_refused(said: Said, pattern: str) -> None:
    """Check for one sentence and nothing else."""
    assert said.code == 2, said.err
    assert said.out == ""
    assert re.fullmatch(r"error: [^\n]+\n", said.err), said.err
    assert re.search(pattern, said.err), said.err


# ---- data ----


def _remove(name: str) -> Callable[[Path], object]:
    def damage(root: Path) -> None:
        path = root / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()

    return damage


def _empty_split(root: Path) -> None:
    for folder in ("images", "masks"):
        for path in (root / folder / "val").iterdir():
            path.unlink()


def _all_ignored(split: str) -> Callable[[Path], object]:
    def damage(root: Path) -> None:
        for path in (root / "masks" / split).iterdir():
            edit(path, fill=255)

    return damage


def _cut(name: str) -> Callable[[Path], object]:
    return lambda root: (root / name).write_bytes((root / name).read_bytes()[:300])


def _write(name: str, content: bytes) -> Callable[[Path], object]:
    return lambda root: (root / name).write_bytes(content)


def _edit(name: str, **changes: Any) -> Callable[[Path], object]:
    return lambda root: edit(root / name, **changes)


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing folder": (_remove("."), "data folder set does not exist, expected"),
    "no masks": (_remove("masks"), "has no folder masks/"),
    "no classes": (_remove("classes.txt"), r"has no classes\.txt"),
    "empty classes": (_write("classes.txt", b" \n"), r"classes\.txt is empty, expected one class name per line"),
    "image without mask": (_remove("masks/train/train-3.png"), r"image set/images/train/train-3\.png has no mask"),
    "mask without image": (_remove("images/val/val-1.png"), r"mask set/masks/val/val-1\.png has no image"),
    "mask value": (_edit("masks/train/train-2.png", value=9), r"train-2\.png holds the value 9 \(1 of 1961 pixels\)"),
    "rgb mask": (_edit("masks/train/train-2.png", rgb=True), r"train-2\.png is an image of RGB with 3 channel"),
    "sizes": (_edit("masks/val/val-2.png", rows=31), r"val-2\.png is 37 x 53 \(H x W\) but its mask .* is 31 x 53"),
    "empty split": (_empty_split, "split 'val' of data folder set is empty"),
    "no split": (lambda root: [_remove(f"{part}/val")(root) for part in ("images", "masks")], "has no split 'val'"),
    "truncated": (_cut("images/train/train-1.png"), r"train-1\.png is corrupt or truncated"),
    "corrupt": (
        _write("images/val/val-0.png", b"no picture"),
        r"val-0\.png is corrupt .*not an image of a known",
    ),
    "unknown image": (
        _write("texts.jsonl", b'{"image": "train/train-9", "texts": ["a"]}\n'),
        r"line 1 of set/texts\.jsonl has texts for an unknown image 'train/train-9', did you mean 'train-",
    ),
    "nothing labelled": (_all_ignored("train"), "masks of the split 'train' hold only 255"),
    "nothing to score": (_all_ignored("val"), "masks of the split 'val' hold only 255"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_data(own: Path, refused: Callable[..., None], damage: str) -> None:
    """Training, planning and running refuse damaged data before they write anything."""
    change, pattern = DAMAGES[damage]
    change(own)

    refused(pattern, "train", "set", "--out", "o", *SHORT)
    refused(pattern, "study", "run", "ablation-1", "--data", "set", "--out", "o", *SHORT)


@pytest.mark.parametrize("damage", [name for name in DAMAGES if name != "nothing labelled"])
def test_data_to_score(own: Path, trained: Path, refused: Callable[..., None], damage: str) -> None:
    """Evaluation refuses them too."""
    change, pattern = DAMAGES[damage]
    change(own)

    pattern = "hold only the value 255" if damage == "nothing to score" else pattern
    refused(pattern, "evaluate", trained, "set")


def test_data_found_late(own: Path, refused: Callable[..., None], trained: Path, semalign: Semalign) -> None:
    """Without the scan the same sentence comes when the file is read; a study's finished runs stay."""
    _cut("images/train/train-1.png")(own)
    refused(r"train-1\.png is corrupt or truncated", "train", "set", "--out", "o", "--no-scan", *SHORT)
    _cut("images/val/val-1.png")(own)
    refused(r"val-1\.png is corrupt or truncated", "evaluate", trained, "set", "--no-scan")


def test_no_image_is_needed_for_a_val_error(own: Path, here: Path, semalign: Semalign) -> None:
    """A validation image that breaks the scoring leaves neither weights nor a claim behind."""
    _cut("images/val/val-1.png")(own)

    said = semalign("train", "set", "--out", "o", "--no-scan", *SHORT)

    assert said.code == 2
    assert said.err.splitlines()[-1].startswith("error: image set/images/val/val-1.png is corrupt or truncated")
    assert not (here / "o").exists()


# ---- options ----


@pytest.mark.parametrize(
    ("setting", "pattern"),
    [
        ("train.epocs=3", r"unknown option train\.epocs in --set, did you mean 'train\.epochs'\?"),
        ("trian.epochs=3", "unknown option trian in --set"),
        ("train.epochs=many", r"option train\.epochs in --set got \"many\""),
        ("train.epochs=0", r"option train\.epochs in --set got 0"),
        ("train.epochs=1.5", r"train\.epochs in --set got 1\.5"),
        ("train.lr=-1", r"option train\.lr in --set got -1"),
        ("train.lr=.nan", r"train\.lr in --set got NaN"),
        ("train.lr=.inf", r"train\.lr in --set got Infinity"),
        ("train.lr", "--set got 'train.lr', expected NAME=VALUE"),
        ("=1", "--set got '=1', expected NAME=VALUE"),
        ("train=3", "option train in --set got 3"),
        ("train..epochs=1", r"unknown option train\."),
        ("train={1: 2}", "--set train got"),
        ("train.epochs=*a", r"--set train\.epochs got"),
        ("train.epochs={", r"--set train\.epochs got"),
        ("train.epochs=2020-01-01", r"train\.epochs|value that no option takes"),
        ("data.size=[8, 8]", r"option data\.size\.0 in --set got 8"),
        ("data.size=[32]", r"data\.size"),
        ("data.zoom=[2, 1]", "the lowest zoom 2.0 is above the highest 1.0"),
        ("align.encoder.heads=5", "heads=5, which does not divide its width"),
        ("align.encoder.gate.init=.nan", r"align\.encoder\.gate\.init"),
        ("data.text=captions", r"data\.text"),
        ("data.text=images", "data.text=images, but the folder data have no texts"),
        ("data.depth=true", "data.depth=true, but the folder data have no depth"),
        ("data.train_split=trian", "has no split 'trian', did you mean 'train'"),
        ("train.select_split=tset", "has no split 'tset'"),
        ("text.encoder=clipp", "the text encoder 'clipp' is neither a known name nor an existing path"),
        ("model.size=huge", r"model\.size"),
    ],
)
def test_options(own: Path, refused: Callable[..., None], setting: str, pattern: str) -> None:
    """An unknown option names the nearest; a wrong type, range or combination says what was expected."""
    refused(pattern, "train", "set", "--out", "o", *SHORT, "--set", setting)


def test_a_dead_temperature(own: Path, refused: Callable[..., None]) -> None:
    """The bound and the nearest live start are named."""
    knob = "align.encoder.temperature"
    dead = [f"{knob}.learnable=true", f"{knob}.bound=clamp", f"{knob}.bounds=[-2, 2]", f"{knob}.init=2.66"]
    words = [word for setting in dead for word in ("--set", setting)]

    refused(
        r"l = 2\.66 lies outside its clamp bounds \[-2, 2\].*the nearest live init is 2", "train", "set", *SHORT, *words
    )
    refused("the nearest live init is 2", "study", "run", "placement", "--data", "set", *SHORT, *words)


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        ("train: {epocs: 3}\n", r"unknown option train\.epocs in c\.yaml, did you mean 'train\.epochs'"),
        ("train: {epochs: \n- x", r"the config c\.yaml .*YAML.* line 2"),
        ("- 1\n", "expected a mapping of option names"),
        ("a: &x 1\nb: *x\n", "aliases"),
        ("\xff", r"unknown option|c\.yaml"),
    ],
)
def test_config_files(own: Path, here: Path, refused: Callable[..., None], text: str, pattern: str) -> None:
    """What is wrong in a file is named with the file."""
    (here / "c.yaml").write_text(text, encoding="latin-1")

    refused(pattern, "train", "set", "--out", "o", "--config", "c.yaml")


def test_config_files_that_are_none(own: Path, refused: Callable[..., None]) -> None:
    """A missing file and a folder."""
    refused(r"no config file at c\.yaml", "train", "set", "--config", "c.yaml")
    refused("cannot read the config set", "train", "set", "--config", "set")


@pytest.mark.parametrize("device", ["foo", "cuda:99"])
def test_devices(own: Path, trained: Path, refused: Callable[..., None], device: str) -> None:
    """Every command refuses a device that is none or not there, before it writes."""
    for words in (
        ("train", "set", "--out", "o", *SHORT),
        ("evaluate", trained, "set"),
        ("predict", trained, "set/images/val/val-0.png", "--out", "o"),
        ("study", "run", "ablation-1", "--data", "set", "--out", "o", *SHORT),
        ("study", "plan", "ablation-1", "--data", "set", *SHORT),
        ("demo", "--out", "o"),
    ):
        refused(f"--device got '{device}'", *words, "--device", device)


# ---- output folders ----


def test_train_into_a_folder_of_others(own: Path, here: Path, trained: Path, refused: Callable[..., None]) -> None:
    """A run's, another run's, a study's folder and a file are left alone."""
    shutil.copytree(trained, here / "run")
    (here / "study").mkdir()
    (here / "study" / "study.yaml").write_text("name: x\n")
    (here / "file").write_text("x")

    refused("holds this run already: add --resume", "train", "set", "--out", "run", *SET)
    refused(r"holds another run \(train\.epochs is 2 there and 1 here", "train", "set", "--out", "run", *SHORT)
    refused(r"holds another run \(train\.epochs is 2 there", "train", "set", "--out", "run", "--resume", *SHORT)
    refused("holds a study, expected an empty one", "train", "set", "--out", "study", *SET)
    refused("file is a file, name a folder", "train", "set", "--out", "file", *SET)
    refused("cannot make the output folder", "train", "set", "--out", "file/below", *SET)


def test_resume_of_what_is_damaged(own: Path, here: Path, trained: Path, refused: Callable[..., None]) -> None:
    """Options, state, weights or result that cannot be read stop the run, and nothing is touched."""
    resume = ("train", "set", "--out", "run", "--resume", *SET)
    for file, content, pattern in (
        ("config.yaml", b"{{{", "holds an unreadable run"),
        ("result.json", b"{", "cannot read the result"),
        ("result.json", b'{"format": 99}', "has format 99, expected 2"),
        ("weights.safetensors", b"x" * 1000, "cannot read the checkpoint"),
    ):
        shutil.copytree(trained, here / "run")
        (here / "run" / file).write_bytes(content)
        refused(pattern, *resume)
        shutil.rmtree(here / "run")
    for content, pattern in (
        (b"abc", r"cannot read the checkpoint run/state\.safetensors"),
        (pickle.dumps(list(range(1000))), r"cannot read the checkpoint run/state\.safetensors"),
        ((trained / "weights.safetensors").read_bytes(), "belongs to other options or data"),
    ):
        shutil.copytree(trained, here / "run")
        (here / "run" / "result.json").unlink()
        (here / "run" / "state.safetensors").write_bytes(content)
        refused(pattern, *resume)
        shutil.rmtree(here / "run")


def test_studies_into_a_folder_of_others(own: Path, here: Path, trained: Path, refused: Callable[..., None]) -> None:
    """Study, pilot, plan and demo leave a run's and another study's folder alone."""
    shutil.copytree(trained, here / "run")
    (here / "study").mkdir()
    (here / "study" / "study.yaml").write_text("name: other\n")
    (here / "csv").mkdir()
    (here / "csv" / "results.csv").write_text("x")
    (here / "file").write_text("x")

    for folder, pattern in (
        ("run", "holds a run, expected an empty one"),
        ("study", "holds another study"),
        ("csv", "holds other results"),
        ("file", "file is a file, name a folder"),
    ):
        for command in ("run", "pilot", "plan"):
            refused(pattern, "study", command, "ablation-1", "--data", "set", "--out", folder, *SHORT)
        refused(pattern, "demo", "--out", folder)
    refused(
        'name is "other" there and "ablation-1" here', "study", "run", "ablation-1", "--data", "set", "--out", "study"
    )


def test_a_damaged_study(own: Path, here: Path, semalign: Semalign) -> None:
    """A result that cannot be read is named with what to do; it is not run over, nor reported without it."""
    words = ("study", "run", "ablation-1", "--data", "set", "--out", "o", "--seeds", "2", *SHORT)
    words += ("--set", "pilot_blocks=0")
    assert semalign(*words).code == 0
    result = here / "o" / "runs" / "a" / "seed-1" / "result.json"
    sound = result.read_bytes()

    for content in (b"{", b'{"format": 99}', sound[: len(sound) // 2]):
        result.write_bytes(content)
        before = listing(here)
        assert_refused(semalign(*words), r"result.*seed-1/result\.json.*remove .* to have it run again")
        assert_refused(semalign("study", "report", "o"), r"seed-1/result\.json")
        assert listing(here) == before
    (here / "o" / "study.yaml").write_text("{{{")
    assert_refused(semalign(*words), r"the config o/study\.yaml")
    assert_refused(semalign("study", "report", "o"), r"the config o/study\.yaml")


# ---- checkpoints ----


def test_checkpoints(own: Path, here: Path, trained: Path, refused: Callable[..., None]) -> None:
    """A missing run, a pickle by any name, another format version, damage."""
    whole = (trained / "weights.safetensors").read_bytes()
    (here / "empty").mkdir()
    (here / "w.pt").write_bytes(pickle.dumps({"a": 1}))
    (here / "renamed.safetensors").write_bytes(pickle.dumps({"a": list(range(1000))}))
    (here / "cut.safetensors").write_bytes(whole[:5000])
    save_file({"a": np.zeros(3)}, here / "foreign.safetensors")
    save_file({"a": np.zeros(3)}, here / "old.safetensors", {"semalign": '{"format": 99, "facts": {}}'})
    save_file({"a": np.zeros(3)}, here / "bare.safetensors", {"semalign": '{"format": 1, "facts": {}}'})

    for name, pattern in (
        ("nothing", "no checkpoint at nothing, expected a run's folder"),
        ("empty", r"no checkpoint at empty/weights\.safetensors"),
        ("w.pt", r"ends in '\.pt', expected \.safetensors: other formats can run code"),
        ("renamed.safetensors", r"cannot read the checkpoint renamed\.safetensors"),
        ("cut.safetensors", r"cannot read the checkpoint cut\.safetensors"),
        ("foreign.safetensors", "has no format version, expected 1: read it with the version"),
        ("old.safetensors", "has format version 99, expected 1"),
        ("bare.safetensors", "does not describe a run"),
        ("set/classes.txt", r"ends in '\.txt'"),
    ):
        refused(pattern, "evaluate", name, "set")
        refused(pattern, "predict", name, "set/images/val/val-0.png", "--out", "o")


# ---- evaluate and predict ----


def test_evaluations(own: Path, trained: Path, refused: Callable[..., None]) -> None:
    """Data, split, classes and windows that do not fit."""
    refused("data folder nowhere does not exist", "evaluate", trained, "nowhere")
    refused("has no split 'test', known: train, val", "evaluate", trained, "set", "--split", "test")
    for window in ("abc", "4x4", "0x0", "64", "64x", "-64x64", "64x64x3"):
        refused(f"--window got '{window}', expected HEIGHTxWIDTH", "evaluate", trained, "set", f"--window={window}")
    refused(r"--set train\.epochs has no effect", "evaluate", trained, "set", "--set", "train.epochs=3")
    (own / "classes.txt").write_text("sky\nroad\ncar\n")
    refused("was trained for the classes sky, road, tree and the data have sky, road, car", "evaluate", trained, "set")
    refused("was trained for the classes sky, road, tree and the data have wall", "evaluate", trained, "scenes")


def test_predictions(
    own: Path, here: Path, trained: Path, open_vocabulary: Path, captioned: Path, refused: Callable[..., None]
) -> None:
    """Images, names, texts and options that do not fit; no picture is written."""
    image = "set/images/val/val-0.png"
    (here / "corrupt.png").write_bytes(b"no picture")
    (here / "file").write_text("x")
    shutil.copytree(own / "images" / "val", here / "twin")

    for pattern, run, *words in (
        (r"no image file at nothing\.png", trained, "nothing.png"),
        (r"no image file at nothing\.png", trained, image, "nothing.png"),
        ("no image file at set", trained, "set"),
        (r"corrupt\.png is corrupt or truncated", trained, "corrupt.png"),
        ("the images .* have one name", trained, image, "twin/val-0.png"),
        (r"--classes needs a run with model\.classifier=text", trained, image, "--classes", "a,b"),
        ("--classes got ',', expected names", open_vocabulary, image, "--classes", ","),
        ("--classes got '', expected names", open_vocabulary, image, "--classes", ""),
        ("--text is given to a run that was trained without text", open_vocabulary, image, "--text", "a"),
        ("--attention needs a run with text", open_vocabulary, image, "--attention"),
        ("--attention needs a text", captioned, image, "--attention"),
        ("--attention shows one forward", trained, image, "--attention", "--flip"),
        ("empty|blank", trained, image, "--text", " "),
        ("trained without depth", trained, image, "--depth", "set"),
        ("--window got 'x'", trained, image, "--window", "x"),
    ):
        refused(pattern, "predict", run, *words, "--out", "o")
    refused("cannot make the output folder", "predict", trained, image, "--out", "file")


# ---- studies ----


@pytest.mark.parametrize(
    ("words", "pattern"),
    [
        (("--text", "input"), "--text has no effect with --format hub, which copies the weights: leave it out"),
        (("--size", "32x48"), "--size has no effect with --format hub"),
        (("--no-check",), "--no-check has no effect with --format hub"),
    ],
)
def test_options_of_onnx_for_the_hub(
    trained: Path, refused: Callable[..., None], words: tuple[str, ...], pattern: str
) -> None:
    """What the copied weights cannot have is refused and not passed over."""
    refused(pattern, "export", trained, "--format", "hub", "--out", "o", *words)


@pytest.mark.parametrize(
    ("words", "pattern"),
    [
        (("run", "ablation-3"), "unknown study 'ablation-3', did you mean 'ablation-"),
        (("plan", "mine.yaml"), r"no study file at mine\.yaml"),
        (("run", "ablation-1", "--seeds", "0"), "--seeds got 0, expected at least 1"),
        (("pilot", "ablation-1", "--seeds", "-3"), "--seeds got -3"),
        (("pilot", "ablation-1", "--seeds", "1"), "the pilot of study ablation-1 has 1 blocks"),
        (("plan", "ablation-1", "--seeds", "100000"), "seeds"),
        (("run", "ablation-1", "--workers", "0"), "--workers got 0, expected at least 1"),
        (("pilot", "ablation-1", "--workers", "-1"), "--workers got -1"),
        (("plan", "ablation-1", "--workers", "0"), "--workers got 0"),
        (("run", "ablation-1", "--engine", "slurm"), "--engine got 'slurm', known: local"),
        (("run", "ablation-1", "--lang", "fr"), "fr"),
        (("run", "ablation-1", "--set", "margin=-1"), "margin"),
        (("run", "ablation-1", "--set", "train.epocs=1"), r"did you mean 'train\.epochs'"),
        (("run", "ablation-1", "--set", "align.decoder.heads=7"), "heads=7, which does not divide"),
    ],
)
def test_studies(own: Path, refused: Callable[..., None], words: tuple[str, ...], pattern: str) -> None:
    """Unknown studies, seeds, workers, engines and languages are refused before anything is run."""
    refused(pattern, "study", *words, "--data", "set", *SHORT)


def test_studies_without_data(refused: Callable[..., None]) -> None:
    """The built-in studies bring none."""
    refused("names no data, add --data DATA", "study", "run", "ablation-1")
    refused("data folder nowhere does not exist", "study", "plan", "ablations", "--data", "nowhere")


def test_demo(refused: Callable[..., None]) -> None:
    """Its options are checked first as well."""
    refused("--workers got 0", "demo", "--workers", "0")
    refused("xx", "demo", "--lang", "xx")
    refused(r"did you mean 'train\.epochs'", "demo", "--set", "train.epocs=1")


def test_reports(own: Path, here: Path, trained: Path, refused: Callable[..., None]) -> None:
    """What is not a study's folder cannot be reported."""
    refused("nowhere is not a study's folder: there is no folder", "study", "report", "nowhere")
    refused(r"is not a study's folder: there is no study\.yaml", "study", "report", trained)
    refused("fr", "study", "report", "nowhere", "--lang", "fr")


@pytest.mark.parametrize(
    ("content", "words", "pattern"),
    [
        (None, (), r"r\.csv"),
        (b"\xff\xfe\x00", (), r"r\.csv"),
        (b"", (), r"r\.csv"),
        (b"a,b\n1,2\n", (), "arm"),
        (b"arm,seed,miou\nx,0,0.5\ny,0,0.4\nx,1,0.5\ny,1,0.4\n", (), "Baseline"),
        (b"arm,seed,miou\nx,0,nan\ny,0,0.4\n", ("--baseline", "x"), "miou|nan"),
        (b"arm,seed,miou\nx,0,0.5\ny,0,0.4\nx,1,0.5\ny,1,0.4\n", ("--baseline", "x", "--alpha", "2"), "alpha"),
        (b"arm,seed,miou\nx,0,0.5\ny,0,0.4\nx,1,0.5\ny,1,0.4\n", ("--baseline", "x", "--margin", "-2"), "margin"),
    ],
)
def test_tables(
    here: Path, refused: Callable[..., None], content: bytes | None, words: tuple[str, ...], pattern: str
) -> None:
    """A table that cannot be judged says why."""
    if content is not None:
        (here / "r.csv").write_bytes(content)

    refused(pattern, "study", "judge", "r.csv", *words)


# ---- a full disk ----


def _full_at(name: str, monkeypatch: pytest.MonkeyPatch, after: int = 0) -> None:
    """Let the disk be full when a file of this name is written, after so many that still had room."""
    real = Path.replace
    left = [after]

    def replace(self: Path, target: Path) -> Path:
        if Path(target).name == name:
            if left[0] == 0:
                raise OSError(errno.ENOSPC, "No space left on device")
            left[0] -= 1
        return real(self, target)

    monkeypatch.setattr(Path, "replace", replace)


def test_a_full_disk_before_training(own: Path, monkeypatch: pytest.MonkeyPatch, refused: Callable[..., None]) -> None:
    """Where not even the options can be written, no folder is left."""
    for name in ("command.txt", "config.yaml"):
        with monkeypatch.context() as patch:
            _full_at(name, patch)
            refused(f"cannot write o/{name}: No space left on device, free space", "train", "set", "--out", "o", *SHORT)


def test_a_full_disk_while_training(
    own: Path, here: Path, trained: Path, monkeypatch: pytest.MonkeyPatch, semalign: Semalign
) -> None:
    """The state that was saved stays whole, and with room again the run goes on from it to the same bytes."""
    monkeypatch.setattr(state, "SAVE_EVERY_SECONDS", -1.0)
    words = ("train", "set", "--out", "o", *SET)
    with monkeypatch.context() as patch:
        _full_at("weights.safetensors", patch)
        said = semalign(*words)
    assert said.code == 2
    assert said.err.splitlines()[-1].startswith("error: cannot write o/weights.safetensors: No space left on device")
    assert {path.name for path in (here / "o").iterdir()} == {"command.txt", "config.yaml", "state.safetensors"}

    assert semalign(*words, "--resume").code == 0

    assert (here / "o" / "weights.safetensors").read_bytes() == (trained / "weights.safetensors").read_bytes()
    assert not (here / "o" / "state.safetensors").exists()


def test_a_full_disk_in_a_study(own: Path, here: Path, monkeypatch: pytest.MonkeyPatch, semalign: Semalign) -> None:
    """Finished runs are whole; with room again the rest is run and they are left as they are."""
    words = ("study", "run", "ablation-1", "--data", "set", "--out", "o", "--seeds", "2", *SHORT)
    words += ("--set", "pilot_blocks=0", "--workers", "1")
    with monkeypatch.context() as patch:
        _full_at("result.json", patch, after=2)
        said = semalign(*words)
    assert said.code == 2
    assert re.match(r"error: cannot write o/runs/\w+/seed-\d/result\.json: No space left", said.err.splitlines()[-1])
    finished = {path: path.read_bytes() for path in (here / "o").rglob("result.json")}
    assert len(finished) == 2
    assert {read_result(path).status for path in finished} == {"finished"}

    with monkeypatch.context() as patch:
        _full_at("report.html", patch)
        assert semalign(*words).err.splitlines()[-1].startswith("error: cannot write o/report.html")
    assert semalign("study", "report", "o").code == 0

    assert all(path.read_bytes() == content for path, content in finished.items())
    assert len(list((here / "o").rglob("result.json"))) == 4


def test_a_full_disk_while_predicting(
    own: Path, here: Path, trained: Path, monkeypatch: pytest.MonkeyPatch, semalign: Semalign
) -> None:
    """Pictures are whole or not there."""
    _full_at("val-1.mask.png", monkeypatch)

    said = semalign("predict", trained, "set/images/val/val-0.png", "set/images/val/val-1.png", "--out", "o")

    assert_refused(said, r"cannot write o/val-1\.mask\.png: No space left on device")
    assert {path.name for path in (here / "o").iterdir()} == {"val-0.mask.png", "val-0.overlay.png"}


def test_checkpoints_say_that_the_disk_is_full(
    own: Path, here: Path, monkeypatch: pytest.MonkeyPatch, semalign: Semalign
) -> None:
    """The library's own error becomes ours."""
    from safetensors import SafetensorError

    def full(*_: Any) -> None:
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(tensors_file, "save_file", full)

    said = semalign("train", "set", "--out", "o", *SHORT)

    assert said.code == 2
    # A slow machine comes to save its state before it comes to the weights.
    assert re.search(r"cannot write o/\w+\.safetensors: I/O error: No space left", said.err.splitlines()[-1])
    assert not (here / "o").exists()


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (("predict", "RUN", "set/images/val/val-0.png"), "predict"),
        (("export", "RUN"), "export"),
        (("import-original", "a.pth"), "import-original"),
        (("study", "report", "s"), "study report"),
        (("study", "judge", "r.csv"), "study judge"),
        (("study", "simulate"), "study simulate"),
        (("data", "check", "set"), "data check"),
        (("data", "import", "voc", "set", "--out", "o"), "data import"),
        (("config", "show"), "config show"),
        (("config", "schema"), "config schema"),
        (("bench", "alignment"), "bench alignment"),
        (("bench", "step"), "bench step"),
        (("bench", "infer"), "bench infer"),
    ],
)
def test_every_command_knows_the_common_options(
    own: Path, trained: Path, refused: Callable[..., None], words: tuple[str, ...], name: str
) -> None:
    """Where --set or --device has no effect it is told so, in the words of no other command."""
    words = tuple(str(trained) if word == "RUN" else word for word in words)
    if name not in ("data check", "config show", "bench step"):
        refused(rf"--set train\.epochs=1 has no effect on {name}: leave it out", *words, "--set", "train.epochs=1")
    if name != "predict":
        refused(rf"--device mps has no effect on {name}, which works on the processor", *words, "--device", "mps")


def test_engines_are_known(refused: Callable[..., None]) -> None:
    """Plan, pilot and run take the same engines."""
    for command in ("plan", "pilot", "run"):
        refused(
            "--engine got 'slurm', known: local, ray",
            "study",
            command,
            "ablation-1",
            "--data",
            "scenes",
            "--engine",
            "slurm",
        )
