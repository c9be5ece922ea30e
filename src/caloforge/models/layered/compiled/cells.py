"""The second stage as loops over the cells of a layer. Importing this compiles nothing.

What `models/layered/cells.py` says in tensors, shower by shower and layer by layer, so that everything
between noise and energies stays in the nearest cache; what only hits need is done for hits alone. Cells stand
in the order of `tables.py`: those that are images of each other below each other, so that their common
numbers are loaded, not looked up; those of a zone are neighbours.
"""

from __future__ import annotations

import math

import numpy as np

from caloforge.machine_code import compiled
from caloforge.models.layered.cells import COUNTING_RANGE, LARGEST_SHIFT
from caloforge.models.layered.compiled.arithmetic import (
    HALF,
    LANES,
    ONE,
    WIDE,
    ZERO,
    add,
    exp,
    f32,
    gumbel,
    inner,
    pack,
)
from caloforge.models.layered.context import KERNEL
from caloforge.models.layered.density import LOG_NUMBER_RANGE, WIDTH_RANGE
from caloforge.models.layered.shape import LARGEST_NUMBER
from caloforge.models.layered.spectrum import LARGEST, STRONG_DEGREE, WEAK_DEGREE

SCORE_LIMIT = f32(LARGEST_NUMBER)
LEAST_RATE, LARGEST_RATE = (f32(end) for end in LOG_NUMBER_RANGE)
LEAST_WIDTH, LARGEST_WIDTH = (f32(end) for end in WIDTH_RANGE)
UPPER, LOWER, RANGE = f32(math.exp(COUNTING_RANGE)), f32(math.exp(-COUNTING_RANGE)), f32(COUNTING_RANGE)
SHIFT, KNOT = f32(LARGEST_SHIFT), f32(LARGEST)


@compiled(fastmath=True)
def fill(tables, zone_energy, hits, transverse, argument, noise, start, out):
    """Showers of a batch.

    Args:
        tables: `Tables`.
        zone_energy: (N, layers, zones) MeV.
        hits: (N, layers, zones).
        transverse: (N, 4).
        argument: (N,).
        noise: (N, start + 2 * layers * cells), in the end of hits and then of energies.
        start: Numbers before them.
        out: (N, layers, cells) MeV, zeros.
    """
    layers, cells = out.shape[1], out.shape[2]
    rows, width = tables.nowhere.shape
    # columns without an orbit stay zero
    orbit, tally, row = np.zeros((4, width), f32), np.empty((4, width), f32), np.empty(width, f32)
    # centre and slope along each place, inverse exponential numbers, chances
    centre, slope = np.empty((rows, width), f32), np.empty((rows, width), f32)
    inverse, chance = np.empty((rows, width), f32), np.empty((rows, width), f32)
    along, steep, flat = centre.reshape(-1), slope.reshape(-1), chance.reshape(-1)
    around = np.empty(tables.grid[0], f32)
    listed, energy = np.empty(rows * width + LANES, np.uint32), np.empty(rows * width, f32)
    for n in range(len(out)):
        _axis(tables, transverse, n, along, steep)
        for layer in range(layers):
            first, second = start + layer * cells, start + (layers + layer) * cells
            _orbits(tables, layer, zone_energy, hits, n, argument[n], orbit)
            _rates(tables, layer, noise, n, first, orbit, centre, slope, inverse, chance)
            found = _above(flat, width, 0, width, ZERO, listed)
            _spread(tables, layer, noise, n, second, listed, found, around)
            _chances(tables, layer, orbit, around, row, inverse, chance, tally)
            for zone in range(len(tables.sizes)):
                wanted = hits[n, layer, zone]
                if wanted > ZERO:
                    least = _least(tables, zone, wanted, tally)
                    found = _above(flat, width, tables.zones[zone, 0], tables.zones[zone, 1], least, listed)
                    _coordinates(
                        tables, layer, noise, n, second, orbit, along, steep, around, listed, found, energy
                    )
                    _way_back(tables, zone, found, energy)
                    _sum_to(zone_energy[n, layer, zone], found, energy)
                    for k in range(found):
                        out[n, layer, tables.cell[listed[k]]] = energy[k]


