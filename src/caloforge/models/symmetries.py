"""Symmetry operations (reflections and rotations) of a detector together with its beam."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from caloforge.beam import ANGLE_SLACK
from caloforge.conditions import Conditions
from caloforge.geometry import CartesianMesh, CylindricalMesh, Detector
from caloforge.models.training_metadata import IMPACT_SLACK, TrainedRange

Scalar = TypeVar("Scalar", bound=np.generic)


@dataclass(frozen=True)
class Symmetry:
    """A symmetry operation: reflection in x, reflection in y, exchange of x and y, in this order.

    On a cylindrical mesh `flip_y` reflects phi; the others are not used.
    """

    flip_x: bool = False
    flip_y: bool = False
    swap: bool = False


def symmetries(detector: Detector, ranges: TrainedRange) -> tuple[Symmetry, ...]:
    """The symmetry group of a detector and the range of its incident directions; the identity is first.

    An operation transforms the incident direction and the impact point with the shower, see
    `transformed_conditions`, so that it is a symmetry only if their ranges are invariant: all eight for
    orthogonal incidence on square cells; reflections only for an inclination in the y-z plane, that in y only
    if the range of theta is symmetric about 90 deg.

    Args:
        detector: The detector.
        ranges: Range of the conditions in the training data.
    """
    mesh = detector.mesh
    if not isinstance(mesh, CartesianMesh | CylindricalMesh):
        return (Symmetry(),)
    theta, phi = np.array(ranges.theta) - np.pi / 2, np.array(ranges.phi)
    straight = max(np.abs(theta).max(), np.abs(phi).max()) < ANGLE_SLACK
    if isinstance(mesh, CylindricalMesh):
        # rotations by whole sectors are added by `cell_images`
        return (Symmetry(), Symmetry(flip_y=True)) if straight else (Symmetry(),)
    both = [False, True]
    impact_x, impact_y = np.array(ranges.impact_x), np.array(ranges.impact_y)
    in_x = both if abs(phi.sum()) < ANGLE_SLACK and abs(impact_x.sum()) < IMPACT_SLACK else [False]
    in_y = both if abs(theta.sum()) < ANGLE_SLACK and abs(impact_y.sum()) < IMPACT_SLACK else [False]
    square = mesh.nx == mesh.ny and mesh.cell_x == mesh.cell_y
    square &= bool(np.abs(impact_x - impact_y).max() < IMPACT_SLACK)
    swaps = both if straight and square else [False]
    return tuple(Symmetry(x, y, swap) for swap in swaps for y in in_y for x in in_x)


def transformed(showers: NDArray[Scalar], operation: Symmetry) -> NDArray[Scalar]:
    """Apply an operation to showers (..., ny, nx), or (..., nphi, nr), where `flip_y` reflects phi."""
    if operation.flip_x:
        showers = showers[..., ::-1]
    if operation.flip_y:
        showers = showers[..., ::-1, :]
    return showers.swapaxes(-1, -2) if operation.swap else showers


def transformed_conditions(conditions: Conditions, operation: Symmetry, detector: Detector) -> Conditions:
    """The conditions of showers after an operation: directions and impact points move with the showers.

    On a cylindrical mesh, whose axis the showers follow, they stay what they are.
    """
    if isinstance(detector.mesh, CylindricalMesh):
        return conditions
    theta, phi, x, y = conditions.theta, conditions.phi, conditions.impact_x, conditions.impact_y
    # phi leans to x, and cos(theta) points along y; x and y are exchanged for orthogonal incidence only
    if operation.flip_x:
        phi, x = -phi, -x
    if operation.flip_y:
        theta, y = theta.dtype.type(np.pi) - theta, -y
    if operation.swap:
        x, y = y, x
    return replace(conditions, theta=theta, phi=phi, impact_x=x, impact_y=y)


def cell_images(detector: Detector, group: tuple[Symmetry, ...]) -> NDArray[np.int64]:
    """The image of each cell under each operation, (operations, cells), flat indices.

    On a cylindrical mesh each operation is combined with all rotations by whole sectors.

    Args:
        detector: The detector.
        group: From `symmetries`.
    """
    shape = detector.shower_shape
    cells = np.arange(np.prod(shape)).reshape(shape)
    sources = [transformed(cells, operation) for operation in group]
    if isinstance(detector.mesh, CylindricalMesh) and len(group) > 1:
        sources = [np.roll(grid, turn, axis=1) for grid in sources for turn in range(detector.mesh.nphi)]
    # `sources` holds the cell that is moved to each place; its inverse permutation is the image of each cell
    return np.stack([np.argsort(grid.ravel()) for grid in sources])
