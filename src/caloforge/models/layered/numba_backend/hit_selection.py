"""Selection of hits: as many cells of a radial bin as wanted, with the largest rate ratios, Eq. 14.

Importing this compiles nothing.
"""

from __future__ import annotations

import numpy as np

from caloforge.models.layered.constants import ALMOST_ONE, LANES
from caloforge.models.layered.numba_backend.float_math import HALF, ONE, ZERO, f32, inner
from caloforge.models.layered.numba_backend.simd import above, count, first_of, gather, load, pack

# a threshold is sought in steps, the first of this factor, until two enclose it
STRIDE, TRIES, SMALL, ALMOST = f32(1.25), 32, f32(1e-30), f32(ALMOST_ONE)


@inner
def threshold(tables, radial_bin, wanted, work):
    """Rate ratio above which the wanted number of cells of a radial bin lie, Eq. 14.

    By interpolation between two thresholds; `CellSampler._last_hit` sorts instead.
    """
    if wanted >= tables.radial_bin_sizes[0, radial_bin]:
        return ZERO
    found = _count_above(tables, radial_bin, ONE, work)
    # thresholds with too many cells or as many as wanted (low), and with too few or as many (high)
    low, many, high, few, factor = ONE, found, ONE, found, STRIDE
    while many < wanted and low > SMALL:
        high, few = low, many
        low, factor = low / factor, factor * factor
        many = _count_above(tables, radial_bin, low, work)
    while few > wanted and high < ONE / SMALL:
        low, many = high, few
        high, factor = high * factor, factor * factor
        few = _count_above(tables, radial_bin, high, work)
    for attempt in range(TRIES):
        if many - few <= LANES:
            break
        # ratios go as 1 / xi with xi nearly uniform: interpolate in 1 / ratio; every other time halve
        fraction = HALF if attempt % 2 else (wanted - few + HALF) / (many - few + ONE)
        least = low * high / (low + fraction * (high - low))
        found = _count_above(tables, radial_bin, least, work)
        if found > wanted:
            low, many = least, found
        else:
            high, few = least, found
    if many == wanted:
        return low
    if few == wanted:
        return high
    return _threshold_between(tables, radial_bin, low, high, wanted - few, work)


@inner
def _count_above(tables, radial_bin, least, work):
    """Number of cells of a radial bin whose rate ratio is above a threshold."""
    width, found = tables.log_mask.shape[1], np.uint32(0)
    for block in range(tables.bin_blocks[radial_bin, 0], tables.bin_blocks[radial_bin, 1]):
        for m in range(len(tables.row_lanes)):
            mask = tables.bin_mask[radial_bin, m, block]
            if mask:
                found += count(above(load(work.rate_ratio, m * width + block * LANES), least) & mask)
    return f32(found)


@inner
def _threshold_between(tables, radial_bin, low, high, wanted, work):
    """The same threshold, of the few cells whose rate ratio is between two."""
    width, found = tables.log_mask.shape[1], np.uint64(0)
    for block in range(tables.bin_blocks[radial_bin, 0], tables.bin_blocks[radial_bin, 1]):
        for m in range(len(tables.row_lanes)):
            mask = tables.bin_mask[radial_bin, m, block]
            if mask:
                place = m * width + block * LANES
                value = load(work.rate_ratio, place)
                between = above(value, low) & ~above(value, high) & mask
                pack(between, place, work.hit_places, found)
                found += count(between)
    values = first_of(gather(work.rate_ratio, 0, work.hit_places, 0), found)
    for k in range(min(found, np.uint64(LANES))):
        value = work.rate_ratio[work.hit_places[k]]
        if f32(count(above(values, value))) == wanted - ONE:
            return value * ALMOST
    return low


@inner
def list_hits(tables, radial_bin, least, work):
    """Number of places of a radial bin whose rate ratio is above a threshold; they are listed."""
    rows, width = tables.log_mask.shape
    found = np.uint64(0)
    for block in range(tables.bin_blocks[radial_bin, 0], tables.bin_blocks[radial_bin, 1]):
        for m in range(rows):
            mask = tables.bin_mask[radial_bin, m, block]
            if mask:
                place = m * width + block * LANES
                hit = above(load(work.rate_ratio, place), least) & mask
                pack(hit, place, work.hit_places, found)
                found += count(hit)
    return found
