"""Data of the figures: histograms, profiles and trends with statistical errors.

The report draws them in the browser, `pdf_figures` as vector PDFs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from caloforge.observables import Observable
from caloforge.validation.conditions import INCLUSIVE, Bin
from caloforge.validation.observed_sample import Sample

Array = NDArray[np.float64]
MAX_BINS, MIN_BINS = 40, 12
TREND_POINTS = 12
TREND_SHOWERS = 60


@dataclass(frozen=True)
class Series:
    """One line of a figure: values and their standard errors, both (k,)."""

    value: Array
    error: Array

    def to_json(self) -> dict[str, Any]:
        """The numbers, rounded to the resolution of a figure."""
        return {"value": rounded(self.value, 4), "error": rounded(self.error, 2)}

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Series:
        """The inverse of `to_json`; null becomes NaN."""
        return cls(np.array(document["value"], float), np.array(document["error"], float))


@dataclass(frozen=True)
class Figure:
    """One figure.

    Attributes:
        observable: Name of the observable.
        bin: Bin of conditions of the showers.
        kind: "histogram" (share of the showers), "profile" (mean per bin of the axis), "trend" (mean
            against the incident energy).
        x_label: Axis title with unit, mathtext.
        y_label: Axis title with unit, mathtext.
        edges: (k + 1,) bin edges, or (k,) positions of a trend.
        log_x: Logarithmic axis.
        log_y: Logarithmic values.
        difference: Whether the lower panel shows differences rather than ratios, for values around zero.
        truth: Of the full simulation.
        generated: Of each generator.
    """

    observable: str
    bin: Bin
    kind: Literal["histogram", "profile", "trend"]
    x_label: str
    y_label: str
    edges: Array
    log_x: bool
    log_y: bool
    difference: bool
    truth: Series
    generated: tuple[Series, ...]

    def to_json(self) -> dict[str, Any]:
        """The figure in figures.json and in the report."""
        return {
            "observable": self.observable,
            "bin": self.bin.key,
            "bin_label": self.bin.label,
            "kind": self.kind,
            "x_label": self.x_label,
            "y_label": self.y_label,
            "edges": rounded(self.edges, 7),
            "log_x": self.log_x,
            "log_y": self.log_y,
            "difference": self.difference,
            "truth": self.truth.to_json(),
            "generated": [series.to_json() for series in self.generated],
        }

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Figure:
        """The inverse of `to_json`; of the bin only key and label are known."""
        axis: Any = "inclusive" if document["bin"] == INCLUSIVE.key else "energy"
        return cls(
            document["observable"],
            Bin(document["bin"], document["bin_label"], axis),
            document["kind"],
            document["x_label"],
            document["y_label"],
            np.array(document["edges"], float),
            document["log_x"],
            document["log_y"],
            document["difference"],
            Series.from_json(document["truth"]),
            tuple(Series.from_json(series) for series in document["generated"]),
        )


def rounded(values: NDArray[Any], digits: int) -> list[float | None]:
    """Numbers with the given significant digits; None for one that is not finite."""
    return [float(f"{v:.{digits}g}") if math.isfinite(v) else None for v in values.tolist()]


def with_unit(label: str, unit: str) -> str:
    """Axis title such as "energy [MeV]"."""
    shown = "$X_0$" if unit == "X0" else unit
    return f"{label} [{shown}]" if unit else label


def histogram(
    observable: Observable, truth: Sample, generated: Sequence[Sample], where: Bin
) -> Figure | None:
    """Histogram of a scalar in one bin of conditions, normalised to the number of showers.

    None where all showers have the same value.
    """
    want = truth.values[observable.name][where.select(truth.conditions)]
    others = [g.values[observable.name][where.select(g.conditions)] for g in generated]
    edges = common_edges(want, others)
    if edges is None:
        return None
    return Figure(
        observable.name,
        where,
        "histogram",
        with_unit(observable.label, observable.unit),
        "share of the showers",
        edges,
        False,
        observable.log,
        False,
        shares(want, edges),
        tuple(shares(values, edges) for values in others),
    )


def common_edges(want: NDArray[Any], others: Sequence[NDArray[Any]]) -> Array | None:
    """Equal-width bins over the bulk of the truth, extended by at most half its range for the generators.

    For a constant truth, over the range of the generators; None where they have the same value.
    """
    low, high = np.quantile(want.astype(np.float64), [0.001, 0.999])
    # up to rounding of float32
    alike = high - low <= 1e-6 * max(abs(low), abs(high))
    reach = math.inf if alike else (high - low) / 2
    for values in others:
        first, last = np.quantile(values.astype(np.float64), [0.005, 0.995])
        low, high = max(min(low, first), low - reach), min(max(high, last), high + reach)
    if high - low <= 1e-6 * max(abs(low), abs(high)):
        return None
    bins = int(np.clip(np.sqrt(len(want)), MIN_BINS, MAX_BINS))
    if np.array_equal(want, np.round(want)):
        # integer values: integer bin widths avoid aliasing
        step = max(1.0, np.ceil((high - low) / bins))
        start = np.floor(low) - 0.5
        edges: Array = start + step * np.arange(int(np.ceil((high - start) / step)) + 1)
        return edges
    return np.linspace(low, high, bins + 1)


def shares(values: NDArray[Any], edges: Array) -> Series:
    """Fraction of the showers in each bin, with its Poisson error."""
    count = np.histogram(values, edges)[0].astype(np.float64)
    size = max(len(values), 1)
    return Series(count / size, np.sqrt(count) / size)


def profile(observable: Observable, where: Bin, samples: Sequence[NDArray[Any]]) -> Figure | None:
    """Mean profile or spectrum in one bin of conditions; None for an axis of one bin.

    Args:
        observable: A profile or spectrum.
        where: For which showers.
        samples: (n, k) values at fixed incident conditions of the truth and of each generator, in the bin.
    """
    assert observable.axis is not None
    if len(observable.axis.edges) < 3:
        return None
    first, *others = (_mean(values) for values in samples)
    # cut the empty ends of a spectrum
    filled = np.flatnonzero(np.any([s.value != 0 for s in (first, *others)], axis=0))
    low, high = (int(filled[0]), int(filled[-1]) + 1) if len(filled) else (0, len(first.value))
    cut = slice(low, high)
    return Figure(
        observable.name,
        where,
        "profile",
        with_unit(observable.axis.label, observable.axis.unit),
        with_unit(observable.label, observable.unit),
        observable.axis.edges[low : high + 1],
        observable.axis.log,
        observable.log,
        observable.signed,
        Series(first.value[cut], first.error[cut]),
        tuple(Series(s.value[cut], s.error[cut]) for s in others),
    )


def _mean(values: NDArray[Any]) -> Series:
    return Series(values.mean(axis=0, dtype=np.float64), values.std(axis=0) / np.sqrt(max(len(values), 1)))


def trend(
    observable: Observable,
    truth: tuple[Sample, NDArray[Any]],
    generated: Sequence[tuple[Sample, NDArray[Any]]],
) -> Figure | None:
    """Mean of a scalar against the incident energy, in quantiles of the truth; None for a fixed energy.

    Args:
        observable: A scalar.
        truth: The sample and its (N,) adjusted values, for the comparison at equal energies.
        generated: The same of each generator.
    """
    sample, adjusted = truth
    energy = sample.conditions.energy
    points = min(TREND_POINTS, len(energy) // TREND_SHOWERS, len(np.unique(energy)))
    if points < 3:
        return None
    edges = np.quantile(energy, np.linspace(0, 1, points + 1))
    edges[-1] = np.nextafter(edges[-1], np.inf)
    group = np.clip(np.searchsorted(edges, energy, side="right") - 1, 0, points - 1)
    size = np.maximum(np.bincount(group, minlength=points), 1)
    raw = np.bincount(group, sample.values[observable.name], points) / size
    own = _grouped(adjusted, group, points)
    series = []
    for other, values in generated:
        theirs = np.clip(np.searchsorted(edges, other.conditions.energy, side="right") - 1, 0, points - 1)
        found = _grouped(values, theirs, points)
        series.append(Series(raw + found.value - own.value, found.error))
    return Figure(
        observable.name,
        INCLUSIVE,
        "trend",
        "incident energy [GeV]",
        with_unit(observable.label, observable.unit),
        np.bincount(group, energy, points) / size / 1e3,
        False,
        False,
        observable.signed,
        Series(raw, own.error),
        tuple(series),
    )


def _grouped(values: NDArray[Any], group: NDArray[np.intp], count: int) -> Series:
    """Mean and its error in each group; nan for an empty one."""
    with np.errstate(invalid="ignore", divide="ignore"):
        size = np.bincount(group, minlength=count).astype(np.float64)
        mean = np.bincount(group, values, count) / size
        spread = np.bincount(group, (values - mean[group]) ** 2, count) / size
        return Series(mean, np.sqrt(spread / size))
