"""Mirror images and turns that leave a detector as it is: eight for the price of one shower."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from caloforge.geometry import CartesianMesh, CylindricalMesh, Detector
from caloforge.models.facts import ANGLE_SLACK, TrainedRange
from caloforge.showers import ShowerBatch


@dataclass(frozen=True)
class Symmetry:
    """Mirror in x, mirror in y, swap x and y, in this order (cartesian); mirror and turn (cylindrical)."""

    flip_x: bool = False
    flip_y: bool = False
    swap: bool = False


def symmetries(detector: Detector, ranges: TrainedRange) -> tuple[Symmetry, ...]:
    """The operations under which detector and beam stay what they are; the first changes nothing.

    The incident direction moves with the shower, so that an operation counts only where the conditions it
    leads to were trained on too: all eight for orthogonal incidence on square cells; mirrors alone for an
    inclination in the y-z plane, the one in y only where theta is symmetric about 90 deg.

    Args:
        detector: Gives the mesh.
        ranges: The conditions of the training data.
    """
    mesh = detector.mesh
    if not isinstance(mesh, CartesianMesh | CylindricalMesh):
        return (Symmetry(),)
    theta, phi = np.array(ranges.theta) - np.pi / 2, np.array(ranges.phi)
    straight = max(np.abs(theta).max(), np.abs(phi).max()) < ANGLE_SLACK
    if isinstance(mesh, CylindricalMesh):
        # turns by whole sectors are drawn beside the mirror
        return (Symmetry(), Symmetry(flip_y=True)) if straight else (Symmetry(),)
    both = [False, True]
    in_x = both if abs(phi.sum()) < ANGLE_SLACK else [False]
    in_y = both if abs(theta.sum()) < ANGLE_SLACK else [False]
    square = mesh.nx == mesh.ny and mesh.cell_x == mesh.cell_y
    swaps = both if straight and square else [False]
    return tuple(Symmetry(x, y, swap) for swap in swaps for y in in_y for x in in_x)


def augment(
    batch: ShowerBatch, detector: Detector, group: tuple[Symmetry, ...], rng: np.random.Generator
) -> ShowerBatch:
    """Each shower in a random one of its images.

    Args:
        batch: N showers on a cartesian or cylindrical mesh.
        detector: Their detector.
        group: From `symmetries`.
        rng: Draws the operations.
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
            showers[rows] = _turned(batch.showers[rows], operation, rng)
        else:
            showers[rows] = _moved(batch.showers[rows], operation)
        # cos(theta) points along y and phi leans to x: swapping happens for orthogonal incidence only
        if operation.flip_y and not cylindrical:
            theta[rows] = np.float32(np.pi) - theta[rows]
        if operation.flip_x:
            phi[rows] = -phi[rows]
    return ShowerBatch(showers, batch.incident_energy, theta, phi, batch.pdg_id, batch.seconds)


def _moved(showers: NDArray[np.float32], operation: Symmetry) -> NDArray[np.float32]:
    if operation.flip_x:
        showers = showers[..., ::-1]
    if operation.flip_y:
        showers = showers[..., ::-1, :]
    return showers.swapaxes(-1, -2) if operation.swap else showers


def _turned(
    showers: NDArray[np.float32], operation: Symmetry, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Mirror phi to -phi where asked, then turn each shower by a random number of sectors."""
    if operation.flip_y:
        showers = showers[:, :, ::-1]
    nphi = showers.shape[2]
    order = (np.arange(nphi) + rng.integers(nphi, size=len(showers))[:, None]) % nphi
    return np.take_along_axis(showers, order[:, None, :, None], axis=2)
