"""The energy argument, in which the compact networks are smooth, and bases of functions of it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

# knots of piecewise linear functions of the energy argument
ENERGY_KNOTS = 9
# steps of the fit of widths, and the largest square of a standardised number in it
WIDTH_STEPS, LARGEST_SQUARE = 6, 16.0
# E ln|x| of a standard normal number x
MEAN_LOG_MODULUS = -0.635


@dataclass(frozen=True)
class EnergyArgument:
    """The logarithm of the incident energy, mapped to [-1, 1] over the trained range."""

    offset: float
    scale: float

    def __call__(self, energy: Tensor) -> Tensor:
        """(N,) of energies in MeV."""
        return (energy.log() - self.offset) * self.scale


def hats(argument: Tensor, knots: int = ENERGY_KNOTS) -> Tensor:
    """(N, knots) weights of equidistant knots in linear interpolation over the trained range, of (N,)."""
    place = ((argument + 1) * ((knots - 1) / 2)).clamp(0, knots - 1)
    return (1 - (place[:, None] - torch.arange(knots, device=argument.device)).abs()).clamp_min(0)


def powers(argument: Tensor, degree: int) -> Tensor:
    """(N, degree + 1) powers of (N,), from 0."""
    return torch.stack([argument**k for k in range(degree + 1)], dim=-1)


def least_squares(design: Tensor, values: Tensor, penalty: float = 1e-6) -> Tensor:
    """Coefficients (k, ...) for which `design` (N, k) times them is nearest to values (N, ...).

    Args:
        design: (N, k) functions of the energy argument.
        values: (N,) or (N, m).
        penalty: Of the mean square of the coefficients, for functions that the sample does not tell apart.
    """
    gram = design.T @ design + penalty * len(design) * torch.eye(design.shape[1])
    solution: Tensor = torch.linalg.solve(gram, design.T @ values)
    return solution


def log_widths(design: Tensor, values: Tensor, least: Tensor, penalty: float = 1e-6) -> Tensor:
    """Coefficients of the logarithm of the standard deviation of normal numbers of mean 0, (k, ...).

    Maximum likelihood by Fisher scoring, which starts from the mean logarithm of the moduli.

    Args:
        design: (N, k) functions of the energy argument, the first of which is 1.
        values: (N,) or (N, m).
        least: Smallest modulus in that start, () or (m,).
        penalty: As of `least_squares`.
    """
    logs = torch.maximum(values.abs(), least).log() - MEAN_LOG_MODULUS
    found = least_squares(design, logs, penalty)
    for _ in range(WIDTH_STEPS):
        square = (values / torch.maximum((design @ found).exp(), least)).square()
        found = found + least_squares(design, (square.clamp_max(LARGEST_SQUARE) - 1) / 2, penalty)
    return found
