"""The Geant4 application: one detector, one beam and one physics list in this process.

Importing this module loads Geant4 into the process; `caloforge.fullsim.campaign` does so in worker
processes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caloforge.beam import PARTICLES, BeamConfig, sample_conditions
from caloforge.errors import SimulationError
from caloforge.fullsim.beam_placement import check_beam, check_physics, tracks
from caloforge.fullsim.blocks import Block
from caloforge.fullsim.config import FullSimConfig
from caloforge.fullsim.construction import SCORER, SENSITIVE_DETECTOR, Construction
from caloforge.fullsim.geant4_import import atomic_numbers, load_geant4, stdout_discarded
from caloforge.geometry import Detector

load_geant4()
import geant4_pybind as g  # noqa: E402 - after the environment is prepared

_BITS_PER_WORD = 22


def shower_seeds(seed: int, index: int) -> list[int]:
    """Seeds of the random numbers of one shower: four 32-bit words, none of them 0.

    Geant4's generator MixMax is seeded with 128 bits and guarantees disjoint streams for different seeds
    (K. Savvidy, Comput. Phys. Commun. 196 (2015) 161), so that a shower depends on (seed, index) alone.
    """
    mask = 2**_BITS_PER_WORD - 1
    return [index + 1, *(1 + (seed >> shift & mask) for shift in (0, _BITS_PER_WORD, 2 * _BITS_PER_WORD))]


class _EmPhysics(g.G4VModularPhysicsList):  # type: ignore[misc]
    """An electromagnetic physics constructor, and the decays of pi0 and muons."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self._kept = [getattr(g, name)(), g.G4DecayPhysics()]
        for constructor in self._kept:
            self.RegisterPhysics(constructor)


class Gun(g.G4VUserPrimaryGeneratorAction):  # type: ignore[misc]
    """Primary generator: the incident particles of one block, each event with its own random seeds."""

    def __init__(self, detector: Detector, beam: BeamConfig) -> None:
        super().__init__()
        self.detector, self.beam = detector, beam
        self.gun = g.G4ParticleGun(1)

    def aim(self, seed: int, start: int, stop: int) -> None:
        """Sample the incident particles of the showers [start, stop)."""
        conditions = sample_conditions(self.beam, self.detector.mesh, seed, start, stop)
        self.energies = conditions.energy.tolist()
        positions, directions = tracks(self.detector, conditions)
        self.positions, self.directions = positions.tolist(), directions.tolist()
        self.seed, self.start, self.next = seed, start, 0

    def GeneratePrimaries(self, event: Any) -> None:  # noqa: N802 - called by Geant4
        """Called by Geant4 at the start of each event."""
        self.began = time.perf_counter()
        i, self.next = self.next, self.next + 1
        # the binding reads a list up to its first 0
        g.HepRandom.setTheSeeds([*shower_seeds(self.seed, self.start + i), 0], 4)
        if i == 0:
            # Geant4 fills the particle table when it initialises the physics, after __init__
            table = g.G4ParticleTable.GetParticleTable()
            self.gun.SetParticleDefinition(table.FindParticle(PARTICLES[self.beam.particle]))
        self.gun.SetParticleEnergy(self.energies[i])
        self.gun.SetParticlePosition(g.G4ThreeVector(*self.positions[i]))
        self.gun.SetParticleMomentumDirection(g.G4ThreeVector(*self.directions[i]))
        self.gun.GeneratePrimaryVertex(event)


class _Readout(g.G4UserEventAction):  # type: ignore[misc]
    """Event action: copies the deposits of each shower from Geant4's scorer, and takes its wall time."""

    def __init__(self, gun: Gun, threshold: float) -> None:
        super().__init__()
        self.gun, self.threshold = gun, threshold
        self.collection: int | None = None
        self.clear()

    def clear(self) -> None:
        self.voxels: list[Any] = []
        self.energies: list[Any] = []
        self.seconds: list[float] = []

    def EndOfEventAction(self, event: Any) -> None:  # noqa: N802 - called by Geant4
        if self.collection is None:
            self.collection = scorer_collection()
        voxels, energies = deposits(event, self.collection)
        # also with a threshold of 0, a voxel without energy is no hit
        kept = (energies >= self.threshold) & (energies > 0)
        self.voxels.append(voxels[kept])
        self.energies.append(energies[kept].astype(np.float32))
        self.seconds.append(time.perf_counter() - self.gun.began)


