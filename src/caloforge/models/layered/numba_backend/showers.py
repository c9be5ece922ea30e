"""Layer sampler and cell sampler one after the other. Importing this compiles nothing."""

from __future__ import annotations

import numpy as np

from caloforge.jit import compiled
from caloforge.models.layered.constants import POSITION_FEATURES
from caloforge.models.layered.numba_backend.axis_window import (
    expected_features,
    expected_shares,
    set_growth,
)
from caloforge.models.layered.numba_backend.cell_sampler import sample_cells, workspace
from caloforge.models.layered.numba_backend.draw_features import draw_features
from caloforge.models.layered.numba_backend.float_math import f32
from caloforge.models.layered.numba_backend.layer_sampler import bin_sums


@compiled(fastmath=True)
def make(layers, cells, axis, columns, particle, energy, position, window, noise, start, out):
    """Generate some of N showers.

    Args:
        layers: `LayerTables` or `FlowTables`.
        cells: `CellTables`.
        axis: `AxisTables` of windows around the axes of showers, or None.
        columns: (N, at least 1), see `LayerSampler.columns`; the first is the energy argument.
        particle: (N,) index of the particle.
        energy: (N,) incident energy, MeV.
        position: `AxisPositions` of N showers, or None.
        window: `AxisWorkspace`, or None.
        noise: (n, ...) of n showers: for the features, then for the cells.
        start: Index of the first of these showers.
        out: (N, layers, cells) MeV; n of them are filled.
    """
    size, shape = layers.mean.shape[1], (out.shape[1], len(cells.bin_columns))
    features, spreads = np.empty(size, f32), np.empty(size, f32)
    bin_energy, hit_counts, work = np.empty(shape, f32), np.empty(shape, f32), workspace(cells)
    for number in range(len(noise)):
        n = start + number
        draw_features(layers, columns[n], particle[n], noise[number], spreads, features)
        if axis is not None:
            expected_shares(cells, axis, position, n, window)
            expected_features(axis, position, n, columns[n, 0], window, features)
        bin_sums(
            layers,
            window,
            features,
            energy[n],
            cells.radial_bin_sizes[1],
            cells.scalars[3],
            bin_energy,
            hit_counts,
        )
        if axis is not None:
            set_growth(axis, window)
        condition = (
            bin_energy,
            hit_counts,
            features[len(features) - POSITION_FEATURES :],
            columns[n, 0],
        )
        first = (number + 1) * noise.shape[1] - 2 * len(out[n]) * cells.noise_size
        sample_cells(cells, axis, position, n, window, work, condition, noise.reshape(-1), first, out[n])
