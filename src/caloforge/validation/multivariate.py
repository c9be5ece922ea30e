"""Metrics of all observables at once: of two samples, of several generators, and correlation matrices."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from caloforge.metrics.registry import metrics
from caloforge.metrics.resampling import Metric
from caloforge.metrics.samples import SamplePair, ShowerSample
from caloforge.observables import CORRELATION_SET, Correlations, correlations, high_level_features
from caloforge.validation.comparison import Difference
from caloforge.validation.conditions import INCLUSIVE, AtFixedConditions, Bin
from caloforge.validation.observed_sample import Sample

# names in place of an observable
SHOWER, CORRELATION = "shower", "correlation"


def compare_showers(
    truth: Sample,
    generated: Sample,
    bins: Sequence[Bin],
    *,
    classifier: bool,
    seed: int,
    training: Sample | None = None,
) -> Iterator[Difference]:
    """Measure every registered metric of whole samples.

    Args:
        truth: Full simulation.
        generated: The sample to judge.
        bins: Those of energy are averaged over in the figures of merit.
        classifier: Also train boosted trees to tell the samples apart; takes the longest.
        seed: Seed of splits, bootstrap and trees.
        training: Showers that the generator was trained on.
    """
    available = {"classifier": classifier, "training": training is not None}
    pair = SamplePair(
        _shower_sample(truth, bins),
        _shower_sample(generated, bins),
        seed,
        None if training is None else _shower_sample(training, bins),
    )
    for definition in metrics().values():
        if definition.of_samples is None or (definition.requires and not available[definition.requires]):
            continue
        result = definition.of_samples(pair)
        # not a number where the truth repeats itself; a warning says so
        if result is not None and not math.isnan(result.value):
            yield Difference(
                generated.name, SHOWER, definition.name, INCLUSIVE, result, most=definition.max_showers
            )


def summarise(differences: Sequence[Difference]) -> Iterator[Difference]:
    """Every registered summary of a metric over the observables, all showers, for each generator."""
    for definition in metrics().values():
        if definition.of_results is None:
            continue
        metric, summary = definition.of_results
        found: dict[str, list[Metric]] = {}
        for difference in differences:
            if difference.metric == metric and difference.bin is INCLUSIVE and difference.place is None:
                found.setdefault(difference.generator, []).append(difference.result)
        for generator, results in found.items():
            yield Difference(generator, SHOWER, definition.name, INCLUSIVE, summary(results))


def compare_generators(truth: Sample, generated: Sequence[Sample], *, seed: int) -> Iterator[Difference]:
    """Which of several generators a classifier takes the truth for; nothing for a single one."""
    if len(generated) < 2:
        return
    from caloforge.metrics.posterior import log_posterior

    tables = [high_level_features(s.values, s.conditions.energy) for s in (truth, *generated)]
    for sample, result in zip(generated, log_posterior(tables[0], tables[1:], seed=seed), strict=True):
        yield Difference(sample.name, SHOWER, "log_posterior", INCLUSIVE, result)


def _shower_sample(sample: Sample, bins: Sequence[Bin]) -> ShowerSample:
    """What the metrics use of a sample."""
    energy_bin = np.full(len(sample), -1)
    for number, where in enumerate([b for b in bins if b.axis == "energy"] or [INCLUSIVE]):
        energy_bin[where.select(sample.conditions)] = number
    energy = sample.conditions.energy
    return ShowerSample(
        sample.detector,
        sample.values,
        energy,
        energy_bin,
        sample.kept_showers,
        energy[sample.kept],
        sample.negative.energy,
    )


@dataclass(frozen=True)
class CorrelationComparison:
    """Correlation matrices of the truth and of each generator, at fixed incident conditions.

    Attributes:
        names: Observables, in the order of the rows.
        matrices: The truth first.
        differences: Every pair of every generator.
    """

    names: tuple[str, ...]
    matrices: tuple[Correlations, ...]
    differences: tuple[Difference, ...]


def compare_correlations(truth: Sample, generated: Sequence[Sample]) -> CorrelationComparison:
    """Pearson correlations of the set that the 3DGAN analysis looks at, pair by pair.

    Without its incident energy, and at fixed incident conditions: over a flat spectrum everything that grows
    with the energy is correlated by that alone.
    """
    names = tuple(name for name in CORRELATION_SET if name in truth.values)
    table = _table(truth, names)
    fixed = AtFixedConditions(truth.conditions, table)
    samples = (truth, *generated)
    matrices = tuple(correlations(fixed.adjust(s.conditions, _table(s, names))) for s in samples)
    differences: list[Difference] = []
    for sample, matrix in zip(generated, matrices[1:], strict=True):
        differences += _pairs(sample, names, matrices[0], matrix, len(truth))
    return CorrelationComparison(names, matrices, tuple(differences))


def _table(sample: Sample, names: Sequence[str]) -> NDArray[np.float32]:
    return np.stack([sample.values[name] for name in names], axis=1)


def _pairs(
    sample: Sample, names: Sequence[str], want: Correlations, got: Correlations, n_truth: int
) -> Iterator[Difference]:
    lower = np.tril_indices(len(want.r), -1)
    # errors of Fisher's z, turned into errors of r
    errors = [c.uncertainty * (1 - c.r**2) for c in (want, got)]
    error = np.hypot(*errors)[lower]
    floor = np.sqrt(2 / np.pi * (1 + n_truth / len(sample))) * errors[0][lower]
    shift = (got.r - want.r)[lower]
    for place, numbers in enumerate(zip(shift, error, floor, strict=True)):
        result = Metric(*(float(number) for number in numbers))
        at = " and ".join(names[index[place]] for index in lower)
        yield Difference(sample.name, CORRELATION, "correlation_shift", INCLUSIVE, result, place=place, at=at)
