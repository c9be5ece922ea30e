"""Reading of selected showers of a file, by index."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from caloforge.showers.batch import ShowerBatch
from caloforge.showers.file import ShowerFile

Numbers = range | NDArray[np.intp]


def read_numbers(file: ShowerFile, numbers: Numbers) -> ShowerBatch:
    """Read the showers with the given indices, in that order, chunk by chunk.

    Args:
        file: An open file.
        numbers: Indices; at least one, increasing within a chunk.

    Raises:
        DataError: A block is damaged, or a value in it is not finite.
    """
    parts = []
    for piece in runs_by_chunk(numbers, file.chunk_edges):
        start, stop = int(piece[0]), int(piece[-1]) + 1
        showers = file.read(start, stop)
        parts.append(showers if stop - start == len(piece) else showers[np.asarray(piece) - start])
    return ShowerBatch.concatenate(parts)


def runs_by_chunk(numbers: Numbers, chunk_edges: NDArray[np.intp]) -> Iterator[Numbers]:
    """Divide indices into runs that lie in one chunk each."""
    edges = np.flatnonzero(np.diff(np.searchsorted(chunk_edges, numbers, side="right"))) + 1
    bounds = [0, *map(int, edges), len(numbers)]
    for first, last in itertools.pairwise(bounds):
        yield numbers[first:last]
