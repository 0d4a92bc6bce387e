"""The commands as they should be used, and what they print."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image
from rich.console import Console

import semalign as package
from semalign.cli import main, show
from semalign.results import read_result
from semalign.study import design, engines, plan
from tests.cli.conftest import Said, Semalign
from tests.small import CLASSES, TINY

SET = [word for setting in TINY for word in ("--set", setting)]
SHORT = [*SET, "--set", "train.epochs=1", "--set", "train.val_every=0"]


def one_object(said: Said) -> Any:
    """Return the one JSON object on stdout, of a command that succeeded."""
    assert said.code == 0, said.err
    assert said.out.count("\n") == 1
    value = json.loads(said.out)
    assert isinstance(value, dict)
    return value


# ---- train, evaluate, predict ----


def test_train(data: Path, here: Path, semalign: Semalign) -> None:
    """Groups, scores and the table stand on stderr, the folder's path alone on stdout."""
    said = semalign("train", data, "--out", "o", *SHORT)

    assert said.code == 0
    assert said.out == "o\n"
    for text in (
        "parameter groups",
        "norms and biases",
        "temperatures",
        "mIoU on val",
        "IoU on val (3 images), average",
    ):
        assert text in said.err
    assert sum(line.startswith("note: ") for line in said.err.splitlines()) == 1
    command = (here / "o" / "command.txt").read_text()
    assert command.startswith(f"semalign train {data} --out o --set 'data.size=[32,43]'")
    assert yaml.safe_load((here / "o" / "config.yaml").read_text())["data"]["size"] == [32, 43]


def test_train_says_it_in_json(data: Path, here: Path, semalign: Semalign) -> None:
    """One object: score, classes, parameters, seconds; resuming the finished run says the same."""
    value = one_object(semalign("train", data, "--out", "o", "--json", *SHORT))
    again = one_object(semalign("train", data, "--out", "o", "--json", "--resume", *SHORT))

    assert value == again
    assert value.keys() == {
        "run", "split", "miou", "iou", "n_images", "absent", "parameters", "seconds", "scored_weights", "notes"
    }  # fmt: skip
    assert (value["run"], value["split"], value["n_images"], value["scored_weights"]) == ("o", "val", 3, "average")
    stored = read_result(here / "o" / "result.json")
    assert stored.score is not None
    assert value["miou"] == stored.score.miou


def test_the_default_folder_is_named_after_the_data(data: Path, here: Path, semalign: Semalign) -> None:
    """Without --out a run lives in runs/DATA."""
    assert semalign("train", data, *SHORT).out.strip() == str(Path("runs") / data.name)


def test_evaluate(trained: Path, data: Path, semalign: Semalign) -> None:
    """The contract's keys; mIoU in percent on stdout without --json."""
    value = one_object(semalign("evaluate", trained, data, "--json"))
    said = semalign("evaluate", trained, data)

    assert value.keys() == {"format", "split", "miou", "iou", "n_images", "absent", "notes", "leaking"}
    assert value["format"] == 1
    assert value["iou"].keys() | set(value["absent"]) == set(CLASSES)
    assert said.out == f"{100 * value['miou']:.2f}\n"
    assert "note: the text is the same for all images" in said.err


@pytest.mark.parametrize("words", [("--flip",), ("--window", "33x41"), ("--split", "train"), ("--counterfactuals",)])
def test_evaluate_in_other_ways(trained: Path, data: Path, semalign: Semalign, words: tuple[str, ...]) -> None:
    """Mirrored, by windows, on another split, with the text changed."""
    value = one_object(semalign("evaluate", trained, data, "--json", *words))
    said = semalign("evaluate", trained, data, *words)

    assert 0 <= value["miou"] <= 1
    assert said.out.splitlines()[-1] == f"{100 * value['miou']:.2f}"
    assert len(said.out.splitlines()) == (2 if "--counterfactuals" in words else 1)
    assert value["n_images"] == (7 if "train" in words else 3)
    assert ("counterfactuals" in value) == ("--counterfactuals" in words)
    if "counterfactuals" in value:
        assert value["counterfactuals"]["shuffled"] == {"applies": False, "why": "all images share one text"}
        assert "with the text changed" in said.err
        assert said.out.splitlines()[0] == value["text_use"]["sentence"]


