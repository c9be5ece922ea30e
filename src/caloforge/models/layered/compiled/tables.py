"""Weights of the second stage in the order in which `cells.py` reads them."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from caloforge.models.layered.alone import MAP_GAIN
from caloforge.models.layered.cells import CellStage
from caloforge.models.layered.context import KERNEL, TURNED_KERNEL
from caloforge.models.layered.depth import WAVES
from caloforge.models.layered.layers import LayerStage, tails_of
from caloforge.models.layered.order import LANES, Order
from caloforge.models.layered.spectrum import SPLIT

FloatArray = NDArray[np.float32]
IndexArray = NDArray[np.uint32]
# added to log lambda where there is no cell
NOWHERE = -60.0


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


def layer_tables_of(stage: LayerStage, balance: Tensor) -> LayerTables:
    """Read the weights of a first stage on the CPU."""
    donors = stage.donors
    return LayerTables(
        mean=stage.mean.contiguous().numpy(),
        spread=stage.spread.contiguous().numpy(),
        scores=donors.scores.float().contiguous().numpy(),
        relatives=donors.relatives.contiguous().numpy(),
        coordinates=donors.coordinates.contiguous().numpy(),
        directions=donors.directions.contiguous().numpy(),
        windows=donors.windows.contiguous().numpy(),
        front=donors.front.contiguous().numpy(),
        back=donors.back.contiguous().numpy(),
        layers=donors.layers,
        quantiles=stage.quantiles.mT.contiguous().numpy(),
        tails=torch.stack(tails_of(stage.quantiles), dim=1).numpy(),
        centres=stage.centres.contiguous().numpy(),
        balance=balance.numpy(),
    )


def tables_of(stage: CellStage, order: Order) -> Tables:
    """Read the weights of a second stage on the CPU."""
    plane, student, alone = stage.plane, stage.student, stage.alone
    # an orbit keeps to a ring, and so to a zone
    example = np.unique(plane.orbit, return_index=True)[1]
    ring = plane.ring[example]
    real, cell, width = order.cell >= 0, np.maximum(order.cell, 0).astype(np.uint32), order.cell.shape[1]
    lanes = np.stack([order.ends[:, 0] // LANES, -(-order.ends[:, 1] // LANES)], axis=1) * LANES
    stride = plane.columns + KERNEL
    amplitude = student.amplitude.detach().exp()[:, :, ring]

    def ordered(values: Tensor) -> FloatArray:
        """(..., layers, orbits) as (layers, ..., w)."""
        values = values.detach().movedim(-2, 0)
        result = np.zeros((*values.shape[:-1], width), np.float32)
        result[..., order.columns] = values.numpy()
        return result

    spectrum = alone.spectrum
    ends = (spectrum.coordinates[[0, -1]] - spectrum.coordinates[SPLIT]).tolist()
    unit, split = float(spectrum.unit), float(spectrum.coordinates[SPLIT])
    scalars = [math.log(unit), unit, spectrum.smallest, alone.threshold, split, *ends]
    # from a hit to the cells around it; convolutions go the other way
    margin = (KERNEL - TURNED_KERNEL) // 2
    turned = student.turned_kernel().view(2, 2, TURNED_KERNEL, TURNED_KERNEL)
    waves = student.depth.waves.view(plane.cells, WAVES, -1).sum(2).numpy()
    kernels = [student.kernel().view(2, 1, KERNEL, KERNEL), torch.nn.functional.pad(turned, [margin] * 4)]
    kernel = torch.cat(kernels, dim=1).detach().flip(2, 3)
    pairs = kernel.permute(1, 2, 3, 0).reshape(3 * KERNEL, -1).numpy()
    return Tables(
        cell=cell.reshape(-1),
        number=order.numbers.reshape(-1).astype(np.uint32),
        first=order.starts - order.ends[:, 0],
        lanes=lanes.astype(np.uint32),
        spot=(2 * (cell // plane.columns * stride + cell % plane.columns)).reshape(-1),
        column=np.broadcast_to(np.arange(width, dtype=np.uint32), cell.shape).reshape(-1),
        nowhere=np.where(real, 0, NOWHERE).astype(np.float32),
        direction=np.ascontiguousarray(plane.direction[:, cell.reshape(-1)]),
        zones=order.zones.astype(np.uint32),
        blocks=np.stack([order.zones[:, 0] // LANES, -(-order.zones[:, 1] // LANES)], axis=1),
        member=_members(order),
        sizes=np.stack([plane.zone_sizes, stage.most_hits.numpy()]).astype(np.float32),
        numbers=_numbers(plane.zone_sizes),
        base=ordered(MAP_GAIN * alone.base),
        tilt=ordered(MAP_GAIN * alone.tilt.flatten(0, 1)),
        level=ordered(student.level.flatten(0, 1)),
        gain=ordered((1 + student.gain) * amplitude),
        strength=ordered(student.strength[:, :, ring]),
        skewness=ordered(stage.shape.skewness),
        kernels=np.pad(pairs, ((0, 0), (0, LANES - 2 * KERNEL))).reshape(-1),
        turns=student.turns_of_cells().detach().permute(2, 1, 0).numpy()[cell.reshape(-1)].reshape(-1),
        zone=np.searchsorted(order.zones[:, 1], np.arange(width), side="right").astype(np.uint32),
        waves=waves[cell.reshape(-1)].reshape(-1),
        shares=student.depth.shares().detach().permute(2, 0, 3, 1).contiguous().numpy(),
        weak=spectrum.weak.contiguous().numpy(),
        strong=spectrum.strong.contiguous().numpy(),
        scalars=np.array(scalars, np.float32),
        size=order.size,
        grid=np.array(
            [2 * (plane.rows + KERNEL) * stride, 2 * stride, plane.rows, plane.circular], np.uint32
        ),
    )


def _members(order: Order) -> IndexArray:
    """See `Tables.member`."""
    column = np.arange(order.cell.shape[1])
    inside = (column >= order.zones[:, :1]) & (column < order.zones[:, 1:])
    real = inside[:, None] & (order.cell >= 0)
    bits: IndexArray = (real.reshape(*real.shape[:2], -1, LANES) << np.arange(LANES)).sum(3).astype(np.uint32)
    return bits


def _numbers(sizes: NDArray[np.int64]) -> FloatArray:
    """See `Tables.numbers`; as in `Alone`."""
    share = (np.arange(sizes.max() + 1) + 0.5) / (sizes[:, None] + 1)
    # more hits than cells there are none
    return np.log(-np.log1p(-np.minimum(share, 0.9999))).astype(np.float32)
