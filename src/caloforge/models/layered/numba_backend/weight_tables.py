"""Weights of both samplers as arrays, in the order in which loops read them. Imports no torch."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]
IndexArray = NDArray[np.uint32]


class CellTables(NamedTuple):
    """Weights of the cell sampler as float32 and uint32 arrays, which are the argument of compiled loops.

    Indices are unsigned, as Numba checks signed ones for negative values. A layer is m rows of w places, see
    `NoiseLayout`.

    Attributes:
        cell: (m * w,) cell at each place, 0 where there is none.
        noise_index: (m * w,) index of its noise in that of the layer.
        noise_offset: (m,) index of the noise less the column, row by row.
        row_lanes: (m, 2) first column of the vectors of a row, and the one after the last.
        kernel_start: (m * w,) index where the kernel around a cell begins, in a padded layer of pairs.
        column: (m * w,) column of each place.
        log_mask: (m, w) 0, or a large negative number where there is no cell.
        direction: (2, m * w) unit vector from the axis.
        bin_columns: (bins, 2) first column of each radial bin, and the one after its last.
        bin_blocks: (bins, 2) first vector of each radial bin, and the one after its last.
        bin_mask: (bins, m, w / LANES) bits of the lanes that hold cells of each radial bin.
        radial_bin_sizes: (2, bins) cells, and largest number of hits.
        uniform_log_rate: (bins, largest size + 1) eta of Eq. 10 by number of hits.
        coefficients: (layers, 3, 4, w) of log rate, mean and log sigma, see `IndependentCells`.
        position_coefficients: (layers, 6, w) log rate by centre and depth covariance, mean by both, mean by
            both times the cube root of the energy of a hit.
        offsets: (layers, 3 * LEGENDRE_TERMS, w) see `StudentCoupling`.
        gain: (layers, 2, w) gains of added rates and of mean shifts, exp(log_gain) included.
        residual_weight: (layers, 2, w) see `StudentCoupling`.
        skewness: (layers, w) see `ResidualSkewness`.
        kernels: (kernels * 3 * KERNEL * LANES,) rows of the kernels as pairs for rate and mean: isotropic,
            cosine and sine part; mirrored, as loops go from a hit to the cells around it.
        kernel_offset: (m * w,) index of the first number of the kernel of each place.
        double_angle: (m * w * 4,) see `StudentCoupling.weighted_double_angle`: cosine for both kernels, then
            sine.
        radial_bin: (w,) radial bin of each column.
        modes: (m * w * MODES,) of the radial bin of each place, see `AzimuthalCoupling`.
        mode_coupling: (bins, MODE_SOURCES, bins, MODES) see `AzimuthalCoupling`.
        centred_low: (layers, bins, LOW_DEGREE + 1) see `EnergyTransform`.
        centred_high: (layers, bins, HIGH_DEGREE) likewise.
        scalars: (10,) logarithm of the median energy, median energy, transformed energy of the weakest hit,
            threshold, transformed energy of the knot SPLIT, distances of the first and the last knot from it,
            and of the middles of the ranges below and above; preference, see `StudentCoupling`.
        noise_size: Length of the noise of a layer.
        grid: (4,) numbers in a padded layer of pairs, and in a row of it; rows without padding; whether the
            first row follows the last.
    """

    cell: IndexArray
    noise_index: IndexArray
    noise_offset: NDArray[np.int64]
    row_lanes: IndexArray
    kernel_start: IndexArray
    column: IndexArray
    log_mask: FloatArray
    direction: FloatArray
    bin_columns: IndexArray
    bin_blocks: NDArray[np.int64]
    bin_mask: IndexArray
    radial_bin_sizes: FloatArray
    uniform_log_rate: FloatArray
    coefficients: FloatArray
    position_coefficients: FloatArray
    offsets: FloatArray
    gain: FloatArray
    residual_weight: FloatArray
    skewness: FloatArray
    kernels: FloatArray
    kernel_offset: IndexArray
    double_angle: FloatArray
    radial_bin: IndexArray
    modes: FloatArray
    mode_coupling: FloatArray
    centred_low: FloatArray
    centred_high: FloatArray
    scalars: FloatArray
    noise_size: int
    grid: IndexArray


class AxisTables(NamedTuple):
    """What the axes of showers change, see `ShowerFrame`, `AxisExpectation` and `AxisTerms`.

    Attributes:
        depth: (layers,) from where the track crosses the impact point, mm, float64.
        frame: (2, 2) centre of the mesh in cells, and size of a cell in mm, along x and y, float64.
        scales: (4,) largest slope, least and largest inclination, whether there are inclined showers,
            float64.
        shape: (4,) rows and columns of the mesh, and cells of a window on either side of its centre along x
            and y.
        place_x: (m * w,) x of each place from the centre of the window, in cells.
        place_y: (m * w,) y.
        real: (m * w,) 1 where there is a cell, else 0.
        class_energy: (layers, w) see `AxisExpectation`.
        class_hits: (layers, w) likewise.
        whole: (2, layers, bins) sums of both over all cells of a radial bin.
        mean: (size, terms) see `AxisExpectation`.
        spread: (size, terms).
        least_root: (1,) see `AxisExpectation`.
        seen: (bins,) numbers of cells in the mesh from which on a bin stays hit.
        operations: (operations, 2, 2) of the rows of places, see `CellImages`.
        rate: (layers, K, w) of the log rate without couplings, Eq. 22.
        rate_offset: (layers, K, w) of the offset of the log rate.
        energy: (layers, w, K) of the log energy of a hit.
        mean_offset: (layers, w, K) of the offset of the mean.
        median_energy: MeV.
    """

    depth: NDArray[np.float64]
    frame: NDArray[np.float64]
    scales: NDArray[np.float64]
    shape: NDArray[np.int64]
    place_x: FloatArray
    place_y: FloatArray
    real: FloatArray
    class_energy: FloatArray
    class_hits: FloatArray
    whole: FloatArray
    mean: FloatArray
    spread: FloatArray
    least_root: FloatArray
    seen: FloatArray
    operations: FloatArray
    rate: FloatArray
    rate_offset: FloatArray
    energy: FloatArray
    mean_offset: FloatArray
    median_energy: FloatArray


class LayerTables(NamedTuple):
    """Weights of the layer sampler; see `LayerSampler` and `NeighbourResampler`.

    Attributes:
        mean: (terms, size).
        spread: (terms, size).
        normal_scores: (showers, size).
        neighbours: (showers, NEIGHBOURS).
        coordinates: (showers, LEADING).
        directions: (LEADING, size).
        windows: (particles, 2, WINDOW_KNOTS).
        front: (size,).
        back: (size,).
        layers: Number of layers.
        quantiles: (energy bins, size, KNOTS).
        tails: (energy bins, 2, size) slopes below the first and above the last knot.
        centres: (energy bins,).
        leakage_correction: (layers,) beta of Eq. 2.
        least: (size,) least value of each feature.
    """

    mean: FloatArray
    spread: FloatArray
    normal_scores: FloatArray
    neighbours: NDArray[np.int16]
    coordinates: FloatArray
    directions: FloatArray
    windows: FloatArray
    front: FloatArray
    back: FloatArray
    layers: int
    quantiles: FloatArray
    tails: FloatArray
    centres: FloatArray
    leakage_correction: FloatArray
    least: FloatArray


class FlowTables(NamedTuple):
    """Weights of the layer sampler with a learned density; see `LayerSampler` and `LayerFlow`.

    Attributes:
        mean: (terms, size).
        spread: (terms, size).
        quantiles: (energy bins, size, KNOTS).
        tails: (energy bins, 2, size) slopes below the first and above the last knot.
        centres: (energy bins,).
        leakage_correction: (layers,) beta of Eq. 2.
        directions: (FLOW_LEADING, size).
        widths: (FLOW_LEADING,).
        leading_mean: (FLOW_LEADING, mean terms).
        leading_scale: (FLOW_LEADING, scale terms).
        tables: (FLOW_LEADING, FLOW_KNOTS).
        table_tails: (FLOW_LEADING, 2) slopes below the first and above the last knot.
        rest_mean: (mean terms, size).
        rest_scale: (scale terms, size).
        mixing: (size, size) transposed: a row holds what one normal number contributes to.
        roots: (layers, bins) if values are cube roots of the energies of bins, (0, 0) if they are features.
    """

    mean: FloatArray
    spread: FloatArray
    quantiles: FloatArray
    tails: FloatArray
    centres: FloatArray
    leakage_correction: FloatArray
    directions: FloatArray
    widths: FloatArray
    leading_mean: FloatArray
    leading_scale: FloatArray
    tables: FloatArray
    table_tails: FloatArray
    rest_mean: FloatArray
    rest_scale: FloatArray
    mixing: FloatArray
    roots: FloatArray
