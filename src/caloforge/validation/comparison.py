"""Comparison of each observable in each bin of conditions, with errors and floors."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caloforge.metrics.registry import metrics
from caloforge.metrics.resampling import Metric, Resampler
from caloforge.metrics.samples import ObservablePair
from caloforge.observables import Observable
from caloforge.validation import figure_data, mathtext
from caloforge.validation.conditions import AtFixedConditions, Bin
from caloforge.validation.figure_data import Figure
from caloforge.validation.observed_sample import Sample


@dataclass(frozen=True)
class Difference:
    """One metric of one observable in one bin, for one generator.

    Attributes:
        generator: Name of the sample.
        observable: Name of the observable, or "shower".
        metric: Name of the metric.
        bin: Where.
        result: Value, uncertainty, floor.
        dof: Degrees of freedom of the uncertainty: the effective number of showers that carry the variance.
        place: Index of the bin of a profile, or of the pair of observables; None for one number.
        at: The same in words: "readout layer 4".
        most: Showers of either sample that the metric uses at most; None for all.
    """

    generator: str
    observable: str
    metric: str
    bin: Bin
    result: Metric
    dof: float = math.inf
    place: int | None = None
    at: str = ""
    most: int | None = None

    @property
    def where(self) -> str:
        """Where it was found: "all showers", "100 GeV", "all showers, readout layer 4"."""
        return f"{self.bin.label}, {self.at}" if self.at else self.bin.label


class Comparison:
    """Truth against generators, one observable at a time, which bounds the memory of adjusted values."""

    def __init__(self, truth: Sample, generated: Sequence[Sample], bins: Sequence[Bin], *, seed: int) -> None:
        """Select the showers of every bin and draw the bootstrap weights.

        Args:
            truth: Full simulation.
            generated: The samples to judge.
            bins: Where to compare; the inclusive one among them.
            seed: Seed of the bootstrap.
        """
        self.truth, self.generated, self.bins = truth, tuple(generated), tuple(bins)
        self._chosen = {
            sample.name: {b.key: b.select(sample.conditions) for b in bins} for sample in (truth, *generated)
        }
        self._resamplers = {
            (other.name, b.key): Resampler(
                int(self._chosen[truth.name][b.key].sum()),
                int(self._chosen[other.name][b.key].sum()),
                seed=(seed, zlib.crc32(b.key.encode())),
            )
            for other in generated
            for b in bins
        }

    def examine(self, observable: Observable) -> tuple[list[Difference], list[Figure]]:
        """Every difference and figure of one observable."""
        adjusted = self._adjusted(observable)
        drawn: list[Figure] = []
        differences: list[Difference] = []
        for where in self.bins:
            parts = self._in_bin(observable, adjusted, where)
            differences += self._measure(observable, where, parts)
            if observable.kind == "scalar":
                figure = figure_data.histogram(observable, self.truth, self.generated, where)
            else:
                figure = figure_data.profile(observable, where, parts)
            drawn += [figure] if figure else []
        if observable.kind == "scalar" and drawn:
            pairs = list(zip((self.truth, *self.generated), adjusted, strict=True))
            against = figure_data.trend(observable, pairs[0], pairs[1:])
            drawn += [against] if against else []
        return differences, drawn

    def measure(self, observable: Observable) -> list[Difference]:
        """Every difference of one observable, without figures."""
        adjusted = self._adjusted(observable)
        return [
            difference
            for where in self.bins
            for difference in self._measure(observable, where, self._in_bin(observable, adjusted, where))
        ]

    def _adjusted(self, observable: Observable) -> list[NDArray[Any]]:
        """Values of all samples at fixed incident conditions, the truth first."""
        table = self.truth.values[observable.name]
        fixed = AtFixedConditions(self.truth.conditions, table.reshape(len(table), -1))
        return [self._adjust(fixed, sample, observable) for sample in (self.truth, *self.generated)]

    def _in_bin(self, observable: Observable, adjusted: list[NDArray[Any]], where: Bin) -> list[NDArray[Any]]:
        """The values of the showers in a bin, with the mean of the truth in this bin."""
        chosen = self._chosen[self.truth.name][where.key]
        raw = self.truth.values[observable.name][chosen]
        level = raw.mean(axis=0, dtype=np.float64) - adjusted[0][chosen].mean(axis=0)
        return [
            values[self._chosen[sample.name][where.key]] + level
            for sample, values in zip((self.truth, *self.generated), adjusted, strict=True)
        ]

    def _adjust(self, fixed: AtFixedConditions, sample: Sample, observable: Observable) -> NDArray[Any]:
        values = sample.values[observable.name]
        return fixed.adjust(sample.conditions, values.reshape(len(values), -1)).reshape(values.shape)

    def _measure(self, observable: Observable, where: Bin, parts: list[NDArray[Any]]) -> list[Difference]:
        return [
            Difference(other.name, observable.name, metric, where, result, dof, place, _at(observable, place))
            for other, values in zip(self.generated, parts[1:], strict=True)
            for metric, result, dof, place in _compare(
                observable, parts[0], values, self._resamplers[other.name, where.key]
            )
        ]


def _compare(
    observable: Observable, truth: NDArray[Any], generated: NDArray[Any], resampler: Resampler
) -> Iterator[tuple[str, Metric, float, int | None]]:
    """Every metric of one observable: name, result, degrees of freedom, bin of the profile."""
    pair = ObservablePair(truth, generated, observable.kind, observable.signed, resampler)
    for definition in metrics().values():
        found = definition.of_observable(pair) if definition.of_observable else None
        if isinstance(found, Mapping):
            for place, result in found.items():
                dof = float(pair.effective_showers[place]) if definition.few_showers else math.inf
                yield definition.name, result, dof, place
        elif found is not None:
            dof = pair.fewest_effective_showers if definition.few_showers else math.inf
            yield definition.name, found, dof, None


def _at(observable: Observable, place: int | None) -> str:
    """The centre of a bin of a profile, with the name of its axis."""
    if place is None or observable.axis is None:
        return ""
    low, high = observable.axis.edges[place : place + 2]
    middle = np.sqrt(low * high) if observable.axis.log else (low + high) / 2
    unit = f" {observable.axis.unit}" if observable.axis.unit else ""
    return f"{mathtext.plain(observable.axis.label)} {middle:.4g}{unit}".replace("-", "−")
