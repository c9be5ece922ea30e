"""`Layered.generate` for arrays, in one thread of a CPU. Importing this does not import torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from caloforge.conditions import Conditions
from caloforge.geometry import Detector
from caloforge.models.compiled_model import NoiseOf
from caloforge.models.layered.condition_scale import ConditionScale
from caloforge.models.layered.constants import FLOW_LEADING, RESAMPLER_NOISE
from caloforge.models.layered.numba_backend.axis_window import axis_positions, axis_workspace
from caloforge.models.layered.numba_backend.showers import make
from caloforge.models.layered.numba_backend.weight_tables import (
    AxisTables,
    CellTables,
    FlowTables,
    LayerTables,
)
from caloforge.models.training_metadata import DataFacts

# showers whose noise, an eighth of a megabyte each, is drawn at once
AT_ONCE = 8

AnyTables = TypeVar("AnyTables", bound=LayerTables | FlowTables | CellTables | AxisTables)


class CompiledGenerator:
    """Generates the showers of `Layered.generate`, up to rounding of floats.

    The first call in a process loads the code; the first on a machine compiles it, about 15 s.
    """

    def __init__(
        self,
        layers: LayerTables | FlowTables,
        cells: CellTables,
        detector: Detector,
        facts: DataFacts,
        axis: AxisTables | None = None,
    ) -> None:
        """Keep the tables of `read_weights.py`, which must not change afterwards."""
        ranges = facts.ranges
        if axis is not None:
            # the inclination takes the place of theta and phi
            ranges = ranges.model_copy(update={"theta": tuple(axis.scales[1:3]), "phi": (0.0, 0.0)})
        self._scale = ConditionScale(ranges)
        self._shape = detector.shower_shape
        self._tables = (_plain(layers), _plain(cells))
        self._axis = None if axis is None else _plain(axis)

    @property
    def noise_shape(self) -> tuple[int, ...]:
        """As that of the model."""
        layers, cells = self._tables
        learned = isinstance(layers, FlowTables)
        first = FLOW_LEADING + layers.mean.shape[1] if learned else RESAMPLER_NOISE
        return (first + 2 * self._shape[0] * cells.noise_size,)

    def __call__(self, columns: Conditions, noise: NoiseOf) -> NDArray[np.float32]:
        """Showers (N, *shower_shape) in MeV of N conditions and their noise."""
        count = len(columns)
        energy_argument = self._scale.energy_argument(np.log(columns.energy.astype(np.float64)))
        theta, position, window = columns.theta, None, None
        if self._axis is not None:
            position, theta = axis_positions(self._axis, columns)
            window = axis_workspace(self._axis)
        others = self._scale.others(theta, columns.phi, columns.pdg_id)
        varying = np.stack([energy_argument, *others], axis=1).astype(np.float32)
        particle, energy = self._scale.particle(columns.pdg_id), np.require(columns.energy, None, ["C", "W"])
        showers = np.empty((count, *self._shape), np.float32)
        layers = showers.reshape(count, self._shape[0], -1)
        for start in range(0, count, AT_ONCE):
            stop = min(start + AT_ONCE, count)
            numbers = np.ascontiguousarray(noise(start, stop))
            make(
                *self._tables,
                self._axis,
                varying,
                particle,
                energy,
                position,
                window,
                numbers,
                start,
                layers,
            )
        return showers

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The tables by name."""
        parts: list[Any] = [*self._tables, *([] if self._axis is None else [self._axis])]
        return {
            f"{type(part).__name__}.{name}": np.asarray(value)
            for part in parts
            for name, value in part._asdict().items()
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], detector: Detector, facts: DataFacts) -> Self:
        """Make a generator of the arrays of another.

        Raises:
            KeyError: An array is missing.
        """
        learned = any(name.startswith(f"{FlowTables.__name__}.") for name in arrays)
        layers = _named(FlowTables, arrays) if learned else _named(LayerTables, arrays)
        follows = any(name.startswith(f"{AxisTables.__name__}.") for name in arrays)
        axis = _named(AxisTables, arrays) if follows else None
        return cls(layers, _named(CellTables, arrays), detector, facts, axis)


def _named(kind: type[AnyTables], arrays: Mapping[str, NDArray[Any]]) -> AnyTables:
    values: list[Any] = []
    for name in kind._fields:
        value = arrays[f"{kind.__name__}.{name}"]
        values.append(value if value.ndim else int(value))
    return kind(*values)


def _plain(tables: AnyTables) -> AnyTables:
    """Tables of contiguous writable arrays: for others, Numba would compile everything anew."""
    values = [np.require(v, None, ["C", "W"]) if isinstance(v, np.ndarray) else v for v in tables]
    return cast(AnyTables, type(tables)._make(values))
