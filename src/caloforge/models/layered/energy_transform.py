"""Transformed energy of a hit, a scale in which hits are nearly normal, Eq. 8.

Where few particles cross a layer, a hit has the energy of one of them: the spectrum with the MIP peak, the
same everywhere. Where many cross, their energies add, and the cube root of the sum is nearly normal (Wilson
and Hilferty 1931). The transformed energy is the cube root, except at small energies, where a table makes the
spectrum of single particles normal too.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import comb
from torch import Tensor, nn

from caloforge.models.layered.cell_density import heaviside
from caloforge.models.layered.constants import (
    FIRST_KNOT,
    HIGH_DEGREE,
    LARGEST_TRANSFORMED,
    LAST_KNOT,
    LOW_DEGREE,
    ROOT_MEAN,
    ROOT_OFFSET,
    ROOT_WIDTH,
)

FloatArray = NDArray[np.float64]
# the spectrum is tabulated at so many normal scores, up to the knot LAST_SINGLE that of single particles
KNOTS, LAST_SINGLE = 73, 62
FEWEST_HITS = 2000
# a knot is shifted if so many hits of a batch lie on either side, a table if that holds for so many knots
FEWEST_BEYOND, FEWEST_KNOTS = 20, 4
LARGEST_SHIFT = 0.15
# knots that a shift is smoothed over
SMOOTH = 7
SMOOTHING = np.full(SMOOTH, 1 / SMOOTH)
# the way back is one polynomial below this knot, near the MIP peak, and one above
SPLIT = 35


class EnergyTransform(nn.Module):
    """Transform between energies in MeV and transformed energies; 0 is no hit in both.

    Attributes:
        median_energy: Median energy of a single particle, MeV, E_0 of Eq. 8.
        roots: (KNOTS,) cube roots of energies over the median at the knots.
        knots: (KNOTS,) transformed energies at the knots.
        shift: (layers, bins, KNOTS) added to transformed energies on the way back, Eq. 19.
        low_polynomial: (layers, bins, LOW_DEGREE + 1) coefficients of the way back below the knot SPLIT.
        high_polynomial: (layers, bins, HIGH_DEGREE) above, without the constant, which is that below.
        middles: Distances from the knot SPLIT of the middles of both ranges.
        centred_low: (layers, bins, LOW_DEGREE + 1) `low_polynomial` about the middle of its range.
        centred_high: (layers, bins, HIGH_DEGREE) likewise.
    """

    median_energy: Tensor
    roots: Tensor
    knots: Tensor
    shift: Tensor
    low_polynomial: Tensor
    high_polynomial: Tensor
    centred_low: Tensor
    centred_high: Tensor

    def __init__(self, layers: int = 1, radial_bins: int = 1) -> None:
        """A plain cube root.

        Args:
            layers: Number of layers, each with a way back of its own.
            radial_bins: Number of radial bins, likewise.
        """
        super().__init__()
        self.register_buffer("median_energy", torch.ones(()))
        scores = np.linspace(FIRST_KNOT, LAST_KNOT, KNOTS)
        knots = torch.from_numpy(ROOT_MEAN + ROOT_WIDTH * scores + ROOT_OFFSET).float()
        self.register_buffer("knots", knots, persistent=False)
        self.register_buffer("roots", (knots - ROOT_OFFSET).clamp_min(0.02).cummax(0).values)
        self.register_buffer("shift", torch.zeros(layers, radial_bins, KNOTS))
        self.register_buffer("low_polynomial", torch.zeros(layers, radial_bins, LOW_DEGREE + 1))
        self.register_buffer("high_polynomial", torch.zeros(layers, radial_bins, HIGH_DEGREE))
        ends = knots[[0, -1]] - knots[SPLIT]
        self._ends = (float(ends[0]), float(ends[1]))
        self.middles = (self._ends[0] / 2, self._ends[1] / 2)
        # not stored: files keep the powers of the distance from the knot
        for name, stored in (("low", self.low_polynomial), ("high", self.high_polynomial)):
            self.register_buffer(f"centred_{name}", torch.zeros_like(stored), persistent=False)
        self.register_load_state_dict_post_hook(lambda module, _: module.centre_polynomials())  # type: ignore[no-untyped-call]
        self.fit_polynomials()

    @property
    def minimum(self) -> float:
        """Transformed energy of the weakest hit, x_min of Eq. 17."""
        return float(ROOT_MEAN + ROOT_WIDTH * FIRST_KNOT + ROOT_OFFSET)

    def fit(self, energies: NDArray[np.float32]) -> None:
        """Tabulate the spectrum of single particles.

        Args:
            energies: Hits of cells that single particles reach, MeV; with too few the plain cube root stays.
        """
        if len(energies) == 0:
            return
        median_energy = float(np.median(energies))
        self.median_energy.fill_(median_energy)
        if len(energies) < FEWEST_HITS:
            return
        scores = np.linspace(FIRST_KNOT, LAST_KNOT, KNOTS)
        single, high = np.split(scores, [LAST_SINGLE + 1])
        roots = np.cbrt(
            np.quantile(energies / median_energy, torch.special.ndtr(torch.from_numpy(single)).numpy())
        )
        # stronger hits are mostly sums of many particles
        roots = np.append(roots, roots[-1] + ROOT_WIDTH * (high - single[-1]))
        roots = np.maximum.accumulate(roots + 1e-6 * np.arange(KNOTS))
        self.roots.copy_(torch.from_numpy(roots))
        self.fit_polynomials()

    def transformed_energy(self, energy: Tensor) -> Tensor:
        """Transformed energies of cell energies in MeV, any shape."""
        root = (energy / self.median_energy).pow(1 / 3)
        upper = torch.searchsorted(self.roots, root).clamp(1, KNOTS - 1)
        start, stop = self.roots[upper - 1], self.roots[upper]
        inside = ((root - start) / (stop - start)).clamp(0, 1)
        step = self.knots[1] - self.knots[0]
        value = self.knots[upper - 1] + inside * step + (root - self.roots[-1]).clamp_min(0)
        return torch.where(energy > 0, value, 0.0)

    def energy(self, transformed_energy: Tensor, radial_bin: Tensor) -> Tensor:
        """Cell energies in MeV: the inverse of `transformed_energy` within 3 %, and shifted by Eq. 19.

        Args:
            transformed_energy: (..., layers, n).
            radial_bin: (n,) radial bin of each cell.
        """
        # polynomials: a table would take longer than all the rest of a draw
        distance = transformed_energy - self.knots[SPLIT]
        low, high = distance.clamp(self._ends[0], 0.0), distance.clamp(0.0, self._ends[1])
        root = _polynomial(self.centred_low[:, radial_bin], low - self.middles[0]) + high * _polynomial(
            self.centred_high[:, radial_bin], high - self.middles[1]
        )
        root = root + (transformed_energy - LARGEST_TRANSFORMED).clamp_min(0)
        return self.median_energy * root * root * root * heaviside(transformed_energy)

    def match_quantiles(self, generated: list[Tensor], real: list[Tensor], step_size: float) -> None:
        """Shift the way back so that generated hits approach the distribution of real ones, Eq. 19.

        Args:
            generated: Transformed energies of generated hits in whole showers, (n,) for each bin of each
                layer.
            real: Those of real hits, (m,) each.
            step_size: Fraction of the difference.
        """
        knots = self.knots.double().cpu().numpy()
        for shift, generated_hits, real_hits in zip(self.shift.flatten(0, 1), generated, real, strict=True):
            ordered = np.sort(real_hits.double().cpu().numpy())
            below = np.searchsorted(ordered, knots)
            known = (below >= FEWEST_BEYOND) & (len(ordered) - below >= FEWEST_BEYOND)
            if known.sum() < FEWEST_KNOTS or len(generated_hits) < FEWEST_BEYOND:
                continue
            # quantiles of generated hits are to become those of real hits
            found = np.quantile(generated_hits.double().cpu().numpy(), below[known] / len(ordered))
            found = np.maximum.accumulate(found + 1e-9 * np.arange(len(found)))
            change = np.interp(knots, found, knots[known] - found)
            # polynomials cannot follow a rough table, whose roughness would grow with each step
            rough = shift.double().cpu().numpy()
            beyond = np.pad(rough, SMOOTH // 2, mode="edge")
            rough = rough - np.convolve(beyond, SMOOTHING, mode="valid")
            shift += step_size * torch.from_numpy(change - rough).to(shift)
        # a common shift of all knots changes no shower, as bins have their energy, and may grow without end;
        # it must not take the room of the others
        common = self.shift.mean(2, keepdim=True)
        others = (self.shift - common).clamp(-LARGEST_SHIFT, LARGEST_SHIFT)
        self.shift.copy_(common.clamp(-LARGEST_SHIFT, LARGEST_SHIFT) + others)
        self.fit_polynomials()

    def fit_polynomials(self) -> None:
        """Fit two polynomials to each shifted table, in powers of the distance from the knot SPLIT."""
        knots, roots = self.knots.double().cpu().numpy(), self.roots.double().cpu().numpy()
        distance = knots - knots[SPLIT]
        below, above = slice(0, SPLIT + 1), slice(SPLIT, None)
        tables = (self.shift, self.low_polynomial, self.high_polynomial)
        for shift, low, high in zip(*(table.flatten(0, 1) for table in tables), strict=True):
            moved = knots + shift.double().cpu().numpy()
            back = np.interp(moved, knots, roots) + np.maximum(moved - knots[-1], 0)
            low.copy_(
                torch.from_numpy(_fit_polynomial(distance[below], back[below], LOW_DEGREE, fixed=SPLIT))
            )
            found = _fit_polynomial(distance[above], back[above], HIGH_DEGREE, fixed=0)
            high.copy_(torch.from_numpy(found[1:]))
        self.centre_polynomials()

    def centre_polynomials(self) -> None:
        """Write the polynomials about the middles of their ranges.

        In powers of the distance from an end of the range the terms are up to 100 000 times as large as their
        sum, whose rounding in float32 would then depend on the runtime; about the middle 30 times.
        """
        self.centred_low.copy_(_about(self.low_polynomial, self.middles[0]))
        self.centred_high.copy_(_about(self.high_polynomial, self.middles[1]))


def _fit_polynomial(distance: FloatArray, values: FloatArray, degree: int, *, fixed: int) -> FloatArray:
    """Coefficients that fit values and their slopes, on which densities depend; exact at the knot `fixed`."""
    powers = np.arange(degree + 1)
    # differences between knots are weighted ten times as much as values
    rows = [np.vander(distance, degree + 1, increasing=True)]
    rows.append(np.diff(rows[0], axis=0) * 10)
    wanted = np.concatenate([values, 10 * np.diff(values)])
    weight = 1 / np.concatenate([values, values[1:]])
    weight[fixed] *= 1000
    scale = np.abs(distance).max() ** powers
    found = np.linalg.lstsq(np.concatenate(rows) / scale * weight[:, None], wanted * weight, rcond=None)[0]
    coefficients: FloatArray = found / scale
    return coefficients


def _about(coefficients: Tensor, middle: float) -> Tensor:
    """Coefficients (..., degree + 1) of the same polynomials in powers of the distance from `middle`."""
    powers = np.arange(coefficients.shape[-1])
    # row k has the terms of x^k = ((x - middle) + middle)^k
    shift = comb(powers[:, None], powers) * middle ** np.maximum(powers[:, None] - powers, 0)
    return coefficients.double() @ torch.from_numpy(shift).to(coefficients.device)


def _polynomial(coefficients: Tensor, x: Tensor) -> Tensor:
    """Polynomials of x (..., layers, n), with coefficients (layers, n, degree + 1), lowest power first."""
    first, *others = coefficients.flip(2).unbind(2)
    value = first.expand_as(x)
    for coefficient in others:
        value = value * x + coefficient
    return value
