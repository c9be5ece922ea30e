"""Figures of a study as data for plotly.js: Optuna's plots and learning curves."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from optuna import Study

# Okabe and Ito's colours, as in the validation report
INK, BLUE, ORANGE, GREEN, GREY = "#1b1f24", "#0072b2", "#d55e00", "#009e73", "#b4bbc4"
# most learning curves in a figure
MAX_CURVES = 200
# figures whose values span more than this factor get a logarithmic axis
DECADES = 20
# most parameters in the parallel coordinates, and in the slices
MAX_AXES, MAX_SLICES = 8, 6


def study_figures(study: Study, document: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Figures by name: {"title", "note", "figure", "axes"}; figures that need more trials are left out."""
    objectives = [o["figure"] for o in document["objectives"]]
    found: dict[str, dict[str, Any]] = {}
    if document["counts"]["complete"]:
        for index, name in enumerate(objectives):
            found |= _of_one_objective(study, document, index, name, several=len(objectives) > 1)
        if 2 <= len(objectives) <= 3:
            found |= _drawn("pareto", "Pareto front", PARETO, lambda: _pareto(study, objectives), {})
    if any(trial["evaluations"] for trial in document["trials"]):
        figure = _learning_curves(document)
        found["learning"] = {"title": "Learning curves", "note": LEARNING, "figure": figure, "axes": 0}
    return found


HISTORY = "Each point is a trial; the line is the best so far."
PARALLEL = (
    "A line is a trial, its colour the figure; the most important parameters. Drag along an axis to keep "
    "only the trials in a range."
)
IMPORTANCE = "Fraction of the variance of the figure that a parameter explains (fANOVA)."
SLICES = "The figure against each parameter; the shade is the order of the trials."
PARETO = "Trials that are not dominated by another one are on the front."
LEARNING = "Merit (P + E) of the first fold at each evaluation; best trial and starting run in colour."


def _of_one_objective(
    study: Study, document: Mapping[str, Any], index: int, name: str, *, several: bool
) -> dict[str, dict[str, Any]]:
    from optuna import visualization as show

    target: Callable[[Any], float] | None = (lambda trial: float(trial.values[index])) if several else None
    how: dict[str, Any] = {"target": target, "target_name": name}
    suffix = f" of {name}" if several else ""
    everything = list(document["space"])
    keys = _most_important(study, everything, target)
    few = keys[:MAX_SLICES]
    draws: dict[str, tuple[str, str, Callable[[], Any], list[str]]] = {
        "history": ("History", HISTORY, lambda: show.plot_optimization_history(study, **how), []),
        "importance": (
            "Importance",
            IMPORTANCE,
            lambda: show.plot_param_importances(study, **how),
            everything,
        ),
        "parallel": (
            "Parallel coordinates",
            PARALLEL,
            lambda: show.plot_parallel_coordinate(study, params=keys, **how),
            keys,
        ),
        "slices": ("Parameters one by one", SLICES, lambda: show.plot_slice(study, params=few, **how), few),
    }
    short = short_names(everything)
    result: dict[str, dict[str, Any]] = {}
    for kind, (title, note, draw, shown) in draws.items():
        names = {key: short[key] for key in shown}
        result |= _drawn(f"{kind}-{index}", title + suffix, note, draw, names)
    return result


def _most_important(study: Study, keys: list[str], target: Callable[[Any], float] | None) -> list[str]:
    """The `MAX_AXES` most important parameters."""
    from optuna.importance import get_param_importances

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            order = list(get_param_importances(study, target=target))
    except (ValueError, RuntimeError):
        order = []
    return [*order, *(key for key in keys if key not in order)][:MAX_AXES]


def _pareto(study: Study, objectives: list[str]) -> Any:
    from optuna import visualization as show

    return show.plot_pareto_front(study, target_names=objectives)


def _drawn(
    key: str, title: str, note: str, draw: Callable[[], Any], names: Mapping[str, str]
) -> dict[str, dict[str, Any]]:
    """A plot of Optuna as entry of `study_figures`; empty if there are too few trials for it."""
    with warnings.catch_warnings():
        # Optuna warns about parameters that only some trials have
        warnings.simplefilter("ignore")
        try:
            figure = json.loads(draw().to_json())
        except (ValueError, RuntimeError, TypeError, ZeroDivisionError):
            return {}
    if not figure["data"]:
        return {}
    _polish(figure, names)
    figure["layout"] = _layout(figure["layout"])
    # figures with an axis for each parameter are drawn wider
    ticks = figure["layout"].get("xaxis", {}).get("ticktext") or ()
    axes = max(len(ticks), sum(name.startswith("xaxis") for name in figure["layout"]))
    return {key: {"title": title, "note": note, "figure": figure, "axes": axes if axes > 1 else 0}}


