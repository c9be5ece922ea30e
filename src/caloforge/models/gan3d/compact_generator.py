"""The compact generator: 3D convolutions on coarse grids that displace the latent variables of all cells.

Shapes: N batch, C channels, L layers, Y and X transverse, m = Y * X, F factors, B radial bins.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from caloforge.models.base import Condition
from caloforge.models.gan3d.cell_field import DIPOLES, LARGEST_EXPLAINED, CellField
from caloforge.models.gan3d.cell_field_fit import fit_cell_field
from caloforge.models.gan3d.config import CompactGeneratorConfig
from caloforge.models.gan3d.energy_argument import EnergyArgument, powers
from caloforge.models.gan3d.hit_transport import HitTransport
from caloforge.models.gan3d.normal_transport import MapForm
from caloforge.models.gan3d.shower_axis import INCLINATION_DEGREE, AxisWindow, ShowerAxis
from caloforge.models.gan3d.sum_transport import SMALLEST_SUM, SumTransport
from caloforge.models.layered.geometry import LayerGeometry

# powers of the energy argument that the conditioning network sees
CONDITION_DEGREE = 3
# first grid: values at so many rings around the axis, those beyond are alike
SEED_RINGS = 4
# scale of outputs that shift many cells at once, whose weights must change slowly, and of those that act cell
# by cell
COMMON_SCALE, LOCAL_SCALE = 0.1, 3.0
# weight of a diagonal neighbour
CORNER = 0.5
# largest correlation of neighbours of the fit, over the largest possible one, and smallest variance of
# the noise of a cell, in units of sigma squared
LARGEST_COUPLING, LEAST_OWN = 0.8, 0.02
# showers generated at a time in the fit
FIT_ROWS = 64
# taken from the latent variables of cells that are not in the mesh
NEVER_HIT = 100.0
Shape = tuple[int, int, int]


class SymmetricConv3d(nn.Conv3d):
    """A 3 x 3 x 3 convolution whose kernels have the symmetries of detector and beam in x and y.

    Kernels are averaged over the symmetry group, so that a transformed input gives the transformed output.
    """

    mean: Tensor

    def __init__(self, channels: int, filters: int, geometry: LayerGeometry) -> None:
        """Random kernels."""
        super().__init__(channels, filters, 3, padding=1)
        classes = torch.from_numpy(geometry.plane_classes(3, mirrored=True))
        member = nn.functional.one_hot(classes).float()
        # (9, 9): mean over the displacements of a class
        self.register_buffer("mean", (member / member.sum(0)) @ member.T, persistent=False)

    def symmetric_weight(self) -> Tensor:
        """The kernels, (filters, channels, 3, 3, 3)."""
        weight: Tensor = (self.weight.flatten(3) @ self.mean).view_as(self.weight)
        return weight

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name in torch
        """(N, channels, ...) to (N, filters, ...), the same size."""
        return F.conv3d(input, self.symmetric_weight(), self.bias, padding=1)


class ModulatedConv(nn.Module):
    """Noise is appended to the channels, then convolution, modulation by the condition (FiLM), SiLU."""

    def __init__(self, channels: int, filters: int, width: int, geometry: LayerGeometry) -> None:
        """Random weights."""
        super().__init__()
        self.conv = SymmetricConv3d(channels + 1, filters, geometry)
        self.modulation = nn.Linear(width, 2 * filters)

    def forward(self, x: Tensor, noise: Tensor, code: Tensor) -> Tensor:
        """(N, channels, Z, Y, X) with noise (N, 1, Z, Y, X) and code (N, width) to (N, filters, Z, Y, X)."""
        gain, offset = self.modulation(code)[:, :, None, None, None].chunk(2, 1)
        return F.silu(self.conv(torch.cat([x, noise], 1)) * (1 + gain) + offset)


class NeighbourMaps(nn.Module):
    """Noise, and its sums over the neighbours in the layer and in depth, each of variance 1.

    Sums of these with weights are symmetric 3 x 3 x 3 convolutions of the noise.
    """

    # of the nearest neighbours, in the layer and in depth
    weights = (0.5 / math.sqrt(1 + CORNER**2), math.sqrt(0.5))
    kernel: Tensor

    def __init__(self) -> None:
        """The kernel of the neighbours in a layer."""
        super().__init__()
        kernel = torch.tensor([[CORNER, 1, CORNER], [1, 0, 1], [CORNER, 1, CORNER]])
        self.register_buffer("kernel", (kernel * self.weights[0])[None, None], persistent=False)

    def forward(self, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(N, 1, L, Y, X) to (N, L, m) each: the noise itself, in the layer, in front and behind."""
        layers, rows, columns = noise.shape[2:]
        kernels = self.kernel.expand(layers, 1, 3, 3)
        plane = F.conv2d(noise.reshape(-1, layers, rows, columns), kernels, padding=1, groups=layers)
        flat = noise.reshape(-1, layers, rows * columns)
        padded = F.pad(flat, (0, 0, 1, 1))
        depth = (padded[:, :-2] + padded[:, 2:]) * math.sqrt(0.5)
        return flat, plane.reshape(-1, layers, rows * columns), depth


