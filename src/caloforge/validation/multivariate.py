"""Metrics of whole showers: all observables at once, copies, correlations, the 3DGAN figures of merit."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from caloforge.geometry import CartesianMesh
from caloforge.metrics.diversity import MAX_SHOWERS, near_copies, neighbour_spacing
from caloforge.metrics.figures_of_merit import figures_of_merit
from caloforge.metrics.fpd import frechet_physics_distance
from caloforge.metrics.kpd import kernel_physics_distance
from caloforge.metrics.prdc import prdc
from caloforge.metrics.resampling import Metric, Resampler
from caloforge.metrics.ssim import RADIUS, similarity
from caloforge.observables import CORRELATION_SET, Correlations, correlations, high_level_features
from caloforge.observables.energy import fractions
from caloforge.validation.comparison import Difference
from caloforge.validation.conditions import INCLUSIVE, AtFixedConditions, Bin
from caloforge.validation.observed_sample import KEPT_SHOWERS, Sample

# names in place of an observable
SHOWER, CORRELATION = "shower", "correlation"
# showers whose nearest neighbours are looked for
MAX_NEIGHBOURS = 5_000
# showers of either sample that these look at, at most
MOST = {
    "near_copies": MAX_SHOWERS,
    **dict.fromkeys(("neighbour_spacing", "precision", "recall", "density", "coverage"), MAX_NEIGHBOURS),
    **dict.fromkeys(("ssim", "ssim_generated"), KEPT_SHOWERS),
}
# L of the structural similarity, MeV: of those of the 3DGAN papers, the one that sees most
SSIM_RANGE = 10.0


def compare_showers(
    truth: Sample, generated: Sample, bins: Sequence[Bin], *, classifier: bool, seed: int
) -> Iterator[Difference]:
    """Measure what no single observable shows.

    Args:
        truth: Full simulation.
        generated: The sample to judge.
        bins: Those of energy are averaged over in the figures of merit.
        classifier: Also train boosted trees to tell the samples apart; takes the longest.
        seed: Seed of splits, bootstrap and trees.
    """
    features = [high_level_features(s.values, s.conditions.energy) for s in (truth, generated)]
    results = {
        "negative_energy": Metric(generated.negative.energy, 0.0, truth.negative.energy),
        "near_copies": near_copies(_shape(truth), _shape(generated), seed=seed),
        "neighbour_spacing": neighbour_spacing(*features, seed=seed, max_showers=MAX_NEIGHBOURS),
        "fpd": frechet_physics_distance(*features, seed=seed),
        "kpd": kernel_physics_distance(*features, seed=seed),
        # as many of both, or the larger sample would cover the smaller one better than the reverse
        **vars(prdc(*features, seed=seed, max_showers=min(len(truth), len(generated), MAX_NEIGHBOURS))),
        **_merit(truth, generated, bins, seed),
        **_similarity(truth, generated),
    }
    if classifier:
        # scikit-learn takes a second to import
        from caloforge.metrics.tree_classifier import MAX_PER_CLASS, classifier_auc

        area = classifier_auc(*features, seed=seed)
        yield Difference(generated.name, SHOWER, "classifier_auc", INCLUSIVE, area, most=MAX_PER_CLASS)
    for metric, result in results.items():
        # of a truth that repeats itself; a note says so
        if math.isnan(result.value):
            continue
        yield Difference(generated.name, SHOWER, metric, INCLUSIVE, result, most=MOST.get(metric))


def compare_generators(truth: Sample, generated: Sequence[Sample], *, seed: int) -> Iterator[Difference]:
    """Which of several generators the truth would be taken for; nothing for a single one."""
    if len(generated) < 2:
        return
    from caloforge.metrics.posterior import log_posterior

    tables = [high_level_features(s.values, s.conditions.energy) for s in (truth, *generated)]
    for sample, result in zip(generated, log_posterior(tables[0], tables[1:], seed=seed), strict=True):
        yield Difference(sample.name, SHOWER, "log_posterior", INCLUSIVE, result)


def _shape(sample: Sample) -> NDArray[np.float64]:
    """(N, k) shares of the energy along the depth and across."""
    names = ("layer_energy", "x_profile", "y_profile", "radial_profile", "azimuthal_profile")
    return np.concatenate([fractions(sample.values[n]) for n in names if n in sample.values], axis=1)


def _similarity(truth: Sample, generated: Sample) -> dict[str, Metric]:
    """Structural similarity of the showers that were kept; none on meshes without images of 11 cells."""
    if (
        not isinstance(truth.detector.mesh, CartesianMesh)
        or min(truth.detector.shower_shape[1:]) <= 2 * RADIUS
    ):
        return {}
    energies = [s.conditions.energy[s.kept] for s in (truth, generated)]
    return similarity(truth.kept_showers, generated.kept_showers, energies[0], energies[1], SSIM_RANGE)


def _merit(truth: Sample, generated: Sample, bins: Sequence[Bin], seed: int) -> dict[str, Metric]:
    """P, E and S of the 3DGAN over the energy bins; A needs pairs and is `angle_residual` here."""
    energies = [b for b in bins if b.axis == "energy"] or [INCLUSIVE]
    numbers = []
    for sample in (truth, generated):
        number = np.full(len(sample), -1)
        for index, where in enumerate(energies):
            number[where.select(sample.conditions)] = index
        numbers.append(number)
    resampler = Resampler(len(truth), len(generated), seed=seed)
    found = figures_of_merit(truth.values, generated.values, resampler, bins=(numbers[0], numbers[1]))
    return {f"merit_{name.lower()}": metric for name, metric in found.items()}


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
