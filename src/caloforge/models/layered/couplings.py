"""Couplings between cells of a layer: hits raise rates and shift energies of their neighbours, Eq. 12.

A particle that flies at an angle crosses several cells. A hit adds the same expected number of particles to
its neighbours wherever it is, so the coupling is added to the rate, not to its logarithm. Particles fly away
from the axis, so it is stronger along that direction than across it, Eq. 15.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from caloforge.models.layered.azimuthal_modes import AzimuthalCoupling
from caloforge.models.layered.cell_density import CellCondition, CellDensity
from caloforge.models.layered.constants import ANISOTROPY_KERNEL, KERNEL, LEGENDRE_TERMS
from caloforge.models.layered.geometry import LayerGeometry
from caloforge.models.layered.shower_frame import AxisTerms

# convolutions are fast with a multiple of so many layers
CHANNELS = 16
# units of the kernels: a hit adds a few hundredths of a particle to a neighbour, and shifts its energy by a
# tenth of a standard deviation; parameters near one suit the steps of the optimiser
SCALES = (0.04, 0.1)
# where every cell is hit, pairs of hits do not depend on the gain, which must not drift
LOG_GAIN_RANGE = (-2.0, 2.0)
# a hit of the first draw stays, and what it adds to its neighbours comes beside it, not in its place
PREFERENCE = 1000.0


class NeighbourCoupling(nn.Module):
    """Rates that hits add to the cells around them, and shifts of the mean energies there, Eq. 12.

    Cells of a cylindrical mesh grow with their distance from the axis, so each ring has a kernel of its own.

    Attributes:
        kernels: (2, n) coupling of rates, and of means, by class of displacement, in units of SCALES.
        residual_weight: (2, layers, 1) weight of a residual beside a hit in the coupling of rates; of a hit
            beside a residual in that of means.
        gain: (2, layers, classes) how much more strongly than others the cells of a class respond; gamma of
            Eq. 15.
        causal: Whether a cell is coupled to the cells before it in reading order only. Then the product of
            all densities is an exact density of the layer, Eq. 13. Otherwise it is coupled to all cells
            around it, and kernels have the symmetries of the detector.
    """

    kernel_class: Tensor
    reach: Tensor
    ring_place: Tensor
    symmetry_class: Tensor

    def __init__(self, layers: int, geometry: LayerGeometry, *, causal: bool) -> None:
        """First guesses: the eight nearest neighbours alike.

        Args:
            layers: Layers of a shower.
            geometry: Cells of a layer.
            causal: See the class.
        """
        super().__init__()
        self.layers, self.geometry, self.causal = layers, geometry, causal
        kernel_class = geometry.kernel_classes(KERNEL, mirrored=not causal)
        reach = torch.from_numpy(geometry.kernel_reach(KERNEL)) & _causal_mask(causal)
        self.register_buffer("kernel_class", torch.from_numpy(kernel_class), persistent=False)
        self.register_buffer("reach", reach, persistent=False)
        self.register_buffer("symmetry_class", torch.from_numpy(geometry.symmetry_class), persistent=False)
        self.register_buffer("ring_place", torch.from_numpy(_ring_places(geometry)), persistent=False)
        adjacent = torch.zeros(KERNEL, KERNEL)
        adjacent[KERNEL // 2 - 1 : KERNEL // 2 + 2, KERNEL // 2 - 1 : KERNEL // 2 + 2] = 1
        kernels = torch.zeros(2, int(kernel_class.max()) + 1)
        kernels[0, kernel_class[reach]] = adjacent.flatten().expand(reach.shape)[reach]
        self.kernels = nn.Parameter(kernels)
        self.residual_weight = nn.Parameter(torch.zeros(2, layers, 1))
        self.gain = nn.Parameter(torch.zeros(2, layers, geometry.symmetry_classes))

    def forward(self, hit_mask: Tensor, residuals: Tensor) -> tuple[Tensor, Tensor]:
        """Added rate, and shift of the mean in standard deviations, (N, layers, cells) each.

        Args:
            hit_mask: (N, layers, cells), 1 or 0.
            residuals: (N, layers, cells), 0 where there is no hit.
        """
        gain, residual_weight = self.gains(), self.residual_weights()
        added_rate = self._coupling_sum(hit_mask + residual_weight[0] * residuals, 0)
        mean_shift = self._coupling_sum(residuals + residual_weight[1] * hit_mask, 1)
        return F.relu(added_rate * gain[0]), mean_shift * gain[1]

    def gains(self) -> Tensor:
        """Factors of both couplings for each cell, (2, layers, cells)."""
        return 1 + self.gain[..., self.symmetry_class]

    def residual_weights(self) -> Tensor:
        """Weights for each cell, (2, layers, cells or 1)."""
        return self.residual_weight

    def kernel(self) -> Tensor:
        """The kernels by displacement, (2, kernels, KERNEL * KERNEL), see `LayerGeometry.kernels`."""
        scales = torch.tensor(SCALES, device=self.kernels.device)[:, None, None]
        return scales * self.kernels[:, self.kernel_class] * self.reach

    def _coupling_sum(self, x: Tensor, kernel_index: int) -> Tensor:
        """Sums over the neighbours of cells (N, layers, cells), weighted with kernel 0 or 1."""
        if self.geometry.circular:
            return self._sum_over_rings(x, self.kernel()[kernel_index])
        grid = x.view(-1, self.layers, self.geometry.rows, self.geometry.columns)
        # pad with empty layers: runtimes vectorise over a multiple of so many only
        grid = F.pad(grid, (0, 0, 0, 0, 0, -self.layers % CHANNELS))
        return self._apply_kernel(grid, kernel_index)[:, : self.layers].flatten(2)

    def _sum_over_rings(self, x: Tensor, kernel: Tensor) -> Tensor:
        """The same on a cylindrical mesh: a convolution along the azimuth, from all rings to all rings.

        Args:
            x: (N, layers, cells).
            kernel: (rings, KERNEL * KERNEL).
        """
        rows, columns, pad = self.geometry.rows, self.geometry.columns, KERNEL // 2
        # what lies beyond the reach of a kernel is taken from a zero behind it
        weights = F.pad(kernel.flatten(), (0, 1))[self.ring_place]
        sectors = torch.arange(-pad, rows + pad, device=x.device) % rows
        grid = x.reshape(-1, rows, columns).mT
        # a reading order has a beginning; selected sectors, as not every runtime has a wrapping pad
        grid = F.pad(grid, (pad, pad)) if self.causal else grid.index_select(2, sectors)
        return F.conv1d(grid, weights).mT.reshape(x.shape)

    def _apply_kernel(self, grid: Tensor, kernel_index: int) -> Tensor:
        """Sums for a grid (N, k, rows, columns) with a kernel that all cells have in common."""
        return self._convolve(grid, self.kernel()[kernel_index, 0].view(KERNEL, KERNEL))

    @staticmethod
    def _convolve(grid: Tensor, kernel: Tensor) -> Tensor:
        """Convolution of each layer of (N, k, rows, columns) with one square kernel, of the same size."""
        count = grid.shape[1]
        kernels = kernel.expand(count, 1, -1, -1)
        return F.conv2d(grid, kernels, padding=len(kernel) // 2, groups=count)

    def _load_from_state_dict(self, state: dict[str, Tensor], prefix: str, *rest: Any) -> None:
        # models of earlier releases have one kernel for all rings
        if self.geometry.circular:
            common = torch.from_numpy(self.geometry.plane_classes(KERNEL, mirrored=not self.causal))
            for name in ("kernels", "anisotropy"):
                stored, own = state.get(prefix + name), getattr(self, name, None)
                if stored is not None and stored.shape == (2, int(common.max()) + 1):
                    assert own is not None
                    kernels = torch.zeros_like(own)
                    kernels[:, self.kernel_class[self.reach]] = stored[
                        :, common.expand_as(self.reach)[self.reach]
                    ].to(own)
                    state[prefix + name] = kernels
        super()._load_from_state_dict(state, prefix, *rest)


class StudentCoupling(NeighbourCoupling):
    """Couplings to all cells around a cell, computed from a draw without couplings, Eq. 15.

    Matching of moments sets the parameters, see `moment_matching.py`.

    Attributes:
        anisotropy: (2, n) part of the kernels that goes with the cosine of twice the angle between
            displacement and direction from the axis; in the inner part of the kernel only.
        ring_anisotropy: (2, rings) how much larger this part is for the cells of a ring.
        offsets: (3, LEGENDRE_TERMS, layers, classes) added to log rate, to the mean in standard deviations,
            and to log sigma, for each Legendre polynomial of the energy argument.
        log_gain: (2, layers, rings) logarithms of factors of both couplings.
        residual_weight: (2, layers, rings) see the base class; the first is matched, the second the
            teacher's.
        gain: (2, layers, classes) the teacher's.
        azimuthal: Coupling of azimuthal modes, Eq. 16.
        preference: () Q of Eq. 15: how much larger rates of cells are that the first draw hits.
        axis_offsets: (2, K, layers, classes) of Eq. 22, added to log rate and to the mean in standard
            deviations. Only with a window.
    """

    ring: Tensor
    radial_bin: Tensor
    preference: Tensor
    double_angle: Tensor
    kernel_double_angle: Tensor
    inner_places: Tensor
    pair_cells: Tensor
    pair_displacement: Tensor
    pair_class: Tensor
    pair_adjacent: Tensor

    def __init__(self, layers: int, geometry: LayerGeometry, axis: AxisTerms | None = None) -> None:
        """First guesses; see the base class.

        Args:
            layers: Layers of a shower.
            geometry: Cells of a layer.
            axis: Terms of Eq. 22, for windows around the axes of showers.
        """
        super().__init__(layers, geometry, causal=False)
        self.register_buffer("ring", torch.from_numpy(geometry.ring.copy()), persistent=False)
        self.register_buffer("radial_bin", torch.from_numpy(geometry.radial_bin.copy()), persistent=False)
        self.register_buffer("double_angle", torch.from_numpy(geometry.double_angle()), persistent=False)
        self.register_buffer(
            "kernel_double_angle", torch.from_numpy(geometry.kernel_double_angle(KERNEL)), persistent=False
        )
        inside = slice(KERNEL // 2 - ANISOTROPY_KERNEL // 2, KERNEL // 2 + ANISOTROPY_KERNEL // 2 + 1)
        places = torch.arange(KERNEL * KERNEL).view(KERNEL, KERNEL)[inside, inside]
        self.register_buffer("inner_places", places.flatten(), persistent=False)
        # of two opposite displacements one
        neighbour_index = geometry.neighbour_index(KERNEL)
        place, first = np.nonzero(
            (neighbour_index >= 0) & (np.arange(len(neighbour_index)) > len(neighbour_index) // 2)[:, None]
        )
        pairs = np.stack([first, neighbour_index[place, first]])
        apart = np.abs(np.stack(np.divmod(place, KERNEL)) - KERNEL // 2).max(axis=0)
        self.register_buffer("pair_cells", torch.from_numpy(pairs), persistent=False)
        self.register_buffer("pair_displacement", torch.from_numpy(place), persistent=False)
        there = geometry.kernel_of_cell[first] * len(neighbour_index) + place
        back = geometry.opposite_displacement(KERNEL)[there]
        pair_class = self.kernel_class.flatten()[np.stack([there, back])]
        self.register_buffer("pair_class", pair_class, persistent=False)
        self.register_buffer("pair_adjacent", torch.from_numpy(apart == 1), persistent=False)
        self.anisotropy = nn.Parameter(torch.zeros_like(self.kernels))
        self.ring_anisotropy = nn.Parameter(torch.zeros(2, int(geometry.ring.max()) + 1))
        # the teacher's gain, which matching leaves as it is
        gain = self.gain.detach().clone()
        del self.gain
        self.register_buffer("gain", gain)
        self.residual_weight = nn.Parameter(torch.zeros(2, layers, int(geometry.ring.max()) + 1))
        self.offsets = nn.Parameter(torch.zeros(3, LEGENDRE_TERMS, layers, geometry.symmetry_classes))
        self.log_gain = nn.Parameter(torch.zeros(2, layers, int(geometry.ring.max()) + 1))
        self.azimuthal = AzimuthalCoupling(layers, geometry)
        self.register_buffer("preference", torch.tensor(PREFERENCE))
        self.axis = axis
        if axis is not None:
            self.axis_offsets = nn.Parameter(torch.zeros(2, axis.count, layers, geometry.symmetry_classes))

    def density(
        self, independent: CellDensity, hit_mask: Tensor, residuals: Tensor, condition: CellCondition
    ) -> CellDensity:
        """Density of the cells with couplings and offsets, Eq. 12, 15 and 16.

        Args:
            independent: Density without couplings.
            hit_mask: (N, layers, cells) of a draw without couplings.
            residuals: (N, layers, cells) of its hits.
            condition: Of the showers.
        """
        offsets = self.offsets[..., self.symmetry_class]
        log_rate_offset, mean, width = (
            (legendre(condition.energy_argument) @ offsets.flatten(2))
            .view(3, -1, *offsets.shape[2:])
            .unbind(0)
        )
        if self.axis is not None and condition.window is not None:
            terms = condition.window.terms
            log_rate_offset = log_rate_offset + self.axis.values(terms, self.axis_offsets[0])
            mean = mean + self.axis.values(terms, self.axis_offsets[1])
        added_rate, mean_shift = self(hit_mask, residuals)
        offset_density = CellDensity(
            independent.rate * log_rate_offset.exp(), independent.mean, independent.log_sigma + width
        )
        coupled = offset_density.coupled(added_rate, mean_shift + mean + self.azimuthal(residuals))
        preferred = replace(coupled, rate=coupled.rate * (1 + self.preference * hit_mask))
        return preferred.within(condition)

    def gains(self) -> Tensor:
        """See the base class."""
        return super().gains() * self.log_gain.exp()[:, :, self.ring]

    def residual_weights(self) -> Tensor:
        """See the base class."""
        return self.residual_weight[:, :, self.ring]

    def anisotropic_kernel(self) -> Tensor:
        """Anisotropic part of both kernels by inner displacement, (2, 2, displacements).

        The cosine and the sine part are multiplied with `weighted_double_angle` of the cell that is the
        source.
        """
        scales = torch.tensor(SCALES, device=self.kernels.device)[:, None, None]
        return (
            scales
            * self.anisotropy[:, None, self.kernel_class[0, self.inner_places]]
            * self.kernel_double_angle[:, self.inner_places]
        )

    def weighted_double_angle(self) -> Tensor:
        """Cosine and sine of twice the azimuth of each cell, with the weight of its ring, (2, 2, cells)."""
        return self.double_angle * (1 + self.ring_anisotropy[:, None, self.ring])

    def _load_from_state_dict(self, state: dict[str, Tensor], prefix: str, *rest: Any) -> None:
        # in models of earlier releases hits of the first draw are like others
        state.setdefault(prefix + "preference", torch.zeros_like(self.preference))
        super()._load_from_state_dict(state, prefix, *rest)

    def _apply_kernel(self, grid: Tensor, kernel_index: int) -> Tensor:
        """See the base class."""
        outgoing = super()._apply_kernel(grid, kernel_index)
        for double_angle, kernel in zip(
            self.weighted_double_angle()[kernel_index], self.anisotropic_kernel()[kernel_index], strict=True
        ):
            weighted = grid * double_angle.view(grid.shape[2:])
            outgoing = outgoing + self._convolve(weighted, kernel.view(ANISOTROPY_KERNEL, ANISOTROPY_KERNEL))
        return outgoing

    @torch.no_grad()
    def clamp_parameters(self) -> None:
        """Clamp the parameters that no moment bounds."""
        self.log_gain.clamp_(*LOG_GAIN_RANGE)
        self.azimuthal.clamp_parameters()

    def class_sums(self, field: Tensor) -> Tensor:
        """Means of a field (N, layers, cells), summed over symmetry classes, (layers, classes)."""
        return torch.zeros_like(self.offsets[0, 0]).index_add_(1, self.symmetry_class, field.mean(0))

    def neighbour_products(self, field: Tensor, other: Tensor) -> Tensor:
        """Mean products of each cell with its eight neighbours in another field, (layers, rings).

        Args:
            field: (N, layers, cells).
            other: (N, layers, cells).
        """
        grid = other.reshape(-1, 1, self.geometry.rows, self.geometry.columns)
        wrapped = F.pad(grid, (0, 0, 1, 1), mode="circular") if self.geometry.circular else grid
        around = (0 if self.geometry.circular else 1, 1)
        sums = F.avg_pool2d(wrapped, 3, stride=1, padding=around) * 9 - grid
        products = (field * sums.view(field.shape)).mean(0)
        return torch.zeros_like(self.log_gain[0]).index_add_(1, self.ring, products)

    def pair_products(self, field: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Mean products of pairs of cells of a field, by displacement.

        Args:
            field: (N, layers, cells).

        Returns:
            (n,) by class of displacement; (n,) the same times the cosine of twice the angle between
            displacement and direction from the axis; (rings,) the latter for adjacent cells, by ring.
        """
        cells = field.flatten(0, 1)
        products = (cells.T @ cells)[self.pair_cells[0], self.pair_cells[1]] / cells.numel()
        along = products * (
            self.double_angle[:, self.pair_cells[0]] * self.kernel_double_angle[:, self.pair_displacement]
        ).sum(0)
        both = torch.stack([products, along])
        sums = torch.zeros_like(self.kernels).index_add_(1, self.pair_class[0], both)
        # a pair is the same from either of its cells: it counts for both displacements, for a class once
        sums.index_add_(1, self.pair_class[1], both * (self.pair_class[1] != self.pair_class[0]))
        adjacent = torch.where(self.pair_adjacent, along, 0.0)
        return *sums, torch.zeros_like(self.ring_anisotropy[0]).index_add_(
            0, self.ring[self.pair_cells[0]], adjacent
        )


def legendre(energy_argument: Tensor) -> Tensor:
    """Legendre polynomials of degree 0, 1 and 2 of the energy argument, (N, LEGENDRE_TERMS) from (N,)."""
    return torch.stack(
        [torch.ones_like(energy_argument), energy_argument, 1.5 * energy_argument**2 - 0.5], dim=1
    )


def _causal_mask(causal: bool) -> Tensor:
    """(KERNEL * KERNEL,) whether a cell is coupled to a displacement; never to itself."""
    place, centre = torch.arange(KERNEL * KERNEL), KERNEL * KERNEL // 2
    return (place < centre) if causal else (place != centre)


def _ring_places(geometry: LayerGeometry) -> NDArray[np.int64]:
    """(rings, rings, KERNEL) index of the kernel's element from the second ring to the first, by azimuth.

    Pairs of rings that are further apart have the index behind the last element.
    """
    rings, pad = geometry.kernels, KERNEL // 2
    ring, source, turn = np.indices((rings, rings, KERNEL))
    out = source - ring + pad
    index: NDArray[np.int64] = (ring * KERNEL + turn) * KERNEL + out
    return np.where((out >= 0) & (out < KERNEL), index, rings * KERNEL * KERNEL)
