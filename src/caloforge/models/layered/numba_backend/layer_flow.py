"""The learned density of the layer features as loops. Importing this compiles nothing.

Twin of `models/layered/layer_flow.py`, and of `LayerSampler` around it.
"""

from __future__ import annotations

import math

import numpy as np

from caloforge.models.layered.constants import (
    FLOW_KNOTS,
    FLOW_LAST,
    FLOW_LEADING,
    LARGEST_LOG_SCALE,
    LEAST_ROOT,
)
from caloforge.models.layered.numba_backend.float_math import ONE, ZERO, exp, f32, inner
from caloforge.models.layered.numba_backend.layer_sampler import (
    energy_bin,
    mean_and_spread,
    standard_value,
)

LAST, STEP = f32(FLOW_LAST), f32(2 * FLOW_LAST / (FLOW_KNOTS - 1))
LIMIT = f32(LARGEST_LOG_SCALE)


@inner
def flow_features(tables, columns, noise, spreads, out):
    """Features of a shower, Eq. 5a to 6.

    Args:
        tables: `FlowTables`.
        columns: (at least 1,) of the shower, see `LayerSampler.columns`.
        noise: (at least FLOW_LEADING + size,) standard normal.
        spreads: (size,) memory.
        out: (size,) filled.
    """
    size, count = len(out), len(columns)
    numbers = np.zeros(count + FLOW_LEADING, f32)
    numbers[:count] = columns
    for place in range(FLOW_LEADING):
        mean, scale = _regressions(tables.leading_mean[place], tables.leading_scale[place], numbers)
        numbers[count + place] = mean + exp(scale) * _shape(tables, place, noise[place])
    scores = np.zeros(size, f32)
    # row by row, so that each loop is over adjacent numbers
    for j in range(size):
        number, row = noise[FLOW_LEADING + j], tables.mixing[j]
        for k in range(j, size):
            scores[k] += number * row[k]
    _rest(tables, numbers, spreads, scores)
    for d in range(FLOW_LEADING):
        missing = numbers[count + d] * tables.widths[d]
        for k in range(size):
            missing -= scores[k] * tables.directions[d, k]
        # directions are orthonormal: one after the other is the same as all at once
        for k in range(size):
            scores[k] += missing * tables.directions[d, k]
    lower, weight = energy_bin(tables.centres, columns[0])
    low, high = tables.quantiles[lower], tables.quantiles[lower + 1]
    low_tails, high_tails = tables.tails[lower], tables.tails[lower + 1]
    mean_and_spread(tables, columns, out, spreads)
    for k in range(size):
        out[k] += spreads[k] * standard_value(low, high, low_tails, high_tails, weight, k, scores[k])
    if len(tables.roots) > 0:
        _features_of_roots(tables.roots, spreads, out)


@inner
def _regressions(mean, scale, numbers):
    """Mean and limited log scale from coefficients (terms,) each."""
    value, logarithm, term, count = mean[0], scale[0], 1 + len(numbers), len(numbers)
    for i in range(count):
        value += mean[1 + i] * numbers[i]
        logarithm += scale[1 + i] * numbers[i]
        for j in range(i, count):
            value += mean[term] * numbers[i] * numbers[j]
            term += 1
    logarithm += scale[1 + count] * numbers[0] * numbers[0]
    return value, min(max(logarithm, -LIMIT), LIMIT)


@inner
def _shape(tables, place, number):
    table, tails = tables.tables[place], tables.table_tails[place]
    knot = (number + LAST) / STEP
    lower = np.int64(min(max(f32(math.floor(knot)), ZERO), f32(FLOW_KNOTS - 2)))
    inside = min(max(knot - f32(lower), ZERO), ONE)
    value = table[lower] + inside * (table[lower + 1] - table[lower])
    return value + max(number - LAST, ZERO) * tails[1] + min(number + LAST, ZERO) * tails[0]


@inner
def _rest(tables, numbers, scales, scores):
    """Turn correlated normal numbers into scores without their leading coordinates, in place."""
    count, size = len(numbers), len(scores)
    for k in range(size):
        scales[k] = tables.rest_scale[0, k] + tables.rest_scale[1 + count, k] * numbers[0] * numbers[0]
    for i in range(count):
        number, row = numbers[i], tables.rest_scale[1 + i]
        for k in range(size):
            scales[k] += number * row[k]
    for k in range(size):
        scores[k] *= exp(min(max(scales[k], -LIMIT), LIMIT))
        scores[k] += tables.rest_mean[0, k]
    term = 1 + count
    for i in range(count):
        number, row = numbers[i], tables.rest_mean[1 + i]
        for k in range(size):
            scores[k] += number * row[k]
        for j in range(i, count):
            product, row = numbers[i] * numbers[j], tables.rest_mean[term]
            term += 1
            for k in range(size):
                scores[k] += product * row[k]


@inner
def _features_of_roots(roots, energies, out):
    """Energies of layers and log ratios in place of cube roots of the energies of bins.

    Args:
        roots: (layers, bins) empty.
        energies: (size,) memory.
        out: (size,) changed.
    """
    layers, bins = roots.shape
    for k in range(layers * bins):
        energies[k] = max(out[1 + k], f32(LEAST_ROOT)) ** 3
    for layer in range(layers):
        first = layer * bins
        rest = energies[first + bins - 1]
        for radial_bin in range(bins - 2, -1, -1):
            own = energies[first + radial_bin]
            out[1 + layers + layer * (bins - 1) + radial_bin] = f32(math.log(own / rest))
            rest += own
        out[1 + layer] = rest ** f32(1 / 3)
