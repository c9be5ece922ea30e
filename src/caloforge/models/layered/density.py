"""The density of a cell: how likely it is hit, how much energy a hit has.

A cell is hit with probability 1 - exp(-lambda), as if particles came at random with mean lambda; the energy
of a hit is normal in the coordinate of `spectrum.py`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

LAMBDA_RANGE = (-14.0, 6.0)
WIDTH_RANGE = (-5.0, 0.7)
LARGEST_SCORE = 4.5
# the normal number at the same quantile as x of an exponential one, as a cubic in the eighth root of x
NORMAL_OF_ROOT = (-6.43576, 11.06008, -9.67851, 5.3907)
# log(phi / (1 - phi)) of the normal distribution function, in odd powers; within 0.002 up to 5.5
ODDS_OF_NORMAL = (1.593410876, 0.0756052078, -0.00097023066, 8.6802883e-06)
LARGEST_NUMBER = 5.5
# log((exp(lambda) - 1) / lambda) in powers from the first; within 0.001 up to 9, where all cells are hit
ODDS_OF_RATE = (0.4956083227, 0.0476751407, -0.0025606949, 5.2772183e-05)
LARGEST_ODDS_RATE = math.log(9.0)
# steeper than any margin that float32 resolves
STEEP = 1e8


@dataclass(frozen=True)
class Given:
    """What is known of N showers before their cells.

    Attributes:
        zone_energy: (N, layers, zones) MeV.
        hits: (N, layers, zones), 0 where there is no energy.
        transverse: (N, 4) centre and slope.
        condition: (N, k) everything, as normal scores, for the network.
    """

    zone_energy: Tensor
    hits: Tensor
    transverse: Tensor
    condition: Tensor


@dataclass(frozen=True)
class CellDensity:
    """Log lambda, mean and log width of each cell, (N, layers, cells)."""

    rate: Tensor
    mean: Tensor
    width: Tensor

    def __add__(self, other: CellDensity) -> CellDensity:
        """Sum of the parameters."""
        return CellDensity(self.rate + other.rate, self.mean + other.mean, self.width + other.width)

    def hit_probability(self) -> Tensor:
        """Probability of a hit."""
        return -torch.expm1(-self.rate.clamp(*LAMBDA_RANGE).exp())

    def divergence_from(self, other: CellDensity) -> Tensor:
        """Kullback-Leibler divergence from another density to this one, summed over cells, (N,)."""
        own, their = (d.rate.clamp(*LAMBDA_RANGE).exp() for d in (self, other))
        hit = -torch.expm1(-their)
        # log of the probability of a hit, and of none, which is -lambda
        hits = hit * (torch.log(hit) - torch.log(-torch.expm1(-own))) + (1 - hit) * (own - their)
        ratio = other.width.clamp(*WIDTH_RANGE) - self.width.clamp(*WIDTH_RANGE)
        distance = (other.mean - self.mean) * torch.exp(-self.width.clamp(*WIDTH_RANGE))
        energy = (torch.exp(2 * ratio) + distance**2 - 1) / 2 - ratio
        return (hits + hit * energy).sum((1, 2))

    def negative_log_likelihood(self, coordinate: Tensor) -> Tensor:
        """Of showers in the coordinate of the spectrum, (N,)."""
        rate = self.rate.clamp(*LAMBDA_RANGE).exp()
        width = self.width.clamp(*WIDTH_RANGE)
        score = (coordinate - self.mean) * torch.exp(-width)
        hit = torch.log(-torch.expm1(-rate)) - score**2 / 2 - width - math.log(2 * math.pi) / 2
        return torch.where(coordinate > 0, -hit, rate).sum((1, 2))


def step(x: Tensor) -> Tensor:
    """1 where x is positive, else 0, as numbers: runtimes are slow with truth values."""
    return (x * STEEP).clamp(0, 1)


def log_odds_of_rate(rate: Tensor) -> Tensor:
    """Logarithm of p / (1 - p) with p = 1 - exp(-lambda), from log lambda, without slow logarithms."""
    low = rate.clamp(LAMBDA_RANGE[0], LARGEST_ODDS_RATE)
    number = low.exp()
    a, b, c, d = ODDS_OF_RATE
    return rate + number * (a + number * (b + number * (c + number * d)))


def log_odds_of_normal(x: Tensor) -> Tensor:
    """Logarithm of p / (1 - p) where p is the probability of a standard normal number below x."""
    x = x.clamp(-LARGEST_NUMBER, LARGEST_NUMBER)
    square = x * x
    a, b, c, d = ODDS_OF_NORMAL
    return x * (a + square * (b + square * (c + square * d)))


def normal_of_exponential(x: Tensor) -> Tensor:
    """The standard normal number at the quantile that x has in the exponential distribution.

    Within 0.01 up to 3 standard deviations, 0.03 up to 4.
    """
    root = x.sqrt().sqrt().sqrt()
    score = NORMAL_OF_ROOT[0] + root * (
        NORMAL_OF_ROOT[1] + root * (NORMAL_OF_ROOT[2] + root * NORMAL_OF_ROOT[3])
    )
    return score.clamp(-LARGEST_SCORE, LARGEST_SCORE)
