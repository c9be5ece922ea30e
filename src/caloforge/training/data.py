"""Which showers of a file are trained on, and which are held out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from caloforge.errors import ConfigError
from caloforge.showers import ShowerBatch, ShowerFile
from caloforge.training.config import TrainingConfig

# showers read at a time where a family is fitted
FIT_BATCH = 512


@dataclass(frozen=True)
class TrainingShowers:
    """The showers [0, stop) of a file as batches in its order, read anew by every iteration."""

    data: Path
    stop: int

    def __iter__(self) -> Iterator[ShowerBatch]:
        with ShowerFile(self.data) as file:
            yield from file.iterate(FIT_BATCH, stop=self.stop)


def split_showers(data: Path, config: TrainingConfig, processes: int) -> tuple[int, int]:
    """The showers [0, first) are trained on, [first, second) are held out for the evaluation.

    Raises:
        DataError: The file cannot be used.
        ConfigError: Too few showers for a batch on every process.
    """
    with ShowerFile(data) as file:
        count = len(file)
    return check_count(count, config, processes, origin=str(data)), count


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
        ConfigError: They do not fill a batch on every process.
    """
    split = count - max(1, round(count * config.evaluation.share))
    if split < config.batch_size * processes:
        raise ConfigError(
            f"{origin}: {split} of {count} showers are trained on, which do not fill a batch of "
            f"{config.batch_size} on {processes} process(es); give a smaller training.batch_size"
        )
    return split
