"""The data of the scripts in report.html."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from caloforge.validation import labels, mathtext, showers
from caloforge.validation.contents import Card, Contents
from caloforge.validation.figures import Figure
from caloforge.validation.sample import Sample
from caloforge.validation.verdict import Verdict


def report_data(contents: Contents) -> dict[str, Any]:
    """One JSON document: names, figures, judgements, showers."""
    number = {b.key: i for i, b in enumerate(contents.bins)}
    failing = {(j.difference.observable, j.difference.bin.key) for v in contents.verdicts for j in v.failures}
    cards = [
        *(Card(o.name, o.label, o.section, tuple(_facts(contents, o.name))) for o in contents.observables),
        *contents.cards,
    ]
    failed = {name for name, _ in failing}
    top = max((float(p.voxels.max()) for row in contents.picked for p in row), default=1.0)
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
        "geometry": showers.geometry(contents.truth.detector),
        "planes": showers.planes(contents.truth.detector),
        "events": [_event(row, contents.truth, top) for row in contents.picked],
        "averages": _averages(contents),
    }


def _facts(contents: Contents, name: str) -> list[str]:
    """A line for each generator: its inclusive numbers."""
    lines = []
    for verdict in contents.verdicts:
        parts = [
            f"{labels.METRICS[d.metric].short} "
            f"{labels.with_error(d.result.value, d.result.uncertainty, d.metric)}"
            for d in (j.difference for j in verdict.judgements)
            if d.observable == name and d.bin.axis == "inclusive" and d.place is None
        ]
        if parts:
            lines.append(f"{verdict.generator}: {' · '.join(parts)}")
    return lines


def _figure(figure: Figure, number: dict[str, int], fails: bool) -> dict[str, Any]:
    document = figure.to_json()
    document |= {key: mathtext.runs(document[key]) for key in ("x_label", "y_label")}
    return document | {"bin": number[figure.bin.key], "fails": fails}


def _judgements(verdict: Verdict) -> dict[str, list[list[str]]]:
    """By observable, the rows that open below its row of the table, the most significant first."""
    rows: dict[str, list[tuple[float, list[str]]]] = {}
    for j in verdict.judgements:
        if j.threshold is None:
            continue
        d = j.difference
        text = [
            j.status,
            d.where,
            labels.METRICS[d.metric].long,
            labels.with_error(d.result.value, d.result.uncertainty, d.metric),
            labels.format_number(d.result.floor, d.metric),
            labels.format_number(j.threshold, d.metric),
            labels.format_sigma(j.sigma),
        ]
        # infinite where a number has no error
        rows.setdefault(d.observable, []).append((max(min(j.sigma, 1e9), -1e9), text))
    return {name: [text for _, text in sorted(found, key=lambda r: -r[0])] for name, found in rows.items()}


def _event(row: Sequence[showers.Picked], truth: Sample, top: float) -> dict[str, Any]:
    """Single showers at equal conditions; one colour scale a plane."""
    detector = truth.detector
    images = [showers.projections(p.voxels, detector) for p in row]
    tops = _tops(images)
    energy, theta = row[0].energy / 1e3, math.degrees(row[0].theta)
    return {
        "label": f"{energy:.1f} GeV, {theta:.0f}°",
        "top": math.log10(top) if top > 0 else 0.0,
        "low": (math.log10(top) if top > 0 else 0.0) - showers.DECADES,
        "showers": [
            {
                "name": p.sample,
                "facts": f"shower {p.index}, {p.energy / 1e3:.1f} GeV, visible {p.voxels.sum():.0f} MeV, "
                f"{int((p.voxels > 0).sum())} voxels",
                "voxels": showers.encode_voxels(p.voxels, detector),
                "maps": [showers.encode_map(i, t) for i, t in zip(planes, tops, strict=True)],
            }
            for p, planes in zip(row, images, strict=True)
        ],
    }


def _averages(contents: Contents) -> list[dict[str, Any]]:
    """Mean showers in every bin, one colour scale a plane and bin."""
    result = []
    for where in contents.bins:
        images = [showers.projections(s.mean_showers[where.key], s.detector) for s in contents.samples]
        tops = _tops(images)
        if not tops:
            return []
        rows = [
            {"name": s.name, "maps": [showers.encode_map(i, t) for i, t in zip(planes, tops, strict=True)]}
            for s, planes in zip(contents.samples, images, strict=True)
        ]
        result.append({"label": where.label, "rows": rows})
    return result


def _tops(images: Sequence[Sequence[Any]]) -> list[float]:
    """Of each plane the brightest pixel of all samples."""
    return [max(float(image.max()) for image in plane) or 1.0 for plane in zip(*images, strict=True)]
