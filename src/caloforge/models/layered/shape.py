"""The distribution of hits about their mean: nearly normal, a polynomial of a normal number makes it."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

DEGREE = 5
KNOTS = 33
LAST_SCORE = 3.2
# the polynomial is not trusted further out
LARGEST_NUMBER = 3.6
# hits of a batch that are looked at
HITS = 50_000
MOMENTUM = 0.03


class HitShape(nn.Module):
    """Quantiles of scores, averaged over the last batches, and the polynomial through them."""

    quantiles: Tensor
    coefficients: Tensor
    seen: Tensor

    def __init__(self) -> None:
        """Exactly normal."""
        super().__init__()
        self.register_buffer("quantiles", torch.linspace(-LAST_SCORE, LAST_SCORE, KNOTS))
        self.register_buffer("coefficients", torch.eye(DEGREE + 1)[1])
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def observe(self, scores: Tensor, hits: Tensor) -> None:
        """Add a batch of real hits.

        Args:
            scores: Any shape, in standard deviations from the mean.
            hits: Of the same shape, 1 where there is a hit.
        """
        found = scores[hits > 0]
        if len(found) < KNOTS:
            return
        found = found[:: len(found) // HITS + 1]
        probability = torch.special.ndtr(torch.linspace(-LAST_SCORE, LAST_SCORE, KNOTS))
        self.seen += 1
        share = max(MOMENTUM, 1 / int(self.seen))
        self.quantiles.lerp_(torch.quantile(found, probability.to(found)), share)

    def fit(self) -> None:
        """Take the quantiles over into the polynomial, the frequent ones most exactly."""
        knots = np.linspace(-LAST_SCORE, LAST_SCORE, KNOTS)
        values, weight = self.quantiles.double().cpu().numpy(), np.exp(-(knots**2) / 8)
        found = np.polynomial.polynomial.polyfit(knots, values, DEGREE, w=weight)
        self.coefficients.copy_(torch.from_numpy(found))

    def forward(self, noise: Tensor) -> Tensor:
        """Scores from standard normal numbers, any shape."""
        noise = noise.clamp(-LARGEST_NUMBER, LARGEST_NUMBER)
        value = self.coefficients[-1].expand_as(noise)
        for power in range(DEGREE - 1, -1, -1):
            value = value * noise + self.coefficients[power]
        return value
