"""Event displays: projections of mean and single showers, and voxels in space, encoded for the report."""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caloforge.geometry import CartesianMesh, CylindricalMesh, Detector, RaggedMesh
from caloforge.observables import transverse_positions
from caloforge.showers import ShowerFile
from caloforge.validation.conditions import Bin
from caloforge.validation.observed_sample import Sample

Array = NDArray[np.float64]
# decades of energy that a colour map spans
DECADES = 4.0
# voxels shown of one shower, the most energetic ones
MAX_VOXELS = 2500
# showers shown, at these quantiles of the incident energy
QUANTILES = (0.9, 0.5, 0.1)


@dataclass(frozen=True)
class Picked:
    """One shower of a sample: its index in the file, voxels and conditions."""

    sample: str
    index: int
    voxels: NDArray[np.float32]
    energy: float
    theta: float


def planes(detector: Detector) -> tuple[str, ...]:
    """Names of the projections of a mesh."""
    if isinstance(detector.mesh, CartesianMesh):
        return ("x–y", "z–x", "z–y")
    if isinstance(detector.mesh, CylindricalMesh):
        return ("r–φ", "z–r", "z–φ")
    return ()


def extents(detector: Detector) -> list[dict[str, Any]]:
    """Axes of each projection: titles, and their range (left, right, bottom, top)."""
    mesh, depth = detector.mesh, detector.n_layers
    if isinstance(mesh, CartesianMesh):
        x, y = mesh.nx * mesh.cell_x / 2, mesh.ny * mesh.cell_y / 2
        across = ("x [mm]", -x, x), ("y [mm]", -y, y)
    elif isinstance(mesh, CylindricalMesh):
        across = ("r [mm]", 0.0, mesh.nr * mesh.cell_r), ("φ [rad]", -math.pi, math.pi)
    else:
        return []
    layers = ("layer", -0.5, depth - 0.5)
    return [
        {"x": horizontal[0], "y": vertical[0], "range": [*horizontal[1:], *vertical[1:]]}
        for horizontal, vertical in (across, (layers, across[0]), (layers, across[1]))
    ]


def projections(shower: NDArray[Any], detector: Detector) -> list[Array]:
    """Energies summed along each axis, with depth to the right; (rows, columns) each, MeV.

    Args:
        shower: (nz, ny, nx) or (nz, nphi, nr); a ragged mesh has no projections.
        detector: Its detector.
    """
    if isinstance(detector.mesh, RaggedMesh):
        return []
    wide = shower.astype(np.float64)
    return [wide.sum(axis=0), wide.sum(axis=1).T, wide.sum(axis=2).T]


def pick(truth: Sample, generated: Sequence[Sample]) -> list[list[Picked]]:
    """Some showers of the truth, each with the one of every generator at the most similar conditions."""
    energy = truth.conditions.energy
    chosen = []
    for quantile in QUANTILES:
        number = int(np.argmin(np.abs(energy - np.quantile(energy, quantile))))
        if number not in chosen:
            chosen.append(number)
    return [
        [_read(truth, number), *(_read(other, _nearest(truth, number, other)) for other in generated)]
        for number in chosen
    ]


def _nearest(truth: Sample, number: int, other: Sample) -> int:
    wanted, offered = truth.conditions[number], other.conditions
    away: NDArray[Any] = np.abs(np.log(offered.energy / wanted.energy)) + np.abs(offered.theta - wanted.theta)
    away += np.where(offered.pdg_id == wanted.pdg_id, 0.0, 1e3)
    return int(np.argmin(away))


def _read(sample: Sample, number: int) -> Picked:
    index = int(sample.index[number])
    with ShowerFile(sample.path) as file:
        voxels = file.read(index, index + 1).showers[0]
    conditions = sample.conditions[number]
    return Picked(sample.name, index, voxels, float(conditions.energy), float(conditions.theta))


def encode_map(image: Array, top: float) -> dict[str, Any]:
    """A projection as bytes: 0 for empty pixels, 1 to 255 logarithmic over four decades up to `top`."""
    with np.errstate(divide="ignore", invalid="ignore"):
        share = 1 + np.log10(image / top) / DECADES
    level = np.where(image > 0, 1 + np.round(254 * np.clip(share, 0, 1)), 0).astype(np.uint8)
    level_top = float(f"{top:.4g}")
    return {
        "h": image.shape[0],
        "w": image.shape[1],
        "top": level_top,
        "d": base64.b64encode(level.tobytes()).decode(),
    }


