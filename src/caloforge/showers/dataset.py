"""A shower file as batches for training: shuffled, shared out between processes, never loaded whole."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import IterableDataset, get_worker_info

from caloforge.errors import ConfigError
from caloforge.showers.batch import ShowerBatch
from caloforge.showers.file import ShowerFile
from caloforge.showers.select import Numbers, read_numbers

# windows open at a time; numbers of workers that divide it read every shower once
LANES = 8
# batch norm and differences within a batch need two showers
SMALLEST = 2
# tells the orders of later parts of an epoch from that of a whole one
LATER_PART = 2**31


class ShowerBatches(IterableDataset[ShowerBatch]):
    """Batches of at most `batch_size` showers in an order that only the seed and the epoch decide.

    Every shower comes once an epoch, on one rank, and all ranks have the same number of batches. Where the
    showers do not fill them, all batches are a little smaller: their sizes, over batches and ranks, differ by
    one at most. (Batches of two may become batches of three, since none is ever of one.)

    Whole chunks of the file are permuted, their sequence is cut into windows, and the showers of a window
    are permuted: a file in which equal energies stand together is well mixed, yet every chunk is
    decompressed about once an epoch. Batch b comes from lane b modulo `LANES`, each lane with a window of
    its own, so that DataLoader workers, who take batches in turn, do not read each other's windows.

    The showers of an epoch are a pure function of (file, members, batch size, shuffle_bytes, seed, epoch,
    rank, world_size); the number of DataLoader workers changes nothing. An epoch that was begun by another
    number of processes is continued with what these left: see `set_epoch`.

    Use it with `DataLoader(batches, batch_size=None, num_workers=...)`, without `persistent_workers`: they
    would not hear of `set_epoch`.
    """

    def __init__(
        self,
        path: Path | str,
        batch_size: int,
        *,
        members: Numbers | None = None,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        shuffle: bool = True,
        shuffle_bytes: int = 2**28,
    ) -> None:
        """Look at the file, which is opened again by whoever iterates.

        Args:
            path: A shower file.
            batch_size: Showers a batch (of this rank), at most.
            members: Use the showers of these rising numbers alone; the whole file by default.
            seed: Seed of the order.
            rank: Number of this process, 0 to world_size - 1.
            world_size: Processes that share the showers.
            shuffle: False keeps the order of the file.
            shuffle_bytes: Memory for showers that are mixed with each other.

        Raises:
            DataError: The file cannot be used.
            ConfigError: Numbers outside the file, or too few showers for one batch on every rank.
        """
        super().__init__()
        with ShowerFile(path) as file:
            total, self._chunk = len(file), file.chunk
            shower_bytes = 4 * int(np.prod(file.detector.shower_shape))
        members = range(total) if members is None else members
        if not len(members) or not 0 <= members[0] <= members[-1] < total:
            raise ConfigError(f"{path}: expected numbers of showers from 0 to {total - 1}{_got(members)}")
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
        self.path = Path(path)
        self.batch_size = batch_size
        self.seed = seed
        self.rank, self.world_size = rank, world_size
        self._all = members
        self._window = max(1, shuffle_bytes // (LANES * shower_bytes * batch_size)) if shuffle else 0
        self.set_epoch(0)

    def __len__(self) -> int:
        """Batches of the epoch on this rank; those that are left, where it was begun by other processes."""
        return self._shares.batches

    def set_epoch(self, epoch: int, begun: Sequence[Sequence[int]] = ()) -> None:
        """Choose the epoch whose order the next iteration follows, from its first batch.

        Args:
            epoch: Its number.
            begun: Earlier parts of this epoch as (world_size, batches): so many processes took so many
                batches each, and no shower of those comes again. What remains is shared out anew.
        """
        self.epoch, self._skip, self._part = epoch, 0, len(begun)
        self._members = self._all
        for part, (ranks, batches) in enumerate(begun):
            shares = self._shares_of(len(self._members), ranks)
            self._members = self._without(self._members, shares, part, batches)
        self._shares = self._shares_of(len(self._members), self.world_size)

    def skip(self, batches: int) -> None:
        """Leave out the first batches of the epoch: the exact continuation of an interrupted one.

        Raises:
            ConfigError: A negative number, or more than the epoch holds.
        """
        if not 0 <= batches <= len(self):
            raise ConfigError(f"cannot skip {batches} batches of an epoch of {len(self)}")
        self._skip = batches

    def weight(self, number: int) -> float:
        """Size of batch `number` of this rank over its mean over ranks: its weight in a mean of gradients."""
        sizes = [self._shares.size(rank, number) for rank in range(self.world_size)]
        return sizes[self.rank] * self.world_size / sum(sizes)

    def __iter__(self) -> Iterator[ShowerBatch]:
        worker = get_worker_info()
        first, step = (worker.id, worker.num_workers) if worker else (0, 1)
        sequence, shares = self._sequence(self._members, self._part), self._shares
        windows: dict[int, tuple[int, ShowerBatch, NDArray[np.intp]]] = {}
        with ShowerFile(self.path) as file:
            for number in range(self._skip + first, len(self), step):
                lane, turn = number % shares.lanes, number // shares.lanes
                index = turn // shares.window
                if lane not in windows or windows[lane][0] != index:
                    # let go of the old window before its successor is read
                    windows.pop(lane, None)
                    places = shares.window_places(self.rank, lane, index)
                    showers = read_numbers(file, sequence.members(*places))
                    windows[lane] = (index, showers, self._order(self._part, self.rank, lane, index, places))
                _, showers, order = windows[lane]
                begin = shares.window_places(self.rank, lane, index)[0]
                low, high = shares.places(self.rank, number)
                yield showers[order[low - begin : high - begin]]

    def _shares_of(self, count: int, ranks: int) -> _Shares:
        batches = -(-count // (self.batch_size * ranks))
        if batches and count // ranks // batches < min(SMALLEST, self.batch_size):
            batches = count // ranks // min(SMALLEST, self.batch_size)
        if not self._window:
            return _Shares(count, ranks, batches, 1, 1)
        # a small file is mixed as a whole
        return _Shares(count, ranks, batches, self._window, int(np.clip(batches // self._window, 1, LANES)))

    def _generator(self, part: int, *key: int) -> np.random.Generator:
        prefix = (self.epoch, LATER_PART + part) if part else (self.epoch,)
        return np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=(*prefix, *key)))

    def _sequence(self, members: Numbers, part: int) -> _ChunkSequence:
        return _ChunkSequence(members, self._chunk, self._generator(part) if self._window else None)

    def _order(
        self, part: int, rank: int, lane: int, index: int, places: tuple[int, int]
    ) -> NDArray[np.intp]:
        """In which order the showers of a window are used."""
        count = places[1] - places[0]
        if not self._window:
            return np.arange(count)
        return self._generator(part, rank, lane, index).permutation(count)

    def _without(self, members: Numbers, shares: _Shares, part: int, batches: int) -> NDArray[np.intp]:
        """The members, in rising order, that no rank had in its first batches of a part of the epoch."""
        sequence, taken = self._sequence(members, part), []
        for rank in range(shares.ranks):
            for lane in range(shares.lanes):
                done = len(range(lane, batches, shares.lanes))
                for index in range(-(-done // shares.window)):
                    places = shares.window_places(rank, lane, index)
                    last = min(done, (index + 1) * shares.window) - 1
                    end = shares.places(rank, lane + last * shares.lanes)[1]
                    of_window = sequence.members(*places)
                    order = self._order(part, rank, lane, index, places)
                    taken.append(of_window[order[: end - places[0]]])
        return np.setdiff1d(np.asarray(members), np.concatenate(taken) if taken else [], assume_unique=True)


@dataclass(frozen=True)
class _Shares:
    """How the places of a sequence are shared out: to ranks, their lanes, their windows, their batches.

    Attributes:
        count: Places.
        ranks: Processes.
        batches: Batches of each of them.
        window: Batches of a window.
        lanes: Lanes; batch b is of lane b modulo their number.
    """

    count: int
    ranks: int
    batches: int
    window: int
    lanes: int

    def places(self, rank: int, number: int) -> tuple[int, int]:
        """First and last-but-one place of a batch."""
        position = self._lane_first(number % self.lanes) + number // self.lanes
        return self._edge(rank, position), self._edge(rank, position + 1)

    def size(self, rank: int, number: int) -> int:
        """Showers of a batch."""
        first, last = self.places(rank, number)
        return last - first

    def window_places(self, rank: int, lane: int, index: int) -> tuple[int, int]:
        """First and last-but-one place of a window of a lane."""
        first = self._lane_first(lane) + index * self.window
        last = min(first + self.window, self._lane_first(lane + 1))
        return self._edge(rank, first), self._edge(rank, last)

    def _lane_first(self, lane: int) -> int:
        """Batches of the lanes before; they take the batches in turn, so the first may have one more."""
        each, more = divmod(self.batches, self.lanes)
        return lane * each + min(lane, more)

    def _edge(self, rank: int, position: int) -> int:
        """Place where a rank's batch begins, its batches being counted lane after lane."""
        first, last = rank * self.count // self.ranks, (rank + 1) * self.count // self.ranks
        return first + (last - first) * position // self.batches


