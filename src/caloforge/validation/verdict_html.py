"""The verdict section of the report: the verdict in words, and a table with one row per observable."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from caloforge.metrics.registry import metrics
from caloforge.validation import formatting
from caloforge.validation.mathtext import Run
from caloforge.validation.metrics_document import remedy
from caloforge.validation.verdict import Judgement, Verdict

LISTED = 8
Titles = Mapping[str, Sequence[Run]]


def describe_verdict(verdict: Verdict, titles: Titles) -> dict[str, Any]:
    """What verdict.html shows of a generator."""
    failing: dict[str, list[Judgement]] = {}
    for judgement in verdict.failures:
        failing.setdefault(judgement.difference.observable, []).append(judgement)
    return {
        "generator": verdict.generator,
        "state": verdict.state,
        "trials": verdict.trials,
        "critical": verdict.critical,
        "assured": verdict.assured,
        "showers": min(verdict.showers),
        "observables": len({j.difference.observable for j in verdict.judgements if j.threshold is not None}),
        "open": len(verdict.undecided),
        "remedy": remedy(verdict).capitalize(),
        "failing": len(failing),
        "listed": [(titles[name], _sentence(js, verdict)) for name, js in list(failing.items())[:LISTED]],
        "rows": _rows(verdict, titles),
    }


def _sentence(failures: Sequence[Judgement], verdict: Verdict) -> str:
    """The failure of one observable, described by its headline metric, else by the first one."""
    known = metrics()
    order = list(known)

    def position(j: Judgement) -> tuple[bool, int]:
        return not known[j.difference.metric].headline, order.index(j.difference.metric)

    judgement = min(failures, key=position)
    d = judgement.difference
    beyond = formatting.format_sigma(judgement.sigma)
    by = f", {beyond} beyond" if beyond and beyond != "always" else ""
    return (
        f"{d.where}: {metrics()[d.metric].label} "
        f"{formatting.with_error(d.result.value, d.result.uncertainty, d.metric)}, threshold "
        f"{formatting.format_number(judgement.threshold or 0.0, d.metric)}{by}{_elsewhere(failures, verdict)}"
    )


def _elsewhere(failures: Sequence[Judgement], verdict: Verdict) -> str:
    """The bins of energy, angle and particle in which the observable fails."""
    name, parts = failures[0].difference.observable, []
    for axis in ("energy", "angle", "particle"):
        bins = {
            j.difference.bin.key: j.difference.bin.label
            for j in verdict.judgements
            if j.difference.observable == name and j.difference.bin.axis == axis
        }
        failed = {j.difference.bin.key for j in failures} & set(bins)
        if 0 < len(failed) <= 2:
            parts.append(" and ".join(label for key, label in bins.items() if key in failed))
        elif failed:
            parts.append(f"{len(failed)} of {len(bins)} bins of {axis}")
    return f"; fails in {', '.join(parts)}" if parts else ""


def worst_of(verdict: Verdict) -> dict[str, Judgement]:
    """The most significant failure of each observable, else the undecided comparison closest to failing."""
    worst: dict[str, Judgement] = {}
    for j in verdict.judgements:
        if j.threshold is None:
            continue
        name = j.difference.observable
        old = worst.get(name)
        if old is None or _rank(j) < _rank(old):
            worst[name] = j
    return worst


def _rank(j: Judgement) -> tuple[int, float]:
    """Sort key: failures, undecided, passes; in each the most significant excess first."""
    return ("fail", "undecided", "pass").index(j.status), -j.sigma if math.isfinite(j.sigma) else 0.0


def _rows(verdict: Verdict, titles: Titles) -> list[dict[str, Any]]:
    """Rows of the table, one per observable."""
    counts: dict[str, list[int]] = {}
    for j in verdict.judgements:
        if j.threshold is not None:
            count = counts.setdefault(j.difference.observable, [0, 0])
            count[0] += j.status == "fail"
            count[1] += 1
    return [
        _row(j, "{} / {}".format(*counts[name]), titles[name])
        for name, j in sorted(worst_of(verdict).items(), key=lambda item: _rank(item[1]))
    ]


def _row(j: Judgement, count: str, title: Sequence[Run]) -> dict[str, Any]:
    d = j.difference
    sigma = formatting.format_sigma(j.sigma) if not math.isinf(j.sigma) or j.sigma > 0 else ""
    return {
        "status": j.status,
        "observable": d.observable,
        "title": title,
        "where": d.where,
        "metric": metrics()[d.metric].short,
        "value": formatting.with_error(d.result.value, d.result.uncertainty, d.metric),
        "floor": formatting.format_number(d.result.floor, d.metric),
        "threshold": formatting.format_number(j.threshold or 0.0, d.metric),
        "beyond": sigma or "–",
        "fail / all": count,
    }
