"""Studies whose runs a command line of the user's makes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from semalign.config.study import StudyOptions
from semalign.errors import ConfigError, OutputError, StudyError
from semalign.execution import Events, Execution
from semalign.report import write_report
from semalign.results import RunResult, read_result
from semalign.study import guard
from semalign.study.carry_out import carry_out
from semalign.study.command import CommandOptions, check_command, command_options
from semalign.study.command_run import CommandFailed, _tail, run_command
from semalign.study.design import PlannedRun, pilot_runs, planned_runs, read_study
from semalign.study.engines import local
from semalign.study.plan import plan_study
from semalign.study.score_file import read_score
from tests.study.here import Here

SCRIPT = """\
import json, os, sys
seed, lr, out = int(sys.argv[1]), float(sys.argv[2]), sys.argv[3]
print("seed", seed, "threads", os.environ["OMP_NUM_THREADS"], "in", os.getcwd())
if lr > 10:
    sys.exit("boom at rate " + sys.argv[2])
score = {"failed": "the loss is nan"} if lr > 5 and seed == 1 else {"miou": 0.5 + 0.01 * lr + 0.001 * (seed * 7 % 3)}
json.dump(score, open(os.path.join(out, "score.json"), "w"))
"""


def value_of(folder: Path, **changes: Any) -> dict[str, Any]:
    """Return a sound study of a script in ``folder`` as plain values."""
    (folder / "script.py").write_text(SCRIPT)
    value: dict[str, Any] = {
        "name": "own",
        "question": "Does a larger rate help?",
        "command": f"'{sys.executable}' script.py {{seed}} {{arm.lr}} {{out}}",
        "baseline": "small rate",
        "arms": {"small rate": {}, "large rate": {"lr": 2}},
        "options": {"lr": 0.1},
        "seeds": 3,
    }
    return {name: item for name, item in (value | changes).items() if item is not None}


def study_of(folder: Path, *, settings: tuple[str, ...] = (), data: str | None = None, **changes: Any) -> StudyOptions:
    """Return such a study, read from its file."""
    file = folder / "study.yaml"
    file.write_text(yaml.safe_dump(value_of(folder, **changes), sort_keys=False))
    return read_study(str(file), data=data, assignments=settings)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the current folder, empty; runs of studies stay in this process."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setattr(local, "ProcessPoolExecutor", Here)
    return folder


def commands(study: StudyOptions) -> dict[tuple[str, int], tuple[str, ...]]:
    """Return the words of every run's command."""
    found = {}
    for run in planned_runs(study):
        assert isinstance(run.options, CommandOptions)
        found[run.arm, run.seed] = run.options.command
    return found


# --- the command line -----------------------------------------------------------------------------


def test_command_lines_by_hand(tmp_path: Path) -> None:
    """Words are split as a shell does, then filled: blanks and braces of a value stay in its word."""
    study = study_of(
        tmp_path,
        command="run 'a b' --json '{{\"x\": 1}}' --seed={seed} --arm {arm} {arm.opt.lr} {arm.on} {arm.text} "
        "{data} {out}/x",
        data="my data",
        arms={"small rate": {"opt.lr": "1e-3"}, "B": {"opt": {"lr": 7}, "on": True}},
        options={"text": "two {words}", "on": False},
    )

    filled = commands(study)
    assert [word.format(out="/o") for word in filled["small rate", 2]] == [
        *("run", "a b", "--json", '{"x": 1}', "--seed=2", "--arm", "small rate"),
        *("1e-3", "false", "two {words}", "my data", "/o/x"),
    ]
    assert [word.format(out="/o") for word in filled["B", 0]][7:10] == ["7", "true", "two {words}"]
    assert command_options(study, "B", 0).values == {"text": "two {words}", "on": True, "opt.lr": 7}


