"""Writes the outputs of one version of semalign into a folder, and compares two such folders.

    python scripts/same_outputs.py write OLD --python /old/.venv/bin/python
    python scripts/same_outputs.py write NEW --path src
    python scripts/same_outputs.py compare OLD NEW [--texts]

It is meant for changes of the code that must not change a number: the outputs are written once with the version before
and once with the version after.  A version is a Python executable that has it installed (``--python``), a folder for
PYTHONPATH (``--path``), or both.  Each process computes on one processor, because bits depend on the number of threads.

    study/          a small study on the built-in scenes: its tables, judgement, results and weights
    whole/ resumed/ a training, and the same one killed in the middle and continued by --resume
    simulate.json   `study simulate --json`, which has a fixed seed
    audit/          `audit --json` of every factory of the test suite's example modules, and of CASES/audit where given
    examples/       what the examples of the audit print
    golden/         outputs and gradients of the drop-in on the recorded inputs of the original, where GOLDEN is given

`compare` exits with 1 when something differs that `MAY_DIFFER` does not allow.
"""

from __future__ import annotations

import argparse
import contextlib
import difflib
import fnmatch
import hashlib
import importlib
import io
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"

MAY_DIFFER = (
    # file, keys from the top of its JSON ("*" also crosses "/"), what may differ there
    ("*.json", "*reason", "text"),
    ("*.json", "*title", "text"),
    ("*.json", "*evidence", "text"),
    ("*.json", "*consequence", "text"),
    ("*.json", "*fix", "text"),
    ("*.json", "*why", "text"),
    ("*.json", "*notes", "text"),
    ("*.json", "*question", "text"),
    ("*.json", "*meaning", "text"),
    ("*.json", "*failure", "text"),
    ("*.json", "*error", "text"),
    ("*.md", "", "text"),
    ("*.tex", "", "text"),
    ("*.txt", "", "text"),
    ("*.json", "*timings*", "time"),
    ("*.json", "*seconds", "time"),
    ("*.json", "*command", "path"),
    ("*.json", "*versions*", "version"),
    ("*.json", "*python", "version"),
)
"""What two versions may have different.  A text must be there in both, and may have other words."""

STUDY = """\
name: same-outputs
question: Are the outputs the same?
data: scenes
arms:
  Baseline: {}
  A: {align.encoder.temperature.learnable: true}
  B: {align.decoder.gate.learnable: false, model.preset: transformer}
looks: [2, 3]
margin: 0.5
pilot_blocks: 2
options: {data.n_train: 8, data.n_val: 3, data.size: [32, 43], train.epochs: 3, train.batch_size: 4, train.val_every: 1}
"""
TRAINING = (
    *("train", "scenes", "--set", "data.size=[32, 43]", "--set", "data.n_train=8", "--set", "data.n_val=3"),
    *("--set", "train.epochs=8", "--set", "train.batch_size=4"),
)
SIMULATED = 400
"""Studies that are drawn per world and design."""
KEPT = ("results.csv", "*.json", "tables.md", "paper.md", "tables.tex", "*/result.json", "*/weights.safetensors")
"""What is compared of a study's folder."""


# ---- a process of the version: reads its jobs from stdin ----


