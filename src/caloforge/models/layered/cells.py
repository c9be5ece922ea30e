"""Second stage: the cells of a shower given its summary.

Three numbers for each cell, lambda, mean and log width of its density, come from what the summary says of
the cell (its zone's energy and hits, the tilt of the axis) and from what other cells of the layer say.

The teacher sees the cells before each cell: an exact density of the shower, trained by its likelihood. A
draw from it has as many steps as cells; all cells at once, again and again with the same noise (Jacobi's
iteration), come to the same shower in a few passes, since neighbours say little. The student makes a shower
in one: it sees all cells of a draw without neighbours, begins with what the teacher knows, and learns from
the comparison of its showers with real ones.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from caloforge.models.layered.alone import Alone
from caloforge.models.layered.company import Company
from caloforge.models.layered.context import Context, Student
from caloforge.models.layered.density import (
    CellDensity,
    Cells,
    Given,
    gumbel_of_normal,
    step,
)
from caloforge.models.layered.plane import Plane
from caloforge.models.layered.shape import HitShape

# hits are counted within this factor of the threshold, in the logarithm, to tell how many a shift adds
COUNTING_RANGE = 0.4
LARGEST_SHIFT = 1.0
# all hits for each one that is there without neighbours, about
FEWER = 1.3
NEVER = 1e-12


@dataclass(frozen=True)
class Numbers:
    """Noise as the numbers a draw needs, (N, layers, cells) each.

    Attributes:
        inverse: One over exponential numbers.
        scores: Energies of hits in standard deviations from the mean.
    """

    inverse: Tensor
    scores: Tensor


class CellStage(nn.Module):
    """Density of the cells, and draws from it."""

    member: Tensor

    def __init__(self, layers: int, plane: Plane, *, threshold: float) -> None:
        """First guesses.

        Args:
            layers: Layers of a shower.
            plane: Their cells.
            threshold: Smallest energy of a cell, MeV.
        """
        super().__init__()
        self.plane = plane
        self.register_buffer("member", torch.from_numpy(plane.members), persistent=False)
        self.alone = Alone(layers, plane, threshold)
        self.shape = HitShape(layers, plane)
        self.teacher = Context(layers, plane, ordered=True)
        self.student = Student(layers, plane)
        self.company = Company(plane)

    def graduate(self) -> None:
        """Fix the shape of the hits, and let the student begin as the teacher.

        The teacher says once of a pair of cells what the student says twice; and it speaks of all hits, the
        student only of those that are there without neighbours.
        """
        self.shape.fit()
        with torch.no_grad():
            half = FEWER * self.teacher.kernels[:, self.teacher.place] * self.teacher.seen / 2
            images = self.student.place
            count = torch.bincount(images, minlength=self.student.kernels.shape[1])
            sums = torch.zeros_like(self.student.kernels).index_add_(1, images, half + half.flip(1))
            self.student.kernels.copy_(sums / count)
            self.student.strength.copy_(self.teacher.strength)
            self.student.gain.copy_(self.teacher.gain)

    def taught(self, cells: Cells, alone: CellDensity) -> CellDensity:
        """The teacher's density of every cell given those before it."""
        return alone.corrected(*self.teacher(cells.hits, alone.scores(cells)))

    # ---- draws

    def draw(self, given: Given, noise: tuple[Tensor, Tensor]) -> Cells:
        """Cells by the student: one pass.

        Args:
            given: What is known.
            noise: Standard normal numbers of hits and of energies, (N, layers, cells) each.
        """
        alone, numbers = self.alone(given), self._numbers((noise[0], self.company(noise[1])))
        hits = step(alone.number * numbers.inverse - 1)
        density = self.student.density(alone, hits, numbers.scores * hits, given.argument)
        return self._cells(density, given, numbers)

    def draw_by_teacher(self, given: Given, noise: tuple[Tensor, Tensor], passes: int) -> Cells:
        """The same by the teacher in several passes; 0 passes draw every cell alone."""
        alone, numbers = self.alone(given), self._numbers(noise)
        cells = self._cells(alone, given, numbers)
        for _ in range(passes):
            cells = self._cells(self.taught(cells, alone), given, numbers)
        return cells

    def _numbers(self, noise: tuple[Tensor, Tensor]) -> Numbers:
        return Numbers(gumbel_of_normal(noise[0]).exp(), self.shape(noise[1]))

    def _cells(self, density: CellDensity, given: Given, numbers: Numbers) -> Cells:
        """The cells that the noise makes: hit where lambda is above an exponential number."""
        chance = density.number * numbers.inverse
        hits = step(chance * (self._factor(chance, given) @ self.member.T) - 1)
        smallest = self.alone.spectrum.smallest
        # mirrored at the weakest hit
        above = (density.mean - smallest + density.deviation() * numbers.scores).abs()
        return Cells(hits, (above + smallest) * hits)

    def _factor(self, chance: Tensor, given: Given) -> Tensor:
        """What lambda needs so that a zone has its hits, and each zone with energy one at least.

        Args:
            chance: (N, layers, cells), above 1 where a cell is hit.
            given: What is known.

        Returns:
            (N, layers, zones).
        """
        # one step of Newton in the logarithm
        bounds = (math.exp(COUNTING_RANGE), 1.0, math.exp(-COUNTING_RANGE))
        less, counts, more = (step(chance - bound) @ self.member for bound in bounds)
        wanted = given.hits - counts
        slope = torch.where(wanted > 0, more - counts, counts - less).clamp_min(0.5) / COUNTING_RANGE
        factor = (wanted / slope).clamp(-LARGEST_SHIFT, LARGEST_SHIFT).exp()
        largest = torch.stack([self._largest(chance, zone) for zone in range(self.member.shape[1])], dim=2)
        factor = torch.maximum(factor, 1.001 / largest)
        return torch.where(given.hits > 0, factor, NEVER)

    def _largest(self, chance: Tensor, zone: int) -> Tensor:
        """Largest chance in a zone, (N, layers)."""
        cells = np.flatnonzero(self.plane.zone == zone)
        if 2 * len(cells) > self.plane.cells:
            # to cover what lies outside is cheaper than to collect what lies inside
            return (chance * self.member[:, zone]).amax(2)
        return chance.index_select(2, torch.from_numpy(cells).to(chance.device)).amax(2)

    def showers(self, cells: Cells, given: Given) -> Tensor:
        """Cell energies in MeV, (N, layers, cells), scaled so that each zone has its energy."""
        energy = self.alone.spectrum.energy(cells.coordinate, self.student.zone)
        # a sum is uncertain by its strong hits: they take most of the difference, weak ones stay as they are
        missing = given.zone_energy - energy @ self.member
        change = energy * ((missing / ((energy * energy) @ self.member).clamp_min(1e-12)) @ self.member.T)
        energy = energy * (1 + change.clamp_min(0)) / (1 - change.clamp_max(0))
        ratio = given.zone_energy / (energy @ self.member).clamp_min(1e-9)
        return energy * (ratio @ self.member.T)
