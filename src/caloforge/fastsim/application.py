"""Geant4 with a model at its gate: blocks of showers for a campaign.

Importing this module loads Geant4 into the process.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from caloforge.beam import PARTICLES, BeamConfig
from caloforge.fastsim.acceptance import Taken
from caloforge.fastsim.gate import Gate, GatedConstruction, available_energy
from caloforge.fastsim.ledger import COLUMN, seconds_of
from caloforge.fastsim.model import SHOWERS_PER_EVENT, FastModel, PlateHits
from caloforge.fastsim.plate import plate_of, window_origin
from caloforge.fullsim.application import Geant4, Gun, deposits, scorer_collection
from caloforge.fullsim.beam_placement import check_beam, check_physics
from caloforge.fullsim.blocks import Block
from caloforge.fullsim.config import FullSimConfig
from caloforge.fullsim.geant4_import import load_geant4
from caloforge.geometry import Detector

load_geant4()
import geant4_pybind as g  # noqa: E402 - after the environment is prepared

Cells = tuple[NDArray[np.int64], NDArray[np.float64]]


class Timed(Protocol):
    """A primary generator that notes when it began an event."""

    began: float


class Readout(g.G4UserEventAction):  # type: ignore[misc]
    """Event action: the deposits of what Geant4 tracked, and the ledger."""

    def __init__(self, gun: Timed, gate: Gate) -> None:
        super().__init__()
        self.gun, self.gate = gun, gate
        self.collection: int | None = None
        self.clear()

    def clear(self) -> None:
        """Forget the events of the last block."""
        self.deposits: list[Cells] = []
        self.ledger: list[list[float]] = []
        self.gate.taken.clear()

    def BeginOfEventAction(self, _event: Any) -> None:  # noqa: N802 - called by Geant4
        """Called by Geant4 at the start of each event."""
        self.gate.begin(len(self.ledger))

    def EndOfEventAction(self, event: Any) -> None:  # noqa: N802 - called by Geant4
        """Called by Geant4 at the end of each event."""
        if self.collection is None:
            self.collection = scorer_collection()
        cells, energies = deposits(event, self.collection)
        self.deposits.append((cells.astype(np.int64), energies))
        row = self.gate.row
        row[COLUMN["geant4_s"]] = time.perf_counter() - self.gun.began - row[COLUMN["gate_s"]]
        self.ledger.append(row)


class GatedApplication:
    """Geant4 ready to simulate showers, of which a model makes what it can."""

    def __init__(
        self, detector: Detector, beam: BeamConfig, fullsim: FullSimConfig, model: FastModel
    ) -> None:
        """Build the geometry and the physics.

        Raises:
            ConfigError: A beam that this detector cannot be simulated with.
            MissingDependencyError: Physics that needs data sets which are not there.
            SimulationError: Geant4 runs in this process already.
        """
        check_beam(detector, beam)
        check_physics(beam, fullsim)
        self._beam, self._model, self._threshold = beam, model, fullsim.cell_threshold
        self._plate = plate_of(detector)
        self._window = detector

        def actions() -> Sequence[Any]:
            self._gun = Gun(detector, beam)
            self._readout = Readout(self._gun, Gate(model.acceptance))
            return self._gun, self._readout

        construction = GatedConstruction(self._plate)
        self._geant4 = Geant4(construction, fullsim, actions)
        construction.attach(self._readout.gate)

    @property
    def version(self) -> str:
        """Version of Geant4, such as "11.4.1"."""
        return self._geant4.version

    def simulate(self, seed: int, start: int, stop: int) -> Block:
        """The showers [start, stop) of a campaign, in the mesh of the detector.

        Args:
            seed: Seed of the campaign.
            start: First shower.
            stop: One past the last shower.
        """
        readout, gate = self._readout, self._readout.gate
        self._gun.aim(seed, start, stop)
        readout.clear()
        self._geant4.run(stop - start)
        ledger = np.array(readout.ledger)
        mass = g.G4ParticleTable.GetParticleTable().FindParticle(PARTICLES[self._beam.particle]).GetPDGMass()
        ledger[:, COLUMN["primary"]] = [
            available_energy(self._beam.pdg_id, kinetic, mass) for kinetic in self._gun.energies
        ]
        hits = self._model.hits(
            gate.taken, seed, noise_numbers([particle.event for particle in gate.taken], start)
        )
        began = time.perf_counter()
        events = [cut_to_window(cells, self._plate, self._window) for cells in
                  merged(readout.deposits, gate.taken, hits, self._threshold)]  # fmt: skip
        record(ledger, gate.taken, hits, time.perf_counter() - began)
        return Block(
            start=start,
            counts=np.array([len(cells) for cells, _ in events], np.uint32),
            voxels=np.concatenate([cells for cells, _ in events]).astype(np.uint32),
            energies=np.concatenate([energies for _, energies in events]).astype(np.float32),
            seconds=seconds_of(ledger),
            ledger=ledger,
        )


def noise_numbers(events: Sequence[int], start: int) -> list[int]:
    """The number of the noise of each taken particle: a function of the event and the place in it.

    Args:
        events: The event of each, its place in the block; in order.
        start: First event of the block.
    """
    numbers: list[int] = []
    last, place = -1, 0
    for event in events:
        place = place + 1 if event == last else 0
        last = event
        numbers.append((start + event) * SHOWERS_PER_EVENT + place % SHOWERS_PER_EVENT)
    return numbers


def merged(
    tracked: Sequence[Cells], taken: Sequence[Taken], hits: PlateHits, threshold: float
) -> list[Cells]:
    """The cells of each event: the deposits of Geant4 and the generated hits, added up.

    Args:
        tracked: Deposits of Geant4 in each event.
        taken: The particles that the model took, event by event.
        hits: Their hits.
        threshold: Sums below it become 0, MeV.
    """
    event_of = np.array([particle.event for particle in taken], np.int64)[hits.shower]
    showers = np.bincount([particle.event for particle in taken], minlength=len(tracked))
    ends = np.searchsorted(event_of, np.arange(len(tracked) + 1))
    events = []
    for event, (cells, energies) in enumerate(tracked):
        rows = slice(ends[event], ends[event + 1])
        if showers[event]:
            several = showers[event] > 1 or len(cells)
            cells = np.concatenate([cells, hits.cell[rows]])
            energies = np.concatenate([energies, hits.energy[rows].astype(np.float64)])
            if several:
                cells, energies = _summed(cells, energies)
        # also with a threshold of 0, a cell without energy is no hit
        kept = (energies >= threshold) & (energies > 0)
        events.append((cells[kept], energies[kept]))
    return events


def _summed(cells: NDArray[np.int64], energies: NDArray[np.float64]) -> Cells:
    """Each cell once, with the sum of its energies."""
    unique, places = np.unique(cells, return_inverse=True)
    total = np.zeros(len(unique))
    np.add.at(total, places, energies)
    return unique, total


def cut_to_window(cells: Cells, plate: Detector, window: Detector) -> Cells:
    """The cells of the plate that lie in the mesh of a detector, with their numbers there."""
    _, rows, columns = plate.shower_shape
    _, ny, nx = window.shower_shape
    first_row, first_column = window_origin(plate, window)
    numbers, energies = cells
    layer, rest = numbers // (rows * columns), numbers % (rows * columns)
    row, column = rest // columns - first_row, rest % columns - first_column
    inside = (row >= 0) & (row < ny) & (column >= 0) & (column < nx)
    return ((layer * ny + row) * nx + column)[inside], energies[inside]


def record(ledger: NDArray[np.float64], taken: Sequence[Taken], hits: PlateHits, merging: float) -> None:
    """Enter what the model did in the ledger of the events.

    Args:
        ledger: Shape (N, columns); changed.
        taken: The particles that the model took.
        hits: Their hits.
        merging: Seconds that the hits took to be added up, for all events.
    """
    event = np.array([particle.event for particle in taken], np.int64)
    placed = np.bincount(hits.shower, hits.energy, len(taken))
    np.add.at(ledger[:, COLUMN["generated"]], event, hits.generated)
    np.add.at(ledger[:, COLUMN["n_off_centre"]], event, hits.off_centre)
    np.add.at(ledger[:, COLUMN["leaked"]], event, hits.generated - placed)
    if len(taken):
        np.add.at(ledger[:, COLUMN["model_s"]], event, hits.model_seconds / len(taken))
        np.add.at(ledger[:, COLUMN["placement_s"]], event, hits.placement_seconds / len(taken))
    ledger[:, COLUMN["placement_s"]] += merging / len(ledger)
