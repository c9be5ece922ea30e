"""Metrics of one observable at a time: means, standard deviations, distributions, profiles, correlations."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caloforge.metrics import distributions, relative_shifts
from caloforge.metrics.registry import MetricDefinition
from caloforge.metrics.resampling import Metric
from caloforge.metrics.samples import CONSTANT, ObservablePair


def _mean_shift(pair: ObservablePair) -> Metric | None:
    if pair.kind != "scalar" or not pair.relative:
        return None
    if pair.constant:
        return _shift_from_constant(pair)
    return relative_shifts.mean_shift(pair.truth, pair.generated, pair.resampler)


def _mean_offset(pair: ObservablePair) -> Metric | None:
    if pair.kind != "scalar" or pair.relative:
        return None
    if pair.constant:
        return _shift_from_constant(pair)
    return relative_shifts.mean_shift(pair.truth, pair.generated, pair.resampler, scale=float(pair.spread))


def _shift_from_constant(pair: ObservablePair) -> Metric | None:
    """Shift of the mean where all showers of the truth have one value; None where the others have it too."""
    level, spread = float(pair.truth.mean()), float(pair.generated.std())
    shift = float(pair.generated.mean()) - level
    if max(abs(shift), spread) <= CONSTANT * abs(level):
        return None
    scale = abs(level) if pair.relative else spread or abs(shift)
    return Metric(shift / scale, spread / scale / math.sqrt(len(pair.generated)), 0.0)


def _varies(pair: ObservablePair) -> bool:
    return pair.kind == "scalar" and not pair.constant


def _width_shift(pair: ObservablePair) -> Metric | None:
    if not _varies(pair):
        return None
    return relative_shifts.width_shift(pair.truth, pair.generated, pair.resampler)


def _wasserstein(pair: ObservablePair) -> Metric | None:
    return distributions.wasserstein(pair.truth, pair.generated, pair.resampler) if _varies(pair) else None


def ks_distance(pair: ObservablePair) -> Metric | None:
    """Kolmogorov-Smirnov distance; None for profiles, and where the truth has one value."""
    if not _varies(pair):
        return None
    return distributions.kolmogorov_smirnov(pair.truth, pair.generated, pair.resampler)


def _separation_power(pair: ObservablePair) -> Metric | None:
    if _varies(pair):
        edges = distributions.quantile_edges(pair.truth)
        return distributions.separation_power(pair.truth, pair.generated, edges, pair.resampler)
    if pair.kind == "spectrum" and not pair.signed:
        # counts at fixed conditions may fall below zero where hardly any are
        counts = np.maximum(pair.truth, 0), np.maximum(pair.generated, 0)
        return distributions.spectrum_separation(*counts, pair.resampler)
    return None


def _profile_deviation(pair: ObservablePair) -> Metric | None:
    if pair.kind == "scalar" or pair.signed:
        return None
    return relative_shifts.profile_deviation(pair.truth, pair.generated, pair.resampler)


def _bin_deviation(pair: ObservablePair) -> Mapping[int, Metric] | None:
    if pair.kind == "scalar" or pair.signed:
        return None
    return _each_bin(pair, pair.truth.mean(axis=0), ~pair.constant & pair.filled)


def _bin_offset(pair: ObservablePair) -> Mapping[int, Metric] | None:
    if pair.kind == "scalar" or not pair.signed:
        return None
    return _each_bin(pair, pair.spread, ~pair.constant)


def _each_bin(pair: ObservablePair, scale: NDArray[Any], compared: NDArray[np.bool_]) -> dict[int, Metric]:
    """Difference of the means in each bin that is compared, in units of `scale` (k,)."""
    truth, generated = pair.truth, pair.generated
    difference = generated.mean(axis=0) - truth.mean(axis=0)
    variance = pair.spread**2 / len(truth)
    error = np.sqrt(variance + generated.var(axis=0) / len(generated))
    # mean absolute value of a normal variate, at the sizes of these samples
    floor = np.sqrt(2 / np.pi * variance * (1 + len(truth) / len(generated)))
    return {
        int(place): Metric(*(float(row[place] / scale[place]) for row in (difference, error, floor)))
        for place in np.flatnonzero(compared)
    }


METRICS = (
    MetricDefinition(
        "mean_shift",
        "mean",
        "relative difference of the means",
        "percent",
        "magnitude",
        of_observable=_mean_shift,
        few_showers=True,
    ),
    MetricDefinition(
        "mean_offset",
        "mean",
        "difference of the means in standard deviations of the truth",
        "spreads",
        "magnitude",
        of_observable=_mean_offset,
        few_showers=True,
    ),
    MetricDefinition(
        "width_shift",
        "width",
        "relative difference of the standard deviations",
        "percent",
        "magnitude",
        of_observable=_width_shift,
        few_showers=True,
    ),
    MetricDefinition(
        "bin_deviation",
        "one bin",
        "relative deviation of one bin of the profile",
        "percent",
        "magnitude",
        of_observable=_bin_deviation,
        few_showers=True,
    ),
    MetricDefinition(
        "bin_offset",
        "one bin",
        "deviation of one bin in standard deviations of the truth",
        "spreads",
        "magnitude",
        of_observable=_bin_offset,
        few_showers=True,
    ),
    MetricDefinition(
        "profile_deviation",
        "profile",
        "mean relative deviation of the profiles",
        "percent",
        "excess",
        of_observable=_profile_deviation,
        few_showers=True,
    ),
    MetricDefinition(
        "wasserstein",
        "W1",
        "Wasserstein-1 distance in standard deviations of the truth",
        "spreads",
        "excess",
        of_observable=_wasserstein,
        few_showers=True,
    ),
    MetricDefinition(
        "separation_power",
        "separation",
        "separation power of the histograms",
        threshold="excess",
        of_observable=_separation_power,
    ),
    MetricDefinition(
        "kolmogorov_smirnov",
        "KS",
        "largest distance of the distribution functions",
        threshold="excess",
        of_observable=lambda pair: pair.shared(ks_distance),
    ),
    MetricDefinition(
        "correlation_shift",
        "r",
        "difference of the correlation coefficients",
        threshold="magnitude",
    ),
)
