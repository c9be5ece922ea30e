"""Sparse storage of showers: index and energy of each hit, four bytes together."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from caloforge.showers import ShowerBatch

# largest 16-bit code of an energy
MAX_CODE = 65535


@dataclass(frozen=True)
class SparseShower:
    """One shower of the full simulation.

    Attributes:
        condition: (log of the incident energy / MeV, theta, phi) in rad.
        pdg_id: Incident particle.
        cells: (n,) flat indices of the cells that hold energy.
        energies: (n,) MeV.
    """

    condition: tuple[float, float, float]
    pdg_id: int
    cells: NDArray[np.int64]
    energies: NDArray[np.float32]


def draw_library(
    batches: Iterable[ShowerBatch], size: int, threshold: float, rng: np.random.Generator
) -> list[SparseShower]:
    """Draw `size` showers at random in one pass (reservoir sampling), sorted by particle and energy.

    Args:
        batches: The showers to draw from.
        size: Number of showers; all, if there are fewer.
        threshold: Cells below it are dropped, MeV.
        rng: Random generator.
    """
    kept: list[SparseShower] = []
    for number, (batch, row) in enumerate((b, i) for b in batches for i in range(len(b))):
        place = number if number < size else int(rng.integers(number + 1))
        if place >= size:
            continue
        kept[place : place + 1] = [_sparse(batch, row, threshold)]
    return sorted(kept, key=lambda shower: (shower.pdg_id, shower.condition))


def _sparse(batch: ShowerBatch, row: int, threshold: float) -> SparseShower:
    energies = batch.showers[row].ravel()
    cells = np.flatnonzero((energies >= threshold) & (energies > 0))
    condition = (
        math.log(batch.incident_energy[row]),
        float(batch.incident_theta[row]),
        float(batch.incident_phi[row]),
    )
    return SparseShower(condition, int(batch.pdg_id[row]), cells, energies[cells])


def pack(showers: list[SparseShower], n_cells: int) -> Iterator[tuple[str, NDArray[np.generic]]]:
    """The library as arrays by name, with energies as 16-bit codes that are linear in the logarithm.

    From 1 keV to 1 TeV a step is 0.03 % for every energy; half precision has 0.1 % and ends at 65 GeV.

    Args:
        showers: From `draw_library`.
        n_cells: Cells of the mesh; their indices take 16 bits where they fit.
    """
    conditions = np.array([shower.condition for shower in showers], np.float64).reshape(-1, 3)
    # np.concatenate needs at least one array, also for an empty library
    energies = np.concatenate([np.empty(0, np.float32), *(shower.energies for shower in showers)])
    cells = np.concatenate([np.empty(0, np.int64), *(shower.cells for shower in showers)])
    logs = np.log(energies.astype(np.float64))
    low, high = (float(logs.min()), float(logs.max())) if len(logs) else (0.0, 0.0)
    step = max(high - low, 1e-6) / MAX_CODE
    kind = np.uint16 if n_cells <= MAX_CODE + 1 else np.int32
    yield "conditions", conditions.astype(np.float32)
    yield "pdg_ids", np.array([shower.pdg_id for shower in showers], np.int32)
    yield "starts", np.cumsum([0, *(len(shower.cells) for shower in showers)]).astype(np.int64)
    yield "cells", cells.astype(kind)
    yield "codes", np.rint((logs - low) / step).astype(np.uint16)
    yield "scale", np.array([low, step], np.float32)
