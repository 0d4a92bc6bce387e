from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from semalign.data.scenes import Scenes
from semalign.judge import Judgement
from semalign.report import load_study
from semalign.report.cells import Table
from semalign.report.differences import class_changes, image_changes, image_scores, new_images
from semalign.report.html import render
from semalign.report.images import picture_of, picture_of_scene, scenes_of
from semalign.report.page import Page, build_page
from semalign.report.paper import paper_text
from semalign.report.sections.factors import main_effects_of
from semalign.report.sections.new_images import suspected_sequences
from semalign.report.sections.parts import Section
from semalign.results import RunResult, Score, write_result
from semalign.wording import Catalogue
from tests.report.study_folder import EN, ZH, StudyFolder, designed, looked, paired


def page_of(folder: StudyFolder, words: Catalogue = EN) -> Page:
    """Return the report's page."""
    return build_page(load_study(folder.path), words)


def section(page: Page, key: str) -> Section:
    """Return the section of this key."""
    (found,) = [section for section in page.sections if section.key == key]
    return found


def cells(table: Table) -> list[list[str]]:
    """Return the table's texts."""
    return [[cell.text for cell in row.cells] for row in table.rows]


# --- looks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("differences", "options", "said", "card"),
    [
        (["1", "2", "3"], {}, "3 blocks are complete so far. Nothing is judged before", "Not judged yet: 3 complete"),
        (["3", "3.1", "2.9", "3.05", "3"], {}, "ended at look 1 of 3, at 5 blocks: every", "Decided at look 1 of 3"),
        (
            ["1", "-2", "3", "0.5", "-1", "2", "0"],
            {},
            "The next look is at 8 blocks.",
            "the study continues to 8 blocks",
        ),
        (["4", "-4"] * 6, {}, "ended at its last look, at 12 blocks. Left open: A - Baseline", "Open at the last look"),
    ],
)
def test_looks_in_words(
    tmp_path: Path, differences: list[str], options: dict[str, object], said: str, card: str
) -> None:
    """What was planned, which look is reached, and what comes next, in the answer and in the evidence."""
    page = page_of(looked(tmp_path / "s", differences, **options))
    looks = " ".join(page.looks)

    assert said in looks
    assert card in page.cards[0].sentence
    assert section(page, "looks").sentences[0].startswith("Planned before any run: looks at")


def test_looks_figure_and_table(tmp_path: Path) -> None:
    """Decided at the first look: its row is judged, what was run later is shown pale, the third is empty."""
    page = page_of(looked(tmp_path / "s", ["3", "3.1", "2.9", "3.05", "3", "1", "2", "3"]))
    looks = section(page, "looks")
    plot = looks.figures[0].plot

    rows = cells(looks.tables[0])
    assert [row[1] for row in rows] == ["look 1: 5 blocks", "look 2: 8 blocks"]
    assert rows[1][4] == "shown only (better before)"
    assert [mark.pale for mark in plot.marks] == [False, True]  # type: ignore[union-attr]
    assert plot.ahead == ("look 3: not reached",)  # type: ignore[union-attr]
    assert "look 1: 5 blocks: +3.0" in plot.description


def test_futile_study_says_so(tmp_path: Path) -> None:
    """A study that ended for futility is not called decided; every sentence of it stands in both languages."""
    folder = looked(tmp_path / "s", ["1.1", "-0.9", "1.2", "-0.8", "2.5"], margin=0.2, looks=[5, 6], futility=True)
    judgement = load_study(folder.path).judgement

    assert judgement.looks[0].futile
    assert judgement.next_look(futility=True) is None
    assert "for futility" in page_of(folder).looks[-1]
    assert "因无望而结束" in page_of(folder, ZH).looks[-1]


def test_arms_of_an_ended_study_are_complete(tmp_path: Path) -> None:
    """A study that ended at 5 of 12 blocks lacks nothing."""
    page = page_of(looked(tmp_path / "s", ["3", "3.1", "2.9", "3.05", "3"]))

    assert page.state == ()
    assert cells(page.tables[0])[0][1].startswith("44.0 ± ")
    assert "runs" not in cells(page.tables[0])[0][1]


