"""Showers of one detector in the cells of another, by depth in radiation lengths and Molière radii."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from caloforge.geometry import CartesianMesh, CylindricalMesh, Detector
from caloforge.models.layered.shower_library.hits import box_mesh

# a cell with more energy than this many single hits is spread over as many points, at most POINTS
HIT, POINTS = 1.3, 12
# hits that far out, in fractions of the mesh, are those of single particles
OUTSIDE = 0.25


def summed_into(
    target: Detector, detector: Detector, showers: NDArray[np.float32], rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Showers in the cells of the target, and which of its layers the detector reaches.

    Args:
        target: With a cartesian or a cylindrical mesh.
        detector: Of the showers, with a cartesian mesh around the axis.
        showers: (N, layers, rows, columns) MeV.
        rng: Draws where in its cell a particle was.

    Returns:
        (N, layers, rows, columns) of the target in MeV, and (layers,).
    """
    shower, layer, row, column = np.nonzero(showers)
    energy, mesh = showers[shower, layer, row, column].astype(np.float64), box_mesh(detector)
    outside = np.hypot(column - mesh.nx / 2, row - mesh.ny / 2) > OUTSIDE * mesh.nx
    single = np.median(energy[outside] if outside.any() else energy)
    points = np.clip(np.rint(energy / single / HIT), 1, POINTS).astype(int)
    of = np.repeat(np.arange(len(energy)), points)
    x, y = (
        (at[of] + rng.random(len(of)) - cells / 2) * size / detector.moliere_radius
        for at, cells, size in ((column, mesh.nx, mesh.cell_x), (row, mesh.ny, mesh.cell_y))
    )
    rows, columns, inside = _cells(target, x, y)
    shape = (len(showers), detector.n_layers, *target.shower_shape[1:])
    places = (shower[of][inside], layer[of][inside], rows[inside], columns[inside])
    share = (energy / points)[of[inside]]
    flat = np.ravel_multi_index(places, shape)
    found = np.bincount(flat, share, int(np.prod(shape))).astype(np.float64).reshape(shape)
    known = target.active_depths_x0() < detector.radiation_lengths
    return _layers(target, detector, found).astype(np.float32), known


def _cells(
    target: Detector, x: NDArray[np.float64], y: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """Row and column of points in Molière radii, and whether they are in the mesh."""
    mesh, radius = target.mesh, target.moliere_radius
    if isinstance(mesh, CylindricalMesh):
        row = np.floor(np.arctan2(y, x) % (2 * np.pi) / (2 * np.pi) * mesh.nphi).astype(int) % mesh.nphi
        column = np.floor(np.hypot(x, y) / (mesh.cell_r / radius)).astype(int)
        return row, column, column < mesh.nr
    assert isinstance(mesh, CartesianMesh)
    column = np.floor(x / (mesh.cell_x / radius) + mesh.nx / 2).astype(int)
    row = np.floor(y / (mesh.cell_y / radius) + mesh.ny / 2).astype(int)
    return row, column, (column >= 0) & (column < mesh.nx) & (row >= 0) & (row < mesh.ny)


def _layers(target: Detector, detector: Detector, found: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sums of as many layers as lie in one of the target, at its depths."""
    spacing = [place.radiation_lengths / place.n_layers for place in (target, detector)]
    count = min(max(1, round(spacing[0] / spacing[1])), detector.n_layers)
    depths = np.convolve(detector.active_depths_x0(), np.ones(count) / count, "valid")
    first = np.abs(depths - target.active_depths_x0()[:, None]).argmin(1)
    return np.stack([found[:, start : start + count].sum(1) for start in first], axis=1)
