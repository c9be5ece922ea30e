"""The first stage as loops over the numbers of a summary. Importing this compiles nothing.

What `models/layered/layers.py` and `summary.py` say in tensors, of one shower.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit

from caloforge.models.layered.compiled.arithmetic import HALF, ONE, ZERO, exp, f32, inner
from caloforge.models.layered.constants import (
    FIRST_JOINT,
    FOLD,
    JITTER,
    KNOTS,
    LARGEST_SCORE,
    LAST_SCORE,
    LEADING,
    MEAN_DEGREE,
    NEAR,
    RELATIVES,
    RUNGS,
    SPAN,
)

LAST, STEP, LIMIT = f32(LAST_SCORE), f32(2 * LAST_SCORE / (KNOTS - 1)), f32(LARGEST_SCORE)
SHARE = f32(JITTER)
# a rounding may change a donor: sums in the order of the tensors
exact = njit(error_model="numpy")


class Choice(NamedTuple):
    """Whose scores a shower has.

    Attributes:
        own: Donor of the middle.
        front: Donor in front.
        back: Donor behind.
        joint: Layer at which the middle begins.
        lower: Lower bin of the energy.
        share: Share of the upper one.
    """

    own: np.int64
    front: np.int64
    back: np.int64
    joint: np.float32
    lower: int
    share: np.float32


@exact
def chosen(tables, columns, particle, noise):
    """`Choice` for a shower.

    Args:
        tables: `LayerTables`.
        columns: (at least 1,) of the shower, see `LayerStage.columns`.
        particle: Which of the particles.
        noise: (at least CHOICES,).
    """
    argument, centres, window = columns[0], tables.centres, tables.windows[particle]
    rung = (min(max(argument, -ONE), ONE) + ONE) * f32((RUNGS - 1) / 2)
    low = min(max(f32(math.floor(rung)), ZERO), f32(RUNGS - 2))
    inside, k = rung - low, np.int64(low)
    first = window[0, k] + inside * (window[0, k + 1] - window[0, k])
    last = window[1, k] + inside * (window[1, k + 1] - window[1, k])
    own = np.int64(np.rint(first + _uniform(noise[0]) * (last - first)))
    # nothing is read that is not there, whatever the numbers
    own = min(max(own, np.int64(0)), np.int64(len(tables.scores) - 1))
    front = np.int64(tables.relatives[own, _relative(noise[1])])
    back = np.int64(tables.relatives[own, _relative(noise[2])])
    begin, width = f32(FIRST_JOINT[0]), f32(FIRST_JOINT[1] - FIRST_JOINT[0])
    joint = (begin + width * _uniform(noise[3])) * f32(tables.layers)
    lower = 0
    for other in range(1, len(centres) - 1):
        lower += argument >= centres[other]
    share = (argument - centres[lower]) / max(centres[lower + 1] - centres[lower], f32(NEAR))
    return Choice(own, front, back, joint, lower, min(max(share, ZERO), ONE))


@exact
def _relative(x):
    return min(max(np.int64(_uniform(x) * f32(RELATIVES)), 0), RELATIVES - 1)


@exact
def _uniform(x):
    """See `uniform_of_normal`."""
    turned = f32(FOLD) * x + ONE
    return abs(turned - f32(4) * f32(math.floor(turned / f32(4))) - f32(2)) / f32(2)


@inner
def summarised(tables, columns, choice, spreads, out):
    """Summary of a shower.

    Args:
        tables: `LayerTables`.
        columns: (at least 1,) of the shower, see `LayerStage.columns`.
        choice: `Choice`.
        spreads: (size,) memory.
        out: (size,), filled.
    """
    low, high = tables.quantiles[choice.lower], tables.quantiles[choice.lower + 1]
    low_tails, high_tails = tables.tails[choice.lower], tables.tails[choice.lower + 1]
    shifts = np.empty((3, LEADING), f32)
    rows = (choice.own, choice.front, choice.back)
    for d in range(LEADING):
        front, back = tables.coordinates[choice.front, d], tables.coordinates[choice.back, d]
        leading = tables.coordinates[choice.own, d] + SHARE * (front - back)
        for part in range(3):
            shifts[part, d] = leading - tables.coordinates[rows[part], d]
    second = choice.joint + f32(SPAN) * f32(tables.layers)
    _moments(tables, columns, out, spreads)
    for k in range(len(out)):
        part = 1 if tables.front[k] <= choice.joint else (2 if tables.back[k] > second else 0)
        row = choice.front if part == 1 else (choice.back if part == 2 else choice.own)
        score = tables.scores[row, k]
        for d in range(LEADING):
            score += shifts[part, d] * tables.directions[d, k]
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
        out[k] += spreads[k] * (first + choice.share * (last - first))


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
def known(tables, summary, energy, sizes, threshold, zone_energy, hits):
    """Energies in MeV and hits of the zones of the layers of a shower.

    Args:
        tables: `LayerTables`.
        summary: (size,), see `Layout`.
        energy: Incident, MeV.
        sizes: (zones,) most hits.
        threshold: Smallest energy of a cell, MeV.
        zone_energy: (layers, zones), filled.
        hits: The same.
    """
    layers, zones = hits.shape
    splits, counts = 1 + layers, 1 + layers * zones
    total, balance = ZERO, ZERO
    for layer in range(layers):
        rest = max(summary[1 + layer], ZERO) ** 3
        whole = ZERO
        for zone in range(zones):
            number = max(summary[counts + layer * zones + zone], ZERO)
            count = f32(math.floor(number * number))
            own = rest
            if zone < zones - 1:
                split = summary[splits + layer * (zones - 1) + zone]
                own = rest / (ONE + exp(min(max(-split, f32(-80)), f32(80))))
                rest -= own
            hits[layer, zone] = min(count, sizes[zone])
            zone_energy[layer, zone] = max(own, threshold) if count >= HALF else ZERO
            whole += zone_energy[layer, zone]
        total += whole
        balance += whole * tables.balance[layer]
    total = max(total, threshold)
    # exactly the visible energy
    response = min(max(summary[0] + balance / total, f32(-80)), f32(80))
    factor = exp(response) * energy / total
    for layer in range(layers):
        for zone in range(zones):
            zone_energy[layer, zone] *= factor
