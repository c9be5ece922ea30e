"""Gives sums of layers and rings of generated showers the distribution that they have in training showers.

Sums of many cells are the first that a physicist looks at, and cells that are drawn one by one conserve
energy in none of them. A shower is described by what is known of it, its standardised response and numbers of
hits, and by the vector y of

    cube roots of the fraction of the visible energy in each layer, and
    cube roots of the fraction that each radial bin holds of the energy of a group of layers,

which `NormalTransport` moves. The cells are scaled by one factor for each layer and one for each radial bin
of each group of layers, which bring the sums to the moved y; they are found by iterative proportional fitting
(Deming and Stephan 1940).

Shapes: N showers, L layers, B radial bins, G groups of layers, D = L + G * B entries of y, K known numbers.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from caloforge.models.gan3d.energy_argument import EnergyArgument
from caloforge.models.gan3d.normal_transport import MapForm, NormalTransport
from caloforge.models.gan3d.shower_axis import ShowerAxis

# groups of layers
GROUPS = 5
# added to fractions, whose root then has a slope at 0
SMALL_FRACTION = 1e-5
SMALLEST_SUM = 1e-9
# steps of the proportional fitting, and the largest factor
FITTING_STEPS, LARGEST_FACTOR = 3, 5.0


class SumTransport(nn.Module):
    """Factors for the cells of each layer and radial bin."""

    groups: Tensor
    group_of_layer: Tensor

    def __init__(
        self,
        layers: int,
        bins: int,
        known: int,
        argument: EnergyArgument,
        form: MapForm | None = None,
        *,
        inclined: bool = False,
    ) -> None:
        """The map that changes nothing; `fit` gives another.

        Args:
            layers: L.
            bins: B.
            known: K.
            argument: Of the energy.
            form: Of the map.
            inclined: Whether the showers have an axis.
        """
        super().__init__()
        self.layers, self.bins = layers, bins
        group = layer_groups(layers)
        size = layers + len(group) * bins
        self.transport = NormalTransport(size, known, argument, form or MapForm(), inclined=inclined)
        self.register_buffer("groups", group, persistent=False)
        self.register_buffer("group_of_layer", group.argmax(0), persistent=False)

    def coordinates(self, sums: Tensor) -> Tensor:
        """Return y, (N, D), of sums (N, L, B) in MeV."""
        layers, parts = self._fractions(sums)
        return (torch.cat([layers, parts.flatten(1)], 1) + SMALL_FRACTION).pow(1 / 3)

    def fit(
        self,
        generated: tuple[Tensor, Tensor],
        training: tuple[Tensor, Tensor],
        energy: Tensor,
        axis: ShowerAxis | None = None,
    ) -> None:
        """Fit the map.

        Args:
            generated: Sums (N, L, B) in MeV and known numbers (N, K) of generated showers.
            training: The same of training showers of the same energies.
            energy: (N,) incident energies, MeV.
            axis: Of the showers, if they are inclined.
        """
        pairs = [(self.coordinates(sums), known) for sums, known in (generated, training)]
        self.transport.fit(pairs[0], pairs[1], energy, axis)

    def forward(self, sums: Tensor, known: Tensor, energy: Tensor, axis: ShowerAxis | None = None) -> Tensor:
        """Factors that move the sums, the visible energy apart.

        Args:
            sums: (N, L, B) of generated showers, MeV.
            known: (N, K).
            energy: (N,) incident energies, MeV.
            axis: Of the showers, if they are inclined.

        Returns:
            (N, L, B).
        """
        wanted = self.transport(self.coordinates(sums), known, energy, axis).pow(3) - SMALL_FRACTION
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


def layer_groups(layers: int) -> Tensor:
    """(G, L) 1 where a layer belongs to a group, else 0; each has about as many layers."""
    group = np.arange(layers) * min(GROUPS, layers) // layers
    return torch.from_numpy(np.eye(int(group[-1]) + 1, dtype=np.float32)[group].T.copy())


def _bounded_ratio(wanted: Tensor, found: Tensor) -> Tensor:
    ratio = wanted / found.clamp_min(SMALLEST_SUM)
    return ratio.clamp(1 / LARGEST_FACTOR, LARGEST_FACTOR)
