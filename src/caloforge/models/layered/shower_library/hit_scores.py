"""Numbers of hits as normal scores, by a beta-binomial distribution, and the way back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaln, ndtr, ndtri

Floats = NDArray[np.float64]
# numbers of hits this far from 0 and from all cells count as normal
DENSE = 12
# a score is at most that of this probability
LEAST_PROBABILITY = 1e-6


def variance_of(mean: Floats, cells: Floats) -> Floats:
    """Variance of a binomial number of hits, not 0."""
    return np.asarray(np.maximum(mean * (1 - mean / cells), 1e-6))


def scores_of_hits(hits: Floats, uniform: Floats, mean: Floats, dispersion: Floats, cells: Floats) -> Floats:
    """Normal scores of numbers of hits (N, F), made continuous by uniform numbers.

    Args:
        hits: (N, F).
        uniform: (N, F) from 0 to 1.
        mean: (N, F) expected number of hits.
        dispersion: (N, F) variance over that of a binomial distribution.
        cells: (F,) cells of a bin.
    """
    scores = (hits + uniform - 0.5 - mean) / np.sqrt(variance_of(mean, cells) * dispersion)
    near = _sparse(mean, cells)
    counts, inside = near.of(hits), near.of(uniform)
    counts = np.where(near.full, near.cells - counts, counts)
    inside = np.where(near.full, 1 - inside, inside)
    below, quantile = np.zeros(len(counts)), np.ones(len(counts))
    steps = _probabilities(near.mean, near.of(dispersion), near.cells)
    for count in range(int(counts.max(initial=0)) + 1):
        probability = next(steps)
        quantile = np.where(counts == count, below + inside * probability, quantile)
        below = below + probability
    found = ndtri(np.clip(quantile, LEAST_PROBABILITY, 1 - LEAST_PROBABILITY))
    scores.reshape(-1)[near.index] = np.where(near.full, -found, found)
    return np.asarray(scores)


def hits_of_scores(scores: Floats, mean: Floats, dispersion: Floats, cells: Floats) -> Floats:
    """Numbers of hits of normal scores, see `scores_of_hits`."""
    spread = np.sqrt(variance_of(mean, cells) * dispersion)
    hits = np.clip(np.floor(mean + spread * scores + 0.5), 0, cells)
    near = _sparse(mean, cells)
    quantile = ndtr(np.where(near.full, -near.of(scores), near.of(scores)))
    below, found = np.zeros(len(quantile)), np.zeros(len(quantile))
    steps = _probabilities(near.mean, near.of(dispersion), near.cells)
    for _ in range(int(near.cells.max(initial=0))):
        below = below + next(steps)
        more = (quantile > below) & (found < near.cells)
        if not more.any():
            break
        found = found + more
    hits.reshape(-1)[near.index] = np.where(near.full, near.cells - found, found)
    return np.asarray(hits)


def _probabilities(mean: Floats, dispersion: Floats, cells: Floats) -> Iterator[Floats]:
    """Probabilities of 0, 1, 2, ... hits, one array after the other."""
    rho = np.clip((dispersion - 1) / np.maximum(cells - 1, 1), 1e-3, 0.9)
    share = np.clip(mean / cells, 1e-6, 1 - 1e-6)
    a, b = share * (1 / rho - 1), (1 - share) * (1 / rho - 1)
    probability, hits = np.exp(betaln(a, b + cells) - betaln(a, b)), 0
    while True:
        yield probability
        ratio = (cells - hits) / (hits + 1) * (a + hits) / np.maximum(b + cells - hits - 1, 1e-9)
        probability, hits = np.maximum(probability * ratio, 0), hits + 1


@dataclass
class _Sparse:
    """Numbers near 0 or near all cells.

    Attributes:
        index: Of them in the flat arrays.
        full: Whether they are near all cells; these are counted from there.
        mean: Expected numbers.
        cells: Largest numbers.
    """

    index: NDArray[np.int64]
    full: NDArray[np.bool_]
    mean: Floats
    cells: Floats

    def of(self, values: Floats) -> Floats:
        """Those of an array."""
        return np.asarray(np.ravel(values)[self.index])


def _sparse(mean: Floats, cells: Floats) -> _Sparse:
    limit = np.broadcast_to(cells, mean.shape)
    index = np.flatnonzero((mean <= DENSE) | (limit - mean <= DENSE))
    near, most = np.ravel(mean)[index], np.ravel(limit)[index]
    full = near > most / 2
    return _Sparse(index, full, np.where(full, most - near, near), most)
