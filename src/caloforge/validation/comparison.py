"""Every observable in every bin, truth against one generator: measured differences with errors and floors."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caloforge.metrics.distributions import (
    kolmogorov_smirnov,
    quantile_edges,
    separation_power,
    spectrum_separation,
    wasserstein,
)
from caloforge.metrics.relative_shifts import mean_shift, profile_deviation, width_shift
from caloforge.metrics.resampling import Metric, Resampler
from caloforge.observables import Observable
from caloforge.validation import figure_data, mathtext
from caloforge.validation.conditions import AtFixedConditions, Bin
from caloforge.validation.figure_data import Figure
from caloforge.validation.observed_sample import Sample

# a mean below this share of the spread says nothing: shifts are then measured in spreads
MIN_MEAN = 0.25
# values that differ by less than this share of their size are one value
SAME = 1e-6
# bins of a profile that hold less than this share are not compared one by one
MIN_SHARE = 0.01


@dataclass(frozen=True)
class Difference:
    """One metric of one observable in one bin, for one generator.

    Attributes:
        generator: Name of the sample.
        observable: Name of the observable, or "shower".
        metric: Name of the metric.
        bin: Where.
        result: Value, uncertainty, floor.
        dof: Degrees of freedom of the uncertainty: the effective number of showers that carry the variance.
        place: Index of the bin of a profile, or of the pair of observables; None for one number.
        at: The same for people: "readout layer 4".
        most: Showers of either sample that the metric looks at, at most; None for all.
    """

    generator: str
    observable: str
    metric: str
    bin: Bin
    result: Metric
    dof: float = math.inf
    place: int | None = None
    at: str = ""
    most: int | None = None

    @property
    def where(self) -> str:
        """Where it was found: "all showers", "100 GeV", "all showers, readout layer 4"."""
        return f"{self.bin.label}, {self.at}" if self.at else self.bin.label


class Comparison:
    """Truth against generators, observable by observable, so that only one is held adjusted at a time."""

    def __init__(self, truth: Sample, generated: Sequence[Sample], bins: Sequence[Bin], *, seed: int) -> None:
        """Choose the showers of every bin and draw the weights of the bootstrap.

        Args:
            truth: Full simulation.
            generated: The samples to judge.
            bins: Where to compare; the inclusive one among them.
            seed: Seed of the bootstrap.
        """
        self.truth, self.generated, self.bins = truth, tuple(generated), tuple(bins)
        self._chosen = {
            sample.name: {b.key: b.select(sample.conditions) for b in bins} for sample in (truth, *generated)
        }
        self._resamplers = {
            (other.name, b.key): Resampler(
                int(self._chosen[truth.name][b.key].sum()),
                int(self._chosen[other.name][b.key].sum()),
                seed=(seed, zlib.crc32(b.key.encode())),
            )
            for other in generated
            for b in bins
        }

    def examine(self, observable: Observable) -> tuple[list[Difference], list[Figure]]:
        """Every difference and figure of one observable."""
        adjusted = self._adjusted(observable)
        drawn: list[Figure] = []
        differences: list[Difference] = []
        for where in self.bins:
            parts = self._in_bin(observable, adjusted, where)
            differences += self._measure(observable, where, parts)
            if observable.kind == "scalar":
                figure = figure_data.histogram(observable, self.truth, self.generated, where)
            else:
                figure = figure_data.profile(observable, where, parts)
            drawn += [figure] if figure else []
        if observable.kind == "scalar" and drawn:
            pairs = list(zip((self.truth, *self.generated), adjusted, strict=True))
            against = figure_data.trend(observable, pairs[0], pairs[1:])
            drawn += [against] if against else []
        return differences, drawn

    def measure(self, observable: Observable) -> list[Difference]:
        """Every difference of one observable, without figures."""
        adjusted = self._adjusted(observable)
        return [
            difference
            for where in self.bins
            for difference in self._measure(observable, where, self._in_bin(observable, adjusted, where))
        ]

    def _adjusted(self, observable: Observable) -> list[NDArray[Any]]:
        """Values of all samples at fixed incident conditions, the truth first."""
        table = self.truth.values[observable.name]
        fixed = AtFixedConditions(self.truth.conditions, table.reshape(len(table), -1))
        return [self._adjust(fixed, sample, observable) for sample in (self.truth, *self.generated)]

    def _in_bin(self, observable: Observable, adjusted: list[NDArray[Any]], where: Bin) -> list[NDArray[Any]]:
        """The values of the showers in a bin, around the mean that the truth has there."""
        chosen = self._chosen[self.truth.name][where.key]
        raw = self.truth.values[observable.name][chosen]
        level = raw.mean(axis=0, dtype=np.float64) - adjusted[0][chosen].mean(axis=0)
        return [
            values[self._chosen[sample.name][where.key]] + level
            for sample, values in zip((self.truth, *self.generated), adjusted, strict=True)
        ]

    def _adjust(self, fixed: AtFixedConditions, sample: Sample, observable: Observable) -> NDArray[Any]:
        values = sample.values[observable.name]
        return fixed.adjust(sample.conditions, values.reshape(len(values), -1)).reshape(values.shape)

    def _measure(self, observable: Observable, where: Bin, parts: list[NDArray[Any]]) -> list[Difference]:
        measure = _scalar if observable.kind == "scalar" else _profile
        return [
            Difference(other.name, observable.name, metric, where, result, dof, place, _at(observable, place))
            for other, values in zip(self.generated, parts[1:], strict=True)
            for metric, result, dof, place in measure(
                observable, parts[0], values, self._resamplers[other.name, where.key]
            )
        ]


Measured = Iterator[tuple[str, Metric, float, int | None]]


def effective_showers(values: NDArray[Any]) -> NDArray[np.float64]:
    """How many showers carry the variance: (sum r^2)^2 / sum r^4 of the distances r from the mean.

    A third of all for a normal distribution, 1 where a single shower lies far out. It takes the place of the
    number of showers as degrees of freedom: errors estimated from a few outliers are themselves uncertain.

    Args:
        values: (n,) or (n, k).

    Returns:
        () or (k,); infinite where nothing varies.
    """
    square = (values - values.mean(axis=0)) ** 2
    fourth = (square**2).sum(axis=0)
    total = square.sum(axis=0) ** 2
    result: NDArray[np.float64] = np.divide(total, fourth, out=np.full(total.shape, np.inf), where=fourth > 0)
    return result


def _scalar(observable: Observable, want: NDArray[Any], got: NDArray[Any], resampler: Resampler) -> Measured:
    spread = float(want.std())
    if spread <= SAME * float(np.abs(want).max()):
        yield from _against_constant(observable, want, got)
        return
    dof = float(np.minimum(effective_showers(want), effective_showers(got)))
    if observable.signed or abs(float(want.mean())) < MIN_MEAN * spread:
        yield "mean_offset", mean_shift(want, got, resampler, scale=spread), dof, None
    else:
        yield "mean_shift", mean_shift(want, got, resampler), dof, None
    yield "width_shift", width_shift(want, got, resampler), dof, None
    yield "wasserstein", wasserstein(want, got, resampler), dof, None
    # distances of shares of the showers, which no outlier moves
    edges = quantile_edges(want)
    yield "separation_power", separation_power(want, got, edges, resampler), math.inf, None
    yield "kolmogorov_smirnov", kolmogorov_smirnov(want, got, resampler), math.inf, None


def _against_constant(observable: Observable, want: NDArray[Any], got: NDArray[Any]) -> Measured:
    """The mean alone, where all showers of the truth have one value; nothing where the others have it too."""
    level, spread = float(want.mean()), float(got.std())
    shift = float(got.mean()) - level
    if max(abs(shift), spread) <= SAME * abs(level):
        return
    relative = level != 0 and not observable.signed
    scale = abs(level) if relative else spread or abs(shift)
    found = Metric(shift / scale, spread / scale / math.sqrt(len(got)), 0.0)
    yield "mean_shift" if relative else "mean_offset", found, float(effective_showers(got)), None


def _profile(observable: Observable, want: NDArray[Any], got: NDArray[Any], resampler: Resampler) -> Measured:
    mean, spread = want.mean(axis=0), want.std(axis=0)
    difference = got.mean(axis=0) - mean
    own = spread**2 / len(want)
    error = np.sqrt(own + got.var(axis=0) / len(got))
    # mean size of a normal variate, at the sizes of these samples
    floor = np.sqrt(2 / np.pi * own * (1 + len(want) / len(got)))
    dof = np.minimum(effective_showers(want), effective_showers(got))
    tested = spread > SAME * np.abs(want).max(axis=0)
    if observable.signed:
        metric, scale = "bin_offset", spread
    else:
        smallest = float(dof[mean > MIN_SHARE * np.abs(mean).sum()].min(initial=np.inf))
        yield "profile_deviation", profile_deviation(want, got, resampler), smallest, None
        if observable.kind == "spectrum":
            # counts at fixed conditions may fall below zero where hardly any are
            counts = np.maximum(want, 0), np.maximum(got, 0)
            yield "separation_power", spectrum_separation(*counts, resampler), math.inf, None
        metric, scale = "bin_deviation", mean
        tested &= mean > MIN_SHARE * np.abs(mean).sum()
    for place in np.flatnonzero(tested):
        numbers = (float(row[place] / scale[place]) for row in (difference, error, floor))
        yield metric, Metric(*numbers), float(dof[place]), int(place)


def _at(observable: Observable, place: int | None) -> str:
    """The middle of a bin of a profile, with the name of its axis."""
    if place is None or observable.axis is None:
        return ""
    low, high = observable.axis.edges[place : place + 2]
    middle = np.sqrt(low * high) if observable.axis.log else (low + high) / 2
    unit = f" {observable.axis.unit}" if observable.axis.unit else ""
    return f"{mathtext.plain(observable.axis.label)} {middle:.4g}{unit}".replace("-", "−")
