"""The metrics of a validation that a card shows."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from caloforge.metrics.registry import metrics

Unit = Literal["percent", "plain"]
Json = dict[str, Any]

SCALE = {"percent": 100.0, "plain": 1.0}
EVERYWHERE = "all showers"
NETWORKS = {
    "strong": "AUC, strong CNN on every cell",
    "low": "AUC, CaloChallenge MLP on cells",
    "low-normed": "AUC, CaloChallenge MLP on cells over layer energies",
    "high": "AUC, CaloChallenge MLP on observables",
    "cnn": "AUC, CaloChallenge 3D ResNet",
}


@dataclass(frozen=True)
class Figure:
    """A metric that a card shows.

    Attributes:
        label: Label in the card.
        observable: Name in metrics.json.
        metric: Name in metrics.json.
        unit: Unit that the number is written in.
        in_bins: Whether to show it in each bin of incident energy as well.
    """

    label: str
    observable: str
    metric: str
    unit: Unit = "plain"
    in_bins: bool = False


# figures of single observables
OBSERVABLES = (
    Figure("mean response", "response", "mean_shift", "percent", in_bins=True),
    Figure("spread of the response", "response", "width_shift", "percent", in_bins=True),
    Figure("mean number of hits", "hits", "mean_shift", "percent", in_bins=True),
    Figure("spread of the number of hits", "hits", "width_shift", "percent"),
    Figure("energy of a layer", "layer_energy", "bin_deviation", "percent"),
    Figure("energy of a ring", "radial_profile", "bin_deviation", "percent"),
    Figure("energy of a column, x", "x_profile", "bin_deviation", "percent"),
    Figure("energy of a row, y", "y_profile", "bin_deviation", "percent"),
    Figure("hits of a layer", "layer_hits", "bin_deviation", "percent"),
    Figure("spectrum of the cells, separation power", "cell_spectrum", "separation_power"),
    Figure("correlation of two observables", "correlation", "correlation_shift"),
)


def card_figures() -> list[Figure]:
    """Figures of every card: classifiers, then single observables, then other metrics of whole samples."""
    classifiers: list[Figure] = []
    others: list[Figure] = []
    for definition in metrics().values():
        if definition.card:
            unit: Unit = "percent" if definition.format == "percent" else "plain"
            group = classifiers if definition.threshold == "area" else others
            group.append(Figure(definition.card, "shower", definition.name, unit))
    return [*classifiers, *OBSERVABLES, *others]


def figures(metrics: Json, generator: str) -> list[Json]:
    """The figures of one generator, the classifiers first.

    Args:
        metrics: A metrics.json.
        generator: Name of the generator in it.

    Returns:
        For each `label`, `where` (the bin), `value`, `uncertainty`, `floor`, `unit`, and where the metric
        decides `threshold` and `status`; for profiles those of the bin with the largest deviation, with
        the expected floor of the largest of as many bins.
    """
    found = list(_networks(metrics.get("on_request", {}).get(generator, {}).get("neural", {})))
    labels = {b["key"]: b["label"] for b in metrics["bins"]}
    energies = [b["key"] for b in metrics["bins"] if b["axis"] == "energy"]
    observables = metrics["generators"][generator]["observables"]
    for figure in card_figures():
        bins = observables.get(figure.observable, {})
        for key in ("inclusive", *(energies if figure.in_bins else ())):
            numbers = bins.get(key, {}).get(figure.metric)
            if not numbers:
                continue
            many = isinstance(numbers, list)
            chosen = _farthest(numbers) if many else numbers
            found.append(
                {
                    "label": figure.label + (f", farthest of {len(numbers)}" if many else ""),
                    "where": labels[key],
                    "unit": figure.unit,
                    **_numbers(chosen),
                }
            )
    return found


def _networks(results: Json) -> Iterator[Json]:
    for name, label in NETWORKS.items():
        if name in results:
            yield {"label": label, "where": EVERYWHERE, "unit": "plain", **_numbers(results[name]["auc"])}


def _numbers(numbers: Json) -> Json:
    keys = ("value", "uncertainty", "floor", "threshold", "status")
    return {key: numbers[key] for key in keys if key in numbers}


def _farthest(bins: list[Json]) -> Json:
    """The bin with the largest deviation; its floor is that of the largest of as many bins."""
    known = [b for b in bins if b["value"] is not None]
    worst = max(known, key=lambda b: abs(b["value"]))
    return {**worst, "floor": largest_floor([b["floor"] for b in known if b["floor"]])}


def largest_floor(floors: list[float]) -> float:
    """Expectation of the largest of several independent absolute differences, given their means.

    Each difference is assumed normal around 0, with a standard deviation of sqrt(pi / 2) times its mean
    absolute value. The expectation of the largest is the integral of the probability that it exceeds x.

    Args:
        floors: Mean absolute values.
    """
    from scipy.special import erf

    if not floors:
        return 0.0
    spread = np.array(floors) * math.sqrt(math.pi / 2)
    x = np.linspace(0, 8 * spread.max(), 2001)
    above = 1 - erf(x[:, None] / (math.sqrt(2) * spread)).prod(axis=1)
    # trapezoidal rule
    return float((above[1:] + above[:-1]).sum() / 2 * x[1])


def write_number(value: float | None, unit: Unit, uncertainty: float | None = None) -> str:
    """A number as a card shows it: "0.53 ± 0.02", "(−0.12 ± 0.08) %"; "–" where there is none."""
    if value is None:
        return "–"
    scale = SCALE[unit]
    digits = _digits(scale * (uncertainty or value))
    text = _fixed(scale * value, digits)
    if uncertainty is not None:
        text += f" ± {scale * uncertainty:.{digits}f}"
        return f"({text}) %" if unit == "percent" else text
    return f"{text} %" if unit == "percent" else text


def write_floor(figure: Json) -> str:
    """The floor of a figure as text, with the decimals of the figure."""
    value, scale = figure["floor"], SCALE[figure["unit"]]
    if value is None:
        return "–"
    digits = max(_digits(scale * (figure["uncertainty"] or value)), _digits(scale * value))
    text = _fixed(scale * value, digits)
    return f"{text} %" if figure["unit"] == "percent" else text


def _digits(number: float) -> int:
    """Number of decimals for two significant digits, at most five."""
    return int(min(5, max(0, 1 - math.floor(math.log10(abs(number)))))) if number else 2


def _fixed(number: float, digits: int) -> str:
    return f"{number:.{digits}f}".replace("-", "−")


def write_time(value: float) -> str:
    """Three significant digits, never in powers of ten: "0.0812", "10 300"."""
    return f"{float(f'{value:.3g}'):,.6f}".rstrip("0").rstrip(".").replace(",", " ")
