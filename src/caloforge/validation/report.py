"""report.html: a self-contained page with the verdict first; figures are drawn when they become visible."""

from __future__ import annotations

import html
import json
import re
from importlib import resources
from typing import Any

from caloforge.validation.report_data import report_data
from caloforge.validation.report_model import Contents, Table
from caloforge.validation.verdict_html import verdict_section

SCRIPTS = ("plot.js", "display.js", "report.js")
DASHES = ("", "7 3", "2 3", "9 3 2 3", "4 2", "1 3")


def build_report(contents: Contents) -> str:
    """The whole HTML document."""
    data = json.dumps(report_data(contents), separators=(",", ":"), allow_nan=False, ensure_ascii=False)
    sections = contents.sections()
    parts = {
        "title": html.escape(contents.title),
        "subtitle": html.escape(_subtitle(contents)),
        "css": _asset("report.css"),
        "nav": "".join(f'<a href="#{s}">{title}{_count(contents, s)}</a>' for s, title in sections.items()),
        "legend": _legend(contents),
        "sections": "\n".join(_section(contents, s, title) for s, title in sections.items()),
        # "</script>" in a file name must not end the element
        "data": data.replace("</", "<\\/"),
        "scripts": "\n".join(_asset(name) for name in SCRIPTS),
    }
    # in one pass: braces in file names are not placeholders
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], _asset("report.html"))


def _asset(name: str) -> str:
    return (resources.files("caloforge.validation") / "assets" / name).read_text(encoding="utf-8")


def _subtitle(contents: Contents) -> str:
    counts = ", ".join(f"{s.name}: {len(s)} showers" for s in contents.samples)
    return f"{contents.truth.detector.name} · {counts}"


def _legend(contents: Contents) -> str:
    """Colours and dashes of the samples, as in the figures."""

    def key(drawing: str, name: str) -> str:
        picture = f'<svg width="26" height="12" aria-hidden="true">{drawing}</svg>'
        return f"<span>{picture}{html.escape(name)}</span>"

    drawings = [
        '<rect width="26" height="12" fill="var(--truth-fill)"/>'
        '<path d="M0 1H26" stroke="var(--truth)" stroke-width="2"/>'
    ]
    drawings += [
        f'<path d="M0 6H26" stroke="var(--g{i % 6})" stroke-width="2" stroke-dasharray="{DASHES[i % 6]}"/>'
        for i in range(len(contents.generated))
    ]
    return "".join(map(key, drawings, (sample.name for sample in contents.samples)))


def _count(contents: Contents, section: str) -> str:
    """Number of failing cards of a section."""
    own = {o.name for o in contents.observables if o.section == section}
    own |= {card.name for card in contents.cards if card.section == section}
    failed = {j.difference.observable for v in contents.verdicts for j in v.failures} & own
    return f'<span class="count">{len(failed)}</span>' if failed else ""


def _section(contents: Contents, key: str, title: str) -> str:
    if key == "verdict":
        body = verdict_section(contents)
    elif key == "provenance":
        body = _provenance(contents)
    elif key == "showers":
        body = f'<h2>{title}</h2><div class="event"></div><div class="averages"></div>'
    else:
        body = f'<h2>{title}</h2><div class="cards"></div>'
    tables = "".join(table_html(table) for table in contents.tables if table.section == key)
    hidden = "" if key == "verdict" else " hidden"
    return f'<section id="section-{key}"{hidden}>{body}{tables}</section>'


def table_html(table: Table) -> str:
    """A table with its title and note."""
    head = "".join(f"<th{' class=n' if i else ''}>{html.escape(t)}</th>" for i, t in enumerate(table.head))
    rows = [
        f"<tr{' class=marked' if number in table.marked else ''}>"
        + "".join(f"<td{' class=n' if i else ''}>{html.escape(t)}</td>" for i, t in enumerate(row))
        + "</tr>"
        for number, row in enumerate(table.rows)
    ]
    note = f'<p class="facts">{html.escape(table.note)}</p>' if table.note else ""
    return (
        f'<div class="card"><h3>{html.escape(table.title)}</h3><div class="scroll"><table><thead><tr>{head}'
        f"</tr></thead><tbody>{''.join(rows)}</tbody></table></div>{note}</div>"
    )


def _provenance(contents: Contents) -> str:
    facts = contents.metrics["provenance"]
    parts = ["<h2>Provenance</h2>"]
    parts += [
        f"<h3>{html.escape(sample.name)}</h3>{_definitions(facts['files'][sample.name])}"
        for sample in contents.samples
    ]
    run = {key: value for key, value in facts.items() if key != "files"}
    parts.append(f"<h3>This comparison</h3>{_definitions(run)}<h2>How to cite</h2>")
    parts.append(_definitions(contents.references))
    return "".join(parts)


def _definitions(facts: dict[str, Any]) -> str:
    texts = {k: v if isinstance(v, str) else json.dumps(v, ensure_ascii=False) for k, v in facts.items()}
    rows = (f"<dt>{html.escape(str(k))}</dt><dd>{html.escape(text)}</dd>" for k, text in texts.items())
    return f"<dl>{''.join(rows)}</dl>"
