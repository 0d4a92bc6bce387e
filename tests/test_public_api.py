"""What `import semalign` gives."""

from __future__ import annotations

import importlib
import subprocess
import sys
from typing import Any

import pytest

import semalign


def run(code: str) -> None:
    """Run code in a fresh interpreter, where nothing has been imported yet."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_all_is_what_can_be_imported() -> None:
    """`__all__` is sorted, is what `dir` shows, names all that can be loaded, and every name in it is there."""
    assert sorted(semalign.__all__) == semalign.__all__ == dir(semalign)
    assert set(semalign.__all__) == {"__version__", *semalign._HOMES, *semalign._ROOMS}
    for name in semalign.__all__:
        assert getattr(semalign, name) is not None
        assert name == "__version__" or callable(getattr(semalign, name))


def test_names_are_the_functions_they_say() -> None:
    """Each name leads to the thing of that name."""
    from semalign import api
    from semalign.errors import SemalignError
    from semalign.model.alignment import EncoderAlignment
    from semalign.model.dropin import SemanticAlignmentModule

    assert semalign.SemalignError is SemalignError
    assert semalign.EncoderAlignment is EncoderAlignment
    assert semalign.SemanticAlignmentModule is SemanticAlignmentModule
    for name in ("build", "evaluate", "load", "predict"):
        assert getattr(semalign, name) is getattr(api, name)


def test_unknown_names() -> None:
    """An unknown name is an AttributeError, as everywhere in Python."""
    with pytest.raises(AttributeError, match="module 'semalign' has no attribute 'trian'"):
        getattr(semalign, "trian")  # noqa: B009 (a type checker would refuse the plain form)
    assert not hasattr(semalign, "_private")


def test_importing_does_not_import_torch() -> None:
    """The package, its errors and its command line start without torch."""
    run(
        "import sys, semalign, semalign.cli.app; semalign.SemalignError; semalign.judge; "
        "assert 'torch' not in sys.modules"
    )


@pytest.mark.parametrize(
    "first",
    [
        "import semalign.train.loop, semalign.judge.judgement",
        "semalign.train, semalign.judge",
        "import semalign.api, semalign.report",
    ],
)
def test_rooms_can_be_called_and_entered(first: str) -> None:
    """Whatever was imported before, `semalign.train` and `semalign.judge` are called and hold their modules."""
    run(
        f"import semalign; {first}\n"
        "for room in (semalign.train, semalign.judge):\n"
        "    try: room()\n"
        "    except TypeError as error: assert 'missing' in str(error), error\n"
        "    else: raise AssertionError\n"
        "import semalign.train.loop, semalign.judge.judgement\n"
        "import semalign.train.loop as loop\n"
        "assert semalign.train.loop is loop and callable(semalign.train)\n"
        "from semalign.judge import judge\n"
        "assert semalign.judge.judgement.judge is judge and callable(semalign.judge)\n"
    )


def test_a_called_room_is_its_function() -> None:
    """Calling the room passes everything on: positions, keywords, result and errors."""
    from semalign.errors import StudyError
    from semalign.judge import judge

    room: Any = semalign.judge
    rows = {"a": {0: 0.5, 1: 0.6}, "b": {0: 0.5, 1: 0.7}}

    assert room(rows, baseline="a", margin=2.0).to_dict() == judge(rows, baseline="a", margin=2.0).to_dict()
    with pytest.raises(StudyError, match="no run of the baseline 'z'"):
        room(rows, baseline="z", margin=2.0)


@pytest.mark.parametrize("name", ["align", "data", "text", "model", "study", "audit", "config", "judge", "report"])
def test_every_rooms_all_is_there(name: str) -> None:
    """What a package lists in `__all__` can be imported from it; a module listed there exists."""
    package = importlib.import_module(f"semalign.{name}")
    for entry in getattr(package, "__all__", []):
        assert hasattr(package, entry) or importlib.import_module(f"semalign.{name}.{entry}")
