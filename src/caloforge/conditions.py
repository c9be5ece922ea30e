"""Incident conditions of showers: energy, angles, particle, impact point. Importing this imports no torch.

`Conditions` holds arrays, and is what every part of caloforge passes on. `Condition` holds the same as
tensors, for what torch traces or differentiates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from caloforge.geometry.mesh import IMPACT

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from caloforge.geometry import Detector
    from caloforge.showers import ShowerBatch, ShowerFile

# in shower files and batches
STORED = ("incident_energy", "incident_theta", "incident_phi", "pdg_id", *IMPACT)


@dataclass(frozen=True)
class Conditions:
    """The incident particles of N showers; each array has the shape (N,).

    Attributes:
        energy: Kinetic energy, MeV; float32, or float64 after `double`.
        theta: Polar angle, rad.
        phi: Azimuth, rad.
        pdg_id: Particle number of the Particle Data Group, int32.
        impact_x: Where the track crosses the front of the detector's layer `axis_layer`, from the axis of the
            mesh, mm; 0 by default.
        impact_y: The same along y.
    """

    energy: NDArray[Any]
    theta: NDArray[Any]
    phi: NDArray[Any]
    pdg_id: NDArray[np.int32]
    impact_x: NDArray[Any] = None  # type: ignore[assignment]  # zeros, see __post_init__
    impact_y: NDArray[Any] = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        for name in IMPACT:
            if getattr(self, name) is None:
                object.__setattr__(self, name, np.zeros(len(self.energy), np.float32))

    def __len__(self) -> int:
        return len(self.energy)

    def __getitem__(self, rows: Any) -> Conditions:
        """Those of some showers."""
        return Conditions(*(part[rows] for part in self._parts()))

    def _parts(self) -> tuple[NDArray[Any], ...]:
        return self.energy, self.theta, self.phi, self.pdg_id, self.impact_x, self.impact_y

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
        columns = zip(*(part._parts() for part in parts), strict=True)
        return Conditions(*(np.concatenate(column) for column in columns))

    @property
    def off_axis(self) -> bool:
        """Whether an impact point lies off the axis of the mesh."""
        return bool(np.any(self.impact_x) or np.any(self.impact_y))

    def with_showers(
        self,
        showers: NDArray[np.float32],
        seconds: NDArray[np.float32] | None = None,
        detector: Detector | None = None,
    ) -> ShowerBatch:
        """The batch of the showers that these particles make; the arguments are those of `ShowerBatch`."""
        from caloforge.showers import ShowerBatch

        columns = dict(zip(STORED, self._parts(), strict=True))
        return ShowerBatch(showers, **columns, seconds=seconds, detector=detector)

    def double(self) -> Conditions:
        """The same in double precision, for statistics."""
        real = ("energy", "theta", "phi", *IMPACT)
        return replace(self, **{name: getattr(self, name).astype(np.float64) for name in real})

    def to_torch(self) -> Condition:
        """The same as tensors."""
        import torch

        return Condition(*(torch.from_numpy(np.ascontiguousarray(part)) for part in self._parts()))


@dataclass(frozen=True)
class Condition:
    """`Conditions` as tensors of the shape (N,): what a model's `generate` takes.

    Attributes:
        energy: Kinetic energy, MeV, float32.
        theta: Polar angle, rad, float32.
        phi: Azimuth, rad, float32.
        pdg_id: Particle number, int32.
        impact_x: Impact point, mm, float32; 0 by default.
        impact_y: The same along y.
    """

    energy: Tensor
    theta: Tensor
    phi: Tensor
    pdg_id: Tensor
    impact_x: Tensor = None  # type: ignore[assignment]  # zeros, see __post_init__
    impact_y: Tensor = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        for name in IMPACT:
            if getattr(self, name) is None:
                object.__setattr__(self, name, self.energy.new_zeros(self.energy.shape))

    def __len__(self) -> int:
        return len(self.energy)

    def __getitem__(self, rows: slice | Tensor) -> Condition:
        """Those of some showers."""
        return Condition(*(part[rows] for part in self._parts()))

    def _parts(self) -> tuple[Tensor, ...]:
        return self.energy, self.theta, self.phi, self.pdg_id, self.impact_x, self.impact_y

    @classmethod
    def of(cls, batch: ShowerBatch) -> Condition:
        """Those of some showers."""
        return Conditions.of(batch).to_torch()

    def to(self, device: torch.device | str) -> Condition:
        """The same on another device."""
        return Condition(*(part.to(device) for part in self._parts()))

    def to_numpy(self) -> Conditions:
        """The same as arrays."""
        return Conditions(*(part.numpy() for part in self._parts()))
