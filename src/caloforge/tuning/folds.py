"""The shower files that the folds of a trial train on, and what they hold out."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from caloforge import provenance
from caloforge.errors import ConfigError
from caloforge.files import check_space
from caloforge.showers import ShowerFile, ShowerWriter

BLOCK = 512
# showers that a training holds out, and that a validation compares, at the least
FEWEST, FEWEST_COMPARED = 20, 100


@dataclass(frozen=True)
class Fold:
    """One way to split the data.

    Attributes:
        data: Shower file; its last part is held out.
        share: That part of it; None for what the run says.
        held: The part held out as a file of its own; None where it is not needed.
    """

    data: Path
    share: float | None
    held: Path | None


def plan_folds(data: Path, k: int, share: float, *, validate: bool) -> tuple[int, list[int]]:
    """Number of showers, and where the parts that are held out begin and end; see `make_folds`.

    Raises:
        ConfigError: Fewer showers than the folds need.
    """
    with ShowerFile(data) as file:
        count = len(file)
    edges = [round(count * f / k) for f in range(k + 1)]
    if k == 1:
        edges = [count - max(1, round(count * share)), count]
    fewest = FEWEST_COMPARED if validate else FEWEST
    if (held_out := edges[1] - edges[0]) < fewest:
        raise ConfigError(
            f"{data}: of its {count} showers {held_out} are held out, too few to judge a model by "
            f"(at least {fewest}); take more showers, fewer folds or a larger training.evaluation.share"
        )
    return count, edges


def make_folds(data: Path, k: int, share: float, folder: Path, *, validate: bool) -> list[Fold]:
    """Split a shower file; what is there from an earlier search is used again.

    With one fold that is the split of the training itself. Otherwise fold f holds out the f-th part of the
    file, which a copy of the file has at its end.

    Args:
        data: All showers.
        k: Number of folds.
        share: What is held out of a single fold.
        folder: Where the files go.
        validate: Whether the parts held out are needed as files.

    Raises:
        ConfigError: Fewer showers than the folds need.
        OutputError: No space for the copies.
    """
    count, edges = plan_folds(data, k, share, validate=validate)
    copies = (k if k > 1 else 0) + int(validate)
    folder.mkdir(parents=True, exist_ok=True)
    if copies and not any(folder.iterdir()):
        check_space(folder / "fold-0.h5", copies * data.stat().st_size, f"the copies for {k} folds")
    folds = []
    for f, (first, last) in enumerate(itertools.pairwise(edges)):
        train, held = data, None
        if k > 1:
            train = folder / f"fold-{f}.h5"
            _copy(data, train, [(0, first), (last, count), (first, last)])
        if validate:
            held = folder / f"held-{f}.h5"
            _copy(data, held, [(first, last)])
        folds.append(Fold(train, (last - first) / count if k > 1 else None, held))
    return folds


def _copy(source: Path, target: Path, ranges: list[tuple[int, int]]) -> None:
    """Showers of some ranges of a file, in this order, unless they are there already."""
    # a file of an earlier, killed search is whole or absent
    if target.exists():
        return
    with ShowerFile(source) as file:
        facts = provenance.collect(source=source.name, ranges=[list(r) for r in ranges])
        writer = ShowerWriter(
            target, file.detector, facts, energy_meaning=file.energy_meaning, with_seconds=file.has_seconds
        )
        with writer:
            for start, stop in _blocks(ranges):
                writer.append(file.read(start, stop))


def _blocks(ranges: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    for first, last in ranges:
        for start in range(first, last, BLOCK):
            yield start, min(start + BLOCK, last)