def test_predict(trained: Path, data: Path, here: Path, semalign: Semalign) -> None:
    """Overlays' paths on stdout, shares on stderr; as JSON all files."""
    images = [data / "images" / "val" / f"val-{number}.png" for number in range(2)]

    said = semalign("predict", trained, *images)
    value = one_object(semalign("predict", trained, *images, "--json", "--attention", "--out", "p"))

    assert said.out.splitlines() == [f"predictions/val-{number}.overlay.png" for number in range(2)]
    assert " %" in said.err
    assert value.keys() == {"predictions"}
    for item in value["predictions"]:
        assert item.keys() == {"image", "mask", "overlay", "attention", "classes", "notes"}
        with Image.open(here / item["mask"]) as picture:
            mask = np.array(picture)
        assert mask.shape == (37, 53)
        assert item["classes"] == {CLASSES[k]: (mask == k).mean() for k in np.unique(mask).tolist()}


def test_classes_that_were_never_seen(data: Path, semalign: Semalign) -> None:
    """Train without a class, evaluate with it, ask for names that no data have: aliases, templates and notes."""
    options = ("model.classifier=text", "data.unseen=[sky]", 'text.templates=["a {}", "{article} {} at night"]')
    words = [word for setting in options for word in ("--set", setting)]

    assert semalign("train", data, *SHORT, *words, "--out", "open").code == 0
    value = one_object(semalign("evaluate", "open", data, "--json"))
    said = semalign("evaluate", "open", data)
    asked = one_object(
        semalign("predict", "open", data / "images/val/val-0.png", "--classes", "street|road, 天空,lamp post", "--json")
    )
    refused = semalign("train", data, *SHORT, "--set", "data.unseen=[sky]", "--out", "linear")

    assert {"seen", "unseen", "harmonic"} <= value.keys()
    assert value["unseen"] == value["iou"]["sky"]
    assert re.search(r"mIoU of seen [\d.]+, unseen [\d.]+, harmonic [\d.]+", said.err)
    assert set(asked["predictions"][0]["classes"]) <= {"street|road", "天空", "lamp post"}
    assert refused.code == 2
    assert "set model.classifier=text" in refused.err


def test_text_options_that_do_not_fit(data: Path, semalign: Semalign) -> None:
    """One sentence and exit code 2 for an encoder, a template or a level that cannot be had."""
    for setting, message in (
        ("text.encoder=clap:x", "did you mean 'clip'?"),
        ("text.encoder=clip:no/such/folder", "names no folder at 'no/such/folder'"),
        ('text.templates=["a thing"]', "holds {} 0 times, expected once"),
        ("text.templates=imagnet", "text.templates"),
        ("text.level=word", "text.level"),
    ):
        said = semalign("train", data, *SHORT, "--set", setting, "--out", "none")
        assert said.code == 2, setting
        assert message in said.err
        assert "Traceback" not in said.err
    said = semalign(
        "train", data, *SHORT, "--set", "text.level=token", "--set", "text.templates=scene", "--out", "none"
    )
    assert said.code == 2
    assert "text.level=token got 7 templates, expected one" in said.err


# ---- study ----


