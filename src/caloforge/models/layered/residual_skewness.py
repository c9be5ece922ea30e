"""Skewness of the residuals of hits: a tail where the energies of particles add, Eq. 17."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from caloforge.models.layered.constants import LARGEST_SKEWED
from caloforge.models.layered.geometry import LayerGeometry

MOMENTUM = 0.02
# number of hits with which half of the measured skewness is taken
SHRINKAGE_HITS = 300
LARGEST_SKEWNESS = 0.15


class ResidualSkewness(nn.Module):
    """Skewness by layer and symmetry class, as first term of the expansion of Cornish and Fisher (1938).

    Attributes:
        moments: (4, layers, classes) running sums of powers 0 to 3 of the residuals.
        skewness: (layers, classes) a sixth of the skewness, zeta of Eq. 17.
    """

    moments: Tensor
    skewness: Tensor
    symmetry_class: Tensor

    def __init__(self, layers: int, geometry: LayerGeometry) -> None:
        """Normal residuals."""
        super().__init__()
        self.register_buffer("moments", torch.zeros(4, layers, geometry.symmetry_classes))
        self.register_buffer("skewness", torch.zeros(layers, geometry.symmetry_classes))
        self.register_buffer("symmetry_class", torch.from_numpy(geometry.symmetry_class), persistent=False)

    @torch.no_grad()
    def observe(self, residuals: Tensor, hit_mask: Tensor) -> None:
        """Add a batch of real hits to the running sums.

        Args:
            residuals: (N, layers, cells).
            hit_mask: (N, layers, cells), 1 where there is a hit.
        """
        sums = torch.stack([(hit_mask * residuals**power).sum(0) for power in range(4)])
        batch = torch.zeros_like(self.moments).index_add_(2, self.symmetry_class, sums)
        self.moments.mul_(1 - MOMENTUM).add_(batch)

    @torch.no_grad()
    def fit(self) -> None:
        """Compute the skewness from the running sums."""
        count = self.moments[0].clamp_min(1e-6)
        first, second, third = self.moments[1:] / count
        variance = (second - first**2).clamp_min(1e-3)
        central = third - 3 * first * second + 2 * first**3
        shrinkage = count / (count + SHRINKAGE_HITS)
        self.skewness.copy_(
            (shrinkage * central / variance**1.5 / 6).clamp(-LARGEST_SKEWNESS, LARGEST_SKEWNESS)
        )

    def forward(self, noise: Tensor) -> Tensor:
        """Residuals (N, layers, cells) from as many standard normal numbers, Eq. 17."""
        noise = noise.clamp(-LARGEST_SKEWED, LARGEST_SKEWED)
        return noise + self.skewness[:, self.symmetry_class] * (noise * noise - 1)
