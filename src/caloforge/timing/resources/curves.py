"""Curves of fidelity against training showers, of a study or stored with caloforge, and what they predict."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np

from caloforge.geometry import Detector

DATA = Path(__file__).parent / "data"
# an area under the ROC curve of samples that a classifier cannot tell apart
EQUAL = 0.5
# an excess of the area below this is not seen by a thousand showers
SMALLEST_EXCESS = 0.005
# beyond the largest number of showers, a power law is believed up to this factor
REACH = 5.0
# fewer trainings say little of their scatter around it
FEW_POINTS = 5

MEASURED, EXTRAPOLATED = "measured", "extrapolated"


@dataclass(frozen=True)
class Spread:
    """A figure of several trainings.

    Attributes:
        mean: Their mean.
        error: Standard deviation over the trainings, or the uncertainty of a single one.
        limit: Whether it is a lower limit in most trainings.
    """

    mean: float
    error: float
    limit: bool = False


@dataclass(frozen=True)
class Node:
    """All trainings of one number of showers with the same settings.

    Attributes:
        settings: Changes of the run.
        showers: Number of showers.
        rows: Their rows in resources.json.
    """

    settings: tuple[str, ...]
    showers: int
    rows: tuple[dict[str, Any], ...]

    def figure(self, name: str) -> Spread | None:
        """A judged figure, such as "trees"; None where it was not measured."""
        found = [row[name] for row in self.rows if name in row]
        if not found:
            return None
        values = [float(metric["value"]) for metric in found if metric["value"] is not None]
        errors = [metric["uncertainty"] for metric in found]
        if not values:
            return None
        limit = 2 * sum(error is None for error in errors) > len(errors)
        known = [float(error) for error in errors if error is not None]
        error = stdev(values) if len(values) > 1 else fmean(known) if known else math.nan
        return Spread(fmean(values), error, limit)

    def mean(self, name: str) -> float:
        """Mean of a plain number, such as "cpu_seconds"."""
        return fmean(float(row[name]) for row in self.rows)


def nodes(document: dict[str, Any]) -> list[Node]:
    """The points of a study by settings and number of showers, the settings with most steps first."""
    groups: dict[tuple[str, ...], dict[int, list[dict[str, Any]]]] = {}
    for row in document["points"]:
        groups.setdefault(tuple(row["settings"]), {}).setdefault(row["showers"], []).append(row)
    steps = {
        settings: max(row["steps"] for rows in counts.values() for row in rows)
        for settings, counts in groups.items()
    }
    order = sorted(groups, key=lambda settings: -steps[settings])
    return [
        Node(settings, showers, tuple(rows))
        for settings in order
        for showers, rows in sorted(groups[settings].items())
    ]


@cache
def stored_curves() -> tuple[dict[str, Any], ...]:
    """The studies that come with caloforge, as `caloforge benchmark resources` wrote them."""
    return tuple(json.loads(path.read_text(encoding="utf-8")) for path in sorted(DATA.glob("*.json")))


@dataclass(frozen=True)
class Expectation:
    """What a number of training showers gives.

    Attributes:
        trees: Area of boosted trees, with its spread.
        how: "measured" between measured numbers of showers, "extrapolated" beyond them.
        showers: The measured numbers of showers, least and most.
        steps: Steps of a training.
        step_seconds: CPU time of a step, s.
        document: The study.
    """

    trees: Spread
    how: str
    showers: tuple[int, int]
    steps: float
    step_seconds: float
    document: dict[str, Any]


def curves_for(detector: Detector, pdg_id: int, family: str) -> tuple[dict[str, Any], bool] | None:
    """The stored study that is nearest to a run, and whether it is of the same detector and particle.

    Args:
        detector: Detector of the run.
        pdg_id: Its particle.
        family: Family of its model.

    Returns:
        The study of this detector and particle, else one on the same kind of mesh, else any of the family;
        None if there is none of the family.
    """
    found = [document for document in stored_curves() if document["identity"]["family"] == family]
    if not found:
        return None

    def likeness(document: dict[str, Any]) -> tuple[bool, bool]:
        return _same(document, detector, pdg_id), document["mesh"] == detector.mesh.kind

    nearest = max(found, key=likeness)
    return nearest, _same(nearest, detector, pdg_id)


def _same(document: dict[str, Any], detector: Detector, pdg_id: int) -> bool:
    return bool(document["identity"]["geometry"] == detector.geometry_digest and document["pdg_id"] == pdg_id)


def expectation(document: dict[str, Any], showers: int) -> Expectation | None:
    """What a number of training showers gives, from the curve with most steps.

    Between measured numbers the excess of the area over 0.5 is a power of the number of showers from one to
    the next. Beyond the last one it is the power law through all trainings, up to five times as many.

    Args:
        document: A resources.json.
        showers: Number of showers, the held-out ones included.

    Returns:
        None outside the numbers of showers for which something can be said.
    """
    everything = nodes(document)
    curve = [node for node in everything if node.settings == everything[0].settings]
    measured = [(node.showers, found) for node in curve if (found := node.figure("trees")) is not None]
    least, most = measured[0][0], measured[-1][0]
    if showers < least or showers > REACH * most or len(measured) < 2:
        return None
    steps = fmean(node.mean("steps") for node in curve)
    step_seconds = fmean(node.mean("cpu_seconds") / max(1.0, node.mean("steps")) for node in curve)
    if showers <= most:
        trees, how = _between(measured, showers), MEASURED
    else:
        rows = [
            (row["showers"], float(row["trees"]["value"]), float(row["trees"]["uncertainty"]))
            for node in curve
            for row in node.rows
        ]
        trees, how = _beyond(rows, showers), EXTRAPOLATED
    return Expectation(trees, how, (least, most), steps, step_seconds, document)


def _excess(area: float) -> float:
    return max(area - EQUAL, SMALLEST_EXCESS)


def _between(measured: Sequence[tuple[int, Spread]], showers: int) -> Spread:
    where = [math.log(count) for count, _ in measured]
    logs = [math.log(_excess(found.mean)) for _, found in measured]
    mean = EQUAL + math.exp(float(np.interp(math.log(showers), where, logs)))
    error = float(np.interp(math.log(showers), where, [found.error for _, found in measured]))
    return Spread(mean, error)


def _beyond(rows: Sequence[tuple[int, float, float]], showers: int) -> Spread:
    """A power law through all trainings, with the error of the fit and the scatter of one training."""
    x = np.log([count for count, _, _ in rows])
    y = np.log([_excess(area) for _, area, _ in rows])
    design = np.stack([np.ones_like(x), x], axis=1)
    weights, *_ = np.linalg.lstsq(design, y, rcond=None)
    scatter = float(np.sum((y - design @ weights) ** 2)) / max(1, len(y) - 2)
    if len(rows) < FEW_POINTS:
        # they may lie on a line by chance: they are known no better than each of them
        scatter = max(scatter, fmean((error / _excess(area)) ** 2 for _, area, error in rows))
    place = np.array([1.0, math.log(showers)])
    variance = scatter * (1 + float(place @ np.linalg.pinv(design.T @ design) @ place))
    excess = math.exp(float(place @ weights))
    return Spread(EQUAL + excess, excess * math.sqrt(variance))
