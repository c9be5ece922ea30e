"""Blocks of simulated showers, stored as hits, and the showers of a whole campaign in order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caloforge.campaign.parts import Parts, interval_of_block, load_arrays, save_arrays

_FIELDS = ("counts", "voxels", "energies", "seconds")
_DTYPES = (np.uint32, np.uint32, np.float32, np.float32)
_LEDGER = "ledger"


@dataclass(frozen=True)
class Block:
    """Consecutive showers of a campaign, stored as hits.

    Attributes:
        start: Index of the first shower in the campaign.
        counts: Hits of each shower, shape (N,).
        voxels: Flat voxel index of each hit, shape (hits,).
        energies: Visible energy of each hit, MeV, shape (hits,).
        seconds: Wall time of each shower, shape (N,).
        ledger: Numbers of each shower that the merged file sums up, shape (N, columns); none by default.
    """

    start: int
    counts: NDArray[np.uint32]
    voxels: NDArray[np.uint32]
    energies: NDArray[np.float32]
    seconds: NDArray[np.float32]
    ledger: NDArray[np.float64] | None = None

    def __len__(self) -> int:
        return len(self.counts)

    def dense(self, first: int, last: int, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """Showers [first, last) of the campaign, all inside this block, shape (last - first, *shape)."""
        ends = np.concatenate([[0], np.cumsum(self.counts, dtype=np.int64)])
        begin, end = ends[first - self.start], ends[last - self.start]
        rows = np.repeat(np.arange(last - first), self.counts[first - self.start : last - self.start])
        showers = np.zeros((last - first, int(np.prod(shape))), np.float32)
        showers[rows, self.voxels[begin:end]] = self.energies[begin:end]
        return showers.reshape(-1, *shape)

    def save(self, folder: Path) -> None:
        """Write the block atomically.

        Raises:
            OutputError: The disk is full, or the folder cannot be written.
        """
        arrays = {name: getattr(self, name) for name in _FIELDS}
        if self.ledger is not None:
            arrays[_LEDGER] = self.ledger
        save_arrays(folder, self.start, self.start + len(self), arrays)

    @classmethod
    def load(cls, path: Path) -> Block:
        """Read a block; a damaged one is removed, so that it is made again.

        Raises:
            DamagedBlockError: The block is damaged.
            SimulationError: The operating system refuses to read it; nothing is removed.
        """
        start, arrays = load_arrays(path, _is_intact)
        return cls(start, **{name: arrays[name] for name in _FIELDS}, ledger=arrays.get(_LEDGER))


def _is_intact(arrays: Mapping[str, NDArray[Any]], count: int) -> bool:
    """Whether the arrays of a block fit together."""
    typed = all(
        arrays[name].dtype == dtype and arrays[name].ndim == 1
        for name, dtype in zip(_FIELDS, _DTYPES, strict=True)
    )
    ledger = arrays.get(_LEDGER)
    return (
        typed
        and len(arrays["counts"]) == len(arrays["seconds"]) == count
        and (ledger is None or (ledger.ndim == 2 and len(ledger) == count))
        and int(arrays["counts"].sum()) == len(arrays["voxels"]) == len(arrays["energies"])
    )


def ledger_of(parts: Parts) -> NDArray[np.float64] | None:
    """The ledgers of all showers in order, shape (n, columns); None if the blocks have none."""
    rows, position = [], parts.first
    for path in parts.paths():
        (start, stop), block = interval_of_block(path), Block.load(path)
        if block.ledger is not None and min(stop, parts.n) > position:
            rows.append(block.ledger[max(position - start, 0) : parts.n - start])
        position = max(position, stop)
    return np.concatenate(rows) if rows else None


def shower_batches(
    parts: Parts, size: int, shape: tuple[int, ...]
) -> Iterator[tuple[int, NDArray[np.float32], NDArray[np.float32]]]:
    """All showers in order as (start, showers, seconds), `size` at a time, independent of the blocks.

    Memory holds one block and one batch.
    """
    paths = {interval_of_block(path): path for path in parts.paths()}
    showers = np.zeros((0, *shape), np.float32)
    seconds = np.zeros(0, np.float32)
    done = position = parts.first
    for (start, stop), path in sorted(paths.items()):
        block = Block.load(path)
        position = max(position, start)
        while position < min(stop, parts.n):
            last = min(stop, parts.n, done + size)
            showers = np.concatenate([showers, block.dense(position, last, shape)])
            seconds = np.concatenate([seconds, block.seconds[position - start : last - start]])
            position = last
            if last == done + size:
                yield done, showers, seconds
                done, showers, seconds = last, showers[:0], seconds[:0]
    if len(seconds):
        yield done, showers, seconds