# --- factors --------------------------------------------------------------------------------------


def test_main_effects_by_hand(tmp_path: Path) -> None:
    """Seed s scores 40 + s, a learnable encoder temperature 2 more: means 41 and 43 over three blocks."""
    folder = designed(
        tmp_path / "s", "factorial", lambda arm, seed: 40 + seed + 2 * ("learnable" in arm), blocks=3, seeds=3
    )
    first, *others = main_effects_of(load_study(folder.path))

    assert (first.factor, first.levels) == ("encoder temperature", ("fixed", "learnable"))
    assert first.mean == pytest.approx((41, 43))
    assert first.blocks.shape == (3, 2)
    for other in others:
        assert other.mean == pytest.approx((42, 42))


def test_factorial_page(tmp_path: Path) -> None:
    """Main effects and all six interactions are drawn, and judged in families of their own."""
    folder = designed(tmp_path / "s", "factorial", lambda arm, seed: 40 + seed + len(arm) / 50, blocks=2, seeds=2)
    page = page_of(folder)

    assert len(section(page, "interactions").figures[0].plot.panels) == 6  # type: ignore[union-attr]
    assert [figure.title for figure in page.effects] == ["primary", "interactions"]
    assert "encoder temperature: fixed 41.2, learnable 41.8" in section(page, "factors").figures[0].plot.description


def test_half_fraction_prints_its_aliases(tmp_path: Path) -> None:
    """Statements on two factors are undecided (aliased), and no interaction is drawn."""
    folder = designed(tmp_path / "s", "half-fraction", lambda arm, seed: 40 + seed + len(arm) / 50, blocks=2, seeds=2)
    page = page_of(folder)
    shared = cells(section(page, "factors").tables[1])

    assert not [one for one in page.sections if one.key == "interactions"]
    assert ["encoder temperature x encoder gate", "decoder temperature x decoder gate", "undecided (aliased)"] in shared
    assert page.claims is not None
    compete = next(row for row in cells(page.claims) if row[0] == "Temperature and gate compete.")
    assert compete[1] == "undecided (aliased)"


def test_placement_page(tmp_path: Path) -> None:
    """With more than two levels lines are shown for one pair of factors, and not judged."""
    folder = designed(tmp_path / "s", "placement", lambda arm, seed: 40 + seed + len(arm) / 50, blocks=2, seeds=2)
    page = page_of(folder)
    (panel,) = section(page, "interactions").figures[0].plot.panels  # type: ignore[union-attr]

    assert panel.levels == ("1-3", "none", "3", "2-3", "0-3")
    assert [label for label, _ in panel.lines] == ["0-3", "2-3", "none"]
    assert "Shown, not judged" in section(page, "interactions").sentences[0]


# --- classes and images ---------------------------------------------------------------------------


def test_class_changes_by_hand(tmp_path: Path) -> None:
    """Only car gains, 2, 4 and 6 points: mean 4, half width t(.975, 2) 2 / sqrt(3) = 4.968; sky is absent."""
    numbers = load_study(paired(tmp_path / "s").path)
    road, car = class_changes(numbers, numbers.judgement.estimates[0])

    assert (road.name, road.mean) == ("road", 0)
    assert car.mean == pytest.approx(4)
    assert car.high == pytest.approx(4 + 4.302652729696142 * 2 / 3**0.5)


def test_image_scores_by_hand() -> None:
    """Classes that the image's own mask does not hold are left out, whatever is predicted; no mask gives no number."""
    counts = np.array([[[3, 0, 1], [0, 5, 0]], [[1, 1, 0], [1, 0, 3]], [[0, 2, 0], [0, 0, 0]]])

    np.testing.assert_allclose(image_scores(counts), [75, (50 + 25) / 2, np.nan])


def test_image_changes_by_hand(tmp_path: Path) -> None:
    """In the first image false positives grow, in the second hits: both gain, the same in the blocks' signs."""
    numbers = load_study(paired(tmp_path / "s", ("1", "2", "-1", "4")).path)
    changes = image_changes(numbers, numbers.judgement.estimates[0])

    assert changes is not None
    assert {change.name for change in changes.gains} == {"val/a.png", "val/b.png"}
    assert changes.losses == ()
    for change in changes.gains:
        assert (change.agree, change.blocks) == (3, 4)
        assert change.sd is not None
    assert list(changes.mean) == sorted(changes.mean)


