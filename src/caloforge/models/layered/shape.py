"""How hits are distributed about their mean: nearly normal, with a tail where particles pile up."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from caloforge.models.layered.constants import LARGEST_SKEWED
from caloforge.models.layered.plane import Plane

MOMENTUM = 0.02
# hits that the skewness of a cell must be known from to be believed by half
ENOUGH = 300
LARGEST = 0.15


class HitShape(nn.Module):
    """Skewness of the scores of hits, cell by cell: the first term of Cornish and Fisher's expansion (1938).

    Moments are sums over the last batches; cells that are images of each other share them.
    """

    moments: Tensor
    skewness: Tensor
    orbit: Tensor

    def __init__(self, layers: int, plane: Plane) -> None:
        """Exactly normal."""
        super().__init__()
        self.register_buffer("moments", torch.zeros(4, layers, plane.orbits))
        self.register_buffer("skewness", torch.zeros(layers, plane.orbits))
        self.register_buffer("orbit", torch.from_numpy(plane.orbit), persistent=False)

    @torch.no_grad()
    def observe(self, scores: Tensor, hits: Tensor) -> None:
        """Add a batch of real hits.

        Args:
            scores: (N, layers, cells) in standard deviations from the mean.
            hits: (N, layers, cells), 1 where there is a hit.
        """
        sums = torch.stack([(hits * scores**power).sum(0) for power in range(4)])
        batch = torch.zeros_like(self.moments).index_add_(2, self.orbit, sums)
        self.moments.mul_(1 - MOMENTUM).add_(batch)

    @torch.no_grad()
    def fit(self) -> None:
        """Take the moments over into the skewness."""
        count = self.moments[0].clamp_min(1e-6)
        first, second, third = self.moments[1:] / count
        variance = (second - first**2).clamp_min(1e-3)
        central = third - 3 * first * second + 2 * first**3
        believed = count / (count + ENOUGH)
        self.skewness.copy_((believed * central / variance**1.5 / 6).clamp(-LARGEST, LARGEST))

    def forward(self, noise: Tensor) -> Tensor:
        """Scores (N, layers, cells) from as many standard normal numbers."""
        noise = noise.clamp(-LARGEST_SKEWED, LARGEST_SKEWED)
        return noise + self.skewness[:, self.orbit] * (noise * noise - 1)
