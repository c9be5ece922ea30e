"""The energy of a hit as a coordinate in which hits are normal.

Where few particles cross a layer, a cell has the energy of one of them: the spectrum with the MIP peak, the
same everywhere. Where many cross, their energies add, and the cube root of the sum is close to normal (Wilson
and Hilferty 1931). The coordinate is the cube root, bent at small energies so that the spectrum of single
particles is normal too.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from caloforge.models.layered.constants import (
    CENTRE,
    FIRST_KNOT,
    LARGEST_COORDINATE,
    LAST_KNOT,
    OFFSET,
    STRONG_DEGREE,
    WEAK_DEGREE,
    WIDTH,
)
from caloforge.models.layered.density import step

FloatArray = NDArray[np.float64]
# the spectrum is tabulated at so many normal scores, that of single particles up to the knot LAST_SINGLE
KNOTS, LAST_SINGLE = 73, 62
FEWEST_HITS = 2000
# a knot is moved where so many hits of a batch lie on either side, a table where that holds for as many knots
FEWEST_BEYOND, FEWEST_KNOTS = 20, 4
LARGEST_SHIFT = 0.15
# knots that a shift is smoothed over
SMOOTH = 7
SMOOTHING = np.full(SMOOTH, 1 / SMOOTH)
# back from the coordinate: one polynomial below the MIP peak, where the table bends, and one above
SPLIT = 35


class HitSpectrum(nn.Module):
    """Energies in MeV to coordinates and back; 0 is no hit in both."""

    unit: Tensor
    roots: Tensor
    coordinates: Tensor
    shift: Tensor
    weak: Tensor
    strong: Tensor

    def __init__(self, layers: int = 1, zones: int = 1) -> None:
        """A plain cube root.

        Args:
            layers: Ways back from the coordinate, which `bend` makes differ, are for so many layers
            zones: and so many zones of each.
        """
        super().__init__()
        self.register_buffer("unit", torch.ones(()))
        scores = np.linspace(FIRST_KNOT, LAST_KNOT, KNOTS)
        coordinates = torch.from_numpy(CENTRE + WIDTH * scores + OFFSET).float()
        self.register_buffer("coordinates", coordinates, persistent=False)
        self.register_buffer("roots", (coordinates - OFFSET).clamp_min(0.02).cummax(0).values)
        self.register_buffer("shift", torch.zeros(layers, zones, KNOTS))
        self.register_buffer("weak", torch.zeros(layers, zones, WEAK_DEGREE + 1))
        self.register_buffer("strong", torch.zeros(layers, zones, STRONG_DEGREE))
        ends = coordinates[[0, -1]] - coordinates[SPLIT]
        self._ends = (float(ends[0]), float(ends[1]))
        self.fit_polynomials()

    @property
    def smallest(self) -> float:
        """Coordinate of the weakest hit."""
        return float(CENTRE + WIDTH * FIRST_KNOT + OFFSET)

    def fit(self, energies: NDArray[np.float32]) -> None:
        """Tabulate the spectrum.

        Args:
            energies: Hits of cells that single particles reach, MeV; with too few the plain cube root stays.
        """
        if len(energies) == 0:
            return
        unit = float(np.median(energies))
        self.unit.fill_(unit)
        if len(energies) < FEWEST_HITS:
            return
        scores = np.linspace(FIRST_KNOT, LAST_KNOT, KNOTS)
        single, strong = np.split(scores, [LAST_SINGLE + 1])
        roots = np.cbrt(np.quantile(energies / unit, torch.special.ndtr(torch.from_numpy(single)).numpy()))
        # what is stronger is the energy of many particles in most cells
        roots = np.append(roots, roots[-1] + WIDTH * (strong - single[-1]))
        roots = np.maximum.accumulate(roots + 1e-6 * np.arange(KNOTS))
        self.roots.copy_(torch.from_numpy(roots))
        self.fit_polynomials()

    def coordinate(self, energy: Tensor) -> Tensor:
        """Coordinates of cell energies in MeV, any shape."""
        root = (energy / self.unit).pow(1 / 3)
        upper = torch.searchsorted(self.roots, root).clamp(1, KNOTS - 1)
        start, stop = self.roots[upper - 1], self.roots[upper]
        inside = ((root - start) / (stop - start)).clamp(0, 1)
        step = self.coordinates[1] - self.coordinates[0]
        value = self.coordinates[upper - 1] + inside * step + (root - self.roots[-1]).clamp_min(0)
        return torch.where(energy > 0, value, 0.0)

    def energy(self, coordinate: Tensor, zone: Tensor) -> Tensor:
        """Cell energies in MeV: the inverse of `coordinate` within 3 % where nothing has been bent.

        Args:
            coordinate: (..., layers, n).
            zone: (n,) which zone.
        """
        # a table would be slower than all the rest of a draw
        place = coordinate - self.coordinates[SPLIT]
        weak, strong = place.clamp(self._ends[0], 0.0), place.clamp(0.0, self._ends[1])
        root = _polynomial(self.weak[:, zone], weak) + strong * _polynomial(self.strong[:, zone], strong)
        root = root + (coordinate - LARGEST_COORDINATE).clamp_min(0)
        return self.unit * root * root * root * step(coordinate)

    def bend(self, made: list[Tensor], real: list[Tensor], share: float) -> None:
        """Move the ways back so that made hits come to be distributed as real ones.

        Args:
            made: For each zone of each layer the coordinates of made hits in whole showers, (n,).
            real: Those of real hits, (m,).
            share: Of the difference.
        """
        knots = self.coordinates.double().cpu().numpy()
        for shift, ours, theirs in zip(self.shift.flatten(0, 1), made, real, strict=True):
            ordered = np.sort(theirs.double().cpu().numpy())
            below = np.searchsorted(ordered, knots)
            known = (below >= FEWEST_BEYOND) & (len(ordered) - below >= FEWEST_BEYOND)
            if known.sum() < FEWEST_KNOTS or len(ours) < FEWEST_BEYOND:
                continue
            # what lies at a quantile of the made ones should lie where it is in the real ones
            found = np.quantile(ours.double().cpu().numpy(), below[known] / len(ordered))
            found = np.maximum.accumulate(found + 1e-9 * np.arange(len(found)))
            change = np.interp(knots, found, knots[known] - found)
            # polynomials cannot follow what is rough, which would grow and grow
            rough = shift.double().cpu().numpy()
            beyond = np.pad(rough, SMOOTH // 2, mode="edge")
            rough = rough - np.convolve(beyond, SMOOTHING, mode="valid")
            shift += share * torch.from_numpy(change - rough).to(shift)
        # a zone has its energy whatever its table: what moves all of it alike would go on for ever
        self.shift.clamp_(-LARGEST_SHIFT, LARGEST_SHIFT)
        self.fit_polynomials()

    def fit_polynomials(self) -> None:
        """Take the shifted tables over into two polynomials each, in powers of the distance from SPLIT."""
        coordinates, roots = self.coordinates.double().cpu().numpy(), self.roots.double().cpu().numpy()
        place = coordinates - coordinates[SPLIT]
        below, above = slice(0, SPLIT + 1), slice(SPLIT, None)
        tables = (self.shift, self.weak, self.strong)
        for shift, weak, strong in zip(*(table.flatten(0, 1) for table in tables), strict=True):
            moved = coordinates + shift.double().cpu().numpy()
            back = np.interp(moved, coordinates, roots) + np.maximum(moved - coordinates[-1], 0)
            weak.copy_(torch.from_numpy(_through(place[below], back[below], WEAK_DEGREE, fixed=SPLIT)))
            found = _through(place[above], back[above], STRONG_DEGREE, fixed=0)
            strong.copy_(torch.from_numpy(found[1:]))


def _through(place: FloatArray, values: FloatArray, degree: int, *, fixed: int) -> FloatArray:
    """Coefficients of the polynomial near values and their slopes, which are densities; exact at `fixed`."""
    powers = np.arange(degree + 1)
    # slopes between knots, in units of the distance of knots
    rows = [np.vander(place, degree + 1, increasing=True)]
    rows.append(np.diff(rows[0], axis=0) * 10)
    wanted = np.concatenate([values, 10 * np.diff(values)])
    weight = 1 / np.concatenate([values, values[1:]])
    weight[fixed] *= 1000
    scale = np.abs(place).max() ** powers
    found = np.linalg.lstsq(np.concatenate(rows) / scale * weight[:, None], wanted * weight, rcond=None)[0]
    coefficients: FloatArray = found / scale
    return coefficients


def _polynomial(coefficients: Tensor, x: Tensor) -> Tensor:
    """Of x (..., layers, n), with coefficients (layers, n, degree + 1)."""
    first, *others = coefficients.flip(2).unbind(2)
    value = first.expand_as(x)
    for coefficient in others:
        value = value * x + coefficient
    return value
