"""Whether showers of other detectors can stand in for training showers of the layer sampler.

    caloforge simulate par04-siw --seed 11 -n 1200 -o train.h5
    caloforge simulate par04-siw-electron --seed 704 -n 1000 -o test.h5
    python benchmarks/transported_library.py train.h5 test.h5 --boxes boxes/*.h5 --train 100 300 800

The boxes are those that docs/reference/detector.md simulates at "random detectors". Their showers are
summed into the cells of the target. Means of the number of hits and of the energy of a hit, for each layer
and radial bin, are polynomials of the energy that all detectors share, plus differences of each detector,
whose prior is smooth in depth and energy. The remainder of a shower, in standard deviations of its own
detector, is given mean and spread of the target. The layer sampler is fitted to the target's showers alone
("scratch"), to transported ones alone, and to both, the target's with a larger weight. Boosted trees and
the Wasserstein distance (W1, in standard deviations) judge the layer features that it samples.
"""

import argparse
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import scipy.linalg
import torch
from numpy.polynomial.legendre import legvander
from scipy.special import betaln, expit, ndtr, ndtri
from sklearn.covariance import ledoit_wolf

from caloforge.conditions import Conditions
from caloforge.metrics.tree_classifier import classifier_auc
from caloforge.models.layered.constants import LEAST_FEATURE, ROOT_MEAN, ROOT_WIDTH
from caloforge.models.layered.features import layer_features
from caloforge.models.layered.layer_sampler import Occupancy
from caloforge.models.store import load_model
from caloforge.showers import ShowerFile

# a cell of a box with more energy than this many single hits is spread over as many points, at most POINTS
HIT, POINTS = 1.3, 12
# degrees of the polynomials that all detectors share: hits, energy of a hit, spreads; ridge of each degree
DEGREES, RIDGE = 4, (0.0, 0.5, 1.0, 4.0, 12.0)
# standard deviations of the differences, in logarithms: over all depths, within 12 and 4 layers,
# of a single one; what radial bins share of them; factors of the powers of the energy
PRIOR, LENGTHS, SHARED, POWERS = (0.3, 0.2, 0.08, 0.02), (np.inf, 12.0, 4.0, 0.1), 0.5, (1.0, 0.8, 0.6, 0.4)
DIFFERENCE_DEGREE, ROUNDS, NEWTON = len(POWERS) - 1, 4, 4
# first guess of the spread of the logarithm of the energy of a hit, worth so many hits
HIT_SPREAD, FEW = 0.5, 5
# so that a hit where the shared mean is next to 0 does not decide on all differences
LARGEST_RESIDUAL = 4.0
# numbers of hits this far from 0 and from all cells count as normal
DENSE = 12
# spreads of a detector are means over neighbouring layers, with as many showers of the mean detector added
SPREAD_LAYERS, SPREAD_PRIOR = 4.0, 10.0


@dataclass
class Sample:
    """Showers of one detector, in the cells of the target; arrays (N, ...), F is layers times bins.

    Attributes:
        energy: (N,) MeV.
        response: (N,) logarithm of visible over incident energy.
        hit_energy: (N, F) logarithm of the mean energy of a hit.
        hits: (N, F) numbers of hits.
        known: (N, F) false behind the last layer of the detector.
        position: (N, 4) centre and depth covariance.
    """

    energy: np.ndarray
    response: np.ndarray
    hit_energy: np.ndarray
    hits: np.ndarray
    known: np.ndarray
    position: np.ndarray

    @property
    def filled(self):
        """(N, F) where there is an energy of a hit."""
        return (self.hits > 0) & self.known


def joined(samples):
    """One sample of several."""
    parts = ([getattr(sample, field.name) for sample in samples] for field in fields(Sample))
    return Sample(*(np.concatenate(part) for part in parts))


