"""Which particles a model takes, and the record of those that it took."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from caloforge.errors import ConfigError
from caloforge.fastsim.config import ELECTROMAGNETIC, FastSimConfig
from caloforge.models.training_metadata import RELATIVE_SLACK, TrainedRange
from caloforge.units import format_energy


class Taken(NamedTuple):
    """A particle that was taken from Geant4 at the gate.

    Attributes:
        event: Place of its event in the block.
        pdg_id: Particle number of the Particle Data Group.
        energy: Kinetic energy, MeV.
        theta: Polar angle, rad.
        phi: Azimuth, rad.
        position: Where it crossed the front face, mm.
        direction: Unit vector.
        time: Global time at the front face, ns.
        track: Number of the track in its event; 1 is an incident particle.
        vertex: Where the track began, mm.
    """

    event: int
    pdg_id: int
    energy: float
    theta: float
    phi: float
    position: tuple[float, float, float]
    direction: tuple[float, float, float]
    time: float
    track: int
    vertex: tuple[float, float, float] = (0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Acceptance:
    """The particles that a model takes: kinds, and limits of energy (MeV) and angles (rad)."""

    pdg_ids: frozenset[int]
    energy: tuple[float, float]
    theta: tuple[float, float]
    phi: tuple[float, float]

    @classmethod
    def of(cls, ranges: TrainedRange, config: FastSimConfig) -> Acceptance:
        """The acceptance of a model trained in these ranges.

        Raises:
            ConfigError: It would take nothing.
        """
        pdg_ids = frozenset(ranges.pdg_ids) & frozenset(ELECTROMAGNETIC)
        if not pdg_ids:
            raise ConfigError(
                f"the model was trained on PDG {', '.join(map(str, ranges.pdg_ids))}; fast simulation inside "
                "Geant4 takes models of electrons (11), positrons (-11) or photons (22)"
            )
        low, high = ranges.energy[0] * (1 - RELATIVE_SLACK), ranges.energy[1] * (1 + RELATIVE_SLACK)
        threshold = config.threshold
        if threshold is not None and not threshold <= high:
            raise ConfigError(
                f"threshold: got {format_energy(threshold)}, but the model was trained up to "
                f"{format_energy(ranges.energy[1])}, so that it would take no particle"
            )
        low = low if threshold is None else max(low, threshold)
        slack = config.acceptance + 1e-4
        theta, phi = ((a - slack, b + slack) for a, b in (ranges.theta, ranges.phi))
        return cls(pdg_ids, (low, high), theta, phi)

    def reason(self, pdg_id: int, energy: float, theta: float, phi: float) -> str:
        """Why a particle stays with Geant4: a name of `ledger.ROUTES`; "taken" if it does not."""
        if pdg_id not in ELECTROMAGNETIC:
            return "tracked"
        if pdg_id not in self.pdg_ids:
            return "kind"
        if not self.energy[0] <= energy <= self.energy[1]:
            return "energy"
        if not (self.theta[0] <= theta <= self.theta[1] and self.phi[0] <= phi <= self.phi[1]):
            return "direction"
        return "taken"


def angles(direction: tuple[float, float, float]) -> tuple[float, float]:
    """Polar angle from the y axis and azimuth from the z axis of a direction, rad."""
    x, y, z = direction
    return math.acos(min(1.0, max(-1.0, y))), math.atan2(x, z)


def nearest_trained(values: NDArray[np.float64], limits: tuple[float, float]) -> NDArray[np.float32]:
    """Values moved into the trained range, float32."""
    return np.clip(values, *limits).astype(np.float32)
