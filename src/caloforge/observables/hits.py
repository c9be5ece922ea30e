"""Hits above a threshold, the spectrum of the voxel energies, and its MIP peak."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caloforge.geometry import CartesianMesh, CylindricalMesh, Detector, Mesh
from caloforge.observables.energy import layer_sums

Array = NDArray[np.float64]
Counts = NDArray[np.int64]

#: bin edges of the voxel energies, MeV: twenty bins per decade, narrow enough for the MIP peak, from the
#: 1 keV cut of the full simulation to beyond the largest voxel energies
SPECTRUM_EDGES: Array = np.geomspace(1e-3, 1e5, 161)


def default_threshold(detector: Detector, energy_meaning: str = "visible") -> float:
    """Hit threshold of the published analyses of this kind of detector.

    0.3 MeV in cells of a silicon-tungsten calorimeter (3DGAN); 0.5 keV in the virtual mesh of Par04, which is
    15.15 keV after the sampling-fraction correction (CaloChallenge data sets 2 and 3); 1 MeV in the ragged
    meshes of data set 1. For other detectors half the most probable energy loss of a minimum ionising
    particle in a voxel is a good choice.

    Args:
        detector: Detector of the showers.
        energy_meaning: "visible" or "sampling-fraction corrected", as in the shower file.

    Returns:
        MeV.

    Examples:
        >>> from caloforge.geometry import load_detector
        >>> default_threshold(load_detector("clic-ecal-25"))
        0.3
    """
    if isinstance(detector.mesh, CartesianMesh):
        return 0.3
    if isinstance(detector.mesh, CylindricalMesh):
        return 5e-4 if energy_meaning == "visible" else 0.01515
    return 1.0


def hits(showers: NDArray[Any], threshold: float) -> Counts:
    """Number of voxels above a threshold.

    Args:
        showers: (N, ...) energy per voxel, MeV.
        threshold: MeV; a voxel of exactly this energy does not count.

    Returns:
        (N,)

    Examples:
        >>> hits(np.array([[0.0, 0.3, 0.4, 2.0]]), 0.3)
        array([2])
    """
    count: Counts = np.count_nonzero(showers.reshape(len(showers), -1) > threshold, axis=1)
    return count


def layer_hits(showers: NDArray[Any], mesh: Mesh, threshold: float) -> Counts:
    """Number of voxels above a threshold in each readout layer.

    Args:
        showers: (N, nz, ny, nx), (N, nz, nphi, nr) or (N, n_voxels), MeV.
        mesh: The mesh of the showers.
        threshold: MeV.

    Returns:
        (N, nz)
    """
    return layer_sums(showers > threshold, mesh).astype(np.int64)


def cell_spectrum(showers: NDArray[Any], edges: Array) -> Counts:
    """Histogram of the voxel energies of each shower.

    Args:
        showers: (N, ...) energy per voxel, MeV.
        edges: (k + 1,) rising bin edges, MeV. Voxels below the first edge are left out, those above the last
            edge are counted in the last bin.

    Returns:
        (N, k) voxels per bin.

    Examples:
        >>> cell_spectrum(np.array([[0.0, 0.2, 0.5, 70.0]]), np.array([0.1, 1.0, 10.0]))
        array([[2, 1]])
    """
    everywhere = np.zeros(showers[0].size, np.bool_)
    spectrum: Counts = split_spectrum(showers, edges, everywhere)[:, 0]
    return spectrum


def split_spectrum(showers: NDArray[Any], edges: Array, region: NDArray[np.bool_]) -> Counts:
    """Histograms of the voxel energies outside and inside a region, in one pass.

    Args:
        showers: (N, ...) energy per voxel, MeV.
        edges: (k + 1,) as in `cell_spectrum`.
        region: (voxels of a shower,) or (voxels of a layer,), which is repeated for each layer.

    Returns:
        (N, 2, k) voxels per bin, outside first.
    """
    flat, count = showers.reshape(len(showers), -1), len(edges) - 1
    inside = np.tile(region, flat.shape[1] // len(region))
    where = np.flatnonzero(flat >= edges[0])
    bins = _bins(flat.ravel()[where], edges)
    shower = where // flat.shape[1]
    voxel = where - shower * flat.shape[1]
    index = (shower * 2 + inside[voxel]) * count + bins
    spectra: Counts = np.bincount(index, minlength=2 * len(flat) * count).reshape(len(flat), 2, count)
    return spectra


def _bins(values: NDArray[Any], edges: Array) -> NDArray[np.intp]:
    """Bin of each value, the last for values above; computed directly for logarithmic bins."""
    last = len(edges) - 2
    steps = np.diff(np.log(edges)) if edges[0] > 0 else np.zeros(1)
    if not np.allclose(steps, steps[0], rtol=1e-6) or steps[0] == 0:
        return np.minimum(np.searchsorted(edges, values, side="right") - 1, last)
    logarithm = (np.log(values) - np.log(edges[0])) / steps[0]
    guess: NDArray[np.intp] = np.clip(logarithm.astype(np.intp), 0, last)
    # rounding of the logarithm shifts a value by one bin at most
    guess += (values >= edges[guess + 1]) & (guess < last)
    guess -= values < edges[guess]
    return guess


@dataclass(frozen=True)
class Peak:
    """A peak of a spectrum: its position and the statistical standard error, MeV."""

    position: float
    uncertainty: float


def mip_peak(counts: NDArray[Any], edges: Array) -> Peak | None:
    """The peak of minimum ionising particles in a spectrum of voxel energies.

    In dN/dE, which falls like a power law, voxels crossed by one charged particle form a peak at the most
    probable energy loss in the active material. The peak is the local maximum with the largest rise over the
    minimum at lower energy, in standard errors; its position is the vertex of a parabola fitted to ln dN/dE
    against ln E.

    Args:
        counts: (k,) voxels per bin, summed over showers.
        edges: (k + 1,) rising, MeV, about 20 bins a decade.

    Returns:
        The peak, or None where no maximum rises by more than 5 standard errors over the minimum below it.
    """
    n = counts.astype(np.float64)
    density = n / np.diff(edges)
    variance = n / np.diff(edges) ** 2
    best, peak = 5.0, -1
    for i in range(1, len(n) - 1):
        if not (density[i] >= density[i - 1] and density[i] > density[i + 1]):
            continue
        # the minimum to the left, across fluctuations of up to two standard errors
        low = i
        for j in range(i - 1, -1, -1):
            if density[j] < density[low]:
                low = j
            elif density[j] > density[low] + 2 * np.sqrt(variance[j] + variance[low]):
                break
        rise = (density[i] - density[low]) / np.sqrt(variance[i] + variance[low] + 1e-300)
        if n[low] > 0 and rise > best:
            best, peak = rise, i
    return _vertex(n, edges, peak) if peak > 0 else None


def _vertex(n: Array, edges: Array, peak: int) -> Peak:
    """Vertex of a weighted parabola through ln dN/dE over two bins on either side of the peak."""
    part = slice(max(peak - 2, 0), peak + 3)
    filled = n[part] > 0
    t = np.log(np.sqrt(edges[:-1] * edges[1:]))[part][filled]
    origin = t.mean()
    y = np.log(n[part] / np.diff(edges)[part], where=filled, out=np.zeros(len(filled)))[filled]
    basis = np.stack([np.ones_like(t), t - origin, (t - origin) ** 2], axis=1)
    covariance = np.linalg.inv(basis.T @ (basis * n[part][filled][:, None]))
    _, b, c = covariance @ (basis.T @ (n[part][filled] * y))
    vertex = -b / (2 * c) if c < 0 else t[np.argmax(y)] - origin
    gradient = np.array([0.0, -1 / (2 * c), b / (2 * c**2)]) if c < 0 else np.zeros(3)
    vertex = float(np.clip(vertex, t[0] - origin, t[-1] - origin))
    position = float(np.exp(vertex + origin))
    return Peak(position, position * float(np.sqrt(gradient @ covariance @ gradient)))
