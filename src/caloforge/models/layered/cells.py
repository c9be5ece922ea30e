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

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from caloforge.models.layered.alone import Alone
from caloforge.models.layered.constants import ALMOST_ONE
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

# all hits for each one that is there without neighbours, about
FEWER = 1.3
# of the teacher's factors of what hits say, the student takes over this much at least
LEAST_GAIN = 0.3
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
    most_hits: Tensor

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
        self.register_buffer("most_hits", torch.from_numpy(plane.zone_sizes.copy()))
        self._most = self.most_hits.tolist()
        self.register_load_state_dict_post_hook(lambda stage, _: stage.limit(stage.most_hits))  # type: ignore[no-untyped-call]
        self.alone = Alone(layers, plane, threshold)
        self.shape = HitShape(layers, plane)
        self.teacher = Context(layers, plane, ordered=True)
        self.student = Student(layers, plane)

    def limit(self, most_hits: Tensor) -> None:
        """Say how many hits a zone can have: the fewer, the faster they are found."""
        self.most_hits.copy_(most_hits)
        # as shapes of an exported graph, which no weight can be
        self._most = self.most_hits.tolist()

    def graduate(self) -> None:
        """Fix the shape of the hits, and let the student begin as the teacher.

        The teacher says once of a pair of cells what the student says twice; and it speaks of all hits, the
        student only of those that are there without neighbours.
        """
        self.shape.fit()
        with torch.no_grad():
            images = self.student.place
            count = torch.bincount(images, minlength=self.student.kernels.shape[1])
            half = FEWER * self.teacher.kernels[:, self.teacher.place] * self.teacher.seen / 2
            sums = torch.zeros_like(self.student.kernels).index_add_(1, images, half + half.flip(1))
            self.student.kernels.copy_(sums / count)
            self.student.strength.copy_(self.teacher.strength.expand_as(self.student.strength))
            # what has no sign cannot be raised by a factor
            self.student.gain.copy_(self.teacher.gain.clamp_min(LEAST_GAIN - 1))

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
        alone, numbers = self.alone(given), self._numbers(noise)
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
        hits = step(chance * (self._factor(chance, given.hits) @ self.member.T) - ALMOST_ONE)
        smallest = self.alone.spectrum.smallest
        # mirrored at the weakest hit
        above = (density.mean - smallest + density.deviation() * numbers.scores).abs()
        return Cells(hits, (above + smallest) * hits)

    def _factor(self, chance: Tensor, wanted: Tensor) -> Tensor:
        """What lambda needs so that each zone has its hits, (N, layers, zones).

        Args:
            chance: (N, layers, cells), above 1 where a cell is hit.
            wanted: (N, layers, zones) hits.
        """
        places = (torch.minimum(wanted.clamp_min(1), self.most_hits) - 1).long()
        last = [self._last(chance, zone, places[..., zone : zone + 1]) for zone in range(wanted.shape[2])]
        return torch.where(wanted > 0, 1 / torch.cat(last, dim=2), NEVER)

    def _last(self, chance: Tensor, zone: int, place: Tensor) -> Tensor:
        """What is at a place of the chances in a zone, the largest first, (N, layers, 1)."""
        cells, most = np.flatnonzero(self.plane.zone == zone), self._most[zone]
        if 2 * len(cells) > self.plane.cells:
            # to cover what lies outside is cheaper than to collect what lies inside
            own = chance * self.member[:, zone]
        else:
            own = chance.index_select(2, torch.from_numpy(cells).to(chance.device))
        return own.topk(most, dim=2).values.gather(2, place)

    def showers(self, cells: Cells, given: Given) -> Tensor:
        """Cell energies in MeV, (N, layers, cells), scaled so that each zone has its energy."""
        energy = self.alone.spectrum.energy(cells.coordinate, self.student.zone)
        # a sum is uncertain by its strong hits: they take most of the difference, weak ones stay as they are
        missing = given.zone_energy - energy @ self.member
        change = energy * ((missing / ((energy * energy) @ self.member).clamp_min(1e-12)) @ self.member.T)
        energy = energy * (1 + change.clamp_min(0)) / (1 - change.clamp_max(0))
        ratio = given.zone_energy / (energy @ self.member).clamp_min(1e-9)
        return energy * (ratio @ self.member.T)
