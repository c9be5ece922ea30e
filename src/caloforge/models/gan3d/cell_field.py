"""Starting point of the compact generator: cells from independent normal variables, fitted in closed form.

A cell has a latent variable t, and energy if t > 0:

    t = mu(E) + sigma(E) * (rest * eps + sum_k A_k(E) u_k),    energy = table(t) for t > 0, else 0,

with one normal number eps per cell and a few normal factors u_k per shower (a factor analysis with censored
observations). mu and log sigma are piecewise linear in the logarithm of the incident energy for each symmetry
class of cells of each layer; the table is a monotone map for each radial bin of each layer, so that the
spectrum of hits is that of the training showers; the loadings A_k hold how layers and radial bins fluctuate
together. The training of the network starts from here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from caloforge.models.layered.geometry import LayerGeometry

# degrees of the polynomials of the energy argument
RESPONSE_DEGREE, SPREAD_DEGREE = 3, 2
# knots of piecewise linear functions of the energy argument, and the penalty on their second differences
ENERGY_KNOTS, SMOOTHING = 9, 0.03
# the table has so many knots up to this t, and continues in a straight line; they are equidistant in
# sqrt(t + KNOT_OFFSET), since the weakest hits, near t = 0, have the widest range of energies
KNOTS, LAST_KNOT, KNOT_OFFSET = 41, 8.0, 0.01
# energy intervals of the fit; rounds between latent moments and tables
INTERVALS, ROUNDS = 16, 3
# hit probabilities above this are fitted by the moments of t, without the normal tail
NEARLY_ALWAYS = 0.97
SIGMA_RANGE = (0.05, 4.0)
# a class with fewer hits in an energy interval has sigma 1
FEWEST_HITS = 8
# hits per radial bin from which quantiles are taken, and cells from which their latent distribution is
QUANTILE_HITS, QUANTILE_CELLS = 200_000, 5_000
# largest share of the variance of a cell that its shower's factors explain
LARGEST_EXPLAINED = 0.98
# a radial bin whose shift is less well known than this, in most showers, has no loadings
MOST_VARIANCE = 30.0
FACTOR_STEPS, LEAST_NOISE = 60, 1e-3
# smallest variance of a factor at an end of the energies, over that of all
LEAST_VARIANCE = 0.1
# where no cell is hit near a knot
LEAST_CEILING = 0.5
# neighbouring cells of a bin, weighted by their information, from which a correlation is believed
FEWEST_PAIRS = 300.0
# showers whose shifts are computed at a time
SHIFT_ROWS = 256
# steps of the probit regression, and its largest |mu / sigma|
PROBIT_STEPS, LARGEST_EDGE = 6, 4.5
# of the response; a Cornish-Fisher expansion is monotone up to about this
LARGEST_SKEWNESS = 1.0
# scale of trained changes of the table against those of other parameters
TABLE_SCALE = 0.1


@dataclass(frozen=True)
class EnergyArgument:
    """The logarithm of the incident energy, mapped to [-1, 1] over the trained range."""

    offset: float
    scale: float

    def __call__(self, energy: Tensor) -> Tensor:
        """(N,) of energies in MeV."""
        return (energy.log() - self.offset) * self.scale


def hats(argument: Tensor) -> Tensor:
    """(N, ENERGY_KNOTS) weights of the knots in linear interpolation over the trained range, of (N,)."""
    place = ((argument + 1) * ((ENERGY_KNOTS - 1) / 2)).clamp(0, ENERGY_KNOTS - 1)
    knots = torch.arange(ENERGY_KNOTS, device=argument.device)
    return (1 - (place[:, None] - knots).abs()).clamp_min(0)


def powers(argument: Tensor, degree: int) -> Tensor:
    """(N, degree + 1) powers of (N,), from 0."""
    return torch.stack([argument**k for k in range(degree + 1)], dim=-1)


class CellField(nn.Module):
    """Polynomials, tables and loadings of the latent variables; shapes in the attributes.

    L layers, K symmetry classes, B radial bins, F factors, m cells in a layer.

    Attributes:
        mean: (L, K, ENERGY_KNOTS) mu at the knots of the energy argument.
        log_sigma: (L, K, ENERGY_KNOTS) logarithm of sigma there.
        loadings: (F, L, B, 2) coefficients of A, degree 1.
        log_energy: (L, B, KNOTS) logarithm of the energy in MeV at the knots.
        ceiling: (L, B, ENERGY_KNOTS) largest t at the knots of the energy argument.
        table_change: The same shape, trained change of `log_energy`.
        response: (RESPONSE_DEGREE + 1,) coefficients of the mean logarithm of visible over incident energy.
        response_spread: (SPREAD_DEGREE + 1,) of the logarithm of its standard deviation.
        response_skewness: (2,) third cumulant of the standardised response, as a straight line.
        response_loadings: (F,) correlation of the response with the factors.
    """

    log_energy: Tensor
    ceiling: Tensor
    response: Tensor
    response_spread: Tensor
    response_skewness: Tensor
    response_loadings: Tensor
    symmetry_class: Tensor
    radial_bin: Tensor
    bin_of_class: Tensor
    _first_knot: Tensor

    def __init__(self, layers: int, geometry: LayerGeometry, factors: int) -> None:
        """Zeros; `fit` gives the values."""
        super().__init__()
        self.layers, self.factors = layers, factors
        self.transverse = (geometry.rows, geometry.columns)
        classes, bins = geometry.symmetry_classes, len(geometry.radial_bin_sizes)
        self.mean = nn.Parameter(torch.zeros(layers, classes, ENERGY_KNOTS))
        self.log_sigma = nn.Parameter(torch.zeros(layers, classes, ENERGY_KNOTS))
        self.loadings = nn.Parameter(torch.zeros(factors, layers, bins, 2))
        self.register_buffer("log_energy", torch.zeros(layers, bins, KNOTS))
        self.register_buffer("ceiling", torch.full((layers, bins, ENERGY_KNOTS), LAST_KNOT))
        self.table_change = nn.Parameter(torch.zeros(layers, bins, KNOTS))
        # fitted well, and a training would make it worse
        self.register_buffer("response", torch.zeros(RESPONSE_DEGREE + 1))
        self.register_buffer("response_spread", torch.zeros(SPREAD_DEGREE + 1))
        self.register_buffer("response_skewness", torch.zeros(2))
        self.register_buffer("response_loadings", torch.zeros(factors))
        symmetry_class = torch.from_numpy(geometry.symmetry_class)
        radial_bin = torch.from_numpy(geometry.radial_bin)
        self.register_buffer("symmetry_class", symmetry_class, persistent=False)
        # cells of a class are in one ring, and so in one bin
        first = np.unique(geometry.symmetry_class, return_index=True)[1]
        bin_of_class = torch.from_numpy(geometry.radial_bin[first])
        self.register_buffer("bin_of_class", bin_of_class, persistent=False)
        self.register_buffer("radial_bin", radial_bin, persistent=False)
        bin_of_layer = np.arange(layers)[:, None] * bins + geometry.radial_bin
        self.register_buffer("_first_knot", torch.from_numpy(bin_of_layer * KNOTS), persistent=False)

    # ---- evaluation

    def class_moments(self, argument: Tensor) -> tuple[Tensor, Tensor]:
        """Means and standard deviations of t of each symmetry class, (N, L, K) each."""
        weights = hats(argument)
        mean = torch.einsum("nd,lkd->nlk", weights, self.mean)
        return mean, torch.einsum("nd,lkd->nlk", weights, self.log_sigma).exp()

    def moments(self, argument: Tensor) -> tuple[Tensor, Tensor]:
        """The same of all cells, (N, L, m) each."""
        mean, sigma = self.class_moments(argument)
        return mean[..., self.symmetry_class], sigma[..., self.symmetry_class]

    def latent(self, argument: Tensor, common: Tensor, rest: Tensor, own: Tensor, local: Tensor) -> Tensor:
        """Latent variables of all cells, (N, L, m).

        Args:
            argument: (N,) energy argument.
            common: (N, L, B) displacement of each radial bin.
            rest: (N, L, B) standard deviation that is left for the noise of the cells.
            own: (N, L, m) noise.
            local: (N, L, m) displacement of each cell.
        """
        mean, sigma = self.class_moments(argument)
        mean = mean + sigma * common[..., self.bin_of_class]
        width = sigma * rest[..., self.bin_of_class]
        cells = self.symmetry_class
        latent = mean[..., cells] + width[..., cells] * own + sigma[..., cells] * local
        ceiling = torch.einsum("nd,lbd->nlb", hats(argument), self.ceiling)
        return torch.minimum(latent, ceiling[..., self.radial_bin])

    def factor_field(self, argument: Tensor, factors: Tensor) -> tuple[Tensor, Tensor]:
        """What factors (N, F) add to each radial bin, and the rest of its standard deviation, (N, L, B)."""
        loadings = self.loadings[..., 0] + argument[:, None, None, None] * self.loadings[..., 1]
        explained = loadings.square().sum(1)
        within = (LARGEST_EXPLAINED / explained.clamp_min(LARGEST_EXPLAINED)).sqrt()
        rest = (1 - explained * within.square()).sqrt()
        return (loadings * factors[:, :, None, None]).sum(1) * within, rest

    def energies(self, latent: Tensor) -> Tensor:
        """Cell energies in MeV of t, (N, L, m)."""
        # a comparison with NaN is false, so that no weights lead beyond the table
        position = _knot_position(torch.where(latent > 0, latent, 0.0).clamp_max(2 * LAST_KNOT))
        knot = position.detach().floor().clamp_max(KNOTS - 2)
        table = (self.log_energy + TABLE_SCALE * self.table_change).flatten()
        index = self._first_knot + knot.long()
        low, high = table[index], table[index + 1]
        return (low + (high - low) * (position - knot)).exp() * (latent > 0)

    def log_response(self, argument: Tensor, factors: Tensor, noise: Tensor) -> Tensor:
        """Logarithm of visible over incident energy, (N,).

        Args:
            argument: (N,) energy argument.
            factors: (N, F).
            noise: (N,) what does not follow from the factors, normal.
        """
        mean = powers(argument, RESPONSE_DEGREE) @ self.response
        spread = (powers(argument, SPREAD_DEGREE) @ self.response_spread).exp()
        rest = (1 - self.response_loadings.square().sum()).clamp_min(1 - LARGEST_EXPLAINED).sqrt()
        normal = factors @ self.response_loadings + rest * noise
        # first terms of a Cornish-Fisher expansion
        skewness = powers(argument, 1) @ self.response_skewness
        skewed = normal + skewness / 6 * (normal.square() - 1)
        return mean + spread * skewed / (1 + skewness.square() / 18).sqrt()

    # ---- fit

    @torch.no_grad()
    def fit(self, showers: Tensor, energy: Tensor, argument: Tensor) -> tuple[Tensor, Tensor]:
        """Fit everything to showers.

        Args:
            showers: (N, L, m) MeV.
            energy: (N,) incident energy, MeV.
            argument: (N,) energy argument.

        Returns:
            Correlation of the noise of neighbouring cells in the layer, and in depth, (L, B) each.
        """
        intervals = _intervals(argument)
        latent = self._fit_tables(showers, None)
        for _ in range(ROUNDS):
            self._fit_moments(latent, argument, intervals)
            latent = self._fit_tables(showers, argument)
        self._fit_moments(latent, argument, intervals)
        self._fit_ceiling(latent, argument)
        ratio = (showers.sum((1, 2)) / energy).clamp_min(1e-9).log()
        self.response.copy_(_least_squares(powers(argument, RESPONSE_DEGREE), ratio))
        residual = ratio - powers(argument, RESPONSE_DEGREE) @ self.response
        # E ln|x| of a standard normal number is -0.635
        spread = _least_squares(powers(argument, SPREAD_DEGREE), residual.abs().clamp_min(1e-5).log() + 0.635)
        standard = residual / (powers(argument, SPREAD_DEGREE) @ spread).exp()
        # the logarithm of a modulus is robust, but right for a normal number only
        spread[0] += standard.std().log()
        standard = (standard / standard.std()).clamp(-4, 4)
        self.response_spread.copy_(spread)
        skewness = _least_squares(powers(argument, 1), standard**3)
        self.response_skewness.copy_(skewness.clamp(-LARGEST_SKEWNESS, LARGEST_SKEWNESS))
        self._fit_factors(latent, argument, standard)
        return self._neighbour_correlations(latent, argument)

    def _fit_tables(self, showers: Tensor, argument: Tensor | None) -> Tensor:
        """Match the quantiles of hits to those of t; returns t of all cells, 0 where there is no hit."""
        grid = _knots()
        moments = None if argument is None else self.moments(argument)
        latent = torch.zeros_like(showers)
        for layer in range(self.layers):
            for number in range(self.log_energy.shape[1]):
                cells = (self.radial_bin == number).nonzero().squeeze(1)
                energy = showers[:, layer, cells]
                hits = _sample(energy[energy > 0], QUANTILE_HITS).sort().values
                if len(hits) < FEWEST_HITS:
                    everywhere = showers[:, :, cells]
                    hits = _sample(everywhere[everywhere > 0], QUANTILE_HITS).sort().values
                if len(hits) < FEWEST_HITS:
                    continue
                if moments is None:
                    below = _first_distribution(float((energy > 0).float().mean()), grid)
                else:
                    mean, sigma = (part[:, layer, cells].flatten() for part in moments)
                    below = _hit_distribution(
                        _sample(mean, QUANTILE_CELLS), _sample(sigma, QUANTILE_CELLS), grid
                    )
                knots = _quantile_table(hits.log(), below)
                self.log_energy[layer, number] = knots
                upper = torch.searchsorted(knots, energy.clamp_min(1e-12).log()).clamp(1, KNOTS - 1)
                inside = (energy.clamp_min(1e-12).log() - knots[upper - 1]) / (
                    knots[upper] - knots[upper - 1]
                )
                value = grid[upper - 1] + inside * (grid[upper] - grid[upper - 1])
                latent[:, layer, cells] = torch.where(energy > 0, value.clamp_min(1e-3), 0.0)
        return latent

    def _fit_moments(self, latent: Tensor, argument: Tensor, intervals: Tensor) -> None:
        """Mu and log sigma from the moments of t in each energy interval."""
        classes = self.mean.shape[1]
        member = nn.functional.one_hot(self.symmetry_class, classes).float()
        size = member.sum(0)
        count = torch.bincount(intervals)
        centres = torch.stack([argument[intervals == k].mean() for k in range(len(count))])
        cells = count[:, None, None] * size
        parts = [latent[intervals == k] for k in range(len(count))]
        chance, first, second = (
            torch.stack([(moment(part).mean(0) @ member) / size for part in parts])
            for moment in ((lambda t: (t > 0).float()), (lambda t: t), torch.square)
        )
        hit = chance.clamp_min(1e-9)
        edge = torch.special.ndtri(torch.maximum(torch.minimum(chance, 1 - 0.5 / cells), 0.5 / cells))
        mills = _log_density(edge).exp() / torch.special.ndtr(edge)
        # t of hits is a normal number above 0: its mean is sigma * (mu / sigma + mills)
        height = first / hit
        sigma = torch.where(
            chance > NEARLY_ALWAYS,
            (second / hit - height**2).clamp_min(1e-4).sqrt(),
            height / (edge + mills),
        ).clamp(*SIGMA_RANGE)
        sigma = torch.where(chance * cells < FEWEST_HITS, 1.0, sigma)
        # the square root: lines do not fit exactly, and low energies count as well
        weight = (chance * cells + 1).clamp_max(1e5).sqrt()
        self.log_sigma.copy_(_interpolations(centres, sigma.log(), weight))
        sigma = torch.einsum("bd,lkd->blk", hats(centres), self.log_sigma).exp()
        self.mean.copy_(_probit_regression(centres, chance, cells, height, sigma))

    def _fit_ceiling(self, latent: Tensor, argument: Tensor) -> None:
        """Largest t of each radial bin near each knot; a normal tail would reach too far at low energies."""
        near = hats(argument) > 0
        for knot in range(ENERGY_KNOTS):
            if bool(near[:, knot].any()):
                largest = latent[near[:, knot]].amax(0)
                for number in range(self.ceiling.shape[1]):
                    own = largest[:, self.radial_bin == number].amax(1)
                    self.ceiling[:, number, knot] = own.clamp_min(LEAST_CEILING)

    def _fit_factors(self, latent: Tensor, argument: Tensor, response: Tensor) -> None:
        """Loadings by factor analysis of the common shifts of radial bins, and of the response."""
        shift, variance = self._shifts(latent, argument)
        known = (variance.flatten(1) < MOST_VARIANCE).float().mean(0) > 0.5
        joined = torch.cat([shift.flatten(1) * known, response[:, None]], 1)
        loading, scores, spread = _factor_analysis(joined, self.factors)
        # a step of the EM algorithm, with loadings that are straight lines in the energy argument
        both = torch.cat([scores, scores * argument[:, None]], 1)
        moments = powers(argument, 1)
        gram = torch.kron((moments.T @ moments).contiguous(), spread.contiguous()) + both.T @ both
        gram = gram + 1e-3 * len(both) * torch.eye(len(gram))
        solution = torch.linalg.solve(gram, both.T @ joined)[:, :-1]
        plain, slope = solution.reshape(2, self.factors, *shift.shape[1:])
        # the variance of the factors, too
        second = _least_squares(moments, scores.square() + spread.diag())
        ends = (moments.new_tensor([[1.0, -1.0], [1.0, 1.0]]) @ second).clamp_min(LEAST_VARIANCE).sqrt()
        middle, tilt = (ends.sum(0) / 2)[:, None, None], ((ends[1] - ends[0]) / 2)[:, None, None]
        plain, slope = plain * middle, slope * middle + plain * tilt
        self.loadings.copy_(torch.stack([plain, slope], -1))
        found = loading[-1]
        self.response_loadings.copy_(
            found * min(1.0, math.sqrt(LARGEST_EXPLAINED) / max(float(found.norm()), 1e-9))
        )

    def _neighbour_correlations(self, latent: Tensor, argument: Tensor) -> tuple[Tensor, Tensor]:
        """Correlation of neighbours by the mean score of each cell, for what the bins do not have in common.

        The score is the expected noise of a cell given whether it is hit, and how strongly. For a small
        correlation rho, the mean of the product of two scores is rho times that of the information.
        """
        member = nn.functional.one_hot(self.radial_bin, self.log_energy.shape[1]).float()
        sums = torch.zeros(2, 2, self.layers, member.shape[1])
        for first in range(0, len(latent), SHIFT_ROWS):
            rows = slice(first, first + SHIFT_ROWS)
            score, known = self._scores(latent[rows], argument[rows])
            shift = (score @ member) / (known @ member).clamp_min(1)
            rest = score - shift[..., self.radial_bin] * known
            for part, values in enumerate((rest, known)):
                plane = values.unflatten(2, self.transverse)  # type: ignore[no-untyped-call]
                across = nn.functional.pad(plane[..., :-1] * plane[..., 1:], (0, 1))
                across = across + nn.functional.pad(plane[..., :-1, :] * plane[..., 1:, :], (0, 0, 0, 1))
                deep = nn.functional.pad(values[:, :-1] * values[:, 1:], (0, 0, 0, 1))
                for kind, product in enumerate((across.flatten(2), deep)):
                    sums[part, kind] += product.sum(0) @ member
        plane, depth = sums[0] / sums[1].clamp_min(FEWEST_PAIRS)
        return plane, depth

    def _scores(self, latent: Tensor, argument: Tensor) -> tuple[Tensor, Tensor]:
        """Score of each cell for a shift of its t in units of sigma, and the information, (N, L, m) each."""
        mean, sigma = self.moments(argument)
        edge = mean / sigma
        hit = latent > 0
        mills = (_log_density(edge) - torch.special.log_ndtr(-edge)).exp()
        score = torch.where(hit, latent / sigma - edge, -mills).clamp(-5, 5)
        return score, torch.where(hit, 1.0, (mills * (mills - edge)).clamp(1e-6, 1))

    def _shifts(self, latent: Tensor, argument: Tensor) -> tuple[Tensor, Tensor]:
        """One Newton step of the likelihood for a common shift of the cells of a bin, and its variance."""
        bins = self.log_energy.shape[1]
        member = nn.functional.one_hot(self.radial_bin, bins).float()
        scores, information = [], []
        for first in range(0, len(latent), SHIFT_ROWS):
            rows = slice(first, first + SHIFT_ROWS)
            score, known = self._scores(latent[rows], argument[rows])
            scores.append(score @ member)
            information.append(known @ member)
        weight = torch.cat(information).clamp_min(1e-6)
        return (torch.cat(scores) / weight).clamp(-4, 4), 1 / weight


def _intervals(argument: Tensor) -> Tensor:
    """Number of the energy interval of each shower: narrow both in rank and in log energy."""
    rank = torch.argsort(torch.argsort(argument)) / max(len(argument) - 1, 1)
    width = (argument.max() - argument.min()).clamp_min(1e-9)
    place = (rank + (argument - argument.min()) / width) / 2
    found = (place * INTERVALS).floor().long().clamp_max(INTERVALS - 1)
    numbers: Tensor = torch.unique(found, return_inverse=True)[1]
    return numbers


def _factor_analysis(values: Tensor, factors: int) -> tuple[Tensor, Tensor, Tensor]:
    """Factor analysis by maximum likelihood (Lawley 1940): values = loading u + independent noise.

    Given the noise, the loadings are eigenvectors of the covariance in units of the noise; the noise is what
    is left of the variances. The two are found in turn.

    Args:
        values: (N, k), mean 0.
        factors: Number of factors; their variance is 1.

    Returns:
        Loadings (k, factors), mean factors of each row (N, factors) and their covariance given a row.
    """
    values = values.double()
    covariance = values.T @ values / len(values)
    covariance.diagonal().clamp_(min=LEAST_NOISE)
    noise = 0.5 * covariance.diag()
    for _ in range(FACTOR_STEPS):
        unit = noise.sqrt()
        size, vectors = torch.linalg.eigh(covariance / unit / unit[:, None])
        loading = unit[:, None] * vectors[:, -factors:] * (size[-factors:] - 1).clamp_min(0).sqrt()
        left = covariance.diag() - loading.square().sum(1)
        noise = torch.maximum(left, LEAST_NOISE * covariance.diag().clamp_min(1))
    weighted = loading / noise[:, None]
    spread = torch.linalg.inv(torch.eye(loading.shape[1], dtype=torch.float64) + loading.T @ weighted)
    return loading.float(), (values @ weighted @ spread).float(), spread.float()


def _knots() -> Tensor:
    """(KNOTS,) t at the knots."""
    first, last = math.sqrt(KNOT_OFFSET), math.sqrt(LAST_KNOT + KNOT_OFFSET)
    return torch.linspace(first, last, KNOTS).square() - KNOT_OFFSET


def _knot_position(latent: Tensor) -> Tensor:
    """Position of t, not negative, in the table, in knots."""
    first, last = math.sqrt(KNOT_OFFSET), math.sqrt(LAST_KNOT + KNOT_OFFSET)
    return ((latent + KNOT_OFFSET).sqrt() - first) * ((KNOTS - 1) / (last - first))


def _log_density(x: Tensor) -> Tensor:
    """Logarithm of the standard normal density."""
    return -0.5 * (x.square() + math.log(2 * math.pi))


def _sample(values: Tensor, most: int) -> Tensor:
    return values[:: max(1, -(-len(values) // most))]


def _first_distribution(chance: float, grid: Tensor) -> Tensor:
    """Probability that t of a hit is below the grid, if all cells of a bin were alike."""
    chance = min(max(chance, 1e-4), 1 - 1e-4)
    edge = torch.special.ndtri(torch.tensor(chance)) if chance < NEARLY_ALWAYS else torch.tensor(4.5)
    below: Tensor = 1 - torch.special.ndtr(edge - grid) / torch.special.ndtr(edge)
    return below


def _hit_distribution(mean: Tensor, sigma: Tensor, grid: Tensor) -> Tensor:
    """The same for cells with their own mean and sigma."""
    above = torch.special.ndtr((mean - grid[:, None]) / sigma).sum(1)
    below: Tensor = 1 - above / above[0].clamp_min(1e-9)
    return below


def _quantile_table(hits: Tensor, below: Tensor) -> Tensor:
    """Logarithm of the energy at each knot: the quantile of ordered hits, rising everywhere."""
    place = below.clamp(0, 1) * (len(hits) - 1)
    lower = place.floor().long().clamp_max(len(hits) - 2)
    knots = hits[lower] + (hits[lower + 1] - hits[lower]) * (place - lower)
    # beyond the strongest hits the table goes on with a slope
    beyond = below > 1 - 3 / len(hits)
    rise = torch.cumsum(beyond * torch.diff(_knots(), prepend=torch.zeros(1)), 0) * 0.25
    last = knots[~beyond][-1] if bool((~beyond).any()) else knots[0]
    knots = torch.where(beyond, last + rise, knots)
    # log E gains at least this between knots
    least = 1e-3 * torch.arange(KNOTS)
    return torch.cummax(knots - least, 0).values + least


def _least_squares(design: Tensor, values: Tensor) -> Tensor:
    gram = design.T @ design + 1e-6 * len(design) * torch.eye(design.shape[1])
    solution: Tensor = torch.linalg.solve(gram, design.T @ values)
    return solution


def _probit_regression(
    centres: Tensor, chance: Tensor, cells: Tensor, height: Tensor, sigma: Tensor
) -> Tensor:
    """(L, K, ENERGY_KNOTS) mu at the knots, from the fractions of cells that are hit.

    Maximum likelihood of the numbers of hits, by iteratively reweighted least squares; where nearly all cells
    are hit, their mean height is fitted instead.

    Args:
        centres: (intervals,) energy argument.
        chance: (intervals, L, K) fraction of cells that are hit.
        cells: (intervals, 1, K) number of cells.
        height: (intervals, L, K) mean t of hits.
        sigma: (intervals, L, K).
    """
    always = chance > NEARLY_ALWAYS
    edge = torch.special.ndtri(torch.maximum(torch.minimum(chance, 1 - 0.5 / cells), 0.5 / cells))
    precise = torch.where(always, cells, chance * cells + 1) / sigma.square()
    solution = _interpolations(centres, torch.where(always, height, edge * sigma), precise)
    for _ in range(PROBIT_STEPS):
        found = torch.einsum("bd,lkd->blk", hats(centres), solution) / sigma
        found = found.clamp(-LARGEST_EDGE, LARGEST_EDGE)
        expected, density = torch.special.ndtr(found), _log_density(found).exp()
        edge = found + ((chance - expected) / density).clamp(-1, 1)
        weight = cells * density.square() / (expected * (1 - expected)).clamp_min(1e-6)
        precise = (torch.where(always, cells, weight) + 1e-3) / sigma.square()
        solution = _interpolations(centres, torch.where(always, height, edge * sigma), precise)
    return solution


def _interpolations(centres: Tensor, values: Tensor, weight: Tensor) -> Tensor:
    """(L, K, ENERGY_KNOTS) smooth lines through values (intervals, L, K) at the centres of the intervals."""
    design = hats(centres)
    weight = weight.permute(1, 2, 0)
    rough = torch.diff(torch.eye(ENERGY_KNOTS), n=2, dim=0)
    penalty = SMOOTHING * rough.T @ rough + 1e-6 * torch.eye(ENERGY_KNOTS)
    gram = torch.einsum("bi,lkb,bj->lkij", design, weight, design)
    gram = gram + weight.mean(2)[..., None, None] * penalty
    target = torch.einsum("bi,lkb,lkb->lki", design, weight, values.permute(1, 2, 0))
    solution: Tensor = torch.linalg.solve(gram, target)
    return solution