def test_settings_and_factors(tmp_path: Path) -> None:
    """--set changes a value of all arms, and factors make arms, as for our own training."""
    study = study_of(tmp_path, settings=("lr=0.7", "margin=2"))
    crossed = study_of(
        tmp_path,
        baseline="Baseline",
        arms=None,
        command="run {seed} {arm.a} {arm.b} {out}",
        options=None,
        factors={"a": {"off": {"a": 0}, "on": {"a": 1}}, "b": {"off": {"b": 0}, "on": {"b": 1}}},
    )

    assert study.margin == 2
    assert commands(study)["small rate", 0][-2] == "0.7"
    assert {arm: words[2:4] for (arm, seed), words in commands(crossed).items() if seed == 0} == {
        "Baseline": ("0", "0"),
        "b on": ("0", "1"),
        "a on": ("1", "0"),
        "a on + b on": ("1", "1"),
    }


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"command": "run {sed} {out}"}, r"the unknown placeholder \{sed\}, did you mean 'seed'\?"),
        ({"command": "run {seed} {arm.rl} {out}"}, r"unknown placeholder \{arm\.rl\}, did you mean 'arm\.lr'\?"),
        ({"command": "run {seed:03d} {arm.lr} {out}"}, r"placeholder \{seed:03d\}, expected the name alone"),
        ({"command": "run {seed!r} {arm.lr} {out}"}, r"placeholder \{seed!r\}, expected the name alone"),
        ({"command": "run {} {arm.lr} {out}"}, r"unknown placeholder \{\}, known: .*double a brace"),
        ({"command": "run {seed {arm.lr} {out}"}, "has an open brace in '{seed'"),
        ({"command": "run 'x {seed} {out}"}, r"is not a command line \(No closing quotation\)"),
        ({"command": "  "}, "is empty, expected a program"),
        ({"command": "run {arm.lr} {out}"}, r"never uses \{seed\}, so that all blocks would be the same run: add it"),
        ({"command": "run {seed} {arm.lr}"}, r"never uses \{out\}, the folder in which .* score\.json"),
        ({"command": "run {seed} {arm.lr} {out} {data}"}, r"uses \{data\} and the study names no data, add --data"),
        ({"data": "d"}, r"never uses \{data\}, so that data=d could have no effect"),
        (
            {"options": {"lr": 1, "epochs": 3}},
            r"arm small rate .* sets epochs, which the command never uses.*known: lr",
        ),
        ({"options": {}}, r"arm small rate of study own has no value 'lr', which the command uses as \{arm\.lr\}"),
        ({"options": {"lr": [1, 2]}}, r"sets lr to \[1, 2\], expected text, a number, true or false"),
        ({"options": {"lr": None}}, r"sets lr to None, expected text"),
        ({"options": {"lr": 2}}, "arms 'small rate' and 'large rate' .* give the same command line"),
        ({"matched": {"large rate": "small rate"}}, "matched is for our own training"),
    ],
)
def test_commands_that_cannot_make_the_runs(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    """What is wrong with a command is said when the study is read, before anything is run."""
    with pytest.raises(ConfigError, match=message):
        study_of(tmp_path, **changes)


def test_an_arm_by_its_name_alone(tmp_path: Path) -> None:
    """Arms without values differ by the name that the command is given."""
    study = study_of(
        tmp_path, command="run configs/{arm}.yaml {seed} {out}", arms={"small rate": {}, "B": {}}, options={}
    )

    assert commands(study)["B", 1] == ("run", "configs/B.yaml", "1", "{out}")
    check_command(study)


def test_the_pilot_is_asked_for(tmp_path: Path) -> None:
    """By default there is none; asked for, it repeats the baseline's command line in another folder."""
    asked = pilot_runs(study_of(tmp_path, pilot_blocks=1))

    assert pilot_runs(study_of(tmp_path)) == []
    assert [(run.arm, run.folder) for run in asked] == [
        ("small rate", "runs/small-rate/seed-0"),
        ("recipe again", "pilot/recipe-again/seed-0"),
    ]
    assert asked[0].options == asked[1].options


# --- whole studies --------------------------------------------------------------------------------


def outcomes(folder: Path) -> dict[str, RunResult]:
    """Return all results by their folder."""
    return {str(path.parent.relative_to(folder)): read_result(path) for path in sorted(folder.rglob("result.json"))}


def test_a_whole_study(here: Path) -> None:
    """Runs, failures as outcomes, verdict and report; started again nothing is run, what is lost is run again."""
    study = study_of(here, arms={"small rate": {}, "large rate": {"lr": 2}, "huge rate": {"lr": 9}})
    told: list[tuple[str, int, str]] = []

    def progress(arm: str, seed: int, status: str, miou: float | None, done: int, total: int) -> None:
        told.append((arm, seed, status))

    carry_out(study, here / "out", Execution(workers=1, events=Events(run_done=progress)), command="semalign study run")
    write_report(here / "out", lang="en")

    found = outcomes(here / "out")
    assert len(found) == len(told) == 9
    assert ("huge rate", 1, "failed") in told
    one = found["runs/large-rate/seed-2"]
    assert (one.arm, one.seed, one.status) == ("large rate", 2, "finished")
    assert one.score is not None
    assert one.score.miou == pytest.approx(0.5 + 0.02 + 0.002)
    assert one.facts["config"]["values"] == {"lr": 2}
    assert found["runs/huge-rate/seed-1"].facts["failure"] == "the loss is nan"
    rows = (here / "out" / "results.csv").read_text().splitlines()
    assert rows[0] == "arm,seed,miou"
    assert "huge rate,1," in rows
    run = here / "out" / "runs" / "large-rate" / "seed-2"
    log = (run / "log.txt").read_text().splitlines()
    assert log[0] == "$ " + (run / "command.txt").read_text().strip()
    assert log[0].endswith(f"script.py 2 2 {run / 'out'}")
    assert log[1].startswith("seed 2 threads ")
    assert log[1].endswith(f"in {here}")
    facts = json.loads((here / "out" / "facts.json").read_text())
    assert facts["files"].keys() >= {"script.py"}
    assert facts["data"] == {"fingerprints": {}}
    words = [verdict["word"] for verdict in json.loads((here / "out" / "judgement.json").read_text())["verdicts"]]
    assert words == ["better", "inconclusive"]

    told.clear()
    before = (here / "out" / "results.csv").read_bytes()
    (run / "result.json").unlink()
    carry_out(study, here / "out", Execution(workers=1, events=Events(run_done=progress)))
    write_report(here / "out", lang="en")
    assert told == [("large rate", 2, "finished")]
    assert (here / "out" / "results.csv").read_bytes() == before
    assert (run / "log.txt").read_text().count("$ ") == 2


def test_a_study_grows_by_looks(here: Path) -> None:
    """A clear effect ends the study at its first look."""
    study = study_of(here, seeds=None, looks=[3, 4])
    carry_out(study, here / "out", Execution(workers=1))

    assert len(outcomes(here / "out")) == 2 * 3


def test_a_pilot_of_a_deterministic_script(here: Path) -> None:
    """The same command line twice gives the same score, which the pilot says."""
    carry_out(study_of(here, pilot_blocks=2), here / "out", Execution(workers=1), pilot_only=True)

    pilot = json.loads((here / "out" / "pilot.json").read_text())
    assert pilot["sd_paired"] == 0
    assert "identical to the last digit" in pilot["notes"][0]


def test_a_crash_stops_the_study(here: Path) -> None:
    """A crash is no outcome: nothing is recorded, what has finished is kept, and the mended script goes on."""
    study = study_of(here, arms={"small rate": {}, "large rate": {"lr": 11}})

    with pytest.raises(
        CommandFailed,
        match=r"arm large rate, seed 0: the command ended with exit code 1, expected exit code 0, nothing is recorded: "
        r"fix it .* the last lines of .*log\.txt are: seed 0 threads .* \| boom at rate 11$",
    ):
        carry_out(study, here / "out", Execution(workers=1))
    # What has begun finishes, nothing more is begun.
    assert list(outcomes(here / "out")) == ["runs/small-rate/seed-0"]

    (here / "script.py").write_text(SCRIPT.replace("lr > 10", "lr > 100"))
    with pytest.warns(UserWarning, match=r"script\.py has changed since the study was begun"):
        carry_out(study, here / "out", Execution(workers=1))
    found = outcomes(here / "out")
    assert len(found) == 6
    assert found["runs/small-rate/seed-0"].facts["notes"] == []
    assert "script.py has changed" in found["runs/large-rate/seed-0"].facts["notes"][0]["text"]


def test_the_log_s_tail_is_plain_text(tmp_path: Path) -> None:
    """Neither colours nor other control characters, nor bytes that are no text, reach whoever reads the error."""
    log = tmp_path / "log.txt"
    log.write_bytes(b"before\n" + b"\x1b[31mred\x1b[0m\x00 \xff\tand \x1b]0;title\x07\r50 %\r100 %\n\n")

    assert _tail(log, 7) == "red \N{REPLACEMENT CHARACTER} and ]0;title | 50 % | 100 %"
    assert _tail(log, 0).startswith("before | red")


def test_a_script_mended_before_its_first_run(here: Path) -> None:
    """Where nothing has finished, the mended script is the study's script."""
    study = study_of(here, options={"lr": 12}, arms={"small rate": {}, "large rate": {"lr": 11}})
    with pytest.raises(CommandFailed, match="boom"):
        carry_out(study, here / "out", Execution(workers=1))
    (here / "script.py").write_text(SCRIPT.replace("lr > 10", "lr > 100"))
    carry_out(study, here / "out", Execution(workers=1))

    assert all(result.facts["notes"] == [] for result in outcomes(here / "out").values())


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("", r"succeeded and left no score\.json in .*; it printed nothing to .*log\.txt"),
        ("open(out + '/score.json', 'w').write('{\"miou\": 53.1}')", r"miou = 53\.1, .*divide percent by 100, nothing"),
        (
            "open(out + '/score.json', 'w').write('{\"miou\": 0.5}'); sys.exit(3)",
            "left a score and ended with exit code 3",
        ),
        ("os.kill(os.getpid(), 9)", r"was killed \(out of memory\?\), expected exit code 0"),
        ("raise OSError('x')", "exit code 1, .*Traceback.*OSError: x$"),
    ],
)
def test_runs_of_which_nothing_is_known(here: Path, body: str, message: str) -> None:
    """No score, a bad one, a crash after it: each stops the study and names the log."""
    study = study_of(here)
    (here / "script.py").write_text(f"import os, sys\nout = sys.argv[3]\n{body}\n")

    with pytest.raises(CommandFailed, match=message):
        carry_out(study, here / "out", Execution(workers=1))
    assert outcomes(here / "out") == {}


