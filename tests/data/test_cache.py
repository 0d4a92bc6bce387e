"""Caches save time and never cost a run."""

from __future__ import annotations

from pathlib import Path

import pytest

from semalign.data.cache import cache_folder, read_cached, write_cached


def test_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The own variable wins over XDG's, XDG's over the home folder; an empty or relative one counts as unset."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("SEMALIGN_CACHE", str(tmp_path / "own"))
    assert cache_folder("scan") == tmp_path / "own" / "scan"

    monkeypatch.setenv("SEMALIGN_CACHE", "")
    assert cache_folder("scan") == tmp_path / "xdg" / "semalign" / "scan"

    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache_folder("scan") == tmp_path / "home" / ".cache" / "semalign" / "scan"


def test_round_trip() -> None:
    """What was kept is read back; what was not kept is None."""
    assert write_cached("scan", "key", {"a": [1, 2.5, "ü"]})

    assert read_cached("scan", "key") == {"a": [1, 2.5, "ü"]}
    assert read_cached("scan", "other") is None
    assert read_cached("bank", "key") is None


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff\xfe\x00", b"[1]", b'{"format": 0, "value": 1}', b"[" * 100_000, b'{"value": 1}']
)
def test_unreadable_is_none(cache: Path, content: bytes) -> None:
    """A damaged file or one of another format is no error but a cache miss."""
    (cache / "scan").mkdir(parents=True)
    (cache / "scan" / "key.json").write_bytes(content)

    assert read_cached("scan", "key") is None


def test_unwritable_is_skipped(cache: Path) -> None:
    """Where the cache folder cannot be made, nothing is kept and nothing is raised."""
    cache.write_text("a file where the folder should be")

    assert not write_cached("scan", "key", 1)
    assert read_cached("scan", "key") is None


def test_a_name_that_is_no_unicode_is_skipped() -> None:
    """A value with half a surrogate pair, as Python reads file names that are not UTF-8, is not kept and not raised."""
    assert not write_cached("scan", "key", {"train/\udcff0": 1})
    assert read_cached("scan", "key") is None


def test_no_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user without a home folder has no cache."""
    monkeypatch.delenv("SEMALIGN_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)

    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", no_home)

    assert cache_folder("scan") is None
    assert read_cached("scan", "key") is None
    assert not write_cached("scan", "key", 1)
