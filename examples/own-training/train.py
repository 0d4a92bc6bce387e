"""A training script as anybody might have it: one file, argparse, its own data, its own logger, no semalign.

A softmax classifier of pixels learns to tell sky, road, car and tree in made pictures from the colour of a pixel, or
from the colours around it too.  What a study needs of it is at the end of `main`: it writes score.json.
"""

import argparse
import csv
import json
from pathlib import Path

import numpy as np

CLASSES = ["sky", "road", "car", "tree"]
COLOURS = np.array([[0.55, 0.65, 0.80], [0.45, 0.45, 0.47], [0.60, 0.35, 0.35], [0.35, 0.50, 0.35]])


def make_pictures(n, seed):
    """Return n noisy pictures (n x 24 x 32 x 3) and their masks (n x 24 x 32)."""
    rng = np.random.default_rng(seed)
    masks = np.zeros((n, 24, 32), dtype=int)
    for mask in masks:
        horizon = rng.integers(8, 14)
        mask[horizon:] = 1
        for kind, height, width in [(2, 6, 9), (3, 10, 7), (2, 4, 6)]:
            top, left = rng.integers(horizon - 4, 24 - height), rng.integers(0, 32 - width)
            mask[top : top + height, left : left + width] = kind
    light = rng.normal(0, 0.05, (n, 1, 1, 1))
    return COLOURS[masks] + light + rng.normal(0, 0.15, (*masks.shape, 3)), masks


def features(pictures, kind):
    """Return what the classifier sees of each pixel: its colour and a 1, or the mean around it as well."""
    pictures = 8 * (pictures - 0.5)
    parts = [pictures, np.ones((*pictures.shape[:3], 1))]
    if kind == "context":
        padded = np.pad(pictures, ((0, 0), (2, 2), (2, 2), (0, 0)), mode="edge")
        h, w = pictures.shape[1:3]
        parts.append(sum(padded[:, i : i + h, j : j + w] for i in range(5) for j in range(5)) / 25)
    return np.concatenate(parts, axis=-1)


def probabilities(x, weights):
    """Return the softmax of the linear classifier."""
    z = x @ weights
    z = np.exp(z - z.max(axis=-1, keepdims=True))
    return z / z.sum(axis=-1, keepdims=True)


def count(predictions, masks):
    """Return TP, FP and FN of every picture and class: pictures x classes x 3."""
    rows = []
    for prediction, mask in zip(predictions, masks, strict=True):
        hits = [(prediction == c) & (mask == c) for c in range(len(CLASSES))]
        rows.append(
            [
                [int(hit.sum()), int((prediction == c).sum() - hit.sum()), int((mask == c).sum() - hit.sum())]
                for c, hit in enumerate(hits)
            ]
        )
    return np.array(rows)


class Logger:
    """The script's own logger: a line on the screen, a line in metrics.csv."""

    def __init__(self, folder):
        self.path = folder / "metrics.csv"
        self.rows = list(csv.reader(self.path.open())) if self.path.exists() else []

    def log(self, step, loss):
        """Add a line."""
        print(f"step {step:4d} | loss {loss:.4f}", flush=True)
        self.rows.append([step, loss])
        with self.path.open("w", newline="") as file:
            csv.writer(file).writerows(self.rows)


def main():
    """Train, score, say so."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--lr", type=float, default=1.0)
    parser.add_argument("--features", choices=["colour", "context"], default="colour")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)

    pictures, masks = make_pictures(24, seed=1)
    x, y = features(pictures, args.features), np.eye(len(CLASSES))[masks]
    rng = np.random.default_rng(args.seed)
    weights = rng.normal(0, 0.5, (x.shape[-1], len(CLASSES)))
    orders = [rng.permutation(len(x)) for _ in range(args.epochs)]

    # Go on from the last epoch that was finished, if there is one.
    checkpoint, first = args.out / "checkpoint.npz", 0
    logger = Logger(args.out)
    if checkpoint.exists():
        with np.load(checkpoint) as saved:
            weights, first = saved["weights"], int(saved["epochs"])
        logger.rows = logger.rows[: first * len(x)]

    for epoch in range(first, args.epochs):
        for place, i in enumerate(orders[epoch]):
            p = probabilities(x[i], weights)
            loss = -np.log(np.maximum((p * y[i]).sum(axis=-1), 1e-12)).mean()
            if not np.isfinite(loss):
                # score.json: a run that has failed says why.
                (args.out / "score.json").write_text(json.dumps({"failed": f"the loss is {loss} in epoch {epoch}"}))
                return
            weights = weights - args.lr * np.einsum("hwf,hwc->fc", x[i], p - y[i]) / p[..., 0].size
            logger.log(epoch * len(x) + place, float(loss))
        part = args.out / "checkpoint.part.npz"
        np.savez(part, weights=weights, epochs=epoch + 1)
        part.replace(checkpoint)

    pictures, masks = make_pictures(30, seed=2)
    counts = count(probabilities(features(pictures, args.features), weights).argmax(axis=-1), masks)
    total = counts.sum(axis=0)
    iou = total[:, 0] / total.sum(axis=-1)
    print(f"mIoU {iou.mean():.4f}", flush=True)
    # score.json: {"miou": ...} alone would do; counts let the report compare classes and pictures.
    score = {
        "miou": float(iou.mean()),
        "classes": CLASSES,
        "images": [f"picture-{i}" for i in range(len(masks))],
        "counts": counts.tolist(),
        "curves": {"train/loss": [[int(step), float(loss)] for step, loss in logger.rows]},
    }
    (args.out / "score.json").write_text(json.dumps(score))


if __name__ == "__main__":
    main()
