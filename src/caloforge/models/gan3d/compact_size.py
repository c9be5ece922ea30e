"""Size of the compact networks, without building them."""

from __future__ import annotations

import itertools
import math

from caloforge.models.gan3d.cell_field import DIPOLES, KNOTS, TABLE_ENERGIES
from caloforge.models.gan3d.config import CompactDiscriminatorConfig, CompactGeneratorConfig
from caloforge.models.gan3d.sum_transport import GROUPS
from caloforge.models.layered.shower_frame import MARGIN

# activations of both networks and of the features for each cell, and parameters of each layer and cell of a
# quadrant: upper estimates
ACTIVATIONS, FIELD = 200, 8
# the same with a window, whose cells depend on the axis as well
WINDOW_FIELD = 16
# cells of a kernel of the generator and of the discriminator
KERNEL, STRIDED_KERNEL = 27, 64
Shape = tuple[int, int, int]


def compact_numbers(
    generator: CompactGeneratorConfig,
    discriminator: CompactDiscriminatorConfig,
    shape: Shape,
    *,
    window: bool = False,
) -> int:
    """Numbers in weights, tables and activations of one shower of both networks, from above.

    Args:
        generator: Configuration.
        discriminator: Likewise.
        shape: Of a shower.
        window: Whether windows follow the axes of showers.
    """
    if window:
        widest = max(shape[1:]) + 2 * MARGIN + 1
        across = min(generator.window or widest, widest)
        shape = (shape[0], across, across)
    layers, cells = shape[0], math.prod(shape)
    bins, factors, width = len(generator.radial_bins), generator.factors, generator.width
    low, middle, high = generator.channels
    convolutions = KERNEL * ((low + 1) * (low + middle) + (middle + 1) * high)
    code = width * (factors + width + 4 * low * layers + layers * bins + 2 * (low + middle + high) + 8)
    energies = TABLE_ENERGIES if generator.energy_dependent else 1
    of_bins = energies * (2 * KNOTS + DIPOLES) + 2 * factors + high + 4
    tables = layers * bins * of_bins + (WINDOW_FIELD if window else FIELD) * cells
    # of the sums, and the hits they depend on: a map at each knot, and what fits it
    groups = min(GROUPS, layers)
    sums = (generator.map_energies + 8) * (layers + groups * bins + groups + 2) ** 2
    images = [math.prod(-(-n // (1 << k)) for n in shape) for k in range(len(discriminator.channels) + 1)]
    channels = [2, *discriminator.channels]
    strided = STRIDED_KERNEL * sum(a * b for a, b in itertools.pairwise(channels))
    dense = discriminator.width * (channels[-1] * images[-1] + 4 * layers + discriminator.width)
    activations = ACTIVATIONS * cells + sum(a * b for a, b in zip(channels, images, strict=True))
    grids = cells * (low + middle + high) // 4
    return convolutions + code + tables + strided + dense + activations + grids + sums
