"""study.html, the report of a study: best trials, table of all trials, figures; a single offline file."""

from __future__ import annotations

import html
import json
import math
import re
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import TYPE_CHECKING, Any

from caloforge.number_format import duration, percent
from caloforge.tuning.plots import short_names, study_figures

if TYPE_CHECKING:
    from optuna import Study


def build_report(study: Study, document: Mapping[str, Any]) -> str:
    """Build the HTML document."""
    from plotly.offline import get_plotlyjs

    figures = study_figures(study, document)
    sections = {"summary": ("Summary", _summary(document)), "trials": ("Trials", _trials(document))}
    for key, figure in figures.items():
        axes = figure["axes"]
        room = f' data-axes style="--axes:{axes}"' if axes else ""
        plot = f'<div class="figure"><div class="plot" id="plot-{key}"{room}></div></div>'
        sections[key] = (figure["title"], f'<p class="facts">{html.escape(figure["note"])}</p>{plot}')
    sections["provenance"] = ("Provenance", _definitions(document["provenance"]))
    drawn = {f"plot-{key}": figure["figure"] for key, figure in figures.items()}
    parts = {
        "title": html.escape(document["name"]),
        "subtitle": html.escape(document["description"] or _subtitle(document)),
        "css": (resources.files("caloforge.validation") / "assets/report.css").read_text(encoding="utf-8"),
        "nav": "".join(f'<a href="#{key}">{html.escape(title)}</a>' for key, (title, _) in sections.items()),
        "sections": "\n".join(
            f'<section id="{key}"><h2>{html.escape(title)}</h2>{body}</section>'
            for key, (title, body) in sections.items()
        ),
        "plotly": get_plotlyjs(),
        # "</script>" in a name must not end the element
        "figures": json.dumps(drawn, separators=(",", ":")).replace("</", "<\\/"),
    }
    page = (resources.files("caloforge.tuning") / "assets/study.html").read_text(encoding="utf-8")
    # in a single pass, since plotly.js contains braces too
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], page)


def _subtitle(document: Mapping[str, Any]) -> str:
    counts = ", ".join(f"{count} {state}" for state, count in document["counts"].items() if count)
    return f"{len(document['trials'])} trials: {counts}" if counts else "no trials"


def _number(value: float | None, error: float | None = None) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" + (f" ± {error:.2g}" if error is not None else "")


# a column whose numbers span more than this factor is written with exponents
DECADES = 100

# ---- summary


def _summary(document: Mapping[str, Any]) -> str:
    layout = document["layout"]
    idle = document["idle_share"]
    numbers = [
        (str(len(document["trials"])), _subtitle(document)),
        (duration(document["seconds"]), "searched"),
        (f"{layout['groups']} x {layout['workers']}", "groups x workers"),
        (str(layout["k_folds"]), "folds"),
        (document["sampler"]["kind"], "sampler"),
    ]
    if idle is not None:
        numbers.append((percent(idle), "of the time groups waited for a trial"))
    shown = "".join(
        f"<div><b>{html.escape(n)}</b><span>{html.escape(what)}</span></div>" for n, what in numbers
    )
    parts = [f'<div class="numbers">{shown}</div>', _final(document), _best(document)]
    if lines := document["outside_of_the_space"]:
        items = "".join(f"<li>{html.escape(line)}</li>" for line in lines)
        what = "The run that the search starts from is not in the space:"
        parts.append(f'<div class="note">{what}<ul>{items}</ul></div>')
    return "".join(parts)


def _final(document: Mapping[str, Any]) -> str:
    """The final evaluation on test showers."""
    final = document["final"]
    if final is None:
        return ""
    rows = []
    for name, entry in final["figures"].items():
        start, best = (entry.get(key, {}) for key in ("start", "best"))
        gain = entry.get("improvement")
        cells = (_number(e.get("value"), e.get("standard_error")) for e in (start, best))
        rows.append([name, *cells, "" if gain is None else f"{gain:+.1%}"])
    head = ["Figure", "Start", f"Trial {final['trials']['best']}", "Smaller by"]
    note = f"Both models on the showers of {final['test']['file']}, which the search never saw."
    return _table("On the test showers", head, rows, note)


def _best(document: Mapping[str, Any]) -> str:
    """Parameters of the best trials and of the starting run."""
    numbers = document["front"][:6]
    if not numbers:
        return '<div class="note">No trial was completed.</div>'
    start = document["start"]
    columns = [start, *(n for n in numbers if n != start)] if start is not None else numbers
    head = ["", *(f"trial {n}" + (" (start)" if n == start else "") for n in columns)]
    trials = {trial["number"]: trial for trial in document["trials"]}
    rows = [
        [o["figure"], *(_figure(trials[n], o["figure"]) for n in columns)] for o in document["objectives"]
    ]
    rows += [[key, *(_value(trials[n]["parameters"].get(key)) for n in columns)] for key in document["space"]]
    note = "best.yaml is the run of the best trial, ready to train."
    if len(document["objectives"]) > 1:
        note += " The folder front holds the runs of all trials on the Pareto front."
    return _table("The best", head, rows, note)