def summed_into(target, detector, showers, rng):
    """Showers of a box in the cells of a cylindrical target, layers by depth in radiation lengths."""
    layer, y, x = np.nonzero(showers > 0)[1:]
    shower, energy = np.nonzero(showers > 0)[0], showers[showers > 0]
    mesh, size = detector.mesh, target.mesh.cell_r / target.moliere_radius
    outside = np.hypot(x - mesh.nx / 2, y - mesh.ny / 2) > mesh.nx / 4
    points = np.clip(np.rint(energy / np.median(energy[outside]) / HIT), 1, POINTS).astype(int)
    of = np.repeat(np.arange(len(energy)), points)
    # a point lies anywhere in its cell
    x, y = (
        (at[of] + rng.random(len(of)) - mesh.nx / 2) * mesh.cell_x / detector.moliere_radius for at in (x, y)
    )
    ring = (np.hypot(x, y) / size).astype(int)
    sector = (np.arctan2(y, x) % (2 * np.pi) / (2 * np.pi) * target.mesh.nphi).astype(int) % target.mesh.nphi
    shape = (len(showers), detector.n_layers, target.mesh.nphi, target.mesh.nr)
    inside = ring < target.mesh.nr
    index = np.ravel_multi_index((shower[of], layer[of], sector, np.minimum(ring, shape[3] - 1)), shape)
    found = np.bincount(index[inside], (energy / points)[of[inside]], np.prod(shape)).reshape(shape)
    spacing = [d.radiation_lengths / d.n_layers for d in (target, detector)]
    count = max(1, round(spacing[0] / spacing[1]))
    depths = np.convolve(detector.active_depths_x0(), np.ones(count) / count, "valid")
    first = np.abs(depths - target.active_depths_x0()[:, None]).argmin(1)
    layers = [found[:, start : start + count].sum(1) for start in first]
    known = target.active_depths_x0() < detector.radiation_lengths
    return np.stack(layers, 1).astype(np.float32), known


class Features:
    """Layer features of a model's detector, and the way back from a sample."""

    def __init__(self, model):
        """Of a trained model, for its cells and its median energy of a hit."""
        self.model, self.layout, self.geometry = model, model.layout, model.geometry
        self.cells = np.tile(model.geometry.radial_bin_sizes.astype(float), self.layout.layers)

    def of(self, showers, energy, rng):
        """(N, size) features."""
        showers = np.where(showers < self.model.config.cell_threshold, np.float32(0), showers)
        return layer_features(showers, energy, self.geometry, self.model._median_energy, rng)

    def sample(self, showers, energy, rng, known=None):
        """The sample of showers; known says which layers the detector has."""
        showers = np.where(showers < self.model.config.cell_threshold, np.float32(0), showers)
        features, flat = self.of(showers, energy, rng), showers.reshape(*showers.shape[:2], -1)
        membership = self.geometry.bin_membership
        sums, hits = (np.reshape(a @ membership, (len(showers), -1)).astype(float) for a in (flat, flat > 0))
        hit_energy = np.log(np.maximum(sums, 1e-12) / np.maximum(hits, 1))
        known = np.ones(self.layout.layers, bool) if known is None else known
        known = np.broadcast_to(np.repeat(known, self.layout.radial_bins), hits.shape)
        return Sample(
            energy.astype(float), features[:, 0].astype(float), hit_energy, hits, known, features[:, -4:]
        )

    def from_sample(self, sample, rng):
        """(N, size) features of a sample."""
        single = (
            self.model._median_energy * rng.normal(ROOT_MEAN, ROOT_WIDTH, sample.hits.shape).clip(0.1) ** 3
        )
        sums = np.where(sample.hits > 0, np.exp(sample.hit_energy) * sample.hits, single)
        sums = sums.reshape(len(sums), self.layout.layers, -1)
        outward = sums[:, :, ::-1].cumsum(2)[:, :, ::-1]
        ratios = np.log(sums[:, :, :-1] / outward[:, :, 1:]).reshape(len(sums), -1)
        roots = np.sqrt(sample.hits + rng.uniform(1e-3, 1 - 1e-3, sample.hits.shape))
        parts = [sample.response[:, None], np.cbrt(outward[:, :, 0]), ratios, roots, sample.position]
        return np.concatenate(parts, 1).astype(np.float32)


def beta_binomial_steps(mean, dispersion, cells):
    """Probabilities of 0, 1, 2, ... hits in cells, one array after the other."""
    rho = np.clip((dispersion - 1) / np.maximum(cells - 1, 1), 1e-3, 0.9)
    share = np.clip(mean / cells, 1e-6, 1 - 1e-6)
    a, b = share * (1 / rho - 1), (1 - share) * (1 / rho - 1)
    probability, hits = np.exp(betaln(a, b + cells) - betaln(a, b)), 0
    while True:
        yield probability
        ratio = (cells - hits) / (hits + 1) * (a + hits) / np.maximum(b + cells - hits - 1, 1e-9)
        probability, hits = np.maximum(probability * ratio, 0), hits + 1


