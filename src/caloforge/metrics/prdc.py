"""Precision, recall, density and coverage: fidelity and diversity from k-nearest-neighbour manifolds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caloforge.metrics.neighbours import radii, square_distances, standardised, thinned
from caloforge.metrics.resampling import Array, Metric, halves

NEIGHBOURS = 5
MAX_SHOWERS = 10_000
# disjoint parts whose scatter is the uncertainty
PARTS = 8


@dataclass(frozen=True)
class Prdc:
    """The four numbers, each with its floor from random halves of the truth.

    Attributes:
        precision: Fraction of generated showers within the radius of at least one true shower.
        recall: Fraction of true showers within the radius of at least one generated shower.
        density: Mean number of true showers within whose radius a generated one lies, over k; above 1 where
            generated showers concentrate in the centre of the truth.
        coverage: Fraction of true showers with at least one generated shower within their radius.
    """

    precision: Metric
    recall: Metric
    density: Metric
    coverage: Metric


def prdc(
    truth: NDArray[Any],
    generated: NDArray[Any],
    *,
    k: int = NEIGHBOURS,
    seed: int = 0,
    max_showers: int = MAX_SHOWERS,
    standardise: bool = True,
) -> Prdc:
    """Precision and recall (arXiv:1904.06991), density and coverage (arXiv:2002.09797).

    The radius of a shower is the Euclidean distance to its k-th nearest neighbour in its own sample, in
    features standardised by the truth. Equal distributions have density 1 and coverage 1 - 2^-k; the expected
    precision and recall depend on the number of features and showers, and the floor measures them. The floor
    is computed with half as many showers. The uncertainty is the scatter between disjoint parts of
    both samples.

    Args:
        truth: (n, k) features of the truth.
        generated: (m, k) the same features.
        k: Number of the neighbour at the radius.
        seed: Seed of thinning and splits.
        max_showers: Larger samples are thinned to this many; the time grows with their product.
        standardise: Scale the features by the truth; False takes them as they are.

    Raises:
        ValueError: Fewer than 8 (k + 1) showers in a sample.
    """
    if min(len(truth), len(generated)) < PARTS * (k + 1):
        raise ValueError(
            f"got {len(truth)} and {len(generated)} showers, expected at least {PARTS * (k + 1)} of each"
        )
    rng = np.random.default_rng(seed)
    one, other = (thinned(sample, max_showers, rng).astype(np.float64) for sample in (truth, generated))
    if standardise:
        one, other = standardised(one, other)
    value = numbers(one, other, k)
    groups = zip(*(np.array_split(rng.permutation(len(s)), PARTS) for s in (one, other)), strict=True)
    scatter = np.std([numbers(one[i], other[j], k) for i, j in groups], axis=0, ddof=1) / np.sqrt(PARTS)
    floor = numbers(*halves(one, rng), k)
    return Prdc(*(Metric(*map(float, row)) for row in zip(value, scatter, floor, strict=True)))


def numbers(truth: Array, generated: Array, k: int) -> tuple[float, float, float, float]:
    """Precision, recall, density and coverage by the formulas of the papers, in the given features."""
    radius_truth, radius_generated = radii(truth, k), radii(generated, k)
    inside = np.zeros(len(generated), np.int64)
    recalled = covered = 0
    for part, block in square_distances(truth, generated):
        near = block < radius_truth[part, None]
        inside += near.sum(axis=0)
        covered += int(near.any(axis=1).sum())
        recalled += int((block < radius_generated).any(axis=1).sum())
    n = len(truth)
    return float((inside > 0).mean()), recalled / n, float(inside.mean()) / k, covered / n
