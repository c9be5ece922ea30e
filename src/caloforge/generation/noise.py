"""Counter-based normal noise: a function of the seed and the index of a shower, not of the batch size.

General methods (Box-Muller, ziggurat) need 35 and 300 microseconds for 15 900 normal numbers, longer than a
small network with one number per cell needs for the rest of a shower. Here 12 random bits select one of 4096
points of the plane, which are distributed like a two-dimensional normal distribution. An orthonormal Hadamard
transform of four such points gives eight numbers, each half a signed sum of four coordinates. The sums make
the marginal distributions smooth: 2^48 values of the eight numbers, with tails out to seven standard
deviations. The transform is orthogonal, so the eight numbers are uncorrelated; they are independent as far as
the points are normal, which is exact for moments up to the 7th. Only integer operations, a look-up in a table
that fits into the L1 cache, and sums are needed, so the bits are the same on every machine.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
from numpy.typing import NDArray

from caloforge.generation.splitmix import GAMMA, POINTS

# directions per radius: angular moments are exact below this order
DIRECTIONS = 8


class NoiseStream:
    """Standard normal noise for showers 0, 1, 2, ... of a seed; not thread-safe.

    The random word i (64 bits) is a function of the seed and i, and each shower has a fixed range of words.
    So any range of showers is generated directly, without the ones before it. Compiled code makes 31 000
    numbers in 11 microseconds; its first use on a machine takes one or two seconds to compile.
    """

    def __init__(self, seed: int, shape: tuple[int, ...]) -> None:
        """Keep the seed and the shape of one shower's noise."""
        # importing Numba takes half a second
        from caloforge.generation.noise_kernels import Mixer

        self.seed = seed
        self.shape = shape
        self._size = math.prod(shape)
        self._key = int(np.random.SeedSequence(seed).generate_state(1, np.uint64)[0])
        # eight numbers need one word
        self._words = -(-self._size // 8)
        self._mixer = Mixer(normal_points())
        self._memory = np.empty((0, *shape), np.float32)

    def take(self, start: int, stop: int, out: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
        """Noise of the showers [start, stop), shape (stop - start, *shape), float32.

        Args:
            start: First shower.
            stop: One after the last shower.
            out: Array for the result; contiguous, of that shape.
        """
        if out is None:
            out = np.empty((stop - start, *self.shape), np.float32)
        state = (self._key + GAMMA * start * self._words) % 2**64
        self._mixer.mix(np.uint64(state), out.reshape(stop - start, self._size))
        return out

    def lend(self, start: int, stop: int) -> NDArray[np.float32]:
        """Like `take`, in a buffer that the next call overwrites."""
        if len(self._memory) < stop - start:
            self._memory = np.empty((stop - start, *self.shape), np.float32)
        return self.take(start, stop, self._memory[: stop - start])


@cache
def normal_points() -> NDArray[np.complex64]:
    """Table of points, (POINTS,) complex64, normally distributed with variance 1/4 in each coordinate.

    Half of the squared radius of a standard normal point is exponentially distributed. It takes the means of
    512 strata of equal probability, corrected by a cubic polynomial so that the first three moments are
    exact. Each radius has 8 equally spaced directions, rotated by the golden angle from radius to radius.
    """
    radii = POINTS // DIRECTIONS
    # survival probability at the edges of the strata, and the integral of -log(s) up to it
    edges = np.arange(radii + 1) / radii
    integral = edges - edges * np.log(np.maximum(edges, 0.5 / radii))
    half = _match_moments(np.diff(integral) * radii)
    turn = np.arange(radii) * (math.sqrt(5) - 1) / 2 + np.arange(DIRECTIONS)[:, None]
    points = np.sqrt(2 * half) * np.exp(2j * np.pi / DIRECTIONS * turn)
    table: NDArray[np.complex64] = (points.T.reshape(-1) / 2).astype(np.complex64)
    return table


def _match_moments(half: NDArray[np.float64]) -> NDArray[np.float64]:
    """Cubic map to the first three moments of an exponential distribution, 1, 2 and 6; by Newton's method."""
    powers = half ** np.arange(1, 4)[:, None]
    coefficients, wanted = np.array([1.0, 0.0, 0.0]), np.array([1.0, 2.0, 6.0])
    for _ in range(8):
        value = coefficients @ powers
        order = np.arange(1, 4)[:, None]
        found = (value**order).mean(1)
        slopes = (order * value ** (order - 1)) @ powers.T / len(half)
        coefficients -= np.linalg.solve(slopes, found - wanted)
    matched: NDArray[np.float64] = coefficients @ powers
    return matched
