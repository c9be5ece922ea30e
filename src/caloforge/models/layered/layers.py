"""First stage: summaries of showers given their conditions, a smoothed bootstrap with margins that vary.

Each number is made standard normal given the conditions: polynomials in the logarithm of the energy (and the
angles, where they vary) take its mean and its spread out, and a table of quantiles in bins of energy, linear
between bins, whatever shape is left. How the numbers depend on each other is kept as it was found: a drawn
shower takes the scores of one shower of about its energy, and adds a share of what two others differ by,
which is noise with the right covariance at that energy. Everything is in closed form; nothing is trained.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from caloforge.models.base import Condition
from caloforge.models.facts import ANGLE_SLACK, TrainedRange

MEAN_DEGREE = 5
SPREAD_DEGREE = 3
BINS = 8
# quantiles at these normal scores; beyond the last the line through the last TAIL of them goes on
KNOTS = 61
LAST_SCORE = 3.0
TAIL = 10
LARGEST_SCORE = 4.5
SHOWERS_PER_BIN = 150
# numbers of noise: which showers the scores are taken from
DONORS = 3
# share, in standard deviations, of the difference of two showers in the scores of a drawn one
BLUR = 0.5
# donors lie within this share of all, in the order of energy, one standard deviation, and at least so many
NEIGHBOURHOOD, LEAST_NEIGHBOURHOOD = 1 / 128, 2.0
# energies at which the order of the showers is tabulated
RUNGS = 65


class LayerStage(nn.Module):
    """The bootstrap; `fit` fills its buffers."""

    mean: Tensor
    spread: Tensor
    centres: Tensor
    quantiles: Tensor
    donors: Tensor
    ladder: Tensor
    blocks: Tensor
    scores: Tensor

    def __init__(self, size: int, ranges: TrainedRange, *, donors: int) -> None:
        """An empty stage.

        Args:
            size: Numbers of a summary.
            ranges: Trained conditions.
            donors: Showers whose scores are kept.
        """
        super().__init__()
        self.ranges = ranges
        terms = self._design(torch.ones(1), torch.zeros(1), torch.zeros(1), torch.zeros(1)).shape[1]
        self.register_buffer("mean", torch.zeros(terms, size))
        self.register_buffer("spread", torch.zeros(terms, size))
        self.register_buffer("centres", torch.linspace(-1, 1, BINS))
        scores = torch.linspace(-LAST_SCORE, LAST_SCORE, KNOTS)
        self.register_buffer("quantiles", scores[None, :, None].repeat(BINS, 1, size))
        # donors of a particle are in the order of energy: arguments at the rungs, first and last row
        particles = len(ranges.pdg_ids)
        self.register_buffer("donors", torch.zeros(donors, size))
        self.register_buffer("ladder", torch.linspace(-1, 1, RUNGS).repeat(particles, 1))
        self.register_buffer("blocks", torch.tensor([[0, donors - 1]]).repeat(particles, 1))
        self.register_buffer("scores", scores, persistent=False)

    # ---- conditions

    def argument(self, energy: Tensor) -> Tensor:
        """Logarithm of the energy, -1 to 1 over the trained range; (N,)."""
        low, high = (math.log(end) for end in self.ranges.energy)
        half = max((high - low) / 2, 1e-6)
        return (energy.log() - (low + high) / 2) / half

    def columns(self, argument: Tensor, theta: Tensor, phi: Tensor, pdg_id: Tensor) -> Tensor:
        """What varies among the conditions, (N, at least 1); the argument first."""
        parts = [argument]
        for (low, high), angle in ((self.ranges.theta, theta), (self.ranges.phi, phi)):
            if high - low > ANGLE_SLACK:
                parts.append((angle - (low + high) / 2) / ((high - low) / 2))
        # the first particle is the one without a column
        parts += [(pdg_id == code).float() for code in self.ranges.pdg_ids[1:]]
        return torch.stack(parts, dim=1)

    def _design(self, argument: Tensor, theta: Tensor, phi: Tensor, pdg_id: Tensor) -> Tensor:
        """Polynomial terms of the conditions, (N, terms)."""
        columns = self.columns(argument, theta, phi, pdg_id)
        powers = [argument**k for k in range(MEAN_DEGREE + 1)]
        others = columns[:, 1:].unbind(1)
        powers += [term for other in others for term in (other, other**2, other * argument)]
        return torch.stack(powers, dim=1)

    def _terms(self, condition: Condition) -> Tensor:
        return self._design(self.argument(condition.energy), condition.theta, condition.phi, condition.pdg_id)

    # ---- fit

    def fit(self, summary: NDArray[np.float32], condition: Condition) -> None:
        """Fill the buffers.

        Args:
            summary: (N, size).
            condition: N conditions, those of the rows.
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
        self._keep_donors(torch.from_numpy(summary), condition)

    def _keep_donors(self, summary: Tensor, condition: Condition) -> None:
        """Scores of showers that cover all energies alike, particle by particle."""
        argument = self.argument(condition.energy)
        first = 0
        for number, code in enumerate(self.ranges.pdg_ids):
            own = torch.nonzero(condition.pdg_id == code)[:, 0]
            own = own[argument[own].argsort(stable=True)]
            left = len(self.ranges.pdg_ids) - number
            count = (len(self.donors) - first) // left
            place = torch.linspace(0, len(own) - 1, count).round().long()
            rows = own[place]
            self.donors[first : first + count] = self.normal_scores(summary[rows], condition[rows])
            rungs = torch.linspace(0, count - 1, RUNGS).round().long()
            # rising, so that the order can be read off between rungs
            rising = argument[rows][rungs].double() + 1e-6 * torch.arange(RUNGS)
            self.ladder[number] = rising.float()
            self.blocks[number] = torch.tensor([first, first + count - 1])
            first += count

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
        return lower, ((argument - start) / (stop - start)).clamp(0, 1)

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
        """Normal scores with the dependences of the data, (N, size), from (N, DONORS) normal numbers."""
        first, last, rank = self._order(condition)
        spread = ((last - first) * NEIGHBOURHOOD).clamp_min(LEAST_NEIGHBOURHOOD)
        top = (last - first)[:, None]
        # mirrored at both ends
        place = (rank[:, None] + spread[:, None] * noise).abs()
        place = (top - (top - place).abs()).clamp_min(0).round() + first[:, None]
        one, two, three = (self.donors[number] for number in place.long().unbind(1))
        scores = math.sqrt(1 - BLUR**2) * one + BLUR / math.sqrt(2) * (two - three)
        return scores.clamp(-LARGEST_SCORE, LARGEST_SCORE)

    def _order(self, condition: Condition) -> tuple[Tensor, Tensor, Tensor]:
        """First and last donor of each shower's particle, and its own place among them; (N,) floats."""
        argument = self.argument(condition.energy)
        results = [torch.zeros_like(argument)] * 3
        for number, code in enumerate(self.ranges.pdg_ids):
            ladder, ends = self.ladder[number], self.blocks[number].float()
            lower = (argument[:, None] >= ladder[None, 1:-1]).sum(1)
            start, stop = ladder[lower], ladder[lower + 1]
            inside = ((argument - start) / (stop - start)).clamp(0, 1)
            rank = (lower + inside) * ((ends[1] - ends[0]) / (RUNGS - 1))
            own = (condition.pdg_id == code).float()
            found = (ends[0].expand_as(rank), ends[1].expand_as(rank), rank)
            results = [sum_ + own * one for sum_, one in zip(results, found, strict=True)]
        return results[0], results[1], results[2]

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
        standard = torch.zeros_like(scores)
        for number, weight in ((lower, 1 - share), (lower + 1, share)):
            place = (number[:, None] * KNOTS + knot) * size + column
            start, stop = flat[place], flat[place + size]
            value = start + inside * (stop - start) + above * tails[1][number] + below * tails[0][number]
            standard = standard + weight[:, None] * value
        mean, spread = self._moments(condition)
        return mean + spread * standard


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
