"""Hits of an event: cells, and the contribution of each particle to each cell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from caloforge.campaign.parts import load_arrays, save_arrays
from caloforge.fastsim.events.records import COLUMNS, SPEED_OF_LIGHT, Event
from caloforge.geometry import CartesianMesh, Detector

# stepLength of a contribution: of a model, and of the sum over the steps of Geant4
FAST_STEP, SUMMED_STEPS = -1.0, 0.0
# cellID = layer + row * 2^16 + column * 2^32
ENCODING = "layer:16,row:16,column:16"


class Cells:
    """Numbers and positions of the cells of a plate."""

    def __init__(self, plate: Detector) -> None:
        """Compute the centres along each axis."""
        assert isinstance(plate.mesh, CartesianMesh)
        self._shape = plate.shower_shape
        self._centres = (plate.active_depths(), plate.mesh.y_centres(), plate.mesh.x_centres())

    def ids(self, cells: NDArray[np.int64]) -> NDArray[np.uint64]:
        """The cellID of flat cells, in `ENCODING`."""
        layer, row, column = (part.astype(np.uint64) for part in np.unravel_index(cells, self._shape))
        ids: NDArray[np.uint64] = layer | (row << np.uint64(16)) | (column << np.uint64(32))
        return ids

    def positions(self, cells: NDArray[np.int64]) -> NDArray[np.float64]:
        """Centres of flat cells in the frame of the calorimeter, mm, shape (N, 3)."""
        layer, row, column = np.unravel_index(cells, self._shape)
        z, y, x = self._centres
        return np.stack([x[column], y[row], z[layer]], axis=1)


def decode(ids: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Layer, row and column of cellIDs."""
    word = np.uint64(0xFFFF)
    layer, row, column = ((ids >> np.uint64(shift) & word).astype(np.int64) for shift in (0, 16, 32))
    return layer, row, column


@dataclass(frozen=True)
class Steps:
    """Steps of Geant4 in the cells, one after another.

    Attributes:
        position: Middle of each, in the frame of the calorimeter, mm, shape (N, 3).
        length: mm, shape (N,).
        time: ns, shape (N,).
        pdg_id: Particle number of the track, shape (N,).
    """

    position: NDArray[np.float64]
    length: NDArray[np.float64]
    time: NDArray[np.float64]
    pdg_id: NDArray[np.int64]


@dataclass(frozen=True)
class Source:
    """What one particle leaves in the calorimeter.

    Attributes:
        particle: Its index in the event.
        fast: Whether a model made it.
        cells: Flat cells of the plate, shape (hits,).
        energies: MeV, shape (hits,).
        point: A point of its track before the shower, in the frame of the calorimeter, mm.
        time: When it is there, ns.
        steps: The steps that the entries of `cells` and `energies` are; None if they are sums.
    """

    particle: int
    fast: bool
    cells: NDArray[np.int64]
    energies: NDArray[np.float64]
    point: tuple[float, float, float]
    time: float
    steps: Steps | None = None

    def contributions(self, cells: Cells) -> dict[str, NDArray[Any]]:
        """One row for each entry: `particle`, `share` in MeV, `when` in ns, `length`, `step` and `pdg`.

        The time of a sum is that of light on a straight line from the particle's point to the centre of the
        cell. Sums have the PDG number 0, which stands for that of the particle.
        """
        count = len(self.cells)
        if self.steps is not None:
            step, length, when, pdg_id = (
                self.steps.position,
                self.steps.length,
                self.steps.time,
                self.steps.pdg_id,
            )
        else:
            step = cells.positions(self.cells)
            path = np.linalg.norm(step - np.array(self.point), axis=1)
            when = self.time + path / SPEED_OF_LIGHT
            length = np.full(count, FAST_STEP if self.fast else SUMMED_STEPS)
            pdg_id = np.zeros(count, np.int64)
        return {
            "particle": np.full(count, self.particle, np.int32),
            "share": self.energies.astype(np.float64),
            "when": when,
            "length": length.astype(np.float32),
            "step": step.astype(np.float32),
            "pdg": pdg_id.astype(np.int32),
        }


