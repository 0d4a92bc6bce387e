from __future__ import annotations

import itertools
import re
import shutil
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import pytest

from semalign.errors import ConfigError, ResultsError
from semalign.files import read_json
from semalign.judge import Judgement
from semalign.layout import FIGURES
from semalign.report import load_study, write_report
from semalign.report.html import render
from semalign.report.page import build_page
from tests.report.study_folder import EN, ZH, StudyFolder, designed, looked, paired

VOID = {"meta", "br", "link", "img", "hr", "input"}
OUTPUTS = ("results.csv", "timings.csv", "judgement.json", "tables.md", "tables.tex", "paper.md", "report.html")


class Outline(HTMLParser):
    """Collects what a page is made of, and fails on tags that do not nest."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep the tag, and that it is open."""
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep the tag."""
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        """Check that the innermost open tag is the one that ends."""
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Keep the text that a reader sees."""
        if "style" not in self.open:
            self.text += data

    def all(self, *names: str) -> list[dict[str, str | None]]:
        """Return the attributes of all tags of these names."""
        return [attrs for tag, attrs in self.tags if tag in names]


def rich(path: Path) -> StudyFolder:
    """Write a study with controls, curves, a pilot, and names that are markup."""
    folder = StudyFolder(path)
    arms: dict[str, dict[str, object]] = {
        "Baseline": {},
        "A": {"align.encoder.temperature.learnable": True},
        "mask texts": {"data.text": "masks"},
    }
    folder.study({**arms, "<b>&$x$": {"data.text": "random"}}, seeds=3, question="Is 1 < 2 & 3?", pilot_blocks=2)
    names = ["road", "<script>alert(1)</script>", "sky"]
    for seed in range(3):
        for place, arm in enumerate((*arms, "<b>&$x$")):
            curves = {
                "train/loss": [(step, 2.0 - step / 100 + place / 10) for step in range(0, 55, 5)],
                "val/miou": [(11, 0.1), (53, 0.4)],
                "visual_encoder.stages.1.blocks.0.alignment/scale": [(0, 0.25), (53, 0.25)],
                "decoder.alignments.0/gate": [(0, 0.1), (53, 0.1 + place / 10)],
            }
            facts = {
                "text": {"kind": "classes", "shared": True, "sentences": 3, "leaking": arm == "mask texts"},
                "notes": ["<i>note</i>"],
            }
            iou = [f"{40 + 3 * seed + place + seed * place}/100", "1/2", None]
            folder.run(arm, seed, iou, names=names, curves=curves, facts=facts, timings={"train": 3.0})
        for arm in ("recipe", "recipe again"):
            folder.run(arm, seed, [f"{40 + seed + (arm != 'recipe')}/100", "1/2", None], names=names, folder="pilot")
    folder.facts({"command": "semalign study run <x> --out y", "data": {"kind": "scenes", "splits": {"val": 2}}})
    return folder


def page(path: Path, lang: str = "en") -> str:
    """Return the report's HTML."""
    words = ZH if lang == "zh" else EN
    return render(build_page(load_study(path), words), words)


def test_page_is_self_contained(tmp_path: Path) -> None:
    """Nothing is loaded: no address, no script, no link but those inside the page."""
    text = page(rich(tmp_path / "study").path)
    outline = Outline(text)

    assert "http" not in text
    assert "<script" not in text
    assert not outline.all("script", "link", "img", "iframe")
    assert not re.findall(r"url\((?!#)|@import", text)
    ids = {attrs["id"] for _, attrs in outline.tags if "id" in attrs}
    targets = [attrs["href"] or "" for _, attrs in outline.tags if "href" in attrs]
    assert targets
    for target in targets:
        assert target.startswith("#")
        assert target[1:] in ids


