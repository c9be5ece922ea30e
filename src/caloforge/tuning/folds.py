"""Which showers the folds of a trial train on, and what they hold out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from caloforge import provenance
from caloforge.errors import ConfigError
from caloforge.files import check_space
from caloforge.showers import ShowerFile, ShowerWriter
from caloforge.showers.select import read_numbers
from caloforge.training.config import EvaluationConfig
from caloforge.training.data_split import Split, split_showers

BLOCK = 512
# showers that a training holds out, and that a validation compares, at the least
FEWEST, FEWEST_COMPARED = 20, 100


@dataclass(frozen=True)
class Fold:
    """One way to split the data.

    Attributes:
        data: All showers.
        part: [f, k] as in `EvaluationConfig.fold`; None for the split of the run.
        held: What is held out as a file of its own; None where it is not needed.
    """

    data: Path
    part: tuple[int, int] | None
    held: Path | None


def plan_folds(data: Path, k: int, evaluation: EvaluationConfig, *, validate: bool) -> list[Split]:
    """What each fold trains on and holds out; see `make_folds`.

    Raises:
        ConfigError: Fewer showers than the folds need.
    """
    with ShowerFile(data) as file:
        count = len(file)
    parts = [evaluation] if k == 1 else [evaluation.model_copy(update={"fold": (f, k)}) for f in range(k)]
    splits = [split_showers(count, part) for part in parts]
    fewest = FEWEST_COMPARED if validate else FEWEST
    if (held_out := len(splits[0].held_out)) < fewest:
        raise ConfigError(
            f"{data}: of its {count} showers {held_out} are held out, too few to judge a model by "
            f"(at least {fewest}); take more showers, fewer folds or a larger training.evaluation.share"
        )
    return splits


def make_folds(
    data: Path, k: int, evaluation: EvaluationConfig, folder: Path, *, validate: bool
) -> list[Fold]:
    """Split a shower file; what is there from an earlier search is used again.

    With one fold that is the split of the run. Otherwise fold f holds out the f-th of k parts, which are
    drawn at random.

    Args:
        data: All showers.
        k: Number of folds.
        evaluation: How the run splits them.
        folder: Where the files go.
        validate: Whether what is held out is needed as files.

    Raises:
        ConfigError: Fewer showers than the folds need.
        OutputError: No space for the copies.
    """
    splits = plan_folds(data, k, evaluation, validate=validate)
    folder.mkdir(parents=True, exist_ok=True)
    if validate and not any(folder.iterdir()):
        held_out = sum(len(split.held_out) for split in splits) / (
            len(splits[0].train) + len(splits[0].held_out)
        )
        check_space(folder / "held-0.h5", int(held_out * data.stat().st_size), f"the copies for {k} folds")
    folds = []
    for f, split in enumerate(splits):
        held = None
        if validate:
            held = folder / f"held-{f}.h5"
            _copy(data, held, np.sort(split.held_out))
        folds.append(Fold(data, (f, k) if k > 1 else None, held))
    return folds


def _copy(source: Path, target: Path, numbers: NDArray[np.intp]) -> None:
    """Some showers of a file, in its order, unless they are there already."""
    # a file of an earlier, killed search is whole or absent
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
