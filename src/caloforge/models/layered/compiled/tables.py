"""Weights of the second stage in the order in which `kernel.py` reads them."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from caloforge.models.layered.alone import MAP_GAIN
from caloforge.models.layered.cells import CellStage
from caloforge.models.layered.compiled.arithmetic import LANES, WIDE
from caloforge.models.layered.context import AMPLITUDE_RANGE, KERNEL
from caloforge.models.layered.plane import Plane
from caloforge.models.layered.spectrum import SPLIT

FloatArray = NDArray[np.float32]
IndexArray = NDArray[np.uint32]
# added to log lambda where there is no cell
NOWHERE = -1e30


class Tables(NamedTuple):
    """Arrays of float32, and of uint32, which need no look at their signs; Numba compiles for it as it is.

    A layer is m rows of w places; places below each other are cells that are images of each other, an orbit.
    The orbits of a zone are neighbours, and begin at a multiple of LANES where they are many.

    Attributes:
        cell: (m * w,) the cell at each place, 0 where there is none.
        spot: (m * w,) where the kernels begin that are around it, in a layer of pairs with margins.
        column: (m * w,) place within a row.
        nowhere: (m, w) 0, or a large negative number where there is no cell.
        direction: (2, m * w) unit vector from the axis.
        zones: (zones, 2) first column of each zone, and the one after its last.
        sizes: (zones,) cells.
    base: (layers, 3, 4, w) of log lambda, mean and log width: see `Alone`.
        tilt: (layers, 4, w) log lambda by centre and slope, mean by centre and slope.
        level: (layers, 3, w) see `Student`.
        gain: (layers, 2, w) of added particles and of moved means, amplitudes included.
        strength: (layers, 2).
        skewness: (layers, w).
        kernels: (7 * WIDE,) what a hit does to lambda and to the mean of the cells around it, in pairs.
        weak: (zones, degree + 1) way back from the coordinate below the split.
        strong: (zones, degree) above.
        scalars: (6,) logarithm of the unit, unit, coordinate of the weakest hit, threshold, coordinate of the
            split, distances of its table's ends.
        grid: (4,) numbers in a layer of pairs with margins and in a row of it; rows without margins; whether
            the first follows the last.
    """

    cell: IndexArray
    spot: IndexArray
    column: IndexArray
    nowhere: FloatArray
    direction: FloatArray
    zones: IndexArray
    sizes: FloatArray
    base: FloatArray
    tilt: FloatArray
    level: FloatArray
    gain: FloatArray
    strength: FloatArray
    skewness: FloatArray
    kernels: FloatArray
    weak: FloatArray
    strong: FloatArray
    scalars: FloatArray
    grid: IndexArray


def tables_of(stage: CellStage) -> Tables:
    """Read the weights of a second stage on the CPU."""
    plane, student, alone = stage.plane, stage.student, stage.alone
    # an orbit keeps to a ring, and so to a zone
    example = np.unique(plane.orbit, return_index=True)[1]
    ring, zone = plane.ring[example], plane.zone[example]
    columns, zones = _columns(zone)
    width = -(-int(columns.max() + 1) // LANES) * LANES
    cell, real = _places(plane, columns, width)
    stride = plane.columns + KERNEL
    level, amplitude = student.level[:, :, ring], student.amplitude.clamp(*AMPLITUDE_RANGE).exp()[:, zone]

    def ordered(values: Tensor) -> FloatArray:
        """(..., layers, orbits) as (layers, ..., w)."""
        values = values.detach().movedim(-2, 0)
        result = np.zeros((*values.shape[:-1], width), np.float32)
        result[..., columns] = values.numpy()
        return result

    spectrum = alone.spectrum
    ends = (spectrum.coordinates[[0, -1]] - spectrum.coordinates[SPLIT]).tolist()
    unit, split = float(spectrum.unit), float(spectrum.coordinates[SPLIT])
    scalars = [math.log(unit), unit, spectrum.smallest, alone.threshold, split, *ends]
    # from a hit to the cells around it; convolutions go the other way
    pairs = student.kernel().detach().view(2, KERNEL, KERNEL).flip(1, 2).permute(1, 2, 0).reshape(KERNEL, -1)
    return Tables(
        cell=cell.reshape(-1),
        spot=(2 * (cell // plane.columns * stride + cell % plane.columns)).reshape(-1),
        column=np.broadcast_to(np.arange(width, dtype=np.uint32), cell.shape).reshape(-1),
        nowhere=np.where(real, 0, NOWHERE).astype(np.float32),
        direction=np.ascontiguousarray(plane.direction[:, cell.reshape(-1)]),
        zones=zones,
        sizes=plane.zone_sizes.astype(np.float32),
        base=ordered(MAP_GAIN * alone.base),
        tilt=ordered(MAP_GAIN * alone.tilt.flatten(0, 1)),
        level=ordered(level),
        gain=ordered((1 + student.gain) * amplitude[:, None]),
        strength=student.strength[:, :, 0].T.contiguous().numpy(),
        skewness=ordered(stage.shape.skewness),
        kernels=np.pad(pairs.numpy(), ((0, 0), (0, WIDE - 2 * KERNEL))).reshape(-1),
        weak=spectrum.weak.contiguous().numpy(),
        strong=spectrum.strong.contiguous().numpy(),
        scalars=np.array(scalars, np.float32),
        grid=np.array(
            [2 * (plane.rows + KERNEL) * stride, 2 * stride, plane.rows, plane.circular], np.uint32
        ),
    )


def _columns(zone: NDArray[np.int64]) -> tuple[NDArray[np.int64], IndexArray]:
    """Where each orbit, of known zone, stands in a row; first column and end of each zone."""
    columns, ranges, end = np.empty(len(zone), np.int64), [], 0
    for number in range(int(zone.max()) + 1):
        own = np.flatnonzero(zone == number)
        start = -(-end // LANES) * LANES if len(own) >= LANES else end
        end = start + len(own)
        columns[own] = np.arange(start, end)
        ranges.append((start, end))
    return columns, np.array(ranges, np.uint32)


def _places(plane: Plane, columns: NDArray[np.int64], width: int) -> tuple[IndexArray, NDArray[np.bool_]]:
    """The cell at each place, (m, w), and whether there is one."""
    images = int(np.bincount(plane.orbit).max())
    cell, real = np.zeros((images, width), np.uint32), np.zeros((images, width), bool)
    for orbit, column in enumerate(columns):
        own = np.flatnonzero(plane.orbit == orbit)
        cell[: len(own), column], real[: len(own), column] = own, True
    return cell, real