def test_a_study_from_plan_to_report(
    data: Path, here: Path, semalign: Semalign, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Plan, pilot, run, report and judge of ablation-1, each with its JSON object."""
    monkeypatch.setattr(plan, "probe_seconds", lambda *_: 60.0)
    words = ("ablation-1", "--data", data, "--seeds", "2", "--workers", "1", *SHORT)

    planned = one_object(semalign("study", "plan", *words, "--json"))
    assert (planned["runs"], planned["missing"], planned["hours"]) == (6, 6, pytest.approx(0.1))
    assert semalign("study", "plan", *words).out == "0.10\n"

    pilot = one_object(semalign("study", "pilot", *words, "--json"))
    assert pilot["n"] == 2
    assert one_object(semalign("study", "plan", *words, "--json"))["missing"] == 2

    said = semalign("study", "run", *words)
    report = Path("studies") / "ablation-1" / "report.html"
    assert said.out == f"{report}\n"
    assert re.search(r"^\[3/4\] A, seed [01]: mIoU \d+\.\d$", said.err, re.MULTILINE)
    assert "\n- " in said.err
    assert {"results.csv", "timings.csv", "tables.md", "report.html", "runs"} <= {
        path.name for path in report.parent.iterdir()
    }

    run = one_object(semalign("study", "run", *words, "--json"))
    again = one_object(semalign("study", "report", report.parent, "--json", "--lang", "zh"))
    assert run == again
    assert run["report"] == str(report)
    assert run["judgement"] == json.loads((report.parent / "judgement.json").read_text())

    judged = one_object(semalign("study", "judge", report.parent / "results.csv", "--json"))
    assert [item["word"] for item in judged["verdicts"]] == [item["word"] for item in run["judgement"]["verdicts"]]
    assert semalign("study", "judge", report.parent / "results.csv").out.startswith("A - Baseline: ")


def test_demo(here: Path, semalign: Semalign, monkeypatch: pytest.MonkeyPatch) -> None:
    """The demo is a study of its own, smaller here; it prints where its report is."""
    study = yaml.safe_load(design.DEMO_FILE.read_text())
    study |= {"seeds": 2, "arms": {name: study["arms"][name] for name in ("Baseline", "A")}, "pilot_blocks": 0}
    study["tables"] = study["tables"][:1]
    (here / "demo.yaml").write_text(yaml.safe_dump(study))
    monkeypatch.setattr(design, "DEMO_FILE", here / "demo.yaml")
    small = [*SHORT, "--set", "data.n_train=4", "--set", "data.n_val=2"]

    said = semalign("demo", "--workers", "1", *small)
    value = one_object(semalign("demo", "--workers", "1", "--json", *small))

    assert said.code == 0, said.err
    assert said.out == "semalign-demo/report.html\n"
    assert (here / "semalign-demo" / "report.html").stat().st_size > 10_000
    assert value["report"] == "semalign-demo/report.html"


# ---- data, config, help ----


def test_data_check(data: Path, own: Path, semalign: Semalign) -> None:
    """Exit 0 on sound data, 1 with every problem on damaged ones."""
    clean = semalign("data", "check", data)
    assert (clean.code, clean.out.splitlines()[-1].partition(",")[0]) == (0, "0 errors")
    (own / "masks" / "train" / "train-0.png").unlink()
    (own / "images" / "val" / "val-1.png").write_bytes(b"x")

    said = semalign("data", "check", "set")
    as_json = semalign("data", "check", "set", "--json")

    assert said.code == as_json.code == 1
    assert said.out.splitlines()[-1].startswith("2 errors")
    value = json.loads(as_json.out)
    assert len(value["problems"]) == value["errors"] == 2
    assert {finding["code"] for finding in value["findings"]} == {"pairing", "image-broken"}
    assert (value["sheet"], value["fixed"]) == (None, None)
    assert said.out.startswith("error: ")
    assert "[image-broken]" in said.out


def test_data_check_fixes_a_copy(own: Path, here: Path, semalign: Semalign) -> None:
    """The copy is clean and the exit code is the copy's; the original is as it was, and a second time OUT is taken."""
    (own / "masks" / "train" / "train-0.png").unlink()
    (own / "images" / "val" / "val-1.png").write_bytes(b"x")

    said = semalign("data", "check", "set", "--fix", "copy", "--sheet", "sheet.png")
    again = semalign("data", "check", "set", "--fix", "copy")
    value = one_object(semalign("data", "check", "set", "--fix", "other", "--json"))

    assert said.code == 0
    assert {"copy", "sheet.png"} <= set(said.out.splitlines())
    assert (here / "sheet.png").read_bytes().startswith(b"\x89PNG")
    assert again.code == 2
    assert "--fix copy is not empty, expected a new or empty folder" in again.err
    assert value["errors"] == 2
    assert (value["fixed"]["out"], value["fixed"]["errors"], value["fixed"]["changes"]) == ("other", 0, 3)
    assert not (own / "fixes.json").exists()
    assert semalign("data", "check", "copy").code == 0
    assert semalign("data", "check", "set").code == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("set", "--sheet", "sheet.jpg"), "--sheet got 'sheet.jpg', expected the name of a PNG file"),
        (("scenes", "--fix", "copy"), "--fix is for a folder, the built-in scenes have nothing to fix"),
        (("set", "--fix", "set/copy"), "--fix set/copy lies inside the data set"),
        (("set", "--sheet", "nowhere/sheet.png"), "cannot write nowhere/sheet.png"),
    ],
)
def test_data_check_refuses(own: Path, semalign: Semalign, words: tuple[str, ...], message: str) -> None:
    """One sentence, exit 2."""
    said = semalign("data", "check", *words)

    assert said.code == 2
    assert message in said.err


