"""Lists what semalign depends on, with licences, from the metadata of the packages that are installed.

    python scripts/licences.py --out docs/licences.md

All packages of constraints.txt that are installed here are listed: those of the core, of the extras and of development.
"""

from __future__ import annotations

import argparse
import re
import sys
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

SHORT = (
    ("BSD", "BSD"),
    ("MIT", "MIT"),
    ("Apache", "Apache-2.0"),
    ("Mozilla", "MPL-2.0"),
    ("Python Software Foundation", "PSF-2.0"),
    ("ISC", "ISC"),
    ("Unlicense", "Unlicense"),
    ("GNU Lesser", "LGPL"),
    ("GNU General", "GPL"),
)


def normal(name: str) -> str:
    """Return a package's name as registries compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def constrained() -> dict[str, str]:
    """Return by normal name the version of each package of constraints.txt."""
    found = {}
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines():
        text = line.partition("#")[0].strip()
        if match := re.match(r"([A-Za-z0-9._-]+)==([^\s;]+)", text):
            found[normal(match[1])] = match[2]
    return found


def licence_of(package: metadata.Distribution) -> str:
    """Return a package's licence as short as it says it: an SPDX expression, a classifier, or its own words."""
    about = package.metadata
    if expression := about.get("License-Expression"):
        return " ".join(str(expression).split())
    classifiers = [
        text.rpartition("::")[2].strip()
        for text in about.get_all("Classifier") or []
        if text.startswith("License ::") and text.rpartition("::")[2].strip() != "OSI Approved"
    ]
    said = "; ".join(classifiers) or str(about.get("License") or "")
    if len(said) > 60 or "\n" in said:
        said = said.strip().splitlines()[0][:60]
    shortened = [short for text, short in SHORT if text in said]
    return " AND ".join(shortened) if shortened else said or "not stated"


def rows() -> list[tuple[str, str, str]]:
    """Return name, version in constraints.txt and licence of what is installed of it."""
    found = []
    for name, version in sorted(constrained().items()):
        try:
            package = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue
        found.append((name, version, licence_of(package)))
    return found


def page(found: list[tuple[str, str, str]]) -> str:
    """Return the list in Markdown."""
    lines = [
        "# Licences",
        "",
        "semalign is given under Apache-2.0. `python scripts/licences.py --out docs/licences.md` made this list from "
        "the metadata of the installed packages: everything that the core, the extras and development pull in at the "
        "versions of `constraints.txt`. None of it is copied into semalign's own files.",
        "",
        "| package | version | licence |",
        "|---|---|---|",
        *(f"| {name} | {version} | {licence} |" for name, version, licence in found),
    ]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Write the list."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, help="file [printed]")
    asked = parser.parse_args()
    text = page(rows())
    if asked.out is None:
        print(text, end="")
    else:
        asked.out.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
