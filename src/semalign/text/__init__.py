"""Sentences, the encoders that turn them into vectors, and the banks that hold the vectors.

Import from the modules; this file imports none of them, because `semalign.text.sentences` must stay usable without
torch.  Nothing here depends on images, masks or models: texts arrive as sequences of strings.
"""

__all__ = ["bank", "encoders", "sentences"]
