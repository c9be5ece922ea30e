"""What judges drawn cells: a convolution over the cells, and sums and neighbour products of them.

Cells are shown as what they have beyond the density that the summary alone gives them, in its standard
deviations: the critic need not learn what a shower looks like, only what is wrong with one.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from caloforge.models.layered.density import CellDensity, Cells
from caloforge.models.layered.plane import Plane

LARGEST_FEATURE = 8.0
# empty cells differ from their expectation by very little, which must not be made large
LEAST_VARIANCE = 0.05
MOMENTUM = 0.02
HIDDEN = 128


class CellFeatures(nn.Module):
    """Sums over rings and products of neighbours, in standard deviations of real showers."""

    mean: Tensor
    variance: Tensor
    ring: Tensor
    member: Tensor
    seen: Tensor

    def __init__(self, layers: int, plane: Plane) -> None:
        """Statistics that are learned from the first batches on."""
        super().__init__()
        self.plane = plane
        for name, index in (("ring", plane.ring), ("member", plane.zone)):
            matrix = (index[:, None] == np.arange(index.max() + 1)[None]).astype(np.float32)
            matrix /= np.sqrt(np.maximum(matrix.sum(0), 1))
            self.register_buffer(name, torch.from_numpy(matrix), persistent=False)
        # in layer, across the diagonal, two cells away, one and two layers away
        self.size = layers * (2 * self.ring.shape[1] + 5 * self.member.shape[1])
        self.register_buffer("mean", torch.zeros(self.size))
        self.register_buffer("variance", torch.ones(self.size))
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))

    def forward(self, excess: Tensor, *, learn: bool = False) -> Tensor:
        """Features of (N, 2, layers, cells), (N, size); `learn` also updates the statistics."""
        count, _, layers, _ = excess.shape
        grid = excess[:, 0].view(count, layers, self.plane.rows, self.plane.columns)
        products = [
            self._beside(grid, 1, 0) + self._beside(grid, 0, 1),
            self._beside(grid, 1, 1) + self._beside(grid, 1, -1),
            self._beside(grid, 2, 0) + self._beside(grid, 0, 2),
            *(F.pad((grid[:, k:] * grid[:, :-k]).flatten(2), (0, 0, 0, k)) for k in (1, 2) if k < layers),
        ]
        parts = [(excess @ self.ring).flatten(1), *((p @ self.member).flatten(1) for p in products)]
        features = F.pad(torch.cat(parts, dim=1), (0, self.size - sum(p.shape[1] for p in parts)))
        if learn:
            self._learn(features.detach())
        scaled = (features - self.mean) / (self.variance + 1e-4).sqrt()
        return scaled.clamp(-LARGEST_FEATURE, LARGEST_FEATURE)

    def _beside(self, grid: Tensor, rows: int, columns: int) -> Tensor:
        """Each cell times the one `rows` and `columns` further, (N, layers, cells); 0 beyond the edge."""
        other = torch.roll(grid, (-rows, -columns), dims=(2, 3))
        product = grid * other
        if columns > 0:
            product = F.pad(product[..., :-columns], (0, columns))
        elif columns < 0:
            product = F.pad(product[..., -columns:], (-columns, 0))
        if rows and not self.plane.circular:
            product = F.pad(product[..., :-rows, :], (0, 0, 0, rows))
        return product.flatten(2)

    @torch.no_grad()
    def _learn(self, features: Tensor) -> None:
        self.seen += 1
        share = max(MOMENTUM, 1 / int(self.seen))
        self.mean.lerp_(features.mean(0), share)
        self.variance.lerp_((features - self.mean).square().mean(0), share)


class Critic(nn.Module):
    """Score of cells given the condition: high for real ones."""

    def __init__(self, layers: int, plane: Plane, condition: int, *, width: int, use_features: bool) -> None:
        """Random weights with spectral norms of one.

        Args:
            layers: Layers of a shower.
            plane: Their cells.
            condition: Size of the condition.
            width: Channels of the first convolution.
            use_features: Also judge sums and products.
        """
        super().__init__()
        self.plane, self.use_features = plane, use_features
        self.features = CellFeatures(layers, plane)
        self.convolutions = nn.ModuleList(
            spectral_norm(nn.Conv2d(*channels, 3, stride=stride))
            for channels, stride in (((2 * layers, width), 1), ((width, width), 2), ((width, 2 * width), 2))
        )
        self.score = spectral_norm(nn.Linear(2 * width, 1))
        self.project = spectral_norm(nn.Linear(condition, 2 * width))
        self.judge = nn.Sequential(
            spectral_norm(nn.Linear(self.features.size + condition, HIDDEN)),
            nn.LeakyReLU(0.2),
            spectral_norm(nn.Linear(HIDDEN, HIDDEN)),
            nn.LeakyReLU(0.2),
            spectral_norm(nn.Linear(HIDDEN, 1)),
        )

    def forward(self, excess: Tensor, features: Tensor, condition: Tensor) -> Tensor:
        """Scores, (N,).

        Args:
            excess: (N, 2, layers, cells), from `excess`.
            features: (N, size), from `features`.
            condition: (N, k).
        """
        x = excess.reshape(len(excess), -1, self.plane.rows, self.plane.columns)
        for convolution in self.convolutions:
            pad = (1, 1, 0, 0) if self.plane.circular else (1, 1, 1, 1)
            x = F.pad(x, pad)
            if self.plane.circular:
                x = F.pad(x, (0, 0, 1, 1), mode="circular")
            x = F.leaky_relu(convolution(x), 0.2)
        pooled = x.mean((2, 3)) * x.shape[2]
        score: Tensor = self.score(pooled)[:, 0] + (pooled * self.project(condition)).mean(1)
        if self.use_features:
            score = score + self.judge(torch.cat([features, condition], dim=1))[:, 0]
        return score


def excess(cells: Cells, alone: CellDensity) -> Tensor:
    """What cells have beyond their density, in standard deviations: hit or not, and energy of the hits.

    Args:
        cells: (N, layers, cells).
        alone: Density from the summary.

    Returns:
        (N, 2, layers, cells).
    """
    with torch.no_grad():
        expected = alone.hit_probability()
        deviation = (expected * (1 - expected) + LEAST_VARIANCE).sqrt()
        fixed = CellDensity(alone.number, alone.mean.detach(), alone.width.detach())
    return torch.stack([(cells.hits - expected) / deviation, fixed.scores(cells)], dim=1)
