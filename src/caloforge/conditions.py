"""Incident conditions of showers: energy, angles and particle. Importing this does not import torch.

`Conditions` holds arrays, and is what every part of caloforge passes on. `Condition` holds the same as
tensors, for what torch traces or differentiates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from caloforge.showers import ShowerBatch, ShowerFile

# in shower files and batches
STORED = ("incident_energy", "incident_theta", "incident_phi", "pdg_id")


@dataclass(frozen=True)
class Conditions:
    """The incident particles of N showers; each array has the shape (N,).

    Attributes:
        energy: Kinetic energy, MeV; float32, or float64 after `double`.
        theta: Polar angle, rad.
        phi: Azimuth, rad.
        pdg_id: Particle number of the Particle Data Group, int32.
    """

    energy: NDArray[Any]
    theta: NDArray[Any]
    phi: NDArray[Any]
    pdg_id: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.energy)

    def __getitem__(self, rows: Any) -> Conditions:
        """Those of some showers."""
        return Conditions(self.energy[rows], self.theta[rows], self.phi[rows], self.pdg_id[rows])

    @classmethod
    def of(cls, showers: ShowerFile | ShowerBatch) -> Conditions:
        """Those of an open shower file or of showers in memory."""
        from caloforge.showers import ShowerBatch

        if isinstance(showers, ShowerBatch):
            return Conditions(*(getattr(showers, name) for name in STORED))
        return Conditions(*(showers.column(name) for name in STORED))

    @classmethod
    def joined(cls, parts: Sequence[Conditions]) -> Conditions:
        """Those of several samples, one after another."""
        columns = zip(*((p.energy, p.theta, p.phi, p.pdg_id) for p in parts), strict=True)
        return Conditions(*(np.concatenate(column) for column in columns))

    def double(self) -> Conditions:
        """The same in double precision, for statistics."""
        energy, theta, phi = (part.astype(np.float64) for part in (self.energy, self.theta, self.phi))
        return Conditions(energy, theta, phi, self.pdg_id)

    def to_torch(self) -> Condition:
        """The same as tensors."""
        import torch

        parts = (self.energy, self.theta, self.phi, self.pdg_id)
        return Condition(*(torch.from_numpy(np.ascontiguousarray(part)) for part in parts))


@dataclass(frozen=True)
class Condition:
    """`Conditions` as tensors of the shape (N,): what a model's `generate` takes.

    Attributes:
        energy: Kinetic energy, MeV, float32.
        theta: Polar angle, rad, float32.
        phi: Azimuth, rad, float32.
        pdg_id: Particle number, int32.
    """

    energy: Tensor
    theta: Tensor
    phi: Tensor
    pdg_id: Tensor

    def __len__(self) -> int:
        return len(self.energy)

    def __getitem__(self, rows: slice | Tensor) -> Condition:
        """Those of some showers."""
        return Condition(self.energy[rows], self.theta[rows], self.phi[rows], self.pdg_id[rows])

    @classmethod
    def of(cls, batch: ShowerBatch) -> Condition:
        """Those of some showers."""
        return Conditions.of(batch).to_torch()

    def to(self, device: torch.device | str) -> Condition:
        """The same on another device."""
        parts = (self.energy, self.theta, self.phi, self.pdg_id)
        return Condition(*(part.to(device) for part in parts))

    def to_numpy(self) -> Conditions:
        """The same as arrays."""
        return Conditions(*(part.numpy() for part in (self.energy, self.theta, self.phi, self.pdg_id)))