def test_config(data: Path, semalign: Semalign) -> None:
    """All options with their values, as YAML or JSON; the schema describes them."""
    shown = yaml.safe_load(semalign("config", "show", "--data", data, "--set", "train.epochs=3").out)
    value = one_object(semalign("config", "show", "--data", data, "--set", "train.epochs=3", "--json"))
    schema = one_object(semalign("config", "schema", "--json"))

    assert shown == value
    assert value["train"]["epochs"] == 3
    assert value["data"]["size"] == [144, 192]
    assert "TrainOptions" in schema["$defs"]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("train",), "error: missing argument 'DATA', see semalign train --help"),
        (("trian",), "error: no such command 'trian'. Did you mean 'train'?, see semalign --help"),
        (("train", "x", "--epochs", "3"), "error: no such option: --epochs, see semalign train --help"),
        (("train", "x", "--out"), "error: option '--out' requires an argument, see"),
        (("train", "x", "y"), "error: got unexpected extra argument(s) (y), see semalign train --help"),
        (("study", "run", "x", "--seeds", "abc"), "error: invalid value for '--seeds':"),
        (("predict", "x"), "error: missing argument 'IMAGE...', see semalign predict --help"),
    ],
)
def test_wrong_usage_is_one_line(semalign: Semalign, words: tuple[str, ...], text: str) -> None:
    """What is wrong with the words, and where the help is."""
    said = semalign(*words)

    assert said.code == 2
    assert said.out == ""
    assert said.err.startswith(text)
    assert said.err.count("\n") == 1


def test_help_and_version(semalign: Semalign) -> None:
    """Help succeeds; no words at all show it and do not."""
    assert semalign("--version").out == f"{package.__version__}\n"
    for words in ((), ("study",), ("data",), ("config",)):
        asked, silent = semalign(*words, "--help"), semalign(*words)
        assert (asked.code, silent.code) == (0, 2)
        assert asked.out.startswith("Usage: semalign ")
        assert silent.err.strip() == asked.out.strip()


# ---- what is printed ----


@pytest.mark.filterwarnings("default")
def test_warnings_are_one_line_each(data: Path, semalign: Semalign) -> None:
    """A dead temperature is warned of once, readably, though the model is built twice and has many places."""
    said = semalign("train", data, "--out", "o", *SHORT, "--set", "model.preset=seed")

    lines = [line for line in said.err.splitlines() if line.startswith("warning: ")]
    assert said.code == 0
    assert len(lines) == len(set(lines)) == 1
    assert "the decoder alignment's temperature (preset 'seed') is learnable" in lines[0]
    assert "Warning" not in said.err


@pytest.mark.filterwarnings("default")
def test_warnings_of_a_study_are_said_once(data: Path, semalign: Semalign) -> None:
    """The pilot, the runs and the check of the models warn of the same thing: one line."""
    said = semalign(
        *("study", "run", "ablation-1", "--data", data, "--seeds", "1", "--set", "pilot_blocks=0", "--workers", "1"),
        *(*SHORT, "--set", "model.preset=seed", "--set", "align.allow_dead=true"),
    )

    lines = [line for line in said.err.splitlines() if line.startswith("warning: ")]
    assert said.code == 0, said.err
    assert len(lines) == len(set(lines))
    assert sum("decoder" in line for line in lines) == 1
    assert sum("encoder" in line for line in lines) == 1