def test_pictures_stand_beside_names(tmp_path: Path) -> None:
    """Where the data folder can be read, image and mask are shown; elsewhere names alone, and why."""
    folder = designed(tmp_path / "s", "ablation-1", lambda arm, seed: 40 + seed + (arm == "A"), blocks=2, seeds=2)
    (folder.path / "study.yaml").write_text((folder.path / "study.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    assert "images are named and not shown" in " ".join(section(page_of(folder), "image-changes").sentences)

    root = tmp_path / "data"
    for kind, mode in (("images", "RGB"), ("masks", "L")):
        (root / kind / "val").mkdir(parents=True)
        for index in range(23):
            Image.new(mode, (23, 13), index % 2).save(root / kind / "val" / f"street_{index:03d}.png")
    folder.facts({"data": {"root": str(root)}})
    table = section(page_of(folder), "image-changes").tables[0]
    picture = table.rows[0].cells[1].picture

    assert picture is not None
    assert picture.address.startswith("data:image/jpeg;base64,")
    assert picture.alt.startswith("val/street_")
    assert f'<img src="{picture.address}" alt="{picture.alt}"' in render(page_of(folder), EN)


def test_scenes_are_drawn_again() -> None:
    """Built-in scenes need no folder: facts and a fingerprint that still fits give the picture; else there is none."""
    scenes = Scenes(0.5, 3, 2, size=(17, 23), seed=5)
    facts = {**scenes.describe(), "fingerprints": {"val": scenes.fingerprint("val")}}
    again = scenes_of(facts, "val")
    assert again is not None
    address = picture_of_scene(again, "val", "val/00001")
    assert address is not None
    picture = Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2])))
    width = round(72 * 23 / 17)

    assert picture.size == (2 * width + 4, 72)
    shown = np.asarray(picture.crop((0, 0, width, 72)).resize((23, 17)), dtype=np.float64)
    assert np.abs(shown - scenes.load("val", "00001").image).mean() < 16 < np.ptp(shown)
    assert picture_of_scene(again, "val", "00002") is None
    assert scenes_of({**facts, "fingerprints": {"val": "of another renderer"}}, "val") is None
    assert scenes_of({**facts, "size": 3}, "val") is None
    assert scenes_of({"kind": "folder"}, "val") is None