def _polish(figure: dict[str, Any], names: Mapping[str, str]) -> None:
    """Set short names of parameters and, for values over many decades, logarithmic axes."""
    layout = figure["layout"]
    for trace in figure["data"]:
        if trace["type"] == "bar":
            trace["y"] = [names.get(key, key) for key in trace["y"] or ()]
            # the title would overlap with the names
            layout.setdefault("yaxis", {}).pop("title", None)
    _recolour(figure["data"])
    if ticks := (layout.get("xaxis") or {}).get("ticktext"):
        # parallel coordinates: the objective, then the parameters by key, which Optuna truncates
        ticks[1:] = [names[key] for key in sorted(names)]
        layout["xaxis"]["tickangle"] = -25
    axes = [axis for key, axis in layout.items() if key.startswith(("xaxis", "yaxis"))]
    for axis in axes:
        title = axis.get("title") or {}
        if title.get("text") in names:
            # break names after dots
            text = names[title["text"]].replace(".", ".<br>")
            axis |= {"title": {"text": text, "font": {"size": 11}}, "nticks": 4}
    shown = [t["y"] for t in figure["data"] if t["type"] == "scatter" and isinstance(t["y"], list)]
    values = [y for ys in shown for y in ys if isinstance(y, int | float)]
    if ticks is None and values and min(values) > 0 and max(values) > DECADES * min(values):
        layout.setdefault("yaxis", {})
        for key in [key for key in layout if key.startswith("yaxis")]:
            layout[key]["type"] = "log"


def _recolour(traces: list[dict[str, Any]]) -> None:
    """Replace colour scales by one from grey to blue (best), visible on light and dark backgrounds.

    Optuna's scales end in white or dark blue. The lines of its parallel coordinates have fixed colours, which
    are replaced too, by their value on the first axis.
    """
    for trace in traces:
        marker = trace.get("marker") or {}
        if not marker.get("colorscale"):
            continue
        low_is_best = bool(marker.get("reversescale"))
        ends = (BLUE, GREY) if low_is_best else (GREY, BLUE)
        marker |= {"colorscale": [[0, ends[0]], [1, ends[1]]], "reversescale": False}
        for line in traces:
            if line.get("mode") == "lines" and str(line["line"].get("color", "")).startswith("rgb("):
                line["line"]["color"] = _between(*ends, line["y"][0])


def _between(low: str, high: str, fraction: float) -> str:
    """Linear interpolation between two colours, for a fraction between 0 and 1."""
    one, other = ([int(colour[i : i + 2], 16) for i in (1, 3, 5)] for colour in (low, high))
    parts = (round(a + fraction * (b - a)) for a, b in zip(one, other, strict=True))
    return f"rgb({', '.join(map(str, parts))})"


def short_names(keys: Sequence[str]) -> dict[str, str]:
    """Shorten keys to as few last parts as make them unique, at least two."""
    names = {}
    for key in keys:
        parts = key.split(".")
        for count in range(2, len(parts) + 1):
            name = ".".join(parts[-count:])
            if sum(other == name or other.endswith(f".{name}") for other in keys) == 1:
                break
        names[key] = name
    return names


def _layout(layout: dict[str, Any]) -> dict[str, Any]:
    """Adapt a plotly layout to the style of the page."""
    kept = {k: v for k, v in layout.items() if k not in ("template", "title", "width")}
    for key, axis in kept.items():
        if key.startswith(("xaxis", "yaxis")):
            axis.update(gridcolor="#e6e9ed", linecolor=GREY, zerolinecolor=GREY, automargin=True)
    return kept | {
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": "system-ui, sans-serif", "size": 12, "color": INK},
        "margin": {"l": 60, "r": 30, "t": 50, "b": 60},
        "modebar": {"bgcolor": "rgba(0,0,0,0)", "color": GREY, "activecolor": BLUE},
        "colorway": [BLUE, ORANGE, GREEN, "#a1478a", "#b07c00"],
    }


def _learning_curves(document: Mapping[str, Any]) -> dict[str, Any]:
    """The merit of each trial while it was trained."""
    curves: list[dict[str, Any]] = []
    marked = {document["best"]: ("best", BLUE), document["start"]: ("start", ORANGE)}
    trials = document["trials"]
    for trial in [t for t in trials[:-MAX_CURVES] if t["number"] in marked] + trials[-MAX_CURVES:]:
        steps, merits = zip(*trial["evaluations"], strict=True) if trial["evaluations"] else ((), ())
        if not steps:
            continue
        word, colour = marked.get(trial["number"], ("", GREY))
        curves.append(
            {
                "type": "scatter",
                "mode": "lines+markers",
                "x": list(steps),
                "y": list(merits),
                "name": f"trial {trial['number']}" + (f" ({word})" if word else ""),
                "line": {"color": colour, "width": 3 if word else 1},
                "marker": {"size": 6 if word else 3},
                "showlegend": bool(word),
            }
        )
    # draw the coloured curves last
    curves.sort(key=lambda curve: curve["showlegend"])
    axes = {
        "xaxis": {"title": {"text": "step"}},
        "yaxis": {"title": {"text": "merit (P + E)"}, "type": "log"},
    }
    return {"data": curves, "layout": _layout(axes)}
