"""What is asked of a model, as arrays, and the compiled form that takes it. Imports no torch."""

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

# the noise of the showers [start, stop) of a pass, (stop - start, *noise_shape); good until the next call
NoiseOf = Callable[[int, int], NDArray[np.float32]]


@dataclass(frozen=True)
class Columns:
    """What is asked of the model for N showers: float32 (N,) MeV, rad, rad and int32 (N,)."""

    energy: NDArray[np.float32]
    theta: NDArray[np.float32]
    phi: NDArray[np.float32]
    pdg_id: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.energy)

    def __getitem__(self, rows: slice) -> Columns:
        """Some of them."""
        return Columns(self.energy[rows], self.theta[rows], self.phi[rows], self.pdg_id[rows])

    def tensors(self) -> Condition:
        """The same for torch."""
        import torch

        from caloforge.models.base import Condition

        arrays = (self.energy, self.theta, self.phi, self.pdg_id)
        return Condition(*(torch.from_numpy(np.ascontiguousarray(values)) for values in arrays))


class CompiledForm(Protocol):
    """`generate` of a model as machine code for one thread of a CPU; several threads may call it."""

    def __call__(self, columns: Columns, noise: NoiseOf) -> NDArray[np.float32]:
        """Showers (N, *shower_shape) in MeV of N conditions and their noise."""

    @property
    def noise_shape(self) -> tuple[int, ...]:
        """Shape of the noise of one shower."""

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All that it reads, by name."""

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], detector: Detector, facts: DataFacts) -> Self:
        """The same again, of a model for that detector and with these facts.

        Raises:
            KeyError, ValueError: The arrays are of something else.
        """
