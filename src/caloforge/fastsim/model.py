"""A trained model inside Geant4: particles taken at the gate in, hits in the plate out."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from caloforge.conditions import Conditions
from caloforge.errors import ConfigError
from caloforge.fastsim.acceptance import Acceptance, Taken, nearest_trained
from caloforge.fastsim.config import FastSimConfig
from caloforge.fastsim.plate import Placement, check_same_calorimeter, plate_of
from caloforge.generation.noise import NoiseStream
from caloforge.generation.opening import open_model
from caloforge.generation.plan import Plan
from caloforge.generation.runtimes import BUILT_IN
from caloforge.geometry import Detector
from caloforge.models.compiled_model import NoiseOf
from caloforge.models.store import StoredModel

# distance of an impact point from the nearest that the model knows which is reported, mm
OFF_CENTRE = 0.01
# each event has noise for this many showers
SHOWERS_PER_EVENT = 2**16


def plan_of(model: StoredModel) -> Plan:
    """How a model runs in a worker process: one thread, compiled where its family has a compiled form."""
    backend = "numba" if model.compilable else "torch"
    return Plan(backend=backend, batch_size=BUILT_IN[backend].batch)


def check_model(model: StoredModel, detector: Detector, config: FastSimConfig) -> Acceptance:
    """Check that a model can be used for a detector; returns what it takes.

    Raises:
        ConfigError: A model of another calorimeter, of particles that no shower starts with, or whose
            energies are not those that Geant4 deposits.
        GeometryError: A detector without a cartesian mesh.
    """
    plate_of(detector)
    name = f"model {model.folder.name}"
    check_same_calorimeter(detector, model.detector, name)
    if model.energy_meaning != "visible":
        raise ConfigError(
            f"{name}: its energies are {model.energy_meaning}, and cannot be added to those that Geant4 "
            "deposits; train on visible energies"
        )
    try:
        return Acceptance.of(model.ranges, config)
    except ConfigError as error:
        raise ConfigError(f"{name}: {error}") from error


@dataclass
class PlateHits:
    """Hits of generated showers in the plate.

    Attributes:
        shower: The particle that each hit belongs to, shape (hits,).
        cell: Flat cell of the plate, shape (hits,).
        energy: MeV, shape (hits,).
        generated: Visible energy of each shower, MeV, shape (N,).
        off_centre: Whether the impact point of each is none that the model knows, shape (N,).
        model_seconds: Wall time of the model.
        placement_seconds: Wall time of the placement.
    """

    shower: NDArray[np.int64]
    cell: NDArray[np.int64]
    energy: NDArray[np.float32]
    generated: NDArray[np.float64]
    off_centre: NDArray[np.bool_]
    model_seconds: float
    placement_seconds: float


class FastModel:
    """A loaded model, and where its showers go."""

    def __init__(self, stored: StoredModel, detector: Detector, config: FastSimConfig) -> None:
        """Load the model.

        Args:
            stored: The model.
            detector: The simulated detector.
            config: Which particles the model takes.

        Raises:
            ConfigError: See `check_model`.
            ModelError: It is damaged.
        """
        self.acceptance = check_model(stored, detector, config)
        self.placement = Placement(plate_of(detector), stored.detector)
        self._ranges = stored.ranges
        self._loaded = open_model(stored, plan_of(stored))
        self._generate = self._loaded.worker()
        self._warm_up()

    def hits(self, taken: Sequence[Taken], seed: int, numbers: Sequence[int]) -> PlateHits:
        """Generate the showers of particles, in batches.

        The shower of a particle depends on the particle, `seed` and its number alone.

        Args:
            taken: N particles.
            seed: Seed of the noise.
            numbers: Number of the noise of each shower, N.
        """
        noise = NoiseStream(seed, self._loaded.noise_shape)
        parts, model_seconds, placement_seconds = [], 0.0, 0.0
        generated, off_centre = np.zeros(len(taken)), np.zeros(len(taken), bool)
        size = self._loaded.plan.batch_size
        for start in range(0, len(taken), size):
            began = time.perf_counter()
            batch, own = taken[start : start + size], numbers[start : start + size]
            rows = slice(start, start + len(batch))
            origins, conditions, off_centre[rows] = self._conditions(batch)
            showers = self._generate(conditions, _noise_of(noise, own))
            middle = time.perf_counter()
            number, cell, energy = self.placement.place(showers, origins)
            parts.append((number + start, cell, energy))
            generated[rows] = showers.reshape(len(batch), -1).sum(axis=1, dtype=np.float64)
            placement_seconds += time.perf_counter() - middle
            model_seconds += middle - began
        empty = (np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32))
        shower, cell, energy = (np.concatenate(column) for column in zip(*parts, empty, strict=True))
        return PlateHits(shower, cell, energy, generated, off_centre, model_seconds, placement_seconds)

    def _warm_up(self) -> None:
        """Make a shower, so that loading compiled code is not counted as the time of the first event."""
        ranges = self._ranges
        energy, theta, phi = (
            np.full(1, limits[0], np.float32) for limits in (ranges.energy, ranges.theta, ranges.phi)
        )
        conditions = Conditions(energy, theta, phi, np.full(1, ranges.pdg_ids[0], np.int32))
        self._generate(conditions, NoiseStream(0, self._loaded.noise_shape).take)

    def _conditions(self, taken: Sequence[Taken]) -> tuple[NDArray[np.int64], Conditions, NDArray[np.bool_]]:
        """Where the windows of the showers begin, what the model is asked for, and whether it is off-centre.

        What the model does not know of a particle (the impact point in its cell, or the last degree of its
        direction) is replaced by the nearest that it knows.
        """
        positions = np.array([particle.position for particle in taken])
        directions = np.array([particle.direction for particle in taken])
        origins, rest = self.placement.shifts(self.placement.crossings(positions, directions))
        theta, phi, energy = (
            np.array([getattr(particle, name) for particle in taken]) for name in ("theta", "phi", "energy")
        )
        ranges = self._ranges
        impact_x = nearest_trained(rest[:, 0], ranges.impact_x)
        impact_y = nearest_trained(rest[:, 1], ranges.impact_y)
        moved = np.hypot(impact_x - rest[:, 0], impact_y - rest[:, 1])
        conditions = Conditions(
            energy=energy.astype(np.float32),
            theta=nearest_trained(theta, ranges.theta),
            phi=nearest_trained(phi, ranges.phi),
            pdg_id=np.array([particle.pdg_id for particle in taken], np.int32),
            impact_x=impact_x,
            impact_y=impact_y,
        )
        return origins, conditions, moved > OFF_CENTRE


def _noise_of(stream: NoiseStream, numbers: Sequence[int]) -> NoiseOf:
    """The noise of a batch whose showers have any numbers, for `CompiledModel`."""
    memory = np.empty((0, *stream.shape), np.float32)

    def noise(start: int, stop: int) -> NDArray[np.float32]:
        nonlocal memory
        if len(memory) < stop - start:
            memory = np.empty((stop - start, *stream.shape), np.float32)
        for row, number in enumerate(numbers[start:stop]):
            stream.take(number, number + 1, memory[row : row + 1])
        return memory[: stop - start]

    return noise
