"""Data flows one way: the import rules of the design, read from the code."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import semalign

ROOT = Path(semalign.__file__).parent

# The ground: plain Python and values, which every other part may import.
GROUND: dict[str, str] = {
    "errors": "",
    "rooms": "",
    "seeds": "",
    "layout": "",
    "palette": "",
    "presets": "",
    "execution": "",
    "files": "errors",
    "tensors_file": "errors files layout",
    "locks": "errors files layout",
    "metrics": "errors",
    "wording": "errors",
}

# Which parts each other part may import from, beside the ground.  A part is a package or a module right below
# `semalign`; `semalign` itself is the root, which gives the version.  Imports inside functions count too.
ABOVE: dict[str, str] = {
    # Left of the hinge: options and mathematics, data and text, model, training.
    "config": "",
    "align": "",
    "data": "",
    "text": "",
    "model": "align",
    "train": "config data model results semalign text",
    "share": "align config data model results semalign train",
    # Models alone, whoever made them.
    "audit": "",
    # Trained runs and our own models, looked at.
    "inspection": "audit config data judge model results text train",
    # The hinge, and what is right of it: plain numbers, no torch.
    "results": "",
    "judge": "results",
    # It draws the built-in scenes again, which need no torch.
    "report": "config data judge results",
    # Above it all.
    "api": "audit config data inspection model results share text train",
    "study": "api config inspection judge results semalign train",
    "bench": "api config data model study train",
    "cli": "api audit bench config data inspection judge report results semalign share study train",
    # The root loads its parts by name when they are used, see tests/test_public_api.py.
    "semalign": "",
    "__main__": "cli",
}

ALLOWED = {name: set(below.split()) for name, below in GROUND.items()} | {
    name: {*below.split(), *GROUND} for name, below in ABOVE.items()
}

WITHOUT_TORCH = (
    *(
        "config",
        "data.open",
        "execution",
        "judge",
        "presets",
        "report",
        "results",
        "study.design",
        "text.sentences",
        "wording",
    ),
)
"""What must not import torch, directly or through others."""


TABLE_ROW = re.compile(r"^\| `(\w+)` \| [^|]+ \| ?([^|]*) ?\|$", re.MULTILINE)


def part_of(module: str) -> str:
    """Return the part that a dotted module name of ours belongs to."""
    return module.split(".")[1] if "." in module else module


def imports_of(path: Path) -> set[str]:
    """Return the dotted names of ours that a file imports anywhere in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relative to itself, write the full name"
            assert node.module is not None
            # `from semalign import x` may name a part as well as a value.
            names |= {f"semalign.{alias.name}" for alias in node.names} if node.module == "semalign" else {node.module}
    return {name for name in names if name.split(".")[0] == "semalign"}


def test_parts_import_in_one_direction() -> None:
    """Each part imports from those the table allows it, and the table has no circle."""
    found: dict[str, set[str]] = {}
    for path in sorted(ROOT.rglob("*.py")):
        place = path.relative_to(ROOT)
        own = "semalign" if place == Path("__init__.py") else place.parts[0].removesuffix(".py")
        assert own in ALLOWED, f"{place} is a new part: say in the table what it may import"
        for name in imports_of(path):
            if part_of(name) != own:
                assert part_of(name) in ALLOWED[own], f"{place} imports {name}, which {own} may not"
                found.setdefault(own, set()).add(part_of(name))

    assert set(found) >= {"model", "train", "report", "study", "cli"}, "the files were not read"
    done: set[str] = set()
    while ready := {part for part in ALLOWED.keys() - done if ALLOWED[part] <= done}:
        done |= ready
    assert done == set(ALLOWED), f"the table has a circle among {sorted(set(ALLOWED) - done)}"


def test_right_of_the_hinge_there_is_no_torch() -> None:
    """Judging and reporting never load torch, directly or through what they import."""
    names = ", ".join(f"semalign.{name}" for name in WITHOUT_TORCH)
    code = f"import sys, {names}\nassert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr


def test_contributing_has_the_same_table() -> None:
    """CONTRIBUTING.md names every room once, with the imports of the tables above; its picture names rooms alone."""
    text = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = [(name, below.replace("`", "").split()) for name, below in TABLE_ROW.findall(text)]
    picture = text.split("```")[1]

    assert sorted(name for name, _ in rows) == sorted([*GROUND, *ABOVE])
    assert {name: set(below) for name, below in rows} == {
        name: set(below.split()) for name, below in (GROUND | ABOVE).items()
    }
    drawn = set(re.findall(r"[a-z]+", re.sub(r"\([^)]*\)|──[^\n]*everything|on top", "", picture)))
    assert drawn <= {*GROUND, *ABOVE}
    assert drawn >= {*ABOVE} - {"semalign", "__main__"}
