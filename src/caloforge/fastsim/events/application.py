"""Geant4 for events: each particle that reaches the calorimeter is an event of Geant4's.

Importing this module loads Geant4 into the process.

The scorer of Geant4 adds up what one particle and its descendants deposit in each cell, so that the
contributions of the particles of an event are known without a call of Python in each step.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caloforge.fastsim.application import Readout, noise_numbers, record
from caloforge.fastsim.events.hits import Cells, HitBlock, Source, collect
from caloforge.fastsim.events.ledger import EXTRA
from caloforge.fastsim.events.marking import Marked, mark_fast
from caloforge.fastsim.events.reading import EventReader
from caloforge.fastsim.events.records import Event
from caloforge.fastsim.events.steps import RecordedConstruction
from caloforge.fastsim.events.transport import Face, Kind, Primary, primaries
from caloforge.fastsim.gate import Gate, GatedConstruction, available_energy
from caloforge.fastsim.ledger import COLUMN, seconds_of
from caloforge.fastsim.model import FastModel
from caloforge.fastsim.plate import plate_of
from caloforge.fullsim.application import Geant4
from caloforge.fullsim.config import FullSimConfig
from caloforge.fullsim.geant4_import import load_geant4
from caloforge.geometry import Detector

load_geant4()
import geant4_pybind as g  # noqa: E402 - after the environment is prepared

# vacuum beside and before the calorimeter, beyond the distance of the origin, mm
SPACE = 1000.0
# mm: a particle that decays before starts at its vertex
SHORT_LIVED = 1.0
_HADRONS = ("meson", "baryon", "nucleus", "anti_baryon", "anti_nucleus")


def event_seeds(seed: int, event: int, particle: int) -> list[int]:
    """Seeds of the random numbers of one particle: four 32-bit words, none of them 0.

    See `caloforge.fullsim.application.shower_seeds`: the words of the seed have 22 bits, the number of the
    particle takes 9 more of each.
    """
    low, high = 2**22 - 1, 2**9 - 1
    words = [1 + (seed >> shift & low) for shift in (0, 22, 44)]
    parts = [particle >> shift & high for shift in (0, 9, 18)]
    return [event + 1, *(word + (part << 23) for word, part in zip(words, parts, strict=True))]


class _Guns(g.G4VUserPrimaryGeneratorAction):  # type: ignore[misc]
    """Primary generator: one particle after another."""

    def __init__(self) -> None:
        super().__init__()
        self.gun = g.G4ParticleGun(1)
        self.began = 0.0

    def load(self, particles: Sequence[Primary], seeds: Sequence[list[int]]) -> None:
        """Set the particles of the next run, and their seeds."""
        self._next = iter(zip(particles, seeds, strict=True))

    def GeneratePrimaries(self, event: Any) -> None:  # noqa: N802 - called by Geant4
        """Called by Geant4 at the start of each event."""
        self.began = time.perf_counter()
        particle, seeds = next(self._next)
        # the binding reads a list up to its first 0
        g.HepRandom.setTheSeeds([*seeds, 0], 4)
        self.gun.SetParticleDefinition(_definition(particle.pdg_id))
        self.gun.SetParticleEnergy(particle.kinetic)
        self.gun.SetParticlePosition(g.G4ThreeVector(*particle.position))
        self.gun.SetParticleMomentumDirection(g.G4ThreeVector(*particle.direction))
        self.gun.SetParticleTime(particle.time)
        self.gun.GeneratePrimaryVertex(event)


def _definition(pdg_id: int) -> Any:
    return g.G4ParticleTable.GetParticleTable().FindParticle(pdg_id)


@cache
def kind_of(pdg_id: int) -> Kind | None:
    """What Geant4 knows of a particle, None if nothing; after its physics was initialised."""
    definition = _definition(pdg_id)
    if definition is None:
        return None
    path = definition.GetPDGLifeTime() * g.c_light
    return Kind(
        mass=definition.GetPDGMass(),
        charge=definition.GetPDGCharge(),
        hadron=definition.GetParticleType() in _HADRONS,
        short_lived=not definition.GetPDGStable() and 0 <= path < SHORT_LIVED,
    )


class EventApplication:
    """Geant4 ready to simulate events, with or without a model at its gate."""

    def __init__(
        self,
        reader: EventReader,
        detector: Detector,
        face: Face,
        fullsim: FullSimConfig,
        model: FastModel | None,
        *,
        steps: bool = False,
    ) -> None:
        """Build the geometry and the physics.

        Args:
            reader: The events.
            detector: The calorimeter.
            face: Where it stands.
            fullsim: Settings of Geant4.
            model: The model at the gate, if any.
            steps: Whether each step of Geant4 is a contribution of its own.

        Raises:
            MissingDependencyError: Physics that needs data sets which are not there.
            SimulationError: Geant4 runs in this process already.
        """
        self._reader, self._face, self._fullsim, self._model = reader, face, fullsim, model
        plate = plate_of(detector)
        self._cells = Cells(plate)
        self._space = face.distance + SPACE

        def actions() -> Sequence[Any]:
            self._guns = _Guns()
            self._readout = Readout(self._guns, Gate(None if model is None else model.acceptance))
            return self._guns, self._readout

        kind = RecordedConstruction if steps else GatedConstruction
        construction = kind(plate, self._space)
        self._geant4 = Geant4(construction, fullsim, actions)
        construction.attach(self._readout.gate)
        recorded = isinstance(construction, RecordedConstruction)
        self._recorder = construction.recorder if recorded else None

    @property
    def version(self) -> str:
        """Version of Geant4, such as "11.4.1"."""
        return self._geant4.version

    def simulate(self, seed: int, start: int, stop: int) -> HitBlock:
        """The events [start, stop) of the file.

        Args:
            seed: Seed of the campaign.
            start: First event.
            stop: One past the last event.
        """
        events = self._reader.read(start, stop)
        chosen: list[Primary] = []
        event_of: list[int] = []
        extra = np.zeros((len(events), len(EXTRA)))
        for place, event in enumerate(events):
            found, others = primaries(
                event,
                self._face,
                kind_of,
                hadronic=self._fullsim.is_hadronic,
                space=self._space,
            )
            chosen += found
            event_of += [place] * len(found)
            for reason, (count, energy) in others.items():
                extra[place, EXTRA[f"n_{reason}"]] += count
                extra[place, EXTRA[reason]] += energy
        rows = self._track(seed, start, chosen, event_of)
        return self._block(seed, start, events, chosen, np.array(event_of, np.int64), rows, extra)

    def _track(
        self, seed: int, start: int, chosen: list[Primary], event_of: list[int]
    ) -> NDArray[np.float64]:
        """Run Geant4; returns the ledger of each particle."""
        self._readout.clear()
        self._guns.load(
            chosen,
            [
                event_seeds(seed, start + event, particle.particle)
                for event, particle in zip(event_of, chosen, strict=True)
            ],
        )
        if chosen:
            self._geant4.run(len(chosen))
        rows = np.array(self._readout.ledger).reshape(len(chosen), len(COLUMN))
        for row, particle in zip(rows, chosen, strict=True):
            kind = kind_of(particle.pdg_id)
            assert kind is not None
            row[COLUMN["primary"]] = available_energy(particle.pdg_id, particle.kinetic, kind.mass)
        return rows

    def _block(
        self,
        seed: int,
        start: int,
        events: list[Event],
        chosen: list[Primary],
        event_of: NDArray[np.int64],
        rows: NDArray[np.float64],
        extra: NDArray[np.float64],
    ) -> HitBlock:
        """Bring what Geant4 and the model made into events."""
        sources: list[list[Source]] = [[] for _ in events]
        recorded = None if self._recorder is None else self._recorder.take(len(chosen))
        for place, particle in enumerate(chosen):
            steps = None
            if recorded is None:
                cells, energies = self._readout.deposits[place]
            else:
                cells, energies, steps = recorded[place]
            if len(cells):
                sources[event_of[place]].append(
                    Source(particle.particle, False, cells, energies, particle.position, particle.time, steps)
                )
        if self._model is not None and self._readout.gate.taken:
            events = self._add_generated(self._model, seed, start, events, chosen, event_of, rows, sources)
        began = time.perf_counter()
        hits = []
        for place, parts in enumerate(sources):
            arrays, lost = collect(parts, self._cells, self._fullsim.cell_threshold)
            hits.append(arrays)
            extra[place, EXTRA["below_threshold"]] = lost
        ledger = np.zeros((len(events), len(COLUMN)))
        np.add.at(ledger, event_of, rows)
        ledger[:, COLUMN["placement_s"]] += (time.perf_counter() - began) / len(events)
        whole = np.concatenate([ledger, extra], axis=1)
        return HitBlock.of(start, events, hits, seconds_of(ledger), whole)

    def _add_generated(
        self,
        model: FastModel,
        seed: int,
        start: int,
        events: list[Event],
        chosen: list[Primary],
        event_of: NDArray[np.int64],
        rows: NDArray[np.float64],
        sources: list[list[Source]],
    ) -> list[Event]:
        """Add the showers of the model to `rows` and `sources`; returns the events with new particles."""
        taken = self._readout.gate.taken
        owners = [int(event_of[particle.event]) for particle in taken]
        hits = model.hits(taken, seed, noise_numbers(owners, start))
        record(rows, taken, hits, 0.0)
        ends = np.searchsorted(hits.shower, np.arange(len(taken) + 1))
        marked: list[list[Marked]] = [[] for _ in events]
        for place, particle in enumerate(taken):
            event, incident = owners[place], chosen[particle.event].particle
            created = sum(one.particle is not None for one in marked[event])
            index = incident if particle.track == 1 else len(events[event]) + created
            marked[event].append(Marked(incident, None if particle.track == 1 else particle))
            part = slice(ends[place], ends[place + 1])
            sources[event].append(
                Source(
                    index,
                    True,
                    hits.cell[part],
                    hits.energy[part].astype(np.float64),
                    particle.position,
                    particle.time,
                )
            )
        return [mark_fast(event, ones, self._face) for event, ones in zip(events, marked, strict=True)]
