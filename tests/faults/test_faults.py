"""The short form of ``scripts/faults.py``: a fault of each kind, and what is left afterwards."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from semalign.cli import main
from semalign.errors import CheckpointError, OutputError, is_out_of_memory
from semalign.execution import Execution
from semalign.files import remove_strays, write_folder_aside, write_text
from semalign.locks import folder_lock
from semalign.results import read_result
from semalign.study.carry_out import carry_out
from semalign.study.design import read_study
from tests.faults.campaign import DIVERGING, SETUPS, Campaign, can_mount
from tests.small import TINY

CODES = {"SIGKILL": {-9}, "SIGTERM": {143, -15}, "SIGINT": {130, -2}}
"""Of a command that a signal has ended, by its own handling or, while the interpreter goes, by the system's."""

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")


@pytest.fixture(scope="module")
def campaign(tmp_path_factory: pytest.TempPathFactory) -> Campaign:
    """Return a campaign whose commands are processes of their own."""
    return Campaign(tmp_path_factory.mktemp("campaign"), seed=7)


@pytest.mark.parametrize(
    ("fault", "command"),
    [("SIGKILL", "train"), ("SIGTERM", "train"), ("full disk", "train"), ("SIGINT", "export"), ("read-only", "export")],
)
def test_nothing_is_lost(campaign: Campaign, fault: str, command: str) -> None:
    """The same command, started again, leaves the bytes of one that was left alone."""
    # Root may write where nobody may, unless the disk itself is read-only.
    if fault == "read-only" and os.geteuid() == 0 and not can_mount():
        pytest.skip("root that may not mount cannot be kept from writing")

    # Where these tests run in a shell's background, Ctrl-C is ignored by what they start, too.
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        # For this number all signals are drawn to come at a file, so that no command is repeated until one is in time.
        attempt = SETUPS[fault](campaign, command, 4)
    finally:
        signal.signal(signal.SIGINT, before)

    assert attempt.is_good, attempt
    if fault in CODES:
        assert attempt.code in CODES[fault]


def test_an_arm_whose_loss_is_no_number(tmp_path: Path, in_this_process: None) -> None:
    """It is a failed run that says step, images and what the audit finds; the other arms end."""
    file = tmp_path / "diverging.yaml"
    file.write_text(DIVERGING)
    folder = tmp_path / "study"
    carry_out(read_study(str(file)), folder, Execution(workers=1, audit=False))

    for seed in range(2):
        failed = read_result(folder / "runs" / "diverging" / f"seed-{seed}" / "result.json")
        assert failed.status == "failed"
        assert failed.facts["failed_at"]["step"] >= 1
        assert f"at step {failed.facts['failed_at']['step']} of" in failed.facts["failure"]
        assert isinstance(failed.facts["audit"]["findings"], list)
        for arm in ("a", "baseline"):
            assert read_result(folder / "runs" / arm / f"seed-{seed}" / "result.json").status == "finished"
    # The batch is named wherever it was a batch's loss.
    assert all(len(name) > 0 for name in failed.facts["failed_at"].get("images", ["x"]))


def test_sigterm_ends_a_command_like_an_interrupt(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What was begun is taken away, the exit code is the shells', and the handler is put back."""

    def stop(*_: object, **__: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(30)

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr("semalign.api.resolve", stop)
    monkeypatch.setattr(sys, "argv", ["semalign", "train", "scenes"])
    with pytest.raises(SystemExit) as ended:
        main()

    assert ended.value.code == 143
    assert capsys.readouterr().err.startswith("stopped: start the same command again")
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_that_a_library_makes_an_error_of(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], at_a_terminal: None, number: signal.Signals
) -> None:
    """The command is stopped: nothing is said of the error, which has no cause in what was asked for."""

    def stop(*_: object, **__: object) -> None:
        try:
            signal.raise_signal(number)
        except BaseException as error:
            raise CheckpointError("cannot read weights.safetensors") from error

    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr("semalign.api.resolve", stop)
    monkeypatch.setattr(sys, "argv", ["semalign", "train", "scenes"])
    with pytest.raises(SystemExit) as ended:
        main()

    assert ended.value.code == 128 + number
    assert capsys.readouterr().err == "stopped: start the same command again to continue (train: with --resume)\n"
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_that_gets_lost(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], at_a_terminal: None, number: signal.Signals
) -> None:
    """It comes while an object is taken away, where no exception gets through, and is given again; nothing is shown."""

    class Closing:
        def __del__(self) -> None:
            signal.raise_signal(number)

    ended_well = []

    def work(**_: object) -> None:
        del [Closing()][0]
        threading.Event().wait(30)
        ended_well.append(True)

    before = sys.unraisablehook
    monkeypatch.setattr("semalign.cli.app.app", work)
    with pytest.raises(SystemExit) as ended:
        main()

    assert ended.value.code == 128 + number
    assert not ended_well
    assert capsys.readouterr().err == "stopped: start the same command again to continue (train: with --resume)\n"
    assert sys.unraisablehook is before


