"""Second stage: the cells of a shower given its summary.

Three numbers for each cell, log lambda, mean and log width of its density, are the sum of what the summary
says of the cell (its zone's energy and hits, the tilt of the axis) and of what other cells say.

The teacher sees the cells before each cell: an exact density of the shower, trained by its likelihood. A
draw from it has as many steps as cells; all cells at once, again and again with the same noise (Jacobi's
iteration), come to the same shower in a few passes, since neighbours say little. The student makes it in one:
it sees all cells of a draw without neighbours, and has learned to say of them what the teacher says at last.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from caloforge.models.layered.alone import Alone
from caloforge.models.layered.context import Context
from caloforge.models.layered.density import (
    LAMBDA_RANGE,
    WIDTH_RANGE,
    CellDensity,
    Given,
    log_odds_of_normal,
    log_odds_of_rate,
    normal_of_exponential,
    step,
)
from caloforge.models.layered.plane import Plane

# the hits of a zone are counted within these distances of the threshold to tell how many a shift adds
COUNTING_RANGES = (0.6, 0.25)
LARGEST_SHIFT = 1.0
NEVER = -1e4
# what is drawn closer to the threshold than this has no gradient: it would be as large as it is rare
GRADIENT_RANGE = 0.02


class CellStage(nn.Module):
    """Density of the cells, and draws from it."""

    member: Tensor

    def __init__(
        self,
        layers: int,
        plane: Plane,
        condition: int,
        *,
        channels: int,
        reach: int,
        width: int,
        threshold: float,
    ) -> None:
        """Random weights.

        Args:
            layers: Layers of a shower.
            plane: Their cells.
            condition: Size of `Given.condition`.
            channels: Hidden channels of each layer.
            reach: Layers that are looked at on either side.
            width: Hidden width of what modulates the channels by the condition.
            threshold: Smallest energy of a cell, MeV.
        """
        super().__init__()
        self.plane = plane
        self.register_buffer("member", torch.from_numpy(plane.members), persistent=False)
        self.alone = Alone(layers, plane, threshold)
        settings = {"channels": channels, "reach": reach, "width": width}
        self.teacher = Context(layers, plane, condition, **settings, ordered=True)
        self.student = Context(layers, plane, condition, **settings, ordered=False)

    def graduate(self) -> None:
        """Give the student the teacher's weights to begin with."""
        self.student.load_state_dict(self.teacher.state_dict())
        with torch.no_grad():
            # what the teacher does not see has never been trained
            self.student.layerwise.mul_(self.teacher.layer_mask)
            self.student.beside.mul_(self.teacher.cell_mask)

    # ---- draws

    def draw(self, given: Given, noise: Tensor) -> Tensor:
        """Coordinates of the cells, (N, layers, cells), by the student: one pass.

        Args:
            given: What is known.
            noise: (N, layers, cells) standard normal.
        """
        # the density is the teacher's: draws do not train it
        with torch.no_grad():
            alone, numbers = self.alone(given), _Numbers(noise)
            first = self._hits(alone, given, numbers)
        return self._hits(alone + self.student(first, given.condition), given, numbers)

    def draw_by_teacher(self, given: Given, noise: Tensor, passes: int) -> Tensor:
        """The same by the teacher in several passes; 0 passes draw every cell alone."""
        alone, numbers = self.alone(given), _Numbers(noise)
        return self._passes(self._hits(alone, given, numbers), alone, given, numbers, passes)[0]

    def lesson(self, given: Given, noise: Tensor, passes: int) -> tuple[CellDensity, CellDensity]:
        """Densities of the teacher, after several passes, and of the student for the same noise.

        Args:
            given: What is known.
            noise: (N, layers, cells) standard normal.
            passes: Of the teacher.
        """
        with torch.no_grad():
            alone, numbers = self.alone(given), _Numbers(noise)
            first = self._hits(alone, given, numbers)
            taught = self._passes(first, alone, given, numbers, passes)[1]
        return taught, alone + self.student(first, given.condition)

    def _passes(
        self, coordinate: Tensor, alone: CellDensity, given: Given, numbers: _Numbers, passes: int
    ) -> tuple[Tensor, CellDensity]:
        """Coordinates after some passes of the teacher, and the density of the last one."""
        density = alone
        for _ in range(passes):
            density = alone + self.teacher(coordinate, given.condition)
            coordinate = self._hits(density, given, numbers)
        return coordinate, density

    def _hits(self, density: CellDensity, given: Given, numbers: _Numbers) -> Tensor:
        """Coordinates of the hits that the noise makes.

        A cell is hit where its uniform number is below the probability of a hit: where the log odds of both
        have a positive sum. What its exponential number has beyond what a hit takes, -log of the
        probability, is exponential again, and becomes the normal number of the energy.
        """
        odds = log_odds_of_rate(density.rate.clamp(*LAMBDA_RANGE))
        shift = self._shift((odds + numbers.odds).detach(), given)
        odds = odds + shift @ self.member.T
        beyond = numbers.exponential - F.softplus(-odds)
        if torch.is_grad_enabled():
            beyond = torch.where(beyond < GRADIENT_RANGE, beyond.detach(), beyond)
        score = normal_of_exponential(beyond.clamp_min(1e-7))
        width = density.width.clamp(*WIDTH_RANGE).exp()
        coordinate = (density.mean + width * score).clamp_min(self.alone.spectrum.smallest)
        return coordinate * step(odds + numbers.odds)

    def _shift(self, margin: Tensor, given: Given) -> Tensor:
        """What log odds need so that a zone has its hits, and each zone with energy one at least.

        Args:
            margin: (N, layers, cells) by how much a cell is hit.
            given: What is known.

        Returns:
            (N, layers, zones).
        """
        shift = torch.zeros_like(given.hits)
        # Newton's steps, the second from close by
        for reach in COUNTING_RANGES:
            moved = margin + shift @ self.member.T
            counts = step(moved) @ self.member
            near = (step(moved + reach) - step(moved - reach)) @ self.member
            density = (near / (2 * reach)).clamp_min(1.0)
            shift = shift + ((given.hits - counts) / density).clamp(-LARGEST_SHIFT, LARGEST_SHIFT)
        largest = torch.stack([self._largest(margin, zone) for zone in range(self.member.shape[1])], dim=2)
        shift = torch.maximum(shift, 1e-3 - largest)
        return torch.where(given.hits > 0, shift, NEVER)

    def _largest(self, margin: Tensor, zone: int) -> Tensor:
        """Largest margin in a zone, (N, layers)."""
        cells = np.flatnonzero(self.plane.zone == zone)
        if 2 * len(cells) > self.plane.cells:
            # to cover what lies outside is cheaper than to collect what lies inside
            return (margin + (1 - self.member[:, zone]) * NEVER).amax(2)
        return margin[:, :, torch.from_numpy(cells).to(margin.device)].amax(2)

    def showers(self, coordinate: Tensor, given: Given) -> Tensor:
        """Cell energies in MeV, (N, layers, cells), scaled so that each zone has its energy."""
        energy = self.alone.spectrum.energy(coordinate)
        ratio = given.zone_energy / (energy @ self.member).clamp_min(1e-9)
        return energy * (ratio @ self.member.T)


class _Numbers:
    """Noise as the numbers a draw needs: uniform ones as their log odds, and exponential ones."""

    def __init__(self, noise: Tensor) -> None:
        # the uniform number that is compared with the probability of a hit is small where the noise is large
        self.odds = log_odds_of_normal(noise)
        self.exponential = F.softplus(self.odds)