def collect(sources: list[Source], cells: Cells, threshold: float) -> tuple[dict[str, NDArray[Any]], float]:
    """The hits of an event, by rising cell, and the contributions to each.

    Args:
        sources: What the particles leave.
        cells: The cells of the plate.
        threshold: Hits below it are left out, MeV.

    Returns:
        Arrays with one entry per hit (`cell`, `energy` in MeV, `time` in ns, `ends`: one past its last
        contribution) and per contribution (see `Source.contributions`), and the energy of what was left out,
        MeV.
    """
    none = Source(0, False, np.zeros(0, np.int64), np.zeros(0), (0.0, 0.0, 0.0), 0.0)
    every = [*sources, none]
    cell = np.concatenate([source.cells for source in every])
    parts = [source.contributions(cells) for source in every]
    shares = {name: np.concatenate([part[name] for part in parts]) for name in CONTRIBUTION}
    unique, place = np.unique(cell, return_inverse=True)
    energy, time = np.zeros(len(unique)), np.full(len(unique), np.inf)
    np.add.at(energy, place, shares["share"])
    np.minimum.at(time, place, shares["when"])
    # also with a threshold of 0, a cell without energy is no hit
    kept = (energy >= threshold) & (energy > 0)
    rows = np.flatnonzero(kept[place] & (shares["share"] > 0))
    rows = rows[np.lexsort((shares["particle"][rows], place[rows]))]
    number = np.cumsum(kept) - 1
    arrays = {
        "cell": unique[kept].astype(np.uint32),
        "energy": energy[kept].astype(np.float32),
        "time": time[kept].astype(np.float32),
        "ends": np.cumsum(np.bincount(number[place[rows]], minlength=int(kept.sum()))).astype(np.uint32),
        **{name: column[rows] for name, column in shares.items()},
    }
    for name in ("share", "when"):
        arrays[name] = arrays[name].astype(np.float32)
    return arrays, float(energy[~kept].sum())


HIT = ("cell", "energy", "time", "ends")
CONTRIBUTION = ("particle", "share", "when", "length", "step", "pdg")
RELATIONS = ("parents", "daughters")


@dataclass(frozen=True)
class HitBlock:
    """Consecutive events with their hits, as flat arrays.

    Attributes:
        start: First event.
        seconds: Wall time of each event, shape (N,).
        ledger: Where the particles went, shape (N, columns).
        arrays: By name: `number` and the counts (N,); columns of particles, hits and contributions.
    """

    start: int
    seconds: NDArray[np.float32]
    ledger: NDArray[np.float64]
    arrays: dict[str, NDArray[Any]]

    def __len__(self) -> int:
        return len(self.seconds)

    @classmethod
    def of(
        cls,
        start: int,
        events: list[Event],
        hits: list[dict[str, NDArray[Any]]],
        seconds: NDArray[np.float32],
        ledger: NDArray[np.float64],
    ) -> Self:
        """Join events and their hits."""
        arrays: dict[str, NDArray[Any]] = {
            "number": np.array([event.number for event in events], np.int64),
            "particles": np.array([len(event) for event in events], np.int64),
            "hits": np.array([len(hit["cell"]) for hit in hits], np.int64),
            "contributions": np.array([len(hit["particle"]) for hit in hits], np.int64),
        }
        for name in COLUMNS:
            arrays[name] = np.concatenate([event.columns[name] for event in events])
        for name in RELATIONS:
            relations = [getattr(event, name) for event in events]
            arrays[name] = np.array([len(relation.index) for relation in relations], np.int64)
            arrays[f"{name}.ends"] = np.concatenate([relation.ends for relation in relations])
            arrays[f"{name}.index"] = np.concatenate([relation.index for relation in relations])
        for name in (*HIT, *CONTRIBUTION):
            arrays[f"hit.{name}"] = np.concatenate([hit[name] for hit in hits])
        return cls(start, seconds, ledger, arrays)

    def save(self, folder: Path) -> None:
        """Write the block atomically.

        Raises:
            OutputError: The disk is full, or the folder cannot be written.
        """
        arrays: dict[str, NDArray[Any]] = {"seconds": self.seconds, "ledger": self.ledger, **self.arrays}
        save_arrays(folder, self.start, self.start + len(self), arrays)

    @classmethod
    def load(cls, path: Path) -> HitBlock:
        """Read a block; a damaged one is removed, so that it is made again.

        Raises:
            DamagedBlockError: The block is damaged.
            SimulationError: The operating system refuses to read it; nothing is removed.
        """
        start, arrays = load_arrays(path, _is_intact)
        seconds, ledger = arrays.pop("seconds"), arrays.pop("ledger")
        return cls(start, seconds, ledger, arrays)


def _is_intact(arrays: Mapping[str, NDArray[Any]], count: int) -> bool:
    """Whether the arrays of a block fit together."""
    if not len(arrays["seconds"]) == len(arrays["ledger"]) == len(arrays["number"]) == count:
        return False
    particles, hits, contributions = (
        int(arrays[name].sum()) for name in ("particles", "hits", "contributions")
    )
    return (
        all(len(arrays[name]) == particles for name in (*COLUMNS, *(f"{name}.ends" for name in RELATIONS)))
        and all(len(arrays[f"{name}.index"]) == int(arrays[name].sum()) for name in RELATIONS)
        and all(len(arrays[f"hit.{name}"]) == hits for name in HIT)
        and all(len(arrays[f"hit.{name}"]) == contributions for name in CONTRIBUTION)
    )