def test_names_are_escaped_once(tmp_path: Path) -> None:
    """A class, an arm, a note and a command that look like markup are shown as they are, in tables and figures."""
    text = page(rich(tmp_path / "study").path)
    outline = Outline(text)

    assert "<script>alert(1)</script>" in outline.text
    assert "<i>note</i>" in outline.text
    assert "semalign study run <x> --out y" in outline.text
    assert "Is 1 < 2 & 3?" in outline.text
    assert outline.text.count("<b>&$x$ - Baseline") >= 3
    assert not outline.all("b", "i")
    assert "&amp;amp;" not in text
    assert "&amp;lt;" not in text


def test_page_is_semantic(tmp_path: Path) -> None:
    """One h1, headings without gaps, captions, scopes, labels of figures, unique ids."""
    outline = Outline(page(rich(tmp_path / "study").path))
    levels = [int(tag[1]) for tag, _ in outline.tags if re.fullmatch("h[1-6]", tag)]

    assert levels.count(1) == 1
    assert levels[0] == 1
    for before, after in itertools.pairwise(levels):
        assert after <= before + 1
    assert len(outline.all("caption")) == len(outline.all("table"))
    assert all(attrs.get("scope") in ("row", "col") for attrs in outline.all("th"))
    figures = [attrs for attrs in outline.all("svg") if "aria-hidden" not in attrs]
    assert len(figures) == len(outline.all("figure"))
    assert all(attrs.get("role") == "img" for attrs in figures)
    labels = [attrs["aria-label"] or "" for attrs in figures]
    assert all(labels)
    assert any(
        label.startswith("Validation mIoU (points) over optimizer steps. Last values: Baseline 40, A 40")
        for label in labels
    )
    counted = Counter(attrs["id"] for _, attrs in outline.tags if "id" in attrs)
    assert counted.most_common(1)[0][1] == 1
    assert outline.all("html")[0]["lang"] == "en"


def test_order_of_the_page(tmp_path: Path) -> None:
    """Question, use of text, answer, evidence, method, what would change the verdict."""
    text = Outline(page(rich(tmp_path / "study").path)).text
    places = [
        text.index(part)
        for part in (
            "Does the model use its text?",
            "of 3 primary effects decided",
            "All arms",
            "Effects with intervals and margin",
            "Training curves",
            "Temperature and gate over training",
            "Fusion strength and attention entropy",
            "IoU by class",
            "Noise of identical recipes",
            "Parameters, cost and fit",
            "Better or worse: the direction interval excludes 0.",
            "What a verdict on each effect would take",
        )
    ]

    assert places == sorted(places)


def test_leaking_arm_is_marked_in_tables_figures_and_legends(tmp_path: Path) -> None:
    """Wherever the arm's name stands beside a figure, the mark stands too."""
    text = page(rich(tmp_path / "study").path)

    assert text.count('mask texts <span class="mark">leaking</span>') == 3
    assert text.count('mask texts - Baseline <span class="mark">leaking</span>') == 4
    assert ">mask texts - Baseline (leaking)</text>" in text
    assert re.findall(r"<li><svg[^>]*>.*?</svg>mask texts \(leaking\)</li>", text)
    assert ">mask texts (leaking)</th>" in text


def test_rebuild_gives_the_same_bytes(tmp_path: Path) -> None:
    """A second report, and one of a copy of the folder elsewhere, differ in no byte."""
    folder = rich(tmp_path / "study").path
    write_report(folder)
    first = {name: (folder / name).read_bytes() for name in OUTPUTS}
    write_report(folder)
    copy = tmp_path / "elsewhere" / "copy"
    shutil.copytree(folder, copy)
    for name in OUTPUTS:
        (copy / name).unlink()
    write_report(copy)

    for name in OUTPUTS:
        assert (folder / name).read_bytes() == first[name], name
        assert (copy / name).read_bytes() == first[name], name
    for path in (folder / FIGURES).iterdir():
        assert (copy / FIGURES / path.name).read_bytes() == path.read_bytes(), path.name
    names = {path.name for path in (folder / FIGURES).iterdir()}
    assert {"effects-0.svg", "effects-0.pdf", "training.pdf", "classes-0.svg", "images-0.pdf", "knobs.svg"} <= names
    assert sorted(path.name for path in folder.iterdir() if path.is_file()) == sorted(
        (*OUTPUTS, "study.yaml", "facts.json")
    )


