"""Distance of generated showers from full simulation: few numbers, at little cost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from caloforge.conditions import Conditions
from caloforge.metrics.resampling import Metric
from caloforge.metrics.tree_classifier import classifier_auc
from caloforge.observables import default_threshold, high_level_features
from caloforge.observables.catalogue import catalogue
from caloforge.showers import ShowerFile
from caloforge.validation.classifiers import STRONG, classify
from caloforge.validation.comparison import Comparison, Difference
from caloforge.validation.conditions import INCLUSIVE
from caloforge.validation.leakage_correction import AT_DEPTH, add_response_at_depth
from caloforge.validation.multivariate import summarise
from caloforge.validation.observed_sample import Sample, read_sample


def read_showers(path: Path, name: str) -> Sample:
    """Observables of a shower file, with the threshold of a hit that `validate` takes for its detector.

    Raises:
        DataError: A damaged file, or values that are not finite.
    """
    with ShowerFile(path) as file:
        threshold = default_threshold(file.detector, file.energy_meaning)
        impacts = Conditions.of(file).off_axis
    return read_sample(path, name, [INCLUSIVE], threshold=threshold, impacts=impacts)


def judge(truth: Sample, made: Sample, *, seed: int, cnn: bool = False) -> dict[str, Metric]:
    """Compare generated showers with those of full simulation.

    Args:
        truth: Full simulation.
        made: Generated showers with the same incident conditions.
        seed: Seed of classifiers and resampling.
        cnn: Also train the CNN on every cell, which takes minutes.

    Returns:
        `trees` and `cnn`, areas under the ROC curve; `response`, the relative shift of the mean;
        `distance_median` and `distance_worst` over the observables, Wasserstein-1 in standard deviations;
        `equivalent_showers_median` and `equivalent_showers_worst`.
    """
    tables = [high_level_features(sample.values, sample.conditions.energy) for sample in (truth, made)]
    found = {"trees": classifier_auc(*tables, seed=seed)}
    if cnn:
        [(found["cnn"], _)] = classify(
            truth, made, [STRONG], repeats=1, seed=seed, measure_floor=False
        ).values()
    differences = list(_scalars(truth, made, seed))
    [found["response"]] = _results(differences, "mean_shift", "response")
    distances = sorted(_results(differences, "wasserstein"), key=lambda result: result.value)
    found["distance_median"] = distances[(len(distances) - 1) // 2]
    found["distance_worst"] = distances[-1]
    found |= {difference.metric: difference.result for difference in summarise(differences)}
    return found


def _scalars(truth: Sample, made: Sample, seed: int) -> Iterator[Difference]:
    """Every metric of every observable that is one number for each shower."""
    truth, made = add_response_at_depth([truth, made])
    comparison = Comparison(truth, [made], [INCLUSIVE], seed=seed)
    # the threshold of a hit is a word in their labels only: the values are measured
    observables = catalogue(truth.detector, threshold=0.0, impacts=truth.conditions.off_axis)
    for observable in (*observables, AT_DEPTH):
        if observable.kind == "scalar":
            yield from comparison.measure(observable)


def _results(differences: Sequence[Difference], metric: str, observable: str | None = None) -> list[Metric]:
    return [d.result for d in differences if d.metric == metric and observable in (None, d.observable)]
