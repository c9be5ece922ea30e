"""The energy argument, in which the compact networks are smooth, and bases of functions of it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

# knots of piecewise linear functions of the energy argument
ENERGY_KNOTS = 9


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
