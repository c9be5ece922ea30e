"""study.html, the report of a study: best trials, table of all trials, figures; a single offline file."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from caloforge.number_format import duration, percent
from caloforge.tuning.plots import short_names, study_figures
from caloforge.validation.html_page import render

if TYPE_CHECKING:
    from optuna import Study


def build_report(study: Study, document: Mapping[str, Any]) -> str:
    """Build the HTML document."""
    from plotly.offline import get_plotlyjs

    figures = study_figures(study, document)
    return render(
        "study.html",
        "caloforge.tuning",
        "caloforge.validation",
        study=document,
        subtitle=_subtitle(document),
        numbers=_numbers(document),
        tables=[table for table in (_final(document), _best(document)) if table],
        trials=_trials(document),
        figures=figures,
        drawn={f"plot-{key}": figure["figure"] for key, figure in figures.items()},
        plotly=get_plotlyjs(),
    )


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


def _numbers(document: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The key figures of the search and what they are."""
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
    return numbers


def _final(document: Mapping[str, Any]) -> dict[str, Any] | None:
    """Table of the final evaluation on test showers."""
    final = document["final"]
    if final is None:
        return None
    rows = []
    for name, entry in final["figures"].items():
        start, best = (entry.get(key, {}) for key in ("start", "best"))
        gain = entry.get("improvement")
        cells = (_number(e.get("value"), e.get("standard_error")) for e in (start, best))
        rows.append([name, *cells, "" if gain is None else f"{gain:+.1%}"])
    head = ["Figure", "Start", f"Trial {final['trials']['best']}", "Smaller by"]
    note = f"Both models on the showers of {final['test']['file']}, which the search never saw."
    return {"title": "On the test showers", "head": head, "rows": rows, "note": note}


def _best(document: Mapping[str, Any]) -> dict[str, Any] | None:
    """Table of the parameters of the best trials and of the starting run."""
    numbers = document["front"][:6]
    if not numbers:
        return None
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
    return {"title": "The best", "head": head, "rows": rows, "note": note}


def _figure(trial: Mapping[str, Any], name: str) -> str:
    return _number(trial["figures"].get(name), trial["standard_errors"].get(name))


def _value(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


# ---- trials


def _trials(document: Mapping[str, Any]) -> dict[str, Any]:
    """Columns (title, full name, whether of numbers) and rows of the table of all trials."""
    figures = [o["figure"] for o in document["objectives"]]
    keys, trials = list(document["space"]), document["trials"]
    names = short_names(keys)
    texts = {name: _figures(trials, name) for name in figures}
    texts |= {key: aligned([trial["parameters"].get(key) for trial in trials]) for key in keys}
    rows = []
    for place, trial in enumerate(trials):
        seconds = trial["seconds"]
        # what is shown, and the value that sorts the rows
        cells = [(texts[name][place], trial["figures"].get(name)) for name in figures]
        cells.append(("" if seconds is None else f"{seconds:.0f}", seconds))
        cells += [(texts[key][place], trial["parameters"].get(key)) for key in keys]
        rows.append(
            {
                "number": trial["number"],
                "marked": trial["number"] in document["front"],
                "state": TAGS[trial["state"]],
                "cells": cells,
                "why": _why(trial),
            }
        )
    columns = [("Trial", "Trial", True), ("State", "State", False)]
    columns += [(name, name, True) for name in (*figures, "Seconds")]
    columns += [(names[key], key, True) for key in keys]
    explained = any(row["why"] for row in rows)
    if explained:
        columns.append(("Why", "Why", False))
    return {"columns": columns, "rows": rows, "explained": explained}


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
