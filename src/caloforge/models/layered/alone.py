"""What the summary of a shower says of each cell by itself."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from caloforge.models.layered.density import CellDensity, Given
from caloforge.models.layered.plane import Plane
from caloforge.models.layered.spectrum import HitSpectrum

# parameters of single cells learn this much faster than those of a network
MAP_GAIN = 5.0
FEATURES = 4


class Alone(nn.Module):
    """Log lambda, mean and log width of a cell from its zone's energy, its layer's hits and the tilt.

    Cells that are images of each other share their parameters.
    """

    mean_log_hits: Tensor
    member: Tensor
    orbit: Tensor
    direction: Tensor
    zone_sizes: Tensor

    def __init__(self, layers: int, plane: Plane, threshold: float) -> None:
        """First guesses: lambda in proportion to the energy, hits a little stronger where there are more.

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
        self.register_buffer("mean_log_hits", torch.zeros(layers))
        self.spectrum = HitSpectrum()
        self.base = nn.Parameter(torch.zeros(3, FEATURES, layers, plane.orbits))
        with torch.no_grad():
            self.base[0, 1] = 1 / MAP_GAIN
            self.base[1, 0], self.base[1, 1] = 1.3 / MAP_GAIN, 0.3 / MAP_GAIN
            self.base[2, 0] = -1.0 / MAP_GAIN
        self.tilt = nn.Parameter(torch.zeros(2, 2, layers, plane.orbits))

    def forward(self, given: Given) -> CellDensity:
        """Density of each cell, (N, layers, cells)."""
        floor = 4 * self.threshold
        energy = torch.log(given.zone_energy.clamp_min(floor) / self.spectrum.unit / self.zone_sizes)
        energy = energy @ self.member.T
        hits = (torch.log(given.hits.clamp_min(1.0)) - self.mean_log_hits)[:, :, None]
        base = MAP_GAIN * self.base[..., self.orbit]
        tilt = MAP_GAIN * self.tilt[..., self.orbit]
        centre = (given.transverse[:, :2] @ self.direction)[:, None]
        slope = (given.transverse[:, 2:] @ self.direction)[:, None]
        rate, mean, width = (
            energy * (energy * base[k, 2] + base[k, 1]) + base[k, 0] + hits * base[k, 3] for k in range(3)
        )
        rate = rate + centre * tilt[0, 0] + slope * tilt[0, 1]
        mean = mean + centre * tilt[1, 0] + slope * tilt[1, 1]
        return CellDensity(rate, mean, width)