def variance_of(mean, cells):
    """Of a binomial number of hits, not 0."""
    return np.maximum(mean * (1 - mean / cells), 1e-6)


def sparse_parts(mean, cells, *others):
    """Indices of numbers near 0 or all cells, whether they are near all; means, cells and others of them."""
    cells = np.broadcast_to(cells, mean.shape)
    index = np.flatnonzero((mean <= DENSE) | (cells - mean <= DENSE))
    mean, cells, *others = (np.ravel(part)[index] for part in (mean, cells, *others))
    full = mean > cells / 2
    return index, full, np.where(full, cells - mean, mean), cells, *others


def scores_of_hits(hits, uniform, mean, dispersion, cells):
    """Normal scores of numbers of hits, made continuous by uniform numbers."""
    scores = (hits + uniform - 0.5 - mean) / np.sqrt(variance_of(mean, cells) * dispersion)
    index, full, mean, cells, hits, uniform, dispersion = sparse_parts(mean, cells, hits, uniform, dispersion)
    hits, uniform = np.where(full, cells - hits, hits), np.where(full, 1 - uniform, uniform)
    below, quantile = np.zeros(len(index)), np.ones(len(index))
    steps = beta_binomial_steps(mean, dispersion, cells)
    for count in range(int(hits.max(initial=0)) + 1):
        probability = next(steps)
        quantile = np.where(hits == count, below + uniform * probability, quantile)
        below = below + probability
    found = ndtri(np.clip(quantile, 1e-6, 1 - 1e-6))
    scores.reshape(-1)[index] = np.where(full, -found, found)
    return scores


def hits_of_scores(scores, mean, dispersion, cells):
    """Numbers of hits of normal scores."""
    spread = np.sqrt(variance_of(mean, cells) * dispersion)
    hits = np.clip(np.floor(mean + spread * scores + 0.5), 0, cells)
    index, full, mean, cells, scores, dispersion = sparse_parts(mean, cells, scores, dispersion)
    quantile, below, found = ndtr(np.where(full, -scores, scores)), np.zeros(len(index)), np.zeros(len(index))
    steps = beta_binomial_steps(mean, dispersion, cells)
    for _ in range(int(cells.max(initial=0))):
        below = below + next(steps)
        more = (quantile > below) & (found < cells)
        if not more.any():
            break
        found = found + more
    hits.reshape(-1)[index] = np.where(full, cells - found, found)
    return hits


def ridge_of(degree):
    """Diagonal penalty of polynomials."""
    return np.diag(np.array(RIDGE[: degree + 1]) + 1e-3)


def solved(weight, design, right, degree):
    """Coefficients (degree + 1, F) of the weighted normal equations of each feature."""
    gram = np.einsum("nf,ni,nj->fij", weight, design, design, optimize=True) + ridge_of(degree)
    return np.linalg.solve(gram, right.T[..., None])[..., 0].T


def dispersion_of(squares, weight, design):
    """Coefficients of smooth means of squares, which are exp(polynomial)."""
    coefficients = np.zeros((design.shape[1], squares.shape[1]))
    coefficients[0] = np.log((squares * weight).sum(0) + 5) - np.log(weight.sum(0) + 5)
    for _ in range(NEWTON):
        mean = np.exp(np.clip(design @ coefficients, -4, 6))
        penalty = np.array([0.0, 2, 6])[:, None] * coefficients
        step = solved(weight, design, design.T @ (weight * (squares / mean - 1)) - penalty, 2)
        coefficients += np.clip(step, -0.7, 0.7)
    return coefficients


def mean_square(design, coefficients):
    """Of the coefficients that `dispersion_of` finds, (N, F)."""
    return np.exp(np.clip(design @ coefficients, -3, 6))


@dataclass
class Moments:
    """Means and spreads of a sample's response, energies of a hit and numbers of hits, and its residuals."""

    response: np.ndarray
    response_spread: np.ndarray
    hit_energy: np.ndarray
    energy_spread: np.ndarray
    logit: np.ndarray
    hits: np.ndarray
    dispersion: np.ndarray
    residuals: np.ndarray
    slopes: np.ndarray


