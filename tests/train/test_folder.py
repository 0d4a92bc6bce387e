from __future__ import annotations

import re
from pathlib import Path

import pytest

from semalign.config import read_yaml
from semalign.errors import OutputError
from semalign.files import write_text
from semalign.layout import CONFIG
from semalign.train.folder import claim_run_folder, claimed, release_run_folder
from tests.small import tiny_options


def names(folder: Path) -> set[str]:
    """Return what stands in a folder."""
    return {entry.name for entry in folder.iterdir()}


def test_a_new_folder_holds_options_and_command(tmp_path: Path) -> None:
    """Before a run starts, its folder says what it is and how it was started."""
    folder = tmp_path / "a" / "b"

    assert claim_run_folder(folder, tiny_options(), "semalign train x", resume=False) is False

    assert names(folder) == {"config.yaml", "command.txt"}
    assert (folder / "command.txt").read_text() == "semalign train x\n"
    assert read_yaml(folder / CONFIG)["train"]["epochs"] == 2


def test_the_same_run_needs_resume(tmp_path: Path) -> None:
    """Going on is asked for; a finished run says so."""
    claim_run_folder(tmp_path, tiny_options(), "x", resume=False)

    with pytest.raises(OutputError, match="holds this run already: add --resume"):
        claim_run_folder(tmp_path, tiny_options(), "x", resume=False)
    assert claim_run_folder(tmp_path, tiny_options(), "x", resume=True) is False
    (tmp_path / "result.json").write_text("{}")
    assert claim_run_folder(tmp_path, tiny_options(), "x", resume=True) is True


@pytest.mark.parametrize("resume", [False, True])
def test_another_run_is_named_by_its_first_difference(tmp_path: Path, resume: bool) -> None:
    """The option that differs is shown with both values, and how many more do."""
    claim_run_folder(tmp_path, tiny_options(), "x", resume=False)
    other = tiny_options(train__lr=0.5, train__seed=3)

    with pytest.raises(OutputError, match=r"\(train\.lr is 0\.002 there and 0\.5 here and 1 more\), name another"):
        claim_run_folder(tmp_path, other, "x", resume=resume)


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("study.yaml", "holds a study"),
        ("result.json", "holds another run"),
        ("weights.safetensors", "holds another run"),
    ],
)
def test_folders_of_others(tmp_path: Path, file: str, message: str) -> None:
    """A study's folder and a run without options are left alone."""
    (tmp_path / file).write_text("x")

    with pytest.raises(OutputError, match=message):
        claim_run_folder(tmp_path, tiny_options(), "x", resume=False)
    assert names(tmp_path) == {file}


def test_a_damaged_config(tmp_path: Path) -> None:
    """What cannot be compared is not gone on with."""
    (tmp_path / CONFIG).write_text("{{{")

    with pytest.raises(OutputError, match="holds an unreadable run"):
        claim_run_folder(tmp_path, tiny_options(), "x", resume=True)


def test_no_folder_can_be_made(tmp_path: Path) -> None:
    """A file stands in the way, or above."""
    file = tmp_path / "file"
    file.write_text("x")

    for folder, message in ((file, "is a file, name a folder"), (file / "below", "cannot make the output folder")):
        with (
            pytest.raises(OutputError, match=re.escape(message)),
            claimed(folder, tiny_options(), "x", resume=False),
        ):
            pass
    assert file.read_text() == "x"


def test_a_full_disk_leaves_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A claim that cannot be written whole is taken back."""

    def full(path: Path, text: str) -> None:
        if path.name == CONFIG:
            raise OutputError("no space left")
        write_text(path, text)

    monkeypatch.setattr("semalign.train.folder.write_text", full)
    with pytest.raises(OutputError, match="no space left"):
        claim_run_folder(tmp_path / "run", tiny_options(), "x", resume=False)
    assert list(tmp_path.iterdir()) == []


def test_release_keeps_what_a_run_has_made(tmp_path: Path) -> None:
    """A saved state is worth going on from; a bare claim is not."""
    claim_run_folder(tmp_path / "kept", tiny_options(), "x", resume=False)
    claim_run_folder(tmp_path / "gone", tiny_options(), "x", resume=False)
    (tmp_path / "kept" / "state.safetensors").write_text("x")

    release_run_folder(tmp_path / "kept")
    release_run_folder(tmp_path / "gone")

    assert names(tmp_path) == {"kept"}
    assert names(tmp_path / "kept") == {"config.yaml", "command.txt", "state.safetensors"}
