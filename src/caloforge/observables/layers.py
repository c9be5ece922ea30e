"""Transverse centre and width of each layer, and the contrast between adjacent layers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caloforge.geometry import Mesh, RaggedMesh
from caloforge.observables.profiles import radii, transverse_positions

Array = NDArray[np.float64]


@dataclass(frozen=True)
class TransverseSums:
    """Energy and energy-weighted positions summed over the voxels of each layer, all (N, nz).

    Attributes:
        energy: Layer energies, MeV.
        x, y, r: Sums of energy times position, MeV mm; r is the distance from the mesh axis.
        xx, yy, xy, rr: Sums of energy times a product of two positions, MeV mm2.
    """

    energy: Array
    x: Array
    y: Array
    xx: Array
    yy: Array
    xy: Array
    r: Array
    rr: Array


def transverse_sums(showers: NDArray[Any], mesh: Mesh) -> TransverseSums:
    """Energies, first and second transverse moments of all layers, in one matrix product.

    Args:
        showers: (N, nz, ny, nx), (N, nz, nphi, nr) or (N, n_voxels), MeV.
        mesh: The mesh of the showers.
    """
    x, y = transverse_positions(mesh)
    r = radii(mesh)
    columns = np.stack([np.ones_like(x), x, y, x * x, y * y, x * y, r, r * r], axis=1)
    if isinstance(mesh, RaggedMesh):
        table = np.stack([showers[:, part] @ columns[part] for part in mesh.slices()], axis=1)
    else:
        count, nz = showers.shape[:2]
        table = (showers.reshape(count * nz, -1) @ columns).reshape(count, nz, -1)
    return TransverseSums(*np.moveaxis(table, -1, 0))


def layer_centres(sums: TransverseSums) -> dict[str, Array]:
    """Centre of energy and width of each layer across the axis (CaloChallenge: EC and width).

    The width is the energy-weighted standard deviation. Layers without energy have 0 in both.

    Args:
        sums: Result of `transverse_sums`.

    Returns:
        `layer_centre_x`, `layer_width_x` and the same for y and r, each (N, nz), mm.
    """
    filled = sums.energy > 0
    total = np.where(filled, sums.energy, 1.0)
    result = {}
    for axis, first, second in (("x", sums.x, sums.xx), ("y", sums.y, sums.yy), ("r", sums.r, sums.rr)):
        centre = np.where(filled, first / total, 0.0)
        square = np.where(filled, second / total, 0.0)
        result[f"layer_centre_{axis}"] = centre
        result[f"layer_width_{axis}"] = _spread(square, centre)
    return result


def layer_contrast(layers: NDArray[Any]) -> Array:
    r"""Energy of each layer relative to its neighbours.

    .. math:: E_l / (E_l + \tfrac12 (E_{l-1} + E_{l+1}))

    About one half for a smooth profile. Fluctuations of the shower depth, which affect adjacent layers alike,
    cancel, so that a miscalibrated layer is visible: the standard deviation is near 0.05 where that of the
    layer's fraction of the energy is near 30 %.

    Args:
        layers: (N, nz) layer energies, nz at least 2; the first and last have one neighbour.

    Returns:
        (N, nz) between 0 and 1; 0.5 where the layer and its neighbours are empty.

    Examples:
        >>> layer_contrast(np.array([[1.0, 3.0, 1.0]]))
        array([[0.25, 0.75, 0.25]])
    """
    values = layers.astype(np.float64)
    padded = np.pad(values, ((0, 0), (1, 1)), mode="reflect")
    around = (padded[:, :-2] + padded[:, 2:]) / 2
    total = values + around
    contrast: Array = np.divide(values, total, out=np.full(values.shape, 0.5), where=total > 0)
    return contrast


def _spread(square: Array, centre: Array) -> Array:
    """Standard deviation; a variance below rounding errors, as of a single voxel, counts as zero."""
    variance = square - centre**2
    return np.sqrt(np.where(variance > 1e-12 * square, variance, 0.0))
