"""Validation of showers in memory, without a report."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from caloforge.conditions import Conditions
from caloforge.geometry import Detector
from caloforge.observables import catalogue, default_threshold, observe
from caloforge.showers import ShowerBatch
from caloforge.validation.comparison import Comparison, Difference
from caloforge.validation.compatibility import check_enough
from caloforge.validation.conditions import make_bins
from caloforge.validation.leakage_correction import AT_DEPTH, add_response_at_depth
from caloforge.validation.multivariate import compare_correlations, compare_showers, summarise
from caloforge.validation.observed_sample import NegativeCells, Sample, kept_whole
from caloforge.validation.thresholds import load_thresholds
from caloforge.validation.verdict import Verdict, judge


def judge_batches(
    truth: ShowerBatch,
    generated: ShowerBatch,
    detector: Detector,
    *,
    thresholds: str = "3dgan",
    classifier: bool = False,
    threshold: float | None = None,
    seed: int = 0,
) -> Verdict:
    """Compare generated showers with full simulation, as `validate_files` does.

    Args:
        truth: Showers of the full simulation, of one particle.
        generated: Showers to judge, of the same incident conditions.
        detector: Detector of both.
        thresholds: Name of a threshold set, or a YAML file.
        classifier: Also train boosted trees.
        threshold: Voxels above it are hits, MeV.
        seed: Seed of bootstrap and classifier.

    Returns:
        The verdict with every comparison.

    Raises:
        DataError: Fewer showers than a comparison takes.
    """
    for batch, name in ((truth, "truth"), (generated, "generated")):
        check_enough(name, len(batch))
    if threshold is None:
        threshold = default_threshold(detector)
    impacts = Conditions.of(truth).off_axis
    observables = (*catalogue(detector, threshold=threshold, impacts=impacts), AT_DEPTH)
    one, other = add_response_at_depth(
        [
            _sample(batch, name, detector, threshold, impacts)
            for batch, name in ((truth, "truth"), (generated, "generated"))
        ]
    )
    bins = make_bins(one.conditions, [other.conditions])
    comparison = Comparison(one, [other], bins, seed=seed)
    differences: list[Difference] = []
    for observable in observables:
        differences += comparison.measure(observable)
    differences += compare_correlations(one, [other]).differences
    differences += compare_showers(one, other, bins, classifier=classifier, seed=seed)
    differences += list(summarise(differences))
    tolerated = load_thresholds(thresholds, [o.name for o in observables])
    return judge("generated", differences, tolerated, (len(truth), len(generated)))


def _sample(
    batch: ShowerBatch, name: str, detector: Detector, threshold: float, impacts: bool = False
) -> Sample:
    below = np.minimum(batch.showers, 0)
    values = observe(batch, detector, threshold=threshold, impacts=impacts)
    visible = float(values["visible_energy"].sum(dtype=np.float64))
    negative = NegativeCells(
        voxels=int(np.count_nonzero(below)),
        showers=int(np.count_nonzero(below.reshape(len(batch), -1).any(axis=1))),
        energy=-float(below.sum(dtype=np.float64)) / max(visible, 1e-30),
        lowest=float(below.min()),
    )
    kept = kept_whole(len(batch), detector)
    return Sample(
        name=name,
        path=Path(),
        detector=detector,
        provenance={},
        index=np.arange(len(batch)),
        conditions=Conditions.of(batch).double(),
        values=values,
        mean_showers={},
        kept=kept,
        kept_showers=batch.showers[kept],
        negative=negative,
        empty=int((values["visible_energy"] <= 0).sum()),
        seconds=None,
    )
