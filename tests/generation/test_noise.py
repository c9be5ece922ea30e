"""The noise depends on the seed and the shower's index alone, and is normal to what 10^7 numbers can tell."""

import itertools

import numpy as np
import pytest
from scipy import special, stats

from caloforge.generation.noise import NoiseStream, normal_points
from caloforge.generation.splitmix import GAMMA, MIX, POINTS, SHIFT, SHIFTS

# one number per cell of 25x25x25 and some more: no multiple of 8
SHAPE = (15_875,)
SHOWERS = 640


@pytest.fixture(scope="module")
def noise():
    return NoiseStream(3, SHAPE).take(0, SHOWERS)


def test_any_split_gives_the_same_noise() -> None:
    whole = NoiseStream(7, (5,)).take(0, 600)
    stream = NoiseStream(7, (5,))
    parts = [stream.take(start, min(start + 37, len(whole))) for start in range(0, len(whole), 37)]
    assert np.array_equal(np.concatenate(parts), whole)


@pytest.mark.parametrize("shape", [(1,), (3,), (8,), (2, 5), (200_000,)])
def test_a_later_range_needs_no_earlier_one(shape) -> None:
    whole = NoiseStream(7, shape).take(0, 12)
    assert whole.shape == (12, *shape)
    assert np.array_equal(NoiseStream(7, shape).take(9, 11), whole[9:11])


@pytest.mark.parametrize("size", [1, 8, 51, 4000, 31_253])
def test_it_is_what_its_description_says(size) -> None:
    words = -(-size // 8)
    key = int(np.random.SeedSequence(7).generate_state(1, np.uint64)[0])
    state = np.array([(key + GAMMA * i) % 2**64 for i in range(2 * words + 1, 5 * words + 1)], np.uint64)
    for shift, factor in zip(SHIFTS, (*MIX, 1), strict=True):
        state = (state ^ (state >> np.uint64(shift))) * np.uint64(factor)
    chosen = (state.reshape(3, 1, -1) >> np.uint64([[0], [SHIFT], [2 * SHIFT], [3 * SHIFT]])) % POINTS
    points = normal_points()[chosen]
    hadamard = np.array([[1, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]])
    expected = (hadamard @ points).reshape(3, -1).astype(np.complex64).view(np.float32)[:, :size]
    np.testing.assert_allclose(NoiseStream(7, (size,)).take(2, 5), expected, rtol=1e-6, atol=1e-6)


def test_the_points_have_the_moments_of_a_normal_distribution() -> None:
    points = 2 * normal_points().astype(np.complex128)
    moments = [1, 0, 1, 0, 3, 0, 15, 0]
    for i, j in itertools.product(range(8), repeat=2):
        if i + j <= 7:
            expected = moments[i] * moments[j]
            assert np.mean(points.real**i * points.imag**j) == pytest.approx(expected, abs=1e-5), (i, j)


def test_the_numbers_of_a_seed_are_for_ever() -> None:
    # a change here changes what every seed means
    got = NoiseStream(1, (4,)).take(10**12, 10**12 + 1)
    np.testing.assert_array_equal(
        got, np.float32([[1.4268484115600586, 1.0877599716186523, -0.8883367776870728, -0.33547115325927734]])
    )


@pytest.mark.parametrize("other", [8, 2**40, 2**63 - 1])
def test_seeds_differ(other: int) -> None:
    first, second = (NoiseStream(seed, (2000,)).take(0, 4) for seed in (7, other))
    assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 4 / np.sqrt(first.size)


def test_it_goes_where_it_is_told(noise) -> None:
    out = np.full((5, *SHAPE), np.nan, np.float32)
    assert NoiseStream(3, SHAPE).take(7, 12, out) is out
    assert np.array_equal(out, noise[7:12])


def test_moments(noise) -> None:
    values = noise.ravel().astype(np.float64)
    # E z^k and the variance of z^k of a normal distribution
    power = np.ones_like(values)
    for order, mean, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96), (5, 0, 945), (6, 15, 10_170)):
        power *= values
        assert abs(power.mean() - mean) < 4 * np.sqrt(variance / values.size), order


def test_the_distribution(noise) -> None:
    # Kolmogorov and Smirnov's distance; 1.95 over the root of n is reached once in a thousand
    ordered = special.ndtr(np.sort(noise.ravel()))
    ranks = (np.arange(noise.size, dtype=np.float32) + 0.5) / noise.size
    assert np.abs(ordered - ranks).max() < 1.95 / np.sqrt(noise.size)
    # what is left of rounding to the points of the table would be steps
    assert len(np.unique(noise[:8])) > 0.9 * noise[:8].size


@pytest.mark.parametrize("sigma", [3.0, 4.0, 4.5])
def test_tails(noise, sigma) -> None:
    for sign in (-1, 1):
        expected = noise.size * stats.norm.sf(sigma)
        assert abs(np.sum(sign * noise > sigma) - expected) < 4 * np.sqrt(expected)
    assert np.abs(noise).max() > 5


def test_neighbours_are_independent(noise) -> None:
    powers = {"z": noise, "z^2": noise**2, "|z|": np.abs(noise)}
    for name, values in powers.items():
        values = (values - values.mean()) / values.std()
        # next number, next row and layer of 25x25, the numbers that share words, the next shower
        for lag in (1, 2, 7, 25, 625, 3970, 7940):
            got = np.mean(values[:, lag:] * values[:, :-lag])
            assert abs(got) < 4.5 / np.sqrt(noise.size - lag * len(noise)), (name, lag)
        assert abs(np.mean(values[1:] * values[:-1])) < 4.5 / np.sqrt(noise.size), name


def test_the_eight_numbers_of_a_word_are_independent() -> None:
    # layout: four points, two coordinates each, in four quarters of a shower
    eight = NoiseStream(5, (4, 1984, 2)).take(0, 200).transpose(0, 2, 1, 3).reshape(-1, 8).astype(np.float64)
    bound = 4.5 / np.sqrt(len(eight))
    for values in (eight, eight**2, np.abs(eight), eight * eight**2):
        assert np.abs(np.corrcoef(values.T) - np.eye(8)).max() < bound
    assert stats.kstest(np.sum(eight**2, axis=1), "chi2", args=(8,)).pvalue > 1e-3
    assert stats.kstest(eight.max(axis=1), lambda z: stats.norm.cdf(z) ** 8).pvalue > 1e-3
    # sums of two of them, and of all
    assert stats.kstest((eight[:, 0] + eight[:, 7]) / np.sqrt(2), "norm").pvalue > 1e-3
    assert stats.kstest(eight.sum(axis=1) / np.sqrt(8), "norm").pvalue > 1e-3
