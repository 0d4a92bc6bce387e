"""Banks and indices for controls and counterfactuals: random vectors, moved rows, and the texts of other images.

This module does not depend on encoders and models.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Int
from torch import Tensor

from semalign.errors import TextError
from semalign.seeds import derive_seed
from semalign.text.bank import TextBank
from semalign.text.vectors import hashed_directions

__all__ = ["permuted_bank", "random_bank", "shuffled_index"]


def random_bank(bank: TextBank, seed: int) -> TextBank:
    """Return the bank with each row replaced by a random vector of the same norm: identity without meaning.

    The rows are `hashed_directions` of the sentences, hence different for different sentences, and equal on every
    machine up to the rounding of the norms.
    """
    directions = hashed_directions(bank.sentences, bank.dim, derive_seed(seed, "random_bank")).double()
    norms = torch.linalg.vector_norm(bank.features.double().cpu(), dim=1, keepdim=True)
    features = (directions * norms).float().to(bank.features.device)
    label = f"random vectors, seed {seed}, with the norms of {bank.encoder}"
    return TextBank(features, bank.sentences, label, bank.owners)


def permuted_bank(bank: TextBank, seed: int) -> TextBank:
    """Return the bank with its rows moved so that no sentence keeps its own row (one random cycle through all rows).

    Raises:
        TextError: the bank has a single row, which cannot be moved.
    """
    if len(bank.sentences) < 2:
        raise TextError(f"the text bank of {bank.encoder} has 1 row, expected at least 2 to permute")
    source = _random_cycle(list(bank.sentences), seed, "permuted_bank")
    features = bank.features[torch.tensor(source, device=bank.features.device)]
    return TextBank(features, bank.sentences, f"permuted rows, seed {seed}, of {bank.encoder}", bank.owners)


def shuffled_index(index: Int[Tensor, "images tokens"], seed: int) -> Int[Tensor, "images tokens"]:
    """Return the index with its rows moved so that every image gets the texts of another image.

    Images whose texts are equal word for word can receive what they had; compare with ``index`` to count them.

    Raises:
        TextError: there is a single image.
    """
    if len(index) < 2:
        raise TextError(f"got the texts of {len(index)} images, expected at least 2 to shuffle between images")
    return index[torch.tensor(_random_cycle(list(range(len(index))), seed, "shuffled_index"), device=index.device)]


def _random_cycle(items: Sequence[str | int], seed: int, purpose: str) -> list[int]:
    """Return, per place, the place to take from: a uniformly random cycle through all places.

    The order comes from hashes, so that it is the same with every version of every library.
    """
    order = sorted(range(len(items)), key=lambda place: derive_seed(seed, purpose, items[place]))
    source = [0] * len(items)
    for here, there in zip(order, order[1:] + order[:1], strict=True):
        source[here] = there
    return source
