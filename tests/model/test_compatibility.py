"""Every backbone with every text tower: two steps of training each, and the table in docs/compatibility.md.

A row of that page is what the test of its backbone found; the test fails where the page says otherwise.
``SEMALIGN_REWRITE=1 python -m pytest tests/model/test_compatibility.py`` writes the page anew (in one process).
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from semalign.model.backbones import BackboneEncoder
from semalign.model.build import build_segmenter
from semalign.model.segmenter import Segmenter
from semalign.model.text_fusion import alignment_sites
from semalign.model.text_guidance import remove_text_guidance
from semalign.text.bank import TextBank, class_bank, class_token_bank, save_bank
from semalign.text.encoders import make_encoder
from semalign.train.optimizer import make_optimizer, parameter_groups
from tests.model.test_backbones import SMALL, needs_transformers, small
from tests.text.models import needs_sentence_transformers, save_sentence_model, save_tower
from tests.text.test_encoders import needs_minilm

PAGE = Path(__file__).parents[2] / "docs" / "compatibility.md"
NAMES = ("sky", "road", "天空", "a tree", "car|automobile")
CLASSES = 5
HEIGHT, WIDTH = 61, 83
BACKBONES = ("semalign nano", *(f"hf:{name}" for name in SMALL))
TOWERS = ("table", "minilm", "clip", "siglip", "sentence", "bank", "clip, tokens", "sentence, tokens")

HEAD = f"""# Backbones and text towers

Each cell was run by `tests/model/test_compatibility.py`, with small models of the named families built from their
configuration and random weights; the towers are saved to disk and read by the path that `text.encoder` names. A cell
stands here if, for that pair,

- with gate 0 the guided backbone's features are `torch.equal` to the unguided backbone's,
- two steps of training with our optimizer groups on {HEIGHT} x {WIDTH} images give finite losses,
- every gate, in encoder and decoder, has a gradient that is not zero, and moves,
- the model with these steps behind it gives finite logits.

The cell says at how many places text comes in. `tokens`: `text.level=token`; `bank`: a precomputed bank; the others are
vectors of sentences, with a Chinese class name and an alias among them. The page is written by
`SEMALIGN_REWRITE=1 python -m pytest tests/model/test_compatibility.py`.

| backbone | {" | ".join(TOWERS)} |
|---|{"---|" * len(TOWERS)}
"""


@pytest.fixture(scope="module")
def banks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, TextBank]:
    """Return by tower the class bank that it makes."""
    root = tmp_path_factory.mktemp("towers")
    save_tower(root / "clip", "clip")
    save_tower(root / "siglip", "siglip")
    save_sentence_model(root / "sentence")
    made = {
        "table": class_bank(make_encoder("table:dim=13"), NAMES, "photo"),
        # Its vocabulary has the two Chinese letters.
        "minilm": class_bank(make_encoder("minilm"), NAMES, "photo"),
        **{
            kind: class_bank(make_encoder(f"{kind}:{root / kind}"), NAMES, "segmentation")
            for kind in ("clip", "siglip", "sentence")
        },
        **{
            f"{kind}, tokens": class_token_bank(make_encoder(f"{kind}:{root / kind}"), NAMES, "photo")
            for kind in ("clip", "sentence")
        },
    }
    save_bank(root / "bank.safetensors", made["clip"])
    made["bank"] = class_bank(make_encoder(str(root / "bank.safetensors")), NAMES[:-1], "plain")
    assert set(made) == set(TOWERS)
    return made


def guided(backbone: str, dim: int, gate: float) -> Segmenter:
    """Return a small segmenter that is guided in all stages and at all levels, its backbone's gates at ``gate``."""
    family = backbone.removeprefix("hf:")
    return build_segmenter(
        CLASSES,
        text_dim=dim,
        backbone=small(family) if family in SMALL else None,
        encoder_stages=(0, 1, 2, 3),
        encoder_heads=2,
        encoder_knobs={"gate": {"init": gate}},
        decoder_heads=2,
    )


