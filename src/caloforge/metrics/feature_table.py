"""Input tables of the neural classifiers: one row per shower, sparse in memory, dense batches."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from caloforge.geometry import Mesh
from caloforge.observables.energy import layer_energies

Floats = NDArray[np.float32]
# added to the energy of a layer in logarithm and denominator (CaloChallenge)
LAYER_OFFSET = 1e-8
VOXEL_OFFSET = 1e-16


class Rows(Protocol):
    """A table of which rows are taken by index."""

    width: int

    def __len__(self) -> int: ...

    def take(self, index: NDArray[np.integer]) -> Floats:
        """Some rows, (b, width)."""
        ...


class DenseRows:
    """Rows of an array."""

    def __init__(self, table: NDArray[Any]) -> None:
        self._table: Floats = np.asarray(table, np.float32)
        self.width = self._table.shape[1]

    def __len__(self) -> int:
        return len(self._table)

    def take(self, index: NDArray[np.integer]) -> Floats:
        """Some rows, (b, width)."""
        rows: Floats = self._table[index]
        return rows


class SparseRows:
    """Rows of mostly empty voxels, with dense columns before and behind them.

    A shower takes 8 bytes for each filled voxel: 20 000 showers of 25 x 25 x 25 take about 0.4 GB, a third of
    the dense array.
    """

    def __init__(self, voxels: int) -> None:
        """An empty table.

        Args:
            voxels: Voxels of a shower.
        """
        self._voxels = voxels
        self._values: list[Floats] = []
        self._columns: list[NDArray[np.int32]] = []
        self._counts: list[NDArray[np.int64]] = []
        self._before: list[Floats] = []
        self._behind: list[Floats] = []

    def append(self, before: NDArray[Any], voxels: NDArray[Any], behind: NDArray[Any]) -> None:
        """Add rows: (n, a), (n, voxels) and (n, b)."""
        where = np.flatnonzero(voxels)
        self._values.append(voxels.ravel()[where].astype(np.float32))
        self._columns.append((where % self._voxels).astype(np.int32))
        self._counts.append(np.bincount(where // self._voxels, minlength=len(voxels)))
        self._before.append(before.astype(np.float32))
        self._behind.append(behind.astype(np.float32))

    def freeze(self) -> SparseRows:
        """Concatenate the blocks; afterwards rows can be taken."""
        for blocks in (self._values, self._columns, self._counts, self._before, self._behind):
            blocks[:] = [np.concatenate(blocks)]
        self._starts = np.concatenate([[0], np.cumsum(self._counts[0])])
        self.width = self._before[0].shape[1] + self._voxels + self._behind[0].shape[1]
        return self

    def __len__(self) -> int:
        return len(self._counts[0])

    def take(self, index: NDArray[np.integer]) -> Floats:
        """Some rows, (b, width)."""
        before, behind = self._before[0], self._behind[0]
        result = np.zeros((len(index), self.width), np.float32)
        result[:, : before.shape[1]] = before[index]
        result[:, before.shape[1] + self._voxels :] = behind[index]
        counts = self._counts[0][index]
        # positions of the filled voxels of all rows, one row after the other
        row = np.repeat(np.arange(len(index)), counts)
        inside = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
        source = np.repeat(self._starts[index], counts) + inside
        result[row, before.shape[1] + self._columns[0][source]] = self._values[0][source]
        return result


def low_level(blocks: Iterable[tuple[NDArray[Any], NDArray[Any]]], *, response: float = 1.0) -> SparseRows:
    """Input of the low-level classifier and of the ResNet: log10 E_inc, voxels / (response E_inc).

    The learning rate of the challenge suits voxels that sum to about 1. Visible energies over E_inc sum to a
    few percent, and the network hardly learns from them in 50 epochs: divide by the response.

    Args:
        blocks: Showers (n, ...) and their incident energies (n,), MeV; voxels below threshold set to 0.
        response: Mean visible over incident energy of the truth, for both samples; 1 for energies that are
            corrected for the sampling fraction.
    """

    def build(showers: NDArray[Any], energy: NDArray[Any]) -> tuple[Any, ...]:
        flat = showers.reshape(len(showers), -1)
        voxels = flat / (np.float32(response) * energy[:, None])
        return np.log10(energy)[:, None], voxels, np.zeros((len(flat), 0))

    return _collect(build(*block) for block in blocks)


def voxel_table(blocks: Iterable[tuple[NDArray[Any], NDArray[Any]]]) -> SparseRows:
    """Input of the CNN classifier: log10 E_inc, voxels in MeV.

    Args:
        blocks: Showers (n, ...) and their incident energies (n,), MeV.
    """

    def build(showers: NDArray[Any], energy: NDArray[Any]) -> tuple[Any, ...]:
        flat = showers.reshape(len(showers), -1)
        return np.log10(energy)[:, None], flat, np.zeros((len(flat), 0))

    return _collect(build(*block) for block in blocks)


def low_level_normed(blocks: Iterable[tuple[NDArray[Any], NDArray[Any]]], mesh: Mesh) -> SparseRows:
    """Input of the layer-normalised classifier: log10 E_inc, voxels / E_layer, log10 E_layer.

    Args:
        blocks: Showers (n, ...) and their incident energies (n,), MeV; voxels below threshold set to 0.
        mesh: Mesh of the showers.
    """

    def build(showers: NDArray[Any], energy: NDArray[Any]) -> tuple[Any, ...]:
        layers = layer_energies(showers, mesh)
        flat = showers.reshape(len(showers), -1)
        per_voxel = layers[:, layer_of_voxel(mesh, layers.shape[1], flat.shape[1])]
        voxels = flat / (per_voxel + VOXEL_OFFSET)
        return np.log10(energy)[:, None], voxels, np.log10(layers + LAYER_OFFSET)

    return _collect(build(*block) for block in blocks)


def layer_of_voxel(mesh: Mesh, layers: int, voxels: int) -> NDArray[np.int64]:
    """Readout layer of each voxel of a flattened shower, (voxels,)."""
    if mesh.kind == "ragged":
        return np.repeat(np.arange(layers), [layer.n_voxels for layer in mesh.layers])
    return np.repeat(np.arange(layers), voxels // layers)


def _collect(parts: Iterable[tuple[Any, ...]]) -> SparseRows:
    rows: SparseRows | None = None
    for before, voxels, behind in parts:
        rows = rows or SparseRows(voxels.shape[1])
        rows.append(before, voxels, behind)
    if rows is None:
        raise ValueError("no showers")
    return rows.freeze()
