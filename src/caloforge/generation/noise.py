"""Seeded noise that depends only on the seed and the index of a shower, never on the batch size."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

# showers whose noise comes from one generator; fixed for ever, or seeds change their meaning
BLOCK = 256


class NoiseStream:
    """Standard normal noise for showers 0, 1, 2, ... of a seed.

    Block b of 256 showers is drawn from a Philox generator keyed by (seed, b): any range can be had at once
    without drawing what lies before it.
    """

    def __init__(self, seed: int, shape: tuple[int, ...]) -> None:
        """Keep the seed and the shape of one shower's noise."""
        self.seed = seed
        self.shape = shape
        self._index = -1
        self._block = np.empty((0, *shape), np.float32)

    def take(self, start: int, stop: int) -> NDArray[np.float32]:
        """Noise of the showers [start, stop), shape (stop - start, *shape), float32."""
        out = np.empty((stop - start, *self.shape), np.float32)
        for index in range(start // BLOCK, math.ceil(stop / BLOCK)):
            first = index * BLOCK
            low, high = max(start, first), min(stop, first + BLOCK)
            out[low - start : high - start] = self._draw(index)[low - first : high - first]
        return out

    def _draw(self, index: int) -> NDArray[np.float32]:
        if index != self._index:
            key = np.array([self.seed, index], np.uint64)
            generator = np.random.Generator(np.random.Philox(key=key))
            self._block = generator.standard_normal((BLOCK, *self.shape), np.float32)
            self._index = index
        return self._block