class Family:
    """Means and spreads that all detectors share, and the differences of each."""

    def __init__(self, samples, features):
        """Fit them."""
        self.all, self.cells, self.layout = joined(samples), features.cells, features.layout
        self.group = np.repeat(np.arange(len(samples)), [len(sample.energy) for sample in samples])
        self.size, ends = 1 + 2 * len(self.cells), np.log([self.all.energy.min(), self.all.energy.max()])
        self.middle, self.half = ends.mean(), np.ptp(ends) / 2
        self.inverse_prior = np.linalg.inv(self._prior())
        self.differences = np.zeros((len(self.all.energy), self.size))
        self.hit_coefficients = np.zeros((DEGREES + 1, len(self.cells)))
        hits, most = ((part * self.all.known).sum(0) for part in (self.all.hits, self.cells))
        self.hit_coefficients[0] = np.log((hits + 0.5) / (most - hits + 0.5))
        self.dispersion_coefficients = np.zeros((3, len(self.cells)))
        for _ in range(2 * ROUNDS):
            self._fit_shared()
            found = self.moments(self.all, self.differences)
            self.noise = np.linalg.inv(ledoit_wolf(found.residuals, assume_centered=True)[0])
            for index in range(len(samples)):
                own = self.group == index
                powers = self.powers(self.all.energy[own])
                difference = self._difference(found, own, powers, self.differences[own])
                self.differences[own] = (self.differences[own] + powers @ difference) / 2
        self._fit_shared()

    def powers(self, energy, degree=DIFFERENCE_DEGREE):
        """Polynomials of the logarithm of the energy, (N, degree + 1)."""
        return legvander((np.log(energy) - self.middle) / self.half, degree)

    def _prior(self):
        """Covariance of the differences."""
        layers, bins = np.arange(self.layout.layers), self.layout.radial_bins
        away = np.abs(np.subtract.outer(layers, layers))
        terms = zip(PRIOR, LENGTHS, strict=True)
        depth = sum(width**2 * np.exp(-0.5 * (away / length) ** 2) for width, length in terms)
        both = np.kron(depth, SHARED + (1 - SHARED) * np.eye(bins))
        return scipy.linalg.block_diag([[1.0]], both, both) + 1e-8 * np.eye(self.size)

    def _fit_shared(self):
        """Coefficients of what detectors share, given the differences."""
        all_, features = self.all, len(self.cells)
        of_energies, of_hits = self.differences[:, 1 : 1 + features], self.differences[:, 1 + features :]
        design = self.powers(all_.energy, DEGREES)
        low, cubic = design[:, :3], design[:, :4]
        dispersion = mean_square(low, self.dispersion_coefficients)
        for _ in range(2 * NEWTON):
            mean = self.cells * expit(np.clip(design @ self.hit_coefficients + of_hits, -15, 15))
            weight = variance_of(mean, self.cells) / dispersion * all_.known
            gradient = design.T @ ((all_.hits - mean) / dispersion * all_.known)
            gradient -= ridge_of(DEGREES) @ self.hit_coefficients
            self.hit_coefficients += np.clip(solved(weight, design, gradient, DEGREES), -2, 2)
        mean = self.cells * expit(np.clip(design @ self.hit_coefficients + of_hits, -15, 15))
        variance = variance_of(mean, self.cells)
        weight = all_.known * np.minimum(variance, 1)
        self.dispersion_coefficients = dispersion_of((all_.hits - mean) ** 2 / variance, weight, low)
        filled, rest = all_.filled.astype(float), all_.hit_energy - of_energies
        self.energy_coefficients = solved(filled, cubic, cubic.T @ (filled * rest), 3)
        rest = rest - cubic @ self.energy_coefficients
        # a few hits do not tell a spread
        self.energy_base = ((filled * rest**2).sum(0) + FEW * HIT_SPREAD**2) / (filled.sum(0) + FEW)
        self.energy_spread_coefficients = dispersion_of(rest**2 / self.energy_base, filled, low)
        rest = (all_.response - self.differences[:, 0])[:, None]
        self.response_coefficients = np.linalg.lstsq(cubic, rest, rcond=None)[0]
        rest = rest - cubic @ self.response_coefficients
        self.response_base = rest.var()
        squares = rest**2 / self.response_base
        self.response_spread_coefficients = dispersion_of(squares, np.ones_like(rest), low)

    def moments(self, sample, differences):
        """Those of a sample whose differences are known, (N, size)."""
        design, features = self.powers(sample.energy, DEGREES), len(self.cells)
        low, cubic = design[:, :3], design[:, :4]
        response = (cubic @ self.response_coefficients)[:, 0] + differences[:, 0]
        response_spread = np.sqrt(self.response_base * mean_square(low, self.response_spread_coefficients))
        hit_energy = cubic @ self.energy_coefficients + differences[:, 1 : 1 + features]
        energy_spread = np.sqrt(self.energy_base * mean_square(low, self.energy_spread_coefficients))
        logit = np.clip(design @ self.hit_coefficients + differences[:, 1 + features :], -15, 15)
        hits, dispersion = self.cells * expit(logit), mean_square(low, self.dispersion_coefficients)
        variance = variance_of(hits, self.cells)
        spread = np.sqrt(variance * dispersion)
        residuals = [
            (sample.response - response)[:, None] / response_spread,
            np.where(sample.filled, (sample.hit_energy - hit_energy) / energy_spread, 0),
            np.where(sample.known, (sample.hits - hits) / spread, 0),
        ]
        slopes = [1 / response_spread, sample.filled / energy_spread, variance / spread * sample.known]
        parts = response, response_spread, hit_energy, energy_spread, logit, hits, dispersion
        residuals = np.concatenate(residuals, 1).clip(-LARGEST_RESIDUAL, LARGEST_RESIDUAL)
        return Moments(*parts, residuals, np.concatenate(slopes, 1))

    def _difference(self, found, own, powers, present):
        """Posterior mean of the differences of the showers of one detector, (powers, size)."""
        slopes = found.slopes[own]
        residuals = found.residuals[own] + slopes * present
        parts = [slopes * powers[:, [k]] for k in range(powers.shape[1])]
        right = np.concatenate([(part * (residuals @ self.noise)).sum(0) for part in parts])
        blocks = [[self.noise * (one.T @ other) for other in parts] for one in parts]
        for k, factor in enumerate(POWERS):
            blocks[k][k] = blocks[k][k] + self.inverse_prior / factor**2
        found = scipy.linalg.solve(np.block(blocks), right, assume_a="pos", check_finite=False)
        return found.reshape(len(parts), self.size)

    def _spreads(self, sample, found, own):
        """Spreads of a detector's residuals relative to all: response, energies, hits; near layers joined."""
        shape, layers = (self.layout.layers, self.layout.radial_bins), np.arange(self.layout.layers)
        near = np.exp(-0.5 * (np.subtract.outer(layers, layers) / SPREAD_LAYERS) ** 2)
        weights = [sample.filled, np.minimum(variance_of(found.hits, self.cells), 1) * sample.known]
        squares, spreads = found.residuals[own] ** 2, []
        spreads.append(np.sqrt((squares[:, 0].sum() + SPREAD_PRIOR) / (len(squares) + SPREAD_PRIOR)))
        for part, weight in zip(np.split(squares[:, 1:], 2, axis=1), weights, strict=True):
            sums = [
                (near @ value.sum(0).reshape(shape)).reshape(-1)
                for value in (part * weight[own], weight[own])
            ]
            spreads.append(np.sqrt((sums[0] + SPREAD_PRIOR) / (sums[1] + SPREAD_PRIOR)))
        return spreads

    def transported(self, sample, rng):
        """The showers of all detectors as those of the target, which a sample of it shows."""
        whole, difference = slice(None), np.zeros((len(POWERS), self.size))
        powers = self.powers(sample.energy)
        for _ in range(2 * ROUNDS):
            found = self.moments(sample, powers @ difference)
            # half a step, as numbers of hits are not linear in the differences
            step = self._difference(found, whole, powers, powers @ difference) - difference
            difference = difference + step / 2
        target = self._spreads(sample, self.moments(sample, powers @ difference), whole)
        all_, size = self.all, len(self.cells)
        found = self.moments(all_, self.differences)
        groups = [self._spreads(all_, found, self.group == index) for index in range(self.group.max() + 1)]
        response, energies, hits = (np.stack(part)[self.group] for part in zip(*groups, strict=True))
        scores = scores_of_hits(
            all_.hits, rng.random(hits.shape), found.hits, found.dispersion * hits**2, self.cells
        )
        order = np.argsort(all_.energy)
        scores = filled_in(scores, all_.known, order, rng)
        energies = filled_in(found.residuals[:, 1 : 1 + size] / energies, all_.filled, order, rng)
        there = self.moments(all_, self.powers(all_.energy) @ difference)
        drawn = found.residuals[:, 0] / response * target[0] * found.response_spread[:, 0]
        return Sample(
            all_.energy,
            there.response + drawn,
            there.hit_energy + energies * target[1] * found.energy_spread,
            hits_of_scores(scores, there.hits, found.dispersion * target[2] ** 2, self.cells),
            np.ones_like(all_.known),
            all_.position,
        )


