"""Gives sums of layers and rings of generated showers the distribution that they have in training showers.

Sums of many cells are the first that a physicist looks at, and cells that are drawn one by one conserve
energy in none of them. A shower is described by its response and by the vector y of

    cube roots of the fraction of the visible energy in each layer, and
    cube roots of the fraction that each radial bin holds of the energy of a group of layers.

Given the incident energy E and the standardised response z, y is taken as normal for training showers and for
generated ones. Of all maps that take one normal distribution to the other, this one displaces y least
(optimal transport; Dowson and Landau 1982). With y standardised by its mean and width at E,

    y' = beta z + M (y - gamma z),    M = Gamma^-1/2 (Gamma^1/2 Sigma Gamma^1/2)^1/2 Gamma^-1/2,

with slopes beta and covariances Sigma of what is left for training showers, gamma and Gamma for generated
ones. The cells are scaled by one factor for each layer and one for each radial bin of each group of layers,
which bring the sums to y'; they are found by iterative proportional fitting (Deming and Stephan 1940).

Shapes: N showers, L layers, B radial bins, G groups of layers, D = L + G * B entries of y.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from caloforge.models.gan3d.energy_argument import EnergyArgument, hats
from caloforge.models.gan3d.physics_features import FeatureScale
from caloforge.models.gan3d.shower_axis import ShowerAxis

# groups of layers
GROUPS = 5
# energies between which the map is interpolated, in equal steps of the energy argument
MAP_KNOTS = 3
# showers near a knot, per entry of y, that weigh as much as all others in its covariance
PRIOR_SHOWERS = 1.0
# added to variances in units of the wanted ones, and the smallest variance of standardised numbers
RIDGE, SMALLEST_VARIANCE = 1e-3, 1e-6
# smallest width of an entry of y, over that of all showers
LEAST_WIDTH = 0.05
# added to fractions, whose root then has a slope at 0
SMALL_FRACTION = 1e-5
SMALLEST_SUM = 1e-9
# steps of the proportional fitting, and the largest factor
FITTING_STEPS, LARGEST_FACTOR = 3, 5.0


class SumTransport(nn.Module):
    """Factors for the cells of each layer and radial bin.

    Attributes:
        map: (MAP_KNOTS, D, D + 1) M, and beta - M gamma in the last column.
        generated: Mean and width of y of generated showers.
        wanted: The same of training showers.
    """

    map: Tensor
    groups: Tensor
    group_of_layer: Tensor

    def __init__(self, layers: int, bins: int, argument: EnergyArgument, *, inclined: bool = False) -> None:
        """The map that changes nothing; `fit` gives another. `inclined` showers have an axis."""
        super().__init__()
        self.layers, self.bins, self.argument = layers, bins, argument
        group = np.arange(layers) * min(GROUPS, layers) // layers
        count = int(group[-1]) + 1
        size = layers + count * bins
        self.register_buffer("map", torch.eye(size, size + 1).repeat(MAP_KNOTS, 1, 1))
        self.generated = FeatureScale(argument, size, LEAST_WIDTH, inclined=inclined)
        self.wanted = FeatureScale(argument, size, LEAST_WIDTH, inclined=inclined)
        groups = torch.from_numpy(np.eye(count, dtype=np.float32)[group].T.copy())
        self.register_buffer("groups", groups, persistent=False)
        self.register_buffer("group_of_layer", torch.from_numpy(group), persistent=False)

    def coordinates(self, sums: Tensor) -> Tensor:
        """Return y, (N, D), of sums (N, L, B) in MeV."""
        layers, parts = self._fractions(sums)
        return (torch.cat([layers, parts.flatten(1)], 1) + SMALL_FRACTION).pow(1 / 3)

    @torch.no_grad()
    def fit(
        self,
        generated: Tensor,
        training: Tensor,
        energy: Tensor,
        responses: tuple[Tensor, Tensor],
        axis: ShowerAxis | None = None,
    ) -> None:
        """Fit the map.

        Args:
            generated: (N, L, B) sums of generated showers, MeV.
            training: (N, L, B) of training showers of the same energies.
            energy: (N,) incident energies, MeV.
            responses: (N,) standardised responses of the generated and the training showers.
            axis: Of the showers, if they are inclined.
        """
        weights = hats(self.argument(energy), MAP_KNOTS).double()
        moments = []
        scales = self.generated, self.wanted
        for sums, scale, z in zip((generated, training), scales, responses, strict=True):
            y = self.coordinates(sums)
            scale.fit(y, energy, axis)
            moments.append(_moments(scale(y, energy, axis).double(), z.double(), weights))
        for knot in range(MAP_KNOTS):
            (slope, covariance), (wanted_slope, wanted) = ((part[0][knot], part[1][knot]) for part in moments)
            linear = optimal_map(covariance, wanted)
            self.map[knot] = torch.cat([linear, (wanted_slope - linear @ slope)[:, None]], 1)

    def forward(
        self, sums: Tensor, energy: Tensor, response: Tensor, axis: ShowerAxis | None = None
    ) -> Tensor:
        """Factors that move the sums, the visible energy apart.

        Args:
            sums: (N, L, B) of generated showers, MeV.
            energy: (N,) incident energies, MeV.
            response: (N,) standardised.
            axis: Of the showers, if they are inclined.

        Returns:
            (N, L, B).
        """
        y = self.generated(self.coordinates(sums), energy, axis)
        known = torch.cat([y, response[:, None]], 1)
        moved = torch.einsum("kij,nj->nki", self.map, known)
        moved = (hats(self.argument(energy), MAP_KNOTS)[..., None] * moved).sum(1)
        wanted = self.wanted.restore(moved, energy, axis).pow(3) - SMALL_FRACTION
        return self._factors(sums, wanted.clamp_min(0))

    def _fractions(self, sums: Tensor) -> tuple[Tensor, Tensor]:
        """Fractions of the layers (N, L), and of the radial bins in the energy of their group (N, G, B)."""
        share = sums / sums.sum((1, 2), keepdim=True).clamp_min(SMALLEST_SUM)
        parts = self.groups @ share
        return share.sum(2), parts / parts.sum(2, keepdim=True).clamp_min(SMALLEST_SUM)

    def _factors(self, sums: Tensor, wanted: Tensor) -> Tensor:
        """Iterative proportional fitting of the sums to wanted fractions (N, D); the layers come last."""
        layers = wanted[:, : self.layers]
        layers = layers / layers.sum(1, keepdim=True).clamp_min(SMALLEST_SUM)
        parts = wanted[:, self.layers :].unflatten(1, (-1, self.bins))  # type: ignore[no-untyped-call]
        parts = parts / parts.sum(2, keepdim=True).clamp_min(SMALLEST_SUM)
        parts = parts * (layers @ self.groups.T)[..., None]
        share = sums / sums.sum((1, 2), keepdim=True).clamp_min(SMALLEST_SUM)
        of_layer = torch.ones_like(layers)
        factors = torch.ones_like(share)
        for _ in range(FITTING_STEPS):
            of_part = _bounded_ratio(parts, self.groups @ (share * of_layer[..., None]))
            factors = of_part[:, self.group_of_layer]
            of_layer = _bounded_ratio(layers, (share * factors).sum(2))
        return factors * of_layer[..., None]


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


def _moments(y: Tensor, response: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Slopes of y (N, D) against the response (N,), and covariances of the rest, at each knot.

    Slopes and correlations are drawn towards those of all showers where there are few.
    """
    prior = PRIOR_SHOWERS * y.shape[1]
    pooled_slope, pooled = _weighted_moments(y, response, torch.ones_like(response))
    pooled_width = pooled.diag().clamp_min(SMALLEST_VARIANCE).sqrt()
    slopes, covariances = [], []
    for weight in weights.T:
        slope, covariance = _weighted_moments(y, response, weight)
        share = weight.sum() / (weight.sum() + prior)
        ratio = covariance.diag().clamp_min(SMALLEST_VARIANCE).sqrt() / pooled_width
        slopes.append(share * slope + (1 - share) * ratio * pooled_slope)
        scaled = ratio[:, None] * pooled * ratio
        covariances.append(share * covariance + (1 - share) * scaled)
    return torch.stack(slopes), torch.stack(covariances)


def _weighted_moments(y: Tensor, response: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    slope = (weight * response) @ y / (weight @ response.square()).clamp_min(SMALLEST_SUM)
    rest = y - response[:, None] * slope
    return slope, (weight[:, None] * rest).T @ rest / weight.sum().clamp_min(SMALLEST_SUM)


def _power(matrix: Tensor, exponent: float) -> Tensor:
    """Power of a symmetric positive matrix."""
    size, vectors = torch.linalg.eigh(matrix)
    found: Tensor = (vectors * size.clamp_min(1e-9).pow(exponent)) @ vectors.T
    return found


def _bounded_ratio(wanted: Tensor, found: Tensor) -> Tensor:
    ratio = wanted / found.clamp_min(SMALLEST_SUM)
    return ratio.clamp(1 / LARGEST_FACTOR, LARGEST_FACTOR)
