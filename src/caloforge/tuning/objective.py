"""The figures that a study makes small or large, and where they are read."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from caloforge.errors import ConfigError, nearest
from caloforge.metrics.registry import metrics
from caloforge.run_directory import METRICS
from caloforge.training.config import EvaluationConfig

# of the training's own evaluations
MERIT = "merit"
SPEED = "ms_per_shower"


def whole_shower_figures() -> list[str]:
    """Metrics of whole samples, which metrics.json has under the observable "shower"."""
    return [d.name for d in metrics().values() if d.of_samples is not None and d.requires != "training"]


def needs_classifier(figures: Sequence[str]) -> bool:
    """Whether boosted trees have to be trained, which a study otherwise leaves out."""
    return any(d.name in figures for d in metrics().values() if d.requires == "classifier")


class Value(NamedTuple):
    """A figure and its standard error; NaN where that is not known."""

    value: float
    error: float


def check_figure(name: str) -> None:
    """Refuse what can be no figure.

    Raises:
        ValueError: With the nearest name.
    """
    parts = name.split(".")
    if name in (MERIT, SPEED) or (len(parts) == 3 and all(parts)):
        return
    known = (MERIT, SPEED, *whole_shower_figures())
    if name not in known:
        raise ValueError(
            f"got {name!r}, expected a figure such as merit_sum or response.inclusive.mean_shift. "
            f"{nearest(name, known)}"
        )


def check_observables(figures: Sequence[str], known: Sequence[str]) -> None:
    """Refuse figures of observables that the detector does not have.

    Raises:
        ConfigError: With the nearest name.
    """
    for name in figures:
        observable, dot, _ = name.partition(".")
        if dot and observable not in known:
            raise ConfigError(
                f"objectives › {name}: {observable!r} is no observable. {nearest(observable, known)}"
            )


def needs_validation(figures: Sequence[str]) -> bool:
    """Whether showers have to be generated and compared to know these figures."""
    return any(name != MERIT for name in figures)


def read_figures(figures: Sequence[str], metrics: Mapping[str, Any]) -> dict[str, Value]:
    """Figures of the one generator in a metrics.json.

    Raises:
        ConfigError: A figure that is not there; with the nearest one.
    """
    entry = next(iter(metrics["generators"].values()))
    return {name: _read(name, entry) for name in figures if name != MERIT}


def _read(name: str, entry: Mapping[str, Any]) -> Value:
    if name == SPEED:
        return Value(1e3 * float(entry["sample"]["median_seconds"]), math.nan)
    branch: Any = entry["observables"]
    for key in name.split(".") if "." in name else ("shower", "inclusive", name):
        if not isinstance(branch, Mapping) or key not in branch:
            valid = branch if isinstance(branch, Mapping) else ()
            raise ConfigError(f"objective {name}: {key!r} is not in metrics.json. {nearest(key, valid)}")
        branch = branch[key]
    if not isinstance(branch, Mapping) or "value" not in branch:
        raise ConfigError(f"objective {name}: no single number of metrics.json")
    # a shift to either side is as bad
    return Value(abs(float(branch["value"])), float(branch["uncertainty"]))


def evaluations(run: Path) -> list[tuple[int, float]]:
    """(step, merit) of every evaluation of a training so far; what a kill cut short is left out."""
    path = run / METRICS
    found = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if "eval_merit" in row:
            # JSON has no infinity; Python writes and reads one
            found.append((int(row["step"]), float(row["eval_merit"])))
    return found


def merit_of(run: Path, evaluation: EvaluationConfig) -> float:
    """The merit of the model that a training kept; NaN where it made no evaluation."""
    merits = [merit for _, merit in evaluations(run)]
    if not merits:
        return math.nan
    return min(merits) if evaluation.keep == "best" else merits[-1]


def combine(folds: Sequence[Mapping[str, Value]], figure: str) -> Value:
    """Mean over the folds, and its standard error: from their spread, or that of the one measurement."""
    values = [fold[figure] for fold in folds]
    mean = math.fsum(v.value for v in values) / len(values)
    if len(values) == 1:
        return values[0]
    variance = math.fsum((v.value - mean) ** 2 for v in values) / (len(values) - 1)
    return Value(mean, math.sqrt(variance / len(values)))
