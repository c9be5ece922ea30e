"""Data augmentation: each shower is replaced by a random one of its mirror images and rotations."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from caloforge.geometry import CylindricalMesh, Detector
from caloforge.models.symmetries import Symmetry, transformed
from caloforge.showers import ShowerBatch


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
    theta, phi = batch.incident_theta.copy(), batch.incident_phi.copy()
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
        # cos(theta) points along y and phi leans to x: swapping happens for orthogonal incidence only
        if operation.flip_y and not cylindrical:
            theta[rows] = np.float32(np.pi) - theta[rows]
        if operation.flip_x:
            phi[rows] = -phi[rows]
    return ShowerBatch(showers, batch.incident_energy, theta, phi, batch.pdg_id, batch.seconds)


def _rotated(showers: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Rotate each shower by a random number of azimuthal sectors."""
    nphi = showers.shape[2]
    order = (np.arange(nphi) + rng.integers(nphi, size=len(showers))[:, None]) % nphi
    return np.take_along_axis(showers, order[:, None, :, None], axis=2)
