"""Findings about files: missing, undecodable, of different sizes, and lists with lines that cannot be used."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from semalign import layout
from semalign.data.check.evidence import Evidence, Found
from semalign.data.listing import listed_files
from semalign.wording import say


def pairing(evidence: Evidence) -> Iterator[Found]:
    """Find an image without mask or depth and the reverse, two images of one name, or an empty split."""
    folder = evidence.folder
    problems = [] if folder is None else folder.listing.problems()
    if folder is None or not problems:
        return
    complete = folder.listing.complete_names()
    lonely = []
    for split in folder.splits:
        images = listed_files(folder.root, layout.IMAGES, split)
        lonely += [path for path in images if path.stem not in complete[split]]
        stems = {path.stem for path in images}
        for kind in folder.listing.partners:
            lonely += [path for path in listed_files(folder.root, kind, split) if path.stem not in stems]
    single = len(problems) == 1
    message = say("data.pairing.single", problem=str(problems[0])) if single else say("data.pairing", n=len(problems))
    for split in folder.splits:
        why = evidence.kept.get(("pairing", split))
        message = message if why is None else say("data.kept", what=message, why=why)
    details = () if single else tuple(map(str, problems))
    yield Found("", message, tuple(path.relative_to(folder.root).as_posix() for path in lonely), details)


def image_broken(evidence: Evidence) -> Iterator[Found]:
    """Find an image that cannot be decoded."""
    yield from _broken(evidence, "image-broken", "image", "image")


def depth_broken(evidence: Evidence) -> Iterator[Found]:
    """Find a depth file that cannot be decoded, or is not a PNG of one grey channel."""
    yield from _broken(evidence, "depth-broken", "depth", "depth")


def sizes_differ(evidence: Evidence) -> Iterator[Found]:
    """Find an image, a mask and depth of different sizes."""
    yield from _broken(evidence, "sizes-differ", "size", "image")


def mask_broken(evidence: Evidence) -> Iterator[Found]:
    """Find a mask that cannot be decoded as PNG."""
    for split in evidence.scan.bad:
        broken = {
            name: sample for (own, name), sample in evidence.masks.bad.items() if own == split and sample.mask is None
        }
        details = [str(sample.problems["mask"]) for sample in broken.values()]
        yield from evidence.counted("mask-broken", split, broken, "mask", details)


def texts_file(evidence: Evidence) -> Iterator[Found]:
    """Find lines of texts.jsonl that cannot be used."""
    if evidence.folder is not None:
        yield from _lines("texts-file", layout.TEXTS, evidence.folder.all_texts.problems)


def clusters_file(evidence: Evidence) -> Iterator[Found]:
    """Find lines of clusters.txt that cannot be used."""
    if evidence.folder is not None:
        yield from _lines("clusters-file", layout.CLUSTERS, evidence.folder.all_clusters.problems)


def _broken(evidence: Evidence, code: str, part: str, kind: str) -> Iterator[Found]:
    """Yield by split the samples that have a problem with one part."""
    for split, bad in evidence.scan.bad.items():
        found = {name: str(sample.problems[part]) for name, sample in bad.items() if part in sample.problems}
        yield from evidence.counted(code, split, found, kind, found.values())


def _lines(code: str, file: str, problems: Iterable[Exception]) -> Iterator[Found]:
    details = tuple(map(str, problems))
    if details:
        yield Found("", say(f"data.{code}", n=len(details)), (file,), details)
