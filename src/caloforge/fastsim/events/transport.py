"""From the vertex of a particle to the face of the calorimeter: straight lines, and helices in a field."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from caloforge.fastsim.events.records import FINAL, SPEED_OF_LIGHT, Event

Floats = NDArray[np.float64]
Facing = Literal["x", "y", "z", "-x", "-y", "-z"]

# rows are the axes x, y and z (the depth) of the calorimeter in the frame of the event; in a barrel the beam,
# z of the event, is y of the calorimeter, from which `Detector` measures theta
ROTATIONS: dict[str, tuple[tuple[int, int, int], ...]] = {
    "x": ((0, 1, 0), (0, 0, 1), (1, 0, 0)),
    "y": ((-1, 0, 0), (0, 0, 1), (0, 1, 0)),
    "z": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "-x": ((0, -1, 0), (0, 0, 1), (-1, 0, 0)),
    "-y": ((1, 0, 0), (0, 0, 1), (0, -1, 0)),
    "-z": ((-1, 0, 0), (0, 1, 0), (0, 0, -1)),
}
# turn of a particle of charge 1 and momentum p in a field B: FIELD_CURVATURE * B / p, rad/mm with T and MeV
FIELD_CURVATURE = 0.299792458
# distance of the start point from the face, mm
START = 1.0
NEUTRINOS = (12, 14, 16)

# why a final particle is not simulated, and what the summary says of it
NOT_SIMULATED = {
    "missed": "do not reach the face",
    "invisible": "neutrinos",
    "hadron": "hadrons, which need a hadronic physics list (--set fullsim.physics=FTFP_BERT)",
    "unknown": "of a kind that Geant4 does not know",
    "unusable": "with a momentum or vertex that is zero or not finite",
}


@dataclass(frozen=True)
class Face:
    """Where the front face of the calorimeter lies in the frame of the events.

    Attributes:
        facing: Axis of the events that points from the origin to the centre of the face, along the depth.
        distance: Of the face from the origin, mm.
        width: Of the plates, mm.
        field: Magnetic field along z of the events in front of the face, T.
    """

    facing: Facing
    distance: float
    width: float
    field: float = 0.0

    @property
    def _rotation(self) -> Floats:
        return np.array(ROTATIONS[self.facing], np.float64)

    def to_local(self, points: Floats) -> Floats:
        """Points of the event's frame in that of the calorimeter, mm, shape (N, 3)."""
        local: Floats = points @ self._rotation.T - np.array([0.0, 0.0, self.distance])
        return local

    def rotated(self, vectors: Floats) -> Floats:
        """Vectors of the event's frame in that of the calorimeter, shape (N, 3)."""
        local: Floats = vectors @ self._rotation.T
        return local

    @property
    def field_axis(self) -> Floats:
        """Unit vector along z of the events, in the frame of the calorimeter."""
        return self._rotation[:, 2]

    def rotated_back(self, vectors: Floats) -> Floats:
        """The inverse of `rotated`."""
        found: Floats = vectors @ self._rotation
        return found

    def to_event(self, points: Floats) -> Floats:
        """The inverse of `to_local`."""
        found: Floats = (points + np.array([0.0, 0.0, self.distance])) @ self._rotation
        return found


class Kind(NamedTuple):
    """What Geant4 knows of a particle.

    Attributes:
        mass: MeV.
        charge: In units of the positron's.
        hadron: Whether it interacts strongly.
        short_lived: Whether it decays at once.
    """

    mass: float
    charge: float
    hadron: bool
    short_lived: bool


class Primary(NamedTuple):
    """A particle that Geant4 starts, in the frame of the calorimeter.

    Attributes:
        particle: Its index in the event.
        pdg_id: Particle number of the Particle Data Group.
        kinetic: Kinetic energy, MeV.
        position: Start point, mm.
        direction: Unit vector.
        time: ns.
    """

    particle: int
    pdg_id: int
    kinetic: float
    position: tuple[float, float, float]
    direction: tuple[float, float, float]
    time: float


