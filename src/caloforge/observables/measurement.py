"""Measurement of every observable of the catalogue, in blocks of showers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caloforge.geometry import Detector
from caloforge.observables.block import Block, Layout
from caloforge.observables.catalogue import catalogue
from caloforge.observables.copy_fingerprint import fingerprint
from caloforge.observables.energy import fractions
from caloforge.showers import ShowerBatch

# voxels of a block, 64 showers of 25 x 25 x 25: about 50 MB; larger blocks are not faster
BLOCK_VOXELS = 1_000_000


def observe(
    batch: ShowerBatch, detector: Detector, *, threshold: float, impacts: bool = False
) -> dict[str, NDArray[np.float32]]:
    """Measure every observable of the catalogue.

    The memory beyond the result does not grow with the number of showers.

    Args:
        batch: N showers.
        detector: Their detector.
        threshold: Voxels above it are hits, MeV. Energies are sums over all voxels.
        impacts: Whether the sample has impact points off the axis, see `catalogue`.

    Returns:
        Every observable of `catalogue` by name, (N,) for scalars and (N, k) for profiles and spectra, and
        `fingerprint` (N, 8) for `distinct_showers`.

    Raises:
        ValueError: No showers, or a voxel that is not finite.
    """
    if len(batch) == 0:
        raise ValueError("got no showers, expected at least one")
    layout = Layout(detector)
    observables = catalogue(detector, threshold=threshold, impacts=impacts)
    measures = {o.name: o.measure for o in observables if o.measure}
    measures["fingerprint"] = lambda block: fingerprint(block.showers)
    size = max(1, BLOCK_VOXELS // int(np.prod(detector.shower_shape)))
    result: dict[str, NDArray[np.float32]] = {}
    for start in range(0, len(batch), size):
        block = Block(batch[start : start + size], layout, threshold)
        for name, measure in measures.items():
            value = measure(block)
            if start == 0:
                result[name] = np.empty((len(batch), *value.shape[1:]), np.float32)
            result[name][start : start + len(value)] = value
    return result


def high_level_features(
    values: Mapping[str, NDArray[Any]], incident_energy: NDArray[Any]
) -> NDArray[np.float32]:
    """Table of high-level features for classifiers and Fréchet distances, one row per shower.

    Args:
        values: Result of `observe`.
        incident_energy: (N,) MeV.

    Returns:
        (N, k): log10 of the incident energy in MeV, every scalar, and the fraction of the energy and of
        the hits in each layer. Energies are given as log10(1 + E / MeV).
    """
    scalars = {name: value for name, value in values.items() if value.ndim == 1}
    for name in ("visible_energy", "hottest_energy"):
        scalars[name] = np.log10(1 + scalars[name])
    columns = [
        np.log10(incident_energy.astype(np.float64))[:, None],
        *(value[:, None] for value in scalars.values()),
        values["layer_fraction"],
        fractions(values["layer_hits"]),
    ]
    return np.concatenate(columns, axis=1).astype(np.float32)
