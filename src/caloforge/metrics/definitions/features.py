"""Distances of two samples in the space of their high-level features."""

from __future__ import annotations

from caloforge.metrics.fpd import frechet_physics_distance
from caloforge.metrics.kpd import kernel_physics_distance
from caloforge.metrics.neighbours import MAX_NEIGHBOURS
from caloforge.metrics.prdc import Prdc, prdc
from caloforge.metrics.registry import MetricDefinition
from caloforge.metrics.resampling import Metric
from caloforge.metrics.samples import SamplePair


def _fpd(pair: SamplePair) -> Metric:
    return frechet_physics_distance(pair.truth.features, pair.generated.features, seed=pair.seed)


def _kpd(pair: SamplePair) -> Metric:
    return kernel_physics_distance(pair.truth.features, pair.generated.features, seed=pair.seed)


def _prdc(pair: SamplePair) -> Prdc:
    # as many of both: the larger sample would cover the smaller one better than the reverse
    count = min(len(pair.truth), len(pair.generated), MAX_NEIGHBOURS)
    return prdc(pair.truth.features, pair.generated.features, seed=pair.seed, max_showers=count)


METRICS = (
    MetricDefinition(
        "fpd",
        "FPD",
        "Fréchet physics distance of the high-level features",
        threshold="excess",
        of_samples=_fpd,
        card="Fréchet physics distance",
    ),
    MetricDefinition(
        "kpd",
        "KPD",
        "kernel physics distance of the high-level features",
        threshold="excess",
        of_samples=_kpd,
        card="kernel physics distance",
    ),
    MetricDefinition(
        "precision",
        "precision",
        "precision: fraction of generated showers within the manifold of the truth",
        threshold="deficit",
        of_samples=lambda pair: pair.shared(_prdc).precision,
        max_showers=MAX_NEIGHBOURS,
        card="precision",
    ),
    MetricDefinition(
        "recall",
        "recall",
        "recall: fraction of true showers within the manifold of the generated ones",
        threshold="deficit",
        of_samples=lambda pair: pair.shared(_prdc).recall,
        max_showers=MAX_NEIGHBOURS,
        card="recall",
    ),
    MetricDefinition(
        "density",
        "density",
        "density of true showers around generated ones, over that among true ones",
        threshold="ratio",
        of_samples=lambda pair: pair.shared(_prdc).density,
        max_showers=MAX_NEIGHBOURS,
        card="density",
    ),
    MetricDefinition(
        "coverage",
        "coverage",
        "coverage: fraction of true showers with a generated one in their neighbourhood",
        threshold="deficit",
        of_samples=lambda pair: pair.shared(_prdc).coverage,
        max_showers=MAX_NEIGHBOURS,
        card="coverage",
    ),
)
