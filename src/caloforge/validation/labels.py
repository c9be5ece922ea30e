"""Words and number formats: how metrics and places are written in the report."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from caloforge.observables import Observable
from caloforge.validation import mathtext
from caloforge.validation.comparison import SHOWER, Difference

Format = Literal["percent", "spreads", "plain"]


@dataclass(frozen=True)
class MetricLabel:
    """How a metric is called and its numbers are written."""

    short: str
    long: str
    format: Format


METRICS = {
    "mean_shift": MetricLabel("mean", "relative difference of the means", "percent"),
    "mean_offset": MetricLabel(
        "mean", "difference of the means in standard deviations of the truth", "spreads"
    ),
    "width_shift": MetricLabel("width", "relative difference of the standard deviations", "percent"),
    "wasserstein": MetricLabel("W1", "Wasserstein-1 distance in spreads of the truth", "spreads"),
    "separation_power": MetricLabel("separation", "separation power of the histograms", "plain"),
    "kolmogorov_smirnov": MetricLabel("KS", "largest distance of the distribution functions", "plain"),
    "profile_deviation": MetricLabel("profile", "mean relative deviation of the profiles", "percent"),
    "bin_deviation": MetricLabel("one bin", "relative deviation of one bin of the profile", "percent"),
    "bin_offset": MetricLabel("one bin", "deviation of one bin in spreads of the truth", "spreads"),
    "classifier_auc": MetricLabel("AUC", "area under the ROC curve of boosted trees", "plain"),
    "near_copies": MetricLabel("copies", "share of showers with a near copy in their own sample", "percent"),
    "negative_energy": MetricLabel("negative", "negative over visible energy", "percent"),
}


def format_number(value: float, metric: str) -> str:
    """A value in the manner of its metric."""
    if not math.isfinite(value):
        return "∞" if value > 0 else "−∞" if value < 0 else "–"
    kind = METRICS[metric].format
    if kind == "percent":
        percent = 100 * value
        text = f"{percent:.2f} %" if abs(percent) < 10 else f"{percent:.1f} %"
    elif kind == "spreads":
        text = f"{value:.3f} σ"
    else:
        text = f"{value:.4f}"
    return text.replace("-", "−")


def format_sigma(sigma: float) -> str:
    """Standard errors beyond a threshold; empty within it."""
    if math.isnan(sigma) or sigma <= 0:
        return ""
    return "always" if math.isinf(sigma) else f"{sigma:.1f} σ"


def describe_place(difference: Difference, observable: Observable | None) -> str:
    """Where a difference was found: "all showers", "100 GeV", "all showers, readout layer 4"."""
    if difference.place is None or observable is None or observable.axis is None:
        return difference.bin.label
    edges, place = observable.axis.edges, difference.place
    middle = (edges[place] + edges[place + 1]) / 2
    if observable.axis.log:
        middle = math.sqrt(edges[place] * edges[place + 1])
    unit = f" {observable.axis.unit}" if observable.axis.unit else ""
    return f"{difference.bin.label}, {mathtext.plain(observable.axis.label)} {middle:.4g}{unit}".replace(
        "-", "−"
    )


def observable_title(name: str, observables: dict[str, Observable]) -> list[mathtext.Run]:
    """The title of an observable as styled runs."""
    if name == SHOWER:
        return [("whole showers", "")]
    return mathtext.runs(observables[name].label)