def child() -> None:
    """Do the jobs that stdin holds, a JSON list of objects with the name of a function below and its arguments."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    for job in json.load(sys.stdin):
        name = job.pop("job")
        {"call": call, "hasty": hasty, "golden": golden, "factories": factories}[name](**job)


def call(words: list[str], out: str | None = None) -> None:
    """Call the command line, and keep what it prints and its exit code."""
    cli = importlib.import_module("semalign.cli")
    if words[0] == "audit":
        # A factory may draw the weights of its model.
        importlib.import_module("torch").manual_seed(0)
    printed = io.StringIO()
    code: Any = 0
    sys.argv = ["semalign", *words]
    with warnings.catch_warnings(), contextlib.redirect_stdout(printed if out else sys.stderr):
        warnings.simplefilter("ignore")
        try:
            cli.main()
        except SystemExit as stop:
            code = stop.code
        except Exception as error:
            if out is None:
                raise
            code = f"{type(error).__name__}: {error}"
    if out is None:
        assert code in (0, None), f"semalign {' '.join(words)} ended with {code}"
    else:
        text = printed.getvalue()
        if not text.strip():
            text = json.dumps({"exit": code}) + "\n"
        Path(out).with_suffix(".json" if text.startswith("{") else ".txt").write_text(text, encoding="utf-8")


def hasty(words: list[str]) -> None:
    """Call a training that believes that it is slow, so that it saves its state after every step."""
    real = time.monotonic
    time.monotonic = lambda: 1000 * real()
    call(words)


def factories(root: str, module: str, out: str) -> None:
    """Audit every factory of one module of examples."""
    sys.path.insert(0, root)
    own = importlib.import_module(module)
    zoo = importlib.import_module(module.rpartition(".")[0])
    registered = [*zoo.FAULTY, *zoo.HEALTHY]
    for name in sorted(set(registered) & set(vars(own))):
        call(["audit", f"{module}:{name}", "--json"], f"{out}/{name}.json")


def golden(folder: str, out: str) -> None:
    """Compute with the drop-in what is recorded of the original."""
    torch, semalign = importlib.import_module("torch"), importlib.import_module("semalign")
    load_file = importlib.import_module("safetensors.torch").load_file
    for case in json.loads((Path(folder) / "index.json").read_text()):
        recorded = load_file(Path(folder) / case["file"])
        weights = {name.removeprefix("weight."): t for name, t in recorded.items() if name.startswith("weight.")}
        dim, text_dim = recorded["input.visual"].shape[-1], recorded["input.text"].shape[-1]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            module = semalign.SemanticAlignmentModule(
                dim, text_dim, num_heads=case["heads"], version=case["version"], allow_dead=True, **case["options"]
            ).to(torch.float64)
        module.load_state_dict(weights)
        x, text = recorded["input.visual"].requires_grad_(), recorded["input.text"].requires_grad_()
        y = module(x, text) if case["side"] == "decoder" else module.forward_ssa(x, text)
        y.backward(recorded["input.cotangent"])
        found = {"output": y, "grad.visual": x.grad, "grad.text": text.grad}
        found |= {f"grad.{name}": p.grad for name, p in module.named_parameters() if p.grad is not None}
        values = {name: tensor.detach().flatten().tolist() for name, tensor in sorted(found.items())}
        Path(out, case["file"]).with_suffix(".json").write_text(json.dumps(values), encoding="utf-8")


# ---- writing ----


class Version:
    """One version of semalign, in processes of its own.

    Args:
        python: the executable.
        path: a folder for PYTHONPATH, or None for what is installed.
        work: an empty folder that the processes start in.
    """

    def __init__(self, python: str, path: str | None, work: Path) -> None:
        self.words = [python, str(Path(__file__).resolve()), "child"]
        self.work = work
        self.environment = {name: text for name, text in os.environ.items() if not name.startswith("SEMALIGN_")}
        self.environment |= dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        self.environment |= {"SEMALIGN_CACHE": str(work / "cache"), "NO_COLOR": "1", "COLUMNS": "100"}
        self.environment.pop("PYTHONPATH", None)
        if path is not None:
            self.environment["PYTHONPATH"] = str(Path(path).resolve())

    def start(self, *jobs: dict[str, Any]) -> subprocess.Popen[str]:
        """Start a process that does these jobs."""
        process = subprocess.Popen(
            self.words, stdin=subprocess.PIPE, cwd=self.work, env=self.environment, text=True, encoding="utf-8"
        )
        assert process.stdin is not None
        process.stdin.write(json.dumps(jobs))
        process.stdin.close()
        return process

    def do(self, *jobs: dict[str, Any]) -> None:
        """Do these jobs in one process."""
        if code := self.start(*jobs).wait():
            sys.exit(f"a process of this version ended with {code}, see above")


def write(out: Path, version: Version, examples: Path, golden_vectors: Path, cases: Path) -> None:
    """Write all outputs of a version into a new folder."""
    for name in ("study", "whole", "resumed", "audit", "examples", "golden"):
        (out / name).mkdir(parents=True)
    print("study", flush=True)
    (version.work / "study.yaml").write_text(STUDY, encoding="utf-8")
    version.do({"job": "call", "words": ["study", "run", "study.yaml", "--workers", "1", "--out", "study"]})
    for pattern in KEPT:
        for file in sorted((version.work / "study").rglob(pattern)):
            place = out / "study" / file.relative_to(version.work / "study")
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, place)

    print("a training, stopped and resumed", flush=True)
    version.do({"job": "call", "words": [*TRAINING, "--out", "whole"]})
    stopped = version.start({"job": "hasty", "words": [*TRAINING, "--out", "resumed"]})
    kill_in_the_middle(stopped, version.work / "resumed")
    version.do({"job": "call", "words": [*TRAINING, "--out", "resumed", "--resume"]})
    for name, file in itertools.product(("whole", "resumed"), ("result.json", "weights.safetensors")):
        shutil.copy(version.work / name / file, out / name / file)

    print("simulation", flush=True)
    words = ["study", "simulate", "--reps", str(SIMULATED), "--json"]
    version.do({"job": "call", "words": words, "out": str(out / "simulate.json")})

    print("audits", flush=True)
    for file in sorted(examples.glob("tests/**/zoo/*.py")):
        if file.stem != "__init__":
            module = ".".join(file.relative_to(examples).with_suffix("").parts)
            version.do({"job": "factories", "root": str(examples), "module": module, "out": str(out / "audit")})
    for file in sorted(cases.glob("audit/*.py")):
        target = {"words": ["audit", f"{file}:make", "--json"], "out": str(out / "audit" / f"{file.stem}.json")}
        version.do({"job": "call", **target})
    for file in sorted(examples.glob("examples/audit_*.py")):
        printed = subprocess.run(
            [version.words[0], str(file)], env=version.environment, capture_output=True, text=True, check=True
        )
        (out / "examples" / f"{file.stem}.txt").write_text(printed.stdout, encoding="utf-8")

    if (golden_vectors / "index.json").exists():
        print("golden vectors", flush=True)
        version.do({"job": "golden", "folder": str(golden_vectors), "out": str(out / "golden")})


def kill_in_the_middle(training: subprocess.Popen[str], folder: Path) -> None:
    """Kill a training when it has saved its state at least twice and has not ended."""
    seen = set()
    while training.poll() is None and len(seen) < 2:
        for state in folder.glob("state.*"):
            with contextlib.suppress(FileNotFoundError):
                seen.add(state.stat().st_mtime_ns)
        time.sleep(0.002)
    training.send_signal(signal.SIGKILL)
    if training.wait() != -signal.SIGKILL or (folder / "result.json").exists():
        sys.exit("the training ended before it could be killed: give TRAINING more epochs")


# ---- comparing ----


def kind_of(file: str, keys: str) -> str | None:
    """Return what may differ at these keys of a file, or None."""
    return next((kind for f, k, kind in MAY_DIFFER if fnmatch.fnmatch(file, f) and fnmatch.fnmatch(keys, k)), None)


def differences(file: str, old: Any, new: Any, keys: str = "") -> Iterator[tuple[str, str, Any, Any]]:
    """Yield the kind, keys and values of each difference of two JSON values; the kind is "" where none is allowed."""
    kind = kind_of(file, keys)
    if old == new and type(old) is type(new):
        return
    if kind == "text":
        has_both = bool(old) == bool(new) and (not isinstance(old, list) or len(old) == len(new))
        yield ("text" if has_both else ""), keys, old, new
    elif kind is not None:
        yield kind, keys, old, new
    elif isinstance(old, dict) and isinstance(new, dict):
        for key in sorted({*old, *new}, key=str):
            if key in old and key in new:
                yield from differences(file, old[key], new[key], f"{keys}/{key}")
            else:
                yield kind_of(file, f"{keys}/{key}") or "", f"{keys}/{key}", old.get(key, ABSENT), new.get(key, ABSENT)
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for index, pair in enumerate(zip(old, new, strict=True)):
            yield from differences(file, *pair, f"{keys}/{index}")
    else:
        yield "", keys, old, new


class _Absent:
    def __repr__(self) -> str:
        return "absent"


ABSENT = _Absent()


def tensors_of(file: Path) -> dict[str, Any]:
    """Return a safetensors file as JSON values: facts, and of each tensor its kind, shape and the hash of its bytes."""
    content = file.read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:start])
    facts = {
        name: json.loads(text) if text[:1] in "{[" else text for name, text in header.pop("__metadata__", {}).items()
    }
    for entry in header.values():
        first, last = entry.pop("data_offsets")
        entry["bytes"] = hashlib.sha256(content[start + first : start + last]).hexdigest()
    return {"facts": facts, "tensors": header}


def read(file: Path) -> Any:
    """Return a file as what is compared."""
    if file.suffix == ".json":
        return json.loads(file.read_text(encoding="utf-8"))
    if file.suffix == ".safetensors":
        return tensors_of(file)
    return file.read_bytes().decode("utf-8")


def pairs(old: Path, new: Path) -> Iterator[tuple[str, Path, Path]]:
    """Yield what is compared: a name, and two files."""
    files = {str(path.relative_to(root)) for root in (old, new) for path in root.rglob("*") if path.is_file()}
    yield from ((name, old / name, new / name) for name in sorted(files))
    # Within each version: a training that was stopped has the bytes of one that was not.
    for root, name in itertools.product((old, new), ("weights.safetensors", "result.json")):
        yield f"{root.name}: whole and resumed/{name}", root / "whole" / name, root / "resumed" / name


def compare_files(old: Path, new: Path) -> Iterator[tuple[str, str, str, Any, Any]]:
    """Yield each difference of two folders of outputs: its kind, file, keys and both values."""
    for name, *files in pairs(old, new):
        one, other = (read(file) if file.exists() else ABSENT for file in files)
        # The facts within a file of weights are JSON too.
        for kind, keys, *values in differences(name.replace(".safetensors", ".json"), one, other):
            yield kind, name, keys, *values


def shown(value: Any, width: int = 300) -> str:
    """Return a value on one line."""
    text = " ".join(repr(value).split())
    return text if len(text) <= width else f"{text[:width]}... ({len(text)} characters)"


def compare(old: Path, new: Path, *, with_texts: bool) -> int:
    """Print what differs and return the exit code."""
    count: dict[str, int] = {}
    for kind, file, keys, one, other in compare_files(old, new):
        count[kind] = count.get(kind, 0) + 1
        if kind == "text" and with_texts and isinstance(one, str) and one.count("\n") > 1:
            lines = difflib.unified_diff(one.splitlines(), other.splitlines(), lineterm="", n=0)
            print(f"text: {file}", *list(lines)[2:], sep="\n  ")
        elif kind == "" or (kind == "text" and with_texts):
            print(f"{kind or 'DIFFERENT'}: {file} {keys}\n  old: {shown(one)}\n  new: {shown(other)}")
    wrong = count.pop("", 0)
    allowed = ", ".join(f"{n} of the kind '{kind}'" for kind, n in sorted(count.items())) or "none"
    print(f"{wrong} differences that are not allowed; allowed ones: {allowed}")
    return 1 if wrong else 0


def main() -> int:
    """Read the command line."""
    if sys.argv[1:] == ["child"]:
        child()
        return 0
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    writer = commands.add_parser("write", help="write the outputs of a version into a new folder")
    writer.add_argument("out", type=Path)
    writer.add_argument("--python", default=sys.executable, help="the version's Python")
    writer.add_argument("--path", help="the version's folder for PYTHONPATH")
    writer.add_argument("--examples", type=Path, default=ROOT, help="the repository whose example modules are audited")
    writer.add_argument("--golden", type=Path, default=SHARED / "golden", help="recorded numbers of the original")
    writer.add_argument("--cases", type=Path, default=SHARED / "cases", help="further example modules")
    comparer = commands.add_parser("compare", help="compare two such folders")
    comparer.add_argument("old", type=Path)
    comparer.add_argument("new", type=Path)
    comparer.add_argument("--texts", action="store_true", help="show also what may differ in its words")
    words = parser.parse_args()
    if words.command == "compare":
        return compare(words.old, words.new, with_texts=words.texts)
    out = words.out.resolve()
    if out.exists() and any(out.iterdir()):
        parser.error(f"{out} is not empty")
    work = out.with_name(f"{out.name}.work")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    version = Version(words.python, words.path, work)
    write(out, version, words.examples.resolve(), words.golden.resolve(), words.cases.resolve())
    shutil.rmtree(work)
    return 0


if __name__ == "__main__":
    sys.exit(main())
