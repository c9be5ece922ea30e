"""Checks that two shower files can be compared: detector, units, particles, incident spectrum, size."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caloforge.conditions import Conditions
from caloforge.errors import DataError
from caloforge.metrics.distributions import ks_probability
from caloforge.number_format import percent
from caloforge.showers import ShowerFile
from caloforge.validation.conditions import MIN_SHOWERS, SAME_ANGLE, SAME_IMPACT, particle_name

# KS probability below which two spectra count as different
SAME_SPECTRUM = 1e-4
# bins of the incident energy, angle and impact point in which a sample is reweighted
ENERGY_BINS = 20
ANGLE_BINS = 5
IMPACT_BINS = 3
# smallest fraction of showers that a thinned sample may keep
MIN_KEPT = 0.02


@dataclass(frozen=True)
class Spectra:
    """KS probabilities that the incident conditions of two samples have the same distribution."""

    energy: float
    theta: float
    phi: float
    impact_x: float = 1.0
    impact_y: float = 1.0

    @property
    def agree(self) -> bool:
        """Whether all are compatible with the same beam."""
        return all(probability >= SAME_SPECTRUM for probability in vars(self).values())


def check_same_detector(truth: ShowerFile, other: ShowerFile) -> None:
    """Refuse another geometry, mesh or energy meaning.

    Raises:
        DataError: What differs, and what to do.
    """
    first, second = truth.detector, other.detector
    if first.mesh != second.mesh or first.shower_shape != second.shower_shape:
        raise DataError(
            f"{other.path}: its mesh is {second.mesh.kind} {second.shower_shape}, the truth {truth.path} has "
            f"{first.mesh.kind} {first.shower_shape}; compare files of one mesh"
        )
    if first.geometry_digest != second.geometry_digest:
        raise DataError(
            f"{other.path}: its detector {second.name!r} has other layers or materials than {first.name!r} "
            f"of the truth {truth.path}; generate or simulate for the same detector"
        )
    if truth.energy_meaning != other.energy_meaning:
        raise DataError(
            f"{other.path}: its voxels hold {other.energy_meaning!r} energy, those of the truth {truth.path} "
            f"{truth.energy_meaning!r}; compare files of one meaning"
        )


def check_units(truth_path: Path, truth: float, path: Path, other: float) -> None:
    """Refuse a sample whose visible energies are off by a thousand: GeV or keV where MeV are meant.

    Args:
        truth_path: File of the truth.
        truth: Its mean visible over incident energy.
        path: File of the other sample.
        other: Its mean visible over incident energy.

    Raises:
        DataError: With the factor.
    """
    if truth <= 0 or other <= 0:
        return
    factor = other / truth
    if any(unit / 2 < factor < unit * 2 for unit in (1e-6, 1e-3, 1e3, 1e6)):
        raise DataError(
            f"{path}: visible over incident energy is {other:.3g}, {factor:.3g} times that of the truth "
            f"{truth_path} ({truth:.3g}); are its voxels in MeV?"
        )


def check_enough(path: Path | str, count: int) -> None:
    """Refuse a sample too small to compare.

    Raises:
        DataError: Fewer than `MIN_SHOWERS` showers.
    """
    if count < MIN_SHOWERS:
        raise DataError(
            f"{path}: got {count} showers, expected at least {MIN_SHOWERS} to compare; make more of them"
        )


def compare_spectra(truth: Conditions, other: Conditions) -> Spectra:
    """KS probabilities of the incident energies, directions and impact points.

    Columns that are equal element by element (`generate --like`), or constant to rounding, agree.
    """

    def probability(first: NDArray[np.float64], second: NDArray[np.float64], same: float) -> float:
        both = np.concatenate([first, second])
        if np.ptp(both) <= same or (len(first) == len(second) and np.array_equal(first, second)):
            return 1.0
        return ks_probability(first, second)[1]

    return Spectra(
        probability(truth.energy, other.energy, 0.0),
        probability(truth.theta, other.theta, SAME_ANGLE),
        probability(truth.phi, other.phi, SAME_ANGLE),
        probability(truth.impact_x, other.impact_x, SAME_IMPACT),
        probability(truth.impact_y, other.impact_y, SAME_IMPACT),
    )


def check_particles(truth_path: Path, truth: Conditions, path: Path, other: Conditions) -> None:
    """Refuse particles that the truth does not have.

    Raises:
        DataError: With the names of both.
    """
    wanted, got = set(truth.pdg_id.tolist()), set(other.pdg_id.tolist())
    if wanted != got:
        names = [", ".join(sorted(particle_name(p) for p in pdgs)) for pdgs in (got, wanted)]
        raise DataError(
            f"{path}: showers of {names[0]}, the truth {truth_path} has {names[1]}; compare the same"
        )


def refuse_spectra(path: Path, spectra: Spectra) -> DataError:
    """The error for incident conditions that differ."""
    parts = [
        f"{name} (KS probability {value:.2g})"
        for name, value in vars(spectra).items()
        if value < SAME_SPECTRUM
    ]
    return DataError(
        f"{path}: the incident {' and '.join(parts)} differ from the truth's; generate with --like TRUTH, or "
        "let validate thin this sample to the truth's spectrum with --reweight"
    )


def thin_to(truth: Conditions, other: Conditions, path: Path, *, seed: int) -> NDArray[np.bool_]:
    """Which showers to keep so that a sample has the truth's incident spectrum: reweighting by acceptance.

    In bins of energy (quantiles of the truth), angle and particle, a shower is kept with the ratio of the two
    densities over its largest value; the same in bins of the impact point, on which beams do not let the
    others depend. The kept sample is unweighted: every metric applies to it as it stands.

    Raises:
        DataError: The sample has none where the truth has some, or hardly any would be left.
    """
    accept = np.ones(len(other))
    for columns in (_spectrum, _impacts):
        accept *= _acceptance(columns(truth), columns(other), path)
    keep: NDArray[np.bool_] = np.random.default_rng([seed, 0x7E16]).random(len(other)) < accept
    if keep.mean() < MIN_KEPT:
        raise DataError(
            f"{path}: reweighting would keep {int(keep.sum())} of {len(other)} showers; generate "
            "with --like TRUTH"
        )
    return keep


# columns of conditions with the edges of their bins
Binned = list[tuple[NDArray[Any], Callable[[NDArray[Any]], NDArray[np.float64]]]]


def _spectrum(conditions: Conditions) -> Binned:
    return [
        (conditions.energy, _quantile_edges),
        (conditions.theta, lambda column: _equal_edges(column, SAME_ANGLE, ANGLE_BINS)),
        (conditions.pdg_id, _edges_of_values),
    ]


def _impacts(conditions: Conditions) -> Binned:
    columns = (conditions.impact_x, conditions.impact_y)
    return [(column, lambda values: _equal_edges(values, SAME_IMPACT, IMPACT_BINS)) for column in columns]


def _acceptance(truth: Binned, other: Binned, path: Path) -> NDArray[np.float64]:
    """(N,) probabilities with which to keep the showers of a sample."""
    edges = [edges_of(column) for column, edges_of in truth]
    want, got = (_cells([column for column, _ in binned], edges) for binned in (truth, other))
    size = int(max(want.max(), got.max())) + 1
    wanted = np.bincount(want[want >= 0], minlength=size) / len(want)
    held = np.bincount(got[got >= 0], minlength=size) / len(got)
    if (missing := wanted[held == 0].sum()) > 0:
        raise DataError(
            f"{path}: {percent(missing)} of the truth's showers have incident conditions that this sample "
            "lacks; it cannot be reweighted, generate with --like TRUTH"
        )
    ratio = np.divide(wanted, held, out=np.zeros(size), where=held > 0)
    accept: NDArray[np.float64] = np.where(got >= 0, ratio[got], 0.0) / ratio.max()
    return accept


def _quantile_edges(column: NDArray[Any]) -> NDArray[np.float64]:
    return np.unique(np.quantile(column, np.linspace(0, 1, ENERGY_BINS + 1)))


def _equal_edges(column: NDArray[Any], same: float, count: int) -> NDArray[np.float64]:
    bins = count if np.ptp(column) > same else 1
    return np.linspace(column.min() - 1e-6, column.max() + 1e-6, bins + 1)


def _edges_of_values(column: NDArray[Any]) -> NDArray[np.float64]:
    values = np.unique(column)
    return np.append(values - 0.5, values[-1] + 0.5)


def _cells(columns: list[NDArray[Any]], edges: list[NDArray[np.float64]]) -> NDArray[np.int64]:
    """(N,) number of the cell each shower lies in, -1 outside."""
    cell = np.zeros(len(columns[0]), np.int64)
    inside = np.ones(len(columns[0]), bool)
    for column, edge in zip(columns, edges, strict=True):
        # a single listed value is a bin of its own
        count = max(len(edge) - 1, 1)
        index = np.searchsorted(edge, column, side="right") - 1
        index[column == edge[-1]] = count - 1
        inside &= (index >= 0) & (index < count)
        cell = cell * count + np.clip(index, 0, count - 1)
    return np.where(inside, cell, -1)