def test_judgement_json_reads_back(tmp_path: Path) -> None:
    """The stored judgement is the one that the report shows."""
    folder = paired(tmp_path / "study").path
    report = write_report(folder)

    assert report.path == folder / "report.html"
    assert sorted(report.files) == sorted(
        path
        for path in folder.rglob("*")
        if path.is_file() and path.parent.name in ("study", FIGURES) and path.name != "study.yaml"
    )
    assert report.judgement.to_dict() == read_json(folder / "judgement.json")
    assert Judgement.from_dict(read_json(folder / "judgement.json")).to_dict() == load_study(folder).judgement.to_dict()


def test_damaged_result_leaves_the_old_report(tmp_path: Path) -> None:
    """Where a report cannot be made, not one of its files changes."""
    folder = paired(tmp_path / "study").path
    write_report(folder)
    before = {name: (folder / name).read_bytes() for name in OUTPUTS}
    (folder / "runs/A/seed-0/result.json").write_text("{")
    with pytest.raises(ResultsError, match="cannot read the result"):
        write_report(folder)

    assert {name: (folder / name).read_bytes() for name in OUTPUTS} == before


def test_unfinished_study_says_so_at_the_top(tmp_path: Path) -> None:
    """Failed and missing runs stand before the answer, and what happened among the evidence."""
    folder = paired(tmp_path / "study")
    folder.run("A", 1, None, facts={"failure": "the loss is not finite at step 7"})
    (folder.path / "runs/A/seed-2/result.json").unlink()
    text = Outline(page(folder.path)).text

    assert "4 of 6 planned runs finished, 1 failed, 1 not run yet." in text
    assert text.index("Failed: A, seed 1.") < text.index("Does the model use its text?")
    assert "Not run yet: A, seed 2." in text
    assert "the loss is not finite at step 7" in text
    assert "exact paired test p > 0.999" in text


def test_study_without_curves_pilot_or_facts(tmp_path: Path) -> None:
    """What was not recorded is said, not left out."""
    folder = StudyFolder(tmp_path / "study")
    folder.study({"Baseline": {}, "A": {}}, seeds=1)
    folder.run("Baseline", 0, ["1/2"] * 3)
    folder.run("A", 0, ["1/2"] * 3)
    text = Outline(page(folder.path)).text

    assert "No finished run recorded these curves." in text
    assert "No pilot can be judged" in text
    assert "not recorded" in text
    assert "an interval needs at least 2" in text


def test_chinese_page(tmp_path: Path) -> None:
    """All fixed sentences are Chinese, the verdict's full reason too."""
    text = page(rich(tmp_path / "study").path, "zh")
    outline = Outline(text)

    assert outline.all("html")[0]["lang"] == "zh-CN"
    for word in ("结论", "证据", "方法", "模型是否真的用到了文本？", "尚无定论", "泄漏"):
        assert word in outline.text
    for word in ("Evidence", "Does the model use", "optimizer step", "Does A score"):
        assert word not in outline.text
    assert "A - Baseline：尚无定论，3 个区组上为 +" in outline.text
    assert "mIoU points" not in outline.text


def test_unknown_language_writes_nothing(tmp_path: Path) -> None:
    """The language is checked first."""
    folder = paired(tmp_path / "study").path
    with pytest.raises(ConfigError, match="expected one of en, zh"):
        write_report(folder, lang="de")

    assert not (folder / "report.html").exists()


