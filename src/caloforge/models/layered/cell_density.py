"""Density of a cell: probability of a hit, and distribution of the energy of a hit, Eq. 9.

A cell is hit with probability 1 - exp(-rate), as if a Poisson number of particles with this mean arrived. The
transformed energy of a hit (`energy_transform.py`) is normal.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from caloforge.models.layered.constants import (
    GUMBEL_FROM_NORMAL,
    LARGEST_NORMAL,
    LOG_RATE_RANGE,
    LOG_SIGMA_RANGE,
)
from caloforge.models.layered.shower_frame import AxisPosition

LEAST_RATE = math.exp(LOG_RATE_RANGE[0])
LARGEST_RESIDUAL = 4.5
# slope of the step: steeper than any difference that float32 resolves
STEEP = 1e8


@dataclass(frozen=True)
class WindowCondition:
    """Windows of cells around the axes of N showers, see `shower_frame.py`.

    Attributes:
        terms: (operations, N, layers, K) terms of remainder and direction, Eq. 22.
        available: (N, layers, cells) 1 for cells that are in the mesh, else 0.
        bin_cells: (N, layers, bins) their number.
        position: Of the axes.
    """

    terms: Tensor
    available: Tensor
    bin_cells: Tensor
    position: AxisPosition


@dataclass(frozen=True)
class CellCondition:
    """What the cells of N showers are drawn from: sums of radial bins, position, incident energy.

    Attributes:
        bin_energy: (N, layers, bins) MeV.
        hit_counts: (N, layers, bins) hits, 0 where there is no energy.
        position: (N, 4) centre and depth covariance.
        energy_argument: (N,) scaled logarithm of the incident energy, -1 to 1 over the trained range.
        window: What windows around the axes of the showers have besides; None where there are none.
    """

    bin_energy: Tensor
    hit_counts: Tensor
    position: Tensor
    energy_argument: Tensor
    window: WindowCondition | None = None


@dataclass(frozen=True)
class Cells:
    """Cells of N showers, (N, layers, cells) each.

    Attributes:
        hit_mask: 1 where a cell is hit, else 0.
        transformed_energy: Transformed energy of a hit, Eq. 8; 0 where there is none.
    """

    hit_mask: Tensor
    transformed_energy: Tensor


@dataclass(frozen=True)
class CellDensity:
    """Density of each cell, (N, layers, cells) each, Eq. 9.

    Attributes:
        rate: Expected number of particles, lambda.
        mean: Mean of the transformed energy of a hit, mu.
        log_sigma: Logarithm of its standard deviation.
    """

    rate: Tensor
    mean: Tensor
    log_sigma: Tensor

    def coupled(self, added_rate: Tensor, mean_shift: Tensor) -> CellDensity:
        """The density with couplings added, Eq. 12.

        Args:
            added_rate: (N, layers, cells) added to the rate.
            mean_shift: (N, layers, cells) added to the mean, in standard deviations.
        """
        return CellDensity(self.rate + added_rate, self.mean + self.sigma() * mean_shift, self.log_sigma)

    def within(self, condition: CellCondition) -> CellDensity:
        """The density with no hits outside of the mesh."""
        if condition.window is None:
            return self
        available = condition.window.available
        return CellDensity(self.rate * available + LEAST_RATE * (1 - available), self.mean, self.log_sigma)

    def sigma(self) -> Tensor:
        """Standard deviation of the transformed energy of a hit."""
        return self.log_sigma.clamp(*LOG_SIGMA_RANGE).exp()

    def residuals(self, cells: Cells) -> Tensor:
        """Standardised residuals of the transformed energies, 0 where there is no hit."""
        residual = (cells.transformed_energy - self.mean) * torch.exp(-self.log_sigma.clamp(*LOG_SIGMA_RANGE))
        return residual.clamp(-LARGEST_RESIDUAL, LARGEST_RESIDUAL) * cells.hit_mask

    def hit_probability(self) -> Tensor:
        """Probability of a hit."""
        return -torch.expm1(-self.rate)

    def negative_log_likelihood(self, cells: Cells, bin_hits: Tensor) -> Tensor:
        """Negative log-likelihood of showers given the energies of their radial bins, (N,), Eq. 9 and 11.

        Args:
            cells: (N, layers, cells).
            bin_hits: (N, layers, cells) number n of hits of the bin of each cell. Their energies add up to a
                known sum: the variance of each is smaller by (n - 1) / n, and a single one is known.
        """
        log_sigma = self.log_sigma.clamp(*LOG_SIGMA_RANGE) + torch.log1p(-1 / bin_hits.clamp_min(2.0)) / 2
        residual = (cells.transformed_energy - self.mean) * torch.exp(-log_sigma)
        energy = torch.where(bin_hits > 1, -(residual**2) / 2 - log_sigma - math.log(2 * math.pi) / 2, 0.0)
        hit = torch.log(-torch.expm1(-self.rate)) + energy
        return torch.where(cells.hit_mask > 0, -hit, self.rate).sum((1, 2))


def heaviside(x: Tensor) -> Tensor:
    """1 where x is positive, else 0, in the type of x: runtimes are slow with booleans."""
    return (x * STEEP).clamp(0, 1)


def gumbel_from_normal(x: Tensor) -> Tensor:
    """Standard Gumbel numbers from standard normal ones, by their quantiles.

    The exponential of a Gumbel number is one over a unit exponential number, 1 / xi of Eq. 14: times a rate
    it is above 1 with probability 1 - exp(-rate).
    """
    x = x.clamp(-LARGEST_NORMAL, LARGEST_NORMAL)
    value = torch.full_like(x, GUMBEL_FROM_NORMAL[-1])
    for coefficient in GUMBEL_FROM_NORMAL[-2::-1]:
        value = value * x + coefficient
    return value
