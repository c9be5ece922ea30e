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

from caloforge.models.layered.density import step

# the spectrum is tabulated at these normal scores
FIRST_SCORE, LAST_SCORE, KNOTS = -3.2, 2.2, 37
# mean and width of the cube root of a single-particle energy in units of its median
CENTRE, WIDTH = 1.0, 0.365
# keeps the coordinate of the weakest hit above that of no hit
OFFSET = 0.245
FEWEST_HITS = 2000
# coordinate of the last knot; the cube root goes on from there
LARGEST = CENTRE + WIDTH * LAST_SCORE + OFFSET
# back from the coordinate: one polynomial below the MIP peak, where the table bends, and one above
SPLIT, SCALE = 18, 1.0
WEAK_DEGREE, STRONG_DEGREE = 6, 4


class HitSpectrum(nn.Module):
    """Energies in MeV to coordinates and back; 0 is no hit in both."""

    unit: Tensor
    roots: Tensor
    coordinates: Tensor
    weak: Tensor
    strong: Tensor

    def __init__(self) -> None:
        """A plain cube root."""
        super().__init__()
        self.register_buffer("unit", torch.ones(()))
        scores = np.linspace(FIRST_SCORE, LAST_SCORE, KNOTS)
        coordinates = torch.from_numpy(CENTRE + WIDTH * scores + OFFSET).float()
        self.register_buffer("coordinates", coordinates, persistent=False)
        self.register_buffer("roots", (coordinates - OFFSET).clamp_min(0.02).cummax(0).values)
        self.register_buffer("weak", torch.zeros(WEAK_DEGREE + 1))
        self.register_buffer("strong", torch.zeros(STRONG_DEGREE))
        ends = (coordinates[[0, -1]] - coordinates[SPLIT]) / SCALE
        self._ends = (float(ends[0]), float(ends[1]))
        self.fit_polynomials()

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
        self.fit_polynomials()

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
        """Cell energies in MeV of coordinates, any shape: the inverse of `coordinate` within 3 %."""
        # a table would be slower than all the rest of a draw
        place = (coordinate - self.coordinates[SPLIT]) / SCALE
        weak, strong = place.clamp(self._ends[0], 0.0), place.clamp(0.0, self._ends[1])
        root = _polynomial(self.weak, weak) + strong * _polynomial(self.strong, strong)
        root = root + (coordinate - LARGEST).clamp_min(0)
        return self.unit * root * root * root * step(coordinate)

    def fit_polynomials(self) -> None:
        """Take the table over into the two polynomials, in powers of the distance from the split."""
        place = (self.coordinates.double().numpy() - float(self.coordinates[SPLIT])) / SCALE
        roots = self.roots.double().numpy()
        weak, strong = slice(0, SPLIT + 1), slice(SPLIT + 1, None)
        # relative errors count, and the two must meet
        weight = 1 / roots[weak]
        weight[-1] *= 100
        powers = np.vander(place[weak], WEAK_DEGREE + 1, increasing=True)
        found = np.linalg.lstsq(powers * weight[:, None], roots[weak] * weight, rcond=None)[0]
        self.weak.copy_(torch.from_numpy(found))
        powers = place[strong, None] ** np.arange(1, STRONG_DEGREE + 1)
        found = np.linalg.lstsq(powers, roots[strong] - roots[SPLIT], rcond=None)[0]
        self.strong.copy_(torch.from_numpy(found))


def _polynomial(coefficients: Tensor, x: Tensor) -> Tensor:
    value = coefficients[-1].expand_as(x)
    for coefficient in coefficients[:-1].flip(0):
        value = value * x + coefficient
    return value
