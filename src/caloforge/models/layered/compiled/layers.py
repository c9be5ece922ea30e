"""The first stage as loops over the numbers of a summary. Importing this compiles nothing.

What `models/layered/layers.py` and `summary.py` say in tensors, shower by shower.
"""

from __future__ import annotations

import math

import numpy as np

from caloforge.machine_code import compiled
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


@compiled(fastmath=False)
def places(columns, particle, noise, ladder, blocks, centres, rows, lower, share):
    """Donors and bins of showers. Sums in the order of the tensors: a rounding may change a donor.

    Args:
        columns: (N, at least 1), see `LayerStage.columns`.
        particle: (N,) which of the particles.
        noise: (N, at least DONORS).
        ladder: (particles, rungs).
        blocks: (particles, 2).
        centres: (bins,).
        rows: (N, DONORS), filled: whose scores a shower has, and of which others the difference.
        lower: (N,), filled: lower bin of the energy.
        share: (N,), filled: share of the upper one.
    """
    rungs, bins = ladder.shape[1], len(centres)
    for n in range(len(columns)):
        argument, own = columns[n, 0], ladder[particle[n]]
        k = 0
        for other in range(1, bins - 1):
            k += argument >= centres[other]
        lower[n] = k
        share[n] = min(max((argument - centres[k]) / (centres[k + 1] - centres[k]), ZERO), ONE)
        k = 0
        for rung in range(1, rungs - 1):
            k += argument >= own[rung]
        inside = min(max((argument - own[k]) / (own[k + 1] - own[k]), ZERO), ONE)
        first = f32(blocks[particle[n], 0])
        top = f32(blocks[particle[n], 1]) - first
        rank = (f32(k) + inside) * (top / f32(rungs - 1))
        spread = max(top * NEAR, LEAST)
        for donor in range(rows.shape[1]):
            # mirrored at both ends
            place = abs(rank + spread * noise[n, donor])
            rows[n, donor] = np.uint32(np.rint(max(top - abs(top - place), ZERO)) + first)


@compiled(fastmath=True)
def summaries(columns, rows, lower, share, mean, spread, donors, quantiles, tails, out):
    """Summaries of showers.

    Args:
        columns: (N, at least 1), see `LayerStage.columns`.
        rows: (N, DONORS), from `places`.
        lower: (N,), likewise.
        share: (N,), likewise.
        mean: (terms, size).
        spread: (terms, size).
        donors: (donors, size).
        quantiles: (bins, KNOTS, size).
        tails: (2, bins, size) slopes before the first and after the last knot.
        out: (N, size), filled.
    """
    size = out.shape[1]
    means, spreads = np.empty(size, f32), np.empty(size, f32)
    for n in range(len(out)):
        _moments(columns, n, mean, spread, means, spreads)
        one, two, three = rows[n, 0], rows[n, 1], rows[n, 2]
        low, high = lower[n], lower[n] + np.uint32(1)
        for k in range(size):
            score = OWN * donors[one, k] + OTHERS * (donors[two, k] - donors[three, k])
            score = min(max(score, -LIMIT), LIMIT)
            place = (score + LAST) / STEP
            knot = np.uint32(min(max(place, ZERO), f32(KNOTS - 2)))
            after = knot + np.uint32(1)
            inside = min(max(place - f32(knot), ZERO), ONE)
            above, below = max(score - LAST, ZERO), min(score + LAST, ZERO)
            first = quantiles[low, knot, k] + inside * (quantiles[low, after, k] - quantiles[low, knot, k])
            first += above * tails[1, low, k] + below * tails[0, low, k]
            last = quantiles[high, knot, k] + inside * (quantiles[high, after, k] - quantiles[high, knot, k])
            last += above * tails[1, high, k] + below * tails[0, high, k]
            out[n, k] = means[k] + spreads[k] * (first + share[n] * (last - first))


@inner
def _moments(columns, n, mean, spread, means, spreads):
    """Mean and spread of every number of a shower: the terms of `LayerStage` times their coefficients."""
    means[:] = ZERO
    spreads[:] = ZERO
    argument, power = columns[n, 0], ONE
    for term in range(MEAN_DEGREE + 1):
        _add_term(power, term, mean, spread, means, spreads)
        power *= argument
    term = MEAN_DEGREE + 1
    for column in range(1, columns.shape[1]):
        other = columns[n, column]
        _add_term(other, term, mean, spread, means, spreads)
        _add_term(other * other, term + 1, mean, spread, means, spreads)
        _add_term(other * argument, term + 2, mean, spread, means, spreads)
        term += 3
    for k in range(len(spreads)):
        spreads[k] = exp(min(max(spreads[k], f32(-20)), f32(20)))


@inner
def _add_term(value, term, mean, spread, means, spreads):
    for k in range(len(means)):
        means[k] += value * mean[term, k]
        spreads[k] += value * spread[term, k]


@compiled(fastmath=True)
def known(summary, energy, sizes, threshold, zone_energy, hits):
    """Energies in MeV and hits of the zones of the layers.

    Args:
        summary: (N, size), see `Layout`.
        energy: (N,) incident, MeV.
        sizes: (zones,) cells.
        threshold: Smallest energy of a cell, MeV.
        zone_energy: (N, layers, zones), filled.
        hits: The same.
    """
    layers, zones = hits.shape[1], hits.shape[2]
    splits, counts = 1 + layers, 1 + layers * zones
    for n in range(len(summary)):
        total = ZERO
        for layer in range(layers):
            rest = max(summary[n, 1 + layer], ZERO) ** 3
            for zone in range(zones):
                number = max(summary[n, counts + layer * zones + zone], ZERO)
                count = f32(math.floor(number * number))
                own = rest
                if zone < zones - 1:
                    own = rest / (ONE + exp(-summary[n, splits + layer * (zones - 1) + zone]))
                    rest -= own
                own = max(own, threshold) if count >= HALF else ZERO
                hits[n, layer, zone] = min(count, sizes[zone])
                zone_energy[n, layer, zone] = own
                total += own
        # exactly the visible energy
        factor = exp(summary[n, 0]) * energy[n] / max(total, threshold)
        for layer in range(layers):
            for zone in range(zones):
                zone_energy[n, layer, zone] *= factor
