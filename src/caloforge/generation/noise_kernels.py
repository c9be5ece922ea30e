"""Numba kernels for the noise of `noise.py`, blocked for the L1 cache. Importing this compiles nothing."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from caloforge.generation import splitmix
from caloforge.jit import compiled

# words per block
BLOCK = 256
# unsigned 64-bit integers, whose arithmetic is modulo 2^64
FIRST, SECOND, THIRD = (np.uint64(part * splitmix.SHIFT) for part in (1, 2, 3))
MASK, ONE, GAMMA = np.uint64(splitmix.POINTS - 1), np.uint64(1), np.uint64(splitmix.GAMMA)
SHIFTS, MIX = tuple(map(np.uint64, splitmix.SHIFTS)), tuple(map(np.uint64, splitmix.MIX))


class Mixer:
    """The kernels with their table and work arrays; not thread-safe."""

    def __init__(self, table: NDArray[np.complex64]) -> None:
        """Keep the table of points."""
        self._table = table.view(np.uint64)
        self._words = np.empty(BLOCK, np.uint64)
        self._points = np.empty((4, BLOCK), np.uint64)

    def mix(self, state: np.uint64, out: NDArray[np.float32]) -> None:
        """Fill `out` (rows, size) from the words that follow a state of the counter."""
        _mix(state, self._table, self._words, self._points, self._points.view(np.float32), out)


@compiled(fastmath=False)
def _mix(state, table, words, points, floats, out):
    size = out.shape[1]
    # words per row, and pairs of numbers per quarter of a row
    pairs = -(-size // 8)
    for n in range(len(out)):
        for start in range(0, pairs, BLOCK):
            count = min(BLOCK, pairs - start)
            before = state + GAMMA * np.uint64(n * pairs + start)
            for i in range(count):
                word = before + GAMMA * (np.uint64(i) + ONE)
                word = (word ^ (word >> SHIFTS[0])) * MIX[0]
                word = (word ^ (word >> SHIFTS[1])) * MIX[1]
                words[i] = word ^ (word >> SHIFTS[2])
            for i in range(count):
                word = words[i]
                points[0, i] = table[word & MASK]
                points[1, i] = table[(word >> FIRST) & MASK]
                points[2, i] = table[(word >> SECOND) & MASK]
                points[3, i] = table[(word >> THIRD) & MASK]
            for part in range(4):
                # the last word may give more numbers than the row needs
                first = min(2 * (start + part * pairs), size)
                _signed(floats, part, out[n, first : min(first + 2 * count, size)])


@compiled(fastmath=False)
def _signed(floats, part, out):
    """Signed sums of four numbers: row `part` of the 4 x 4 Hadamard matrix."""
    for k in range(len(out)):
        a, b, c, d = floats[0, k], floats[1, k], floats[2, k], floats[3, k]
        if part == 0:
            out[k] = (a + b) + (c + d)
        elif part == 1:
            out[k] = (a - b) + (c - d)
        elif part == 2:
            out[k] = (a + b) - (c + d)
        else:
            out[k] = (a - b) - (c - d)
