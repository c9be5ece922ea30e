"""Which showers of a file are trained on, and which are held out."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caloforge.errors import ConfigError
from caloforge.showers import ShowerBatch, ShowerFile
from caloforge.showers.select import read_numbers
from caloforge.training.config import EvaluationConfig, TrainingConfig

# showers read at a time where a family is fitted
FIT_BATCH = 512
# tells the order of a split from other uses of the same seed
SPLIT_STREAM = 0x5B117
# what the families need to be fitted; batch norm and differences within a batch need two showers a process
FEWEST_TRAINED, FEWEST_A_PROCESS = 4, 2
# showers in a file at the most, for the search of the fewest that are enough
MOST = 2**40


@dataclass(frozen=True)
class Split:
    """The numbers of the showers of a file, in two parts.

    Attributes:
        trained: Those that are trained on, rising.
        held: Those that are held out, in the random order in which they were drawn.
    """

    trained: NDArray[np.intp]
    held: NDArray[np.intp]

    def judged(self, count: int) -> NDArray[np.intp]:
        """At most `count` of those held out, rising."""
        return np.sort(self.held[:count])

    def describe(self, data: Path) -> dict[str, Any]:
        """What each part covers: number of showers, limits of energy (MeV) and angles (rad), particles.

        Raises:
            DataError: The file cannot be used.
        """
        with ShowerFile(data) as file:
            names = ("energy", "theta", "phi")
            columns = {name: file.column(f"incident_{name}") for name in names}
            particles = file.column("pdg_id")
        return {
            part: {
                "showers": len(numbers),
                **{n: [float(c[numbers].min()), float(c[numbers].max())] for n, c in columns.items()},
                "pdg_ids": [int(code) for code in np.unique(particles[numbers])],
            }
            for part, numbers in (("trained", self.trained), ("held_out", self.held))
        }


@dataclass(frozen=True)
class TrainingShowers:
    """Showers of rising numbers as batches in the order of the file, read anew by every iteration."""

    data: Path
    numbers: NDArray[np.intp]

    def __iter__(self) -> Iterator[ShowerBatch]:
        with ShowerFile(self.data) as file:
            size = max(file.chunk, FIT_BATCH // file.chunk * file.chunk)
            # whole chunks are read once
            edges = np.searchsorted(self.numbers, np.arange(0, len(file) + size, size))
            for first, last in itertools.pairwise(edges):
                if first < last:
                    yield read_numbers(file, self.numbers[first:last])


def split_showers(count: int, evaluation: EvaluationConfig) -> Split:
    """Draw which of the showers 0 to `count` - 1 are held out; the seed of the evaluation decides."""
    rng = np.random.default_rng([evaluation.seed, SPLIT_STREAM])
    first, last = _held_places(count, evaluation)
    order = rng.permutation(count)
    return Split(np.sort(np.delete(order, slice(first, last))), order[first:last])


def split_file(data: Path, config: TrainingConfig, processes: int) -> Split:
    """The split of a shower file.

    Raises:
        DataError: The file cannot be used.
        ConfigError: Too few showers.
    """
    with ShowerFile(data) as file:
        count = len(file)
    check_count(count, config, processes, origin=str(data))
    return split_showers(count, config.evaluation)


def check_count(count: int, config: TrainingConfig, processes: int = 1, *, origin: str = "data") -> int:
    """Refuse a number of showers that is too small for a training.

    Args:
        count: Showers of the file.
        config: How to train.
        processes: Processes that train together.
        origin: What the message begins with.

    Returns:
        How many of them are trained on.

    Raises:
        ConfigError: Fewer than `fewest_showers`.
    """
    fewest = fewest_showers(config, processes)
    if count < fewest:
        raise ConfigError(
            f"{origin}: {count} showers are too few to train on; expected at least {fewest}"
            + (f" for {processes} processes" if processes > 1 else "")
        )
    return _trained(count, config.evaluation)


def fewest_showers(config: TrainingConfig, processes: int = 1) -> int:
    """The smallest number of showers that `train` takes."""
    needed = max(FEWEST_TRAINED, FEWEST_A_PROCESS * processes)
    evaluation = config.evaluation
    # every part has a shower to hold out
    least = 2 if evaluation.fold is None else evaluation.fold[1]
    return bisect.bisect_left(range(MOST), needed, lo=least, key=lambda count: _trained(count, evaluation))


def batch_size(config: TrainingConfig, trained: int, processes: int) -> int:
    """Showers of a batch on each process: what was asked for, or all there are."""
    return min(config.batch_size, trained // processes)


def _trained(count: int, evaluation: EvaluationConfig) -> int:
    first, last = _held_places(count, evaluation)
    return count - (last - first)


def _held_places(count: int, evaluation: EvaluationConfig) -> tuple[int, int]:
    """Where in the random order those held out begin and end."""
    if evaluation.fold is None:
        return 0, max(1, round(count * evaluation.share))
    number, folds = evaluation.fold
    return round(count * number / folds), round(count * (number + 1) / folds)
