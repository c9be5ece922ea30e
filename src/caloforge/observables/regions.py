"""Regions of the transverse plane (core, tails, corners), and the containment radius."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from caloforge.geometry import CartesianMesh, Mesh, RaggedMesh
from caloforge.observables.profiles import group_sums, radial_edges, radii, ring_sums, transverse_positions

Array = NDArray[np.float64]

# fraction of the half width that is bulk: the 3DGAN analysis takes 30 of 51 cells
BULK = 0.6


def core_region(mesh: Mesh) -> NDArray[np.bool_]:
    """Voxels around the axis: 3x3 cells of an odd cartesian window (2x2 of an even one), or the first ring.

    Returns:
        (p,) as `transverse_positions`.
    """
    if isinstance(mesh, CartesianMesh):
        x, y = transverse_positions(mesh)
        core: NDArray[np.bool_] = (np.abs(x) < 1.4 * mesh.cell_x) & (np.abs(y) < 1.4 * mesh.cell_y)
        return core
    if isinstance(mesh, RaggedMesh):
        return np.concatenate(
            [np.tile(np.arange(len(layer.r_edges) - 1) == 0, layer.nphi) for layer in mesh.layers]
        )
    return np.tile(np.arange(mesh.nr) == 0, mesh.nphi)


def tail_region(mesh: Mesh) -> NDArray[np.bool_]:
    """Voxels outside the bulk: beyond 0.6 of the half width in x or y, or beyond 0.6 of the radius; (p,)."""
    if isinstance(mesh, CartesianMesh):
        beyond_x, beyond_y = _beyond(mesh)
        return beyond_x | beyond_y
    tail: NDArray[np.bool_] = radii(mesh) > BULK * mesh.half_extent()
    return tail


def corner_region(mesh: CartesianMesh) -> NDArray[np.bool_]:
    """Voxels outside the bulk in x and in y: the four corners of a cartesian window; (p,)."""
    beyond_x, beyond_y = _beyond(mesh)
    return beyond_x & beyond_y


def _beyond(mesh: CartesianMesh) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    x, y = transverse_positions(mesh)
    return np.abs(x) > BULK / 2 * mesh.nx * mesh.cell_x, np.abs(y) > BULK / 2 * mesh.ny * mesh.cell_y


def quadrant_signs(mesh: Mesh) -> Array:
    """Sign of each voxel, (p,): +1 where `|x| > |y|`, -1 where `|y| > |x|`, 0 on the diagonals.

    The sum of the energies with these signs has mean zero for any shape that is symmetric under x <-> y.
    """
    x, y = (np.abs(position) for position in transverse_positions(mesh))
    return np.where(np.isclose(x, y), 0.0, np.sign(x - y))


def fine_rings(image: NDArray[Any], mesh: Mesh) -> tuple[Array, Array]:
    """Energy in the narrowest rings that the mesh resolves.

    On a cartesian mesh each distinct distance of voxel centres from the axis is a ring, and its edges are the
    radii of the circles that have the area of the voxels inside; elsewhere the rings are `radial_edges`.

    Args:
        image: (N, p) as `lateral_image`, MeV.
        mesh: The mesh of the showers.

    Returns:
        (N, k) energies in MeV and (k + 1,) edges in mm.
    """
    if not isinstance(mesh, CartesianMesh):
        return ring_sums(image, mesh), radial_edges(mesh)
    _, ring, count = np.unique(np.round(radii(mesh), 6), return_inverse=True, return_counts=True)
    area = np.concatenate([[0.0], np.cumsum(count)]) * mesh.cell_x * mesh.cell_y
    return group_sums(image, ring.ravel(), len(count)), np.sqrt(area / np.pi)


def containment_radius(rings: NDArray[Any], edges: Array, fraction: float = 0.9) -> Array:
    """Radius of the cylinder around the axis that holds a fraction of the visible energy.

    For 0.9 and a detector that absorbs the whole shower this is the Molière radius. Energy is taken as spread
    evenly over the area of a ring.

    Args:
        rings: (N, k) energy in each ring, MeV.
        edges: (k + 1,) mm.
        fraction: Between 0 and 1.

    Returns:
        (N,) mm; zero for an empty shower.

    Examples:
        >>> containment_radius(np.array([[81.0, 19.0]]), np.array([0.0, 9.0, 20.0]), fraction=0.81)
        array([9.])
    """
    cumulative = np.cumsum(rings, axis=1, dtype=np.float64)
    want = fraction * cumulative[:, -1:]
    # argmax: the first ring that reaches the fraction
    ring = np.argmax(cumulative >= want, axis=1)
    row = np.arange(len(rings))
    content = rings[row, ring].astype(np.float64)
    missing = want[:, 0] - (cumulative[row, ring] - content)
    share = np.divide(missing, content, out=np.zeros(len(rings)), where=content > 0)
    inner, outer = edges[ring] ** 2, edges[ring + 1] ** 2
    radius: Array = np.sqrt(inner + np.clip(share, 0.0, 1.0) * (outer - inner))
    return np.where(cumulative[:, -1] > 0, radius, 0.0)
