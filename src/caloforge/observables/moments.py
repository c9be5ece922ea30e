"""Energy-weighted moments 1 to 4 of a shower along each axis."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from caloforge.geometry import Mesh
from caloforge.observables.energy import layer_energies
from caloforge.observables.profiles import lateral_image, transverse_positions

Array = NDArray[np.float64]


def moments(showers: NDArray[Any], mesh: Mesh) -> dict[str, Array]:
    """Energy-weighted mean, standard deviation (width), skewness and excess kurtosis along each axis.

    Args:
        showers: (N, nz, ny, nx), (N, nz, nphi, nr) or (N, n_voxels), MeV.
        mesh: The mesh of the showers.

    Returns:
        `centre_x`, `centre_y`, `width_x`, `width_y` in mm, `centre_z`, `width_z` in readout layers counted
        from 0, `skewness_` and `kurtosis_` of x, y, z without unit; each (N,). Zero for an empty shower; a
        shower without width has neither skewness nor kurtosis.
    """
    x, y = transverse_positions(mesh)
    return moments_of(layer_energies(showers, mesh), lateral_image(showers, mesh), x, y)


def moments_of(layers: Array, image: Array, x: Array, y: Array) -> dict[str, Array]:
    """`moments` from layer energies (N, nz) and a lateral image (N, p) at x, y (p,)."""
    result: dict[str, Array] = {}
    for axis, weights, position in (
        ("x", image, x),
        ("y", image, y),
        ("z", layers, np.arange(layers.shape[1], dtype=np.float64)),
    ):
        result |= {f"{name}_{axis}": value for name, value in _four(weights, position).items()}
    return result


def _four(weights: Array, position: Array) -> dict[str, Array]:
    """The four moments of weights (N, p) at position (p,)."""
    # centred and scaled to order 1, so that differences of raw moments do not cancel
    origin = (position.max() + position.min()) / 2
    scale = float(np.ptp(position)) / 2 or 1.0
    t = (position - origin) / scale
    total = weights.sum(axis=1)
    total = np.where(total == 0, 1.0, total)
    m1, m2, m3, m4 = (weights @ np.stack([t, t**2, t**3, t**4], axis=1) / total[:, None]).T
    variance = m2 - m1**2
    # rounding error of the variance of a single voxel
    variance = np.where(variance > 1e-13, variance, 0.0)
    safe = np.where(variance > 0, variance, 1.0)
    third = m3 - 3 * m1 * m2 + 2 * m1**3
    fourth = m4 - 4 * m1 * m3 + 6 * m1**2 * m2 - 3 * m1**4
    filled = weights.sum(axis=1) != 0
    return {
        "centre": np.where(filled, m1 * scale + origin, 0.0),
        "width": np.sqrt(variance) * scale,
        "skewness": np.where(variance > 0, third / safe**1.5, 0.0),
        "kurtosis": np.where(variance > 0, fourth / safe**2 - 3, 0.0),
    }