def encode_voxels(shower: NDArray[np.float32], detector: Detector) -> dict[str, list[int]]:
    """Voxels of the highest energy: flattened x, y, z in 0.1 mm, and 100 log10(E / MeV)."""
    flat = shower.ravel()
    order = np.argsort(-flat)[:MAX_VOXELS]
    order = order[flat[order] > 0]
    x, y, z = _positions(detector)
    points = np.stack([x[order], y[order], z[order]], axis=1)
    return {
        "p": np.round(10 * points).astype(int).ravel().tolist(),
        "e": np.round(100 * np.log10(flat[order].astype(np.float64))).astype(int).tolist(),
    }


def _positions(detector: Detector) -> tuple[Array, Array, Array]:
    """Coordinates of every voxel, (voxels,) each, mm."""
    x, y = transverse_positions(detector.mesh)
    depths = layer_depths(detector)
    if isinstance(detector.mesh, RaggedMesh):
        sizes = [layer.n_voxels for layer in detector.mesh.layers]
        return x, y, np.repeat(depths, sizes)
    return np.tile(x, len(depths)), np.tile(y, len(depths)), np.repeat(depths, len(x))


def layer_depths(detector: Detector) -> Array:
    """Z of each readout layer, mm; evenly spaced where the materials are not known."""
    if detector.layers:
        return detector.active_depths()
    step = 2 * detector.mesh.half_extent() / detector.n_layers
    return (np.arange(detector.n_layers, dtype=np.float64) + 0.5) * step


def geometry(detector: Detector) -> dict[str, float]:
    """Sizes for the event display, mm."""
    mesh = detector.mesh
    half = mesh.half_extent()
    # without materials, the depth that `layer_depths` assumes
    depth = detector.depth if detector.layers else 2 * half
    if isinstance(mesh, CartesianMesh):
        cell = max(mesh.cell_x, mesh.cell_y)
    elif isinstance(mesh, CylindricalMesh):
        cell = mesh.cell_r
    else:
        cell = half / 10
    return {"half": half, "depth": depth, "cell": cell, "size": float(np.hypot(2 * np.sqrt(2) * half, depth))}


def events(picked: Sequence[Sequence[Picked]], detector: Detector) -> list[dict[str, Any]]:
    """Single showers for the event display; one colour scale per plane, and one for all voxels."""
    top = max((float(p.voxels.max()) for row in picked for p in row), default=1.0)
    bright = math.log10(top) if top > 0 else 0.0
    result = []
    for row in picked:
        images = [projections(p.voxels, detector) for p in row]
        tops = _tops(images)
        label = f"{row[0].energy / 1e3:.1f} GeV, {math.degrees(row[0].theta):.0f}°"
        showers = [
            {
                "name": p.sample,
                "facts": f"shower {p.index}, {p.energy / 1e3:.1f} GeV, visible {p.voxels.sum():.0f} MeV, "
                f"{int((p.voxels > 0).sum())} voxels",
                "voxels": encode_voxels(p.voxels, detector),
                "maps": [encode_map(image, t) for image, t in zip(planes, tops, strict=True)],
            }
            for p, planes in zip(row, images, strict=True)
        ]
        result.append({"label": label, "top": bright, "low": bright - DECADES, "showers": showers})
    return result


def averages(samples: Sequence[Sample], bins: Sequence[Bin]) -> list[dict[str, Any]]:
    """Mean showers of all samples in each bin, one colour scale per plane and bin; empty on ragged meshes."""
    result = []
    for where in bins if planes(samples[0].detector) else ():
        images = [projections(s.mean_showers[where.key], s.detector) for s in samples]
        tops = _tops(images)
        rows = [
            {"name": s.name, "maps": [encode_map(image, t) for image, t in zip(row, tops, strict=True)]}
            for s, row in zip(samples, images, strict=True)
        ]
        result.append({"label": where.label, "showers": rows})
    return result


def _tops(images: Sequence[Sequence[Array]]) -> list[float]:
    """Largest pixel of each plane over all samples."""
    return [max(float(image.max()) for image in plane) or 1.0 for plane in zip(*images, strict=True)]
