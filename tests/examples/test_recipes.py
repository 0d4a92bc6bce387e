from __future__ import annotations

from pathlib import Path

import pytest

from semalign.config import read_options, resolve_defaults
from semalign.text.encoders import make_encoder
from semalign.train.run import build_model, parameter_count

RECIPES = Path(__file__).parents[2] / "examples" / "recipes"


@pytest.mark.parametrize(
    ("name", "classes", "most", "size"),
    [("camvid-360x480.yaml", 11, 3_000_000, (360, 480)), ("nyuv2-rgbd.yaml", 40, 10_000_000, (240, 320))],
)
def test_a_recipe_keeps_what_it_says(name: str, classes: int, most: int, size: tuple[int, int]) -> None:
    """The file is read, its model has no more parameters than it says, and its header shows the command."""
    options = resolve_defaults(read_options(RECIPES / name), "folder")
    dim = make_encoder(options.text.encoder).encode(["a photo of a road"]).shape[1]

    model = build_model(options, classes, dim, None, seed=0)

    assert parameter_count(model) <= most
    assert options.data.size == size
    assert f"--config examples/recipes/{name}" in (RECIPES / name).read_text()
    assert options.train.tracker == ("csv",)


def test_every_recipe_is_tested() -> None:
    """No file of the folder is left out above."""
    assert sorted(path.name for path in RECIPES.iterdir()) == ["camvid-360x480.yaml", "nyuv2-rgbd.yaml"]
