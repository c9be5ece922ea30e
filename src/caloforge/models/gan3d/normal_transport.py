"""Optimal transport between conditional normal distributions, with moments that depend on the energy.

Given the incident energy E and a vector z of known numbers, a vector y is taken as normal for training
showers and for generated ones. Of all maps that take one normal distribution to the other, this one displaces
y least (optimal transport; Dowson and Landau 1982). With y standardised by its mean and width at E,

    y' = beta z + M (y - gamma z),    M = Gamma^-1/2 (Gamma^1/2 Sigma Gamma^1/2)^1/2 Gamma^-1/2,

with slopes beta and covariances Sigma of what is left for training showers, gamma and Gamma for generated
ones.

Shapes: N showers, D entries of y, K of z.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from caloforge.models.gan3d.energy_argument import EnergyArgument, hats
from caloforge.models.gan3d.physics_features import FeatureScale
from caloforge.models.gan3d.shower_axis import ShowerAxis

# showers near a knot, per entry of y and z, that weigh as much as all others in slopes and covariance
PRIOR_SHOWERS = 1.0
# added to variances in units of the wanted ones, and the smallest variance of standardised numbers
RIDGE, SMALLEST_VARIANCE = 1e-3, 1e-6
# smallest width of an entry of y, over that of all showers
LEAST_WIDTH = 0.05
# of z, as a share of the showers, so that numbers that always are the same have no slope
SLOPE_RIDGE = 1e-3


@dataclass(frozen=True)
class MapForm:
    """How maps depend on the energy and on z.

    Attributes:
        energies: Number of energies between which maps are interpolated, in equal steps of the energy
            argument.
        squared: Whether y depends on the square of the first entry of z as well.
    """

    energies: int = 3
    squared: bool = False

    def known(self, z: Tensor) -> Tensor:
        """What y depends on, (N, K) or with the square (N, K + 1); all are of mean 0 and variance 1."""
        return torch.cat([z, (z[:, :1].square() - 1) * 0.5**0.5], 1) if self.squared else z


class NormalTransport(nn.Module):
    """Moves y to the distribution of training showers, given z.

    Attributes:
        map: (energies, D, D + K) M, and beta - M gamma in the last columns, with one more for the square.
        generated: Mean and width of y of generated showers.
        wanted: The same of training showers.
    """

    map: Tensor

    def __init__(
        self, size: int, known: int, argument: EnergyArgument, form: MapForm, *, inclined: bool = False
    ) -> None:
        """The map that changes nothing; `fit` gives another.

        Args:
            size: D.
            known: K.
            argument: Of the energy.
            form: Of the map.
            inclined: Whether the showers have an axis.
        """
        super().__init__()
        self.argument, self.form = argument, form
        start = torch.eye(size, size + known + form.squared)
        self.register_buffer("map", start.repeat(form.energies, 1, 1))
        self.generated = FeatureScale(argument, size, LEAST_WIDTH, inclined=inclined)
        self.wanted = FeatureScale(argument, size, LEAST_WIDTH, inclined=inclined)

    @torch.no_grad()
    def fit(
        self,
        generated: tuple[Tensor, Tensor],
        training: tuple[Tensor, Tensor],
        energy: Tensor,
        axis: ShowerAxis | None = None,
    ) -> None:
        """Fit the map.

        Args:
            generated: y (N, D) and z (N, K) of generated showers.
            training: The same of training showers of the same energies.
            energy: (N,) incident energies, MeV.
            axis: Of the showers, if they are inclined.
        """
        weights = hats(self.argument(energy), self.form.energies).double()
        moments = []
        for (y, z), scale in ((generated, self.generated), (training, self.wanted)):
            scale.fit(y, energy, axis)
            known = self.form.known(z).double()
            moments.append(_moments(scale(y, energy, axis).double(), known, weights))
        for knot in range(self.form.energies):
            (slopes, covariance), (wanted_slopes, wanted) = (
                (part[0][knot], part[1][knot]) for part in moments
            )
            linear = optimal_map(covariance, wanted)
            self.map[knot] = torch.cat([linear, wanted_slopes - linear @ slopes], 1)

    def forward(self, y: Tensor, z: Tensor, energy: Tensor, axis: ShowerAxis | None = None) -> Tensor:
        """Return y (N, D) moved, given z (N, K) and the energy (N,) in MeV."""
        known = torch.cat([self.generated(y, energy, axis), self.form.known(z)], 1)
        moved = torch.einsum("kij,nj->nki", self.map, known)
        moved = (hats(self.argument(energy), self.form.energies)[..., None] * moved).sum(1)
        return self.wanted.restore(moved, energy, axis)


def optimal_map(source: Tensor, target: Tensor) -> Tensor:
    """The matrix that maps N(0, source) to N(0, target) with the least displacement; all (D, D).

    Displacements are measured in standard deviations of the target.
    """
    unit = target.diag().clamp_min(SMALLEST_VARIANCE).sqrt()
    ridge = RIDGE * torch.eye(len(source), dtype=source.dtype)
    source = source / unit / unit[:, None] + ridge
    target = target / unit / unit[:, None] + ridge
    root, inverse = _power(source, 0.5), _power(source, -0.5)
    found = inverse @ _power(root @ target @ root, 0.5) @ inverse
    return unit[:, None] * found / unit


def _moments(y: Tensor, known: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Slopes of y (N, D) against z (N, K), and covariances of the rest, at each knot.

    Slopes and correlations are drawn towards those of all showers where there are few.
    """
    prior = PRIOR_SHOWERS * (y.shape[1] + known.shape[1] - 1)
    pooled_slopes, pooled = _weighted_moments(y, known, torch.ones_like(known[:, 0]))
    pooled_width = pooled.diag().clamp_min(SMALLEST_VARIANCE).sqrt()
    slopes, covariances = [], []
    for weight in weights.T:
        slope, covariance = _weighted_moments(y, known, weight)
        share = weight.sum() / (weight.sum() + prior)
        ratio = covariance.diag().clamp_min(SMALLEST_VARIANCE).sqrt() / pooled_width
        slopes.append(share * slope + (1 - share) * ratio[:, None] * pooled_slopes)
        scaled = ratio[:, None] * pooled * ratio
        covariances.append(share * covariance + (1 - share) * scaled)
    return torch.stack(slopes), torch.stack(covariances)


def _weighted_moments(y: Tensor, known: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Slopes (D, K) and covariance (D, D)."""
    total = weight.sum().clamp_min(SMALLEST_VARIANCE)
    gram = known.T @ (weight[:, None] * known) / total
    gram = gram + SLOPE_RIDGE * torch.eye(len(gram), dtype=gram.dtype)
    slopes: Tensor = torch.linalg.solve(gram, known.T @ (weight[:, None] * y) / total).T
    rest = y - known @ slopes.T
    return slopes, (weight[:, None] * rest).T @ rest / total


def _power(matrix: Tensor, exponent: float) -> Tensor:
    """Power of a symmetric positive matrix."""
    size, vectors = torch.linalg.eigh(matrix)
    found: Tensor = (vectors * size.clamp_min(1e-9).pow(exponent)) @ vectors.T
    return found
