"""Every observable in every bin, truth against one generator: measured differences with errors and floors."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caloforge.metrics.distributions import kolmogorov_smirnov, quantile_edges, separation_power, wasserstein
from caloforge.metrics.diversity import near_copies
from caloforge.metrics.means import mean_shift, profile_deviation, width_shift
from caloforge.metrics.resampling import Metric, Resampler
from caloforge.observables import Observable, high_level_features
from caloforge.observables.energy import fractions
from caloforge.validation import figures
from caloforge.validation.conditions import INCLUSIVE, AtFixedConditions, Bin
from caloforge.validation.figures import Figure
from caloforge.validation.sample import Sample

# name in place of an observable for metrics of whole showers
SHOWER = "shower"
# a mean below this share of the spread says nothing: shifts are then measured in spreads
MIN_MEAN = 0.25
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
        place: For `bin_deviation` and `bin_offset`: index of the bin of the profile.
    """

    generator: str
    observable: str
    metric: str
    bin: Bin
    result: Metric
    place: int | None = None


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
        table = self.truth.values[observable.name]
        fixed = AtFixedConditions(self.truth.conditions, table.reshape(len(table), -1))
        adjusted = [self._adjust(fixed, sample, observable) for sample in (self.truth, *self.generated)]
        differences = []
        measure = _scalar if observable.kind == "scalar" else _profile
        for other, values in zip(self.generated, adjusted[1:], strict=True):
            for where in self.bins:
                want = adjusted[0][self._chosen[self.truth.name][where.key]]
                got = values[self._chosen[other.name][where.key]]
                for metric, result, place in measure(
                    observable, want, got, self._resamplers[other.name, where.key]
                ):
                    differences.append(Difference(other.name, observable.name, metric, where, result, place))
        return differences, self._figures(observable, adjusted)

    def _adjust(self, fixed: AtFixedConditions, sample: Sample, observable: Observable) -> NDArray[Any]:
        values = sample.values[observable.name]
        return fixed.adjust(sample.conditions, values.reshape(len(values), -1)).reshape(values.shape)

    def _figures(self, observable: Observable, adjusted: list[NDArray[Any]]) -> list[Figure]:
        samples = (self.truth, *self.generated)
        if observable.kind == "scalar":
            drawn = [figures.histogram(observable, self.truth, self.generated, b) for b in self.bins]
            pairs = list(zip(samples, adjusted, strict=True))
            against = figures.trend(observable, pairs[0], pairs[1:])
            return [*drawn, against] if against else drawn
        drawn = []
        for where in self.bins:
            parts = [
                (values, self._chosen[sample.name][where.key])
                for sample, values in zip(samples, adjusted, strict=True)
            ]
            drawn.append(figures.profile(observable, where, parts[0], parts[1:]))
        return drawn


Measured = Iterator[tuple[str, Metric, int | None]]


def _scalar(observable: Observable, want: NDArray[Any], got: NDArray[Any], resampler: Resampler) -> Measured:
    spread = float(want.std())
    if spread == 0:
        return
    if observable.signed or abs(float(want.mean())) < MIN_MEAN * spread:
        yield "mean_offset", mean_shift(want, got, resampler, scale=spread), None
    else:
        yield "mean_shift", mean_shift(want, got, resampler), None
    yield "width_shift", width_shift(want, got, resampler), None
    yield "wasserstein", wasserstein(want, got, resampler), None
    yield "separation_power", separation_power(want, got, quantile_edges(want), resampler), None
    yield "kolmogorov_smirnov", kolmogorov_smirnov(want, got, resampler), None


def _profile(observable: Observable, want: NDArray[Any], got: NDArray[Any], resampler: Resampler) -> Measured:
    mean, spread = want.mean(axis=0), want.std(axis=0)
    difference = got.mean(axis=0) - mean
    own = spread**2 / len(want)
    error = np.sqrt(own + got.var(axis=0) / len(got))
    # mean size of a normal variate, at the sizes of these samples
    floor = np.sqrt(2 / np.pi * own * (1 + len(want) / len(got)))
    tested = spread > 0
    if observable.signed:
        metric, scale = "bin_offset", spread
    else:
        yield "profile_deviation", profile_deviation(want, got, resampler), None
        metric, scale = "bin_deviation", mean
        tested &= mean > MIN_SHARE * np.abs(mean).sum()
    for place in np.flatnonzero(tested):
        numbers = (float(row[place] / scale[place]) for row in (difference, error, floor))
        yield metric, Metric(*numbers), int(place)


def compare_showers(
    truth: Sample, generated: Sample, *, classifier: bool, seed: int, threads: int = 1
) -> Iterator[Difference]:
    """Metrics of whole showers: repetition, negative energy and, on request, the classifier."""

    def difference(metric: str, result: Metric) -> Difference:
        return Difference(generated.name, SHOWER, metric, INCLUSIVE, result)

    yield difference("negative_energy", Metric(generated.negative.energy, 0.0, truth.negative.energy))
    yield difference("near_copies", near_copies(_shape(truth), _shape(generated), seed=seed))
    if classifier:
        # scikit-learn takes a second to import
        from caloforge.metrics.classifier import classifier_auc

        features = [
            high_level_features(sample.values, sample.conditions.energy) for sample in (truth, generated)
        ]
        yield difference("classifier_auc", classifier_auc(*features, seed=seed, threads=threads))


def _shape(sample: Sample) -> NDArray[np.float64]:
    """(N, k) energy fractions along the depth and across."""
    names = ("layer_energy", "x_profile", "y_profile", "radial_profile", "azimuthal_profile")
    return np.concatenate([fractions(sample.values[n]) for n in names if n in sample.values], axis=1)
