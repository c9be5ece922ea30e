"""What the summary of a shower says of each cell by itself."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from caloforge.models.layered.constants import CENTRE, LOG_NUMBER_RANGE, OFFSET
from caloforge.models.layered.density import CellDensity, Given
from caloforge.models.layered.plane import Plane
from caloforge.models.layered.spectrum import HitSpectrum

# parameters of single cells learn this much faster than those of a network
MAP_GAIN = 5.0
FEATURES = 4


class Alone(nn.Module):
    """Lambda, mean and log width of a cell from the energy and the hits of its zone, and from the tilt.

    Cells that are images of each other share their parameters.
    """

    member: Tensor
    orbit: Tensor
    direction: Tensor
    zone_sizes: Tensor

    def __init__(self, layers: int, plane: Plane, threshold: float) -> None:
        """First guesses: lambda as the hits have it, energies around the mean of the zone's.

        Args:
            layers: Layers of a shower.
            plane: Their cells.
            threshold: Smallest energy of a cell, MeV.
        """
        super().__init__()
        self.threshold = threshold
        self.register_buffer("orbit", torch.from_numpy(plane.orbit), persistent=False)
        self.register_buffer("member", torch.from_numpy(plane.members), persistent=False)
        self.register_buffer("direction", torch.from_numpy(plane.direction), persistent=False)
        self.register_buffer("zone_sizes", torch.from_numpy(plane.zone_sizes).float(), persistent=False)
        self.spectrum = HitSpectrum(layers, len(plane.zone_sizes))
        self.base = nn.Parameter(torch.zeros(3, FEATURES, layers, plane.orbits))
        with torch.no_grad():
            self.base[0, 3] = 1 / MAP_GAIN
            self.base[1, 0], self.base[1, 1] = (CENTRE + OFFSET) / MAP_GAIN, 0.4 / MAP_GAIN
            self.base[2, 0] = -1.0 / MAP_GAIN
        self.tilt = nn.Parameter(torch.zeros(2, 2, layers, plane.orbits))

    def forward(self, given: Given) -> CellDensity:
        """Density of each cell, (N, layers, cells)."""
        # energy of a hit, and log lambda if all cells of the zone had the same
        energy = torch.log(given.zone_energy.clamp_min(self.threshold) / given.hits.clamp_min(1.0))
        energy = (energy - self.spectrum.unit.log()) @ self.member.T
        share = (given.hits + 0.5) / (self.zone_sizes + 1)
        hits = torch.log(-torch.log1p(-share)) @ self.member.T
        base = MAP_GAIN * self.base[..., self.orbit]
        tilt = MAP_GAIN * self.tilt[..., self.orbit]
        centre = (given.transverse[:, :2] @ self.direction)[:, None]
        slope = (given.transverse[:, 2:] @ self.direction)[:, None]
        rate, mean, width = (
            energy * (energy * base[k, 2] + base[k, 1]) + base[k, 0] + hits * base[k, 3] for k in range(3)
        )
        rate = rate + centre * tilt[0, 0] + slope * tilt[0, 1]
        mean = mean + centre * tilt[1, 0] + slope * tilt[1, 1]
        return CellDensity(rate.clamp(*LOG_NUMBER_RANGE).exp(), mean, width)
