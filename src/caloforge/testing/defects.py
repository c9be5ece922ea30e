"""Artificial defects of showers, to test whether a validation detects them.

Each takes showers of the full simulation and returns them with a typical defect of fast simulations. All are
for cartesian meshes. `docs/explanation/what-catches-what.md` shows which metric detects which.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caloforge.geometry import Detector
from caloforge.showers import ShowerBatch


@dataclass(frozen=True)
class Setting:
    """Further inputs of a defect: the detector and a random generator."""

    detector: Detector
    rng: np.random.Generator


Defect = Callable[[ShowerBatch, Setting], ShowerBatch]


def energy_scale(batch: ShowerBatch, _: Setting, factor: float = 1.01) -> ShowerBatch:
    """All energies 1 % too high."""
    return replace(batch, showers=batch.showers * np.float32(factor))


def weak_layer(batch: ShowerBatch, _: Setting, factor: float = 0.95) -> ShowerBatch:
    """The middle layer 5 % too low."""
    showers = batch.showers.copy()
    showers[:, showers.shape[1] // 2] *= np.float32(factor)
    return replace(batch, showers=showers)


def shuffled_cells(batch: ShowerBatch, setting: Setting) -> ShowerBatch:
    """Cells of a layer permuted at random among those at the same distance from the axis.

    Spectra, layer energies and radial profiles are unchanged; correlations of neighbouring cells are lost.
    """
    mesh: Any = setting.detector.mesh
    x, y = mesh.positions()
    ring = np.round(np.hypot(x, y) / max(mesh.cell_x, mesh.cell_y)).astype(int).ravel()
    flat = batch.showers.reshape(*batch.showers.shape[:2], -1).copy()
    for radius in np.unique(ring):
        cells = np.flatnonzero(ring == radius)
        flat[:, :, cells] = setting.rng.permuted(flat[:, :, cells], axis=2)
    return replace(batch, showers=flat.reshape(batch.showers.shape))


def mixed_layers(batch: ShowerBatch, setting: Setting) -> ShowerBatch:
    """Every layer from another shower of nearly the same energy, scaled to it.

    The mean shower and all observables of single layers are unchanged; correlations of layers are lost.
    """
    order = np.argsort(batch.incident_energy)
    showers = batch.showers.copy()
    for layer in range(showers.shape[1]):
        # take the layer of one of the ten showers nearest in energy
        place = np.arange(len(order)) + setting.rng.integers(-5, 6, len(order))
        donor = order[np.clip(place, 0, len(order) - 1)]
        scale = batch.incident_energy[order] / batch.incident_energy[donor]
        showers[order, layer] = batch.showers[donor, layer] * scale[:, None, None]
    return replace(batch, showers=showers)


def wider_in_x(batch: ShowerBatch, _: Setting, fraction: float = 0.02) -> ShowerBatch:
    """2 % of the energy of each cell moved to its neighbours along x: an asymmetry of x and y."""
    moved = batch.showers * np.float32(fraction / 2)
    showers = batch.showers - 2 * moved
    showers[..., 1:] += moved[..., :-1]
    showers[..., :-1] += moved[..., 1:]
    return replace(batch, showers=showers)


def extra_hits(
    batch: ShowerBatch, setting: Setting, fraction: float = 0.03, threshold: float = 0.3
) -> ShowerBatch:
    """3 % more hits: cells below the hit threshold raised just above it."""
    flat = batch.showers.reshape(len(batch), -1).copy()
    for shower in flat:
        low = np.flatnonzero((shower > 0) & (shower <= threshold))
        wanted = min(len(low), round(fraction * np.count_nonzero(shower > threshold)))
        chosen = setting.rng.choice(low, wanted, replace=False)
        shower[chosen] = threshold * setting.rng.uniform(1.0, 1.3, wanted)
    return replace(batch, showers=flat.reshape(batch.showers.shape))


def tilt(batch: ShowerBatch, setting: Setting, degrees: float = 2.0) -> ShowerBatch:
    """Showers tilted by 2 degrees towards positive y: layers shifted, with interpolation between cells."""
    mesh: Any = setting.detector.mesh
    depths = setting.detector.active_depths()
    moves = np.tan(np.deg2rad(degrees)) * (depths - depths.mean()) / mesh.cell_y
    showers = np.zeros_like(batch.showers)
    for layer, move in enumerate(moves):
        full_cells = int(np.floor(move))
        for cells, part in ((full_cells, 1 - (move - full_cells)), (full_cells + 1, move - full_cells)):
            showers[:, layer] += np.float32(part) * _shifted(batch.showers[:, layer], cells)
    return replace(batch, showers=showers)


def _shifted(image: NDArray[Any], cells: int) -> NDArray[Any]:
    """(N, ny, nx) shifted by a number of cells along y; energy beyond the edge is lost."""
    result = np.zeros_like(image)
    if cells > 0:
        result[:, cells:] = image[:, :-cells]
    elif cells < 0:
        result[:, :cells] = image[:, -cells:]
    else:
        result = image
    return result


def frozen_library(batch: ShowerBatch, setting: Setting, size: int = 1500) -> ShowerBatch:
    """The nearest in energy of 1 500 stored showers, rescaled: a frozen-shower library."""
    stored = np.sort(setting.rng.permutation(len(batch))[:size])
    stored = stored[np.argsort(batch.incident_energy[stored])]
    energies = batch.incident_energy[stored]
    middle = (energies[1:] + energies[:-1]) / 2
    nearest = stored[np.searchsorted(middle, batch.incident_energy)]
    scale = batch.incident_energy / batch.incident_energy[nearest]
    return replace(batch, showers=batch.showers[nearest] * scale[:, None, None, None])


def mode_collapse(batch: ShowerBatch, setting: Setting) -> ShowerBatch:
    """A generator that only rescales 100 showers."""
    return frozen_library(batch, setting, 100)


DEFECTS: dict[str, Defect] = {
    "energy scale 1 % high": energy_scale,
    "one layer 5 % low": weak_layer,
    "cells shuffled within a layer": shuffled_cells,
    "layers of different showers": mixed_layers,
    "wider in x than in y": wider_in_x,
    "3 % more hits": extra_hits,
    "tilted by 2 degrees": tilt,
    "mode collapse to 100 showers": mode_collapse,
    "frozen library of 1 500 showers": frozen_library,
}
