"""The cells of a layer: rings and radial bins around the axis, symmetry classes, directions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from caloforge.beam import ANGLE_SLACK
from caloforge.geometry import CartesianMesh, CylindricalMesh, Detector
from caloforge.models.symmetries import cell_images, symmetries
from caloforge.models.training_metadata import TrainedRange


@dataclass(frozen=True)
class LayerGeometry:
    """The m = rows * columns cells of a layer, flattened.

    Attributes:
        rows: ny, or sectors in phi.
        columns: nx, or rings in r.
        circular: Whether the first row follows the last.
        ring: (m,) distance from the axis in rings of cells.
        radial_bin: (m,) radial bin of each cell, counted from the axis.
        radial_bin_sizes: (bins,) number of cells of each radial bin.
        symmetry_class: (m,) class of each cell; a symmetry of detector and beam maps cells of one class to
            each other.
        direction: (2, m) unit vector from the axis; 0 on it.
        distance: (m,) distance from the axis that the position of a shower is computed with, in cells.
        area: (m,) size of each cell over the mean of its radial bin.
        mirrors: Whether a mirror in x, and one in y, lead every shower to one of the same condition.
        transposable: Whether the transverse axes may be swapped.
    """

    rows: int
    columns: int
    circular: bool
    ring: NDArray[np.int64]
    radial_bin: NDArray[np.int64]
    radial_bin_sizes: NDArray[np.int64]
    symmetry_class: NDArray[np.int64]
    direction: NDArray[np.float32]
    distance: NDArray[np.float64]
    area: NDArray[np.float64]
    mirrors: tuple[bool, bool]
    transposable: bool

    @property
    def cells(self) -> int:
        """Number of cells of a layer."""
        return self.rows * self.columns

    @property
    def bin_membership(self) -> NDArray[np.float32]:
        """(m, bins), 1 where a cell belongs to a radial bin, else 0."""
        bin_membership: NDArray[np.bool_] = self.radial_bin[:, None] == np.arange(len(self.radial_bin_sizes))
        return bin_membership.astype(np.float32)

    def double_angle(self) -> NDArray[np.float32]:
        """(2, m) cosine and sine of twice the azimuth of each cell; 0 on the axis.

        Rows and columns of a cylindrical mesh lie across and along the direction already: there both are 0.
        """
        return self.fourier_modes((2,)) * np.float32(not self.circular)

    def fourier_modes(self, orders: tuple[int, ...]) -> NDArray[np.float32]:
        """(2 * orders, m) cosine and sine of multiples of the azimuth of each cell; 0 on the axis.

        Args:
            orders: The multiples.
        """
        angle = self.direction[0] + 1j * self.direction[1]
        parts = [part for k in orders for part in ((angle**k).real, (angle**k).imag)]
        return np.stack(parts).astype(np.float32)

    @property
    def kernels(self) -> int:
        """Number of kernels: one for each ring of a cylindrical mesh, as its cells differ in size, else 1."""
        return self.columns if self.circular else 1

    @property
    def kernel_of_cell(self) -> NDArray[np.int64]:
        """(m,) kernel of each cell."""
        return self.ring * self.circular

    def kernel_classes(self, size: int, *, mirrored: bool) -> NDArray[np.int64]:
        """(kernels, size * size) symmetry classes of the displacements of the kernels, see `kernel_reach`.

        Args:
            size: Cells that a kernel is wide, odd.
            mirrored: Whether symmetries are used; without, each displacement is a class of its own.
        """
        if not self.circular:
            return self.plane_classes(size, mirrored=mirrored)[None]
        ring, turn, out = np.indices((self.columns, size, size)).reshape(3, -1)
        turn, source = turn - size // 2, ring + out - size // 2
        if mirrored and self.mirrors[1]:
            turn = np.abs(turn)
        code = (ring * self.columns + source) * size + turn
        reach = self.kernel_reach(size).reshape(-1)
        # what is beyond reach has no class of its own
        code[~reach] = code[reach].min()
        classes: NDArray[np.int64] = np.unique(code, return_inverse=True)[1].reshape(self.columns, -1)
        return classes

    def plane_classes(self, size: int, *, mirrored: bool) -> NDArray[np.int64]:
        """(size * size,) the same for one kernel that all cells have in common."""
        grid = np.arange(size * size).reshape(size, size)
        images = [grid]
        if mirrored:
            images += [image[:, ::-1] for image in images if self.mirrors[0]]
            images += [image[::-1] for image in images if self.mirrors[1]]
            images += [image.T for image in images if self.transposable]
        symmetry_class: NDArray[np.int64] = np.unique(np.min(images, axis=0), return_inverse=True)[1].reshape(
            -1
        )
        return symmetry_class

    def kernel_reach(self, size: int) -> NDArray[np.bool_]:
        """(kernels, size * size) whether a displacement leads to a cell, and to none twice around the axis.

        A kernel belongs to the cell that sums over its neighbours.
        """
        reach = np.ones((self.kernels, size, size), np.bool_)
        if self.circular:
            ring, turn, out = (
                np.indices(reach.shape) - np.array([0, size // 2, size // 2])[:, None, None, None]
            )
            source = ring + out
            reach = (source >= 0) & (source < self.columns) & (np.abs(turn) <= (self.rows - 1) // 2)
        return reach.reshape(self.kernels, -1)

    def opposite_displacement(self, size: int) -> NDArray[np.int64]:
        """(kernels * size * size,) index of the displacement that leads back, for those within reach."""
        kernel, turn, out = np.indices((self.kernels, size, size)).reshape(3, -1)
        if self.circular:
            kernel = (kernel + out - size // 2).clip(0, self.columns - 1)
        back: NDArray[np.int64] = (kernel * size + size - 1 - turn) * size + size - 1 - out
        return back

    def neighbour_index(self, size: int) -> NDArray[np.int64]:
        """(size * size, m) cell at each displacement of a kernel around each cell; -1 beyond its reach."""
        pad = size // 2
        grid = np.arange(self.cells).reshape(self.rows, self.columns)
        around = ((pad, pad), (0, 0))
        if self.circular:
            grid = np.pad(grid, around, mode="wrap")
        else:
            grid = np.pad(grid, around, constant_values=-1)
        grid = np.pad(grid, around[::-1], constant_values=-1)
        windows = np.lib.stride_tricks.sliding_window_view(grid, (self.rows, self.columns))
        index = windows.reshape(size * size, self.cells)
        return np.where(self.kernel_reach(size)[self.kernel_of_cell].T, index, -1)

    @staticmethod
    def kernel_double_angle(size: int) -> NDArray[np.float32]:
        """(2, size * size) cosine and sine of twice the angle of displacements; 0 in the centre."""
        y, x = np.indices((size, size)).reshape(2, -1) - size // 2
        square = np.maximum(x * x + y * y, 1)
        return np.stack([(x * x - y * y) / square, 2 * x * y / square]).astype(np.float32)

    @property
    def symmetry_classes(self) -> int:
        """Number of symmetry classes."""
        return int(self.symmetry_class.max()) + 1


def layer_geometry(detector: Detector, ranges: TrainedRange, radial_bins: tuple[int, ...]) -> LayerGeometry:
    """Describe a layer of a regular mesh.

    Args:
        detector: Cartesian or cylindrical.
        ranges: Trained conditions; they decide which symmetries hold.
        radial_bins: First ring of each radial bin; those beyond the mesh are left out.
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
    starts = [start for start in radial_bins if start <= ring.max()]
    radial_bin = np.searchsorted(starts, ring, side="right") - 1
    group = symmetries(detector, ranges)
    # no symmetry exchanges layers: the images of the first one are those of all
    images = cell_images(detector, group)[:, : rows * columns].min(axis=0)
    symmetry_class = np.unique(images, return_inverse=True)[1]
    x, y = mesh.positions()
    distance = np.hypot(x, y)
    direction = np.stack([x, y]) / np.where(distance > 1e-9, distance, 1.0)
    circular = isinstance(mesh, CylindricalMesh)
    area = 2.0 * ring + 1 if circular else np.ones(len(ring))
    mean_area = np.bincount(radial_bin, area) / np.bincount(radial_bin)
    return LayerGeometry(
        rows=rows,
        columns=columns,
        circular=circular,
        ring=ring,
        radial_bin=radial_bin,
        radial_bin_sizes=np.bincount(radial_bin),
        symmetry_class=symmetry_class.reshape(-1),
        direction=direction.reshape(2, -1).astype(np.float32),
        # the innermost cells of an even window lie half a cell off the axis; on the axis the direction is 0
        distance=ring + 0.5 if circular else np.maximum(ring, 0.5),
        area=area / mean_area[radial_bin],
        mirrors=(
            any(operation.flip_x for operation in group) and ranges.phi[1] - ranges.phi[0] < ANGLE_SLACK,
            any(operation.flip_y for operation in group) and ranges.theta[1] - ranges.theta[0] < ANGLE_SLACK,
        ),
        transposable=any(operation.swap for operation in group),
    )
