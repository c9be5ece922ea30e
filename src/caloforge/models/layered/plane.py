"""The cells of a layer: rings and zones around the axis, cells that are alike, directions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from caloforge.geometry import CartesianMesh, CylindricalMesh, Detector
from caloforge.models.symmetries import cell_images, symmetries
from caloforge.models.training_metadata import ANGLE_SLACK, TrainedRange


@dataclass(frozen=True)
class Plane:
    """The m = rows * columns cells of a layer, flattened.

    Attributes:
        rows: ny, or sectors in phi.
        columns: nx, or rings in r.
        circular: Whether the first row follows the last.
        ring: (m,) distance from the axis in cells.
        zone: (m,) which zone.
        zone_sizes: Cells of each zone.
        orbit: (m,) cells with the same number are images of each other.
        direction: (2, m) unit vector from the axis, 0 on it.
        mirrors: Whether a mirror in x and one in y lead every shower to one of the same condition.
        squares: Whether the transverse axes may be swapped.
    """

    rows: int
    columns: int
    circular: bool
    ring: NDArray[np.int64]
    zone: NDArray[np.int64]
    zone_sizes: NDArray[np.int64]
    orbit: NDArray[np.int64]
    direction: NDArray[np.float32]
    mirrors: tuple[bool, bool]
    squares: bool

    @property
    def cells(self) -> int:
        """Cells of a layer."""
        return self.rows * self.columns

    @property
    def members(self) -> NDArray[np.float32]:
        """(m, zones), 1 where a cell belongs to a zone."""
        members: NDArray[np.bool_] = self.zone[:, None] == np.arange(len(self.zone_sizes))
        return members.astype(np.float32)

    def turns(self) -> NDArray[np.float32]:
        """(2, m) cosine and sine of twice the angle of the direction; 0 on the axis.

        Rows and columns of a cylinder lie along and across the direction already: there both are 0.
        """
        return self.waves((2,)) * np.float32(not self.circular)

    def waves(self, periods: tuple[int, ...]) -> NDArray[np.float32]:
        """(2 * periods, m) cosine and sine of multiples of the angle of the direction; 0 on the axis."""
        turned = self.direction[0] + 1j * self.direction[1]
        parts = [part for k in periods for part in ((turned**k).real, (turned**k).imag)]
        return np.stack(parts).astype(np.float32)

    def kernel_orbit(self, size: int, *, mirrored: bool) -> NDArray[np.int64]:
        """(size * size,) numbers of the cells of a kernel, those that are images of each other alike.

        Args:
            size: Cells that the kernel is wide, odd.
            mirrored: Without, each cell is like itself only.
        """
        grid = np.arange(size * size).reshape(size, size)
        images = [grid]
        if mirrored:
            images += [image[:, ::-1] for image in images if self.mirrors[0]]
            images += [image[::-1] for image in images if self.mirrors[1]]
            images += [image.T for image in images if self.squares]
        orbit: NDArray[np.int64] = np.unique(np.min(images, axis=0), return_inverse=True)[1].reshape(-1)
        return orbit

    def displaced(self, size: int) -> NDArray[np.int64]:
        """(size * size, m) the cell at each place of a kernel around each cell; -1 beyond the edges."""
        pad = size // 2
        grid = np.arange(self.cells).reshape(self.rows, self.columns)
        around = ((pad, pad), (0, 0))
        if self.circular:
            grid = np.pad(grid, around, mode="wrap")
        else:
            grid = np.pad(grid, around, constant_values=-1)
        grid = np.pad(grid, around[::-1], constant_values=-1)
        windows = np.lib.stride_tricks.sliding_window_view(grid, (self.rows, self.columns))
        return windows.reshape(size * size, self.cells)

    @staticmethod
    def kernel_turns(size: int) -> NDArray[np.float32]:
        """(2, size * size) cosine and sine of twice the angle of the cells of a kernel; 0 in its centre."""
        y, x = np.indices((size, size)).reshape(2, -1) - size // 2
        square = np.maximum(x * x + y * y, 1)
        return np.stack([(x * x - y * y) / square, 2 * x * y / square]).astype(np.float32)

    @property
    def orbits(self) -> int:
        """Number of different cells."""
        return int(self.orbit.max()) + 1


def plane_of(detector: Detector, ranges: TrainedRange, zones: tuple[int, ...]) -> Plane:
    """Describe a layer of a regular mesh.

    Args:
        detector: Cartesian or cylindrical.
        ranges: Trained conditions; they decide which cells are alike.
        zones: First ring of each zone; those beyond the mesh are left out.
    """
    mesh = detector.mesh
    assert isinstance(mesh, CartesianMesh | CylindricalMesh)
    rows, columns = mesh.layer_shape()
    if isinstance(mesh, CartesianMesh):
        # from the centre of an odd window a ring begins at every cell, of an even one at its edge
        away = [np.floor(np.abs(np.arange(n) - (n - 1) / 2)).astype(np.int64) for n in (rows, columns)]
        ring = np.maximum(away[0][:, None], away[1][None])
    else:
        ring = np.broadcast_to(np.arange(columns), (rows, columns))
    ring = ring.reshape(-1)
    starts = [start for start in zones if start <= ring.max()]
    zone = np.searchsorted(starts, ring, side="right") - 1
    group = symmetries(detector, ranges)
    # a layer stays a layer: the images of the first one are those of all
    images = cell_images(detector, group)[:, : rows * columns].min(axis=0)
    orbit = np.unique(images, return_inverse=True)[1]
    x, y = mesh.positions()
    distance = np.hypot(x, y)
    direction = np.stack([x, y]) / np.where(distance > 1e-9, distance, 1.0)
    return Plane(
        rows=rows,
        columns=columns,
        circular=isinstance(mesh, CylindricalMesh),
        ring=ring,
        zone=zone,
        zone_sizes=np.bincount(zone),
        orbit=orbit.reshape(-1),
        direction=direction.reshape(2, -1).astype(np.float32),
        mirrors=(
            any(operation.flip_x for operation in group) and ranges.phi[1] - ranges.phi[0] < ANGLE_SLACK,
            any(operation.flip_y for operation in group) and ranges.theta[1] - ranges.theta[0] < ANGLE_SLACK,
        ),
        squares=any(operation.swap for operation in group),
    )
