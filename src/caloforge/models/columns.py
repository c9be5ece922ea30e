"""Incident conditions as NumPy arrays, and the interface of compiled models. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from caloforge.geometry import Detector
from caloforge.models.training_metadata import DataFacts

if TYPE_CHECKING:
    from caloforge.models.base import Condition

# gives the noise of the showers [start, stop) of a batch, (stop - start, *noise_shape); the array is valid
# until the next call
NoiseOf = Callable[[int, int], NDArray[np.float32]]


@dataclass(frozen=True)
class Columns:
    """The incident conditions of N showers as arrays (N,): energy in MeV, theta and phi in rad, float32."""

    energy: NDArray[np.float32]
    theta: NDArray[np.float32]
    phi: NDArray[np.float32]
    pdg_id: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.energy)

    def __getitem__(self, rows: slice) -> Columns:
        """Select conditions."""
        return Columns(self.energy[rows], self.theta[rows], self.phi[rows], self.pdg_id[rows])

    def tensors(self) -> Condition:
        """The conditions as tensors."""
        import torch

        from caloforge.models.base import Condition

        arrays = (self.energy, self.theta, self.phi, self.pdg_id)
        return Condition(*(torch.from_numpy(np.ascontiguousarray(values)) for values in arrays))


class CompiledForm(Protocol):
    """A compiled `generate` of a model, single-threaded; several threads may call it at once."""

    def __call__(self, columns: Columns, noise: NoiseOf) -> NDArray[np.float32]:
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
