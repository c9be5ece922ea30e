"""Words and number formats: how metrics and places are written in the report."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

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
    "correlation_shift": MetricLabel("r", "difference of the correlation coefficients", "plain"),
    "near_copies": MetricLabel("copies", "share of showers with a near copy in their own sample", "percent"),
    "neighbour_spacing": MetricLabel("spacing", "nearest neighbours' distance over the truth's", "plain"),
    "negative_energy": MetricLabel("negative", "negative over visible energy", "percent"),
    "fpd": MetricLabel("FPD", "Fréchet physics distance of the high-level features", "plain"),
    "kpd": MetricLabel("KPD", "kernel physics distance of the high-level features", "plain"),
    "precision": MetricLabel("precision", "share of generated showers within reach of true ones", "plain"),
    "recall": MetricLabel("recall", "share of true showers within reach of generated ones", "plain"),
    "density": MetricLabel("density", "how densely true showers lie around generated ones", "plain"),
    "coverage": MetricLabel("coverage", "share of true showers with a generated one near", "plain"),
    "ssim": MetricLabel("SSIM", "structural similarity to the truth, L = 10 MeV", "plain"),
    "ssim_generated": MetricLabel("SSIM among", "structural similarity among each other", "plain"),
    "log_posterior": MetricLabel("log posterior", "mean log posterior among the generators", "plain"),
    "merit_p": MetricLabel("P", "3DGAN figure of merit P: moments", "percent"),
    "merit_e": MetricLabel("E", "3DGAN figure of merit E: profiles", "percent"),
    "merit_s": MetricLabel("S", "3DGAN figure of merit S: sampling fraction", "percent"),
    "merit_sum": MetricLabel("P+E+S", "sum of the 3DGAN figures of merit", "percent"),
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


def with_error(value: float, uncertainty: float, metric: str) -> str:
    """A value and its error, "(1.20 ± 0.35) %"."""
    if not (math.isfinite(value) and math.isfinite(uncertainty)):
        return format_number(value, metric)
    kind = METRICS[metric].format
    scale, unit = {"percent": (100.0, " %"), "spreads": (1.0, " σ"), "plain": (1.0, "")}[kind]
    digits = decimals(scale * uncertainty)
    text = f"{scale * value:.{digits}f} ± {scale * uncertainty:.{digits}f}".replace("-", "−")
    return f"({text}){unit}" if unit else text


def decimals(error: float) -> int:
    """Decimals that show two significant digits of an error, at most five."""
    return int(min(5, max(0, 1 - math.floor(math.log10(error))))) if error > 0 else 2


def format_sigma(sigma: float) -> str:
    """Standard errors beyond a threshold; empty within it."""
    if math.isnan(sigma) or sigma <= 0:
        return ""
    if math.isinf(sigma):
        return "always"
    return "> 100 σ" if sigma > 100 else f"{sigma:.1f} σ"
