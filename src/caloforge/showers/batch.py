"""ShowerBatch: some showers and what made them, in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


@dataclass
class ShowerBatch:
    """N showers. All arrays share their first axis.

    Attributes:
        showers: (N, nz, ny, nx), (N, nz, nphi, nr) or (N, n_voxels); energy per voxel, MeV.
        incident_energy: (N,) kinetic energy, MeV.
        incident_theta: (N,) rad; pi/2 is orthogonal incidence.
        incident_phi: (N,) rad.
        pdg_id: (N,) PDG number of the incident particle.
        seconds: (N,) wall time per shower, or None where nobody measured it.
    """

    showers: Floats
    incident_energy: Floats
    incident_theta: Floats
    incident_phi: Floats
    pdg_id: NDArray[np.int32]
    seconds: Floats | None = None

    def __post_init__(self) -> None:
        for name in ("showers", "incident_energy", "incident_theta", "incident_phi"):
            setattr(self, name, np.asarray(getattr(self, name), np.float32))
        self.pdg_id = np.asarray(self.pdg_id, np.int32)
        if self.seconds is not None:
            self.seconds = np.asarray(self.seconds, np.float32)
        for field in fields(self):
            value = getattr(self, field.name)
            if value is not None and len(value) != len(self.showers):
                raise ValueError(f"{field.name}: got {len(value)} entries for {len(self.showers)} showers")

    def __len__(self) -> int:
        return len(self.showers)

    def __getitem__(self, index: slice | NDArray[np.integer] | NDArray[np.bool_]) -> ShowerBatch:
        """Some of the showers."""
        values: dict[str, Any] = {
            field.name: None if (value := getattr(self, field.name)) is None else value[index]
            for field in fields(self)
        }
        return ShowerBatch(**values)

    @classmethod
    def concatenate(cls, batches: Sequence[ShowerBatch]) -> ShowerBatch:
        """Several batches as one; `seconds` is kept only where all have it."""
        arrays: dict[str, Any] = {}
        for field in fields(cls):
            values = [getattr(batch, field.name) for batch in batches]
            arrays[field.name] = None if any(v is None for v in values) else np.concatenate(values)
        return cls(**arrays)

    def visible_energy(self) -> Floats:
        """(N,) sum over the voxels, MeV."""
        total: Floats = self.showers.reshape(len(self), -1).sum(axis=1, dtype=np.float64).astype(np.float32)
        return total
