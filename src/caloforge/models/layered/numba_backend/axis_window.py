"""Windows around the axes of showers as loops: expected features, shares, terms of cells.

Twin of `models/layered/shower_frame.py` and `axis_expectation.py`. Importing this compiles nothing.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from caloforge.conditions import Conditions
from caloforge.models.layered.constants import (
    AXIS_MEAN_DEGREE,
    AXIS_SPREAD_DEGREE,
    AXIS_TERMS,
    EMPTY_ROOT,
    LANES,
    LARGEST_GROWTH,
    LEAST_HALF,
    LEAST_SHARE,
    LEAST_SLOPE,
    POSITION_FEATURES,
    ROUNDING,
    SLOPE_TERMS,
)
from caloforge.models.layered.numba_backend.float_math import HALF, ONE, ZERO, exp, f32, inner
from caloforge.models.layered.numba_backend.simd import larger, load, smaller, store
from caloforge.models.layered.numba_backend.weight_tables import AxisTables

LIMIT, LEAST, SMALL = f32(LARGEST_GROWTH), f32(LEAST_SHARE), f32(LEAST_SLOPE)
NO_HITS = f32(EMPTY_ROOT)
# added to log rates outside of the mesh
OUTSIDE = f32(60.0)


class AxisPositions(NamedTuple):
    """Where the axes of N showers cross the layers, see `AxisPosition`; float32 but for `cell`.

    Attributes:
        cell: (N, layers, 2) int64.
        remainder: (N, layers, 2).
        slope: (N, 2).
        inclination: (N,) scaled, -1 to 1 over the trained range.
    """

    cell: NDArray[np.int64]
    remainder: NDArray[np.float32]
    slope: NDArray[np.float32]
    inclination: NDArray[np.float32]


class AxisWorkspace(NamedTuple):
    """Arrays for what a shower's axis changes.

    Attributes:
        shares: (3, layers, bins) of energy, of hits, number of cells; see `Shares`.
        growth: (layers,) see `growth`.
        terms: (operations, K) of a layer, Eq. 22.
        mean_terms: Terms of the means of the features of a layer, Eq. 24.
        spread_terms: Likewise of the spreads.
        available: (w,) number of cells of each column that are in the mesh.
    """

    shares: NDArray[np.float32]
    growth: NDArray[np.float32]
    terms: NDArray[np.float32]
    mean_terms: NDArray[np.float32]
    spread_terms: NDArray[np.float32]
    available: NDArray[np.float32]


def axis_positions(tables: AxisTables, conditions: Conditions) -> tuple[AxisPositions, NDArray[np.float32]]:
    """Positions of the axes of showers, and their inclinations, which are not scaled."""
    theta, phi = conditions.theta.astype(np.float64), conditions.phi.astype(np.float64)
    slope = np.stack([np.sin(phi) / np.cos(phi), np.cos(theta) / (np.sin(theta) * np.cos(phi))], axis=1)
    impact = np.stack([conditions.impact_x, conditions.impact_y], axis=1).astype(np.float64)
    axis = tables.frame[0] + slope[:, None] * tables.depth[:, None] / tables.frame[1]
    axis = axis + (impact / tables.frame[1])[:, None]
    cell = np.floor(axis + 0.5 + ROUNDING)
    inclination = np.sqrt(1 + (slope**2).sum(1)).astype(np.float32)
    largest, low, high, inclined = tables.scales
    middle, half = (low + high) / 2, max((high - low) / 2, LEAST_HALF)
    positions = AxisPositions(
        cell=cell.astype(np.int64),
        remainder=(2 * (axis - cell)).astype(np.float32),
        slope=(slope / largest).astype(np.float32) * np.float32(inclined),
        inclination=(inclination - np.float32(middle)) / np.float32(half),
    )
    return positions, inclination


def axis_workspace(axis: AxisTables) -> AxisWorkspace:
    """An `AxisWorkspace`, for any number of showers."""
    layers, bins = axis.whole.shape[1:]
    return AxisWorkspace(
        shares=np.empty((3, layers, bins), np.float32),
        growth=np.empty(layers, np.float32),
        terms=np.empty((len(axis.operations), axis.rate.shape[1]), np.float32),
        mean_terms=np.empty(axis.mean.shape[1], np.float32),
        spread_terms=np.empty(axis.spread.shape[1], np.float32),
        available=np.zeros(axis.rate.shape[2], np.float32),
    )


@inner
def outside(axis, column, row, place):
    """0 for the lanes whose cell is in the mesh, -1 for others; column and row are those of the axis."""
    x, y = load(axis.place_x, place), load(axis.place_y, place)
    nearest_x = smaller(x + f32(column), f32(axis.shape[1] - 1 - column) - x)
    nearest_y = smaller(y + f32(row), f32(axis.shape[0] - 1 - row) - y)
    return larger(smaller(smaller(nearest_x, nearest_y), ZERO), -ONE)


@inner
def expected_shares(tables, axis, position, n, work):
    """Shares of the radial bins of a shower that are in the mesh, see `AxisExpectation.shares`."""
    rows, width = tables.log_mask.shape
    for layer in range(work.shares.shape[1]):
        column, row = position.cell[n, layer, 0], position.cell[n, layer, 1]
        for block in range(0, width, LANES):
            total = load(work.available, block) * ZERO
            for m in range(rows):
                if tables.row_lanes[m, 0] <= block < tables.row_lanes[m, 1]:
                    place = m * width + block
                    inside = ONE + outside(axis, column, row, place)
                    total = total + inside * load(axis.real, place)
            store(total, work.available, block)
        for radial_bin in range(len(tables.bin_columns)):
            energy, hits, cells = ZERO, ZERO, ZERO
            for k in range(tables.bin_columns[radial_bin, 0], tables.bin_columns[radial_bin, 1]):
                number = work.available[k]
                energy += number * axis.class_energy[layer, k]
                hits += number * axis.class_hits[layer, k]
                cells += number
            work.shares[0, layer, radial_bin] = max(energy / axis.whole[0, layer, radial_bin], LEAST)
            work.shares[1, layer, radial_bin] = max(hits / axis.whole[1, layer, radial_bin], LEAST)
            work.shares[2, layer, radial_bin] = cells


@inner
def expected_features(axis, position, n, energy_argument, work, features):
    """Turn what is left of the features of a shower into features, see `AxisExpectation.features`."""
    layers, bins = work.shares.shape[1:]
    ratios, counts = 1 + layers, 1 + layers * bins
    places = features[len(features) - POSITION_FEATURES :]
    _turn_back(position.slope[n], places)
    inclination = position.inclination[n]
    _common_terms(energy_argument, inclination, work)
    # features of the whole shower have no terms of a layer
    own, own_spread = AXIS_MEAN_DEGREE + 7, AXIS_SPREAD_DEGREE + 4
    work.mean_terms[own:] = ZERO
    work.spread_terms[own_spread:] = ZERO
    _expect(axis, work, 0, features)
    for layer in range(layers):
        _layer_terms(position, n, layer, energy_argument, places, work)
        _expect(axis, work, 1 + layer, features)
        for k in range(bins - 1):
            _expect(axis, work, ratios + layer * (bins - 1) + k, features)
        for k in range(bins):
            place = counts + layer * bins + k
            empty = features[place] < NO_HITS / f32(2)
            _expect(axis, work, place, features)
            # of the whole window; those in the mesh are fewer
            features[place] *= f32(math.sqrt(work.shares[1, layer, k]))
            if empty:
                features[place] = NO_HITS
            elif work.shares[2, layer, k] >= axis.seen[k]:
                features[place] = max(features[place], axis.least_root[0])


@inner
def _turn_back(slope, places):
    size = f32(math.sqrt(slope[0] * slope[0] + slope[1] * slope[1]))
    x, y = ONE, ZERO
    if size > SMALL:
        x, y = slope[0] / size, slope[1] / size
    for k in range(0, POSITION_FEATURES, 2):
        along, across = places[k], places[k + 1]
        places[k], places[k + 1] = along * x - across * y, across * x + along * y


@inner
def _common_terms(t, c, work):
    """Terms of energy and inclination; see `AxisExpectation._terms`."""
    mean, spread = work.mean_terms, work.spread_terms
    power = ONE
    for k in range(AXIS_MEAN_DEGREE + 1):
        mean[k] = power
        if k <= AXIS_SPREAD_DEGREE:
            spread[k] = power
        power *= t
    k = AXIS_MEAN_DEGREE + 1
    mean[k], mean[k + 1], mean[k + 2] = c, c * c, c * c * c
    mean[k + 3], mean[k + 4], mean[k + 5] = t * c, t * t * c, t * c * c
    k = AXIS_SPREAD_DEGREE + 1
    spread[k], spread[k + 1], spread[k + 2] = c, c * c, t * c


@inner
def _layer_terms(position, n, layer, t, places, work):
    """Terms of the remainder in a layer."""
    mean, spread, c = work.mean_terms, work.spread_terms, position.inclination[n]
    x, y, slope = position.remainder[n, layer, 0], position.remainder[n, layer, 1], position.slope[n]
    square, product = x * x + y * y, x * x * y * y
    k = AXIS_MEAN_DEGREE + 7
    mean[k], mean[k + 1], mean[k + 2] = square, square * square, product
    mean[k + 3], mean[k + 4], mean[k + 5] = t * square, t * t * square, t * square * square
    mean[k + 6], mean[k + 7], mean[k + 8] = t * product, c * square, x * slope[0] + y * slope[1]
    mean[k + 9], mean[k + 10] = x * places[0] + y * places[1], x * places[2] + y * places[3]
    k = AXIS_SPREAD_DEGREE + 4
    spread[k], spread[k + 1], spread[k + 2] = square, square * square, product
    spread[k + 3], spread[k + 4] = t * square, c * square


@inner
def _expect(axis, work, place, features):
    mean, spread = ZERO, ZERO
    for k in range(len(work.mean_terms)):
        mean += axis.mean[place, k] * work.mean_terms[k]
    for k in range(len(work.spread_terms)):
        spread += axis.spread[place, k] * work.spread_terms[k]
    features[place] = mean + exp(min(max(spread, f32(-20)), f32(20))) * features[place]


@inner
def set_growth(axis, work):
    """Replace the energies of layers by the change of their logarithm from layer to layer, see `growth`."""
    growth, median_energy = work.growth, axis.median_energy[0]
    last = len(growth) - 1
    before = own = f32(math.log(growth[0] + median_energy))
    for layer in range(len(growth)):
        after = f32(math.log(growth[min(layer + 1, last)] + median_energy))
        growth[layer] = min(max((after - before) / f32(2), -LIMIT), LIMIT)
        before, own = own, after


@inner
def cell_terms(axis, position, n, layer, t, work):
    """Terms of remainder and direction in the frame of each operation, Eq. 22; see `_terms`."""
    x, y = position.remainder[n, layer, 0], position.remainder[n, layer, 1]
    along_x, along_y, change = position.slope[n, 0], position.slope[n, 1], work.growth[layer]
    for m in range(len(axis.operations)):
        turn, out = axis.operations[m], work.terms[m]
        a, b = turn[0, 0] * x + turn[1, 0] * y, turn[0, 1] * x + turn[1, 1] * y
        out[0], out[1], out[2], out[3], out[4] = a, b, a * a, a * b, b * b
        out[5], out[6], out[7], out[8] = a * a * a, a * a * b, a * b * b, b * b * b
        if len(out) == AXIS_TERMS + SLOPE_TERMS:
            c = turn[0, 0] * along_x + turn[1, 0] * along_y
            d = turn[0, 1] * along_x + turn[1, 1] * along_y
            out[9], out[10], out[11], out[12], out[13] = c, d, c * c, c * d, d * d
            out[14], out[15], out[16], out[17] = change * c, change * d, t * c, t * d


@inner
def outside_mask(axis, position, n, layer, place):
    """Added to log rates: 0 for lanes whose cell is in the mesh, a large negative number for others."""
    return outside(axis, position.cell[n, layer, 0], position.cell[n, layer, 1], place) * OUTSIDE


@inner
def uniform_log_rate_of(window, layer, radial_bin, hits):
    """Log rate if all cells of a radial bin that are in the mesh were alike, eta of Eq. 10."""
    occupancy = (hits + HALF) / (window.shares[2, layer, radial_bin] + ONE)
    return f32(math.log(-math.log1p(-occupancy)))


@inner
def add_terms(value, weights, layer, block, terms, m):
    """A vector of cells of one row, and the polynomials of Eq. 22 added to it; weights are (layers, K, w)."""
    start, width = layer * weights.shape[1] * weights.shape[2] + block, weights.shape[2]
    for k in range(terms.shape[1]):
        value = value + load(weights, start + k * width) * terms[m, k]
    return value


@inner
def hit_terms(weights, layer, column, terms, m):
    """The polynomial of Eq. 22 of one cell; weights are (layers, w, K)."""
    value = ZERO
    for k in range(terms.shape[1]):
        value += weights[layer, column, k] * terms[m, k]
    return value
