"""Kernel physics distance (KPD): maximum mean discrepancy of two samples with a polynomial kernel."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from caloforge.metrics.fpd import FLOOR_SPLITS, SEED, normalised
from caloforge.metrics.resampling import Array, Metric, halves

# defaults of JetNet's kpd
BATCH = 5_000
BATCHES = 10
DEGREE = 4
# rows of a kernel matrix held at once; bounds the memory
ROWS = 1_000


def kernel_physics_distance(
    truth: NDArray[Any], generated: NDArray[Any], *, seed: int = SEED, batch: int = BATCH
) -> Metric:
    """Kernel physics distance (R. Kansal et al., arXiv:2211.10295), by the procedure of the JetNet package.

    Unbiased, so that it scatters around 0 for equal distributions and may be negative. The uncertainty is the
    bootstrap spread for the given scale of the features. The floor is the mean absolute value between random
    halves of the truth, scaled with the batch size.

    Args:
        truth: (n, k) features of the truth.
        generated: (m, k) the same features.
        seed: Seed of batches and splits.
        batch: Showers of a batch, at most those of the smaller sample; CaloChallenge takes 10 000.
    """
    drawn = _batches(truth, generated, seed, batch, BATCHES)
    used = min(batch, len(truth), len(generated))
    # of one batch, scaled to the whole sample
    spread = float(np.std(drawn, ddof=1) * np.sqrt(used / min(len(truth), len(generated))))
    rng = np.random.default_rng(seed)
    half = min(batch, len(truth) // 2)
    among = [
        kernel_distance(*halves(truth, rng), seed=seed, batch=half, batches=BATCHES // 2)[0]
        for _ in range(FLOOR_SPLITS)
    ]
    return Metric(float(np.median(drawn)), spread, float(np.mean(np.abs(among))) * half / used)


def kernel_distance(
    truth: NDArray[Any],
    generated: NDArray[Any],
    *,
    seed: int = SEED,
    batch: int = BATCH,
    batches: int = BATCHES,
) -> tuple[float, float]:
    r"""Median of the squared maximum mean discrepancy over batches, and half its central 67.45 %.

    .. math:: k(x, y) = (x \cdot y / k + 1)^4

    is the kernel for k features. With the same arguments these are JetNet's numbers. The error is the
    scatter of single batches, an upper limit for that of their median.

    Args:
        truth: (n, k) features; each is divided by its largest absolute value here.
        generated: (m, k) the same features.
        seed: Seed of the batches.
        batch: Showers drawn with replacement for each batch.
        batches: Number of batches.
    """
    drawn = _batches(truth, generated, seed, batch, batches)
    low, high = np.percentile(drawn, [16.275, 83.725])
    return float(np.median(drawn)), float(high - low) / 2


def _batches(
    truth: NDArray[Any], generated: NDArray[Any], seed: int, batch: int, batches: int
) -> list[float]:
    """Squared maximum mean discrepancy of each batch."""
    one, other = normalised(truth, generated)
    size = min(batch, len(one), len(other))
    drawn = []
    for i in range(batches):
        rng = np.random.default_rng(seed + 1000 * i)
        x, y = (sample[rng.choice(len(sample), size=size)] for sample in (one, other))
        drawn.append(_discrepancy(x, y))
    return drawn


def _discrepancy(x: Array, y: Array) -> float:
    """Unbiased estimate of the squared maximum mean discrepancy, without the diagonal terms."""
    pairs = len(x) * (len(x) - 1)
    same = sum(_kernel_sum(s, s) - ((np.sum(s * s, axis=1) / s.shape[1] + 1) ** DEGREE).sum() for s in (x, y))
    return float(same / pairs - 2 * _kernel_sum(x, y) / len(x) ** 2)


def _kernel_sum(x: Array, y: Array) -> float:
    total = 0.0
    for start in range(0, len(x), ROWS):
        kernel = x[start : start + ROWS] @ (y.T / x.shape[1])
        kernel += 1
        for _ in range(DEGREE // 2):  # 4 = 2^2: square twice
            np.square(kernel, out=kernel)
        total += float(kernel.sum())
    return total
