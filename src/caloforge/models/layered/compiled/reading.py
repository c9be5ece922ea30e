"""The weights of a model as the tables of its loops."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from caloforge.models.layered.alone import MAP_GAIN
from caloforge.models.layered.cells import CellStage
from caloforge.models.layered.compiled.generator import CompiledGenerator
from caloforge.models.layered.compiled.tables import FloatArray, IndexArray, LayerTables, Tables
from caloforge.models.layered.constants import KERNEL, LANES, TURNED_KERNEL, WAVES
from caloforge.models.layered.layers import LayerStage, tails_of
from caloforge.models.layered.order import Order
from caloforge.models.layered.spectrum import SPLIT

if TYPE_CHECKING:
    from caloforge.models.layered.model import Layered

# added to log lambda where there is no cell
NOWHERE = -60.0


def generator_of(model: Layered) -> CompiledGenerator:
    """The compiled form of a model on the CPU."""
    return CompiledGenerator(
        layer_tables_of(model.layer_stage, model.balance),
        tables_of(model.cell_stage, model.order),
        model.detector,
        model.facts,
    )


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
