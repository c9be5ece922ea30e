"""The energy of a hit as a coordinate in which hits are normal.

Where few particles cross a layer, a cell has the energy of one of them: the spectrum with the MIP peak, the
same everywhere. Where many cross, their energies add, and the cube root of the sum is close to normal (Wilson
and Hilferty 1931). The coordinate is the cube root, bent at small energies so that the spectrum of single
particles is normal too.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import norm
from torch import Tensor, nn

# the spectrum is tabulated at these normal scores
FIRST_SCORE, LAST_SCORE, KNOTS = -3.2, 2.2, 37
# mean and width of the cube root of a single-particle energy in units of its median
CENTRE, WIDTH = 1.0, 0.365
# keeps the coordinate of the weakest hit above that of no hit
OFFSET = 0.245
FEWEST_HITS = 2000


class HitSpectrum(nn.Module):
    """Energies in MeV to coordinates and back; 0 is no hit in both."""

    unit: Tensor
    roots: Tensor
    coordinates: Tensor

    def __init__(self) -> None:
        """A plain cube root."""
        super().__init__()
        self.register_buffer("unit", torch.ones(()))
        scores = np.linspace(FIRST_SCORE, LAST_SCORE, KNOTS)
        coordinates = torch.from_numpy(CENTRE + WIDTH * scores + OFFSET).float()
        self.register_buffer("coordinates", coordinates, persistent=False)
        self.register_buffer("roots", (coordinates - OFFSET).clamp_min(0.02).cummax(0).values)

    @property
    def smallest(self) -> float:
        """Coordinate of the weakest hit."""
        return float(CENTRE + WIDTH * FIRST_SCORE + OFFSET)

    def fit(self, energies: NDArray[np.float32]) -> None:
        """Tabulate the spectrum.

        Args:
            energies: Hits of cells that single particles reach, MeV; with too few the plain cube root stays.
        """
        if len(energies) == 0:
            return
        unit = float(np.median(energies))
        self.unit.fill_(unit)
        if len(energies) < FEWEST_HITS:
            return
        probability = norm.cdf(np.linspace(FIRST_SCORE, LAST_SCORE, KNOTS))
        roots = np.cbrt(np.quantile(energies / unit, probability))
        roots = np.maximum.accumulate(roots + 1e-6 * np.arange(KNOTS))
        self.roots.copy_(torch.from_numpy(roots))

    def coordinate(self, energy: Tensor) -> Tensor:
        """Coordinates of cell energies in MeV, any shape."""
        root = (energy / self.unit).pow(1 / 3)
        upper = torch.searchsorted(self.roots, root).clamp(1, KNOTS - 1)
        start, stop = self.roots[upper - 1], self.roots[upper]
        inside = ((root - start) / (stop - start)).clamp(0, 1)
        step = self.coordinates[1] - self.coordinates[0]
        value = self.coordinates[upper - 1] + inside * step + (root - self.roots[-1]).clamp_min(0)
        return torch.where(energy > 0, value, 0.0)

    def energy(self, coordinate: Tensor) -> Tensor:
        """Cell energies in MeV of coordinates, any shape."""
        step = self.coordinates[1] - self.coordinates[0]
        place = ((coordinate - self.coordinates[0]) / step).clamp(0, KNOTS - 1)
        knot = place.floor().clamp(0, KNOTS - 2)
        number = knot.long()
        slopes = self.roots[1:] - self.roots[:-1]
        root = self.roots[number] + (place - knot) * slopes[number]
        root = root + (coordinate - self.coordinates[-1]).clamp_min(0)
        return torch.where(coordinate > 0, self.unit * root**3, 0.0)
