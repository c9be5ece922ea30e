"""Equivalent statistics: the difference of each observable as a number of showers; median and worst."""

from __future__ import annotations

from caloforge.metrics.definitions.observables import ks_distance
from caloforge.metrics.equivalent_statistics import equivalent_showers, fewest_showers, median_showers
from caloforge.metrics.registry import MetricDefinition
from caloforge.metrics.resampling import Metric
from caloforge.metrics.samples import ObservablePair


def _equivalent_showers(pair: ObservablePair) -> Metric | None:
    distance = pair.shared(ks_distance)
    if distance is None:
        return None
    return equivalent_showers(distance, pair.resampler.n_truth, pair.resampler.n_generated)


METRICS = (
    MetricDefinition(
        "equivalent_showers",
        "equivalent",
        "number of true showers that scatter as much",
        of_observable=_equivalent_showers,
    ),
    MetricDefinition(
        "equivalent_showers_median",
        "equivalent",
        "equivalent statistics: number of true showers that scatter as much, median of the observables",
        of_results=("equivalent_showers", median_showers),
        card="equivalent statistics, showers, median of the observables",
    ),
    MetricDefinition(
        "equivalent_showers_worst",
        "equivalent",
        "the same, worst observable",
        of_results=("equivalent_showers", fewest_showers),
        card="equivalent statistics, showers, worst observable",
    ),
)