def _figure(trial: Mapping[str, Any], name: str) -> str:
    return _number(trial["figures"].get(name), trial["standard_errors"].get(name))


def _value(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


# ---- trials


def _trials(document: Mapping[str, Any]) -> str:
    figures = [o["figure"] for o in document["objectives"]]
    keys, trials = list(document["space"]), document["trials"]
    names = short_names(keys)
    explained = any(_why(trial) for trial in trials)
    columns = {name: _figures(trials, name) for name in figures}
    columns |= {key: aligned([trial["parameters"].get(key) for trial in trials]) for key in keys}
    rows = []
    for place, trial in enumerate(trials):
        numbers = [_cell(columns[name][place], trial["figures"].get(name)) for name in figures]
        values = [_cell(columns[key][place], trial["parameters"].get(key)) for key in keys]
        seconds = trial["seconds"]
        cells = [
            _cell(str(trial["number"]), trial["number"]),
            '<td><span class="tag {}">{}</span></td>'.format(*TAGS[trial["state"]]),
            *numbers,
            _cell("" if seconds is None else f"{seconds:.0f}", seconds),
            *values,
            f'<td class="why">{html.escape(_why(trial))}</td>' if explained else "",
        ]
        marked = ' class="marked"' if trial["number"] in document["front"] else ""
        rows.append(f"<tr{marked}>{''.join(cells)}</tr>")
    head = ["Trial", "State", *figures, "Seconds", *(names[key] for key in keys)]
    full = dict(zip((names[key] for key in keys), keys, strict=True))
    titles = "".join(_heading(title, full.get(title, title), number=title != "State") for title in head)
    titles += _heading("Why", "Why", number=False) if explained else ""
    return (
        f'<div class="scroll"><table class="sortable"><thead><tr>{titles}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _heading(title: str, full: str, *, number: bool) -> str:
    # allow a line break after each dot
    text = html.escape(title).replace(".", ".<wbr>")
    kind = ' class="n"' if number else ""
    return f'<th{kind} title="{html.escape(full, quote=True)}"><button type=button>{text}</button></th>'


def _figures(trials: list[Mapping[str, Any]], name: str) -> list[str]:
    """Values of an objective with their errors, with a common number of decimal places."""
    values = aligned([trial["figures"].get(name) for trial in trials], missing="")
    errors = aligned([trial["standard_errors"].get(name) for trial in trials], digits=2, missing="")
    return [f"{value} ± {error}" if error else value for value, error in zip(values, errors, strict=True)]


def aligned(values: Sequence[Any], digits: int = 4, missing: str = "–") -> list[str]:
    """Format the values of a column with a common number of decimal places, or all with exponents.

    Args:
        values: Numbers, texts, or None for missing values.
        digits: Significant digits of the largest number.
        missing: Text for None.
    """
    real = [value for value in values if isinstance(value, float) and math.isfinite(value)]
    sizes = [abs(value) for value in real if value]
    spread = bool(sizes) and (max(sizes) > DECADES * min(sizes) or not 1e-3 <= max(sizes) < 1e5)
    places = max(0, digits - 1 - math.floor(math.log10(max(sizes)))) if sizes and not spread else 0
    style = f".{digits - 2}e" if spread else f".{places}f"
    return [
        missing if value is None else f"{value:{style}}" if isinstance(value, float) else str(value)
        for value in values
    ]


# state to the class and the word of its tag
TAGS = {
    "complete": ("pass", "complete"),
    "fail": ("fail", "failed"),
    "pruned": ("undecided", "stopped early"),
    "running": ("undecided", "open"),
    "waiting": ("undecided", "open"),
}


def _why(trial: Mapping[str, Any]) -> str:
    earlier = [f"attempt {i}: {a['reason']}" for i, a in enumerate(trial["attempts"], start=1)]
    return trial["reason"] or "; ".join(earlier)


def _cell(text: str, value: Any) -> str:
    key = "" if value is None else html.escape(str(value), quote=True)
    return f'<td class="n" data-value="{key}">{html.escape(text)}</td>'


def _table(title: str, head: list[str], rows: list[list[str]], note: str) -> str:
    body = "".join(_row(row, "td") for row in rows)
    return (
        f'<div class="card"><h3>{html.escape(title)}</h3><div class="scroll"><table>'
        f"<thead>{_row(head, 'th')}</thead><tbody>{body}</tbody></table></div>"
        f'<p class="facts">{html.escape(note)}</p></div>'
    )


def _row(cells: list[str], tag: str) -> str:
    name, *numbers = map(html.escape, cells)
    shown = "".join(f"<{tag} class=n>{text}</{tag}>" for text in numbers)
    # allow a line break after each dot of a key
    return f"<tr><{tag}>{name.replace('.', '.<wbr>')}</{tag}>{shown}</tr>"


def _definitions(facts: Mapping[str, Any]) -> str:
    texts = {k: v if isinstance(v, str) else json.dumps(v, ensure_ascii=False) for k, v in facts.items()}
    rows = (f"<dt>{html.escape(str(k))}</dt><dd>{html.escape(text)}</dd>" for k, text in texts.items())
    return f"<dl>{''.join(rows)}</dl>"