def test_a_failure_may_end_with_any_code(here: Path) -> None:
    """A script that says why its run failed may tell its shell too."""
    study = study_of(here)
    body = "import sys\nopen(sys.argv[3] + '/score.json', 'w').write('{\"failed\": \"nan\"}')\nsys.exit(1)\n"
    (here / "script.py").write_text(body)
    carry_out(study, here / "out", Execution(workers=1))

    assert {result.status for result in outcomes(here / "out").values()} == {"failed"}


def test_a_score_of_an_attempt_that_was_cut_off_is_not_taken(here: Path) -> None:
    """A score.json from before the start is removed; all else in the folder is the script's to go on from."""
    study = study_of(here)
    run = here / "out" / "runs" / "small-rate" / "seed-0" / "out"
    run.mkdir(parents=True)
    (run / "score.json").write_text('{"miou": 0.9}')
    (run / "checkpoint").write_text("half")

    (here / "script.py").write_text("")
    with pytest.raises(CommandFailed, match="left no score"):
        run_command(planned_runs(study)[0], here / "out", 1)
    assert (run / "checkpoint").read_text() == "half"


def test_what_is_found_before_anything_is_run(here: Path) -> None:
    """A program that is not there, a device that the command would not hear of, another command in the same folder."""
    study = study_of(here)

    with pytest.raises(ConfigError, match=r"starts with 'pyhton', and no such program was found here \("):
        carry_out(study_of(here, command="pyhton x.py {seed} {arm.lr} {out}"), here / "out")
    with pytest.raises(StudyError, match="--device got cuda and the study own runs a command"):
        carry_out(study, here / "out", Execution("cuda"))
    assert not (here / "out").exists()
    carry_out(study, here / "out", Execution(workers=1))
    with pytest.raises(OutputError, match="holds another study"):
        carry_out(study_of(here, options={"lr": 0.2}), here / "out")


