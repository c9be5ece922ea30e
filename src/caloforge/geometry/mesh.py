"""The readout mesh: which voxels a shower is stored in."""

from __future__ import annotations

import itertools
import math
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from caloforge.config import StrictModel
from caloforge.units import Length

MAX_VOXELS = 20_000_000
# names of the two coordinates of an impact point
IMPACT = ("impact_x", "impact_y")
Count = Annotated[int, Field(ge=1, le=4096)]


def _positive_length(value: float) -> float:
    if not 1e-4 <= value <= 1e5:
        raise ValueError(f"got {value} mm, expected a length above 0, from 0.0001 mm to 100 m")
    return value


def _centres(n: int, size: float) -> NDArray[np.float64]:
    centres: NDArray[np.float64] = (np.arange(n, dtype=np.float64) + 0.5 - n / 2) * size
    return centres


class CartesianMesh(StrictModel):
    """Square or rectangular cells in a window centred on the shower axis.

    Showers have the shape (N, nz, ny, nx); cell (iy, ix) covers x in [(ix - nx/2), (ix + 1 - nx/2)] * cell_x.
    """

    kind: Literal["cartesian"] = "cartesian"
    nx: Count
    ny: Count
    cell_x: Length
    cell_y: Length
    layers_per_voxel: Count = 1

    _check = field_validator("cell_x", "cell_y")(_positive_length)

    def layer_shape(self) -> tuple[int, int]:
        """Voxels of one readout layer: (ny, nx)."""
        return self.ny, self.nx

    def half_extent(self) -> float:
        """Half of the larger transverse size of the mesh, mm."""
        return max(self.nx * self.cell_x, self.ny * self.cell_y) / 2

    def x_centres(self) -> NDArray[np.float64]:
        """Cell centres along x, mm, shape (nx,).

        Examples:
            >>> CartesianMesh(nx=3, ny=3, cell_x="5 mm", cell_y="5 mm").x_centres()
            array([-5.,  0.,  5.])
        """
        return _centres(self.nx, self.cell_x)

    def y_centres(self) -> NDArray[np.float64]:
        """Cell centres along y, mm, shape (ny,)."""
        return _centres(self.ny, self.cell_y)

    def x_edges(self) -> NDArray[np.float64]:
        """Cell edges along x, mm, shape (nx + 1,)."""
        return (np.arange(self.nx + 1, dtype=np.float64) - self.nx / 2) * self.cell_x

    def y_edges(self) -> NDArray[np.float64]:
        """Cell edges along y, mm, shape (ny + 1,)."""
        return (np.arange(self.ny + 1, dtype=np.float64) - self.ny / 2) * self.cell_y

    def positions(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """X and y of each voxel of a layer, mm; both of shape (ny, nx)."""
        y, x = np.meshgrid(self.y_centres(), self.x_centres(), indexing="ij")
        return x, y


class CylindricalMesh(StrictModel):
    """Rings and sectors around the shower axis (the virtual mesh of Par04).

    Showers have the shape (N, nz, nphi, nr); sector i covers phi in [-pi + i dphi, -pi + (i + 1) dphi].
    """

    kind: Literal["cylindrical"]
    nr: Count
    nphi: Count
    cell_r: Length
    layers_per_voxel: Count = 1

    _check = field_validator("cell_r")(_positive_length)

    def layer_shape(self) -> tuple[int, int]:
        """Voxels of one readout layer: (nphi, nr)."""
        return self.nphi, self.nr

    def half_extent(self) -> float:
        """Radius of the mesh, mm."""
        return self.nr * self.cell_r

    def positions(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """X = r cos(phi) and y = r sin(phi) of each voxel centre, mm; both of shape (nphi, nr)."""
        r = (np.arange(self.nr) + 0.5) * self.cell_r
        phi = (np.arange(self.nphi) + 0.5) * 2 * math.pi / self.nphi - math.pi
        return np.cos(phi)[:, None] * r, np.sin(phi)[:, None] * r


class RaggedLayer(StrictModel):
    """One layer of a ragged mesh: radial bin edges and the number of sectors."""

    id: int = Field(ge=0)
    r_edges: tuple[Length, ...]
    nphi: Count

    @field_validator("r_edges")
    @classmethod
    def _increasing(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if len(value) < 2 or any(b <= a for a, b in itertools.pairwise(value)) or value[0] < 0:
            raise ValueError(f"got r_edges {list(value)} mm, expected two or more rising radii from >= 0")
        return value

    @property
    def n_voxels(self) -> int:
        """Voxels of this layer, r fastest."""
        return (len(self.r_edges) - 1) * self.nphi


class RaggedMesh(StrictModel):
    """A mesh whose layers differ in binning (CaloChallenge data set 1); showers are flat, (N, n_voxels).

    The order is layer, then phi, then r (r fastest), as in the CaloChallenge files.
    """

    kind: Literal["ragged"]
    layers: tuple[RaggedLayer, ...] = Field(min_length=1)

    @property
    def n_voxels(self) -> int:
        """Voxels of the whole mesh."""
        return sum(layer.n_voxels for layer in self.layers)

    def half_extent(self) -> float:
        """Largest radius, mm."""
        return max(layer.r_edges[-1] for layer in self.layers)

    def slices(self) -> list[slice]:
        """The slice of each layer in a flat shower."""
        ends = np.cumsum([layer.n_voxels for layer in self.layers])
        return [
            slice(int(end) - layer.n_voxels, int(end)) for end, layer in zip(ends, self.layers, strict=True)
        ]


Mesh = Annotated[CartesianMesh | CylindricalMesh | RaggedMesh, Field(discriminator="kind")]


def impact_limits(mesh: Mesh) -> tuple[float, float]:
    """Largest distance of an impact point from the axis along x and y, mm.

    Half a cell: beyond it the window of a cartesian mesh would be centred on another cell. 0 for other
    meshes, whose rings lie around the impact point.
    """
    return (mesh.cell_x / 2, mesh.cell_y / 2) if isinstance(mesh, CartesianMesh) else (0.0, 0.0)
