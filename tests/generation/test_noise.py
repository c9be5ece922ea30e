"""The noise depends on the seed and the shower's index alone."""

import numpy as np
import pytest

from caloforge.generation.noise import BLOCK, NoiseStream


def test_any_split_gives_the_same_noise() -> None:
    whole = NoiseStream(7, (5,)).take(0, 2 * BLOCK + 10)
    stream = NoiseStream(7, (5,))
    parts = [stream.take(start, min(start + 37, len(whole))) for start in range(0, len(whole), 37)]
    assert np.array_equal(np.concatenate(parts), whole)


def test_a_later_range_needs_no_earlier_one() -> None:
    whole = NoiseStream(7, (5,)).take(0, 3 * BLOCK)
    assert np.array_equal(
        NoiseStream(7, (5,)).take(2 * BLOCK - 3, 2 * BLOCK + 3), whole[2 * BLOCK - 3 : 2 * BLOCK + 3]
    )


@pytest.mark.parametrize("other", [8, 2**40])
def test_seeds_differ(other: int) -> None:
    assert not np.array_equal(NoiseStream(7, (5,)).take(0, 4), NoiseStream(other, (5,)).take(0, 4))


def test_it_is_standard_normal() -> None:
    noise = NoiseStream(3, (200,)).take(0, 4 * BLOCK)
    n = noise.size
    assert abs(noise.mean()) < 4 / np.sqrt(n)
    assert abs(noise.var() - 1) < 4 * np.sqrt(2 / n)
    # neighbouring showers, also across a block, are independent
    correlation = np.mean(noise[:-1] * noise[1:])
    assert abs(correlation) < 4 / np.sqrt(n)
