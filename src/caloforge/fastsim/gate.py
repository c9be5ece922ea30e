"""The gate: vacuum in front of the calorimeter, whose back is the front face, with a stepping action.

Importing this module loads Geant4 into the process.

A track that reaches the front face from the vacuum is given to the model, if this takes it: it is noted and
stopped. Everything else stays with Geant4. Python is called once for each step in the vacuum, which is once
for each particle, and never for a step inside the calorimeter.
"""

from __future__ import annotations

import math
import time
from typing import Any

from caloforge.errors import GeometryError
from caloforge.fastsim.acceptance import Acceptance, Taken, angles
from caloforge.fastsim.ledger import COLUMN, COLUMNS
from caloforge.fastsim.own_volumes import check_overlaps, daughters, inside, prepare_elements
from caloforge.fullsim.construction import WORLD_MARGIN, Construction
from caloforge.fullsim.geant4_import import load_geant4
from caloforge.geometry import Detector

load_geant4()
import geant4_pybind as g  # noqa: E402 - after the environment is prepared

# distance of the vacuum from the borders of the world, mm
BORDER = 0.1


class GatedConstruction(Construction):
    """A calorimeter with vacuum in front of it, a region of its own."""

    def __init__(self, detector: Detector, space: float = WORLD_MARGIN) -> None:
        """Store the detector.

        Args:
            detector: Its mesh is read out; see `plate_of`.
            space: Vacuum around the calorimeter, mm.
        """
        super().__init__(detector, space)
        self._front: Any = None

    def Construct(self) -> Any:  # noqa: N802 - called by Geant4
        """The world of `Construction`, and the vacuum in front."""
        placed = super().Construct()
        world = placed.GetLogicalVolume()
        half, depth = self.half_width - BORDER, self.half_depth - BORDER
        solid = g.G4Box("front", half, half, depth / 2)
        front = self._keep(solid, g.G4LogicalVolume(solid, world.GetMaterial(), "front"))
        self._front = self._place(front, world, -depth / 2, 0)
        self._keep(g.G4Region("front")).AddRootLogicalVolume(front)
        # all but the volumes of the user
        self._placed = daughters(world)
        self.fill(front)
        return placed

    def fill(self, front: Any) -> None:
        """Place material in the vacuum in front; by default none."""

    def attach(self, gate: Gate) -> None:
        """Let the gate see what happens in front of the calorimeter; after Geant4 has the geometry.

        Args:
            gate: The gate.

        Raises:
            GeometryError: There is no vacuum in front, or a volume of the user overlaps others.
            SimulationError: A volume of the user has an element without tables.
        """
        self.check()
        gate.in_front = [placement.GetLogicalVolume() for placement in inside([self._front])]
        gate.plates = [one.GetLogicalVolume() for one in self._placed if one is not self._front]
        for volume in gate.in_front:
            # a volume of the user may have a region of its own, for its production cuts
            if volume.IsRootRegion():
                volume.GetRegion().SetRegionalSteppingAction(gate)

    def check(self) -> None:
        """Check the volumes that a user has added, and have tables for their elements.

        Raises:
            GeometryError: There is no vacuum in front, or a volume of the user overlaps others.
            SimulationError: A volume of the user has an element without tables.
        """
        if self._front is None:
            raise GeometryError(
                f"{type(self).__name__}: there is no gate in front of the calorimeter, since Construct was "
                "replaced; call super().Construct() in it, or place your volumes in fill"
            )
        beside = [one for one in daughters(self._front.GetMotherLogical()) if one not in self._placed]
        own = list(inside([*daughters(self._front.GetLogicalVolume()), *beside]))
        check_overlaps(own)
        prepare_elements(own)


class Gate(g.G4UserSteppingAction):  # type: ignore[misc]
    """Takes particles at the front face, and keeps the ledger of an event."""

    def __init__(self, acceptance: Acceptance | None) -> None:
        """Nothing is taken with the acceptance None."""
        super().__init__()
        self._acceptance = acceptance
        self.taken: list[Taken] = []
        # logical volumes, from `GatedConstruction.attach`
        self.in_front: list[Any] = []
        self.plates: list[Any] = []
        self.begin(0)

    def begin(self, event: int) -> None:
        """Start an event.

        Args:
            event: Its place in the block.
        """
        self._event = event
        self.row = [0.0] * len(COLUMNS)
        # tracks whose energy has been counted, and from which time on
        self._counted: dict[int, float] = {}

    def UserSteppingAction(self, step: Any) -> None:  # noqa: N802 - called by Geant4
        """Called at each step in the vacuum."""
        began = time.perf_counter()
        track = step.GetTrack()
        if not self._is_counted(track):
            self._step(step, track)
        self.row[COLUMN["gate_s"]] += time.perf_counter() - began

    def _is_counted(self, track: Any) -> bool:
        """Whether the energy of a track has been counted: it, or its parent, comes from the calorimeter."""
        number = track.GetTrackID()
        if number in self._counted:
            return True
        born = track.GetGlobalTime() - track.GetLocalTime()
        # a parent that has crossed the face may have made this track before
        if track.GetVertexPosition().z >= 0 or born > self._counted.get(track.GetParentID(), math.inf):
            self._counted[number] = -math.inf
            return True
        return False

    def _step(self, step: Any, track: Any) -> None:
        self.row[COLUMN["left"]] += step.GetTotalEnergyDeposit()
        if step.GetPostStepPoint().GetStepStatus() != g.fGeomBoundary:
            return
        volume = track.GetNextVolume().GetLogicalVolume()
        if volume in self.in_front:
            return
        definition = track.GetDefinition()
        pdg_id, kinetic = definition.GetPDGEncoding(), track.GetKineticEnergy()
        route = self._cross(track, pdg_id, kinetic) if volume in self.plates else "left"
        self.row[COLUMN[route]] += available_energy(pdg_id, kinetic, definition.GetPDGMass())
        self.row[COLUMN[f"n_{route}"]] += 1
        self._counted[track.GetTrackID()] = track.GetGlobalTime()

    def _cross(self, track: Any, pdg_id: int, kinetic: float) -> str:
        """The route of a track that reaches the front face; it is stopped if the model takes it."""
        momentum, point = track.GetMomentumDirection(), track.GetPosition()
        direction = (momentum.x, momentum.y, momentum.z)
        theta, phi = angles(direction)
        if self._acceptance is None:
            return "tracked"
        route = self._acceptance.reason(pdg_id, kinetic, theta, phi)
        if route == "taken":
            track.SetTrackStatus(g.fStopAndKill)
            position = (point.x, point.y, point.z)
            when, number, start = track.GetGlobalTime(), track.GetTrackID(), track.GetVertexPosition()
            vertex = (start.x, start.y, start.z)
            self.taken.append(
                Taken(self._event, pdg_id, kinetic, theta, phi, position, direction, when, number, vertex)
            )
        return route


def available_energy(pdg_id: int, kinetic: float, mass: float) -> float:
    """The energy, MeV, that a particle can deposit: a sum over particles that decays and pairs conserve.

    The mass of baryons and electrons stays; it counts twice for their antiparticles, which annihilate.

    Args:
        pdg_id: Particle number of the Particle Data Group.
        kinetic: Kinetic energy, MeV.
        mass: MeV.
    """
    if pdg_id == 11 or pdg_id > 1000:
        return kinetic
    if pdg_id == -11 or pdg_id < -1000:
        return kinetic + 2 * mass
    return kinetic + mass
