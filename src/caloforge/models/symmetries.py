"""Mirror images and turns that leave a detector and its beam as they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from caloforge.geometry import CartesianMesh, CylindricalMesh, Detector
from caloforge.models.training_metadata import ANGLE_SLACK, TrainedRange

Scalar = TypeVar("Scalar", bound=np.generic)


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


def moved(showers: NDArray[Scalar], operation: Symmetry) -> NDArray[Scalar]:
    """Showers (..., ny, nx), or (..., nphi, nr) where phi is mirrored by `flip_y`, after an operation."""
    if operation.flip_x:
        showers = showers[..., ::-1]
    if operation.flip_y:
        showers = showers[..., ::-1, :]
    return showers.swapaxes(-1, -2) if operation.swap else showers


def cell_images(detector: Detector, group: tuple[Symmetry, ...]) -> NDArray[np.int64]:
    """Where each cell goes: (operations, cells), flat indices; for a cylinder every operation by every turn.

    Args:
        detector: Gives the mesh.
        group: From `symmetries`.
    """
    shape = detector.shower_shape
    cells = np.arange(np.prod(shape)).reshape(shape)
    taken = [moved(cells, operation) for operation in group]
    if isinstance(detector.mesh, CylindricalMesh) and len(group) > 1:
        taken = [np.roll(grid, turn, axis=1) for grid in taken for turn in range(detector.mesh.nphi)]
    # taken says which cell comes here; the inverse, where it goes
    return np.stack([np.argsort(grid.ravel()) for grid in taken])