@pytest.mark.parametrize("name", ["../../secret", "a/b", "..", ""])
def test_no_picture_from_outside(tmp_path: Path, name: str) -> None:
    """A name cannot lead out of the folder; a damaged file gives no picture."""
    (tmp_path / "images" / "val").mkdir(parents=True)
    (tmp_path / "masks" / "val").mkdir(parents=True)
    for kind in ("images", "masks"):
        (tmp_path / kind / "val" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    Image.new("L", (5, 7)).save(tmp_path / "secret.png")

    assert picture_of(tmp_path, "val", name) is None
    assert picture_of(tmp_path, "val", "broken") is None


# --- new images -----------------------------------------------------------------------------------


def one_arm_better(arm: str, seed: int) -> float:
    """Return scores in which A gains about 2 points."""
    return 40 + seed + (2 + 0.1 * (seed % 3)) * (arm == "A")


def test_new_images_are_judged_once(tmp_path: Path) -> None:
    """Without looks, with 23 images of their own: judged, wider than the interval on these images or as wide."""
    folder = designed(tmp_path / "s", "ablation-1", one_arm_better, blocks=5, seeds=5)
    numbers = load_study(folder.path)
    answer = new_images(numbers)

    assert (answer.refused, answer.clusters, answer.named) == (None, 23, False)
    estimate = numbers.judgement.estimates[0]
    assert estimate.low is not None
    assert answer.judged[0].low <= estimate.low + 1e-9
    said = section(page_of(folder), "new-images").sentences
    assert "the names look like frames of one sequence" in " ".join(said)


@pytest.mark.parametrize(
    ("options", "images", "refused"),
    [({}, 23, "looks"), ({"seeds": 5}, 19, "few clusters"), ({"seeds": 6}, 23, "unfinished")],
)
def test_new_images_are_refused(tmp_path: Path, options: dict[str, Any], images: int, refused: str) -> None:
    """Never at looks, below 20 clusters, or before the study is finished; the page says why."""
    folder = designed(tmp_path / "s", "ablation-1", one_arm_better, blocks=5, images=images, **options)

    assert new_images(load_study(folder.path)).refused == refused
    for words in (EN, ZH):
        text = words(f"report.new images {refused}", clusters=images, fewest=20)
        assert text in section(page_of(folder, words), "new-images").sentences


def test_named_clusters_count(tmp_path: Path) -> None:
    """The data's own sequences are clusters: 46 images of 23 sequences, and too few where there are 2."""
    folder = designed(tmp_path / "s", "ablation-1", one_arm_better, blocks=3, images=46, seeds=3)
    for sequences, refused in ((23, None), (2, "few clusters")):
        named = {f"val/street_{image:03d}.png": f"q{image % sequences}" for image in range(46)}
        folder.facts({"data": {"cluster_of": {"val": named}}})
        answer = new_images(load_study(folder.path))
        assert (answer.clusters, answer.named, answer.refused) == (sequences, True, refused)


def test_clusters_that_were_not_recorded_are_not_made_up(tmp_path: Path) -> None:
    """Where the data have clusters and the study's folder does not say which, new images are not judged."""
    folder = designed(tmp_path / "s", "ablation-1", one_arm_better, blocks=3, seeds=3)
    folder.facts({"data": {"clusters": True}})

    assert new_images(load_study(folder.path)).refused == "clusters unknown"
    assert "does not record which image" in section(page_of(folder), "new-images").sentences[-1]


def test_sequences_are_suspected_by_names() -> None:
    """Frames differ in a last number alone; images with names of their own are not suspected."""
    assert suspected_sequences(["0016E5_07959.png", "0016E5_07961.png"]) == 1
    assert suspected_sequences(["a1", "b1", "c1", "c2"]) is None
    assert suspected_sequences(["cat", "dog"]) is None


# --- a user's own command -------------------------------------------------------------------------


def command_study(path: Path) -> StudyFolder:
    """Write a study of a command that gives scores, and IoU by class, and no counts."""
    folder = StudyFolder(path)
    folder.study(
        {"small": {"lr": 0.1}, "large": {"lr": 0.2}},
        command="python train.py --seed {seed} --lr {arm.lr} --out {out}",
        looks=[3, 5],
    )
    for seed in range(3):
        for arm, gain in (("small", 0.0), ("large", 0.03 + seed / 1000)):
            score = Score.of_figures(0.4 + seed / 100 + gain, {"road": 0.5 + gain, "car": 0.3})
            file = path / "runs" / arm / f"seed-{seed}" / "result.json"
            file.parent.mkdir(parents=True)
            write_result(file, RunResult(arm, seed, "finished", score, {}, {}, {}))
    return folder


def test_command_page(tmp_path: Path) -> None:
    """Judged like ours: effect, looks, classes; nothing of text, knobs, images or claims is said."""
    page = page_of(command_study(tmp_path / "s"))

    assert page.text_sentences == ()
    assert page.claims is None
    assert page.groups == ()
    assert page.cards[0].name == "large - small"
    assert cells(section(page, "class-changes").tables[0])[0][0] == "road"
    assert "changes by image are unknown" in section(page, "image-changes").sentences[0]
    assert any("train.py" in line for fact in page.protocol for line in fact.code)
    method = " ".join(sentence for fact in page.method for sentence in fact.sentences)
    assert "score.json" in method
    assert "the command gets the same seed for all arms" in method
    numbers = load_study(tmp_path / "s")
    for text in (method, paper_text(numbers, page.new_images, EN)):
        assert "initial weights" not in text, "what a script shares within a block is not known"
    assert "得到相同的种子" in paper_text(numbers, page.new_images, ZH)


# --- failed runs and protocol ---------------------------------------------------------------------


def test_failed_runs_are_shown_with_their_test(tmp_path: Path) -> None:
    """Two blocks in which A alone failed: exact paired p of 2 to 0 is 0.5; the verdict waits on them."""
    folder = designed(
        tmp_path / "s",
        "ablation-1",
        lambda arm, seed: None if arm == "A" and seed in (1, 3) else 40 + seed + 2 * (arm == "A"),
        blocks=6,
        seeds=6,
    )
    page = page_of(folder)

    assert page.failures is not None
    assert [row[:2] for row in cells(page.failures)] == [["A", "1"], ["A", "3"]]
    assert "2 of A alone, 0 of Baseline alone; exact paired test p = 0.500" in page.failures.notes[0]
    assert "the 2 lost blocks keep it open" in cells(page.changes)[0][3]
    assert "2 of 12 runs failed" in paper_text(load_study(folder.path), page.new_images, EN)


def test_protocol_card(tmp_path: Path) -> None:
    """Margin, seeds, split hashes, how often splits were scored, decay and versions stand together."""
    groups = [{"role": "weights", "decay": 0.05}, {"role": "gates", "decay": 0.0}]
    folder = designed(
        tmp_path / "s",
        "ablation-1",
        one_arm_better,
        blocks=2,
        seeds=2,
        facts=lambda arm, seed: {"groups": groups, "scored_weights": "average"},
        curves=lambda arm, seed: {"val/miou": [(1, 0.1), (2, 0.2), (3, 0.3)]},
    )
    data = {"splits": {"train": 5, "val": 23}, "fingerprints": {"train": "ab12", "val": "cd34"}}
    folder.facts({"data": data, "versions": {"torch": "9.9"}})
    card = {fact.term: " ".join(fact.sentences) for fact in page_of(folder).protocol}

    assert card["Margin"] == "±1 mIoU points, fixed before any run"
    assert card["Seeds"] == "0–1, fixed before any run, judged once"
    assert card["Splits"] == "train: 5 images, SHA-256 ab12 val: 23 images, SHA-256 cd34"
    assert card["How often splits were scored"].startswith("val: 4 times for the verdicts")
    assert "and 8 times during training" in card["How often splits were scored"]
    assert card["Decay"] == "weights 0.05, gates 0"
    assert card["Versions"] == "torch 9.9"


def test_what_would_change_is_said(tmp_path: Path) -> None:
    """A verdict that one block decides is named; one that none decides is said to be so."""
    lone = paired(tmp_path / "lone", ("2", "3", "2.5"), margin=0.5)
    firm = paired(tmp_path / "firm", ("3", "3.1", "2.9", "3"), margin=0.5)

    assert load_study(lone.path).judgement.verdicts[0].word == "better"
    assert "One block decides A - Baseline" in page_of(lone).change[0]
    assert "No single block decides a verdict" in page_of(firm).change[0]


def test_paper_says_what_is_judged(tmp_path: Path) -> None:
    """The paragraph has design, margin, every effect with its level, and what it does not speak of, in both tongues."""
    folder = looked(tmp_path / "s", ["3", "3.1", "2.9", "3.05", "3"])
    page = page_of(folder)
    numbers = load_study(folder.path)
    english, chinese = (paper_text(numbers, page.new_images, words) for words in (EN, ZH))

    assert "looks at 5, 8, 12 blocks were fixed before any run" in english
    assert "A - Baseline: +3.0 [+2.8, +3.2] mIoU points (95 % interval, 5 blocks), better." in english
    assert "the same images" in english
    assert "A - Baseline：+3.0 [+2.8, +3.2] mIoU 点（95 % 区间，5 个区组），更好。" in chinese


def test_judgement_is_not_changed_by_the_report(tmp_path: Path) -> None:
    """Building a page leaves the numbers as they were."""
    numbers = load_study(paired(tmp_path / "s").path)
    before = json.dumps(numbers.judgement.to_dict())
    build_page(numbers, EN)

    assert json.dumps(numbers.judgement.to_dict()) == before
    assert Judgement.from_dict(json.loads(before)).to_dict() == numbers.judgement.to_dict()
