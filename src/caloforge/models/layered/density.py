"""The density of a cell: how likely it is hit, how much energy a hit has.

A cell is hit with probability 1 - exp(-lambda), as if particles came at random with mean lambda; the energy
of a hit is normal in the coordinate of `spectrum.py`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from caloforge.models.layered.constants import (
    GUMBEL_OF_NORMAL,
    LARGEST_NORMAL,
    LOG_NUMBER_RANGE,
    WIDTH_RANGE,
)

LEAST_NUMBER = math.exp(LOG_NUMBER_RANGE[0])
LARGEST_SCORE = 4.5
# steeper than any margin that float32 resolves
STEEP = 1e8


@dataclass(frozen=True)
class Given:
    """What is known of N showers before their cells.

    Attributes:
        zone_energy: (N, layers, zones) MeV.
        hits: (N, layers, zones), 0 where there is no energy.
        transverse: (N, 4) centre and slope.
        argument: (N,) logarithm of the incident energy, -1 to 1 over the trained range.
    """

    zone_energy: Tensor
    hits: Tensor
    transverse: Tensor
    argument: Tensor


@dataclass(frozen=True)
class Cells:
    """Cells of N showers, (N, layers, cells) each.

    Attributes:
        hits: 1 or 0.
        coordinate: Energy in the coordinate of the spectrum, 0 where there is no hit.
    """

    hits: Tensor
    coordinate: Tensor


@dataclass(frozen=True)
class CellDensity:
    """Lambda, mean and log width of each cell, (N, layers, cells)."""

    number: Tensor
    mean: Tensor
    width: Tensor

    def corrected(self, added: Tensor, moved: Tensor) -> CellDensity:
        """With `added` expected particles, and the mean `moved` by that many widths."""
        return CellDensity(self.number + added, self.mean + self.deviation() * moved, self.width)

    def deviation(self) -> Tensor:
        """Standard deviation of the coordinate of a hit."""
        return self.width.clamp(*WIDTH_RANGE).exp()

    def scores(self, cells: Cells) -> Tensor:
        """Energies of hits in standard deviations from the mean, 0 where there is no hit."""
        score = (cells.coordinate - self.mean) * torch.exp(-self.width.clamp(*WIDTH_RANGE))
        return score.clamp(-LARGEST_SCORE, LARGEST_SCORE) * cells.hits

    def hit_probability(self) -> Tensor:
        """Probability of a hit."""
        return -torch.expm1(-self.number)

    def negative_log_likelihood(self, cells: Cells, together: Tensor) -> Tensor:
        """Of showers, (N,).

        Args:
            cells: (N, layers, cells).
            together: (N, layers, cells) hits of the zone of each cell, whose energies add up to a known sum:
                that of a single hit is known, those of n vary less by (n - 1) / n than they would alone.
        """
        width = self.width.clamp(*WIDTH_RANGE) + torch.log1p(-1 / together.clamp_min(2.0)) / 2
        score = (cells.coordinate - self.mean) * torch.exp(-width)
        energy = torch.where(together > 1, -(score**2) / 2 - width - math.log(2 * math.pi) / 2, 0.0)
        hit = torch.log(-torch.expm1(-self.number)) + energy
        return torch.where(cells.hits > 0, -hit, self.number).sum((1, 2))


def step(x: Tensor) -> Tensor:
    """1 where x is positive, else 0, as numbers: runtimes are slow with truth values."""
    return (x * STEEP).clamp(0, 1)


def gumbel_of_normal(x: Tensor) -> Tensor:
    """The number at the quantile of Gumbel's distribution that x has in the normal one.

    Its exponential is one over an exponential number: lambda times it is above one with the probability
    1 - exp(-lambda).
    """
    x = x.clamp(-LARGEST_NORMAL, LARGEST_NORMAL)
    value = torch.full_like(x, GUMBEL_OF_NORMAL[-1])
    for coefficient in GUMBEL_OF_NORMAL[-2::-1]:
        value = value * x + coefficient
    return value
