"""Warnings of a report: unphysical or repeated showers, missing bins and metrics, small samples."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from caloforge.number_format import percent
from caloforge.validation.conditions import QUANTILE_SHOWERS, Bin
from caloforge.validation.observed_sample import Sample
from caloforge.validation.thresholds import ThresholdSet
from caloforge.validation.verdict import Verdict


def odd_showers(sample: Sample) -> list[str]:
    """Numbers of negative voxels, empty showers and repeated showers."""
    negative, notes = sample.negative, []
    if negative.voxels:
        notes.append(
            f"{sample.name}: {negative.voxels} voxels in {negative.showers} showers are negative, the lowest "
            f"is {negative.lowest:.3g} MeV; together {percent(negative.energy)} of the visible energy."
        )
    if sample.empty:
        notes.append(f"{sample.name}: {sample.empty} showers hold no energy.")
    copies = len(sample) - len(np.unique(sample.values["layer_energy"], axis=0))
    if copies > sample.empty:
        notes.append(
            f"{sample.name}: {copies} of {len(sample)} showers repeat the layer energies of another one. "
            "Errors count every shower as one of its own and are too small."
        )
    return notes


def few_bins(bins: Sequence[Bin], samples: Sequence[Sample]) -> list[str]:
    """Missing bins of energy, and the number of showers they need."""
    if any(b.axis == "energy" for b in bins) or np.ptp(samples[0].conditions.energy) == 0:
        return []
    fewest = min(map(len, samples))
    return [
        f"All energies are compared together: bins of energy need {2 * QUANTILE_SHOWERS} showers in every "
        f"sample, and the smallest has {fewest}."
    ]


def not_measured(thresholds: ThresholdSet, verdicts: Sequence[Verdict]) -> list[str]:
    """Metrics of the threshold set that were not measured and so do not enter the verdict."""
    found = {j.difference.metric for verdict in verdicts for j in verdict.judgements}
    missing = sorted(set(thresholds.inclusive) - found)
    if not missing:
        return []
    return [f"Not measured here, though '{thresholds.name}' has a threshold for it: {', '.join(missing)}."]


def small_samples(verdicts: Sequence[Verdict], samples: Sequence[Sample]) -> list[str]:
    """Undecided comparisons, and the smallest shifts of means that these samples can detect."""
    notes = []
    for verdict, sample in zip(verdicts, samples, strict=True):
        seen = {
            j.difference.observable: j.sees
            for j in verdict.judgements
            if j.difference.metric == "mean_shift" and j.difference.bin.axis == "inclusive" and j.threshold
        }
        if not verdict.undecided or not seen:
            continue
        best, every = min(seen, key=lambda name: seen[name]), list(seen.values())
        notes.append(
            f"{sample.name}: {len(verdict.undecided)} of {verdict.trials} comparisons cannot be decided with "
            f"{len(sample)} showers. Over all showers they see no shift of a mean below "
            f"{percent(seen[best])} ({best}), {percent(float(np.median(every)))} for half of the "
            f"observables, and {percent(max(every))} for all."
        )
    return notes