def test_ctrl_c_while_the_command_line_is_made(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], at_a_terminal: None
) -> None:
    """No traceback, whatever is at work."""
    monkeypatch.setattr("semalign.cli.app.app", lambda **_: signal.raise_signal(signal.SIGINT))
    with pytest.raises(SystemExit) as ended:
        main()

    assert ended.value.code == 130
    assert capsys.readouterr().err.startswith("stopped: ")


@pytest.mark.parametrize(
    "error",
    [MemoryError(), RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), OSError(12, "x")],
)
def test_no_memory_is_said_in_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception
) -> None:
    """Of Python, torch or the system."""

    def stop(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("semalign.api.resolve", stop)
    monkeypatch.setattr(sys, "argv", ["semalign", "train", "scenes"])
    with pytest.raises(SystemExit) as ended:
        main()

    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("error: memory ran out: ")
    assert not is_out_of_memory(RuntimeError("shapes differ"))
    assert not is_out_of_memory(ValueError("can't allocate memory"))


def test_a_training_s_folder_is_held(tmp_path: Path, data: Path) -> None:
    """A second training on one folder is refused with the process that has it; nothing is changed."""
    import semalign.api

    out = tmp_path / "run"
    with folder_lock(out):
        with pytest.raises(OutputError, match=rf"run is in use by process {os.getpid()} on .*, expected one command"):
            semalign.api.train(data, out=out, settings=TINY, audit=False)
        assert [path.name for path in out.iterdir()] == [".lock"]


# ---- what is written aside ----


def test_strays(tmp_path: Path) -> None:
    """What killed writers left is removed, by its name alone, and not while somebody may be writing it."""
    (tmp_path / ".weights.0123abcd.part.safetensors").touch()
    (tmp_path / ".pack.0123abcd.part").mkdir()
    (tmp_path / ".pack.0123abcd.part" / "x.npy").touch()
    kept = [".lock", "result.json", ".mine.part.json", "a.0123abcd.part.json"]
    for name in kept:
        (tmp_path / name).touch()

    remove_strays(tmp_path, older_than=3600)
    assert len(list(tmp_path.iterdir())) == 6
    remove_strays(tmp_path)

    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(kept)
    remove_strays(tmp_path / "nowhere")


def test_folders_appear_whole(tmp_path: Path) -> None:
    """A folder that is written aside takes the place of none or an empty one; a failure leaves nothing."""
    (tmp_path / "empty").mkdir()
    for name in ("new", "empty", "below/new"):
        with write_folder_aside(tmp_path / name, "model", option="--out") as aside:
            write_text(aside / "a", "1")
            assert not (tmp_path / name / "a").exists()
        assert (tmp_path / name / "a").read_text() == "1"

    def fail() -> None:
        with write_folder_aside(tmp_path / "failed", "model", option="--out") as aside:
            write_text(aside / "a", "1")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["below", "empty", "new"]
    (tmp_path / "file").touch()
    with (
        pytest.raises(OutputError, match=r"cannot write the model .*file/b: Not a directory"),
        write_folder_aside(tmp_path / "file/b", "model", option="--out"),
    ):
        pass