def test_changed_data_stop_a_study(here: Path) -> None:
    """A folder's names and sizes, and a file's bytes, are what the study was begun with; a name is only a name."""
    (here / "set" / "deep").mkdir(parents=True)
    (here / "set" / "deep" / "a.png").write_bytes(b"12")
    command = f"'{sys.executable}' script.py {{seed}} {{arm.lr}} {{out}} {{data}}"
    study = study_of(here, command=command, data="set", seeds=1)
    carry_out(study, here / "out", Execution(workers=1))
    carry_out(study, here / "out", Execution(workers=1))
    (here / "set" / "deep" / "b.png").write_bytes(b"")

    with pytest.raises(StudyError, match="of the data has changed"):
        carry_out(study, here / "out", Execution(workers=1))
    named = study_of(here, command=command, data="cityscapes", seeds=1)
    carry_out(named, here / "named", Execution(workers=1))
    assert json.loads((here / "named" / "facts.json").read_text())["data"] == {"fingerprints": {}, "kind": "cityscapes"}


def test_the_plan_knows_hours_from_finished_runs(here: Path) -> None:
    """Nothing is probed: hours are unknown, then those of the runs that have finished."""
    study = study_of(here)
    before = plan_study(study, here / "out", Execution(workers=1)).to_dict()
    carry_out(study, here / "out", Execution(workers=1))
    (here / "out" / "runs" / "large-rate" / "seed-2" / "result.json").unlink()
    after = plan_study(study, here / "out", Execution(workers=1)).to_dict()

    assert (before["runs"], before["missing"], before["hours"], before["seconds_per_run"]) == (6, 6, None, None)
    assert after["missing"] == 1
    assert after["hours"] == pytest.approx(after["seconds_per_run"] / 3600)
    assert after["precision"] == before["precision"]


