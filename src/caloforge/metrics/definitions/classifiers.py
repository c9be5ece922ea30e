"""Metrics of classifiers: boosted trees that separate two samples, or several generators."""

from __future__ import annotations

from caloforge.metrics.registry import MetricDefinition
from caloforge.metrics.resampling import Metric
from caloforge.metrics.samples import SamplePair
from caloforge.metrics.tree_classifier import MAX_PER_CLASS, classifier_auc


def _classifier_auc(pair: SamplePair) -> Metric:
    return classifier_auc(pair.truth.features, pair.generated.features, seed=pair.seed)


METRICS = (
    MetricDefinition(
        "classifier_auc",
        "AUC",
        "area under the ROC curve of boosted trees",
        threshold="area",
        of_samples=_classifier_auc,
        requires="classifier",
        max_showers=MAX_PER_CLASS,
        card="AUC, boosted trees on observables",
    ),
    # of several particles, see `validation.particle_separation`
    MetricDefinition(
        "particle_auc",
        "ΔAUC",
        "difference of the areas of trees that tell two particles apart",
        threshold="magnitude",
        requires="classifier",
    ),
    # of several generators, see `validation.multivariate.compare_generators`
    MetricDefinition("log_posterior", "log posterior", "mean log posterior among the generators"),
)
