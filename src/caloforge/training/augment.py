"""Data augmentation: each shower is replaced by a random one of its mirror images and rotations."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from caloforge.conditions import Conditions
from caloforge.geometry import CylindricalMesh, Detector
from caloforge.models.symmetries import Symmetry, transformed, transformed_conditions
from caloforge.showers import ShowerBatch

# conditions that an operation changes
MOVED = ("theta", "phi", "impact_x", "impact_y")


def augment(
    batch: ShowerBatch, detector: Detector, group: tuple[Symmetry, ...], rng: np.random.Generator
) -> ShowerBatch:
    """Apply a random symmetry operation to each shower.

    Args:
        batch: N showers on a cartesian or cylindrical mesh.
        detector: Their detector.
        group: Symmetry group of the detector, from `symmetries`.
        rng: Random generator for the operations.
    """
    if len(group) == 1:
        return batch
    showers = batch.showers.copy()
    before = Conditions.of(batch)
    conditions = before[np.arange(len(batch))]
    choice = rng.integers(len(group), size=len(batch))
    cylindrical = isinstance(detector.mesh, CylindricalMesh)
    for index, operation in enumerate(group):
        rows = np.flatnonzero(choice == index)
        if not len(rows):
            continue
        if cylindrical:
            showers[rows] = _rotated(transformed(batch.showers[rows], operation), rng)
        else:
            showers[rows] = transformed(batch.showers[rows], operation)
        images = transformed_conditions(before[rows], operation, detector)
        for name in MOVED:
            getattr(conditions, name)[rows] = getattr(images, name)
    return conditions.with_showers(showers, batch.seconds)


def _rotated(showers: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Rotate each shower by a random number of azimuthal sectors."""
    nphi = showers.shape[2]
    order = (np.arange(nphi) + rng.integers(nphi, size=len(showers))[:, None]) % nphi
    return np.take_along_axis(showers, order[:, None, :, None], axis=2)
