"""Weights of both stages in the order in which the loops read them. Importing this does not import torch."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]
IndexArray = NDArray[np.uint32]


class Tables(NamedTuple):
    """Arrays of float32, and of uint32, which need no look at their signs; Numba compiles for it as it is.

    A layer is m rows of w places, see `Order`.

    Attributes:
        cell: (m * w,) the cell at each place, 0 where there is none.
        number: (m * w,) its number in the noise of the layer.
        first: (m,) what leads from a column to its number in the noise, row by row.
        lanes: (m, 2) first column of the lanes of a row, and the one after the last.
        spot: (m * w,) where the kernels begin that are around it, in a layer of pairs with margins.
        column: (m * w,) place within a row.
        nowhere: (m, w) 0, or a large negative number where there is no cell.
        direction: (2, m * w) unit vector from the axis.
        zones: (zones, 2) first column of each zone, and the one after its last.
        blocks: (zones, 2) first lanes of each zone, and those after its last, both over LANES.
        member: (zones, m, w / LANES) bits of the lanes with cells of each zone.
        sizes: (2, zones) cells, most hits.
        numbers: (zones, largest size + 1) log lambda of so many hits, if all cells had the same.
        base: (layers, 3, 4, w) of log lambda, mean and log width: see `Alone`.
        tilt: (layers, 4, w) log lambda by centre and slope, mean by centre and slope.
        level: (layers, 3 * TERMS, w) see `Student`.
        gain: (layers, 2, w) of added particles and of moved means, amplitudes included.
        strength: (layers, 2, w).
        skewness: (layers, w).
        kernels: (3 * 7 * LANES,) what a hit does to lambda and to the mean of the cells around it, in pairs;
            see `Student`.
        turns: (m * w * 4,) see `Student.turns_of_cells`: cosine for both kernels, sine for both.
        zone: (w,) zone of each column.
        waves: (m * w * WAVES,) of the zone, see `Depth`.
        shares: (zones, SOURCES, zones, WAVES) see `Depth`.
        weak: (layers, zones, degree + 1) way back from the coordinate below the split.
        strong: (layers, zones, degree) above.
        scalars: (6,) logarithm of the unit, unit, coordinate of the weakest hit, threshold, coordinate of the
            split, distances of its table's ends.
        size: Numbers in the noise of a layer.
        grid: (4,) numbers in a layer of pairs with margins and in a row of it; rows without margins; whether
            the first follows the last.
    """

    cell: IndexArray
    number: IndexArray
    first: NDArray[np.int64]
    lanes: IndexArray
    spot: IndexArray
    column: IndexArray
    nowhere: FloatArray
    direction: FloatArray
    zones: IndexArray
    blocks: NDArray[np.int64]
    member: IndexArray
    sizes: FloatArray
    numbers: FloatArray
    base: FloatArray
    tilt: FloatArray
    level: FloatArray
    gain: FloatArray
    strength: FloatArray
    skewness: FloatArray
    kernels: FloatArray
    turns: FloatArray
    zone: IndexArray
    waves: FloatArray
    shares: FloatArray
    weak: FloatArray
    strong: FloatArray
    scalars: FloatArray
    size: int
    grid: IndexArray


class LayerTables(NamedTuple):
    """Weights of the first stage; see `LayerStage`.

    Attributes:
        mean: (terms, size).
        spread: (terms, size).
        scores: (donors, size).
        relatives: (donors, RELATIVES).
        coordinates: (donors, LEADING).
        directions: (LEADING, size).
        windows: (particles, 2, RUNGS).
        front: (size,) see `Donors`.
        back: (size,) likewise.
        layers: Number of layers.
        quantiles: (bins, size, KNOTS).
        tails: (bins, 2, size) slopes before the first and after the last knot.
        centres: (bins,).
        balance: (layers,) what their shares say of the visible energy.
    """

    mean: FloatArray
    spread: FloatArray
    scores: FloatArray
    relatives: NDArray[np.int16]
    coordinates: FloatArray
    directions: FloatArray
    windows: FloatArray
    front: FloatArray
    back: FloatArray
    layers: int
    quantiles: FloatArray
    tails: FloatArray
    centres: FloatArray
    balance: FloatArray
