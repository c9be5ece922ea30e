"""A learned density of the layer features: a triangular flow of their normal scores, Eq. 5a to 5d.

The leading principal coordinates follow one after the other: location and logarithm of the scale of each are
polynomials of the conditions and of the coordinates before it, and a monotone table gives the shape that is
left. All other directions are normal given these: their means are polynomials of second degree, their scales
depend on conditions and coordinates, their correlations are constant. Everything is fitted by regression in
closed form, in seconds.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from caloforge.models.layered.constants import (
    FLOW_KNOTS,
    FLOW_LAST,
    FLOW_LEADING,
    FLOW_TAIL,
    LARGEST_LOG_SCALE,
    LARGEST_SCORE,
)

# penalty of the regressions: a fraction of the number of showers, and so many showers
RIDGE, PRIOR_SHOWERS = 1e-2, 10
# squared residuals are at least this fraction of their mean before a logarithm is taken
LEAST_SQUARE = 1e-3
# between knots
STEP = 2 * FLOW_LAST / (FLOW_KNOTS - 1)


class LayerFlow(nn.Module):
    """Density of normal scores given the conditions; `fit` fills the buffers.

    Polynomials are of the conditions that vary (C columns) and the leading coordinates, C + FLOW_LEADING
    numbers. Terms of a mean: 1, each number, products of two. Terms of a scale: 1, each number, the square of
    the first (the energy argument).

    Attributes:
        directions: (FLOW_LEADING, size) leading principal directions, orthonormal.
        widths: (FLOW_LEADING,) standard deviations along them.
        leading_mean: (mean terms, FLOW_LEADING) coefficients; 0 for what follows later.
        leading_scale: (scale terms, FLOW_LEADING) likewise.
        tables: (FLOW_LEADING, FLOW_KNOTS) standardised residuals of the leading coordinates at normal scores
            from -FLOW_LAST to FLOW_LAST.
        rest_mean: (mean terms, size).
        rest_scale: (scale terms, size).
        mixing: (size, size) lower triangular, of correlated normal numbers.
    """

    directions: Tensor
    widths: Tensor
    leading_mean: Tensor
    leading_scale: Tensor
    tables: Tensor
    rest_mean: Tensor
    rest_scale: Tensor
    mixing: Tensor
    first: Tensor
    second: Tensor

    def __init__(self, size: int, columns: int) -> None:
        """Independent normal scores.

        Args:
            size: Number of features.
            columns: Number of conditions that vary, the energy argument first.
        """
        super().__init__()
        numbers = columns + FLOW_LEADING
        first, second = torch.triu_indices(numbers, numbers)
        mean_terms, scale_terms = 1 + numbers + len(first), 2 + numbers
        self.noise_size, self.columns = FLOW_LEADING + size, columns
        self.register_buffer("first", first, persistent=False)
        self.register_buffer("second", second, persistent=False)
        self.register_buffer("directions", torch.zeros(FLOW_LEADING, size))
        self.register_buffer("widths", torch.ones(FLOW_LEADING))
        self.register_buffer("leading_mean", torch.zeros(mean_terms, FLOW_LEADING))
        self.register_buffer("leading_scale", torch.zeros(scale_terms, FLOW_LEADING))
        self.register_buffer(
            "tables", torch.linspace(-FLOW_LAST, FLOW_LAST, FLOW_KNOTS).repeat(FLOW_LEADING, 1)
        )
        self.register_buffer("rest_mean", torch.zeros(mean_terms, size))
        self.register_buffer("rest_scale", torch.zeros(scale_terms, size))
        self.register_buffer("mixing", torch.eye(size))

    # ---- fit

    def fit(
        self,
        normal_scores: Tensor,
        columns: Tensor,
        angles: int,  # noqa: ARG002
        particle: Tensor,  # noqa: ARG002
        shower: Tensor,  # noqa: ARG002
    ) -> None:
        """Fit the density, see `NeighbourResampler.fit` for the arguments."""
        # importing it takes a second
        from sklearn.covariance import ledoit_wolf

        scores, columns = normal_scores.double(), columns.double()
        scores = scores - scores.mean(0)
        values, vectors = torch.linalg.eigh(scores.T @ scores / len(scores))
        leading = min(FLOW_LEADING, scores.shape[1])
        directions = torch.zeros(FLOW_LEADING, scores.shape[1], dtype=torch.float64)
        widths = torch.ones(FLOW_LEADING, dtype=torch.float64)
        directions[:leading] = vectors[:, -leading:].flip(1).T
        widths[:leading] = values[-leading:].flip(0).clamp_min(1e-12).sqrt()
        coordinates = normal_scores.double() @ directions.T / widths
        self.directions.copy_(directions)
        self.widths.copy_(widths)
        for place in range(leading):
            known = coordinates.clone()
            known[:, place:] = 0
            mean, scale, rest = self._regression(columns, known, coordinates[:, place : place + 1])
            self.leading_mean[:, place], self.leading_scale[:, place] = mean[:, 0], scale[:, 0]
            self.tables[place] = _quantiles(rest[:, 0])
        rest = normal_scores.double() - (coordinates * widths) @ directions
        mean, scale, standard = self._regression(columns, coordinates, rest)
        self.rest_mean.copy_(mean)
        self.rest_scale.copy_(scale)
        covariance = torch.from_numpy(ledoit_wolf(standard.clamp(-LARGEST_SCORE, LARGEST_SCORE).numpy())[0])
        # the leading directions have no variance left
        covariance += 1e-6 * torch.eye(len(covariance), dtype=torch.float64)
        self.mixing.copy_(torch.linalg.cholesky(covariance))

    def _regression(self, columns: Tensor, known: Tensor, values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Coefficients of means and of log scales of values (N, k), and standardised residuals (N, k)."""
        terms, scale_terms = self._terms(columns, known)
        mean = _ridge(terms, values)
        rest = values - terms @ mean
        least = (LEAST_SQUARE * (rest**2).mean(0)).clamp_min(1e-12)
        scale = _ridge(scale_terms, torch.maximum(rest**2, least).log() / 2)
        standard = rest / _exp(scale_terms @ scale)
        # the mean of a logarithm is not the logarithm of a mean
        root = (standard**2).mean(0).sqrt().clamp_min(1e-6)
        scale[0] += root.log()
        return mean, scale, standard / root

    # ---- use

    def forward(self, noise: Tensor, columns: Tensor, particle: Tensor) -> Tensor:  # noqa: ARG002
        """Normal scores (N, size).

        Args:
            noise: (N, noise_size) standard normal.
            columns: (N, C) conditions that vary, see `LayerSampler.columns`.
            particle: (N,) not used: columns tell the particle.
        """
        coordinates = torch.zeros_like(noise[:, :FLOW_LEADING])
        for place in range(FLOW_LEADING):
            terms, scale_terms = self._terms(columns, coordinates)
            shape = self._shape(noise[:, place], place)
            value = terms @ self.leading_mean[:, place] + shape * _exp(
                scale_terms @ self.leading_scale[:, place]
            )
            parts = [coordinates[:, :place], value[:, None], coordinates[:, place + 1 :]]
            coordinates = torch.cat(parts, dim=1)
        terms, scale_terms = self._terms(columns, coordinates)
        normal = noise[:, FLOW_LEADING:] @ self.mixing.T
        rest = terms @ self.rest_mean + normal * _exp(scale_terms @ self.rest_scale)
        # the leading directions hold the leading coordinates and nothing else
        scores: Tensor = rest + (coordinates * self.widths - rest @ self.directions.T) @ self.directions
        return scores

    def _terms(self, columns: Tensor, coordinates: Tensor) -> tuple[Tensor, Tensor]:
        """Terms of means and of scales, (N, ...) each."""
        numbers = torch.cat([columns, coordinates], dim=1)
        one = torch.ones_like(numbers[:, :1])
        products = numbers.index_select(1, self.first) * numbers.index_select(1, self.second)
        return torch.cat([one, numbers, products], 1), torch.cat([one, numbers, numbers[:, :1] ** 2], 1)

    def _shape(self, noise: Tensor, place: int) -> Tensor:
        """The table of a coordinate at normal numbers (N,), linear between the knots and beyond them."""
        table, (first, last) = self.tables[place], (slopes[place] for slopes in self.table_tails())
        knot = (noise + FLOW_LAST) / STEP
        lower = knot.floor().clamp(0, FLOW_KNOTS - 2)
        start, stop = (table.index_select(0, lower.long() + k) for k in (0, 1))
        value = start + (knot - lower).clamp(0, 1) * (stop - start)
        return value + (noise - FLOW_LAST).clamp_min(0) * last + (noise + FLOW_LAST).clamp_max(0) * first

    def table_tails(self) -> tuple[Tensor, Tensor]:
        """Slopes of the tables below the first knot and above the last one, (FLOW_LEADING,) each."""
        run = FLOW_TAIL * STEP
        first = (self.tables[:, FLOW_TAIL] - self.tables[:, 0]) / run
        return first, (self.tables[:, -1] - self.tables[:, -1 - FLOW_TAIL]) / run

    def check(self, name: str) -> None:
        """All weights are coefficients: nothing to check beyond their shapes and their size."""


def _exp(value: Tensor) -> Tensor:
    return value.clamp(-LARGEST_LOG_SCALE, LARGEST_LOG_SCALE).exp()


def _quantiles(values: Tensor) -> Tensor:
    knots = torch.linspace(-FLOW_LAST, FLOW_LAST, FLOW_KNOTS, dtype=torch.float64)
    return torch.quantile(values, torch.special.ndtr(knots)).float()


def _ridge(terms: Tensor, values: Tensor) -> Tensor:
    penalty = (RIDGE * len(terms) + PRIOR_SHOWERS) * torch.eye(terms.shape[1], dtype=terms.dtype)
    solution: Tensor = torch.linalg.solve(terms.T @ terms + penalty, terms.T @ values)
    return solution
