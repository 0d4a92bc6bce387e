"""Gives made-up and broken files to everything that reads files, and counts what is taken, refused, and faulty.

    python scripts/fuzz.py --inputs 200000 --out docs/results/fuzzing.md

The inputs are shared out among the readers of options and studies, data sets, known data sets to import, results, and
checkpoints, our own and the original's.  Where atheris is installed (pip install atheris; libFuzzer) it guides them: an
input that reaches new code is mutated further.  Else mutations of sound and of accepted files are drawn.  A reader must
take a file or refuse it with an error of ours; any other exception, a hang, or more than 2 GiB of memory is a fault,
and its input is written to WORK/faults.  Exit 1 where there was one.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "src")]

SHARES = {"options": 0.25, "data": 0.25, "results": 0.25, "checkpoint": 0.1, "known": 0.1, "original": 0.05}
"""A checkpoint that is read also builds its model."""
MEMORY = 2 << 30


def one_target(name: str, inputs: int, seed: int, work: Path, *, guided: bool) -> None:
    """Fuzz one reader in this process and write what was found."""
    began = time.monotonic()
    warn_nobody()
    if not guided:
        from tests.fuzz.driver import plain_loop

        limit_memory()
        write(work, name, plain_loop(name, inputs, seed, told=lambda count: write(work, name, count, began)), began)
        return
    import atheris

    with atheris.instrument_imports(include=["semalign", "yaml", "json", "csv", "PIL"]):
        from tests.fuzz import targets
        from tests.fuzz.driver import Fuzzer

    corpus = work / "corpus" / name
    corpus.mkdir(parents=True, exist_ok=True)
    for place, data in enumerate(targets.seeds_of(name)):
        (corpus / f"seed-{place}").write_bytes(data)
    words = work / f"{name}.dict"
    quoted = ("".join(f"\\x{byte:02x}" for byte in word) for word in targets.WORDS[name])
    words.write_text("".join(f'"{word}"\n' for word in quoted))
    folder = tempfile.mkdtemp()
    fuzzer = Fuzzer(name, Path(folder))

    def test(data: bytes) -> None:
        fuzzer(data)
        if fuzzer.count.inputs % 1000 == 0 or fuzzer.count.inputs >= inputs:
            write(work, name, fuzzer.count, began)
        if fuzzer.count.inputs >= inputs:
            # libFuzzer has no other way to end after as many inputs as were counted.
            sys.stderr.flush()
            os._exit(0)

    limits = ["-timeout=60", f"-rss_limit_mb={MEMORY >> 20}", "-max_len=20000", "-verbosity=0", "-print_final_stats=0"]
    atheris.Setup(
        [sys.argv[0], str(corpus), f"-seed={seed}", f"-dict={words}", f"-artifact_prefix={work}/", *limits], test
    )
    atheris.Fuzz()


def warn_nobody() -> None:
    """Leave warnings out: the readers give them to people."""
    import logging
    import warnings

    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)


def limit_memory() -> None:
    """Let this process have no more than it has now and 2 GiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY,) * 2)


def write(work: Path, name: str, count: object, began: float) -> None:
    """Write the counts, and the input of each fault."""
    from tests.fuzz.driver import Count

    assert isinstance(count, Count)
    faults = work / "faults"
    faults.mkdir(exist_ok=True)
    kept = {}
    for place, (key, fault) in enumerate(count.faults.items()):
        (faults / f"{name}-{place}.bin").write_bytes(fault.data)
        kept[key] = fault.where
    value = {
        "inputs": count.inputs,
        "accepted": count.accepted,
        "rejected": count.rejected,
        "slowest": count.slowest,
        "faults": kept,
        "seconds": time.monotonic() - began,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10,
    }
    (work / f"{name}.json").write_text(json.dumps(value, indent=1))


def main() -> int:
    """Fuzz all readers, each in a process of its own, and write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--inputs", type=int, default=200000, help="of all readers together [200000]")
    parser.add_argument("--seed", type=int, default=20261124)
    parser.add_argument(
        "--work", type=Path, help="folder for counts, corpora and the inputs of faults [a temporary one]"
    )
    parser.add_argument("--out", type=Path, help="file of the table [printed]")
    parser.add_argument("--target", choices=list(SHARES), help="this reader alone")
    parser.add_argument("--unguided", action="store_true", help="without atheris, even where it is installed")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    guided = not asked.unguided and importlib.util.find_spec("atheris") is not None
    work = asked.work or Path(tempfile.mkdtemp(prefix="fuzz-"))
    work.mkdir(parents=True, exist_ok=True)
    if asked.here:
        one_target(asked.target, asked.inputs, asked.seed, work, guided=guided)
        return 0
    names = [asked.target] if asked.target else list(SHARES)
    found, bad = {}, False
    for name in names:
        inputs = asked.inputs if asked.target else round(asked.inputs * SHARES[name])
        words = ["--here", "--target", name, "--inputs", str(inputs), "--seed", str(asked.seed), "--work", str(work)]
        command = [sys.executable, str(Path(__file__).resolve()), *words, *(["--unguided"] if not guided else [])]
        file = work / f"{name}.json"
        done = json.loads(file.read_text()) if file.exists() else {}
        # What an earlier call with this folder has finished is not done again.
        code = 0 if done.get("inputs", 0) >= inputs else subprocess.run(command, check=False).returncode
        found[name] = json.loads(file.read_text()) if file.exists() else {}
        bad = bad or code != 0 or bool(found[name].get("faults", True))
        print(name, "ended with", code, json.dumps(found[name]), flush=True)
    text = table(found, asked, guided=guided)
    if asked.out is None:
        print(text)
    else:
        asked.out.write_text(text, encoding="utf-8")
    return 1 if bad else 0


def table(found: dict[str, dict[str, object]], asked: argparse.Namespace, *, guided: bool) -> str:
    """Return the page."""
    how = "guided by coverage (atheris, libFuzzer)" if guided else "mutations of sound files, not guided by coverage"
    shown = {
        "options": "options, studies, `--set`",
        "data": "images, masks, depth, texts.jsonl, clusters.txt, classes.txt",
        "results": "result.json, score.json, results.csv, counts by image",
        "checkpoint": "checkpoints (safetensors) and the runs in them",
        "known": "known data sets: COCO's annotations, lists, class tables, depth",
        "original": "checkpoints of the original (torch.save, safetensors)",
    }
    lines = [
        "# Fuzzing",
        "",
        f"`python scripts/fuzz.py --inputs {asked.inputs} --seed {asked.seed} --out docs/results/fuzzing.md` made this "
        f"page; inputs are {how}.",
        "",
        "| reader | inputs | taken | refused with a sentence of ours | faults | slowest input, s | peak memory, MiB |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for name, one in found.items():
        faults = one.get("faults", {})
        assert isinstance(faults, dict)
        lines.append(
            f"| {shown[name]} | {one.get('inputs', 0)} | {one.get('accepted', 0)} | {one.get('rejected', 0)} | "
            f"{len(faults)} | {one.get('slowest', 0):.2f} | {one.get('peak_mib', 0)} |"
        )
        lines += [f"<!-- {key} -->" for key in faults]
    lines += ["", "Inputs that once were faults are kept in `tests/fuzz/found/` and are tried by every test run."]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
