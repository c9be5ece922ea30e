"""Shuffled batches of a shower file for (distributed) training, streamed from disk."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import IterableDataset, get_worker_info

from caloforge.errors import ConfigError
from caloforge.showers.batch import ShowerBatch
from caloforge.showers.file import ShowerFile
from caloforge.showers.file_pattern import Files, joined_path
from caloforge.showers.select import Numbers, read_numbers

# interleaved shuffle windows; with a number of workers that divides it, every shower is read once
LANES = 8
# batch norm and statistics within a batch need two showers
MIN_BATCH_SIZE = 2
# offset in the random key of the later parts of an epoch
LATER_PART_KEY = 2**31


class ShowerBatches(IterableDataset[ShowerBatch]):
    """Batches of at most `batch_size` showers, in an order that depends on seed and epoch only.

    Each shower occurs once per epoch, on one rank, and all ranks have the same number of batches. Where the
    showers do not fill them, all batches are a little smaller: their sizes, over batches and ranks, differ by
    one at most. (Batches of two may become batches of three, since none is ever of one.)

    The chunks of the file (of all files, where there are several) are permuted, their sequence is divided
    into windows, and the showers of a window are permuted: a file sorted by energy is well shuffled, yet
    every chunk is decompressed about once per epoch. Batch b comes from lane b modulo `LANES`. Each lane has
    its own window, so that DataLoader workers, which take batches in turn, do not read each other's windows.

    The showers of an epoch are a pure function of (file, members, batch size, shuffle_bytes, seed, epoch,
    rank, world_size); the number of DataLoader workers changes nothing. An epoch that was begun by another
    number of processes is continued with the remaining showers: see `set_epoch`.

    Use it with `DataLoader(batches, batch_size=None, num_workers=...)`, without `persistent_workers`, which
    would not see a new `set_epoch`.
    """

    def __init__(
        self,
        path: Files,
        batch_size: int,
        *,
        members: Numbers | None = None,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        shuffle: bool = True,
        shuffle_bytes: int = 2**28,
    ) -> None:
        """Read the size of the file; each iteration opens it again.

        Args:
            path: A shower file; or several, or a pattern of them, which are read as one.
            batch_size: Showers a batch (of this rank), at most.
            members: Increasing indices of the showers to use; all by default.
            seed: Seed of the order.
            rank: Number of this process, 0 to world_size - 1.
            world_size: Number of processes.
            shuffle: False keeps the order of the file.
            shuffle_bytes: Memory of the shuffle windows.

        Raises:
            DataError: The file cannot be used.
            ConfigError: Numbers outside the file, or too few showers for one batch on every rank.
        """
        super().__init__()
        with ShowerFile(path) as file:
            total, self._edges = len(file), file.chunk_edges
            shower_bytes = 4 * int(np.prod(file.detector.shower_shape))
        members = range(total) if members is None else members
        if not len(members) or not 0 <= members[0] <= members[-1] < total:
            raise ConfigError(
                f"{path}: expected numbers of showers from 0 to {total - 1}{_range_text(members)}"
            )
        if batch_size < 1 or not 0 <= rank < world_size:
            raise ConfigError(
                f"got batch size {batch_size} and rank {rank} of {world_size}, expected a batch size of "
                "at least 1 and a rank below the number of processes"
            )
        if len(members) < batch_size * world_size:
            raise ConfigError(
                f"{path}: {len(members)} showers do not fill one batch of {batch_size} on {world_size} "
                "process(es); give a smaller batch size or more showers"
            )
        self.path = joined_path(path)
        self.batch_size = batch_size
        self.seed = seed
        self.rank, self.world_size = rank, world_size
        self._all = members
        self._window = max(1, shuffle_bytes // (LANES * shower_bytes * batch_size)) if shuffle else 0
        self.set_epoch(0)

    def __len__(self) -> int:
        """Batches of the epoch on this rank, after the parts already `begun`."""
        return self._partition.batches

    def set_epoch(self, epoch: int, begun: Sequence[Sequence[int]] = ()) -> None:
        """Set the epoch of the next iteration, which starts at its first batch.

        Args:
            epoch: Its number.
            begun: Earlier parts of this epoch as (world_size, batches per process). Their showers are left
                out; the remaining ones are partitioned anew.
        """
        self.epoch, self._skip, self._part = epoch, 0, len(begun)
        self._members = self._all
        for part, (world_size, batches) in enumerate(begun):
            partition = self._partition_of(len(self._members), world_size)
            self._members = self._remaining(self._members, partition, part, batches)
        self._partition = self._partition_of(len(self._members), self.world_size)

    def skip(self, batches: int) -> None:
        """Skip the first batches of the epoch, to continue an interrupted one exactly.

        Raises:
            ConfigError: A negative number, or more than the epoch holds.
        """
        if not 0 <= batches <= len(self):
            raise ConfigError(f"cannot skip {batches} batches of an epoch of {len(self)}")
        self._skip = batches

    def weight(self, number: int) -> float:
        """Size of batch `number` on this rank over the mean size over ranks: the weight of its gradients."""
        sizes = [self._partition.size(rank, number) for rank in range(self.world_size)]
        return sizes[self.rank] * self.world_size / sum(sizes)

    def __iter__(self) -> Iterator[ShowerBatch]:
        worker = get_worker_info()
        first, step = (worker.id, worker.num_workers) if worker else (0, 1)
        sequence, partition = self._sequence(self._members, self._part), self._partition
        windows: dict[int, tuple[int, ShowerBatch, NDArray[np.intp]]] = {}
        with ShowerFile(self.path) as file:
            for number in range(self._skip + first, len(self), step):
                lane, turn = number % partition.lanes, number // partition.lanes
                index = turn // partition.window
                if lane not in windows or windows[lane][0] != index:
                    # free the old window before the next one is read
                    windows.pop(lane, None)
                    interval = partition.window_interval(self.rank, lane, index)
                    showers = read_numbers(file, sequence.members(*interval))
                    windows[lane] = (
                        index,
                        showers,
                        self._order(self._part, self.rank, lane, index, interval),
                    )
                _, showers, order = windows[lane]
                begin = partition.window_interval(self.rank, lane, index)[0]
                low, high = partition.interval(self.rank, number)
                yield showers[order[low - begin : high - begin]]

    def _partition_of(self, count: int, world_size: int) -> _Partition:
        batches = -(-count // (self.batch_size * world_size))
        if batches and count // world_size // batches < min(MIN_BATCH_SIZE, self.batch_size):
            batches = count // world_size // min(MIN_BATCH_SIZE, self.batch_size)
        if not self._window:
            return _Partition(count, world_size, batches, 1, 1)
        # a small file is shuffled as a whole
        return _Partition(
            count, world_size, batches, self._window, int(np.clip(batches // self._window, 1, LANES))
        )

    def _generator(self, part: int, *key: int) -> np.random.Generator:
        prefix = (self.epoch, LATER_PART_KEY + part) if part else (self.epoch,)
        return np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=(*prefix, *key)))

    def _sequence(self, members: Numbers, part: int) -> _ChunkSequence:
        return _ChunkSequence(members, self._edges, self._generator(part) if self._window else None)

    def _order(
        self, part: int, rank: int, lane: int, index: int, interval: tuple[int, int]
    ) -> NDArray[np.intp]:
        """The random order of the showers of a window."""
        count = interval[1] - interval[0]
        if not self._window:
            return np.arange(count)
        return self._generator(part, rank, lane, index).permutation(count)

    def _remaining(
        self, members: Numbers, partition: _Partition, part: int, batches: int
    ) -> NDArray[np.intp]:
        """The members, in increasing order, that are in no rank's first `batches` of a part."""
        sequence, taken = self._sequence(members, part), []
        for rank in range(partition.world_size):
            for lane in range(partition.lanes):
                done = len(range(lane, batches, partition.lanes))
                for index in range(-(-done // partition.window)):
                    interval = partition.window_interval(rank, lane, index)
                    last = min(done, (index + 1) * partition.window) - 1
                    end = partition.interval(rank, lane + last * partition.lanes)[1]
                    of_window = sequence.members(*interval)
                    order = self._order(part, rank, lane, index, interval)
                    taken.append(of_window[order[: end - interval[0]]])
        return np.setdiff1d(np.asarray(members), np.concatenate(taken) if taken else [], assume_unique=True)


@dataclass(frozen=True)
class _Partition:
    """Partition of a sequence of showers into ranks, lanes, windows and batches.

    Attributes:
        count: Showers of the sequence.
        world_size: Number of processes.
        batches: Batches per process.
        window: Batches per window.
        lanes: Number of lanes; batch b is of lane b modulo `lanes`.
    """

    count: int
    world_size: int
    batches: int
    window: int
    lanes: int

    def interval(self, rank: int, number: int) -> tuple[int, int]:
        """Positions [first, last) of a batch in the sequence."""
        position = self._batches_before(number % self.lanes) + number // self.lanes
        return self._batch_start(rank, position), self._batch_start(rank, position + 1)

    def size(self, rank: int, number: int) -> int:
        """Number of showers of a batch."""
        first, last = self.interval(rank, number)
        return last - first

    def window_interval(self, rank: int, lane: int, index: int) -> tuple[int, int]:
        """Positions [first, last) of a window of a lane."""
        first = self._batches_before(lane) + index * self.window
        last = min(first + self.window, self._batches_before(lane + 1))
        return self._batch_start(rank, first), self._batch_start(rank, last)

    def _batches_before(self, lane: int) -> int:
        """Number of batches in earlier lanes; the first lanes may have one batch more."""
        each, more = divmod(self.batches, self.lanes)
        return lane * each + min(lane, more)

    def _batch_start(self, rank: int, position: int) -> int:
        """Start of a rank's batch in the sequence, batches counted lane after lane."""
        first, last = rank * self.count // self.world_size, (rank + 1) * self.count // self.world_size
        return first + (last - first) * position // self.batches


class _ChunkSequence:
    """The showers of a file, chunk after chunk; the chunks are permuted if a generator is given."""

    def __init__(
        self, members: Numbers, chunk_edges: NDArray[np.intp], generator: np.random.Generator | None
    ) -> None:
        """Arrange the showers with the increasing indices `members`."""
        self._members = members
        if isinstance(members, range):
            edges = np.clip(chunk_edges, members.start, members.stop) - members.start
        else:
            edges = np.searchsorted(members, chunk_edges)
        edges = np.unique(edges)
        count = max(0, len(edges) - 1)
        order = np.arange(count) if generator is None else generator.permutation(count)
        self._starts = edges[:-1][order]
        lengths = np.diff(edges)[order]
        self._ends = np.cumsum(lengths)
        self._begins = self._ends - lengths

    def members(self, first: int, last: int) -> NDArray[np.intp]:
        """Indices in the file of the positions [first, last) of the sequence."""
        low = int(np.searchsorted(self._ends, first, side="right"))
        high = int(np.searchsorted(self._begins, last, side="left"))
        pieces = []
        for chunk in range(low, high):
            offset = int(self._starts[chunk] - self._begins[chunk])
            begin, end = max(first, int(self._begins[chunk])), min(last, int(self._ends[chunk]))
            pieces.append(np.asarray(self._members[offset + begin : offset + end], np.intp))
        return np.concatenate(pieces)


def _range_text(members: Numbers) -> str:
    return f", got {members[0]} to {members[-1]}" if len(members) else ", got none"
