"""Incident conditions (energy, angle, particle), bins of them, and the adjustment to fixed conditions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from particle import Particle

from caloforge.conditions import Conditions

Array = NDArray[np.float64]
Axis = Literal["inclusive", "energy", "angle", "particle"]

# energies and angles of the 3DGAN analysis, and half widths of the bins around them
ENERGIES_GEV = (50.0, 100.0, 200.0, 250.0, 300.0, 400.0, 500.0)
ENERGY_TOLERANCE_GEV = 5.0
ANGLES_DEG = (62.0, 90.0, 118.0)
ANGLE_TOLERANCE = 0.1  # rad
# fewest showers of a bin, in every sample
MIN_SHOWERS = 100
# samples with at most this many different energies have a list of energies, not a spectrum
MAX_LISTED = 16
# fewest showers of the smallest sample in a quantile bin, and the largest number of such bins
QUANTILE_SHOWERS = 150
MAX_QUANTILE_BINS = 6
# angles that vary less than this (rad) count as one
SAME_ANGLE = 0.02
# impact points that vary less than this (mm) count as one
SAME_IMPACT = 1e-3


@dataclass(frozen=True)
class Bin:
    """A range of conditions in which samples are compared.

    Attributes:
        key: Name in metrics.json, "inclusive", "energy-100", "angle-62", "particle-e-".
        label: Name in the report.
        axis: The condition that is cut on.
        low: Lower edge: MeV, rad or PDG number.
        high: Upper edge, included.
    """

    key: str
    label: str
    axis: Axis = "inclusive"
    low: float = -np.inf
    high: float = np.inf

    def select(self, conditions: Conditions) -> NDArray[np.bool_]:
        """(N,) mask of the showers in the bin."""
        if self.axis == "inclusive":
            return np.ones(len(conditions), bool)
        columns: dict[str, NDArray[Any]] = {
            "energy": conditions.energy,
            "angle": conditions.theta,
            "particle": conditions.pdg_id,
        }
        column = columns[self.axis]
        inside: NDArray[np.bool_] = (column >= self.low) & (column <= self.high)
        return inside


INCLUSIVE = Bin("inclusive", "all showers")


def make_bins(truth: Conditions, others: list[Conditions]) -> list[Bin]:
    """The bins that every sample fills with at least `MIN_SHOWERS` showers; the inclusive one is first.

    Energies: each listed energy where the truth has few different ones; else 50, 100, 200, 250, 300, 400 and
    500 GeV +- 5 GeV; else, where fewer than three of those are filled, quantiles of the truth. Angles: 62, 90
    and 118 degrees +- 0.1 rad where the angle varies. Particles: each of several.
    """
    samples = [truth, *others]

    def filled(candidates: list[Bin]) -> list[Bin]:
        return [b for b in candidates if all(b.select(s).sum() >= MIN_SHOWERS for s in samples)]

    energies = filled(_nominal_energies(truth))
    if len(energies) < 3:
        energies = filled(_quantile_energies(truth, min(map(len, samples)))) or energies
    bins = [INCLUSIVE, *energies]
    if np.ptp(truth.theta) > SAME_ANGLE:
        bins += filled([_angle(value) for value in ANGLES_DEG])
    particles = np.unique(truth.pdg_id)
    if len(particles) > 1:
        bins += filled([_particle(int(pdg)) for pdg in particles])
    return bins


def _nominal_energies(truth: Conditions) -> list[Bin]:
    listed = np.unique(truth.energy)
    if len(listed) == 1:
        return []
    if len(listed) <= MAX_LISTED:
        return [_energy(value / 1e3, value * (1 - 1e-6), value * (1 + 1e-6)) for value in listed]
    spread = ENERGY_TOLERANCE_GEV
    return [_energy(value, (value - spread) * 1e3, (value + spread) * 1e3) for value in ENERGIES_GEV]


def _energy(gev: float, low: float, high: float) -> Bin:
    return Bin(f"energy-{gev:g}", f"{gev:g} GeV", "energy", low, high)


def _quantile_energies(truth: Conditions, smallest: int) -> list[Bin]:
    count = min(MAX_QUANTILE_BINS, smallest // QUANTILE_SHOWERS)
    if count < 2 or np.ptp(truth.energy) == 0:
        return []
    edges = np.quantile(truth.energy, np.linspace(0, 1, count + 1))
    # the outermost bins include showers beyond the range of the truth
    edges[0], edges[-1] = 0.0, np.inf
    shown = np.quantile(truth.energy, np.linspace(0, 1, count + 1)) / 1e3
    return [
        Bin(
            f"energy-q{i + 1}",
            # of few listed energies a quantile may begin and end at the same one
            "–".join(dict.fromkeys(f"{edge:.3g}" for edge in shown[i : i + 2])) + " GeV",
            "energy",
            float(np.nextafter(edges[i], np.inf)),
            float(edges[i + 1]),
        )
        for i in range(count)
    ]


def _angle(degrees: float) -> Bin:
    middle = np.deg2rad(degrees)
    label = f"{degrees:g}°"
    return Bin(f"angle-{degrees:g}", label, "angle", middle - ANGLE_TOLERANCE, middle + ANGLE_TOLERANCE)


def _particle(pdg: int) -> Bin:
    name = particle_name(pdg)
    return Bin(f"particle-{name}", name, "particle", pdg, pdg)


def particle_name(pdg: int) -> str:
    """Name such as "e-" for 11; the number as text where it is unknown."""
    try:
        return str(Particle.from_pdgid(pdg).name)
    except LookupError:
        return str(pdg)


class AtFixedConditions:
    """Control variate: subtracts the mean response of the truth to the incident conditions from each value.

    Most of the variance of a sample with a flat energy spectrum comes from the spectrum. The mean of full
    simulation at a shower's energy, angle, impact point and particle is subtracted from each value and the
    overall mean is added back. Samples are then compared at fixed conditions: far more sensitive, and
    independent of the random differences between their incident energies.

    The mean is piecewise linear between at most nine energies and quadratic in the angle and in the impact
    point, separately for each particle.
    """

    MAX_KNOTS = 9
    SHOWERS_PER_KNOT = 50

    def __init__(self, truth: Conditions, values: NDArray[Any]) -> None:
        """Fit the average.

        Args:
            truth: Conditions of the truth.
            values: (N, k) its values.
        """
        self._mean = values.mean(axis=0, dtype=np.float64)
        self._particles = [int(pdg) for pdg in np.unique(truth.pdg_id)]
        self._theta = (float(truth.theta.mean()), float(truth.theta.std()))
        self._impacts = [float(np.abs(column).max()) for column in (truth.impact_x, truth.impact_y)]
        self._knots: dict[int, Array] = {}
        self._weights: dict[int, Array] = {}
        for pdg in self._particles:
            chosen = truth.pdg_id == pdg
            self._knots[pdg] = self._choose_knots(truth.energy[chosen])
            basis = self._basis(truth[chosen], pdg)
            self._weights[pdg] = np.linalg.lstsq(basis, values[chosen].astype(np.float64), rcond=1e-9)[0]

    def _choose_knots(self, energy: Array) -> Array:
        listed = np.unique(energy)
        if len(listed) <= MAX_LISTED:
            return listed
        count = int(np.clip(len(energy) // self.SHOWERS_PER_KNOT, 1, self.MAX_KNOTS))
        return np.unique(np.quantile(energy, np.linspace(0, 1, count)) if count > 1 else energy[:1])

    def _basis(self, conditions: Conditions, pdg: int) -> Array:
        """(N, p) linear B-splines in energy, and polynomials in angle and impact point where they vary."""
        knots = self._knots[pdg]
        hats = [np.interp(conditions.energy, knots, row) for row in np.eye(len(knots))]
        middle, spread = self._theta
        if spread > SAME_ANGLE:
            tilt = (conditions.theta - middle) / spread
            scale = conditions.energy / knots[-1]
            hats += [tilt, tilt**2, tilt * scale, tilt**2 * scale]
        for column, largest in zip((conditions.impact_x, conditions.impact_y), self._impacts, strict=True):
            if largest > SAME_IMPACT:
                hats += [column / largest, (column / largest) ** 2]
        return np.stack(hats, axis=1)

    def adjust(self, conditions: Conditions, values: NDArray[Any]) -> Array:
        """Values less the mean at their conditions, plus the overall mean of the truth.

        Args:
            conditions: Conditions of the showers.
            values: (N, k)

        Returns:
            (N, k) in the unit of the values.
        """
        expected = np.broadcast_to(self._mean, values.shape).copy()
        for pdg in self._particles:
            chosen = conditions.pdg_id == pdg
            if chosen.any():
                expected[chosen] = self._basis(conditions[chosen], pdg) @ self._weights[pdg]
        result: Array = values - expected + self._mean
        return result
