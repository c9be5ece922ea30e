"""Fréchet physics distance (FPD): the Fréchet distance of Gaussians with the moments of two samples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caloforge.metrics.resampling import Array, Metric, half_scale, halves

# defaults of JetNet's fpd
MIN_SAMPLES = 20_000
MAX_SAMPLES = 50_000
BATCHES = 20
POINTS = 10
SEED = 42
# splits of the truth that the floor averages over
FLOOR_SPLITS = 3


@dataclass(frozen=True)
class FrechetFit:
    """The Fréchet distance extrapolated to an infinite sample.

    Attributes:
        value: Intercept of the line in 1/N.
        fit_error: Standard error of the intercept from the scatter about the line, as JetNet quotes it. It
            neglects that all batches are drawn from the same showers.
        spread: Standard deviation of the distance between bootstrap samples of full size.
    """

    value: float
    fit_error: float
    spread: float


def frechet_physics_distance(
    truth: NDArray[Any], generated: NDArray[Any], *, seed: int = SEED, min_samples: int = MIN_SAMPLES
) -> Metric:
    """Fréchet physics distance (R. Kansal et al., arXiv:2211.10295), by the procedure of the JetNet package.

    The floor comes from random halves of the truth. It is not zero: bootstrap batches share the means and
    covariances of their finite sample, which differ between two samples by terms of order k / n.

    Args:
        truth: (n, k) features of the truth.
        generated: (m, k) the same features.
        seed: Seed of batches and splits.
        min_samples: Smallest batch; CaloChallenge takes 10 000, JetNet 20 000. Smaller samples are drawn in
            batches of 2/5 of their size and more.

    Returns:
        The extrapolated distance; its uncertainty combines the error of the fit and the bootstrap spread, at
        fixed scale of the features (the largest value in the truth).
    """
    fit = frechet_fit(truth, generated, seed=seed, min_samples=min_samples)
    rng = np.random.default_rng(seed)
    among = [
        frechet_fit(*halves(truth, rng), seed=seed, min_samples=min_samples, batches=BATCHES // 4).value
        for _ in range(FLOOR_SPLITS)
    ]
    floor = float(np.mean(among)) * half_scale(len(truth), len(generated))
    return Metric(fit.value, float(np.hypot(fit.fit_error, fit.spread)), floor)


def frechet_fit(
    truth: NDArray[Any],
    generated: NDArray[Any],
    *,
    seed: int = SEED,
    min_samples: int = MIN_SAMPLES,
    max_samples: int = MAX_SAMPLES,
    batches: int = BATCHES,
    points: int = POINTS,
) -> FrechetFit:
    """Fréchet distance in batches of several sizes N, and the straight line in 1/N through their means.

    Batches are drawn with replacement; intercept and slope are not negative. With the same arguments these
    are JetNet's numbers.

    Args:
        truth: (n, k) features; each is divided by its largest absolute value here.
        generated: (m, k) the same features.
        seed: Seed of the batches.
        min_samples: Smallest batch; 2/5 of the smaller sample where that has less than `max_samples` showers.
        max_samples: Largest batch, at most the smaller sample.
        batches: Batches of each size.
        points: Sizes, evenly spaced in 1/N.
    """
    one, other = normalised(truth, generated)
    available = min(len(one), len(other))
    if available < max_samples:
        min_samples, max_samples = min(min_samples, max(2, 2 * available // 5)), available
    sizes = (1 / np.linspace(1 / min_samples, 1 / max_samples, points)).astype(np.int32)
    rng = np.random.default_rng(seed)
    means, spread = np.zeros(points), 0.0
    for i, size in enumerate(sizes):
        drawn = [
            frechet_distance(
                *_gaussian(one[rng.choice(len(one), size=size)]),
                *_gaussian(other[rng.choice(len(other), size=size)]),
            )
            for _ in range(batches)
        ]
        means[i] = np.mean(drawn)
        # of the largest batches, scaled to the whole sample
        spread = float(np.std(drawn, ddof=1)) * float(np.sqrt(size / available))
    value, error = _line(1 / sizes, means)
    return FrechetFit(value, error, spread)


def normalised(truth: NDArray[Any], generated: NDArray[Any]) -> tuple[Array, Array]:
    """Both samples divided by the largest absolute value that each feature has in the truth."""
    scale = np.abs(truth).max(axis=0).astype(np.float64)
    scale[scale == 0] = 1.0
    return truth / scale, generated / scale


def frechet_distance(mean_1: Array, cov_1: Array, mean_2: Array, cov_2: Array) -> float:
    r"""Squared Fréchet distance of two Gaussians with means m and covariances C.

    .. math:: \lvert m_1 - m_2 \rvert^2 + \mathrm{Tr}(C_1 + C_2 - 2\,(C_1 C_2)^{1/2})

    The trace of the root comes from the eigenvalues of C1^(1/2) C2 C1^(1/2), which are those of C1 C2 but
    belong to a symmetric matrix, so that singular covariances do no harm.

    Examples:
        >>> frechet_distance(np.zeros(2), np.eye(2), np.array([3.0, 4.0]), np.eye(2))
        25.0
    """
    values, vectors = np.linalg.eigh(cov_1)
    root = vectors * np.sqrt(np.maximum(values, 0.0)) @ vectors.T
    product = np.linalg.eigvalsh(root @ cov_2 @ root)
    trace = np.trace(cov_1) + np.trace(cov_2) - 2 * np.sqrt(np.maximum(product, 0.0)).sum()
    return float(np.sum((mean_1 - mean_2) ** 2) + trace)


def _gaussian(sample: Array) -> tuple[Array, Array]:
    return sample.mean(axis=0), np.atleast_2d(np.cov(sample, rowvar=False))


def _line(x: Array, y: Array) -> tuple[float, float]:
    """Least-squares intercept and its error, intercept and slope bounded by 0 from below."""
    design = np.column_stack([np.ones_like(x), x])
    fit = np.linalg.lstsq(design, y, rcond=None)[0]
    if fit[1] < 0:
        fit = np.array([max(y.mean(), 0.0), 0.0])
    elif fit[0] < 0:
        fit = np.array([0.0, max(x @ y / (x @ x), 0.0)])
    variance = np.sum((y - design @ fit) ** 2) / (len(x) - 2)
    covariance = np.linalg.inv(design.T @ design) * variance
    return float(fit[0]), float(np.sqrt(covariance[0, 0]))
