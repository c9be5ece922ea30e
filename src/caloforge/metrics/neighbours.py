"""Nearest-neighbour distances in blocks: the memory grows linearly with the sample."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caloforge.metrics.resampling import Array

# showers of either sample whose nearest neighbours in the features a validation looks for
MAX_NEIGHBOURS = 5_000
# entries of a block of distances
BLOCK = 4_000_000


def standardised(truth: NDArray[Any], *others: NDArray[Any]) -> tuple[Array, ...]:
    """Samples in units in which the truth has mean 0 and deviation 1; features constant in it are dropped."""
    reference = truth.astype(np.float64)
    mean, spread = reference.mean(axis=0), reference.std(axis=0)
    used = spread > 1e-9 * np.abs(mean).max(initial=1e-300)
    return tuple((sample[:, used] - mean[used]) / spread[used] for sample in (truth, *others))


def thinned(sample: NDArray[Any], limit: int, rng: np.random.Generator) -> NDArray[Any]:
    """A random subset of at most `limit` rows, in their order."""
    if len(sample) <= limit:
        return sample
    return sample[np.sort(rng.choice(len(sample), limit, replace=False))]


def square_distances(first: Array, second: Array) -> Iterator[tuple[slice, Array]]:
    """Matrix of squared Euclidean distances, in blocks of rows.

    Yields:
        Rows of `first`, and their (rows, len(second)) squared distances, not negative.
    """
    norms = np.sum(second**2, axis=1)
    rows = max(1, BLOCK // len(second))
    for start in range(0, len(first), rows):
        part = slice(start, min(start + rows, len(first)))
        block = np.sum(first[part] ** 2, axis=1)[:, None] + norms
        block -= 2 * (first[part] @ second.T)
        yield part, np.maximum(block, 0.0, out=block)


def radii(sample: Array, k: int) -> Array:
    """Squared distance of each row from its k-th nearest neighbour in the sample; (n,)."""
    result = np.empty(len(sample))
    for part, block in square_distances(sample, sample):
        # a row is no neighbour of itself
        block[np.arange(part.stop - part.start), np.arange(part.start, part.stop)] = np.inf
        result[part] = np.partition(block, k - 1, axis=1)[:, k - 1]
    return result


def nearest(sample: Array, reference: Array) -> Array:
    """Squared distance of each row of a sample from the nearest row of another one; (n,)."""
    result = np.empty(len(sample))
    for part, block in square_distances(sample, reference):
        result[part] = block.min(axis=1)
    return result
