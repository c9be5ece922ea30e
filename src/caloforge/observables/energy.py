"""Energy sums over a shower, its layers, and three depth regions."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from caloforge.geometry import Mesh, RaggedMesh

Array = NDArray[np.float64]


def visible_energy(showers: NDArray[Any]) -> Array:
    """Sum over the voxels.

    Args:
        showers: (N, ...) energy per voxel, MeV.

    Returns:
        (N,) MeV.

    Examples:
        >>> visible_energy(np.array([[1.0, 2.0], [3.0, 4.0]]))
        array([3., 7.])
    """
    total: Array = showers.reshape(len(showers), -1).sum(axis=1, dtype=np.float64)
    return total


def response(showers: NDArray[Any], incident_energy: NDArray[Any]) -> Array:
    """Visible over incident energy; for uncorrected showers this is the "sampling fraction" of 3DGAN.

    Args:
        showers: (N, ...) energy per voxel, MeV.
        incident_energy: (N,) MeV, positive.

    Returns:
        (N,) without unit.

    Examples:
        >>> response(np.array([[1.0, 2.0]]), np.array([100.0]))
        array([0.03])
    """
    ratio: Array = visible_energy(showers) / incident_energy.astype(np.float64)
    return ratio


def layer_energies(showers: NDArray[Any], mesh: Mesh) -> Array:
    """Energy of each readout layer, front to back: the longitudinal profile of each shower.

    Args:
        showers: (N, nz, ny, nx), (N, nz, nphi, nr) or (N, n_voxels), MeV.
        mesh: The mesh of the showers.

    Returns:
        (N, nz) MeV.

    Examples:
        >>> from caloforge.geometry import CartesianMesh
        >>> mesh = CartesianMesh(nx=2, ny=2, cell_x="5 mm", cell_y="5 mm")
        >>> layer_energies(np.ones((1, 3, 2, 2)), mesh)
        array([[4., 4., 4.]])
    """
    return layer_sums(showers, mesh)


def layer_sums(values: NDArray[Any], mesh: Mesh) -> Array:
    """Sum of any per-voxel value over each readout layer; (N, nz)."""
    if isinstance(mesh, RaggedMesh):
        starts = [part.start for part in mesh.slices()]
        ragged: Array = np.add.reduceat(values, starts, axis=1, dtype=np.float64)
        return ragged
    sums: Array = values.sum(axis=(2, 3), dtype=np.float64)
    return sums


def depth_regions(layers: NDArray[Any]) -> Array:
    """Fractions of the energy in the front, middle and back of the calorimeter: R1, R2, R3.

    The depth is split at int(nz / 3) and 2 int(nz / 3), with the remaining layers in the back: layers
    [0, 8), [8, 16), [16, 25) of 25, as in the 3DGAN analysis.

    Args:
        layers: (N, nz) layer energies.

    Returns:
        (N, 3); zero for an empty shower.

    Examples:
        >>> depth_regions(np.array([[1.0, 2.0, 1.0]]))
        array([[0.25, 0.5 , 0.25]])
    """
    third = layers.shape[1] // 3
    parts = [layers[:, :third], layers[:, third : 2 * third], layers[:, 2 * third :]]
    sums = np.stack([part.sum(axis=1, dtype=np.float64) for part in parts], axis=1)
    return fractions(sums)


def fractions(values: NDArray[Any]) -> Array:
    """Each row divided by its sum; a row that sums to zero stays zero. (N, k) to (N, k)."""
    total = values.sum(axis=1, dtype=np.float64, keepdims=True)
    result: Array = np.divide(values, total, out=np.zeros(values.shape), where=total != 0)
    return result
