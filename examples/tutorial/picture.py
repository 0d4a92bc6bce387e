"""Write one validation picture of the built-in scenes as picture.png, and print what its own text says."""

from PIL import Image

import semalign

scenes = semalign.open_data("scenes", scenes_size=(96, 128))
name = next(name for name in scenes.names("val") if "drum" in " ".join(scenes.load("val", name).texts))
sample = scenes.load("val", name)
Image.fromarray(sample.image).save("picture.png")
print(*sample.texts, sep="\n")
