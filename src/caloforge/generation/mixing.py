"""The last steps of `noise.py` as one loop that stays in the nearest cache: the same bits."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from caloforge.machine_code import compiled

# points of a part that are taken at once
BLOCK = 256


class Mixer:
    """Memory of the loop, for one thread."""

    def __init__(self, table: NDArray[np.complex64]) -> None:
        """Keep the table of points."""
        self._table = table.view(np.uint64)
        self._points = np.empty((4, BLOCK), np.uint64)

    def mix(self, index: NDArray[np.uint16], out: NDArray[np.float32]) -> None:
        """Fill `out` (rows, size) from the words (rows, 4, m), at least size / 8."""
        _mix(index, self._table, self._points, self._points.view(np.float32), out)


@compiled(fastmath=False)
def _mix(index, table, points, floats, out):
    rows, _, words = index.shape
    size = out.shape[1]
    for n in range(rows):
        for start in range(0, words, BLOCK):
            count = min(BLOCK, words - start)
            for part in range(4):
                for i in range(count):
                    points[part, i] = table[index[n, part, np.uint64(start + i)]]
            for part in range(4):
                # what is beyond the size is left out
                first = min(2 * (start + part * words), size)
                ours = out[n, first : min(first + 2 * count, size)]
                _signed(floats, part, ours)


@compiled(fastmath=False)
def _signed(floats, part, out):
    """Sums of four numbers: the second and fourth of odd parts, the third and fourth of late ones less."""
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