class _ChunkSequence:
    """Showers of a file, chunk after chunk, the chunks permuted where a generator is given."""

    def __init__(self, members: Numbers, chunk: int, generator: np.random.Generator | None) -> None:
        """Take the showers `members`, rising numbers in the file."""
        self._members = members
        first, last = (members[0], members[-1]) if len(members) else (0, -1)
        multiples = np.arange(first // chunk, last // chunk + 2) * chunk
        if isinstance(members, range):
            edges = np.clip(multiples, members.start, members.stop) - members.start
        else:
            edges = np.searchsorted(members, multiples)
        edges = np.unique(edges)
        count = max(0, len(edges) - 1)
        order = np.arange(count) if generator is None else generator.permutation(count)
        self._starts = edges[:-1][order]
        lengths = np.diff(edges)[order]
        self._ends = np.cumsum(lengths)
        self._begins = self._ends - lengths

    def members(self, first: int, last: int) -> NDArray[np.intp]:
        """Numbers in the file of the places [first, last) of the sequence."""
        low = int(np.searchsorted(self._ends, first, side="right"))
        high = int(np.searchsorted(self._begins, last, side="left"))
        pieces = []
        for chunk in range(low, high):
            offset = int(self._starts[chunk] - self._begins[chunk])
            begin, end = max(first, int(self._begins[chunk])), min(last, int(self._ends[chunk]))
            pieces.append(np.asarray(self._members[offset + begin : offset + end], np.intp))
        return np.concatenate(pieces)


def _got(members: Numbers) -> str:
    return f", got {members[0]} to {members[-1]}" if len(members) else ", got none"
