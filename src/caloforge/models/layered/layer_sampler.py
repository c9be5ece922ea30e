"""Sampler of layer features: marginal transforms to normal scores, and their dependences, Eq. 3 to 6.

Each feature becomes standard normal given the conditions: polynomials in the logarithm of the energy (and in
the angles, where they vary) remove its mean and its spread, a table of quantiles in bins of energy the shape
that is left. Dependences between features are those of resampled scores (`neighbour_resampler.py`) or of a
learned density of the scores (`layer_flow.py`). Everything is fitted in closed form.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.polynomial import legendre
from numpy.typing import NDArray
from torch import Tensor, nn

from caloforge.models.base import Condition
from caloforge.models.layered.condition_scale import ConditionScale
from caloforge.models.layered.constants import (
    EMPTY_BELOW,
    EMPTY_ROOT,
    EMPTY_SCORE,
    KNOTS,
    LARGEST_SCORE,
    LAST_SCORE,
    LEAST_FEATURE,
    LEAST_GAP,
    MEAN_DEGREE,
)
from caloforge.models.layered.features import FeatureLayout
from caloforge.models.layered.layer_flow import LayerFlow
from caloforge.models.layered.neighbour_resampler import NeighbourResampler
from caloforge.models.training_metadata import TrainedRange

SPREAD_DEGREE = 3
# of the penalty of high degrees, see `_smooth`
STRENGTHS = (0.0, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
BINS = 8
# the linear tail has the mean slope of so many intervals at the end of the table
TAIL = 10
SHOWERS_PER_BIN = 150
# rows whose scores are computed at once: each needs a quantile table of its own
ROWS = 512


@dataclass(frozen=True)
class Occupancy:
    """Where showers have no hits, and where they have some, at any energy that they are resampled at.

    Attributes:
        empty: (N, size) true for numbers of hits that stay 0.
        least: (size,) least value of each feature that is not empty.
    """

    empty: Tensor
    least: Tensor


class LayerSampler(nn.Module):
    """Marginal transforms of the features, and a sampler of their normal scores; `fit` fills the buffers.

    The sampler of scores is a module with three methods and a number: `fit(normal_scores, columns, angles,
    particle, shower)` takes the scores of training showers; `forward(noise, columns, particle)` makes scores
    (N, size) from standard normal noise (N, `noise_size`); `check(name)` raises ValueError for weights that
    index what is not there. `NeighbourResampler` resamples stored showers, `LayerFlow` is a learned density.

    Attributes:
        least: (size,) least value of each feature: 1 for the number of hits of a bin that stays hit.
    """

    mean: Tensor
    spread: Tensor
    centres: Tensor
    quantiles: Tensor
    knot_scores: Tensor
    least: Tensor

    def __init__(
        self,
        layer: Tensor,
        ranges: TrainedRange,
        kind: Literal["resampling", "flow"] = "resampling",
        layout: FeatureLayout | None = None,
    ) -> None:
        """Identity transforms, and no showers.

        Args:
            layer: (size,) layer that each feature belongs to, -1 for those of the whole shower.
            ranges: Trained conditions.
            kind: Resampling of stored showers, or a learned density.
            layout: Of the features. If it is given, the density is that of cube roots of the energies of the
                bins, in place of energies of layers and logarithms of ratios: their peaks stay sharp.
        """
        super().__init__()
        size, self.ranges, self.scale = len(layer), ranges, ConditionScale(ranges)
        terms = self._design(torch.ones(1), torch.zeros(1), torch.zeros(1), torch.zeros(1)).shape[1]
        self.register_buffer("mean", torch.zeros(terms, size))
        self.register_buffer("spread", torch.zeros(terms, size))
        self.register_buffer("centres", torch.linspace(-1, 1, BINS))
        scores = torch.linspace(-LAST_SCORE, LAST_SCORE, KNOTS)
        self.register_buffer("quantiles", scores[None, :, None].repeat(BINS, 1, size))
        self.register_buffer("knot_scores", scores, persistent=False)
        self.register_buffer("least", torch.full((size,), LEAST_FEATURE))
        self.layout = layout
        columns = self.columns(torch.ones(1), torch.zeros(1), torch.zeros(1), torch.zeros(1)).shape[1]
        self.resampler = NeighbourResampler(layer, len(ranges.pdg_ids)) if kind == "resampling" else None
        self.flow = LayerFlow(size, columns) if kind == "flow" else None

    @property
    def of_scores(self) -> NeighbourResampler | LayerFlow:
        """What makes normal scores of noise."""
        found = self.resampler or self.flow
        assert found is not None
        return found

    @property
    def noise_size(self) -> int:
        """Normal numbers that the features of a shower are made of."""
        return self.of_scores.noise_size

    def check(self, name: str) -> None:
        """Refuse weights that index what is not there; `name` is that of this module, for the message.

        Raises:
            ValueError: With the name of the buffer.
        """
        self.of_scores.check(f"{name}.{'flow' if self.resampler is None else 'resampler'}")

    # ---- conditions

    def energy_argument(self, energy: Tensor) -> Tensor:
        """Scaled logarithm of the incident energy, -1 to 1 over the trained range; (N,), t of Eq. 2."""
        energy_argument: Tensor = self.scale.energy_argument(energy.double().log()).float()
        return energy_argument

    def columns(self, energy_argument: Tensor, theta: Tensor, phi: Tensor, pdg_id: Tensor) -> Tensor:
        """Conditions that vary, (N, at least 1): the energy argument, then angles, then particles."""
        others = [other.float() for other in self.scale.others(theta, phi, pdg_id)]
        return torch.stack([energy_argument, *others], dim=1)

    def particle(self, pdg_id: Tensor) -> Tensor:
        """Index of each shower's particle among the trained ones, (N,)."""
        index: Tensor = self.scale.particle(pdg_id)
        return index

    def _design(self, energy_argument: Tensor, theta: Tensor, phi: Tensor, pdg_id: Tensor) -> Tensor:
        """Polynomial terms of the conditions, (N, terms)."""
        columns = self.columns(energy_argument, theta, phi, pdg_id)
        powers = energy_argument[:, None] ** torch.arange(MEAN_DEGREE + 1, device=energy_argument.device)
        others = columns[:, 1:].unbind(1)
        terms = [term for other in others for term in (other, other**2, other * energy_argument)]
        return torch.cat([powers, *(term[:, None] for term in terms)], dim=1)

    def _terms(self, condition: Condition) -> Tensor:
        return self._design(
            self.energy_argument(condition.energy), condition.theta, condition.phi, condition.pdg_id
        )

    # ---- fit

    def fit(
        self,
        features: NDArray[np.float32],
        condition: Condition,
        shower: Tensor,
        stored_showers: int,
        occupancy: Occupancy | None = None,
    ) -> None:
        """Fit the marginal transforms and the sampler of scores.

        Args:
            features: (N, size).
            condition: N conditions, those of the rows.
            shower: (N,) index of the shower that a row is an image of.
            stored_showers: Number of rows that the sampler of scores is fitted to, at most.
            occupancy: What resampled showers take over from stored ones as it is.
        """
        design, showers = self._terms(condition).double().numpy(), len(np.unique(shower.numpy()))
        values = self._inward(torch.from_numpy(features)).double().numpy()
        mean = _smooth(design, values, showers, 1e-9)
        rest = values - design @ mean
        low_order = design.copy()
        low_order[:, SPREAD_DEGREE + 1 : MEAN_DEGREE + 1] = 0
        floor = np.maximum(1e-4 * rest.var(axis=0), 1e-12)
        spread = _smooth(low_order, np.log(np.maximum(rest**2, floor)) / 2, showers, 1e-6)
        standard = rest / np.exp(np.clip(low_order @ spread, -20, 20))
        self.mean.copy_(torch.from_numpy(mean))
        self.spread.copy_(torch.from_numpy(spread))
        self._fit_quantiles(standard, self.energy_argument(condition.energy).double().numpy())
        rows = self._rows_to_keep(condition, stored_showers)
        kept, asked = torch.from_numpy(features)[rows], condition[rows]
        parts = [slice(start, start + ROWS) for start in range(0, len(rows), ROWS)]
        scores = torch.cat([self.normal_scores(kept[part], asked[part]) for part in parts])
        columns = self.columns(self.energy_argument(asked.energy), asked.theta, asked.phi, asked.pdg_id)
        self.of_scores.fit(scores, columns, self.scale.angles, self.particle(asked.pdg_id), shower[rows])
        if self.resampler is not None and occupancy is not None:
            self.resampler.keep_empty(occupancy.empty[rows])
            self.least.copy_(occupancy.least)

    def _rows_to_keep(self, condition: Condition, stored_showers: int) -> Tensor:
        """Rows that cover the energies evenly, particle by particle, in the order of energy."""
        energy_argument = self.energy_argument(condition.energy)
        kept: list[Tensor] = []
        for index, code in enumerate(self.ranges.pdg_ids):
            own = torch.nonzero(condition.pdg_id == code)[:, 0]
            own = own[energy_argument[own].argsort(stable=True)]
            left = stored_showers - sum(len(rows) for rows in kept)
            count = min(len(own), left // (len(self.ranges.pdg_ids) - index))
            kept.append(own[torch.linspace(0, len(own) - 1, count).round().long()])
        return torch.cat(kept)

    def _fit_quantiles(self, standard: NDArray[np.float64], energy_argument: NDArray[np.float64]) -> None:
        bins = max(
            1, min(BINS, len(energy_argument) // SHOWERS_PER_BIN, len(np.unique(energy_argument)) // 2)
        )
        probability = torch.special.ndtr(self.knot_scores.double()).numpy()
        tables = []
        for k in range(bins):
            # bins overlap by a quarter on either side
            low, high = np.quantile(energy_argument, [max(0, (k - 0.25) / bins), min(1, (k + 1.25) / bins)])
            inside = (energy_argument >= low) & (energy_argument <= high)
            tables.append(np.quantile(standard[inside], probability, axis=0))
        centres = np.quantile(energy_argument, (np.arange(bins) + 0.5) / bins)
        # the number of bins is fixed, so that the weights of all models have one shape
        missing = BINS - bins
        centres = np.append(centres, centres[-1] + 1.0 + np.arange(missing))
        tables += [tables[-1]] * missing
        rising = np.maximum.accumulate(np.stack(tables) + 1e-7 * np.arange(KNOTS)[None, :, None], axis=1)
        self.centres.copy_(torch.from_numpy(centres))
        self.quantiles.copy_(torch.from_numpy(rising))

    # ---- use

    def _bins(self, energy: Tensor) -> tuple[Tensor, Tensor]:
        """Lower energy bin of each shower, (N,), and weight of the upper one, (N,)."""
        energy_argument = self.energy_argument(energy)
        lower = (energy_argument[:, None] >= self.centres[None, 1:-1]).sum(1)
        start, stop = self.centres[lower], self.centres[lower + 1]
        # where many showers have one energy, several bins may have the same centre
        return lower, ((energy_argument - start) / (stop - start).clamp_min(LEAST_GAP)).clamp(0, 1)

    def _mean_and_spread(self, condition: Condition) -> tuple[Tensor, Tensor]:
        """Mean and spread of every feature given the conditions, (N, size) each."""
        terms = self._terms(condition)
        return terms @ self.mean, (terms @ self.spread).clamp(-20, 20).exp()

    def normal_scores(self, features: Tensor, condition: Condition) -> Tensor:
        """Normal scores of features, (N, size), Eq. 3."""
        mean, spread = self._mean_and_spread(condition)
        standard = (self._inward(features) - mean) / spread
        lower, upper_weight = self._bins(condition.energy)
        upper_weight = upper_weight[:, None, None]
        # (N, size, KNOTS)
        table = (
            (1 - upper_weight) * self.quantiles[lower] + upper_weight * self.quantiles[lower + 1]
        ).mT.contiguous()
        upper = torch.searchsorted(table, standard[..., None].contiguous()).clamp(1, KNOTS - 1)
        before, after = table.gather(2, upper - 1)[..., 0], table.gather(2, upper)[..., 0]
        step = self.knot_scores[1] - self.knot_scores[0]
        inside = ((standard - before) / (after - before).clamp_min(1e-7)).clamp(0, 1)
        scores = self.knot_scores[0] + (upper[..., 0] - 1 + inside) * step
        tails = tails_of(table.mT)
        scores = scores + (standard - table[..., -1]).clamp_min(0) / tails[1]
        scores = scores + (standard - table[..., 0]).clamp_max(0) / tails[0]
        return scores.clamp(-LARGEST_SCORE, LARGEST_SCORE)

    def sample_scores(self, noise: Tensor, condition: Condition) -> Tensor:
        """Normal scores (N, size) from normal noise (N, noise_size), Eq. 4 and 5."""
        energy_argument = self.energy_argument(condition.energy)
        columns = self.columns(energy_argument, condition.theta, condition.phi, condition.pdg_id)
        scores: Tensor = self.of_scores(noise, columns, self.particle(condition.pdg_id))
        limited = scores.clamp(-LARGEST_SCORE, LARGEST_SCORE)
        return limited if self.resampler is None else torch.where(scores < EMPTY_BELOW, EMPTY_SCORE, limited)

    def features(self, scores: Tensor, condition: Condition) -> Tensor:
        """Features of normal scores, (N, size), Eq. 6."""
        step = self.knot_scores[1] - self.knot_scores[0]
        place = (scores - self.knot_scores[0]) / step
        lower_knot = place.floor().clamp(0, KNOTS - 2)
        inside = (place - lower_knot).clamp(0, 1)
        knot = lower_knot.long()
        lower, upper_weight = self._bins(condition.energy)
        # one flat index: runtimes gather by one index much faster than by three
        size = scores.shape[1]
        flat, column = self.quantiles.reshape(-1), torch.arange(size, device=scores.device)
        tails = tails_of(self.quantiles)
        above, below = (scores - LAST_SCORE).clamp_min(0), (scores + LAST_SCORE).clamp_max(0)
        index, weight = torch.stack([lower, lower + 1]), torch.stack([1 - upper_weight, upper_weight])
        place = (index[..., None] * KNOTS + knot) * size + column
        start, stop = (flat.index_select(0, at.view(-1)).view_as(at) for at in (place, place + size))
        first, last = (slopes.index_select(0, index.view(-1)).view_as(place) for slopes in tails)
        value = start + inside * (stop - start) + above * last + below * first
        mean, spread = self._mean_and_spread(condition)
        made = self._outward(mean + spread * (weight[..., None] * value).sum(0))
        if self.resampler is None:
            return made
        return torch.where(scores < EMPTY_BELOW, EMPTY_ROOT, torch.maximum(made, self.least))

    def _load_from_state_dict(self, state: dict[str, Tensor], prefix: str, *rest: Any) -> None:
        # in models of earlier releases hits come and go with the energy
        state.setdefault(prefix + "least", torch.full_like(self.least, LEAST_FEATURE))
        super()._load_from_state_dict(state, prefix, *rest)

    def _inward(self, features: Tensor) -> Tensor:
        return features if self.layout is None else self.layout.bin_roots(features)

    def _outward(self, values: Tensor) -> Tensor:
        return values if self.layout is None else self.layout.from_bin_roots(values)


def tails_of(table: Tensor) -> tuple[Tensor, Tensor]:
    """Slopes of the linear tails of quantile tables (..., KNOTS, size): below and above, (..., size) each."""
    run = 2 * LAST_SCORE * TAIL / (KNOTS - 1)
    first = (table[..., TAIL, :] - table[..., 0, :]) / run
    last = (table[..., -1, :] - table[..., -1 - TAIL, :]) / run
    return first.clamp_min(1e-3), last.clamp_min(1e-3)


def _smooth(
    design: NDArray[np.float64], values: NDArray[np.float64], showers: int, ridge: float
) -> NDArray[np.float64]:
    """Coefficients (terms, size) of polynomials that bend no more than each feature needs, Eq. 3.

    Where few showers are, at the edges of the range above all, a polynomial of high degree follows their
    noise. Its Legendre coefficients are penalised by degree, with the strength that generalised
    cross-validation chooses for each feature.

    Args:
        design: (N, terms) powers of the energy argument first.
        values: (N, size).
        showers: Number of different showers among the rows.
        ridge: Least penalty of all terms.
    """
    gram, right = design.T @ design / len(design), design.T @ values / len(design)
    square, tiny = (values**2).mean(axis=0), 1e-12
    penalty = np.zeros_like(gram)
    powers = MEAN_DEGREE + 1
    # Legendre coefficients of powers
    change = np.stack([np.pad(legendre.poly2leg(row), (0, powers - 1 - k)) for k, row in _powers(powers)], 1)
    degrees = np.arange(powers)
    penalty[:powers, :powers] = change.T @ np.diag((degrees * (degrees - 1.0)) ** 2) @ change
    best, result = np.full(values.shape[1], np.inf), np.zeros_like(right)
    for strength in STRENGTHS:
        inverse = np.linalg.inv(gram + ridge * np.eye(len(gram)) + strength * penalty)
        solution = inverse @ right
        rest = square - (solution * (2 * right - gram @ solution)).sum(axis=0)
        freedom = min(np.trace(inverse @ gram) / showers, 0.9)
        score = np.log(np.maximum(rest, tiny * square + tiny)) - 2 * np.log1p(-freedom)
        result = np.where(score < best, solution, result)
        best = np.minimum(score, best)
    return result


def _powers(count: int) -> list[tuple[int, NDArray[np.float64]]]:
    """Coefficients of the first powers, each without zeros behind the last."""
    return [(k, np.eye(k + 1)[k]) for k in range(count)]
