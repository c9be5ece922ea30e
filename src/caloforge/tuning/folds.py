"""Cross-validation folds: training and held-out showers of each fold of a trial."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from caloforge import provenance
from caloforge.errors import ConfigError
from caloforge.files import check_space
from caloforge.showers import ShowerFile, ShowerWriter
from caloforge.showers.file_pattern import files_of
from caloforge.showers.select import read_numbers
from caloforge.training.config import EvaluationConfig
from caloforge.training.data_split import Split, split_showers

BLOCK = 512
# smallest number of held-out showers for a training, and for a validation
MIN_HELD_OUT, MIN_VALIDATED = 20, 100


@dataclass(frozen=True)
class Fold:
    """One split of the data.

    Attributes:
        data: File with all showers.
        part: [f, k] as in `EvaluationConfig.fold`; None for the split of the run.
        held_out: File with the held-out showers; None if it is not needed.
    """

    data: Path
    part: tuple[int, int] | None
    held_out: Path | None


def plan_folds(data: Path, k: int, evaluation: EvaluationConfig, *, validate: bool) -> list[Split]:
    """Compute the split of each fold; see `make_folds`.

    Raises:
        ConfigError: There are too few showers.
    """
    with ShowerFile(data) as file:
        count = len(file)
    parts = [evaluation] if k == 1 else [evaluation.model_copy(update={"fold": (f, k)}) for f in range(k)]
    splits = [split_showers(count, part) for part in parts]
    fewest = MIN_VALIDATED if validate else MIN_HELD_OUT
    if (count_held_out := len(splits[0].held_out)) < fewest:
        raise ConfigError(
            f"{data}: of its {count} showers {count_held_out} are held out, too few to judge a model by "
            f"(at least {fewest}); take more showers, fewer folds or a larger training.evaluation.share"
        )
    return splits


def make_folds(
    data: Path, k: int, evaluation: EvaluationConfig, folder: Path, *, validate: bool
) -> list[Fold]:
    """Split a shower file into folds and write the held-out showers; files of an earlier search are kept.

    A single fold has the split of the run. Otherwise fold f holds out the f-th of k random parts.

    Args:
        data: File with all showers.
        k: Number of folds.
        evaluation: The evaluation section of the run.
        folder: Folder for the files.
        validate: Whether files with the held-out showers are needed.

    Raises:
        ConfigError: There are too few showers.
        OutputError: There is no space for the files.
    """
    splits = plan_folds(data, k, evaluation, validate=validate)
    folder.mkdir(parents=True, exist_ok=True)
    if validate and not any(folder.iterdir()):
        fraction = sum(len(split.held_out) for split in splits) / (
            len(splits[0].train) + len(splits[0].held_out)
        )
        size = sum(path.stat().st_size for path in files_of(data))
        check_space(folder / "held-0.h5", int(fraction * size), f"the copies for {k} folds")
    folds = []
    for f, split in enumerate(splits):
        held_out = None
        if validate:
            held_out = folder / f"held-{f}.h5"
            _copy(data, held_out, np.sort(split.held_out))
        folds.append(Fold(data, (f, k) if k > 1 else None, held_out))
    return folds


def _copy(source: Path, target: Path, numbers: NDArray[np.intp]) -> None:
    """Copy the showers with these indices, in order, unless the target exists."""
    # shower files are written atomically: a killed search leaves no partial one
    if target.exists():
        return
    with ShowerFile(source) as file:
        facts = provenance.collect(source=source.name, held_out=len(numbers))
        writer = ShowerWriter(
            target, file.detector, facts, energy_meaning=file.energy_meaning, with_seconds=file.has_seconds
        )
        with writer:
            for start in range(0, len(numbers), BLOCK):
                writer.append(read_numbers(file, numbers[start : start + BLOCK]))