def _luminance(color: str) -> float:
    parts = [int(color[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _contrast(one: str, other: str) -> float:
    high, low = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_contrast(tmp_path: Path) -> None:
    """WCAG 2 AA in light, dark and print: 4.5 for text, 3 for lines of figures."""
    style = page(paired(tmp_path / "study").path)
    schemes = [
        dict(re.findall(r"--([a-z0-9-]+): (#[0-9a-f]{6});", part)) for part in re.findall(r":root {[^}]*}", style)
    ]

    assert _contrast("#ffffff", "#000000") == pytest.approx(21)
    assert len(schemes) == 3
    for scheme in schemes:
        for ink in ("ink", "muted", "link", "better", "worse", "equivalent", "inconclusive"):
            for paper in ("paper", "raised"):
                assert _contrast(scheme[ink], scheme[paper]) >= 4.5, (ink, paper)
        assert _contrast(scheme["warn-ink"], scheme["warn"]) >= 4.5
        assert _contrast(scheme["ink"], scheme["band"]) >= 4.5
        for index in range(8):
            assert _contrast(scheme[f"c{index}"], scheme["paper"]) >= 3, index


def made_up(path: Path, kind: str) -> StudyFolder:
    """Write a small study of the kind."""

    def points(arm: str, seed: int) -> float | None:
        return None if (arm, seed) == ("A", 1) else 40 + seed + len(arm) / 20 + (seed * len(arm)) % 3

    if kind == "looks":
        return looked(path, ["1", "-2", "3", "0.5", "-1", "2"])
    if kind == "half-fraction":
        return designed(path, kind, points, blocks=5)
    return designed(path, kind, points, blocks=3, seeds=3)


@pytest.mark.parametrize("kind", ["looks", "factorial", "half-fraction", "value-matched", "ablations"])
@pytest.mark.parametrize("lang", ["en", "zh"])
def test_every_kind_of_study_is_accessible(tmp_path: Path, kind: str, lang: str) -> None:
    """Headings without gaps, captions, scopes, alternative texts, labels, unique ids and focus, for each kind."""
    text = page(made_up(tmp_path / "study", kind).path, lang)
    outline = Outline(text)
    levels = [int(tag[1]) for tag, _ in outline.tags if re.fullmatch("h[1-6]", tag)]

    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    assert len(outline.all("caption")) == len(outline.all("table"))
    assert all(attrs.get("scope") in ("row", "col") for attrs in outline.all("th"))
    assert all(attrs.get("alt") for attrs in outline.all("img"))
    figures = [attrs for attrs in outline.all("svg") if "aria-hidden" not in attrs]
    assert len(figures) == len(outline.all("figure"))
    assert all(attrs.get("role") == "img" and attrs.get("aria-label") for attrs in figures)
    scrolled = [attrs for attrs in outline.all("div") if attrs.get("class") == "scroll"]
    assert len(scrolled) == len(outline.all("table"))
    assert all(attrs.get("tabindex") == "0" and attrs.get("aria-label") for attrs in scrolled)
    # Figures that keep their width on a narrow screen are scrolled too.
    wide = sum(text.count(f'<div class="figures {key}">') for key in ("factors", "interactions"))
    focused = sum(attrs.get("tabindex") == "0" for attrs in outline.all("figure"))
    assert (focused >= wide > 0) if kind == "factorial" else focused == wide
    counted = Counter(attrs["id"] for _, attrs in outline.tags if "id" in attrs)
    assert counted.most_common(1)[0][1] == 1
    assert not re.search(r"\{\w+\}", outline.text), "a value was not filled in"
    assert "http" not in text
    if lang == "zh":
        for word in ("mIoU points", "blocks", "verdict", "Does "):
            assert word not in re.sub(r"[-\w. ]*semalign[-\w. ]*", "", outline.text), word


def test_old_figures_go(tmp_path: Path) -> None:
    """A figure of an earlier report that this one does not draw does not stay; other files do."""
    folder = paired(tmp_path / "study").path
    (folder / FIGURES).mkdir()
    (folder / FIGURES / "looks-7.svg").write_text("<svg/>")
    (folder / FIGURES / "notes.txt").write_text("mine")
    write_report(folder)

    assert not (folder / FIGURES / "looks-7.svg").exists()
    assert (folder / FIGURES / "notes.txt").exists()
    assert (folder / FIGURES / "effects-0.pdf").exists()
