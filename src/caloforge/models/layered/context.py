"""What the cells of a layer say of each other: particles that cross several of them, alone or in company.

The layers of a shower hardly say more of each other than their sums do. Within a layer a particle that flies
aslant hits several cells, and a hit adds the same expected number of particles to its neighbours wherever it
is: what a cell expects is the sum of what the shower as a whole says and of what its neighbours add.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from caloforge.models.layered.density import CellDensity
from caloforge.models.layered.plane import Plane

# cells a kernel is wide
KERNEL = 7
# a hit adds a few hundredths of a particle to a neighbour, and moves its energy by a tenth of a width;
# with parameters near one an optimiser takes steps that are small beside them
SCALES = (0.04, 0.1)
# where every cell is hit, pairs of hits tell nothing of the amplitude, which must not drift
AMPLITUDE_RANGE = (-0.5, 0.5)


class Context(nn.Module):
    """Expected particles that hits add to the cells around them, and how they move the energies there.

    Attributes:
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
        gain = 1 + self.gain[..., self.orbit]
        kernels = self.kernel()
        added = self._convolve(hits + self.strength[0] * scores, kernels[0])
        moved = self._convolve(scores + self.strength[1] * hits, kernels[1])
        return F.relu(added * gain[0]), moved * gain[1]

    def kernel(self) -> Tensor:
        """What each cell of the two kernels says, (2, cells of a kernel)."""
        scales = torch.tensor(SCALES, device=self.kernels.device)[:, None]
        return scales * self.kernels[:, self.place] * self.seen

    def _padded(self, grid: Tensor) -> Tensor:
        """Cells (N, k, rows, columns) with what the kernel sees beyond the edges."""
        pad = KERNEL // 2
        # an order must not run in a circle
        if self.plane.circular and not self.ordered:
            return F.pad(F.pad(grid, (0, 0, pad, pad), mode="circular"), (pad, pad, 0, 0))
        return F.pad(grid, (pad, pad, pad, pad))

    def _convolve(self, x: Tensor, kernel: Tensor) -> Tensor:
        """The same kernel for each layer; the size stays."""
        x = self._padded(x.view(-1, self.layers, self.plane.rows, self.plane.columns))
        weight = kernel.view(1, 1, KERNEL, KERNEL).expand(self.layers, -1, -1, -1)
        return F.conv2d(x, weight, groups=self.layers).flatten(2)


class Student(Context):
    """A context of all sides with some numbers of its own, which comparison with real showers sets.

    Attributes:
        level: (3, layers, rings): added to log lambda, the same times the argument of the energy, added to
            the mean in widths.
        amplitude: (2, zones): logarithms of factors of what hits add, and of how they move energies.
    """

    ring: Tensor
    zone: Tensor

    def __init__(self, layers: int, plane: Plane) -> None:
        """First guesses; see `Context`."""
        super().__init__(layers, plane, ordered=False)
        self.register_buffer("ring", torch.from_numpy(plane.ring.copy()), persistent=False)
        self.register_buffer("zone", torch.from_numpy(plane.zone.copy()), persistent=False)
        # these it takes over from the teacher
        for name in ("strength", "gain"):
            values = getattr(self, name).detach().clone()
            delattr(self, name)
            self.register_buffer(name, values)
        self.level = nn.Parameter(torch.zeros(3, layers, int(plane.ring.max()) + 1))
        self.amplitude = nn.Parameter(torch.zeros(2, len(plane.zone_sizes)))

    def density(self, alone: CellDensity, hits: Tensor, scores: Tensor, argument: Tensor) -> CellDensity:
        """Density of the cells of a draw.

        Args:
            alone: From the summary.
            hits: (N, layers, cells) of a draw without neighbours.
            scores: (N, layers, cells) of its hits.
            argument: (N,) as in `Given`.
        """
        constant, slope, mean = self.level
        factor = (constant + slope * argument[:, None, None]).exp() @ self.rings().T
        amplitude = self.amplitude.clamp(*AMPLITUDE_RANGE).exp()[:, self.zone]
        added, moved = self(hits, scores)
        levelled = CellDensity(alone.number * factor, alone.mean, alone.width)
        return levelled.corrected(added * amplitude[0], moved * amplitude[1] + mean[:, self.ring])

    def rings(self) -> Tensor:
        """(cells, rings), 1 where a cell belongs to a ring."""
        return F.one_hot(self.ring, self.level.shape[2]).to(self.level)

    def neighbours(self, field: Tensor) -> Tensor:
        """Mean products of each cell with the cells around it, zone by zone, (zones,).

        Args:
            field: (N, layers, cells).
        """
        grid = field.reshape(-1, 1, self.plane.rows, self.plane.columns)
        pad, size = KERNEL // 2, self.plane.rows
        around = self._padded(grid)[..., pad - 1 : pad + 1 + size, pad - 1 : pad + 1 + self.plane.columns]
        sums = F.avg_pool2d(around, 3, stride=1) * 9 - grid
        products = (grid * sums).view(-1, self.plane.cells).mean(0)
        return torch.zeros_like(self.amplitude[0]).index_add_(0, self.zone, products)

    def pairs(self, field: Tensor) -> Tensor:
        """Mean products of a field of cells with itself, by the displacement of the cells.

        Args:
            field: (N, layers, cells).

        Returns:
            (n,) for the n numbers of a kernel, the same displacements.
        """
        grid = field.reshape(-1, 1, self.plane.rows, self.plane.columns)
        around, size = self._padded(grid), KERNEL * KERNEL
        sums = torch.zeros(self.kernels.shape[1], device=field.device)
        # one of each pair of opposite displacements
        for index in range(size // 2 + 1, size):
            row, column = divmod(index, KERNEL)
            other = around[..., row : row + self.plane.rows, column : column + self.plane.columns]
            sums[self.place[index]] += (grid * other).mean()
        return sums


def _cells_seen(ordered: bool) -> Tensor:
    """Which cells of a kernel around a cell it sees, flat; never itself."""
    place, centre = torch.arange(KERNEL * KERNEL), KERNEL * KERNEL // 2
    return ((place < centre) if ordered else (place != centre)).float()
