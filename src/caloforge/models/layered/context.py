"""What the cells of a layer say of each other: particles that cross several of them, alone or in company.

The layers of a shower hardly say more of each other than their sums do. Within a layer a particle that flies
aslant hits several cells, and a hit adds the same expected number of particles to its neighbours wherever it
is: what a cell expects is the sum of what the shower as a whole says and of what its neighbours add. It flies
away from the axis: a hit says more along that direction than across it.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from caloforge.models.layered.constants import KERNEL, TERMS, TURNED_KERNEL
from caloforge.models.layered.density import CellDensity
from caloforge.models.layered.depth import SHARE_RANGE, Depth
from caloforge.models.layered.plane import Plane

# layers in a multiple of which convolutions are fast
CHANNELS = 16
# a hit adds a few hundredths of a particle to a neighbour, and moves its energy by a tenth of a width;
# with parameters near one an optimiser takes steps that are small beside them
SCALES = (0.04, 0.1)
# where every cell is hit, pairs of hits tell nothing of the amplitude, which must not drift
AMPLITUDE_RANGE = (-2.0, 2.0)


class Context(nn.Module):
    """Expected particles that hits add to the cells around them, and how they move the energies there.

    Attributes:
        kernels: (2, n) what hits add to the cells around them, and how they move energies; cells of the
            kernel that are images of each other share a number.
        ordered: Whether a cell sees only the cells before it in reading order. Then the corrections make a
            density of the whole layer. Otherwise it sees all, and cells that are images of each other alike.
    """

    place: Tensor
    seen: Tensor
    orbit: Tensor

    def __init__(self, layers: int, plane: Plane, *, ordered: bool) -> None:
        """First guesses.

        Args:
            layers: Layers of a shower.
            plane: Their cells.
            ordered: See the class.
        """
        super().__init__()
        self.layers, self.plane, self.ordered = layers, plane, ordered
        place = plane.kernel_orbit(KERNEL, mirrored=not ordered)
        self.register_buffer("place", torch.from_numpy(place), persistent=False)
        self.register_buffer("seen", _cells_seen(ordered), persistent=False)
        self.register_buffer("orbit", torch.from_numpy(plane.orbit), persistent=False)
        near = torch.zeros(KERNEL, KERNEL)
        near[KERNEL // 2 - 1 : KERNEL // 2 + 2, KERNEL // 2 - 1 : KERNEL // 2 + 2] = 1
        kernels = torch.zeros(2, int(place.max()) + 1)
        kernels[0, place] = near.flatten()
        # of hits to expected particles, and of energies to energies; the same in all layers
        self.kernels = nn.Parameter(kernels)
        # what a hit counts for: more with more energy; what an energy counts for by being there
        self.strength = nn.Parameter(torch.zeros(2, layers, 1))
        self.gain = nn.Parameter(torch.zeros(2, layers, plane.orbits))

    def forward(self, hits: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
        """What is added to lambda and to the mean, in widths; (N, layers, cells) each.

        Args:
            hits: (N, layers, cells), 1 or 0.
            scores: (N, layers, cells) energies in standard deviations, 0 where there is no hit.
        """
        gain, strength = self.gains(), self.strengths()
        added = self._said(hits + strength[0] * scores, 0)
        moved = self._said(scores + strength[1] * hits, 1)
        return F.relu(added * gain[0]), moved * gain[1]

    def gains(self) -> Tensor:
        """Factors of both that are said, for each cell, (2, layers, cells)."""
        return 1 + self.gain[..., self.orbit]

    def strengths(self) -> Tensor:
        """For each cell, (2, layers, cells or 1)."""
        return self.strength

    def kernel(self) -> Tensor:
        """What each cell of the two kernels says, (2, cells of a kernel)."""
        scales = torch.tensor(SCALES, device=self.kernels.device)[:, None]
        return scales * self.kernels[:, self.place] * self.seen

    def _said(self, x: Tensor, number: int) -> Tensor:
        """What kernel 0 or 1 makes of cells (N, layers, cells)."""
        grid = x.view(-1, self.layers, self.plane.rows, self.plane.columns)
        # empty layers, for runtimes that take so many at once or else one cell after the other
        grid = F.pad(grid, (0, 0, 0, 0, 0, -self.layers % CHANNELS))
        return self._around(grid, number)[:, : self.layers].flatten(2)

    def _around(self, grid: Tensor, number: int) -> Tensor:
        """The same of (N, k, rows, columns)."""
        return self._convolve(grid, self.kernel()[number].view(KERNEL, KERNEL))

    def _convolve(self, grid: Tensor, kernel: Tensor) -> Tensor:
        """The same square kernel for each layer of (N, k, rows, columns); the size stays."""
        pad, count = len(kernel) // 2, grid.shape[1]
        around = (0 if self._circular else pad, pad)
        kernels = kernel.expand(count, 1, -1, -1)
        return F.conv2d(self._wrapped(grid, pad), kernels, padding=around, groups=count)

    @property
    def _circular(self) -> bool:
        # an order must not run in a circle
        return self.plane.circular and not self.ordered

    def _wrapped(self, grid: Tensor, pad: int) -> Tensor:
        """Cells (N, k, rows, columns) with the last rows before the first, and the first behind the last."""
        return F.pad(grid, (0, 0, pad, pad), mode="circular") if self._circular else grid


class Student(Context):
    """A context of all sides with some numbers of its own, which comparison with real showers sets.

    Attributes:
        turned: (2, n) what comes to the kernels along the direction from the axis, and goes off across it, as
            the cosine of twice the angle; in the middle of the kernel alone.
        turning: (2, rings) how much more of it holds for cells of a ring.
        level: (3, TERMS, layers, orbits): added to log lambda, to the mean in widths, to the log width, for
            each of `legendre`.
        amplitude: (2, layers, rings): logarithms of factors of what hits add, and of how they move energies.
        strength: (2, layers, rings) see `Context`; the first is compared, the second the teacher's.
    """

    ring: Tensor
    zone: Tensor
    turns: Tensor
    kernel_turns: Tensor
    middle: Tensor
    pair_cells: Tensor
    pair_places: Tensor
    pair_next: Tensor

    def __init__(self, layers: int, plane: Plane) -> None:
        """First guesses; see `Context`."""
        super().__init__(layers, plane, ordered=False)
        self.register_buffer("ring", torch.from_numpy(plane.ring.copy()), persistent=False)
        self.register_buffer("zone", torch.from_numpy(plane.zone.copy()), persistent=False)
        self.register_buffer("turns", torch.from_numpy(plane.turns()), persistent=False)
        self.register_buffer("kernel_turns", torch.from_numpy(plane.kernel_turns(KERNEL)), persistent=False)
        inside = slice(KERNEL // 2 - TURNED_KERNEL // 2, KERNEL // 2 + TURNED_KERNEL // 2 + 1)
        places = torch.arange(KERNEL * KERNEL).view(KERNEL, KERNEL)[inside, inside]
        self.register_buffer("middle", places.flatten(), persistent=False)
        # one of each pair of opposite displacements
        displaced = plane.displaced(KERNEL)
        place, first = np.nonzero(
            (displaced >= 0) & (np.arange(len(displaced)) > len(displaced) // 2)[:, None]
        )
        pairs = np.stack([first, displaced[place, first]])
        apart = np.abs(np.stack(np.divmod(place, KERNEL)) - KERNEL // 2).max(axis=0)
        self.register_buffer("pair_cells", torch.from_numpy(pairs), persistent=False)
        self.register_buffer("pair_places", torch.from_numpy(place), persistent=False)
        self.register_buffer("pair_next", torch.from_numpy(apart == 1), persistent=False)
        self.turned = nn.Parameter(torch.zeros_like(self.kernels))
        self.turning = nn.Parameter(torch.zeros(2, int(plane.ring.max()) + 1))
        # this it takes over from the teacher
        gain = self.gain.detach().clone()
        del self.gain
        self.register_buffer("gain", gain)
        self.strength = nn.Parameter(torch.zeros(2, layers, int(plane.ring.max()) + 1))
        self.level = nn.Parameter(torch.zeros(3, TERMS, layers, plane.orbits))
        self.amplitude = nn.Parameter(torch.zeros(2, layers, int(plane.ring.max()) + 1))
        self.depth = Depth(layers, plane)

    def density(self, alone: CellDensity, hits: Tensor, scores: Tensor, argument: Tensor) -> CellDensity:
        """Density of the cells of a draw.

        Args:
            alone: From the summary.
            hits: (N, layers, cells) of a draw without neighbours.
            scores: (N, layers, cells) of its hits.
            argument: (N,) as in `Given`.
        """
        level = self.level[..., self.orbit]
        raised, mean, width = (legendre(argument) @ level.flatten(2)).view(3, -1, *level.shape[2:]).unbind(0)
        added, moved = self(hits, scores)
        levelled = CellDensity(alone.number * raised.exp(), alone.mean, alone.width + width)
        return levelled.corrected(added, moved + mean + self.depth(scores))

    def gains(self) -> Tensor:
        """See the base class."""
        return super().gains() * self.amplitude.exp()[:, :, self.ring]

    def strengths(self) -> Tensor:
        """See the base class."""
        return self.strength[:, :, self.ring]

    def turned_kernel(self) -> Tensor:
        """What each cell in the middle of the two kernels says besides, (2, 2, cells).

        For each unit of both `turns_of_cells` where it is said.
        """
        scales = torch.tensor(SCALES, device=self.kernels.device)[:, None, None]
        return scales * self.turned[:, None, self.place[self.middle]] * self.kernel_turns[:, self.middle]

    def turns_of_cells(self) -> Tensor:
        """Cosine and sine of twice the angle of each cell, as both kernels weigh them, (2, 2, cells)."""
        return self.turns * (1 + self.turning[:, None, self.ring])

    def _around(self, grid: Tensor, number: int) -> Tensor:
        """See the base class."""
        said = super()._around(grid, number)
        for turns, kernel in zip(self.turns_of_cells()[number], self.turned_kernel()[number], strict=True):
            turned = grid * turns.view(grid.shape[2:])
            said = said + self._convolve(turned, kernel.view(TURNED_KERNEL, TURNED_KERNEL))
        return said

    @torch.no_grad()
    def confine(self) -> None:
        """Bring parameters that nothing holds back into their range."""
        self.amplitude.clamp_(*AMPLITUDE_RANGE)
        self.depth.share.clamp_(*SHARE_RANGE)

    def levels(self, field: Tensor) -> Tensor:
        """Sums of a field (N, layers, cells) over cells that are images of each other, (layers, orbits)."""
        return torch.zeros_like(self.level[0, 0]).index_add_(1, self.orbit, field.mean(0))

    def neighbours(self, field: Tensor, other: Tensor) -> Tensor:
        """Mean products of each cell with the cells around it in another field, (layers, rings).

        Args:
            field: (N, layers, cells).
            other: (N, layers, cells).
        """
        grid = other.reshape(-1, 1, self.plane.rows, self.plane.columns)
        around = (0 if self._circular else 1, 1)
        sums = F.avg_pool2d(self._wrapped(grid, 1), 3, stride=1, padding=around) * 9 - grid
        products = (field * sums.view(field.shape)).mean(0)
        return torch.zeros_like(self.amplitude[0]).index_add_(1, self.ring, products)

    def pairs(self, field: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Mean products of a field of cells with itself, by the displacement of the cells.

        Args:
            field: (N, layers, cells).

        Returns:
            (n,) for the n numbers of a kernel, the same displacements; (n,) the same weighted with the cosine
            of twice the angle from the direction from the axis; (rings,) this of cells next to each other.
        """
        cells = field.flatten(0, 1)
        products = (cells.T @ cells)[self.pair_cells[0], self.pair_cells[1]] / cells.numel()
        along = products * (self.turns[:, self.pair_cells[0]] * self.kernel_turns[:, self.pair_places]).sum(0)
        sums = torch.zeros_like(self.kernels).index_add_(
            1, self.place[self.pair_places], torch.stack([products, along])
        )
        near = torch.where(self.pair_next, along, 0.0)
        return *sums, torch.zeros_like(self.turning[0]).index_add_(0, self.ring[self.pair_cells[0]], near)


def legendre(argument: Tensor) -> Tensor:
    """Legendre polynomials of the argument of the energy, (N, TERMS) from (N,)."""
    return torch.stack([torch.ones_like(argument), argument, 1.5 * argument**2 - 0.5], dim=1)


def _cells_seen(ordered: bool) -> Tensor:
    """Which cells of a kernel around a cell it sees, flat; never itself."""
    place, centre = torch.arange(KERNEL * KERNEL), KERNEL * KERNEL // 2
    return ((place < centre) if ordered else (place != centre)).float()
