"""Layout of the noise of a layer: the order in which compiled loops read it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from caloforge.models.layered.constants import LANES
from caloforge.models.layered.geometry import LayerGeometry

IndexArray = NDArray[np.int64]


@dataclass(frozen=True)
class NoiseLayout:
    """Cells of a layer as rows of places; a column has the cells of one symmetry class.

    Some places have no cell, as cells on a symmetry axis have fewer images. The noise of a layer is that of
    the places of the first row, then of the second and so on, in each row from its first cell to its last.

    Attributes:
        cell: (rows, width) the cell at each place, -1 where there is none.
        columns: (classes,) column of each symmetry class.
        bin_columns: (bins, 2) first column of each radial bin, and the one after its last.
        ends: (rows, 2) first column of each row that has a cell, and the one after its last.
        starts: (rows,) index of the noise of each row's first cell.
        size: Length of the noise of a layer; where a layer is small a little longer than its places, so that
            whole vectors of LANES numbers can be read everywhere.
    """

    cell: IndexArray
    columns: IndexArray
    bin_columns: IndexArray
    ends: IndexArray
    starts: IndexArray
    size: int

    @property
    def noise_index(self) -> IndexArray:
        """(rows, width) index of the noise of each place, 0 where there is no cell."""
        index = self.starts[:, None] + np.arange(self.cell.shape[1]) - self.ends[:, :1]
        return np.where(self.cell >= 0, index, 0)

    @property
    def noise_of_cells(self) -> IndexArray:
        """(cells,) index of the noise of each cell."""
        real = self.cell >= 0
        index = np.empty(np.count_nonzero(real), np.int64)
        index[self.cell[real]] = self.noise_index[real]
        return index


def noise_layout(geometry: LayerGeometry, operation: IndexArray | None = None) -> NoiseLayout:
    """Arrange the cells of a layer.

    Args:
        geometry: Of the layer.
        operation: (cells,) of a window: the operation that each cell is an image under, which is its row.
    """
    images = np.bincount(geometry.symmetry_class)
    # the cells of a class are in one ring, and so in one radial bin
    radial_bin = geometry.radial_bin[np.unique(geometry.symmetry_class, return_index=True)[1]]
    columns, bin_columns = _columns(radial_bin, images)
    width = -(-int(columns.max() + 1) // LANES) * LANES
    cell = np.full((images.max(), width), -1)
    keys = (geometry.symmetry_class,) if operation is None else (operation, geometry.symmetry_class)
    own_cells = np.split(np.lexsort(keys), np.cumsum(images)[:-1])
    for own, column in zip(own_cells, columns, strict=True):
        cell[: len(own), column] = own
    ends = np.array([(np.flatnonzero(row >= 0)[[0, -1]] + (0, 1)) for row in cell])
    lengths = ends[:, 1] - ends[:, 0]
    starts = np.cumsum(lengths) - lengths
    # whole vectors are read also of the last layer's hits: as many numbers for the energies follow them
    stops = starts - ends[:, 0] + -(-ends[:, 1] // LANES) * LANES
    size = max(int(lengths.sum()), -(-int(stops.max()) // 2))
    return NoiseLayout(cell, columns, bin_columns, ends, starts, size)


def _columns(radial_bin: IndexArray, images: IndexArray) -> tuple[IndexArray, IndexArray]:
    """Column of each symmetry class, and first column and end of each radial bin.

    Classes of a radial bin are adjacent, and begin at a multiple of LANES where they are many. Classes with
    all images stand last, in the last bin first, so that the lower rows are short.

    Args:
        radial_bin: (classes,) radial bin of each class.
        images: (classes,) number of its cells.
    """
    columns, ranges, end = np.empty(len(radial_bin), np.int64), [], 0
    for bin_index in range(int(radial_bin.max()) + 1):
        own = np.flatnonzero(radial_bin == bin_index)
        order = images[own] if bin_index < radial_bin.max() else -images[own]
        own = own[np.argsort(order, kind="stable")]
        start = -(-end // LANES) * LANES if len(own) >= LANES else end
        end = start + len(own)
        columns[own] = np.arange(start, end)
        ranges.append((start, end))
    return columns, np.array(ranges)
