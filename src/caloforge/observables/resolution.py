"""Response, linearity and energy resolution against incident energy, with their standard fits."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

# fewest showers of a bin for a standard deviation
MIN_SHOWERS = 10


@dataclass(frozen=True)
class ResponseCurve:
    """Mean and spread of the response in bins of incident energy, each (k,).

    For energies that are not corrected for the sampling fraction, this is the sampling fraction of 3DGAN.

    Attributes:
        energy: Mean incident energy of the bin, MeV.
        mean: Mean response.
        mean_error: Its standard error.
        resolution: Standard deviation of the response over its mean, sigma / E.
        resolution_error: Its standard error.
        count: Showers.
    """

    energy: Array
    mean: Array
    mean_error: Array
    resolution: Array
    resolution_error: Array
    count: NDArray[np.int64]

    @property
    def spread(self) -> NDArray[np.bool_]:
        """(k,) bins in which the response varies between showers and its deviation has an error."""
        differs: NDArray[np.bool_] = (self.resolution > 1e-9) & (self.resolution_error > 0)
        return differs


def response_curve(incident_energy: NDArray[Any], response: NDArray[Any], edges: Array) -> ResponseCurve:
    """Mean and resolution of the response in bins of incident energy.

    Within a bin the linear dependence of the response on ln E is subtracted, so that the slope of the curve
    does not add to the resolution in wide bins. Bins with fewer than 10 showers, or without visible energy,
    are left out.

    Args:
        incident_energy: (N,) MeV.
        response: (N,) visible over incident energy.
        edges: (k + 1,) rising, MeV.
    """
    index = np.searchsorted(edges, incident_energy, side="right") - 1
    bins = [index == i for i in range(len(edges) - 1)]
    bins = [chosen for chosen in bins if chosen.sum() >= MIN_SHOWERS and response[chosen].sum() > 0]
    rows = [_one_bin(incident_energy[chosen], response[chosen]) for chosen in bins]
    energy, mean, mean_error, resolution, resolution_error = np.array(rows).reshape(-1, 5).T
    count = np.array([chosen.sum() for chosen in bins], np.int64)
    return ResponseCurve(energy, mean, mean_error, resolution, resolution_error, count)


def _one_bin(incident_energy: NDArray[Any], response: NDArray[Any]) -> tuple[float, ...]:
    """Mean energy, mean response and its error, resolution and its error."""
    energy, values = incident_energy.astype(np.float64), response.astype(np.float64)
    count, mean = len(values), values.mean()
    residual = values - mean - _slope_part(np.log(energy), values)
    variance = (residual**2).sum() / (count - 2)
    # variance of the sample variance, from the fourth moment
    of_variance = max((residual**4).mean() - variance**2, 0.0) / count
    of_spread = np.sqrt(of_variance / max(4 * variance, 1e-300))
    spread, mean_error = np.sqrt(variance), np.sqrt(variance / count)
    resolution_error = np.hypot(of_spread, spread * mean_error / mean) / mean
    return float(energy.mean()), float(mean), mean_error, spread / mean, resolution_error


def _slope_part(logarithm: Array, values: Array) -> Array:
    """Linear part of the values as a function of the logarithm, around their mean."""
    t = logarithm - logarithm.mean()
    square = (t**2).sum()
    line: Array = t * ((t * values).sum() / square) if square > 1e-12 else np.zeros_like(t)
    return line


@dataclass(frozen=True)
class ResolutionFit:
    r"""Stochastic term a, noise term b and constant term c of the energy resolution.

    .. math:: \sigma/E = a/\sqrt{E} \oplus b/E \oplus c

    Attributes:
        stochastic: In sqrt(GeV): 0.17 is the 17 % / sqrt(E / GeV) of a data sheet.
        noise: MeV.
        constant: Without unit.
        stochastic_error, noise_error, constant_error: Standard errors; for a term fitted to zero, its upper
            limit at one standard error.
        chi2: Of the squared resolutions.
        ndf: Degrees of freedom.

    Examples:
        >>> fit = ResolutionFit(0.1, 0.0, 0.01, 0.0, 0.0, 0.0, chi2=0.0, ndf=1)
        >>> fit(np.array([1e3, 100e3])).round(4)  # 1 GeV and 100 GeV
        array([0.1005, 0.0141])
    """

    stochastic: float
    noise: float
    constant: float
    stochastic_error: float
    noise_error: float
    constant_error: float
    chi2: float
    ndf: int

    def __call__(self, energy: NDArray[Any]) -> Array:
        """Resolution at incident energies in MeV."""
        gev = energy.astype(np.float64) / 1e3
        square = self.stochastic**2 / gev + (self.noise / 1e3 / gev) ** 2 + self.constant**2
        result: Array = np.sqrt(square)
        return result


def fit_resolution(curve: ResponseCurve) -> ResolutionFit:
    """Fit the stochastic, noise and constant term (PDG review on particle detectors, calorimeters).

    The squared resolution is linear in the squared terms: linear least squares without start values. Squared
    terms are constrained to be positive: of the fits with each subset of the terms, the best allowed one is
    taken. Bins in which all showers have the same response are left out, see `ResponseCurve.spread`.

    Args:
        curve: At least 3 bins with spread.

    Raises:
        ValueError: Fewer than 3 bins with spread.
    """
    spread = curve.spread
    if spread.sum() < 3:
        raise ValueError(f"got {spread.sum()} energy bins with spread, expected at least 3 for three terms")
    gev, resolution = curve.energy[spread] / 1e3, curve.resolution[spread]
    basis = np.stack([1 / gev, 1 / gev**2, np.ones_like(gev)], axis=1)
    square, error = resolution**2, 2 * resolution * curve.resolution_error[spread]
    terms, errors, chi2 = _nonnegative(basis / error[:, None], square / error)
    scale = np.array([1.0, 1e3, 1.0])
    stochastic, noise, constant = np.sqrt(terms) * scale
    stochastic_error, noise_error, constant_error = _root_errors(terms, errors) * scale
    return ResolutionFit(
        stochastic=float(stochastic),
        noise=float(noise),
        constant=float(constant),
        stochastic_error=float(stochastic_error),
        noise_error=float(noise_error),
        constant_error=float(constant_error),
        chi2=chi2,
        ndf=len(gev) - 3,
    )


def _nonnegative(basis: Array, target: Array) -> tuple[Array, Array, float]:
    """Least squares with coefficients >= 0: coefficients, standard errors of all three, chi2."""
    best, chi2 = np.zeros(3), float(target @ target)
    for size in (1, 2, 3):
        for chosen in itertools.combinations(range(3), size):
            part = basis[:, chosen]
            found = np.linalg.lstsq(part, target, rcond=None)[0]
            value = float(((target - part @ found) ** 2).sum())
            if (found >= 0).all() and value < chi2:
                best, chi2 = np.zeros(3), value
                best[list(chosen)] = found
    errors = np.empty(3)
    used = best > 0
    for i in range(3):
        # a term at zero is left free for its error
        free = used.copy()
        free[i] = True
        covariance = np.linalg.pinv(basis[:, free].T @ basis[:, free])
        errors[i] = np.sqrt(covariance[np.flatnonzero(free) == i, np.flatnonzero(free) == i][0])
    return best, errors, chi2


def _root_errors(squares: Array, errors: Array) -> Array:
    """Standard errors of square roots; the root of the error where it exceeds the square."""
    safe = np.where(squares > 0, squares, 1.0)
    return np.where(squares > errors, errors / (2 * np.sqrt(safe)), np.sqrt(errors))


@dataclass(frozen=True)
class LinearityFit:
    """Visible energy = offset + slope x incident energy.

    Attributes:
        slope: Visible over incident energy, without unit.
        offset: MeV.
        slope_error, offset_error: Standard errors.
        residuals: (k,) measured over fitted visible energy less 1.
        residual_errors: (k,) standard errors of the measurement alone.
        chi2: Of the fit; leakage makes it large.
        ndf: Degrees of freedom.
    """

    slope: float
    offset: float
    slope_error: float
    offset_error: float
    residuals: Array
    residual_errors: Array
    chi2: float
    ndf: int

    @property
    def nonlinearity(self) -> float:
        """Largest relative distance from the line."""
        return float(np.abs(self.residuals).max())


def fit_linearity(curve: ResponseCurve) -> LinearityFit:
    """Fit a straight line to visible against incident energy.

    Args:
        curve: At least 2 bins.

    Raises:
        ValueError: Fewer than 2 bins.
    """
    if len(curve.energy) < 2:
        raise ValueError(f"got {len(curve.energy)} energy bin, expected at least 2 for a line")
    # response = slope + offset / E, of the same relative errors as the visible energy
    error = np.where(curve.mean_error > 0, curve.mean_error, 1e-6 * np.abs(curve.mean))
    basis = np.stack([np.ones_like(curve.energy), 1 / curve.energy], axis=1) / error[:, None]
    covariance = np.linalg.inv(basis.T @ basis)
    slope, offset = covariance @ (basis.T @ (curve.mean / error))
    fitted = slope + offset / curve.energy
    return LinearityFit(
        slope=float(slope),
        offset=float(offset),
        slope_error=float(np.sqrt(covariance[0, 0])),
        offset_error=float(np.sqrt(covariance[1, 1])),
        residuals=curve.mean / fitted - 1,
        residual_errors=error / fitted,
        chi2=float((((curve.mean - fitted) / error) ** 2).sum()),
        ndf=len(curve.energy) - 2,
    )
