"""The whole calorimeter as a plate of cells, and where the shower of a model is placed in it."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from caloforge.errors import ConfigError, GeometryError
from caloforge.geometry import CartesianMesh, Detector
from caloforge.geometry.mesh import MAX_VOXELS

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

# cells along an axis of a mesh
MAX_CELLS = 4096


def plate_of(detector: Detector) -> Detector:
    """The detector with a mesh that covers its whole width, on the same grid of cells.

    The mesh is centred, with a number of cells of the same parity, so that every cell of the detector's own
    mesh is one of its cells. A border of less than two cells may be left over.

    Args:
        detector: A detector with a cartesian mesh.

    Raises:
        GeometryError: Another mesh, or more cells than a mesh can have.

    Examples:
        >>> from caloforge.geometry import load_detector
        >>> plate_of(load_detector("clic-ecal-25")).shower_shape
        (25, 199, 199)
    """
    mesh = detector.mesh
    if not isinstance(mesh, CartesianMesh) or not detector.layers:
        raise GeometryError(
            f"detector {detector.name}: its mesh is {mesh.kind}, but fast simulation inside Geant4 and "
            "simulated events read out a plate of cells; take layers and a cartesian mesh"
        )
    nx, ny = _cells(detector.width, mesh.cell_x, mesh.nx), _cells(detector.width, mesh.cell_y, mesh.ny)
    if max(nx, ny) > MAX_CELLS or nx * ny * detector.n_layers > MAX_VOXELS:
        raise GeometryError(
            f"detector {detector.name}: its plates of {detector.width:g} mm have {detector.n_layers} x {ny} "
            f"x {nx} cells, at most {MAX_VOXELS} ({MAX_CELLS} a row) can be read out; reduce its width"
        )
    return Detector.model_validate(
        {**detector.model_dump(mode="json"), "mesh": {**mesh.model_dump(mode="json"), "nx": nx, "ny": ny}}
    )


def _cells(width: float, cell: float, own: int) -> int:
    """The most cells within a width, of the parity of the detector's own number."""
    most = math.floor(width / cell * (1 + 1e-12))
    return most - (most - own) % 2


def window_origin(plate: Detector, window: Detector) -> tuple[int, int]:
    """Row and column of the plate at which the mesh of `window`, centred, begins."""
    whole, part = _mesh(plate), _mesh(window)
    return (whole.ny - part.ny) // 2, (whole.nx - part.nx) // 2


def _mesh(detector: Detector) -> CartesianMesh:
    assert isinstance(detector.mesh, CartesianMesh)
    return detector.mesh


def check_same_calorimeter(detector: Detector, trained: Detector, name: str) -> None:
    """Check that a model's showers fit into the cells of a detector.

    Material, cells and grouping of layers must be the same. The window of the model may be larger or smaller
    than the mesh of the detector, but both must be centred on a cell, or both on the edge of one.

    Args:
        detector: The simulated detector.
        trained: The detector that the model was trained for.
        name: Name of the model, for messages.

    Raises:
        ConfigError: They differ; names in what.
    """
    one, two = detector.mesh, trained.mesh
    if not isinstance(one, CartesianMesh) or not isinstance(two, CartesianMesh):
        raise ConfigError(
            f"{name}: a model of a {two.kind} mesh for a detector with a {one.kind} one; fast simulation "
            "inside Geant4 takes cartesian meshes"
        )
    differences = []
    if [layer.slabs for layer in detector.physical_layers()] != [
        layer.slabs for layer in trained.physical_layers()
    ] or detector.material_map() != trained.material_map():
        differences.append("layers")
    differences += [
        f"mesh.{key} ({getattr(two, key):g} and {getattr(one, key):g})"
        for key in ("cell_x", "cell_y", "layers_per_voxel")
        if getattr(one, key) != getattr(two, key)
    ]
    for key in ("nx", "ny"):
        if (getattr(one, key) - getattr(two, key)) % 2:
            differences.append(f"mesh.{key} ({getattr(two, key)} and {getattr(one, key)}: odd and even)")
    if differences:
        raise ConfigError(
            f"{name}: trained for the detector {trained.name}, which differs from {detector.name} in "
            f"{', '.join(differences)}; take a model of this detector"
        )


@dataclass(frozen=True)
class Placement:
    """Puts showers of a model's window into the plate, moved by whole cells.

    Attributes:
        plate: From `plate_of`.
        window: The detector that the model was trained for.
    """

    plate: Detector
    window: Detector

    def crossings(self, positions: Floats, directions: Floats) -> Floats:
        """Where straight tracks cross the front of the model's `axis_layer`: x and y in mm, shape (N, 2).

        Args:
            positions: Points on the tracks, mm, shape (N, 3).
            directions: Unit vectors, shape (N, 3).
        """
        depth = float(self.window.layer_fronts()[self.window.axis_layer])
        path = (depth - positions[:, 2]) / directions[:, 2]
        return positions[:, :2] + path[:, None] * directions[:, :2]

    def shifts(self, crossings: Floats) -> tuple[Integers, Floats]:
        """Whole cells by which showers are moved, and what is left, mm.

        Args:
            crossings: From `crossings`.

        Returns:
            Row and column of the plate at which the window begins, which may lie outside of the plate, and
            the offset of the track from the axis of the moved window along x and y, at most half a cell;
            both of shape (N, 2).
        """
        whole, part = _mesh(self.plate), _mesh(self.window)
        cell = np.array([whole.cell_x, whole.cell_y])
        first = np.array([whole.nx - part.nx, whole.ny - part.ny]) // 2
        # half a cell towards the larger index, as the cells themselves are half-open
        moved = np.floor(crossings / cell + 0.5)
        origins = (first + moved).astype(np.int64)
        return origins[:, ::-1], crossings - moved * cell

    def place(
        self, showers: NDArray[np.float32], origins: Integers
    ) -> tuple[Integers, Integers, NDArray[np.float32]]:
        """The hits of showers in the plate; what lies outside of it is left out.

        Args:
            showers: (N, nz, ny, nx), MeV.
            origins: From `shifts`, shape (N, 2).

        Returns:
            For each hit the shower, the flat cell of the plate, and the energy in MeV.
        """
        flat = showers.reshape(len(showers), -1)
        hits: Integers = np.flatnonzero(flat)
        number, voxel = hits // flat.shape[1], hits % flat.shape[1]
        energy = flat[number, voxel]
        _, rows, columns = self.plate.shower_shape
        cell: Integers = self._cells[voxel] + (origins[:, 0] * columns + origins[:, 1])[number]
        size = _mesh(self.window)
        last = np.array([rows - size.ny, columns - size.nx])
        if (origins >= 0).all() and (origins <= last).all():
            return number, cell, energy
        row, column = np.divmod(voxel % (size.ny * size.nx), size.nx)
        row, column = row + origins[number, 0], column + origins[number, 1]
        inside = (row >= 0) & (row < rows) & (column >= 0) & (column < columns)
        return number[inside], cell[inside], energy[inside]

    @functools.cached_property
    def _cells(self) -> Integers:
        """The flat cell of the plate of each voxel of a window that begins at row 0 and column 0."""
        _, rows, columns = self.plate.shower_shape
        layer, row, column = np.indices(self.window.shower_shape).reshape(3, -1)
        cells: Integers = (layer * rows + row) * columns + column
        return cells
