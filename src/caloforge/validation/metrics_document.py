"""metrics.json: every number of a validation, for programs. See docs/reference/report.md for the layout."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from caloforge.conditions import Conditions
from caloforge.metrics.equivalent_statistics import fewest_showers, is_limit, median_showers
from caloforge.metrics.resampling import Metric
from caloforge.number_format import plain
from caloforge.showers.file_pattern import pattern_name
from caloforge.validation.conditions import INCLUSIVE
from caloforge.validation.observed_sample import Sample
from caloforge.validation.thresholds import ThresholdSet
from caloforge.validation.verdict import Judgement, Verdict, worst_state

FORMAT, VERSION = "caloforge-metrics", 2
# observables that the sentence names, at most
NAMED = 6


def metrics_document(
    truth: Sample,
    generated: Sequence[Sample],
    verdicts: Sequence[Verdict],
    thresholds: ThresholdSet,
    **facts: Any,
) -> dict[str, Any]:
    """The document; all numbers are finite or null.

    Args:
        truth: Full simulation.
        generated: The samples judged.
        verdicts: One of each.
        thresholds: What was tolerated.
        facts: Further entries, JSON-compatible.
    """
    return {
        "format": FORMAT,
        "version": VERSION,
        "verdict": worst_state(verdicts),
        "passed": all(v.passed for v in verdicts),
        "thresholds": thresholds.model_dump(mode="json"),
        "truth": describe_sample(truth),
        "generators": {
            sample.name: {
                "verdict": verdict.state,
                "sentence": sentence(verdict, thresholds),
                "passed": verdict.passed,
                "trials": verdict.trials,
                "critical_sigma": verdict.critical,
                "assured_sigma": verdict.assured,
                "undecided": len(verdict.undecided),
                "showers_needed": verdict.showers_needed,
                "equivalent_statistics": equivalent_statistics(verdict),
                "sample": describe_sample(sample),
                "failures": [_failure(j) for j in verdict.failures],
                "observables": _observables(verdict),
            }
            for sample, verdict in zip(generated, verdicts, strict=True)
        },
        **facts,
    }


def sentence(verdict: Verdict, thresholds: ThresholdSet) -> str:
    """The verdict in one sentence, for the command line and cards."""
    if verdict.state == "within":
        return (
            f"within '{thresholds.name}': all {verdict.trials} comparisons decided at "
            f"{100 * thresholds.confidence:g} % confidence"
        )
    waiting = len(verdict.undecided)
    if verdict.state == "undecided":
        return (
            f"UNDECIDED with '{thresholds.name}': nothing fails, but {waiting} of {verdict.trials} "
            f"comparisons are not decided; {remedy(verdict)}"
        )
    names = list(dict.fromkeys(j.difference.observable for j in verdict.failures))
    shown = ", ".join(names[:NAMED]) + (", …" if len(names) > NAMED else "")
    return (
        f"NOT within '{thresholds.name}': {len(verdict.failures)} of {verdict.trials} comparisons fail "
        f"({shown}), {waiting} are not decided"
    )


def equivalent_statistics(verdict: Verdict) -> dict[str, Any]:
    """How many showers of the truth scatter as much as this generator differs from it; empty if unknown."""
    found = {
        j.difference.observable: j.difference.result
        for j in verdict.judgements
        if j.difference.metric == "equivalent_showers" and j.difference.bin is INCLUSIVE
    }
    if not found:
        return {}
    middle, worst = median_showers(list(found.values())), fewest_showers(list(found.values()))
    name = min(found, key=lambda observable: found[observable].value)
    return {
        "median": middle.to_json(),
        "worst": worst.to_json(),
        "worst_observable": name,
        "observables": len(found),
        "sentence": (
            f"two full simulations of {_showers(middle)} showers each would differ as much "
            f"(median of {len(found)} observables; worst {_showers(worst)}, {name})"
        ),
    }


def _showers(result: Metric) -> str:
    """Two digits; a lower limit where the samples show no difference."""
    if not math.isfinite(result.value):
        return "any number of"
    return ("at least " if is_limit(result) else "") + f"{float(f'{result.value:.2g}'):.0f}"


def remedy(verdict: Verdict) -> str:
    """How many showers would decide the undecided comparisons."""
    if (needed := verdict.showers_needed) is not None:
        return f"about {plain(needed)} showers of each sample would decide"
    if not verdict.trials:
        return "no threshold applies to what was measured"
    return "no number of showers would decide with these thresholds"


def describe_sample(sample: Sample) -> dict[str, Any]:
    """Description of a sample."""
    negative = sample.negative
    return {
        "name": sample.name,
        "file": pattern_name(sample.path),
        "showers": len(sample),
        "empty_showers": sample.empty,
        "negative_voxels": negative.voxels,
        "showers_with_negative_voxels": negative.showers,
        "lowest_voxel_MeV": negative.lowest,
        "median_seconds": sample.seconds,
        "incident_energy_MeV": [float(sample.conditions.energy.min()), float(sample.conditions.energy.max())],
        "incident_theta_rad": [float(sample.conditions.theta.min()), float(sample.conditions.theta.max())],
        **_impacts(sample.conditions),
        "provenance": sample.provenance,
    }


def _impacts(conditions: Conditions) -> dict[str, list[float]]:
    """Limits of the impact points; nothing where all lie on the axis of the mesh."""
    columns = {"impact_x_mm": conditions.impact_x, "impact_y_mm": conditions.impact_y}
    if not conditions.off_axis:
        return {}
    return {name: [float(column.min()), float(column.max())] for name, column in columns.items()}


def _failure(judgement: Judgement) -> dict[str, Any]:
    difference = judgement.difference
    place = {} if difference.place is None else {"place": difference.place}
    return {
        "observable": difference.observable,
        "metric": difference.metric,
        "bin": difference.bin.key,
        **place,
        **_numbers(judgement),
    }


def _observables(verdict: Verdict) -> dict[str, Any]:
    """Observable > bin > metric > numbers; a list over the bins of a profile for `bin_deviation`."""
    tree: dict[str, Any] = {}
    for judgement in verdict.judgements:
        difference = judgement.difference
        branch = tree.setdefault(difference.observable, {}).setdefault(difference.bin.key, {})
        if difference.place is None:
            branch[difference.metric] = _numbers(judgement)
        else:
            branch.setdefault(difference.metric, []).append({"place": difference.place} | _numbers(judgement))
    return tree


def _numbers(judgement: Judgement) -> dict[str, Any]:
    numbers: dict[str, Any] = judgement.difference.result.to_json()
    if judgement.threshold is not None:
        numbers |= {
            "threshold": judgement.threshold,
            "status": judgement.status,
            "sigma": _finite(judgement.sigma),
            "sees": _finite(judgement.sees),
        }
    return numbers


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