# --- score.json -----------------------------------------------------------------------------------

COUNTS = [[[4, 1, 0], [2, 0, 1], [0, 0, 0]], [[1, 0, 1], [3, 0, 0], [0, 1, 0]]]
FULL = {"counts": COUNTS, "images": ["a", "b"], "classes": ["sky", "road", "car"]}
FULL_MIOU = (5 / 7 + 5 / 6) / 2


def written(folder: Path, value: Any) -> Path:
    """Write a score.json, as text where it is text."""
    path = folder / "score.json"
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


def test_scores_by_hand(tmp_path: Path) -> None:
    """A number alone, with classes, from counts; a failure with its curves."""
    plain, _, _ = read_score(written(tmp_path, {"miou": 1}))
    classes, curves, _ = read_score(
        written(
            tmp_path, {"miou": 0.5, "iou": {"a": 0.5, "b": None}, "split": "test", "curves": {"loss": [[0, 2], [7, 1]]}}
        )
    )
    counted, _, failure = read_score(written(tmp_path, FULL | {"miou": round(FULL_MIOU, 4)}))
    nothing, _, why = read_score(written(tmp_path, {"failed": "the loss\n is nan", "curves": {}}))

    assert plain is not None
    assert (plain.miou, plain.class_names, plain.split) == (1.0, (), "val")
    assert classes is not None
    assert (classes.iou, classes.absent, classes.split) == ({"a": 0.5}, ("b",), "test")
    assert curves == {"loss": [(0, 2.0), (7, 1.0)]}
    assert counted is not None
    assert counted.miou == pytest.approx(FULL_MIOU)
    assert (counted.images, counted.class_names, counted.absent) == (("a", "b"), ("sky", "road", "car"), ("car",))
    assert failure is None
    assert (nothing, why) == (None, "the loss is nan")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("", "cannot read .*score.json"),
        ("[0.5]", "holds list, expected a JSON object"),
        ('{"miou": 0.5, "miou": 0.6}', "'miou' is there twice"),
        ({"mIoU": 0.5}, "the unknown name 'mIoU', did you mean 'miou'"),
        ({}, "has no 'miou', expected a number"),
        ({"miou": 53.1}, r"miou = 53\.1, expected a fraction in \[0, 1\]: divide percent by 100"),
        ({"miou": -1}, r"miou = -1, expected a fraction in \[0, 1\]$"),
        ({"miou": float("nan")}, "miou = nan, expected a number"),
        ({"miou": True}, "miou = True, expected a number"),
        ({"miou": "0.5"}, "miou = '0.5', expected a number"),
        ({"miou": 0.5, "iou": [0.5]}, "'iou' as list"),
        ({"miou": 0.5, "iou": {"sky": 70}}, "iou of 'sky' = 70, .*divide percent"),
        ({"miou": 0.5, "failed": "nan"}, "both 'miou' and 'failed'"),
        ({"failed": ""}, "failed='', expected a sentence"),
        ({"failed": True}, "failed=True, expected a sentence"),
        ({"miou": 0.5, "split": 3}, "split=3, expected a name"),
        ({"miou": 0.5, "images": ["a"]}, "'images' without 'counts'"),
        (FULL | {"iou": {"sky": 0.5}}, "both 'iou' and 'counts'"),
        (FULL | {"miou": 0.7}, r"miou = 0\.7 and counts whose mIoU is 0\.773810, expected the same: the mean over"),
        (FULL | {"images": ["a"]}, r"counts of shape \(2, 3, 3\), expected .* each of 1 images and 3 classes"),
        (FULL | {"images": ["a", "a"]}, "names one of its images twice"),
        (FULL | {"classes": "sky"}, "classes='sky', expected a list of names"),
        (FULL | {"counts": [[[1, 0, 0]], [[1, 0]]]}, "rows of different lengths"),
        (FULL | {"counts": [[[0.5, 0, 0]] * 3] * 2}, r"counts of shape \(2, 3, 3\), expected whole numbers"),
        (FULL | {"counts": [[[-1, 0, 0]] * 3] * 2}, "a count of -1"),
        (FULL | {"counts": [[[0, 1, 0]] * 3] * 2}, "no pixel of any class"),
        ({"miou": 0.5, "curves": [1]}, "'curves' as list"),
        ({"miou": 0.5, "curves": {"loss": 3}}, "in the curve 'loss' 3, expected a list"),
        ({"miou": 0.5, "curves": {"loss": [3]}}, "the point 3, expected"),
        ({"miou": 0.5, "curves": {"loss": [[0, 1], [0, 2]]}}, "the step 0, expected whole numbers that grow"),
        ({"miou": 0.5, "curves": {"loss": [[0.5, 1]]}}, "the step 0.5, expected whole numbers"),
        ({"miou": 10**400}, "miou = 10+, expected a fraction"),
        (FULL | {"counts": [[[10**13, 0, 0]] * 3] * 2}, "a count of 10+, expected numbers of pixels from 0 to"),
        ({"miou": 0.5, "curves": {"loss": [[3, 10**400]]}}, "10+ at step 3, expected a finite number"),
        ({"miou": 0.5, "curves": {"loss": [[10**20, 1]]}}, "the step 10+, expected whole numbers that grow"),
        ({"miou": 0.5, "curves": {"loss": [[3, float("inf")]]}}, "inf at step 3, expected a finite number"),
    ],
)
def test_bad_scores(tmp_path: Path, value: Any, message: str) -> None:
    """Every fault is named with its place, and none is mended in silence."""
    with pytest.raises(ConfigError, match=message):
        read_score(written(tmp_path, value))


