"""The layer sampler as loops over the features of one shower. Importing this compiles nothing.

Twin of `models/layered/layer_sampler.py`, `neighbour_resampler.py` and `features.py`.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit

from caloforge.models.layered.constants import (
    EMPTY_BELOW,
    EMPTY_ROOT,
    FIRST_JOINT,
    FOLD,
    JITTER,
    KNOTS,
    LARGEST_SCORE,
    LAST_SCORE,
    LEADING,
    LEAST_GAP,
    MEAN_DEGREE,
    NEIGHBOURS,
    SPAN,
    WINDOW_KNOTS,
)
from caloforge.models.layered.numba_backend.float_math import HALF, ONE, ZERO, exp, f32, inner

LAST, STEP, LIMIT = f32(LAST_SCORE), f32(2 * LAST_SCORE / (KNOTS - 1)), f32(LARGEST_SCORE)
JITTER_WEIGHT, NO_HITS = f32(JITTER), f32(EMPTY_ROOT)
# without fastmath, in the order of the tensors: a rounding may select another stored shower
exact = njit(error_model="numpy")


class Splice(NamedTuple):
    """What a shower is spliced from, Eq. 4 and 5.

    Attributes:
        own: Index of the stored shower that the middle layers come from.
        front: Of the one that the front layers come from.
        back: Of the one that the back layers come from.
        joint: Layer up to which features come from the front shower.
        lower: Lower energy bin of the quantile tables.
        upper_weight: Weight of the upper one.
    """

    own: np.int64
    front: np.int64
    back: np.int64
    joint: np.float32
    lower: int
    upper_weight: np.float32


@exact
def draw_splice(tables, columns, particle, noise):
    """Draw a `Splice`.

    Args:
        tables: `LayerTables`.
        columns: (at least 1,) of the shower, see `LayerSampler.columns`.
        particle: Index of the particle.
        noise: (at least RESAMPLER_NOISE,) standard normal.
    """
    energy_argument, centres, window = columns[0], tables.centres, tables.windows[particle]
    knot = (min(max(energy_argument, -ONE), ONE) + ONE) * f32((WINDOW_KNOTS - 1) / 2)
    low = min(max(f32(math.floor(knot)), ZERO), f32(WINDOW_KNOTS - 2))
    inside, k = knot - low, np.int64(low)
    first = window[0, k] + inside * (window[0, k + 1] - window[0, k])
    last = window[1, k] + inside * (window[1, k + 1] - window[1, k])
    own = np.int64(np.rint(first + _uniform_from_normal(noise[0]) * (last - first)))
    # stay within the arrays whatever the weights are
    own = min(max(own, np.int64(0)), np.int64(len(tables.normal_scores) - 1))
    front = np.int64(tables.neighbours[own, _neighbour(noise[1])])
    back = np.int64(tables.neighbours[own, _neighbour(noise[2])])
    begin, width = f32(FIRST_JOINT[0]), f32(FIRST_JOINT[1] - FIRST_JOINT[0])
    joint = (begin + width * _uniform_from_normal(noise[3])) * f32(tables.layers)
    lower, weight = energy_bin(centres, energy_argument)
    return Splice(own, front, back, joint, lower, weight)


@exact
def energy_bin(centres, energy_argument):
    """Lower energy bin of the quantile tables, and weight of the upper one."""
    lower = 0
    for other in range(1, len(centres) - 1):
        lower += energy_argument >= centres[other]
    weight = (energy_argument - centres[lower]) / max(centres[lower + 1] - centres[lower], f32(LEAST_GAP))
    return lower, min(max(weight, ZERO), ONE)


@exact
def _neighbour(x):
    return min(max(np.int64(_uniform_from_normal(x) * f32(NEIGHBOURS)), 0), NEIGHBOURS - 1)


@exact
def _uniform_from_normal(x):
    """See `uniform_from_normal`."""
    stretched = f32(FOLD) * x + ONE
    return abs(stretched - f32(4) * f32(math.floor(stretched / f32(4))) - f32(2)) / f32(2)


@inner
def splice_features(tables, columns, splice, spreads, out):
    """Features of a shower, Eq. 5 and 6.

    Args:
        tables: `LayerTables`.
        columns: (at least 1,) of the shower, see `LayerSampler.columns`.
        splice: `Splice`.
        spreads: (size,) memory.
        out: (size,) filled.
    """
    low, high = tables.quantiles[splice.lower], tables.quantiles[splice.lower + 1]
    low_tails, high_tails = tables.tails[splice.lower], tables.tails[splice.lower + 1]
    shifts = np.empty((3, LEADING), f32)
    rows = (splice.own, splice.front, splice.back)
    for d in range(LEADING):
        front, back = tables.coordinates[splice.front, d], tables.coordinates[splice.back, d]
        leading = tables.coordinates[splice.own, d] + JITTER_WEIGHT * (front - back)
        for part in range(3):
            shifts[part, d] = leading - tables.coordinates[rows[part], d]
    second = splice.joint + f32(SPAN) * f32(tables.layers)
    mean_and_spread(tables, columns, out, spreads)
    weight = splice.upper_weight
    for k in range(len(out)):
        part = 1 if tables.front[k] <= splice.joint else (2 if tables.back[k] > second else 0)
        row = splice.front if part == 1 else (splice.back if part == 2 else splice.own)
        score = tables.normal_scores[row, k]
        for d in range(LEADING):
            score += shifts[part, d] * tables.directions[d, k]
        made = out[k] + spreads[k] * standard_value(low, high, low_tails, high_tails, weight, k, score)
        out[k] = NO_HITS if score < f32(EMPTY_BELOW) else max(made, tables.least[k])


@inner
def standard_value(low, high, low_tails, high_tails, upper_weight, k, score):
    """Standardised feature k of a normal score, from the quantile tables of two bins of energy, Eq. 6."""
    score = min(max(score, -LIMIT), LIMIT)
    place = (score + LAST) / STEP
    knot = np.uint32(min(max(place, ZERO), f32(KNOTS - 2)))
    after = knot + np.uint32(1)
    inside = min(max(place - f32(knot), ZERO), ONE)
    above, below = max(score - LAST, ZERO), min(score + LAST, ZERO)
    first = low[k, knot] + inside * (low[k, after] - low[k, knot])
    first += above * low_tails[1, k] + below * low_tails[0, k]
    last = high[k, knot] + inside * (high[k, after] - high[k, knot])
    last += above * high_tails[1, k] + below * high_tails[0, k]
    return first + upper_weight * (last - first)


@inner
def mean_and_spread(tables, columns, means, spreads):
    """Mean and spread of every feature given the conditions; terms as in `LayerSampler`."""
    means[:] = ZERO
    spreads[:] = ZERO
    energy_argument, power = columns[0], ONE
    for term in range(MEAN_DEGREE + 1):
        _add_term(tables, power, term, means, spreads)
        power *= energy_argument
    term = MEAN_DEGREE + 1
    for column in range(1, len(columns)):
        other = columns[column]
        _add_term(tables, other, term, means, spreads)
        _add_term(tables, other * other, term + 1, means, spreads)
        _add_term(tables, other * energy_argument, term + 2, means, spreads)
        term += 3
    for k in range(len(spreads)):
        spreads[k] = exp(min(max(spreads[k], f32(-20)), f32(20)))


@inner
def _add_term(tables, value, term, means, spreads):
    for k in range(len(means)):
        means[k] += value * tables.mean[term, k]
        spreads[k] += value * tables.spread[term, k]


@inner
def bin_sums(tables, window, features, energy, max_hits, threshold, bin_energy, hit_counts):
    """Energies and numbers of hits of the radial bins of a shower, Eq. 7.

    Args:
        tables: `LayerTables`.
        window: `AxisWorkspace` with the shares of the bins that are in the mesh, or None.
        features: (size,), see `FeatureLayout`.
        energy: Incident energy, MeV.
        max_hits: (bins,) largest numbers of hits.
        threshold: Least energy of a cell, MeV.
        bin_energy: (layers, bins) MeV, filled.
        hit_counts: (layers, bins) filled.
    """
    layers, bins = hit_counts.shape
    log_ratios, counts = 1 + layers, 1 + layers * bins
    total, leakage = ZERO, ZERO
    for layer in range(layers):
        rest = max(features[1 + layer], ZERO) ** 3
        whole = ZERO
        for radial_bin in range(bins):
            number = max(features[counts + layer * bins + radial_bin], ZERO)
            count = f32(math.floor(number * number))
            own = rest
            if radial_bin < bins - 1:
                split = features[log_ratios + layer * (bins - 1) + radial_bin]
                own = rest / (ONE + exp(min(max(-split, f32(-80)), f32(80))))
                rest -= own
            if window is not None:
                count = min(count, window.shares[2, layer, radial_bin])
            hit_counts[layer, radial_bin] = min(count, max_hits[radial_bin])
            bin_energy[layer, radial_bin] = max(own, threshold) if count >= HALF else ZERO
            whole += bin_energy[layer, radial_bin]
        if window is not None:
            window.growth[layer] = whole
        total += whole
        leakage += whole * tables.leakage_correction[layer]
    total = max(total, threshold)
    # the sum of all bins is exactly the visible energy
    response = min(max(features[0] + leakage / total, f32(-80)), f32(80))
    factor = exp(response) * energy / total
    for layer in range(layers):
        for radial_bin in range(bins):
            bin_energy[layer, radial_bin] *= factor
            if window is not None:
                bin_energy[layer, radial_bin] *= window.shares[0, layer, radial_bin]
