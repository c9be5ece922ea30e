"""Structural similarity index (SSIM) of pairs of showers, as the 3DGAN papers use it.

The readout layers are the channels of an image (Wang et al., IEEE Trans. Image Process. 13 (2004) 600, with
the Gaussian window of that paper; agrees with scikit-image). Two Geant4 showers of the same energy differ, so
that the value is only meaningful against pairs of the truth. The data range L sets the sensitivity: with
1 GeV all pairs have a similarity near 1, with 1 keV only empty cells match.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caloforge.metrics.resampling import Array, Metric

SIGMA = 1.5
RADIUS = 5  # int(3.5 sigma + 0.5): the window is 11 cells wide
K1, K2 = 0.01, 0.03
# pairs worked on at once; bounds the memory
BLOCK = 64


def ssim(first: NDArray[Any], second: NDArray[Any], data_range: float) -> Array:
    """Structural similarity of pairs of showers.

    Args:
        first: (n, nz, ny, nx) showers on a cartesian mesh, MeV, at least 11 cells wide.
        second: The same; shower i is compared with shower i.
        data_range: L of the formula, MeV.

    Returns:
        (n,) mean over layers and cells whose window lies inside the image, 1 for equal showers.

    Raises:
        ValueError: Images narrower than the window, or two different shapes.
    """
    window = 2 * RADIUS + 1
    if first.shape != second.shape or min(first.shape[2:]) < window:
        raise ValueError(
            f"got showers of {first.shape} and {second.shape}, expected equal shapes, {window} cells or wider"
        )
    parts = [
        _ssim_block(first[start : start + BLOCK], second[start : start + BLOCK], data_range)
        for start in range(0, len(first), BLOCK)
    ]
    return np.concatenate(parts)


def _ssim_block(first: NDArray[Any], second: NDArray[Any], data_range: float) -> Array:
    x, y = first.astype(np.float64), second.astype(np.float64)
    # sample covariance of the 121 cells of a window
    norm = (2 * RADIUS + 1) ** 2 / ((2 * RADIUS + 1) ** 2 - 1)
    mean_x, mean_y = _blur(x), _blur(y)
    var_x, var_y = norm * (_blur(x * x) - mean_x**2), norm * (_blur(y * y) - mean_y**2)
    covariance = norm * (_blur(x * y) - mean_x * mean_y)
    c1, c2 = (K1 * data_range) ** 2, (K2 * data_range) ** 2
    map_ = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    map_ /= (mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2)
    result: Array = map_.mean(axis=(1, 2, 3))
    return result


def _blur(images: Array) -> Array:
    """Gaussian mean around every cell whose window lies inside; (n, nz, ny - 10, nx - 10)."""
    return _kernel(images.shape[2]) @ images @ _kernel(images.shape[3]).T


@functools.cache
def _kernel(size: int) -> Array:
    """(size - 10, size) Gaussian weights of a window around each inner cell."""
    offset = np.arange(-RADIUS, RADIUS + 1)
    weights = np.exp(-0.5 * (offset / SIGMA) ** 2)
    weights /= weights.sum()
    matrix = np.zeros((size - 2 * RADIUS, size))
    for row in range(len(matrix)):
        matrix[row, row : row + len(offset)] = weights
    return matrix


def similarity(
    truth: NDArray[Any],
    generated: NDArray[Any],
    truth_energy: NDArray[Any],
    generated_energy: NDArray[Any],
    data_range: float,
) -> dict[str, Metric]:
    """Mean SSIM between truth and generated showers, and among the generated ones.

    Pairs have the same rank in incident energy; within one sample they are neighbours in energy. Deviations
    from the floor to either side count: showers that are too smooth have a similarity that is too high.

    Args:
        truth: (n, nz, ny, nx) showers, MeV.
        generated: (m, nz, ny, nx) generated showers of the same energies.
        truth_energy: (n,) incident energies.
        generated_energy: (m,) incident energies.
        data_range: L of the formula, MeV.

    Returns:
        "ssim" between the samples, "ssim_generated" among the generated showers; the floor of both is the
        mean among the truth.
    """
    one, other = truth[np.argsort(truth_energy)], generated[np.argsort(generated_energy)]
    count = min(len(one), len(other))
    ranked = [sample[np.arange(count) * len(sample) // count] for sample in (one, other)]
    between = ssim(ranked[0], ranked[1], data_range)
    among, among_generated = (ssim(s[:-1:2], s[1::2], data_range) for s in (one, other))
    floor = float(among.mean())
    return {
        name: Metric(float(v.mean()), float(v.std(ddof=1) / np.sqrt(len(v))), floor)
        for name, v in (("ssim", between), ("ssim_generated", among_generated))
    }
