"""What energies of the core have in common beside their sums: neighbours on a ring, neighbours in depth.

Near the axis all cells are hit, by many particles each, and the zones have their energies whatever is drawn:
what hits say of the cells around them tells little there. What is left is that a few particles more on one
side make several cells richer, in this layer and the next: the noise of the energies is mixed with that of
the neighbours.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from caloforge.models.layered.plane import Plane

# less than nothing, which neighbours on outer rings ask for, would weaken what a whole side has in common
LARGEST_SHARE = 0.3


class Company(nn.Module):
    """Mixes the noise of the energies in all zones but the last.

    Attributes:
        shares: (2, rings) of the two neighbours on the ring, and of those in the layers before and behind.
    """

    core: Tensor
    nearby: Tensor
    place: Tensor
    ring: Tensor

    def __init__(self, plane: Plane) -> None:
        """Nothing is mixed."""
        super().__init__()
        core = np.flatnonzero((plane.zone < plane.zone.max()) & (plane.ring > 0))
        inside = np.full(plane.cells, -1)
        inside[core] = np.arange(len(core))
        # the core stands behind the cells, and is taken from there
        place = np.where(inside >= 0, plane.cells + inside, np.arange(plane.cells))
        self.register_buffer("core", torch.from_numpy(core), persistent=False)
        nearby = torch.from_numpy(inside[plane.along_rings()[:, core]])
        self.register_buffer("nearby", nearby, persistent=False)
        self.register_buffer("place", torch.from_numpy(place), persistent=False)
        self.register_buffer("ring", torch.from_numpy(plane.ring[core]), persistent=False)
        self.shares = nn.Parameter(torch.zeros(2, int(plane.ring.max()) + 1))

    def forward(self, noise: Tensor) -> Tensor:
        """Standard normal noise (N, layers, cells), mixed."""
        if len(self.core) == 0:
            return noise
        core = noise.index_select(2, self.core)
        beside = sum(core.index_select(2, cells) for cells in self.nearby)
        edge = torch.zeros_like(core[:, :1])
        around = torch.cat([core[:, 1:], edge], dim=1) + torch.cat([edge, core[:, :-1]], dim=1)
        own, ring, depth = self.weights(noise.shape[1])
        mixed = own * (core + ring * beside + depth * around)
        # runtimes move whole rows many times faster than single numbers
        return torch.cat([noise.mT, mixed.mT], dim=1).index_select(1, self.place).mT

    def weights(self, layers: int) -> tuple[Tensor, Tensor, Tensor]:
        """What makes the mixture standard normal, (layers, core); the shares of neighbours, (core,) each."""
        ring, depth = self.shares.clamp(0.0, LARGEST_SHARE)[:, self.ring]
        neighbours = torch.full((layers, 1), 2.0, device=ring.device)
        neighbours[0] -= 1
        neighbours[-1] -= 1
        return (1 + 2 * ring**2 + neighbours * depth**2).rsqrt(), ring, depth

    def moments(self, field: Tensor) -> Tensor:
        """Mean products of neighbours, (2, rings): on a ring, and in depth.

        Args:
            field: (N, layers, cells).
        """
        result = torch.zeros_like(self.shares)
        if len(self.core) == 0:
            return result
        core = field.index_select(2, self.core)
        beside = (core * core.index_select(2, self.nearby[0])).mean((0, 1))
        behind = (core[:, 1:] * core[:, :-1]).mean((0, 1))
        count = torch.bincount(self.ring, minlength=result.shape[1]).clamp_min(1)
        return result.index_add(1, self.ring, torch.stack([beside, behind])) / count
