"""The cell sampler as loops over the cells of a layer. Importing this compiles nothing.

Twin of `models/layered/cell_sampler.py`, shower by shower and layer by layer, so that everything between
noise and energies stays in the nearest cache; what only hits need is computed for hits alone. Cells stand in
the order of `noise_layout.py`: those of a symmetry class are in one column, so that their parameters are
loaded as vectors, and those of a radial bin are adjacent.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from caloforge.models.layered.constants import (
    ANISOTROPY_KERNEL,
    HIGH_DEGREE,
    KERNEL,
    LANES,
    LARGEST_SKEWED,
    LARGEST_TRANSFORMED,
    LAYER_DECAYS,
    LEGENDRE_TERMS,
    LOG_RATE_RANGE,
    LOG_SIGMA_RANGE,
    LOW_DEGREE,
    MODE_SOURCES,
    MODES,
)
from caloforge.models.layered.numba_backend.axis_window import (
    add_terms,
    cell_terms,
    hit_terms,
    outside_mask,
    uniform_log_rate_of,
)
from caloforge.models.layered.numba_backend.float_math import (
    HALF,
    ONE,
    ZERO,
    add,
    exp,
    f32,
    gumbel,
    inner,
)
from caloforge.models.layered.numba_backend.hit_selection import list_hits, threshold
from caloforge.models.layered.numba_backend.simd import (
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

Array = NDArray[Any]
# slope of the step, as in `cell_density.py`
STEEP = f32(1e8)
RESIDUAL_LIMIT = f32(LARGEST_SKEWED)
LEAST_LOG_RATE, LARGEST_LOG_RATE = (f32(end) for end in LOG_RATE_RANGE)
LEAST_LOG_SIGMA, LARGEST_LOG_SIGMA = (f32(end) for end in LOG_SIGMA_RANGE)
KNOT, MARGIN = f32(LARGEST_TRANSFORMED), (KERNEL - ANISOTROPY_KERNEL) // 2
THIRD = f32(1 / 3)
DECAYS = tuple(f32(decay) for decay in LAYER_DECAYS)


class Workspace(NamedTuple):
    """Arrays that a shower is made in, for a layer of m rows of w places.

    Attributes:
        bin_inputs: (2, w) epsilon and eta of Eq. 10 of the radial bin of each column.
        class_values: (7, w) log rate without couplings, offset of the log rate, mean, sigma, sigma times the
            gain of mean shifts, coefficients of the mean by centre and by depth covariance; in a window the
            third and fourth are offsets of mean and log sigma, and the fifth is not used.
        centre: (m * w,) centre of the shower along the direction of each place.
        depth_covariance: (m * w,) likewise.
        gumbel: (m * w,) standard Gumbel numbers, logarithms of 1 / xi of Eq. 14.
        rate_ratio: (m * w,) lambda / xi; first its logarithm without couplings.
        incoming: (MODE_SOURCES, bins, MODES) modes of this layer, and of those in front by decay, Eq. 16.
        mode_shift: (MODES,) weighted sum of all of them for a radial bin.
        coupling_sums: Sums over neighbours, in a padded layer of pairs for rate and mean.
        hit_places: Places of hits.
        energy: Their transformed energies, then energies.
    """

    bin_inputs: Array
    class_values: Array
    centre: Array
    depth_covariance: Array
    gumbel: Array
    rate_ratio: Array
    incoming: Array
    mode_shift: Array
    coupling_sums: Array
    hit_places: Array
    energy: Array


@inner
def workspace(tables):
    """A `Workspace`, for any number of showers."""
    rows, width = tables.log_mask.shape
    places = rows * width
    return Workspace(
        bin_inputs=np.zeros((2, width), f32),
        class_values=np.zeros((7, width), f32),
        centre=np.empty(places, f32),
        depth_covariance=np.empty(places, f32),
        gumbel=np.empty(places, f32),
        rate_ratio=np.empty(places, f32),
        incoming=np.empty(tables.mode_coupling.shape[1:], f32),
        mode_shift=np.empty(MODES, f32),
        coupling_sums=np.empty(tables.grid[0], f32),
        hit_places=np.zeros(places + LANES, np.uint32),
        energy=np.zeros(places + LANES, f32),
    )


@inner
def sample_cells(tables, axis, axes, n, window, work, condition, noise, start, out):
    """Draw the cells of one shower, Eq. 14 to 18.

    Args:
        tables: `CellTables`.
        axis: `AxisTables` of windows around the axes of showers, or None.
        axes: `AxisPositions`, or None.
        n: Index of the shower in them.
        window: `AxisWorkspace`, or None.
        work: `Workspace`.
        condition: Energies (layers, bins) in MeV and numbers of hits of radial bins; centre and depth
            covariance (4,); energy argument, see `LayerSampler`.
        noise: Of some showers, flat; of each the numbers for hits, then those for energies, see
            `NoiseLayout`.
        start: Index of the first of these numbers.
        out: (layers, cells) MeV, filled.
    """
    layers, size = len(out), tables.noise_size
    bin_energy, hit_counts, position, energy_argument = condition
    shift = np.int64(0)
    _project_position(tables, position, work)
    work.incoming[:] = ZERO
    for layer in range(layers):
        out[layer] = ZERO
        first, second = start + layer * size, start + (layers + layer) * size
        if axis is not None:
            cell_terms(axis, axes, n, layer, energy_argument, window)
            shift = _window_start(axis, axes, n, layer)
        _class_values(tables, window, layer, condition, work)
        found = _first_draw(tables, axis, axes, n, window, layer, noise, first, work)
        _add_couplings(tables, layer, noise, second, found, work)
        _coupled_rates(tables, axis, window, layer, work)
        for radial_bin in range(len(tables.bin_columns)):
            wanted = hit_counts[layer, radial_bin]
            if wanted > ZERO:
                _sum_incoming_modes(tables, radial_bin, work)
                found = list_hits(tables, radial_bin, threshold(tables, radial_bin, wanted, work), work)
                _transformed_energies(tables, axis, window, layer, noise, second, found, work)
                factor = _scale_to_sum(
                    tables, layer, radial_bin, bin_energy[layer, radial_bin], found, work.energy
                )
                for k in range(found):
                    cell = tables.cell[work.hit_places[k]] + shift
                    # stay within the layer whatever the weights are
                    if axis is None or 0 <= cell < out.shape[1]:
                        out[layer, cell] = factor * work.energy[k]
        _advance_layer(work)


@inner
def _window_start(axis, axes, n, layer):
    """Index of the first cell of a window in the layer; cells of tables are counted from it."""
    column, row = axes.cell[n, layer, 0] - axis.shape[2], axes.cell[n, layer, 1] - axis.shape[3]
    return row * axis.shape[1] + column


@inner
def _project_position(tables, position, work):
    """Centre and depth covariance of a shower along the direction of each place."""
    for i in range(len(work.centre)):
        x, y = tables.direction[0, i], tables.direction[1, i]
        work.centre[i] = position[0] * x + position[1] * y
        work.depth_covariance[i] = position[2] * x + position[3] * y


@inner
def _class_values(tables, window, layer, condition, work):
    """What the cells of a symmetry class have in common, Eq. 10 and 15; see `Workspace`."""
    bin_energy, hit_counts, _, energy_argument = condition
    bin_inputs, class_values, width = work.bin_inputs, work.class_values, tables.log_mask.shape[1]
    for radial_bin in range(len(tables.bin_columns)):
        wanted = hit_counts[layer, radial_bin]
        hit_energy = max(bin_energy[layer, radial_bin], tables.scalars[3]) / max(wanted, ONE)
        hit_energy = f32(math.log(hit_energy)) - tables.scalars[0]
        # stay within the table whatever the number is
        uniform_log_rate = tables.uniform_log_rate[
            radial_bin, min(np.uint64(wanted), np.uint64(tables.uniform_log_rate.shape[1] - 1))
        ]
        if window is not None:
            uniform_log_rate = uniform_log_rate_of(window, layer, radial_bin, wanted)
        for column in range(tables.bin_columns[radial_bin, 0], tables.bin_columns[radial_bin, 1]):
            bin_inputs[0, column], bin_inputs[1, column] = hit_energy, uniform_log_rate
    for block in range(0, width, LANES):
        hit_energy, uniform_log_rate = load(bin_inputs, block), load(bin_inputs, width + block)
        log_rate = _independent(tables, layer, 0, block, hit_energy, uniform_log_rate)
        store(log_rate, class_values, block)
        root, start = exp(hit_energy * THIRD), layer * 6 * width + block
        for k in range(2):
            coefficient = load(tables.position_coefficients, start + (2 + k) * width)
            coefficient = coefficient + root * load(tables.position_coefficients, start + (4 + k) * width)
            store(coefficient, class_values, (5 + k) * width + block)
        if window is not None:
            # mean and sigma of each hit depend on its cell
            for k in range(3):
                store(
                    _offset(tables, layer, k, block, energy_argument), class_values, (k + 1) * width + block
                )
            continue
        mean = _independent(tables, layer, 1, block, hit_energy, uniform_log_rate)
        sigma = _independent(tables, layer, 2, block, hit_energy, uniform_log_rate)
        sigma = sigma + _offset(tables, layer, 2, block, energy_argument)
        sigma = exp(larger(smaller(sigma, LARGEST_LOG_SIGMA), LEAST_LOG_SIGMA))
        store(_offset(tables, layer, 0, block, energy_argument), class_values, width + block)
        store(
            mean + sigma * _offset(tables, layer, 1, block, energy_argument), class_values, 2 * width + block
        )
        store(sigma, class_values, 3 * width + block)
        store(sigma * load(tables.gain, (2 * layer + 1) * width + block), class_values, 4 * width + block)


@inner
def _independent(tables, layer, k, block, hit_energy, uniform_log_rate):
    """Log rate, mean or log sigma of Eq. 10 without the terms of position."""
    width = tables.log_mask.shape[1]
    start = (3 * layer + k) * 4 * width + block
    value = hit_energy * load(tables.coefficients, start + 2 * width) + load(
        tables.coefficients, start + width
    )
    return (
        hit_energy * value
        + load(tables.coefficients, start)
        + uniform_log_rate * load(tables.coefficients, start + 3 * width)
    )


@inner
def _offset(tables, layer, k, block, energy_argument):
    """Offset of log rate, of the mean in standard deviations, or of log sigma, Eq. 15."""
    width = tables.log_mask.shape[1]
    offset, square = LEGENDRE_TERMS * (3 * layer + k) * width + block, energy_argument * energy_argument
    value = load(tables.offsets, offset) + load(tables.offsets, offset + width) * energy_argument
    return value + load(tables.offsets, offset + 2 * width) * (f32(1.5) * square - HALF)


@inner
def _first_draw(tables, axis, axes, n, window, layer, noise, first, work):
    """Draw hits without couplings: Gumbel numbers, and logarithms of rates over exponential numbers.

    Returns the number of places where these are above 0; they are listed.
    """
    rows, width = tables.log_mask.shape
    found = np.uint64(0)
    for block in range(0, width, LANES):
        start = layer * 6 * width + block
        log_rate, by_centre = load(work.class_values, block), load(tables.position_coefficients, start)
        by_covariance = load(tables.position_coefficients, start + width)
        for m in range(rows):
            if tables.row_lanes[m, 0] <= block < tables.row_lanes[m, 1]:
                place = m * width + block
                number = gumbel(load(noise, first + tables.noise_offset[m] + block))
                number = number + load(tables.log_mask, place)
                if axis is not None:
                    number = number + outside_mask(axis, axes, n, layer, place)
                log_ratio = (
                    log_rate
                    + load(work.centre, place) * by_centre
                    + load(work.depth_covariance, place) * by_covariance
                )
                if axis is not None:
                    log_ratio = add_terms(log_ratio, axis.rate, layer, block, window.terms, m)
                log_ratio = larger(smaller(log_ratio, LARGEST_LOG_RATE), LEAST_LOG_RATE) + number
                store(number, work.gumbel, place)
                store(log_ratio, work.rate_ratio, place)
                hit = above(log_ratio, ZERO)
                pack(hit, place, work.hit_places, found)
                found += count(hit)
    return found


@inner
def _add_couplings(tables, layer, noise, second, found, work):
    """Add kernels around the hits of the first draw, and their modes, Eq. 12, 15 and 16."""
    coupling_sums, stride = work.coupling_sums, tables.grid[1]
    coupling_sums[:] = ZERO
    kernels, double_angle, size = tables.kernels, tables.double_angle, KERNEL * LANES
    for k in range(found):
        place = work.hit_places[k]
        column = tables.column[place]
        residual = _residual(tables, layer, noise, second, place)
        added_rate = ONE + tables.residual_weight[layer, 0, column] * residual
        mean_shift = residual + tables.residual_weight[layer, 1, column]
        radial_bin = tables.radial_bin[column]
        for mode in range(MODES):
            work.incoming[0, radial_bin, mode] += tables.modes[MODES * place + mode] * residual
        cosine, sine = load_pair(double_angle, 4 * place), load_pair(double_angle, 4 * place + np.uint32(2))
        kernel = tables.kernel_offset[place]
        for row in range(KERNEL):
            start = kernel + np.uint32(row * LANES)
            values = load(kernels, start)
            if MARGIN <= row < KERNEL - MARGIN:
                values = (
                    values + load(kernels, start + size) * cosine + load(kernels, start + 2 * size) * sine
                )
            add(coupling_sums, tables.kernel_start[place] + row * stride, values, added_rate, mean_shift)
    if tables.grid[3]:
        # on a cylinder the padding before the first row belongs to the last
        margin, rows = KERNEL // 2 * stride, tables.grid[2] * stride
        for k in range(margin):
            coupling_sums[rows + k] += coupling_sums[k]
            coupling_sums[margin + k] += coupling_sums[rows + margin + k]


@inner
def _sum_incoming_modes(tables, radial_bin, work):
    """Weighted sum of the modes of this layer and of those in front for a radial bin, Eq. 16."""
    coupling, incoming, mode_shift = tables.mode_coupling, work.incoming, work.mode_shift
    mode_shift[:] = ZERO
    for source in range(MODE_SOURCES):
        for other in range(incoming.shape[1]):
            for mode in range(MODES):
                mode_shift[mode] += coupling[radial_bin, source, other, mode] * incoming[source, other, mode]


@inner
def _advance_layer(work):
    """Go on to the next layer: modes of the layers in front decay, those of this one are added."""
    own = work.incoming[0]
    for k in range(len(DECAYS)):
        others = work.incoming[k + 1]
        for radial_bin in range(len(own)):
            for mode in range(MODES):
                others[radial_bin, mode] = DECAYS[k] * others[radial_bin, mode] + own[radial_bin, mode]
    own[:] = ZERO


@inner
def _residual(tables, layer, noise, second, place):
    """Residual of a hit, Eq. 17."""
    number = noise[np.uint64(second) + tables.noise_index[place]]
    number = min(max(number, -RESIDUAL_LIMIT), RESIDUAL_LIMIT)
    return number + tables.skewness[layer, tables.column[place]] * (number * number - ONE)


@inner
def _coupled_rates(tables, axis, window, layer, work):
    """Rates with couplings over exponential numbers, above 1 where a cell is hit, Eq. 12 and 15."""
    rows, width = tables.log_mask.shape
    rate_ratio, centre = work.rate_ratio, _kernel_centre(tables)
    for block in range(0, width, LANES):
        gain, log_rate_offset = (
            load(tables.gain, 2 * layer * width + block),
            load(work.class_values, width + block),
        )
        for m in range(rows):
            if tables.row_lanes[m, 0] <= block < tables.row_lanes[m, 1]:
                place = m * width + block
                added_rate = larger(
                    gather(work.coupling_sums, centre, tables.kernel_start, place) * gain, ZERO
                )
                offset = log_rate_offset
                if axis is not None:
                    offset = add_terms(offset, axis.rate_offset, layer, block, window.terms, m)
                log_ratio = load(rate_ratio, place)
                value = exp(log_ratio + offset) + added_rate * exp(load(work.gumbel, place))
                # 1 where the first draw has a hit
                hit = smaller(larger(log_ratio * STEEP, ZERO), ONE)
                store(value * (ONE + tables.scalars[9] * hit), rate_ratio, place)


@inner
def _kernel_centre(tables):
    """Offset from where a kernel begins to its centre."""
    return np.uint32(KERNEL // 2) * (tables.grid[1] + np.uint32(2))


@inner
def _transformed_energies(tables, axis, window, layer, noise, second, found, work):
    """Transformed energies of the listed hits, Eq. 15 to 17."""
    class_values, minimum, centre = (
        work.class_values,
        tables.scalars[2],
        _kernel_centre(tables) + np.uint32(1),
    )
    for k in range(found):
        place = work.hit_places[k]
        column = tables.column[place]
        mode_shift = ZERO
        for mode in range(MODES):
            mode_shift += tables.modes[MODES * place + mode] * work.mode_shift[mode]
        shift = work.coupling_sums[tables.kernel_start[place] + centre]
        if axis is None:
            mean, sigma = class_values[2, column], class_values[3, column]
            mean = mean + class_values[4, column] * shift + sigma * mode_shift
        else:
            mean, sigma = _of_cell(tables, axis, window, layer, place, work)
            mean = mean + sigma * (tables.gain[layer, 1, column] * shift + mode_shift)
        mean = (
            mean
            + work.centre[place] * class_values[5, column]
            + work.depth_covariance[place] * class_values[6, column]
        )
        residual = _residual(tables, layer, noise, second, place)
        # reflected at the weakest hit
        work.energy[k] = abs(mean + sigma * residual - minimum) + minimum


@inner
def _of_cell(tables, axis, window, layer, place, work):
    """Mean with its offset, and sigma, of one hit in a window, Eq. 10, 15 and 22."""
    terms, width = window.terms, tables.log_mask.shape[1]
    column, m = tables.column[place], place // np.uint32(width)
    energy = work.bin_inputs[0, column] + hit_terms(axis.energy, layer, column, terms, m)
    uniform_log_rate, coefficients = work.bin_inputs[1, column], tables.coefficients
    mean = _of_input(coefficients, layer, 1, column, energy, uniform_log_rate)
    sigma = _of_input(coefficients, layer, 2, column, energy, uniform_log_rate)
    sigma = exp(min(max(sigma + work.class_values[3, column], LEAST_LOG_SIGMA), LARGEST_LOG_SIGMA))
    offset = work.class_values[2, column] + hit_terms(axis.mean_offset, layer, column, terms, m)
    return mean + sigma * offset, sigma


@inner
def _of_input(coefficients, layer, k, column, energy, uniform_log_rate):
    value = energy * coefficients[layer, k, 2, column] + coefficients[layer, k, 1, column]
    value = energy * value + coefficients[layer, k, 0, column]
    return value + uniform_log_rate * coefficients[layer, k, 3, column]


@inner
def _scale_to_sum(tables, layer, radial_bin, wanted, found, energy):
    """Energies in MeV of transformed energies, Eq. 18, but for a common factor, which is returned.

    See `EnergyTransform.energy` and `CellSampler.cell_energies`.
    """
    total, square = load(energy, 0) * ZERO, load(energy, 0) * ZERO
    for k in range(0, found, LANES):
        own = first_of(_inverse_transform(tables, layer, radial_bin, load(energy, k)), found - k)
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
def _inverse_transform(tables, layer, radial_bin, transformed_energy):
    """Energies in MeV of transformed energies, Eq. 8; see `EnergyTransform.energy`."""
    median_energy, split = tables.scalars[1], tables.scalars[4]
    distance = transformed_energy - split
    below = larger(smaller(distance, ZERO), tables.scalars[5])
    above_split = smaller(larger(distance, ZERO), tables.scalars[6])
    low, high = tables.centred_low[layer, radial_bin], tables.centred_high[layer, radial_bin]
    from_low, from_high = below - tables.scalars[7], above_split - tables.scalars[8]
    low_root = from_low * low[LOW_DEGREE] + low[LOW_DEGREE - 1]
    for power in range(2, LOW_DEGREE + 1):
        low_root = low_root * from_low + low[LOW_DEGREE - power]
    high_root = from_high * high[HIGH_DEGREE - 1] + high[HIGH_DEGREE - 2]
    for power in range(2, HIGH_DEGREE):
        high_root = high_root * from_high + high[HIGH_DEGREE - 1 - power]
    root = low_root + above_split * high_root + larger(transformed_energy - KNOT, ZERO)
    return root * root * root * median_energy