@inner
def _axis(tables, transverse, n, centre, slope):
    """Centre and slope of a shower along the direction of each place."""
    for i in range(len(centre)):
        x, y = tables.direction[0, i], tables.direction[1, i]
        centre[i] = transverse[n, 0] * x + transverse[n, 1] * y
        slope[i] = transverse[n, 2] * x + transverse[n, 3] * y


@inner
def _orbits(tables, layer, zone_energy, hits, n, argument, orbit):
    """Log lambda without neighbours, mean, deviation, and what is added to log lambda with neighbours."""
    base = tables.base
    for zone in range(len(tables.sizes)):
        count = hits[n, layer, zone]
        energy = max(zone_energy[n, layer, zone], tables.scalars[3]) / max(count, ONE)
        energy = f32(math.log(energy)) - tables.scalars[0]
        share = (count + HALF) / (tables.sizes[zone] + ONE)
        number = f32(math.log(-math.log1p(-share)))
        for k in range(3):
            for o in range(tables.zones[zone, 0], tables.zones[zone, 1]):
                value = energy * (energy * base[layer, k, 2, o] + base[layer, k, 1, o])
                orbit[k, o] = value + base[layer, k, 0, o] + number * base[layer, k, 3, o]
    for o in range(orbit.shape[1]):
        orbit[2, o] = exp(min(max(orbit[2, o], LEAST_WIDTH), LARGEST_WIDTH))
        orbit[3, o] = tables.level[layer, 0, o] + argument * tables.level[layer, 1, o]


@inner
def _rates(tables, layer, noise, n, first, orbit, centre, slope, inverse, rate):
    """Logarithms of one over exponential numbers, and of lambda without neighbours times these."""
    rows, width = tables.nowhere.shape
    for m in range(rows):
        for o in range(width):
            inverse[m, o] = noise[n, first + tables.cell[np.uint64(m * width + o)]]
        for o in range(width):
            number = gumbel(inverse[m, o]) + tables.nowhere[m, o]
            alone = orbit[0, o] + centre[m, o] * tables.tilt[layer, 0, o]
            alone = min(max(alone + slope[m, o] * tables.tilt[layer, 1, o], LEAST_RATE), LARGEST_RATE)
            inverse[m, o] = number
            rate[m, o] = alone + number


