"""Threshold sets: how large a difference a validation accepts, by metric and observable."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from caloforge.config import StrictModel, build, parse_yaml, read_yaml
from caloforge.errors import ConfigError, nearest
from caloforge.names import is_path, shipped_name

MetricName = Literal[
    "mean_shift",
    "mean_offset",
    "width_shift",
    "wasserstein",
    "separation_power",
    "kolmogorov_smirnov",
    "profile_deviation",
    "bin_deviation",
    "bin_offset",
    "correlation_shift",
    "classifier_auc",
    "near_copies",
    "neighbour_spacing",
    "negative_energy",
    "fpd",
    "kpd",
    "precision",
    "recall",
    "density",
    "coverage",
    "ssim",
    "ssim_generated",
    "merit_p",
    "merit_e",
    "merit_s",
    "merit_sum",
]
Threshold = Annotated[float, Field(ge=0)]


class ThresholdSet(StrictModel):
    """What is tolerated. A metric without a threshold is shown, and decides nothing.

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
