"""Embedding of a search space in the unit cube, for samplers that need distances.

A number has one coordinate, logarithmic if the parameter is; an integer has a cell of equal width for each
value. A categorical parameter with numeric values has one coordinate in their order; any other one is one-hot
encoded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

Points = NDArray[np.float64]

# length of one-hot vectors: two different choices are at distance 1
ONE_HOT = 1 / np.sqrt(2)


class Axis:
    """Embedding of one parameter.

    Attributes:
        width: Number of coordinates.
        levels: Number of different values; 0 for a real number.
        ordered: Whether nearby coordinates mean nearby values.
    """

    width = 1
    ordered = True

    def __init__(self, levels: int) -> None:
        self.levels = levels

    def encode(self, value: Any) -> Points:
        """Coordinates of a value, (width,)."""
        raise NotImplementedError

    def decode(self, place: Points) -> Any:
        """The value nearest to the coordinates (width,)."""
        raise NotImplementedError

    def unknown(self) -> Points:
        """Coordinates for a parameter that does not exist: the centre, equally far from the extremes."""
        return np.full(1, 0.5)

    def snap(self, places: Points) -> Points:
        """Round coordinates (n, width) to those of values."""
        if not self.levels:
            return np.clip(places, 0, 1)
        level = np.clip(np.floor(places * self.levels), 0, self.levels - 1)
        snapped: Points = (level + 0.5) / self.levels
        return snapped


class _Number(Axis):
    """A real number, or one on a linear grid."""

    def __init__(self, low: float, high: float, step: float | None, *, log: bool) -> None:
        super().__init__(0 if step is None else round((high - low) / step) + 1)
        self.low, self.high, self.step, self.log = low, high, step, log

    def encode(self, value: Any) -> Points:
        if self.levels:
            return np.array([(round((value - self.low) / (self.step or 1)) + 0.5) / self.levels])
        low, high, value = (np.log(x) if self.log else x for x in (self.low, self.high, value))
        return np.array([(value - low) / (high - low)])

    def decode(self, place: Points) -> float:
        fraction = float(np.clip(place[0], 0, 1))
        if self.levels:
            level = min(int(fraction * self.levels), self.levels - 1)
            return self.low + level * (self.step or 1)
        if self.log:
            value = float(np.exp(np.log(self.low) + fraction * (np.log(self.high) - np.log(self.low))))
        else:
            value = self.low + fraction * (self.high - self.low)
        return min(max(value, self.low), self.high)


class _Whole(Axis):
    """An integer, in cells of equal width or, with `log`, of equal width in the logarithm."""

    def __init__(self, distribution: IntDistribution) -> None:
        self.values = np.arange(distribution.low, distribution.high + 1, distribution.step)
        super().__init__(len(self.values))
        half = distribution.step / 2
        edges = np.append(self.values - half, self.values[-1] + half)
        edges = np.log(edges) if distribution.log else edges
        self.edges: Points = (edges - edges[0]) / (edges[-1] - edges[0])

    def encode(self, value: Any) -> Points:
        index = int(np.searchsorted(self.values, value))
        return np.array([(self.edges[index] + self.edges[index + 1]) / 2])

    def decode(self, place: Points) -> int:
        return int(self.values[self._cell(place)[0]])

    def snap(self, places: Points) -> Points:
        index = self._cell(places)
        snapped: Points = (self.edges[index] + self.edges[index + 1]) / 2
        return snapped

    def _cell(self, places: Points) -> NDArray[np.intp]:
        return np.clip(np.searchsorted(self.edges, places, side="right") - 1, 0, self.levels - 1)


class _Ordered(Axis):
    """A categorical parameter with numeric values, or with two values."""

    def __init__(self, choices: Sequence[Any]) -> None:
        super().__init__(len(choices))
        self.choices = sorted(choices) if _is_numeric(choices) else list(choices)

    def encode(self, value: Any) -> Points:
        return np.array([(self.choices.index(value) + 0.5) / self.levels])

    def decode(self, place: Points) -> Any:
        return self.choices[int(np.clip(place[0] * self.levels, 0, self.levels - 1))]


class _OneHot(Axis):
    """A categorical parameter without order."""

    ordered = False

    def __init__(self, choices: Sequence[Any]) -> None:
        super().__init__(len(choices))
        self.choices = list(choices)
        self.width = len(choices)

    def encode(self, value: Any) -> Points:
        place = np.zeros(self.width)
        place[self.choices.index(value)] = ONE_HOT
        return place

    def decode(self, place: Points) -> Any:
        return self.choices[int(np.argmax(place))]

    def unknown(self) -> Points:
        return np.full(self.width, ONE_HOT / self.width)

    def snap(self, places: Points) -> Points:
        snapped: Points = ONE_HOT * np.eye(self.width)[np.argmax(places, axis=1)]
        return snapped


def _is_numeric(choices: Sequence[Any]) -> bool:
    return all(isinstance(choice, int | float) and not isinstance(choice, bool) for choice in choices)


def make_axis(distribution: BaseDistribution) -> Axis:
    """Embedding of a parameter."""
    if isinstance(distribution, CategoricalDistribution):
        choices = distribution.choices
        return _Ordered(choices) if len(choices) == 2 or _is_numeric(choices) else _OneHot(choices)
    if isinstance(distribution, IntDistribution):
        return _Whole(distribution)
    assert isinstance(distribution, FloatDistribution)
    return _Number(distribution.low, distribution.high, distribution.step, log=distribution.log)


class Embedding:
    """Embedding of a search space in the unit cube.

    Attributes:
        names: Names of the parameters, in alphabetical order.
        width: Number of coordinates.
        parameter: Index of the parameter of each coordinate, (width,).
    """

    def __init__(self, space: Mapping[str, BaseDistribution]) -> None:
        """Embed a space; each parameter must have more than one value."""
        self.names = sorted(space)
        self.axes = {name: make_axis(space[name]) for name in self.names}
        widths = [self.axes[name].width for name in self.names]
        stops = np.cumsum([0, *widths])
        self.width = int(stops[-1])
        self.columns = {name: slice(stops[i], stops[i + 1]) for i, name in enumerate(self.names)}
        self.parameter = np.repeat(np.arange(len(widths)), widths)

    def encode(self, params: Mapping[str, Any]) -> Points:
        """Coordinates of a point, (width,); parameters that do not exist are at the centre."""
        parts = [
            axis.encode(params[name]) if name in params else axis.unknown()
            for name, axis in self.axes.items()
        ]
        return np.concatenate(parts)

    def encode_all(self, points: Sequence[Mapping[str, Any]]) -> Points:
        """Coordinates of points, (n, width)."""
        return np.array([self.encode(params) for params in points]).reshape(len(points), self.width)

    def decode(self, place: Points) -> dict[str, Any]:
        """The point nearest to the coordinates (width,)."""
        return {name: axis.decode(place[self.columns[name]]) for name, axis in self.axes.items()}

    def snap(self, places: Points) -> Points:
        """Round coordinates (n, width) to those of points of the space."""
        return np.hstack([axis.snap(places[:, self.columns[name]]) for name, axis in self.axes.items()])

    def from_uniform(self, uniform: Points) -> Points:
        """Points from numbers in [0, 1), one for each parameter: (n, parameters) to (n, width)."""
        parts = []
        for index, axis in enumerate(self.axes.values()):
            places = uniform[:, index : index + 1]
            if not axis.ordered:
                choice = np.minimum((places[:, 0] * axis.width).astype(int), axis.width - 1)
                places = np.eye(axis.width)[choice]
            parts.append(axis.snap(places))
        return np.hstack(parts)
