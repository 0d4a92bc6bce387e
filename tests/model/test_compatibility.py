"""Every backbone with every text tower: two steps of training each, and the table in docs/compatibility.md.

A row of that page is what the test of its backbone found; the test fails where the page says otherwise.
``SEMALIGN_REWRITE=1 python -m pytest tests/model/test_compatibility.py`` writes the page anew (in one process); its
second table in an environment that has timm and open_clip, as ``.ci/run-torchvision`` makes one.
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from semalign.model.alignment import alignment_sites
from semalign.model.backbones import Backbone, BackboneEncoder, make_backbone
from semalign.model.build import build_segmenter
from semalign.model.segmenter import Segmenter
from semalign.model.text_guidance import remove_text_guidance
from semalign.text.bank import TextBank
from semalign.text.bank_file import save_bank
from semalign.text.encoders import make_encoder
from semalign.text.encoding import class_bank, class_token_bank
from semalign.train.optimizer import make_optimizer, parameter_groups
from tests.model.test_backbones import SMALL, needs_transformers, small
from tests.text.models import needs_sentence_transformers, save_open_clip, save_sentence_model, save_tower
from tests.text.test_encoders import needs_minilm

PAGE = Path(__file__).parents[2] / "docs" / "compatibility.md"
NAMES = ("sky", "road", "天空", "a tree", "car|automobile")
CLASSES = 5
HEIGHT, WIDTH = 61, 83
BACKBONES = ("semalign nano", *(f"hf:{name}" for name in SMALL))
TOWERS = ("table", "minilm", "clip", "siglip", "sentence", "bank", "clip, tokens", "sentence, tokens")

HEAD = f"""# Backbones and text towers

`tests/model/test_compatibility.py` runs each pair of this table. It builds small models of the named families from
their configuration, with random weights. The text towers are saved to disk and loaded from the path in `text.encoder`.
A cell is filled if, for its pair,

- with gate 0 the features of the guided backbone are `torch.equal` to those of the unguided backbone,
- two training steps with our optimizer groups on {HEIGHT} x {WIDTH} images give finite losses,
- every gate in the encoder and the decoder has a nonzero gradient and changes,
- the model gives finite logits after these steps.

The cell contains the number of places at which text is used. `tokens`: `text.level=token`; `bank`: a precomputed bank;
the other columns use vectors of sentences, with a Chinese class name and an alias among them. The test writes this
page: `SEMALIGN_REWRITE=1 python -m pytest tests/model/test_compatibility.py`.

| backbone | {" | ".join(TOWERS)} |
|---|{"---|" * len(TOWERS)}
"""


TIMM: dict[str, dict[str, Any]] = {
    "timm:resnet18": {},
    "timm:convnext_atto": {},
    "timm:pvt_v2_b0": {},
    "timm:swin_tiny_patch4_window7_224": {"img_size": [64, 96], "embed_dim": 24, "num_heads": [1, 2, 2, 2]},
    "timm:vit_tiny_patch16_224": {"dynamic_img_size": True},
}
MORE_BACKBONES = ("semalign nano", "hf:swin", "hf:segformer", *TIMM)
MORE_TOWERS = ("table", "clip", "sentence", "open_clip")

SECOND_HEAD = f"""
## timm and open_clip

The same table in a separate environment, because both libraries need torchvision; `.ci/run-torchvision` creates it and
runs these rows.

| backbone | {" | ".join(MORE_TOWERS)} |
|---|{"---|" * len(MORE_TOWERS)}
"""

needs_torchvision = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("timm", "open_clip")),
    reason="timm or open_clip is not installed (an environment of their own)",
)


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


@pytest.fixture(scope="module")
def more_banks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, TextBank]:
    """Return by tower of the second table the class bank that it makes."""
    root = tmp_path_factory.mktemp("more-towers")
    save_tower(root / "clip", "clip")
    save_sentence_model(root / "sentence")
    save_open_clip(root / "open_clip")
    made = {
        "table": class_bank(make_encoder("table:dim=13"), NAMES, "photo"),
        **{
            kind: class_bank(make_encoder(f"{kind}:{root / kind}"), NAMES, "segmentation")
            for kind in ("clip", "sentence", "open_clip")
        },
    }
    assert set(made) == set(MORE_TOWERS)
    return made


def backbone_of(name: str) -> Backbone | None:
    """Return a small backbone by the name of its row; None for our own."""
    if name in TIMM:
        return make_backbone(name, size="nano", options=TIMM[name])
    return small(name.removeprefix("hf:")) if name.startswith("hf:") else None


def guided(backbone: str, dim: int, gate: float) -> Segmenter:
    """Return a small segmenter that is guided in all stages and at all levels, its backbone's gates at ``gate``."""
    return build_segmenter(
        CLASSES,
        text_dim=dim,
        backbone=backbone_of(backbone),
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
    row = row_of(backbone, cells(backbone, [banks[tower] for tower in TOWERS]))

    assert row in rows_with(row, 0, anew=backbone == BACKBONES[0])


@needs_torchvision
@needs_transformers
@needs_sentence_transformers
@pytest.mark.filterwarnings("ignore")  # timm's own, when it is imported
@pytest.mark.parametrize("backbone", MORE_BACKBONES)
def test_timm_and_open_clip_too(backbone: str, more_banks: dict[str, TextBank]) -> None:
    """One row of the page's second table."""
    row = row_of(backbone, cells(backbone, [more_banks[tower] for tower in MORE_TOWERS]))

    assert row in rows_with(row, 1, anew=backbone == MORE_BACKBONES[0])


def rows_with(row: str, table: int, *, anew: bool) -> str:
    """Return the rows of one of the page's tables; where the page is rewritten, put the row there first."""
    found = list(tables())
    if os.environ.get("SEMALIGN_REWRITE"):
        found[table] = ("" if anew else found[table]) + row
        PAGE.write_text(HEAD + found[0] + SECOND_HEAD + found[1], encoding="utf-8")
    return found[table]


def cells(backbone: str, banks: list[TextBank]) -> list[str]:
    """Return what was found for a backbone with the text of each bank."""
    image = torch.randn(2, 3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(1))
    found = []
    for bank in banks:
        check_gate_zero(backbone, bank.features, image)
        found.append(f"{check_steps(backbone, bank.features, image)} places")
    return found


def tables() -> tuple[str, str]:
    """Return the rows of the page's two tables."""
    text = PAGE.read_text(encoding="utf-8")
    assert text.startswith(HEAD)
    first, _, second = text.removeprefix(HEAD).partition(SECOND_HEAD)
    return first, second


def test_the_page_has_no_other_rows() -> None:
    """One row per backbone, in order; the first table alone meets the promise of seven by four."""
    for rows, names in zip(tables(), (BACKBONES, MORE_BACKBONES), strict=True):
        assert [row.split(" | ")[0].removeprefix("| ") for row in rows.splitlines()] == list(names)
    assert len([name for name in BACKBONES if name.startswith("hf:")]) >= 7
    assert len(TOWERS) >= 4
