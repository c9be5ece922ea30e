"""Where a shower is and how wide: first and second moments, and the direction seen in its voxels."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from caloforge.geometry import Mesh
from caloforge.observables.energy import layer_energies
from caloforge.observables.profiles import lateral_image, transverse_positions

Array = NDArray[np.float64]

# what the 3DGAN analysis gives a shower without energy; far outside every angle
EMPTY_ANGLE = 100.0
# smallest squared distance from the barycentre in the measured angle (Keras' epsilon in the original)
_EPSILON = 1e-7


def moments(showers: NDArray[Any], mesh: Mesh) -> dict[str, Array]:
    """Energy-weighted mean (centre) and standard deviation (width) along each axis.

    Args:
        showers: (N, nz, ny, nx), (N, nz, nphi, nr) or (N, n_voxels), MeV.
        mesh: The mesh of the showers.

    Returns:
        `centre_x`, `centre_y`, `width_x`, `width_y` in mm and `centre_z`, `width_z` in readout layers counted
        from 0, each (N,); zero for an empty shower.
    """
    x, y = transverse_positions(mesh)
    return moments_of(layer_energies(showers, mesh), lateral_image(showers, mesh), x, y)


def moments_of(layers: Array, image: Array, x: Array, y: Array) -> dict[str, Array]:
    """`moments` from layer energies (N, nz) and a lateral image (N, p) at x, y (p,)."""
    result = {}
    for axis, weights, position in (
        ("x", image, x),
        ("y", image, y),
        ("z", layers, np.arange(layers.shape[1], dtype=np.float64)),
    ):
        total = weights.sum(axis=1)
        total = np.where(total == 0, 1.0, total)
        centre = weights @ position / total
        square = weights @ position**2 / total
        result[f"centre_{axis}"] = centre
        result[f"width_{axis}"] = np.sqrt(np.maximum(square - centre**2, 0.0))
    return result


def measured_angle(
    showers: NDArray[Any], x: Array | None = None, y: Array | None = None, z: Array | None = None
) -> Array:
    """Polar angle of incidence measured in the voxels (`mtheta` of the 3DGAN samples).

    The direction of each layer's barycentre as seen from the barycentre of the shower, averaged over the
    layers that hold energy with weights that grow linearly with depth. The incidence lies in the y-z plane;
    pi/2 is orthogonal, and an angle below pi/2 leans towards positive y as depth grows.

    Args:
        showers: (N, nz, ny, nx) on a cartesian mesh.
        x: (nx,) cell centres; index + 0.5 by default, as in the original. Give mm for all three to measure
            the true angle where cells are not cubes.
        y: (ny,) cell centres.
        z: (nz,) depths.

    Returns:
        (N,) rad; `EMPTY_ANGLE` for a shower without energy.
    """
    _, nz, ny, nx = showers.shape
    x, y, z = (
        np.arange(count, dtype=np.float64) + 0.5 if given is None else given
        for count, given in ((nx, x), (ny, y), (nz, z))
    )
    in_x = showers.sum(axis=2, dtype=np.float64)
    in_y = showers.sum(axis=3, dtype=np.float64)
    layers = in_x.sum(axis=2)
    filled = layers > 0
    total = layers.sum(axis=1)
    safe = np.where(filled, layers, 1.0)
    safe_total = np.where(total > 0, total, 1.0)[:, None]
    x_layer, y_layer = in_x @ x / safe, in_y @ y / safe
    x_mean = (in_x @ x).sum(axis=1, keepdims=True) / safe_total
    y_mean = (in_y @ y).sum(axis=1, keepdims=True) / safe_total
    depth = z - (layers @ z)[:, None] / safe_total
    distance = np.sqrt(np.maximum((x_layer - x_mean) ** 2 + depth**2, _EPSILON))
    slope = np.where(depth < 0, -1.0, 1.0) * (y_layer - y_mean) / distance
    weight = (np.arange(nz) + 0.5) * filled
    weighted = (weight * (np.pi / 2 - np.arctan(slope))).sum(axis=1)
    angle: Array = np.where(total > 0, weighted / np.where(total > 0, weight.sum(axis=1), 1.0), EMPTY_ANGLE)
    return angle
