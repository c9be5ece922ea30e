"""Diversity and memorisation: near copies within a sample and of training showers, nearest neighbours."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from caloforge.metrics.neighbours import nearest, radii, standardised, thinned
from caloforge.metrics.resampling import Array, Metric, halves

# showers of either sample, at most: all pairs are formed
MAX_SHOWERS = 10_000
# near copies are closer than this fraction of this quantile of the nearest-neighbour distances of the truth
CLOSENESS = 0.5
QUANTILE = 0.002
# disjoint parts whose scatter is the uncertainty
PARTS = 8


def near_copies(
    truth: NDArray[Any], generated: NDArray[Any], *, seed: int = 0, max_showers: int = MAX_SHOWERS
) -> Metric:
    """Fraction of generated showers with a neighbour in their own sample that is closer than chance allows.

    Even the closest pair among thousands of independent showers differs by the fluctuations of both. Showers
    taken from a library, rescaled or not, or from a generator with mode collapse form much closer pairs. No
    one-dimensional distribution detects this, since each copy by itself is a valid shower.

    A neighbour counts as a copy when it is closer than half the 0.2 % quantile of the nearest-neighbour
    distances in the truth, in random parts of both samples of equal size.

    Args:
        truth: (n, k) shape of each shower on one scale, such as fractions of the energy along each axis.
        generated: (m, k) the same.
        seed: Seed of the choice of showers in large or unequal samples.
        max_showers: Showers of either sample used at most.

    Returns:
        The fraction, its error for copies in pairs, and the same fraction among the truth.
    """
    one, other = _equal_parts(truth, generated, seed, max_showers)
    reference, found = np.sqrt(radii(one, 1)), np.sqrt(radii(other, 1))
    limit = _limit(reference)
    return _fraction(found < limit, float(np.mean(reference < limit)), clustered=2)


def memorised(
    training: NDArray[Any],
    truth: NDArray[Any],
    generated: NDArray[Any],
    *,
    seed: int = 0,
    max_showers: int = MAX_SHOWERS,
) -> Metric:
    """Fraction of generated showers that are closer to a training shower than chance allows.

    Args:
        training: (l, k) shape of the training showers, as for `near_copies`.
        truth: (n, k) the same of true showers that were not trained on.
        generated: (m, k) the same of generated showers.
        seed: Seed of the choice of showers in large or unequal samples.
        max_showers: Generated and true showers used at most; the training sample is searched completely.

    Returns:
        The fraction, its binomial error, and the same fraction among the true showers.
    """
    one, other = _equal_parts(truth, generated, seed, max_showers)
    reference, found = (np.sqrt(nearest(sample, training.astype(np.float64))) for sample in (one, other))
    limit = _limit(reference)
    return _fraction(found < limit, float(np.mean(reference < limit)), clustered=1)


def training_distance(
    training: NDArray[Any],
    truth: NDArray[Any],
    generated: NDArray[Any],
    *,
    seed: int = 0,
    max_showers: int = MAX_SHOWERS,
) -> Metric:
    """Distance from generated showers to the nearest training shower, over the same distance of true ones.

    1 for a generator whose showers are as far from the training sample as independent full simulation; below
    1 for one that reproduces training showers. Ratio of geometric means in features standardised by the
    truth.

    Args:
        training: (l, k) high-level features of the training showers.
        truth: (n, k) the same of true showers that were not trained on.
        generated: (m, k) the same of generated showers.
        seed: Seed of the choice of showers in large samples.
        max_showers: Generated and true showers used at most; the training sample is searched completely.

    Returns:
        The ratio; its standard error, for independent showers and this training sample; the floor is the
        ratio of two random halves of the truth.
    """
    rng = np.random.default_rng(seed)
    one, other = (thinned(sample, max_showers, rng) for sample in (truth, generated))
    reference, near, far = standardised(one, other, training)
    distances = [np.sqrt(nearest(sample, far)) for sample in (reference, near)]
    smallest = _smallest(distances[0])
    logs = [np.log(np.maximum(distance, smallest)) for distance in distances]
    error = np.hypot(*(log.std(ddof=1) / np.sqrt(len(log)) for log in logs))
    value = np.exp(logs[1].mean() - logs[0].mean())
    half, rest = halves(logs[0], rng)
    return Metric(float(value), float(value * error), float(np.exp(half.mean() - rest.mean())))


def neighbour_spacing(
    truth: NDArray[Any], generated: NDArray[Any], *, seed: int = 0, max_showers: int = MAX_SHOWERS
) -> Metric:
    """Nearest-neighbour distance among generated showers over that among true ones.

    1 for equal distributions. Below 1 the generated showers lack diversity (few modes, small fluctuations);
    above 1 they scatter too much. Ratio of geometric means in features standardised by the truth.

    Args:
        truth: (n, k) high-level features of the truth.
        generated: (m, k) the same features.
        seed: Seed of the choice of showers in large or unequal samples.
        max_showers: Showers of either sample used at most.

    Returns:
        The ratio; its uncertainty is the scatter between disjoint parts of both samples, the floor the ratio
        of two halves of the truth. NaN where the truth repeats a few showers only.

    Raises:
        ValueError: Fewer than 16 showers in a sample.
    """
    if min(len(truth), len(generated)) < 2 * PARTS:
        raise ValueError(
            f"got {len(truth)} and {len(generated)} showers, expected at least {2 * PARTS} of each"
        )
    rng = np.random.default_rng(seed)
    one, other = standardised(*_equal_parts(truth, generated, seed, max_showers))
    groups = zip(*(np.array_split(rng.permutation(len(s)), PARTS) for s in (one, other)), strict=True)
    scatter = np.std([_spacing(one[i], other[j]) for i, j in groups], ddof=1) / np.sqrt(PARTS)
    return Metric(_spacing(one, other), float(scatter), _spacing(*halves(one, rng)))


def _equal_parts(truth: NDArray[Any], generated: NDArray[Any], seed: int, limit: int) -> tuple[Array, Array]:
    """Random parts of equal size: nearest-neighbour distances shrink with the size of the sample."""
    rng = np.random.default_rng(seed)
    size = min(len(truth), len(generated), limit)
    one, other = (thinned(sample, size, rng).astype(np.float64) for sample in (truth, generated))
    return one, other


def _smallest(reference: Array) -> float:
    """Lower bound of distances for exact copies: a thousandth of the median; NaN where all are 0."""
    apart = reference[reference > 0]
    return 1e-3 * float(np.median(apart)) if len(apart) else float("nan")


def _limit(reference: Array) -> float:
    return CLOSENESS * float(np.quantile(reference, QUANTILE))


def _fraction(copies: NDArray[np.bool_], floor: float, clustered: int) -> Metric:
    """Fraction of copies, and its error when they come in groups of `clustered`."""
    count = len(copies)
    # rule of succession: the error of a zero count is not zero
    smoothed = (copies.sum() + 1) / (count + 2)
    error = np.sqrt(clustered * smoothed * (1 - smoothed) / count)
    return Metric(float(copies.mean()), float(error), floor)


def _spacing(truth: Array, generated: Array) -> float:
    """Ratio of the geometric mean distances; NaN where all showers of the truth are equal."""
    reference, found = np.sqrt(radii(truth, 1)), np.sqrt(radii(generated, 1))
    smallest = _smallest(reference)
    logs = [np.mean(np.log(np.maximum(distance, smallest))) for distance in (found, reference)]
    return float(np.exp(logs[0] - logs[1]))