def features(model: Segmenter, image: torch.Tensor, text: torch.Tensor | None) -> list[torch.Tensor]:
    """Return the four levels of the visual encoder alone."""
    with torch.no_grad():
        return list(model.visual_encoder.eval()(image, text))


def check_gate_zero(backbone: str, text: torch.Tensor, image: torch.Tensor) -> None:
    """With gate 0 the features are those of the backbone without guidance."""
    model = guided(backbone, text.shape[1], 0.0)
    given = features(model, image, text)
    encoder = model.visual_encoder
    if isinstance(encoder, BackboneEncoder):
        encoder.backbone = remove_text_guidance(encoder.backbone)
        plain = features(model, image, None)
    else:
        plain = features(build_segmenter(CLASSES, text_dim=None), image, None)
    assert all(torch.equal(one, other) for one, other in zip(given, plain, strict=True))


def check_steps(backbone: str, text: torch.Tensor, image: torch.Tensor) -> int:
    """Train two steps; return the number of guided places."""
    model = guided(backbone, text.shape[1], 0.5)
    sites = alignment_sites(model)
    _, groups = parameter_groups(model, lr=1e-3, scalar_lr=1e-3, decay=0.05, scalar_decay=0.0)
    optimizer = make_optimizer(model, groups)
    mask = torch.randint(CLASSES, (2, HEIGHT, WIDTH), generator=torch.Generator().manual_seed(3))
    model.train()
    before = {path: site.gate.theta.detach().clone() for path, site in sites.items()}
    # Our own encoder's blocks start closed, by a factor of 0 that the first step opens.
    for step in range(2):
        optimizer.zero_grad()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(step)
            loss = F.cross_entropy(model(image, text), mask)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        assert bool(loss.isfinite())
    gradients = {path: site.gate.theta.grad for path, site in sites.items()}
    with torch.no_grad():
        logits = model.eval()(image, text)

    assert [path for path, gradient in gradients.items() if gradient is None or not gradient.any()] == []
    assert [path for path, site in sites.items() if torch.equal(site.gate.theta, before[path])] == []
    assert logits.shape == (2, CLASSES, HEIGHT, WIDTH)
    assert bool(logits.isfinite().all())
    return len(sites)


def row_of(backbone: str, cells: list[str]) -> str:
    """Return a row of the page."""
    return f"| {backbone} | {' | '.join(cells)} |\n"


@needs_transformers
@needs_sentence_transformers
@needs_minilm
@pytest.mark.parametrize("backbone", BACKBONES)
def test_every_backbone_learns_with_every_tower(backbone: str, banks: dict[str, TextBank]) -> None:
    """One row of the page: gate 0, two steps, the gates' gradients, for each tower."""
    image = torch.randn(2, 3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(1))
    cells = []
    for tower in TOWERS:
        text = banks[tower].features
        check_gate_zero(backbone, text, image)
        cells.append(f"{check_steps(backbone, text, image)} places")

    row = row_of(backbone, cells)
    if os.environ.get("SEMALIGN_REWRITE"):
        rewrite(backbone, row)
    assert row in PAGE.read_text(encoding="utf-8")


def rewrite(backbone: str, row: str) -> None:
    """Put the row into the page, which begins anew with the first backbone."""
    if backbone == BACKBONES[0]:
        PAGE.write_text(HEAD, encoding="utf-8")
    with PAGE.open("a", encoding="utf-8") as page:
        page.write(row)


def test_the_page_has_no_other_rows() -> None:
    """The page is the head and one row per backbone, in order; its table meets the promise of seven by four."""
    text = PAGE.read_text(encoding="utf-8")

    assert text.startswith(HEAD)
    rows = text.removeprefix(HEAD).splitlines()
    assert [row.split(" | ")[0].removeprefix("| ") for row in rows] == list(BACKBONES)
    assert len([name for name in BACKBONES if name.startswith("hf:")]) >= 7
    assert len(TOWERS) >= 4
