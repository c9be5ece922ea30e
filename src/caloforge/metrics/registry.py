"""The registry of metrics: one definition each, read by validation, thresholds, report, card and tuning."""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from caloforge.metrics.resampling import Metric
from caloforge.metrics.samples import ObservablePair, SamplePair
from caloforge.plugins import Registry

Format = Literal["percent", "spreads", "plain"]
ThresholdKind = Literal["magnitude", "excess", "deficit", "ratio", "similarity", "area", "value"]
Requirement = Literal["classifier", "training"]

# what is compared with the threshold, by kind
THRESHOLD_KINDS: dict[ThresholdKind, str] = {
    "magnitude": "size of the value",
    "excess": "value less floor",
    "deficit": "floor less value",
    "ratio": "distance from 1",
    "similarity": "distance from the floor",
    "area": "the value, 0.5 for equal samples",
    "value": "the value",
}


@dataclass(frozen=True)
class MetricDefinition:
    """One metric: how it is computed, written, compared with a threshold and shown on a model card.

    A metric compares either one observable at a time (`of_observable`) or whole samples (`of_samples`), or
    summarises another one over the observables (`of_results`). With none of these it is measured elsewhere:
    correlation coefficients, comparisons of several generators.

    Attributes:
        name: Key in metrics.json, threshold sets and objectives of a search.
        short: Title in a table.
        label: What it is, in the report.
        format: How its numbers are written: in percent, in standard deviations of the truth, or plainly.
        threshold: What of it is compared with a threshold; None for metrics that never decide.
        of_observable: Compares one observable in one bin of conditions. A mapping gives one result for each
            bin of a profile; None where the metric does not apply.
        of_samples: Compares two samples of whole showers; None where the metric does not apply.
        of_results: Name of a metric of observables, and the summary of its results over them, all showers.
        requires: "classifier" where a classifier is trained, which can be switched off; "training" where the
            showers that the generator was trained on must be given.
        max_showers: Showers of either sample that it uses at most; None for all.
        few_showers: Outlying showers may dominate the uncertainty: the verdict uses Student's distribution
            with their effective number.
        headline: Named first in the verdict where several metrics of an observable fail.
        card: Title of its row on a model card; empty for none. Only for `of_samples` and `of_results`.
    """

    name: str
    short: str
    label: str
    format: Format = "plain"
    threshold: ThresholdKind | None = None
    of_observable: Callable[[ObservablePair], Metric | Mapping[int, Metric] | None] | None = None
    of_samples: Callable[[SamplePair], Metric | None] | None = None
    of_results: tuple[str, Callable[[Sequence[Metric]], Metric]] | None = None
    requires: Requirement | None = None
    max_showers: int | None = None
    few_showers: bool = False
    headline: bool = False
    card: str = ""


_REGISTERED: dict[str, MetricDefinition] = {}


def register(definition: MetricDefinition) -> None:
    """Add a metric to those of caloforge.

    Raises:
        ValueError: A metric of this name exists.
    """
    if definition.name in metrics():
        raise ValueError(f"a metric called {definition.name!r} exists already; choose another name")
    _REGISTERED[definition.name] = definition


def metrics() -> Mapping[str, MetricDefinition]:
    """All metrics by name: those of `caloforge.metrics.definitions`, of packages, and registered ones."""
    return MappingProxyType(METRICS.usable() | _REGISTERED)


@functools.cache
def _own() -> dict[str, MetricDefinition]:
    """The tuples METRICS of the modules of `caloforge.metrics.definitions`."""
    from caloforge.metrics import definitions

    names = [module.name for module in pkgutil.iter_modules(definitions.__path__, f"{definitions.__name__}.")]
    return {d.name: d for name in names for d in importlib.import_module(name).METRICS}


def _complaint(name: str, metric: MetricDefinition) -> str:
    return "" if metric.name == name else f"its name is {metric.name!r}, expected {name!r}"


METRICS = Registry("caloforge.metrics", "metric", _own, MetricDefinition, _complaint)
