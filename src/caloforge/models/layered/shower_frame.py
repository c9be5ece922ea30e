"""The frame of an inclined or displaced shower: in each layer a window of whole cells around its axis.

The axis crosses layer l at a point of the mesh, which is split into a whole cell and a remainder (f_x, f_y)
of at most half a cell, Eq. 21. The window is centred on that cell, so that rings, radial bins and couplings
of neighbours follow the shower. What depends on remainder and direction is a polynomial of their components,
Eq. 22. Images of a cell under reflections and rotations of the lattice share its coefficients, as remainder
and direction are reflected and rotated with them.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from caloforge.beam import ANGLE_SLACK
from caloforge.geometry import CartesianMesh, Detector
from caloforge.models.base import Condition
from caloforge.models.layered.constants import LARGEST_GROWTH, LEAST_SLOPE, ROUNDING
from caloforge.models.layered.geometry import LayerGeometry
from caloforge.models.training_metadata import TrainedRange

# cells by which a window is wider than the mesh, on each side: of an axis beside the centre of the mesh there
# are cells further away than half of the mesh
MARGIN = 2


@dataclass(frozen=True)
class AxisPosition:
    """Where the axes of N showers cross the layers.

    Attributes:
        cell: (N, layers, 2) column and row of the cell of the mesh that the axis crosses, int64; it may lie
            outside of the mesh.
        remainder: (N, layers, 2) the rest, x and y, in half cells: -1 to 1.
        slope: (N, 2) slopes along x and y over the largest that was trained, 0 if all showers are orthogonal.
        inclination: (N,) length of the track over that of a normal one, 1 / cos alpha.
    """

    cell: Tensor
    remainder: Tensor
    slope: Tensor
    inclination: Tensor

    def direction(self) -> Tensor:
        """Unit vectors along the inclination, (N, 2); along x where there is none."""
        size = self.slope.square().sum(1, keepdim=True).sqrt()
        along_x = torch.tensor([1.0, 0.0], device=size.device)
        return torch.where(size > LEAST_SLOPE, self.slope / size.clamp_min(LEAST_SLOPE), along_x)


class ShowerFrame(nn.Module):
    """Axes of showers, and windows of cells around them.

    Attributes:
        inclined: Whether the trained directions include inclined ones.
        reach: Cells on either side of the centre of a window, (columns, rows).
        inclinations: Least and largest trained `AxisPosition.inclination`.
        largest_slope: Largest trained slope.
    """

    depth: Tensor
    centre: Tensor
    cell_size: Tensor

    def __init__(self, detector: Detector, ranges: TrainedRange, half: int | None = None) -> None:
        """The frame of showers in a cartesian mesh.

        Args:
            detector: With the mesh.
            ranges: Trained conditions.
            half: Cells on either side of the centre of a window; by default, and at most, half of the mesh
                and `MARGIN`.
        """
        super().__init__()
        mesh = detector.mesh
        assert isinstance(mesh, CartesianMesh)
        self.rows, self.columns = mesh.layer_shape()
        widest = (self.columns // 2 + MARGIN, self.rows // 2 + MARGIN)
        self.reach = widest if half is None else (min(half, widest[0]), min(half, widest[1]))
        depth = detector.active_depths() - detector.layer_fronts()[detector.axis_layer]
        self.register_buffer("depth", torch.from_numpy(depth), persistent=False)
        centre = [(self.columns - 1) / 2, (self.rows - 1) / 2]
        self.register_buffer("centre", torch.tensor(centre, dtype=torch.float64), persistent=False)
        sizes = torch.tensor([mesh.cell_x, mesh.cell_y], dtype=torch.float64)
        self.register_buffer("cell_size", sizes, persistent=False)
        corners = np.array(list(itertools.product(ranges.theta, ranges.phi, (0.0,))))
        slopes = _slopes(*torch.from_numpy(corners).T[:2])
        self.inclined = bool(slopes.abs().max() > ANGLE_SLACK)
        self.largest_slope = float(slopes.abs().max()) if self.inclined else 1.0
        straightest = [
            min(max(low, x), high) for (low, high), x in ((ranges.theta, math.pi / 2), (ranges.phi, 0.0))
        ]
        nearest = _slopes(*torch.tensor(straightest, dtype=torch.float64)[:, None])
        ends = [(1 + part.square().sum(1)).sqrt() for part in (nearest, slopes)]
        self.inclinations = (float(ends[0].min()), float(ends[1].max()))

    def position(self, condition: Condition) -> AxisPosition:
        """Where the axes of showers cross the layers, Eq. 21."""
        # in double precision, since a rounding may select another cell
        slope = _slopes(condition.theta.double(), condition.phi.double())
        axis = self.centre + slope[:, None] * self.depth[:, None] / self.cell_size
        impact = torch.stack([condition.impact_x, condition.impact_y], dim=1).double()
        axis = axis + (impact / self.cell_size)[:, None]
        cell = (axis + 0.5 + ROUNDING).floor()
        return AxisPosition(
            cell=cell.long(),
            remainder=(2 * (axis - cell)).float(),
            slope=(slope / self.largest_slope).float() * float(self.inclined),
            inclination=(1 + slope.square().sum(1)).sqrt().float(),
        )

    def feature_ranges(self, ranges: TrainedRange) -> TrainedRange:
        """Conditions of the layer sampler: the inclination takes the place of theta and phi."""
        return ranges.model_copy(update={"theta": self.inclinations, "phi": (0.0, 0.0)})

    def windows(self, showers: Tensor, position: AxisPosition) -> Tensor:
        """Windows of showers, (N, layers, window cells).

        Args:
            showers: (N, layers, rows, columns); cells outside of the mesh are 0 in the window.
            position: Of the axes.
        """
        x, y = (self._places(position, axis, inwards=True) for axis in (0, 1))
        index = (
            y.clamp(0, self.rows - 1)[..., :, None] * self.columns
            + x.clamp(0, self.columns - 1)[..., None, :]
        )
        return showers.flatten(2).gather(2, index.flatten(2)) * self.available(position)

    def available(self, position: AxisPosition) -> Tensor:
        """Which cells of the windows are in the mesh, 1 or 0, (N, layers, window cells)."""
        x, y = (self._places(position, axis, inwards=True) for axis in (0, 1))
        inside_x, inside_y = (x >= 0) & (x < self.columns), (y >= 0) & (y < self.rows)
        return (inside_y[..., :, None] & inside_x[..., None, :]).flatten(2).float()

    def showers(self, windows: Tensor, position: AxisPosition) -> Tensor:
        """Showers (N, layers, rows, columns) from windows (N, layers, window cells); 0 outside of these."""
        x, y = (self._places(position, axis, inwards=False) for axis in (0, 1))
        width, height = (2 * half + 1 for half in self.reach)
        inside = ((y >= 0) & (y < height))[..., :, None] & ((x >= 0) & (x < width))[..., None, :]
        index = y.clamp(0, height - 1)[..., :, None] * width + x.clamp(0, width - 1)[..., None, :]
        found = windows.gather(2, index.flatten(2)).view(index.shape)
        showers: Tensor = found * inside.to(windows.dtype)
        return showers

    def _places(self, position: AxisPosition, axis: int, *, inwards: bool) -> Tensor:
        """Place in the mesh of each column or row of the windows, or the other way round, (N, layers, n)."""
        half, cell = self.reach[axis], position.cell[..., axis, None]
        if inwards:
            places: Tensor = torch.arange(2 * half + 1, device=cell.device) - half + cell
        else:
            places = torch.arange((self.columns, self.rows)[axis], device=cell.device) + half - cell
        return places


def _slopes(theta: Tensor, phi: Tensor) -> Tensor:
    """Slopes dx/dz and dy/dz of directions, (N, 2)."""
    return torch.stack([phi.sin() / phi.cos(), theta.cos() / (theta.sin() * phi.cos())], dim=1)


def follows_axis(detector: Detector, ranges: TrainedRange) -> bool:
    """Whether showers are inclined, displaced or between cells, so that they need a frame of their own."""
    mesh = detector.mesh
    if not isinstance(mesh, CartesianMesh):
        return False
    angles = np.abs(np.array([*ranges.theta, *ranges.phi]) - np.repeat([math.pi / 2, 0.0], 2))
    impacts = np.abs([*ranges.impact_x, *ranges.impact_y])
    return bool(angles.max() > ANGLE_SLACK or impacts.max() > ANGLE_SLACK * min(mesh.cell_x, mesh.cell_y))


# ---- cells of a window


@dataclass(frozen=True)
class CellImages:
    """The cells of a window as images of one cell of their symmetry class.

    Attributes:
        operations: (operations, 2, 2) reflections and rotations of the lattice as matrices; rotations first.
        operation: (m,) the operation that leads from the first cell of the class to each cell.
        first: (classes, 2) x and y of the first cell of each class, x >= y >= 0.
    """

    operations: NDArray[np.int64]
    operation: NDArray[np.int64]
    first: NDArray[np.int64]


def window_geometry(
    detector: Detector, half: tuple[int, int], radial_bins: tuple[int, ...]
) -> tuple[LayerGeometry, CellImages]:
    """The cells of a window: rings and radial bins around its centre.

    Cells that a symmetry of the lattice maps to each other are one class, whatever the directions of the
    showers are, as their directions are turned with them.

    Args:
        detector: With a cartesian mesh.
        half: Cells on either side of the centre, (columns, rows).
        radial_bins: First ring of each radial bin.
    """
    mesh = detector.mesh
    assert isinstance(mesh, CartesianMesh)
    width, height = (2 * n + 1 for n in half)
    y, x = np.indices((height, width)).reshape(2, -1) - np.array([[half[1]], [half[0]]])
    square = mesh.cell_x == mesh.cell_y and width == height
    ring = np.maximum(np.abs(x), np.abs(y))
    starts = [start for start in radial_bins if start <= ring.max()]
    radial_bin = np.searchsorted(starts, ring, side="right") - 1
    corner = np.sort(np.abs([x, y]), axis=0)[::-1] if square else np.abs([x, y])
    first, symmetry_class = np.unique(corner, axis=1, return_inverse=True)
    operations = _operations(square=square)
    images = np.einsum("oij,jm->oim", operations, first[:, symmetry_class.reshape(-1)])
    operation = (images == np.stack([x, y])).all(axis=1).argmax(axis=0)
    place = np.stack([x * mesh.cell_x, y * mesh.cell_y])
    distance = np.hypot(*place)
    geometry = LayerGeometry(
        rows=height,
        columns=width,
        circular=False,
        ring=ring,
        radial_bin=radial_bin,
        radial_bin_sizes=np.bincount(radial_bin),
        symmetry_class=symmetry_class.reshape(-1),
        direction=(place / np.where(distance > 0, distance, 1.0)).astype(np.float32),
        distance=np.maximum(ring, 0.5),
        area=np.ones(len(ring)),
        mirrors=(True, True),
        transposable=square,
    )
    return geometry, CellImages(operations, operation, first.T)


def _operations(*, square: bool) -> NDArray[np.int64]:
    """(8 or 4, 2, 2) the symmetries of a lattice of square, or rectangular, cells."""
    turns = [np.linalg.matrix_power(np.array([[0, -1], [1, 0]]), k) for k in range(4)]
    rotations = turns if square else turns[::2]
    return np.stack([*rotations, *(turn @ np.diag([-1, 1]) for turn in rotations)])


# ---- polynomial of remainder and direction


class AxisTerms(nn.Module):
    """Terms of the polynomials of Eq. 22 for each operation, and their values for cells.

    Attributes:
        count: Number K of terms.
    """

    operations: Tensor
    averages: Tensor
    places: Tensor

    def __init__(
        self, geometry: LayerGeometry, images: CellImages, *, inclined: bool, place_by_energy: bool = False
    ) -> None:
        """Prepare the cells of a window.

        Args:
            geometry: Of the window.
            images: Likewise.
            inclined: Whether there are terms of the direction.
            place_by_energy: Whether terms of the place are there also times the energy argument.
        """
        super().__init__()
        self.parts = {"inclined": inclined, "place_by_energy": place_by_energy}
        operations = torch.from_numpy(images.operations).float()
        self.register_buffer("operations", operations, persistent=False)
        averages = _averages(images, self.parts)
        self.count = averages.shape[1]
        self.register_buffer("averages", torch.from_numpy(averages).float(), persistent=False)
        places = images.operation * geometry.symmetry_classes + geometry.symmetry_class
        self.register_buffer("places", torch.from_numpy(places), persistent=False)

    def forward(self, position: AxisPosition, growth: Tensor, energy_argument: Tensor) -> Tensor:
        """Terms in the frame of each operation, (operations, N, layers, count).

        Args:
            position: Of the axes.
            growth: (N, layers) change of the logarithm of the energy from layer to layer.
            energy_argument: (N,).
        """
        # the inverse of an operation is its transpose
        remainder = torch.einsum("oij,nli->onlj", self.operations, position.remainder)
        slope = torch.einsum("oij,ni->onj", self.operations, position.slope)
        slope = slope[:, :, None].expand_as(remainder)
        return _terms(remainder, slope, growth, energy_argument[:, None], **self.parts)

    def values(self, terms: Tensor, weights: Tensor) -> Tensor:
        """Polynomials of the cells, (N, layers, cells).

        Args:
            terms: (operations, N, layers, count).
            weights: (count, layers, classes).
        """
        count, shape = len(terms), terms.shape[1:3]
        # (layers, operations * N, count) @ (layers, count, classes)
        per_layer = terms.permute(2, 0, 1, 3).flatten(1, 2)
        values = per_layer @ self.averaged(weights).transpose(0, 1)
        values = values.view(shape[1], count, shape[0], -1).permute(2, 0, 1, 3).flatten(2)
        return values.index_select(2, self.places)

    def averaged(self, weights: Tensor) -> Tensor:
        """Weights (count, layers, classes), averaged over the operations that do not move the first cell."""
        return torch.einsum("ckj,jlc->klc", self.averages, weights)

    def sums(self, terms: Tensor, field: Tensor) -> Tensor:
        """Sums over cells of a field times the terms, means over showers, (count, layers, classes).

        Args:
            terms: (operations, N, layers, count).
            field: (N, layers, cells).
        """
        found = torch.einsum("onlk,nloc->klc", terms, self.by_operation(field)) / len(field)
        return torch.einsum("ckj,klc->jlc", self.averages, found)

    def by_operation(self, field: Tensor) -> Tensor:
        """Values of cells (N, layers, cells) by operation and class, (N, layers, operations, classes)."""
        shape = (*field.shape[:2], len(self.operations), self.averages.shape[0])
        found = field.new_zeros(*field.shape[:2], shape[2] * shape[3]).index_add_(2, self.places, field)
        return found.view(shape)


def _terms(
    remainder: Tensor,
    slope: Tensor,
    growth: Tensor,
    energy_argument: Tensor,
    *,
    inclined: bool,
    place_by_energy: bool,
) -> Tensor:
    """Terms (..., layers, count) of components along and across, (..., layers, 2) each."""
    a, b = remainder.unbind(-1)
    place = [a, b, a * a, a * b, b * b, a * a * a, a * a * b, a * b * b, b * b * b]
    terms = list(place)
    if inclined:
        c, d = slope.unbind(-1)
        terms += [c, d, c * c, c * d, d * d, growth * c, growth * d, energy_argument * c, energy_argument * d]
    if place_by_energy:
        terms += [energy_argument * term for term in place]
    return torch.stack(terms, dim=-1)


def _averages(images: CellImages, parts: dict[str, bool]) -> NDArray[np.float64]:
    """(classes, count, count) averages of weights over the operations that leave the first cell in place."""
    samples = torch.rand((64, 6), generator=torch.Generator().manual_seed(0), dtype=torch.float64) - 0.5
    remainder, slope, (growth, energy_argument) = samples[:, :2], samples[:, 2:4], samples[:, 4:].T

    def terms(operation: NDArray[np.int64]) -> NDArray[np.float64]:
        turn = torch.from_numpy(operation).double()
        return _terms(remainder @ turn, slope @ turn, growth, energy_argument, **parts).numpy()

    plain = terms(np.eye(2, dtype=np.int64))
    # an operation changes sign and order of the terms only
    changes = [np.rint(np.linalg.lstsq(plain, terms(one), rcond=None)[0]) for one in images.operations]
    stays = (np.einsum("oij,cj->oci", images.operations, images.first) == images.first).all(axis=2)
    averages: NDArray[np.float64] = np.einsum("oc,okj->ckj", stays / stays.sum(axis=0), np.stack(changes))
    return averages


def growth(layer_energy: Tensor, median_energy: Tensor) -> Tensor:
    """Change of the logarithm of the energy from layer to layer, (N, layers), limited.

    The plane of a layer cuts an inclined shower earlier on one side of the axis than on the other.

    Args:
        layer_energy: (N, layers) MeV.
        median_energy: (), added to each layer, MeV.
    """
    logs = (layer_energy + median_energy).log()
    ends = torch.cat([logs[:, :1], logs, logs[:, -1:]], dim=1)
    return ((ends[:, 2:] - ends[:, :-2]) / 2).clamp(-LARGEST_GROWTH, LARGEST_GROWTH)
