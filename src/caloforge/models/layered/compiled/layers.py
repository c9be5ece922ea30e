"""The first stage as loops over the numbers of a summary. Importing this compiles nothing.

What `models/layered/layers.py` and `summary.py` say in tensors, of one shower.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from caloforge.models.layered.compiled.arithmetic import HALF, ONE, ZERO, exp, f32, inner
from caloforge.models.layered.layers import (
    BLUR,
    KNOTS,
    LARGEST_SCORE,
    LAST_SCORE,
    LEAST_NEIGHBOURHOOD,
    MEAN_DEGREE,
    NEIGHBOURHOOD,
)

OWN, OTHERS = f32(math.sqrt(1 - BLUR**2)), f32(BLUR / math.sqrt(2))
LAST, STEP, LIMIT = f32(LAST_SCORE), f32(2 * LAST_SCORE / (KNOTS - 1)), f32(LARGEST_SCORE)
NEAR, LEAST = f32(NEIGHBOURHOOD), f32(LEAST_NEIGHBOURHOOD)


# a rounding may change a donor: sums in the order of the tensors
exact = njit(error_model="numpy")


@exact
def donors_of(tables, columns, particle, noise, rows):
    """Donors of a shower: whose scores it has, and of which others the difference.

    Args:
        tables: `LayerTables`.
        columns: (at least 1,) of the shower, see `LayerStage.columns`.
        particle: Which of the particles.
        noise: (at least DONORS,).
        rows: (DONORS,), filled.

    Returns:
        Lower bin of the energy, and share of the upper one.
    """
    argument, own, centres = columns[0], tables.ladder[particle], tables.centres
    rungs = len(own)
    k = 0
    for rung in range(1, rungs - 1):
        k += argument >= own[rung]
    inside = min(max((argument - own[k]) / (own[k + 1] - own[k]), ZERO), ONE)
    first = f32(tables.blocks[particle, 0])
    top = f32(tables.blocks[particle, 1]) - first
    rank = (f32(k) + inside) * (top / f32(rungs - 1))
    spread = max(top * NEAR, LEAST)
    for donor in range(len(rows)):
        # mirrored at both ends
        place = abs(rank + spread * noise[donor])
        rows[donor] = np.uint32(np.rint(max(top - abs(top - place), ZERO)) + first)
    lower = 0
    for other in range(1, len(centres) - 1):
        lower += argument >= centres[other]
    share = (argument - centres[lower]) / (centres[lower + 1] - centres[lower])
    return lower, min(max(share, ZERO), ONE)


@inner
def summarised(tables, columns, rows, lower, share, spreads, out):
    """Summary of a shower.

    Args:
        tables: `LayerTables`.
        columns: (at least 1,) of the shower, see `LayerStage.columns`.
        rows: (DONORS,), from `donors_of`.
        lower: From `donors_of`.
        share: Likewise.
        spreads: (size,) memory.
        out: (size,), filled.
    """
    one, two, three = tables.donors[rows[0]], tables.donors[rows[1]], tables.donors[rows[2]]
    low, high = tables.quantiles[lower], tables.quantiles[lower + 1]
    low_tails, high_tails = tables.tails[lower], tables.tails[lower + 1]
    _moments(tables, columns, out, spreads)
    for k in range(len(out)):
        score = OWN * one[k] + OTHERS * (two[k] - three[k])
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
        out[k] += spreads[k] * (first + share * (last - first))


@inner
def _moments(tables, columns, means, spreads):
    """Mean and spread of every number of a shower: the terms of `LayerStage` times their coefficients."""
    means[:] = ZERO
    spreads[:] = ZERO
    argument, power = columns[0], ONE
    for term in range(MEAN_DEGREE + 1):
        _add_term(tables, power, term, means, spreads)
        power *= argument
    term = MEAN_DEGREE + 1
    for column in range(1, len(columns)):
        other = columns[column]
        _add_term(tables, other, term, means, spreads)
        _add_term(tables, other * other, term + 1, means, spreads)
        _add_term(tables, other * argument, term + 2, means, spreads)
        term += 3
    for k in range(len(spreads)):
        spreads[k] = exp(min(max(spreads[k], f32(-20)), f32(20)))


@inner
def _add_term(tables, value, term, means, spreads):
    for k in range(len(means)):
        means[k] += value * tables.mean[term, k]
        spreads[k] += value * tables.spread[term, k]


@inner
def known(summary, energy, sizes, threshold, zone_energy, hits):
    """Energies in MeV and hits of the zones of the layers of a shower.

    Args:
        summary: (size,), see `Layout`.
        energy: Incident, MeV.
        sizes: (zones,) cells.
        threshold: Smallest energy of a cell, MeV.
        zone_energy: (layers, zones), filled.
        hits: The same.
    """
    layers, zones = hits.shape
    splits, counts = 1 + layers, 1 + layers * zones
    total = ZERO
    for layer in range(layers):
        rest = max(summary[1 + layer], ZERO) ** 3
        for zone in range(zones):
            number = max(summary[counts + layer * zones + zone], ZERO)
            count = f32(math.floor(number * number))
            own = rest
            if zone < zones - 1:
                split = summary[splits + layer * (zones - 1) + zone]
                own = rest / (ONE + exp(min(max(-split, f32(-80)), f32(80))))
                rest -= own
            own = max(own, threshold) if count >= HALF else ZERO
            hits[layer, zone] = min(count, sizes[zone])
            zone_energy[layer, zone] = own
            total += own
    # exactly the visible energy
    factor = exp(min(summary[0], f32(80))) * energy / max(total, threshold)
    for layer in range(layers):
        for zone in range(zones):
            zone_energy[layer, zone] *= factor
