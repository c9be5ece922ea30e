"""Single showers of a file by their numbers, read chunk by chunk."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from caloforge.showers.batch import ShowerBatch
from caloforge.showers.file import ShowerFile

Numbers = range | NDArray[np.intp]


def read_numbers(file: ShowerFile, numbers: Numbers) -> ShowerBatch:
    """The showers of these numbers, in their order; of each chunk of the file only the span that is needed.

    Args:
        file: An open file.
        numbers: At least one; rising within a chunk.

    Raises:
        DataError: A block is damaged, or a value in it is not finite.
    """
    parts = []
    for piece in pieces_of(numbers, file.chunk):
        start, stop = int(piece[0]), int(piece[-1]) + 1
        showers = file.read(start, stop)
        parts.append(showers if stop - start == len(piece) else showers[np.asarray(piece) - start])
    return ShowerBatch.concatenate(parts)


def pieces_of(numbers: Numbers, chunk: int) -> Iterator[Numbers]:
    """Consecutive numbers that lie in one chunk, together."""
    edges = np.flatnonzero(np.diff(np.asarray(numbers) // chunk)) + 1
    bounds = [0, *map(int, edges), len(numbers)]
    for first, last in itertools.pairwise(bounds):
        yield numbers[first:last]