@pytest.mark.filterwarnings("default")
def test_a_single_sentence_is_warned_of(trained: Path, data: Path, semalign: Semalign) -> None:
    """One line for each kind of alignment."""
    said = semalign("predict", trained, data / "images" / "val" / "val-0.png", "--text", "a tree")

    lines = [line for line in said.err.splitlines() if line.startswith("warning: ")]
    assert [line.split()[2] for line in lines] == ["encoder", "decoder"]
    assert all("text of one token" in line for line in lines)


def test_the_handler_of_warnings_is_put_back(semalign: Semalign) -> None:
    """A program that calls the command line keeps its own."""
    before = warnings.showwarning

    semalign("--version")

    assert warnings.showwarning is before


def test_names_are_no_markup(own: Path, semalign: Semalign) -> None:
    """Brackets and colons of class names are printed as they are."""
    (own / "classes.txt").write_text("[bold]sky\n[/x]\n:tree:\n")

    said = semalign("train", "set", "--out", "o", *SHORT)
    predicted = semalign("predict", "o", "set/images/val/val-0.png")

    assert said.code == 0, said.err
    for name in ("[bold]sky", "[/x]", ":tree:"):
        assert name in said.err
    assert predicted.code == 0
    assert "] " in predicted.err or ":tree:" in predicted.err or "[/x]" in predicted.err


def test_a_progress_bar_gives_way_to_an_error(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal the bar is taken away, so that the sentence stands alone."""
    bars: list[Any] = []

    def fail() -> None:
        with show.task("[/]") as task:
            bars.append(task._bar)
            task.begin("[/]", 3)
            task.note("[x")
            raise ValueError("stop")

    with (here / "terminal").open("w") as file:
        monkeypatch.setattr(show, "console", Console(force_terminal=True, file=file))
        with pytest.raises(ValueError, match="stop"):
            fail()

    assert bars[0].live.transient
    assert "[x" in (here / "terminal").read_text()


def test_an_interrupt(semalign: Semalign, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopping is no fault: one line says how to go on."""

    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("semalign.api.resolve", stop)

    said = semalign("train", "scenes")

    assert said.code == 130
    assert said.err == "stopped: start the same command again to continue (train: with --resume)\n"


def test_a_fault_of_ours_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch, here: Path) -> None:
    """Only our own errors become sentences."""

    def fault(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError("ours")

    monkeypatch.setattr("semalign.api.resolve", fault)
    monkeypatch.setattr(sys, "argv", ["semalign", "train", "scenes"])

    with pytest.raises(ZeroDivisionError, match="ours"):
        main()


# ---- as a process ----


def process(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Call the command line in a process of its own."""
    command = [sys.executable, "-m", "semalign", *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_a_process_refuses_in_one_sentence(here: Path) -> None:
    """Nothing but the sentence, and exit code 2."""
    done = process(here, "train", "nowhere")

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: data folder nowhere does not exist")
    assert done.stderr.count("\n") == 1
    assert list(here.iterdir()) == []


def test_an_error_of_a_worker(own: Path, here: Path) -> None:
    """What goes wrong in a worker's process is one sentence here too; the study can go on once it is mended."""
    (own / "images" / "val" / "val-1.png").write_bytes(b"no picture")
    words = ["study", "run", "ablation-1", "--data", "set", "--seeds", "1", "--workers", "2", "--out", "o", "--no-scan"]

    done = process(here, *words, *SHORT, "--set", "pilot_blocks=0", "--json")

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: image set/images/val/val-1.png is corrupt or truncated")
    assert done.stderr.count("\n") == 1
    assert not list((here / "o").rglob("result.json"))


def test_the_default_number_of_workers() -> None:
    """One process per processor that this process may use."""
    assert engines.default_workers() >= 1


@pytest.mark.parametrize(
    ("own", "expected"),
    [({}, "10000000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "passive"}, None)],
)
def test_idle_threads_wait_awake(
    own: dict[str, str], expected: str | None, semalign: Semalign, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command line lets idle threads look for work longer, unless the user has set how they wait."""
    # The second line lets the first be undone: what a command sets in the environment would outlive the test.
    for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    for name, value in own.items():
        monkeypatch.setenv(name, value)

    semalign("config", "schema")

    assert os.environ.get("GOMP_SPINCOUNT") == expected
