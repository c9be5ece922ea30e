"""Energy resolution and linearity with their fits, and the MIP peak."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from caloforge.observables import SPECTRUM_EDGES, mip_peak
from caloforge.observables.resolution import ResponseCurve, fit_linearity, fit_resolution, response_curve
from caloforge.validation.conditions import INCLUSIVE
from caloforge.validation.figure_data import Array, Figure, Series
from caloforge.validation.observed_sample import Sample

POINTS = 10
SHOWERS_PER_POINT = 100


@dataclass(frozen=True)
class ResponseSummary:
    """Figures of resolution and linearity, and the results of the fits, one line per sample."""

    figures: tuple[Figure, ...]
    resolution: tuple[str, ...]
    linearity: tuple[str, ...]


def summarise_response(samples: Sequence[Sample]) -> ResponseSummary:
    """Fit resolution and linearity of every sample, the truth first; gives the reason if there is no fit."""
    edges = _edges(samples[0])
    if edges is None:
        return _no_fit(f"{samples[0].name} has {_energies(samples[0])}")
    curves = [response_curve(s.conditions.energy, s.values["response"], edges) for s in samples]
    for sample, curve in zip(samples, curves, strict=True):
        if len(curve.energy) < len(edges) - 1:
            return _no_fit(f"{sample.name} has fewer than 10 showers, or no energy, in some of the bins")
    lines = [fit_linearity(curve) for curve in curves]
    figures = (
        _figure(
            "resolution",
            r"$\sigma / \langle E_\mathrm{vis} \rangle$",
            curves[0],
            [Series(curve.resolution, curve.resolution_error) for curve in curves],
        ),
        _figure(
            "linearity",
            r"$E_\mathrm{vis}$ over its straight line",
            curves[0],
            [Series(1 + line.residuals, line.residual_errors) for line in lines],
        ),
    )
    resolution = [f"{s.name}: {_terms(curve)}" for s, curve in zip(samples, curves, strict=True)]
    linearity = [
        f"{s.name}: slope {100 * line.slope:.3f} ± {100 * line.slope_error:.3f} %, "
        f"offset {line.offset:.2f} ± {line.offset_error:.2f} MeV, "
        f"largest distance from the line {100 * line.nonlinearity:.1f} %"
        for s, line in zip(samples, lines, strict=True)
    ]
    return ResponseSummary(figures, tuple(resolution), tuple(linearity))


def _no_fit(reason: str) -> ResponseSummary:
    need = f"needs at least 4 energies, or {4 * SHOWERS_PER_POINT} showers of a spectrum; {reason}."
    return ResponseSummary((), (f"The fit {need}",), (f"The line {need}",))


def _energies(truth: Sample) -> str:
    listed = len(np.unique(truth.conditions.energy))
    if listed <= POINTS:
        return f"{listed} energies" if listed > 1 else "one energy"
    return f"{len(truth)} showers"


def _terms(curve: ResponseCurve) -> str:
    """The three terms of the resolution, and the energies left out of the fit."""
    without_spread = [f"{energy / 1e3:.3g} GeV" for energy in curve.energy[~curve.spread]]
    reason = f"at {', '.join(without_spread)} all showers have the same response" if without_spread else ""
    try:
        f = fit_resolution(curve)
    except ValueError:
        return f"no fit, {reason}"
    return (
        f"stochastic {100 * f.stochastic:.2f} ± {100 * f.stochastic_error:.2f} %·√GeV, constant "
        f"{100 * f.constant:.2f} ± {100 * f.constant_error:.2f} %, noise {f.noise:.1f} ± {f.noise_error:.1f} "
        f"MeV (χ² {f.chi2:.1f} / {f.ndf})" + (f"; left out: {reason}" if without_spread else "")
    )


def _edges(truth: Sample) -> Array | None:
    """Bin edges with equal numbers of true showers, or around each listed energy."""
    energy = truth.conditions.energy
    listed = np.unique(energy)
    if len(listed) <= POINTS:
        edges: Array = np.append(listed * (1 - 1e-6), listed[-1] * (1 + 1e-6))
        return edges if len(listed) >= 4 else None
    points = min(POINTS, len(energy) // SHOWERS_PER_POINT)
    if points < 4:
        return None
    edges = np.quantile(energy, np.linspace(0, 1, points + 1))
    edges[-1] = np.nextafter(edges[-1], np.inf)
    return edges


def _figure(name: str, label: str, curve: ResponseCurve, series: Sequence[Series]) -> Figure:
    return Figure(
        observable=name,
        bin=INCLUSIVE,
        kind="trend",
        x_label="incident energy [GeV]",
        y_label=label,
        edges=curve.energy / 1e3,
        log_x=False,
        log_y=False,
        difference=False,
        truth=series[0],
        generated=tuple(series[1:]),
    )


def position_resolution(samples: Sequence[Sample], name: str) -> tuple[Figure | None, tuple[str, ...]]:
    """Standard deviation of a position against the energy, and over all showers as text.

    Args:
        samples: The truth first.
        name: The observable: measured less true position, mm.

    Returns:
        The figure, None where there are too few showers or energies; one line per sample.
    """
    facts = []
    for sample in samples:
        spread = _spread(sample.values[name])
        facts.append(f"{sample.name}: {spread[0]:.3f} ± {spread[1]:.3f} mm over all showers")
    edges = _edges(samples[0])
    if edges is None:
        return None, tuple(facts)
    curves = [response_curve(s.conditions.energy, s.values["response"], edges) for s in samples]
    if any(len(curve.energy) < len(edges) - 1 for curve in curves):
        return None, tuple(facts)
    series = []
    for sample in samples:
        group = np.searchsorted(edges, sample.conditions.energy, side="right") - 1
        spreads = [_spread(sample.values[name][group == place]) for place in range(len(edges) - 1)]
        series.append(Series(*np.array(spreads).T))
    return _figure(name, "position resolution [mm]", curves[0], series), tuple(facts)


def _spread(values: NDArray[np.float32]) -> tuple[float, float]:
    """Standard deviation, and its standard error from the fourth moment."""
    residual = values - values.mean(dtype=np.float64)
    variance = float((residual**2).mean())
    of_variance = max(float((residual**4).mean()) - variance**2, 0.0) / len(values)
    return math.sqrt(variance), math.sqrt(of_variance / max(4 * variance, 1e-300))


def mip_peaks(samples: Sequence[Sample]) -> list[str]:
    """The MIP peak of each sample, as text."""
    lines = []
    for sample in samples:
        peak = mip_peak(sample.values["cell_spectrum"].sum(axis=0, dtype=np.float64), SPECTRUM_EDGES)
        found = "none" if peak is None else f"{peak.position:.4f} ± {peak.uncertainty:.4f} MeV"
        lines.append(f"{sample.name}: peak of minimum ionising particles {found}")
    return lines
