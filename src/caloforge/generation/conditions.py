"""What is asked of a model, for many showers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from caloforge.beam import BeamConfig, sample_conditions
from caloforge.errors import DataError
from caloforge.models.base import Condition, ShowerModel
from caloforge.showers import ShowerFile

# keeps the sampled conditions apart from the noise of the same seed
CONDITION_STREAM = 0x5EED


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
        arrays = (self.energy, self.theta, self.phi, self.pdg_id)
        return Condition(*(torch.from_numpy(np.ascontiguousarray(values)) for values in arrays))


def columns_like(path: Path, model: ShowerModel, n: int | None) -> Columns:
    """The conditions of a shower file, in its order.

    Raises:
        DataError: The file has another geometry than the model, or fewer than `n` showers.
    """
    with ShowerFile(path) as truth:
        if truth.detector.geometry_digest != model.detector.geometry_digest:
            raise DataError(
                f"{path}: its detector is {truth.detector.name} {truth.detector.shower_shape}, "
                f"the model was trained for {model.detector.name} {model.detector.shower_shape}; "
                "give a file of that detector"
            )
        if n is not None and n > len(truth):
            raise DataError(f"{path}: holds {len(truth)} showers, {n} were asked for; give a smaller -n")
        names = ("incident_energy", "incident_theta", "incident_phi", "pdg_id")
        return Columns(*(truth.column(name)[:n] for name in names))


def columns_sampled(beam: BeamConfig, seed: int, n: int) -> Columns:
    """Conditions drawn from a beam description; shower i depends only on (seed, i)."""
    drawn = sample_conditions(beam, seed ^ CONDITION_STREAM, 0, n)
    return Columns(drawn.energy, drawn.theta, drawn.phi, drawn.pdg_id)