@inner
def _above(values, width, begin, end, least, listed):
    """Number of places between two columns whose value is above the least; they go into `listed`."""
    found = np.uint64(0)
    for row in range(0, len(values), width):
        for start in range(begin // LANES * LANES, end, LANES):
            first, stop = max(begin - start, 0), min(end - start, LANES)
            found += pack(values, row + start, least, first, stop, listed, found)
    return found


@inner
def _spread(tables, layer, noise, n, second, listed, found, around):
    """What the hits of a first draw say of the cells around them: of their lambda, of their energies."""
    stride = tables.grid[1]
    around[:] = ZERO
    strength, presence = tables.strength[layer, 0], tables.strength[layer, 1]
    for k in range(found):
        i = listed[k]
        score = _score(tables, layer, noise, n, second, i)
        for row in range(KERNEL):
            spot = tables.spot[i] + row * stride
            add(around, spot, tables.kernels, row * WIDE, ONE + strength * score, score + presence)
    if tables.grid[3]:
        # what lies beyond the first row belongs to the last
        margin, rows = KERNEL // 2 * stride, tables.grid[2] * stride
        for k in range(margin):
            around[rows + k] += around[k]
            around[margin + k] += around[rows + margin + k]


@inner
def _score(tables, layer, noise, n, second, place):
    """Energy of a hit in standard deviations."""
    number = min(max(noise[n, second + tables.cell[place]], -SCORE_LIMIT), SCORE_LIMIT)
    return number + tables.skewness[layer, tables.column[place]] * (number * number - ONE)


@inner
def _chances(tables, layer, orbit, around, row, inverse, chance, tally):
    """From logarithms to lambda with neighbours over an exponential number: above 1 where a cell is hit.

    And of each column how many are above three bounds, and the largest.
    """
    rows, width = tables.nowhere.shape
    middle = _middle(tables)
    tally[:] = ZERO
    for m in range(rows):
        for o in range(width):
            row[o] = around[tables.spot[np.uint64(m * width + o)] + middle]
        for o in range(width):
            added = max(row[o] * tables.gain[layer, 0, o], ZERO)
            chance[m, o] = exp(chance[m, o] + orbit[3, o]) + added * exp(inverse[m, o])
        for o in range(width):
            tally[0, o] += ONE if chance[m, o] > UPPER else ZERO
            tally[1, o] += ONE if chance[m, o] > ONE else ZERO
            tally[2, o] += ONE if chance[m, o] > LOWER else ZERO
            tally[3, o] = max(tally[3, o], chance[m, o])


@inner
def _middle(tables):
    """From where a kernel begins to the cell it is around."""
    return np.uint32(KERNEL // 2) * (tables.grid[1] + np.uint32(2))


@inner
def _least(tables, zone, wanted, tally):
    """Chance above which the cells of a zone are hit, so that it has its hits; see `CellStage._factor`."""
    less, counts, more, largest = ZERO, ZERO, ZERO, ZERO
    for o in range(tables.zones[zone, 0], tables.zones[zone, 1]):
        less += tally[0, o]
        counts += tally[1, o]
        more += tally[2, o]
        largest = max(largest, tally[3, o])
    missing = wanted - counts
    slope = max(more - counts if missing > ZERO else counts - less, HALF) / RANGE
    return min(f32(math.exp(-min(max(missing / slope, -SHIFT), SHIFT))), largest / f32(1.001))


@inner
def _coordinates(tables, layer, noise, n, second, orbit, centre, slope, around, listed, found, energy):
    """Coordinates of the energies of hits."""
    smallest, middle = tables.scalars[2], _middle(tables) + np.uint32(1)
    for k in range(found):
        i = listed[k]
        o = tables.column[i]
        near = around[tables.spot[i] + middle] * tables.gain[layer, 1, o]
        score = _score(tables, layer, noise, n, second, i) + near + tables.level[layer, 2, o]
        mean = orbit[1, o] + centre[i] * tables.tilt[layer, 2, o]
        mean = mean + slope[i] * tables.tilt[layer, 3, o]
        # mirrored at the weakest hit
        energy[k] = abs(mean + orbit[2, o] * score - smallest) + smallest


@inner
def _way_back(tables, zone, found, energy):
    """From coordinates to MeV; see `HitSpectrum.energy`."""
    unit, split, first, last = tables.scalars[1], tables.scalars[4], tables.scalars[5], tables.scalars[6]
    for k in range(found):
        place = energy[k] - split
        weak, strong = min(max(place, first), ZERO), min(max(place, ZERO), last)
        low = tables.weak[zone, WEAK_DEGREE]
        for power in range(1, WEAK_DEGREE + 1):
            low = low * weak + tables.weak[zone, WEAK_DEGREE - power]
        high = tables.strong[zone, STRONG_DEGREE - 1]
        for power in range(1, STRONG_DEGREE):
            high = high * strong + tables.strong[zone, STRONG_DEGREE - 1 - power]
        root = low + strong * high + max(energy[k] - KNOT, ZERO)
        energy[k] = unit * root * root * root


@inner
def _sum_to(wanted, found, energy):
    """Scale hits to a sum; see `CellStage.showers`."""
    total, square = ZERO, ZERO
    for k in range(found):
        total += energy[k]
        square += energy[k] * energy[k]
    pull = (wanted - total) / max(square, f32(1e-12))
    total = ZERO
    for k in range(found):
        change = energy[k] * pull
        energy[k] *= (ONE + max(change, ZERO)) / (ONE - min(change, ZERO))
        total += energy[k]
    ratio = wanted / max(total, f32(1e-9))
    for k in range(found):
        energy[k] *= ratio
