"""Summary statistics of a shower file, computed in one pass at constant memory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caloforge.geometry import Detector, RaggedMesh
from caloforge.geometry.mesh import IMPACT
from caloforge.showers.batch import ShowerBatch
from caloforge.showers.file import ShowerFile

Array = NDArray[np.float64]

# files with at most this many different energies are grouped by energy instead of by intervals
LISTED_ENERGIES = 12
# number of bands of incident energy with their own layer profile
BANDS = 3
# entries of the provenance that are shown
PROVENANCE_KEYS = (
    "engine",
    "caloforge",
    "created",
    "seed",
    "physics",
    "production_cut",
    "particle",
    "family",
)


@dataclass(frozen=True)
class ShowerScan:
    """Quantities of the showers of a file.

    Attributes:
        incident_energy: (N,) MeV.
        visible_energy: (N,) MeV.
        hits: (N,) voxels with energy.
        largest_voxel: Highest voxel energy of the file, MeV.
        negative_cells: Voxels below zero in the whole file.
        band_edges: (b + 1,) MeV; the bands of incident energy below.
        layer_response: (b, nz) mean over the showers of a band of layer energy over incident energy.
    """

    incident_energy: Array
    visible_energy: Array
    hits: NDArray[np.int64]
    largest_voxel: float
    negative_cells: int
    band_edges: Array
    layer_response: Array

    @property
    def response(self) -> Array:
        """(N,) visible over incident energy."""
        return self.visible_energy / self.incident_energy


def scan_showers(path: Path | str) -> ShowerScan:
    """Compute the `ShowerScan` of a file in one pass.

    Raises:
        DataError: The file is missing, damaged or no shower file.
    """
    with ShowerFile(path) as file:
        energy = file.column("incident_energy").astype(np.float64)
        edges = energy_bands(energy, BANDS)
        band = band_of(energy, edges)
        visible, hits = np.empty(len(file)), np.empty(len(file), np.int64)
        sums = np.zeros((len(edges) - 1, file.detector.n_layers))
        largest, negative, start = -np.inf, 0, 0
        for batch in file.iterate():
            part = slice(start, start + len(batch))
            start = part.stop
            flat = batch.showers.reshape(len(batch), -1)
            layers = layer_energies(batch, file.detector)
            visible[part] = layers.sum(axis=1)
            hits[part] = np.count_nonzero(flat > 0, axis=1)
            largest = max(largest, float(flat.max()))
            negative += int(np.count_nonzero(flat < 0))
            np.add.at(sums, band[part], layers / energy[part, None])
    counts = np.bincount(band, minlength=len(sums))
    means = sums / np.maximum(counts, 1)[:, None]
    return ShowerScan(energy, visible, hits, largest, negative, edges, means)


def energy_bands(energy: Array, bands: int) -> Array:
    """Edges of bands of incident energy: one band per energy where these are few, else equal intervals.

    Args:
        energy: (N,) MeV.
        bands: Number of intervals of a continuous spectrum.

    Returns:
        (b + 1,) increasing edges around all energies.
    """
    values = np.unique(energy)
    if len(values) <= LISTED_ENERGIES:
        middle = (values[1:] + values[:-1]) / 2
        return np.concatenate([[0.5 * values[0]], middle, [1.5 * values[-1]]])
    low, high = values[0], values[-1]
    if needs_log_axis(energy):
        return np.geomspace(low, high, bands + 1)
    return np.linspace(low, high, bands + 1)


def band_of(energy: Array, edges: Array) -> NDArray[np.intp]:
    """(N,) index of the band that holds each energy."""
    return np.clip(np.searchsorted(edges, energy, side="right") - 1, 0, len(edges) - 2)


def needs_log_axis(energy: Array) -> bool:
    """Whether a logarithmic axis is better: half of the showers lie in the lowest tenth of the range."""
    low, high = float(energy.min()), float(energy.max())
    return high > 20 * low and float(np.median(energy)) < 0.1 * high


def particle_name(pdg_id: int) -> str:
    """The name of a particle, such as "e-" for 11; the number where it has none."""
    from particle import InvalidParticle, Particle, ParticleNotFound

    try:
        return str(Particle.from_pdgid(pdg_id).name)
    except (ParticleNotFound, InvalidParticle):
        return str(pdg_id)


def layer_energies(batch: ShowerBatch, detector: Detector) -> Array:
    """(N, nz) energy of each readout layer, MeV."""
    mesh = detector.mesh
    if isinstance(mesh, RaggedMesh):
        starts = [part.start for part in mesh.slices()]
        ragged: Array = np.add.reduceat(batch.showers, starts, axis=1, dtype=np.float64)
        return ragged
    sums: Array = batch.showers.sum(axis=(2, 3), dtype=np.float64)
    return sums


def describe_showers(path: Path | str, scan: ShowerScan | None = None) -> dict[str, Any]:
    """Summary of a shower file, JSON-compatible; energies in GeV, angles in degrees.

    Args:
        path: A shower file.
        scan: Result of `scan_showers` for the file, if already available.

    Raises:
        DataError: The file is missing, damaged or no shower file.
    """
    scan = scan or scan_showers(path)
    with ShowerFile(path) as file:
        codes, counts = np.unique(file.column("pdg_id"), return_counts=True)
        facts: dict[str, Any] = {
            "showers": len(file),
            "detector": file.detector.name,
            "shower_shape": list(file.detector.shower_shape),
            "energy_meaning": file.energy_meaning,
            "particles": {particle_name(int(code)): int(n) for code, n in zip(codes, counts, strict=True)},
            "incident_energy_gev": _range(scan.incident_energy / 1e3),
            "theta_deg": _range(np.degrees(file.column("incident_theta").astype(np.float64))),
            "phi_deg": _range(np.degrees(file.column("incident_phi").astype(np.float64))),
            **_impacts(file),
            "response": {"mean": float(scan.response.mean()), "rms": float(scan.response.std())},
            "hits": {"mean": float(scan.hits.mean()), "occupancy": _occupancy(scan, file)},
            "largest_voxel_mev": scan.largest_voxel,
            "empty_showers": int(np.count_nonzero(scan.hits == 0)),
            "negative_cells": scan.negative_cells,
        }
        if file.has_seconds:
            facts["seconds_per_shower"] = float(np.median(file.column("seconds")))
        facts["files"] = [path.name for path in file.paths] if len(file.paths) > 1 else []
        facts["size_mb"] = sum(path.stat().st_size for path in file.paths) / 1e6
        facts["provenance"] = {key: file.provenance[key] for key in PROVENANCE_KEYS if key in file.provenance}
    return facts


def _impacts(file: ShowerFile) -> dict[str, Any]:
    """Ranges of the impact points, if there are any."""
    if file.has_impacts:
        return {f"{name}_mm": _range(file.column(name).astype(np.float64)) for name in IMPACT}
    return {} if file.knows_impacts else {"impact": "anywhere in a cell, not stored by an earlier version"}


def _occupancy(scan: ShowerScan, file: ShowerFile) -> float:
    return float(scan.hits.mean() / np.prod(file.detector.shower_shape))


def _range(values: Array) -> dict[str, float]:
    return {"min": float(values.min()), "mean": float(values.mean()), "max": float(values.max())}
