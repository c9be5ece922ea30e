"""The weights of a model as tables of the compiled loops."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from caloforge.models.layered.cell_sampler import CellSampler
from caloforge.models.layered.constants import ANISOTROPY_KERNEL, KERNEL, LANES, LEAST_WHOLE, MODES, SEEN
from caloforge.models.layered.couplings import StudentCoupling
from caloforge.models.layered.energy_transform import SPLIT
from caloforge.models.layered.independent_cells import PARAMETER_SCALE
from caloforge.models.layered.layer_sampler import LayerSampler, tails_of
from caloforge.models.layered.noise_layout import NoiseLayout
from caloforge.models.layered.numba_backend.generator import CompiledGenerator
from caloforge.models.layered.numba_backend.weight_tables import (
    AxisTables,
    CellTables,
    FloatArray,
    FlowTables,
    IndexArray,
    LayerTables,
)
from caloforge.models.layered.shower_windows import ShowerWindows

if TYPE_CHECKING:
    from caloforge.models.layered.model import Layered

# added to the log rate where there is no cell
NO_CELL = -60.0


def compiled_generator(model: Layered) -> CompiledGenerator:
    """The compiled form of a model on the CPU."""
    return CompiledGenerator(
        layer_tables(model.layer_sampler, model.leakage_correction),
        cell_tables(model.cell_sampler, model.noise_layout, model.detector.shower_shape[2]),
        model.detector,
        model.facts,
        None if model.windows is None else axis_tables(model.windows, model.cell_sampler, model.noise_layout),
    )


def axis_tables(windows: ShowerWindows, sampler: CellSampler, layout: NoiseLayout) -> AxisTables:
    """Tables of the windows around the axes of showers, on the CPU."""
    frame, expectation, geometry = windows.frame, windows.expectation, windows.geometry
    cell, columns = np.maximum(layout.cell, 0).reshape(-1), frame.columns
    half = frame.reach
    independent, student, terms = sampler.independent, sampler.student, windows.terms
    weights = torch.cat([PARAMETER_SCALE * independent.axis_coefficients, student.axis_offsets]).detach()
    # (layers, K, w)
    rate, energy, rate_offset, mean_offset = (
        _columns(terms.averaged(part).transpose(0, 1), layout) for part in weights
    )
    class_tables = (expectation.class_energy, expectation.class_hits)
    whole = [
        (table[:, expectation.symmetry_class] @ expectation.membership).clamp_min(LEAST_WHOLE)
        for table in class_tables
    ]
    scales = [frame.largest_slope, *frame.inclinations, float(frame.inclined)]
    return AxisTables(
        depth=frame.depth.numpy(),
        frame=torch.stack([frame.centre, frame.cell_size]).numpy(),
        scales=np.array(scales),
        shape=np.array([frame.rows, columns, *half], np.int64),
        place_x=(cell % geometry.columns - half[0]).astype(np.float32),
        place_y=(cell // geometry.columns - half[1]).astype(np.float32),
        real=(layout.cell >= 0).reshape(-1).astype(np.float32),
        class_energy=_columns(expectation.class_energy, layout),
        class_hits=_columns(expectation.class_hits, layout),
        whole=torch.stack(whole).numpy(),
        mean=expectation.mean.T.contiguous().numpy(),
        spread=expectation.spread.T.contiguous().numpy(),
        least_root=expectation.least_root.reshape(1).numpy(),
        seen=(SEEN * geometry.radial_bin_sizes).astype(np.float32),
        operations=terms.operations.numpy(),
        rate=rate,
        rate_offset=rate_offset,
        energy=np.ascontiguousarray(energy.swapaxes(1, 2)),
        mean_offset=np.ascontiguousarray(mean_offset.swapaxes(1, 2)),
        median_energy=independent.energy_transform.median_energy.reshape(1).numpy(),
    )


def _columns(values: Tensor, layout: NoiseLayout) -> FloatArray:
    """Values (..., classes) by column, (..., w)."""
    result = np.zeros((*values.shape[:-1], layout.cell.shape[1]), np.float32)
    result[..., layout.columns] = values.numpy()
    return result


def layer_tables(sampler: LayerSampler, leakage_correction: Tensor) -> LayerTables | FlowTables:
    """Tables of a layer sampler on the CPU."""
    marginals = {
        "mean": sampler.mean.contiguous().numpy(),
        "spread": sampler.spread.contiguous().numpy(),
        "quantiles": sampler.quantiles.mT.contiguous().numpy(),
        "tails": torch.stack(tails_of(sampler.quantiles), dim=1).numpy(),
        "centres": sampler.centres.contiguous().numpy(),
        "leakage_correction": leakage_correction.numpy(),
    }
    resampler, flow, layout = sampler.resampler, sampler.flow, sampler.layout
    if resampler is None:
        assert flow is not None
        names = ("directions", "widths", "tables", "rest_mean", "rest_scale")
        shape = (0, 0) if layout is None else (layout.layers, layout.radial_bins)
        return FlowTables(
            **marginals,
            **{name: getattr(flow, name).contiguous().numpy() for name in names},
            leading_mean=flow.leading_mean.T.contiguous().numpy(),
            leading_scale=flow.leading_scale.T.contiguous().numpy(),
            table_tails=torch.stack(flow.table_tails(), dim=1).numpy(),
            mixing=flow.mixing.T.contiguous().numpy(),
            roots=np.zeros(shape, np.float32),
        )
    return LayerTables(
        normal_scores=resampler.normal_scores.float().contiguous().numpy(),
        neighbours=resampler.neighbours.contiguous().numpy(),
        coordinates=resampler.coordinates.contiguous().numpy(),
        directions=resampler.directions.contiguous().numpy(),
        windows=resampler.windows.contiguous().numpy(),
        front=resampler.front.contiguous().numpy(),
        back=resampler.back.contiguous().numpy(),
        layers=resampler.layers,
        least=sampler.least.contiguous().numpy(),
        **marginals,
    )


def cell_tables(sampler: CellSampler, layout: NoiseLayout, mesh_columns: int) -> CellTables:
    """Tables of a cell sampler on the CPU.

    Args:
        sampler: The cell sampler.
        layout: Of the noise.
        mesh_columns: Columns of the mesh: of windows of it, cells are counted from their first one.
    """
    geometry, student, independent = sampler.geometry, sampler.student, sampler.independent
    # the cells of a class are in one ring, and so in one radial bin
    example = np.unique(geometry.symmetry_class, return_index=True)[1]
    ring = geometry.ring[example]
    real, cell, width = layout.cell >= 0, np.maximum(layout.cell, 0).astype(np.uint32), layout.cell.shape[1]
    row_lanes = np.stack([layout.ends[:, 0] // LANES, -(-layout.ends[:, 1] // LANES)], axis=1) * LANES
    stride = geometry.columns + KERNEL
    ring_gain = student.log_gain.detach().exp()[:, :, ring]

    def ordered(values: Tensor) -> FloatArray:
        """(..., layers, classes) as (layers, ..., w)."""
        values = values.detach().movedim(-2, 0)
        result = np.zeros((*values.shape[:-1], width), np.float32)
        result[..., layout.columns] = values.numpy()
        return result

    transform = independent.energy_transform
    ends = (transform.knots[[0, -1]] - transform.knots[SPLIT]).tolist()
    median_energy, split = float(transform.median_energy), float(transform.knots[SPLIT])
    scalars = [math.log(median_energy), median_energy, transform.minimum, independent.threshold, split, *ends]
    scalars += transform.middles
    scalars.append(float(student.preference))
    modes = student.azimuthal.modes.view(geometry.cells, MODES, -1).sum(2).numpy()
    kernels = _kernel_rows(student)
    kernel_size = 3 * KERNEL * LANES
    double_angle = student.weighted_double_angle().detach().permute(2, 1, 0)
    radial_bin = np.searchsorted(layout.bin_columns[:, 1], np.arange(width), side="right")
    return CellTables(
        cell=(cell // geometry.columns * mesh_columns + cell % geometry.columns)
        .astype(np.uint32)
        .reshape(-1),
        noise_index=layout.noise_index.reshape(-1).astype(np.uint32),
        noise_offset=layout.starts - layout.ends[:, 0],
        row_lanes=row_lanes.astype(np.uint32),
        kernel_start=(2 * (cell // geometry.columns * stride + cell % geometry.columns)).reshape(-1),
        column=np.broadcast_to(np.arange(width, dtype=np.uint32), cell.shape).reshape(-1),
        log_mask=np.where(real, 0, NO_CELL).astype(np.float32),
        direction=np.ascontiguousarray(geometry.direction[:, cell.reshape(-1)]),
        bin_columns=layout.bin_columns.astype(np.uint32),
        bin_blocks=np.stack(
            [layout.bin_columns[:, 0] // LANES, -(-layout.bin_columns[:, 1] // LANES)], axis=1
        ),
        bin_mask=_bin_mask(layout),
        radial_bin_sizes=np.stack([geometry.radial_bin_sizes, sampler.max_hits.numpy()]).astype(np.float32),
        uniform_log_rate=_uniform_log_rate(geometry.radial_bin_sizes),
        coefficients=ordered(PARAMETER_SCALE * independent.coefficients),
        position_coefficients=ordered(
            PARAMETER_SCALE
            * torch.cat(
                [independent.position_coefficients.flatten(0, 1), independent.scaled_position_coefficients]
            )
        ),
        offsets=ordered(student.offsets.flatten(0, 1)),
        gain=ordered((1 + student.gain) * ring_gain),
        residual_weight=ordered(student.residual_weight[:, :, ring]),
        skewness=ordered(sampler.residual_skewness.skewness),
        kernels=kernels.reshape(-1),
        kernel_offset=(kernel_size * geometry.kernel_of_cell)[cell.reshape(-1)].astype(np.uint32),
        double_angle=double_angle.numpy()[cell.reshape(-1)].reshape(-1),
        radial_bin=radial_bin.astype(np.uint32),
        modes=modes[cell.reshape(-1)].reshape(-1),
        mode_coupling=student.azimuthal.coupling().detach().permute(2, 0, 3, 1).contiguous().numpy(),
        centred_low=transform.centred_low.contiguous().numpy(),
        centred_high=transform.centred_high.contiguous().numpy(),
        scalars=np.array(scalars, np.float32),
        noise_size=layout.size,
        grid=np.array(
            [2 * (geometry.rows + KERNEL) * stride, 2 * stride, geometry.rows, geometry.circular], np.uint32
        ),
    )


def _kernel_rows(student: StudentCoupling) -> FloatArray:
    """(kernels, 3, KERNEL, LANES) see `CellTables.kernels`: from a hit to the cells around it."""
    geometry = student.geometry
    # convolutions go the other way, and a kernel is that of the cell which sums
    back = geometry.opposite_displacement(KERNEL)
    isotropic = student.kernel().detach().flatten(1)[:, back]
    kernels = torch.zeros(2, geometry.kernels, 3, KERNEL, KERNEL)
    kernels[:, :, 0] = isotropic.view(2, -1, KERNEL, KERNEL)
    kernels[:, :, 0] *= student.reach.view(-1, KERNEL, KERNEL)
    if not geometry.circular:
        inner = slice((KERNEL - ANISOTROPY_KERNEL) // 2, (KERNEL + ANISOTROPY_KERNEL) // 2)
        anisotropic = student.anisotropic_kernel().detach()
        kernels[:, 0, 1:, inner, inner] = anisotropic.view(2, 2, ANISOTROPY_KERNEL, -1).flip(2, 3)
    pairs = kernels.permute(1, 2, 3, 4, 0).flatten(3).numpy()
    rows: FloatArray = np.pad(pairs, ((0, 0), (0, 0), (0, 0), (0, LANES - 2 * KERNEL)))
    return rows


def _bin_mask(layout: NoiseLayout) -> IndexArray:
    """See `CellTables.bin_mask`."""
    column = np.arange(layout.cell.shape[1])
    inside = (column >= layout.bin_columns[:, :1]) & (column < layout.bin_columns[:, 1:])
    real = inside[:, None] & (layout.cell >= 0)
    bits: IndexArray = (real.reshape(*real.shape[:2], -1, LANES) << np.arange(LANES)).sum(3).astype(np.uint32)
    return bits


def _uniform_log_rate(sizes: NDArray[np.int64]) -> FloatArray:
    """See `CellTables.uniform_log_rate`; as in `IndependentCells`."""
    occupancy = (np.arange(sizes.max() + 1) + 0.5) / (sizes[:, None] + 1)
    # the table is rectangular: no bin has more hits than cells
    return np.log(-np.log1p(-np.minimum(occupancy, 0.9999))).astype(np.float32)
