"""Direction of a shower from its voxels: 3DGAN's measured angle, and the principal axis."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from caloforge.observables.layers import TransverseSums

Array = NDArray[np.float64]

#: value of the 3DGAN analysis for a shower without energy; outside the range of angles
EMPTY_ANGLE = 100.0
# smallest squared distance from the barycentre in the measured angle (Keras' epsilon in the original)
_EPSILON = 1e-7


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

    Examples:
        >>> measured_angle(np.ones((1, 4, 3, 3))).round(4)
        array([1.5708])
    """
    _, nz, ny, nx = showers.shape
    x, y, z = (
        np.arange(count, dtype=np.float64) + 0.5 if given is None else given
        for count, given in ((nx, x), (ny, y), (nz, z))
    )
    in_x = showers.sum(axis=2, dtype=np.float64)
    in_y = showers.sum(axis=3, dtype=np.float64)
    return measured_angle_of(in_x.sum(axis=2), in_x @ x, in_y @ y, z)


def measured_angle_of(layers: Array, x_sums: Array, y_sums: Array, z: Array) -> Array:
    """`measured_angle` from the energy, and energy times x and y, of each layer (N, nz) at depths z (nz,)."""
    filled = layers > 0
    total = layers.sum(axis=1)
    safe = np.where(filled, layers, 1.0)
    safe_total = np.where(total > 0, total, 1.0)[:, None]
    x_layer, y_layer = x_sums / safe, y_sums / safe
    x_mean = x_sums.sum(axis=1, keepdims=True) / safe_total
    y_mean = y_sums.sum(axis=1, keepdims=True) / safe_total
    depth = z - (layers @ z)[:, None] / safe_total
    distance = np.sqrt(np.maximum((x_layer - x_mean) ** 2 + depth**2, _EPSILON))
    slope = np.where(depth < 0, -1.0, 1.0) * (y_layer - y_mean) / distance
    weight = (np.arange(len(z)) + 0.5) * filled
    weighted = (weight * (np.pi / 2 - np.arctan(slope))).sum(axis=1)
    angle: Array = np.where(total > 0, weighted / np.where(total > 0, weight.sum(axis=1), 1.0), EMPTY_ANGLE)
    return angle


def principal_axis(sums: TransverseSums, z: Array) -> tuple[Array, Array]:
    """Direction of the longest axis of the shower: the first eigenvector of its energy-weighted covariance.

    Args:
        sums: Result of `transverse_sums`.
        z: (nz,) depths, mm.

    Returns:
        Theta and phi of the direction (sin theta sin phi, cos theta, sin theta cos phi) that points into the
        calorimeter, (N,) rad each; theta = pi/2, phi = 0 along z, also given to showers without extent.
    """
    total = sums.energy.sum(axis=1)
    safe = np.where(total > 0, total, 1.0)
    first = [(part.sum(axis=1) / safe) for part in (sums.x, sums.y, sums.energy * z)]
    second = {
        (0, 0): sums.xx,
        (0, 1): sums.xy,
        (1, 1): sums.yy,
        (0, 2): sums.x * z,
        (1, 2): sums.y * z,
        (2, 2): sums.energy * z**2,
    }
    covariance = np.empty((len(total), 3, 3))
    for (i, j), part in second.items():
        covariance[:, i, j] = covariance[:, j, i] = part.sum(axis=1) / safe - first[i] * first[j]
    axis = np.linalg.eigh(covariance)[1][:, :, -1]
    axis = axis * np.where(axis[:, 2:] < 0, -1.0, 1.0)
    axis[np.trace(covariance, axis1=1, axis2=2) < 1e-9] = (0.0, 0.0, 1.0)
    return np.arccos(np.clip(axis[:, 1], -1, 1)), np.arctan2(axis[:, 0], axis[:, 2])
