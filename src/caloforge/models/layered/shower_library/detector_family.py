"""Means and spreads that the detectors of a library share, and how each differs, Eq. 26 and 27."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.linalg
from numpy.typing import NDArray
from scipy.special import expit
from sklearn.covariance import ledoit_wolf

from caloforge.models.layered.features import FeatureLayout
from caloforge.models.layered.shower_library.bin_sample import BinSample
from caloforge.models.layered.shower_library.hit_scores import variance_of
from caloforge.models.layered.shower_library.polynomials import (
    NEWTON,
    EnergyScale,
    log_mean_squares,
    mean_squares,
    ridge_of,
    solved,
)

Floats = NDArray[np.float64]
# degrees of what all detectors share: numbers of hits, energies, spreads
HITS_DEGREE, ENERGY_DEGREE, SPREAD_DEGREE = 4, 3, 2
# standard deviations of the differences, in logarithms: over all depths, within 12 and 4 layers,
# of a single one; what radial bins share of them; factors of the powers of the energy
PRIOR, LENGTHS, SHARED, POWERS = (0.3, 0.2, 0.08, 0.02), (np.inf, 12.0, 4.0, 0.1), 0.5, (1.0, 0.8, 0.6, 0.4)
RESPONSE_PRIOR = 1.0
# rounds of shared means and differences in turn; a step of the differences is damped, as numbers of hits are
# not linear in them
ROUNDS, DAMPING = 6, 0.5
# first guess of the spread of the logarithm of the energy of a hit, worth so many hits
HIT_SPREAD, FEW = 0.5, 5
# so that a hit where the shared mean is next to 0 does not decide on all differences
LARGEST_RESIDUAL = 4.0
LARGEST_LOGIT, LARGEST_LOGIT_STEP = 15.0, 2.0
# spreads of a detector are means over neighbouring layers, with as many showers of the mean detector added
SPREAD_LAYERS, SPREAD_PRIOR = 4.0, 10.0


@dataclass
class Moments:
    """Means and spreads of a sample, its residuals, and their derivatives by the differences.

    Attributes:
        response: (N,) mean; `response_spread`, (N,), likewise its standard deviation.
        hit_energy: (N, F) mean; `energy_spread`, (N, F).
        hits: (N, F) mean; `dispersion`, (N, F), variance over that of a binomial distribution.
        residuals: (N, 1 + 2 F) in standard deviations, 0 where there is nothing.
        slopes: (N, 1 + 2 F).
    """

    response: Floats
    response_spread: Floats
    hit_energy: Floats
    energy_spread: Floats
    hits: Floats
    dispersion: Floats
    residuals: Floats
    slopes: Floats


@dataclass
class Spreads:
    """Spreads of a detector relative to those of all: a number or (F,) for each."""

    response: Floats
    hit_energy: Floats
    hits: Floats


class DetectorFamily:
    """What the detectors of a library share, and the differences of each."""

    def __init__(self, samples: Sequence[BinSample], layout: FeatureLayout, cells: Floats) -> None:
        """Fit them.

        Args:
            samples: One of each detector, energies in units of its median response.
            layout: Of the layer features of the new detector.
            cells: (F,) cells of a radial bin.
        """
        self.sample, self.cells, self.layout = BinSample.joined(samples), cells, layout
        self.group = np.repeat(np.arange(len(samples)), [len(sample.energy) for sample in samples])
        self.size = 1 + 2 * len(cells)
        energy = self.sample.energy
        self.scale = EnergyScale(float(energy.min()), float(energy.max()))
        self.inverse_prior = np.linalg.inv(self._prior())
        self.differences = np.zeros((len(energy), self.size))
        self._start()
        powers = self.powers(energy)
        for _ in range(ROUNDS):
            self._fit_shared()
            found = self.moments(self.sample, self.differences)
            self.noise = np.linalg.inv(ledoit_wolf(found.residuals, assume_centered=True)[0])
            for index in range(len(samples)):
                own = self.group == index
                difference = self._difference(found, own, powers[own], self.differences[own])
                step = powers[own] @ difference - self.differences[own]
                self.differences[own] += DAMPING * step
        self._fit_shared()

    def powers(self, energy: Floats) -> Floats:
        """Polynomials of the differences, (N, terms)."""
        return self.scale.powers(energy, len(POWERS) - 1)

    def _prior(self) -> Floats:
        """Covariance of the differences."""
        layers, bins = np.arange(self.layout.layers), self.layout.radial_bins
        away = np.abs(np.subtract.outer(layers, layers))
        terms = zip(PRIOR, LENGTHS, strict=True)
        depth = sum(width**2 * np.exp(-0.5 * (away / length) ** 2) for width, length in terms)
        both = np.kron(depth, SHARED + (1 - SHARED) * np.eye(bins))
        blocks = scipy.linalg.block_diag([[RESPONSE_PRIOR]], both, both)
        return np.asarray(blocks + 1e-8 * np.eye(self.size))

    def _start(self) -> None:
        """First guesses of the shared coefficients of the numbers of hits."""
        hits, most = ((part * self.sample.known).sum(0) for part in (self.sample.hits, self.cells))
        self.hit_coefficients = np.zeros((HITS_DEGREE + 1, len(self.cells)))
        self.hit_coefficients[0] = np.log((hits + 0.5) / (most - hits + 0.5))
        self.dispersion_coefficients = np.zeros((SPREAD_DEGREE + 1, len(self.cells)))

    def _designs(self, energy: Floats) -> tuple[Floats, Floats, Floats]:
        """Polynomials of the degrees of hits, energies and spreads."""
        design = self.scale.powers(energy, HITS_DEGREE)
        return design, design[:, : ENERGY_DEGREE + 1], design[:, : SPREAD_DEGREE + 1]

    def _fit_shared(self) -> None:
        """Coefficients of what detectors share, given the differences."""
        sample, size = self.sample, len(self.cells)
        of_energies, of_hits = self.differences[:, 1 : 1 + size], self.differences[:, 1 + size :]
        _, cubic, low = self._designs(sample.energy)
        self._fit_hits(of_hits)
        filled, rest = sample.filled.astype(float), sample.hit_energy - of_energies
        self.energy_coefficients = solved(filled, cubic, cubic.T @ (filled * rest))
        rest = rest - cubic @ self.energy_coefficients
        # a few hits do not tell a spread
        self.energy_base = ((filled * rest**2).sum(0) + FEW * HIT_SPREAD**2) / (filled.sum(0) + FEW)
        self.energy_spread_coefficients = log_mean_squares(rest**2 / self.energy_base, filled, low)
        response = (sample.response - self.differences[:, 0])[:, None]
        self.response_coefficients = np.linalg.lstsq(cubic, response, rcond=None)[0]
        response = response - cubic @ self.response_coefficients
        self.response_base = max(float(response.var()), 1e-12)
        squares = response**2 / self.response_base
        self.response_spread_coefficients = log_mean_squares(squares, np.ones_like(response), low)

    def _fit_hits(self, differences: Floats) -> None:
        """Coefficients of numbers of hits and of their dispersion."""
        sample = self.sample
        design, _, low = self._designs(sample.energy)
        dispersion = mean_squares(low, self.dispersion_coefficients)
        for _ in range(2 * NEWTON):
            mean = self._mean_hits(design, differences)
            weight = variance_of(mean, self.cells) / dispersion * sample.known
            gradient = design.T @ ((sample.hits - mean) / dispersion * sample.known)
            gradient -= ridge_of(HITS_DEGREE) @ self.hit_coefficients
            step = solved(weight, design, gradient)
            self.hit_coefficients += np.clip(step, -LARGEST_LOGIT_STEP, LARGEST_LOGIT_STEP)
        mean = self._mean_hits(design, differences)
        variance = variance_of(mean, self.cells)
        certain = np.minimum(variance, 1) * sample.known
        self.dispersion_coefficients = log_mean_squares((sample.hits - mean) ** 2 / variance, certain, low)

    def _mean_hits(self, design: Floats, differences: Floats) -> Floats:
        logit = np.clip(design @ self.hit_coefficients + differences, -LARGEST_LOGIT, LARGEST_LOGIT)
        return np.asarray(self.cells * expit(logit))

    def moments(self, sample: BinSample, differences: Floats) -> Moments:
        """Those of a sample whose differences (N, 1 + 2 F) are known."""
        (design, cubic, low), size = self._designs(sample.energy), len(self.cells)
        response = (cubic @ self.response_coefficients)[:, 0] + differences[:, 0]
        squares = mean_squares(low, self.response_spread_coefficients)[:, 0]
        response_spread = np.sqrt(self.response_base * squares)
        hit_energy = cubic @ self.energy_coefficients + differences[:, 1 : 1 + size]
        energy_spread = np.sqrt(self.energy_base * mean_squares(low, self.energy_spread_coefficients))
        hits = self._mean_hits(design, differences[:, 1 + size :])
        dispersion, variance = mean_squares(low, self.dispersion_coefficients), variance_of(hits, self.cells)
        spread = np.sqrt(variance * dispersion)
        residuals = [
            ((sample.response - response) / response_spread)[:, None],
            np.where(sample.filled, (sample.hit_energy - hit_energy) / energy_spread, 0),
            np.where(sample.known, (sample.hits - hits) / spread, 0),
        ]
        slopes = [
            1 / response_spread[:, None],
            sample.filled / energy_spread,
            variance / spread * sample.known,
        ]
        return Moments(
            response,
            response_spread,
            hit_energy,
            energy_spread,
            hits,
            dispersion,
            np.concatenate(residuals, axis=1).clip(-LARGEST_RESIDUAL, LARGEST_RESIDUAL),
            np.concatenate(slopes, axis=1),
        )

    def _difference(
        self, found: Moments, own: slice | NDArray[np.bool_], powers: Floats, present: Floats
    ) -> Floats:
        """Posterior mean of the differences of the showers of one detector, (terms, 1 + 2 F)."""
        slopes = found.slopes[own]
        residuals = found.residuals[own] + slopes * present
        parts = [slopes * powers[:, [k]] for k in range(powers.shape[1])]
        right = np.concatenate([(part * (residuals @ self.noise)).sum(0) for part in parts])
        blocks = [[self.noise * (one.T @ other) for other in parts] for one in parts]
        for k, factor in enumerate(POWERS):
            blocks[k][k] = blocks[k][k] + self.inverse_prior / factor**2
        solution = scipy.linalg.solve(np.block(blocks), right, assume_a="pos", check_finite=False)
        return np.asarray(solution.reshape(len(parts), self.size))

    def differences_of(self, sample: BinSample) -> Floats:
        """Differences of the detector of a sample, (terms, 1 + 2 F)."""
        powers, difference = self.powers(sample.energy), np.zeros((len(POWERS), self.size))
        for _ in range(ROUNDS):
            found = self.moments(sample, powers @ difference)
            step = self._difference(found, slice(None), powers, powers @ difference) - difference
            difference = difference + DAMPING * step
        return difference

    def spreads(self, sample: BinSample, found: Moments, own: slice | NDArray[np.bool_]) -> Spreads:
        """Spreads of the residuals of some showers relative to all; near layers joined."""
        shape, layers = (self.layout.layers, self.layout.radial_bins), np.arange(self.layout.layers)
        near = np.exp(-0.5 * (np.subtract.outer(layers, layers) / SPREAD_LAYERS) ** 2)
        squares = found.residuals[own] ** 2
        certain = np.minimum(variance_of(found.hits, self.cells), 1) * sample.known
        parts = []
        weights = (sample.filled.astype(float), certain)
        for part, weight in zip(np.split(squares[:, 1:], 2, axis=1), weights, strict=True):
            above, below = (
                (near @ value.sum(0).reshape(shape)).reshape(-1)
                for value in (part * weight[own], weight[own])
            )
            parts.append(np.sqrt((above + SPREAD_PRIOR) / (below + SPREAD_PRIOR)))
        response = (squares[:, 0].sum() + SPREAD_PRIOR) / (len(squares) + SPREAD_PRIOR)
        return Spreads(np.sqrt(response), *parts)
