"""Metrics of repetition: showers that resemble others of their sample, or showers of the training."""

from __future__ import annotations

from caloforge.metrics.diversity import (
    MAX_SHOWERS,
    memorised,
    near_copies,
    neighbour_spacing,
    training_distance,
)
from caloforge.metrics.neighbours import MAX_NEIGHBOURS
from caloforge.metrics.registry import MetricDefinition
from caloforge.metrics.resampling import Metric
from caloforge.metrics.samples import SamplePair


def _near_copies(pair: SamplePair) -> Metric:
    return near_copies(pair.truth.profiles, pair.generated.profiles, seed=pair.seed)


def _neighbour_spacing(pair: SamplePair) -> Metric:
    return neighbour_spacing(
        pair.truth.features, pair.generated.features, seed=pair.seed, max_showers=MAX_NEIGHBOURS
    )


def _training_copies(pair: SamplePair) -> Metric | None:
    if pair.training is None:
        return None
    return memorised(pair.training.profiles, pair.truth.profiles, pair.generated.profiles, seed=pair.seed)


def _training_distance(pair: SamplePair) -> Metric | None:
    if pair.training is None:
        return None
    features = (sample.features for sample in (pair.training, pair.truth, pair.generated))
    return training_distance(*features, seed=pair.seed, max_showers=MAX_NEIGHBOURS)


METRICS = (
    MetricDefinition(
        "near_copies",
        "copies",
        "fraction of showers with a near copy in their own sample",
        "percent",
        "excess",
        of_samples=_near_copies,
        max_showers=MAX_SHOWERS,
        headline=True,
        card="showers with a near copy",
    ),
    MetricDefinition(
        "neighbour_spacing",
        "spacing",
        "distance to the nearest neighbour over that in the truth",
        threshold="ratio",
        of_samples=_neighbour_spacing,
        max_showers=MAX_NEIGHBOURS,
        card="distance to the nearest neighbour, over the truth's",
    ),
    MetricDefinition(
        "training_copies",
        "training copies",
        "fraction of showers that are near copies of training showers",
        "percent",
        "excess",
        of_samples=_training_copies,
        requires="training",
        max_showers=MAX_SHOWERS,
        card="near copies of training showers",
    ),
    MetricDefinition(
        "training_distance",
        "training distance",
        "distance to the nearest training shower over that of the truth",
        threshold="ratio",
        of_samples=_training_distance,
        requires="training",
        max_showers=MAX_NEIGHBOURS,
        card="distance to the nearest training shower, over the truth's",
    ),
)
