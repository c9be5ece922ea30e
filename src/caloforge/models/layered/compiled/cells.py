"""The second stage as loops over the cells of a layer. Importing this compiles nothing.

What `models/layered/cells.py` says in tensors, shower by shower and layer by layer, so that everything
between noise and energies stays in the nearest cache; what only hits need is done for hits alone. Cells stand
in the order of `tables.py`: those that are images of each other below each other, so that their common
numbers are loaded, not looked up; those of a zone are neighbours.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from caloforge.models.layered.compiled.arithmetic import (
    HALF,
    ONE,
    ZERO,
    add,
    exp,
    f32,
    gumbel,
    inner,
)
from caloforge.models.layered.compiled.lanes import (
    above,
    count,
    first_of,
    gather,
    larger,
    load,
    load_pair,
    pack,
    smaller,
    store,
    sum_of,
)
from caloforge.models.layered.constants import (
    ALMOST_ONE,
    FADE,
    KERNEL,
    LANES,
    LARGEST_COORDINATE,
    LARGEST_SKEWED,
    LOG_NUMBER_RANGE,
    SOURCES,
    STRONG_DEGREE,
    TERMS,
    TURNED_KERNEL,
    WAVES,
    WEAK_DEGREE,
    WIDTH_RANGE,
)

Array = NDArray[Any]
SCORE_LIMIT = f32(LARGEST_SKEWED)
LEAST_RATE, LARGEST_RATE = (f32(end) for end in LOG_NUMBER_RANGE)
LEAST_WIDTH, LARGEST_WIDTH = (f32(end) for end in WIDTH_RANGE)
KNOT, FADING, MARGIN = f32(LARGEST_COORDINATE), f32(FADE), (KERNEL - TURNED_KERNEL) // 2
# thresholds are sought in steps, the first of this factor, until two enclose the wanted one
STRIDE, TRIES, SMALL, ALMOST = f32(1.25), 32, f32(1e-30), f32(ALMOST_ONE)


class Memory(NamedTuple):
    """What a shower is made in.

    Attributes:
        scale: (2, w) of the zone of each column: logarithms of the energy of a hit, and of lambda if all
            cells had the same.
        orbit: (5, w) log lambda without neighbours, what is added to it with neighbours, mean, deviation, the
            same times the gain of moved means.
        centre: (m * w,) of the shower along the direction of each place.
        slope: (m * w,) likewise.
        inverse: (m * w,) logarithms of one over exponential numbers.
        chance: (m * w,) lambda times these, first in the logarithm.
        heard: (SOURCES, zones, WAVES) heights of the waves of a layer, and of the layers in front.
        said: (WAVES,) what all of them say to a zone.
        around: What is around cells, in a layer of pairs with margins.
        listed: Places of hits.
        energy: Their coordinates, then energies.
    """

    scale: Array
    orbit: Array
    centre: Array
    slope: Array
    inverse: Array
    chance: Array
    heard: Array
    said: Array
    around: Array
    listed: Array
    energy: Array


@inner
def memory(tables):
    """What `fill` works in, for any number of showers."""
    rows, width = tables.nowhere.shape
    places = rows * width
    return Memory(
        scale=np.zeros((2, width), f32),
        orbit=np.zeros((5, width), f32),
        centre=np.empty(places, f32),
        slope=np.empty(places, f32),
        inverse=np.empty(places, f32),
        chance=np.empty(places, f32),
        heard=np.empty(tables.shares.shape[1:], f32),
        said=np.empty(WAVES, f32),
        around=np.empty(tables.grid[0], f32),
        listed=np.zeros(places + LANES, np.uint32),
        energy=np.zeros(places + LANES, f32),
    )


@inner
def fill(tables, memory, zone_energy, hits, transverse, argument, noise, start, out):
    """One shower.

    Args:
        tables: `Tables`.
        memory: From `memory`.
        zone_energy: (layers, zones) MeV.
        hits: (layers, zones).
        transverse: (4,).
        argument: Of the energy, see `LayerStage`.
        noise: Of some showers, flat; of each the numbers of hits, then those of energies, see `Order`.
        start: First of these numbers.
        out: (layers, cells) MeV, filled.
    """
    layers, size = len(out), tables.size
    _axis(tables, transverse, memory)
    memory.heard[:] = ZERO
    for layer in range(layers):
        out[layer] = ZERO
        first, second = start + layer * size, start + (layers + layer) * size
        _orbits(tables, layer, zone_energy, hits, argument, memory)
        found = _rates(tables, layer, noise, first, memory)
        _spread(tables, layer, noise, second, found, memory)
        _chances(tables, layer, memory)
        for zone in range(len(tables.zones)):
            wanted = hits[layer, zone]
            if wanted > ZERO:
                _listen(tables, zone, memory)
                found = _hit(tables, zone, _least(tables, zone, wanted, memory), memory)
                _coordinates(tables, layer, noise, second, found, memory)
                factor = _settle(tables, layer, zone, zone_energy[layer, zone], found, memory.energy)
                for k in range(found):
                    out[layer, tables.cell[memory.listed[k]]] = factor * memory.energy[k]
        _leave(memory)


@inner
def _axis(tables, transverse, memory):
    """Centre and slope of a shower along the direction of each place."""
    for i in range(len(memory.centre)):
        x, y = tables.direction[0, i], tables.direction[1, i]
        memory.centre[i] = transverse[0] * x + transverse[1] * y
        memory.slope[i] = transverse[2] * x + transverse[3] * y


@inner
def _orbits(tables, layer, zone_energy, hits, argument, memory):
    """What the cells of an orbit have in common; see `Memory`."""
    scale, orbit, width = memory.scale, memory.orbit, tables.nowhere.shape[1]
    for zone in range(len(tables.zones)):
        wanted = hits[layer, zone]
        energy = max(zone_energy[layer, zone], tables.scalars[3]) / max(wanted, ONE)
        energy = f32(math.log(energy)) - tables.scalars[0]
        # nothing is read that is not there, whatever the number
        number = tables.numbers[zone, min(np.uint64(wanted), np.uint64(tables.numbers.shape[1] - 1))]
        for o in range(tables.zones[zone, 0], tables.zones[zone, 1]):
            scale[0, o], scale[1, o] = energy, number
    for block in range(0, width, LANES):
        energy, number = load(scale, block), load(scale, width + block)
        rate = _base(tables, layer, 0, block, energy, number)
        mean = _base(tables, layer, 1, block, energy, number)
        deviation = _base(tables, layer, 2, block, energy, number)
        deviation = deviation + _level(tables, layer, 2, block, argument)
        deviation = exp(larger(smaller(deviation, LARGEST_WIDTH), LEAST_WIDTH))
        store(rate, orbit, block)
        store(_level(tables, layer, 0, block, argument), orbit, width + block)
        store(mean + deviation * _level(tables, layer, 1, block, argument), orbit, 2 * width + block)
        store(deviation, orbit, 3 * width + block)
        store(deviation * load(tables.gain, (2 * layer + 1) * width + block), orbit, 4 * width + block)


@inner
def _base(tables, layer, k, block, energy, number):
    """Of log lambda, mean or log width what energy and hits of the zone say."""
    width = tables.nowhere.shape[1]
    base = (3 * layer + k) * 4 * width + block
    value = energy * load(tables.base, base + 2 * width) + load(tables.base, base + width)
    return energy * value + load(tables.base, base) + number * load(tables.base, base + 3 * width)


@inner
def _level(tables, layer, k, block, argument):
    """Added to log lambda, to the mean in widths, or to the log width."""
    width = tables.nowhere.shape[1]
    level, square = TERMS * (3 * layer + k) * width + block, argument * argument
    value = load(tables.level, level) + load(tables.level, level + width) * argument
    return value + load(tables.level, level + 2 * width) * (f32(1.5) * square - HALF)


@inner
def _rates(tables, layer, noise, first, memory):
    """Logarithms of one over exponential numbers, and of lambda without neighbours times these.

    Returns the number of places where these are above 0; they are listed.
    """
    rows, width = tables.nowhere.shape
    found = np.uint64(0)
    for block in range(0, width, LANES):
        tilt = layer * 4 * width + block
        level, by_centre = load(memory.orbit, block), load(tables.tilt, tilt)
        by_slope = load(tables.tilt, tilt + width)
        for m in range(rows):
            if tables.lanes[m, 0] <= block < tables.lanes[m, 1]:
                place = m * width + block
                number = gumbel(load(noise, first + tables.first[m] + block))
                number = number + load(tables.nowhere, place)
                rate = level + load(memory.centre, place) * by_centre + load(memory.slope, place) * by_slope
                rate = larger(smaller(rate, LARGEST_RATE), LEAST_RATE) + number
                store(number, memory.inverse, place)
                store(rate, memory.chance, place)
                hit = above(rate, ZERO)
                pack(hit, place, memory.listed, found)
                found += count(hit)
    return found


@inner
def _spread(tables, layer, noise, second, found, memory):
    """What the hits of a first draw say of the cells around them: of their lambda, of their energies."""
    around, stride = memory.around, tables.grid[1]
    around[:] = ZERO
    kernels, turns, size = tables.kernels, tables.turns, KERNEL * LANES
    for k in range(found):
        i = memory.listed[k]
        o = tables.column[i]
        score = _score(tables, layer, noise, second, i)
        added = ONE + tables.strength[layer, 0, o] * score
        moved = score + tables.strength[layer, 1, o]
        zone = tables.zone[o]
        for wave in range(WAVES):
            memory.heard[0, zone, wave] += tables.waves[WAVES * i + wave] * score
        cosine, sine = load_pair(turns, 4 * i), load_pair(turns, 4 * i + np.uint32(2))
        for row in range(KERNEL):
            place = row * LANES
            own = load(kernels, place)
            if MARGIN <= row < KERNEL - MARGIN:
                own = own + load(kernels, place + size) * cosine + load(kernels, place + 2 * size) * sine
            add(around, tables.spot[i] + row * stride, own, added, moved)
    if tables.grid[3]:
        # what lies beyond the first row belongs to the last
        margin, rows = KERNEL // 2 * stride, tables.grid[2] * stride
        for k in range(margin):
            around[rows + k] += around[k]
            around[margin + k] += around[rows + margin + k]


@inner
def _listen(tables, zone, memory):
    """What the waves of this layer and of those in front say to a zone."""
    shares, heard, said = tables.shares, memory.heard, memory.said
    said[:] = ZERO
    for source in range(SOURCES):
        for other in range(heard.shape[1]):
            for wave in range(WAVES):
                said[wave] += shares[zone, source, other, wave] * heard[source, other, wave]


@inner
def _leave(memory):
    """The next layer is one further behind."""
    own, others = memory.heard[0], memory.heard[1]
    for zone in range(len(own)):
        for wave in range(WAVES):
            others[zone, wave] = FADING * others[zone, wave] + own[zone, wave]
    own[:] = ZERO


@inner
def _score(tables, layer, noise, second, place):
    """Energy of a hit in standard deviations."""
    number = noise[np.uint64(second) + tables.number[place]]
    number = min(max(number, -SCORE_LIMIT), SCORE_LIMIT)
    return number + tables.skewness[layer, tables.column[place]] * (number * number - ONE)


@inner
def _chances(tables, layer, memory):
    """From logarithms to lambda with neighbours over an exponential number: above 1 where a cell is hit."""
    rows, width = tables.nowhere.shape
    chance, middle = memory.chance, _middle(tables)
    for block in range(0, width, LANES):
        gain, raised = load(tables.gain, 2 * layer * width + block), load(memory.orbit, width + block)
        for m in range(rows):
            if tables.lanes[m, 0] <= block < tables.lanes[m, 1]:
                place = m * width + block
                added = larger(gather(memory.around, middle, tables.spot, place) * gain, ZERO)
                value = exp(load(chance, place) + raised) + added * exp(load(memory.inverse, place))
                store(value, chance, place)


@inner
def _middle(tables):
    """From where a kernel begins to the cell it is around."""
    return np.uint32(KERNEL // 2) * (tables.grid[1] + np.uint32(2))


@inner
def _least(tables, zone, wanted, memory):
    """Chance above which the wanted number of cells of a zone are; see `CellStage._last`."""
    if wanted >= tables.sizes[0, zone]:
        return ZERO
    found = _count(tables, zone, ONE, memory)
    # numbers of cells above two thresholds, the first too low or right, the other too high or right
    low, many, high, few, factor = ONE, found, ONE, found, STRIDE
    while many < wanted and low > SMALL:
        high, few = low, many
        low, factor = low / factor, factor * factor
        many = _count(tables, zone, low, memory)
    while few > wanted and high < ONE / SMALL:
        low, many = high, few
        high, factor = high * factor, factor * factor
        few = _count(tables, zone, high, memory)
    for number in range(TRIES):
        if many - few <= LANES:
            break
        # chances are inverse to even numbers; now and then by halves, should they not be even at all
        share = HALF if number % 2 else (wanted - few + HALF) / (many - few + ONE)
        least = low * high / (low + share * (high - low))
        found = _count(tables, zone, least, memory)
        if found > wanted:
            low, many = least, found
        else:
            high, few = least, found
    if many == wanted:
        return low
    if few == wanted:
        return high
    return _between(tables, zone, low, high, wanted - few, memory)


@inner
def _count(tables, zone, least, memory):
    """Cells of a zone whose chance is above the least."""
    width, found = tables.nowhere.shape[1], np.uint32(0)
    for number in range(tables.blocks[zone, 0], tables.blocks[zone, 1]):
        for m in range(len(tables.lanes)):
            member = tables.member[zone, m, number]
            if member:
                found += count(above(load(memory.chance, m * width + number * LANES), least) & member)
    return f32(found)


@inner
def _between(tables, zone, low, high, wanted, memory):
    """Chance above which the wanted number of the few cells are whose chance is above low, not above high."""
    width, found = tables.nowhere.shape[1], np.uint64(0)
    for number in range(tables.blocks[zone, 0], tables.blocks[zone, 1]):
        for m in range(len(tables.lanes)):
            member = tables.member[zone, m, number]
            if member:
                place = m * width + number * LANES
                value = load(memory.chance, place)
                between = above(value, low) & ~above(value, high) & member
                pack(between, place, memory.listed, found)
                found += count(between)
    values = first_of(gather(memory.chance, 0, memory.listed, 0), found)
    for k in range(min(found, np.uint64(LANES))):
        value = memory.chance[memory.listed[k]]
        if f32(count(above(values, value))) == wanted - ONE:
            return value * ALMOST
    return low


@inner
def _hit(tables, zone, least, memory):
    """Number of places of a zone whose chance is above the least; they are listed."""
    rows, width = tables.nowhere.shape
    found = np.uint64(0)
    for number in range(tables.blocks[zone, 0], tables.blocks[zone, 1]):
        for m in range(rows):
            member = tables.member[zone, m, number]
            if member:
                place = m * width + number * LANES
                hit = above(load(memory.chance, place), least) & member
                pack(hit, place, memory.listed, found)
                found += count(hit)
    return found


@inner
def _coordinates(tables, layer, noise, second, found, memory):
    """Coordinates of the energies of hits."""
    orbit, smallest, middle = memory.orbit, tables.scalars[2], _middle(tables) + np.uint32(1)
    for k in range(found):
        i = memory.listed[k]
        o = tables.column[i]
        said = ZERO
        for wave in range(WAVES):
            said += tables.waves[WAVES * i + wave] * memory.said[wave]
        mean = orbit[2, o] + orbit[4, o] * memory.around[tables.spot[i] + middle] + orbit[3, o] * said
        mean = mean + memory.centre[i] * tables.tilt[layer, 2, o] + memory.slope[i] * tables.tilt[layer, 3, o]
        score = _score(tables, layer, noise, second, i)
        # mirrored at the weakest hit
        memory.energy[k] = abs(mean + orbit[3, o] * score - smallest) + smallest


@inner
def _settle(tables, layer, zone, wanted, found, energy):
    """From coordinates to MeV, scaled to a sum but for a common factor, which is returned.

    See `HitSpectrum.energy` and `CellStage.showers`.
    """
    total, square = load(energy, 0) * ZERO, load(energy, 0) * ZERO
    for k in range(0, found, LANES):
        own = first_of(_way_back(tables, layer, zone, load(energy, k)), found - k)
        store(own, energy, k)
        total, square = total + own, square + own * own
    pull = (wanted - sum_of(total)) / max(sum_of(square), f32(1e-12))
    total = total * ZERO
    for k in range(0, found, LANES):
        own = load(energy, k)
        own = own * (ONE + larger(own * pull, ZERO)) / (ONE - smaller(own * pull, ZERO))
        store(own, energy, k)
        total = total + own
    return wanted / max(sum_of(total), f32(1e-9))


@inner
def _way_back(tables, layer, zone, coordinate):
    """MeV of coordinates."""
    unit, split, first, last = tables.scalars[1], tables.scalars[4], tables.scalars[5], tables.scalars[6]
    place = coordinate - split
    weak, strong = larger(smaller(place, ZERO), first), smaller(larger(place, ZERO), last)
    below, beyond = tables.weak[layer, zone], tables.strong[layer, zone]
    low = weak * below[WEAK_DEGREE] + below[WEAK_DEGREE - 1]
    for power in range(2, WEAK_DEGREE + 1):
        low = low * weak + below[WEAK_DEGREE - power]
    high = strong * beyond[STRONG_DEGREE - 1] + beyond[STRONG_DEGREE - 2]
    for power in range(2, STRONG_DEGREE):
        high = high * strong + beyond[STRONG_DEGREE - 1 - power]
    root = low + strong * high + larger(coordinate - KNOT, ZERO)
    return root * root * root * unit
