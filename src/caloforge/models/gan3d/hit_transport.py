"""Gives the numbers of hits of generated showers the distribution that they have in training showers.

A shower with a large response has many hits, and a shower that starts late has others than one that starts
early. The square roots of the hits in groups of layers are moved by `NormalTransport`, given the standardised
response. A common displacement of the latent variables of a group, above 0 where a cell is hit, then gives
the wanted number of hits: the difference over the number of cells per unit of t near the threshold.

Shapes: N showers, L layers, G groups of layers, m cells in a layer.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from caloforge.models.gan3d.energy_argument import EnergyArgument
from caloforge.models.gan3d.normal_transport import MapForm, NormalTransport
from caloforge.models.gan3d.physics_features import FeatureScale, hit_indicator
from caloforge.models.gan3d.shower_axis import ShowerAxis
from caloforge.models.gan3d.sum_transport import layer_groups

# half width of the interval of t in which cells near the threshold are counted, and their smallest number
NEAR, FEWEST_NEAR = 0.15, 0.5
# of one correction, and how often the hits are counted again and corrected
LARGEST_DISPLACEMENT, REPEATS = 1.0, 1
# of a density, relative to its mean in all showers; only its mean is used
LEAST_WIDTH = 0.05
# under the root: hits of an empty group
EMPTY = 0.25


class HitTransport(nn.Module):
    """Displacements of the latent variables of each group of layers.

    Attributes:
        density: Mean logarithm of the number of cells of a group per unit of t near 0.
    """

    groups: Tensor

    def __init__(
        self, layers: int, argument: EnergyArgument, form: MapForm | None = None, *, inclined: bool = False
    ) -> None:
        """Nothing is displaced; `fit` changes that."""
        super().__init__()
        groups = layer_groups(layers)
        self.transport = NormalTransport(len(groups), 1, argument, form or MapForm(), inclined=inclined)
        self.density = FeatureScale(argument, len(groups), LEAST_WIDTH, inclined=inclined)
        self.register_buffer("groups", groups, persistent=False)

    @property
    def size(self) -> int:
        """Number of groups G."""
        return len(self.groups)

    def hits(self, latent: Tensor) -> Tensor:
        """(N, G) hits of latent variables (N, L, m); their gradient is that of soft edges."""
        struck = hit_indicator(latent) if latent.requires_grad else (latent > 0).float()
        return struck.sum(2) @ self.groups.T

    def known(self, hits: Tensor, energy: Tensor, axis: ShowerAxis | None) -> Tensor:
        """(N, G) square roots of hits (N, G), standardised by those of training showers."""
        found: Tensor = self.transport.wanted(_root(hits), energy, axis)
        return found

    @torch.no_grad()
    def log_density(self, latent: Tensor) -> Tensor:
        """(N, G) logarithm of the number of cells per unit of t near 0."""
        near = (latent.abs() < NEAR).float().sum(2) @ self.groups.T
        return (near.clamp_min(FEWEST_NEAR) / (2 * NEAR)).log()

    @torch.no_grad()
    def fit(
        self,
        generated: tuple[Tensor, Tensor],
        training: tuple[Tensor, Tensor],
        log_density: Tensor,
        energy: Tensor,
        axis: ShowerAxis | None = None,
    ) -> None:
        """Fit the map.

        Args:
            generated: Hits (N, G) and standardised responses (N,) of generated showers.
            training: The same of training showers of the same energies.
            log_density: (N, G) of the generated showers.
            energy: (N,) incident energies, MeV.
            axis: Of the showers, if they are inclined.
        """
        pairs = [(_root(hits), response[:, None]) for hits, response in (generated, training)]
        self.transport.fit(pairs[0], pairs[1], energy, axis)
        self.density.fit(log_density, energy, axis)

    def forward(
        self, latent: Tensor, response: Tensor, energy: Tensor, axis: ShowerAxis | None = None
    ) -> Tensor:
        """Displacement of the latent variables of each layer.

        Args:
            latent: (N, L, m).
            response: (N,) standardised.
            energy: (N,) incident energies, MeV.
            axis: Of the showers, if they are inclined.

        Returns:
            (N, L).
        """
        hits = self.hits(latent)
        root = self.transport(_root(hits), response[:, None], energy, axis)
        wanted = root.clamp_min(0).square() - EMPTY
        density = self.density.restore(torch.zeros_like(hits), energy, axis).exp()
        moved = ((wanted - hits) / density).clamp(-LARGEST_DISPLACEMENT, LARGEST_DISPLACEMENT)
        for _ in range(REPEATS):
            hits = self.hits(latent + (moved @ self.groups)[..., None])
            moved = moved + ((wanted - hits) / density).clamp(-LARGEST_DISPLACEMENT, LARGEST_DISPLACEMENT)
        displacement: Tensor = moved @ self.groups
        return displacement


def _root(hits: Tensor) -> Tensor:
    return (hits + EMPTY).sqrt()
