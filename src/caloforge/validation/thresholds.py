"""Threshold sets: the tolerated difference by metric and observable."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from caloforge.config import StrictModel, build, parse_yaml, read_yaml
from caloforge.errors import ConfigError, nearest
from caloforge.metrics.registry import metrics
from caloforge.names import is_path, shipped_name


def _check_metric(name: str) -> str:
    known = [metric for metric, definition in metrics().items() if definition.threshold]
    if name not in known:
        raise ValueError(f"{name!r} is no metric with a threshold. {nearest(name, known)}")
    return name


MetricName = Annotated[str, AfterValidator(_check_metric)]
Threshold = Annotated[float, Field(ge=0)]


class ThresholdSet(StrictModel):
    """Tolerated differences. A metric without a threshold is shown but does not enter the verdict.

    Attributes:
        name: Name of the set.
        summary: One sentence about it, shown in the report.
        false_alarm: Probability that a generator equal to full simulation fails, all comparisons together.
        confidence: With which each difference must be shown to be smaller than its threshold, so that a
            generator beyond a threshold is called within with a probability of at most 1 - confidence.
        inclusive: Threshold of each metric over all showers.
        bins: The same in every bin of energy, angle and particle.
        observables: Thresholds that differ for one observable, inclusive and in bins; null takes the metric
            out of the verdict there.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    summary: str = ""
    false_alarm: float = Field(default=0.05, gt=0, lt=0.5)
    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    inclusive: dict[MetricName, Threshold]
    bins: dict[MetricName, Threshold] = Field(default_factory=dict)
    observables: dict[str, dict[MetricName, Threshold | None]] = Field(default_factory=dict)

    def threshold(self, metric: str, observable: str, *, inclusive: bool) -> float | None:
        """The threshold of a metric of an observable, or None where it does not decide."""
        common: Mapping[Any, float] = self.inclusive if inclusive else self.bins
        own: Mapping[Any, float | None] = self.observables.get(observable, {})
        return own[metric] if metric in own and metric in common else common.get(metric)


def threshold_sets() -> list[str]:
    """Names of the sets that come with caloforge."""
    folder = resources.files("caloforge.validation") / "data"
    return sorted(item.name.removesuffix(".yaml") for item in folder.iterdir() if item.name.endswith(".yaml"))


def load_thresholds(source: str | Path, observables: list[str]) -> ThresholdSet:
    """A threshold set by name or from a YAML file.

    Args:
        source: "strict", "3dgan", or the path of a YAML file.
        observables: Names that showers of this detector have.

    Raises:
        ConfigError: No such set, or a file with unknown metrics or observables, or bad thresholds.
    """
    text = str(source)
    if shipped_name(source, threshold_sets(), "threshold set"):
        folder = resources.files("caloforge.validation") / "data"
        document = parse_yaml((folder / f"{text}.yaml").read_text(encoding="utf-8"), text)
        # our sets may name observables that only some meshes have
        return build(ThresholdSet, document, text)
    if not is_path(source):
        raise ConfigError(f"no threshold set is called {text!r}. {nearest(text, threshold_sets())}")
    thresholds = build(ThresholdSet, read_yaml(text), text)
    for name in thresholds.observables:
        if name not in observables:
            raise ConfigError(
                f"{text} › observables: unknown observable {name!r}. {nearest(name, observables)}"
            )
    return thresholds
