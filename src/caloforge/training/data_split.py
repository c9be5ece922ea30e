"""Split of a shower file into training and held-out showers."""

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
from caloforge.geometry.mesh import IMPACT
from caloforge.showers import ShowerBatch, ShowerFile
from caloforge.showers.select import read_numbers
from caloforge.training.config import EvaluationConfig, TrainingConfig

# showers per batch when a family is fitted
FIT_BATCH = 512
# seed component that separates the split from other uses of the same seed
SPLIT_STREAM = 0x5B117
# families need four showers to be fitted; batch norm and differences within a batch need two per process
MIN_TRAINED, MIN_PER_PROCESS = 4, 2
# upper limit of the search for the smallest sufficient number of showers
MAX_SHOWERS = 2**40


@dataclass(frozen=True)
class Split:
    """Indices of the showers of a file, in two parts.

    Attributes:
        train: Training showers, ascending.
        held_out: Held-out showers, in random order.
    """

    train: NDArray[np.intp]
    held_out: NDArray[np.intp]

    def evaluated(self, count: int) -> NDArray[np.intp]:
        """At most `count` of the held-out showers, ascending."""
        return np.sort(self.held_out[:count])

    def describe(self, data: Path) -> dict[str, Any]:
        """Summarise each part: number of showers, particles, ranges of energy, angles and impact points.

        In MeV, rad and mm; impact points only where the file has them.

        Raises:
            DataError: The file cannot be used.
        """
        with ShowerFile(data) as file:
            names = ("energy", "theta", "phi")
            columns = {name: file.column(f"incident_{name}") for name in names}
            columns |= {name: file.column(name) for name in IMPACT if file.has_impacts}
            particles = file.column("pdg_id")
        return {
            part: {
                "showers": len(numbers),
                **{n: [float(c[numbers].min()), float(c[numbers].max())] for n, c in columns.items()},
                "pdg_ids": [int(code) for code in np.unique(particles[numbers])],
            }
            for part, numbers in (("trained", self.train), ("held_out", self.held_out))
        }


@dataclass(frozen=True)
class TrainingShowers:
    """Iterable of batches of selected showers, in the order of the file; each iteration reads the file again.

    Attributes:
        data: The shower file.
        indices: Indices of the showers, ascending.
    """

    data: Path
    indices: NDArray[np.intp]

    def __iter__(self) -> Iterator[ShowerBatch]:
        with ShowerFile(self.data) as file:
            # batches end at chunk boundaries, so that each chunk is read once
            ends = file.chunk_edges
            step = max(1, FIT_BATCH // file.chunk)
            edges = np.searchsorted(self.indices, np.append(ends[:-1:step], ends[-1]))
            for first, last in itertools.pairwise(edges):
                if first < last:
                    yield read_numbers(file, self.indices[first:last])


def split_showers(count: int, evaluation: EvaluationConfig) -> Split:
    """Split `count` showers at random with the seed of the evaluation."""
    rng = np.random.default_rng([evaluation.seed, SPLIT_STREAM])
    first, last = _held_out_slice(count, evaluation)
    order = rng.permutation(count)
    return Split(np.sort(np.delete(order, slice(first, last))), order[first:last])


def split_file(data: Path, config: TrainingConfig, processes: int) -> Split:
    """Split the showers of a file.

    Raises:
        DataError: The file cannot be used.
        ConfigError: Too few showers.
    """
    with ShowerFile(data) as file:
        count = len(file)
    check_count(count, config, processes, origin=str(data))
    return split_showers(count, config.evaluation)


def check_count(count: int, config: TrainingConfig, processes: int = 1, *, origin: str = "data") -> int:
    """Check that there are enough showers for a training.

    Args:
        count: Number of showers.
        config: The training section of a run.
        processes: Number of processes.
        origin: File or setting to name in the message.

    Returns:
        The number of training showers.

    Raises:
        ConfigError: Fewer than `min_showers`.
    """
    fewest = min_showers(config, processes)
    if count < fewest:
        raise ConfigError(
            f"{origin}: {count} showers are too few to train on; expected at least {fewest}"
            + (f" for {processes} processes" if processes > 1 else "")
        )
    return _train_count(count, config.evaluation)


def min_showers(config: TrainingConfig, processes: int = 1) -> int:
    """The smallest number of showers that a training accepts."""
    needed = max(MIN_TRAINED, MIN_PER_PROCESS * processes)
    evaluation = config.evaluation
    # each fold needs at least one shower
    least = 2 if evaluation.fold is None else evaluation.fold[1]
    return bisect.bisect_left(
        range(MAX_SHOWERS), needed, lo=least, key=lambda count: _train_count(count, evaluation)
    )


def batch_size(config: TrainingConfig, trained: int, processes: int) -> int:
    """Showers per batch on each process: as configured, or fewer if there are fewer training showers."""
    return min(config.batch_size, trained // processes)


def _train_count(count: int, evaluation: EvaluationConfig) -> int:
    first, last = _held_out_slice(count, evaluation)
    return count - (last - first)


def _held_out_slice(count: int, evaluation: EvaluationConfig) -> tuple[int, int]:
    """Start and end of the held-out showers in the random order."""
    if evaluation.fold is None:
        return 0, max(1, round(count * evaluation.share))
    number, folds = evaluation.fold
    return round(count * number / folds), round(count * (number + 1) / folds)
