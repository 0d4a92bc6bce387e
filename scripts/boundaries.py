"""Make the table of look boundaries in `semalign.judge.looks`: Monte Carlo of the t path, seed 20261123.

    python scripts/boundaries.py [--paths 40000000]

prints the table as Python source, in about a quarter of a minute.  A path is the t statistic of one study of standard
normal blocks at 5, 8 and 12 blocks, drawn from its sufficient statistics: the blocks between two looks add a sum
(normal) and a sum of squares (chi-square).  Per level the boundary of look k is the value whose first crossing has the
probability that the spending function gives to look k; at the first look that is a t quantile, at later ones a quantile
of the drawn paths that have not crossed before.
"""

from __future__ import annotations

import argparse
import itertools

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from semalign.judge.looks import LOOKS, spending

SEED = 20261123
CHUNK = 1_000_000
ALPHAS = (0.1, 0.05, 0.01)
LARGEST_FAMILY = 16

Floats = NDArray[np.float64]
Tail = list[NDArray[np.float32]]


def draw_paths(generator: np.random.Generator, n_paths: int) -> Floats:
    """Return looks x paths t statistics of studies whose true effect is 0."""
    total, squares = np.zeros(n_paths), np.zeros(n_paths)
    rows, before = [], 0
    for n in LOOKS:
        added = n - before
        fresh = np.sqrt(added) * generator.standard_normal(n_paths)
        within = generator.chisquare(added - 1, n_paths)
        if before:  # sums of squares around the means join with the squared distance of the means
            within += squares + before * added / n * (total / before - fresh / added) ** 2
        total, squares, before = total + fresh, within, n
        rows.append(total / n / np.sqrt(squares / (n - 1) / n))
    return np.stack(rows)


def tails(n_paths: int) -> dict[int, Tail]:
    """Return for look 2 and 3 the paths far out at that look, signed so that it is positive there, farthest first."""
    generator = np.random.default_rng(SEED)
    kept: dict[int, list[NDArray[np.float32]]] = {look: [] for look in range(1, len(LOOKS))}
    # A boundary's own crossing probability is at most what has been spent by its look.
    limits = {
        look: float(stats.t.isf(spending(max(ALPHAS), 1, LOOKS)[: look + 1].sum(), LOOKS[look] - 1)) for look in kept
    }
    for _ in range(n_paths // CHUNK):
        paths = draw_paths(generator, CHUNK)
        for look, parts in kept.items():
            far = paths[: look + 1, np.abs(paths[look]) > limits[look]]
            parts.append((far * np.sign(far[look])).astype(np.float32))
    result = {}
    for look, parts in kept.items():
        joined = np.concatenate(parts, axis=1)
        result[look] = list(joined[:, np.argsort(-joined[look], kind="stable")])
    return result


def boundaries(level: float, sides: int, paths: dict[int, Tail], n_paths: int) -> list[float]:
    """Return the boundary of every look for tests with this level and number of sides."""
    spent = spending(level, sides, LOOKS)
    found = [float(stats.t.isf(spent[0] / sides, LOOKS[0] - 1))]
    for look in range(1, len(LOOKS)):
        *earlier, now = paths[look]
        crossed = np.zeros(now.shape, dtype=np.bool_)
        for bound, values in zip(found, earlier, strict=True):
            crossed |= (np.abs(values) if sides == 2 else values) > bound
        # The t path is symmetric: one-sided first crossings are counted on both sides and halved.
        share = spent[look] if sides == 2 else 2 * spent[look]
        first_crossings = now[~crossed]
        found.append(float(first_crossings[round(share * n_paths)]))
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Make the table of look boundaries.")
    parser.add_argument("--paths", type=int, default=40_000_000, help="studies drawn, a multiple of a million")
    n_paths = max(1, parser.parse_args().paths // CHUNK) * CHUNK
    paths = tails(n_paths)
    print("_TABLE: dict[float, tuple[float, ...]] = {")
    done = set()
    for alpha, m in itertools.product(ALPHAS, range(1, LARGEST_FAMILY + 1)):
        level = alpha / m
        # 0.1 over 2 effects is 0.05 over one.
        if (key := f"{level:.9g}") in done:
            continue
        done.add(key)
        row = [*boundaries(level, 2, paths, n_paths), *boundaries(level, 1, paths, n_paths)]
        name = f"{alpha:g} / {m}" if m > 1 else f"{alpha:g}"
        print(f"    {name}: ({', '.join(f'{value:.3f}' for value in row)}),")
    print("}")


if __name__ == "__main__":
    main()