@dataclass(frozen=True)
class LatentShower:
    """Showers before hits and sums are moved.

    Attributes:
        latent: (N, L, m) t, far below 0 for cells of windows that are not in the mesh.
        log_response: (N,) logarithm of visible over incident energy.
        response: (N,) the same standardised.
        axis: Of the showers, in windows.
    """

    latent: Tensor
    log_response: Tensor
    response: Tensor
    axis: ShowerAxis | None


class CompactGenerator(nn.Module):
    """From normal numbers and incident energy to showers in MeV.

    A conditioning network maps factors and energy to a code. The code makes a coarse grid and modulates three
    convolutions, at a quarter to a half of the resolution, each with noise of its own. Their output, and the
    noise of neighbouring cells, displace the latent variables of `CellField`. A common displacement gives
    groups of layers as many hits as in training showers of the same response; the cells are scaled so that
    layers and rings share the energy as in these; their sum is drawn from the response.
    """

    seed_ring: Tensor

    def __init__(
        self,
        config: CompactGeneratorConfig,
        layers: int,
        geometry: LayerGeometry,
        argument: EnergyArgument,
        window: AxisWindow | None = None,
    ) -> None:
        """Random weights, which change nothing before the training: displacements start at 0.

        Args:
            config: Of the network.
            layers: Of the detector.
            geometry: The cells of a layer, of the mesh or of a window.
            argument: Of the energy.
            window: Windows around the axes of inclined or displaced showers; without, the axis is that of the
                mesh.
        """
        super().__init__()
        shape = (layers, geometry.rows, geometry.columns)
        self.argument, self.factors = argument, config.factors
        self.window = window
        self.field = CellField(
            layers, geometry, config.factors, window, energy_dependent=config.energy_dependent
        )
        width, (low, middle, high) = config.width, config.channels
        self.grids = _grids(shape)
        known = CONDITION_DEGREE + INCLINATION_DEGREE * (window is not None)
        self.code = nn.Sequential(
            nn.Linear(config.factors + known, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU()
        )
        self.seed = nn.Linear(width, low * self.grids[0][0] * SEED_RINGS)
        self.convs = nn.ModuleList(
            ModulatedConv(channels, filters, width, geometry)
            for channels, filters in ((low, low), (low, middle), (middle, high))
        )
        bins = len(geometry.radial_bin_sizes)
        self.displacement = nn.Linear(width, layers * bins)
        self.readout = nn.Parameter(torch.zeros(high, layers, bins))
        self.neighbours = NeighbourMaps()
        # middle and slope, in the energy argument
        self.correlation = nn.Parameter(torch.zeros(len(self.neighbours.weights), layers, bins, 2))
        form = MapForm(config.map_energies, squared=config.response_squared)
        inclined = window is not None
        self.hits = HitTransport(layers, argument, form, inclined=inclined)
        self.sums = SumTransport(layers, bins, 1 + self.hits.size, argument, form, inclined=inclined)
        nn.init.zeros_(self.displacement.weight)
        nn.init.zeros_(self.displacement.bias)
        self.register_buffer("seed_ring", _rings(self.grids[0]), persistent=False)
        for number, (small, large) in enumerate(zip(self.grids[:-1], self.grids[1:], strict=True)):
            for axis in range(3):
                matrix = _interpolation(small[axis], large[axis])
                self.register_buffer(f"interpolation_{number}_{axis}", matrix, persistent=False)

    @property
    def noise_shape(self) -> tuple[int, ...]:
        """Factors, one number for the response, dipoles, one for each point of each grid, in one vector."""
        return (sum(self._noise_sizes),)

    @property
    def _noise_sizes(self) -> list[int]:
        return [self.factors, 1, 2 * DIPOLES, *map(math.prod, self.grids)]

    def axis(self, condition: Condition) -> ShowerAxis | None:
        """The axes of showers, where these are inclined or displaced."""
        return None if self.window is None else self.window(condition, self.argument(condition.energy))

    @torch.no_grad()
    def fit(self, showers: Tensor, condition: Condition) -> None:
        """Fit the closed-form start to showers (N, L, m) in MeV, negative where there is no cell."""
        energy, axis = condition.energy, self.axis(condition)
        argument = self.argument(energy)
        correlations = fit_cell_field(self.field, showers, energy, argument, axis)
        rest = (
            (1 - self.field.loadings[..., 0].square().sum(0))
            .clamp_min(1 - LARGEST_EXPLAINED)
            .sqrt()[..., None]
        )
        # c times a map in which a neighbour has the weight w, and sqrt(r^2 - c^2) times the noise of a cell,
        # give neighbours the correlation 2 w c sqrt(r^2 - c^2)
        for number, (rho, weight) in enumerate(zip(correlations, self.neighbours.weights, strict=True)):
            share = (rho.abs() / (weight * rest.square())).clamp_max(LARGEST_COUPLING)
            ends = rho.sign() * rest * ((1 - (1 - share.square()).sqrt()) / 2).sqrt() / LOCAL_SCALE
            middle_and_slope = ends.new_tensor([[0.5, -0.5], [0.5, 0.5]])
            self.correlation[number] = ends @ middle_and_slope
        self.fit_transport(showers, condition)

    @torch.no_grad()
    def fit_transport(self, showers: Tensor, condition: Condition) -> None:
        """Fit the maps of hits and sums: the same showers against as many generated ones."""
        energy, axis = condition.energy, self.axis(condition)
        argument = self.argument(energy)
        parts = torch.split(showers, FIT_ROWS)
        sums = torch.cat([self.field.bin_sums(part.clamp_min(0)) for part in parts])
        hits = torch.cat([self.hits.hits(part) for part in parts])
        log_response = (sums.sum((1, 2)) / energy).clamp_min(SMALLEST_SUM).log()
        response = self.field.response_score(log_response, argument, axis)
        self._fit_hits(hits, condition, response)
        self._fit_sums(
            sums, condition, torch.cat([response[:, None], self.hits.known(hits, energy, axis)], 1)
        )

    def _fit_hits(self, hits: Tensor, condition: Condition, response: Tensor) -> None:
        """Compare the hits of groups of layers (N, G) with those of as many generated showers."""
        found = []
        for _, shower in self._draws(condition):
            found.append(
                (self.hits.hits(shower.latent), self.hits.log_density(shower.latent), shower.response)
            )
        generated, density, scores = map(torch.cat, zip(*found, strict=True))
        axis = self.axis(condition)
        self.hits.fit((generated, scores), (hits, response), density, condition.energy, axis)

    def _fit_sums(self, sums: Tensor, condition: Condition, known: Tensor) -> None:
        """Compare the sums of layers and rings (N, L, B) with those of as many generated showers."""
        found = []
        for own, shower in self._draws(condition):
            latent = self._with_hits(shower, own.energy)
            cells = self.field.energies(latent, self.argument(own.energy))
            found.append((self.field.bin_sums(cells), self._known(latent, shower, own.energy)))
        generated, of_generated = map(torch.cat, zip(*found, strict=True))
        self.sums.fit((generated, of_generated), (sums, known), condition.energy, self.axis(condition))

    def _draws(self, condition: Condition) -> Iterator[tuple[Condition, LatentShower]]:
        """A few conditions at a time and latent showers for them, with the same noise in every process."""
        rng = torch.Generator().manual_seed(0)
        for first in range(0, len(condition), FIT_ROWS):
            own = condition[slice(first, first + FIT_ROWS)]
            noise = torch.randn(len(own), *self.noise_shape, generator=rng)
            yield own, self._latent_shower(own, noise)

    def forward(self, condition: Condition, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Generate showers.

        Args:
            condition: N conditions; without a window only the incident energy is used.
            noise: (N, *noise_shape) standard normal.

        Returns:
            Showers (N, L, m) in MeV, or windows of them; the latent variables t of their cells, positive
            where hit; mean square of the logarithm of the factors, (N,), that brought their sums to the
            wanted ones.
        """
        energy = condition.energy
        shower = self._latent_shower(condition, noise)
        latent = self._with_hits(shower, energy)
        cells = self.field.energies(latent, self.argument(energy))
        sums = self.field.bin_sums(cells)
        factors = self.sums(sums, self._known(latent, shower, energy), energy, shower.axis)
        scaled = (sums * factors).sum((1, 2)).clamp_min(SMALLEST_SUM)
        factors = factors * (energy * shower.log_response.exp() / scaled)[:, None, None]
        weight = sums / sums.sum((1, 2), keepdim=True).clamp_min(SMALLEST_SUM)
        distortion = (weight * factors.clamp_min(SMALLEST_SUM).log().square()).sum((1, 2))
        return cells * self.field.of_bins(factors), latent, distortion

    def _with_hits(self, shower: LatentShower, energy: Tensor) -> Tensor:
        """Latent variables, displaced so that there are as many hits as wanted, (N, L, m)."""
        moved = self.hits(shower.latent, shower.response, energy, shower.axis)
        latent: Tensor = shower.latent + moved[..., None]
        return latent

    def _known(self, latent: Tensor, shower: LatentShower, energy: Tensor) -> Tensor:
        """What sums of layers and rings depend on: standardised response and hits, (N, 1 + G)."""
        hits = self.hits.known(self.hits.hits(latent), energy, shower.axis)
        return torch.cat([shower.response[:, None], hits], 1)

    def _latent_shower(self, condition: Condition, noise: Tensor) -> LatentShower:
        """Latent variables of all cells before anything is moved, and the response."""
        energy, axis = condition.energy, self.axis(condition)
        argument = self.argument(energy)
        factors, rest, dipoles, *grids = torch.split(noise, self._noise_sizes, dim=1)
        images = [grid.view(-1, 1, *size) for grid, size in zip(grids, self.grids, strict=True)]
        known = [factors, powers(argument, CONDITION_DEGREE)[:, 1:]] + (
            [] if axis is None else [axis.powers()]
        )
        code = self.code(torch.cat(known, 1))
        x = self.seed(code).view(code.shape[0], -1, self.grids[0][0], SEED_RINGS)
        x = x.index_select(-1, self.seed_ring.flatten()).view(*x.shape[:-1], *self.grids[0][1:])
        for number, conv in enumerate(self.convs):
            x = self._upsampled(conv(x, images[number], code), number)
        own, *neighbours = self.neighbours(images[-1])
        coupling = LOCAL_SCALE * (
            self.correlation[..., 0] + argument[:, None, None, None] * self.correlation[..., 1]
        )
        common, aside, rest_width = self.field.factor_field(argument, factors, dipoles.view(-1, DIPOLES, 2))
        common = common + COMMON_SCALE * self.displacement(code).view_as(common)
        # one by one: a sum over a channel axis is slower
        maps = [*x.flatten(3).unbind(1), *neighbours, *self.field.direction]
        weights = [*(LOCAL_SCALE * self.readout), *coupling.unbind(1), *aside]
        local = torch.zeros(()) if axis is None else self.field.axis_displacement(argument, axis)
        for values, weight in zip(maps, weights, strict=True):
            local = local + values * self.field.of_bins(weight)
        # neighbours take nothing from the variance of a cell
        rest_width = (rest_width.square() - coupling.square().sum(1)).clamp_min(LEAST_OWN).sqrt()
        moments = self.field.class_moments(argument, axis)
        latent = self.field.latent(moments, argument, common, rest_width, own, local)
        if axis is not None:
            latent = latent - NEVER_HIT * (1 - self._available(axis))
        log_response = self.field.log_response(argument, factors, rest[:, 0], axis)
        response = self.field.response_score(log_response, argument, axis)
        return LatentShower(latent, log_response, response, axis)

    def _available(self, axis: ShowerAxis) -> Tensor:
        """1 for the cells of windows that are in the mesh, else 0, (N, L, m)."""
        assert self.window is not None
        return self.window.frame.available(axis.position)

    def _upsampled(self, x: Tensor, number: int) -> Tensor:
        """Linear interpolation to the next grid, one axis at a time."""
        deep, high, wide = (getattr(self, f"interpolation_{number}_{axis}") for axis in range(3))
        if deep.shape[0] != deep.shape[1]:
            x = (deep @ x.flatten(3)).view(*x.shape[:2], -1, *x.shape[3:])
        if high.shape[0] != high.shape[1]:
            x = high @ x
        return x @ wide.T if wide.shape[0] != wide.shape[1] else x


def _half(size: int) -> int:
    return (size + 1) // 2


def _grids(shape: Shape) -> tuple[Shape, ...]:
    """Sizes of the grids: a quarter, half in y and x, half, all."""
    half = tuple(map(_half, shape))
    quarter = tuple(map(_half, half))
    return (
        (quarter[0], quarter[1], quarter[2]),
        (quarter[0], half[1], half[2]),
        (half[0], half[1], half[2]),
        shape,
    )


def _rings(grid: Shape) -> Tensor:
    """(Y, X) ring of each point around the middle of a grid, the outermost ones alike."""
    away = [np.floor(np.abs(np.arange(n) - (n - 1) / 2)).astype(np.int64) for n in grid[1:]]
    return torch.from_numpy(np.maximum(away[0][:, None], away[1][None]).clip(max=SEED_RINGS - 1))


def _interpolation(small: int, large: int) -> Tensor:
    """(large, small) matrix of linear interpolation whose ends coincide."""
    place = np.linspace(0, small - 1, large)
    lower = np.minimum(place.astype(np.int64), max(small - 2, 0))
    matrix = np.zeros((large, small), np.float32)
    matrix[np.arange(large), lower] = 1 - (place - lower)
    if small > 1:
        matrix[np.arange(large), lower + 1] += place - lower
    return torch.from_numpy(matrix)
