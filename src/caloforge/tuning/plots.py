"""The figures of a study, as data for plotly.js: Optuna's own plots, and the learning curves."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from optuna import Study

# Okabe and Ito's colours, as in the validation report
INK, BLUE, ORANGE, GREEN, GREY = "#1b1f24", "#0072b2", "#d55e00", "#009e73", "#b4bbc4"
# trials that are drawn one by one
MOST_CURVES = 200
# parameters beside each other
MOST_AXES = 12


def study_figures(study: Study, document: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Name to {"title", "note", "figure"}; what cannot be drawn of these trials is left out."""
    objectives = [o["figure"] for o in document["objectives"]]
    found: dict[str, dict[str, Any]] = {}
    if document["counts"]["complete"]:
        for index, name in enumerate(objectives):
            found |= _of_one_objective(study, document, index, name, several=len(objectives) > 1)
        if 2 <= len(objectives) <= 3:
            found |= _drawn("pareto", "Pareto front", PARETO, lambda: _pareto(study, objectives))
    if any(trial["evaluations"] for trial in document["trials"]):
        figure = _learning_curves(document)
        found["learning"] = {"title": "Learning curves", "note": LEARNING, "figure": figure}
    return found


HISTORY = "Each point is a trial; the line is the best so far."
PARALLEL = "A line is a trial, its colour the figure. Drag along an axis to keep only trials within a range."
IMPORTANCE = "Share of the variance of the figure that a parameter explains (fANOVA, over all trials)."
SLICES = "The figure against each parameter; the shade is the order of the trials."
PARETO = "Trials that no other one beats in every objective are on the front."
LEARNING = "Merit (P + E) of the first fold at each evaluation; the best trial and the start stand out."


def _of_one_objective(
    study: Study, document: Mapping[str, Any], index: int, name: str, *, several: bool
) -> dict[str, dict[str, Any]]:
    from optuna import visualization as show

    target: Callable[[Any], float] | None = (lambda trial: float(trial.values[index])) if several else None
    how: dict[str, Any] = {"target": target, "target_name": name}
    suffix = f" of {name}" if several else ""
    keys = list(document["space"])[:MOST_AXES]
    result = _drawn(f"history-{index}", f"History{suffix}", HISTORY,
                    lambda: show.plot_optimization_history(study, **how))  # fmt: skip
    result |= _drawn(f"importance-{index}", f"Importance{suffix}", IMPORTANCE,
                     lambda: show.plot_param_importances(study, **how))  # fmt: skip
    result |= _drawn(f"parallel-{index}", f"Parallel coordinates{suffix}", PARALLEL,
                     lambda: show.plot_parallel_coordinate(study, params=keys, **how))  # fmt: skip
    result |= _drawn(f"slices-{index}", f"Parameters one by one{suffix}", SLICES,
                     lambda: show.plot_slice(study, params=keys, **how))  # fmt: skip
    return result


def _pareto(study: Study, objectives: list[str]) -> Any:
    from optuna import visualization as show

    return show.plot_pareto_front(study, target_names=objectives)


def _drawn(key: str, title: str, note: str, draw: Callable[[], Any]) -> dict[str, dict[str, Any]]:
    """A figure of Optuna's, or nothing where it has too little to show."""
    with warnings.catch_warnings():
        # of parameters that only some trials have
        warnings.simplefilter("ignore")
        try:
            figure = json.loads(draw().to_json())
        except (ValueError, RuntimeError, TypeError, ZeroDivisionError):
            return {}
    if not figure["data"]:
        return {}
    figure["layout"] = _layout(figure["layout"])
    return {key: {"title": title, "note": note, "figure": figure}}


def _layout(layout: dict[str, Any]) -> dict[str, Any]:
    """Optuna's layout in the style of the page."""
    kept = {k: v for k, v in layout.items() if k not in ("template", "title", "width")}
    for key, axis in kept.items():
        if key.startswith(("xaxis", "yaxis")):
            axis.update(gridcolor="#e6e9ed", linecolor=GREY, zerolinecolor=GREY, automargin=True)
            for part in ("title",):
                if isinstance(axis.get(part), dict) and "text" in axis[part]:
                    axis[part]["text"] = _short(axis[part]["text"])
    return kept | {
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": "system-ui, sans-serif", "size": 12, "color": INK},
        "margin": {"l": 60, "r": 30, "t": 40, "b": 60},
        "colorway": [BLUE, ORANGE, GREEN, "#a1478a", "#b07c00"],
    }


def _short(key: str) -> str:
    """The last two parts of a key, which is what tells it apart."""
    return ".".join(key.split(".")[-2:]) if key.startswith(("model.", "training.")) else key


def _learning_curves(document: Mapping[str, Any]) -> dict[str, Any]:
    """The merit of each trial while it was trained."""
    curves: list[dict[str, Any]] = []
    marked = {document["best"]: ("best", BLUE), document["start"]: ("start", ORANGE)}
    for trial in document["trials"][-MOST_CURVES:] + document["trials"][:1]:
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
    # those that stand out lie on top
    curves.sort(key=lambda curve: curve["showlegend"])
    axes = {
        "xaxis": {"title": {"text": "step"}},
        "yaxis": {"title": {"text": "merit (P + E)"}, "type": "log"},
    }
    return {"data": curves, "layout": _layout(axes)}
