"""report.html: one file, no network, the verdict first, figures drawn when they are looked at."""

from __future__ import annotations

import html
import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

from caloforge.observables import Observable
from caloforge.validation import labels, mathtext, showers
from caloforge.validation.conditions import Bin
from caloforge.validation.figures import Figure
from caloforge.validation.sample import Sample
from caloforge.validation.verdict import Judgement, Verdict
from caloforge.validation.verdict_html import verdict_section

SECTIONS = {
    "response": "Response",
    "longitudinal": "Longitudinal",
    "lateral": "Lateral",
    "hits": "Hits",
    "cells": "Cells",
    "angle": "Angle",
    "correlations": "Correlations",
}


@dataclass(frozen=True)
class Contents:
    """What the report shows.

    Attributes:
        title: Heading.
        truth: Full simulation.
        generated: The samples judged.
        observables: The catalogue.
        bins: In which was compared.
        figures: All figures.
        verdicts: One for each generator.
        picked: Single showers, truth and generators at equal conditions.
        notes: Sentences the reader must see: reweighting, negative voxels, small samples.
        metrics: metrics.json.
        references: What to cite, by name.
    """

    title: str
    truth: Sample
    generated: Sequence[Sample]
    observables: Sequence[Observable]
    bins: Sequence[Bin]
    figures: Sequence[Figure]
    verdicts: Sequence[Verdict]
    picked: Sequence[Sequence[showers.Picked]]
    notes: Sequence[str]
    metrics: dict[str, Any]
    references: dict[str, str]


def build_report(contents: Contents) -> str:
    """The whole HTML document."""
    data = json.dumps(_data(contents), separators=(",", ":"), allow_nan=False, ensure_ascii=False)
    present = {o.section for o in contents.observables}
    names: dict[str, str] = {key: name for key, name in SECTIONS.items() if key in present}
    sections = ["verdict", *names, "showers", "provenance"]
    titles = {"verdict": "Verdict", **names, "showers": "Showers", "provenance": "Provenance"}
    bodies: dict[str, str] = {
        "verdict": verdict_section(contents.verdicts, contents.observables, contents.notes, contents.metrics),
        "showers": '<h2>Showers</h2><div class="event"></div><div class="averages"></div>',
        "provenance": _provenance(contents),
    }
    cards = {key: f'<h2>{name}</h2><div class="cards"></div>' for key, name in names.items()}
    parts = {
        "title": html.escape(contents.title),
        "subtitle": html.escape(_subtitle(contents)),
        "css": _asset("report.css"),
        "nav": "".join(f'<a href="#{s}">{titles[s]}{_count(contents, s)}</a>' for s in sections),
        "legend": _legend(contents),
        "sections": "\n".join(
            f'<section id="{s}"{"" if s == "verdict" else " hidden"}>{(bodies | cards)[s]}</section>'
            for s in sections
        ),
        # "</script>" in a file name must not end the element
        "data": data.replace("</", "<\\/"),
        "scripts": "\n".join(_asset(name) for name in ("plot.js", "display.js", "report.js")),
    }
    # one pass: braces in the names of files are text
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], _asset("report.html"))


def _asset(name: str) -> str:
    return (resources.files("caloforge.validation") / "assets" / name).read_text(encoding="utf-8")


def _subtitle(contents: Contents) -> str:
    detector = contents.truth.detector
    counts = ", ".join(f"{s.name}: {len(s)} showers" for s in (contents.truth, *contents.generated))
    return f"{detector.name} · {counts}"


def _legend(contents: Contents) -> str:
    entries = [
        '<span><svg width="26" height="12" aria-hidden="true"><rect width="26" height="12" '
        'fill="var(--truth-fill)"/><path d="M0 1H26" stroke="var(--truth)" stroke-width="2"/></svg>'
        f"{html.escape(contents.truth.name)}</span>"
    ]
    dashes = ("", "7 3", "2 3", "9 3 2 3", "4 2", "1 3")
    entries += [
        f'<span><svg width="26" height="12" aria-hidden="true"><path d="M0 6H26" stroke="var(--g{i % 6})" '
        f'stroke-width="2" stroke-dasharray="{dashes[i % 6]}"/></svg>{html.escape(sample.name)}</span>'
        for i, sample in enumerate(contents.generated)
    ]
    return "".join(entries)


def _count(contents: Contents, section: str) -> str:
    """How many observables of a section fail."""
    own = {o.name for o in contents.observables if o.section == section}
    failed = {j.difference.observable for v in contents.verdicts for j in v.failures} & own
    return f'<span class="count">{len(failed)}</span>' if failed else ""


def _provenance(contents: Contents) -> str:
    parts = ["<h2>Provenance</h2>"]
    for sample in (contents.truth, *contents.generated):
        facts = contents.metrics["provenance"]["files"][sample.name]
        parts.append(f"<h3>{html.escape(sample.name)}</h3>{_definitions(facts)}")
    run = {k: v for k, v in contents.metrics["provenance"].items() if k != "files"}
    parts.append(f"<h3>This comparison</h3>{_definitions(run)}<h2>How to cite</h2>")
    parts.append(_definitions(contents.references))
    return "".join(parts)


