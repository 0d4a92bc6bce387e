"""Train a small segmenter on built-in scenes, ask whether it uses its text, and guide it with words of your own.

python examples/train_and_look.py
"""

from pathlib import Path

from PIL import Image

import semalign

# A model for scenes whose objects only the text can tell apart: what looks like a drum may be a cake.
sizes = {"data.n_train": 120, "data.n_val": 40}
run, result = semalign.train(
    "scenes", out="runs/look", **sizes, **{"train.epochs": 12, "train.average": 0.9, "train.val_every": 0}
)
print(f"mIoU {result.score.miou:.2f} on {len(result.score.images)} images it has not seen")

# Is the text used?  Scored again with the text removed, shuffled between images, and so on.
settings = [f"{name}={value}" for name, value in sizes.items()]
evaluation = semalign.evaluate(run, "scenes", settings=settings, counterfactuals=True)
print(evaluation.text_use.sentence)

# One picture, two texts, two answers.
scenes = semalign.open_data("scenes", n_train=120, n_val=40, scenes_size=(96, 128))
name = next(name for name in scenes.names("val") if "drum" in " ".join(scenes.load("val", name).texts))
picture = Path("picture.png")
Image.fromarray(scenes.load("val", name).image).save(picture)
for word in ("drum", "cake"):
    text = [f"a photo of a {word}", f"there is a {word} in the room"]
    (written,) = semalign.predict(run, [picture], text=text, out=f"predictions/{word}")
    seen = written["classes"]  # by name the share of the picture
    shares = ", ".join(f"{100 * seen.get(name, 0):.0f} % {name}" for name in ("drum", "cake"))
    print(f"told of a {word}: {shares}, see {written['overlay']}")
