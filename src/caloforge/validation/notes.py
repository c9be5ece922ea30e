"""Sentences that a report must not hide: odd showers, and samples too small to decide."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from caloforge.amounts import percent
from caloforge.validation.sample import Sample
from caloforge.validation.verdict import Verdict


def odd_showers(sample: Sample) -> list[str]:
    """Negative voxels and empty showers, counted."""
    negative, notes = sample.negative, []
    if negative.voxels:
        notes.append(
            f"{sample.name}: {negative.voxels} voxels in {negative.showers} showers are negative, the lowest "
            f"is {negative.lowest:.3g} MeV; together {percent(negative.energy)} of the visible energy."
        )
    if sample.empty:
        notes.append(f"{sample.name}: {sample.empty} showers hold no energy.")
    return notes


def small_samples(verdicts: Sequence[Verdict], samples: Sequence[Sample]) -> list[str]:
    """What cannot be decided, and the smallest shifts of means that these samples would have shown."""
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