def filled_in(residuals, known, order, rng):
    """Residuals that are not known are those of one of the six known ones nearest in energy."""
    residuals, known = residuals[order], known[order]
    for column in np.flatnonzero(~known.all(0)):
        there, missing = np.flatnonzero(known[:, column]), np.flatnonzero(~known[:, column])
        if len(there) == 0:
            residuals[:, column] = rng.normal(size=len(residuals))
            continue
        place = np.searchsorted(there, missing) + rng.integers(-3, 3, len(missing))
        residuals[missing, column] = residuals[there[place.clip(0, len(there) - 1)], column]
    return residuals[np.argsort(order)]


def rotated(features, rng):
    """Features of showers that are rotated and mirrored at random."""
    angle, flip = rng.uniform(0, 2 * np.pi, len(features)), rng.choice([-1, 1], len(features))
    rotation = np.array([[np.cos(angle), -flip * np.sin(angle)], [np.sin(angle), flip * np.cos(angle)]])
    images = features.copy()
    images[:, -4:] = np.einsum("ijn,nkj->nki", rotation, features[:, -4:].reshape(-1, 2, 2)).reshape(-1, 4)
    return images


def fit_sampler(model, features, energy, rng):
    """Fit the layer sampler of a model to rows of features."""
    count = len(features)
    rows, energy = np.concatenate([features, rotated(features, rng)]), np.tile(energy.astype(np.float32), 2)
    angle, number = np.full(2 * count, np.pi / 2, np.float32), np.zeros(2 * count, np.float32)
    condition = Conditions(energy, angle, number, np.full(2 * count, 11, np.int32)).to_torch()
    hits = model.layout.hit_counts(torch.from_numpy(rows))
    energies = model.layout.bin_energy(torch.from_numpy(rows), model.config.cell_threshold)
    response = torch.from_numpy(rows[:, 0].copy())
    rows[:, 0] -= model._fit_leakage_correction(energies, response, condition).numpy()
    least = model.layout.with_counts(torch.ones_like(hits[:1]), LEAST_FEATURE)[0]
    occupancy = Occupancy(model.layout.with_counts(hits == 0, 0), least)
    shower = torch.arange(count).repeat(2)
    model.layer_sampler.fit(rows, condition, shower, model.config.stored_showers, occupancy)


