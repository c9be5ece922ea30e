"""Seeded noise that depends only on the seed and the index of a shower, never on the batch size.

A network with one normal number per cell needs more time for its noise than for itself if the numbers come
from a general method (Box-Muller, ziggurat: 35 and 300 microseconds for 15 900 of them). Here 12 random bits
choose one of 4096 points of the plane, spread like a normal distribution in two dimensions, and each
output is half the sum, with signs, of the coordinates of four such points (an orthonormal Hadamard
transform). A sum of four makes the marginals smooth, with 2^48 values of eight numbers and tails out to
seven standard deviations; the transform is orthogonal, so that the eight stay uncorrelated, and independent
as far as the points are normal: exactly in moments up to the 7th. Nothing but whole numbers, a look-up in a
table that fits into the nearest cache, and sums: the same bits on every machine.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
from numpy.typing import NDArray

# points of the table
POINTS = 2**12
# directions of the points: angular moments are exact below this order
DIRECTIONS = 8
# bits of a word from one point's to the next one's
SHIFT = 16
# SplitMix64 (Steele, Lea, Flood 2014): what is added from word to word, then shifts and factors that mix
GAMMA = 0x9E3779B97F4A7C15
MIX = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
SHIFTS = (30, 27, 31)


class NoiseStream:
    """Standard normal noise for showers 0, 1, 2, ... of a seed; one thread at a time.

    Word number i of 64 random bits is a function of the seed and i, and the words of a shower are a fixed
    stretch of them: any range can be had at once without drawing what lies before it. Machine code makes
    the numbers, 31 000 in 11 microseconds; the first time on a machine it is compiled, in a second or two.
    """

    def __init__(self, seed: int, shape: tuple[int, ...]) -> None:
        """Keep the seed and the shape of one shower's noise."""
        # loading the compiler takes half a second
        from caloforge.generation.noise_kernels import Mixer

        self.seed = seed
        self.shape = shape
        self._size = math.prod(shape)
        self._key = int(np.random.SeedSequence(seed).generate_state(1, np.uint64)[0])
        # eight numbers need one word
        self._words = -(-self._size // 8)
        self._mixer = Mixer(points_of_the_plane())
        self._memory = np.empty((0, *shape), np.float32)

    def take(self, start: int, stop: int, out: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
        """Noise of the showers [start, stop), shape (stop - start, *shape), float32.

        Args:
            start: The first shower.
            stop: The one after the last.
            out: Where to put it; contiguous, of that shape.
        """
        if out is None:
            out = np.empty((stop - start, *self.shape), np.float32)
        state = (self._key + GAMMA * start * self._words) % 2**64
        self._mixer.mix(np.uint64(state), out.reshape(stop - start, self._size))
        return out

    def lend(self, start: int, stop: int) -> NDArray[np.float32]:
        """The same in memory that the next call uses again."""
        if len(self._memory) < stop - start:
            self._memory = np.empty((stop - start, *self.shape), np.float32)
        return self.take(start, stop, self._memory[: stop - start])


@cache
def points_of_the_plane() -> NDArray[np.complex64]:
    """The table, (POINTS,) complex64: points of a normal distribution of variance 1/4 in each coordinate.

    Half of the squared radius is exponential: it takes the mean of each of 512 strata of equal probability,
    bent by a cubic such that its first three moments are exact, which those of the means are not. Each radius
    comes in 8 directions, turned by the golden angle from one radius to the next.
    """
    radii = POINTS // DIRECTIONS
    # survival probability at the edges of the strata, and the integral of -log(s) up to it
    edges = np.arange(radii + 1) / radii
    integral = edges - edges * np.log(np.maximum(edges, 0.5 / radii))
    half = _bent(np.diff(integral) * radii)
    turn = np.arange(radii) * (math.sqrt(5) - 1) / 2 + np.arange(DIRECTIONS)[:, None]
    points = np.sqrt(2 * half) * np.exp(2j * np.pi / DIRECTIONS * turn)
    table: NDArray[np.complex64] = (points.T.reshape(-1) / 2).astype(np.complex64)
    return table


def _bent(half: NDArray[np.float64]) -> NDArray[np.float64]:
    """Numbers with the first three moments of an exponential distribution, 1, 2 and 6; by Newton's method."""
    powers = half ** np.arange(1, 4)[:, None]
    coefficients, wanted = np.array([1.0, 0.0, 0.0]), np.array([1.0, 2.0, 6.0])
    for _ in range(8):
        value = coefficients @ powers
        order = np.arange(1, 4)[:, None]
        found = (value**order).mean(1)
        slopes = (order * value ** (order - 1)) @ powers.T / len(half)
        coefficients -= np.linalg.solve(slopes, found - wanted)
    bent: NDArray[np.float64] = coefficients @ powers
    return bent
