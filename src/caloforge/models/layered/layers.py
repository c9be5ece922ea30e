"""First stage: summaries of showers given their conditions.

Each number is made standard normal given the conditions: polynomials in the logarithm of the energy (and the
angles, where they vary) take its mean and its spread out, and a table of quantiles in bins of energy, linear
between bins, whatever shape is left. How these scores depend on each other is kept as it was found, by
`donors.py`. Everything is in closed form; nothing is trained.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from caloforge.models.base import Condition
from caloforge.models.layered.conditions import Scale
from caloforge.models.layered.constants import KNOTS, LARGEST_SCORE, LAST_SCORE, MEAN_DEGREE, NEAR
from caloforge.models.layered.donors import Donors
from caloforge.models.training_metadata import TrainedRange

SPREAD_DEGREE = 3
BINS = 8
# beyond the last quantile the line through so many of the last goes on
TAIL = 10
SHOWERS_PER_BIN = 150
# rows whose scores are taken at once, through a table for each number
ROWS = 512


class LayerStage(nn.Module):
    """Margins, and donors; `fit` fills the buffers."""

    mean: Tensor
    spread: Tensor
    centres: Tensor
    quantiles: Tensor
    scores: Tensor

    def __init__(self, layer: Tensor, ranges: TrainedRange) -> None:
        """An empty stage.

        Args:
            layer: (size,) layer of each number of a summary, -1 where it has none.
            ranges: Trained conditions.
        """
        super().__init__()
        size, self.ranges, self.scale = len(layer), ranges, Scale(ranges)
        terms = self._design(torch.ones(1), torch.zeros(1), torch.zeros(1), torch.zeros(1)).shape[1]
        self.register_buffer("mean", torch.zeros(terms, size))
        self.register_buffer("spread", torch.zeros(terms, size))
        self.register_buffer("centres", torch.linspace(-1, 1, BINS))
        scores = torch.linspace(-LAST_SCORE, LAST_SCORE, KNOTS)
        self.register_buffer("quantiles", scores[None, :, None].repeat(BINS, 1, size))
        self.register_buffer("scores", scores, persistent=False)
        self.donors = Donors(layer, len(ranges.pdg_ids))

    # ---- conditions

    def argument(self, energy: Tensor) -> Tensor:
        """Logarithm of the energy, -1 to 1 over the trained range; (N,)."""
        argument: Tensor = self.scale.argument(energy.double().log()).float()
        return argument

    def columns(self, argument: Tensor, theta: Tensor, phi: Tensor, pdg_id: Tensor) -> Tensor:
        """What varies among the conditions, (N, at least 1); the argument first."""
        others = [other.float() for other in self.scale.others(theta, phi, pdg_id)]
        return torch.stack([argument, *others], dim=1)

    def particle(self, pdg_id: Tensor) -> Tensor:
        """Which of the trained particles, (N,)."""
        number: Tensor = self.scale.particle(pdg_id)
        return number

    def _design(self, argument: Tensor, theta: Tensor, phi: Tensor, pdg_id: Tensor) -> Tensor:
        """Polynomial terms of the conditions, (N, terms)."""
        columns = self.columns(argument, theta, phi, pdg_id)
        powers = argument[:, None] ** torch.arange(MEAN_DEGREE + 1, device=argument.device)
        others = columns[:, 1:].unbind(1)
        terms = [term for other in others for term in (other, other**2, other * argument)]
        return torch.cat([powers, *(term[:, None] for term in terms)], dim=1)

    def _terms(self, condition: Condition) -> Tensor:
        return self._design(self.argument(condition.energy), condition.theta, condition.phi, condition.pdg_id)

    # ---- fit

    def fit(self, summary: NDArray[np.float32], condition: Condition, shower: Tensor, donors: int) -> None:
        """Fill the buffers.

        Args:
            summary: (N, size).
            condition: N conditions, those of the rows.
            shower: (N,) which shower a row is an image of.
            donors: Rows to keep, at most.
        """
        design = self._terms(condition).double().numpy()
        values = summary.astype(np.float64)
        mean = _ridge(design, values, 1e-9)
        rest = values - design @ mean
        low_order = design.copy()
        low_order[:, SPREAD_DEGREE + 1 : MEAN_DEGREE + 1] = 0
        floor = np.maximum(1e-4 * rest.var(axis=0), 1e-12)
        spread = _ridge(low_order, np.log(np.maximum(rest**2, floor)) / 2, 1e-6)
        standard = rest / np.exp(np.clip(low_order @ spread, -20, 20))
        self.mean.copy_(torch.from_numpy(mean))
        self.spread.copy_(torch.from_numpy(spread))
        self._fit_quantiles(standard, self.argument(condition.energy).double().numpy())
        rows = self._rows_to_keep(condition, donors)
        kept, asked = torch.from_numpy(summary)[rows], condition[rows]
        parts = [slice(start, start + ROWS) for start in range(0, len(rows), ROWS)]
        scores = torch.cat([self.normal_scores(kept[part], asked[part]) for part in parts])
        columns = self.columns(self.argument(asked.energy), asked.theta, asked.phi, asked.pdg_id)
        self.donors.fit(scores, columns, self.scale.angles, self.particle(asked.pdg_id), shower[rows])

    def _rows_to_keep(self, condition: Condition, donors: int) -> Tensor:
        """Rows that cover all energies alike, particle by particle, in the order of energy."""
        argument = self.argument(condition.energy)
        kept: list[Tensor] = []
        for number, code in enumerate(self.ranges.pdg_ids):
            own = torch.nonzero(condition.pdg_id == code)[:, 0]
            own = own[argument[own].argsort(stable=True)]
            left = donors - sum(len(rows) for rows in kept)
            count = min(len(own), left // (len(self.ranges.pdg_ids) - number))
            kept.append(own[torch.linspace(0, len(own) - 1, count).round().long()])
        return torch.cat(kept)

    def _fit_quantiles(self, standard: NDArray[np.float64], argument: NDArray[np.float64]) -> None:
        bins = max(1, min(BINS, len(argument) // SHOWERS_PER_BIN, len(np.unique(argument)) // 2))
        probability = torch.special.ndtr(self.scores.double()).numpy()
        tables = []
        for k in range(bins):
            # bins overlap by a quarter on either side
            low, high = np.quantile(argument, [max(0, (k - 0.25) / bins), min(1, (k + 1.25) / bins)])
            inside = (argument >= low) & (argument <= high)
            tables.append(np.quantile(standard[inside], probability, axis=0))
        centres = np.quantile(argument, (np.arange(bins) + 0.5) / bins)
        # the number of bins is fixed, so that the weights of a model have one shape
        missing = BINS - bins
        centres = np.append(centres, centres[-1] + 1.0 + np.arange(missing))
        tables += [tables[-1]] * missing
        rising = np.maximum.accumulate(np.stack(tables) + 1e-7 * np.arange(KNOTS)[None, :, None], axis=1)
        self.centres.copy_(torch.from_numpy(centres))
        self.quantiles.copy_(torch.from_numpy(rising))

    # ---- use

    def _bins(self, energy: Tensor) -> tuple[Tensor, Tensor]:
        """Lower bin, and share of the upper one, of each shower; (N,)."""
        argument = self.argument(energy)
        lower = (argument[:, None] >= self.centres[None, 1:-1]).sum(1)
        start, stop = self.centres[lower], self.centres[lower + 1]
        # energies that many showers share may be the centres of several bins
        return lower, ((argument - start) / (stop - start).clamp_min(NEAR)).clamp(0, 1)

    def _moments(self, condition: Condition) -> tuple[Tensor, Tensor]:
        """Mean and spread of every number, (N, size)."""
        terms = self._terms(condition)
        return terms @ self.mean, (terms @ self.spread).clamp(-20, 20).exp()

    def normal_scores(self, summary: Tensor, condition: Condition) -> Tensor:
        """Summaries as standard normal numbers, (N, size)."""
        mean, spread = self._moments(condition)
        standard = (summary - mean) / spread
        lower, share = self._bins(condition.energy)
        share = share[:, None, None]
        # (N, size, KNOTS)
        table = ((1 - share) * self.quantiles[lower] + share * self.quantiles[lower + 1]).mT.contiguous()
        upper = torch.searchsorted(table, standard[..., None].contiguous()).clamp(1, KNOTS - 1)
        before, after = table.gather(2, upper - 1)[..., 0], table.gather(2, upper)[..., 0]
        step = self.scores[1] - self.scores[0]
        inside = ((standard - before) / (after - before).clamp_min(1e-7)).clamp(0, 1)
        scores = self.scores[0] + (upper[..., 0] - 1 + inside) * step
        tails = tails_of(table.mT)
        scores = scores + (standard - table[..., -1]).clamp_min(0) / tails[1]
        scores = scores + (standard - table[..., 0]).clamp_max(0) / tails[0]
        return scores.clamp(-LARGEST_SCORE, LARGEST_SCORE)

    def from_noise(self, noise: Tensor, condition: Condition) -> Tensor:
        """Normal scores with the dependences of the data, (N, size), from (N, CHOICES) normal numbers."""
        argument, particle = self.argument(condition.energy), self.particle(condition.pdg_id)
        scores: Tensor = self.donors(noise, argument, particle)
        return scores.clamp(-LARGEST_SCORE, LARGEST_SCORE)

    def summary(self, scores: Tensor, condition: Condition) -> Tensor:
        """The summaries that normal scores stand for, (N, size)."""
        step = self.scores[1] - self.scores[0]
        place = (scores - self.scores[0]) / step
        lower_knot = place.floor().clamp(0, KNOTS - 2)
        inside = (place - lower_knot).clamp(0, 1)
        knot = lower_knot.long()
        lower, share = self._bins(condition.energy)
        # one flat index: runtimes gather by one much faster than by three
        size = scores.shape[1]
        flat, column = self.quantiles.reshape(-1), torch.arange(size, device=scores.device)
        tails = tails_of(self.quantiles)
        above, below = (scores - LAST_SCORE).clamp_min(0), (scores + LAST_SCORE).clamp_max(0)
        number, weight = torch.stack([lower, lower + 1]), torch.stack([1 - share, share])
        place = (number[..., None] * KNOTS + knot) * size + column
        start, stop = (flat.index_select(0, at.view(-1)).view_as(at) for at in (place, place + size))
        first, last = (slopes.index_select(0, number.view(-1)).view_as(place) for slopes in tails)
        value = start + inside * (stop - start) + above * last + below * first
        mean, spread = self._moments(condition)
        return mean + spread * (weight[..., None] * value).sum(0)


def tails_of(table: Tensor) -> tuple[Tensor, Tensor]:
    """Slopes before the first and after the last knot; (..., KNOTS, size) to twice (..., size)."""
    run = 2 * LAST_SCORE * TAIL / (KNOTS - 1)
    first = (table[..., TAIL, :] - table[..., 0, :]) / run
    last = (table[..., -1, :] - table[..., -1 - TAIL, :]) / run
    return first.clamp_min(1e-3), last.clamp_min(1e-3)


def _ridge(design: NDArray[np.float64], values: NDArray[np.float64], strength: float) -> NDArray[np.float64]:
    normal: NDArray[Any] = design.T @ design + strength * len(design) * np.eye(design.shape[1])
    solution: NDArray[np.float64] = np.linalg.solve(normal, design.T @ values)
    return solution