def primaries(
    event: Event, face: Face, kind_of: Callable[[int], Kind | None], *, hadronic: bool, space: float
) -> tuple[list[Primary], dict[str, tuple[int, float]]]:
    """The particles of an event that Geant4 starts.

    A particle starts just before the face, which its line, or helix in a field, must meet. One that decays at
    once starts at its vertex.

    Args:
        event: The event.
        face: The face of the calorimeter.
        kind_of: What Geant4 knows of a PDG number; None if nothing.
        hadronic: Whether hadrons are simulated.
        space: How far from the plates Geant4's world extends, mm.

    Returns:
        The particles, and number and energy (MeV) of the final ones that are not simulated, by reason.
    """
    chosen: list[Primary] = []
    others: dict[str, tuple[int, float]] = {}
    vertices, momenta = event.vectors("vertex"), event.vectors("momentum") * 1e3
    pdg_ids, times = event.columns["PDG"], event.columns["time"]
    usable = np.isfinite(vertices).all(axis=1) & np.isfinite(momenta).all(axis=1) & np.isfinite(times)
    usable &= momenta.any(axis=1)
    positions = face.to_local(np.where(usable[:, None], vertices, 0.0))
    momenta = face.rotated(np.where(usable[:, None], momenta, 0.0))
    for index in np.flatnonzero(event.columns["generatorStatus"] == FINAL).tolist():
        pdg_id, momentum = int(pdg_ids[index]), momenta[index]
        kind = kind_of(pdg_id)
        size = float(np.linalg.norm(momentum))
        mass = 0.0 if kind is None else kind.mass
        kinetic = float(np.hypot(size, mass) - mass)
        start = None
        if not usable[index]:
            reason = "unusable"
        elif abs(pdg_id) in NEUTRINOS:
            reason = "invisible"
        elif kind is None:
            reason = "unknown"
        else:
            reason = ""
            start = _start(positions[index], momentum, float(times[index]), kind, face, space)
        if not reason and start is None:
            reason = "missed"
        if not reason and kind is not None and kind.hadron and not hadronic and not kind.short_lived:
            reason = "hadron"
        if reason:
            count, energy = others.get(reason, (0, 0.0))
            others[reason] = count + 1, energy + kinetic
        elif start is not None:
            position, direction, time = start
            chosen.append(
                Primary(index, pdg_id, kinetic, tuple(position.tolist()), tuple(direction.tolist()), time)
            )
    return chosen, others


def _start(
    position: Floats, momentum: Floats, time: float, kind: Kind, face: Face, space: float
) -> tuple[Floats, Floats, float] | None:
    """Where, in which direction and when a particle starts; None if it does not meet the face."""
    size = float(np.linalg.norm(momentum))
    direction = momentum / size
    if position[2] >= 0:
        return None
    if kind.short_lived:
        inside = -space < position[2] and np.abs(position[:2]).max() < face.width / 2 + space
        return (position, direction, time) if inside else None
    track = Track(position, direction, FIELD_CURVATURE * kind.charge * face.field / size, face.field_axis)
    path = track.path_to_face()
    if path is None or np.abs(track.at(path)[0][:2]).max() >= face.width / 2:
        return None
    path = max(path - START, 0.0)
    beta = size / float(np.hypot(size, kind.mass))
    return *track.at(path), time + path / (beta * SPEED_OF_LIGHT)


@dataclass(frozen=True)
class Track:
    """A line or a helix, in the frame of the calorimeter.

    Attributes:
        position: Its start, mm.
        direction: Unit vector.
        turn: Angle by which the direction turns around the axis of the field per path, rad/mm.
        axis: Unit vector along the field: along or across the depth.
    """

    position: Floats
    direction: Floats
    turn: float
    axis: Floats

    def at(self, path: float) -> tuple[Floats, Floats]:
        """Position and direction after a path in mm."""
        if self.turn == 0:
            return self.position + path * self.direction, self.direction
        along, across, third = self._parts()
        sine, cosine = np.sin(self.turn * path), np.cos(self.turn * path)
        position = self.position + path * along + (sine * across + (1 - cosine) * third) / self.turn
        return position, along + cosine * across + sine * third

    def _parts(self) -> tuple[Floats, Floats, Floats]:
        """The direction along the field, across it, and the vector that it turns to."""
        along = (self.direction @ self.axis) * self.axis
        return along, self.direction - along, np.cross(self.direction, self.axis)

    def path_to_face(self) -> float | None:
        """Path to the first point with a depth of 0, mm; None if there is none."""
        _, across, third = self._parts()
        if self.turn == 0 or self.axis[2] != 0:
            slope = float(self.direction[2])
            return -float(self.position[2]) / slope if slope > 0 else None
        # across * sin(angle) + third * (1 - cos(angle)) = -position * turn, along the depth
        radius = float(np.hypot(across[2], third[2]))
        if radius == 0:
            return None
        ratio = -(float(self.position[2]) * self.turn + float(third[2])) / radius
        if abs(ratio) > 1:
            return None
        first, phase = float(np.arcsin(ratio)), float(np.arctan2(third[2], across[2]))
        paths = [((phase + angle) / self.turn) for angle in (first, np.pi - first)]
        period = 2 * np.pi / abs(self.turn)
        return min(float(path % period) for path in paths)