def observables(cells, energy, response=None):
    """What is compared: shares and hits of layers and bins, moments of the depth, response, position."""
    sums, hits = cells.bin_energy.numpy().astype(float), cells.hit_counts.numpy()
    layers, total = sums.sum(2), sums.sum((1, 2))
    depth = np.arange(layers.shape[1])
    mean = layers @ depth / total
    moments = [(layers * (depth - mean[:, None]) ** k).sum(1) / total for k in (2, 3)]
    visible = total / energy if response is None else np.exp(response)
    single = [np.log(energy), visible, hits.sum((1, 2)), mean, *moments, (hits.sum(2) > 0).sum(1)]
    shares = [layers / total[:, None], sums.sum(1) / total[:, None], hits.sum(2), hits.sum(1)]
    return np.concatenate([np.stack(single, 1), *shares, cells.position.numpy()], 1).astype(np.float32)


@torch.no_grad()
def sampled(model, batch, seed):
    """Observables of features that the sampler draws for the particles of a batch."""
    torch.manual_seed(seed)
    condition = Conditions.of(batch).to_torch()
    drawn = model.sample_features(condition, torch.randn(len(batch), model.layer_sampler.noise_size))
    return observables(drawn, batch.incident_energy)


def wasserstein(truth, generated):
    """Mean over observables and thirds of the energies of the Wasserstein distance over the spread."""
    parts, quantiles = np.array_split(np.argsort(truth[:, 0]), 3), (np.arange(200) + 0.5) / 200
    found = [
        np.abs(np.quantile(truth[part], quantiles, 0) - np.quantile(generated[part], quantiles, 0)).mean(0)
        / (truth[part].std(0) + 1e-9)
        for part in parts
    ]
    return float(np.mean(found, 0)[1:].mean())


