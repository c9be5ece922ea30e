"""The first stage as loops over the numbers of a summary. Importing this compiles nothing.

What `models/layered/layers.py` and `summary.py` say in tensors; what concerns a shower as a whole, a few
numbers from its conditions, is left to them.
"""

from __future__ import annotations

import math

import numpy as np

from caloforge.machine_code import compiled
from caloforge.models.layered.compiled.arithmetic import HALF, ONE, ZERO, exp, f32
from caloforge.models.layered.layers import BLUR, KNOTS, LARGEST_SCORE, LAST_SCORE

OWN, OTHERS = f32(math.sqrt(1 - BLUR**2)), f32(BLUR / math.sqrt(2))
LAST, STEP, LIMIT = f32(LAST_SCORE), f32(2 * LAST_SCORE / (KNOTS - 1)), f32(LARGEST_SCORE)


@compiled(fastmath=True)
def summaries(rows, lower, share, mean, spread, donors, quantiles, tails, out):
    """Summaries of showers.

    Args:
        rows: (N, 3) whose scores a shower has, and of which others the difference.
        lower: (N,) lower bin of the energy.
        share: (N,) of the upper one.
        mean: (N, size).
        spread: (N, size).
        donors: (donors, size).
        quantiles: (bins, KNOTS, size).
        tails: (2, bins, size) slopes before the first and after the last knot.
        out: (N, size).
    """
    for n in range(len(out)):
        one, two, three, b = rows[n, 0], rows[n, 1], rows[n, 2], lower[n]
        for k in range(out.shape[1]):
            score = OWN * donors[one, k] + OTHERS * (donors[two, k] - donors[three, k])
            score = min(max(score, -LIMIT), LIMIT)
            place = (score + LAST) / STEP
            knot = np.uint32(min(max(place, ZERO), f32(KNOTS - 2)))
            inside = min(max(place - f32(knot), ZERO), ONE)
            above, below = max(score - LAST, ZERO), min(score + LAST, ZERO)
            low = quantiles[b, knot, k]
            low += inside * (quantiles[b, knot + np.uint32(1), k] - low)
            low += above * tails[1, b, k] + below * tails[0, b, k]
            high = quantiles[b + np.uint32(1), knot, k]
            high += inside * (quantiles[b + np.uint32(1), knot + np.uint32(1), k] - high)
            high += above * tails[1, b + np.uint32(1), k] + below * tails[0, b + np.uint32(1), k]
            out[n, k] = mean[n, k] + spread[n, k] * (low + share[n] * (high - low))


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
