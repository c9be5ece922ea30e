"""Counts of voxels: hits above a threshold, and the spectrum of voxel energies."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from caloforge.geometry import Mesh
from caloforge.observables.energy import layer_sums

Array = NDArray[np.float64]


def hits(showers: NDArray[Any], threshold: float) -> NDArray[np.int64]:
    """Number of voxels above a threshold.

    Args:
        showers: (N, ...) energy per voxel, MeV.
        threshold: MeV; a voxel of exactly this energy does not count.

    Returns:
        (N,)
    """
    count: NDArray[np.int64] = np.count_nonzero(showers.reshape(len(showers), -1) > threshold, axis=1)
    return count


def layer_hits(showers: NDArray[Any], mesh: Mesh, threshold: float) -> NDArray[np.int64]:
    """Number of voxels above a threshold in each readout layer.

    Args:
        showers: (N, nz, ny, nx), (N, nz, nphi, nr) or (N, n_voxels), MeV.
        mesh: The mesh of the showers.
        threshold: MeV.

    Returns:
        (N, nz)
    """
    return layer_sums(showers > threshold, mesh).astype(np.int64)


def cell_spectrum(showers: NDArray[Any], edges: NDArray[np.float64]) -> NDArray[np.int64]:
    """Histogram of the voxel energies of each shower.

    Args:
        showers: (N, ...) energy per voxel, MeV.
        edges: (k + 1,) rising bin edges, MeV. Voxels below the first edge are left out, those above the last
            edge are counted in the last bin.

    Returns:
        (N, k) voxels per bin.
    """
    flat, count = showers.reshape(len(showers), -1), len(edges) - 1
    where = np.flatnonzero(flat >= edges[0])
    values = flat.ravel()[where]
    bins = np.minimum(np.searchsorted(edges, values, side="right") - 1, count - 1)
    index = where // flat.shape[1] * count + bins
    return np.bincount(index, minlength=len(flat) * count).reshape(len(flat), count)
