"""Data for the scripts of report.html."""

from __future__ import annotations

from typing import Any

import numpy as np

from caloforge.metrics.registry import metrics
from caloforge.validation import event_displays, formatting, mathtext
from caloforge.validation.figure_data import TREND_SHOWERS, Figure
from caloforge.validation.report_model import Card, Contents
from caloforge.validation.verdict import Verdict


def report_data(contents: Contents) -> dict[str, Any]:
    """JSON document of names, figures, judgements and showers."""
    number = {b.key: i for i, b in enumerate(contents.bins)}
    failing = {(j.difference.observable, j.difference.bin.key) for v in contents.verdicts for j in v.failures}
    cards = [
        *(Card(o.name, o.label, o.section, tuple(_facts(contents, o.name))) for o in contents.observables),
        *contents.cards,
    ]
    failed = {name for name, _ in failing}
    return {
        "truth": contents.truth.name,
        "generators": [s.name for s in contents.generated],
        "bins": [{"label": b.label, "axis": b.axis} for b in contents.bins],
        "cards": [
            {
                "name": card.name,
                "title": mathtext.runs(card.title),
                "section": card.section,
                "fails": card.name in failed,
                "facts": card.facts,
            }
            for card in cards
        ],
        "figures": [_figure(f, number, (f.observable, f.bin.key) in failing) for f in contents.figures],
        "matrices": [
            {
                "section": m.section,
                "labels": [mathtext.runs(label) for label in m.labels],
                "titles": m.titles,
                "values": [[[round(v, 4) for v in row] for row in matrix] for matrix in m.values],
            }
            for m in contents.matrices
        ],
        "judgements": {v.generator: _judgements(v) for v in contents.verdicts},
        "geometry": event_displays.geometry(contents.truth.detector),
        "planes": event_displays.planes(contents.truth.detector),
        "extents": event_displays.extents(contents.truth.detector),
        "decades": event_displays.DECADES,
        "events": contents.events,
        "averages": contents.averages,
    }


def _facts(contents: Contents, name: str) -> list[str]:
    """One line per generator with its inclusive results."""
    lines = []
    for verdict in contents.verdicts:
        parts = [
            f"{metrics()[d.metric].short} "
            f"{formatting.with_error(d.result.value, d.result.uncertainty, d.metric)}"
            for d in (j.difference for j in verdict.judgements)
            if d.observable == name and d.bin.axis == "inclusive" and d.place is None
        ]
        if parts:
            lines.append(f"{verdict.generator}: {' · '.join(parts)}")
    return [*lines, *_missing(contents, name)]


def _missing(contents: Contents, name: str) -> list[str]:
    """Reasons for missing figures."""
    own = [f for f in contents.figures if f.observable == name]
    values = contents.truth.values[name]
    if not own:
        one = values.ndim == 1
        return [f"The same in all showers: {values[0]:.4g}." if one else "One bin: no profile to draw."]
    truth, fewest = contents.truth, 3 * TREND_SHOWERS
    energies = len(np.unique(truth.conditions.energy))
    if energies < 3 or len(truth) >= fewest or not any(f.kind == "histogram" for f in own):
        return []
    return [f"The mean against the incident energy needs {fewest} showers; {truth.name} has {len(truth)}."]


def _figure(figure: Figure, number: dict[str, int], fails: bool) -> dict[str, Any]:
    document = figure.to_json()
    document |= {key: mathtext.runs(document[key]) for key in ("x_label", "y_label")}
    return document | {"bin": number[figure.bin.key], "fails": fails}


def _judgements(verdict: Verdict) -> dict[str, list[list[str]]]:
    """By observable, all its comparisons, the most significant first."""
    rows: dict[str, list[tuple[float, list[str]]]] = {}
    for j in verdict.judgements:
        if j.threshold is None:
            continue
        d = j.difference
        text = [
            j.status,
            d.where,
            metrics()[d.metric].label,
            formatting.with_error(d.result.value, d.result.uncertainty, d.metric),
            formatting.format_number(d.result.floor, d.metric),
            formatting.format_number(j.threshold, d.metric),
            formatting.format_sigma(j.sigma),
        ]
        # infinite where a number has no error
        rows.setdefault(d.observable, []).append((max(min(j.sigma, 1e9), -1e9), text))
    return {name: [text for _, text in sorted(found, key=lambda r: -r[0])] for name, found in rows.items()}
