"""Transverse profiles: in x, y, azimuth, and distance from the axis."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from caloforge.geometry import CartesianMesh, CylindricalMesh, Mesh, RaggedMesh

Array = NDArray[np.float64]


def transverse_positions(mesh: Mesh) -> tuple[Array, Array]:
    """Transverse coordinates of the voxel centres: x and y, mm.

    Returns:
        Two arrays of shape (voxels of one layer,), or (n_voxels,) for a ragged mesh whose layers differ.
    """
    if not isinstance(mesh, RaggedMesh):
        x, y = mesh.positions()
        return x.ravel(), y.ravel()
    xs, ys = [], []
    for layer in mesh.layers:
        edges = np.array(layer.r_edges)
        radius = (edges[1:] + edges[:-1]) / 2
        # a single sector is a full ring, centred on the axis
        phi = (np.arange(layer.nphi) + 0.5) * 2 * np.pi / layer.nphi - np.pi
        cos, sin = (np.cos(phi), np.sin(phi)) if layer.nphi > 1 else (np.zeros(1), np.zeros(1))
        xs.append(np.outer(cos, radius).ravel())
        ys.append(np.outer(sin, radius).ravel())
    return np.concatenate(xs), np.concatenate(ys)


def radii(mesh: Mesh) -> Array:
    """Distance of the voxel centres from the axis, mm; shaped as `transverse_positions`."""
    if not isinstance(mesh, RaggedMesh):
        x, y = mesh.positions()
        return np.hypot(x, y).ravel()
    parts = []
    for layer in mesh.layers:
        edges = np.array(layer.r_edges)
        parts.append(np.tile((edges[1:] + edges[:-1]) / 2, layer.nphi))
    return np.concatenate(parts)


def lateral_image(showers: NDArray[Any], mesh: Mesh) -> Array:
    """Energy summed over the depth, one column per transverse position.

    Args:
        showers: (N, nz, ny, nx), (N, nz, nphi, nr) or (N, n_voxels), MeV.
        mesh: The mesh of the showers.

    Returns:
        (N, p) MeV, p as in `transverse_positions`; the voxels themselves for a ragged mesh.
    """
    if isinstance(mesh, RaggedMesh):
        return showers.astype(np.float64)
    image: Array = showers.sum(axis=1, dtype=np.float64).reshape(len(showers), -1)
    return image


def x_profile(showers: NDArray[Any]) -> Array:
    """Energy against x of showers on a cartesian mesh: (N, nz, ny, nx) to (N, nx), MeV."""
    profile: Array = showers.sum(axis=(1, 2), dtype=np.float64)
    return profile


def y_profile(showers: NDArray[Any]) -> Array:
    """Energy against y of showers on a cartesian mesh: (N, nz, ny, nx) to (N, ny), MeV."""
    profile: Array = showers.sum(axis=(1, 3), dtype=np.float64)
    return profile


def azimuthal_profile(showers: NDArray[Any]) -> Array:
    """Energy against the azimuth of showers on a cylindrical mesh: (N, nz, nphi, nr) to (N, nphi), MeV."""
    profile: Array = showers.sum(axis=(1, 3), dtype=np.float64)
    return profile


def radial_edges(mesh: Mesh) -> Array:
    """Edges of the rings of `radial_profile`, mm, the outermost voxel inside.

    Rings are one cell wide. On a cartesian mesh with an odd number of cells the first ring is the central
    cell alone. A ragged mesh takes every radial edge that any of its layers has.
    """
    if isinstance(mesh, CylindricalMesh):
        return np.arange(mesh.nr + 1, dtype=np.float64) * mesh.cell_r
    if isinstance(mesh, RaggedMesh):
        return np.unique(np.array([edge for layer in mesh.layers for edge in layer.r_edges]))
    # half steps for odd counts, so that voxel centres do not lie on edges
    cell = max(mesh.cell_x, mesh.cell_y)
    start = cell / 2 if mesh.nx % 2 else cell
    rings = int(np.ceil((radii(mesh).max() - start) / cell + 1e-9))
    return np.concatenate([[0.0], start + cell * np.arange(max(rings, 0) + 1)])


def radial_profile(showers: NDArray[Any], mesh: Mesh) -> Array:
    """Energy in rings around the shower axis; a voxel belongs to the ring that holds its centre.

    Args:
        showers: (N, nz, ny, nx), (N, nz, nphi, nr) or (N, n_voxels), MeV.
        mesh: The mesh of the showers.

    Returns:
        (N, rings) MeV, rings as in `radial_edges`.
    """
    return ring_sums(lateral_image(showers, mesh), mesh)


def ring_sums(image: Array, mesh: Mesh) -> Array:
    """`radial_profile` from a lateral image."""
    return group_sums(image, _rings(mesh), len(radial_edges(mesh)) - 1)


def _rings(mesh: Mesh) -> NDArray[np.intp]:
    """Ring of each position, (p,)."""
    edges = radial_edges(mesh)
    return np.clip(np.searchsorted(edges, radii(mesh), side="right") - 1, 0, len(edges) - 2)


def group_sums(image: Array, labels: NDArray[np.intp], count: int) -> Array:
    """Sums over the positions of each group.

    Args:
        image: (N, p)
        labels: (p,) group of each position, 0 to count - 1.
        count: Groups; those without a position sum to 0.

    Returns:
        (N, count)
    """
    order = np.argsort(labels, kind="stable")
    present, starts = np.unique(labels[order], return_index=True)
    result = np.zeros((len(image), count))
    result[:, present] = np.add.reduceat(image[:, order], starts, axis=1)
    return result


def ring_areas(mesh: Mesh) -> Array:
    """Area of the voxels whose centres lie in each ring, mm2, shape (rings,); for energy densities."""
    edges = radial_edges(mesh)
    if isinstance(mesh, CartesianMesh):
        count = np.bincount(_rings(mesh), minlength=len(edges) - 1).astype(np.float64)
        area: Array = count * (mesh.cell_x * mesh.cell_y)
        return area
    return np.pi * np.diff(edges**2)
