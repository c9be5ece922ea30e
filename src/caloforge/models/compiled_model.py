"""The interface of compiled models. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from caloforge.conditions import Conditions
from caloforge.geometry import Detector
from caloforge.models.training_metadata import DataFacts

# gives the noise of the showers [start, stop) of a batch, (stop - start, *noise_shape); the array is valid
# until the next call
NoiseOf = Callable[[int, int], NDArray[np.float32]]


class CompiledModel(Protocol):
    """A compiled `generate` of a model, single-threaded; several threads may call it at once."""

    def __call__(self, conditions: Conditions, noise: NoiseOf, /) -> NDArray[np.float32]:
        """Generate showers (N, *shower_shape) in MeV for N conditions and their noise."""

    @property
    def noise_shape(self) -> tuple[int, ...]:
        """Shape of the noise of one shower."""

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All arrays of the compiled model by name, to store it."""

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], detector: Detector, facts: DataFacts) -> Self:
        """Rebuild the compiled model from its stored arrays.

        Raises:
            KeyError, ValueError: The arrays belong to another kind of model.
        """