# --- the guard ------------------------------------------------------------------------------------

FOREVER = "import os, time\nprint(os.getpid(), flush=True)\nwhile True: time.sleep(0.01)\n"


def started(*words: str) -> subprocess.Popen[str]:
    """Start the guard as a run does."""
    return subprocess.Popen(
        [sys.executable, "-I", str(guard.__file__), *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def test_the_guard_leaves_with_the_command_s_code() -> None:
    """Exit codes are passed on, signals as a shell has them."""
    for code, expected in (("raise SystemExit(7)", 7), ("import os; os.kill(os.getpid(), 15)", 128 + 15)):
        with started(sys.executable, "-c", code) as process:
            assert process.wait() == expected
    with started("/no/such/program") as process:
        assert process.wait() == guard.NOT_STARTED


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="process groups are POSIX's")
def test_a_command_ends_with_its_run() -> None:
    """When the run's end of the pipe closes, of whatever cause, command and guard are killed at once."""
    with started(sys.executable, "-c", FOREVER) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        child = int(process.stdout.readline())
        process.stdin.close()

        assert process.wait() == -signal.SIGKILL
        # The command's end of this pipe closes with the command.
        assert process.stdout.read() == ""
    assert child != process.pid


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's death")
def test_a_command_ends_with_its_guard() -> None:
    """Not even a guard that is killed first leaves an orphan."""
    with started(sys.executable, "-c", FOREVER) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.kill()

        assert process.stdout.read() == ""


def test_a_planned_run_of_a_command(tmp_path: Path) -> None:
    """What makes a run stands in the plan, so that every engine can carry it elsewhere as plain values."""
    run = planned_runs(study_of(tmp_path))[1]

    assert run == PlannedRun(
        "large rate",
        0,
        CommandOptions(command=(sys.executable, "script.py", "0", "2", "{out}"), values={"lr": 2}),
        "runs/large-rate/seed-0",
    )
