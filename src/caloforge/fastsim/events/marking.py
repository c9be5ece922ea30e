"""Marking of the particles that a model made, in the record of the event."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from caloforge.fastsim.acceptance import Taken
from caloforge.fastsim.events.records import (
    COLUMNS,
    CREATED_IN_SIMULATION,
    HANDLED_BY_FAST_SIMULATION,
    SPEED_OF_LIGHT,
    Event,
    Relations,
)
from caloforge.fastsim.events.transport import Face

# of an electron, GeV
ELECTRON_MASS = 0.51099895e-3
CHARGES = {11: -1.0, -11: 1.0, 22: 0.0}


class Marked(NamedTuple):
    """A particle that a model made.

    Attributes:
        incident: Index of the particle of the event that it is, or descends from.
        particle: The particle, if Geant4 created it; None for the particle of the event itself.
    """

    incident: int
    particle: Taken | None


def mark_fast(event: Event, marked: list[Marked], face: Face) -> Event:
    """The event with `simulatorStatus` set, and with the particles that Geant4 created for the model."""
    if not marked:
        return event
    columns = {name: column.copy() for name, column in event.columns.items()}
    parents, daughters = event.parents.lists(), event.daughters.lists()
    created: list[dict[str, float]] = []
    for incident, particle in marked:
        if particle is None:
            columns["simulatorStatus"][incident] |= HANDLED_BY_FAST_SIMULATION
            continue
        daughters[incident] = [*daughters[incident], len(event) + len(created)]
        parents.append([incident])
        daughters.append([])
        created.append(_row(particle, face))
    for name, dtype in COLUMNS.items():
        values: NDArray[Any] = np.array([row[name] for row in created], dtype)
        columns[name] = np.concatenate([columns[name], values])
    return Event(event.number, columns, Relations.of(parents), Relations.of(daughters))


def _row(particle: Taken, face: Face) -> dict[str, float]:
    """The columns of a particle that Geant4 created."""
    mass = 0.0 if particle.pdg_id == 22 else ELECTRON_MASS
    energy = particle.energy / 1e3 + mass
    momentum = np.array(particle.direction) * np.sqrt(energy**2 - mass**2)
    vertex, endpoint = face.to_event(np.array([particle.vertex, particle.position]))
    path = float(np.linalg.norm(np.array(particle.position) - np.array(particle.vertex)))
    row: dict[str, float] = {
        "PDG": particle.pdg_id,
        "generatorStatus": 0,
        "simulatorStatus": CREATED_IN_SIMULATION | HANDLED_BY_FAST_SIMULATION,
        "charge": CHARGES[particle.pdg_id],
        "time": particle.time - path / SPEED_OF_LIGHT,
        "mass": mass,
    }
    for name, vector in (
        ("vertex", vertex),
        ("endpoint", endpoint),
        ("momentum", face.rotated_back(momentum)),
    ):
        row |= {f"{name}.{axis}": float(value) for axis, value in zip("xyz", vector, strict=True)}
    return row
