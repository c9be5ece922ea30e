"""Sampler of the cells of a shower given its layer features, Eq. 13 to 18.

Each cell has a density of three numbers: rate, mean and log sigma. They depend on the layer features
(`independent_cells.py`) and on other cells of the layer (`couplings.py`).

The teacher couples each cell to the cells before it: an exact density of the shower, trained by its
likelihood. A draw cell by cell takes as many steps as there are cells; Jacobi's iteration, all cells at once
with the same noise, reaches the same shower in a few passes, as couplings are weak. The student needs one
pass: it computes all couplings from a draw without couplings. It starts from the teacher's parameters and is
trained by matching of moments.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from caloforge.models.layered.cell_density import (
    CellCondition,
    CellDensity,
    Cells,
    gumbel_from_normal,
    heaviside,
)
from caloforge.models.layered.constants import ALMOST_ONE, KERNEL
from caloforge.models.layered.couplings import NeighbourCoupling, StudentCoupling
from caloforge.models.layered.geometry import LayerGeometry
from caloforge.models.layered.independent_cells import IndependentCells
from caloforge.models.layered.residual_skewness import ResidualSkewness
from caloforge.models.layered.shower_frame import AxisTerms

# mean number of hits over that of a draw without couplings, about
HITS_PER_UNCOUPLED_HIT = 1.3
# least gain that the student takes over from the teacher
LEAST_GAIN = 0.3
NEVER = 1e-12


@dataclass(frozen=True)
class CellNoise:
    """Noise in the form that a draw needs, (N, layers, cells) each.

    Attributes:
        inverse_exponential: One over unit exponential numbers, 1 / xi of Eq. 14.
        residuals: Residuals of hits, Eq. 17.
    """

    inverse_exponential: Tensor
    residuals: Tensor


class CellSampler(nn.Module):
    """Density of the cells, and draws from it.

    Attributes:
        max_hits: (bins,) largest number of hits of each radial bin in the training showers.
        independent: Density without couplings.
        residual_skewness: Skewness of the residuals.
        teacher: Couplings to the cells before each cell.
        student: Couplings to all cells around each cell.
    """

    bin_membership: Tensor
    max_hits: Tensor

    def __init__(
        self, layers: int, geometry: LayerGeometry, *, threshold: float, axis: AxisTerms | None = None
    ) -> None:
        """First guesses.

        Args:
            layers: Layers of a shower.
            geometry: Cells of a layer.
            threshold: Least energy of a cell, MeV.
            axis: Terms of Eq. 22, for windows around the axes of showers.
        """
        super().__init__()
        self.geometry = geometry
        self.register_buffer("bin_membership", torch.from_numpy(geometry.bin_membership), persistent=False)
        self.register_buffer("max_hits", torch.from_numpy(geometry.radial_bin_sizes.copy()))
        self._max_hits = self.max_hits.tolist()
        self.register_load_state_dict_post_hook(lambda module, _: module.set_max_hits(module.max_hits))  # type: ignore[no-untyped-call]
        self.independent = IndependentCells(layers, geometry, threshold, axis)
        self.residual_skewness = ResidualSkewness(layers, geometry)
        self.teacher = NeighbourCoupling(layers, geometry, causal=True)
        self.student = StudentCoupling(layers, geometry, axis)

    def set_max_hits(self, max_hits: Tensor) -> None:
        """Set the largest number of hits of each radial bin, (bins,); fewer are found faster."""
        self.max_hits.copy_(max_hits)
        # numbers of Python: they are shapes in an exported graph, which weights cannot be
        self._max_hits = self.max_hits.tolist()

    def start_student(self) -> None:
        """Fit the skewness of the residuals, and start the student from the teacher, Eq. 15.

        The teacher counts a pair of cells once, the student twice, so kernels are halved and symmetrised. The
        student sees only the hits of a draw without couplings, which are fewer than all, so its kernel is
        larger.
        """
        self.residual_skewness.fit()
        with torch.no_grad():
            # of each displacement within reach of the student, the teacher's kernel there and back
            there = HITS_PER_UNCOUPLED_HIT * (
                self.teacher.kernels[:, self.teacher.kernel_class] * self.teacher.reach
            ).flatten(1)
            both = (there + there[:, self.geometry.opposite_displacement(KERNEL)]) / 2
            reach = self.student.reach.flatten()
            classes = self.student.kernel_class.flatten()[reach]
            count = torch.bincount(classes, minlength=self.student.kernels.shape[1])
            sums = torch.zeros_like(self.student.kernels).index_add_(1, classes, both[:, reach])
            self.student.kernels.copy_(sums / count.clamp_min(1))
            self.student.residual_weight.copy_(
                self.teacher.residual_weight.expand_as(self.student.residual_weight)
            )
            # a gain of zero could not be raised by the student's factor exp(log_gain)
            self.student.gain.copy_(self.teacher.gain.clamp_min(LEAST_GAIN - 1))

    def teacher_density(
        self, cells: Cells, independent: CellDensity, condition: CellCondition
    ) -> CellDensity:
        """The teacher's density of every cell given the cells before it, Eq. 12 and 13."""
        coupled = independent.coupled(*self.teacher(cells.hit_mask, independent.residuals(cells)))
        return coupled.within(condition)

    # ---- draws

    def draw(self, condition: CellCondition, noise: tuple[Tensor, Tensor]) -> Cells:
        """Draw cells by the student, in one pass, Eq. 15.

        Args:
            condition: Sums, position and energy of the showers.
            noise: Standard normal numbers for hits and for residuals, (N, layers, cells) each.
        """
        independent, cell_noise = self.independent(condition), self._cell_noise(noise)
        hit_mask = heaviside(independent.rate * cell_noise.inverse_exponential - 1)
        density = self.student.density(independent, hit_mask, cell_noise.residuals * hit_mask, condition)
        return self._sample(density, condition, cell_noise)

    def draw_by_teacher(self, condition: CellCondition, noise: tuple[Tensor, Tensor], passes: int) -> Cells:
        """Draw cells by the teacher in some passes of Jacobi's iteration; with 0 passes without couplings."""
        independent, cell_noise = self.independent(condition), self._cell_noise(noise)
        cells = self._sample(independent, condition, cell_noise)
        for _ in range(passes):
            cells = self._sample(self.teacher_density(cells, independent, condition), condition, cell_noise)
        return cells

    def _cell_noise(self, noise: tuple[Tensor, Tensor]) -> CellNoise:
        return CellNoise(gumbel_from_normal(noise[0]).exp(), self.residual_skewness(noise[1]))

    def _sample(self, density: CellDensity, condition: CellCondition, noise: CellNoise) -> Cells:
        """The cells that the noise makes with a density, Eq. 14 and 17."""
        rate_ratio = density.rate * noise.inverse_exponential
        hit_mask = heaviside(
            rate_ratio * (self._rate_factor(rate_ratio, condition.hit_counts) @ self.bin_membership.T)
            - ALMOST_ONE
        )
        minimum = self.independent.energy_transform.minimum
        # reflected at the weakest hit
        above = (density.mean - minimum + density.sigma() * noise.residuals).abs()
        return Cells(hit_mask, (above + minimum) * hit_mask)

    def _rate_factor(self, rate_ratio: Tensor, wanted: Tensor) -> Tensor:
        """Factors of the rates with which each radial bin has its number of hits, (N, layers, bins).

        Args:
            rate_ratio: (N, layers, cells) rates over exponential numbers, lambda / xi.
            wanted: (N, layers, bins) numbers of hits.
        """
        ranks = (torch.minimum(wanted.clamp_min(1), self.max_hits) - 1).long()
        last_hits = [
            self._last_hit(rate_ratio, radial_bin, ranks[..., radial_bin : radial_bin + 1])
            for radial_bin in range(wanted.shape[2])
        ]
        return torch.where(wanted > 0, 1 / torch.cat(last_hits, dim=2), NEVER)

    def _last_hit(self, rate_ratio: Tensor, radial_bin: int, rank: Tensor) -> Tensor:
        """The rate ratio at a place of the sorted ratios of a radial bin, largest first, (N, layers, 1)."""
        cells, most = np.flatnonzero(self.geometry.radial_bin == radial_bin), self._max_hits[radial_bin]
        if 2 * len(cells) > self.geometry.cells:
            # setting cells outside the bin to zero is cheaper than gathering those inside
            own = rate_ratio * self.bin_membership[:, radial_bin]
        else:
            own = rate_ratio.index_select(2, torch.from_numpy(cells).to(rate_ratio.device))
        return own.topk(most, dim=2).values.gather(2, rank)

    def cell_energies(self, cells: Cells, condition: CellCondition) -> Tensor:
        """Cell energies in MeV, (N, layers, cells), with the energy of each radial bin exact, Eq. 18."""
        energy = self.independent.energy_transform.energy(cells.transformed_energy, self.student.radial_bin)
        # the uncertainty of a sum is that of its large terms: they take most of the difference
        missing = condition.bin_energy - energy @ self.bin_membership
        change = energy * (
            (missing / ((energy * energy) @ self.bin_membership).clamp_min(1e-12)) @ self.bin_membership.T
        )
        energy = energy * (1 + change.clamp_min(0)) / (1 - change.clamp_max(0))
        ratio = condition.bin_energy / (energy @ self.bin_membership).clamp_min(1e-9)
        return energy * (ratio @ self.bin_membership.T)
