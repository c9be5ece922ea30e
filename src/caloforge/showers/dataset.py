"""A shower file as batches for training: shuffled, shared out between processes, never loaded whole."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import IterableDataset, get_worker_info

from caloforge.errors import ConfigError
from caloforge.showers.batch import ShowerBatch
from caloforge.showers.file import ShowerFile

# windows open at a time; numbers of workers that divide it read every shower once
LANES = 8


class ShowerBatches(IterableDataset[ShowerBatch]):
    """Batches of exactly `batch_size` showers in an order that only the seed and the epoch decide.

    Whole chunks of the file are permuted, their sequence is cut into windows, and the showers of a window
    are permuted: a file in which equal energies stand together is well mixed, yet every chunk is
    decompressed about once an epoch. Batch b comes from lane b modulo `LANES`, each lane with a window of
    its own, so that DataLoader workers, who take batches in turn, do not read each other's windows.

    The showers of an epoch are a pure function of (file, range, batch size, shuffle_bytes, seed, epoch,
    rank, world_size); the number of DataLoader workers changes nothing. Ranks see disjoint showers and the
    same number of batches; what does not fill a batch on every rank is left out, other showers each epoch.

    Use it with `DataLoader(batches, batch_size=None, num_workers=...)`, without `persistent_workers`: they
    would not hear of `set_epoch`.
    """

    def __init__(
        self,
        path: Path | str,
        batch_size: int,
        *,
        indices_range: tuple[int, int] | None = None,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        shuffle: bool = True,
        shuffle_bytes: int = 2**28,
    ) -> None:
        """Look at the file, which is opened again by whoever iterates.

        Args:
            path: A shower file.
            batch_size: Showers a batch (of this rank).
            indices_range: Use the showers [start, stop) alone; the whole file by default.
            seed: Seed of the order.
            rank: Number of this process, 0 to world_size - 1.
            world_size: Processes that share the showers.
            shuffle: False keeps the order of the file.
            shuffle_bytes: Memory for showers that are mixed with each other.

        Raises:
            DataError: The file cannot be used.
            ConfigError: A range outside the file, or too few showers for one batch on every rank.
        """
        super().__init__()
        with ShowerFile(path) as file:
            total, self._chunk = len(file), file.chunk
            shower_bytes = 4 * int(np.prod(file.detector.shower_shape))
        start, stop = indices_range or (0, total)
        if not 0 <= start < stop <= total:
            raise ConfigError(f"{path}: got the showers {start} to {stop}, expected a range in 0 to {total}")
        if batch_size < 1 or not 0 <= rank < world_size:
            raise ConfigError(
                f"got batch size {batch_size} and rank {rank} of {world_size}, expected a batch size of "
                "at least 1 and a rank below the number of processes"
            )
        self._n_batches = (stop - start) // (batch_size * world_size)
        if not self._n_batches:
            raise ConfigError(
                f"{path}: {stop - start} showers do not fill one batch of {batch_size} on {world_size} "
                "process(es); give a smaller batch size or more showers"
            )
        self.path = Path(path)
        self.batch_size = batch_size
        self.seed = seed
        self.epoch = 0
        self._range = (start, stop)
        self._rank = rank
        self._skip = 0
        self._shuffle = shuffle
        self._lanes, self._window = 1, 1
        if shuffle:
            self._window = max(1, shuffle_bytes // (LANES * shower_bytes * batch_size))
            # a small file is mixed as a whole
            self._lanes = int(np.clip(self._n_batches // self._window, 1, LANES))

    def __len__(self) -> int:
        """Batches of an epoch on this rank."""
        return self._n_batches

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order the next iteration follows, from its first batch."""
        self.epoch = epoch
        self._skip = 0

    def skip(self, batches: int) -> None:
        """Leave out the first batches of the epoch: the exact continuation of an interrupted one.

        Raises:
            ConfigError: A negative number, or more than the epoch holds.
        """
        if not 0 <= batches <= self._n_batches:
            raise ConfigError(f"cannot skip {batches} batches of an epoch of {self._n_batches}")
        self._skip = batches

    def __iter__(self) -> Iterator[ShowerBatch]:
        worker = get_worker_info()
        first, step = (worker.id, worker.num_workers) if worker else (0, 1)
        sequence = _ChunkSequence(self._range, self._chunk, self._generator() if self._shuffle else None)
        windows: dict[int, tuple[int, ShowerBatch, NDArray[np.intp]]] = {}
        with ShowerFile(self.path) as file:
            for number in range(self._skip + first, self._n_batches, step):
                lane, turn = number % self._lanes, number // self._lanes
                index, slot = turn // self._window, turn % self._window
                if lane not in windows or windows[lane][0] != index:
                    # let go of the old window before its successor is read
                    windows.pop(lane, None)
                    windows[lane] = (index, *self._read_window(file, sequence, lane, index))
                _, showers, order = windows[lane]
                yield showers[order[slot * self.batch_size : (slot + 1) * self.batch_size]]

    def _generator(self, *key: int) -> np.random.Generator:
        return np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=(self.epoch, *key)))

    def _read_window(
        self, file: ShowerFile, sequence: _ChunkSequence, lane: int, index: int
    ) -> tuple[ShowerBatch, NDArray[np.intp]]:
        """The showers of a window, in the order of the sequence, and the order in which they are used."""
        # lanes take the batches in turn, so the first ones may have one more
        each, more = divmod(self._n_batches, self._lanes)
        lane_first = self._rank * self._n_batches + lane * each + min(lane, more)
        lane_batches = each + (lane < more)
        first = lane_first + index * self._window
        last = min(first + self._window, lane_first + lane_batches)
        parts = sequence.parts(first * self.batch_size, last * self.batch_size)
        showers = ShowerBatch.concatenate([file.read(start, stop) for start, stop in parts])
        if not self._shuffle:
            return showers, np.arange(len(showers))
        return showers, self._generator(self._rank, lane, index).permutation(len(showers))


class _ChunkSequence:
    """The showers [start, stop) chunk after chunk, the chunks permuted where a generator is given."""

    def __init__(self, bounds: tuple[int, int], chunk: int, generator: np.random.Generator | None) -> None:
        start, stop = bounds
        edges = np.arange(start // chunk, -(-stop // chunk) + 1) * chunk
        edges = np.clip(edges, start, stop)
        order = np.arange(len(edges) - 1) if generator is None else generator.permutation(len(edges) - 1)
        self._starts = edges[:-1][order]
        lengths = np.diff(edges)[order]
        self._ends = np.cumsum(lengths)
        self._begins = self._ends - lengths

    def parts(self, first: int, last: int) -> Iterator[tuple[int, int]]:
        """Places [first, last) of the sequence as ranges (start, stop) of the file."""
        low = int(np.searchsorted(self._ends, first, side="right"))
        high = int(np.searchsorted(self._begins, last, side="left"))
        for chunk in range(low, high):
            offset = int(self._starts[chunk] - self._begins[chunk])
            yield (
                offset + max(first, int(self._begins[chunk])),
                offset + min(last, int(self._ends[chunk])),
            )