def _definitions(facts: dict[str, Any]) -> str:
    rows = []
    for key, value in facts.items():
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        rows.append(f"<dt>{html.escape(str(key))}</dt><dd>{html.escape(text)}</dd>")
    return f"<dl>{''.join(rows)}</dl>"


# ---- the data of the scripts


def _data(contents: Contents) -> dict[str, Any]:
    number = {b.key: i for i, b in enumerate(contents.bins)}
    failing = {(j.difference.observable, j.difference.bin.key) for v in contents.verdicts for j in v.failures}
    by_name = {o.name: o for o in contents.observables}
    top = max((float(p.voxels.max()) for row in contents.picked for p in row), default=1.0)
    return {
        "truth": contents.truth.name,
        "generators": [s.name for s in contents.generated],
        "bins": [{"label": b.label, "axis": b.axis} for b in contents.bins],
        "observables": [
            {
                "name": o.name,
                "title": mathtext.runs(o.label),
                "section": o.section,
                "fails": any(name == o.name for name, _ in failing),
                "facts": _facts(contents.verdicts, o),
            }
            for o in contents.observables
        ],
        "figures": [_figure(f, number, (f.observable, f.bin.key) in failing) for f in contents.figures],
        "judgements": {v.generator: _judgements(v, by_name) for v in contents.verdicts},
        "geometry": showers.geometry(contents.truth.detector),
        "planes": showers.planes(contents.truth.detector),
        "events": [_event(row, contents.truth, top) for row in contents.picked],
        "averages": _averages(contents),
    }


def _facts(verdicts: Sequence[Verdict], observable: Observable) -> list[str]:
    """A line for each generator: its inclusive numbers."""
    lines = []
    for verdict in verdicts:
        parts = [
            f"{labels.METRICS[d.metric].short} {labels.format_number(d.result.value, d.metric)} ± "
            f"{labels.format_number(d.result.uncertainty, d.metric)}"
            for d in (j.difference for j in verdict.judgements)
            if d.observable == observable.name and d.bin.axis == "inclusive" and d.place is None
        ]
        lines.append(f"{verdict.generator}: {' · '.join(parts)}")
    return lines


def _figure(figure: Figure, number: dict[str, int], fails: bool) -> dict[str, Any]:
    document = figure.to_json()
    document |= {key: mathtext.runs(document[key]) for key in ("x_label", "y_label")}
    return document | {"bin": number[figure.bin.key], "fails": fails}


def _judgements(verdict: Verdict, by_name: dict[str, Observable]) -> dict[str, list[list[str]]]:
    rows: dict[str, list[tuple[float, list[str]]]] = {}
    for j in verdict.judgements:
        if j.threshold is None:
            continue
        d = j.difference
        text = [
            j.status,
            labels.describe_place(d, by_name.get(d.observable)),
            labels.METRICS[d.metric].long,
            f"{labels.format_number(d.result.value, d.metric)} ± "
            f"{labels.format_number(d.result.uncertainty, d.metric)}",
            labels.format_number(d.result.floor, d.metric),
            labels.format_number(j.threshold, d.metric),
            labels.format_sigma(j.sigma),
        ]
        rows.setdefault(d.observable, []).append((-_order(j), text))
    return {name: [text for _, text in sorted(found, key=lambda r: r[0])] for name, found in rows.items()}


def _order(judgement: Judgement) -> float:
    return judgement.sigma if math.isfinite(judgement.sigma) else math.copysign(1e9, judgement.sigma)


def _event(row: Sequence[showers.Picked], truth: Sample, top: float) -> dict[str, Any]:
    detector = truth.detector
    images = [showers.projections(p.voxels, detector) for p in row]
    tops = [max(float(image.max()) for image in plane) or 1.0 for plane in zip(*images, strict=True)]
    energy, theta = row[0].energy / 1e3, math.degrees(row[0].theta)
    return {
        "label": f"{energy:.1f} GeV, {theta:.0f}°",
        "top": math.log10(top),
        "low": math.log10(top) - showers.DECADES,
        "showers": [
            {
                "name": p.sample,
                "facts": f"shower {p.index}, {p.energy / 1e3:.1f} GeV, visible {p.voxels.sum():.0f} MeV, "
                f"{int((p.voxels > 0).sum())} voxels",
                "voxels": showers.encode_voxels(p.voxels, detector),
                "maps": [showers.encode_map(i, t or 1.0) for i, t in zip(planes, tops, strict=True)],
            }
            for p, planes in zip(row, images, strict=True)
        ],
    }


def _averages(contents: Contents) -> list[dict[str, Any]]:
    """Mean showers, inclusive and in every bin of energy and angle, one colour scale a plane and bin."""
    result = []
    samples = (contents.truth, *contents.generated)
    for where in contents.bins:
        images = [showers.projections(s.mean_showers[where.key], s.detector) for s in samples]
        if not images[0]:
            return []
        tops = [max(float(image.max()) for image in plane) or 1.0 for plane in zip(*images, strict=True)]
        rows = [
            {"name": s.name, "maps": [showers.encode_map(i, t) for i, t in zip(planes, tops, strict=True)]}
            for s, planes in zip(samples, images, strict=True)
        ]
        result.append({"label": f"Mean shower, {where.label}", "rows": rows})
    return result
