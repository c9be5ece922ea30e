"""Where the cells of a layer stand in the noise: in the order in which compiled loops read it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from caloforge.models.layered.constants import LANES
from caloforge.models.layered.plane import Plane

IndexArray = NDArray[np.int64]


@dataclass(frozen=True)
class Order:
    """A layer as rows of places; cells that are images of each other, an orbit, stand below each other.

    Some places have no cell: there are fewer images of a cell on an axis. The noise of a layer is that of
    the places of the first row, then of the second, each from the first cell to the last.

    Attributes:
        cell: (rows, width) the cell at each place, -1 where there is none.
        columns: (orbits,) where each orbit stands.
        zones: (zones, 2) first column of each zone, and the one after its last.
        ends: (rows, 2) first column of each row that has a cell, and the one after its last.
        starts: (rows,) number of the noise of each row's first cell.
        size: Numbers of noise that a layer has; some more than there are places where a layer is small, so
            that whole lanes can be read everywhere.
    """

    cell: IndexArray
    columns: IndexArray
    zones: IndexArray
    ends: IndexArray
    starts: IndexArray
    size: int

    @property
    def numbers(self) -> IndexArray:
        """(rows, width) number of the noise of each place, 0 where there is no cell."""
        numbers = self.starts[:, None] + np.arange(self.cell.shape[1]) - self.ends[:, :1]
        return np.where(self.cell >= 0, numbers, 0)

    @property
    def of_cells(self) -> IndexArray:
        """(cells,) number of the noise of each cell."""
        real = self.cell >= 0
        numbers = np.empty(np.count_nonzero(real), np.int64)
        numbers[self.cell[real]] = self.numbers[real]
        return numbers


def order_of(plane: Plane) -> Order:
    """Find places for the cells of a layer."""
    images = np.bincount(plane.orbit)
    # an orbit keeps to a ring, and so to a zone
    zone = plane.zone[np.unique(plane.orbit, return_index=True)[1]]
    columns, zones = _columns(zone, images)
    width = -(-int(columns.max() + 1) // LANES) * LANES
    cell = np.full((images.max(), width), -1)
    own_cells = np.split(np.argsort(plane.orbit, kind="stable"), np.cumsum(images)[:-1])
    for own, column in zip(own_cells, columns, strict=True):
        cell[: len(own), column] = own
    ends = np.array([(np.flatnonzero(row >= 0)[[0, -1]] + (0, 1)) for row in cell])
    lengths = ends[:, 1] - ends[:, 0]
    starts = np.cumsum(lengths) - lengths
    # behind the hits of the last layer, of which whole lanes are read, there are as many energies
    stops = starts - ends[:, 0] + -(-ends[:, 1] // LANES) * LANES
    size = max(int(lengths.sum()), -(-int(stops.max()) // 2))
    return Order(cell, columns, zones, ends, starts, size)


def _columns(zone: IndexArray, images: IndexArray) -> tuple[IndexArray, IndexArray]:
    """Where each orbit, of known zone, stands; first column and end of each zone.

    The orbits of a zone are neighbours, and begin at a multiple of LANES where they are many. Those with all
    images stand last, but in the last zone first: so the lower rows are short.
    """
    columns, ranges, end = np.empty(len(zone), np.int64), [], 0
    for number in range(int(zone.max()) + 1):
        own = np.flatnonzero(zone == number)
        order = images[own] if number < zone.max() else -images[own]
        own = own[np.argsort(order, kind="stable")]
        start = -(-end // LANES) * LANES if len(own) >= LANES else end
        end = start + len(own)
        columns[own] = np.arange(start, end)
        ranges.append((start, end))
    return columns, np.array(ranges)