def judged(model, truth, batch):
    """AUC and W1, means of two drawn samples."""
    drawn = [sampled(model, batch, seed) for seed in (1, 2)]
    areas = [classifier_auc(truth, sample, seed=k).value for k, sample in enumerate(drawn)]
    return f"trees {np.mean(areas):.3f}, W1 {np.mean([wasserstein(truth, sample) for sample in drawn]):.3f}"


def read(path, limit):
    """Showers up to an energy, and the detector."""
    with ShowerFile(path) as file:
        batch, detector = file.read(), file.detector
    return batch[np.flatnonzero(batch.incident_energy <= limit)], detector


def in_visible_energy(sample):
    """Divide energies of a sample by its median response; returns the logarithm of that."""
    unit = np.median(sample.response)
    sample.response, sample.hit_energy = sample.response - unit, sample.hit_energy - unit
    return unit


def box_samples(paths, features, limit, rng):
    """Samples of the boxes, one for each detector."""
    target, found = features.model.detector, {}
    for path in paths:
        batch, detector = read(path, limit)
        if len(batch):
            showers, known = summed_into(target, detector, batch.showers, rng)
            sample = features.sample(showers, batch.incident_energy, rng, known)
            found.setdefault(detector.geometry_digest, []).append(sample)
    return [joined(parts) for parts in found.values()]


def main():
    """Fit, judge, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("showers", type=Path)
    parser.add_argument("test", type=Path)
    parser.add_argument("--boxes", type=Path, nargs="+", required=True)
    parser.add_argument(
        "--model", default="par04-siw-electron", help="for its cells; its showers are not used"
    )
    parser.add_argument("--train", type=int, nargs="+", default=[100, 300])
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument(
        "--weight", type=int, default=4, help="of a shower of the target, a transported one has 1"
    )
    parser.add_argument("--limit", type=float, default=300e3, help="largest energy, MeV")
    asked = parser.parse_args()
    model, rng = load_model(asked.model).eval(), np.random.default_rng(0)
    features = Features(model)
    boxes = box_samples(asked.boxes, features, asked.limit, rng)
    # energies of all detectors in units of their visible energy
    for box in boxes:
        in_visible_energy(box)
    family = Family(boxes, features)
    print(f"{len(family.group)} showers of {len(boxes)} boxes", flush=True)
    (pool, _), (test, _) = read(asked.showers, asked.limit), read(asked.test, asked.limit)
    test = test[np.flatnonzero(test.incident_energy >= model.facts.ranges.energy[0])]
    energy = test.incident_energy
    real = torch.from_numpy(features.of(test.showers, energy, rng))
    cells = model._cell_condition(real, Conditions.of(test).to_torch(), None)
    truth = observables(cells, energy, real[:, 0].numpy())
    for count in asked.train:
        for seed in range(asked.seeds):
            own = pool[np.sort(np.random.default_rng(seed).permutation(len(pool))[:count])]
            rows, of = features.of(own.showers, own.incident_energy, rng), own.incident_energy
            sample = features.sample(own.showers, of, rng)
            unit = in_visible_energy(sample)
            moved = family.transported(sample, rng)
            moved.response, moved.hit_energy = moved.response + unit, moved.hit_energy + unit
            others = features.from_sample(moved, rng)
            times = [rows] * asked.weight, [of] * asked.weight
            both = np.concatenate([*times[0], others]), np.concatenate([*times[1], moved.energy])
            for label, (part, part_energy) in (
                ("scratch", (rows, of)),
                ("transported", (others, moved.energy)),
                ("both", both),
            ):
                fit_sampler(model, part, part_energy, rng)
                print(f"{count} showers, seed {seed}, {label}: {judged(model, truth, test)}", flush=True)


if __name__ == "__main__":
    main()
