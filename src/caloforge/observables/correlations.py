"""Two-point function of the voxels of a shower, and correlation matrices of observables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caloforge.geometry import CartesianMesh, CylindricalMesh, Mesh, RaggedMesh

Array = NDArray[np.float64]

# largest shift of the two-point function, cells
MAX_SHIFT = 5
#: the "small" correlation matrix of the 3DGAN analysis
CORRELATION_SET = (
    "centre_x", "centre_y", "centre_z", "width_x", "width_y", "width_z",
    "visible_energy", "incident_energy", "hits", "r1", "r2", "r3",
)  # fmt: skip


def two_point(showers: NDArray[Any], mesh: Mesh) -> dict[str, Array]:
    r"""Two-point function: overlap of a shower with itself, shifted by 1 to 5 voxels along each axis.

    .. math:: \sum_c\,\sqrt{E_c\,E_{c+d}} \,/\, \sum_c\,E_c

    is 1 for a shower that is constant along the axis, 0 for one in which no two voxels at this distance hold
    energy. The square root reduces the weight of the core; the energy scale cancels. It decreases when voxels
    of a layer are permuted or noisy while all spectra stay the same.

    Args:
        showers: (N, nz, ny, nx), (N, nz, nphi, nr) or (N, n_voxels), MeV. Negative voxels count as empty.
        mesh: The mesh of the showers.

    Returns:
        `x`, `y`, `z` and the mean of both diagonals `xy` (first shift only) on a cartesian mesh; `r`, `phi`
        (closed around the axis, up to half of it), `z` on a cylindrical one; `r`, `phi` on a ragged one. Each
        (N, shifts), with shifts up to 5 or the axis' length less one; zero for empty showers.
    """
    root = np.sqrt(np.maximum(showers, 0))
    total = np.einsum("ni,ni->n", root.reshape(len(root), -1), root.reshape(len(root), -1))
    scale = np.divide(1.0, total, out=np.zeros(len(root)), where=total > 0)[:, None]
    if isinstance(mesh, RaggedMesh):
        sums = _ragged_overlaps(root, mesh)
    else:
        names = ("z", "y", "x") if isinstance(mesh, CartesianMesh) else ("z", "phi", "r")
        sums = {name: _overlaps(root, axis, name == "phi") for axis, name in enumerate(names, start=1)}
    if isinstance(mesh, CartesianMesh):
        one, other = root[:, :, 1:, 1:], root[:, :, :-1, :-1]
        up, down = root[:, :, 1:, :-1], root[:, :, :-1, 1:]
        sums["xy"] = (_dot(one, other) + _dot(up, down))[:, None] / 2
    return {name: value * scale for name, value in sums.items()}


def shifts(mesh: Mesh, nz: int) -> dict[str, int]:
    """Number of shifts of each axis of `two_point`."""
    if isinstance(mesh, CartesianMesh):
        return {"z": _count(nz), "y": _count(mesh.ny), "x": _count(mesh.nx), "xy": 1}
    if isinstance(mesh, CylindricalMesh):
        return {"z": _count(nz), "phi": _count(mesh.nphi, True), "r": _count(mesh.nr)}
    return {
        "r": max(_count(len(layer.r_edges) - 1) for layer in mesh.layers),
        "phi": max(_count(layer.nphi, True) for layer in mesh.layers),
    }


def _count(length: int, closed: bool = False) -> int:
    # on a circle, shifts beyond half the circumference repeat
    return min(MAX_SHIFT, length // 2 if closed else length - 1)


def _dot(one: NDArray[Any], other: NDArray[Any]) -> Array:
    product: Array = np.einsum("nzab,nzab->n", one, other).astype(np.float64)
    return product


def _overlaps(root: NDArray[Any], axis: int, closed: bool) -> Array:
    """Sums over pairs of voxels at each shift along one axis, (N, shifts)."""
    length = root.shape[axis]
    moved = np.moveaxis(root, axis, -1)
    columns = []
    for shift in range(1, _count(length, closed) + 1):
        column = _dot(moved[..., shift:], moved[..., :-shift])
        if closed:
            column = column + _dot(moved[..., :shift], moved[..., -shift:])
        columns.append(column)
    return np.stack(columns, axis=1) if columns else np.zeros((len(root), 0))


def _ragged_overlaps(root: NDArray[Any], mesh: RaggedMesh) -> dict[str, Array]:
    result = {name: np.zeros((len(root), count)) for name, count in shifts(mesh, 0).items()}
    for layer, part in zip(mesh.layers, mesh.slices(), strict=True):
        voxels = root[:, part].reshape(len(root), 1, layer.nphi, -1)
        for name, axis in (("phi", 2), ("r", 3)):
            sums = _overlaps(voxels, axis, name == "phi")
            result[name][:, : sums.shape[1]] += sums
    return result


@dataclass(frozen=True)
class Correlations:
    """Pearson correlations of k observables over many showers, all (k, k).

    Attributes:
        r: Correlation coefficients; 0 for a constant observable.
        z: Fisher's arctanh(r); 0 on the diagonal.
        uncertainty: Standard error of z.
    """

    r: Array
    z: Array
    uncertainty: Array

    def pulls(self, other: Correlations) -> Array:
        """Other minus this, in standard errors of the difference of z; (k, k), 0 on the diagonal."""
        error = np.hypot(self.uncertainty, other.uncertainty)
        return np.divide(other.z - self.z, error, out=np.zeros_like(error), where=error > 0)

    def mean_difference(self, other: Correlations) -> float:
        """Mean absolute difference of r over the pairs, as the 3DGAN analysis quotes it."""
        lower = np.tril_indices(len(self.r), -1)
        return float(np.abs(self.r - other.r)[lower].mean()) if len(lower[0]) else 0.0


def correlations(columns: NDArray[Any]) -> Correlations:
    r"""Correlation matrix with Fisher's transform and uncertainties that hold for any distribution.

    For normal variables the standard error of z is 1/sqrt(n - 3) (Fisher 1921). Observables of showers with a
    flat energy spectrum are far from normal: the error is computed from the fourth moments instead (delta
    method, standardised u and v):

    .. math:: \mathrm{var}(z) = \frac{\langle (uv - r (u^2 + v^2) / 2)^2 \rangle}{(n - 3) (1 - r^2)^2}

    Args:
        columns: (n, k) one row a shower, n at least 4.

    Raises:
        ValueError: Fewer than 4 showers.
    """
    n = len(columns)
    if n < 4:
        raise ValueError(f"got {n} showers, expected at least 4 for correlations")
    values = columns.astype(np.float64)
    values = values - values.mean(axis=0)
    spread = np.sqrt((values**2).mean(axis=0))
    u = np.divide(values, spread, out=np.zeros_like(values), where=spread > 0)
    # z is infinite for |r| = 1
    r = np.clip(u.T @ u / n, -1 + 1e-9, 1 - 1e-9)
    np.fill_diagonal(r, 0.0)
    square, mixed = (u**2).T @ u**2 / n, (u**3).T @ u / n
    fourth = np.diag(square)
    variance = square - r * (mixed + mixed.T) + r**2 / 4 * (fourth[:, None] + fourth + 2 * square)
    error = np.sqrt(np.maximum(variance, 0.0) / (n - 3)) / (1 - r**2)
    z = np.arctanh(r)
    np.fill_diagonal(error, 0.0)
    np.fill_diagonal(r, np.where(spread > 0, 1.0, 0.0))
    return Correlations(r, z, error)