def scorer_collection() -> int:
    """Number of the scorer's collection of hits, which is known after the first event has begun."""
    return int(g.G4SDManager.GetSDMpointer().GetCollectionID(f"{SENSITIVE_DETECTOR}/{SCORER}"))


def deposits(event: Any, collection: int) -> tuple[NDArray[np.uint32], NDArray[np.float64]]:
    """The scorer's sums of an event: flat voxels, and energies in MeV."""
    hits = dict(event.GetHCofThisEvent().GetHC(collection))
    return (
        np.fromiter(hits.keys(), np.uint32, len(hits)),
        np.fromiter(hits.values(), np.float64, len(hits)),
    )


class _Actions(g.G4VUserActionInitialization):  # type: ignore[misc]
    def __init__(self, *actions: Any) -> None:
        super().__init__()
        self._actions = actions

    def Build(self) -> None:  # noqa: N802 - called by Geant4
        for action in self._actions:
            self.SetUserAction(action)


class Geant4:
    """The run manager of this process, with a geometry, physics and actions. A process can hold one."""

    def __init__(
        self, construction: Construction, fullsim: FullSimConfig, actions: Callable[[], Sequence[Any]]
    ) -> None:
        """Build the geometry and the physics.

        Args:
            construction: The geometry.
            fullsim: Settings of Geant4.
            actions: Makes the user actions.

        Raises:
            MissingDependencyError: Physics that needs data sets which are not there.
            SimulationError: Geant4 runs in this process already.
        """
        load_geant4(atomic_numbers(construction.detector), fullsim.is_hadronic, fullsim.needs_full_em)
        if g.G4RunManager.GetRunManager() is not None:
            raise SimulationError("Geant4 runs in this process already; start another process")
        with stdout_discarded():
            self._manager = g.G4RunManager()
            g.HepRandom.setTheEngine(g.MixMaxRng())
            physics = getattr(g, fullsim.physics)() if fullsim.is_hadronic else _EmPhysics(fullsim.physics)
            physics.SetVerboseLevel(0)
            physics.SetDefaultCutValue(fullsim.production_cut)
            self._manager.SetUserInitialization(construction)
            self._manager.SetUserInitialization(physics)
            # Geant4 requires the geometry and the physics before any user action; it owns none of them
            self._kept = (construction, physics, _Actions(*actions()))
            self._manager.SetUserInitialization(self._kept[-1])
            self._manager.Initialize()

    @property
    def version(self) -> str:
        """Version of Geant4, such as "11.4.1"."""
        major, rest = divmod(int(g.G4VERSION_NUMBER), 100)
        return f"{major}.{rest // 10}.{rest % 10}"

    def run(self, events: int) -> None:
        """Simulate events."""
        with stdout_discarded():
            self._manager.BeamOn(events)


class Application:
    """Geant4 ready to simulate showers. A process can hold one, for its whole life."""

    def __init__(self, detector: Detector, beam: BeamConfig, fullsim: FullSimConfig) -> None:
        """Build the geometry and the physics.

        Raises:
            ConfigError: A beam that this detector cannot be simulated with.
            MissingDependencyError: Physics that needs data sets which are not there.
            SimulationError: Geant4 runs in this process already.
        """
        check_beam(detector, beam)
        check_physics(beam, fullsim)

        def actions() -> Sequence[Any]:
            self._gun = Gun(detector, beam)
            self._readout = _Readout(self._gun, fullsim.cell_threshold)
            return self._gun, self._readout

        self._geant4 = Geant4(Construction(detector), fullsim, actions)

    @property
    def version(self) -> str:
        """Version of Geant4, such as "11.4.1"."""
        return self._geant4.version

    def simulate(self, seed: int, start: int, stop: int) -> Block:
        """The showers [start, stop) of a campaign.

        Args:
            seed: Seed of the campaign.
            start: First shower.
            stop: One past the last shower.
        """
        self._gun.aim(seed, start, stop)
        self._readout.clear()
        self._geant4.run(stop - start)
        readout = self._readout
        if len(readout.seconds) != stop - start:
            raise SimulationError(f"Geant4 gave {len(readout.seconds)} of the showers {start} to {stop}")
        return Block(
            start=start,
            counts=np.array([len(v) for v in readout.voxels], np.uint32),
            voxels=np.concatenate(readout.voxels),
            energies=np.concatenate(readout.energies),
            seconds=np.array(readout.seconds, np.float32),
        )
