"""Objectives of a study: their names, and how their values are read from a training or a validation."""

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

# the figure of merit of the evaluations during the training
MERIT = "merit"
SPEED = "ms_per_shower"


def whole_shower_figures() -> list[str]:
    """Metrics of whole samples, which metrics.json has under the observable "shower"."""
    return [d.name for d in metrics().values() if d.of_samples is not None and d.requires != "training"]


def needs_classifier(figures: Sequence[str]) -> bool:
    """Whether boosted trees have to be trained, which a study otherwise leaves out."""
    return any(d.name in figures for d in metrics().values() if d.requires == "classifier")


class Value(NamedTuple):
    """A figure and its standard error, NaN if unknown."""

    value: float
    error: float


def check_figure(name: str) -> None:
    """Check the name of a figure.

    Raises:
        ValueError: It is not a figure; with the nearest name.
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
    """Check that the detector has the observables of the figures.

    Raises:
        ConfigError: It does not have one; with the nearest name.
    """
    for name in figures:
        observable, dot, _ = name.partition(".")
        if dot and observable not in known:
            raise ConfigError(
                f"objectives › {name}: {observable!r} is no observable. {nearest(observable, known)}"
            )


def needs_validation(figures: Sequence[str]) -> bool:
    """Whether showers must be generated and validated for these figures."""
    return any(name != MERIT for name in figures)


def read_figures(figures: Sequence[str], metrics: Mapping[str, Any]) -> dict[str, Value]:
    """Read figures from a metrics.json with a single generator.

    Raises:
        ConfigError: A figure is missing; with the nearest one.
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
    # the sign of a shift does not matter
    return Value(abs(float(branch["value"])), float(branch["uncertainty"]))


def evaluations(run: Path) -> list[tuple[int, float]]:
    """(step, merit) of each evaluation of a training so far; truncated lines are skipped."""
    path = run / METRICS
    found = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if "eval_merit" in row:
            # Python's json reads and writes infinity, which JSON does not have
            found.append((int(row["step"]), float(row["eval_merit"])))
    return found


def merit_of(run: Path, evaluation: EvaluationConfig) -> float:
    """The merit of the model that a training kept; NaN without an evaluation."""
    merits = [merit for _, merit in evaluations(run)]
    if not merits:
        return math.nan
    return min(merits) if evaluation.keep == "best" else merits[-1]


def combine(folds: Sequence[Mapping[str, Value]], figure: str) -> Value:
    """Mean over the folds and its standard error, from their scatter; a single fold keeps its own error."""
    values = [fold[figure] for fold in folds]
    mean = math.fsum(v.value for v in values) / len(values)
    if len(values) == 1:
        return values[0]
    variance = math.fsum((v.value - mean) ** 2 for v in values) / (len(values) - 1)
    return Value(mean, math.sqrt(variance / len(values)))
